//! Metadata as they are signed: by a registry's operators, and by the registry itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde_json::{Value, json};
use sigstore_tuf::{Key, Metadata, Role, Root, Targets, TrustedMetadataSet, canonical_json};
use witan_registry_sign::{KeyError, PublicKey, SigningKey};
use witan_registry_types::Digest;

use crate::{LARGEST_ROOT, LARGEST_TARGET, LARGEST_TARGETS, TRUSTED_ROOT, YANKS, Yanks, yanks_of};

/// The version of the specification that is followed.
const SPEC: &str = "1.0.31";

/// Why metadata cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A key cannot sign, or is none.
    #[error("a key cannot be used")]
    Key(#[from] KeyError),
    /// No number of these keys would ever be enough, or none would do.
    #[error(
        "{threshold} of {keys} keys can never sign: name as many keys as the threshold, and a threshold of at least 1"
    )]
    Threshold {
        /// How many have to sign.
        threshold: usize,
        /// How many there are.
        keys: usize,
    },
    /// Fewer keys signed than the role asks for.
    #[error(
        "the {role} has {found} signatures that count, and needs {needed}: sign with more of the keys that the root names"
    )]
    Signatures {
        /// The role.
        role: String,
        /// How many keys signed that the role names.
        found: usize,
        /// How many have to.
        needed: usize,
    },
    /// The registry's key is not the one that the root names.
    #[error("the root names another key of the registry: have its operators sign a new root")]
    OtherKey,
    /// There is more to say than hosts read.
    #[error("the {what} would have {found} bytes, and hosts read {most}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        found: u64,
        /// The most that are read.
        most: u64,
    },
    /// What is there follows from nothing that these keys signed, so that anybody can have put it there.
    #[error("the {0} that is there follows from nothing that these keys signed: restore it from your own copy")]
    Foreign(&'static str),
    /// A time is beyond what can be written.
    #[error("the time of expiry is none")]
    Time,
    /// What is there already, or what was made, would be refused by hosts.
    #[error("the metadata do not hold: {0}")]
    Refused(String),
}

/// A signed file of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its version.
    pub version: u64,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Who may sign what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// The keys of operators: they sign the root and the targets.
    pub operators: BTreeSet<PublicKey>,
    /// How many of them have to.
    pub threshold: usize,
    /// The registry's own key: it signs yanks, snapshot and timestamp.
    pub registry: PublicKey,
}

/// What a registry signs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// Which versions are yanked.
    pub yanks: Document,
    /// Which metadata belong together.
    pub snapshot: Document,
    /// Which snapshot is current.
    pub timestamp: Document,
    /// The targets, by their paths below `targets/`, with the digests that consistent snapshots put into them.
    pub targets: BTreeMap<String, Vec<u8>>,
}

impl Document {
    /// The digest of the trusted root that these targets name.
    pub fn trusted_root(&self) -> Option<String> {
        let file: Value = serde_json::from_slice(&self.bytes).ok()?;
        file["signed"]["targets"][TRUSTED_ROOT]["hashes"]["sha256"].as_str().map(str::to_owned)
    }

    /// The signed file in `bytes`, which is one of ours.
    pub fn read(bytes: Vec<u8>) -> Result<Self, MakeError> {
        let file: Value = serde_json::from_slice(&bytes).map_err(|error| MakeError::Refused(error.to_string()))?;
        let version = file["signed"]["version"].as_u64();
        let version = version.ok_or_else(|| MakeError::Refused("a file of them has no version".to_owned()))?;
        Ok(Self { version, bytes })
    }

    /// Until when it holds.
    pub fn expires(&self) -> Option<SystemTime> {
        let file: Value = serde_json::from_slice(&self.bytes).ok()?;
        file["signed"]["expires"].as_str()?.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    }
}

/// Whether what is there is to be gone on from: the newest of `roots`, which are in the order of their versions, follows from
/// one that one of `keys` signed, and `targets` were signed by them or by those whom such a root names. Whoever broke into a
/// registry could otherwise have operators sign what goes on from something else.
///
/// # Errors
/// When it is not.
pub fn check_previous(roots: &[Document], targets: Option<&Document>, keys: &[&SigningKey]) -> Result<(), MakeError> {
    let read = |root: &Document| Metadata::<Root>::from_slice(&root.bytes).map_err(refused);
    let roots: Vec<(&Document, Metadata<Root>)> =
        roots.iter().map(|root| Ok((root, read(root)?))).collect::<Result<_, MakeError>>()?;
    let ours = roots.iter().position(|(_, root)| signed_by(root, keys));
    let ours = ours.map_or(&[][..], |first| &roots[first..]);
    if let Some(((first, _), later)) = ours.split_first() {
        let mut trusted = TrustedMetadataSet::from_root(&first.bytes).map_err(refused)?;
        later.iter().try_for_each(|(root, _)| trusted.update_root(&root.bytes)).map_err(refused)?;
    } else if !roots.is_empty() {
        return Err(MakeError::Foreign("root"));
    }
    let Some(targets) = targets else { return Ok(()) };
    let targets = Metadata::<Targets>::from_slice(&targets.bytes).map_err(refused)?;
    let by_root = |root: &Root| {
        let role = root.role("targets");
        role.is_some_and(|role| targets.verify_threshold(&root.keys, role, "targets").is_ok())
    };
    let known = signed_by(&targets, keys) || ours.iter().any(|(_, root)| by_root(root.signed()));
    if known { Ok(()) } else { Err(MakeError::Foreign("list of targets")) }
}

fn signed_by<T: Role>(file: &Metadata<T>, keys: &[&SigningKey]) -> bool {
    let by = |signer: &SigningKey| -> Result<(), MakeError> {
        let (id, public) = key(signer.public())?;
        let role = serde_json::from_value(json!({ "keyids": [id], "threshold": 1 }));
        let public = serde_json::from_value(public);
        let (role, public) =
            role.and_then(|role| Ok((role, public?))).map_err(|e| MakeError::Refused(e.to_string()))?;
        file.verify_threshold(&[(id, public)].into(), &role, T::TYPE).map_err(refused)
    };
    keys.iter().any(|signer| by(signer).is_ok())
}

fn refused(error: sigstore_tuf::Error) -> MakeError {
    match error {
        sigstore_tuf::Error::ThresholdNotMet { role, found, threshold } => {
            MakeError::Signatures { role, found, needed: threshold }
        }
        other => MakeError::Refused(other.to_string()),
    }
}

fn key(public: &PublicKey) -> Result<(String, Value), MakeError> {
    let key = json!({
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": { "public": public.to_pem() },
    });
    let read: Key = serde_json::from_value(key.clone()).map_err(|error| MakeError::Refused(error.to_string()))?;
    Ok((read.key_id().map_err(refused)?, key))
}

/// To the second, as TUF has it.
fn time(time: SystemTime) -> Result<String, MakeError> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| MakeError::Time)?.as_secs();
    let seconds = i64::try_from(seconds).map_err(|_| MakeError::Time)?;
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).map_err(|_| MakeError::Time)
}

fn sign(signed: Value, version: u64, keys: &[&SigningKey]) -> Result<Document, MakeError> {
    let bytes = canonical_json::to_canonical_bytes(&signed).map_err(refused)?;
    let mut signatures = BTreeMap::new();
    for signer in keys {
        let signature: String = signer.sign(&bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
        signatures.insert(key(signer.public())?.0, signature);
    }
    let signatures: Vec<Value> =
        signatures.into_iter().map(|(id, signature)| json!({ "keyid": id, "sig": signature })).collect();
    let document = json!({ "signed": signed, "signatures": signatures });
    Ok(Document { version, bytes: document.to_string().into_bytes() })
}

fn bounded(document: Document, what: &str, most: u64) -> Result<Document, MakeError> {
    let found = document.bytes.len() as u64;
    if found > most { Err(MakeError::TooLarge { what: what.to_owned(), found, most }) } else { Ok(document) }
}

impl Signers {
    /// Who signs by the root in `bytes`, which is one of ours.
    pub fn of(bytes: &[u8]) -> Result<Self, MakeError> {
        let root = Metadata::<Root>::from_slice(bytes).map_err(refused)?.into_signed();
        let keys = |role: &str| -> Result<(BTreeSet<PublicKey>, usize), MakeError> {
            let role = root.role(role).ok_or_else(|| MakeError::Refused(format!("the root has no `{role}`")))?;
            let named = role.keyids.iter().filter_map(|id| root.keys.get(id));
            let keys = named.map(|key| Ok(key.keyval.public.parse()?)).collect::<Result<_, MakeError>>()?;
            Ok((keys, role.threshold))
        };
        let (operators, threshold) = keys("root")?;
        let registry = keys("timestamp")?.0.pop_first();
        let registry =
            registry.ok_or_else(|| MakeError::Refused("the root names no key of the registry".to_owned()))?;
        Ok(Self { operators, threshold, registry })
    }
}

/// Signs a root: who may sign what. It follows `previous`, unless it is the first, so that enough of the keys of both have
/// to sign.
pub fn sign_root(
    signers: &Signers,
    previous: Option<&Document>,
    expires: SystemTime,
    keys: &[&SigningKey],
) -> Result<Document, MakeError> {
    let (threshold, operators) = (signers.threshold, signers.operators.len());
    if threshold == 0 || threshold > operators {
        return Err(MakeError::Threshold { threshold, keys: operators });
    }
    let operators: BTreeMap<String, Value> = signers.operators.iter().map(key).collect::<Result<_, _>>()?;
    let (registry, registry_key) = key(&signers.registry)?;
    let ids: Vec<&String> = operators.keys().collect();
    let offline = json!({ "keyids": ids, "threshold": threshold });
    let online = json!({ "keyids": [registry], "threshold": 1 });
    let mut all: BTreeMap<&String, &Value> = operators.iter().collect();
    all.insert(&registry, &registry_key);
    let version = previous.map_or(1, |previous| previous.version.saturating_add(1));
    let signed = json!({
        "_type": "root",
        "spec_version": SPEC,
        "version": version,
        "expires": time(expires)?,
        "consistent_snapshot": true,
        "keys": all,
        "roles": { "root": offline, "targets": offline, "snapshot": online, "timestamp": online },
    });
    let root = bounded(sign(signed, version, keys)?, "root", LARGEST_ROOT)?;
    match previous {
        None => TrustedMetadataSet::from_root(&root.bytes).map(drop).map_err(refused)?,
        Some(previous) => TrustedMetadataSet::from_root(&previous.bytes)
            .and_then(|mut trusted| trusted.update_root(&root.bytes))
            .map_err(refused)?,
    }
    Ok(root)
}

fn target(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": Digest::of(bytes).hex() } })
}

/// The path of a target below `targets/`: with its digest before the name of its file.
fn target_path(name: &str, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{}.{file}", digest.hex()),
        None => format!("{}.{name}", digest.hex()),
    }
}

/// Signs the targets: what `trusted_root` is, and that the registry itself says what is yanked. Gives the path below
/// `targets/` at which it is served, too.
pub fn sign_targets(
    root: &Document,
    version: u64,
    expires: SystemTime,
    trusted_root: &[u8],
    keys: &[&SigningKey],
) -> Result<(Document, String), MakeError> {
    let (registry, registry_key) = key(&Signers::of(&root.bytes)?.registry)?;
    let signed = json!({
        "_type": "targets",
        "spec_version": SPEC,
        "version": version,
        "expires": time(expires)?,
        "targets": { TRUSTED_ROOT: target(trusted_root) },
        "delegations": {
            "keys": { registry.clone(): registry_key },
            "roles": [{
                "name": YANKS,
                "keyids": [registry],
                "threshold": 1,
                "terminating": true,
                "paths": [yanks_of("*")],
            }],
        },
    });
    let named = Metadata::<Root>::from_slice(&root.bytes).map_err(refused)?.into_signed();
    let signing: Vec<&SigningKey> = keys.iter().filter(|signer| names(&named, signer.public())).copied().collect();
    let targets = bounded(sign(signed, version, &signing)?, "targets", LARGEST_TARGETS)?;
    let role = named.role("targets").ok_or_else(|| MakeError::Refused("the root has no `targets`".to_owned()))?;
    Metadata::<Targets>::from_slice(&targets.bytes)
        .and_then(|targets| targets.verify_threshold(&named.keys, role, "targets"))
        .map_err(refused)?;
    Ok((targets, target_path(TRUSTED_ROOT, trusted_root)))
}

fn names(root: &Root, public: &PublicKey) -> bool {
    key(public).is_ok_and(|(id, _)| root.keys.contains_key(&id))
}

/// The yanks of a namespace, without the reasons where those make it too large. Where even so it is more than hosts read,
/// those who use this namespace are refused, and nobody else.
fn written(yanks: &Yanks) -> Result<Vec<u8>, MakeError> {
    let write = |yanks: &Yanks| serde_json::to_vec(yanks).map_err(|error| MakeError::Refused(error.to_string()));
    let bytes = write(yanks)?;
    if bytes.len() as u64 <= LARGEST_TARGET {
        return Ok(bytes);
    }
    let mut short = yanks.clone();
    short.0.values_mut().flat_map(BTreeMap::values_mut).for_each(|yank| yank.reason.clear());
    write(&short)
}

/// Signs, with the registry's own key, which versions are yanked in which namespace, and that it and `targets` are
/// current until `expires`. All three have one version, which must be higher than the last.
pub fn sign_online(
    root: &Document,
    targets: &Document,
    version: u64,
    expires: SystemTime,
    yanks: &BTreeMap<String, Yanks>,
    signer: &SigningKey,
) -> Result<Online, MakeError> {
    if Signers::of(&root.bytes)?.registry != *signer.public() {
        return Err(MakeError::OtherKey);
    }
    let expires = time(expires)?;
    let (mut listed, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (namespace, yanks) in yanks {
        let name = yanks_of(namespace);
        let bytes = written(yanks)?;
        listed.insert(name.clone(), target(&bytes));
        files.insert(target_path(&name, &bytes), bytes);
    }
    let base = |kind: &str| json!({ "_type": kind, "spec_version": SPEC, "version": version, "expires": expires });
    let meta = |document: &Document| {
        let mut meta = target(&document.bytes);
        meta["version"] = document.version.into();
        meta
    };
    let mut signed = base("targets");
    signed["targets"] = json!(listed);
    let yanks = bounded(sign(signed, version, &[signer])?, YANKS, LARGEST_TARGETS)?;
    let mut signed = base("snapshot");
    signed["meta"] = json!({ "targets.json": meta(targets), format!("{YANKS}.json"): meta(&yanks) });
    let snapshot = sign(signed, version, &[signer])?;
    let mut signed = base("timestamp");
    signed["meta"] = json!({ "snapshot.json": meta(&snapshot) });
    let timestamp = sign(signed, version, &[signer])?;
    Ok(Online { yanks, snapshot, timestamp, targets: files })
}
