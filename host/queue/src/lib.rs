//! Whose turn is next.
//!
//! [`Queue`] is the order alone: tenants share turns equally, whatever they push, and the priorities of one tenant share its
//! turns by their weights. Both by virtual time: each has a clock that a turn moves on by what the turn weighs, and who is
//! behind is next. So the lowest priority of the busiest tenant has its turn too, only more rarely. [`Turns`] is the places
//! that whoever waits in such a queue waits for.

mod queue;
mod turns;

pub use queue::{Full, Queue, Ticket};
pub use turns::{Turn, Turns};
