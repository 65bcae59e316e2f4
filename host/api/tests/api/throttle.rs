//! How much clients may ask, and what every route refuses.

use std::time::Duration;

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use witan_api::{Requests, Settings};
use witan_events::What;
use witan_throttle::{GateSettings, Rates};

use crate::world::{Answer, World, task};

fn rates(settings: witan_throttle::Settings) -> Requests {
    Requests::new(settings, GateSettings::default())
}

#[tokio::test]
async fn whoever_asks_more_than_it_may_is_told_when_to_come_back() {
    let tenant = Rates { per_minute: Some(3), ..Rates::default() };
    let world = World::limited(rates(witan_throttle::Settings { tenant, ..Default::default() })).await;
    for left in ["2", "1", "0"] {
        let answer = world.get("/v1/host").await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (200, Some(left)));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"tenant-60s\";q=3;w=60"));
    }
    for path in ["/v1/host", "/mirror", "/v1/none"] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{path}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        let milliseconds: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait) && milliseconds <= wait * 1_000 && milliseconds > 0);
        assert_eq!((answer.header("x-ratelimit-limit-requests"), answer.header("x-should-retry")), (Some("3"), None));
        assert!(answer.header("ratelimit").unwrap().starts_with("\"tenant-60s\";r=0;t="));
        assert_eq!(answer.json()["error"]["retryable"], true);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "{path} is for the operator");
    }
    assert!(world.get("/metrics").await.text.contains("witan_requests_throttled_total{by=\"tenant\"} 3"));
}

#[tokio::test]
async fn what_will_not_change_is_not_to_be_tried_again() {
    let address = Rates { per_second: Some(2), ..Rates::default() };
    let world = World::limited(rates(witan_throttle::Settings { address, ..Default::default() })).await;
    let answer = world.post("/v1/tasks", task(&"a".repeat(200_000))).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "too_heavy"));
    assert_eq!(
        (answer.header("x-should-retry"), answer.json()["error"]["retryable"].as_bool()),
        (Some("false"), Some(false))
    );
    assert_eq!(world.get("/v1/host").await.status, 200, "what was refused cost nothing");
}

#[tokio::test]
async fn tasks_at_once_are_counted_until_they_end_and_not_until_they_are_accepted() {
    let user = Rates { tasks: Some(1), ..Rates::default() };
    let world = World::limited(rates(witan_throttle::Settings { user, ..Default::default() })).await;
    let first = world.echo("", "wait").await;
    assert_eq!(first.status, 202);
    let second = world.echo("", "wait").await;
    assert_eq!((second.status, second.code().as_str(), second.header("retry-after")), (429, "rate_limited", Some("1")));
    assert!(second.json()["error"]["message"].as_str().unwrap().contains("host.requests.user.tasks"));
    world.permits.add_permits(1);
    let task = world.task(first.json()["id"].as_str().unwrap().parse().unwrap()).await;
    task.finished().await;
    while world.echo("?wait=60", "a").await.status == 429 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_task_that_a_host_goes_on_with_is_counted_as_others_are() {
    let user = Rates { tasks: Some(1), ..Rates::default() };
    let settings = witan_throttle::Settings { user, ..Default::default() };
    let world = World::new().await;
    let id = world.echo("", "wait").await.json()["id"].as_str().unwrap().to_owned();
    // As of a host that starts: nobody has counted it yet.
    let requests = rates(settings);
    let local = witan_throttle::Client { tenant: "local", user: Some("local"), key: None, address: None };
    drop(requests.throttle.begin_task(&local).unwrap());
    requests.count_left(&world.tasks);
    assert!(requests.throttle.begin_task(&local).is_err());
    assert!(requests.throttle.begin_task(&witan_throttle::Client { user: Some("ann"), ..local }).is_ok());
    assert_eq!(world.post(&format!("/v1/tasks/{id}/cancel"), json!({})).await.status, 200);
    while requests.throttle.begin_task(&local).is_err() {
        tokio::task::yield_now().await;
    }
}

/// Sends the request of a task, and hangs up while the task is being stored.
async fn hang_up(world: &World, requests: &Requests, query: &str) {
    let writing = world.database.write().await.unwrap();
    let body = task("wait").to_string();
    let head = format!(
        "POST /v1/tasks{query} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        world.address,
        body.len()
    );
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    while world.tasks.unfinished() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    // The host has noticed when the request's place is free again.
    while requests.gate.load().0 > 0 {
        tokio::task::yield_now().await;
    }
    drop(writing);
}

#[tokio::test]
async fn a_task_is_counted_whose_client_hung_up_while_it_was_stored() {
    let user = Rates { tasks: Some(1), ..Rates::default() };
    let requests = rates(witan_throttle::Settings { user, ..Default::default() });
    let world = World::limited(requests.clone()).await;
    let mut events = world.tasks.bus().subscribe("local", None);
    hang_up(&world, &requests, "").await;
    let created = events.next().await.unwrap();
    assert!(matches!(created.what, What::TaskCreated(_)), "{created:?}");
    let second = world.echo("", "a").await;
    assert_eq!((second.status, second.code().as_str()), (429, "rate_limited"));
    let id = world.newest().await.unwrap();
    assert_eq!(world.post(&format!("/v1/tasks/{id}/cancel"), json!({})).await.status, 200);

    // One that waited for the end was never told where the task is, so nobody would ask for it: it ends.
    while world.tasks.unfinished() > 0 {
        tokio::task::yield_now().await;
    }
    let counted = || async { world.echo("?wait=60", "a").await.status == 429 };
    while counted().await {
        tokio::task::yield_now().await;
    }
    hang_up(&world, &requests, "?wait=60").await;
    let ended = loop {
        let event = events.next().await.unwrap();
        if matches!(event.what, What::TaskCancelled(_))
            && !matches!(&event.what, What::TaskCancelled(one) if one.task == id)
        {
            break event;
        }
    };
    assert_eq!(ended.tenant.as_deref(), Some("local"));
}

#[tokio::test]
async fn a_task_that_is_tried_again_is_counted() {
    let user = Rates { tasks: Some(1), ..Rates::default() };
    let world = World::limited(rates(witan_throttle::Settings { user, ..Default::default() })).await;
    let failed = world.echo("?wait=60", "failed").await.json()["task_id"].as_str().unwrap().to_owned();
    while world.echo("", "wait").await.status == 429 {
        tokio::task::yield_now().await;
    }
    let again = format!("/v1/tasks/{failed}/retry");
    let refused = world.post(&again, json!({})).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    world.permits.add_permits(1);
    while world.post(&again, json!({})).await.status != 202 {
        tokio::task::yield_now().await;
    }
}

/// Each route that `/openapi.json` describes, and each limit: none answers with what is no refusal, and none with 5xx.
#[tokio::test]
async fn every_route_holds_bodies_headers_depth_and_time() {
    let settings = Settings { body_bytes: 4_096, body_time: Duration::from_millis(200), ..Settings::default() };
    let world = World::bounded(settings).await;
    let document = world.get("/openapi.json").await.json();
    let mut walked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "0190a2b3-0000-7000-8000-000000000000");
        for method in operations.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            walked += 1;
            let head = |more: &str| {
                format!(
                    "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\n{more}\r\n",
                    world.address
                )
            };
            let many: String = (0..200).map(|number| format!("x-{number}: a\r\n")).collect();
            let long = format!("x-long: {}\r\n", "a".repeat(100_000));
            for headers in [many, long] {
                let answer = world.raw(head(&headers).as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 431"), "{method} {path}: {answer}");
            }
            let large = world.raw(head("Content-Length: 5000\r\n").as_bytes()).await;
            assert!(large.starts_with("HTTP/1.1 413"), "{method} {path}: {large}");
            if method == "GET" {
                continue;
            }
            let deep = "[".repeat(2_000);
            let url = world.url(&path);
            let request = world.client.request(method.parse().unwrap(), url).header("content-type", "application/json");
            // With the token it would stop the host; without, it is refused before it is read.
            let request = if path == "/v1/host/stop" { request } else { request.bearer_auth(world.token.secret()) };
            let answer = Answer::of(request.body(deep).send().await.unwrap()).await;
            assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
            // Either the route waits for the body no longer than it may, or it has no need of it.
            let late = world.raw(format!("{}{{", head("Content-Length: 100\r\n")).as_bytes()).await;
            assert!(late.starts_with("HTTP/1.1 4"), "{method} {path}: {late}");
        }
    }
    assert!(walked >= 14, "{walked} operations");
}

#[tokio::test]
async fn a_deep_body_is_refused_with_a_reason() {
    let world = World::new().await;
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let answer =
        world.post("/v1/tasks", json!({"intent": "echo", "input": {"text": ""}, "parameters": {"a": deep}})).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
}

/// Entries of refusals, after a checkpoint.
async fn refusals(world: &World) -> Vec<witan_ledger::Entry> {
    let ledger = world.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.checkpoint()).await.unwrap().unwrap();
    let filter =
        witan_ledger::Filter { decision: Some(witan_ledger::Verdict::Deny), ..witan_ledger::Filter::default() };
    let page = world.ledger.reader().after(&filter, None, 1_000).unwrap();
    page.entries.into_iter().filter_map(|placed| placed.entry).collect()
}

#[tokio::test]
async fn what_a_credential_is_not_for_is_held_to_its_rates() {
    let key = Rates { per_minute: Some(4), ..Rates::default() };
    let requests = rates(witan_throttle::Settings { key, ..Default::default() });
    let world = World::asking_limited("", requests).await;
    let reads = world.key("acme", &["tasks:read"]).await;
    let [keys, metrics] = [("POST", "/v1/keys"), ("GET", "/metrics")];
    for (method, path) in [keys, metrics, keys, metrics] {
        let body = (method == "POST").then(|| json!({"name": "a", "scopes": ["*"]}));
        let answer = world.ask(&reads, method, path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "insufficient_scope"), "{path}");
        assert!(answer.header("ratelimit").is_some());
    }
    for path in ["/v1/keys", "/metrics", "/v1/host/stop"] {
        let answer = world.ask(&reads, "GET", path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{path}");
    }
    assert_eq!(refusals(&world).await.len(), 4, "what is over a rate is not written down");
    assert_eq!(world.get("/healthz").await.status, 200);
    let operator = world.client.get(world.url("/metrics")).bearer_auth(world.token.secret());
    assert_eq!(operator.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn refusals_of_one_principal_that_are_many_are_one_entry() {
    let mut world = World::asking("").await;
    let [loud, other] = [world.key("acme", &["tasks:read"]).await, world.key("other", &["tasks:read"]).await];
    for number in 0..40 {
        assert_eq!(world.ask(&loud, "GET", &format!("/v1/area-{number}"), None).await.status, 403);
    }
    assert_eq!(world.ask(&other, "GET", "/v1/keys", None).await.status, 403);
    assert_eq!(refusals(&world).await.len(), 8 + 1);
    world.stop();
    world.served.await.unwrap();
    world.served = tokio::spawn(async {});
    let entries = refusals(&world).await;
    let counted: Vec<_> =
        entries.iter().filter_map(|entry| entry.details.get("requests")).map(String::as_str).collect();
    assert_eq!((entries.len(), counted), (8 + 1 + 1, vec!["32"]));
}

#[tokio::test]
async fn a_body_that_does_not_say_its_length_weighs_what_comes_of_it() {
    let address = Rates { per_minute: Some(4), ..Rates::default() };
    let world = World::limited(rates(witan_throttle::Settings { address, ..Default::default() })).await;
    let chunked = |world: &World, path: &str, bytes: usize| {
        let piece = format!("{:x}\r\n{}\r\n", 20_000, "a".repeat(20_000)).repeat(bytes / 20_000);
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n{piece}0\r\n\r\n",
            world.address
        )
    };
    // Of 280,000 bytes, all but the last 17,856 weigh as much as four requests, and the request itself is one.
    let answer = world.raw(chunked(&world, "/v1/tasks", 280_000).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("rate_limited"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    let next = world.get("/v1/host").await;
    assert_eq!(next.status, 429, "what came is charged");

    let world = World::limited(rates(witan_throttle::Settings { address, ..Default::default() })).await;
    let small = world.raw(chunked(&world, "/mirror", 120_000).as_bytes()).await;
    assert!(small.starts_with("HTTP/1.1 200"), "{small}");
    assert_eq!(world.get("/v1/host").await.header("x-ratelimit-remaining-requests"), Some("1"));
}
