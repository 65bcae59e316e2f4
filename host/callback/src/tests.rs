//! Who is told, who is not, and what happens until it has arrived.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use uuid::Uuid;
use witan_database::{Database, Location};
use witan_egress::{Egress, Observer, Outcome, Sent};
use witan_events::{Bus, What};
use witan_secrets::{KeySource, Sealer};
use witan_task_store::{Delivery, Store};

use crate::{
    Callback, CallbackError, Deliverer, Secret, SendError, Sender, Settings, Unreached, deliveries,
    signature::signature,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn public(address: IpAddr) -> bool {
    !address.is_loopback()
}

fn settings(hosts: &[&str]) -> Settings {
    Settings {
        is_public: public,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        egress: Default::default(),
    }
}

fn callback(url: &str) -> Callback {
    Callback { url: url.to_owned(), secret: None, events: Vec::new() }
}

#[test]
fn only_public_hosts_are_told_unless_they_are_named() {
    let check = |url: &str, hosts: &[&str]| callback(url).check(&settings(hosts));
    assert_eq!(check("https://example.com/hook?a=1", &[]), Ok(()));
    assert_eq!(check("http://example.com/", &[]), Err(CallbackError::Scheme));
    assert_eq!(check("ftp://example.com/", &["example.com"]), Err(CallbackError::Scheme));
    for none in ["", "example.com", "https://", "https://user@example.com/", "https://:p@example.com/"] {
        assert_eq!(check(none, &[]), Err(CallbackError::Url), "{none}");
    }
    for private in ["https://127.0.0.1/", "https://[::1]/", "https://0x7f.1/", "https://2130706433/"] {
        assert!(matches!(check(private, &[]), Err(CallbackError::Private(_))), "{private}");
    }
    assert_eq!(check("http://127.0.0.1:9/", &["127.0.0.1"]), Ok(()));
    assert_eq!(check("http://127.0.0.1:9/", &["127.0.0.1:9"]), Ok(()));
    assert_eq!(check("http://127.0.0.1:8/", &["127.0.0.1:9"]), Err(CallbackError::Scheme));
}

#[test]
fn a_secret_is_one_and_is_never_shown() {
    let with = |secret: &str| Callback { secret: Some(Secret::new(secret)), ..callback("https://example.com") };
    assert_eq!(with(SECRET).check(&settings(&[])), Ok(()));
    for none in ["", "secret", "whsec_", "whsec_MfKQ9r8GKYqrTwjU", "whsec_!", &SECRET[6..]] {
        assert_eq!(with(none).check(&settings(&[])), Err(CallbackError::Secret), "{none}");
    }
    assert!(!format!("{:?}", with(SECRET)).contains("MfKQ"));
}

#[test]
fn what_is_told_is_what_was_asked_for() {
    let asking = |events: &[&str]| Callback {
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        ..callback("https://example.com")
    };
    assert!(asking(&[]).tells("task.failed") && !asking(&[]).tells("task.started"));
    assert!(asking(&["task.started"]).tells("task.started") && !asking(&["task.started"]).tells("task.failed"));
    assert_eq!(asking(&["task.progress"]).check(&settings(&[])), Err(CallbackError::Events));
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let sender = Sender::new(settings(&[])).unwrap();
    assert_eq!(callback(&url).check(sender.settings()), Ok(()));
    let delivery = Delivery {
        id: Uuid::now_v7(),
        tenant: "acme".to_owned(),
        task: Uuid::now_v7(),
        body: String::new(),
        attempts: 0,
        created_ms: 0,
        due_ms: 0,
    };
    let refused = sender.send(&callback(&url), &delivery, "{}").await.unwrap_err();
    assert!(matches!(&refused, SendError::Unreachable(Unreached::Private)), "{refused:?}");
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "it was connected to");
}

/// Answers each request with the next of `statuses`, and gives what was sent.
async fn server(statuses: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                assert!(read > 0);
                request.extend_from_slice(&bytes[..read]);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nlocation: /other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    });
    (host, served)
}

pub(crate) struct World {
    store: Store,
    folder: tempfile::TempDir,
    bus: Bus,
}

pub(crate) async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    World { store, folder, bus: Bus::new() }
}

async fn open(folder: &std::path::Path) -> Store {
    let database = Database::open(Location::Sqlite(folder.join("rows.db"))).await.unwrap();
    Store::open(database, folder.join("tasks")).await.unwrap()
}

impl World {
    fn sealer(&self) -> Sealer {
        let folder = self.folder.path();
        Sealer::new(witan_secrets::Store::new(folder, KeySource::Own(folder.join("secrets.key"))))
    }

    pub(crate) async fn deliver(&self, callback: &Callback) -> Uuid {
        self.deliver_for("acme", callback).await
    }

    async fn deliver_for(&self, tenant: &str, callback: &Callback) -> Uuid {
        let data = serde_json::json!({ "id": "t" });
        let task = Uuid::now_v7();
        let callback = callback.clone().sealed(task, &self.sealer()).await.unwrap();
        let made = deliveries(Some(&callback), (tenant, "alice"), task, "task.completed", 7, &data);
        // As if it were made now: what is a day old is given up.
        let made: Vec<_> = made.into_iter().map(|one| Delivery { created_ms: u64::MAX >> 2, ..one }).collect();
        let id = made[0].id;
        self.store.deliver(made).await.unwrap();
        id
    }

    fn start(&self, hosts: &[&str]) -> tokio::task::JoinHandle<()> {
        self.start_with(hosts, Duration::from_millis(5))
    }

    fn start_with(&self, hosts: &[&str], first_wait: Duration) -> tokio::task::JoinHandle<()> {
        self.start_by(Sender::new(settings(hosts)).unwrap(), first_wait)
    }

    pub(crate) fn start_by(&self, sender: Sender, first_wait: Duration) -> tokio::task::JoinHandle<()> {
        let deliverer = Deliverer::new(self.store.clone(), sender, self.bus.clone(), self.sealer());
        tokio::spawn(deliverer.first_wait(first_wait).run())
    }

    pub(crate) async fn until_nothing_is_left(&self) {
        while !self.store.delivering().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no `{name}` in {request}")).split_once(": ").unwrap().1
}

#[tokio::test]
async fn it_is_sent_until_it_is_taken_with_one_id_and_a_signature() {
    let world = world().await;
    let (host, served) = server(&["500 No", "302 Found", "204 Taken"]).await;
    let secret = Secret::new(SECRET);
    let told = Callback { secret: Some(secret.clone()), ..callback(&format!("http://{host}/hook")) };
    let id = world.deliver(&told).await.to_string();
    let running = world.start(&[&host]);
    let requests = served.await.unwrap();
    world.until_nothing_is_left().await;
    running.abort();
    for request in &requests {
        assert!(request.starts_with("POST /hook "), "a redirect was followed: {request}");
        assert_eq!(header(request, "webhook-id"), id);
        let timestamp = header(request, "webhook-timestamp").parse().unwrap();
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, r#"{"type":"task.completed","timestamp_ms":7,"data":{"id":"t"}}"#);
        assert_eq!(header(request, "webhook-signature"), signature(&secret.key().unwrap(), &id, timestamp, body));
    }
}

/// What is told of the host's own requests.
#[derive(Default)]
struct Watch(Mutex<Vec<(u32, Option<bool>, Outcome)>>);

impl Observer for Watch {
    fn observe(&self, sent: &Sent<'_>) {
        let cause = sent.cause.unwrap();
        assert_eq!((cause.tenant, cause.principal), ("acme", Some("alice")));
        self.0.lock().unwrap().push((cause.tries, cause.delivered, sent.outcome));
    }
}

#[tokio::test]
async fn of_a_delivery_the_first_try_and_the_last_are_told() {
    let world = world().await;
    let (host, served) = server(&["500 No", "500 No", "500 No", "204 Taken", "503 No", "503 No", "410 Gone"]).await;
    let watch = Arc::new(Watch::default());
    let egress = Egress::default().observed(watch.clone());
    let sender = Sender::new(Settings { egress, ..settings(&[&host]) }).unwrap();
    let deliverer = Deliverer::new(world.store.clone(), sender, world.bus.clone(), world.sealer());
    let running = tokio::spawn(deliverer.first_wait(Duration::from_millis(5)).run());
    for _ in 0..2 {
        world.deliver(&callback(&format!("http://{host}/"))).await;
        world.until_nothing_is_left().await;
    }
    // It may not be told any more, so nothing is sent.
    world.deliver(&callback("http://127.0.0.1:9/")).await;
    world.until_nothing_is_left().await;
    served.await.unwrap();
    running.abort();
    let told = [
        (1, None, Outcome::Answered(500)),
        (4, Some(true), Outcome::Answered(204)),
        (1, None, Outcome::Answered(503)),
        (3, Some(false), Outcome::Answered(410)),
        (1, Some(false), Outcome::Unsent),
    ];
    assert_eq!(*watch.0.lock().unwrap(), told);
}

#[tokio::test]
async fn a_host_that_starts_again_goes_on() {
    let world = world().await;
    let (host, served) = server(&["500 No", "200 OK"]).await;
    let id = world.deliver(&callback(&format!("http://{host}/"))).await;
    // Nothing is tried again before the host ends.
    let running = world.start_with(&[&host], Duration::from_secs(3_600));
    while world.store.next_deliveries("acme", 1).await.unwrap()[0].attempts == 0 {
        tokio::task::yield_now().await;
    }
    running.abort();
    let again = World { store: open(world.folder.path()).await, folder: world.folder, bus: Bus::new() };
    assert_eq!(again.store.next_deliveries("acme", 1).await.unwrap()[0].id, id);
    again.store.postpone(id, 1, 0).await.unwrap();
    let running = again.start(&[&host]);
    served.await.unwrap();
    again.until_nothing_is_left().await;
    running.abort();
}

#[tokio::test]
async fn what_wants_no_more_or_may_not_be_told_any_more_is_given_up_aloud() {
    let world = world().await;
    let (host, served) = server(&["410 Gone"]).await;
    let mut events = world.bus.subscribe("acme", None);
    world.deliver(&callback(&format!("http://{host}/"))).await;
    // It was named when it was accepted, and is not now.
    world.deliver(&callback("http://127.0.0.1:9/")).await;
    let running = world.start(&[&host]);
    served.await.unwrap();
    world.until_nothing_is_left().await;
    running.abort();
    for _ in 0..2 {
        let event = events.next().await.unwrap();
        assert!(matches!(&event.what, What::CallbackFailed(failed) if failed.attempts == 1), "{event:?}");
        assert_eq!(event.tenant.as_deref(), Some("acme"));
    }
}

proptest! {
    #[test]
    fn any_callback_is_good_or_refused(url in ".{0,100}", secret in "(whsec_)?[A-Za-z0-9+/=]{0,100}", event in ".{0,20}") {
        let one = Callback { url, secret: Some(Secret::new(secret)), events: vec![event] };
        let _refused = one.check(&settings(&[]));
        if let Ok((url, named)) = one.target(&settings(&[])) {
            prop_assert!(!named && url.scheme() == "https" && url.host().is_some());
        }
    }
}

#[tokio::test]
async fn what_was_stored_open_is_sealed_and_what_does_not_open_is_tried_again() {
    let world = world().await;
    let (task, sealer) = (Uuid::now_v7(), world.sealer());
    let open = Callback { secret: Some(Secret::new(SECRET)), ..callback("https://example.com") };
    let made = deliveries(Some(&open), ("acme", "alice"), task, "task.completed", 7, &serde_json::json!({}));
    let body = crate::sealed(&made[0].body, task, &sealer).await.unwrap().unwrap();
    assert!(made[0].body.contains("MfKQ") && !body.contains("MfKQ"));
    assert_eq!(crate::sealed(&body, task, &sealer).await.unwrap(), None);
    let sealed = open.clone().sealed(task, &sealer).await.unwrap();
    assert_eq!(sealed.clone().opened(task, &sealer).await.unwrap(), open);
    // That of another task is none of this one.
    let error = sealed.opened(Uuid::now_v7(), &sealer).await.unwrap_err();
    assert!(SendError::Sealed(error).retryable());
}

#[tokio::test]
async fn a_tenant_whose_server_never_answers_holds_up_nobody_else() {
    let world = world().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_host = silent.local_addr().unwrap().to_string();
    for _ in 0..40 {
        world.deliver(&callback(&format!("http://{silent_host}/"))).await;
    }
    let (host, mut served) = server(&["200 OK"]).await;
    let sender = Sender::new(settings(&[&silent_host, &host])).unwrap();
    let deliverer = Deliverer::new(world.store.clone(), sender, world.bus.clone(), world.sealer());
    let running = tokio::spawn(deliverer.clone().run());
    let mut held = Vec::new();
    while held.len() < 8 {
        held.push(silent.accept().await.unwrap());
    }
    world.deliver_for("umbrella", &callback(&format!("http://{host}/"))).await;
    deliverer.more();
    // Not once these have timed out and given their places back.
    loop {
        tokio::select! {
            biased;
            accepted = silent.accept() => held.push(accepted.unwrap()),
            requests = &mut served => break assert_eq!(requests.unwrap().len(), 1),
        }
        assert!(held.len() <= 8, "one tenant has more than its share");
    }
    running.abort();
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_sent_again() {
    let world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    world.deliver(&callback(&format!("http://{host}/"))).await;
    let path = world.folder.path().join("rows.db");
    let rows = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let full = "CREATE TRIGGER full BEFORE DELETE ON task_delivery BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    sqlx::query(full).execute(&rows).await.unwrap();
    let running = world.start(&[&host]);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4096];
    while !bytes.contains(&b'}') {
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(again.is_err(), "it was sent again");
    sqlx::query("DROP TRIGGER full").execute(&rows).await.unwrap();
    world.until_nothing_is_left().await;
    running.abort();
}

#[tokio::test]
async fn there_is_room_for_so_many_of_a_tenant() {
    let world = world().await;
    let one = |number: u64| Delivery {
        id: Uuid::now_v7(),
        tenant: "acme".to_owned(),
        task: Uuid::now_v7(),
        body: String::new(),
        attempts: 0,
        created_ms: 0,
        due_ms: number,
    };
    let deliverer =
        Deliverer::new(world.store.clone(), Sender::new(settings(&[])).unwrap(), world.bus.clone(), world.sealer());
    world.store.deliver((0..9_999).map(one).collect()).await.unwrap();
    assert!(deliverer.takes("acme").await.unwrap());
    world.store.deliver(vec![one(0)]).await.unwrap();
    assert!(!deliverer.takes("acme").await.unwrap());
    assert!(deliverer.takes("umbrella").await.unwrap());
}
