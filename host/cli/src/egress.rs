//! How components' requests leave this machine: the proxy, the authorities and the secrets that the system names.

use std::{io::Read as _, sync::Arc};

use anyhow::{Context as _, bail};
use witan_http::{Proxy, Resolving, Settings};
use witan_secrets::{RunKey, Secrets};
use witan_system::{Resolve, System};

/// What the client of components gets. The components of `system` get the placeholders of their secrets.
pub(crate) fn settings(system: &mut System, run: &RunKey) -> anyhow::Result<Settings> {
    let secrets = Secrets::new(system, run.clone()).context("secrets cannot be used")?;
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
    let authorization = match &egress.proxy_credentials {
        None => None,
        Some(path) => {
            let read = || format!("cannot read `{}`, which `host.egress.proxy-credentials` names", path.display());
            let mut text = zeroize::Zeroizing::new(String::new());
            let file = std::fs::File::open(path).with_context(read)?;
            file.take(4 << 10).read_to_string(&mut text).with_context(read)?;
            let text = text.trim_end_matches(['\r', '\n']);
            if !text.contains(':') || text.chars().any(char::is_control) {
                bail!("`{}` does not hold `user:password` in one line", path.display());
            }
            Some(witan_http::basic(text))
        }
    };
    Ok(Some(Proxy {
        host: origin.host.to_string(),
        port: origin.port,
        authorization,
        bypass: egress.no_proxy.clone(),
        resolving: match egress.resolve {
            Resolve::Here => Resolving::Here,
            Resolve::Proxy => Resolving::ByProxy,
        },
    }))
}
