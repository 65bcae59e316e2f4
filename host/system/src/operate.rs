//! How a host is reached and how it reaches others: TLS, and the proxy and authorities of what it sends.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostPattern, OriginName, check::Checker, problem::Key};

/// TLS for the clients of the host.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TlsFile {
    /// The file with the host's certificate and those that lead to its authority, in PEM form, relative to this file. Read
    /// again when it changes.
    pub(crate) certificate: String,
    /// The file with the certificate's private key, in PEM form, relative to this file.
    pub(crate) key: String,
    /// The file with the authorities of clients' certificates, in PEM form, relative to this file. A client may then show one,
    /// and one that shows another is refused. Default: none, so that clients show none.
    pub(crate) client_ca: Option<String>,
}

/// The way from the host to other machines.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct EgressFile {
    /// The proxy that requests go through, such as `http://proxy.example:3128`. Default: none; the environment is not looked
    /// at.
    pub(crate) proxy: Option<String>,
    /// The file with `user:password` for the proxy, relative to this file. Default: none.
    pub(crate) proxy_credentials: Option<String>,
    /// Hosts that are reached without the proxy: names, `*.` and a domain, or addresses. Default: none.
    pub(crate) no_proxy: Vec<String>,
    /// Who looks names up. Default: `here`.
    pub(crate) resolve: Option<Resolve>,
    /// The file with the authorities that servers may have their certificates from besides the public ones, in PEM form, relative
    /// to this file. Default: none.
    pub(crate) ca: Option<String>,
}

/// Who looks names up where requests go through a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resolve {
    /// The host: each address is checked before the proxy is told to connect to it.
    #[default]
    Here,
    /// The proxy, where only it can: whether a name leads into a private network is then the proxy's to see to.
    Proxy,
}

/// TLS for the clients of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The certificates, the host's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates.
    pub client_ca: Option<PathBuf>,
}

/// The way from the host to other machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// The proxy.
    pub proxy: Option<OriginName>,
    /// The file with `user:password` for it.
    pub proxy_credentials: Option<PathBuf>,
    /// What is reached without it.
    pub no_proxy: Vec<HostPattern>,
    /// Who looks names up.
    pub resolve: Resolve,
    /// Authorities besides the public ones.
    pub ca: Option<PathBuf>,
}

impl Checker<'_> {
    pub(crate) fn tls(&mut self, key: &Key, from: Option<&TlsFile>) -> Option<Tls> {
        let from = from?;
        Some(Tls {
            certificate: self.resolve(&key.child("certificate"), &from.certificate),
            key: self.resolve(&key.child("key"), &from.key),
            client_ca: from.client_ca.as_ref().map(|ca| self.resolve(&key.child("client-ca"), ca)),
        })
    }

    pub(crate) fn egress(&mut self, key: &Key, from: &EgressFile) -> Egress {
        let proxy = from.proxy.as_ref().and_then(|proxy| {
            let parsed = proxy.strip_prefix("http://").and_then(|_| proxy.trim_end_matches('/').parse().ok());
            if parsed.is_none() {
                let help =
                    "write it such as \"http://proxy.example:3128\"; what it wants of a user is in `proxy-credentials`";
                self.report(&key.child("proxy"), "this is no URL of a proxy", help);
            }
            parsed
        });
        for (name, written) in [
            ("proxy-credentials", from.proxy_credentials.is_some()),
            ("no-proxy", !from.no_proxy.is_empty()),
            ("resolve", from.resolve.is_some()),
        ] {
            if written && from.proxy.is_none() {
                let key = key.child(name);
                self.report(&key, format!("`{key}` has no effect"), "add `proxy`, or remove it");
            }
        }
        let no_proxy = from.no_proxy.iter().enumerate().filter_map(|(index, text)| {
            let help = "write a host name, `*.` and a domain, or an IP address, without scheme, port or path";
            let parsed = text.parse();
            parsed
                .map_err(|error: crate::HostError| {
                    self.report(&key.child("no-proxy").index(index), error.to_string(), help);
                })
                .ok()
        });
        let no_proxy = no_proxy.collect();
        Egress {
            proxy,
            proxy_credentials: from
                .proxy_credentials
                .as_ref()
                .map(|path| self.resolve(&key.child("proxy-credentials"), path)),
            no_proxy,
            resolve: from.resolve.unwrap_or_default(),
            ca: from.ca.as_ref().map(|path| self.resolve(&key.child("ca"), path)),
        }
    }
}
