//! A service: a component under its name, and how it is called.
//!
//! Each call runs in a store of its own, driven by a task of its own: wasmtime refuses to drive one store from
//! within another, and a task that is dropped takes the guest with it, which nothing else does.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::{future::poll_fn, pin::pin};

use parking_lot::RwLock;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::AbortHandle,
};
use tracing::Instrument as _;
use wasmtime::component::{Accessor, Instance};
use witan_capability::{Account, Call, CallContext, CallError, CallState, Kernel, Limit, Limits};

use crate::{
    Session, Version,
    breaker::Breaker,
    drive::Drive,
    failure::failure,
    version::{InFlight, Leased},
};

/// What a service admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Calls under way at once.
    pub concurrency: u32,
    /// Calls that may wait for a place.
    pub queue: u32,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self { concurrency: 1_000, queue: 1_000 }
    }
}

/// What is to be done with an instance.
pub trait Invocation: Send + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// Looks at the version that is to be called, before there is an instance of it: see [`Version::resolved`].
    ///
    /// # Errors
    /// When the version cannot serve this call.
    fn prepare(&mut self, _version: &Version) -> Result<(), CallError> {
        Ok(())
    }

    /// Calls into `instance`. Gives the output to `reply` as soon as it is known, and returns when the host has nothing
    /// left to do: the streams that the output carries have ended. What the guest still does by itself, the engine
    /// waits for.
    ///
    /// An error ends the store. One that is a [`CallError`] inside reaches the caller as such.
    fn run(
        self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Self::Output>,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send;
}

/// Where an invocation puts its output.
pub struct Reply<T> {
    sender: oneshot::Sender<T>,
    /// Whether the store is driven by another task than the one that waits.
    apart: bool,
}

impl<T> Reply<T> {
    pub(crate) fn new(sender: oneshot::Sender<T>) -> Self {
        Self { sender, apart: false }
    }

    /// A reply to a task that does not itself drive the store.
    pub(crate) fn apart(sender: oneshot::Sender<T>) -> Self {
        Self { sender, apart: true }
    }

    /// Lets the guest do what it can do at once, for an output that goes on, such as a body: whoever is sent its head then
    /// finds its first part there, and need not be woken twice. Where the same task drives the store and takes the output,
    /// that is so anyway.
    pub async fn settle(&self) {
        if self.apart {
            tokio::task::yield_now().await;
        }
    }

    /// Gives the output to the caller. If the caller is gone, so is the output.
    pub fn send(self, output: T) {
        let _gone = self.sender.send(output);
    }
}

/// How the rest of a call ends, after its output was given: holds the call as long as it lives, and cancels the call
/// when it is dropped.
#[derive(Debug)]
pub struct Ended {
    failure: oneshot::Receiver<CallError>,
    abort: Option<AbortHandle>,
}

impl Ended {
    /// The rest of a call that sends through `failure` why it ended before it was done, and that `abort` cancels.
    #[must_use]
    pub fn new(failure: oneshot::Receiver<CallError>, abort: Option<AbortHandle>) -> Self {
        Self { failure, abort }
    }

    /// Waits for the end of the call; the error says why it ended before it was done.
    ///
    /// # Errors
    /// When the component trapped or the call tree ended.
    pub async fn wait(&mut self) -> Result<(), CallError> {
        // A sender that is dropped without a failure means that all went well.
        (&mut self.failure).await.map_or(Ok(()), Err)
    }

    /// Lets the rest of the call go on by itself.
    pub fn detach(mut self) {
        self.abort = None;
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

/// Leave to run one call.
pub struct Admission {
    _place: OwnedSemaphorePermit,
    version: InFlight,
}

/// Counters of a service since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceStats {
    /// Calls under way.
    pub active: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
    /// Calls that ended well.
    pub completed: u64,
    /// Calls that trapped.
    pub trapped: u64,
    /// Calls that were ended by a limit or cancelled.
    pub ended: u64,
    /// Calls that were turned away: queue full or breaker open.
    pub refused: u64,
    /// Processor time of guests, in nanoseconds.
    pub cpu_ns: u64,
    /// Whether the breaker is open.
    pub breaker_open: bool,
}

/// A component under its name.
pub struct Service {
    name: Arc<str>,
    kernel: Arc<Kernel>,
    settings: ServiceSettings,
    limits: Option<Limits>,
    current: RwLock<Arc<Version>>,
    places: Arc<Semaphore>,
    stopped: OnceLock<String>,
    waiting: AtomicUsize,
    breaker: Breaker,
    completed: AtomicU64,
    trapped: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Service {
    /// A service called `name` that runs `version`.
    #[must_use]
    pub fn new(
        name: impl Into<Arc<str>>,
        kernel: Arc<Kernel>,
        settings: ServiceSettings,
        version: Arc<Version>,
    ) -> Arc<Self> {
        Arc::new(Self::with(name.into(), kernel, settings, version, None))
    }

    /// As [`Self::new`], with calls held to `limits` of the component's own, where those are narrower than what is left
    /// of the call tree's.
    #[must_use]
    pub fn limited(
        name: impl Into<Arc<str>>,
        kernel: Arc<Kernel>,
        settings: ServiceSettings,
        version: Arc<Version>,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self::with(name.into(), kernel, settings, version, Some(limits)))
    }

    fn with(
        name: Arc<str>,
        kernel: Arc<Kernel>,
        settings: ServiceSettings,
        version: Arc<Version>,
        limits: Option<Limits>,
    ) -> Self {
        Self {
            name,
            kernel,
            settings,
            limits,
            current: RwLock::new(version),
            places: Arc::new(Semaphore::new(settings.concurrency as usize)),
            stopped: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            breaker: Breaker::default(),
            completed: AtomicU64::new(0),
            trapped: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
        }
    }

    /// Its name in the system.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that new calls get.
    #[must_use]
    pub fn current(&self) -> Arc<Version> {
        self.current.read().clone()
    }

    /// Puts `version` in place of the current one, which is returned: calls under way finish on it.
    pub fn replace(&self, version: Arc<Version>) -> Arc<Version> {
        self.breaker.record(false);
        let replaced = std::mem::replace(&mut *self.current.write(), version);
        replaced.instances.retire();
        replaced
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> ServiceStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServiceStats {
            active: (self.settings.concurrency as usize).saturating_sub(self.places.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            completed: load(&self.completed),
            trapped: load(&self.trapped),
            ended: load(&self.ended),
            refused: load(&self.refused),
            cpu_ns: load(&self.cpu_ns),
            breaker_open: self.breaker.is_open(),
        }
    }

    /// Waits for a place and takes it.
    ///
    /// # Errors
    /// When the breaker is open, the queue is full, or the call tree ends while waiting.
    pub async fn admit(&self, account: &Account) -> Result<Admission, CallError> {
        if !self.breaker.admits() {
            return Err(self.refuse("it trapped too often, and its breaker is open for a while".to_owned()));
        }
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::Closed) => return Err(self.stopped()),
            Err(tokio::sync::TryAcquireError::NoPermits) => self.wait_for_place(account).await?,
        };
        Ok(Admission { _place: place, version: self.current.read().enter() })
    }

    async fn wait_for_place(&self, account: &Account) -> Result<OwnedSemaphorePermit, CallError> {
        let _waiting = Waiting::enter(&self.waiting);
        if self.waiting.load(Ordering::Relaxed) > self.settings.queue as usize {
            return Err(self.refuse(format!(
                "{} calls wait already; `components.{}.limits.queue` is the setting",
                self.settings.queue, self.name
            )));
        }
        tokio::select! {
            place = self.places.clone().acquire_owned() => {
                place.map_err(|_| self.stopped())
            }
            () = account.when_ended() => Err(account.check().err().unwrap_or(CallError::Cancelled)),
        }
    }

    /// Takes no more calls, those that wait included, and says why; calls under way finish.
    pub fn stop(&self, reason: impl Into<String>) {
        let _first = self.stopped.set(reason.into());
        self.places.close();
        self.current().instances.retire();
    }

    /// Whether it has been stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.places.is_closed()
    }

    fn stopped(&self) -> CallError {
        self.refuse(self.stopped.get().map_or("it has been stopped", String::as_str).to_owned())
    }

    fn refuse(&self, reason: String) -> CallError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        CallError::Unavailable { component: self.name.to_string(), reason }
    }

    /// The call that one with `context` and `account` makes to this service: one deeper, with this service's own
    /// component.
    ///
    /// # Errors
    /// When the tree has ended or is deep enough.
    pub fn call_below(
        &self,
        version: &Version,
        context: &CallContext,
        account: &Arc<Account>,
    ) -> Result<Call, CallError> {
        account.check()?;
        let context = context.child();
        if context.depth() > account.limits().depth {
            return Err(account.exceed(Limit::Depth).into());
        }
        Ok(Call {
            context,
            account: self.narrowed(version, account),
            component: version.component().clone(),
            kernel: self.kernel.clone(),
        })
    }

    /// `account`, or one within it where the component's own limits are narrower.
    fn narrowed(&self, version: &Version, account: &Arc<Account>) -> Arc<Account> {
        match &self.limits {
            Some(limits) if Limit::ALL.iter().any(|limit| limit.allowed(limits) < limit.allowed(account.limits())) => {
                version.engine.open_account_within(account, self.name.clone(), limits.clone())
            }
            _ => account.clone(),
        }
    }

    /// Calls the component in a store of its own, on behalf of `context` and at the cost of `account`.
    ///
    /// Returns when the output is known; what is left of the call is held by [`Ended`]. Dropping the future, or that,
    /// cancels the call.
    ///
    /// # Errors
    /// When the call is not admitted, traps, or its tree ends.
    pub async fn call<I: Invocation>(
        self: &Arc<Self>,
        context: &CallContext,
        account: &Arc<Account>,
        invocation: I,
    ) -> Result<(I::Output, Ended), CallError> {
        let (run, output) = self.begin(context, account, invocation).await?;
        let (fail, failure) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Err(error) = run.await {
                let _gone = fail.send(error);
            }
        });
        let mut ended = Ended::new(failure, Some(task.abort_handle()));
        match output.await {
            // A guest may make an answer of the error that its limit gave it; the limit goes before.
            Ok(output) => match account.ended() {
                Some(reason) => Err(reason.clone()),
                None => Ok((output, ended)),
            },
            Err(_) => Err(ended.wait().await.err().unwrap_or_else(|| {
                CallError::Internal(format!("the call of `{}` ended without an answer", self.name))
            })),
        }
    }

    /// Admits a call and leaves it to the caller to drive: the future runs the guest, and dropping it cancels the call.
    /// The output comes through the channel as soon as it is known.
    ///
    /// For a caller whose own task has nothing else to do, which spares it a second task. The future must not be polled
    /// from within a host function: wasmtime refuses to drive one store inside another.
    ///
    /// # Errors
    /// When the call is not admitted, or its tree has ended.
    pub async fn begin<I: Invocation>(
        self: &Arc<Self>,
        context: &CallContext,
        account: &Arc<Account>,
        mut invocation: I,
    ) -> Result<(impl Future<Output = Result<(), CallError>> + Send + use<I>, oneshot::Receiver<I::Output>), CallError>
    {
        let admission = self.admit(account).await?;
        let call = self.call_below(&admission.version.0, context, account)?;
        invocation.prepare(&admission.version.0)?;
        let (reply, output) = oneshot::channel();
        let span = self.span(&call);
        let service = self.clone();
        let shared = self.share(&admission.version.0, &call);
        let run = async move {
            match shared {
                Some(session) => service.run_beside(admission, call, &session, invocation, Reply::new(reply)).await,
                None => service.run(admission, call, Once { invocation, reply: Reply::new(reply) }).await,
            }
        };
        Ok((run.instrument(span), output))
    }

    /// Opens a store for many calls on behalf of `context` and at the cost of `account`. It takes the place of one call
    /// as long as it lives.
    ///
    /// # Errors
    /// When it is not admitted, or the tree has ended.
    pub async fn session(
        self: &Arc<Self>,
        context: &CallContext,
        account: &Arc<Account>,
    ) -> Result<Session, CallError> {
        let admission = self.admit(account).await?;
        let call = self.call_below(&admission.version.0, context, account)?;
        let span = self.span(&call);
        let service = self.clone();
        Ok(Session::new(self.name.clone(), |serve, end| {
            let run = async move {
                let result = service.run(admission, call, serve).await;
                end.send_replace(Some(result));
            };
            tokio::spawn(run.instrument(span)).abort_handle()
        }))
    }

    /// As [`Self::call`], for an output that leaves nothing behind: the rest of the call goes on by itself.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_plain<I: Invocation>(
        self: &Arc<Self>,
        context: &CallContext,
        account: &Arc<Account>,
        invocation: I,
    ) -> Result<I::Output, CallError> {
        let (output, ended) = self.call(context, account, invocation).await?;
        ended.detach();
        Ok(output)
    }

    fn span(&self, call: &Call) -> tracing::Span {
        tracing::info_span!(
            "component.call",
            component = %self.name,
            depth = call.context.depth(),
            trace = %call.context.trace(),
            cpu_us = tracing::field::Empty,
            memory_peak = tracing::field::Empty,
            outcome = tracing::field::Empty,
        )
    }

    async fn run(&self, admission: Admission, call: Call, work: impl Occupy) -> Result<(), CallError> {
        let account = call.account.clone();
        let version = admission.version.0.clone();
        let mut cpu = std::time::Duration::ZERO;
        let occupied = pin!(occupy(version, call, work));
        let driven = Drive::new(account.clone(), &mut cpu, occupied).await;
        let result = outcome(&self.name, &account, driven);
        self.record(&result, cpu, &account);
        drop(admission);
        result
    }

    /// The instance that runs `call` beside others, where its component allows that.
    fn share(self: &Arc<Self>, version: &Arc<Version>, call: &Call) -> Option<Arc<Session>> {
        version.instances.share(call, |context, limits| {
            let account = version.engine.open_account(limits);
            let call = Call { context, account: account.clone(), ..call.clone() };
            (Arc::new(self.open_shared(version.clone(), call)), account)
        })
    }

    /// A session that belongs to no call. Its task holds neither this service nor the version, which hold it.
    fn open_shared(self: &Arc<Self>, version: Arc<Version>, call: Call) -> Session {
        let (service, name, span) = (Arc::downgrade(self), self.name.clone(), self.span(&call));
        Session::draining(self.name.clone(), |serve, end| {
            let run = async move {
                let account = call.account.clone();
                let mut cpu = std::time::Duration::ZERO;
                let occupied = pin!(occupy(version, call, serve));
                let driven = Drive::new(account.clone(), &mut cpu, occupied).await;
                let result = outcome(&name, &account, driven);
                if let Some(service) = service.upgrade() {
                    service.record_end(&result, cpu, &account);
                }
                end.send_replace(Some(result));
            };
            tokio::spawn(run.instrument(span)).abort_handle()
        })
    }

    /// Runs a call in an instance that it shares. Its limits end the call; those of the instance end all of its calls.
    async fn run_beside<I: Invocation>(
        &self,
        admission: Admission,
        call: Call,
        session: &Session,
        invocation: I,
        reply: Reply<I::Output>,
    ) -> Result<(), CallError> {
        let result = tokio::select! {
            result = session.run(invocation, reply) => result,
            () = call.account.when_ended() => Err(call.account.check().err().unwrap_or(CallError::Cancelled)),
        };
        self.count(&result);
        if result.is_ok() {
            self.breaker.record(false);
        }
        drop(admission);
        result
    }

    fn count(&self, result: &Result<(), CallError>) {
        let counter = match result {
            Ok(()) => &self.completed,
            Err(CallError::Trapped { .. } | CallError::Internal(_)) => &self.trapped,
            Err(_) => &self.ended,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, result: &Result<(), CallError>, cpu: std::time::Duration, account: &Account) {
        self.count(result);
        self.record_end(result, cpu, account);
    }

    /// Notes how a store ended.
    fn record_end(&self, result: &Result<(), CallError>, cpu: std::time::Duration, account: &Account) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        match result {
            Ok(()) => self.breaker.record(false),
            Err(CallError::Trapped { .. }) => self.breaker.record(true),
            // A call that was cancelled says nothing of the component.
            Err(_) => {}
        }
        let span = tracing::Span::current();
        if !span.is_disabled() {
            span.record("cpu_us", u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX));
            span.record("memory_peak", account.memory_peak());
            span.record("outcome", result.as_ref().map_or_else(|error| error.code(), |()| "ok"));
        }
        if let Err(error @ CallError::Trapped { .. }) = result {
            tracing::warn!(component = %self.name, %error, "a component trapped");
        }
    }
}

/// What is done with a store while it is leased.
pub(crate) trait Occupy: Send {
    /// Whether the store may serve other calls afterwards.
    const KEEP: bool;

    fn occupy(self, leased: &mut Leased) -> impl Future<Output = wasmtime::Result<()>> + Send;
}

/// One call.
struct Once<I: Invocation> {
    invocation: I,
    reply: Reply<I::Output>,
}

impl<I: Invocation> Occupy for Once<I> {
    const KEEP: bool = true;

    async fn occupy(self, leased: &mut Leased) -> wasmtime::Result<()> {
        let instance = leased.instance;
        let run = async |accessor: &Accessor<CallState>| {
            self.invocation.run(accessor, instance, self.reply).await?;
            // The guest may have more to do; its instance serves no other call before that is done.
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(())
        };
        leased.store.run_concurrent(run).await?
    }
}

async fn occupy<W: Occupy>(version: Arc<Version>, call: Call, work: W) -> wasmtime::Result<()> {
    let mut leased = version.lease(call).await?;
    if W::KEEP {
        work.occupy(&mut leased).await?;
        version.give_back(leased);
        Ok(())
    } else {
        // Whoever holds the session may be held by the version.
        drop(version);
        work.occupy(&mut leased).await
    }
}

/// How a store ended that was driven.
fn outcome(
    component: &str,
    account: &Account,
    driven: Result<wasmtime::Result<()>, CallError>,
) -> Result<(), CallError> {
    match driven {
        Ok(Ok(())) => Ok(()),
        // A limit that ended the tree may come back as whatever error the guest made of it.
        Ok(Err(error)) => Err(account.ended().cloned().unwrap_or_else(|| failure(component, &error, account))),
        Err(error) => Err(error),
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
