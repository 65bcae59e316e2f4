//! What is signed in somebody's name, without a key, is verified by sigstore-python and by cosign.

use super::*;
use crate::keyless::{EMAIL, ISSUER, World as Author};
use witan_authority::Authority;

/// A version that was signed by the binary, and all that one must know to verify it.
fn signed() -> (Author, Version) {
    let author = Author::new();
    let sign =
        ["sign", "sums.wasm", "--package", "acme:sums@1.0.0", "--lock", "Cargo.lock", "--identity-token", "token"];
    let to = ["--transparency-log", &author.address, "--out", "signed"];
    author.home.run(&[&sign[..], &to[..]].concat()).well();
    let root = serde_json::from_slice(&fs::read(author.home.path("trusted_root.json")).unwrap()).unwrap();
    author.home.file("trust.json", client_trust(&root));
    let version = Version::read(&author.home.path("signed"));
    (author, version)
}

/// A trusted root in the form that `--trust-config` reads, with a signing configuration that names no services.
fn client_trust(root: &Value) -> String {
    let signing = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "rekorTlogConfig": { "selector": "ANY" },
        "tsaConfig": { "selector": "ANY" },
    });
    let media = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json";
    json!({ "mediaType": media, "trustedRoot": root, "signingConfig": signing }).to_string()
}

#[test]
fn sigstore_python_verifies_each_statement() {
    let Some(sigstore) = Tool::Sigstore.or_skip() else { return };
    let (author, version) = signed();
    let verify = |statement: &str, identity: &str, issuer: &str, digest: &str| {
        let bundle = format!("signed/{statement}.sigstore.json");
        let base = ["--trust-config", "trust.json", "verify", "identity", "--offline", "--bundle", &bundle];
        let whom = ["--cert-identity", identity, "--cert-oidc-issuer", issuer, digest];
        tool(&author.home, &sigstore, &[&base[..], &whom[..]].concat())
    };
    for statement in ["release", "provenance", "sbom"] {
        verify(statement, EMAIL, ISSUER, &version.digest).well();
    }
    let refused = |identity: &str, issuer: &str, digest: &str| {
        assert!(!verify("release", identity, issuer, digest).success, "{identity} of {issuer}, {digest}");
    };
    refused("other@acme.example", ISSUER, &version.digest);
    refused(EMAIL, "https://evil.example", &version.digest);
    refused(EMAIL, ISSUER, &Digest::of(b"other").to_string());
    // Another authority, which could sign the same names.
    let root: Value = serde_json::from_slice(&Authority::new().trusted_root()).unwrap();
    author.home.file("trust.json", client_trust(&root));
    refused(EMAIL, ISSUER, &version.digest);
}

#[test]
fn cosign_verifies_a_name_in_our_registry() {
    let Some(cosign) = Tool::Cosign.or_skip() else { return };
    let author = Author::new();
    author.publish(&["--identity-token", "token"]).well();
    docker_login(&author.home, &author.served.host, &author.served.token(&author.home, "acme:pull").1);
    let reference = format!("{}/components/acme/sums:1.0.0", author.served.host);
    let verify = |command: &[&str], identity: &str, issuer: &str| {
        let whom = ["--certificate-identity", identity, "--certificate-oidc-issuer", issuer];
        let how = ["--trusted-root", "trusted_root.json", "--allow-http-registry", &reference];
        tool(&author.home, &cosign, &[command, &whom[..], &how[..]].concat())
    };
    verify(&["verify"], EMAIL, ISSUER).well();
    for kind in ["urn:witan:release:v1", "slsaprovenance1", "cyclonedx"] {
        verify(&["verify-attestation", "--type", kind], EMAIL, ISSUER).well();
    }
    for (identity, issuer) in [("other@acme.example", ISSUER), (EMAIL, "https://evil.example")] {
        assert!(!verify(&["verify"], identity, issuer).success, "{identity} of {issuer}");
        let attestation = ["verify-attestation", "--type", "cyclonedx"];
        assert!(!verify(&attestation, identity, issuer).success, "{identity} of {issuer}");
    }
}
