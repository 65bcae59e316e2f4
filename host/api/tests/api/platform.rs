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
    world.tasks.drain(std::time::Duration::from_secs(60)).await;
    let answer = world.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "witan_tasks_total{intent=\"echo\",status=\"ok\"} 1",
        "witan_tasks_total{intent=\"echo\",status=\"error\"} 1",
        "witan_host_calls_total 7",
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
