//! The host itself over HTTP.

use serde_json::json;
use witan_api::NotReady;

use crate::world::{Answer, World};

#[tokio::test]
async fn the_host_says_what_it_is() {
    let world = World::new().await;
    let host = world.get("/v1/host").await.json();
    assert_eq!((host["state"].as_str(), host["system"].as_str()), (Some("serving"), Some("system.toml")));
    assert_eq!((&host["intents"], &host["mounts"]), (&json!(["echo"]), &json!(["/mirror"])));
    assert_eq!(host["listen"].as_str(), Some(world.address.to_string().as_str()));
    let components = world.get("/v1/components").await.json();
    assert_eq!((components["data"][0]["name"].as_str(), components["first_id"].as_str()), (Some("echo"), Some("echo")));
    let logs = world.get("/v1/host/logs?limit=5").await;
    assert_eq!((logs.status, logs.json()["object"].as_str()), (200, Some("list")));
    assert_eq!(world.get("/v1/host/logs?limit=0").await.code(), "invalid_request");
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let world = World::new().await;
    assert_eq!(world.get("/readyz").await.status, 200);
    *world.host.missing.lock().unwrap() = vec![NotReady { what: "echo".into(), why: "it compiles".into() }];
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["not_ready"], json!([{"what": "echo", "why": "it compiles"}]));
    assert_eq!(world.get("/v1/host").await.json()["state"], "not_ready");
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_count_tasks() {
    let world = World::new().await;
    world.echo("?wait=60", "a").await;
    world.echo("?wait=60", "failed").await;
    assert_eq!(world.post("/v1/host/stop", json!({})).await.status, 401);
    world.tasks.drain(std::time::Duration::from_secs(60)).await;
    let answer = world.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(answer.text.contains("# TYPE witan_tasks_total counter") && !answer.text.contains("# EOF"));
    let request =
        world.client.get(world.url("/metrics")).header("accept", "application/openmetrics-text; version=1.0.0");
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "witan_tasks_total{intent=\"echo\",status=\"ok\"} 1",
        "witan_tasks_total{intent=\"echo\",status=\"error\"} 1",
        "witan_host_calls_total 7",
        "witan_requests_total{route=\"/v1/tasks\",method=\"POST\",status=\"200\"} 1",
        "witan_requests_total{route=\"/metrics\",method=\"GET\",status=\"200\"} 1",
        "witan_requests_refused_total{code=\"unauthorized\"} 1",
        "witan_auth_failures_total{code=\"unauthorized\"} 1",
    ] {
        assert!(answer.text.contains(line), "{}", answer.text);
    }
}

#[tokio::test]
async fn only_the_bearer_of_the_token_stops_the_host() {
    let world = World::new().await;
    let stop = |authorization: Option<String>| {
        let request = world.client.post(world.url("/v1/host/stop")).json(&json!({}));
        match authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    };
    let secret = world.token.secret();
    for wrong in [None, Some("Bearer ".to_owned()), Some("Bearer x".to_owned()), Some(secret.to_owned())] {
        let answer = Answer::of(stop(wrong).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
    }
    assert_eq!(world.get("/v1/host").await.json()["state"], "serving");
    let answer = Answer::of(stop(Some(format!("Bearer {secret}"))).send().await.unwrap()).await;
    assert_eq!((answer.status, answer.json()["state"].as_str()), (202, Some("stopping")));
    world.served.await.unwrap();
}

#[tokio::test]
async fn every_described_operation_is_served_and_no_other() {
    let world = World::new().await;
    let document = world.get("/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let url = world.url(&path.replace("{id}", "none"));
            let request = world.client.request(method.parse().unwrap(), url).json(&json!({}));
            let response = request.send().await.unwrap();
            let described = operations.get(method.to_lowercase()).is_some();
            // The body of one that is may have no end.
            assert_eq!(response.status() != 405, described, "{method} {path}");
            if !described {
                let answer = Answer::of(response).await;
                assert_eq!(answer.code(), "method_not_allowed");
                assert!(answer.header("allow").is_some(), "{method} {path}");
            }
        }
    }
    let none = world.get("/v1/none").await;
    assert_eq!((none.status, none.code().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn a_request_stays_in_the_trace_it_came_with_and_so_does_its_task() {
    let world = World::new().await;
    let asked = |traceparent: &'static str| {
        let request = world.client.post(world.url("/v1/tasks?wait=60")).json(&crate::world::task("trace"));
        async move { Answer::of(request.header("traceparent", traceparent).send().await.unwrap()).await }
    };
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = asked(given).await;
    let told = answer.header("traceparent").unwrap().to_owned();
    let task = answer.json()["result"]["text"].as_str().unwrap().to_owned();
    let parts = |text: &str| text.split('-').map(str::to_owned).collect::<Vec<_>>();
    for traceparent in [&told, &task] {
        assert_eq!(parts(traceparent)[1], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parts(traceparent)[3], "01", "what the client asked for is kept");
    }
    assert!(parts(&told)[2] != parts(given)[2] && parts(&task)[2] != parts(&told)[2], "each has a span of its own");
    for wrong in ["", "00-0-0-00", "4bf92f3577b34da6a3ce929d0e0e4736"] {
        let told = asked(wrong).await.header("traceparent").unwrap().to_owned();
        assert_eq!((told.len(), parts(&told)[3].as_str()), (55, "00"), "a new trace, which nobody asked to keep");
    }
    let mounted =
        world.client.post(world.url("/mirror/a")).header("traceparent", given).body("x").send().await.unwrap();
    assert!(Answer::of(mounted).await.header("traceparent").unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test]
async fn what_stands_beside_a_trace_goes_with_it_and_what_is_none_is_dropped_alone() {
    let world = World::new().await;
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let many = (0..33).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",");
    for (parent, states, kept) in [
        (given, &["rojo=1", "congo=2 ,,x=3"][..], Some("rojo=1,congo=2,x=3")),
        (given, &["rojo"], None),
        (given, &["rojo=1", "rojo=2"], None),
        (given, &[many.as_str()], None),
        (given, &[], None),
        // It is nobody's without a trace.
        ("00-0-0-00", &["rojo=1"], None),
    ] {
        let request = world.client.post(world.url("/v1/tasks?wait=60")).json(&crate::world::task("state"));
        let request = states
            .iter()
            .fold(request.header("traceparent", parent), |request, state| request.header("tracestate", *state));
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.header("tracestate"), kept, "{states:?}");
        assert_eq!(answer.json()["result"]["text"], kept.unwrap_or_default(), "{states:?}");
        let trace = answer.header("traceparent").unwrap();
        assert_eq!(trace.contains("4bf92f3577b34da6a3ce929d0e0e4736"), parent == given, "{trace}");
    }
}

#[tokio::test]
async fn only_the_bearer_of_the_token_changes_what_is_logged() {
    let world = World::new().await;
    let set = |secret: Option<&str>, body: serde_json::Value| {
        let request = world.client.post(world.url("/v1/logs/level")).json(&body);
        let request = match secret {
            Some(secret) => request.bearer_auth(secret),
            None => request,
        };
        async move { Answer::of(request.send().await.unwrap()).await }
    };
    let debug = json!({"filter": "debug"});
    for wrong in [None, Some("x")] {
        assert_eq!(set(wrong, debug.clone()).await.code(), "unauthorized");
    }
    assert_eq!(world.get("/v1/logs/level").await.json()["filter"], "");
    let secret = Some(world.token.secret());
    assert_eq!(set(secret, debug).await.status, 200);
    assert_eq!(world.get("/v1/logs/level").await.json()["filter"], "debug");
    let none = set(secret, json!({"filter": "info,=loud"})).await;
    assert_eq!((none.code().as_str(), none.json()["error"]["param"].as_str()), ("invalid_request", Some("filter")));
    assert_eq!(set(secret, json!({"level": "debug"})).await.code(), "invalid_request");
    assert_eq!(world.get("/v1/logs/level").await.json()["filter"], "debug", "what was refused changed nothing");
}
