//! A certificate authority and a transparency log in memory, of the shape of Fulcio and Rekor, and an author's versions,
//! so that signing is tested without a network; and an
//! OpenID Connect provider; where a program is to ask them, they listen on this machine. What they sign
//! is real: other clients accept it given the trusted root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at what it did not expect")]

mod author;
mod certificate;
mod listening;
mod log;
mod provider;
mod served;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use witan_registry_sign::{SigningKey, trusted_root};

pub use author::Version;
pub use certificate::Certified;
pub use log::LocalLog;
pub use provider::{CLIENT, Provider, Slip, now};
pub use served::{Conduct, Served, token};

/// When tests take place: long enough ago for every machine's clock.
pub fn noon() -> SystemTime {
    // 2025-01-01, 12:00 UTC.
    UNIX_EPOCH + Duration::from_secs(1_735_732_800)
}

/// An authority that gives certificates, a log of certificates, and a log of signatures.
pub struct Authority {
    ca: certificate::Ca,
    certificates: SigningKey,
    /// The log of signatures.
    pub log: LocalLog,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new authority with keys of its own, at [`noon`].
    pub fn new() -> Self {
        let certificates = SigningKey::generate().unwrap();
        Self { ca: certificate::Ca::new(), certificates, log: LocalLog::new("log.example") }
    }

    /// A `trusted_root.json` that trusts this authority and its logs.
    pub fn trusted_root(&self) -> Vec<u8> {
        let mut root: Value = serde_json::from_slice(&trusted_root(&[self.log.trusted()])).unwrap();
        let start = json!({ "start": "2020-01-01T00:00:00Z" });
        root["certificateAuthorities"] = json!([{
            "subject": { "organization": "test", "commonName": "test" },
            "uri": "https://ca.example",
            "certChain": { "certificates": [{ "rawBytes": STANDARD.encode(self.ca.der()) }] },
            "validFor": start,
        }]);
        root["ctlogs"] = json!([{
            "baseUrl": "https://certificates.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(self.certificates.public().der()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": start,
            },
            "logId": { "keyId": STANDARD.encode(self.certificates.id().as_bytes()) },
        }]);
        root.to_string().into_bytes()
    }
}
