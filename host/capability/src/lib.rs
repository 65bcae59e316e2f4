//! What a capability implements, and what every host function passes through.
//!
//! A capability is a crate that links interfaces of one WIT package and serves them. It sees the world through four
//! things defined here: the [`CallContext`] that says for whom a call runs, the [`Account`] that holds its whole call
//! tree to limits, the guard ([`Call::enter`]) that every host function enters before it does anything, and the
//! [`CallState`] that every store carries.
//!
//! Nothing here opens a file or a socket, and nothing here knows a particular capability.

mod account;
mod authority;
mod beginning;
mod context;
mod error;
mod guard;
mod host;
mod state;
mod stream;
mod trace;
mod trace_state;

pub use account::{Account, Limit, LimitExceeded, Meter, egress_bytes};
pub use authority::{Authority, PrincipalKind};
pub use beginning::Beginning;
pub use context::{CallContext, Privacy, TaskFile};
pub use error::{CallError, Denial};
pub use guard::{Action, Call, Decision, DecisionId, HostFunction, Kernel, Permit, Policy, Request, Resource};
pub use host::{Capability, Component};
pub use state::CallState;
pub use stream::{Closed, Incoming, Outgoing, SendError, channel};
pub use trace::{SpanId, Trace};
pub use trace_state::TraceState;
pub use witan_system::Limits;
