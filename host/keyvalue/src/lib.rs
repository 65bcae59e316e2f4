//! wasi:keyvalue, embedded, a namespace for each component and tenant.
//!
//! What a local-only call writes carries its label. A call that is not local-only is refused what carries it, since
//! its context cannot be narrowed any more: a later call must not carry off what an earlier one had to keep here.

mod functions;
mod store;

use std::{path::PathBuf, sync::Arc};

use wasmtime::component::Linker;
use witan_capability::{CallState, Capability, HostFunction};
use witan_system::Grants;

use store::Store;

/// wasi:keyvalue's store, atomics and batch.
pub struct Keyvalue {
    store: Arc<Store>,
}

impl Keyvalue {
    /// Keeps everything in the file `path`, which is made when it is first needed, and owned by this process.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { store: Arc::new(Store::new(path)) }
    }
}

impl Capability for Keyvalue {
    fn name(&self) -> &'static str {
        "keyvalue"
    }

    fn serves(&self, interface: &str) -> bool {
        functions::ALL.iter().any(|function| function.interface == interface)
    }

    fn granted(&self, grants: &Grants) -> bool {
        grants.keyvalue.is_some()
    }

    fn remedy(&self) -> &'static str {
        "keyvalue = { max-bytes = \"1MiB\" }"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        functions::link(linker, &self.store)
    }

    fn functions(&self) -> Vec<HostFunction> {
        functions::ALL.to_vec()
    }
}

#[cfg(test)]
mod tests;
