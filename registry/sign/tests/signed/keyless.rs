//! Signatures by identities: a short certificate, and a log that says when it was used; verified without a network.

use std::time::{Duration, SystemTime};

use super::common::*;

const ISSUER: &str = "https://accounts.example";

fn identity() -> Identity {
    Identity { issuer: ISSUER.to_owned(), subject: Subject::Email("author@acme.example".to_owned()) }
}

struct Keyless {
    publisher: Publisher,
}

impl Keyless {
    fn new(trusted: &[Identity]) -> Self {
        let mut rule = rule(&[]);
        rule.identities = trusted.to_vec();
        Self { publisher: Publisher { policy: policy(vec![rule]), ..Publisher::new() } }
    }

    fn sign(&self, certified: &Certified, attestation: Attestation) -> Vec<u8> {
        let signed = Signed::with_certificate(&statement(attestation), &certified.key, &certified.certificate).unwrap();
        let entry = self.publisher.authority.log.append(&signed.entry_body().unwrap());
        signed.logged(&entry).unwrap()
    }

    fn bundles(&self, certified: &Certified) -> Vec<Vec<u8>> {
        Attestation::ALL.map(|attestation| self.sign(certified, attestation)).to_vec()
    }

    /// The bundles of a signer with a certificate from `from` on, when the log's clock shows `at`.
    fn signed(&self, identity: &Identity, from: SystemTime, at: SystemTime) -> Vec<Vec<u8>> {
        let certified = self.publisher.authority.certify(identity, from);
        self.publisher.authority.log.set_time(at);
        self.bundles(&certified)
    }

    /// The one reason for which none of the bundles count.
    fn reason(&self, bundles: &[Vec<u8>]) -> Reason {
        let refusal = self.publisher.evaluate(bundles).unwrap_err();
        let Refusal::Missing { mut rejected, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!(rejected.len(), bundles.len());
        rejected.remove(0).reason
    }
}

fn after(seconds: u64) -> SystemTime {
    noon() + Duration::from_secs(seconds)
}

#[test]
fn a_trusted_identity_counts() {
    let keyless = Keyless::new(&[identity()]);
    let verified = keyless.publisher.evaluate(&keyless.signed(&identity(), noon(), after(60))).unwrap();
    assert_eq!(verified.signers, [SignerId::Identity(identity())].into());
    assert_eq!(verified.signed, Some(after(60)));
    let workflow = Subject::Uri("https://git.example/acme/tool/.github/workflows/release.yml@refs/tags/v1".to_owned());
    let workflow = Identity { subject: workflow, ..identity() };
    let keyless = Keyless::new(&[identity(), workflow.clone()]);
    let verified = keyless.publisher.evaluate(&keyless.signed(&workflow, noon(), after(60))).unwrap();
    assert_eq!(verified.signers, [SignerId::Identity(workflow)].into());
}

#[test]
fn another_identity_does_not_count() {
    let keyless = Keyless::new(&[identity()]);
    let other = Identity { subject: Subject::Email("other@acme.example".to_owned()), ..identity() };
    assert!(
        matches!(keyless.reason(&keyless.signed(&other, noon(), after(60))), Reason::UnknownIdentity(found) if found == other)
    );
    let issuer = Identity { issuer: "https://evil.example".to_owned(), ..identity() };
    assert!(matches!(keyless.reason(&keyless.signed(&issuer, noon(), after(60))), Reason::Issuer { .. }));
    // The trusted address, as a URI.
    let kind = Identity { subject: Subject::Uri("author@acme.example".to_owned()), ..identity() };
    assert!(matches!(keyless.reason(&keyless.signed(&kind, noon(), after(60))), Reason::SubjectKind(_)));
    // A name that begins or ends like the trusted one.
    for email in ["author@acme.example.evil", "xauthor@acme.example", "Author@acme.example"] {
        let near = Identity { subject: Subject::Email(email.to_owned()), ..identity() };
        assert!(
            matches!(keyless.reason(&keyless.signed(&near, noon(), after(60))), Reason::UnknownIdentity(_)),
            "{email}"
        );
    }
}

#[test]
fn an_identity_for_another_namespace_does_not_count() {
    let other = Identity { subject: Subject::Email("other@acme.example".to_owned()), ..identity() };
    let mut acme = rule(&[]);
    acme.identities = vec![identity()];
    let elsewhere = Rule { packages: "other:*".parse().unwrap(), identities: vec![other.clone()], ..acme.clone() };
    let keyless = Keyless { publisher: Publisher { policy: policy(vec![acme, elsewhere]), ..Publisher::new() } };
    assert!(keyless.publisher.evaluate(&keyless.signed(&identity(), noon(), after(60))).is_ok());
    assert!(matches!(keyless.reason(&keyless.signed(&other, noon(), after(60))), Reason::OtherPackages { .. }));
}

#[test]
fn a_certificate_counts_while_it_is_valid() {
    let keyless = Keyless::new(&[identity()]);
    for at in [0, 1, 599, 600] {
        assert!(keyless.publisher.evaluate(&keyless.signed(&identity(), noon(), after(at))).is_ok(), "{at}");
    }
    let expired = keyless.reason(&keyless.signed(&identity(), noon(), after(601)));
    assert!(matches!(expired, Reason::CertificateExpired { .. }), "{expired:?}");
    let early = keyless.reason(&keyless.signed(&identity(), after(60), after(59)));
    assert!(matches!(early, Reason::CertificateNotYetValid { .. }), "{early:?}");
}

#[test]
fn a_time_before_the_true_one_is_refused() {
    let keyless = Keyless::new(&[identity()]);
    // Signed with a certificate that has expired, and dated back to when it was valid.
    let bundles = keyless.signed(&identity(), noon(), after(3000));
    let backdated: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            changed(bundle, |bundle| {
                let time = after(60).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = time.to_string().into();
            })
        })
        .collect();
    assert!(matches!(keyless.reason(&backdated), Reason::Promise(_)));
    // Without a promise there is no time to believe.
    let without: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            changed(bundle, |bundle| {
                bundle["verificationMaterial"]["tlogEntries"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("inclusionPromise")
                    .unwrap();
            })
        })
        .collect();
    assert!(matches!(keyless.reason(&without), Reason::Bundle(BundleError::HalfEntry(_))));
    let unlogged: Vec<_> = bundles
        .iter()
        .map(|bundle| changed(bundle, |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([])))
        .collect();
    assert!(matches!(keyless.reason(&unlogged), Reason::Unlogged));
}

#[test]
fn leave_to_be_in_no_log_is_not_for_certificates() {
    let mut lenient = rule(&[]);
    lenient.identities = vec![identity()];
    lenient.allow_unlogged = true;
    let keyless = Keyless { publisher: Publisher { policy: policy(vec![lenient]), ..Publisher::new() } };
    let certified = keyless.publisher.authority.certify(&identity(), noon());
    assert!(keyless.publisher.evaluate(&keyless.bundles(&certified)).is_ok());
    let unlogged =
        |it| Signed::with_certificate(&statement(it), &certified.key, &certified.certificate).unwrap().unlogged();
    let unlogged = Attestation::ALL.map(|attestation| unlogged(attestation).unwrap());
    assert!(matches!(keyless.reason(&unlogged), Reason::Unlogged));
}

#[test]
fn another_authority_is_not_trusted() {
    let keyless = Keyless::new(&[identity()]);
    let impostor = Authority::new().certify(&identity(), noon());
    assert!(matches!(keyless.reason(&keyless.bundles(&impostor)), Reason::Certificate(_)));
    // A certificate that no log promised to list.
    let mut root: Value = serde_json::from_slice(&keyless.publisher.authority.trusted_root()).unwrap();
    let other: Value = serde_json::from_slice(&Authority::new().trusted_root()).unwrap();
    root["ctlogs"] = other["ctlogs"].clone();
    let root = TrustRoot::parse(root.to_string().as_bytes(), keyless.publisher.now).unwrap();
    let bundles = keyless.signed(&identity(), noon(), after(60));
    let now = keyless.publisher.now;
    let refusal = evaluate(&keyless.publisher.policy, &root, &package(), &digest(), &bundles, now).unwrap_err();
    assert!(refusal.rejected().iter().all(|it| matches!(it.reason, Reason::CertificateLog(_))), "{refusal}");
}

#[test]
fn a_signer_sees_its_own_signature_as_others_will() {
    let keyless = Keyless::new(&[identity()]);
    let root = keyless.publisher.root();
    let signed = keyless.signed(&identity(), noon(), after(60));
    assert_eq!(root.signer(&signed[0], &digest()).unwrap(), identity());
    assert!(root.signer(&signed[0], &Digest::of(b"other")).is_err());
    let expired = keyless.signed(&identity(), noon(), after(601));
    assert!(matches!(root.signer(&expired[0], &digest()), Err(Reason::CertificateExpired { .. })));
    keyless.publisher.authority.log.set_time(after(60));
    let impostor = keyless.bundles(&Authority::new().certify(&identity(), noon()));
    assert!(matches!(root.signer(&impostor[0], &digest()), Err(Reason::Certificate(_))));
    // By a key, nobody has a name.
    assert!(root.signer(&keyless.publisher.bundles()[0], &digest()).is_err());
}

#[test]
fn an_authority_is_asked_where_there_is_one_alone() {
    let mut root: Value = serde_json::from_slice(&Authority::new().trusted_root()).unwrap();
    let authority = |root: &Value| {
        let root = TrustRoot::parse(root.to_string().as_bytes(), noon()).unwrap();
        root.authority().map(str::to_owned)
    };
    assert_eq!(authority(&root).as_deref(), Some("https://ca.example"));
    let mut other = root["certificateAuthorities"][0].clone();
    other["uri"] = "https://other.example".into();
    root["certificateAuthorities"].as_array_mut().unwrap().push(other);
    assert_eq!(authority(&root), None);
    // One that has ended is trusted for what it certified, and certifies nothing more.
    root["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T00:00:00Z".into();
    assert_eq!(authority(&root).as_deref(), Some("https://other.example"));
    root["certificateAuthorities"] = json!([]);
    assert_eq!(authority(&root), None);
}

#[test]
fn a_certificate_is_for_its_own_key() {
    let keyless = Keyless::new(&[identity()]);
    let mut certified = keyless.publisher.authority.certify(&identity(), noon());
    assert!(keyless.publisher.evaluate(&keyless.bundles(&certified)).is_ok());
    certified.key = SigningKey::generate().unwrap();
    assert!(matches!(keyless.reason(&keyless.bundles(&certified)), Reason::Signature));
}

#[test]
fn a_key_and_an_identity_are_two_signers() {
    let publisher = Publisher::new();
    let mut two = rule(&[&publisher.key]);
    two.identities = vec![identity()];
    two.threshold = 2;
    let keyless = Keyless { publisher: Publisher { policy: policy(vec![two]), ..publisher } };
    let by_key = keyless.publisher.bundles();
    let by_identity = keyless.signed(&identity(), noon(), after(60));
    let verified = keyless.publisher.evaluate(&[by_key.clone(), by_identity].concat()).unwrap();
    assert_eq!(verified.signers.len(), 2);
    assert!(matches!(keyless.publisher.evaluate(&by_key), Err(Refusal::Threshold { found: 1, needed: 2, .. })));
    // Two certificates of one identity are one signer.
    let first = keyless.signed(&identity(), noon(), after(60));
    let second = keyless.signed(&identity(), noon(), after(61));
    assert!(matches!(keyless.publisher.evaluate(&[first, second].concat()), Err(Refusal::Threshold { found: 1, .. })));
}
