//! Finding a tool that is there.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Tool, bounded, python};

/// How long a program may take to say its version.
const SHORT: Duration = Duration::from_secs(60);

/// A tool that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    program: PathBuf,
    /// Where libraries lie that came with it.
    libraries: Vec<PathBuf>,
    /// Its version, as it says or as its package does.
    pub version: String,
}

impl Found {
    /// A command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if !self.libraries.is_empty() {
            let all = env::join_paths(&self.libraries).unwrap_or_else(|_| OsString::new());
            command.env("LD_LIBRARY_PATH", all);
        }
        command
    }
}

impl Tool {
    /// The tool, from the environment's variable for it, else from `PATH`, else as [`set_up`](crate::set_up) left it.
    #[must_use]
    pub fn find(self) -> Option<Found> {
        if let Some(program) = env::var_os(self.variable()) {
            return self.at(program.into(), Vec::new());
        }
        let folders = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&folders).map(|folder| folder.join(self.program())).find(|path| path.is_file());
        let found = on_path.and_then(|program| self.at(program, Vec::new()));
        found.or_else(|| self.kept(&crate::folder()?.join(self.program())))
    }

    /// The tool that was put into `folder`.
    fn kept(self, folder: &Path) -> Option<Found> {
        if python::package(self).is_some() {
            return self.at(folder.join("bin").join(self.program()), Vec::new());
        }
        let libraries = format!("lib/{}-linux-gnu", env::consts::ARCH);
        let libraries = [folder.join("usr").join(&libraries), folder.join(&libraries)];
        let libraries = libraries.into_iter().filter(|folder| folder.is_dir()).collect();
        let found = self.at(folder.join("usr/bin").join(self.program()), libraries)?;
        let version = std::fs::read_to_string(folder.join("version")).ok()?;
        Some(Found { version: version.trim().to_owned(), ..found })
    }

    /// The tool at `program`, if it runs and is of a version that can do what is tested.
    fn at(self, program: PathBuf, libraries: Vec<PathBuf>) -> Option<Found> {
        let ask = match self {
            Self::Cosign | Self::Crane | Self::Oras => "version",
            _ => "--version",
        };
        let found = Found { program, libraries, version: String::new() };
        let version = version(&bounded::run(found.command().arg(ask), SHORT).ok()?);
        // Its second version knows the bundles only when it is told to, by flags that the third no longer has.
        let too_old = self == Self::Cosign && version.starts_with(['0', '1', '2']);
        (!too_old).then_some(Found { version, ..found })
    }
}

/// The version in what a program says of itself; of those that were not built from a release, that they do not know.
fn version(said: &str) -> String {
    let words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
    let mut numbers = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    numbers.next().unwrap_or("of an unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_version_is_read_of_what_programs_say() {
        for (said, expected) in [
            ("Version:    1.3.3\nGo version: go1.26.5\n", "1.3.3"),
            ("skopeo version 1.9.3\n", "1.9.3"),
            ("registry github.com/docker/distribution 2.8.2+ds1", "2.8.2+ds1"),
            ("GitVersion:    v3.0.2\nGitCommit: 84449696f0658a5ef5f2abba87fdd3f8b17ca1be", "3.0.2"),
            ("could not determine build information", "of an unknown version"),
        ] {
            assert_eq!(version(said), expected);
        }
    }

    #[test]
    fn a_cosign_that_is_too_old_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("cosign");
        let said = |version: &str| {
            fs::write(&program, format!("#!/bin/sh\necho GitVersion: {version}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            Tool::Cosign.at(program.clone(), Vec::new()).map(|found| found.version)
        };
        assert_eq!(said("v3.0.2").as_deref(), Some("3.0.2"));
        assert_eq!(said("v2.6.1"), None);
        assert!(said("devel").is_some());
        fs::write(&program, "no program").unwrap();
        assert_eq!(Tool::Cosign.at(program.clone(), Vec::new()), None);
    }
}
