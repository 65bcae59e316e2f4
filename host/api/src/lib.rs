//! The HTTP API of a running host.
//!
//! Start reading at [`serve`]: each request passes the front, which refuses what may not be here at all, and goes to the
//! component that is mounted at its path, or to one of the routes of this crate. The API knows tasks, metrics and logs,
//! and nothing of WebAssembly.

mod answer;
mod api;
mod asks;
mod audit;
mod auth;
mod authorize;
mod body;
mod connection;
mod counts;
mod denials;
mod events;
mod flight;
mod front;
mod gate;
mod hosts;
pub mod input;
mod keys;
mod listen;
mod mount;
mod openapi;
mod places;
mod platform;
mod policies;
mod refusals;
mod running;
mod seen;
mod serve;
mod settings;
mod socket;
mod streams;
mod tasks;
mod tls;

pub use answer::error_response;
pub use api::{Api, Host, NotReady, Parts, observer};
pub use asks::Requests;
pub use audit::{AuditCheckpoint, AuditConsistency, AuditEntry, AuditInclusion, AuditProof};
pub use auth::{SessionView, TokenRequest, TokenView, Whoami};
pub use body::{BodyError, RequestBody};
pub use hosts::Hosts;
pub use keys::{KeyView, MadeKey, NewKeyRequest, RotateRequest};
pub use listen::{Exposure, ListenError, bind, check_listen};
pub use mount::{Mount, MountError, MountFuture, Mounts, RESERVED};
pub use openapi::document;
pub use platform::{ComponentStatus, HostState, HostStatus, List, LogLevel, Readiness, Stopping};
pub use policies::{PolicyTest, PolicyTested, Rollback, ShadowState};
pub use running::{Running, Token};
pub use serve::{serve, serve_tls};
pub use settings::Settings;
pub use tls::{Tls, TlsError, TlsFiles};
