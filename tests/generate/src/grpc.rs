//! Rust of our protocol buffers, and their description for reflection.

use std::{fs, path::Path};

use anyhow::Context as _;
use prost::Message as _;

use crate::File;

/// Where the sources are, and where what follows from them belongs.
const SOURCES: &str = "host/grpc/proto";
const GENERATED: &str = "host/grpc/src/generated";
const FILES: [&str; 1] = ["witan/v1/tasks.proto"];

/// Generates the messages, the server and the client of each service under `root`, if there are any.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let sources = root.join(SOURCES);
    if !sources.is_dir() {
        return Ok(Vec::new());
    }
    let described = protox::compile(FILES.map(|file| sources.join(file)), [&sources])
        .with_context(|| format!("cannot read `{}`", sources.display()))?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(described.clone())
        .context("cannot generate the Rust of protocol buffers")?;
    let mut written = fs::read_dir(out.path())?.collect::<Result<Vec<_>, _>>()?;
    written.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in written {
        let text = crate::format_rust(root, &fs::read_to_string(entry.path())?)?;
        files.push(File { path: Path::new(GENERATED).join(entry.file_name()), bytes: text.into_bytes() });
    }
    // Who reflects wants to know names and shapes; comments and positions are most of the bytes.
    let mut bare = described;
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    files.push(File { path: Path::new(GENERATED).join("descriptors.binpb"), bytes: bare.encode_to_vec() });
    Ok(files)
}
