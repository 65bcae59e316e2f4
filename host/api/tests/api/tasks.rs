//! Tasks over HTTP.

use serde_json::json;

use crate::world::{Answer, World, task};

#[tokio::test]
async fn a_client_that_waits_gets_the_envelope() {
    let world = World::new().await;
    let answer = world.echo("?wait=60", "hello").await;
    assert_eq!(answer.status, 200);
    let envelope = answer.json();
    assert_eq!((envelope["status"].as_str(), envelope["result"]["text"].as_str()), (Some("OK"), Some("hello")));
    assert_eq!((envelope["schema_version"].as_u64(), envelope["engine"]["route"].as_str()), (Some(1), Some("local")));
    let location = format!("/v1/tasks/{}", envelope["task_id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    let kept = world.get(&location).await;
    assert_eq!(kept.json()["envelope"], envelope);
    assert_eq!(kept.json()["kept_in"], "database");
}

#[tokio::test]
async fn a_client_that_does_not_wait_gets_the_place_of_the_task() {
    let world = World::new().await;
    let answer = world.echo("", "wait").await;
    assert_eq!(answer.status, 202);
    let location = answer.header("location").unwrap().to_owned();
    assert_eq!(answer.json()["envelope"], json!(null));
    world.permits.add_permits(1);
    let id = answer.json()["id"].as_str().unwrap().parse().unwrap();
    world.task(id).await.finished().await;
    let shown = world.get(&location).await;
    assert_eq!((shown.status, shown.json()["state"].as_str()), (200, Some("completed")));
}

#[tokio::test]
async fn a_wait_that_is_too_short_ends_with_202_and_the_task_goes_on() {
    let world = World::new().await;
    let answer = world.echo("?wait=1", "wait").await;
    assert_eq!((answer.status, answer.json()["state"].as_str()), (202, Some("working")));
    world.permits.add_permits(1);
    let task = world.task(answer.json()["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(task.finished().await.result.as_ref().unwrap().text, "wait");
}

#[tokio::test]
async fn a_task_that_fails_answers_with_the_status_of_its_error() {
    let world = World::new().await;
    for (text, status, code) in [
        ("invalid", 400, "invalid_request"),
        ("failed", 500, "failed"),
        ("trapped", 502, "trapped"),
        ("unavailable", 503, "unavailable"),
    ] {
        let answer = world.echo("?wait=60", text).await;
        let envelope = answer.json();
        assert_eq!((answer.status, envelope["error"]["code"].as_str()), (status, Some(code)));
        assert_eq!((envelope["status"].as_str(), envelope["error"]["source"].is_string()), (Some("ERROR"), true));
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        assert_eq!(answer.header("retry-after-ms").is_some(), status == 503);
        assert_eq!(answer.header("x-should-retry"), (text == "trapped").then_some("false"));
        let shown = world.get(answer.header("location").unwrap()).await;
        assert_eq!((shown.status, shown.json()["state"].as_str()), (200, Some("failed")));
    }
}

#[tokio::test]
async fn a_request_at_fault_is_refused_with_the_field() {
    let world = World::new().await;
    for (path, body, status, code, param) in [
        ("/v1/tasks", json!({"intent": "echo"}), 400, "invalid_request", None),
        ("/v1/tasks", json!({"intent": "echo", "input": {}}), 400, "invalid_request", Some("input")),
        ("/v1/tasks", json!({"intent": "none", "input": {"text": ""}}), 404, "unknown_intent", Some("intent")),
        (
            "/v1/tasks",
            json!({"intent": "echo", "input": {"paths": ["/etc/passwd"]}}),
            403,
            "path_refused",
            Some("input.paths[0]"),
        ),
        ("/v1/tasks?wait=301", task("a"), 400, "invalid_request", Some("wait")),
        ("/v1/tasks?wait=soon", task("a"), 400, "invalid_request", Some("query")),
        ("/v1/tasks?weight=1", task("a"), 400, "invalid_request", Some("query")),
    ] {
        let answer = world.post(path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        assert_eq!(answer.json()["error"]["param"].as_str(), param);
    }
    let broken = world.client.post(world.url("/v1/tasks")).header("content-type", "application/json").body("{");
    assert_eq!(Answer::of(broken.send().await.unwrap()).await.code(), "invalid_request");
    assert_eq!(world.newest().await, None);
}

#[tokio::test]
async fn paths_are_read_under_the_roots_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("root")).unwrap();
    std::fs::write(folder.path().join("root/a.md"), "inside").unwrap();
    std::fs::write(folder.path().join("b.md"), "outside").unwrap();
    let world = World::with(witan_api::Settings::default(), vec![folder.path().join("root")]).await;
    let named = |path: &str| json!({"intent": "echo", "input": {"paths": [path]}});
    let answer = world.post("/v1/tasks?wait=60", named("a.md")).await;
    assert_eq!(answer.json()["result"]["text"], "inside");
    let answer = world.post("/v1/tasks?wait=60", named("../b.md")).await;
    assert_eq!((answer.status, answer.json()["error"]["setting"].as_str()), (403, Some("host.roots")));
    world.api.replace_roots(Vec::new());
    assert_eq!(world.post("/v1/tasks?wait=60", named("a.md")).await.code(), "path_refused");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_cancels_the_task() {
    let world = World::new().await;
    let url = world.url("/v1/tasks?wait=300");
    let client = world.client.clone();
    let waiting = tokio::spawn(async move { client.post(url).json(&task("wait")).send().await });
    let submitted = loop {
        if let Some(id) = world.newest().await {
            break world.task(id).await;
        }
        tokio::task::yield_now().await;
    };
    waiting.abort();
    assert_eq!(submitted.finished().await.status, witan_tasks::Status::Canceled);
}

#[tokio::test]
async fn a_task_can_be_cancelled_and_stays_so() {
    let world = World::new().await;
    let location = world.echo("", "wait").await.header("location").unwrap().to_owned();
    for _ in 0..2 {
        let answer = world.post(&format!("{location}/cancel"), json!({})).await;
        assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("cancelled")));
        assert_eq!(answer.json()["envelope"]["status"], "CANCELED");
    }
    let missing = world.post("/v1/tasks/00000000-0000-7000-8000-000000000000/cancel", json!({})).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn events_are_numbered_and_resumed() {
    let world = World::new().await;
    let location = world.echo("?wait=60", "hello").await.header("location").unwrap().to_owned();
    let all = world.get(&format!("{location}/events")).await;
    assert_eq!(all.header("content-type"), Some("text/event-stream"));
    assert_eq!(all.header("x-accel-buffering"), Some("no"));
    let named = |answer: &Answer| {
        let names = answer.text.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
        names.collect::<Vec<_>>()
    };
    let ids = |answer: &Answer| {
        answer.text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(named(&all), ["state", "state", "progress", "state", "envelope"]);
    assert_eq!(ids(&all), ["1", "2", "3", "4"]);
    let rest = world.get(&format!("{location}/events?starting_after=3")).await;
    assert_eq!(named(&rest), ["state", "envelope"]);
    let resumed =
        world.client.get(world.url(&format!("{location}/events?starting_after=1"))).header("last-event-id", "4");
    assert_eq!(named(&Answer::of(resumed.send().await.unwrap()).await), ["envelope"]);
    assert_eq!(world.get("/v1/tasks/none/events").await.code(), "not_found");
}

#[tokio::test]
async fn events_of_a_running_task_come_as_they_happen() {
    let world = World::new().await;
    let location = world.echo("", "wait").await.header("location").unwrap().to_owned();
    let mut response = world.client.get(world.url(&format!("{location}/events"))).send().await.unwrap();
    let mut seen = String::new();
    while !seen.contains("event: progress") {
        seen += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(!seen.contains("envelope"));
    world.permits.add_permits(1);
    while let Some(chunk) = response.chunk().await.unwrap() {
        seen += std::str::from_utf8(&chunk).unwrap();
    }
    assert!(seen.contains("event: envelope"), "{seen}");
}

#[tokio::test]
async fn tasks_are_listed_in_pages_newest_first() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.echo("?wait=60", "a").await.json()["task_id"].clone());
    }
    let page = world.get("/v1/tasks?limit=2").await.json();
    assert_eq!((page["object"].as_str(), page["has_more"].as_bool()), (Some("list"), Some(true)));
    assert_eq!((&page["first_id"], &page["last_id"]), (&ids[2], &ids[1]));
    assert_eq!(page["data"][0]["envelope"], json!(null));
    let rest = world.get(&format!("/v1/tasks?limit=2&after={}", ids[1].as_str().unwrap())).await.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["first_id"]), (1, &ids[0]));
    assert_eq!(rest["has_more"], false);
    for query in ["limit=0", "limit=101", "after=x"] {
        assert_eq!(world.get(&format!("/v1/tasks?{query}")).await.code(), "invalid_request");
    }
}

impl World {
    async fn keyed(&self, key: &str, query: &str, body: &serde_json::Value) -> Answer {
        let request =
            self.client.post(self.url(&format!("/v1/tasks{query}"))).header("idempotency-key", key).json(body);
        Answer::of(request.send().await.unwrap()).await
    }
}

#[tokio::test]
async fn one_key_makes_one_task() {
    let world = World::new().await;
    let first = world.keyed("a key", "?wait=60", &task("a")).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
    let again = world.keyed("a key", "?wait=60", &task("a")).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!((again.json(), again.header("location")), (first.json(), first.header("location")));
    let other = world.keyed("a key", "", &task("b")).await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"));
    for none in ["", "\u{e9}", &"k".repeat(256)] {
        assert_eq!(world.keyed(none, "", &task("a")).await.code(), "invalid_request", "{none}");
    }
    // What is refused leaves nothing behind.
    let unknown = json!({"intent": "none", "input": {"text": ""}});
    assert_eq!(world.keyed("another", "", &unknown).await.code(), "unknown_intent");
    assert_eq!(world.keyed("another", "", &task("a")).await.status, 202);
    let listed = world.get("/v1/tasks").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_in_flight_is_a_conflict_and_its_task_outlives_the_client() {
    let world = World::new().await;
    let waiting = {
        let request =
            world.client.post(world.url("/v1/tasks?wait=60")).header("idempotency-key", "k").json(&task("wait"));
        tokio::spawn(request.send())
    };
    let id = loop {
        if let Some(id) = world.newest().await {
            break id;
        }
        tokio::task::yield_now().await;
    };
    let conflict = world.keyed("k", "?wait=60", &task("wait")).await;
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "idempotency_in_flight"));
    assert!(conflict.header("retry-after").is_some() && conflict.header("x-should-retry").is_none());
    waiting.abort();
    world.permits.add_permits(1);
    assert_eq!(world.task(id).await.finished().await.status, witan_tasks::Status::Ok);
    let again = loop {
        let again = world.keyed("k", "?wait=60", &task("wait")).await;
        if again.status != 409 {
            break again;
        }
    };
    assert_eq!((again.status, again.json()["task_id"].as_str().unwrap()), (200, id.to_string().as_str()));
}

#[tokio::test]
async fn any_number_of_requests_at_once_with_one_key_make_one_task() {
    let world = World::new().await;
    let body = json!({"intent": "echo", "input": {"text": "a"}, "metadata": {"of": "one"}});
    let answers = futures::future::join_all((0..20).map(|_| world.keyed("same", "", &body))).await;
    assert!(answers.iter().all(|answer| [202, 409].contains(&answer.status)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 202));
    let listed = world.get("/v1/tasks?metadata=of%3Done").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn lists_are_narrowed_and_a_waiting_task_is_held() {
    let world = World::new().await;
    world.echo("?wait=60", "failed").await;
    let done = world.echo("?wait=60", "done").await.json()["task_id"].clone();
    let ids = async |query: &str| {
        let list = world.get(&format!("/v1/tasks?{query}")).await.json();
        list["data"]
            .as_array()
            .unwrap_or_else(|| panic!("{list}"))
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("state=completed").await, std::slice::from_ref(&done));
    assert_eq!(ids("intent=echo&state=failed").await.len(), 1);
    assert!(ids("intent=other").await.is_empty() && ids("metadata=ticket").await.is_empty());
    assert!(ids("created_after=99999999999999").await.is_empty());
    assert_eq!(ids("created_before=99999999999999&created_after=1").await.len(), 2);
    assert_eq!(world.get("/v1/tasks?state=none").await.code(), "invalid_request");
    let done = done.as_str().unwrap();
    for action in ["pause", "resume", "retry"] {
        let answer = world.post(&format!("/v1/tasks/{done}/{action}"), json!({})).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{action}");
        assert_eq!(world.post(&format!("/v1/tasks/none/{action}"), json!({})).await.code(), "not_found");
    }
    let failed = ids("state=failed").await[0].as_str().unwrap().to_owned();
    let again = world.post(&format!("/v1/tasks/{failed}/retry"), json!({})).await;
    assert_eq!(again.status, 202);
    assert_ne!(again.json()["id"], failed);
    let bad = world.client.get(world.url(&format!("/v1/tasks/{failed}/events"))).header("last-event-id", "x");
    assert_eq!(Answer::of(bad.send().await.unwrap()).await.code(), "invalid_request");
}
