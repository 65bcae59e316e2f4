//! Checkpoints: the root of a tree, in a note that the log's key signs (C2SP `tlog-checkpoint`, `signed-note`).

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        ParsedPublicKey,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    Hash, Witness,
    witness::{Cosignature, TYPE_COSIGNATURE, message},
};

/// The type of an Ed25519 signature in a key's id.
const TYPE_ED25519: u8 = 1;

/// The longest note that is read: checkpoints have a few lines.
pub(crate) const LONGEST: usize = 64 << 10;

/// The key that a log signs its checkpoints with.
pub struct SigningKey(Pair);

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The public half of a log's key.
#[derive(Clone)]
pub struct PublicKey {
    kind: Kind,
    der: Vec<u8>,
    key: ParsedPublicKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ecdsa,
    Ed25519,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no such key.
    #[error("this is neither an ECDSA P-256 key nor an Ed25519 key in PKCS #8")]
    NotAKey,
    /// The system or the library failed.
    #[error("a key cannot be made or used")]
    Failed,
}

/// Why a note is no checkpoint of the log.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// It is no note.
    #[error("this is not a signed checkpoint: {0}")]
    Form(String),
    /// It is of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    Origin {
        /// The log that it names.
        found: String,
        /// The log that was expected.
        expected: String,
    },
    /// The log's key did not sign it.
    #[error("no signature of the checkpoint is one of the log's key")]
    Signature,
}

/// A checkpoint with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    note: String,
}

impl SigningKey {
    /// Makes an ECDSA P-256 key, which the clients of Sigstore verify.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate_ecdsa() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError::Failed)?;
        Ok(Self(Pair::Ecdsa(pair)))
    }

    /// Makes an Ed25519 key, which the tools of C2SP verify.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate_ed25519() -> Result<Self, KeyError> {
        Ok(Self(Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| KeyError::Failed)?)))
    }

    /// Reads a key in PKCS #8, in DER.
    ///
    /// # Errors
    /// When it is of no kind that is taken.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der) {
            return Ok(Self(Pair::Ecdsa(pair)));
        }
        Ed25519KeyPair::from_pkcs8(der).map(|pair| Self(Pair::Ed25519(pair))).map_err(|_| KeyError::NotAKey)
    }

    /// The key in PKCS #8, in DER. It is a secret.
    ///
    /// # Errors
    /// When the library fails.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        let document = match &self.0 {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        document.map(|document| document.as_ref().to_vec()).map_err(|_| KeyError::Failed)
    }

    /// The public half.
    ///
    /// # Errors
    /// When the library fails.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.0 {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
        };
        PublicKey::from_der(der.map_err(|_| KeyError::Failed)?.as_ref())
    }

    /// A signature over `message`: in ASN.1 for ECDSA over its SHA-256.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = match &self.0 {
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            Pair::Ed25519(pair) => pair.try_sign(message),
        };
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| KeyError::Failed)
    }

    /// Adds to `checkpoint` a signature that says when it was seen, as the witness `name` (C2SP `tlog-cosignature`): a log
    /// whose key is Ed25519 binds its own checkpoints to a time so. `time` is in seconds since 1970.
    ///
    /// # Errors
    /// When the key is not Ed25519, and when the library fails.
    pub fn cosign(&self, name: &str, time: u64, checkpoint: &Checkpoint) -> Result<Checkpoint, KeyError> {
        let id = self.public()?.witness(name).ok_or(KeyError::NotAKey)?.id();
        let signature = self.sign(message(time, &checkpoint.body()).as_bytes())?;
        let bytes = [&time.to_be_bytes(), signature.as_slice()].concat();
        Ok(checkpoint.with(&[Cosignature::new(name, id, bytes)]))
    }

    /// Signs the checkpoint of a tree, as the log `origin` and under the name of `signer`.
    pub(crate) fn checkpoint(&self, origin: &str, signer: &str, size: u64, root: Hash) -> Result<Checkpoint, KeyError> {
        let body = body(origin, size, &root);
        let mut signature = self.public()?.note_id(signer).to_vec();
        signature.extend(self.sign(body.as_bytes())?);
        let note = format!("{body}\n— {signer} {}\n", BASE64_STANDARD.encode(signature));
        Ok(Checkpoint { origin: origin.to_owned(), size, root, note })
    }
}

impl PublicKey {
    /// Reads a key as a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it is of no kind that is taken.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let ecdsa = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).map(|key| (Kind::Ecdsa, key));
        let (kind, key) = ecdsa
            .or_else(|_| ParsedPublicKey::new(&ED25519, der).map(|key| (Kind::Ed25519, key)))
            .map_err(|_| KeyError::NotAKey)?;
        Ok(Self { kind, der: der.to_vec(), key })
    }

    /// The key as a SubjectPublicKeyInfo in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key in PEM.
    pub fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        // Base64 is ASCII: any place is between characters.
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }

    /// What names the key: the SHA-256 of its DER.
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Whether `signature` is one of this key over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }

    /// The key as C2SP's tools read it, `name+hash+key`; none for ECDSA, which they do not know.
    pub fn verifier_key(&self, name: &str) -> Option<String> {
        (self.kind == Kind::Ed25519).then(|| encoded(name, TYPE_ED25519, self.raw()))
    }

    /// Whoever has this key, as the witness `name`; none for ECDSA, which witnesses do not use.
    pub fn witness(&self, name: &str) -> Option<Witness> {
        if self.kind != Kind::Ed25519 {
            return None;
        }
        encoded(name, TYPE_COSIGNATURE, self.raw()).parse().ok()
    }

    /// What names the key in a note that it signs as `signer`. For ECDSA it is what names it anywhere, which is what
    /// Sigstore's clients look for.
    pub(crate) fn note_id(&self, signer: &str) -> [u8; 4] {
        match self.kind {
            Kind::Ecdsa => {
                let [a, b, c, d, ..] = self.id();
                [a, b, c, d]
            }
            Kind::Ed25519 => note_id(signer, TYPE_ED25519, self.raw()),
        }
    }

    /// The 32 bytes of an Ed25519 key, which stand at the end of its DER.
    fn raw(&self) -> &[u8] {
        &self.der[self.der.len().saturating_sub(32)..]
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(&self.der))
    }
}

/// What names a key in a note.
pub(crate) fn note_id(signer: &str, kind: u8, key: &[u8]) -> [u8; 4] {
    let hash = Sha256::new_with_prefix(signer).chain_update([b'\n', kind]).chain_update(key).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// A key with its name and its hash in front.
pub(crate) fn encoded(name: &str, kind: u8, key: &[u8]) -> String {
    let id = u32::from_be_bytes(note_id(name, kind, key));
    format!("{name}+{id:08x}+{}", BASE64_STANDARD.encode([&[kind], key].concat()))
}

fn body(origin: &str, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{root}\n")
}

impl Checkpoint {
    /// Reads a note and checks that the log `origin` signed it with `key`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(note: &str, origin: &str, key: &PublicKey) -> Result<Self, NoteError> {
        let checkpoint = Self::unsigned(note)?;
        if checkpoint.origin != origin {
            return Err(NoteError::Origin { found: checkpoint.origin, expected: origin.to_owned() });
        }
        let signed = checkpoint.body();
        let by_log = |(name, id, signature): &(&str, [u8; 4], Vec<u8>)| {
            *id == key.note_id(name) && key.verifies(signed.as_bytes(), signature)
        };
        if checkpoint.signatures().iter().any(by_log) { Ok(checkpoint) } else { Err(NoteError::Signature) }
    }

    /// Reads a note without a look at who signed it.
    pub(crate) fn unsigned(note: &str) -> Result<Self, NoteError> {
        if note.len() > LONGEST {
            return Err(NoteError::Form(format!("it has more than {LONGEST} bytes")));
        }
        let parsed = sigstore_types::Checkpoint::from_text(note).map_err(|error| NoteError::Form(error.to_string()))?;
        let (size, root) = (parsed.tree_size(), Hash(*parsed.root_hash().as_bytes()));
        // What is signed has to be what we would sign: nothing further in it, and written in one way.
        let body = body(parsed.origin(), size, &root);
        if parsed.signed_data() != body.as_bytes() || !note.starts_with(&body) {
            return Err(NoteError::Form("it says more than an origin, a size and a root".to_owned()));
        }
        Ok(Self { origin: parsed.origin().to_owned(), size, root, note: note.to_owned() })
    }

    /// Which log it is of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many entries the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The note with its signatures, as it is served.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// What is signed.
    pub(crate) fn body(&self) -> String {
        body(&self.origin, self.size, &self.root)
    }

    /// The note with further signatures.
    #[must_use]
    pub fn with(&self, cosignatures: &[Cosignature]) -> Self {
        let mut note = self.note.clone();
        for cosignature in cosignatures {
            note.push_str(&cosignature.line());
        }
        Self { note, ..self.clone() }
    }

    /// The note with a further signature, as the line that it is in a note. It is not verified; [`Witness::on`] does that.
    ///
    /// # Errors
    /// When it is no such line, or the note would become too long.
    pub fn signed(&self, line: &str) -> Result<Self, NoteError> {
        let note = format!("{}{}\n", self.note, line.trim_end());
        let whole = line.trim_end().lines().count() == 1 && line.starts_with("— ");
        match Self::unsigned(&note) {
            Ok(signed) if whole && signed.signatures().len() == self.signatures().len() + 1 => Ok(signed),
            Ok(_) => Err(NoteError::Form("a line is no signature".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// The note without any signature.
    pub(crate) fn bare(&self) -> Self {
        Self { note: format!("{}\n", self.body()), ..self.clone() }
    }

    /// The note without the signatures of those who made `cosignatures`.
    pub(crate) fn without(&self, cosignatures: &[Cosignature]) -> Self {
        let theirs = |line: &str| {
            line.strip_prefix("— ")
                .and_then(|line| line.rsplit_once(' '))
                .is_some_and(|(name, _)| cosignatures.iter().any(|cosignature| cosignature.name() == name))
        };
        let note = self.note.split_inclusive('\n').filter(|line| !theirs(line.trim_end())).collect();
        Self { note, ..self.clone() }
    }

    /// Who signed it, by name, key id and signature.
    pub(crate) fn signatures(&self) -> Vec<(&str, [u8; 4], Vec<u8>)> {
        let lines = self.note.lines().filter_map(|line| line.strip_prefix("— "));
        let parse = |line: &'_ str| -> Option<(usize, [u8; 4], Vec<u8>)> {
            let (name, signature) = line.rsplit_once(' ')?;
            let bytes = BASE64_STANDARD.decode(signature).ok()?;
            let (id, signature) = bytes.split_first_chunk::<4>()?;
            Some((name.len(), *id, signature.to_vec()))
        };
        lines.filter_map(|line| parse(line).map(|(name, id, signature)| (&line[..name], id, signature))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "log.example - 7";

    fn keys() -> [SigningKey; 2] {
        [SigningKey::generate_ecdsa().unwrap(), SigningKey::generate_ed25519().unwrap()]
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        for key in keys() {
            let public = key.public().unwrap();
            let checkpoint = key.checkpoint(ORIGIN, "log.example", 5, Hash::leaf(b"x")).unwrap();
            assert_eq!(Checkpoint::parse(checkpoint.note(), ORIGIN, &public).unwrap(), checkpoint);
            let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(again.public().unwrap().id(), public.id());
        }
    }

    #[test]
    fn a_checkpoint_of_another_log_or_key_is_refused() {
        for (key, other) in keys().into_iter().zip(keys()) {
            let public = key.public().unwrap();
            let note = key.checkpoint(ORIGIN, "log.example", 5, Hash::leaf(b"x")).unwrap().note().to_owned();
            assert!(matches!(Checkpoint::parse(&note, "other", &public), Err(NoteError::Origin { .. })));
            let other = other.public().unwrap();
            assert!(matches!(Checkpoint::parse(&note, ORIGIN, &other), Err(NoteError::Signature)));
            let larger = note.replacen("\n5\n", "\n6\n", 1);
            assert!(matches!(Checkpoint::parse(&larger, ORIGIN, &public), Err(NoteError::Signature)));
            for changed in [
                note.replacen("\n5\n", "\n05\n", 1),
                note.replacen("\n\n", "\nmore\n\n", 1),
                note.replacen("\n\n", "\n", 1),
                format!(" {note}"),
                String::new(),
                "\n\n— a b".to_owned(),
            ] {
                assert!(matches!(Checkpoint::parse(&changed, ORIGIN, &public), Err(NoteError::Form(_))), "{changed}");
            }
        }
    }

    #[test]
    fn a_log_binds_its_own_checkpoints_to_a_time() {
        let [ecdsa, key] = keys();
        let checkpoint = key.checkpoint(ORIGIN, "log.example", 5, Hash::leaf(b"x")).unwrap();
        let timed = key.cosign("log.example", 1_700_000_000, &checkpoint).unwrap();
        let public = key.public().unwrap();
        assert_eq!(Checkpoint::parse(timed.note(), ORIGIN, &public).unwrap(), timed);
        let witness = public.witness("log.example").unwrap();
        assert_eq!(witness.to_string().parse::<Witness>().unwrap(), witness);
        assert_eq!(witness.on(&timed).unwrap().time(), 1_700_000_000);
        assert_eq!(witness.on(&checkpoint), None);
        assert_eq!(public.witness("other").unwrap().on(&timed), None);
        assert!(matches!(ecdsa.cosign("log.example", 1, &checkpoint), Err(KeyError::NotAKey)));
        assert!(ecdsa.public().unwrap().verifier_key("log.example").is_none());
        assert!(public.verifier_key("log.example").unwrap().starts_with("log.example+"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(SigningKey::from_pkcs8(b"").is_err());
        assert!(PublicKey::from_der(&[0; 91]).is_err());
        let key = SigningKey::generate_ed25519().unwrap();
        assert!(PublicKey::from_der(&key.public().unwrap().raw()[1..]).is_err());
    }
}
