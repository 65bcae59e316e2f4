//! Tasks from submission to end, with handlers that do what a test asks of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "stored/mod.rs"]
mod stored;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use witan_capability::{Account, CallContext, CallError, Limit, Limits, Meter, Privacy};
use witan_tasks::{
    Code, Edge, Event, Filter, Handler, HandlerError, Handlers, Happened, Input, Outcome, Paths, Settings, State,
    Status, TaskRequest, Tasks, Value, Work, WorkInput,
};

type Do = dyn Fn(&CallContext, &Arc<Account>, &Work, &(dyn Fn(Event) + Send + Sync)) -> Result<Outcome, HandlerError>
    + Send
    + Sync;

/// Waits for a permit, then does what it is told.
struct Scripted {
    permits: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    action: Box<Do>,
}

/// Counts how many handlers run; one that is dropped runs no longer.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Handler for Scripted {
    fn component(&self) -> &str {
        "scripted"
    }

    async fn handle(
        &self,
        context: &CallContext,
        account: &Arc<Account>,
        work: Work,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Outcome, HandlerError> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running.clone());
        self.permits.acquire().await.unwrap().forget();
        (self.action)(context, account, &work, events)
    }
}

struct World {
    tasks: Tasks,
    permits: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Status>>>,
}

fn world(
    settings: Settings,
    action: impl Fn(&CallContext, &Arc<Account>, &Work, &(dyn Fn(Event) + Send + Sync)) -> Result<Outcome, HandlerError>
    + Send
    + Sync
    + 'static,
) -> World {
    let (permits, running) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = Scripted { permits: permits.clone(), running: running.clone(), action: Box::new(action) };
    let handlers: Handlers = BTreeMap::from([("summarize".to_owned(), Arc::new(handler) as Arc<dyn Handler>)]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let observer = Arc::new(move |transition: &witan_tasks::Transition<'_>| {
        sees.lock().unwrap().extend(transition.envelope.map(|envelope| envelope.status));
    });
    let tasks = Tasks::new(settings, handlers, Arc::new(Account::open), observer);
    World { tasks, permits, running, seen }
}

fn outcome(text: &str) -> Outcome {
    Outcome { text: text.to_owned(), passages: Vec::new(), language: None, method: "test".to_owned() }
}

fn edge() -> Edge {
    Edge { context: CallContext::local(), paths: Paths::Under(Vec::new()) }
}

fn request() -> TaskRequest {
    TaskRequest::new("summarize", Input::Text("text".to_owned()))
}

#[tokio::test]
async fn a_task_gets_its_context_and_comes_back_as_an_envelope() {
    let world = world(Settings::default(), |context, account, work, events| {
        assert!(context.local_only());
        assert_eq!(context.budget_micros(), Some(250_000));
        assert!(context.task().is_some());
        assert!(account.limits().deadline <= Duration::from_secs(5));
        assert_eq!(work.input, WorkInput::Text("text".to_owned()));
        assert_eq!(work.parameters[0].value, Value::Integer(3));
        account.charge(Meter::Cpu, 7_000_000).unwrap();
        account.charge(Meter::Memory, 99).unwrap();
        events(Event::Progress { stage: "rank".to_owned(), done: 1, total: 2 });
        events(Event::Notice { text: "n".repeat(100_000) });
        Ok(outcome("short"))
    });
    let mut request = request();
    request.privacy = Privacy::LocalOnly;
    request.budget_usd = Some(0.25);
    request.deadline_ms = Some(5_000);
    request.params.insert("sentences".to_owned(), 3.into());
    let task = world.tasks.submit(request, &edge()).await.unwrap();
    world.permits.add_permits(1);
    let envelope = task.finished().await;
    assert_eq!((envelope.status, envelope.exit_code(), envelope.task_id), (Status::Ok, 0, task.id()));
    assert_eq!(envelope.result.as_ref().unwrap().text, "short");
    assert_eq!((envelope.usage.cpu_ms, envelope.usage.memory_peak), (7, 99));
    assert!(envelope.engine.reason.contains("`scripted`"));

    let mut names = Vec::new();
    let mut after = 0;
    while let Some(event) = task.event_after(after).await {
        after = event.sequence;
        if let Happened::Told(Event::Notice { text }) = &event.happened {
            assert_eq!(text.len(), 4096);
        }
        names.push(event.happened.name());
    }
    assert_eq!(names, ["state", "state", "progress", "notice", "state"]);
    let view = world.tasks.get("local", task.id()).await.unwrap().unwrap().view();
    assert_eq!((view.state, view.kept_in.as_str()), (State::Completed, "memory"));
    assert_eq!(view.progress, Some(Event::Progress { stage: "rank".to_owned(), done: 1, total: 2 }));
    assert_eq!(*world.seen.lock().unwrap(), [Status::Ok]);
}

#[tokio::test]
async fn an_error_of_the_handler_keeps_its_meaning() {
    for (error, code, retryable) in [
        (HandlerError::Invalid("a".into()), Code::InvalidRequest, false),
        (HandlerError::Unsupported("a".into()), Code::Unsupported, false),
        (HandlerError::Failed("a".into()), Code::Failed, true),
        (HandlerError::Denied { decision: "d".into(), reason: "r".into() }, Code::Denied, false),
        (HandlerError::Unavailable("a".into()), Code::Unavailable, true),
        (HandlerError::Trapped("a".into()), Code::Trapped, false),
        (HandlerError::Call(CallError::Internal("a".into())), Code::Internal, true),
    ] {
        let world = world(Settings::default(), move |_, _, _, _| Err(error.clone()));
        world.permits.add_permits(1);
        let task = world.tasks.submit(request(), &edge()).await.unwrap();
        let envelope = task.finished().await;
        let found = envelope.error.as_ref().unwrap();
        assert_eq!((envelope.status, found.code, found.retryable), (Status::Error, code, retryable));
        assert_eq!(envelope.exit_code(), code.exit_code());
    }
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_task_only() {
    let world = world(Settings::default(), |_, _, work, _| match &work.input {
        WorkInput::Text(text) if text == "panic" => panic!("as asked"),
        _ => Ok(outcome("fine")),
    });
    world.permits.add_permits(2);
    let panics = TaskRequest::new("summarize", Input::Text("panic".to_owned()));
    let failed = world.tasks.submit(panics, &edge()).await.unwrap().finished().await;
    assert_eq!(failed.error.as_ref().unwrap().code, Code::Internal);
    let fine = world.tasks.submit(request(), &edge()).await.unwrap().finished().await;
    assert_eq!(fine.status, Status::Ok);
}

#[tokio::test]
async fn cancelling_drops_the_handler() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("never")));
    let task = world.tasks.submit(request(), &edge()).await.unwrap();
    while task.state() != State::Working {
        task.event_after(1).await;
    }
    task.cancel();
    let envelope = task.finished().await;
    assert_eq!((envelope.status, task.state()), (Status::Canceled, State::Cancelled));
    assert_eq!(envelope.exit_code(), 130);
    assert_eq!(world.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_guard_cancels_unless_it_is_disarmed() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("done")));
    let cancelled = world.tasks.submit(request(), &edge()).await.unwrap();
    drop(cancelled.cancel_on_drop());
    assert_eq!(cancelled.finished().await.status, Status::Canceled);
    let done = world.tasks.submit(request(), &edge()).await.unwrap();
    done.cancel_on_drop().disarm();
    world.permits.add_permits(1);
    assert_eq!(done.finished().await.status, Status::Ok);
}

#[tokio::test]
async fn a_deadline_is_a_timeout_that_names_who_set_it() {
    let late = |_: &CallContext, account: &Arc<Account>, _: &Work, _: &(dyn Fn(Event) + Send + Sync)| {
        // What the engine's watchdog does.
        Err(HandlerError::Call(account.exceed(Limit::Deadline).into()))
    };
    let world = world(Settings::default(), late);
    world.permits.add_permits(2);
    let mut own = request();
    own.deadline_ms = Some(40);
    let envelope = world.tasks.submit(own, &edge()).await.unwrap().finished().await;
    let error = envelope.error.as_ref().unwrap();
    assert_eq!((envelope.status, error.code), (Status::Timeout, Code::DeadlineExceeded));
    assert_eq!((error.param.as_deref(), error.setting.as_deref()), (Some("deadline_ms"), None));
    let envelope = world.tasks.submit(request(), &edge()).await.unwrap().finished().await;
    assert_eq!(envelope.error.as_ref().unwrap().setting.as_deref(), Some("limits.deadline"));
}

#[tokio::test]
async fn the_time_of_a_call_tree_begins_with_its_turn_and_the_requests_own_with_its_acceptance() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("never")));
    let opened = Arc::new(Mutex::new(Vec::new()));
    let opens = opened.clone();
    let handler = Scripted {
        permits: world.permits.clone(),
        running: world.running.clone(),
        action: Box::new(|context, account, _, _| {
            // Not less than it would have if it had not waited.
            assert!(context.deadline_ms().is_some() && account.limits().deadline == Limits::default().deadline);
            Ok(outcome("done"))
        }),
    };
    let tasks = Tasks::new(
        Settings { concurrency: 1, ..Settings::default() },
        BTreeMap::from([("summarize".to_owned(), Arc::new(handler) as Arc<dyn Handler>)]),
        Arc::new(move |limits: Limits| {
            opens.lock().unwrap().push(limits.deadline);
            Account::open(limits)
        }),
        Arc::new(|_| ()),
    );
    let runs = tasks.submit(request(), &edge()).await.unwrap();
    while runs.state() != State::Working {
        runs.event_after(1).await;
    }
    let paused = tasks.submit(request(), &edge()).await.unwrap();
    tasks.pause(&paused, &CallContext::local()).await.unwrap();
    let waits = tasks.submit(request(), &edge()).await.unwrap();
    let cancelled = tasks.submit(request(), &edge()).await.unwrap();
    let late = tasks.submit(TaskRequest { deadline_ms: Some(1), ..request() }, &edge()).await.unwrap();
    let envelope = late.finished().await;
    let error = envelope.error.as_ref().unwrap();
    assert_eq!((envelope.status, error.param.as_deref()), (Status::Timeout, Some("deadline_ms")));
    assert!(error.setting.is_none() && error.message.contains("`deadline_ms` of 1"), "{error}");
    cancelled.cancel();
    assert_eq!(cancelled.finished().await.status, Status::Canceled);
    assert_eq!(opened.lock().unwrap().len(), 1, "nothing that waits has a call tree");
    tasks.resume(&paused, &CallContext::local()).await.unwrap();
    world.permits.add_permits(3);
    for task in [runs, paused, waits] {
        assert_eq!(task.finished().await.status, Status::Ok);
    }
    assert_eq!(*opened.lock().unwrap(), [Limits::default().deadline; 3]);
}

#[tokio::test]
async fn the_end_is_observed_before_it_is_told() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("done")));
    let handler = Scripted {
        permits: world.permits.clone(),
        running: world.running.clone(),
        action: Box::new(|_, _, _, _| Ok(outcome("done"))),
    };
    let (known, seen) = (Arc::new(OnceLock::<Tasks>::new()), Arc::new(Mutex::new(Vec::new())));
    let (knows, sees) = (known.clone(), seen.clone());
    let observer = move |transition: &witan_tasks::Transition<'_>| {
        let unfinished = knows.get().map(|tasks| tasks.left().len());
        sees.lock().unwrap().extend(transition.envelope.map(|envelope| (envelope.status, unfinished)));
    };
    let tasks = Tasks::new(
        Settings::default(),
        BTreeMap::from([("summarize".to_owned(), Arc::new(handler) as Arc<dyn Handler>)]),
        Arc::new(Account::open),
        Arc::new(observer),
    );
    assert!(known.set(tasks.clone()).is_ok());
    let task = tasks.submit(request(), &edge()).await.unwrap();
    world.permits.add_permits(1);
    assert_eq!(task.finished().await.status, Status::Ok);
    assert_eq!(*seen.lock().unwrap(), [(Status::Ok, Some(1))]);
}

#[tokio::test]
async fn a_limit_ends_a_task_that_never_answers() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("never")));
    let account = Account::open(Limits::default());
    let given = account.clone();
    let tasks = Tasks::new(
        Settings::default(),
        BTreeMap::from([(
            "summarize".to_owned(),
            Arc::new(Scripted {
                permits: world.permits.clone(),
                running: world.running.clone(),
                action: Box::new(|_, _, _, _| Ok(outcome("never"))),
            }) as Arc<dyn Handler>,
        )]),
        Arc::new(move |_| given.clone()),
        Arc::new(|_| ()),
    );
    let task = tasks.submit(request(), &edge()).await.unwrap();
    account.exceed(Limit::Memory);
    let error = task.finished().await.error.clone().unwrap();
    assert_eq!((error.code, error.limit.as_deref()), (Code::LimitExceeded, Some("memory")));
}

#[tokio::test]
async fn tasks_beyond_the_queue_are_refused_until_there_is_room() {
    let settings = Settings { concurrency: 1, queue: 1, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome("done")));
    let first = world.tasks.submit(request(), &edge()).await.unwrap();
    let second = world.tasks.submit(request(), &edge()).await.unwrap();
    let error = world.tasks.submit(request(), &edge()).await.unwrap_err();
    assert_eq!((error.code, error.retryable), (Code::Overloaded, true));
    while first.state() == State::Queued {
        first.event_after(1).await;
    }
    assert_eq!(second.state(), State::Queued);
    assert_eq!(world.running.load(Ordering::SeqCst), 1);
    world.permits.add_permits(2);
    assert_eq!(first.finished().await.status, Status::Ok);
    assert_eq!(second.finished().await.status, Status::Ok);
    world.tasks.drain(Duration::from_secs(60)).await;
    assert_eq!(world.tasks.unfinished(), 0);
}

#[tokio::test]
async fn bytes_of_unfinished_requests_are_bounded() {
    let settings = Settings { unfinished_bytes: 10_000, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome("done")));
    let large = || TaskRequest::new("summarize", Input::Text("a".repeat(6_000)));
    let first = world.tasks.submit(large(), &edge()).await.unwrap();
    assert_eq!(world.tasks.submit(large(), &edge()).await.unwrap_err().code, Code::Overloaded);
    first.cancel();
    first.finished().await;
    world.permits.add_permits(1);
    while world.tasks.unfinished() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.tasks.submit(large(), &edge()).await.is_ok());
}

#[tokio::test]
async fn one_tenant_leaves_places_turns_and_bytes_to_others_where_they_share_the_host() {
    let settings = Settings { concurrency: 8, queue: 8, unfinished_bytes: 80_000, shared: true, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome("done")));
    let of = |tenant| Edge { context: CallContext::new("ann", tenant), ..edge() };
    let mut tasks = Vec::new();
    for _ in 0..14 {
        tasks.push(world.tasks.submit(request(), &of("acme")).await.unwrap());
    }
    let error = world.tasks.submit(request(), &of("acme")).await.unwrap_err();
    assert_eq!((error.code, error.retryable), (Code::RateLimited, true));
    assert!(error.message.contains("`acme`") && error.message.contains("14"), "{error}");
    // One waits that began to wait after all of the others, and has its turn.
    let other = world.tasks.submit(request(), &of("umbrella")).await.unwrap();
    while other.state() != State::Working || world.running.load(Ordering::SeqCst) != 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.tasks.turns().waiting_of("acme"), 7);
    let large = |bytes: usize| TaskRequest::new("summarize", Input::Text("a".repeat(bytes)));
    assert_eq!(world.tasks.submit(large(71_000), &of("umbrella")).await.unwrap_err().code, Code::RateLimited);
    // The host's own bound is another one.
    assert_eq!(world.tasks.submit(large(81_000), &of("umbrella")).await.unwrap_err().code, Code::Overloaded);
    world.permits.add_permits(100);
    for task in tasks.iter().chain([&other]) {
        assert_eq!(task.finished().await.status, Status::Ok);
    }
    while world.tasks.unfinished() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.tasks.submit(request(), &of("acme")).await.is_ok(), "what has ended makes room");
}

#[tokio::test]
async fn a_tenant_that_shares_with_nobody_has_the_whole_host() {
    let settings = Settings { concurrency: 8, queue: 8, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome("done")));
    for _ in 0..16 {
        world.tasks.submit(request(), &edge()).await.unwrap();
    }
    assert_eq!(world.tasks.submit(request(), &edge()).await.unwrap_err().code, Code::Overloaded);
    while world.running.load(Ordering::SeqCst) != 8 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ended_tasks_are_kept_until_others_have_ended() {
    let settings = Settings { kept: 2, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome("done")));
    world.permits.add_permits(3);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let task = world.tasks.submit(request(), &edge()).await.unwrap();
        task.finished().await;
        ids.push(task.id());
    }
    world.tasks.drain(Duration::from_secs(60)).await;
    assert!(world.tasks.get("local", ids[0]).await.unwrap().is_none());
    assert!(world.tasks.get("other", ids[1]).await.unwrap().is_none());
    let all = Filter::default();
    let (tasks, more) = world.tasks.list("local", &all, 1, None).await.unwrap();
    assert_eq!((tasks[0].id, more), (ids[2], true));
    let (tasks, more) = world.tasks.list("local", &all, 5, Some(ids[2])).await.unwrap();
    assert_eq!((tasks.len(), tasks[0].id, more), (1, ids[1], false));
    assert!(world.tasks.list("other", &all, 5, None).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn bytes_of_ended_tasks_are_bounded() {
    let settings = Settings { kept_bytes: 50_000, ..Settings::default() };
    let world = world(settings, |_, _, _, _| Ok(outcome(&"a".repeat(30_000))));
    world.permits.add_permits(3);
    for _ in 0..3 {
        world.tasks.submit(request(), &edge()).await.unwrap().finished().await;
    }
    world.tasks.drain(Duration::from_secs(60)).await;
    assert_eq!(world.tasks.list("local", &Filter::default(), 10, None).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn draining_refuses_new_tasks_and_cancels_those_that_take_too_long() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("never")));
    let task = world.tasks.submit(request(), &edge()).await.unwrap();
    world.tasks.drain(Duration::ZERO).await;
    assert_eq!(task.finished().await.status, Status::Canceled);
    assert_eq!(world.tasks.submit(request(), &edge()).await.unwrap_err().code, Code::Overloaded);
}

#[tokio::test]
async fn an_unknown_intent_names_those_that_are_served() {
    let world = world(Settings::default(), |_, _, _, _| Ok(outcome("never")));
    let unknown = TaskRequest::new("translate", Input::Text("a".to_owned()));
    let error = world.tasks.submit(unknown, &edge()).await.unwrap_err();
    assert_eq!((error.code, error.param.as_deref()), (Code::UnknownIntent, Some("intent")));
    assert!(error.message.contains("summarize"), "{error}");
}

#[tokio::test]
async fn a_path_becomes_a_file_of_the_task_where_it_may_be_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "a").unwrap();
    let world = world(Settings::default(), |context, _, work, _| {
        let WorkInput::Files(files) = &work.input else { panic!("files") };
        assert_eq!(files, context.files());
        Ok(outcome(&files[0].guest))
    });
    world.permits.add_permits(1);
    let named = TaskRequest::new("summarize", Input::Paths(vec!["a.md".to_owned()]));
    let error = world.tasks.submit(named.clone(), &edge()).await.unwrap_err();
    assert_eq!((error.code, error.setting.as_deref()), (Code::PathRefused, Some("host.roots")));
    assert_eq!(world.tasks.unfinished(), 0);
    let rooted = Edge { paths: Paths::Under(vec![folder.path().to_owned()]), ..edge() };
    let envelope = world.tasks.submit(named, &rooted).await.unwrap().finished().await;
    assert_eq!(envelope.result.as_ref().unwrap().text, "/task/0/a.md");
}
