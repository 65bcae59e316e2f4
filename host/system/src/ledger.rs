//! `[host.ledger]`: how the audit log is kept, and what is taken out before it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::check::Checker;
use crate::file::{Bytes, Time};
use crate::problem::Key;

/// Patterns of one's own; more would be looked for in every entry.
const MOST_PATTERNS: usize = 64;

/// How the audit log is kept, and what is taken out before it is written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct LedgerFile {
    /// How long what entries say is kept; that they were there stays provable. Default: without end.
    pub(crate) keep: Option<Time>,
    /// How much disk the entries may take; the oldest are dropped beyond it. Default: without end.
    pub(crate) max_size: Option<Bytes>,
    /// How old the newest checkpoint may be while there are newer entries. Default: `1s`.
    pub(crate) checkpoint: Option<Time>,
    /// A file that checkpoints are added to, best on another machine's disk, relative to this file. Default: none.
    pub(crate) sink: Option<String>,
    /// Witnesses that co-sign checkpoints.
    pub(crate) witnesses: Vec<WitnessFile>,
    /// How often the sink and the witnesses are given a checkpoint, while there are entries. Default: `1m`.
    pub(crate) witness_interval: Option<Time>,
    /// Personal data that is masked, by its form. Default: `["e-mail", "card", "iban"]`.
    pub(crate) personal: Option<Vec<PersonalData>>,
    /// Further regular expressions of what is masked. Default: none.
    pub(crate) patterns: Vec<String>,
    /// What becomes of a class of fields. Default: `keep` for `identity`, `mask` for the others.
    pub(crate) fields: BTreeMap<FieldClass, Treatment>,
}

/// A witness that co-signs checkpoints.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct WitnessFile {
    /// Its key, as `name+hash+key`.
    pub(crate) key: String,
    /// Where it takes checkpoints: the address of its `add-checkpoint`.
    pub(crate) url: String,
}

/// Personal data that has a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PersonalData {
    /// Addresses of e-mail.
    #[serde(rename = "e-mail")]
    Email,
    /// Numbers of payment cards.
    Card,
    /// Numbers of bank accounts.
    Iban,
    /// Telephone numbers in the international form.
    Phone,
    /// IP addresses.
    IpAddress,
}

/// Fields of an entry, by what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldClass {
    /// Who acted, and whom it is about.
    Identity,
    /// To what something was done.
    Resource,
    /// Why it was decided so.
    Reason,
    /// What else there is to say.
    Details,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Secrets alone are masked.
    Keep,
    /// Secrets and personal data are masked.
    Mask,
    /// A hash stands in its place, by which equal ones can be told to be equal.
    Hash,
    /// It is left out.
    Drop,
}

/// How the audit log is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// How long what entries say is kept; without end where there is none.
    pub keep: Option<Duration>,
    /// Bytes that the entries may take; without end where there is none.
    pub max_bytes: Option<u64>,
    /// How old the newest checkpoint may be while there are newer entries.
    pub checkpoint: Duration,
    /// A file that checkpoints are added to.
    pub sink: Option<PathBuf>,
    /// Who co-signs checkpoints: a key as C2SP writes it, and where.
    pub witnesses: Vec<(String, String)>,
    /// How often the sink and the witnesses are given a checkpoint.
    pub witness_interval: Duration,
    /// Personal data that is masked.
    pub personal: Vec<PersonalData>,
    /// Further regular expressions of what is masked.
    pub patterns: Vec<String>,
    /// What becomes of a class of fields, where it is not the default.
    pub fields: BTreeMap<FieldClass, Treatment>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            keep: None,
            max_bytes: None,
            checkpoint: Duration::from_secs(1),
            sink: None,
            witnesses: Vec::new(),
            witness_interval: Duration::from_secs(60),
            personal: vec![PersonalData::Email, PersonalData::Card, PersonalData::Iban],
            patterns: Vec::new(),
            fields: BTreeMap::new(),
        }
    }
}

impl Checker<'_> {
    pub(crate) fn ledger(&mut self, key: &Key, file: &LedgerFile) -> Ledger {
        let default = Ledger::default();
        let time = |checker: &mut Self, name: &str, text: &Option<Time>, default: Duration| {
            let key = key.child(name);
            let time = checker.time(&key, text, default);
            checker.at_least_one(&key, time, "it says how often something is done, or how long it is kept")
        };
        let sized = |checker: &mut Self| {
            let key = key.child("max-size");
            let bytes = checker.bytes(&key, &file.max_size, u64::MAX);
            checker.at_least_one(&key, bytes, "with nothing kept there is no audit")
        };
        if file.patterns.len() > MOST_PATTERNS {
            let message = format!("there are {} patterns, and {MOST_PATTERNS} are the most", file.patterns.len());
            self.report(&key.child("patterns"), message, "join some with `|`");
        }
        for (index, pattern) in file.patterns.iter().enumerate() {
            if let Err(error) = regex::Regex::new(pattern) {
                let text = error.to_string();
                let cause = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                let message = format!("`{pattern}` is no regular expression: {cause}");
                self.report(&key.child("patterns").index(index), message, "correct it; docs.rs/regex has the syntax");
            }
        }
        Ledger {
            keep: file.keep.is_some().then(|| time(self, "keep", &file.keep, Duration::MAX)),
            max_bytes: file.max_size.is_some().then(|| sized(self)),
            checkpoint: time(self, "checkpoint", &file.checkpoint, default.checkpoint),
            sink: file.sink.as_ref().map(|sink| self.resolve(&key.child("sink"), sink)),
            witnesses: self.witnesses(&key.child("witnesses"), &file.witnesses),
            witness_interval: time(self, "witness-interval", &file.witness_interval, default.witness_interval),
            personal: file.personal.clone().unwrap_or(default.personal),
            patterns: file.patterns.clone(),
            fields: file.fields.clone(),
        }
    }

    fn witnesses(&mut self, key: &Key, files: &[WitnessFile]) -> Vec<(String, String)> {
        let mut witnesses = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let key = key.index(index);
            if file.key.split('+').count() < 3 {
                let help = "write it as the witness publishes it: `name+hash+key`";
                self.report(&key.child("key"), format!("`{}` is not a witness's key", file.key), help);
            }
            match Url::parse(&file.url).ok().filter(|url| matches!(url.scheme(), "http" | "https")) {
                Some(url) => witnesses.push((file.key.clone(), url.to_string())),
                None => {
                    let message = format!("`{}` is not the address of a witness", file.url);
                    self.report(&key.child("url"), message, "write the URL of its `add-checkpoint`");
                }
            }
        }
        witnesses
    }
}
