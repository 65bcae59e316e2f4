//! The ledger over HTTP.

use serde_json::json;
use witan_api::{AuditCheckpoint, AuditConsistency, AuditEntry, AuditInclusion, List};
use witan_identity::TrustLevel;
use witan_ledger::{Entry, HostKeys, Kind, TimedCheckpoint};

use crate::world::{World, task};

/// A world whose ledger has `count` entries, by turns of two people.
async fn filled(count: u64) -> World {
    let world = World::new().await;
    for number in 0..count {
        let person = ["alice", "bob"][(number % 2) as usize];
        let entry = Entry::new(Kind::Decision, "http-send", number.to_string()).by("acme", person);
        world.ledger.append(entry).unwrap();
    }
    let ledger = world.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.checkpoint()).await.unwrap().unwrap();
    world
}

async fn page(world: &World, query: &str) -> List<AuditEntry> {
    let answer = world.get(&format!("/v1/audit/entries?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_value(answer.json()).unwrap()
}

#[tokio::test]
async fn entries_are_listed_by_page_in_both_orders() {
    let world = filled(10).await;
    for (order, first) in [("asc", 1), ("desc", 9)] {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = page(&world, &format!("order={order}&principal=bob&limit=2{after}")).await;
            found.extend(page.data.iter().map(|entry| entry.index));
            let Some(last) = page.last_id.filter(|_| page.has_more) else { break };
            after = format!("&after={last}");
        }
        assert_eq!(found[0], first);
        found.sort_unstable();
        assert_eq!(found, [1, 3, 5, 7, 9]);
    }
    let one = &page(&world, "limit=1").await.data[0];
    assert_eq!((one.id.as_str(), one.erased), ("0", false));
    assert_eq!(one.entry.as_ref().unwrap()["decision"], "allow");
    assert!(page(&world, "decision=deny").await.data.is_empty());
    assert!(page(&world, "tenant=other").await.data.is_empty());
}

#[tokio::test]
async fn a_query_that_is_none_is_refused() {
    let world = filled(1).await;
    for query in ["limit=0", "limit=1001", "kind=x", "decision=maybe", "task=x", "order=up", "other=1"] {
        let answer = world.get(&format!("/v1/audit/entries?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{query}");
    }
    for query in ["", "index=0&from=0", "index=1", "index=0&size=2", "from=2"] {
        let answer = world.get(&format!("/v1/audit/proof?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{query}");
    }
}

#[tokio::test]
async fn whoever_kept_a_checkpoint_verifies_what_came_after() {
    let world = filled(7).await;
    let shown: AuditCheckpoint = serde_json::from_value(world.get("/v1/audit/checkpoint").await.json()).unwrap();
    let keys = HostKeys::from_lines(&shown.keys).unwrap();
    let kept = TimedCheckpoint::verified(&shown.checkpoint, &keys, None).unwrap();
    assert_eq!((kept.checkpoint.size(), kept.time.is_some()), (7, true));

    let ledger = world.ledger.clone();
    let more = move || {
        for number in 0..300_u64 {
            ledger.append(Entry::new(Kind::Task, "task-ok", number.to_string())).unwrap();
        }
        ledger.checkpoint().unwrap();
    };
    tokio::task::spawn_blocking(more).await.unwrap();
    let shown: AuditCheckpoint = serde_json::from_value(world.get("/v1/audit/checkpoint").await.json()).unwrap();
    let now = TimedCheckpoint::verified(&shown.checkpoint, &keys, Some(keys.current())).unwrap().checkpoint;
    assert_eq!(now.size(), 307);
    let proof: AuditConsistency =
        serde_json::from_value(world.get("/v1/audit/proof?from=7&size=307").await.json()).unwrap();
    let hashes = proof.hashes().unwrap();
    let (old, root) = (kept.checkpoint.root(), now.root());
    witan_merkle_log::verify_consistency(7, 307, &hashes, &old, &root).unwrap();

    let proof: AuditInclusion = serde_json::from_value(world.get("/v1/audit/proof?index=100").await.json()).unwrap();
    assert_eq!((proof.size, proof.root), (307, root.to_string()));
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let hash = |text: &String| witan_ledger::Hash(BASE64_STANDARD.decode(text).unwrap().try_into().unwrap());
    let leaf = witan_ledger::Hash::leaf(&BASE64_STANDARD.decode(&proof.leaf).unwrap());
    let hashes: Vec<_> = proof.hashes.iter().map(hash).collect();
    witan_merkle_log::verify_inclusion(&leaf, 100, 307, &hashes, &root).unwrap();
}

#[tokio::test]
async fn before_the_first_entry_there_is_the_checkpoint_of_none() {
    let world = World::new().await;
    let checkpoint = world.get("/v1/audit/checkpoint").await;
    assert_eq!((checkpoint.status, &checkpoint.json()["size"]), (200, &json!(0)), "{checkpoint:?}");
    assert_eq!(world.get("/v1/audit/entries").await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_tenant_sees_its_own_entries_and_nothing_of_others() {
    let world = World::asking("").await;
    let auditor = world.trusted_key("acme", &["audit:read"], TrustLevel::Elevated).await;
    let other = world.trusted_key("other", &["*"], TrustLevel::Privileged).await;
    let operator = world.trusted_key("local", &["audit:read"], TrustLevel::Privileged).await;
    for (tenant, resource) in [("acme", "a"), ("other", "secret-of-other"), ("@host", "of-the-host"), ("acme", "b")] {
        world.ledger.append(Entry::new(Kind::Egress, "http-send", resource).by(tenant, "somebody")).unwrap();
    }
    let ledger = world.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.checkpoint()).await.unwrap().unwrap();

    let entries = async |key: &str, query: &str| -> List<AuditEntry> {
        let answer = world.ask(key, "GET", &format!("/v1/audit/entries?{query}"), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_value(answer.json()).unwrap()
    };
    let seen = |list: &List<AuditEntry>| -> Vec<String> {
        list.data.iter().map(|entry| entry.entry.as_ref().unwrap()["resource"].as_str().unwrap().to_owned()).collect()
    };
    for query in ["", "order=desc", "tenant=acme", "principal=somebody"] {
        let mut found = seen(&entries(&auditor, query).await);
        found.sort_unstable();
        assert_eq!(found, ["a", "b"], "{query}");
    }
    // A tenant that there is and one that there is not look the same.
    for query in ["tenant=other", "tenant=none", "tenant=@host"] {
        let list = serde_json::to_value(entries(&auditor, query).await).unwrap();
        assert_eq!(list, json!({"object": "list", "data": [], "has_more": false, "first_id": null, "last_id": null}));
    }
    assert_eq!(seen(&entries(&other, "").await), ["secret-of-other"], "privileged, and not the operator");
    assert_eq!(seen(&entries(&operator, "").await), ["a", "secret-of-other", "of-the-host", "b"]);

    // Proofs are of what may be seen; of others' entries there is none, as of those that are not there.
    let proof =
        async |key: &str, index: u64| world.ask(key, "GET", &format!("/v1/audit/proof?index={index}"), None).await;
    assert_eq!(proof(&auditor, 3).await.status, 200);
    assert_eq!(proof(&operator, 1).await.status, 200);
    let (foreign, none) = (proof(&auditor, 1).await, proof(&auditor, 99).await);
    let told = |answer: &crate::world::Answer| (answer.status, answer.json()["error"]["message"].clone());
    assert_eq!(told(&foreign), told(&none));
    assert_eq!(foreign.status, 400);
    assert_eq!(world.ask(&auditor, "GET", "/v1/audit/checkpoint", None).await.status, 200);
}

#[tokio::test]
async fn whoever_does_not_administer_is_refused_and_that_is_written_down() {
    let world = World::asking("").await;
    let operator = world.trusted_key("local", &["audit:read"], TrustLevel::Privileged).await;
    let scoped = world.trusted_key("acme", &["tasks:*"], TrustLevel::Elevated).await;
    let standard = world.trusted_key("acme", &["*"], TrustLevel::Standard).await;
    for key in [&scoped, &standard] {
        for path in ["/v1/audit/entries", "/v1/audit/checkpoint", "/v1/audit/proof?index=0"] {
            let answer = world.ask(key, "GET", path, None).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "insufficient_scope"), "{path}");
        }
    }
    assert_eq!(world.client.get(world.url("/v1/audit/entries")).send().await.unwrap().status(), 401);
    let ledger = world.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.checkpoint()).await.unwrap().unwrap();
    let answer = world.ask(&operator, "GET", "/v1/audit/entries?decision=deny&tenant=acme", None).await;
    let refused = answer.json();
    let first = &refused["data"][0]["entry"];
    assert_eq!((&first["action"], &first["resource"]), (&json!("request"), &json!("GET /v1/audit/entries")));
    assert_eq!(first["trace_id"].as_str().unwrap().len(), 32, "{first}");
    assert_eq!(refused["data"].as_array().unwrap().len(), 6, "{refused}");
}

/// A folder in the place of the file of keys stands for a disk that fails.
#[tokio::test]
async fn while_the_ledger_cannot_be_written_nothing_is_done() {
    let world = World::new().await;
    assert_eq!(world.echo("", "before").await.status, 202);
    let keys = world.ledger.reader().folder().join("keys");
    let away = keys.with_extension("away");
    world.ledger.append_durable(Entry::new(Kind::Task, "task-queued", "echo")).await.unwrap();
    std::fs::rename(&keys, &away).unwrap();
    std::fs::create_dir(&keys).unwrap();
    world.ledger.append_durable(Entry::new(Kind::Task, "task-queued", "echo").by("acme", "new")).await.unwrap_err();

    let refused = world.echo("", "during").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(world.post("/v1/tasks/x/retry", json!({})).await.status, 503);
    // What reads, and what ends something, is done.
    let id = world.newest().await.unwrap();
    assert_eq!(world.get(&format!("/v1/tasks/{id}")).await.status, 200);
    assert_eq!(world.post(&format!("/v1/tasks/{id}/cancel"), json!({})).await.status, 200);

    std::fs::remove_dir(&keys).unwrap();
    std::fs::rename(away, &keys).unwrap();
    loop {
        let answer = world.post("/v1/tasks", task("after")).await;
        match answer.status {
            503 => tokio::task::yield_now().await,
            status => break assert_eq!(status, 202),
        }
    }
}
