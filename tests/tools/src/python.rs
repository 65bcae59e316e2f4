//! `sigstore-python`, in a virtual environment of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::bounded;

const PACKAGE: &str = "sigstore==4.5.1";

/// Some megabytes, over a slow line.
const LONG: Duration = Duration::from_secs(240);

/// Installs it in a virtual environment at `place`, where there is none that works.
pub(crate) fn install(place: &Path, progress: &dyn Fn(&str)) -> Result<(), String> {
    progress("fetching sigstore-python");
    // Left half by an installation that broke off; it cannot be made elsewhere and moved, since it names its place.
    let _removed = fs::remove_dir_all(place);
    bounded::run(Command::new("python3").args(["-m", "venv"]).arg(place), LONG)?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", PACKAGE];
    bounded::run(Command::new(place.join("bin/pip")).args(pip), LONG)?;
    Ok(())
}
