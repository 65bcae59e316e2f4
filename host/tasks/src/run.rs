//! A task on its way: accepted, in its turn, at work, ended, and each of these stored before anybody is told.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tracing::Instrument as _;
use witan_capability::{Account, CallContext, CallError, Limit, LimitExceeded, Limits, Meter};
use witan_queue::Turn;
use witan_task_store::{Accepted, Delivery, Ended, New, State, Store};

use crate::{
    Code, EngineChoice, Envelope, Event, Handler, Input, Outcome, Route, SCHEMA_VERSION, Status, Task, TaskError,
    TaskRequest, Tasks, Usage, Work, WorkInput,
    record::now_ms,
    runner::{Busy, Place, Submitted, unstored},
    span,
};

/// A task on its way.
pub(crate) struct Run {
    pub(crate) tasks: Tasks,
    pub(crate) task: Task,
    /// None where its intent is served no longer.
    pub(crate) handler: Option<Arc<dyn Handler>>,
    /// With the request's own deadline, which holds from its acceptance on.
    pub(crate) context: CallContext,
    /// What its call tree may use, which begins with its turn.
    pub(crate) limits: Limits,
}

/// Where the work of a task is.
pub(crate) enum Source {
    Here(Box<Work>),
    /// In the store, from before the host began.
    Stored,
}

/// Where a task has come to.
enum Came {
    To(Result<Outcome, TaskError>),
    /// The host ends, and the next goes on with it.
    Nowhere,
}

impl Run {
    /// Stores the task and lets it run.
    pub(crate) async fn accept(self, new: Option<New>, work: Work, place: Place) -> Result<Submitted, TaskError> {
        let (tasks, task) = (self.tasks.clone(), self.task.clone());
        // Whoever learns its id from the store finds it here.
        tasks.0.kept.lock().insert(task.clone());
        let accepted = match (&tasks.0.store, new) {
            (Some(store), Some(new)) => store.accept(new).await.map_err(|error| unstored(&error)),
            _ => Ok(Accepted::New),
        };
        match accepted {
            Ok(Accepted::New) => {}
            other => {
                tasks.0.kept.lock().remove(task.id());
                return match other? {
                    Accepted::Known(known) => Ok(Submitted::Known(known)),
                    Accepted::New => Ok(Submitted::New(task)),
                };
            }
        }
        self.observe(State::Queued);
        let span = span::open(&self.context, &work.intent);
        tokio::spawn(self.carry_out(Source::Here(Box::new(work)), place).instrument(span));
        Ok(Submitted::New(task))
    }

    pub(crate) async fn carry_out(self, source: Source, place: Place) {
        let mut busy = None;
        if let Came::To(result) = self.result(source, &mut busy).await {
            let envelope = self.envelope(result);
            self.end(envelope).await;
        }
        drop(busy);
        drop(place);
    }

    /// Stores how it has ended, and then says so.
    pub(crate) async fn end(&self, envelope: Envelope) {
        let (tasks, at_ms) = (&self.tasks, now_ms());
        if let Some(store) = &tasks.0.store {
            let deliveries = self.tasks.deliveries(&self.task, envelope.status.into(), at_ms, Some(&envelope));
            store_end(store, &self.task, &envelope, at_ms, deliveries).await;
            self.tasks.deliver();
        }
        let envelope = Arc::new(envelope);
        span::record(&envelope, self.handler.as_deref().map(Handler::component));
        let state = envelope.status.into();
        let by = self.task.cancelled_by().filter(|_| state == State::Cancelled);
        // Whoever waits for the end may end the process, and what is observed with it.
        tasks.observe(&self.task, by.as_ref().unwrap_or(&self.context), state, Some(&envelope));
        self.task.finish(envelope.clone(), at_ms);
        tasks.0.kept.lock().ended(&tasks.0.settings, &self.task);
        tasks.publish(self.task.about(), state, self.task.attempt(), Some(&envelope));
    }

    fn observe(&self, state: State) {
        self.tasks.observe(&self.task, &self.context, state, None);
        self.tasks.publish(self.task.about(), state, self.task.attempt(), None);
    }

    fn tell(&self, event: Event) {
        self.tasks.publish_progress(&self.task, &event);
        self.task.tell(event);
    }

    async fn result(&self, source: Source, busy: &mut Option<Busy>) -> Came {
        let Some(waiting) = self.task.account() else { return Came::Nowhere };
        let (_turn, attempt) = tokio::select! {
            biased;
            turn = self.turn() => turn,
            () = waiting.when_ended() => return Came::To(Err(why(&waiting))),
            error = self.own_deadline() => return Came::To(Err(error)),
            () = self.tasks.0.abandoned.cancelled() => return Came::Nowhere,
        };
        *busy = Some(Busy::new(&self.tasks));
        let limits = self.limits_now();
        let context = within(&self.context, &limits);
        self.task.open_account(|| (self.tasks.0.open_account)(limits));
        let Some(account) = self.task.account() else { return Came::Nowhere };
        let work = AssertUnwindSafe(self.in_turn(source, attempt, &context, &account)).catch_unwind();
        let result = tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|_panic| {
                Err(TaskError::new(Code::Internal, "the host failed while it ran the task; its log says more"))
            }),
            // Dropping the work takes its stores with it.
            () = account.when_ended() => Err(why(&account)),
            () = self.tasks.0.abandoned.cancelled() => return Came::Nowhere,
        };
        Came::To(result)
    }

    async fn in_turn(
        &self,
        source: Source,
        attempt: u32,
        context: &CallContext,
        account: &Arc<Account>,
    ) -> Result<Outcome, TaskError> {
        let Some(handler) = &self.handler else {
            let message = format!("the intent `{}` is served no longer", self.task.about().intent);
            return Err(TaskError::new(Code::UnknownIntent, message).at("intent"));
        };
        let at_ms = now_ms();
        if let Some(store) = &self.tasks.0.store {
            // What it does must not be done again by a host that does not know that it was begun.
            let deliveries = self.tasks.deliveries(&self.task, State::Working, at_ms, None);
            let begun = store.begin(self.task.id(), attempt, at_ms, deliveries).await;
            begun.map_err(|error| unstored(&error))?;
            self.tasks.deliver();
        }
        self.task.begin(at_ms);
        self.observe(State::Working);
        let work = self.work(source).await?;
        let tell = |event| self.tell(shortened(event));
        Ok(handler.handle(context, account, work, &tell).await?)
    }

    /// How long the request's own deadline is off.
    fn own_left(&self) -> Option<Duration> {
        self.context.deadline_ms().map(|own| Duration::from_millis(own.saturating_sub(now_ms())))
    }

    /// Waits for the request's own deadline, if it has one.
    async fn own_deadline(&self) -> TaskError {
        match self.own_left() {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
        self.blame_deadline(
            CallError::Limit(LimitExceeded { limit: Limit::Deadline, allowed: 0, component: None }).into(),
        )
    }

    /// What a call tree that begins now may use.
    fn limits_now(&self) -> Limits {
        let mut limits = self.limits.clone();
        limits.deadline = self.own_left().map_or(limits.deadline, |left| left.min(limits.deadline));
        limits
    }

    /// Waits for its turn, which does not come while it is paused, and says how often it came.
    async fn turn(&self) -> (Turn, u32) {
        let about = self.task.about();
        loop {
            self.task.until_paused(false).await;
            tokio::select! {
                turn = self.tasks.0.turns.take(&about.tenant, about.priority.weight()) => {
                    if let Some(attempt) = turn.as_ref().and(self.task.start())
                        && let Some(turn) = turn
                    {
                        return (turn, attempt);
                    }
                }
                () = self.task.until_paused(true) => {}
            }
        }
    }

    /// What is to be done.
    async fn work(&self, source: Source) -> Result<Work, TaskError> {
        let store = match source {
            Source::Here(work) => return Ok(*work),
            Source::Stored => self.tasks.0.store.as_ref(),
        };
        let gone = || TaskError::new(Code::Internal, "what the task works on was not stored");
        let input = store.ok_or_else(gone)?.input(self.task.id()).await.map_err(|error| unstored(&error))?;
        let request: TaskRequest = serde_json::from_slice(&input.ok_or_else(gone)?).map_err(|error| {
            TaskError::new(Code::Internal, format!("what the task works on cannot be read: {error}"))
        })?;
        let parameters = request.parameters()?;
        let input = match request.input {
            Input::Text(text) => WorkInput::Text(text),
            Input::Documents(documents) => WorkInput::Documents(documents),
            Input::Paths(_) => WorkInput::Files(self.context.files().to_vec()),
        };
        Ok(Work { intent: request.intent, input, parameters })
    }

    pub(crate) fn envelope(&self, result: Result<Outcome, TaskError>) -> Envelope {
        let intent = &self.task.about().intent;
        let reason = match &self.handler {
            Some(handler) => format!("`[intents]` has the component `{}` serve `{intent}`", handler.component()),
            None => format!("`[intents]` has nothing serve `{intent}`"),
        };
        let (status, result, error) = match result {
            Ok(outcome) => (Status::Ok, Some(outcome), None),
            Err(error) => {
                let error = if self.own_is_tighter() { self.blame_deadline(error) } else { error };
                (Status::of(&error), None, Some(error))
            }
        };
        Envelope {
            schema_version: SCHEMA_VERSION,
            task_id: self.task.id(),
            intent: intent.clone(),
            status,
            engine: EngineChoice { route: Route::Local, chosen_by: "system.toml".to_owned(), reason },
            result,
            usage: self.task.account().map(|account| usage(self.task.age(), &account)).unwrap_or_default(),
            error,
        }
    }

    /// Whether the call tree had less time than it may have.
    fn own_is_tighter(&self) -> bool {
        self.task.account().is_some_and(|account| account.limits().deadline < self.limits.deadline)
    }

    /// Where the request's own deadline has ended it, no setting would help.
    fn blame_deadline(&self, error: TaskError) -> TaskError {
        let own = self.context.deadline_ms().map(|own| own.saturating_sub(self.task.about().created_at_ms));
        match own.filter(|_| error.limit.as_deref() == Some(Limit::Deadline.name())) {
            Some(deadline) => TaskError {
                message: format!("the task did not end within its `deadline_ms` of {deadline}"),
                setting: None,
                ..error
            }
            .at("deadline_ms"),
            None => error,
        }
    }
}

/// Why a task of `account` has ended before it was done.
fn why(account: &Account) -> TaskError {
    account.ended().cloned().unwrap_or(CallError::Cancelled).into()
}

/// The context of a call tree that may last as long as `limits` say, from now on.
fn within(context: &CallContext, limits: &Limits) -> CallContext {
    let deadline = u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX);
    context.narrow_deadline(now_ms().saturating_add(deadline))
}

/// How often it is tried to store an end, and how long to wait after the first time; each time is twice as long.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Stores how `task` has ended. Where that fails again and again, the client is told all the same; the next host will call
/// the task interrupted.
async fn store_end(store: &Store, task: &Task, envelope: &Envelope, at_ms: u64, deliveries: Vec<Delivery>) {
    let result = match serde_json::to_vec(&task.ending(envelope, at_ms)) {
        Ok(result) => result,
        Err(error) => return tracing::error!(task = %task.id(), %error, "the end of a task cannot be written down"),
    };
    let ended = Ended { id: task.id(), state: envelope.status.into(), at_ms, result, deliveries };
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match store.end(ended.clone()).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(task = %task.id(), error = &error as &dyn std::error::Error, "the end of a task is not stored yet");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
    if let Err(error) = store.end(ended).await {
        tracing::error!(task = %task.id(), error = &error as &dyn std::error::Error, "the end of a task was not stored");
    }
}

fn usage(age: Duration, account: &Account) -> Usage {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Usage {
        latency_ms: ms(age),
        cpu_ms: ms(Duration::from_nanos(account.used(Meter::Cpu))),
        memory_peak: account.memory_peak(),
        ..Usage::default()
    }
}

/// The longest name of a stage and the longest notice that are kept, in bytes.
const STAGE_BYTES: usize = 256;
const NOTICE_BYTES: usize = 4 << 10;

fn shortened(mut event: Event) -> Event {
    match &mut event {
        Event::Progress { stage, .. } => stage.truncate(stage.floor_char_boundary(STAGE_BYTES)),
        Event::Notice { text } => text.truncate(text.floor_char_boundary(NOTICE_BYTES)),
        Event::Text { .. } => {}
    }
    event
}
