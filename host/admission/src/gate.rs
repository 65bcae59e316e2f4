//! The one way to bytes that may run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use witan_registry_component::Component as Types;
use witan_registry_sign::{Checkpoint, Dependency, PublicKey};
use witan_registry_types::{Artifact, Blake3, Digest, Package};
use witan_system::{Ceiling, Component, Source};

use crate::Refused;
use crate::development::{self, LARGEST_BUNDLE, bundle_path};
use crate::marks::Marks;
use crate::package::{Trust, verify};
use crate::quarantine::Quarantine;

/// A package as it was fetched. Nothing of it is trusted but the digest.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The digest of its manifest: from the lock, or from whoever fetched it for the first time.
    pub digest: Digest,
    /// What was fetched under it.
    pub artifact: Artifact,
}

/// Which capability an import needs granted, by its name in `system.toml`; none for what needs no grant.
pub type Needs<'a> = &'a (dyn Fn(&str) -> Option<&'static str> + Sync);

/// Decides which bytes may run.
pub struct Gate {
    /// Whom to trust to sign packages.
    pub trust: Trust,
    /// The key of this machine, for files that were built here.
    pub development: Option<PublicKey>,
    /// What was fetched.
    pub packages: BTreeMap<Package, Fetched>,
    /// What must not run.
    pub quarantine: Quarantine,
    /// What was seen before.
    pub marks: Marks,
    /// The vulnerability of a dependency, if one is known.
    pub advisories: Option<Advisories>,
}

/// Says what vulnerability a dependency has, if one is known.
pub type Advisories = Arc<dyn Fn(&Dependency) -> Option<String> + Send + Sync>;

/// Whose word it is that the bytes may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Signers that the trust policy names.
    Signers(BTreeSet<String>),
    /// This machine, which built them.
    Development,
    /// Nobody's: an operator allowed it.
    Nobody,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signers(signers) => {
                write!(f, "signed by {}", signers.iter().map(String::as_str).collect::<Vec<_>>().join(" and "))
            }
            Self::Development => f.write_str("built and signed by this machine"),
            Self::Nobody => f.write_str("UNSIGNED, as `allow-unsigned` allows"),
        }
    }
}

/// Bytes that may run.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The component.
    pub bytes: Arc<[u8]>,
    /// What is known of it.
    pub admitted: Admitted,
}

/// What is known of bytes that may run; it outlives them, since nobody needs them once they are compiled.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The digest of the bytes that the host uses as their name.
    pub blake3: Blake3,
    /// The digest of the manifest, for a package.
    pub manifest: Option<Digest>,
    /// The SHA-256 of the bytes.
    pub layer: Digest,
    /// Whose word it is.
    pub by: By,
    /// What its author says that it may ever need; none where nobody signed it.
    pub ceiling: Option<Ceiling>,
    /// The digest of its WIT; none where nobody signed it and it cannot be told.
    pub wit: Option<Digest>,
    /// The states of the logs that have the signatures.
    pub checkpoints: BTreeSet<Checkpoint>,
}

/// What the gate says of a component.
#[derive(Debug)]
pub struct Verdict {
    /// The bytes that it is about: the digest of the manifest, or of a file; none where there are no bytes.
    pub digest: Option<Digest>,
    /// Whether they may run.
    pub outcome: Result<Passed, Refused>,
}

impl Admitted {
    /// The digest by which the quarantine knows the bytes: that of the manifest, or of a file.
    pub fn digest(&self) -> &Digest {
        self.manifest.as_ref().unwrap_or(&self.layer)
    }
}

impl Gate {
    /// A gate through which only files pass that this machine built, or that an operator lets through unsigned. Its
    /// files lie in `state`.
    pub fn local(state: &Path, development: Option<PublicKey>) -> Self {
        Self {
            trust: Trust::new(witan_registry_sign::TrustPolicy::nobody(), None),
            development,
            packages: BTreeMap::new(),
            quarantine: Quarantine::at(state.join("quarantine.json")),
            marks: Marks::at(state.join("marks.json")),
            advisories: None,
        }
    }

    /// The bytes of `component`, of at most `most` bytes, if they may run with what it is granted. What `needs` says of an
    /// import must be in its ceiling.
    ///
    /// # Errors
    /// The first cause that keeps it from running.
    pub fn admit(&self, component: &Component, most: u64, needs: Needs<'_>) -> Result<Passed, Refused> {
        self.judge(component, most, needs).outcome
    }

    /// As [`Self::admit`], with the digest of what was judged, for whoever writes the verdict down.
    pub fn judge(&self, component: &Component, most: u64, needs: Needs<'_>) -> Verdict {
        let mut digest = None;
        let outcome = self.check(component, most, needs, &mut digest);
        Verdict { digest, outcome }
    }

    fn check(
        &self,
        component: &Component,
        most: u64,
        needs: Needs<'_>,
        digest: &mut Option<Digest>,
    ) -> Result<Passed, Refused> {
        let source = &component.source;
        if let Source::Registry(package) = source {
            *digest = self.packages.get(package).map(|fetched| fetched.digest);
        }
        self.not_held(source, None)?;
        let (passed, types) = match source {
            Source::Registry(package) => self.package(package, most)?,
            Source::File(path) => {
                let bytes = read(path, most)?;
                let layer = *digest.insert(Digest::of(&bytes));
                self.file(path, bytes, layer, component.allow_unsigned)?
            }
        };
        self.not_held(source, Some(passed.admitted.digest()))?;
        if let (Some(ceiling), Some(types)) = (&passed.admitted.ceiling, &types) {
            within(ceiling, types, component, needs)?;
        }
        Ok(passed)
    }

    fn not_held(&self, source: &Source, digest: Option<&Digest>) -> Result<(), Refused> {
        match self.quarantine.holds(source, digest)? {
            // An entry for some bytes says nothing of those that are not known yet.
            Some(held) if held.digest.is_none() || digest.is_some() => Err(Refused::Quarantined(held.reason)),
            _ => Ok(()),
        }
    }

    fn package(&self, package: &Package, most: u64) -> Result<(Passed, Option<Types>), Refused> {
        let fetched = self.packages.get(package).ok_or_else(|| Refused::Unfetched(package.clone()))?;
        let Fetched { digest, artifact } = fetched;
        let found = artifact.layer.len() as u64;
        if found > most {
            return Err(Refused::TooLarge { found, most });
        }
        let verified = verify(&self.trust, package, digest, artifact, SystemTime::now())?;
        if let (Some(advisories), Some(sbom)) = (&self.advisories, &verified.signed.sbom)
            && let Some(found) = sbom.dependencies().iter().find_map(|dependency| advisories(dependency))
        {
            return Err(Refused::Advisory(found));
        }
        self.marks.check(package, &verified.signed.checkpoints)?;
        let admitted = Admitted {
            blake3: Blake3::of(&artifact.layer),
            manifest: Some(*digest),
            layer: verified.layer,
            by: By::Signers(verified.signed.signers.iter().map(ToString::to_string).collect()),
            ceiling: Some(verified.signed.release.ceiling),
            wit: Some(verified.signed.release.wit),
            checkpoints: verified.signed.checkpoints,
        };
        Ok((Passed { bytes: artifact.layer.as_slice().into(), admitted }, Some(verified.component)))
    }

    fn file(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        layer: Digest,
        allow_unsigned: bool,
    ) -> Result<(Passed, Option<Types>), Refused> {
        let bytes: Arc<[u8]> = bytes.into();
        let mut admitted = Admitted {
            blake3: Blake3::of(&bytes),
            manifest: None,
            layer,
            by: By::Nobody,
            ceiling: None,
            wit: None,
            checkpoints: BTreeSet::new(),
        };
        let release = match self.local_release(path, &layer) {
            Ok(release) => release,
            Err(refused) if allow_unsigned && refused.is_distrust() => {
                let types = Types::read(&bytes).ok();
                admitted.wit = types.as_ref().map(Types::wit_digest);
                return Ok((Passed { bytes, admitted }, None));
            }
            Err(refused) => return Err(refused),
        };
        let types = Types::read(&bytes)?;
        let found = types.wit_digest();
        if found != release.wit {
            return Err(Refused::Wit { signed: release.wit, found });
        }
        let admitted = Admitted { by: By::Development, ceiling: Some(release.ceiling), wit: Some(found), ..admitted };
        Ok((Passed { bytes, admitted }, Some(types)))
    }

    /// What this machine signed of a file when it built it.
    fn local_release(&self, path: &Path, digest: &Digest) -> Result<witan_registry_sign::Release, Refused> {
        let signature = bundle_path(path);
        let bundle = crate::file::read(&signature, LARGEST_BUNDLE)?;
        let (Some(bundle), key) = (bundle, &self.development) else { return Err(Refused::Unsigned(path.to_owned())) };
        let refused = |reason: String| Refused::LocalSignature { file: path.to_owned(), reason };
        let key = key.as_ref().ok_or_else(|| refused("this machine has not built anything yet".to_owned()))?;
        development::verify(key, digest, bundle.as_bytes()).map_err(refused)
    }

    /// Keeps what was loaded as what nothing older may replace.
    pub fn loaded<'a>(&self, all: impl IntoIterator<Item = (&'a Source, &'a Admitted)>) -> Result<(), Refused> {
        let packages = all
            .into_iter()
            .filter_map(|(source, admitted)| Some((source.package()?, admitted.checkpoints.iter().collect())));
        Ok(self.marks.raise(packages)?)
    }
}

/// Whether what the component imports, and what it is granted, is within what its author declared.
fn within(ceiling: &Ceiling, types: &Types, component: &Component, needs: Needs<'_>) -> Result<(), Refused> {
    for import in types.interfaces().imports {
        if component.link(&import).is_some() {
            continue;
        }
        if let Some(capability) = needs(&import).filter(|capability| !ceiling.has(capability)) {
            return Err(Refused::ImportBeyondCeiling { import, capability });
        }
    }
    let excess = ceiling.excess_of_grants(&component.grants);
    if excess.is_empty() { Ok(()) } else { Err(Refused::GrantsBeyondCeiling(excess)) }
}

/// Reads a file, and neither waits for a pipe nor holds more than would be compiled.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Refused> {
    let failed = |source| Refused::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read; what comes after is refused with the rest.
    let file = File::open(path).map_err(failed)?;
    if metadata.len() <= most {
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    }
    let found = metadata.len().max(bytes.len() as u64);
    if found > most { Err(Refused::TooLarge { found, most }) } else { Ok(bytes) }
}
