//! The HTTP API of a running host.
//!
//! Start reading at [`serve`]: each request passes the front, which refuses what may not be here at all, and goes to the
//! component that is mounted at its path, or to one of the routes of this crate. The API knows tasks, metrics and logs,
//! and nothing of WebAssembly.

mod answer;
mod api;
mod audit;
mod body;
mod connection;
mod front;
mod hosts;
mod listen;
mod mount;
mod openapi;
mod platform;
mod running;
mod serve;
mod settings;
mod tasks;

pub use answer::error_response;
pub use api::{Api, Host, NotReady, Parts, observer};
pub use audit::{AuditCheckpoint, AuditConsistency, AuditEntry, AuditInclusion, AuditProof};
pub use body::{BodyError, RequestBody};
pub use hosts::Hosts;
pub use listen::{ListenError, bind, check_listen};
pub use mount::{Mount, MountError, MountFuture, Mounts, RESERVED};
pub use openapi::document;
pub use platform::{ComponentStatus, HostState, HostStatus, List, Readiness, Stopping};
pub use running::{Running, Token};
pub use serve::serve;
pub use settings::Settings;
