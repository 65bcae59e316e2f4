//! Policies over HTTP: what they let through and refuse, and how they are changed.

use serde_json::{Value, json};

use tonic::transport::Endpoint;
use witan_authorize::Principal;
use witan_grpc::v1::{StatusByIdRequest, SubmitRequest, submit_request::Input, tasks_client::TasksClient};
use witan_identity::TrustLevel;

use crate::world::{Answer, World, task};

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
        ("task.control", "POST", "/v1/tasks/{task}/pause"),
        ("task.control", "POST", "/v1/tasks/{task}/resume"),
        ("task.control", "POST", "/v1/tasks/{task}/retry"),
        ("event.read", "GET", "/v1/events"),
        ("key.manage", "GET", "/v1/keys"),
        ("key.manage", "POST", "/v1/keys"),
        ("key.manage", "POST", "/v1/keys/0198c5e0-0000-7000-8000-000000000000/rotate"),
        ("key.manage", "GET", "/v1/auth/sessions?all=true"),
        ("key.manage", "DELETE", "/v1/auth/sessions/0198c5e0-0000-7000-8000-000000000000"),
        ("log.read", "GET", "/v1/logs/level"),
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
            "DELETE" => Answer::of(world.client.delete(world.url(&path(route))).send().await.unwrap()).await,
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
        world.api.policies().reload(&Principal::local()).await.unwrap();
        assert_ne!(world.get(&path("/v1/tasks/{task}")).await.status, 403);
    }
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        std::fs::write(world.folder.path().join("policies/rules.cedar"), "forbid (principal, action, resource);")
            .unwrap();
        world.api.policies().reload(&Principal::local()).await.unwrap();
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
async fn a_rule_about_what_nothing_asks_is_loaded_with_a_warning() {
    let world = World::new().await;
    let unasked = format!("{ALL}@id(\"models\") forbid (principal, action == Action::\"model.use\", resource);");
    let loaded = world.policies(&unasked).await.json();
    let warning = &loaded["warnings"][0];
    assert_eq!((&warning["file"], &warning["line"]), (&json!("rules.cedar"), &json!(2)), "{loaded}");
    assert!(warning["message"].as_str().unwrap().contains("nothing asks `model.use` yet"), "{loaded}");
    let tested = world.post("/v1/policies/test", json!({})).await.json();
    assert_eq!(tested["warnings"], loaded["warnings"]);
    assert_eq!(world.policies(ALL).await.json().get("warnings"), None);
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

/// One that asks for credentials, with these policies; what they forbid is no matter to whoever shows the host's token.
async fn asking(rules: &str) -> World {
    let world = World::asking("").await;
    let answer = operator(&world, rules).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    world
}

async fn operator(world: &World, rules: &str) -> Answer {
    std::fs::write(world.folder.path().join("policies/rules.cedar"), rules).unwrap();
    let reload = world.client.post(world.url("/v1/policies/reload")).json(&json!({}));
    Answer::of(reload.bearer_auth(world.token.secret()).send().await.unwrap()).await
}

async fn with(world: &World, key: &str, method: &str, path: &str, body: Value) -> Answer {
    let request = world.client.request(method.parse().unwrap(), world.url(path)).header("x-api-key", key);
    let request = if method == "GET" { request } else { request.json(&body) };
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn rules_see_whom_the_gate_found() {
    let world = World::asking("").await;
    let key =
        async |tenant: &str, roles: &[&str], scopes: &[&str], trust| world.key_with(tenant, roles, scopes, trust).await;
    let ann = key("acme", &["batch"], &["tasks:*"], TrustLevel::Standard).await;
    for (other, why) in [
        (key("globex", &["batch"], &["tasks:*"], TrustLevel::Standard).await, "another tenant"),
        (key("acme", &["other"], &["tasks:*"], TrustLevel::Standard).await, "another role"),
        (key("acme", &["batch"], &["tasks:write"], TrustLevel::Standard).await, "another scope"),
        (key("acme", &["batch"], &["tasks:*"], TrustLevel::Restricted).await, "another trust"),
    ] {
        let rules = "permit (principal is Key in Role::\"batch\", action == Action::\"task.create\", resource)
            when { principal in Tenant::\"acme\" && principal.scopes == [\"tasks:*\"] && principal.trust == \"standard\" };";
        assert_eq!(operator(&world, rules).await.status, 200);
        assert_eq!(with(&world, &ann, "POST", "/v1/tasks?wait=60", task("a")).await.status, 200);
        let refused = with(&world, &other, "POST", "/v1/tasks", task("a")).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "denied"), "{why}");
        assert_eq!(refused.json()["error"]["message"], "you may not task.create: no policy permits it", "{why}");
    }
}

#[tokio::test]
async fn policies_are_the_operators_and_each_role_does_what_it_says() {
    let world = World::asking("").await;
    let privileged = TrustLevel::Privileged;
    let all = world.key_with("acme", &[], &["*"], TrustLevel::Elevated).await;
    let foreign = world.key_with("acme", &["admin"], &["*"], privileged).await;
    let viewer = world.key_with("acme", &["viewer"], &["*"], TrustLevel::Standard).await;
    let own = world.key_with("local", &["admin"], &["*"], privileged).await;
    for (method, path) in [
        ("GET", "/v1/policies"),
        ("GET", "/v1/policies/1"),
        ("POST", "/v1/policies/reload"),
        ("POST", "/v1/policies/rollback"),
        ("POST", "/v1/policies/test"),
        ("GET", "/v1/policies/shadow"),
        ("POST", "/v1/policies/shadow"),
        ("DELETE", "/v1/policies/shadow"),
    ] {
        assert_eq!(with(&world, &all, method, path, json!({})).await.code(), "insufficient_scope", "{method} {path}");
        assert_eq!(with(&world, &foreign, method, path, json!({})).await.code(), "denied", "{method} {path}");
    }
    assert_eq!(with(&world, &own, "GET", "/v1/policies", Value::Null).await.status, 200);
    assert_eq!(with(&world, &viewer, "GET", "/v1/tasks", Value::Null).await.status, 200);
    assert_eq!(with(&world, &viewer, "POST", "/v1/tasks", task("a")).await.code(), "denied");
    assert_eq!(with(&world, &viewer, "GET", "/mirror/a", Value::Null).await.code(), "denied");
    assert_eq!(with(&world, &viewer, "GET", "/v1/keys", Value::Null).await.code(), "denied");
}

#[tokio::test]
async fn nobody_locks_the_operator_out() {
    let world = asking("forbid (principal, action, resource);").await;
    let key = world.key_with("local", &["admin"], &["*"], TrustLevel::Privileged).await;
    assert_eq!(with(&world, &key, "POST", "/v1/policies/reload", json!({})).await.code(), "denied");
    assert_eq!(operator(&world, ALL).await.status, 200);
    assert_eq!(with(&world, &key, "POST", "/v1/policies/reload", json!({})).await.status, 200);
}

#[tokio::test]
async fn what_another_submitted_is_there_and_may_not_be_touched() {
    let rules = "permit (principal, action in [Action::\"task.create\", Action::\"task.list\"], resource);
        permit (principal, action == Action::\"task.read\", resource) when { resource.owner == principal.id };";
    let world = asking(rules).await;
    let ann = world.key("acme", &["*"]).await;
    let (bob, eve) = (world.key("acme", &["*"]).await, world.key("globex", &["*"]).await);
    let made = with(&world, &ann, "POST", "/v1/tasks?wait=60", task("a")).await.json();
    let path = format!("/v1/tasks/{}", made["task_id"].as_str().unwrap());
    assert_eq!(with(&world, &ann, "GET", &path, Value::Null).await.status, 200);
    assert_eq!(with(&world, &bob, "GET", &path, Value::Null).await.code(), "denied");
    assert_eq!(with(&world, &eve, "GET", &path, Value::Null).await.code(), "not_found");
    assert_eq!(with(&world, &ann, "POST", &format!("{path}/retry"), json!({})).await.code(), "denied");
}

#[tokio::test]
async fn over_grpc_the_same_is_decided() {
    let world = World::new().await;
    let mut client = TasksClient::new(Endpoint::from_shared(world.url("")).unwrap().connect().await.unwrap());
    let echo = || SubmitRequest { intent: "echo".into(), input: Some(Input::Text("a".into())), ..Default::default() };
    let id = client.submit(echo()).await.unwrap().into_inner().id;
    for (action, of) in [("task.create", "submit"), ("task.read", "status")] {
        let rules = all_but(&format!("action == Action::\"{action}\", resource"));
        assert_eq!(world.policies(&rules).await.status, 200);
        let refused = match of {
            "submit" => client.submit(echo()).await.map(|_| ()),
            _ => client.status_by_id(StatusByIdRequest { id: id.clone() }).await.map(|_| ()),
        };
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("as asked"), "{refused:?}");
    }
}

#[tokio::test]
async fn rules_see_what_a_task_asks_for_itself() {
    let world = World::new().await;
    let rules = format!(
        "{ALL}@id(\"at-home\") forbid (principal, action == Action::\"task.create\", resource) unless {{
            context.privacy == \"local-only\" && context has budget_micros && context.budget_micros <= 500000 }};"
    );
    assert_eq!(world.policies(&rules).await.status, 200);
    let mut asked = task("a");
    assert_eq!(world.post("/v1/tasks?wait=60", asked.clone()).await.code(), "denied");
    asked["privacy"] = json!("local-only");
    asked["budget_usd"] = json!(0.6);
    assert_eq!(world.post("/v1/tasks?wait=60", asked.clone()).await.code(), "denied");
    asked["budget_usd"] = json!(0.5);
    // Also where it comes again, by its key and as a task of its own.
    for replayed in [false, true] {
        let request = world.client.post(world.url("/v1/tasks?wait=60")).header("idempotency-key", "k").json(&asked);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.header("idempotency-replayed").is_some()), (200, replayed), "{answer:?}");
    }
    let mut fails = asked;
    fails["input"]["text"] = json!("failed");
    let failed = world.post("/v1/tasks?wait=60", fails).await.json();
    assert_eq!(failed["status"], "ERROR", "{failed}");
    let path = format!("/v1/tasks/{}/retry", failed["task_id"].as_str().unwrap());
    assert_eq!(world.post(&path, json!({})).await.status, 202);
    let less = rules.replace("500000", "400000");
    assert_eq!(world.policies(&less).await.status, 200);
    assert_eq!(world.post(&path, json!({})).await.code(), "denied");
}

#[tokio::test]
async fn a_task_that_a_rule_keeps_here_has_no_callback() {
    let world = World::calling("127.0.0.1:1").await;
    let mut asked = task("a");
    asked["callback"] = json!({"url": "http://127.0.0.1:1/hook", "events": ["task.completed"]});
    assert_eq!(world.post("/v1/tasks", asked.clone()).await.status, 202);
    let here = "@privacy(\"local-only\") permit (principal, action == Action::\"task.create\", resource);";
    assert_eq!(world.policies(&format!("{ALL}{here}")).await.status, 200);
    let refused = world.post("/v1/tasks", asked).await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("callback")));
}

/// A request that comes again is decided again: what it finds is a task's.
#[tokio::test]
async fn a_known_request_is_decided_again() {
    let world = World::new().await;
    let again = async || {
        let request = world.client.post(world.url("/v1/tasks?wait=60")).header("idempotency-key", "k").json(&task("a"));
        Answer::of(request.send().await.unwrap()).await
    };
    assert_eq!(again().await.status, 200);
    assert_eq!(world.policies(&all_but("action == Action::\"task.create\", resource")).await.status, 200);
    assert_eq!(again().await.code(), "denied");
}

/// Counts the decisions whether tasks and events may be read.
#[derive(Default)]
struct Counts(std::sync::atomic::AtomicU32);

impl witan_authorize::Observer for Counts {
    fn decided(&self, request: &witan_authorize::Request<'_>, _decision: &witan_authorize::Decision) {
        if matches!(request.action, witan_authorize::Action::TaskRead | witan_authorize::Action::EventRead) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn changed(&self, _change: &witan_authorize::Change) {}
}

#[tokio::test]
async fn what_is_followed_is_decided_once_until_policies_change() {
    use futures::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;

    let world = World::new().await;
    let counts = std::sync::Arc::new(Counts::default());
    world.api.policies().authorizer().observe(counts.clone());
    let count = || counts.0.swap(0, std::sync::atomic::Ordering::SeqCst);
    let id = world.echo("", "wait").await.json()["id"].as_str().unwrap().to_owned();
    let mut followed = Vec::new();
    for path in [format!("/v1/tasks/{id}/events"), "/v1/events?starting_after=0".to_owned()] {
        let mut response = world.client.get(world.url(&path)).send().await.unwrap();
        response.chunk().await.unwrap().unwrap();
        assert_eq!(count(), 1, "{path}");
        followed.push(response);
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/v1/ws", world.address)).await.unwrap();
    let subscribe = json!({"type": "subscribe", "id": "t", "task": id}).to_string();
    socket.send(Message::text(subscribe)).await.unwrap();
    for _ in ["subscribed", "task_event"] {
        socket.next().await.unwrap().unwrap();
    }
    assert_eq!(count(), 1);
    let mut client = TasksClient::new(Endpoint::from_shared(world.url("")).unwrap().connect().await.unwrap());
    let stream = witan_grpc::v1::StreamRequest { id, starting_after: 0 };
    let mut events = client.stream(stream).await.unwrap().into_inner();
    events.next().await.unwrap().unwrap();
    assert_eq!(count(), 1);
    // And then each once more.
    assert_eq!(world.policies(ALL).await.status, 200);
    let mut again = 0;
    while again < 4 {
        again += count();
        tokio::task::yield_now().await;
    }
    assert_eq!(again, 4);
}
