//! The ledger over HTTP.

use serde_json::json;
use witan_api::{AuditCheckpoint, AuditConsistency, AuditEntry, AuditInclusion, List};
use witan_ledger::{Entry, HostKeys, Kind, TimedCheckpoint};

use crate::world::World;

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
async fn before_the_first_entry_there_is_no_checkpoint() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/audit/checkpoint").await.code(), "not_found");
    assert_eq!(world.get("/v1/audit/entries").await.json()["data"], json!([]));
}
