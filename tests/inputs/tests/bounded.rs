//! Every body over its corpus, and over a bounded number of inputs that are made from it, the same ones in every run.
//! `cargo xtask soak` has them go on, with others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{fs, path::Path};

use fastrand::Rng;

/// The inputs of `target` that are kept.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "`{target}` has no corpus");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The longest input that is made.
const LONGEST: usize = 1 << 15;

/// An input made from two others and some `words`.
fn mutated(random: &mut Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = random.choice(corpus).unwrap().clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        let end = random.usize(at..=bytes.len().min(at + 64));
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let word = random.choice(words).unwrap();
                bytes.splice(at..end, word.bytes());
            }
            4 => {
                let other = random.choice(corpus).unwrap();
                let from = random.usize(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let noise: Vec<u8> = (0..random.usize(1..16)).map(|_| random.u8(..)).collect();
                bytes.splice(at..at, noise);
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn run(target: &str, count: usize, words: &[&str], body: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|bytes| body(bytes));
    let mut random = witan_rounds::random();
    for round in witan_rounds::rounds(target, count) {
        let bytes = match round % 10 {
            9 => (0..random.usize(0..512)).map(|_| random.u8(..)).collect(),
            _ => mutated(&mut random, &corpus, words),
        };
        let told = std::panic::catch_unwind(|| body(&bytes));
        assert!(told.is_ok(), "`{target}` panics at {:?}: {bytes:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_answer_of_vault_makes_the_host_panic() {
    let words = [
        "\"data\"",
        ":",
        "{",
        "}",
        "null",
        "\"value\"",
        "\"lease_duration\"",
        "18446744073709551616",
        "\\u0000",
        "[",
        ",",
    ];
    run("vault", 2_000, &words, witan_inputs::vault);
}

#[test]
fn no_backup_makes_the_host_panic() {
    let words = [
        "\"files\"",
        "\"schema\"",
        "1",
        "2",
        "..",
        "/",
        "\"blake3\"",
        "18446744073709551615",
        "ustar",
        "\0",
        "0000777",
        "{}",
    ];
    run("backup", 2_000, &words, witan_inputs::backup);
}

#[test]
fn no_export_of_a_ledger_makes_its_reader_panic_or_says_what_was_not_logged() {
    let words = [
        "\"entry\":{}",
        "\"salt\"",
        "\"proof\":[]",
        "\"index\":18446744073709551615",
        "\"index\":0",
        "null",
        "\"signature\"",
        "\n",
        "\u{2014} ",
        "AAAA",
        ",",
        "}",
    ];
    run("export", 2_000, &words, witan_inputs::export);
}

#[test]
fn no_head_of_a_request_makes_the_host_panic() {
    let words = [
        "host: ",
        "origin: ",
        "cookie: ",
        "witan_login=",
        "x-forwarded-for: ",
        "priority: u=",
        "content-length: ",
        "\n",
        ":",
        ";",
        ",",
        "=",
        "[::1]:8080",
        "127.0.0.1",
        "localhost:8080",
        "https://witan.example",
        "http://",
        "\u{2a}",
        "9999999999999999999",
    ];
    run("request", 20_000, &words, witan_inputs::request);
}

#[test]
fn no_client_makes_the_host_panic() {
    let words = [
        "{\"",
        "\":",
        "}",
        "[",
        "]",
        "null",
        "\"intent\"",
        "\"input\"",
        "\"documents\"",
        "\"callback\"",
        "\"url\"",
        "https://",
        "whsec_",
        "\"events\"",
        "task.*",
        "*",
        "\"subscribe\"",
        "\"starting_after\"",
        "18446744073709551615",
        "\\u0000",
        ",",
    ];
    run("client", 20_000, &words, witan_inputs::client);
}

#[test]
fn no_manifest_makes_the_host_panic() {
    let words = [
        "[components.a]\n",
        "[[mounts]]\n",
        "source = \"a.wasm\"\n",
        "grants = {",
        "limits.memory = \"1GiB\"\n",
        "= [",
        "}",
        "\"",
        "'''",
        "\n\n",
        "1e999",
        "0x7f",
        "1979-05-27",
        "\u{0}",
        "é",
        "[limits]\n",
        "path = \"/../..\"",
        "-1",
        "nan",
    ];
    run("manifest", 2_000, &words, witan_inputs::manifest);
}

#[test]
fn no_policy_makes_the_host_panic() {
    let words = [
        "permit (principal, action, resource);",
        "forbid",
        "when {",
        "}",
        "@id(\"",
        "@privacy(\"local-only\")",
        "principal",
        "resource.tenant",
        "context.time.epoch",
        "Action::\"task.create\"",
        "?principal",
        "ip(\"",
        " in [",
        " has ",
        " like \"*",
        "9223372036854775807",
        "-",
        "!",
        "{\"uid\": {\"type\": \"User\", \"id\": \"a/b\"}},",
        "\"parents\": [",
        "[[case]]\n",
        "expect = \"deny\"\n",
        "\u{0}",
        "é",
        "//",
        "\n",
    ];
    run("policies", 1_000, &words, witan_inputs::policies);
}

#[test]
fn no_value_makes_the_host_panic() {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
        "some(",
        "none",
        "ok",
        "err(",
        "\"",
        "\"\"\"",
        "'",
        "\\u{",
        "\\",
        "nan",
        "-inf",
        "1e400",
        "18446744073709551616",
        "%some",
        "true",
        "name:",
        "\u{10ffff}",
        "//",
        "\n",
    ];
    run("wave", 4_000, &words, witan_inputs::wave);
}

#[test]
fn no_component_makes_the_host_panic() {
    let words = ["\0asm", "\x0d\0\x01\0", "\x01\0\0\0", "\u{7f}", "wasi:cli/run@0.2.0", "\0\0\0\0", "\x01\x01\x01"];
    run("component", 2_000, &words, witan_inputs::component);
}

#[test]
fn no_document_of_a_registry_makes_the_host_panic() {
    let words = [
        "{",
        "}",
        "[",
        "],",
        ":",
        ",",
        "\"",
        "null",
        "-1",
        "1e400",
        "18446744073709551616",
        "\"manifests\":[],",
        "\"layers\":[",
        "\"size\":",
        "\"subject\":",
        "\"annotations\":{",
        "\"mediaType\":\"application/wasm\"",
        "sha256:",
        "sha512:",
        "../",
        "@1.0.0",
        "\\u0000",
    ];
    run("registry", 10_000, &words, witan_inputs::registry);
}

#[test]
fn no_bundle_makes_the_host_panic_or_trust_it() {
    let words = [
        "{",
        "}",
        "[",
        "],",
        "\"",
        "null",
        "-1",
        "0",
        "\"signatures\":[",
        "\"tlogEntries\":[",
        "\"publicKey\":{},",
        "\"certificate\":{\"rawBytes\":\"MIIB\"},",
        "\"rfc3161Timestamps\":[{\"signedTimestamp\":\"MIIB\"}]",
        "\"kind\":\"hashedrekord\"",
        "0.0.2",
        "9223372036854775807",
        "\\n\\n",
        "\u{2014} ",
        "AAAA",
        "====",
    ];
    run("bundle", 3_000, &words, witan_inputs::bundle);
}

#[test]
fn no_list_of_dependencies_makes_the_host_panic() {
    let words =
        ["\0asm", "\x0d\0\x01\0", "\x01\0\0\0", "\x07.dep-v0", "x\u{9c}", "[", "{", "\"purl\":\"pkg:", "null", "-1"];
    run("dependencies", 5_000, &words, witan_inputs::dependencies);
}

#[test]
fn no_request_makes_the_registry_panic() {
    let words = [
        "/",
        "..",
        "%2e%2e",
        "%3A",
        "/manifests/",
        "/blobs/",
        "uploads/",
        "/tags/list",
        "/referrers/",
        "sha256:",
        "sha512:",
        "bytes=",
        "bytes ",
        "-",
        ",",
        "18446744073709551615",
        "18446744073709551616",
        "tile/0/",
        "x001/",
        ".p/",
        "\n\n",
        "\u{2014} log.example ",
        "\u{0}",
        "\u{e9}",
        "acme:pull,push",
    ];
    run("registry-request", 10_000, &words, witan_inputs::registry_request);
}

#[test]
fn credentials() {
    let words = [
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ",
        "eyJhbGciOiJSUzI1NiJ9",
        "eyJhbGciOiJub25lIn0",
        "eyJpc3MiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ",
        ".",
        "\n",
        "{\"keys\":[",
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\"}",
        "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\",\"y\":\"\"}",
        ",",
        "]}",
        "tasks:read",
        "*",
        "http://127.0.0.1:1/",
    ];
    run("credential", 10_000, &words, witan_inputs::credential);
}

/// A thread's stack is small, and how deep an input is nested is chosen by whoever wrote it.
#[test]
fn nesting_without_end_is_an_error() {
    for open in ["[", "(", "{", "some(", "{a:", "[[mounts]]\na = [", "a = {a = ", "a."] {
        let text = format!("schema = 1\na = {}", open.repeat(20_000));
        witan_inputs::manifest(text.as_bytes());
        witan_inputs::wave(open.repeat(20_000).as_bytes());
        witan_inputs::registry(open.repeat(5_000).as_bytes());
        witan_inputs::bundle(open.repeat(20_000).as_bytes());
        witan_inputs::dependencies(open.repeat(20_000).as_bytes());
        witan_inputs::credential(format!("a\n{}", open.repeat(20_000)).as_bytes());
    }
}
