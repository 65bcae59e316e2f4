//! What is checked in is what the generator writes.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn generated_files_are_up_to_date() {
    for file in witan_generate::generate(root()).unwrap() {
        let bytes = fs::read(root().join(&file.path)).unwrap_or_default();
        assert!(bytes == file.bytes, "`{}` is out of date: run `cargo xtask generate`", file.path.display());
    }
}

/// A twin whose interface is gone would still be served to nobody.
#[test]
fn no_twin_is_without_its_interface() {
    let generated = witan_generate::generate(root()).unwrap();
    for package in fs::read_dir(root().join("wit")).unwrap() {
        for file in fs::read_dir(package.unwrap().path()).into_iter().flatten() {
            let path = file.unwrap().path();
            let relative = path.strip_prefix(root()).unwrap();
            if relative.to_string_lossy().ends_with("-sync.wit") {
                assert!(generated.iter().any(|file| file.path == relative), "`{}` is left over", relative.display());
            }
        }
    }
}
