//! What a host holds a registry to: from a root that an operator pinned to what the registry may be believed now.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{MetadataStore, Repository, Role as _, Updater, UpdaterConfig};
use witan_registry_types::{Digest, Namespace};

use crate::{
    LARGEST_ROOT, LARGEST_SNAPSHOT, LARGEST_TARGET, LARGEST_TARGETS, LARGEST_TIMESTAMP, TRUSTED_ROOT, YANKS, Yanks,
    shown, yanks_of,
};

/// Roots that follow the pinned one. Operators sign a new one when a key changes or a year is over.
const MOST_ROOTS: u32 = 256;

/// Why what a registry serves, or what was kept of it, is not believed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HoldError {
    /// The pinned root is none.
    #[error("the pinned root cannot be used: {0}")]
    Pin(String),
    /// Nothing was kept yet.
    #[error("its metadata were never fetched")]
    Never,
    /// What was kept is not what a host keeps.
    #[error("what was kept of its metadata cannot be used: {0}")]
    Kept(String),
    /// The registry could not be asked.
    #[error("its metadata cannot be had: {0}")]
    Fetch(String),
    /// Metadata have ended: the registry has signed nothing newer, or somebody withholds it.
    #[error("the {role} expired at {at}: nothing newer was signed, or somebody withholds it")]
    Expired {
        /// Which metadata.
        role: String,
        /// When, in RFC 3339.
        at: String,
    },
    /// They are older than what was seen.
    #[error("the {role} has version {found}, and had {seen}: somebody serves old metadata")]
    Rollback {
        /// Which metadata.
        role: String,
        /// The version that was seen.
        seen: u64,
        /// The version that is served.
        found: u64,
    },
    /// Too few of the keys that count have signed.
    #[error("the {role} has {found} signatures that count, and needs {needed}")]
    Signatures {
        /// Which metadata.
        role: String,
        /// How many count.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A root does not follow the one before.
    #[error("the root after version {seen} says that it is version {found}")]
    Root {
        /// The version that is trusted.
        seen: u64,
        /// The version that is served.
        found: u64,
    },
    /// Files do not belong together, or are not of the form that is read.
    #[error("its metadata do not hold: {0}")]
    Form(String),
}

impl HoldError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Pin(_) => "pin the root that the registry's operators published, as `trust.tuf` names it",
            Self::Never => "run `witan trust refresh` where the registry can be reached",
            Self::Kept(_) => "restore the registry's file below `tuf/` in the state folder, or remove it to begin anew",
            Self::Fetch(_) => "see that the registry can be reached, and run `witan trust refresh`",
            Self::Expired { .. } => {
                "run `witan trust refresh`; if it stays so, ask the registry's operators, and compare this machine's clock"
            }
            Self::Rollback { .. } => {
                "ask the registry's operators; if they restored it from a copy, they must sign higher versions"
            }
            Self::Signatures { .. } | Self::Root { .. } | Self::Form(_) => {
                "do not trust what is served there; ask the registry's operators"
            }
        }
    }
}

impl From<sigstore_tuf::Error> for HoldError {
    fn from(error: sigstore_tuf::Error) -> Self {
        use sigstore_tuf::Error;
        match error {
            Error::Expired { role, expires } => Self::Expired { role: shown(&role), at: expires.to_string() },
            Error::Rollback { role, trusted, new } => Self::Rollback { role: shown(&role), seen: trusted, found: new },
            Error::ThresholdNotMet { role, found, threshold } => {
                Self::Signatures { role: shown(&role), found, needed: threshold }
            }
            Error::BadRootVersion { trusted, new } => Self::Root { seen: trusted, found: new },
            Error::Transport { message, .. } => Self::Fetch(shown(&message)),
            other => Self::Form(shown(&other.to_string())),
        }
    }
}

/// Where a registry's metadata are read.
pub trait Source: Send + Sync + 'static {
    /// Why a file could not be read.
    type Error: Display + Send;

    /// The file at `path` below the registry's metadata, of at most `most` bytes; larger ones are an error. None where the
    /// registry says that there is no such file, and for no other reason.
    fn file(&self, path: &str, most: u64) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;
}

/// What a host keeps of a registry's metadata, between one time that it asks and the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The pinned root, by its digest: another one begins anew.
    pinned: Digest,
    versions: Versions,
    /// Verified again each time that they are read.
    files: BTreeMap<String, String>,
}

/// The versions of what was believed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    root: u64,
    timestamp: u64,
}

/// What a registry may be believed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The `trusted_root.json` that its operators signed.
    pub trusted_root: Vec<u8>,
    /// What is yanked in each namespace that was asked for.
    pub yanks: BTreeMap<Namespace, Yanks>,
}

/// Follows the metadata of a registry from the `pinned` root, past what was `kept`, to what `source` serves `now`, as far as
/// `namespaces` need them. Keep what this gives in the place of what was kept.
pub async fn hold(
    pinned: &[u8],
    kept: Option<&Held>,
    source: impl Source,
    namespaces: &[Namespace],
    now: SystemTime,
) -> Result<(Held, Trusted), HoldError> {
    let kept = kept.filter(|kept| kept.is_of(pinned));
    let files = Files::of(kept);
    follow(pinned, kept, &files, Served(source), namespaces, now).await
}

impl Held {
    /// Reads what was kept.
    pub fn parse(text: &str) -> Result<Self, HoldError> {
        serde_json::from_str(text).map_err(|error| HoldError::Kept(error.to_string()))
    }

    /// As it is kept.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The newest root that was believed: to be pinned by others.
    pub fn root(&self) -> &str {
        self.files.get("root.json").map_or("", String::as_str)
    }

    /// Whether this is of the same pinned root as `other`, and newer.
    pub fn follows(&self, other: &Self) -> bool {
        let at = |held: &Self| (held.versions.root, held.versions.timestamp);
        self.pinned == other.pinned && at(self) > at(other)
    }

    fn is_of(&self, pinned: &[u8]) -> bool {
        self.pinned == Digest::of(pinned)
    }

    /// What the registry may be believed `now` by what was kept alone.
    pub fn trusted(&self, pinned: &[u8], namespaces: &[Namespace], now: SystemTime) -> Result<Trusted, HoldError> {
        if !self.is_of(pinned) {
            return Err(HoldError::Never);
        }
        let files = Files::of(Some(self));
        let following = follow(pinned, Some(self), &files, files.clone(), namespaces, now);
        // Nothing of it waits, since all is there.
        let (_, trusted) = following.now_or_never().ok_or_else(|| HoldError::Kept("it waits".to_owned()))??;
        Ok(trusted)
    }
}

async fn follow(
    pinned: &[u8],
    kept: Option<&Held>,
    files: &Files,
    repository: impl Repository + 'static,
    namespaces: &[Namespace],
    now: SystemTime,
) -> Result<(Held, Trusted), HoldError> {
    let now = jiff::Timestamp::try_from(now).map_err(|error| HoldError::Form(error.to_string()))?;
    let updater = Updater::new(repository, pinned).map_err(|error| HoldError::Pin(shown(&error.to_string())))?;
    let mut updater = updater.with_config(bounds()).with_store(files.clone());
    if kept.is_some_and(|kept| updater.trusted().root().version() < kept.versions.root) {
        return Err(HoldError::Kept("its roots do not follow the pinned one".to_owned()));
    }
    updater.refresh(now).await?;
    // The role that may say what is yanked may not say this.
    let targets = updater.trusted().targets_role("targets");
    if targets.is_none_or(|targets| targets.target(TRUSTED_ROOT).is_none()) {
        return Err(HoldError::Form(format!("their operators signed no `{TRUSTED_ROOT}`")));
    }
    let trusted_root = updater.get_target(TRUSTED_ROOT, now).await?;
    // Looked up even for nobody, so that the role is there: what it leaves out is not yanked.
    updater.get_target_info(&yanks_of(""), now).await?;
    let mut yanks = BTreeMap::new();
    for namespace in namespaces {
        let name = yanks_of(namespace.as_str());
        let of_namespace = match updater.get_target_info(&name, now).await? {
            None => Yanks::default(),
            Some(_) => {
                let bytes = updater.get_target(&name, now).await?;
                serde_json::from_slice(&bytes).map_err(|error| HoldError::Form(shown(&format!("`{name}`: {error}"))))?
            }
        };
        yanks.insert(namespace.clone(), of_namespace);
    }
    let trusted = updater.trusted();
    let (Some(timestamp), Some(_)) = (trusted.timestamp(), trusted.targets_role(YANKS)) else {
        return Err(HoldError::Form("they do not say what is yanked".to_owned()));
    };
    let held = Held {
        pinned: Digest::of(pinned),
        versions: Versions { root: trusted.root().version(), timestamp: timestamp.version() },
        files: files.needed(namespaces),
    };
    Ok((held, Trusted { trusted_root, yanks }))
}

fn bounds() -> UpdaterConfig {
    let mut bounds = UpdaterConfig::default();
    bounds.root_max_length = LARGEST_ROOT;
    bounds.timestamp_max_length = LARGEST_TIMESTAMP;
    bounds.snapshot_max_length = LARGEST_SNAPSHOT;
    bounds.targets_max_length = LARGEST_TARGETS;
    bounds.target_max_length = LARGEST_TARGET;
    bounds.max_root_rotations = MOST_ROOTS;
    bounds
}

/// The files that were believed, by the names that the crate has for them.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, String>>>);

impl Files {
    fn of(kept: Option<&Held>) -> Self {
        Self(Arc::new(Mutex::new(kept.map(|kept| kept.files.clone()).unwrap_or_default())))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.lock().get(name).cloned()
    }

    /// Those that say what is to be believed, without what they replaced.
    fn needed(&self, namespaces: &[Namespace]) -> BTreeMap<String, String> {
        let mut needed = self.0.lock().clone();
        let targets: Vec<String> = namespaces.iter().map(|namespace| yanks_of(namespace.as_str())).collect();
        needed.retain(|name, _| match name.strip_prefix("targets/") {
            Some(target) => target == TRUSTED_ROOT || targets.iter().any(|other| other == target),
            // A snapshot is there by its version as well.
            None => !name.starts_with(|first: char| first.is_ascii_digit()),
        });
        needed
    }
}

impl MetadataStore for Files {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.text(name).map(String::into_bytes))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| sigstore_tuf::Error::Malformed(format!("`{name}` is no text")))?;
        self.0.lock().insert(name.to_owned(), text.to_owned());
        Ok(())
    }
}

/// What was kept, as if it were served.
impl Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> FetchFuture<'a> {
        // Roots that were kept were looked at before.
        let role =
            name.split_once('.').filter(|(version, _)| version.parse::<u64>().is_ok()).map_or(name, |(_, role)| role);
        let file = if role == "root.json" { None } else { self.text(role) };
        Box::pin(std::future::ready(Ok(file.map(String::into_bytes))))
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

struct Served<S>(S);

impl<S: Source> Served<S> {
    async fn read(&self, path: String, most: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        self.0.file(&path, most).await.map_err(|error| sigstore_tuf::Error::transport(error.to_string()))
    }
}

impl<S: Source> Repository for Served<S> {
    fn fetch_metadata<'a>(&'a self, name: &'a str, most: u64) -> FetchFuture<'a> {
        Box::pin(self.read(name.to_owned(), most))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, most: u64) -> FetchFuture<'a> {
        Box::pin(self.read(format!("targets/{path}"), most))
    }
}
