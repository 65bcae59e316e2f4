//! The texts that a set of policies is made of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Files of policies in one set.
pub const MOST_FILES: usize = 1_000;
/// Bytes of all texts of a set.
pub const LARGEST: usize = 8 << 20;
/// What the entities are called where they did not come from a file.
const ENTITIES: &str = "entities.json";

/// The texts of a set of policies, by which it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Policies in Cedar, by the name of their file.
    pub policies: BTreeMap<String, String>,
    /// Entities in Cedar's JSON: the roles, groups and labels of principals and things.
    #[serde(default)]
    pub entities: Option<String>,
}

/// Why the texts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or the folder.
    #[error("cannot read `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder says nothing.
    #[error("`{0}` has no file whose name ends in `.cedar`; write policies there, or remove the setting")]
    Empty(PathBuf),
    /// There is too much of it.
    #[error("`{path}` holds more than {MOST_FILES} files or {LARGEST} bytes of policies; write fewer or shorter ones")]
    TooLarge {
        /// The folder or the file.
        path: PathBuf,
    },
}

impl Sources {
    /// Reads every `.cedar` file of `folder`, and the file of entities.
    ///
    /// # Errors
    /// When a file cannot be read, there is none, or they are too large.
    pub fn read(folder: &Path, entities: Option<&Path>) -> Result<Self, SourceError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SourceError::Io { path, source }
        };
        let mut left = LARGEST;
        let mut policies = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let path = entry.map_err(io(folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.ends_with(".cedar") || name.starts_with('.') {
                continue;
            }
            policies.insert(name.to_owned(), read(&path, &mut left)?);
            if policies.len() > MOST_FILES {
                return Err(SourceError::TooLarge { path: folder.to_owned() });
            }
        }
        if policies.is_empty() {
            return Err(SourceError::Empty(folder.to_owned()));
        }
        let entities = entities.map(|path| read(path, &mut left)).transpose()?;
        Ok(Self { policies, entities })
    }

    /// Whether there is more than a set may have.
    #[must_use]
    pub fn too_large(&self) -> bool {
        let bytes: usize = self.policies.iter().map(|(name, text)| name.len() + text.len()).sum();
        self.policies.len() > MOST_FILES || bytes + self.entities.as_ref().map_or(0, String::len) > LARGEST
    }

    /// What names exactly these texts: SHA-256 over all of them.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for (name, text) in &self.policies {
            part(name.as_bytes());
            part(text.as_bytes());
        }
        part(ENTITIES.as_bytes());
        part(self.entities.as_deref().unwrap_or_default().as_bytes());
        let digest = hash.finalize();
        digest.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
    }

    pub(crate) fn entities_name() -> &'static str {
        ENTITIES
    }
}

fn read(path: &Path, left: &mut usize) -> Result<String, SourceError> {
    use std::io::Read as _;
    let io = |source| SourceError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let most = u64::try_from(*left).unwrap_or(u64::MAX);
    let read = fs::File::open(path).map_err(io)?.take(most.saturating_add(1)).read_to_string(&mut text).map_err(io)?;
    *left = left.checked_sub(read).ok_or_else(|| SourceError::TooLarge { path: path.to_owned() })?;
    Ok(text)
}
