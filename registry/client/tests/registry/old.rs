//! A registry that does not know of referrers, as there are many: signatures lie under a tag.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, Response},
};
use tokio::net::TcpListener;
use witan_registry_client::{Client, Credentials};
use witan_registry_types::{Digest, Mapping, media};
use witan_test_registry::start;

use crate::support::{artifact, client, host, package, settings};

/// Passes on what is asked, but for what this registry does not know of.
async fn pass(State(behind): State<SocketAddr>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    if path.contains("/referrers/") {
        return Response::builder().status(404).body(Body::empty()).unwrap();
    }
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let request = reqwest::Client::new().request(parts.method, format!("http://{behind}{path}"));
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = request.headers(headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "oci-subject") {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

#[tokio::test]
async fn signatures_are_listed_under_a_tag_where_there_is_no_other_list() {
    let running = start().await;
    let direct = client(&running, &["acme:pull,push"]).await;
    let artifact = artifact(100, &direct).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(pass).with_state(running.address);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut settings = settings();
    let token = running.token(&["acme:pull,push"]).await;
    settings.credentials.insert(host(address), Credentials::new("anyone", token.clone()));
    settings.realms.insert(host(running.address));
    let old = Client::new(host(address), Mapping::default(), settings).unwrap();

    let digest = old.publish(&package(), &artifact).await.unwrap().digest;
    let sorted = |mut bundles: Vec<Vec<u8>>| {
        bundles.sort();
        bundles
    };
    let fetched = old.fetch(&package(), &digest, &|_| {}).await.unwrap();
    assert_eq!(sorted(fetched.bundles), sorted(artifact.bundles.clone()));
    // Publishing again adds nothing to the list.
    let path = format!("/v2/components/acme/sums/manifests/sha256-{}", Digest::of(&artifact.manifest).hex());
    let list = async || {
        let answer = running.get(&path, &token).header("accept", media::INDEX).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let first = list().await;
    assert_eq!(first.matches("\"digest\"").count(), 3);
    old.publish(&package(), &artifact).await.unwrap();
    assert_eq!(list().await, first);
}
