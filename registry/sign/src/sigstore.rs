//! The one place that knows the sigstore crates.
//!
//! Their minor versions break, and they leave some checks to their caller. Both stay in here: what comes out are our own
//! types, and a bundle that [`Verifier`] accepts has exactly one signature, at most one log entry, and where it has one, an
//! entry whose checkpoint is of the very log that promised it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use jiff::Timestamp;
use sigstore_crypto::{KeyAlgorithm, SigningScheme, SubjectAltName, VerificationKey};
use sigstore_trust_root::TrustedRoot;
use sigstore_types as types;
use sigstore_types::bundle::{InclusionProof as WireProof, VerificationMaterialContent as Material};
use sigstore_types::{DerPublicKey, KindVersion, SignatureContent, TransparencyLogEntry};
use sigstore_verify::{
    CertificateError, Error, PublicKeyVerificationPolicy, TransparencyLogError, VerificationPolicy, VerificationResult,
};
use witan_registry_types::{Digest, json, media};
use zeroize::Zeroizing;

use crate::bundle::BundleError;
use crate::checkpoint::Checkpoint;
use crate::key::{KeyId, PublicKey};
use crate::log::{InclusionProof, LogEntry};
use crate::reason::Reason;
use crate::statement::cut;
use crate::time::{from_unix_seconds, unix_seconds};
use crate::trust::{Identity, Subject};

/// A P-256 key in a `SubjectPublicKeyInfo` with an uncompressed point has this length. Other encodings of the same key are
/// refused, so that one key cannot pass for two.
const P256_LENGTH: usize = 91;

/// A fresh PKCS#8 private key on P-256.
pub(crate) fn generate_key() -> Result<Zeroizing<Vec<u8>>, String> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    document.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(|error| error.to_string())
}

/// Whether `der` is a key that this host verifies with.
pub(crate) fn check_public_key(der: &[u8]) -> Result<(), String> {
    let key = DerPublicKey::from_bytes(der);
    let algorithm = KeyAlgorithm::from_spki(&key).map_err(|error| error.to_string())?;
    if algorithm != KeyAlgorithm::EcdsaP256 || der.len() != P256_LENGTH {
        return Err("it must be an ECDSA key on P-256, with its point uncompressed".to_owned());
    }
    VerificationKey::from_spki(&key).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn public_key_pem(der: &[u8]) -> String {
    unix_lines(&DerPublicKey::from_bytes(der).to_pem())
}

/// The crates end lines as Windows does. A log entry has the text in it, and other clients compare it with the one that they
/// would write.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

pub(crate) fn public_key_der(pem: &str) -> Result<Vec<u8>, String> {
    DerPublicKey::from_pem(pem).map(DerPublicKey::into_bytes).map_err(|error| error.to_string())
}

/// The PEM of a certificate.
pub(crate) fn certificate_pem(der: &[u8]) -> String {
    unix_lines(&types::DerCertificate::from_bytes(der).to_pem())
}

/// What a certificate says. It proves nothing yet.
pub(crate) struct ReadCertificate {
    pub(crate) der: Vec<u8>,
    /// The key that it is for, as a `SubjectPublicKeyInfo`.
    pub(crate) key: Vec<u8>,
    /// Whom it names, if it says who vouched.
    pub(crate) identity: Option<Identity>,
}

/// Reads a certificate in PEM.
pub(crate) fn read_certificate(pem: &str) -> Result<ReadCertificate, String> {
    let certificate = types::DerCertificate::from_pem(pem).map_err(|error| error.to_string())?;
    let info = sigstore_crypto::parse_certificate_info(&certificate).map_err(|error| error.to_string())?;
    let named = info.identity.as_ref().and_then(subject).zip(info.issuer);
    let identity = named.map(|(subject, issuer)| Identity { issuer, subject });
    Ok(ReadCertificate { der: certificate.into_bytes(), key: info.public_key.into_bytes(), identity })
}

fn subject(name: &SubjectAltName) -> Option<Subject> {
    match name {
        SubjectAltName::Email(email) => Some(Subject::Email(email.clone())),
        SubjectAltName::Uri(uri) => Some(Subject::Uri(uri.clone())),
        _ => None,
    }
}

/// A pair of keys that signs.
pub(crate) struct KeyPair(sigstore_crypto::KeyPair);

impl KeyPair {
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        sigstore_crypto::KeyPair::from_pkcs8_der(der).map(Self).map_err(|error| error.to_string())
    }

    pub(crate) fn public_key(&self) -> Result<Vec<u8>, String> {
        self.0.public_key_der().map(DerPublicKey::into_bytes).map_err(|error| error.to_string())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.0.sign(message).map(types::SignatureBytes::into_bytes).map_err(|error| error.to_string())
    }
}

/// What is signed for a statement: its type, its length and itself.
pub(crate) fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    types::pae(media::STATEMENT, payload)
}

fn envelope(payload: &[u8], signature: &[u8]) -> types::DsseEnvelope {
    let signature = types::DsseSignature::new(types::SignatureBytes::from_bytes(signature), types::KeyId::default());
    types::DsseEnvelope::new(media::STATEMENT, types::PayloadBytes::from_bytes(payload), signature)
}

/// The envelope as JSON, as a log would be given it.
pub(crate) fn envelope_json(payload: &[u8], signature: &[u8]) -> Result<String, String> {
    serde_json::to_string(&envelope(payload, signature)).map_err(|error| error.to_string())
}

/// By what a bundle says it can be verified.
pub(crate) enum Verifies<'a> {
    /// A key that the reader must have.
    Key(&'a PublicKey),
    /// A certificate, in DER.
    Certificate(&'a [u8]),
}

/// A bundle as JSON.
pub(crate) fn write_bundle(
    payload: &[u8],
    signature: &[u8],
    verifies: &Verifies<'_>,
    entry: Option<&LogEntry>,
) -> Result<Vec<u8>, String> {
    let material = match verifies {
        Verifies::Key(key) => {
            let hint = types::LogKeyId::from_bytes(key.id().as_bytes()).to_base64();
            Material::PublicKey(types::PublicKeyIdentifier::new(hint))
        }
        Verifies::Certificate(der) => {
            Material::Certificate(types::CertificateContent::new(types::DerCertificate::from_bytes(der)))
        }
    };
    let entries = entry.map(wire_entry).transpose()?;
    let material = types::VerificationMaterial::new(material).with_tlog_entries(entries.into_iter().collect());
    let content = SignatureContent::DsseEnvelope(envelope(payload, signature));
    let bundle = types::Bundle::new(types::MediaType::Bundle0_3, material, content);
    bundle.to_json().map(String::into_bytes).map_err(|error| error.to_string())
}

fn wire_entry(entry: &LogEntry) -> Result<TransparencyLogEntry, String> {
    let text = |error: types::Error| error.to_string();
    let index = |number| types::LogIndex::new(number).map_err(text);
    let seconds = i64::try_from(unix_seconds(entry.time)).map_err(|error| error.to_string())?;
    let time = Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    let checkpoint = types::CheckpointData::new(&entry.proof.checkpoint).map_err(text)?;
    let hashes = entry.proof.hashes.iter().copied().map(types::Sha256Hash::new).collect();
    let root = types::Sha256Hash::new(entry.proof.root);
    let log = types::LogId::new(types::LogKeyId::from_bytes(entry.log.as_bytes()));
    let body = types::CanonicalizedBody::from_bytes(&entry.body);
    let promise = types::InclusionPromise::new(types::SignedTimestamp::from_bytes(&entry.promise));
    Ok(TransparencyLogEntry::new(index(entry.index)?, log, KindVersion::DsseV001, body)
        .with_integrated_time(time)
        .with_inclusion_promise(promise)
        .with_inclusion_proof(WireProof::new(index(entry.proof.index)?, root, entry.proof.size, hashes, checkpoint)))
}

pub(crate) fn write_entry(entry: &LogEntry) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&wire_entry(entry)?).map_err(|error| error.to_string())
}

pub(crate) fn read_entry(bytes: &[u8]) -> Result<LogEntry, String> {
    const LARGEST: usize = 1 << 20;
    let wire: TransparencyLogEntry = json::parse(bytes, LARGEST).map_err(|error| error.to_string())?;
    if wire.kind_version != KindVersion::DsseV001 {
        return Err("it is not of the kind `dsse`, version 0.0.1".to_owned());
    }
    let log = Digest::from_bytes(wire.log_id.key_id.as_bytes().try_into().map_err(|_| "the log has no SHA-256 name")?);
    let (promise, proof, time) = match (wire.inclusion_promise, wire.inclusion_proof, wire.integrated_time) {
        (Some(promise), Some(proof), Some(time)) => (promise, proof, time),
        _ => return Err("it lacks its promise, its proof or its time".to_owned()),
    };
    Ok(LogEntry {
        log: KeyId::from(log),
        index: wire.log_index.get(),
        time: system_time(time),
        promise: promise.signed_entry_timestamp.into_bytes(),
        proof: InclusionProof {
            index: proof.log_index.get(),
            size: proof.tree_size,
            root: *proof.root_hash.as_bytes(),
            hashes: proof.hashes.iter().map(|hash| *hash.as_bytes()).collect(),
            checkpoint: proof.checkpoint.envelope().to_owned(),
        },
        body: wire.canonicalized_body.into_bytes(),
    })
}

fn system_time(time: Timestamp) -> SystemTime {
    from_unix_seconds(u64::try_from(time.as_second()).unwrap_or_default())
}

/// A bundle that has the one form that is looked at. It proves nothing yet.
pub(crate) struct Bundle {
    inner: types::Bundle,
    envelope: types::DsseEnvelope,
}

impl Bundle {
    /// The largest bundle.
    const LARGEST: usize = witan_registry_types::BundleManifest::LARGEST_BUNDLE as usize;
    /// Timestamps of authorities in one bundle.
    const MOST_TIMESTAMPS: usize = 4;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let value = json::parse_value(bytes, Self::LARGEST)?;
        // Looked at before the types are, which would say only that the form is wrong.
        if value.get("mediaType").and_then(serde_json::Value::as_str) != Some(media::BUNDLE) {
            let found = value.get("mediaType").map_or_else(String::new, ToString::to_string);
            return Err(BundleError::MediaType(cut(&found)));
        }
        check_keys(&value)?;
        let list = |path: &str| value.pointer(path).and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        let signatures = list("/dsseEnvelope/signatures");
        if signatures > 1 {
            return Err(BundleError::Signatures(signatures));
        }
        let entries = list("/verificationMaterial/tlogEntries");
        if entries > 1 {
            return Err(BundleError::Entries(entries));
        }
        let timestamps = list("/verificationMaterial/timestampVerificationData/rfc3161Timestamps");
        if timestamps > Self::MOST_TIMESTAMPS {
            return Err(BundleError::Timestamps(timestamps));
        }
        let inner: types::Bundle =
            serde_json::from_value(value).map_err(|error| BundleError::Form(error.to_string()))?;
        let SignatureContent::DsseEnvelope(envelope) = &inner.content else {
            return Err(BundleError::Form("it signs bytes, not a statement".to_owned()));
        };
        if envelope.payload_type != media::STATEMENT {
            return Err(BundleError::PayloadType(cut(&envelope.payload_type)));
        }
        if let Some(entry) = inner.verification_material.tlog_entries.first() {
            check_entry(entry)?;
        }
        Ok(Self { envelope: envelope.clone(), inner })
    }

    /// The statement as it was signed.
    pub(crate) fn payload(&self) -> &[u8] {
        self.envelope.payload.as_bytes()
    }

    /// Whether the signature is in a log, or says so.
    pub(crate) fn is_logged(&self) -> bool {
        self.entry().is_some()
    }

    fn entry(&self) -> Option<&TransparencyLogEntry> {
        self.inner.verification_material.tlog_entries.first()
    }

    /// Whether it is to be verified by a certificate, and not by a key that the reader has.
    pub(crate) fn is_keyless(&self) -> bool {
        self.inner.signing_certificate().is_some()
    }

    /// What the bundle says its key is called. Only good for looking a key up.
    pub(crate) fn key_hint(&self) -> Option<KeyId> {
        let Material::PublicKey(key) = &self.inner.verification_material.content else { return None };
        let bytes = types::LogKeyId::from_base64(&key.hint).ok()?;
        Some(KeyId::from(Digest::from_bytes(bytes.as_bytes().try_into().ok()?)))
    }

    /// Whether `key` made the signature.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let key = DerPublicKey::from_bytes(key.der());
        let scheme = SigningScheme::EcdsaP256Sha256;
        sigstore_crypto::verify_signature(&key, &self.envelope.pae(), &self.envelope.signature.sig, scheme).is_ok()
    }
}

/// The form allows one kind of content and one kind of evidence. Where there are two, the crates take one and pass over the
/// other, and another client may take the other.
fn check_keys(bundle: &serde_json::Value) -> Result<(), BundleError> {
    let keys = |pointer: &str| {
        let object = bundle.pointer(pointer).and_then(serde_json::Value::as_object);
        object.map(|object| object.keys().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default()
    };
    let known = |found: Vec<&str>, known: &[&str]| match found.into_iter().find(|key| !known.contains(key)) {
        Some(key) => Err(BundleError::Form(format!("it has a `{}`", cut(key)))),
        None => Ok(()),
    };
    known(keys(""), &["mediaType", "verificationMaterial", "dsseEnvelope"])?;
    let material = keys("/verificationMaterial");
    if material.contains(&"publicKey") && material.contains(&"certificate") {
        return Err(BundleError::Form("it has both a key and a certificate".to_owned()));
    }
    known(material, &["publicKey", "certificate", "tlogEntries", "timestampVerificationData"])
}

/// An entry without its promise has no time, and one without its proof is not known to be in the log. The crates accept a
/// bundle when one of its entries has a proof, and an entry whose duplicate fields contradict the checkpoint.
fn check_entry(entry: &TransparencyLogEntry) -> Result<(), BundleError> {
    let second_version = entry.kind_version == KindVersion::HashedRekordV002;
    let Some(proof) = &entry.inclusion_proof else { return Err(BundleError::HalfEntry("an inclusion proof")) };
    let Some(checkpoint) = proof.checkpoint.checkpoint() else { return Err(BundleError::HalfEntry("a checkpoint")) };
    if second_version {
        return Ok(());
    }
    if entry.inclusion_promise.is_none() || entry.integrated_time.is_none() {
        return Err(BundleError::HalfEntry("the log's promise and time"));
    }
    if checkpoint.tree_size() != proof.tree_size || *checkpoint.root_hash() != proof.root_hash {
        return Err(BundleError::Form("its inclusion proof is for another tree than its checkpoint".to_owned()));
    }
    Ok(())
}

/// What verifying has shown.
pub(crate) struct Proof {
    /// When the signature existed at the latest; `None` for one without a log entry.
    pub(crate) time: Option<SystemTime>,
    /// The state of the log that has it.
    pub(crate) checkpoint: Option<Checkpoint>,
}

struct Log {
    id: Vec<u8>,
    host: String,
    key: DerPublicKey,
}

/// Verifies against one trusted root, which is read once.
pub(crate) struct Verifier {
    inner: sigstore_verify::Verifier,
    logs: Vec<Log>,
    /// The addresses of the certificate authorities that go on certifying.
    pub(crate) authorities: BTreeSet<String>,
}

impl Verifier {
    pub(crate) fn parse(trusted_root: &[u8]) -> Result<Self, String> {
        const LARGEST: usize = 1 << 20;
        let root: TrustedRoot = json::parse(trusted_root, LARGEST).map_err(|error| error.to_string())?;
        if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(format!("its media type is `{}`", cut(&root.media_type)));
        }
        let logs = root.tlogs.iter().map(|log| Log {
            id: log.log_id.key_id.as_bytes().to_vec(),
            host: host(&log.base_url).to_owned(),
            key: log.public_key.raw_bytes.clone(),
        });
        let logs = logs.collect();
        let go_on = root
            .certificate_authorities
            .iter()
            .filter(|authority| authority.valid_for.as_ref().is_none_or(|time| time.end.is_none()));
        let authorities = go_on.map(|authority| authority.uri.clone()).collect();
        Ok(Self { authorities, inner: sigstore_verify::Verifier::new(&root).map_err(|error| error.to_string())?, logs })
    }

    /// Verifies that `key` signed the statement in `bundle`, that the statement is about `digest`, and that the signature is
    /// in a trusted log.
    pub(crate) fn keyed(&self, bundle: &Bundle, digest: &Digest, key: &PublicKey) -> Result<Proof, Reason> {
        self.log(bundle)?;
        let policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_bytes(key.der()));
        let artifact = types::Sha256Hash::new(*digest.as_bytes());
        let result = self.inner.verify(artifact, &bundle.inner, &policy).map_err(|error| reason(&error, bundle))?;
        self.proof(bundle, &result)
    }

    /// Verifies the certificate in `bundle` and what it signed, and says whose certificate it is. Whether that signer may
    /// sign is for the caller to say.
    pub(crate) fn keyless(&self, bundle: &Bundle, digest: &Digest) -> Result<(Identity, Proof), Reason> {
        self.log(bundle)?;
        let artifact = types::Sha256Hash::new(*digest.as_bytes());
        let policy = VerificationPolicy::any_identity();
        let result = self.inner.verify(artifact, &bundle.inner, &policy).map_err(|error| reason(&error, bundle))?;
        if !(result.certificate_verified() && result.sct_verified()) {
            return Err(Reason::Certificate("its chain was not verified".to_owned()));
        }
        let subject = result.identity().and_then(subject);
        let subject = subject.ok_or_else(|| Reason::Certificate("it names nobody".to_owned()))?;
        let Some(issuer) = result.issuer() else {
            return Err(Reason::Certificate("it does not say who vouched for its holder".to_owned()));
        };
        let identity = Identity { issuer: issuer.to_owned(), subject };
        Ok((identity, self.proof(bundle, &result)?))
    }

    fn proof(&self, bundle: &Bundle, result: &VerificationResult) -> Result<Proof, Reason> {
        if !result.tlog_verified() {
            return Err(Reason::Proof("the log entry was not verified".to_owned()));
        }
        let entry = bundle.entry().ok_or(Reason::Unlogged)?;
        let time = result.verified_timestamps().iter().max();
        let time = time.ok_or_else(|| Reason::Time("nothing trusted says when it was signed".to_owned()))?;
        Ok(Proof { time: Some(system_time(*time)), checkpoint: Some(checkpoint(entry, self.log(bundle)?)?) })
    }

    /// The log that the bundle's entry names.
    fn log(&self, bundle: &Bundle) -> Result<&Log, Reason> {
        let id = &bundle.entry().ok_or(Reason::Unlogged)?.log_id.key_id;
        let log = self.logs.iter().find(|log| log.id == id.as_bytes());
        log.ok_or_else(|| Reason::UnknownLog(cut(&id.to_base64())))
    }
}

/// The checkpoint, if it is of the log that the entry names: with several logs in the root, any of them would do for the
/// crates.
fn checkpoint(entry: &TransparencyLogEntry, log: &Log) -> Result<Checkpoint, Reason> {
    let checkpoint = entry.inclusion_proof.as_ref().and_then(|proof| proof.checkpoint.checkpoint());
    let checkpoint = checkpoint.ok_or_else(|| Reason::Checkpoint("there is none".to_owned()))?;
    let origin = checkpoint.origin();
    let of_this_log = origin.strip_prefix(log.host.as_str()).is_some_and(|rest| {
        let number = rest.strip_prefix(" - ");
        rest.is_empty() || number.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
    });
    if !of_this_log {
        return Err(Reason::Checkpoint(format!("it is of `{}`, and the entry of `{}`", cut(origin), log.host)));
    }
    let key = VerificationKey::from_spki(&log.key).map_err(|error| Reason::Checkpoint(error.to_string()))?;
    let signed = checkpoint.signatures().iter().any(|signature| {
        log.id.starts_with(signature.key_id.as_bytes())
            && key.verify(checkpoint.signed_data(), &signature.signature).is_ok()
    });
    if !signed {
        return Err(Reason::Checkpoint(format!("`{}` did not sign it", log.host)));
    }
    let (size, root) = (checkpoint.tree_size(), *checkpoint.root_hash().as_bytes());
    Ok(Checkpoint { origin: origin.to_owned(), size, root })
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn reason(error: &Error, bundle: &Bundle) -> Reason {
    let text = cut(&error.to_string());
    match error {
        Error::SignatureInvalid(_) => Reason::Signature,
        Error::Certificate(CertificateError::Sct(_)) => Reason::CertificateLog(text),
        Error::Certificate(_) => certificate_reason(bundle).unwrap_or(Reason::Certificate(text)),
        Error::TransparencyLog(error) => match error {
            TransparencyLogError::UnknownLog { log_id } => Reason::UnknownLog(cut(log_id)),
            TransparencyLogError::InclusionProof(_) => Reason::Proof(text),
            TransparencyLogError::Checkpoint(_) => Reason::Checkpoint(text),
            TransparencyLogError::InclusionPromise(_) => Reason::Promise(text),
            TransparencyLogError::IntegratedTime(_) => Reason::Time(text),
            _ => Reason::Entry(text),
        },
        Error::Timestamp(_) => Reason::Time(text),
        Error::Bundle(sigstore_verify::bundle::Error::MissingSigningTimeEvidence) => Reason::Unlogged,
        _ => Reason::Bundle(BundleError::Form(text)),
    }
}

/// A chain outside its validity is reported as a chain that is wrong. The time is that of the log, whose promise is verified
/// before the chain is.
fn certificate_reason(bundle: &Bundle) -> Option<Reason> {
    let certificate = sigstore_crypto::parse_certificate_info(bundle.inner.signing_certificate()?).ok()?;
    let time = bundle.entry()?.integrated_time?;
    if time > certificate.not_after {
        return Some(Reason::CertificateExpired {
            signed: system_time(time),
            until: system_time(certificate.not_after),
        });
    }
    (time < certificate.not_before).then(|| Reason::CertificateNotYetValid {
        signed: system_time(time),
        from: system_time(certificate.not_before),
    })
}
