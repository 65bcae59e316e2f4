//! What `[host.requests]` says, as the API takes it.

use witan_api::Requests;
use witan_system::RequestRates;
use witan_throttle::{GateSettings, Rates, Settings};

/// Holds clients to `settings`.
pub(crate) fn start(settings: &witan_system::Requests) -> Requests {
    Requests::new(rates(settings), gate(settings))
}

/// Holds them to `settings` from now on.
pub(crate) fn replace(requests: &Requests, settings: &witan_system::Requests) {
    requests.throttle.replace(rates(settings));
    requests.gate.replace(gate(settings));
}

fn rates(settings: &witan_system::Requests) -> Settings {
    let of = |RequestRates { per_second, per_minute, burst, tasks }| Rates { per_second, per_minute, burst, tasks };
    Settings {
        address: of(settings.address),
        tenant: of(settings.tenant),
        user: of(settings.user),
        key: of(settings.key),
    }
}

fn gate(settings: &witan_system::Requests) -> GateSettings {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    GateSettings { at_once: number(settings.at_once), queue: number(settings.queue) }
}
