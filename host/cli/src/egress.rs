//! How requests leave this machine, those of components and the host's own: the proxy, the authorities and the secrets that
//! the system names.

use std::{
    io::Read as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, bail};
use clap::Args;
use url::Url;
use witan_egress::{Egress, Observer, Resolving, Sent, Tunnel};
use witan_http::{Proxy, Settings};
use witan_ledger::Redactor;
use witan_secrets::{RunKey, Secrets};
use witan_system::{Resolve, System};

use crate::Global;

/// Who is told of the host's own requests. A process has one ledger, and too many ways that lead out of it to hand it to
/// each of them.
static OBSERVER: OnceLock<Arc<dyn Observer>> = OnceLock::new();

/// Has `observer` told of the host's own requests from now on.
pub(crate) fn observe_by(observer: Arc<dyn Observer>) {
    // A process has one host; a second one would have its ledger.
    let _first = OBSERVER.set(observer);
}

/// The way of the host's own requests.
pub(crate) fn way(system: &System) -> anyhow::Result<Egress> {
    let egress = &system.host.egress;
    let proxy = match &egress.proxy {
        None => None,
        Some(origin) => {
            let bypass = egress.no_proxy.clone();
            Some(witan_egress::Proxy {
                url: origin.to_string().parse().context("`host.egress.proxy` is no URL")?,
                authorization: authorization(system)?,
                bypass: Box::new(move |host| {
                    host.parse().is_ok_and(|host| bypass.iter().any(|pattern| pattern.matches(&host)))
                }),
                resolving: resolving(egress.resolve),
            })
        }
    };
    let authorities = match &egress.ca {
        None => None,
        Some(path) => Some(std::fs::read(path).with_context(|| {
            format!("cannot read the authorities in `{}`, which `host.egress.ca` names", path.display())
        })?),
    };
    let way = Egress::new(proxy, authorities.as_deref()).context("[host.egress] is no way out")?;
    Ok(way.observed(Arc::new(Whoever)))
}

/// By whose word a command believes a host, a registry or an authority.
#[derive(Args, Clone)]
pub(crate) struct CaArgument {
    /// Believe servers that the certificates in this PEM file vouch for, besides those that this machine knows.
    #[arg(long, value_name = "FILE", env = "WITAN_CA")]
    ca: Option<PathBuf>,
}

impl CaArgument {
    /// As the environment has it, for commands that have no flag for it.
    pub(crate) fn usual() -> Self {
        Self { ca: std::env::var_os("WITAN_CA").filter(|file| !file.is_empty()).map(PathBuf::from) }
    }

    /// The way of a command that names whom it asks: as `[host.egress]` of the system says that somebody named, and where
    /// nobody did, as the environment does. A folder that one happens to be in does not choose who sees a token.
    pub(crate) fn way(&self, global: &Global) -> anyhow::Result<Egress> {
        let way = match &global.system {
            Some(file) => way(&System::load(file)?)?,
            None => Egress::of_environment()?,
        };
        self.believe(way)
    }

    /// The way of a command to the host at `server`, which goes through no proxy to one on this machine.
    pub(crate) fn way_to(&self, server: &Url) -> anyhow::Result<Egress> {
        let way = if is_loopback(server) { Egress::default() } else { Egress::of_environment()? };
        if server.scheme() == "https" { self.believe(way) } else { Ok(way) }
    }

    fn believe(&self, way: Egress) -> anyhow::Result<Egress> {
        let Some(file) = &self.ca else { return Ok(way) };
        let read = || format!("cannot read the authorities in `{}`, which `--ca` or `WITAN_CA` names", file.display());
        way.trusting(&std::fs::read(file).with_context(read)?).with_context(read)
    }
}

/// Whether `server` is this machine itself.
pub(crate) fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whoever is told by the time that a request is made.
struct Whoever;

impl Observer for Whoever {
    fn observe(&self, sent: &Sent<'_>) {
        if let Some(observer) = OBSERVER.get() {
            observer.observe(sent);
        }
    }
}

/// What the client of components gets. The components of `system` get the placeholders of their secrets, and `redactor` masks
/// each value from its first use on.
pub(crate) fn settings(system: &mut System, run: &RunKey, redactor: Arc<Redactor>) -> anyhow::Result<Settings> {
    let secrets = Secrets::new(system, run.clone(), &way(system)?).context("secrets cannot be used")?;
    let secrets = secrets.heard_by(Arc::new(move |tenant, name, value| {
        redactor.hide_used(&format!("{tenant}/{name}"), value.expose());
    }));
    secrets.place(system);
    let egress = &system.host.egress;
    let roots = match &egress.ca {
        Some(path) => witan_http::authorities(path).with_context(|| {
            format!("cannot read the authorities in `{}`, which `host.egress.ca` names", path.display())
        })?,
        None => Vec::new(),
    };
    Ok(Settings { roots, proxy: proxy(system)?, secrets: Some(Arc::new(secrets)), ..Settings::default() })
}

fn proxy(system: &System) -> anyhow::Result<Option<Proxy>> {
    let egress = &system.host.egress;
    let Some(origin) = &egress.proxy else { return Ok(None) };
    Ok(Some(Proxy {
        tunnel: Tunnel::new(origin.host.to_string(), origin.port, authorization(system)?),
        bypass: egress.no_proxy.clone(),
        resolving: resolving(egress.resolve),
    }))
}

fn resolving(resolve: Resolve) -> Resolving {
    match resolve {
        Resolve::Here => Resolving::Here,
        Resolve::Proxy => Resolving::ByProxy,
    }
}

/// What the proxy is told of who we are.
fn authorization(system: &System) -> anyhow::Result<Option<String>> {
    let Some(path) = &system.host.egress.proxy_credentials else { return Ok(None) };
    let read = || format!("cannot read `{}`, which `host.egress.proxy-credentials` names", path.display());
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = std::fs::File::open(path).with_context(read)?;
    file.take(4 << 10).read_to_string(&mut text).with_context(read)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if !text.contains(':') || text.chars().any(char::is_control) {
        bail!("`{}` does not hold `user:password` in one line", path.display());
    }
    Ok(Some(witan_http::basic(text)))
}
