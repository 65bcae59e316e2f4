//! What goes on on a connection: whether the host has something to do for it, or only its client could have.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The most of an answer that is handed over at once: what a client has not taken is seen, but for this much.
const PIECE: usize = 64 << 10;

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Flights {
    began: Instant,
    /// Requests whose answers are not at their end.
    open: AtomicU32,
    /// Those of them with which the host is busy, or waits for something other than its client.
    busy: AtomicU32,
    /// When something last ended or was taken, in nanoseconds since the begin.
    last: AtomicU64,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The host has something to do for it.
    Busy,
    /// There are answers of which the client has taken nothing for so long.
    Untaken(Duration),
    /// There has been no request for so long.
    Idle(Duration),
}

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        let (open, busy, last) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
        Arc::new(Self { began: Instant::now(), open, busy, last })
    }

    /// Counts a request until the flight is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.open.fetch_add(1, Ordering::Release);
        self.busy.fetch_add(1, Ordering::Release);
        Flight { of: self.clone(), busy: true }
    }

    /// Whether there has been no request at all.
    pub(crate) fn is_silent(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0 && self.last.load(Ordering::Acquire) == 0
    }

    pub(crate) fn standing(&self) -> Standing {
        // What has ended has said so before it is counted out.
        let (open, busy) = (self.open.load(Ordering::Acquire), self.busy.load(Ordering::Acquire));
        let last = Duration::from_nanos(self.last.load(Ordering::Acquire));
        let quiet = self.began.elapsed().saturating_sub(last);
        match (open, busy) {
            (0, _) => Standing::Idle(quiet),
            (_, 0) => Standing::Untaken(quiet),
            _ => Standing::Busy,
        }
    }

    fn touch(&self) {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.fetch_max(since.max(1), Ordering::Release);
    }
}

/// A request, until its answer is at its end.
#[derive(Debug)]
pub(crate) struct Flight {
    of: Arc<Flights>,
    busy: bool,
}

impl Flight {
    /// The answer, which is for the client to take now.
    pub(crate) fn answer<B>(mut self, body: B) -> Answer<B> {
        self.set(false);
        Answer { body, flight: self, rest: Bytes::new() }
    }

    fn set(&mut self, busy: bool) {
        if self.busy == busy {
            if !busy {
                self.of.touch();
            }
            return;
        }
        self.busy = busy;
        if busy {
            self.of.busy.fetch_add(1, Ordering::Release);
        } else {
            self.of.touch();
            self.of.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.set(false);
        self.of.open.fetch_sub(1, Ordering::Release);
    }
}

/// The body of an answer. It is asked for its next part when the client has room for that.
#[derive(Debug)]
pub(crate) struct Answer<B> {
    body: B,
    flight: Flight,
    rest: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> Answer<B> {
    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE);
        Frame::data(self.rest.split_to(length))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.rest.is_empty() {
            self.flight.set(false);
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.flight.set(polled.is_pending());
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                self.rest = frame.into_data().unwrap_or_default();
                Poll::Ready(Some(Ok(self.piece())))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_long_answer_is_handed_over_in_pieces() {
        let flights = Flights::new();
        let long: Vec<u8> = (0..PIECE * 2 + 5).map(|number| number as u8).collect();
        let mut body = flights.begin().answer(Full::new(Bytes::from(long.clone())));
        assert_eq!(body.size_hint().exact(), Some(long.len() as u64));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), body.size_hint().exact()), (PIECE, Some((PIECE + 5) as u64)));
        assert!(!body.is_end_stream() && matches!(flights.standing(), Standing::Untaken(_)));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), long);
        assert!(matches!(flights.standing(), Standing::Idle(_)));
    }

    #[test]
    fn what_waits_for_the_host_is_not_what_waits_for_the_client() {
        let flights = Flights::new();
        assert!(flights.is_silent());
        let (one, other) = (flights.begin(), flights.begin());
        assert_eq!(flights.standing(), Standing::Busy);
        let (one, other) = (one.answer(Full::new(Bytes::new())), other.answer(http_body_util::Empty::<Bytes>::new()));
        assert!(matches!(flights.standing(), Standing::Untaken(_)));
        drop(one);
        assert!(matches!(flights.standing(), Standing::Untaken(_)));
        drop(other);
        assert!(matches!(flights.standing(), Standing::Idle(_)) && !flights.is_silent());
    }
}
