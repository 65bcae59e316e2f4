//! What a capability is to the host, and what a component is to a capability.

use std::{fmt, sync::Arc};

use wasmtime::component::Linker;
use witan_system::Grants;

use crate::{CallState, HostFunction};

/// A loaded component, as policy and capabilities see it.
#[derive(Debug)]
pub struct Component {
    /// Its name in the system.
    pub name: Arc<str>,
    /// blake3 of its bytes.
    pub digest: [u8; 32],
    /// What the operator granted it.
    pub grants: Arc<Grants>,
}

impl Component {
    /// The first 16 hexadecimal digits of its digest: enough to tell versions apart in logs and traces.
    #[must_use]
    pub fn short_digest(&self) -> impl fmt::Display + use<> {
        ShortDigest(u64::from_be_bytes(*self.digest.first_chunk().unwrap_or(&[0; 8])))
    }
}

struct ShortDigest(u64);

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A crate that serves the interfaces of one package.
pub trait Capability: Send + Sync + 'static {
    /// Its name, which is also that of its grant in `system.toml`, where it has one.
    fn name(&self) -> &'static str;

    /// Whether an import of this interface (`wasi:http/outgoing-handler@0.2.6`) is one of this capability's, granted
    /// or not: so that a refused load can say which grant is missing.
    fn serves(&self, interface: &str) -> bool;

    /// Whether `grants` let a component import this capability's interfaces. The baseline answers yes to none.
    fn granted(&self, grants: &Grants) -> bool;

    /// The line that would grant it, for the error of a refused load.
    fn remedy(&self) -> &'static str;

    /// Links its interfaces and nothing else.
    ///
    /// # Errors
    /// When the linker has one of them already.
    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()>;

    /// Every function that [`Self::add_to_linker`] links. Each of them enters the guard under that name.
    fn functions(&self) -> Vec<HostFunction>;
}
