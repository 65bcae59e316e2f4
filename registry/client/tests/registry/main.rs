//! What a client does with our registry: publish, find, fetch the same bytes, have signatures witnessed, yank.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod attacks;
mod authority;
mod log;
mod old;
mod support;

use std::sync::Mutex;

use support::{artifact, client, package, settings};
use witan_registry_client::{Client, FetchError, PublishError, RequestError};
use witan_registry_types::Mapping;
use witan_test_registry::{start, start_with};

#[tokio::test]
async fn what_is_published_is_fetched_byte_for_byte() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let (package, artifact) = (package(), artifact(3_000_000, &client).await);
    assert_eq!(artifact.bundles.len(), 3);
    let published = client.publish(&package, &artifact).await.unwrap();
    assert!(!published.was_there);
    assert_eq!(published.repository.as_str(), "components/acme/sums");
    assert_eq!(client.resolve(&package).await.unwrap(), published.digest);
    assert_eq!(client.versions(&package.name).await.unwrap(), std::slice::from_ref(&package.version));
    let seen = Mutex::new(Vec::new());
    let fetched = client.fetch(&package, &published.digest, &|at| seen.lock().unwrap().push(at)).await.unwrap();
    assert_eq!(
        (&fetched.manifest, &fetched.config, &fetched.layer),
        (&artifact.manifest, &artifact.config, &artifact.layer)
    );
    let sorted = |mut bundles: Vec<Vec<u8>>| {
        bundles.sort();
        bundles
    };
    assert_eq!(sorted(fetched.bundles), sorted(artifact.bundles));
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|at| at.total == 3_000_000) && seen.last().unwrap().received == 3_000_000);
}

#[tokio::test]
async fn a_version_is_published_again_only_as_what_it_is() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let (package, first) = (package(), artifact(100, &client).await);
    let digest = client.publish(&package, &first).await.unwrap().digest;
    let again = client.publish(&package, &first).await.unwrap();
    assert!(again.was_there && again.digest == digest);
    let other = artifact(200, &client).await;
    let refused = client.publish(&package, &other).await.unwrap_err();
    assert!(matches!(&refused, PublishError::VersionTaken { found, .. } if *found == digest.to_string()), "{refused}");
    assert_eq!(client.resolve(&package).await.unwrap(), digest);
}

#[tokio::test]
async fn parts_that_do_not_belong_together_are_not_sent() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let mut artifact = artifact(100, &client).await;
    artifact.layer.push(0);
    assert!(matches!(client.publish(&package(), &artifact).await, Err(PublishError::Parts(_))));
    artifact.layer.pop();
    artifact.bundles.push(b"{}".to_vec());
    assert!(matches!(client.publish(&package(), &artifact).await, Err(PublishError::Bundle(3))));
    artifact.bundles[3] = vec![b' '; (4 << 20) + 1];
    let refused = client.publish(&package(), &artifact).await;
    assert!(matches!(refused, Err(PublishError::BundleTooLarge { number: 3, .. })));
    assert!(matches!(client.resolve(&package()).await, Err(FetchError::NotFound { .. })));
}

#[tokio::test]
async fn a_token_is_needed_and_must_be_the_right_one() {
    let running = start().await;
    let owner = client(&running, &["acme:pull,push"]).await;
    let (package, artifact) = (package(), artifact(100, &owner).await);
    let digest = owner.publish(&package, &artifact).await.unwrap().digest;
    let host = owner.host().clone();
    let nobody = Client::new(host.clone(), Mapping::default(), settings()).unwrap();
    let refused = nobody.fetch(&package, &digest, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Unauthorized { known: false, .. })), "{refused}");
    let other = client(&running, &["other:pull,push"]).await;
    let refused = other.fetch(&package, &digest, &|_| {}).await.unwrap_err();
    assert!(
        matches!(
            refused,
            FetchError::Request(RequestError::Unauthorized { known: true, .. } | RequestError::Status { .. })
        ),
        "{refused}"
    );
    let reader = client(&running, &["acme:pull"]).await;
    assert!(reader.fetch(&package, &digest, &|_| {}).await.is_ok());
    assert!(reader.publish(&package, &artifact).await.is_err());
}

#[tokio::test]
async fn everyone_fetches_where_everyone_may() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let owner = client(&running, &["acme:pull,push"]).await;
    let (package, artifact) = (package(), artifact(100, &owner).await);
    let digest = owner.publish(&package, &artifact).await.unwrap().digest;
    let nobody = Client::new(owner.host().clone(), Mapping::default(), settings()).unwrap();
    assert_eq!(nobody.fetch(&package, &digest, &|_| {}).await.unwrap().layer, artifact.layer);
    assert!(nobody.publish(&package, &artifact).await.is_err());
}

#[tokio::test]
async fn what_there_is_not_is_said_not_to_be() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let refused = client.resolve(&package()).await.unwrap_err();
    assert!(matches!(refused, FetchError::NotFound { .. }), "{refused}");
    assert!(refused.to_string().contains("acme:sums@1.0.0"));
}

#[tokio::test]
async fn packages_are_searched_for_and_versions_yanked() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let package = package();
    client.publish(&package, &artifact(100, &client).await).await.unwrap();
    let found = client.search("sums").await.unwrap();
    assert_eq!(found.iter().map(|found| found.package.clone()).collect::<Vec<_>>(), [Some(package.name.clone())]);
    assert_eq!(client.search("nothing & of=this").await.unwrap(), []);
    assert!(client.yanked(&package.name).await.unwrap().is_empty());
    client.yank(&package, "it loses files").await.unwrap();
    let yanked = client.yanked(&package.name).await.unwrap();
    assert_eq!(yanked.get(&package.version).map(String::as_str), Some("it loses files"));
    let other = self::client(&running, &["other:pull,push"]).await;
    assert!(matches!(other.yanked(&package.name).await, Err(RequestError::Status { .. })));
    assert!(other.unyank(&package).await.is_err());
    client.unyank(&package).await.unwrap();
    assert!(client.yanked(&package.name).await.unwrap().is_empty());
    let missing = "acme:sums@9.0.0".parse().unwrap();
    assert!(client.yank(&missing, "why").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn the_well_known_file_says_where_packages_lie() {
    let running = start_with(|settings| settings.namespace_prefix = "parts/".to_owned()).await;
    let owner = client(&running, &["acme:pull,push"]).await;
    let found = Client::discover(owner.host().clone(), settings()).await.unwrap();
    assert_eq!(found.repository(&package().name).as_str(), "parts/acme/sums");
    assert_eq!(found.host(), owner.host());
}
