//! The two doors: what is in the baseline, and what is granted.

use std::sync::Arc;

use wasmtime::component::Linker;
use witan_capability::{CallState, Capability, HostFunction};
use witan_system::Grants;

use crate::client::{ClientError, Connector, Settings};
use crate::{p2, p3};

/// `wasi:http/types`, 0.2 and 0.3: requests, responses, headers and bodies as values. Sends nothing; in the baseline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Types;

impl Capability for Types {
    fn name(&self) -> &'static str {
        "http-types"
    }

    fn serves(&self, interface: &str) -> bool {
        is(interface, "wasi:http/types", &["0.2", "0.3"])
    }

    fn granted(&self, _: &Grants) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "nothing: it is always granted"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        p2::link_types(linker)?;
        p3::link_types(linker)
    }

    fn functions(&self) -> Vec<HostFunction> {
        [p2::TYPES, p3::PLAIN, p3::STREAMING].concat()
    }
}

/// `wasi:http/outgoing-handler` 0.2 and `wasi:http/client` 0.3: requests to what the grants name.
pub struct Client {
    connector: Arc<Connector>,
}

impl Client {
    /// A client with these settings, for all components of a host.
    ///
    /// # Errors
    /// When TLS cannot be set up, such as for a root certificate that is none.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        Ok(Self { connector: Arc::new(Connector::new(settings)?) })
    }
}

impl Capability for Client {
    fn name(&self) -> &'static str {
        "http"
    }

    fn serves(&self, interface: &str) -> bool {
        is(interface, "wasi:http/outgoing-handler", &["0.2"]) || is(interface, "wasi:http/client", &["0.3"])
    }

    fn granted(&self, grants: &Grants) -> bool {
        !grants.http.is_empty()
    }

    fn remedy(&self) -> &'static str {
        r#"http = [{ host = "api.example.com", methods = ["GET"] }]"#
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        p2::link_client(linker, self.connector.clone())?;
        p3::link_client(linker, self.connector.clone())
    }

    fn functions(&self) -> Vec<HostFunction> {
        vec![p2::HANDLE, p3::SEND]
    }
}

/// Whether `interface` is `name` in one of these lines of versions. A prerelease is another interface.
fn is(interface: &str, name: &str, lines: &[&str]) -> bool {
    let Some((found, version)) = interface.split_once('@') else { return false };
    let in_line = |line: &&str| version.strip_prefix(*line).is_some_and(|rest| rest.starts_with('.'));
    found == name && !version.contains('-') && lines.iter().any(in_line)
}
