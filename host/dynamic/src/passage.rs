//! Streams and futures between two stores.
//!
//! Out of a store go only as many items as there is room for, so that a writer that is faster than its reader waits in
//! its own store, and into the other only what is asked for. A stream that ends because its store was torn down is told
//! from one that its writer ended: the reader's store then ends with the same error.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::{mpsc, oneshot};
use wasmtime::{
    AsContextMut as _, StoreContextMut,
    component::{
        ComponentType, Destination, FutureAny, FutureConsumer, FutureProducer, FutureReader, Lift, Lower, Source,
        StreamAny, StreamConsumer, StreamProducer, StreamReader, StreamResult, Type, Val, VecBuffer,
    },
};
use witan_capability::{CallError, CallState, Closed, Incoming, Outgoing, SendError, channel};
use witan_engine::{Ended, Session};

/// The items of a stream or future that the host can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Unit,
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    Float32,
    Float64,
    Char,
    String,
}

impl Item {
    pub(crate) fn of(ty: Option<&Type>) -> Option<Self> {
        Some(match ty {
            None => Self::Unit,
            Some(Type::Bool) => Self::Bool,
            Some(Type::S8) => Self::S8,
            Some(Type::U8) => Self::U8,
            Some(Type::S16) => Self::S16,
            Some(Type::U16) => Self::U16,
            Some(Type::S32) => Self::S32,
            Some(Type::U32) => Self::U32,
            Some(Type::S64) => Self::S64,
            Some(Type::U64) => Self::U64,
            Some(Type::Float32) => Self::Float32,
            Some(Type::Float64) => Self::Float64,
            Some(Type::Char) => Self::Char,
            Some(Type::String) => Self::String,
            Some(_) => return None,
        })
    }
}

/// Does `$body` with `$type` standing for the type of `$item`.
macro_rules! with_type {
    ($item:expr, $type:ident => $body:expr) => {
        with_type!(@ $item, $type, $body, Unit (), Bool bool, S8 i8, U8 u8, S16 i16, U16 u16, S32 i32, U32 u32,
            S64 i64, U64 u64, Float32 f32, Float64 f64, Char char, String String)
    };
    (@ $item:expr, $type:ident, $body:expr, $($case:ident $rust:ty),*) => {
        match $item {
            $(Item::$case => {
                type $type = $rust;
                $body
            })*
        }
    };
}

/// A type whose values pass.
trait Carried: ComponentType + Lift + Lower + Send + Sync + 'static {
    /// Bytes that it holds beyond its own size.
    fn heap(&self) -> u64 {
        0
    }
}

impl Carried for String {
    fn heap(&self) -> u64 {
        self.len() as u64
    }
}

macro_rules! carried {
    ($($type:ty),*) => { $(impl Carried for $type {})* };
}
carried!((), bool, i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, char);

/// A stream or future that has left its store.
pub(crate) trait Passage: Send {
    /// Puts it into `store`.
    fn arrive(self: Box<Self>, store: StoreContextMut<'_, CallState>, fate: Option<&Fate>) -> wasmtime::Result<Val>;
}

/// What a store's streams share on their way out.
pub(crate) struct Pump {
    /// Held by each stream that has not ended.
    open: Option<mpsc::Sender<()>>,
}

impl Pump {
    /// For a store that does not wait for its streams.
    pub(crate) fn unattended() -> Self {
        Self { open: None }
    }

    /// For a store that waits until all its streams have ended, with what it waits for.
    pub(crate) fn attended() -> (Self, mpsc::Receiver<()>) {
        let (open, all_ended) = mpsc::channel(1);
        (Self { open: Some(open) }, all_ended)
    }
}

/// In the slots of a store: whether the store is still there. Slots go before streams do.
struct Alive(Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How a stream ended.
struct End {
    store_alive: Arc<AtomicBool>,
    by_writer: Arc<AtomicBool>,
    _open: Option<mpsc::Sender<()>>,
}

impl End {
    fn new(state: &mut CallState, pump: &Pump) -> (Self, Arc<AtomicBool>) {
        let store_alive = state.slot(|_| Alive(Arc::new(AtomicBool::new(true)))).0.clone();
        let by_writer = Arc::new(AtomicBool::new(false));
        (Self { store_alive, by_writer: by_writer.clone(), _open: pump.open.clone() }, by_writer)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.store_alive.load(Ordering::Acquire) {
            self.by_writer.store(true, Ordering::Release);
        }
    }
}

pub(crate) fn of_stream(
    store: StoreContextMut<'_, CallState>,
    item: Item,
    stream: StreamAny,
    pump: &Pump,
) -> wasmtime::Result<Box<dyn Passage>> {
    with_type!(item, T => Stream::<T>::depart(store, stream, pump))
}

pub(crate) fn of_future(
    store: StoreContextMut<'_, CallState>,
    item: Item,
    future: FutureAny,
    pump: &Pump,
) -> wasmtime::Result<Box<dyn Passage>> {
    with_type!(item, T => Value::<T>::depart(store, future, pump))
}

struct Stream<T> {
    incoming: Incoming<T>,
    by_writer: Arc<AtomicBool>,
}

impl<T: Carried> Stream<T> {
    fn depart(
        mut store: StoreContextMut<'_, CallState>,
        stream: StreamAny,
        pump: &Pump,
    ) -> wasmtime::Result<Box<dyn Passage>> {
        let (outgoing, incoming) = channel(&store.data().call().account);
        let (end, by_writer) = End::new(store.data_mut(), pump);
        stream.try_into_stream_reader::<T>()?.pipe(store, OutOfGuest { _end: end, outgoing })?;
        Ok(Box::new(Self { incoming, by_writer }))
    }
}

impl<T: Carried> Passage for Stream<T> {
    fn arrive(
        self: Box<Self>,
        mut store: StoreContextMut<'_, CallState>,
        fate: Option<&Fate>,
    ) -> wasmtime::Result<Val> {
        let producer = IntoGuest { stream: *self, fate: fate.cloned() };
        let reader = StreamReader::new(store.as_context_mut(), producer)?;
        Ok(Val::Stream(StreamAny::try_from_stream_reader(store, reader)?))
    }
}

/// Bytes that are taken out of a guest at once: enough that the copy outweighs the hand-over.
const CHUNK: usize = 64 << 10;

/// Takes items out of a guest as there is room for them.
struct OutOfGuest<T> {
    // Dropped first: the reader has to find it when it sees that there is no more.
    _end: End,
    outgoing: Outgoing<T>,
}

impl<T: Carried> StreamConsumer<CallState> for OutOfGuest<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<CallState>,
        mut source: Source<'_, T>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let outgoing = &mut self.get_mut().outgoing;
        match outgoing.poll_ready(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(Closed)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Ok(())) => {}
        }
        let most = CHUNK.checked_div(size_of::<T>()).unwrap_or(CHUNK);
        let count = source.remaining(store.as_context_mut()).min(most);
        if count == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut items = Vec::with_capacity(count);
        source.read(store, &mut items)?;
        let heap = items.iter().map(Carried::heap).sum();
        Poll::Ready(match outgoing.send_ready(items, heap) {
            Ok(()) => Ok(StreamResult::Completed),
            Err(SendError::Closed(Closed)) => Ok(StreamResult::Dropped),
            Err(SendError::Limit(limit)) => Err(limit.into()),
        })
    }
}

/// Gives items to a guest as it asks for them.
struct IntoGuest<T> {
    stream: Stream<T>,
    fate: Option<Fate>,
}

impl<T> IntoGuest<T> {
    /// What to make of a stream that gives no more.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<wasmtime::Result<()>> {
        match &mut self.fate {
            Some(fate) if self.stream.by_writer.load(Ordering::Acquire) => {
                fate.passage_ended();
                self.fate = None;
                Poll::Ready(Ok(()))
            }
            Some(fate) => fate.poll(context).map(|ended| Ok(ended?)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<T: Carried> StreamProducer<CallState> for IntoGuest<T> {
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
        let this = self.get_mut();
        let polled = match this.stream.incoming.poll_next(context) {
            Poll::Ready(Some(items)) => {
                destination.set_buffer(items.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Poll::Ready(None) => this.poll_end(context).map_ok(|()| StreamResult::Dropped),
            Poll::Pending => Poll::Pending,
        };
        if polled.is_pending() && finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { polled }
    }
}

struct Value<T>(oneshot::Receiver<T>);

impl<T: Carried> Value<T> {
    fn depart(
        mut store: StoreContextMut<'_, CallState>,
        future: FutureAny,
        pump: &Pump,
    ) -> wasmtime::Result<Box<dyn Passage>> {
        let (sender, receiver) = oneshot::channel();
        let (end, _) = End::new(store.data_mut(), pump);
        future.try_into_future_reader::<T>()?.pipe(store, ValueOutOfGuest { sender: Some(sender), _end: end })?;
        Ok(Box::new(Self(receiver)))
    }
}

impl<T: Carried> Passage for Value<T> {
    fn arrive(
        self: Box<Self>,
        mut store: StoreContextMut<'_, CallState>,
        fate: Option<&Fate>,
    ) -> wasmtime::Result<Val> {
        let producer = ValueIntoGuest { value: Some(self.0), fate: fate.cloned() };
        let reader = FutureReader::new(store.as_context_mut(), producer)?;
        Ok(Val::Future(FutureAny::try_from_future_reader(store, reader)?))
    }
}

/// Takes the value of a future out of a guest.
struct ValueOutOfGuest<T> {
    sender: Option<oneshot::Sender<T>>,
    _end: End,
}

impl<T: Carried> FutureConsumer<CallState> for ValueOutOfGuest<T> {
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
        if let (Some(value), Some(sender)) = (value, self.get_mut().sender.take()) {
            // Whoever waits for the value may be gone.
            let _gone = sender.send(value);
        }
        Poll::Ready(Ok(()))
    }
}

/// Gives the value of a future to a guest.
struct ValueIntoGuest<T> {
    value: Option<oneshot::Receiver<T>>,
    fate: Option<Fate>,
}

impl<T: Carried> FutureProducer<CallState> for ValueIntoGuest<T> {
    type Item = T;

    fn poll_produce(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        _: StoreContextMut<CallState>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Option<T>>> {
        let this = self.get_mut();
        if let Some(value) = &mut this.value {
            match pin!(value).poll(context) {
                Poll::Ready(Ok(value)) => {
                    if let Some(fate) = this.fate.take() {
                        fate.passage_ended();
                    }
                    return Poll::Ready(Ok(Some(value)));
                }
                Poll::Ready(Err(_)) => this.value = None,
                Poll::Pending if finish => return Poll::Ready(Ok(None)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // The writer is gone without a value; how its store ended says why.
        match this.fate.as_mut().map(|fate| fate.poll(context)) {
            Some(Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            Some(Poll::Pending) if finish => Poll::Ready(Ok(None)),
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Ok(()))) | None => {
                let error = CallError::Internal("the writer of a future ended without a value".to_owned());
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

/// How the store ends that streams come from. Held by each of them: when all are gone, so is the call behind them.
#[derive(Clone)]
pub(crate) struct Fate {
    end: Shared<BoxFuture<'static, Result<(), CallError>>>,
    open: Arc<AtomicUsize>,
}

impl Fate {
    /// Of a call that gave `passages` streams. If all of them are read to their ends, the rest of the call goes on by
    /// itself; if the last is dropped before, it is cancelled.
    pub(crate) fn of_call(ended: Ended, passages: usize) -> Self {
        let open = Arc::new(AtomicUsize::new(passages));
        let end = Rest { ended: Some(ended), open: open.clone() }.wait().boxed().shared();
        Self { end, open }
    }

    /// Of a session.
    pub(crate) fn of_session(session: Arc<Session>) -> Self {
        let end = async move { session.ended().await }.boxed().shared();
        Self { end, open: Arc::default() }
    }

    fn passage_ended(&self) {
        let _none_left = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| open.checked_sub(1));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.end.poll_unpin(context)
    }
}

/// The rest of a call, after it has answered.
struct Rest {
    ended: Option<Ended>,
    open: Arc<AtomicUsize>,
}

impl Rest {
    async fn wait(mut self) -> Result<(), CallError> {
        match &mut self.ended {
            Some(ended) => ended.wait().await,
            None => Ok(()),
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.open.load(Ordering::Acquire) == 0
            && let Some(ended) = self.ended.take()
        {
            ended.detach();
        }
    }
}
