//! Policies over HTTP: what they let through and refuse, and how they are changed.

use serde_json::{Value, json};

use crate::world::World;

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// Everything but what `forbidden` says.
fn all_but(forbidden: &str) -> String {
    format!("{ALL}@id(\"not\") @reason(\"as asked\") forbid (principal, {forbidden});\n")
}

#[tokio::test]
async fn each_route_asks_for_its_action() {
    let world = World::new().await;
    let task = world.echo("?wait=60", "a").await.json()["task_id"].as_str().unwrap().to_owned();
    let path = |route: &str| route.replace("{task}", &task);
    for (action, method, route) in [
        ("task.list", "GET", "/v1/tasks"),
        ("task.read", "GET", "/v1/tasks/{task}"),
        ("task.read", "GET", "/v1/tasks/{task}/events"),
        ("task.cancel", "POST", "/v1/tasks/{task}/cancel"),
        ("task.create", "POST", "/v1/tasks"),
        ("component.read", "GET", "/v1/components"),
        ("system.read", "GET", "/v1/host"),
        ("log.read", "GET", "/v1/host/logs"),
        ("metrics.read", "GET", "/metrics"),
        ("mount.call", "GET", "/mirror/a"),
        ("mount.call", "POST", "/mirror"),
        ("policy.write", "POST", "/v1/policies/shadow"),
        ("policy.write", "POST", "/v1/policies/rollback"),
    ] {
        assert_eq!(world.policies(ALL).await.status, 200);
        let answer = world.policies(&all_but(&format!("action == Action::\"{action}\", resource"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let refused = match method {
            "GET" => world.get(&path(route)).await,
            _ => world.post(&path(route), json!({"intent": "echo", "input": {"text": "a"}})).await,
        };
        assert_eq!((refused.status, refused.code().as_str()), (403, "denied"), "{action} {route}");
        let error = &refused.json()["error"];
        assert!(error["decision"].is_string(), "{error}");
        let message = error["message"].as_str().unwrap();
        // Whoever may read policies is told the rule.
        assert!(message.contains("as asked") && message.contains("`not` at rules.cedar:2"), "{message}");
        // Writing is what loads the next; go round it.
        std::fs::write(world.folder.path().join("policies/rules.cedar"), ALL).unwrap();
        world.api.policies().reload("a test").await.unwrap();
        assert_ne!(world.get(&path("/v1/tasks/{task}")).await.status, 403);
    }
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        std::fs::write(world.folder.path().join("policies/rules.cedar"), "forbid (principal, action, resource);")
            .unwrap();
        world.api.policies().reload("a test").await.unwrap();
        assert_eq!(world.get(open).await.status, 200);
    }
    assert_eq!(world.get("/v1/unknown").await.status, 404);
    let put = world.client.put(world.url("/v1/tasks")).send().await.unwrap();
    assert_eq!(put.status(), 405);
}

#[tokio::test]
async fn who_may_not_read_policies_is_told_no_rule() {
    let world = World::new().await;
    let rules = all_but("action in [Action::\"component.read\", Action::\"policy.read\"], resource");
    assert_eq!(world.policies(&rules).await.status, 200);
    let refused = world.get("/v1/components").await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "you may not component.read: a policy forbids it: as asked");
    assert_eq!(world.get("/v1/policies").await.status, 403);
}

#[tokio::test]
async fn rules_narrow_the_call_that_they_allow() {
    let world = World::new().await;
    let result = |answer: crate::world::Answer| answer.json()["result"].to_string();
    assert!(result(world.echo("?wait=60", "context").await).contains("local-only false, budget None"));
    let rules = format!(
        "{ALL}@id(\"narrow\") @privacy(\"local-only\") @budget_micros(\"7\")\n\
         permit (principal, action in [Action::\"task.create\", Action::\"mount.call\"], resource);\n"
    );
    assert_eq!(world.policies(&rules).await.status, 200);
    assert!(result(world.echo("?wait=60", "context").await).contains("local-only true, budget Some(7)"));
    assert!(world.get("/mirror/x").await.text.contains("local-only"));
}

#[tokio::test]
async fn rules_see_how_a_request_came() {
    let world = World::new().await;
    let rules = format!(
        "{ALL}forbid (principal, action == Action::\"task.create\", resource == Intent::\"echo\") unless {{
            context has source && context.source.isLoopback() && context has route && context.route == \"/v1/tasks\"
            && context has method && context.method == \"POST\" && context has intent && context.intent == \"echo\" }};
        forbid (principal, action == Action::\"mount.call\", resource == Mount::\"/mirror\")
            when {{ context has path && context.path like \"/mirror/private/*\" }};"
    );
    assert_eq!(world.policies(&rules).await.status, 200);
    assert_eq!(world.echo("?wait=60", "a").await.status, 200);
    assert_eq!(world.get("/mirror/public").await.status, 200);
    assert_eq!(world.get("/mirror/private/a").await.status, 403);
}

#[tokio::test]
async fn a_set_at_fault_changes_nothing_and_the_answer_says_why() {
    let world = World::new().await;
    let refused = world.policies("permit (principal, action, resource)\nwhen { principal.nose };").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_request"));
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("rules.cedar:2") && message.contains("nose") && message.contains("help:"), "{message}");
    assert_eq!(world.get("/v1/policies/active").await.json()["version"], 1);
    assert_eq!(world.get("/v1/host").await.status, 200);
}

#[tokio::test]
async fn versions_are_listed_shown_and_put_back() {
    let world = World::new().await;
    assert_eq!(world.policies(ALL).await.json()["version"], 2);
    let list = world.get("/v1/policies?limit=1").await.json();
    assert_eq!((&list["data"][0]["version"], &list["data"][0]["active"]), (&json!(2), &json!(true)));
    assert_eq!((&list["has_more"], &list["data"][0]["sources"]), (&json!(true), &Value::Null));
    let next = format!("/v1/policies?limit=1&after={}", list["last_id"].as_str().unwrap());
    assert_eq!(world.get(&next).await.json()["data"][0]["version"], 1);
    let shown = world.get("/v1/policies/2").await.json();
    assert_eq!(shown["sources"]["policies"]["rules.cedar"], ALL);
    assert_eq!(shown["loaded_by"], "Local::\"local/local\"");
    for none in ["/v1/policies/9", "/v1/policies/x"] {
        assert_eq!(world.get(none).await.code(), "not_found");
    }
    let back = world.post("/v1/policies/rollback", json!({})).await.json();
    assert_eq!((&back["version"], &back["pinned"]), (&json!(1), &json!(true)));
    assert_eq!(world.post("/v1/policies/rollback", json!({"version": 9})).await.code(), "not_found");
    assert_eq!(world.post("/v1/policies/rollback", json!({"vresion": 1})).await.code(), "invalid_request");
}

#[tokio::test]
async fn a_shadow_is_asked_and_shown_and_ended() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/policies/shadow").await.json(), json!({"shadow": null}));
    let none = "@id(\"none\") forbid (principal, action == Action::\"component.read\", resource);";
    let candidate = json!({"sources": {"policies": {"c.cedar": format!("{ALL}{none}")}}});
    assert_eq!(world.post("/v1/policies/shadow", candidate).await.status, 200);
    assert_eq!(world.get("/v1/components").await.status, 200, "it decides nothing");
    let view = world.get("/v1/policies/shadow").await.json();
    assert_eq!(view["shadow"]["would_deny"], 1);
    let difference = &view["shadow"]["differences"][0];
    assert_eq!((&difference["would_by"], &difference["action"]), (&json!(["none"]), &json!("component.read")));
    let broken = json!({"sources": {"policies": {"c.cedar": "permit"}}});
    assert_eq!(world.post("/v1/policies/shadow", broken).await.code(), "invalid_request");
    let ended = world.client.delete(world.url("/v1/policies/shadow")).send().await.unwrap();
    assert_eq!(ended.status(), 204);
    assert_eq!(world.get("/v1/policies/shadow").await.json(), json!({"shadow": null}));
}

#[tokio::test]
async fn policies_are_tested_and_explained_and_nothing_is_done() {
    let world = World::new().await;
    let principal = json!({"kind": "user", "name": "ann", "tenant": "acme", "roles": ["viewer"]});
    let question = json!({"principal": principal, "action": "task.list", "resource": {"kind": "tenant"}});
    let mut case = question.clone();
    case["name"] = json!("a viewer lists");
    case["expect"] = json!("allow");
    let ask = |candidate: Value| json!({"cases": [case], "questions": [question], "candidate": candidate});
    let denied = world.post("/v1/policies/test", ask(Value::Null)).await.json();
    assert_eq!((&denied["passed"], &denied["explanations"][0]["version"]), (&json!(false), &json!(1)));
    let viewers = "@id(\"viewers\") permit (principal in Role::\"viewer\", action in Action::\"read\", resource);";
    let candidate = json!({"sources": {"policies": {"c.cedar": viewers}}});
    let allowed = world.post("/v1/policies/test", ask(candidate)).await.json();
    assert_eq!(allowed["passed"], true, "{allowed}");
    let rule = &allowed["explanations"][0]["determining"][0];
    assert_eq!((&rule["id"], &rule["line"], &rule["text"]), (&json!("viewers"), &json!(1), &json!(viewers)));
    let broken = world.post("/v1/policies/test", ask(json!({"sources": {"policies": {"c.cedar": "permit"}}}))).await;
    assert_eq!(broken.json()["faults"][0]["file"], "c.cedar");
    let unknown = json!({"questions": [{"principal": principal, "action": "fly", "resource": {"kind": "host"}}]});
    assert_eq!(world.post("/v1/policies/test", unknown).await.code(), "invalid_request");
    assert_eq!(world.get("/v1/policies/active").await.json()["version"], 1);
}
