//! The body of a request, within bounds of size and time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{header, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use witan_tasks::{Code, TaskError};

use witan_telemetry::Metrics;

use crate::{
    Parts, Requests, Settings,
    asks::{Asks, WEIGHT},
};

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the host takes.
    #[error("the body is larger than {allowed} bytes; `{setting}` of `witan up` is the setting")]
    TooLarge {
        /// What the host takes, in bytes.
        allowed: u64,
        /// The option that sets it.
        setting: &'static str,
    },
    /// It did not arrive in time.
    #[error("the body did not arrive within {0:?}")]
    Late(std::time::Duration),
    /// With what came of it, its client asks more than it may.
    #[error("{0}")]
    Rate(Box<TaskError>),
    /// The client went away or broke the protocol.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

impl From<&BodyError> for TaskError {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge { setting, .. } => Self::new(Code::BodyTooLarge, error.to_string()).setting(*setting),
            BodyError::Late(_) => Self::new(Code::RequestTimeout, error.to_string()),
            BodyError::Rate(error) => Self::clone(error),
            BodyError::Broken(_) => Self::new(Code::InvalidRequest, error.to_string()),
        }
    }
}

/// What has a body charged that did not say its length.
struct Scales {
    requests: Requests,
    metrics: Arc<Metrics>,
    asks: Asks,
    /// Bytes that are not charged yet.
    light: u64,
}

impl std::fmt::Debug for Scales {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scales").field("light", &self.light).finish_non_exhaustive()
    }
}

impl Scales {
    fn weigh(&mut self, bytes: u64) -> Result<(), BodyError> {
        self.light += bytes;
        let cost = u32::try_from(self.light / WEIGHT).unwrap_or(u32::MAX);
        self.light %= WEIGHT;
        if cost == 0 {
            return Ok(());
        }
        self.requests.charge(&self.asks, cost, &self.metrics).map_err(|(error, _)| BodyError::Rate(Box::new(error)))
    }
}

/// The body of a request. It ends with an error when it is too large or too slow.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    left: u64,
    allowed: u64,
    setting: &'static str,
    time: std::time::Duration,
    /// Made when there is something to wait for: most bodies come with their headers, and need none.
    late: Option<Pin<Box<Sleep>>>,
    scales: Option<Box<Scales>>,
}

impl RequestBody {
    /// Bounds `body`, from now on.
    ///
    /// # Errors
    /// When it announces more bytes than it may have.
    pub(crate) fn new(body: Incoming, settings: &Settings) -> Result<Self, BodyError> {
        let allowed = settings.body_bytes;
        if body.size_hint().lower() > allowed {
            return Err(BodyError::TooLarge { allowed, setting: settings.body_setting });
        }
        let (setting, time) = (settings.body_setting, settings.body_time);
        Ok(Self { body, left: allowed, allowed, setting, time, late: None, scales: None })
    }

    /// The body of the request with this head, charged to its client as it comes where its length was not said.
    pub(crate) fn weighed(mut self, head: &request::Parts, parts: &Parts) -> Self {
        if head.headers.contains_key(header::CONTENT_LENGTH) || self.body.is_end_stream() {
            return self;
        }
        self.scales = head.extensions.get::<Asks>().map(|asks| {
            let (requests, metrics) = (parts.requests.clone(), parts.metrics.clone());
            Box::new(Scales { requests, metrics, asks: asks.clone(), light: 0 })
        });
        self
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                if let Some(scales) = &mut self.scales {
                    scales.weigh(bytes)?;
                }
                Ok(frame)
            }
            None => Err(BodyError::TooLarge { allowed: self.allowed, setting: self.setting }),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(this.count(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let time = this.time;
                let late = this.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + time)));
                late.as_mut().poll(context).map(|()| Some(Err(BodyError::Late(time))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
