//! Events and WebSockets.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use witan_api::{Requests, Settings};
use witan_events::{PolicyReloaded, TaskFailed, What};
use witan_throttle::{GateSettings, Rates};

use crate::world::{Answer, World, bearer, task};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(world: &World, path: &str) -> Self {
        Self(connect_async(format!("ws://{}{path}", world.address)).await.unwrap().0)
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, or the code that it was closed with.
    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return Err(frame.unwrap().code.into()),
                _ => {}
            }
        }
    }

    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next().await.unwrap();
            if fits(&message) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn a_client_subscribes_to_tasks_and_events_and_leaves_them() {
    let world = World::new().await;
    let id = world.echo("", "wait").await.json()["id"].clone();
    let mut socket = Socket::open(&world, "/v1/ws").await;
    socket.say(&json!({"type": "subscribe", "id": "t", "task": id})).await;
    socket.say(&json!({"type": "subscribe", "id": "e", "events": ["task.completed", "policy.*"]})).await;
    socket.until(|message| message["type"] == "subscribed" && message["subscription"] == "e").await;
    let again = json!({"type": "subscribe", "id": "t", "task": id});
    socket.say(&again).await;
    socket.until(|message| message["type"] == "error" && message["error"]["param"] == "id").await;
    world.permits.add_permits(1);
    let ended = socket.until(|message| message["type"] == "envelope").await;
    assert_eq!((&ended["subscription"], &ended["envelope"]["task_id"]), (&json!("t"), &id));
    // Once it has ended, its name is free.
    socket.say(&json!({"type": "unsubscribe", "id": "e"})).await;
    socket.until(|message| message["type"] == "unsubscribed").await;
    world.tasks.bus().publish(None, What::PolicyReloaded(PolicyReloaded { version: "2".into() }));
    socket.say(&again).await;
    let next = socket.until(|message| message["type"] != "task_event" && message["subscription"] != "e").await;
    assert!(["subscribed", "envelope"].contains(&next["type"].as_str().unwrap()), "{next}");
}

#[tokio::test]
async fn a_subscription_is_decided_as_a_request_is() {
    let world = World::new().await;
    let id = world.echo("", "wait").await.json()["id"].clone();
    let mut socket = Socket::open(&world, "/v1/ws").await;
    let rules = "permit (principal, action, resource);
        forbid (principal, action in [Action::\"task.read\", Action::\"event.read\"], resource);";
    assert_eq!(world.policies(rules).await.status, 200);
    for subscribe in
        [json!({"type": "subscribe", "id": "t", "task": id}), json!({"type": "subscribe", "id": "e", "events": ["*"]})]
    {
        socket.say(&subscribe).await;
        let said = socket.next().await.unwrap();
        assert_eq!((&said["type"], &said["error"]["code"]), (&json!("error"), &json!("denied")), "{said}");
    }
    let refused = connect_async(format!("ws://{}/v1/tasks/{}/ws", world.address, id.as_str().unwrap())).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
}

#[tokio::test]
async fn what_is_no_command_is_an_error_and_the_socket_stays_open() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/v1/ws").await;
    for wrong in [
        json!([]),
        json!({"type": "subscribe", "id": "a", "events": ["none"]}),
        json!({"type": "unsubscribe", "id": "a"}),
        json!({"type": "subscribe", "id": "a", "task": "00000000-0000-7000-8000-000000000000"}),
    ] {
        socket.say(&wrong).await;
        assert_eq!(socket.next().await.unwrap()["type"], "error", "{wrong}");
    }
    for number in 0..33 {
        socket.say(&json!({"type": "subscribe", "id": number.to_string(), "events": ["*"]})).await;
        let answer = socket.next().await.unwrap();
        assert_eq!(answer["type"], if number < 32 { "subscribed" } else { "error" }, "{answer}");
    }
    // One that is too large ends it.
    let _cut = socket.0.send(Message::text("a".repeat(20_000))).await;
    assert!(loop {
        match socket.0.next().await {
            None | Some(Err(_) | Ok(Message::Close(_))) => break true,
            Some(Ok(_)) => {}
        }
    });
    let plain = world.get("/v1/ws").await;
    assert_eq!((plain.status, plain.code().as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn a_socket_of_one_task_closes_with_it_and_with_the_host() {
    let mut world = World::new().await;
    let location = world.echo("", "wait").await.header("location").unwrap().to_owned();
    let mut ends = Socket::open(&world, &format!("{location}/ws")).await;
    ends.until(|message| message["event"]["type"] == "progress").await;
    world.permits.add_permits(1);
    ends.until(|message| message["type"] == "envelope").await;
    assert_eq!(ends.next().await, Err(1000));
    assert!(connect_async(format!("ws://{}/v1/tasks/none/ws", world.address)).await.is_err());

    let mut stays = Socket::open(&world, "/v1/ws").await;
    stays.say(&json!({"type": "subscribe", "id": "a", "events": ["*"]})).await;
    stays.next().await.unwrap();
    world.stop();
    assert_eq!(stays.next().await, Err(1001));
    world.served.await.unwrap();
}

#[tokio::test]
async fn a_page_of_another_origin_opens_no_socket() {
    let world = World::new().await;
    let handshake = world.client.get(world.url("/v1/ws")).header("origin", "http://evil.example");
    let handshake = handshake.header("connection", "upgrade").header("upgrade", "websocket");
    let handshake =
        handshake.header("sec-websocket-version", "13").header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    let answer = Answer::of(handshake.send().await.unwrap()).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "origin_not_allowed"));
}

async fn read_until(response: &mut reqwest::Response, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        seen += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    seen
}

#[tokio::test]
async fn events_are_told_by_type_and_to_their_tenant_alone_and_go_on_where_a_client_was() {
    let world = World::new().await;
    let mut response = world.client.get(world.url("/v1/events?types=task.*")).send().await.unwrap();
    let id = world.echo("?wait=60", "hello").await.json()["task_id"].as_str().unwrap().to_owned();
    let failed = |tenant: &str| {
        let task = uuid::Uuid::nil();
        let what = TaskFailed { task, intent: "secret".into(), code: "failed".into(), latency_ms: 1 };
        world.tasks.bus().publish(Some(tenant), What::TaskFailed(what));
    };
    failed("another");
    world.tasks.bus().publish(None, What::PolicyReloaded(PolicyReloaded { version: "2".into() }));
    world.echo("?wait=60", "failed").await;
    let seen = read_until(&mut response, "event: task.failed").await;
    let names: Vec<&str> = seen.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(&names[..4], ["task.created", "task.started", "task.progress", "task.completed"]);
    assert!(seen.contains(&id) && !seen.contains("secret") && !seen.contains("policy"), "{seen}");

    let ids: Vec<&str> = seen.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let again = world.client.get(world.url("/v1/events")).header("last-event-id", ids[2]);
    let rest = read_until(&mut again.send().await.unwrap(), "event: task.failed").await;
    assert!(rest.contains("event: task.completed") && rest.contains("policy.reloaded"), "{rest}");
    assert!(!rest.contains("event: task.created\nid: 1") && !rest.contains("event: gap"), "{rest}");
    let lost = world.client.get(world.url("/v1/events?starting_after=1"));
    assert!(read_until(&mut lost.send().await.unwrap(), "task.created").await.contains("event: gap"));

    assert_eq!(world.get("/v1/events?types=none").await.code(), "invalid_request");
    let schemas = world.get("/v1/events/schemas").await.json();
    assert!(schemas["task.completed"]["properties"]["latency_ms"].is_object(), "{schemas}");
}

#[tokio::test]
async fn a_callback_is_told_and_a_local_only_task_has_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let world = World::calling(&host).await;
    let mut asked = task("hello");
    asked["callback"] = json!({"url": format!("http://{host}/hook"), "events": ["task.completed"]});
    let id = world.post("/v1/tasks", asked.clone()).await.json()["id"].as_str().unwrap().to_owned();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut told = String::new();
    while !told.ends_with('}') {
        let mut bytes = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.unwrap();
        told += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    assert!(told.contains(&id) && told.contains("\"task.completed\""), "{told}");
    asked["privacy"] = json!("local-only");
    let refused = world.post("/v1/tasks", asked.clone()).await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("callback")));
    asked["privacy"] = json!("standard");
    asked["callback"]["url"] = json!("https://169.254.169.254/latest/meta-data");
    assert_eq!(world.post("/v1/tasks", asked).await.json()["error"]["param"], "callback");
}

/// What comes until the end of the answer.
async fn rest(mut response: reqwest::Response) -> String {
    let mut seen = String::new();
    while let Some(bytes) = response.chunk().await.unwrap() {
        seen += std::str::from_utf8(&bytes).unwrap();
    }
    seen
}

#[tokio::test]
async fn what_is_followed_ends_with_the_credential_and_no_sooner() {
    let world = World::asking("").await;
    let scopes = ["tasks:*", "events:read"];
    let [first, second] = [world.key("acme", &scopes).await, world.key("acme", &scopes).await];
    let third = world.key("other", &scopes).await;
    let submit = async |key: &str| {
        let request = world.client.post(world.url("/v1/tasks")).bearer_auth(key).json(&task("wait"));
        Answer::of(request.send().await.unwrap()).await.json()["id"].as_str().unwrap().to_owned()
    };
    let follow = async |key: &str, path: &str| {
        let response = world.client.get(world.url(path)).bearer_auth(key).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    };
    let socket = async |key: &str| {
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
            "ws://{}/v1/ws",
            world.address
        ))
        .unwrap();
        request.headers_mut().insert("authorization", bearer(key));
        Socket(connect_async(request).await.unwrap().0)
    };
    let id = submit(&first).await;
    let path = format!("/v1/tasks/{id}/events");
    let [ends, all, stays] =
        [follow(&first, &path).await, follow(&first, "/v1/events").await, follow(&second, &path).await];
    let (mut closes, mut open) = (socket(&first).await, socket(&second).await);
    let directory = world.identities.directory();
    directory.revoke_key(None, world.key_of(&first).await, "test").await.unwrap();
    for told in [rest(ends).await, rest(all).await] {
        let last = told.split("event: ").last().unwrap();
        assert!(last.starts_with("cut_off") && last.contains("\"unauthorized\"") && !told.contains(&first), "{told}");
    }
    assert_eq!(closes.next().await.unwrap()["error"]["code"], "unauthorized");
    assert_eq!(closes.next().await, Err(1008));
    // Another key of the tenant is what it was.
    open.say(&json!({"type": "subscribe", "id": "t", "task": id})).await;
    assert_eq!(open.next().await.unwrap()["type"], "subscribed");
    world.permits.add_permits(1);
    let told = rest(stays).await;
    assert!(told.contains("event: envelope") && !told.contains("cut_off"), "{told}");

    let theirs = follow(&third, &format!("/v1/tasks/{}/events", submit(&third).await)).await;
    directory.disable_tenant(&"other".parse().unwrap(), true, "test").await.unwrap();
    let told = rest(theirs).await;
    assert!(told.contains("event: cut_off") && !told.contains("event: envelope"), "{told}");
}

/// What those may follow who may do everything but read tasks.
const NO_TASKS: &str = "permit (principal, action, resource);
    @reason(\"not now\") forbid (principal, action == Action::\"task.read\", resource);";
const NO_EVENTS: &str = "permit (principal, action, resource);
    forbid (principal, action == Action::\"event.read\", resource);";

#[tokio::test]
async fn what_is_followed_is_decided_anew_with_each_policy() {
    let world = World::new().await;
    let id = world.echo("", "wait").await.json()["id"].as_str().unwrap().to_owned();
    let follow = async |path: String| world.client.get(world.url(&path)).send().await.unwrap();
    let task_events = follow(format!("/v1/tasks/{id}/events")).await;
    let mut events = follow("/v1/events?types=task.*,policy.*".to_owned()).await;
    let mut single = Socket::open(&world, &format!("/v1/tasks/{id}/ws")).await;
    let mut socket = Socket::open(&world, "/v1/ws").await;
    socket.say(&json!({"type": "subscribe", "id": "t", "task": id})).await;
    socket.say(&json!({"type": "subscribe", "id": "e", "events": ["task.*"]})).await;
    socket.until(|message| message["type"] == "subscribed" && message["subscription"] == "e").await;
    // The same rules, once more: whoever was allowed is.
    assert_eq!(world.policies("permit (principal, action, resource);").await.status, 200);

    assert_eq!(world.policies(NO_TASKS).await.status, 200);
    let told = rest(task_events).await;
    let last = told.split("event: ").last().unwrap();
    assert!(last.starts_with("cut_off") && last.contains("\"denied\"") && last.contains("not now"), "{told}");
    assert!(last.contains("\"decision\":\""), "{told}");
    single.until(|message| message["error"]["code"] == "denied").await;
    assert_eq!(single.next().await, Err(1008));
    let refused = socket.until(|message| message["type"] == "error").await;
    assert_eq!((&refused["subscription"], &refused["error"]["code"]), (&json!("t"), &json!("denied")));

    // What may be followed still goes on, on the same socket too.
    world.permits.add_permits(1);
    read_until(&mut events, "event: task.completed").await;
    let ended = socket.until(|message| message["event"]["type"] == "task.completed").await;
    assert_eq!(ended["subscription"], "e");
    // And ends with its own.
    assert_eq!(world.policies(NO_EVENTS).await.status, 200);
    let told = rest(events).await;
    let last = told.split("event: ").last().unwrap();
    assert!(last.starts_with("cut_off") && last.contains("\"denied\""), "{told}");
    let refused = socket.until(|message| message["type"] == "error").await;
    assert_eq!((&refused["subscription"], &refused["error"]["code"]), (&json!("e"), &json!("denied")));
    // A version that is put back is one that comes.
    let task_events =
        follow(format!("/v1/tasks/{}/events", world.echo("", "wait").await.json()["id"].as_str().unwrap()));
    let task_events = task_events.await;
    assert_eq!(world.post("/v1/policies/rollback", json!({})).await.status, 200);
    assert!(rest(task_events).await.contains("\"denied\""));
}

#[tokio::test]
async fn commands_are_held_to_the_rates_of_requests() {
    let user = Rates { per_minute: Some(4), ..Rates::default() };
    let settings = witan_throttle::Settings { user, ..Default::default() };
    let world = World::limited(Requests::new(settings, GateSettings::default())).await;
    let mut socket = Socket::open(&world, "/v1/ws").await;
    let command = json!({"type": "unsubscribe", "id": "a"});
    for left in (0..3).rev() {
        socket.say(&command).await;
        let said = socket.next().await.unwrap();
        assert_eq!(said["error"]["code"], "invalid_request", "{left} are left");
    }
    for _ in 0..16 {
        socket.say(&command).await;
        let said = socket.next().await.unwrap();
        assert_eq!((&said["type"], &said["error"]["code"]), (&json!("error"), &json!("rate_limited")), "{said}");
        let wait = said["retry_after_ms"].as_u64().unwrap();
        assert!((1..=15_000).contains(&wait), "{said}");
    }
    assert_eq!(socket.next().await, Err(1008), "who does not wait is let go");
    // It is one bucket for both.
    assert_eq!(world.get("/v1/host").await.status, 429);
}

#[tokio::test]
async fn a_tenant_has_a_share_of_all_that_is_followed() {
    let world = World::bounded(Settings { streams: 8, ..Settings::default() }).await;
    let id = world.echo("", "wait").await.json()["id"].as_str().unwrap().to_owned();
    let follow = async |path: &str| world.client.get(world.url(path)).send().await.unwrap();
    let mut client = witan_grpc::v1::tasks_client::TasksClient::new(crate::grpc::channel(&world).await);
    let stream = witan_grpc::v1::StreamRequest { id: id.clone(), starting_after: 3 };
    let events = format!("/v1/tasks/{id}/events");
    let mut held = vec![follow("/v1/events").await, follow(&events).await, follow(&events).await];
    let sockets = [Socket::open(&world, "/v1/ws").await, Socket::open(&world, &format!("/v1/tasks/{id}/ws")).await];
    let streams = [client.stream(stream.clone()).await.unwrap(), client.stream(stream.clone()).await.unwrap()];

    for path in ["/v1/events", &events] {
        let refused = world.get(path).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"), "{path}");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    for path in ["/v1/ws", &format!("/v1/tasks/{id}/ws")] {
        let refused = connect_async(format!("ws://{}{path}", world.address)).await.unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
    }
    let refused = client.stream(stream.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    // What ends makes room, whichever it is.
    held.pop();
    drop(streams);
    let mut made = 0;
    while made < 3 {
        let response = follow("/v1/events").await;
        if response.status() == 200 {
            held.push(response);
            made += 1;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get("/v1/events").await.status, 503);
    drop(sockets);
    while client.stream(stream.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
