//! Certificates of the shape of Fulcio's: for signing, short, with a name, who vouched for it, and the promise of a
//! certificate log inside.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use sha2::{Digest, Sha256};
use witan_registry_sign::{Identity, PublicKey, SigningKey, Subject};

use crate::Authority;

/// Who vouched for the name (Fulcio, as a DER string).
const ISSUER: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];
/// The same as plain text, where some clients still look for it.
const ISSUER_TEXT: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 1];
/// The promises of certificate logs (RFC 6962, section 3.3).
const PROMISES: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

/// The authority's own certificate and key.
pub(crate) struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    key: SigningKey,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let key = SigningKey::from_pem(&pair.serialize_pem(), None).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let der = params.self_signed(&pair).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, pair), key }
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

/// A key with a certificate.
pub struct Certified {
    /// The key.
    pub key: SigningKey,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
}

impl Authority {
    /// A new key with a certificate for `identity`, valid for ten minutes from `from`.
    pub fn certify(&self, identity: &Identity, from: SystemTime) -> Certified {
        self.certify_for(identity, from..from + Duration::from_secs(600))
    }

    /// A new key with a certificate for `identity`, valid for so long.
    pub fn certify_for(&self, identity: &Identity, valid: Range<SystemTime>) -> Certified {
        let key = SigningKey::generate().unwrap();
        let certificate = self.certificate(identity, key.public(), valid);
        Certified { key, certificate }
    }

    /// A certificate (DER) of somebody else's key for `identity`, valid for ten minutes from `from`.
    pub fn certify_key(&self, identity: &Identity, key: &PublicKey, from: SystemTime) -> Vec<u8> {
        self.certificate(identity, key, from..from + Duration::from_secs(600))
    }

    fn certificate(&self, identity: &Identity, key: &PublicKey, valid: Range<SystemTime>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(7));
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![match &identity.subject {
            Subject::Email(email) => SanType::Rfc822Name(email.as_str().try_into().unwrap()),
            Subject::Uri(uri) => SanType::URI(uri.as_str().try_into().unwrap()),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        params.not_before = date_time_ymd(1970, 1, 1) + seconds(valid.start);
        params.not_after = date_time_ymd(1970, 1, 1) + seconds(valid.end);
        let issuer = der(0x0c, identity.issuer.as_bytes());
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(ISSUER_TEXT, identity.issuer.clone().into_bytes()),
            CustomExtension::from_oid_content(ISSUER, issuer),
        ];
        // What the log promises is the certificate without its promise.
        let without = params.signed_by(&Point(key), &self.ca.issuer).unwrap();
        let promise = self.promise(tbs(without.der()), seconds(valid.start));
        params.custom_extensions.push(CustomExtension::from_oid_content(PROMISES, der(0x04, &promise)));
        params.signed_by(&Point(key), &self.ca.issuer).unwrap().der().to_vec()
    }

    /// A list of one promise to log the certificate whose signed part is `tbs` (RFC 6962, sections 3.2 and 3.3).
    fn promise(&self, tbs: &[u8], time: Duration) -> Vec<u8> {
        let milliseconds = (time.as_millis() as u64).to_be_bytes();
        let length = (tbs.len() as u32).to_be_bytes();
        let issuer: [u8; 32] = Sha256::digest(self.ca.key.public().der()).into();
        let signed = [&[0, 0], &milliseconds[..], &[0, 1], &issuer, &length[1..], tbs, &[0, 0]].concat();
        let signature = self.certificates.sign(&signed).unwrap();
        let id = self.certificates.id();
        let promise = [&[0], &id.as_bytes()[..], &milliseconds, &[0, 0, 4, 3], &counted(&signature)].concat();
        counted(&counted(&promise))
    }
}

/// A key as certificates have it: the point, which is what stands last in its encoding.
struct Point<'a>(&'a PublicKey);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.der()[self.0.der().len() - 65..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The bytes after their number.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// A DER value.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=0x7f => vec![short as u8],
        long => [&[0x82], &(long as u16).to_be_bytes()[..]].concat(),
    };
    [&[tag], &length[..], content].concat()
}

/// The signed part of a certificate: the first value in the sequence that it is.
fn tbs(certificate: &[u8]) -> &[u8] {
    let (start, _) = bounds(certificate);
    let inside = &certificate[start..];
    let (_, end) = bounds(inside);
    &inside[..end]
}

/// Where the content of the DER value at the beginning starts and ends.
fn bounds(value: &[u8]) -> (usize, usize) {
    match value[1] {
        short @ 0..=0x7f => (2, 2 + usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let length = value[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            (2 + count, 2 + count + length)
        }
    }
}
