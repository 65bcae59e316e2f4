//! Typed links between components, for the interfaces of our own packages.
//!
//! Every interface is a trait: [`task::Handler`], [`documents::Extract`], [`tools::Tool`] and so on, with values that
//! are plain Rust and streams that belong to no store. What serves it implements the trait; what calls it is handed
//! an implementation. The two are generated from the WIT, with
//! - the implementation of each trait for `Arc<Service>`, which calls a component in a store of its own: the isolated
//!   link;
//! - `link` and `link_twin`, which link any implementation into a component that imports the interface or its
//!   synchronous twin.
//!
//! So a caller cannot tell what serves it, a host function serves both faces of an interface without knowing it, and
//! another way to reach a component is another implementation. Whoever calls from the host itself calls the trait.
//!
//! [`link()`] finds the right one by the name of an import. Whether a component exports the interface or the twin is
//! looked at when it is called.

mod answer;
mod caller;
mod export;
mod generated;
mod heap;
mod pump;
mod registry;
mod run;
mod twin;

pub use caller::Caller;
pub use generated::*;
pub use heap::Heap;
pub use registry::{Served, exports, functions, link, serves};
pub use run::{Events, Run, Verdict};
