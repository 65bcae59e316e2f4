//! sigstore-python verifies what an identity signed.

use super::*;
use witan_authority::{Authority, noon};
use witan_registry_sign::{Attestation, Identity, Release, Signed, Statement, Subject};

/// A bundle signed by an identity of a test authority, and all that one must know to verify it.
struct Keyless {
    home: Home,
    digest: Digest,
}

const EMAIL: &str = "author@acme.example";
const ISSUER: &str = "https://accounts.example";

impl Keyless {
    fn new() -> Self {
        let home = Home::new();
        let authority = Authority::new();
        let digest = Digest::of(b"the manifest");
        let identity = Identity { issuer: ISSUER.to_owned(), subject: Subject::Email(EMAIL.to_owned()) };
        let certified = authority.certify(&identity, noon());
        let statement = Statement {
            package: "acme:sums@1.0.0".parse().unwrap(),
            digest,
            attestation: Attestation::Release,
            predicate: Release::new(Default::default(), Digest::of(b"wit")).to_predicate(),
        };
        let signed = Signed::with_certificate(&statement, &certified.key, &certified.certificate).unwrap();
        let entry = authority.log.append(&signed.entry_body().unwrap());
        home.file("bundle.json", signed.logged(&entry).unwrap());
        let root: Value = serde_json::from_slice(&authority.trusted_root()).unwrap();
        home.file("trust.json", client_trust(&root));
        Self { home, digest }
    }

    fn verify(&self, sigstore: &Found, identity: &str, issuer: &str, digest: &Digest) -> Said {
        let mut command = sigstore.command();
        command.current_dir(self.home.path("")).env("HOME", self.home.path("")).env_remove("XDG_CACHE_HOME");
        command.args(["--trust-config", "trust.json", "verify", "identity", "--offline", "--bundle", "bundle.json"]);
        command.args(["--cert-identity", identity, "--cert-oidc-issuer", issuer, &digest.to_string()]);
        Said::of(&command.output().unwrap())
    }
}

/// A trusted root in the form that `--trust-config` reads, with a signing configuration that names no services.
pub(super) fn client_trust(root: &Value) -> String {
    let signing = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "rekorTlogConfig": { "selector": "ANY" },
        "tsaConfig": { "selector": "ANY" },
    });
    let media = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json";
    json!({ "mediaType": media, "trustedRoot": root, "signingConfig": signing }).to_string()
}

#[test]
fn sigstore_python_verifies_what_an_identity_signed() {
    let Some(sigstore) = Tool::Sigstore.or_skip() else { return };
    let keyless = Keyless::new();
    keyless.verify(&sigstore, EMAIL, ISSUER, &keyless.digest).well();
    assert!(!keyless.verify(&sigstore, "other@acme.example", ISSUER, &keyless.digest).success);
    assert!(!keyless.verify(&sigstore, EMAIL, "https://evil.example", &keyless.digest).success);
    assert!(!keyless.verify(&sigstore, EMAIL, ISSUER, &Digest::of(b"other")).success);
    // Another authority, which signs the same names.
    let root: Value = serde_json::from_slice(&Authority::new().trusted_root()).unwrap();
    keyless.home.file("trust.json", client_trust(&root));
    assert!(!keyless.verify(&sigstore, EMAIL, ISSUER, &keyless.digest).success);
}
