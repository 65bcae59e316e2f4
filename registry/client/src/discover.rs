//! Finding a registry by the file that it publishes for `wkg`: `/.well-known/wasm-pkg/registry.json`.

use serde::Deserialize;
use witan_registry_types::{Host, Mapping, ReferenceError};

use crate::client::Client;
use crate::http::{Ask, Http, RequestError};
use crate::settings::Settings;

const PATH: &str = "/.well-known/wasm-pkg/registry.json";
const LARGEST: u64 = 64 << 10;

/// Why a registry was not found by its well-known file.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The file cannot be had.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file names a protocol that is not spoken here.
    #[error("`{host}` has a registry of the protocol `{protocol}`, and only `oci` is spoken here")]
    Protocol {
        /// Whose file it is.
        host: Host,
        /// What it names.
        protocol: String,
    },
    /// The file points to a host that nobody allowed. Whoever can change the file would otherwise choose what is run.
    #[error(
        "`{host}` says that its registry is `{registry}`, another host: name that one, or allow it, if it is right"
    )]
    OtherHost {
        /// Whose file it is.
        host: Host,
        /// Where it points.
        registry: Host,
    },
    /// The file names what is no host, or no place in a registry.
    #[error("`{host}` has a well-known file that names no registry")]
    Name {
        /// Whose file it is.
        host: Host,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WellKnown {
    #[serde(default)]
    preferred_protocol: Option<String>,
    #[serde(default)]
    oci: Option<Oci>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oci {
    #[serde(default)]
    registry: Option<String>,
    #[serde(default)]
    namespace_prefix: Option<String>,
}

impl Client {
    /// A client of the registry that `host` names. It must be `host` itself, or one of [`Settings::registries`].
    pub async fn discover(host: Host, settings: Settings) -> Result<Self, DiscoverError> {
        let http = Http::new(host.clone(), settings.clone())?;
        // Everyone may read the file, and it needs no secret.
        let answer = http.read(Ask::get(PATH, Some("")), LARGEST).await?;
        let WellKnown { preferred_protocol, oci } = answer.json()?;
        let protocol = preferred_protocol.as_deref().unwrap_or("oci");
        let Some(Oci { registry, namespace_prefix }) = oci.filter(|_| protocol == "oci") else {
            return Err(DiscoverError::Protocol { host, protocol: crate::http::shown(protocol) });
        };
        let name = |source| DiscoverError::Name { host: host.clone(), source };
        let registry: Host = registry.map_or_else(|| Ok(host.clone()), |text| text.parse()).map_err(name)?;
        if registry != host && !settings.registries.contains(&registry) {
            return Err(DiscoverError::OtherHost { host, registry });
        }
        let mapping = Mapping::with_prefix(&namespace_prefix.unwrap_or_default()).map_err(name)?;
        Ok(Self::new(registry, mapping, settings)?)
    }
}
