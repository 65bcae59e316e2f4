//! The body of a request, within bounds of size and time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use witan_tasks::{Code, TaskError};

use crate::Settings;

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
    /// The client went away or broke the protocol.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

impl From<&BodyError> for TaskError {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge { setting, .. } => Self::new(Code::BodyTooLarge, error.to_string()).setting(*setting),
            BodyError::Late(_) => Self::new(Code::RequestTimeout, error.to_string()),
            BodyError::Broken(_) => Self::new(Code::InvalidRequest, error.to_string()),
        }
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
        Ok(Self { body, left: allowed, allowed, setting: settings.body_setting, time: settings.body_time, late: None })
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
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
