//! What is asked of cargo, rustc and rustup, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::thread;

use serde::Deserialize;

use crate::{BuildError, Progress};

/// A target whose output can be, or become, a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// No operating system: the output is a module, which we wrap, and imports nothing that its WIT does not name.
    Unknown,
    /// WASI 0.2 under the standard library: rustc's linker makes the component.
    Wasip2,
}

impl Target {
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Unknown => "wasm32-unknown-unknown",
            Self::Wasip2 => "wasm32-wasip2",
        }
    }

    fn parse(package: &str, target: Option<String>) -> Result<Self, BuildError> {
        match target.as_deref() {
            None | Some("wasm32-unknown-unknown") => Ok(Self::Unknown),
            Some("wasm32-wasip2") => Ok(Self::Wasip2),
            Some(_) => {
                Err(BuildError::UnknownTarget { package: package.to_owned(), target: target.unwrap_or_default() })
            }
        }
    }

    /// Whether an output of this target that comes from a target of `kinds` is one that runs.
    fn makes(self, kinds: &[String]) -> bool {
        let is = |kind: &str| kinds.iter().any(|own| own == kind);
        is("cdylib") || (self == Self::Wasip2 && is("bin"))
    }
}

/// A file that cargo built and that a component is made from.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Artifact {
    /// What the component is called.
    pub(crate) name: String,
    /// The folder of its package.
    pub(crate) package: PathBuf,
    /// Where the file is.
    pub(crate) file: PathBuf,
}

/// A workspace of guests and where cargo builds it.
pub(crate) struct Cargo<'a> {
    pub(crate) workspace: &'a Path,
    pub(crate) target_folder: &'a Path,
    pub(crate) progress: &'a Progress,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    #[serde(default)]
    metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        target: ArtifactTarget,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ArtifactTarget {
    name: String,
    kind: Vec<String>,
}

impl Cargo<'_> {
    /// Builds every package of the workspace for the target it asks for.
    pub(crate) fn build(&self) -> Result<Vec<Artifact>, BuildError> {
        let mut by_target = BTreeMap::<Target, Vec<Package>>::new();
        for package in self.packages()? {
            let target = Target::parse(&package.name, asked_target(&package))?;
            by_target.entry(target).or_default().push(package);
        }
        let mut artifacts = BTreeSet::new();
        for (target, packages) in by_target {
            self.install(target)?;
            artifacts.extend(self.build_for(target, &packages)?);
        }
        Ok(artifacts.into_iter().collect())
    }

    fn packages(&self) -> Result<Vec<Package>, BuildError> {
        let mut command = self.command("cargo");
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().map_err(|source| BuildError::Start { program: "cargo", source })?;
        if !output.status.success() {
            return Err(self.failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|source| self.unreadable(source))?;
        Ok(metadata.packages)
    }

    /// Installs `target` unless the toolchain of the checkout has it: where rustup's automatic installation is off,
    /// naming it in `rust-toolchain.toml` installs nothing.
    fn install(&self, target: Target) -> Result<(), BuildError> {
        let triple = target.triple();
        let mut rustc = self.command("rustc");
        rustc.args(["--print", "target-libdir", "--target", triple]);
        let output = rustc.output().map_err(|source| BuildError::Start { program: "rustc", source })?;
        if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
            return Ok(());
        }
        self.progress.step(&format!("installing the target {triple}"));
        let mut rustup = self.command("rustup");
        rustup.args(["target", "add", triple]);
        let output =
            rustup.output().map_err(|source| BuildError::Target { target: triple, output: source.to_string() })?;
        if output.status.success() {
            return Ok(());
        }
        Err(BuildError::Target { target: triple, output: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    fn build_for(&self, target: Target, packages: &[Package]) -> Result<Vec<Artifact>, BuildError> {
        let mut command = self.command("cargo");
        command.args(["build", "--release", "--message-format", "json-render-diagnostics"]);
        command.args(["--target", target.triple()]).arg("--target-dir").arg(self.target_folder);
        for package in packages {
            command.args(["--package", &package.id]);
        }
        let start = |source| BuildError::Start { program: "cargo", source };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
        let diagnostics = child.stderr.take().map(|stderr| self.watch(stderr));
        let mut answer = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut answer).map_err(start)?;
        }
        let status = child.wait().map_err(start)?;
        let diagnostics = diagnostics.and_then(|reader| reader.join().ok()).unwrap_or_default();
        if !status.success() {
            return Err(self.failed(diagnostics));
        }
        artifacts(target, packages, &answer).map_err(|source| self.unreadable(source))
    }

    /// Shows cargo's lines as they come, and keeps them for the error. On a thread of its own, since cargo blocks
    /// when either pipe is full.
    fn watch(&self, stderr: ChildStderr) -> thread::JoinHandle<String> {
        let progress = self.progress.clone();
        thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                progress.step(&line);
                all.push_str(&line);
                all.push('\n');
            }
            all
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.workspace).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if belongs_to_outer_build(&name) {
                command.env_remove(name);
            }
        }
        command
    }

    fn failed(&self, output: String) -> BuildError {
        BuildError::Cargo { workspace: self.workspace.to_owned(), output }
    }

    fn unreadable(&self, source: serde_json::Error) -> BuildError {
        BuildError::Answer { workspace: self.workspace.to_owned(), source }
    }
}

/// Whether an environment variable was set by, or meant for, the build that made this program: its flags are for
/// another target. What says how cargo reaches the network and its own home stays.
fn belongs_to_outer_build(name: &OsStr) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const REMOVED: [&str; 8] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "MAKEFLAGS",
        "OUT_DIR",
    ];
    let Some(name) = name.to_str() else {
        return false;
    };
    let is_cargos = name == "CARGO" || name.starts_with("CARGO_");
    REMOVED.contains(&name) || (is_cargos && !KEPT.iter().any(|kept| name.starts_with(kept)))
}

/// The target that a package names under `[package.metadata.witan]`.
fn asked_target(package: &Package) -> Option<String> {
    package.metadata.as_ref()?.get("witan")?.get("target")?.as_str().map(str::to_owned)
}

/// The components among the files that cargo reports. A library is called like its package, a program like itself.
fn artifacts(target: Target, packages: &[Package], answer: &str) -> Result<Vec<Artifact>, serde_json::Error> {
    let mut found = Vec::new();
    for line in answer.lines() {
        let Message::CompilerArtifact { package_id, target: built, filenames } = serde_json::from_str(line)? else {
            continue;
        };
        let Some(package) = packages.iter().find(|package| package.id == package_id) else {
            continue;
        };
        let is_program = built.kind.iter().any(|kind| kind == "bin");
        let file = filenames.into_iter().find(|file| file.extension() == Some(OsStr::new("wasm")));
        if let Some(file) = file.filter(|_| target.makes(&built.kind)) {
            let name = if is_program { built.name } else { package.name.clone() };
            let package = package.manifest_path.parent().unwrap_or(Path::new("")).to_owned();
            found.push(Artifact { name, package, file });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, metadata: serde_json::Value) -> Package {
        let manifest_path = Path::new("/x").join(name).join("Cargo.toml");
        Package { id: format!("path+file:///x#{name}"), name: name.to_owned(), manifest_path, metadata: Some(metadata) }
    }

    fn message(package: &str, target: &str, kind: &str, file: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact", "package_id": format!("path+file:///x#{package}"),
            "target": {"name": target, "kind": [kind]}, "filenames": [file],
        })
        .to_string()
    }

    #[test]
    fn a_package_names_its_target_or_gets_the_one_without_an_operating_system() {
        let with = package("a", serde_json::json!({"witan": {"target": "wasm32-wasip2"}}));
        let without = package("b", serde_json::json!({"other": 1}));
        assert_eq!(Target::parse("a", asked_target(&with)).unwrap(), Target::Wasip2);
        assert_eq!(Target::parse("b", asked_target(&without)).unwrap(), Target::Unknown);
        let error = Target::parse("c", Some("x86_64-unknown-linux-gnu".to_owned())).unwrap_err();
        assert!(error.to_string().contains("`x86_64-unknown-linux-gnu`"), "{error}");
    }

    #[test]
    fn libraries_are_named_like_their_package_and_programs_like_themselves() {
        let packages = [package("tool-files", serde_json::Value::Null)];
        let answer = [
            message("tool-files", "tool_files", "cdylib", "/t/tool_files.wasm"),
            message("tool-files", "build-script-build", "custom-build", "/t/build"),
            message("tool-files", "say-hello", "bin", "/t/say-hello.wasm"),
            message("other", "other", "cdylib", "/t/other.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let names = |target| -> Vec<String> {
            artifacts(target, &packages, &answer).unwrap().into_iter().map(|artifact| artifact.name).collect()
        };
        assert_eq!(names(Target::Unknown), ["tool-files"]);
        assert_eq!(names(Target::Wasip2), ["tool-files", "say-hello"]);
    }

    #[test]
    fn the_outer_build_does_not_leak_into_the_inner_one() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_MAKEFLAGS",
        ] {
            assert!(belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_TOKEN", "RUSTUP_TOOLCHAIN", "PATH", "HOME"]
        {
            assert!(!belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
    }
}
