//! Tools for the files of a grant: read, list, stat, search and write.
//!
//! The component sees what the host opened for it and nothing else: its roots are the preopened folders, and whether
//! one may be written is the host's decision. The checks here only turn a refusal that would come anyway into an
//! answer that says what to do. What needs no file is in modules of its own, so that it is tested without a host.

#[cfg(target_arch = "wasm32")]
mod component;

pub mod arguments;
pub mod media_type;
pub mod path;
pub mod report;
pub mod search;
