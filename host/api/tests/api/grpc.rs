//! Tasks over gRPC, by a client that speaks it.

use futures::StreamExt as _;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;
use witan_api::{Requests, Settings};
use witan_capability::CallContext;
use witan_grpc::v1::{
    Callback, CancelRequest, Priority, State, Status as Ended, StatusByIdRequest, StreamRequest, SubmitRequest,
    submit_request::Input, task_event::Happened, tasks_client::TasksClient,
};

use witan_tasks::{Edge, Paths};
use witan_throttle::{GateSettings, Rates};

use crate::world::{World, task};

pub async fn channel(world: &World) -> Channel {
    Endpoint::from_shared(world.url("")).unwrap().connect().await.unwrap()
}

async fn client(world: &World) -> TasksClient<Channel> {
    TasksClient::new(channel(world).await)
}

fn echo(text: &str) -> SubmitRequest {
    SubmitRequest { intent: "echo".into(), input: Some(Input::Text(text.into())), ..SubmitRequest::default() }
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, witan_grpc::CODE_DOMAIN);
    assert!(info.metadata.contains_key("retryable"));
    info.reason
}

#[tokio::test]
async fn a_task_is_submitted_followed_and_shown() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let task = client.submit(echo("wait")).await.unwrap().into_inner();
    let events = client.stream(StreamRequest { id: task.id.clone(), starting_after: 0 }).await.unwrap().into_inner();
    world.permits.add_permits(1);
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 0]);
    let states: Vec<i32> = events
        .iter()
        .filter_map(|event| match event.happened {
            Some(Happened::State(state)) => Some(state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [State::Queued, State::Working, State::Completed].map(i32::from));
    let Some(Happened::Envelope(envelope)) = events.last().unwrap().happened.clone() else { panic!("{events:?}") };
    assert_eq!((envelope.status(), envelope.result.as_ref().unwrap().text.as_str()), (Ended::Ok, "wait"));
    // The same task, by both ways in.
    let shown = client.status_by_id(StatusByIdRequest { id: task.id.clone() }).await.unwrap().into_inner();
    assert_eq!(shown.envelope, Some(envelope));
    let over_http = world.get(&format!("/v1/tasks/{}", task.id)).await.json();
    assert_eq!(over_http["envelope"]["result"]["text"], "wait");
    // Who has seen some goes on after them.
    let rest = client.stream(StreamRequest { id: task.id, starting_after: 3 }).await.unwrap().into_inner();
    assert_eq!(rest.map(|event| event.unwrap().sequence).collect::<Vec<_>>().await, [4, 0]);
}

#[tokio::test]
async fn a_task_is_cancelled_and_ends_its_stream() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let id = client.submit(echo("wait")).await.unwrap().into_inner().id;
    let events = client.stream(StreamRequest { id: id.clone(), starting_after: 0 }).await.unwrap().into_inner();
    let cancelled = client.cancel(CancelRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(cancelled.state(), State::Cancelled);
    let last = events.map(Result::unwrap).collect::<Vec<_>>().await.pop().unwrap();
    let Some(Happened::Envelope(envelope)) = last.happened else { panic!("{last:?}") };
    assert_eq!((envelope.status(), envelope.error.unwrap().code.as_str()), (Ended::Canceled, "cancelled"));
}

#[tokio::test]
async fn a_refusal_has_the_code_that_http_has() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let unknown = SubmitRequest { intent: "sing".into(), ..echo("a") };
    for (request, code, word) in [
        (unknown, Code::NotFound, "UNKNOWN_INTENT"),
        (SubmitRequest { input: None, ..echo("a") }, Code::InvalidArgument, "INVALID_REQUEST"),
        (SubmitRequest { budget_usd: Some(-1.0), ..echo("a") }, Code::InvalidArgument, "INVALID_REQUEST"),
        (SubmitRequest { deadline_ms: Some(0), ..echo("a") }, Code::InvalidArgument, "INVALID_REQUEST"),
    ] {
        let refused = client.submit(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, word), "{refused}");
    }
    for id in ["0192e0a0-0000-7000-8000-000000000000", "none"] {
        let missing = client.status_by_id(StatusByIdRequest { id: id.into() }).await.unwrap_err();
        assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "NOT_FOUND"));
    }
}

#[tokio::test]
async fn what_stands_before_the_routes_refuses_in_grpc_too() {
    let world = World::bounded(Settings { body_bytes: 1_000, ..Settings::default() }).await;
    let mut wide = client(&world).await;
    let long = wide.submit(echo(&"a".repeat(2_000))).await.unwrap_err();
    assert_eq!((long.code(), reason(&long).as_str()), (Code::ResourceExhausted, "BODY_TOO_LARGE"));
    // A name that is not this host's, as a page of another origin would use it.
    let foreign = Endpoint::from_shared(world.url("")).unwrap().origin("http://evil.example".parse().unwrap());
    let mut foreign = TasksClient::new(foreign.connect().await.unwrap());
    let refused = foreign.submit(echo("a")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "HOST_NOT_ALLOWED"));
    let info = refused.get_details_error_info().unwrap();
    assert!(info.metadata.contains_key("request_id"));
}

#[tokio::test]
async fn a_host_that_stops_ends_streams_and_says_so() {
    let mut world = World::new().await;
    let mut client = client(&world).await;
    let id = client.submit(echo("wait")).await.unwrap().into_inner().id;
    let mut events = client.stream(StreamRequest { id, starting_after: 2 }).await.unwrap().into_inner();
    let progress = events.next().await.unwrap().unwrap();
    assert!(matches!(progress.happened, Some(Happened::Progress(_))), "{progress:?}");
    world.stop();
    let ended = events.next().await.unwrap().unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "OVERLOADED"));
    world.permits.add_permits(1);
    world.served.await.unwrap();
}

#[tokio::test]
async fn clients_learn_the_services_by_reflection() {
    let world = World::new().await;
    let mut reflection = ServerReflectionClient::new(channel(&world).await);
    let asked = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = futures::stream::iter([
        asked(MessageRequest::ListServices(String::new())),
        asked(MessageRequest::FileContainingSymbol("witan.v1.Tasks".into())),
    ]);
    let answers = reflection.server_reflection_info(Request::new(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let MessageResponse::ListServicesResponse(services) = &answers[0] else { panic!("{answers:?}") };
    assert!(services.service.iter().any(|service| service.name == "witan.v1.Tasks"));
    let MessageResponse::FileDescriptorResponse(files) = &answers[1] else { panic!("{answers:?}") };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn a_credential_is_asked_for_and_tenants_do_not_see_one_another() {
    let world = World::asking("").await;
    let [acme, other] = [world.key("acme", &["tasks:*"]).await, world.key("other", &["tasks:read"]).await];
    let with = |key: &str, id: &str| {
        let mut request = Request::new(StatusByIdRequest { id: id.to_owned() });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    let submit = |key: &str| {
        let mut request = Request::new(echo("a"));
        request.metadata_mut().insert("x-api-key", key.parse().unwrap());
        request
    };
    let mut client = client(&world).await;
    assert_eq!(client.submit(echo("a")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(client.submit(submit("wrong")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(client.submit(submit(&other)).await.unwrap_err().code(), Code::PermissionDenied);
    let task = client.submit(submit(&acme)).await.unwrap().into_inner();
    assert_eq!(client.status_by_id(with(&acme, &task.id)).await.unwrap().into_inner().id, task.id);
    let theirs = client.status_by_id(with(&other, &task.id)).await.unwrap_err();
    let nobodys = client.status_by_id(with(&other, "0198c5e0-0000-7000-8000-000000000000")).await.unwrap_err();
    assert_eq!((theirs.code(), theirs.message()), (Code::NotFound, nobodys.message()));
}

#[tokio::test]
async fn a_key_makes_one_task() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let keyed = |key: &str, text: &str| {
        let metadata = [("b", "2"), ("a", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut request = Request::new(SubmitRequest { metadata: metadata.into(), ..echo(text) });
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        request
    };
    let first = client.submit(keyed("k", "wait")).await.unwrap();
    assert!(first.metadata().get("idempotency-replayed").is_none());
    let again = client.submit(keyed("k", "wait")).await.unwrap();
    assert_eq!(again.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(first.into_inner().id, again.into_inner().id);
    let before = world.newest().await.unwrap().to_string();
    assert_ne!(client.submit(keyed("l", "wait")).await.unwrap().into_inner().id, before);
    let other = client.submit(keyed("k", "other")).await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED"));
    let none = client.submit(keyed("", "a")).await.unwrap_err();
    assert_eq!((none.code(), reason(&none).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    // While another with the key is answered.
    let edge = Edge { context: CallContext::new("local", "local"), paths: Paths::Under(Vec::new()) };
    let answered = world.tasks.once(&edge, "/witan.v1.Tasks/Submit", "busy", b"").unwrap();
    let busy = client.submit(keyed("busy", "a")).await.unwrap_err();
    assert_eq!((busy.code(), reason(&busy).as_str()), (Code::Aborted, "IDEMPOTENCY_IN_FLIGHT"));
    drop(answered);
    client.submit(keyed("busy", "a")).await.unwrap();
    // Keys are those of one way in: it is another task over HTTP.
    let request = world.client.post(world.url("/v1/tasks")).header("idempotency-key", "k").json(&task("a"));
    assert_eq!(request.send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn tasks_count_until_they_end() {
    let user = Rates { tasks: Some(1), ..Rates::default() };
    let settings = witan_throttle::Settings { user, ..Default::default() };
    let world = World::limited(Requests::new(settings, GateSettings::default())).await;
    let mut client = client(&world).await;
    let first = client.submit(echo("wait")).await.unwrap().into_inner();
    let second = client.submit(echo("a")).await.unwrap_err();
    assert_eq!((second.code(), reason(&second).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    // It is one count for both ways in.
    assert_eq!(world.echo("", "a").await.status, 429);
    client.cancel(CancelRequest { id: first.id }).await.unwrap();
    while client.submit(echo("a")).await.is_err_and(|refused| refused.code() == Code::ResourceExhausted) {
        tokio::task::yield_now().await;
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_task_has_a_priority_and_a_callback_whose_secret_is_on_no_disk() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let world = World::calling(&host).await;
    let mut client = client(&world).await;
    let callback = |url: &str| {
        let events = vec!["task.started".to_owned(), "task.cancelled".to_owned()];
        Some(Callback { url: url.to_owned(), secret: Some(SECRET.to_owned()), events })
    };
    let refused =
        client.submit(SubmitRequest { callback: callback("https://10.0.0.1/"), ..echo("a") }).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    let asked = SubmitRequest {
        callback: callback(&format!("http://{host}/")),
        priority: Priority::High.into(),
        ..echo("wait")
    };
    let task = client.submit(asked).await.unwrap().into_inner();
    assert_eq!(task.priority(), Priority::High);
    assert_eq!(world.get(&format!("/v1/tasks/{}", task.id)).await.json()["priority"], "high");
    let told = told_next(&listener).await;
    assert!(told.contains("webhook-signature: v1,") && told.contains(&task.id), "{told}");
    client.cancel(CancelRequest { id: task.id.clone() }).await.unwrap();
    // In the row of the task, in its request, and with what is to be told.
    let canary = &SECRET.as_bytes()[6..];
    let kept = world.kept();
    assert!(kept.windows(9).filter(|bytes| bytes == b"sealed:1:").count() >= 3);
    assert!(!kept.windows(canary.len()).any(|bytes| bytes == canary), "the secret is on the disk");
    // One that is tried again has a callback of its own, signed by the same secret.
    let again = world.post(&format!("/v1/tasks/{}/retry", task.id), serde_json::json!({})).await;
    assert_eq!(again.status, 202, "{}", again.json());
    let id = again.json()["id"].as_str().unwrap().to_owned();
    while !told_next(&listener).await.contains(&id) {}
}

/// The next request that comes, which is taken.
async fn told_next(listener: &tokio::net::TcpListener) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut told = String::new();
    while !told.ends_with('}') {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0);
        told += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    stream.write_all(b"HTTP/1.1 204 Taken\r\nconnection: close\r\n\r\n").await.unwrap();
    told
}

#[tokio::test]
async fn a_stream_ends_with_the_credential() {
    let world = World::asking("").await;
    let key = world.key("acme", &["tasks:*"]).await;
    let mut client = client(&world).await;
    let mut submit = Request::new(echo("wait"));
    submit.metadata_mut().insert("x-api-key", key.parse().unwrap());
    let id = client.submit(submit).await.unwrap().into_inner().id;
    let mut follow = Request::new(StreamRequest { id, starting_after: 3 });
    follow.metadata_mut().insert("x-api-key", key.parse().unwrap());
    let mut events = client.stream(follow).await.unwrap().into_inner();
    world.identities.directory().revoke_key(None, world.key_of(&key).await, "test").await.unwrap();
    let ended = events.next().await.unwrap().unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unauthenticated, "UNAUTHORIZED"));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_stream_ends_with_the_policy_that_let_it() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let id = client.submit(echo("wait")).await.unwrap().into_inner().id;
    let mut events = client.stream(StreamRequest { id, starting_after: 3 }).await.unwrap().into_inner();
    let rules = "permit (principal, action, resource);\nforbid (principal, action == Action::\"task.read\", resource);";
    assert_eq!(world.policies(rules).await.status, 200);
    let ended = events.next().await.unwrap().unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::PermissionDenied, "DENIED"));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_refusal_that_passes_says_when() {
    let user = Rates { per_minute: Some(1), ..Rates::default() };
    let settings = witan_throttle::Settings { user, ..Default::default() };
    let world = World::limited(Requests::new(settings, GateSettings::default())).await;
    let mut limited = client(&world).await;
    limited.submit(echo("a")).await.unwrap();
    let over = limited.submit(echo("a")).await.unwrap_err();
    assert_eq!((over.code(), reason(&over).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    let wait = over.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((50..=60).contains(&wait.as_secs()), "{wait:?}");
    let seconds: u64 = over.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!((50..=60).contains(&seconds), "{seconds}");

    let queue = witan_tasks::Settings { concurrency: 1, queue: 1, ..witan_tasks::Settings::default() };
    let world = World::queueing(queue).await;
    let mut busy = client(&world).await;
    let full = loop {
        if let Err(full) = busy.submit(echo("wait")).await {
            break full;
        }
    };
    assert_eq!((full.code(), reason(&full).as_str()), (Code::Unavailable, "OVERLOADED"));
    let wait = full.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(wait, Some(std::time::Duration::from_secs(1)));
    // What asking again does not mend says nothing of it.
    let unknown = busy.submit(SubmitRequest { intent: "sing".into(), ..echo("a") }).await.unwrap_err();
    assert!(unknown.get_details_retry_info().is_none());

    // The turn of a request, which the front refuses.
    let world = World::limited(Requests::new(Default::default(), GateSettings { at_once: 1, queue: 0 })).await;
    let mut shed = client(&world).await;
    let id = shed.submit(echo("wait")).await.unwrap().into_inner().id;
    let (url, http) = (world.url("/v1/tasks?wait=60"), world.client.clone());
    let waiting = tokio::spawn(async move { http.post(url).json(&task("wait")).send().await.unwrap().status() });
    while world.tasks.unfinished() < 2 {
        tokio::task::yield_now().await;
    }
    let refused = shed.status_by_id(StatusByIdRequest { id }).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.metadata().get("retry-after").unwrap().as_bytes()),
        (Code::Unavailable, &b"1"[..])
    );
    assert!(refused.get_details_retry_info().is_some());
    world.permits.add_permits(2);
    assert_eq!(waiting.await.unwrap(), 200);
}
