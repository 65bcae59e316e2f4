//! How a registry is asked. The defaults are the strict ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use witan_egress::Egress;
use witan_registry_types::Host;
use zeroize::Zeroizing;

/// A user and a secret for one registry.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: String,
    pub(crate) secret: Zeroizing<String>,
}

impl Credentials {
    /// The credentials of `user`. Registries that know tokens alone take any user.
    pub fn new(user: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { user: user.into(), secret: Zeroizing::new(secret.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// How registries are asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The secrets, each for one registry and no other.
    pub credentials: BTreeMap<Host, Credentials>,
    /// Other hosts that may trade a registry's secret for an access token, over HTTPS. A registry's own host always may.
    pub realms: BTreeSet<Host>,
    /// Other hosts to which a registry's well-known file may point.
    pub registries: BTreeSet<Host>,
    /// The most bytes of a component.
    pub layer_bytes: u64,
    /// How long connecting may take.
    pub connect: Duration,
    /// How long an answer may make no progress.
    pub idle: Duration,
    /// How long one request may take from its beginning to the end of its answer.
    pub total: Duration,
    /// The way to registries.
    pub egress: Egress,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: BTreeMap::new(),
            realms: BTreeSet::new(),
            registries: BTreeSet::new(),
            layer_bytes: 256 << 20,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            // 256 MiB over a slow line.
            total: Duration::from_secs(15 * 60),
            egress: Egress::default(),
        }
    }
}
