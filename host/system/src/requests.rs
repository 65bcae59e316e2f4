//! How much clients may ask of the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Checker;
use crate::problem::Key;

/// How much clients may ask of the host: requests at once, and rates by whose they are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RequestsFile {
    /// Requests that are answered at once. One tenant has at most seven eighths of it. Default: 1000.
    pub(crate) at_once: Option<u32>,
    /// Requests that wait for their turn; the next is refused, or pushes one out that goes after it. Default: 1000.
    pub(crate) queue: Option<u32>,
    /// What each address may ask; of IPv6, each /64. Default: no limit.
    pub(crate) address: RatesFile,
    /// What each tenant may ask. Default: no limit.
    pub(crate) tenant: RatesFile,
    /// What each user of a tenant may ask. Default: no limit.
    pub(crate) user: RatesFile,
    /// What may be asked with each key. Default: no limit.
    pub(crate) key: RatesFile,
}

/// What one client may ask.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RatesFile {
    /// Requests in a second, in the long run. A request counts once, and once more for each 64 KiB of its body.
    pub(crate) per_second: Option<u32>,
    /// Requests in a minute, in the long run, counted the same way.
    pub(crate) per_minute: Option<u32>,
    /// Requests at once, where `per-second` is set. Default: that of `per-second`.
    pub(crate) burst: Option<u32>,
    /// Tasks that run or wait at once.
    pub(crate) tasks: Option<u32>,
}

/// How much clients may ask of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests that are answered at once.
    pub at_once: u32,
    /// Requests that wait for their turn.
    pub queue: u32,
    /// What each address may ask.
    pub address: RequestRates,
    /// What each tenant may ask.
    pub tenant: RequestRates,
    /// What each user of a tenant may ask.
    pub user: RequestRates,
    /// What may be asked with each key.
    pub key: RequestRates,
}

/// What one client may ask; none is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RequestRates {
    /// Requests in a second.
    pub per_second: Option<u32>,
    /// Requests in a minute.
    pub per_minute: Option<u32>,
    /// Requests at once.
    pub burst: Option<u32>,
    /// Tasks that run or wait at once.
    pub tasks: Option<u32>,
}

impl Default for Requests {
    fn default() -> Self {
        let none = RequestRates::default();
        Self { at_once: 1_000, queue: 1_000, address: none, tenant: none, user: none, key: none }
    }
}

impl Checker<'_> {
    pub(crate) fn requests(&mut self, key: &Key, written: &RequestsFile) -> Requests {
        let default = Requests::default();
        let at_once = written.at_once.unwrap_or(default.at_once);
        Requests {
            at_once: self.at_least_one(&key.child("at-once"), at_once, "with none, no request is answered"),
            queue: written.queue.unwrap_or(default.queue),
            address: self.rates(&key.child("address"), &written.address),
            tenant: self.rates(&key.child("tenant"), &written.tenant),
            user: self.rates(&key.child("user"), &written.user),
            key: self.rates(&key.child("key"), &written.key),
        }
    }

    fn rates(&mut self, key: &Key, written: &RatesFile) -> RequestRates {
        let none = "with none, no request passes";
        for (name, value) in [
            ("per-second", written.per_second),
            ("per-minute", written.per_minute),
            ("burst", written.burst),
            ("tasks", written.tasks),
        ] {
            if let Some(value) = value {
                self.at_least_one(&key.child(name), value, none);
            }
        }
        if written.burst.is_some() && written.per_second.is_none() {
            let key = key.child("burst");
            self.report(&key, format!("`{key}` is the size of a bucket that is not there"), "set `per-second` too");
        }
        let RatesFile { per_second, per_minute, burst, tasks } = *written;
        RequestRates { per_second, per_minute, burst, tasks }
    }
}
