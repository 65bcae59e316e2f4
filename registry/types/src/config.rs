//! The config of a component in a registry: what can be known of it without its bytes.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json::{self, JsonError};

/// Room for some thousand imports.
const LARGEST: usize = 1 << 20;

/// The document `application/vnd.wasm.config.v0+json`. It describes, and decides nothing: imports and exports count only as
/// they are found in the bytes, and a config that says something else is refused by whoever has both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentConfig {
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Who made it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Always `wasm`.
    pub architecture: Architecture,
    /// Always `wasip2`, also where a component imports WASI 0.3: the value tells components from core modules.
    pub os: Os,
    /// The digest of the one layer.
    pub layer_digests: [Digest; 1],
    /// What the component imports and exports.
    pub component: ComponentInterfaces,
}

/// What a component imports and exports, by the names of the interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInterfaces {
    /// What it provides.
    pub exports: Vec<String>,
    /// What it needs.
    pub imports: Vec<String>,
    /// The WIT world that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The architecture that a component is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// WebAssembly.
    #[default]
    #[serde(rename = "wasm")]
    Wasm,
}

/// The system that a component is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Os {
    /// The component model.
    #[default]
    #[serde(rename = "wasip2")]
    Wasip2,
}

impl ComponentConfig {
    /// A config for the component whose bytes have `layer` as their digest.
    pub fn new(created: String, layer: Digest, component: ComponentInterfaces) -> Self {
        let (architecture, os) = Default::default();
        Self { created, author: None, architecture, os, layer_digests: [layer], component }
    }

    /// Reads a config. Keys that are not known are passed over: other tools add some.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        json::parse(bytes, LARGEST)
    }

    /// The config as it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> ComponentConfig {
        let component = ComponentInterfaces {
            exports: vec!["witan:tools/tool@0.1.0".to_owned()],
            imports: vec!["wasi:io/streams@0.2.0".to_owned()],
            target: None,
        };
        ComponentConfig::new("2026-01-01T00:00:00Z".to_owned(), Digest::of(b"bytes"), component)
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(ComponentConfig::parse(&config().to_json()).unwrap(), config());
    }

    #[test]
    fn another_config_is_refused() {
        let text = String::from_utf8(config().to_json()).unwrap();
        for (from, to) in [
            ("\"wasm\"", "\"amd64\""),
            ("wasip2", "linux"),
            ("sha256:", "sha512:"),
            ("\"layerDigests\":[", "\"layerDigests\":[\"sha256:00\","),
            ("\"imports\":[", "\"imports\":[],\"imports\":["),
            ("\"exports\"", "\"export\""),
        ] {
            assert!(text.contains(from));
            assert!(ComponentConfig::parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _config = ComponentConfig::parse(&bytes);
        }
    }
}
