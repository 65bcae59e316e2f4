//! Tools from Debian's packages, unpacked into a folder of ours.
//!
//! The lists of packages are of our own, so that nothing of the system changes and nobody has to be root. Its settings of
//! `apt` hold all the same: a proxy, a mirror's certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Tool, bounded, keep};

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The lists of two releases, or the packages, over a slow line.
const LONG: Duration = Duration::from_secs(180);

/// The release that has `tool` in a form that runs on the oldest Debian that is still kept, and the packages of it: the tool
/// itself, and libraries that the system may not have.
fn packages(tool: Tool) -> Option<(&'static str, &'static [&'static str])> {
    match tool {
        Tool::Cosign => Some(("sid", &["cosign"])),
        Tool::Crane => Some(("sid", &["crane"])),
        Tool::Oras => Some(("sid", &["oras"])),
        // Debian has it within the server's package.
        Tool::Promtool => Some(("bookworm", &["prometheus"])),
        Tool::DockerRegistry => Some(("bookworm", &["docker-registry"])),
        Tool::Skopeo => Some(("bookworm", &["skopeo", "libgpgme11", "libassuan0", "libdevmapper1.02.1"])),
        Tool::Schemathesis | Tool::Sigstore | Tool::Wkg => None,
    }
}

/// Whether Debian has it.
pub(crate) fn has(tool: Tool) -> bool {
    packages(tool).is_some()
}

/// Fetches `tools`, each into a folder of its name in `folder`.
pub(crate) fn fetch(folder: &Path, tools: &[Tool], progress: &dyn Fn(&str)) -> Result<(), String> {
    if tools.is_empty() {
        return Ok(());
    }
    if !Path::new(KEYS).is_file() {
        return Err("there are no keys of Debian's archive; install the tool, so that it is on `PATH`".to_owned());
    }
    let work = folder.join(format!(".debian-{}", std::process::id()));
    let fetched = Apt::new(&work).and_then(|apt| {
        progress("fetching Debian's lists of packages");
        bounded::run(apt.command("apt-get").arg("update"), LONG)?;
        for tool in tools {
            progress(&format!("fetching {}", tool.program()));
            apt.unpack(*tool, &folder.join(tool.program()))?;
        }
        Ok(())
    });
    // A hundred megabytes of lists, which nobody needs again.
    let _removed = fs::remove_dir_all(&work);
    fetched
}

/// Lists and packages of our own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, String> {
        let failed = |error| format!("cannot write `{}`: {error}", folder.display());
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
        }
        fs::write(folder.join("status"), "").map_err(failed)?;
        let source = |release| format!("deb [signed-by={KEYS} target=Packages] {MIRROR} {release} main\n");
        fs::write(folder.join("sources.list"), source("sid") + &source("bookworm")).map_err(failed)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.folder.join(name).display().to_string();
        for (option, value) in [
            ("Dir::State", at("")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("Acquire::Retries", "1".to_owned()),
            ("Acquire::http::Timeout", "20".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command.current_dir(&self.folder);
        command
    }

    /// Fetches the packages of `tool` and unpacks them to `place`.
    fn unpack(&self, tool: Tool, place: &Path) -> Result<(), String> {
        let Some((release, packages)) = packages(tool) else { return Ok(()) };
        // What is there does not work, or it would have been found.
        let _removed = fs::remove_dir_all(place);
        let unpacked = self.folder.join(tool.program());
        for package in packages {
            let downloads = self.folder.join(format!("{package}.deb"));
            fs::create_dir_all(&downloads).map_err(|error| error.to_string())?;
            let mut download = self.command("apt-get");
            // It writes into the folder it is in, under a name with the version.
            download.args(["download", &format!("{package}/{release}")]).current_dir(&downloads);
            bounded::run(&mut download, LONG)?;
            let mut files = fs::read_dir(&downloads).map_err(|error| error.to_string())?.flatten();
            let file = files.next().ok_or_else(|| format!("`apt-get download {package}` left nothing"))?;
            bounded::run(Command::new("dpkg-deb").arg("-x").arg(file.path()).arg(&unpacked), LONG)?;
            // The others are libraries of the first.
            if packages.first() == Some(package) {
                let show = ["-W", "--showformat=${Version}"];
                let version = bounded::run(Command::new("dpkg-deb").args(show).arg(file.path()), LONG)?;
                let version = format!("{version} of Debian {release}\n");
                fs::write(unpacked.join("version"), version).map_err(|error| error.to_string())?;
            }
        }
        keep(&unpacked, place)
    }
}
