//! A checkout of this project, and its workspaces of guests.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use witan_admission::{BUNDLE_SUFFIX, Development, bundle_path};
use witan_system::Ceiling;

use crate::cargo::{Artifact, Cargo};
use crate::component::{encode, write_if_changed};
use crate::fingerprint::fingerprint;
use crate::{BuildError, Progress};

/// Says what the components in a build folder were made from.
const STAMP: &str = ".fingerprint";

/// What a folder must hold, relative to it, to be a checkout of this project.
const LANDMARKS: [&str; 4] = ["Cargo.toml", "host/build/src/checkout.rs", "components/Cargo.toml", "wit"];

/// A checkout of this project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    root: PathBuf,
}

/// A workspace of guests in a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspace {
    /// `components/`: what we ship.
    Components,
    /// `tests/programs/`: what exists to be tested.
    Programs,
}

/// A component that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its name, that of its package.
    pub name: String,
    /// Where its bytes are.
    pub path: PathBuf,
    /// Whether the bytes differ from those that were there before.
    pub changed: bool,
}

impl Workspace {
    fn folder(self) -> &'static str {
        match self {
            Self::Components => "components",
            Self::Programs => "tests/programs",
        }
    }
}

impl Checkout {
    /// The checkout that the running program was built in and still runs from; none for an installed program, even
    /// where the sources it was built from are still on the disk.
    ///
    /// The current folder has no say: whoever can make a person run `witan` in a folder of theirs could otherwise
    /// have it run their build scripts.
    #[must_use]
    pub fn find() -> Option<Self> {
        let program = env::current_exe().ok()?;
        let target_folder = program.ancestors().find(|folder| is_cargos_target_folder(folder))?;
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        built_from.ancestors().chain(target_folder.ancestors()).find_map(Self::at)
    }

    /// The checkout whose root is `root`, if that is one.
    #[must_use]
    pub fn at(root: &Path) -> Option<Self> {
        let is_checkout = LANDMARKS.iter().all(|landmark| root.join(landmark).exists());
        is_checkout.then(|| Self { root: root.to_owned() })
    }

    /// Its root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that the components of `workspace` are written to, each as `<name>.wasm`.
    #[must_use]
    pub fn build_folder(&self, workspace: Workspace) -> PathBuf {
        self.root.join(workspace.folder()).join("build")
    }

    /// Makes the components of `workspace` unless nothing that goes into them has changed since they were made, in
    /// which case no other program is started.
    ///
    /// # Errors
    /// As [`Checkout::build`].
    pub fn build_missing(&self, workspace: Workspace, progress: &Progress) -> Result<Vec<Built>, BuildError> {
        let sources = self.fingerprint(workspace)?;
        match self.stamped(workspace, &sources) {
            Some(built) => Ok(built),
            None => self.build(workspace, progress),
        }
    }

    /// Makes the components of `workspace`. Cargo decides what to compile, in a target folder of its own; a missing
    /// wasm target is installed first. A file whose bytes come out the same is left alone.
    ///
    /// # Errors
    /// Where the toolchain is missing, the sources do not compile, or a result is no component.
    pub fn build(&self, workspace: Workspace, progress: &Progress) -> Result<Vec<Built>, BuildError> {
        progress.begin(workspace.folder());
        let built = self.build_all(workspace, progress);
        progress.end();
        built
    }

    fn build_all(&self, workspace: Workspace, progress: &Progress) -> Result<Vec<Built>, BuildError> {
        let folder = self.root.join(workspace.folder());
        if !folder.join("Cargo.toml").exists() {
            return Err(BuildError::NoWorkspace(folder));
        }
        // Taken first: a source that changes during the build then differs from the stamp, and is built next time.
        let sources = self.fingerprint(workspace)?;
        let target_folder = self.target_folder().map_err(BuildError::file("CARGO_TARGET_DIR"))?;
        let output = self.build_folder(workspace);
        let built = build_in(&folder, &output, &target_folder, progress)?;
        remove_others(&output, &built)?;
        self.stamp(workspace, &sources, &built)?;
        Ok(built)
    }

    /// Where cargo builds guests: beside the host's own folders, which have another profile and lock.
    ///
    /// # Errors
    /// Where the current folder is not known.
    pub fn target_folder(&self) -> io::Result<PathBuf> {
        let base = env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from);
        std::path::absolute(base.join("guests"))
    }

    /// A digest of what the components of `workspace` are made from, and the key that signs them.
    fn fingerprint(&self, workspace: Workspace) -> Result<String, BuildError> {
        let roots =
            [workspace.folder(), "wit", "sdk", "host/build", "rust-toolchain.toml"].map(|root| self.root.join(root));
        let digest = fingerprint(roots.iter().map(PathBuf::as_path)).map_err(BuildError::file(&self.root))?;
        Ok(format!("{digest} {}", development()?.id()?))
    }

    /// What the last build of `workspace` made, if it was made from `sources` and is all there. The stamp's first
    /// line is the fingerprint, the others the names.
    fn stamped(&self, workspace: Workspace, sources: &str) -> Option<Vec<Built>> {
        let folder = self.build_folder(workspace);
        let stamp = fs::read_to_string(folder.join(STAMP)).ok()?;
        let mut lines = stamp.lines();
        if lines.next() != Some(sources) {
            return None;
        }
        lines
            .map(|name| Built { name: name.to_owned(), path: component_path(&folder, name), changed: false })
            .map(|built| (built.path.is_file() && bundle_path(&built.path).is_file()).then_some(built))
            .collect()
    }

    fn stamp(&self, workspace: Workspace, sources: &str, built: &[Built]) -> Result<(), BuildError> {
        let names = built.iter().map(|built| built.name.as_str());
        let lines: Vec<&str> = std::iter::once(sources).chain(names).collect();
        write_if_changed(&self.build_folder(workspace).join(STAMP), lines.join("\n").as_bytes()).map(drop)
    }
}

/// Makes the components of the cargo workspace or package in `folder` and puts them into `output`, each as `NAME.wasm` with
/// the signature of this machine beside it. Cargo builds in `target_folder`.
///
/// What a component may ever need is what `ceiling.toml` beside its `Cargo.toml` says, else the one beside the workspace's;
/// without either, nothing beyond the baseline.
///
/// # Errors
/// As [`Checkout::build`].
pub fn build(
    folder: &Path,
    output: &Path,
    target_folder: &Path,
    progress: &Progress,
) -> Result<Vec<Built>, BuildError> {
    progress.begin(&folder.display().to_string());
    let built = build_in(folder, output, target_folder, progress);
    progress.end();
    built
}

fn build_in(folder: &Path, output: &Path, target_folder: &Path, progress: &Progress) -> Result<Vec<Built>, BuildError> {
    let development = development()?;
    let artifacts = Cargo { workspace: folder, target_folder, progress }.build()?;
    refuse_same_names(folder, &artifacts)?;
    fs::create_dir_all(output).map_err(BuildError::file(output))?;
    let make = |artifact| make(&development, folder, output, artifact);
    artifacts.iter().map(make).collect()
}

fn development() -> Result<Development, BuildError> {
    Ok(Development::at(&Development::folder()?)?)
}

/// Cargo marks a target folder with both files.
fn is_cargos_target_folder(folder: &Path) -> bool {
    folder.join("CACHEDIR.TAG").is_file() && folder.join(".rustc_info.json").is_file()
}

fn component_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}

fn make(development: &Development, workspace: &Path, output: &Path, artifact: &Artifact) -> Result<Built, BuildError> {
    let wasm = fs::read(&artifact.file).map_err(BuildError::file(&artifact.file))?;
    let ceiling = ceiling(&[&artifact.package, workspace])?;
    let path = component_path(output, &artifact.name);
    let bytes = encode(&artifact.name, &wasm)?;
    let changed = write_if_changed(&path, &bytes)?;
    development.sign(&path, &bytes, &ceiling)?;
    Ok(Built { name: artifact.name.clone(), path, changed })
}

/// The first `ceiling.toml` in `folders`.
fn ceiling(folders: &[&Path]) -> Result<Ceiling, BuildError> {
    for folder in folders {
        let path = folder.join("ceiling.toml");
        match fs::read_to_string(&path) {
            Ok(text) => {
                return toml::from_str(&text).map_err(|source| BuildError::Ceiling { path, source: Box::new(source) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BuildError::file(&path)(error)),
        }
    }
    Ok(Ceiling::default())
}

fn refuse_same_names(workspace: &Path, artifacts: &[Artifact]) -> Result<(), BuildError> {
    let mut files = BTreeMap::new();
    for artifact in artifacts {
        if files.insert(&artifact.name, &artifact.file).is_some() {
            return Err(BuildError::SameName { workspace: workspace.to_owned(), name: artifact.name.clone() });
        }
    }
    Ok(())
}

/// Removes components whose package is gone: a system that still names one must fail, not run old code.
fn remove_others(folder: &Path, built: &[Built]) -> Result<(), BuildError> {
    for entry in fs::read_dir(folder).map_err(BuildError::file(folder))? {
        let path = entry.map_err(BuildError::file(folder))?.path();
        let ours = |built: &Built| built.path == path || bundle_path(&built.path) == path;
        let name = path.to_string_lossy();
        let is_component = name.ends_with(".wasm") || name.ends_with(&format!(".wasm{BUNDLE_SUFFIX}"));
        if is_component && !built.iter().any(ours) {
            fs::remove_file(&path).map_err(BuildError::file(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with what makes a checkout, and in `components` one package without dependencies.
    fn checkout() -> (tempfile::TempDir, Checkout) {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nexclude = [\"components\"]\n");
        write("host/build/src/checkout.rs", "");
        write("wit/a.wit", "");
        write("components/Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"empty-one\"]\n");
        write(
            "components/Cargo.lock",
            "# This file is automatically @generated by Cargo.\n\
             # It is not intended for manual editing.\n\
             version = 4\n\n[[package]]\nname = \"empty-one\"\nversion = \"0.1.0\"\n",
        );
        write(
            "components/empty-one/Cargo.toml",
            "[package]\nname = \"empty-one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
        );
        write(
            "components/empty-one/src/lib.rs",
            "#![no_std]\n#[panic_handler]\nfn p(_: &core::panic::PanicInfo) -> ! { loop {} }\n",
        );
        let checkout = Checkout::at(folder.path()).unwrap();
        (folder, checkout)
    }

    #[test]
    fn the_test_program_runs_from_this_checkout() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        assert_eq!(Checkout::find().map(|checkout| checkout.root), Checkout::at(root).map(|checkout| checkout.root));
    }

    #[test]
    fn another_folder_is_no_checkout() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Checkout::at(folder.path()), None);
    }

    #[test]
    fn a_workspace_that_is_not_there_is_named() {
        let (_folder, checkout) = checkout();
        let error = checkout.build(Workspace::Programs, &Progress::hidden()).unwrap_err();
        assert!(error.to_string().contains("tests/programs"), "{error}");
    }

    #[test]
    fn what_was_built_is_built_again_only_when_its_sources_change() {
        let (folder, checkout) = checkout();
        let progress = Progress::hidden();
        let first = checkout.build_missing(Workspace::Components, &progress).unwrap();
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].name, "empty-one");
        assert!(first[0].changed);
        assert_eq!(first[0].path, folder.path().join("components/build/empty-one.wasm"));

        let sources = checkout.fingerprint(Workspace::Components).unwrap();
        let stamped = checkout.stamped(Workspace::Components, &sources);
        assert_eq!(stamped.map(|built| built.len()), Some(1));
        assert!(!checkout.build_missing(Workspace::Components, &progress).unwrap()[0].changed);
        assert!(!checkout.build(Workspace::Components, &progress).unwrap()[0].changed);

        fs::remove_file(&first[0].path).unwrap();
        assert!(checkout.build_missing(Workspace::Components, &progress).unwrap()[0].changed);

        fs::write(folder.path().join("components/empty-one/src/lib.rs"), "compile error").unwrap();
        let error = checkout.build_missing(Workspace::Components, &progress).unwrap_err();
        assert!(error.to_string().contains("could not compile"), "{error}");
    }

    #[test]
    fn components_of_packages_that_are_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept.wasm");
        fs::write(&kept, "").unwrap();
        fs::write(folder.path().join("gone.wasm"), "").unwrap();
        remove_others(folder.path(), &[Built { name: "kept".to_owned(), path: kept, changed: false }]).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept.wasm"]);
    }

    #[test]
    fn two_components_of_one_name_are_refused() {
        let artifact =
            |file: &str| Artifact { name: "same".to_owned(), package: PathBuf::new(), file: PathBuf::from(file) };
        let error = refuse_same_names(Path::new("w"), &[artifact("a"), artifact("b")]).unwrap_err();
        assert!(error.to_string().contains("`same`"), "{error}");
    }
}
