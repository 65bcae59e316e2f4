//! What is signed: a statement about one package in one version, by its digest (in-toto, version 1).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use witan_registry_types::{Digest, DigestError, NameError, Package, json as strict};

/// The type of every statement.
const TYPE: &str = "https://in-toto.io/Statement/v1";
/// The largest statement: an SBOM of some thousand dependencies.
pub(crate) const LARGEST: usize = 3 << 20;

/// What a statement says of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// That its author publishes it, with what it may ever need: [`Release`](crate::Release).
    Release,
    /// How it was built: SLSA provenance, version 1.
    Provenance,
    /// What it is made of: a CycloneDX SBOM, version 1.5.
    Sbom,
}

impl Attestation {
    /// All of them, as every published version carries them.
    pub const ALL: [Self; 3] = [Self::Release, Self::Provenance, Self::Sbom];

    /// The type of the predicate, as it stands in a statement.
    pub const fn predicate_type(self) -> &'static str {
        match self {
            Self::Release => "urn:witan:release:v1",
            Self::Provenance => "https://slsa.dev/provenance/v1",
            Self::Sbom => "https://cyclonedx.org/bom",
        }
    }

    fn of_predicate_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attestation| attestation.predicate_type() == text)
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release statement",
            Self::Provenance => "SLSA provenance",
            Self::Sbom => "CycloneDX SBOM",
        })
    }
}

/// Why bytes are not a statement about a package.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// They are not a statement at all.
    #[error("the statement cannot be read")]
    Json(#[from] strict::JsonError),
    /// It is of another type.
    #[error("the statement is of type `{0}`, and must be of `{TYPE}`")]
    Type(String),
    /// It says something of no or several subjects: one signature would then serve for each.
    #[error("the statement has {0} subjects, and must have one")]
    Subjects(usize),
    /// Its subject has no name of a package.
    #[error("the statement's subject is not a package in a version")]
    Name(#[from] NameError),
    /// Its subject is named by another digest or by several.
    #[error("the statement's subject has the digests {0}, and must have `sha256` alone")]
    Digests(String),
    /// Its subject's digest is written in another way.
    #[error("the statement's subject has no digest")]
    Digest(#[from] DigestError),
    /// It says something that we do not ask about.
    #[error("the statement has the predicate type `{0}`")]
    PredicateType(String),
}

/// A statement: what is said, of which package, with which digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The package and its version.
    pub package: Package,
    /// The digest of its manifest; of its bytes where it lies in no registry.
    pub digest: Digest,
    /// What kind of statement it is.
    pub attestation: Attestation,
    /// What is said.
    pub predicate: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<WireSubject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct WireSubject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

impl Statement {
    /// Reads the payload of an envelope.
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let wire: Wire = strict::parse(payload, LARGEST)?;
        if wire.kind != TYPE {
            return Err(StatementError::Type(cut(&wire.kind)));
        }
        let attestation = Attestation::of_predicate_type(&wire.predicate_type)
            .ok_or_else(|| StatementError::PredicateType(cut(&wire.predicate_type)))?;
        let [subject] = wire.subject.as_slice() else {
            return Err(StatementError::Subjects(wire.subject.len()));
        };
        let digest = match subject.digest.iter().collect::<Vec<_>>().as_slice() {
            [(algorithm, hex)] if *algorithm == "sha256" => format!("sha256:{hex}").parse()?,
            others => {
                let names: Vec<String> = others.iter().map(|(name, _)| format!("`{}`", cut(name))).collect();
                return Err(StatementError::Digests(cut(&names.join(", "))));
            }
        };
        Ok(Self { package: subject.name.parse()?, digest, attestation, predicate: wire.predicate })
    }

    /// The payload of an envelope; the same statement gives the same bytes.
    pub fn to_payload(&self) -> Vec<u8> {
        let statement = json!({
            "_type": TYPE,
            "subject": [{ "name": self.package.to_string(), "digest": { "sha256": self.digest.hex() } }],
            "predicateType": self.attestation.predicate_type(),
            "predicate": self.predicate,
        });
        statement.to_string().into_bytes()
    }
}

/// Enough of a text that somebody else wrote, for an error.
pub(crate) fn cut(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement() -> Statement {
        Statement {
            package: "witan:tool-files@1.2.3".parse().unwrap(),
            digest: Digest::of(b"manifest"),
            attestation: Attestation::Release,
            predicate: json!({ "schema": 1 }),
        }
    }

    fn text() -> String {
        String::from_utf8(statement().to_payload()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Statement::parse(text().as_bytes()).unwrap(), statement());
    }

    #[test]
    fn a_statement_about_something_else_is_refused() {
        let hex = Digest::of(b"manifest").hex();
        let upper = hex.to_uppercase();
        type Check = fn(&StatementError) -> bool;
        let changes: [(&str, &str, Check); 11] = [
            ("Statement/v1", "Statement/v0.1", |e| matches!(e, StatementError::Type(_))),
            ("urn:witan:release:v1", "https://example.com", |e| matches!(e, StatementError::PredicateType(_))),
            ("urn:witan:release:v1", "https://slsa.dev/provenance/v1 ", |e| {
                matches!(e, StatementError::PredicateType(_))
            }),
            ("witan:tool-files@1.2.3", "witan:tool-files", |e| matches!(e, StatementError::Name(_))),
            ("witan:tool-files@1.2.3", "", |e| matches!(e, StatementError::Name(_))),
            ("\"sha256\"", "\"sha512\"", |e| matches!(e, StatementError::Digests(_))),
            ("\"sha256\"", "\"sha1\":\"00\",\"sha256\"", |e| matches!(e, StatementError::Digests(_))),
            (&hex, &upper, |e| matches!(e, StatementError::Digest(_))),
            (&hex, "../../x", |e| matches!(e, StatementError::Digest(_))),
            ("\"subject\":[", "\"subject\":[{\"name\":\"a:b@1.0.0\",\"digest\":{\"sha256\":\"00\"}},", |e| {
                matches!(e, StatementError::Subjects(2))
            }),
            ("\"subject\":", "\"subject\":[],\"subject\":", |e| matches!(e, StatementError::Json(_))),
        ];
        for (from, to, expected) in changes {
            assert!(text().contains(from), "{from}");
            let error = Statement::parse(text().replace(from, to).as_bytes()).unwrap_err();
            assert!(expected(&error), "{to}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0usize..400, byte: u8) {
            let mut bytes = text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _statement = Statement::parse(&bytes);
        }
    }
}
