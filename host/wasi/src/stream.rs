//! Streams whose bytes are charged as they pass.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    channel::mpsc::{Receiver, Sender, channel},
};
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{
        Destination, Resource, ResourceTable, Source, StreamConsumer, StreamProducer, StreamReader,
        StreamResult as Step,
    },
};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynOutputStream, OutputStream, StreamError, StreamResult},
};

use crate::guard::Refusal;

/// Charges some bytes, or says why not.
pub(crate) type Charge = Arc<dyn Fn(u64) -> Result<(), Refusal> + Send + Sync>;

/// How much is taken from a guest's stream at once.
const CHUNK: usize = 64 << 10;

struct Charged {
    inner: DynOutputStream,
    charge: Charge,
}

/// Charges what is written to `stream` from now on.
pub(crate) fn charged(
    table: &mut ResourceTable,
    stream: &Resource<DynOutputStream>,
    charge: Charge,
) -> wasmtime::Result<()> {
    let slot = table.get_mut(stream)?;
    let inner = std::mem::replace(slot, Box::new(wasmtime_wasi::p2::pipe::ClosedOutputStream));
    *slot = Box::new(Charged { inner, charge });
    Ok(())
}

#[async_trait::async_trait]
impl Pollable for Charged {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Charged {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        (self.charge)(bytes.len() as u64)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        (self.charge)(bytes.len() as u64)?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Passes the chunks of a guest's stream on. Its capacity is the back-pressure.
struct Sending {
    sender: Sender<Vec<u8>>,
    charge: Option<Charge>,
}

impl<T> StreamConsumer<T> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<T>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Step>> {
        let mut source = source.as_direct(store);
        match self.sender.poll_ready(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(Step::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(Step::Dropped)),
            Poll::Ready(Ok(())) => {}
        }
        let bytes = source.remaining();
        let taken = bytes.len().min(CHUNK);
        if taken == 0 {
            return Poll::Ready(Ok(Step::Completed));
        }
        if let Some(charge) = &self.charge {
            charge(taken as u64)?;
        }
        let chunk = bytes[..taken].to_vec();
        if self.sender.start_send(chunk).is_err() {
            return Poll::Ready(Ok(Step::Dropped));
        }
        source.mark_read(taken);
        Poll::Ready(Ok(Step::Completed))
    }
}

struct Receiving(Receiver<Vec<u8>>);

impl<T> StreamProducer<T> for Receiving {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Step>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(Step::Completed));
        }
        match self.0.poll_next_unpin(context) {
            Poll::Ready(Some(chunk)) => {
                destination.set_buffer(chunk.into());
                Poll::Ready(Ok(Step::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(Step::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(Step::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The same stream, each byte charged before it goes on. A charge that fails ends the store.
pub(crate) fn counted(
    mut store: impl AsContextMut,
    data: StreamReader<u8>,
    charge: Charge,
) -> wasmtime::Result<StreamReader<u8>> {
    let (sender, receiver) = channel(0);
    data.pipe(&mut store, Sending { sender, charge: Some(charge) })?;
    StreamReader::new(store, Receiving(receiver))
}

/// Writes a guest's stream to `file`, at `offset` or, if there is none, at its end; resolves when all is written.
///
/// wasmtime's own has no place for a charge whose failure is the outcome of the write rather than the end of the store.
pub(crate) fn write_to_file(
    store: impl AsContextMut,
    data: StreamReader<u8>,
    file: Arc<File>,
    offset: Option<u64>,
    charge: Charge,
) -> wasmtime::Result<tokio::task::JoinHandle<Result<(), Refusal>>> {
    let (sender, receiver) = channel(0);
    data.pipe(store, Sending { sender, charge: None })?;
    Ok(tokio::spawn(write_chunks(receiver, file, offset, charge)))
}

async fn write_chunks(
    mut chunks: Receiver<Vec<u8>>,
    file: Arc<File>,
    mut offset: Option<u64>,
    charge: Charge,
) -> Result<(), Refusal> {
    while let Some(chunk) = chunks.next().await {
        charge(chunk.len() as u64)?;
        let (file, length) = (file.clone(), chunk.len() as u64);
        let at = offset;
        tokio::task::spawn_blocking(move || {
            let at = at.map_or_else(|| file.metadata().map(|metadata| metadata.len()), Ok)?;
            file.write_all_at(&chunk, at)
        })
        .await
        .map_err(io::Error::other)??;
        offset = offset.map(|offset| offset.saturating_add(length));
    }
    Ok(())
}
