//! Secrets: where each comes from, and the only places that it may go to.
//!
//! A component is granted a secret by name and never holds it: it holds a placeholder, which the host swaps for the value
//! in the named headers of a request to one of the named origins. So both are bound here, by the operator.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    HostName, Scheme,
    check::Checker,
    file::{Bytes, Time},
    name::SecretName,
    problem::Key,
};

/// A secret: where it comes from, at most one of `file`, `environment`, `command` and `vault`, and where it may go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SecretFile {
    /// The origins that it may be sent to, each a scheme, a host and where it is not the usual one a port:
    /// `https://api.example.com`.
    pub(crate) origins: Vec<String>,
    /// The headers of requests in which its placeholder is swapped for it. Default: `authorization` alone.
    pub(crate) headers: Option<Vec<String>>,
    /// A file that holds it, relative to this file. Read for each use.
    pub(crate) file: Option<String>,
    /// A variable of the host's own environment that holds it.
    pub(crate) environment: Option<String>,
    /// A program that prints it, and its arguments.
    pub(crate) command: Option<Vec<String>>,
    /// Its path in the KV store, version 2, of the Vault under `[host.secrets.vault]`, such as `secret/data/weather`; `{tenant}`
    /// stands for the tenant of the call.
    pub(crate) vault: Option<String>,
    /// The field of the Vault's entry. Only with `vault`. Default: `value`.
    pub(crate) field: Option<String>,
    /// How long a value is kept that a command or Vault gave. Default: `1m`.
    pub(crate) cache: Option<Time>,
}

/// How secrets are kept and fetched.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct HostSecretsFile {
    /// The file with the operator key that stored secrets are encrypted under, relative to this file; `WITAN_SECRETS_KEY_FILE`
    /// goes before. Default: `secrets.key` in the state folder, made at first use.
    pub(crate) key_file: Option<String>,
    /// A program that prints the operator key, and its arguments, in place of a file. Default: none.
    pub(crate) key_command: Option<Vec<String>>,
    /// Bytes of a response's body that are searched for the secrets that its request carried. Default: `64KiB`.
    pub(crate) scan: Option<Bytes>,
    /// The Vault that secrets with `vault` come from. Default: none.
    pub(crate) vault: Option<VaultFile>,
}

/// A server that speaks Vault's HTTP API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct VaultFile {
    /// Its URL, such as `https://vault.example:8200`.
    pub(crate) address: String,
    /// The file that holds the token for it, relative to this file. Read for each request, so that it may be renewed.
    pub(crate) token_file: String,
    /// The namespace. Default: none.
    pub(crate) namespace: Option<String>,
    /// A file of certificates, in PEM form, of the authorities that it may have its certificate from besides the public ones,
    /// relative to this file. Default: none.
    pub(crate) ca: Option<String>,
}

/// A secret that a component may use, by its placeholder.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SecretUseFile {
    /// The secret, as `[secrets]` names it.
    pub(crate) secret: String,
    /// The environment variable that holds the placeholder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
    /// The setting of `wasi:config` that holds the placeholder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
}

/// A secret, and the only places that it may go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// Where it comes from.
    pub source: SecretSource,
    /// Where it may go; at least one.
    pub origins: Vec<OriginName>,
    /// The headers, in lower case, in which it may go; at least one.
    pub headers: Vec<String>,
    /// How long a value of a command or of Vault is kept.
    pub cache: Duration,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// The store in the state folder, where `witan secrets set` put it.
    Stored,
    /// A file.
    File(PathBuf),
    /// A variable of the host's environment.
    Environment(String),
    /// A program and its arguments; at least the program.
    Command(Vec<String>),
    /// An entry of Vault.
    Vault {
        /// Its path, in which `{tenant}` stands for the tenant.
        path: String,
        /// The field.
        field: String,
    },
}

/// How secrets are kept and fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostSecrets {
    /// Where the operator key is; none is `secrets.key` in the state folder.
    pub key: Option<KeyPlace>,
    /// Bytes of a response's body that are searched for what its request carried.
    pub scan: u64,
    /// The Vault.
    pub vault: Option<VaultServer>,
}

impl Default for HostSecrets {
    fn default() -> Self {
        Self { key: None, scan: 64 << 10, vault: None }
    }
}

/// Where the operator key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPlace {
    /// In a file.
    File(PathBuf),
    /// A program prints it.
    Command(Vec<String>),
}

/// A server that speaks Vault's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VaultServer {
    /// Its URL, without a path.
    pub address: String,
    /// The file with the token.
    pub token_file: PathBuf,
    /// The namespace.
    pub namespace: Option<String>,
    /// Authorities besides the public ones.
    pub ca: Option<PathBuf>,
}

/// A secret that a component may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretGrant {
    /// The secret.
    pub secret: SecretName,
    /// The environment variable that holds its placeholder.
    pub environment: Option<String>,
    /// The setting of `wasi:config` that holds its placeholder.
    pub config: Option<String>,
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct OriginName {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: HostName,
    /// The port.
    pub port: u16,
}

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin")]
pub struct OriginNameError(String);

impl FromStr for OriginName {
    type Err = OriginNameError;

    fn from_str(text: &str) -> Result<Self, OriginNameError> {
        let wrong = || OriginNameError(text.to_owned());
        let (scheme, usual, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (Scheme::Https, 443, rest),
            (_, Some(rest)) => (Scheme::Http, 80, rest),
            _ => return Err(wrong()),
        };
        let end = match rest.strip_prefix('[') {
            Some(_) => rest.find(']').ok_or_else(wrong)? + 1,
            None => rest.find(':').unwrap_or(rest.len()),
        };
        let (host, port) = rest.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => usual,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let host = host.parse().map_err(|_| wrong())?;
        if port == 0 { Err(wrong()) } else { Ok(Self { scheme, host, port }) }
    }
}

impl fmt::Display for OriginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        match &self.host {
            HostName::Address(address) if address.is_ipv6() => write!(f, "{scheme}://[{address}]:{}", self.port),
            host => write!(f, "{scheme}://{host}:{}", self.port),
        }
    }
}

/// Headers that belong to a connection or to the host, where nothing that a guest wrote is sent.
const NEVER: [&str; 9] = [
    "connection",
    "content-length",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Checker<'_> {
    pub(crate) fn secrets(
        &mut self,
        key: &Key,
        from: &BTreeMap<String, SecretFile>,
        host: &HostSecrets,
    ) -> BTreeMap<SecretName, Secret> {
        let mut secrets = BTreeMap::new();
        for (name, secret) in from {
            let key = key.child(name);
            let checked = self.secret(&key, secret, host);
            if let Some(name) = self.name(&key, name) {
                secrets.insert(name, checked);
            }
        }
        secrets
    }

    fn secret(&mut self, key: &Key, from: &SecretFile, host: &HostSecrets) -> Secret {
        let origins_key = key.child("origins");
        let help = "write a scheme and a host, such as \"https://api.example.com\", without a path";
        let origins = from.origins.iter().enumerate();
        let origins: Vec<OriginName> = origins
            .filter_map(|(index, text)| {
                let parsed = text.parse::<OriginName>();
                parsed.map_err(|error| self.report(&origins_key.index(index), error.to_string(), help)).ok()
            })
            .collect();
        if from.origins.is_empty() {
            self.report(&origins_key, "the secret may go nowhere, so that nothing can use it", "name an origin");
        }
        let cache = self.time(&key.child("cache"), &from.cache, Duration::from_secs(60));
        Secret { source: self.secret_source(key, from, host), origins, headers: self.secret_headers(key, from), cache }
    }

    fn secret_headers(&mut self, key: &Key, from: &SecretFile) -> Vec<String> {
        let key = key.child("headers");
        let Some(headers) = &from.headers else { return vec!["authorization".to_owned()] };
        if headers.is_empty() {
            self.report(&key, "the secret may go in no header, so that nothing can use it", "name one, or remove it");
        }
        for (index, header) in headers.iter().enumerate() {
            let plain = header.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if header.is_empty() || !plain {
                let help = "write its name in lower case, such as \"x-api-key\"";
                self.report(&key.index(index), format!("`{header}` is no header"), help);
            } else if NEVER.contains(&header.as_str()) {
                let message = format!("no secret is sent in `{header}`");
                self.report(&key.index(index), message, "name another header, such as \"authorization\"");
            }
        }
        headers.clone()
    }

    fn secret_source(&mut self, key: &Key, from: &SecretFile, host: &HostSecrets) -> SecretSource {
        let written = [from.file.is_some(), from.environment.is_some(), from.command.is_some(), from.vault.is_some()];
        if written.iter().filter(|written| **written).count() > 1 {
            let message = format!("`{key}` has more than one source");
            self.report(key, message, "keep one of `file`, `environment`, `command` and `vault`");
        }
        if from.field.is_some() && from.vault.is_none() {
            let key = key.child("field");
            self.report(&key, format!("`{key}` has no effect"), "add `vault`, or remove it");
        }
        if from.cache.is_some() && from.command.is_none() && from.vault.is_none() {
            let key = key.child("cache");
            self.report(&key, format!("`{key}` has no effect"), "add `command` or `vault`, or remove it");
        }
        if let Some(file) = &from.file {
            SecretSource::File(self.resolve(&key.child("file"), file))
        } else if let Some(name) = &from.environment {
            SecretSource::Environment(name.clone())
        } else if let Some(command) = &from.command {
            SecretSource::Command(self.program(&key.child("command"), command))
        } else if let Some(path) = &from.vault {
            let key = key.child("vault");
            if host.vault.is_none() {
                self.report(&key, "there is no Vault to fetch it from", "add [host.secrets.vault]");
            }
            let sound = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_path_byte);
            if !path.replace("{tenant}", "t").split('/').all(sound) {
                self.report(&key, format!("`{path}` is no path of Vault"), "write it such as \"secret/data/weather\"");
            }
            SecretSource::Vault { path: path.clone(), field: from.field.clone().unwrap_or_else(|| "value".to_owned()) }
        } else {
            SecretSource::Stored
        }
    }

    fn program(&mut self, key: &Key, command: &[String]) -> Vec<String> {
        if command.first().is_none_or(String::is_empty) || command.iter().any(|part| part.contains('\0')) {
            self.report(key, format!("`{key}` names no program"), "write the program and each of its arguments");
        }
        command.to_vec()
    }

    pub(crate) fn host_secrets(&mut self, key: &Key, from: &HostSecretsFile) -> HostSecrets {
        let place = match (&from.key_file, &from.key_command) {
            (Some(_), Some(_)) => {
                let message = "the operator key has two places";
                self.report(key, message, "keep one of `key-file` and `key-command`");
                None
            }
            (Some(file), None) => Some(KeyPlace::File(self.resolve(&key.child("key-file"), file))),
            (None, Some(command)) => Some(KeyPlace::Command(self.program(&key.child("key-command"), command))),
            (None, None) => None,
        };
        HostSecrets {
            key: place,
            scan: self.bytes(&key.child("scan"), &from.scan, HostSecrets::default().scan),
            vault: from.vault.as_ref().and_then(|vault| self.vault(&key.child("vault"), vault)),
        }
    }

    fn vault(&mut self, key: &Key, from: &VaultFile) -> Option<VaultServer> {
        let address = from.address.trim_end_matches('/');
        let server = VaultServer {
            address: address.to_owned(),
            token_file: self.resolve(&key.child("token-file"), &from.token_file),
            namespace: from.namespace.clone(),
            ca: from.ca.as_ref().map(|ca| self.resolve(&key.child("ca"), ca)),
        };
        if let Err(error) = address.parse::<OriginName>() {
            let help = "write it such as \"https://vault.example:8200\", without a path";
            self.report(&key.child("address"), error.to_string(), help);
            return None;
        }
        Some(server)
    }

    /// The secrets of a component's grants, whose names it sees in its environment or its settings.
    pub(crate) fn secret_grants(
        &mut self,
        key: &Key,
        from: &[SecretUseFile],
        all: &BTreeMap<String, SecretFile>,
    ) -> Vec<SecretGrant> {
        let mut grants = Vec::new();
        for (index, grant) in from.iter().enumerate() {
            let key = key.index(index);
            if grant.environment.is_none() && grant.config.is_none() {
                let message = format!("`{key}` does not say where the component finds the placeholder");
                self.report(&key, message, "add `environment = \"NAME\"` or `config = \"key\"`");
            }
            if !all.contains_key(&grant.secret) {
                let message = format!("there is no secret `{}`", grant.secret);
                self.report(&key.child("secret"), message, format!("add [secrets.{}]", grant.secret));
            } else if let Ok(secret) = grant.secret.parse() {
                let (environment, config) = (grant.environment.clone(), grant.config.clone());
                grants.push(SecretGrant { secret, environment, config });
            }
        }
        grants
    }

    /// Takes the names of placeholders up among the other names, without a value: the host that runs gives them one.
    pub(crate) fn placeholders(
        &mut self,
        key: &Key,
        names: impl Iterator<Item = String>,
        among: &mut BTreeMap<String, String>,
    ) {
        for name in names {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.report(key, format!("`{name}` cannot name a placeholder"), "choose a name without `=`");
            }
            if among.insert(name.clone(), String::new()).is_some() {
                let message = format!("`{name}` is granted twice");
                self.report(key, message, "choose another name for the placeholder, or remove the other");
            }
        }
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_a_host_and_a_port_and_nothing_else() {
        let text = |text: &str| text.parse::<OriginName>().map(|origin| origin.to_string());
        assert_eq!(text("https://API.example.com").unwrap(), "https://api.example.com:443");
        assert_eq!(text("http://127.1:81").unwrap(), "http://127.0.0.1:81");
        assert_eq!(text("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for wrong in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a@b",
            "https://a:0",
            "https://a:x",
            "https://a:65536",
            "https://*.a",
            "https://a?b",
            "https://[::1",
            "https://a:+1",
        ] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
