//! Signs the corpus of the fuzz targets `bundle`, `registry` and `dependencies` anew:
//! `cargo run -p witan-authority --example corpus`. The keys are gone afterwards.

#![allow(clippy::unwrap_used, reason = "a tool of the tests may stop at what it did not expect")]

use std::fs;
use std::path::Path;

use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};
use witan_authority::{Authority, noon};
use witan_registry_sign::{
    Attestation, Embedded, Identity, LocalBuild, Provenance, Release, Sbom, Signed, SigningKey, Statement, Subject,
};
use witan_registry_types::{
    BundleManifest, ComponentConfig, ComponentInterfaces, ComponentManifest, Descriptor, Digest, Package, media,
};

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The bytes after their number, as a section of WebAssembly has it.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let number = [bytes.len() as u8 & 0x7f | 0x80, (bytes.len() >> 7) as u8];
    [&number[..], bytes].concat()
}

fn predicate(attestation: Attestation, package: &Package) -> Value {
    match attestation {
        Attestation::Release => Release::new(Default::default(), Digest::of(b"wit")).to_predicate(),
        Attestation::Sbom => Sbom::of_embedded(package, &Embedded::default()).unwrap().to_predicate(),
        Attestation::Provenance => {
            let (command, tools) = ("witan build".to_owned(), Vec::new());
            let build = LocalBuild { command, tools, source: None, started: noon(), finished: noon() };
            Provenance::local(&build).to_predicate()
        }
    }
}

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let corpus = tests.join("fuzz/corpus");
    let package: Package = "acme:tool@1.2.3".parse().unwrap();
    let digest = Digest::of(b"the manifest");
    let authority = Authority::new();
    let key = SigningKey::generate().unwrap();
    let issuer = "https://accounts.example";
    let identity = Identity { issuer: issuer.to_owned(), subject: Subject::Email("a@acme.example".to_owned()) };
    let certified = authority.certify(&identity, noon());
    let rule = json!({
        "packages": "acme:*",
        "keys": [{ "key": key.public().to_pem() }],
        "identities": [{ "issuer": issuer, "email": "a@acme.example" }],
        "require": ["release"],
    });
    write(&tests.join("inputs/signed/policy.json"), json!({ "rules": [rule] }).to_string().as_bytes());
    write(&tests.join("inputs/signed/trusted_root.json"), &authority.trusted_root());
    write(&corpus.join("bundle/trusted-root"), &authority.trusted_root());
    write(&corpus.join("bundle/policy"), json!({ "rules": [rule] }).to_string().as_bytes());
    write(&corpus.join("bundle/key"), key.public().to_pem().as_bytes());

    for attestation in Attestation::ALL {
        let predicate = predicate(attestation, &package);
        let name = format!("{attestation:?}").to_lowercase();
        write(&corpus.join(format!("dependencies/{name}")), predicate.to_string().as_bytes());
        let statement = Statement { package: package.clone(), digest, attestation, predicate };
        for (by, signed) in [
            ("key", Signed::with_key(&statement, &key)),
            ("certificate", Signed::with_certificate(&statement, &certified.key, &certified.certificate)),
        ] {
            let signed = signed.unwrap();
            let entry = authority.log.append(&signed.entry_body().unwrap());
            write(&corpus.join(format!("bundle/{name}-{by}")), &signed.logged(&entry).unwrap());
            if attestation == Attestation::Release {
                write(&corpus.join(format!("bundle/entry-{by}")), &entry.to_json().unwrap());
                write(&corpus.join(format!("bundle/unlogged-{by}")), &signed.unlogged().unwrap());
            }
        }
    }

    let interfaces = ComponentInterfaces { exports: vec!["witan:tools/tool@0.1.0".to_owned()], ..Default::default() };
    let config = ComponentConfig::new("2025-01-01T12:00:00Z".to_owned(), Digest::of(b"\0asm"), interfaces).to_json();
    let component = ComponentManifest::new(&config, b"\0asm").to_json();
    let subject = Descriptor::of(media::MANIFEST, &component);
    let bundle = BundleManifest::new(subject.clone(), b"bundle", Attestation::Release.predicate_type()).to_json();
    let referrers = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [subject] }).to_string();
    for (name, bytes) in [
        ("config", config.as_slice()),
        ("component", &component),
        ("bundle", &bundle),
        ("referrers", referrers.as_bytes()),
        ("package", b"acme:tool@1.2.3-rc.1"),
        ("reference", b"[::1]:5000/components/acme/tool:1.2.3"),
        ("digest", digest.to_string().as_bytes()),
    ] {
        write(&corpus.join("registry").join(name), bytes);
    }
    let list = json!({ "packages": [
        { "name": "tool", "version": "1.2.3", "source": "local", "root": true, "dependencies": [1] },
        { "name": "serde", "version": "1.0.0", "source": "crates.io" },
    ] });
    let section = [b"\x07.dep-v0".to_vec(), compress_to_vec_zlib(list.to_string().as_bytes(), 6)].concat();
    let module = [b"\0asm\x01\0\0\0\0".to_vec(), counted(&section)].concat();
    write(&corpus.join("dependencies/module"), &module);
    write(&corpus.join("dependencies/component"), &[b"\0asm\x0d\0\x01\0\x01".to_vec(), counted(&module)].concat());
    let ceiling = json!({
        "filesystem": [{ "guest": "/docs", "access": "read-write", "max-bytes": "1MiB" }, { "task": true }],
        "http": [{ "host": "*.example.com", "methods": ["GET", "POST"], "path-prefix": "/v1", "port": "*" }],
        "sockets": [{ "host": "*", "port": 5432, "private": true }],
        "environment": ["HOME"], "config": ["*"], "wall-clock": true, "logging": true,
        "keyvalue": { "max-bytes": "1MiB" }, "tools": ["*.read"],
    });
    write(&corpus.join("bundle/ceiling"), ceiling.to_string().as_bytes());
}
