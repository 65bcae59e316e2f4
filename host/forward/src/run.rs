//! A call that streams: the items it gives on the way, and how it ended.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use witan_capability::{CallError, Incoming};
use witan_engine::Ended;

/// The rest of a call, held by the items and by the verdict: when both are gone, the call is cancelled.
type Held = Option<Arc<Mutex<Ended>>>;

/// A call under way.
#[derive(Debug)]
pub struct Run<T, S, E> {
    /// What it gives on the way.
    pub events: Events<T>,
    /// How it ended.
    pub verdict: Verdict<S, E>,
}

impl<T, S, E> Run<T, S, E> {
    /// A run that gives `events` and ends with what `verdict` is sent. If that is dropped, the call has failed.
    #[must_use]
    pub fn new(events: Incoming<T>, verdict: oneshot::Receiver<Result<S, E>>) -> Self {
        Self {
            events: Events { incoming: Some(events), _held: None },
            verdict: Verdict { answer: Answer::Waiting(verdict), held: None },
        }
    }

    /// A run that failed before it began.
    #[must_use]
    pub fn failed(error: CallError) -> Self {
        Self {
            events: Events { incoming: None, _held: None },
            verdict: Verdict { answer: Answer::Failed(Some(error)), held: None },
        }
    }

    pub(crate) fn held(parts: Parts<T, S, E>, ended: Ended) -> Self {
        let held = Some(Arc::new(Mutex::new(ended)));
        Self {
            events: Events { incoming: Some(parts.events), _held: held.clone() },
            verdict: Verdict { answer: Answer::Waiting(parts.verdict), held },
        }
    }
}

/// What comes out of the store of a callee.
pub(crate) struct Parts<T, S, E> {
    pub(crate) events: Incoming<T>,
    pub(crate) verdict: oneshot::Receiver<Result<S, E>>,
}

/// What a run gives on the way.
pub struct Events<T> {
    incoming: Option<Incoming<T>>,
    _held: Held,
}

impl<T> Events<T> {
    /// The next items, or none when there are no more: the verdict says why.
    pub async fn next(&mut self) -> Option<Vec<T>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Polls for the next items.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        match &mut self.incoming {
            Some(incoming) => incoming.poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

impl<T> From<Incoming<T>> for Events<T> {
    fn from(incoming: Incoming<T>) -> Self {
        Self { incoming: Some(incoming), _held: None }
    }
}

impl<T> std::fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// How a run ended: a future of what the callee answered, or of why the call did not complete.
#[derive(Debug)]
pub struct Verdict<S, E> {
    answer: Answer<S, E>,
    held: Held,
}

#[derive(Debug)]
enum Answer<S, E> {
    Waiting(oneshot::Receiver<Result<S, E>>),
    /// The callee is gone without one.
    Gone,
    /// Why it failed, until that is told.
    Failed(Option<CallError>),
}

impl<S, E> Future for Verdict<S, E> {
    type Output = Result<Result<S, E>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.answer {
            Answer::Failed(error) => return Poll::Ready(Err(error.take().unwrap_or_else(no_verdict))),
            Answer::Waiting(answer) => match pin!(answer).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(answer)) => return Poll::Ready(Ok(answer)),
                // It is not to be polled again.
                Poll::Ready(Err(_)) => this.answer = Answer::Gone,
            },
            Answer::Gone => {}
        }
        // The callee is gone without a verdict; how its call ended says why.
        let Some(held) = &this.held else { return Poll::Ready(Err(no_verdict())) };
        let mut ended = held.lock();
        match pin!(ended.wait()).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Err(no_verdict())),
        }
    }
}

fn no_verdict() -> CallError {
    CallError::Internal("the call ended without a verdict".to_owned())
}

#[cfg(test)]
mod tests {
    use witan_capability::{Account, Limits, channel};

    use super::*;

    #[tokio::test]
    async fn a_run_of_the_host_gives_its_items_and_its_verdict() {
        let account = Account::open(Limits::default());
        let (mut outgoing, incoming) = channel(&account);
        let (sender, receiver) = oneshot::channel();
        let mut run = Run::<u8, u8, ()>::new(incoming, receiver);
        outgoing.send(vec![1, 2], 0).await.unwrap();
        drop(outgoing);
        sender.send(Ok(3)).unwrap();
        assert_eq!(run.events.next().await, Some(vec![1, 2]));
        assert_eq!(run.events.next().await, None);
        assert_eq!(run.verdict.await, Ok(Ok(3)));
    }

    #[tokio::test]
    async fn a_run_that_failed_has_no_items_and_says_why() {
        let mut run = Run::<u8, u8, ()>::failed(CallError::Cancelled);
        assert_eq!(run.events.next().await, None);
        assert_eq!(run.verdict.await, Err(CallError::Cancelled));
    }

    #[tokio::test]
    async fn a_callee_that_is_gone_before_it_is_known_why_is_waited_for() {
        let (_, receiver) = oneshot::channel();
        let (_, events) = channel(&Account::open(Limits::default()));
        let (fail, failure) = oneshot::channel();
        let run = Run::<u8, u8, ()>::held(Parts { events, verdict: receiver }, Ended::new(failure, None));
        let mut verdict = pin!(run.verdict);
        for _ in 0..2 {
            let pending = std::future::poll_fn(|context| Poll::Ready(verdict.as_mut().poll(context).is_pending()));
            assert!(pending.await);
        }
        fail.send(CallError::Cancelled).unwrap();
        assert_eq!(verdict.await, Err(CallError::Cancelled));
    }

    #[tokio::test]
    async fn a_verdict_that_never_comes_is_a_failure() {
        let (_, receiver) = oneshot::channel();
        let (_, incoming) = channel(&Account::open(Limits::default()));
        let run = Run::<u8, u8, ()>::new(incoming, receiver);
        assert!(matches!(run.verdict.await, Err(CallError::Internal(_))));
    }
}
