//! Streams and futures, in and out of the stores of guests.
//!
//! Into the host goes only what there is room for, so that a writer that is faster than its reader waits in its own
//! store, and out of it only what a guest asks for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;
use wasmtime::{
    AsContextMut as _, StoreContextMut,
    component::{
        Accessor, Destination, FutureConsumer, FutureReader, Lift, Lower, Source, StreamConsumer, StreamProducer,
        StreamReader, StreamResult, VecBuffer,
    },
};
use witan_capability::{Account, Call, CallState, Closed, Incoming, Meter, Outgoing, SendError, channel};

use crate::{Events, Heap, Run, answer, caller::calling, component::Failure, heap::heap_of, run::Parts};

/// A value that can be an item of a stream.
pub(crate) trait Item: Lift + Lower + Heap + Send + Sync + 'static {}

impl<T: Lift + Lower + Heap + Send + Sync + 'static> Item for T {}

/// Bytes that are taken out of a guest at once: enough that the copy outweighs the hand-over.
const CHUNK: usize = 64 << 10;

/// Takes items out of a guest as there is room for them.
struct OutOfGuest<T>(Outgoing<T>);

impl<T: Item> StreamConsumer<CallState> for OutOfGuest<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<CallState>,
        mut source: Source<'_, T>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let outgoing = &mut self.get_mut().0;
        match outgoing.poll_ready(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(Closed)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Ok(())) => {}
        }
        let most = (CHUNK / size_of::<T>().max(1)).max(1);
        let mut items = Vec::with_capacity(source.remaining(store.as_context_mut()).min(most));
        if items.capacity() == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        source.read(store, &mut items)?;
        let heap = heap_of(&items);
        Poll::Ready(match outgoing.send_ready(items, heap) {
            Ok(()) => Ok(StreamResult::Completed),
            Err(SendError::Closed(Closed)) => Ok(StreamResult::Dropped),
            Err(SendError::Limit(limit)) => Err(limit.into()),
        })
    }
}

/// Gives items to a guest as it asks for them.
struct IntoGuest<T>(Events<T>);

impl<T: Item> StreamProducer<CallState> for IntoGuest<T> {
    type Item = T;
    type Buffer = VecBuffer<T>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, CallState>,
        mut destination: Destination<'a, T, VecBuffer<T>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of nothing asks whether there is something. Items that were taken for it could be lost.
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.get_mut().0.poll_next(context) {
            Poll::Ready(Some(items)) => {
                destination.set_buffer(items.into());
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Takes the value of a future out of a guest.
struct ValueOutOfGuest<T>(Option<oneshot::Sender<T>>);

impl<T: Lift + Send + Sync + 'static> FutureConsumer<CallState> for ValueOutOfGuest<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<CallState>,
        mut source: Source<'_, T>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut value = None;
        source.read(store, &mut value)?;
        if let (Some(value), Some(sender)) = (value, self.get_mut().0.take()) {
            // Whoever waits for the value may be gone.
            let _gone = sender.send(value);
        }
        Poll::Ready(Ok(()))
    }
}

fn account(accessor: &Accessor<CallState>) -> Arc<Account> {
    calling(accessor).account
}

/// A guest's stream, for others to read.
pub(crate) fn out_of_guest<T: Item>(
    accessor: &Accessor<CallState>,
    stream: StreamReader<T>,
) -> wasmtime::Result<Incoming<T>> {
    let (outgoing, incoming) = channel(&account(accessor));
    accessor.with(|store| stream.pipe(store, OutOfGuest(outgoing)))?;
    Ok(incoming)
}

/// A stream, for a guest to read.
pub(crate) fn into_guest<T: Item>(
    accessor: &Accessor<CallState>,
    stream: impl Into<Events<T>>,
) -> wasmtime::Result<StreamReader<T>> {
    let producer = IntoGuest(stream.into());
    accessor.with(|store| StreamReader::new(store, producer))
}

/// What a guest gives or gets of a call that streams.
type Readers<T, S, E> = (StreamReader<T>, FutureReader<Result<S, E>>);

/// What a callee streams, for others to read.
pub(crate) fn run_out_of_guest<T, S, E>(
    accessor: &Accessor<CallState>,
    (events, verdict): Readers<T, S, E>,
) -> wasmtime::Result<Parts<T, S, E>>
where
    T: Item,
    S: Lift + Send + Sync + 'static,
    E: Lift + Send + Sync + 'static,
{
    let events = out_of_guest(accessor, events)?;
    let (sender, receiver) = oneshot::channel();
    accessor.with(|store| verdict.pipe(store, ValueOutOfGuest(Some(sender))))?;
    Ok(Parts { events, verdict: receiver })
}

/// A run, for a guest to read. When the guest drops both ends, the run is cancelled.
pub(crate) fn run_into_guest<T, S, E>(
    accessor: &Accessor<CallState>,
    run: Run<T, S, E>,
) -> wasmtime::Result<Readers<T, S, E>>
where
    T: Item,
    S: Lift + Lower + Send + Sync + 'static,
    E: Lift + Lower + From<Failure> + Send + Sync + 'static,
{
    let events = into_guest(accessor, run.events)?;
    let verdict = accessor.with(|store| FutureReader::new(store, answer::verdict(run.verdict)))?;
    Ok((events, verdict))
}

/// Memory that is charged as long as this lives.
pub(crate) struct Charged {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.account.release(Meter::Memory, self.bytes);
    }
}

/// All of a stream, for a twin that takes a list. What it holds is charged until it has been handed over.
pub(crate) async fn collect<T: Item>(
    accessor: &Accessor<CallState>,
    mut stream: Incoming<T>,
) -> wasmtime::Result<(Vec<T>, Charged)> {
    let mut charged = Charged { account: account(accessor), bytes: 0 };
    let mut all = Vec::new();
    while let Some(items) = stream.next().await {
        let bytes = items.heap();
        charged.account.charge(Meter::Memory, bytes)?;
        charged.bytes += bytes;
        all.extend(items);
    }
    Ok((all, charged))
}

/// A list that a twin was given, as a stream.
pub(crate) fn of_list<T: Item>(items: Vec<T>, call: &Call) -> wasmtime::Result<Incoming<T>> {
    let heap = heap_of(&items);
    Ok(Incoming::of(items, heap, &call.account)?)
}
