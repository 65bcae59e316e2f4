//! Generates what follows from our WIT: the synchronous twin of each interface, and the Rust of `host/forward`; and what
//! follows from our protocol buffers: the Rust of `host/grpc`.
//!
//! All is checked in, so that nobody needs this to build, and a reader can see what runs. `cargo xtask generate`
//! writes them; a test fails when what is checked in is not what would be written.

mod grpc;
mod interface;
mod name;
mod package;
mod source;
mod twin;
mod types;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::source::Source;

/// A generated file.
#[derive(Debug)]
pub struct File {
    /// Where it belongs, from the root of the checkout.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Generates all files of the checkout at `root`.
///
/// # Errors
/// When the WIT there does not parse, or has a shape that twins or forwarders do not cover.
pub fn generate(root: &Path) -> anyhow::Result<Vec<File>> {
    let source = Source::read(&root.join("wit"))?;
    let mut files = Vec::new();
    for package in source.packages() {
        for interface in package.interfaces.iter().filter(|interface| interface.has_functions(&source)) {
            let path = format!("wit/{}/{}-sync.wit", package.name, interface.name);
            files.push(File { path: path.into(), bytes: twin::wit(&source, interface)?.into_bytes() });
        }
        let path = format!("host/forward/src/generated/{}.rs", name::snake(&package.name));
        let text = package::rust(&source, package)
            .with_context(|| format!("cannot generate the forwarders of `witan:{}`", package.name))?;
        files.push(File { path: path.into(), bytes: format_rust(root, &text)?.into_bytes() });
    }
    let text = format_rust(root, &package::root(&source))?;
    files.push(File { path: "host/forward/src/generated/mod.rs".into(), bytes: text.into_bytes() });
    files.extend(grpc::files(root)?);
    Ok(files)
}

/// Writes all files of the checkout at `root`, and says which of them changed.
///
/// # Errors
/// As [`generate`], and when a file cannot be written.
pub fn write(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for file in generate(root)? {
        let path = root.join(&file.path);
        if fs::read(&path).is_ok_and(|bytes| bytes == file.bytes) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, file.bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        changed.push(file.path);
    }
    Ok(changed)
}

fn format_rust(root: &Path, text: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `rustfmt`; install it with `rustup component add rustfmt`")?;
    let Some(mut input) = child.stdin.take() else { bail!("`rustfmt` has no standard input") };
    // It reads all before it writes anything, so that this cannot block.
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "`rustfmt` failed: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
