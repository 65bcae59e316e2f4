//! Drives a component and answers with its response, in one task.
//!
//! The component runs while somebody waits for it: first for the response, then for the parts of its body. That spares
//! each request a second task and the wake-ups between the two, and cancels the call when the client goes away.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, WasiBody};
use witan_capability::CallError;

type Run = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The call that wrote it ended.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The component gave it up, or wrote less or more than it had announced.
    #[error("the component's response broke off")]
    Body(#[source] Error),
}

/// Runs `run` until there is a response.
pub(crate) async fn respond(
    run: impl Future<Output = Result<(), CallError>> + Send + 'static,
    mut response: oneshot::Receiver<Response<WasiBody>>,
    method: &Method,
    component: &str,
) -> Result<Response<ResponseBody>, CallError> {
    let mut run: Run = Box::pin(run);
    let (mut ended, mut silent) = (None, false);
    let answer = poll_fn(|context| {
        if let Poll::Ready(end) = run.as_mut().poll(context) {
            ended = Some(end);
            return Poll::Ready(response.try_recv().ok());
        }
        if !silent {
            match Pin::new(&mut response).poll(context) {
                Poll::Ready(Ok(response)) => return Poll::Ready(Some(response)),
                // How the call ends says why.
                Poll::Ready(Err(_)) => silent = true,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    });
    let answer = answer.await;
    let run = match ended {
        Some(end) => {
            end?;
            None
        }
        None => Some(run),
    };
    let unanswered = || CallError::Trapped { component: component.to_owned(), message: "it gave no answer".to_owned() };
    let (head, body) = answer.ok_or_else(unanswered)?.into_parts();
    let bodiless = *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Response::from_parts(head, ResponseBody { body, run, left: if bodiless { Some(0) } else { announced } }))
}

/// The body of a component's response, which runs the component while it is read.
pub struct ResponseBody {
    body: WasiBody,
    run: Option<Run>,
    /// Bytes that are still due, where that is known; 0 also when the body has ended.
    left: Option<u64>,
}

impl ResponseBody {
    fn complete(&self) -> bool {
        self.left == Some(0) || self.body.is_end_stream()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(run) = &mut self.run
            && let Poll::Ready(end) = run.as_mut().poll(context)
        {
            self.run = None;
            if let Err(error) = end {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.left = Some(0),
            Some(Ok(frame)) => {
                let part = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(part));
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Body)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    /// Leaves the rest of the call to itself if the client has everything. Otherwise the client went away, and the call
    /// with it.
    fn drop(&mut self) {
        let rest = self.run.take().filter(|_| self.complete());
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}
