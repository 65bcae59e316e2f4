//! Why a build fails, and what the person who ran it can do about it.

use std::io;
use std::path::PathBuf;

/// Why the components of a checkout could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The checkout has no such workspace.
    #[error("`{0}` does not exist; restore it with `git checkout`")]
    NoWorkspace(PathBuf),
    /// A program of the Rust toolchain could not be started.
    #[error("cannot start `{program}`; install Rust from https://rustup.rs and see that `{program}` is on PATH")]
    Start {
        /// The program.
        program: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A wasm target is missing and could not be installed.
    #[error(
        "the Rust target `{target}` is missing and could not be installed; run `rustup target add {target}` in the \
         checkout\n{output}"
    )]
    Target {
        /// The target triple.
        target: &'static str,
        /// What rustup said.
        output: String,
    },
    /// A package asks for a target that cannot become a component.
    #[error(
        "`{package}` asks for the target `{target}` in `package.metadata.witan`; use `wasm32-unknown-unknown` or \
         `wasm32-wasip2`"
    )]
    UnknownTarget {
        /// The package.
        package: String,
        /// What it asks for.
        target: String,
    },
    /// Cargo failed.
    #[error("cargo could not build `{workspace}`\n{output}")]
    Cargo {
        /// The workspace's folder.
        workspace: PathBuf,
        /// What cargo and rustc said.
        output: String,
    },
    /// Cargo answered with something other than its documented JSON.
    #[error("cannot read what cargo says about `{workspace}`; update Rust with `rustup update`")]
    Answer {
        /// The workspace's folder.
        workspace: PathBuf,
        /// What was wrong with it.
        source: serde_json::Error,
    },
    /// The ceiling of a component cannot be read.
    #[error("`{}` is no ceiling; write it in the words of grants, as docs/publishing.md shows", .path.display())]
    Ceiling {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// What was built cannot be signed.
    #[error("cannot sign what was built")]
    Sign(#[from] witan_admission::DevelopmentError),
    /// A module could not be made a component.
    #[error("cannot make a component of `{name}`; check the WIT that its bindings were generated from")]
    Encode {
        /// The component's name.
        name: String,
        /// What the encoder said.
        source: anyhow::Error,
    },
    /// Two packages of one workspace would write the same file.
    #[error("two packages of `{workspace}` build a component called `{name}`; rename one")]
    SameName {
        /// The workspace's folder.
        workspace: PathBuf,
        /// The name.
        name: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot access `{path}`; check its permissions and the free disk space")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BuildError {
    /// Names `path` in an error of the file system.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
