//! Streams between stores: a bounded channel of chunks whose bytes are charged to the call tree.
//!
//! A stream handle belongs to one store, so that what crosses a link is a channel: the sending store pumps into it,
//! the receiving one out of it. It is bounded, which is the back-pressure; dropping either end is seen at the other.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

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
    sender: PollSender<Chunk<T>>,
    account: Arc<Account>,
}

/// A stream within the call tree of `account`.
#[must_use]
pub fn channel<T: Send + 'static>(account: &Arc<Account>) -> (Outgoing<T>, Incoming<T>) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    (Outgoing { sender: PollSender::new(sender), account: account.clone() }, Incoming { receiver })
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

impl<T: Send + 'static> Outgoing<T> {
    /// Sends `items`, waiting for room. `bytes` is what they hold beyond their own size, such as the text of strings.
    ///
    /// # Errors
    /// When the reader is gone, or the call tree's memory is used up.
    pub async fn send(&mut self, items: Vec<T>, bytes: u64) -> Result<(), SendError> {
        poll_fn(|context| self.poll_ready(context)).await?;
        self.send_ready(items, bytes)
    }

    /// Polls for room. Once there is room it is held for the next [`Self::send_ready`], so that a sender can wait
    /// before it makes what it sends.
    ///
    /// # Errors
    /// When the reader is gone.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.sender.poll_reserve(context).map_err(|_| Closed)
    }

    /// As [`Self::send`], into the room that [`Self::poll_ready`] found.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// Without that room.
    pub fn send_ready(&mut self, items: Vec<T>, bytes: u64) -> Result<(), SendError> {
        let chunk = Chunk::charge(items, bytes, &self.account)?;
        self.sender.send_item(chunk).map_err(|_| SendError::Closed(Closed))
    }

    /// Resolves when the reader is gone.
    pub async fn closed(&self) {
        if let Some(sender) = self.sender.get_ref() {
            sender.closed().await;
        }
    }
}

impl<T> Chunk<T> {
    fn charge(items: Vec<T>, bytes: u64, account: &Arc<Account>) -> Result<Self, LimitExceeded> {
        let own = (items.len() as u64).saturating_mul(size_of::<T>() as u64);
        let charged = own.saturating_add(bytes).saturating_add(CHUNK_OVERHEAD);
        account.charge(Meter::Memory, charged)?;
        Ok(Self { items, charged, account: account.clone() })
    }
}

impl<T> Incoming<T> {
    /// A stream of `items`, which are all there already. `bytes` is as in [`Outgoing::send`].
    ///
    /// # Errors
    /// When the call tree's memory is used up.
    pub fn of(items: Vec<T>, bytes: u64, account: &Arc<Account>) -> Result<Self, LimitExceeded> {
        let (sender, receiver) = mpsc::channel(1);
        let chunk = Chunk::charge(items, bytes, account)?;
        // There is room for one, and the receiver lives.
        let _sent = sender.try_send(chunk);
        Ok(Self { receiver })
    }

    /// The next items, or none when the writer has ended the stream.
    pub async fn next(&mut self) -> Option<Vec<T>> {
        self.receiver.recv().await.map(|mut chunk| std::mem::take(&mut chunk.items))
    }

    /// Polls for the next items.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        self.receiver.poll_recv(context).map(|chunk| chunk.map(|mut chunk| std::mem::take(&mut chunk.items)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limit, Limits};

    #[tokio::test]
    async fn what_waits_is_charged_and_given_back_when_read() {
        let account = Account::open(Limits::default());
        let (mut outgoing, mut incoming) = channel(&account);
        outgoing.send(vec![String::from("four")], 4).await.unwrap();
        assert_eq!(account.used(Meter::Memory), size_of::<String>() as u64 + 4 + CHUNK_OVERHEAD);
        assert_eq!(incoming.next().await, Some(vec![String::from("four")]));
        assert_eq!(account.used(Meter::Memory), 0);
        drop(outgoing);
        assert_eq!(incoming.next().await, None);
    }

    #[tokio::test]
    async fn a_full_channel_has_no_room_until_it_is_read() {
        let account = Account::open(Limits::default());
        let (mut outgoing, mut incoming) = channel(&account);
        for item in 0..CHUNKS {
            outgoing.send(vec![item], 0).await.unwrap();
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(outgoing.poll_ready(&mut context).is_pending());
        assert_eq!(incoming.next().await, Some(vec![0]));
        assert!(outgoing.poll_ready(&mut context).is_ready());
    }

    #[tokio::test]
    async fn each_end_sees_the_other_go() {
        let account = Account::open(Limits::default());
        let (mut outgoing, incoming) = channel::<u8>(&account);
        drop(incoming);
        outgoing.closed().await;
        assert_eq!(outgoing.send(vec![1], 0).await, Err(SendError::Closed(Closed)));
    }

    #[tokio::test]
    async fn what_exceeds_the_memory_of_the_tree_is_not_sent() {
        let account = Account::open(Limits { memory: 1000, ..Limits::default() });
        let (mut outgoing, _incoming) = channel::<u8>(&account);
        let error = outgoing.send(vec![0; 2000], 0).await.unwrap_err();
        assert!(matches!(error, SendError::Limit(LimitExceeded { limit: Limit::Memory, .. })));
        assert!(Incoming::of(vec![0_u8; 2000], 0, &account).is_err());
        assert_eq!(account.used(Meter::Memory), 0);
    }
}
