//! Streams between stores: a bounded channel of chunks whose bytes are charged to the call tree.
//!
//! A stream handle belongs to one store, so that what crosses a link is a channel: the sending store pumps into it,
//! the receiving one out of it. It is bounded, which is the back-pressure; dropping either end is seen at the other.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{Account, LimitExceeded, Meter};

/// Chunks that wait in a channel at most. One would make sender and receiver take turns; many only hold memory.
const CHUNKS: usize = 4;

/// What one chunk is charged beyond its items.
const CHUNK_OVERHEAD: u64 = 64;

struct Chunk<T> {
    items: Vec<T>,
    charged: u64,
    account: Arc<Account>,
}

impl<T> Drop for Chunk<T> {
    fn drop(&mut self) {
        self.account.release(Meter::Memory, self.charged);
    }
}

/// The end that is read.
pub struct Incoming<T> {
    receiver: mpsc::Receiver<Chunk<T>>,
}

/// The end that is written.
pub struct Outgoing<T> {
    sender: mpsc::Sender<Chunk<T>>,
    account: Arc<Account>,
}

/// A stream within the call tree of `account`.
#[must_use]
pub fn channel<T>(account: &Arc<Account>) -> (Outgoing<T>, Incoming<T>) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    (Outgoing { sender, account: account.clone() }, Incoming { receiver })
}

/// The other end is gone: nothing more will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the stream is gone")]
pub struct Closed;

/// Why a chunk was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The reader is gone.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The bytes exceed the call tree's memory.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

impl<T> Outgoing<T> {
    /// Sends `items`, waiting for room. `bytes` is what they hold beyond their own size, such as the text of strings.
    ///
    /// # Errors
    /// When the reader is gone, or the call tree's memory is used up.
    pub async fn send(&self, items: Vec<T>, bytes: u64) -> Result<(), SendError> {
        let permit = self.sender.reserve().await.map_err(|_| Closed)?;
        let charged = (items.len() as u64) * (size_of::<T>() as u64) + bytes + CHUNK_OVERHEAD;
        self.account.charge(Meter::Memory, charged)?;
        permit.send(Chunk { items, charged, account: self.account.clone() });
        Ok(())
    }

    /// Resolves when the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl<T> Incoming<T> {
    /// The next items, or none when the writer has ended the stream.
    pub async fn next(&mut self) -> Option<Vec<T>> {
        self.receiver.recv().await.map(|mut chunk| std::mem::take(&mut chunk.items))
    }

    /// Polls for the next items.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Vec<T>>> {
        self.receiver.poll_recv(context).map(|chunk| chunk.map(|mut chunk| std::mem::take(&mut chunk.items)))
    }
}
