//! Vault's HTTP API: the KV secrets engine, version 2.

use std::{io, path::PathBuf, time::Duration};

use reqwest::{Certificate, StatusCode};
use serde::Deserialize;
use witan_egress::{Egress, Outcome, Purpose};
use witan_system::VaultServer;
use zeroize::Zeroizing;

use crate::{
    Value, ValueError,
    source::{self, SourceError},
};

/// How long an answer may take, all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read. An entry of Vault holds 512 KiB by default.
const LARGEST: usize = 1 << 20;

/// Why Vault gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file of authorities cannot be read, or has none.
    #[error("`{path}` has no certificates of authorities for Vault: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// How it failed.
        why: String,
    },
    /// The token cannot be read.
    #[error("cannot read the token for Vault")]
    Token(#[source] Box<SourceError>),
    /// It does not answer.
    #[error("Vault at `{address}` does not answer: {why}")]
    Unreachable {
        /// Its URL.
        address: String,
        /// How it failed.
        why: String,
    },
    /// It refuses the token.
    #[error("Vault refuses `{0}` to the token; renew the token, or let its policy read that path")]
    Refused(String),
    /// It has nothing there.
    #[error("Vault has nothing at `{0}`; correct `vault`, or write the entry")]
    Missing(String),
    /// It answers otherwise.
    #[error("Vault answered `{path}` with the status {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// The answer has another form.
    #[error("Vault's answer is none of its KV store, version 2: {0}")]
    Malformed(&'static str),
    /// The entry has no such field.
    #[error("Vault's entry has no field `{0}` with a text in it; correct `field`")]
    Field(String),
    /// The field is no secret.
    #[error("Vault's field cannot be sent: {0}")]
    Value(#[from] ValueError),
}

/// A client of one Vault.
pub(crate) struct Vault {
    http: reqwest::Client,
    egress: Egress,
    server: VaultServer,
}

impl Vault {
    pub(crate) fn new(server: VaultServer, egress: Egress) -> Result<Self, VaultError> {
        let builder = egress.client().timeout(PATIENCE);
        let http = match &server.ca {
            None => builder.build(),
            Some(path) => {
                let failed = |why: String| VaultError::Authorities { path: path.clone(), why };
                let pem = std::fs::read(path).map_err(|error: io::Error| failed(error.to_string()))?;
                let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
                if certificates.is_empty() {
                    return Err(failed("it has none".to_owned()));
                }
                builder.tls_certs_merge(certificates).build()
            }
        };
        let failed = |error: reqwest::Error| VaultError::Authorities { path: PathBuf::new(), why: error.to_string() };
        Ok(Self { http: http.map_err(failed)?, egress, server })
    }

    /// The field `field` of the entry at `path`, and for how long Vault lets it be kept, if it says so.
    pub(crate) async fn fetch(&self, path: &str, field: &str) -> Result<(Value, Option<Duration>), VaultError> {
        let token = source::file(&self.server.token_file).await.map_err(|error| VaultError::Token(Box::new(error)))?;
        let url = format!("{}/v1/{path}", self.server.address);
        let unreachable = |error: reqwest::Error| VaultError::Unreachable {
            address: self.server.address.clone(),
            why: cause(&error),
        };
        let mut request = self.http.get(url).header("x-vault-token", sensitive(&token)?);
        request = request.header("x-vault-request", "true");
        if let Some(namespace) = &self.server.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let answer = request.send().await;
        if let Ok(address) = self.server.address.parse() {
            self.egress.sent(Purpose::Vault, &address, Outcome::of(&answer));
        }
        let mut response = answer.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(VaultError::Refused(path.to_owned())),
            StatusCode::NOT_FOUND => return Err(VaultError::Missing(path.to_owned())),
            status => return Err(VaultError::Status { path: path.to_owned(), status: status.as_u16() }),
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            if body.len() + part.len() > LARGEST {
                return Err(VaultError::Malformed("it is too long"));
            }
            body.extend_from_slice(&part);
        }
        parse_answer(&body, field)
    }
}

fn sensitive(token: &Value) -> Result<http::HeaderValue, VaultError> {
    let mut value = http::HeaderValue::from_str(token.expose()).map_err(|_| ValueError::Unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost reason, which names the failure and not the request.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    lease_duration: u64,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    data: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

/// The field `field` of an answer of Vault's KV store, version 2, and how long it may be kept, if the answer says so.
///
/// # Errors
/// When it is no such answer, or its field no secret.
pub fn parse_answer(bytes: &[u8], field: &str) -> Result<(Value, Option<Duration>), VaultError> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| VaultError::Malformed("it is no such JSON"))?;
    let data = answer.data.and_then(|data| data.data).ok_or(VaultError::Malformed("it has no `data.data`"))?;
    let Some(serde_json::Value::String(text)) = data.get(field) else {
        return Err(VaultError::Field(field.to_owned()));
    };
    let lease = (answer.lease_duration > 0).then(|| Duration::from_secs(answer.lease_duration));
    Ok((Value::new(text.clone().into_bytes())?, lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gives_its_field_and_its_lease() {
        let answer = br#"{"lease_duration": 30, "data": {"data": {"key": "a-secret-text", "n": 1}, "metadata": {"version": 3}}}"#;
        let (value, lease) = parse_answer(answer, "key").unwrap();
        assert_eq!((value.expose(), lease), ("a-secret-text", Some(Duration::from_secs(30))));
        for field in ["n", "other"] {
            assert!(matches!(parse_answer(answer, field), Err(VaultError::Field(name)) if name == field));
        }
        let deleted = br#"{"data": {"data": null, "metadata": {"deletion_time": "2026-01-01T00:00:00Z"}}}"#;
        for wrong in [&b""[..], b"[]", b"{}", b"{\"data\": {}}", deleted] {
            assert!(matches!(parse_answer(wrong, "key"), Err(VaultError::Malformed(_))));
        }
    }
}
