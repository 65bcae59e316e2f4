//! wasi:http, both ways, 0.2 and 0.3, behind the guard.
//!
//! Two capabilities. [`Types`] links `wasi:http/types`, which moves nothing and is part of the baseline. [`Client`] links
//! the one function of each version that sends a request; it is granted, decided for every request and again for every
//! address, and sends by a connector of its own, so that the address that was checked is the address that is connected
//! to. [`serve`] calls a component that serves requests.
//!
//! Nothing here follows a redirect, keeps a connection for a second request or takes a proxy from its environment: each of
//! these would send something that the guard did not see. [`Proxy`] is the operator's.

#[macro_use]
mod guarded;

mod body;
mod capability;
mod client;
mod exchange;
mod handler;

mod headers;
mod p2;
mod p3;
mod proxy;
mod queue;
mod target;
mod tls;
mod view;

pub use capability::{Client, Types};
pub use client::{ClientError, Settings};

pub use exchange::{BodyError, ResponseBody};
pub use handler::{Protocol, incoming, serve};
pub use proxy::{Proxy, basic};
pub use tls::authorities;
