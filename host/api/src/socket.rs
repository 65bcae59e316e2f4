//! WebSockets: `/v1/ws`, where a client subscribes to tasks and events, and `/v1/tasks/{id}/ws`, which tells of one task.
//!
//! One loop serves one socket, and asks for the next event once the one before is sent: what a client does not take waits
//! where it is kept within bounds, and a client that takes nothing for too long is cut off. No task waits for a socket.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use axum::{
    extract::{
        Extension, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use futures::{
    Stream, StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::{self, SelectAll},
};
use http::Extensions;
use serde_json::{Value, json};
use witan_authorize::Action;
use witan_events::{Command, CutOff, MESSAGE_BYTES, Subject};
use witan_identity::{Client, Verb};
use witan_tasks::{Code, Task, TaskError};

use crate::{
    Api,
    answer::{ErrorBody, Refusal},
    asks::Asks,
    authorize::{Caller, Way},
    events::{Heard, may_read},
    gate,
    tasks::{Found, Given, follows},
};

/// Where clients subscribe.
const ROUTE: &str = "/v1/ws";
/// Commands in a row that are over a rate before the socket is closed.
const REFUSALS: u32 = 16;
/// Subscriptions of one socket.
const SUBSCRIPTIONS: usize = 32;
/// How long a client may take nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a client is asked whether it is there still.
const PING: Duration = Duration::from_secs(20);

/// What a socket is closed for: RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// Opens a WebSocket on which a client subscribes to tasks and to events.
///
/// The client sends `{"type": "subscribe", "id": "a", "task": "…", "starting_after": 0}`, or `"events": ["task.*"]` in place of
/// the task, and `{"type": "unsubscribe", "id": "a"}`. What it is told names the subscription.
#[utoipa::path(
    get,
    path = "/v1/ws",
    tag = "events",
    responses(
        (status = 101, description = "The connection is a WebSocket now"),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = 503, description = "Too many are open", body = ErrorBody),
    )
)]
pub(crate) async fn open(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Given(extensions): Given,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let asker = Asker::of(client, &extensions)?;
    let cut_off = api.until_cut_off(&extensions);
    serve(api, upgrade, cut_off, asker, Session::new)
}

/// Opens a WebSocket that tells of one task what its events tell, and closes with its end.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/ws",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 101, description = "The connection is a WebSocket now"),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = 503, description = "Too many are open", body = ErrorBody),
    )
)]
pub(crate) async fn open_task(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Given(extensions): Given,
    Found(task): Found,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let asker = Asker::of(client, &extensions)?;
    let cut_off = api.until_either(&extensions, follows(&extensions, task.clone()));
    serve(api, upgrade, cut_off, asker, move |api, socket, asker| {
        let mut session = Session { single: true, ..Session::new(api, socket, asker) };
        session.add(task.id().to_string(), of_task(task, 0));
        session
    })
}

/// Who opens a socket.
struct Asker {
    client: Client,
    caller: Caller,
    asks: Asks,
}

impl Asker {
    fn of(client: Client, extensions: &Extensions) -> Result<Self, TaskError> {
        Ok(Self { client, caller: Caller::of(extensions), asks: Asks::left(extensions)?.clone() })
    }
}

fn serve(
    api: Api,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    cut_off: gate::CutOff,
    asker: Asker,
    session: impl FnOnce(Api, WebSocket, Asker) -> Session + Send + 'static,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|rejection| {
        TaskError::new(Code::InvalidRequest, format!("this is no WebSocket handshake: {}", rejection.body_text()))
    })?;
    // Counted from now on, so that a host that stops waits for it.
    let open = (api.0.streams.open(asker.client.tenant().as_str())?, api.0.sockets.token());
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        session(api, socket, asker).run(cut_off).await;
        drop(open);
    }))
}

/// What is told, under the name of its subscription; none at its end.
type Told = (String, Option<Value>);
type Stories = SelectAll<Pin<Box<dyn Stream<Item = Told> + Send>>>;

struct Session {
    api: Api,
    socket: WebSocket,
    asker: Asker,
    /// Commands in a row that were over a rate.
    refused: u32,
    /// Whether it tells of one thing, and closes with its end.
    single: bool,
    stories: Stories,
    names: BTreeMap<String, AbortHandle>,
}

impl Session {
    fn new(api: Api, socket: WebSocket, asker: Asker) -> Self {
        let (stories, names) = (SelectAll::new(), BTreeMap::new());
        Self { api, socket, asker, refused: 0, single: false, stories, names }
    }

    fn add(&mut self, name: String, story: impl Stream<Item = Value> + Send + 'static) {
        let (handle, registration) = AbortHandle::new_pair();
        let (of, end) = (name.clone(), name.clone());
        let story = story.map(move |told| (of.clone(), Some(told))).chain(stream::once(async move { (end, None) }));
        self.stories.push(Box::pin(Abortable::new(story, registration)));
        self.names.insert(name, handle);
    }

    async fn run(mut self, mut cut_off: gate::CutOff) {
        let mut ping = tokio::time::interval(PING);
        ping.reset();
        let draining = self.api.0.draining.clone();
        let (code, why) = loop {
            let sent = tokio::select! {
                // What is denied is not told, however much of it waits.
                biased;
                error = &mut cut_off => {
                    self.say(json!({ "type": "error", "error": error })).await;
                    break (POLICY, "the client may not be told any more");
                }
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.hear(message).await,
                    // It is gone, or has broken the protocol.
                    _ => return,
                },
                Some((name, told)) = self.stories.next(), if !self.stories.is_empty() => match told {
                    Some(told) => self.say(told).await,
                    None => {
                        self.names.remove(&name);
                        if self.single {
                            break (NORMAL, "the task has ended");
                        }
                        true
                    }
                },
                _ = ping.tick() => self.send(Message::Ping(bytes::Bytes::new())).await,
                () = draining.cancelled() => break (GOING_AWAY, "the host is stopping"),
            };
            if self.refused >= REFUSALS {
                break (POLICY, "the client does not wait when it is told to");
            }
            if !sent {
                break (POLICY, "what was sent was not taken");
            }
        };
        let _gone = self.send(Message::Close(Some(CloseFrame { code, reason: why.into() }))).await;
    }

    /// Sends `message`, and says whether the client took it in time.
    async fn send(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.socket.send(message)).await, Ok(Ok(())))
    }

    async fn say(&mut self, told: Value) -> bool {
        self.send(Message::Text(told.to_string().into())).await
    }

    async fn hear(&mut self, message: Message) -> bool {
        if matches!(message, Message::Ping(_) | Message::Pong(_) | Message::Close(_)) {
            return true;
        }
        // A command is what a request would be.
        let parts = &self.api.0.parts;
        if let Err((error, wait)) = parts.requests.charge(&self.asker.asks, 1, &parts.metrics) {
            self.refused += 1;
            let wait = wait.map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            return self.say(json!({ "type": "error", "error": error, "retry_after_ms": wait })).await;
        }
        self.refused = 0;
        let said = match message {
            Message::Text(text) => self.obey(text.as_str()).await,
            _ => Err(TaskError::new(Code::InvalidRequest, "commands are text")),
        };
        let said = said.unwrap_or_else(|error| json!({ "type": "error", "error": error }));
        self.say(said).await
    }

    /// Carries out a command, and gives what is to be said to it.
    async fn obey(&mut self, text: &str) -> Result<Value, TaskError> {
        if self.single {
            return Err(TaskError::new(Code::InvalidRequest, "this socket tells of one task; /v1/ws takes commands"));
        }
        match Command::parse(text).map_err(|error| TaskError::new(Code::InvalidRequest, error.to_string()))? {
            Command::Unsubscribe { name } => match self.names.remove(&name) {
                Some(handle) => {
                    handle.abort();
                    Ok(json!({ "type": "unsubscribed", "subscription": name }))
                }
                None => Err(TaskError::invalid("id", format!("there is no subscription `{name}`"))),
            },
            Command::Subscribe { name, subject, after } => {
                if self.names.contains_key(&name) {
                    return Err(TaskError::invalid("id", format!("there is a subscription `{name}` already")));
                }
                // One that was ended may have something to say still.
                if self.names.len() >= SUBSCRIPTIONS || self.stories.len() >= 2 * SUBSCRIPTIONS {
                    let message = format!("a socket has at most {SUBSCRIPTIONS} subscriptions; open another");
                    return Err(TaskError::invalid("id", message));
                }
                self.subscribe(&name, subject, after).await?;
                Ok(json!({ "type": "subscribed", "subscription": name }))
            }
        }
    }

    async fn subscribe(&mut self, name: &str, subject: Subject, after: Option<u64>) -> Result<(), TaskError> {
        let of = name.to_owned();
        let Asker { client, caller, .. } = &self.asker;
        let changes = self.api.policy_changes();
        let tenant = client.tenant().as_str();
        let way = Way { route: Some(ROUTE), method: Some("GET"), path: Some(ROUTE) };
        match subject {
            Subject::Task(id) => {
                let task = self.api.0.parts.tasks.get(tenant, id).await?;
                let task = task.ok_or_else(|| TaskError::new(Code::NotFound, "no such task is kept").at("task"))?;
                self.api.may(caller, Action::TaskRead, &task, way)?;
                let (caller, asked) = (caller.clone(), task.clone());
                let denied = self.api.until_denied(changes, move |api| api.may(&caller, Action::TaskRead, &asked, way));
                let story = unless(denied, of_task(task, after.unwrap_or(0)));
                self.add(name.to_owned(), story.map(move |told| named(told, &of)));
            }
            Subject::Events(patterns) => {
                // The route is one of tasks.
                gate::may(client, "events", Verb::Read)?;
                may_read(&self.api, caller, way)?;
                let caller = caller.clone();
                let denied = self.api.until_denied(changes, move |api| may_read(api, &caller, way));
                let story = unless(denied, of_events(Heard::new(&self.api, tenant, patterns, after)));
                self.add(name.to_owned(), story.map(move |told| named(told, &of)));
            }
        }
        Ok(())
    }
}

fn named(mut told: Value, subscription: &str) -> Value {
    if let Value::Object(fields) = &mut told {
        fields.insert("subscription".to_owned(), subscription.into());
    }
    told
}

/// `story`, until its client may not be told it any more.
fn unless(denied: gate::CutOff, story: impl Stream<Item = Value> + Send + 'static) -> impl Stream<Item = Value> + Send {
    stream::unfold(Some((denied, Box::pin(story))), |telling| async {
        let (mut denied, mut story) = telling?;
        tokio::select! {
            biased;
            error = &mut denied => Some((json!({ "type": "error", "error": error }), None)),
            told = story.next() => told.map(|told| (told, Some((denied, story)))),
        }
    })
}

/// What happens to `task` after event number `after`, and then what it came to.
fn of_task(task: Task, after: u64) -> impl Stream<Item = Value> + Send {
    stream::unfold(Some((task, after)), |state| async {
        let (task, after) = state?;
        Some(match task.event_after(after).await {
            Some(event) => {
                let sequence = event.sequence;
                (json!({ "type": "task_event", "event": event }), Some((task, sequence)))
            }
            None => (json!({ "type": "envelope", "envelope": *task.finished().await }), None),
        })
    })
}

fn of_events(heard: Heard) -> impl Stream<Item = Value> + Send {
    let gap = heard.gap().then(|| json!({ "type": "gap" }));
    let events = stream::unfold(Some(heard), |heard| async {
        let mut heard = heard?;
        Some(match heard.next().await {
            Ok(event) => (json!({ "type": "event", "event": *event }), Some(heard)),
            Err(CutOff(missed)) => (json!({ "type": "cut_off", "missed": missed }), None),
        })
    });
    stream::iter(gap).chain(events)
}
