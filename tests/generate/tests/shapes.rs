//! What the generator makes of an interface, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::{fs, path::Path};

const TYPES: &str = "package witan:sample@0.1.0-draft;
interface types {
  variant error { no, call-failed(string) }
  record item { media-type: string }
}
";

/// A checkout with one package, whose interface `sample` holds `body`.
fn generate(body: &str) -> anyhow::Result<Vec<witan_generate::File>> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("wit/sample");
    fs::create_dir_all(&folder)?;
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rustfmt.toml"), root.path().join("rustfmt.toml"))?;
    fs::write(folder.join("types.wit"), TYPES)?;
    fs::write(folder.join("sample.wit"), format!("/// A sample.\ninterface sample {{ {body} }}\n"))?;
    witan_generate::generate(root.path())
}

fn text(files: &[witan_generate::File], path: &str) -> String {
    let file = files.iter().find(|file| file.path == Path::new(path)).unwrap();
    String::from_utf8(file.bytes.clone()).unwrap()
}

#[test]
fn a_stream_becomes_a_list_or_a_resource_in_the_twin() {
    let files = generate(
        "use types.{item, error};
        /// Runs.
        run: async func(items: stream<item>, most: u32) -> tuple<stream<item>, future<result<u64, error>>>;
        look: async func(name: option<string>) -> result<_, error>;",
    )
    .unwrap();
    let twin = text(&files, "wit/sample/sample-sync.wit");
    for line in [
        "/// A sample.",
        "interface sample-sync {",
        "  use types.{item, error};",
        "  resource run-run {",
        "    next: func() -> option<item>;",
        "    verdict: static func(run: run-run) -> result<u64, error>;",
        "  /// Runs.",
        "  run: func(items: list<item>, most: u32) -> run-run;",
        "  look: func(name: option<string>) -> result<_, error>;",
    ] {
        assert!(twin.lines().any(|other| other == line), "`{line}` is missing in\n{twin}");
    }
    let rust = text(&files, "host/forward/src/generated/sample.rs");
    for part in ["pub trait Sample", "items: Incoming<Item>", "#[component(name = \"media-type\")]", "pub media_type"] {
        assert!(rust.contains(part), "`{part}` is missing in\n{rust}");
    }
}

#[test]
fn shapes_that_no_forwarder_carries_are_refused_by_name() {
    for (body, told) in [
        ("look: func();", "not an `async func`"),
        ("record mine { a: u8 } look: async func() -> mine;", "move it to `types`"),
        ("resource thing; look: async func();", "`thing`"),
        ("run: async func() -> tuple<stream<u8>, future<u8>>;", "`call-failed`"),
        ("look: async func() -> stream<u8>;", "no synchronous form"),
    ] {
        let error = format!("{:#}", generate(body).unwrap_err());
        assert!(error.contains(told), "{body}: {error}");
    }
}
