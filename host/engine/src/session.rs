//! A store that serves many calls: what one call leaves in it, such as a resource, is there for the next.
//!
//! A task of its own owns the store and runs what it is sent. Calls run concurrently. What needs the store to itself,
//! such as a destructor, runs between two turns of the store's event loop, while calls under way keep their places.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use wasmtime::{
    Store,
    component::{Accessor, AccessorTask, Instance},
};
use witan_capability::{CallError, CallState};

use crate::{
    service::{Invocation, Occupy, Reply},
    version::Leased,
};

/// A future that borrows the store of a session.
pub type Exclusive<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

type Start = Box<dyn FnOnce(&Accessor<CallState>, Instance) -> wasmtime::Result<()> + Send>;
type Cleanup = Box<dyn for<'a> FnOnce(&'a mut Store<CallState>) -> Exclusive<'a> + Send>;

enum Work {
    Call(Start),
    Cleanup(Cleanup),
}

/// A store that serves many calls of one caller, who shares its fate: a trap in one call ends them all.
///
/// Dropping it ends the calls that are under way, and then the store. Clean-ups that were asked for are done first.
pub struct Session {
    component: Arc<str>,
    work: mpsc::UnboundedSender<Work>,
    end: watch::Receiver<End>,
    cleanups: Arc<AtomicUsize>,
    /// The task that owns the store, if it is to end at once when nobody can ask for more.
    task: Option<AbortHandle>,
}

/// How a session ended, once it has.
pub(crate) type End = Option<Result<(), CallError>>;

/// The side of a session that owns the store.
pub(crate) struct Serve {
    work: mpsc::UnboundedReceiver<Work>,
    cleanups: Arc<AtomicUsize>,
    /// Whether what guests do by themselves is waited for, when nobody can ask for more.
    drains: bool,
}

impl Session {
    /// A session of `component`, and the work to give to the task that `spawn` makes.
    pub(crate) fn new(component: Arc<str>, spawn: impl FnOnce(Serve, watch::Sender<End>) -> AbortHandle) -> Self {
        let (mut session, task) = Self::open(component, false, spawn);
        session.task = Some(task);
        session
    }

    /// As [`Self::new`], for callers who do not know of one another: when it is dropped, what its guest still does, such
    /// as to write the body of a response, goes on within the limits of the store.
    pub(crate) fn draining(component: Arc<str>, spawn: impl FnOnce(Serve, watch::Sender<End>) -> AbortHandle) -> Self {
        Self::open(component, true, spawn).0
    }

    fn open(
        component: Arc<str>,
        drains: bool,
        spawn: impl FnOnce(Serve, watch::Sender<End>) -> AbortHandle,
    ) -> (Self, AbortHandle) {
        let (work, receiver) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(None);
        let cleanups = Arc::new(AtomicUsize::new(0));
        let task = spawn(Serve { work: receiver, cleanups: cleanups.clone(), drains }, ended);
        (Self { component, work, end, cleanups, task: None }, task)
    }

    /// Runs `invocation` in the store, beside whatever else runs there, and returns its output.
    ///
    /// Dropping the future drops the output; the guest is not told, for its store is shared.
    ///
    /// # Errors
    /// When the session ends before the output is known: this or another of its calls trapped, or its tree ended.
    pub async fn call<I: Invocation>(&self, invocation: I) -> Result<I::Output, CallError> {
        let (reply, output) = oneshot::channel();
        let _done = self.start(invocation, Reply::apart(reply));
        match output.await {
            Ok(output) => Ok(output),
            Err(_) => Err(self.failure().await),
        }
    }

    /// As [`Self::call`], but waits until the call has nothing left to do, with its output in `reply` before. Dropping
    /// the future drops the reply.
    pub(crate) async fn run<I: Invocation>(&self, invocation: I, reply: Reply<I::Output>) -> Result<(), CallError> {
        let (own, output) = oneshot::channel();
        let done = self.start(invocation, Reply::apart(own));
        if let Ok(output) = output.await {
            reply.send(output);
        }
        match done.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    fn start<I: Invocation>(&self, invocation: I, reply: Reply<I::Output>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let start: Start = Box::new(move |accessor, instance| {
            accessor.spawn(Task { invocation, instance, reply, done })?;
            Ok(())
        });
        // Where the session has ended, so have both channels.
        let _ended = self.work.send(Work::Call(start));
        receiver
    }

    async fn failure(&self) -> CallError {
        self.ended().await.err().unwrap_or_else(|| {
            CallError::Internal(format!("the session of `{}` ended without an answer", self.component))
        })
    }

    /// Runs `cleanup` with the store to itself, after the work that was asked for before.
    pub fn cleanup(&self, cleanup: impl for<'a> FnOnce(&'a mut Store<CallState>) -> Exclusive<'a> + Send + 'static) {
        self.cleanups.fetch_add(1, Ordering::AcqRel);
        // A session that has ended has nothing to clean up.
        let _ended = self.work.send(Work::Cleanup(Box::new(cleanup)));
    }

    /// Waits until the session has ended.
    ///
    /// # Errors
    /// When it ended because a call trapped or its tree ended.
    pub async fn ended(&self) -> Result<(), CallError> {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(())),
            // The task was dropped together with the host's runtime.
            Err(_) => Err(CallError::Cancelled),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // With clean-ups to come, the task ends by itself once they are done: it sees that nobody can send more.
        if let Some(task) = self.task.take_if(|_| self.cleanups.load(Ordering::Acquire) == 0) {
            task.abort();
        }
    }
}

impl Serve {
    /// Starts calls until there is something that needs the store, or nobody is left to ask.
    async fn until_cleanup(
        &mut self,
        accessor: &Accessor<CallState>,
        instance: Instance,
    ) -> wasmtime::Result<Option<Cleanup>> {
        loop {
            match self.work.recv().await {
                Some(Work::Call(start)) => start(accessor, instance)?,
                Some(Work::Cleanup(cleanup)) => return Ok(Some(cleanup)),
                None => break,
            }
        }
        if self.drains {
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        }
        Ok(None)
    }
}

impl Occupy for Serve {
    const KEEP: bool = false;

    async fn occupy(mut self, leased: &mut Leased) -> wasmtime::Result<()> {
        let instance = leased.instance;
        let store = &mut leased.store;
        while let Some(cleanup) =
            store.run_concurrent(async |accessor| self.until_cleanup(accessor, instance).await).await??
        {
            cleanup(store).await?;
            self.cleanups.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(())
    }
}

struct Task<I: Invocation> {
    invocation: I,
    instance: Instance,
    reply: Reply<I::Output>,
    done: oneshot::Sender<()>,
}

impl<I: Invocation> AccessorTask<CallState> for Task<I> {
    async fn run(self, accessor: &Accessor<CallState>) -> wasmtime::Result<()> {
        self.invocation.run(accessor, self.instance, self.reply).await?;
        // Most callers only want the output.
        let _gone = self.done.send(());
        Ok(())
    }
}
