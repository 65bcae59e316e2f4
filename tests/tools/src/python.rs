//! Tools written in Python, each in a virtual environment of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{Tool, bounded};

/// Some megabytes, over a slow line.
const LONG: Duration = Duration::from_secs(240);

/// The package and version that a tool comes in; none of one that is not written in Python.
pub(crate) fn package(tool: Tool) -> Option<&'static str> {
    match tool {
        Tool::Schemathesis => Some("schemathesis==4.32.5"),
        Tool::Sigstore => Some("sigstore==4.5.1"),
        _ => None,
    }
}

/// Installs `package` in a virtual environment at `place`, where there is none that works.
pub(crate) fn install(package: &str, place: &Path, progress: &dyn Fn(&str)) -> Result<(), String> {
    progress(&format!("fetching {package}"));
    // Left half by an installation that broke off; it cannot be made elsewhere and moved, since it names its place.
    let _removed = fs::remove_dir_all(place);
    bounded::run(Command::new("python3").args(["-m", "venv"]).arg(place), LONG)?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", package];
    bounded::run(Command::new(place.join("bin/pip")).args(pip), LONG)?;
    Ok(())
}
