//! Tasks in a database: what is acknowledged is there, and what is not is not.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use tokio::sync::Barrier;
use uuid::Uuid;
use witan_database::{Database, Location};
use witan_test_tools::Postgres;

use crate::{Accepted, Delivery, Ended, Filter, INLINE_BYTES, Key, New, Retention, Row, State, Store};

const TIME: u64 = 1_700_000_000_000;

struct World {
    store: Store,
    folder: tempfile::TempDir,
}

async fn world(location: impl FnOnce(&Path) -> Location) -> World {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(location(folder.path())).await.unwrap();
    let store = Store::open(database, folder.path().join("tasks")).await.unwrap();
    World { store, folder }
}

async fn sqlite() -> World {
    world(|folder| Location::Sqlite(folder.join("rows.db"))).await
}

fn row(tenant: &str, at_ms: u64) -> Row {
    let random = Uuid::now_v7().as_u128() & ((1 << 80) - 1);
    Row {
        id: Uuid::from_u128(u128::from(at_ms) << 80 | random),
        tenant: tenant.to_owned(),
        principal: "alice".to_owned(),
        intent: "summarize".to_owned(),
        state: State::Queued,
        priority: 4,
        attempt: 0,
        created_ms: at_ms,
        started_ms: None,
        finished_ms: None,
        context: "{}".to_owned(),
        callback: None,
        metadata: BTreeMap::new(),
    }
}

fn new(row: &Row, input: &[u8]) -> New {
    New { row: row.clone(), input: input.to_vec(), key: None }
}

fn ended(row: &Row, state: State, result: &[u8]) -> Ended {
    Ended { id: row.id, state, at_ms: row.created_ms + 10, result: result.to_vec(), deliveries: Vec::new() }
}

fn files(world: &World) -> usize {
    fs::read_dir(world.folder.path().join("tasks")).unwrap().count()
}

async fn lives_through_its_states(world: World) {
    let store = &world.store;
    let (first, second) = (row("acme", TIME), row("acme", TIME + 1));
    assert_eq!(store.accept(new(&first, b"in\0put")).await.unwrap(), Accepted::New);
    store.accept(new(&second, b"")).await.unwrap();
    assert_eq!(store.unfinished().await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.input(first.id).await.unwrap().unwrap(), b"in\0put");
    assert_eq!(store.get("acme", first.id).await.unwrap().unwrap().result, None);

    store.begin(first.id, 1, TIME + 5, Vec::new()).await.unwrap();
    store.hold(second.id, State::Paused).await.unwrap();
    // What has begun is not held.
    store.hold(first.id, State::Paused).await.unwrap();
    let unfinished = store.unfinished().await.unwrap();
    assert_eq!(unfinished.iter().map(|row| row.state).collect::<Vec<_>>(), [State::Working, State::Paused]);
    assert_eq!((unfinished[0].attempt, unfinished[0].started_ms), (1, Some(TIME + 5)));

    store.end(ended(&first, State::Completed, b"result")).await.unwrap();
    store.end(ended(&first, State::Failed, b"another")).await.unwrap();
    let stored = store.get("acme", first.id).await.unwrap().unwrap();
    assert_eq!((stored.row.state, stored.row.finished_ms), (State::Completed, Some(TIME + 10)));
    assert_eq!(stored.result.unwrap(), b"result");
    assert_eq!(store.input(first.id).await.unwrap(), None);
    assert_eq!(store.unfinished().await.unwrap().len(), 1);
    assert_eq!(store.get("umbrella", first.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_task_lives_through_its_states() {
    lives_through_its_states(sqlite().await).await;
}

#[tokio::test]
async fn a_task_lives_through_its_states_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    lives_through_its_states(world(|_| Location::Postgres(postgres.url())).await).await;
}

#[tokio::test]
async fn tasks_are_listed_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    is_listed(&world(|_| Location::Postgres(postgres.url())).await.store).await;
}

#[tokio::test]
async fn all_that_was_acknowledged_is_there_when_the_database_is_opened_again() {
    let world = sqlite().await;
    let together = Arc::new(Barrier::new(200));
    let accept = |number: u64| {
        let (store, together) = (world.store.clone(), together.clone());
        tokio::spawn(async move {
            let row = row("acme", TIME + number);
            together.wait().await;
            store.accept(new(&row, b"input")).await.unwrap();
            row.id
        })
    };
    let tasks: Vec<_> = (0..200).map(accept).collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    let copy = Database::open(Location::Sqlite(world.folder.path().join("rows.db"))).await.unwrap();
    let again = Store::open(copy, world.folder.path().join("tasks")).await.unwrap();
    let found: Vec<Uuid> = again.unfinished().await.unwrap().iter().map(|row| row.id).collect();
    ids.sort();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn what_is_large_is_a_file_and_goes_with_its_task() {
    let world = sqlite().await;
    let (input, result) = (vec![1; INLINE_BYTES + 1], vec![2; INLINE_BYTES + 1]);
    let (completed, failed) = (row("acme", TIME), row("acme", TIME + 1));
    for row in [&completed, &failed] {
        world.store.accept(new(row, &input)).await.unwrap();
    }
    assert_eq!((files(&world), world.store.input(failed.id).await.unwrap().unwrap()), (2, input.clone()));
    world.store.end(ended(&completed, State::Completed, &result)).await.unwrap();
    world.store.end(ended(&failed, State::Failed, &result)).await.unwrap();
    assert_eq!(world.store.get("acme", completed.id).await.unwrap().unwrap().result.unwrap(), result);
    // One that failed can be tried again.
    assert_eq!(world.store.input(failed.id).await.unwrap().unwrap(), input);
    assert_eq!(files(&world), 3);
    let nothing = Retention { time: Duration::ZERO, number: 0 };
    assert_eq!(world.store.sweep(&nothing, TIME + 100).await.unwrap(), 2);
    assert_eq!(files(&world), 0);
}

#[tokio::test]
async fn a_key_makes_one_task_however_often_and_whoever_is_first() {
    let world = sqlite().await;
    let key = |fingerprint: &str| {
        Some(Key { key: "k".to_owned(), fingerprint: fingerprint.to_owned(), expires_ms: TIME + 1_000 })
    };
    let together = Arc::new(Barrier::new(20));
    let tasks = (0..20).map(|number| {
        let (store, together) = (world.store.clone(), together.clone());
        let new = New { key: key("a"), ..new(&row("acme", TIME + number), b"") };
        tokio::spawn(async move {
            together.wait().await;
            store.accept(new).await.unwrap()
        })
    });
    let mut accepted = 0;
    for task in tasks.collect::<Vec<_>>() {
        accepted += usize::from(task.await.unwrap() == Accepted::New);
    }
    assert_eq!((accepted, world.store.unfinished().await.unwrap().len()), (1, 1));
    let known = world.store.key("k", TIME).await.unwrap().unwrap();
    assert_eq!((known.fingerprint.as_str(), known.task), ("a", world.store.unfinished().await.unwrap()[0].id));
    assert_eq!(world.store.key("k", TIME + 1_000).await.unwrap(), None);
    // Once it has run out, it may be used again.
    let later = New { key: key("b"), ..new(&row("acme", TIME + 1_000), b"") };
    assert_eq!(world.store.accept(later).await.unwrap(), Accepted::New);
}

/// A commit whose answer is lost is made again.
async fn is_accepted_twice(store: &Store) {
    for key in [None, Some(Key { key: "k".to_owned(), fingerprint: "a".to_owned(), expires_ms: TIME + 1_000 })] {
        let mut row = row("acme", TIME);
        row.metadata.insert("ticket".to_owned(), "7".to_owned());
        let new = New { key, ..new(&row, b"input") };
        for _ in 0..2 {
            assert_eq!(store.accept(new.clone()).await.unwrap(), Accepted::New);
        }
        let found = store.get("acme", row.id).await.unwrap().unwrap();
        assert_eq!((found.row.state, store.input(row.id).await.unwrap().unwrap()), (State::Queued, b"input".to_vec()));
    }
    assert_eq!(store.unfinished().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_accepted_is_accepted_again() {
    is_accepted_twice(&sqlite().await.store).await;
}

#[tokio::test]
async fn what_was_accepted_is_accepted_again_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    is_accepted_twice(&world(|_| Location::Postgres(postgres.url())).await.store).await;
}

async fn is_listed(store: &Store) {
    let mut rows = Vec::new();
    for number in 0..6_u64 {
        let mut row = row(if number == 5 { "umbrella" } else { "acme" }, TIME + number);
        row.intent = if number % 2 == 0 { "summarize" } else { "translate" }.to_owned();
        row.metadata.insert("ticket".to_owned(), (number / 2).to_string());
        store.accept(new(&row, b"")).await.unwrap();
        rows.push(row);
    }
    store.end(ended(&rows[0], State::Failed, b"")).await.unwrap();
    let list = async |filter: &Filter, limit, after| {
        let page = store.list("acme", filter, limit, after).await.unwrap();
        let at = |id| rows.iter().position(|row| row.id == id).unwrap();
        (page.rows.iter().map(|row| at(row.id)).collect::<Vec<_>>(), page.more)
    };
    let all = Filter::default();
    assert_eq!(list(&all, 3, None).await, (vec![4, 3, 2], true));
    assert_eq!(list(&all, 3, Some(rows[2].id)).await, (vec![1, 0], false));
    assert_eq!(list(&Filter { state: Some(State::Failed), ..all.clone() }, 9, None).await.0, [0]);
    assert_eq!(list(&Filter { intent: Some("translate".into()), ..all.clone() }, 9, None).await.0, [3, 1]);
    let between = Filter { created_from_ms: Some(TIME + 1), created_before_ms: Some(TIME + 4), ..Filter::default() };
    assert_eq!(list(&between, 9, None).await.0, [3, 2, 1]);
    let ticket =
        |value: Option<&str>| Filter { metadata: Some(("ticket".into(), value.map(Into::into))), ..Filter::default() };
    assert_eq!(list(&ticket(Some("1")), 9, None).await.0, [3, 2]);
    assert_eq!(list(&ticket(None), 2, Some(rows[4].id)).await, (vec![3, 2], true));
    let none = Filter { metadata: Some(("other".into(), None)), ..Filter::default() };
    assert!(list(&none, 9, None).await.0.is_empty());
}

#[tokio::test]
async fn tasks_are_listed_by_tenant_and_what_is_asked_for() {
    is_listed(&sqlite().await.store).await;
}

#[tokio::test]
async fn ended_tasks_are_kept_for_a_time_and_up_to_a_number_of_each_tenant() {
    let world = sqlite().await;
    let store = &world.store;
    for number in 0..10 {
        for tenant in ["acme", "umbrella"] {
            let row = row(tenant, TIME + number * 100);
            store.accept(new(&row, b"")).await.unwrap();
            if tenant == "acme" || number < 3 {
                store.end(ended(&row, State::Completed, b"")).await.unwrap();
            }
        }
    }
    let kept = async |tenant| store.list(tenant, &Filter::default(), 100, None).await.unwrap().rows.len();
    let sweep = async |time, number| {
        let retention = Retention { time: Duration::from_millis(time), number };
        store.sweep(&retention, TIME + 1_000).await.unwrap()
    };
    assert_eq!((sweep(10_000, 4).await, kept("acme").await, kept("umbrella").await), (6, 4, 10));
    // The first of umbrella's ended 990 ms ago; what has not ended stays.
    assert_eq!((sweep(900, 100).await, kept("umbrella").await), (1, 9));
    assert_eq!((sweep(0, 100).await, kept("acme").await, kept("umbrella").await), (6, 0, 7));
}

#[tokio::test]
async fn what_is_to_be_delivered_comes_with_the_end_and_stays_until_it_has_arrived() {
    let world = sqlite().await;
    let task = row("acme", TIME);
    world.store.accept(new(&task, b"")).await.unwrap();
    let delivery = Delivery {
        id: Uuid::now_v7(),
        tenant: "acme".into(),
        task: task.id,
        body: "{}".into(),
        attempts: 0,
        created_ms: TIME,
        due_ms: TIME,
    };
    let end = Ended { deliveries: vec![delivery.clone()], ..ended(&task, State::Failed, b"") };
    world.store.end(end.clone()).await.unwrap();
    assert_eq!(world.store.next_deliveries("acme", 9).await.unwrap(), std::slice::from_ref(&delivery));
    world.store.postpone(delivery.id, 1, TIME + 50).await.unwrap();
    assert_eq!(
        world.store.next_deliveries("acme", 9).await.unwrap(),
        [Delivery { attempts: 1, due_ms: TIME + 50, ..delivery.clone() }]
    );
    world.store.delivered(delivery.id).await.unwrap();
    // An end that is told twice is one end.
    world.store.end(end).await.unwrap();
    assert!(world.store.next_deliveries("acme", 9).await.unwrap().is_empty());
}

async fn deliveries_are_asked_for_by_tenant(store: &Store) {
    let make = |tenant: &str, due_ms: u64| Delivery {
        id: Uuid::now_v7(),
        tenant: tenant.to_owned(),
        task: Uuid::now_v7(),
        body: "{}".into(),
        attempts: 0,
        created_ms: TIME,
        due_ms,
    };
    assert_eq!(store.delivering().await.unwrap(), []);
    let made = [make("acme", TIME + 2), make("acme", TIME + 1), make("umbrella", TIME), make("acme", TIME + 3)];
    store.deliver(made.to_vec()).await.unwrap();
    let whose = |tenant: &str, due_ms| (tenant.to_owned(), due_ms);
    assert_eq!(store.delivering().await.unwrap(), [whose("acme", TIME + 1), whose("umbrella", TIME)]);
    assert_eq!(store.next_deliveries("acme", 2).await.unwrap(), [made[1].clone(), made[0].clone()]);
    assert_eq!(store.next_deliveries("nobody", 2).await.unwrap(), []);
    assert!(store.delivers("acme", 3).await.unwrap() && !store.delivers("acme", 4).await.unwrap());
    assert!(!store.delivers("nobody", 1).await.unwrap());
    store.delivered(made[2].id).await.unwrap();
    assert_eq!(store.delivering().await.unwrap(), [whose("acme", TIME + 1)]);
}

#[tokio::test]
async fn deliveries_are_asked_for_tenant_by_tenant() {
    deliveries_are_asked_for_by_tenant(&sqlite().await.store).await;
}

#[tokio::test]
async fn deliveries_are_asked_for_tenant_by_tenant_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    deliveries_are_asked_for_by_tenant(&world(|_| Location::Postgres(postgres.url())).await.store).await;
}

#[tokio::test]
async fn no_query_of_a_busy_host_reads_all_rows() {
    let world = sqlite().await;
    let pool = world.store.0.database.pool();
    for (query, index) in [
        ("SELECT * FROM task WHERE finished_ms IS NULL ORDER BY id", "task_unfinished"),
        ("SELECT * FROM task WHERE tenant = 'a' AND id < 'b' ORDER BY id DESC LIMIT 9", "task_of"),
        ("SELECT * FROM task WHERE tenant = 'a' AND state = 'failed' ORDER BY id DESC LIMIT 9", "task_state"),
        ("SELECT * FROM task WHERE tenant = 'a' AND finished_ms <= 5 ORDER BY finished_ms LIMIT 9", "task_finished"),
        ("SELECT id FROM task_delivery WHERE tenant = 'a' ORDER BY due_ms LIMIT 9", "task_delivery_of"),
        ("SELECT MIN(due_ms) FROM task_delivery WHERE tenant = 'a'", "task_delivery_of"),
        ("SELECT MIN(tenant) FROM task_delivery WHERE tenant > 'a'", "task_delivery_of"),
        ("SELECT MIN(tenant) FROM task WHERE tenant > 'a'", "task_"),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
        let rows = sqlx::query(explain).fetch_all(pool).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
        assert!(plan[0].contains(index) && !plan.iter().any(|step| step.contains("TEMP B-TREE")), "{query}: {plan:?}");
    }
}
