//! Bytes that a WASI 0.2 guest wrote to a body and nobody took yet, charged to the call tree.
//!
//! A body's queue is bounded, but a guest may open bodies by the thousand and send none of them. WASI 0.3 needs none of
//! this: there a body stays in the guest until it is sent.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError};
use wasmtime_wasi_http::{Error, WasiBody};
use witan_capability::{Account, Meter};

/// The bytes in one body's queue.
struct Queue {
    account: Arc<Account>,
    bytes: AtomicU64,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.account.release(Meter::Memory, *self.bytes.get_mut());
    }
}

/// The queues of a call whose streams were not taken yet, by the handle of the body.
pub(crate) struct Queues {
    account: Arc<Account>,
    untaken: Vec<(u32, Arc<Queue>)>,
}

impl Queues {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self { account, untaken: Vec::new() }
    }

    /// Opens a queue for the body with this handle, and meters what leaves it on the other side.
    pub(crate) fn open(&mut self, handle: u32, body: WasiBody) -> WasiBody {
        let queue = Arc::new(Queue { account: self.account.clone(), bytes: AtomicU64::new(0) });
        self.untaken.push((handle, queue.clone()));
        Drained { body, queue }.boxed_unsync()
    }

    /// The queue of the body with this handle, whose stream was taken.
    pub(crate) fn take(&mut self, handle: u32) -> Option<Untaken> {
        self.close(handle).map(Untaken)
    }

    /// Forgets the body with this handle.
    pub(crate) fn forget(&mut self, handle: u32) {
        self.close(handle);
    }

    fn close(&mut self, handle: u32) -> Option<Arc<Queue>> {
        let at = self.untaken.iter().position(|(open, _)| *open == handle)?;
        Some(self.untaken.swap_remove(at).1)
    }
}

/// A queue that is not written to yet.
pub(crate) struct Untaken(Arc<Queue>);

impl Untaken {
    /// Meters what is written to `stream`.
    pub(crate) fn meter(self, stream: &mut DynOutputStream) {
        let inner = mem::replace(stream, Box::new(Nowhere));
        *stream = Box::new(Filled { inner, queue: self.0 });
    }
}

/// The end of a queue that is written.
struct Filled {
    inner: DynOutputStream,
    queue: Arc<Queue>,
}

#[async_trait]
impl Pollable for Filled {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for Filled {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let length = bytes.len() as u64;
        self.queue.account.charge(Meter::Memory, length).map_err(|limit| StreamError::Trap(limit.into()))?;
        self.queue.bytes.fetch_add(length, Ordering::Relaxed);
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// The end of a queue that is read.
struct Drained {
    body: WasiBody,
    queue: Arc<Queue>,
}

impl Body for Drained {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.queue.bytes.fetch_sub(data.len() as u64, Ordering::Relaxed);
            self.queue.account.release(Meter::Memory, data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Stands in for a stream while it is being wrapped.
struct Nowhere;

#[async_trait]
impl Pollable for Nowhere {
    async fn ready(&mut self) {}
}

impl OutputStream for Nowhere {
    fn write(&mut self, _: Bytes) -> Result<(), StreamError> {
        Err(StreamError::Closed)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Err(StreamError::Closed)
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Err(StreamError::Closed)
    }
}
