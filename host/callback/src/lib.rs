//! Tells a client's own server what became of its task.
//!
//! A request may carry a [`Callback`]. What is to be told is stored together with the change that it tells of, and
//! [`Deliverer`] sends it until it has arrived: at least once, signed as Standard Webhooks has it, with ever longer waits
//! between. A callback is a request that this host sends where a client says: so it goes to public addresses only, checked when
//! it connects, follows no redirect, and reads nothing but the status of the answer.

mod callback;
mod deliver;
mod reach;
mod send;
mod signature;
mod tries;

#[cfg(test)]
mod tests;

pub use callback::{Callback, CallbackError, Secret, TYPES};
pub use deliver::{Deliverer, deliveries, sealed};
pub use reach::Unreached;
pub use send::{SendError, Sender, Settings};
