//! The form in which an operator says whom to trust, in `system.toml` and in the file for all systems.
//!
//! Texts stay texts here: what keys, identities and patterns mean is known to `registry/sign`, which makes a policy of
//! this and refuses what is none.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whom to trust to sign what comes from a registry. What no rule allows is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrustFile {
    /// The file with the certificate authorities and transparency logs that are trusted, a `trusted_root.json`, relative
    /// to this file. Default: none, so that only signatures that need no log count, where a rule allows those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The TUF roots that are pinned: each the host of a registry and the file of its `root.json`, relative to this file. The
    /// trusted root of such a registry and what is yanked there come from its TUF metadata, which end; `root` is for the
    /// other registries. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tuf: BTreeMap<String, String>,
    /// How old the trust metadata may be: the time since the root was written or `witan trust refresh` last heard from
    /// the registry. Default: `168h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// How often a running host asks the registries what was yanked. Default: `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// A folder of advisories in the form of the RustSec database, relative to this file. A component that depends on
    /// something with an advisory is not loaded. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advisories: Option<String>,
    /// Who may sign which packages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleFile>,
}

/// Who may sign some packages, and what must be signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleFile {
    /// The packages: `namespace:name`, `namespace:*` or `*`. The most specific rule holds, alone.
    pub packages: String,
    /// The keys that may sign them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyFile>,
    /// The identities that may sign them, by a short-lived certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<IdentityFile>,
    /// How many different signers must have signed each statement. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threshold: Option<usize>,
    /// Which statements must be there; the release statement always must. Default: all three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Vec<StatementKind>>,
    /// Whether a key's signature counts without an entry in a transparency log. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unlogged: bool,
}

/// A kind of statement about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StatementKind {
    /// That its author publishes it, with what it may ever need.
    Release,
    /// How it was built: SLSA provenance.
    Provenance,
    /// What it is made of: a CycloneDX SBOM.
    Sbom,
}

/// A key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyFile {
    /// Its public half: PEM, as `witan keys export` prints it.
    pub key: String,
    /// Until when its signatures count, such as `2026-01-01T00:00:00Z`. For a key that was replaced. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

/// Somebody who signs with short-lived certificates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentityFile {
    /// Who vouches for the name: the URL of an OIDC issuer.
    pub issuer: String,
    /// The name, an e-mail address. Either this or `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The name, a URI such as that of a workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}
