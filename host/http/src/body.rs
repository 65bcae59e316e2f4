//! Bodies on their way through the client: metered on the way out, timed on the way in.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};
use witan_capability::{Account, Meter};
use witan_secrets::{Scan, Scanner};

use crate::client::Times;
use crate::{client, headers};

/// A request's body, charged to the call tree as it is sent.
pub(crate) struct Sent {
    body: WasiBody,
    account: Arc<Account>,
}

impl Sent {
    pub(crate) fn new(body: WasiBody, account: Arc<Account>) -> Self {
        Self { body, account }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.and_then(|frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len) + frame.trailers_ref().map_or(0, headers::size);
            match self.account.charge(Meter::BytesOut, bytes as u64) {
                Ok(()) => Ok(frame),
                Err(_) => Err(Error::HttpRequestBodySize(None)),
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, which must keep coming.
pub(crate) struct Received {
    body: Incoming,
    times: Times,
    /// When the next frame must be here. Not made before a frame is waited for: most small bodies are there already.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub(crate) fn new(body: Incoming, times: Times) -> Self {
        Self { body, times, patience: None }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.patience = None;
                Poll::Ready(frame.map(|frame| frame.map_err(client::code)))
            }
            Poll::Pending => {
                let until = self.times.between_bytes();
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                ready!(patience.as_mut().poll(context));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
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

/// A response's body in which the secrets of its request are covered.
pub(crate) struct Scanned {
    body: Received,
    scanner: Scanner,
    /// What comes after the last of the data, and waits for it.
    last: Option<Frame<Bytes>>,
    scan: Scan,
}

impl Scanned {
    pub(crate) fn new(body: Received, scan: Scan) -> Self {
        Self { body, scanner: Scanner::new(scan.clone()), last: None, scan }
    }

    /// What was held back, now that nothing can follow it.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        self.scanner.holds().then(|| Frame::data(self.scanner.finish()))
    }
}

impl Body for Scanned {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(last) = self.last.take() {
                return Poll::Ready(Some(Ok(last)));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(self.rest().map(Ok)),
                Some(frame) => frame?,
            };
            let mut trailers = match frame.into_data() {
                Err(frame) => frame.into_trailers().unwrap_or_default(),
                Ok(data) => {
                    let before = self.scanner.covered();
                    let data = self.scanner.feed(data);
                    if before == 0 && self.scanner.covered() > 0 {
                        tracing::warn!("a response's body had a secret of its request; it is covered");
                    }
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            };
            self.scan.headers(&mut trailers);
            self.last = Some(Frame::trailers(trailers));
            if let Some(rest) = self.rest() {
                return Poll::Ready(Some(Ok(rest)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && !self.scanner.holds() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What was held back is not in the count of what is to come, so that only the announced length is known.
        SizeHint::default()
    }
}
