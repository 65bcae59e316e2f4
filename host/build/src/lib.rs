//! Builds the components of a checkout.
//!
//! A fresh clone holds the sources of the first-party components and none of their bytes. `witan` and
//! `cargo xtask` both build them here, so that there is one way to make a component. Only a binary that cargo built
//! inside a checkout may do so by itself ([`Checkout::find`]): an installed `witan` calls cargo for `witan build` alone.
//!
//! What was just built is signed with the key of this machine, and nothing else ever is.

mod cargo;
mod checkout;
mod component;
mod error;
mod fingerprint;
mod progress;

pub use checkout::{Built, Checkout, Workspace, build};
pub use error::BuildError;
pub use progress::Progress;
