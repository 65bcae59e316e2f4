//! What happens in a host, told to whoever listens.
//!
//! Start at [`Bus::publish`] and [`Bus::subscribe`]. Each [`Event`] has a type, such as `task.completed`, with a JSON Schema of
//! its own ([`schemas`]), and a tenant, or none where it is the host's. The bus waits for nobody: who listens too slowly is cut
//! off, and told so. [`Command`] is what a client says that listens over a WebSocket.

mod bus;
mod command;
mod event;
mod pattern;

pub use bus::{Bus, CutOff, OPERATOR, Subscription};
pub use command::{Command, CommandError, MESSAGE_BYTES, Subject};
pub use event::{
    CallbackFailed, ComponentLoaded, Event, PolicyReloaded, SystemReloaded, TaskCancelled, TaskCompleted, TaskCreated,
    TaskFailed, TaskPaused, TaskProgress, TaskResumed, TaskStarted, What, schemas,
};
pub use pattern::{Pattern, PatternError};
