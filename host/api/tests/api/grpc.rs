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
use witan_api::Settings;
use witan_grpc::v1::{
    CancelRequest, State, Status as Ended, StatusByIdRequest, StreamRequest, SubmitRequest, submit_request::Input,
    task_event::Happened, tasks_client::TasksClient,
};

use crate::world::World;

async fn channel(world: &World) -> Channel {
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
