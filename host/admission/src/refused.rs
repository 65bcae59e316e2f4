//! Why bytes may not run.

use std::path::PathBuf;

use witan_registry_component::ComponentError;
use witan_registry_sign::{EmbeddedError, Reason, Refusal};
use witan_registry_tuf::HoldError;
use witan_registry_types::{Digest, Host, Package};
use witan_system::{Excess, Source, format_bytes};

use crate::development::BUNDLE_SUFFIX;
use crate::{FileError, MarkError};

/// Why a component may not run. Each has one cause, so that a test can tell a refusal for the right reason from one for a
/// wrong one.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its file cannot be read.
    #[error("cannot read `{}`: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is larger than a component may be.
    #[error("it has {}, and may have {}; `host.compile.size` is the setting", format_bytes(*.found), format_bytes(*.most))]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The most that it may have.
        most: u64,
    },
    /// An operator, or a check that failed while it ran, has put it aside.
    #[error("it is in quarantine: {0}")]
    Quarantined(String),
    /// A local file that nobody signed.
    #[error("`{}` is not signed", .0.display())]
    Unsigned(PathBuf),
    /// A local file whose signature is not one that this machine made of those bytes.
    #[error("the signature of `{}` does not count: {reason}", .file.display())]
    LocalSignature {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It was not fetched.
    #[error("`{0}` was not fetched")]
    Unfetched(Package),
    /// A part of it is not what its manifest, or whoever names it, says.
    #[error("the {part} of `{package}` is {found}, and must be {expected}")]
    Digest {
        /// The package.
        package: Package,
        /// Which part.
        part: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A document of it is not of the one form that is looked at.
    #[error("the {part} of `{package}` is refused: {message}")]
    Form {
        /// The package.
        package: Package,
        /// Which part.
        part: &'static str,
        /// Why.
        message: String,
    },
    /// There is no trusted root, and the signatures need one.
    #[error("no trusted root is configured, and nothing from a registry is verified without one")]
    NoRoot,
    /// The TUF metadata of its registry do not hold, so that it is not known whom to trust.
    #[error("the TUF metadata of `{registry}` do not hold: {source}")]
    Metadata {
        /// The registry.
        registry: Host,
        /// Why.
        source: HoldError,
    },
    /// Its signatures do not suffice.
    #[error(transparent)]
    Signature(#[from] Box<Refusal>),
    /// Its bytes are no component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// Its config says something else than its bytes.
    #[error("the config says that it {what} {config}, and its bytes {bytes}")]
    Config {
        /// `imports` or `exports`.
        what: &'static str,
        /// What the config says.
        config: String,
        /// What the bytes say.
        bytes: String,
    },
    /// Its WIT is not the one that was signed.
    #[error("its WIT has the digest {found}, and its author signed {signed}")]
    Wit {
        /// What was signed.
        signed: Digest,
        /// What it has.
        found: Digest,
    },
    /// It imports what its author said that it would never need.
    #[error("it imports `{import}`, and its ceiling has no `{capability}`")]
    ImportBeyondCeiling {
        /// The import.
        import: String,
        /// The capability that serves it.
        capability: &'static str,
    },
    /// It is granted what its author said that it would never need.
    #[error("it is granted more than its ceiling has: {}", excesses(.0))]
    GrantsBeyondCeiling(Vec<Excess>),
    /// Its dependencies cannot be read.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// Its SBOM leaves something out that is in its bytes.
    #[error("its SBOM leaves out what is in its bytes: {0}")]
    SbomOmits(String),
    /// Something that it is made of is known to be vulnerable.
    #[error("it is known to be vulnerable: {0}")]
    Advisory(String),
    /// It is behind what this host has seen.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// A file of the host that the verdict needs cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

fn excesses(excesses: &[Excess]) -> String {
    excesses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Refused {
    /// What to do about it, for a component that comes from `source`.
    pub fn help(&self, source: &Source) -> String {
        match self {
            Self::Read { .. } => "build it, or correct `source`".to_owned(),
            Self::TooLarge { .. } => "raise the setting, or make the component smaller".to_owned(),
            Self::Quarantined(_) => {
                "`witan quarantine show` says more; `witan quarantine release` lets it run".to_owned()
            }
            Self::Unsigned(path) => format!(
                "`witan build` signs what it builds, as `{}{BUNDLE_SUFFIX}`; for bytes that nobody signed, `--allow-unsigned` \
                 allows it for one command and `allow-unsigned = true` for one component",
                path.display()
            ),
            Self::LocalSignature { .. } => {
                "build it again with `witan build`, and let nobody change the file".to_owned()
            }
            Self::Unfetched(_) => {
                "no registry is asked here, and nothing is known of what is not locked and kept: run \
                                   `witan up` once, which fetches, verifies and locks it"
                    .to_owned()
            }
            Self::Digest { .. } | Self::Form { .. } | Self::Config { .. } | Self::Component(_) | Self::Embedded(_) => {
                "pull it again; if it stays so, do not run it, and tell whoever publishes it".to_owned()
            }
            Self::NoRoot => "pin one: `witan registry trust`, and name it as `root` under [trust]".to_owned(),
            Self::Metadata { source, .. } => source.help().to_owned(),
            Self::Signature(refusal) => refusal.help(),
            Self::Wit { .. } | Self::SbomOmits(_) => "tell whoever publishes it; do not run it".to_owned(),
            Self::ImportBeyondCeiling { .. } => match source {
                Source::File(_) => "widen `ceiling.toml` beside its sources, and build it again".to_owned(),
                Source::Registry(_) => {
                    "tell whoever publishes it: the ceiling is wrong, or the component is".to_owned()
                }
            },
            Self::GrantsBeyondCeiling(_) => match source {
                Source::File(_) => {
                    "grant less, or widen `ceiling.toml` beside its sources, and build it again".to_owned()
                }
                Source::Registry(_) => "grant less: its author says that it needs no more".to_owned(),
            },
            Self::Advisory(_) => "use a version without it; `trust.advisories` is the folder that says so".to_owned(),
            Self::Mark(MarkError::Rollback { mark, .. }) => {
                format!("use version {mark} or a later one; `witan rollback --below-mark` allows an older one")
            }
            Self::Mark(MarkError::Fork { .. }) => {
                "do not run it; keep the checkpoint in `marks.json`, it shows that the log was forked".to_owned()
            }
            Self::Mark(MarkError::File(_)) | Self::File(_) => "restore the file".to_owned(),
        }
    }

    /// Whether it says that the bytes are not to be trusted, rather than that they are not there.
    pub fn is_distrust(&self) -> bool {
        let not_there = matches!(self, Self::Read { .. } | Self::TooLarge { .. } | Self::Unfetched(_));
        !not_there && !matches!(self, Self::File(_) | Self::Mark(MarkError::File(_)))
    }
}

/// The reason of a bundle with what lies beneath it.
pub(crate) fn in_full(reason: &Reason) -> String {
    let source = std::error::Error::source(reason).map(|source| format!(": {source}"));
    format!("{reason}{}", source.unwrap_or_default())
}
