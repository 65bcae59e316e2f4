//! Co-signatures: others who saw a checkpoint, and that it follows those that they saw before (C2SP
//! `tlog-cosignature`).

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    Checkpoint,
    note::{encoded, note_id},
};

/// The type of a co-signature in a key's id.
pub(crate) const TYPE_COSIGNATURE: u8 = 4;

/// A witness whose co-signatures are taken.
#[derive(Clone, PartialEq, Eq)]
pub struct Witness {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

/// Why a witness's key is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a witness's key: it has the form `name+hash+key`, where the key is of co-signatures (type 4)")]
pub struct WitnessError(String);

/// A witness's signature over a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    name: String,
    id: [u8; 4],
    /// Seconds since 1970, and the signature.
    bytes: Vec<u8>,
}

/// Why co-signatures are not taken.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// What was sent is no checkpoint of this log.
    #[error(transparent)]
    Note(#[from] crate::NoteError),
    /// The log has no such tree, or had none: somebody shows another log under its name.
    #[error("the checkpoint of {0} entries is none of this log; keep it, since it may show that the log was forged")]
    Foreign(u64),
    /// Nobody known signed it.
    #[error("no co-signature is one of a witness that this log knows")]
    Nobody,
    /// A newer one is here.
    #[error("the witness `{name}` signed a checkpoint of {size} entries already")]
    Older {
        /// The witness.
        name: String,
        /// The size of what it signed.
        size: u64,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] crate::LogError),
}

/// A key as C2SP writes them: `name+hash+key`.
impl FromStr for Witness {
    type Err = WitnessError;

    fn from_str(text: &str) -> Result<Self, WitnessError> {
        let error = || WitnessError(text.to_owned());
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(error());
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| error())?;
        let Some((&TYPE_COSIGNATURE, key)) = bytes.split_first() else { return Err(error()) };
        let key: [u8; 32] = key.try_into().map_err(|_| error())?;
        let id = note_id(name, TYPE_COSIGNATURE, &key);
        let sound = !name.is_empty() && !name.contains(char::is_whitespace);
        if sound && u32::from_str_radix(hash, 16).is_ok_and(|hash| hash.to_be_bytes() == id) && hash.len() == 8 {
            Ok(Self { name: name.to_owned(), id, key })
        } else {
            Err(error())
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Witness {
    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Its signature on `checkpoint`, if there is one that holds.
    pub fn on(&self, checkpoint: &Checkpoint) -> Option<Cosignature> {
        let body = checkpoint.body();
        let signatures = checkpoint.signatures();
        let ours = signatures.into_iter().filter(|(name, id, _)| *name == self.name && *id == self.id);
        ours.filter(|(_, _, bytes)| self.verifies(&body, bytes))
            .map(|(name, id, bytes)| Cosignature { name: name.to_owned(), id, bytes })
            .next()
    }

    fn verifies(&self, body: &str, bytes: &[u8]) -> bool {
        let Some((time, signature)) = bytes.split_first_chunk::<8>() else { return false };
        let message = message(u64::from_be_bytes(*time), body);
        UnparsedPublicKey::new(&ED25519, &self.key).verify(message.as_bytes(), signature).is_ok()
    }
}

/// What a witness signs.
pub(crate) fn message(time: u64, body: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{body}")
}

/// As it is parsed.
impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoded(&self.name, TYPE_COSIGNATURE, &self.key))
    }
}

impl Cosignature {
    pub(crate) fn new(name: &str, id: [u8; 4], bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), id, bytes }
    }

    /// Who signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When, by its own clock, in seconds since 1970.
    pub fn time(&self) -> u64 {
        self.bytes.first_chunk::<8>().map_or(0, |time| u64::from_be_bytes(*time))
    }

    /// The line that it is in a note.
    pub(crate) fn line(&self) -> String {
        let bytes = [self.id.as_slice(), &self.bytes].concat();
        format!("— {} {}\n", self.name, BASE64_STANDARD.encode(bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::{Hash, SigningKey};

    /// A witness that signs whatever it is shown.
    pub(crate) struct Signer(pub(crate) Witness, Ed25519KeyPair);

    impl Signer {
        pub(crate) fn new(name: &str) -> Self {
            let pair = Ed25519KeyPair::generate().unwrap();
            let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
            let id = note_id(name, TYPE_COSIGNATURE, &key);
            let encoded = BASE64_STANDARD.encode([&[TYPE_COSIGNATURE], key.as_slice()].concat());
            let text = format!("{name}+{:08x}+{encoded}", u32::from_be_bytes(id));
            Self(text.parse().unwrap(), pair)
        }

        pub(crate) fn sign(&self, checkpoint: &Checkpoint, time: u64) -> Cosignature {
            let message = format!("cosignature/v1\ntime {time}\n{}", checkpoint.body());
            let signature = self.1.sign(message.as_bytes());
            let bytes = [&time.to_be_bytes(), signature.as_ref()].concat();
            Cosignature { name: self.0.name.clone(), id: self.0.id, bytes }
        }
    }

    #[test]
    fn a_cosignature_is_of_its_witness_and_its_checkpoint() {
        let key = SigningKey::generate_ed25519().unwrap();
        let checkpoint = |size| key.checkpoint("log.example - 7", "log.example", size, Hash::leaf(b"x")).unwrap();
        let (first, second) = (Signer::new("w1.example"), Signer::new("w2.example"));
        let signed = checkpoint(5).with(&[first.sign(&checkpoint(5), 1_700_000_000)]);
        assert_eq!(first.0.on(&signed).unwrap().time(), 1_700_000_000);
        assert_eq!(second.0.on(&signed), None);
        let moved = checkpoint(6).with(&[first.sign(&checkpoint(5), 1_700_000_000)]);
        assert_eq!(first.0.on(&moved), None);
        let mut later = first.sign(&checkpoint(5), 1_700_000_000);
        later.bytes[7] ^= 1;
        assert_eq!(first.0.on(&checkpoint(5).with(&[later])), None);
    }

    #[test]
    fn a_witness_s_key_names_itself() {
        let good = Signer::new("w.example");
        let encoded = BASE64_STANDARD.encode([&[TYPE_COSIGNATURE], good.0.key.as_slice()].concat());
        let id = format!("{:08x}", u32::from_be_bytes(good.0.id));
        assert!(format!("w.example+{id}+{encoded}").parse::<Witness>().is_ok());
        let note_key = BASE64_STANDARD.encode([&[1], good.0.key.as_slice()].concat());
        for text in [
            format!("w.example+00000000+{encoded}"),
            format!("other+{id}+{encoded}"),
            format!("w.example+{id}+{note_key}"),
            format!("w.example+{id}+"),
            format!("w.example+{id}"),
            format!("+{id}+{encoded}"),
            String::new(),
        ] {
            assert!(text.parse::<Witness>().is_err(), "{text}");
        }
    }
}
