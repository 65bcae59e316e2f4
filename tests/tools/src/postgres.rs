//! A PostgreSQL server, on a socket in a temporary folder.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::skip;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server that ends when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    child: Child,
    folder: TempDir,
}

impl Postgres {
    /// A new, empty server that listens; where there is none on this machine or it does not start, the test is noted as
    /// skipped.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        let started = match programs() {
            Some(programs) => Self::start(programs),
            None => Err(io::Error::other("there is no `postgres`")),
        };
        started.map_err(|error| skip("postgres", &error.to_string())).ok()
    }

    fn start(programs: PathBuf) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let data = folder.path().join("pg");
        let made = as_user(&programs.join("initdb"))
            .args(["--auth=trust", "--username=witan", "--no-sync", "--encoding=UTF8", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .current_dir(folder.path())
            .status()?;
        if !made.success() {
            return Err(io::Error::other("`initdb` failed"));
        }
        let mut server = as_user(&programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(folder.path());
        server.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
        let server = Self { programs, child: server.spawn()?, folder };
        let (socket, begun) = (server.folder.path().join(".s.PGSQL.5432"), Instant::now());
        while UnixStream::connect(&socket).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("`postgres` does not listen"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where its one database is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://witan@localhost/postgres?host={}", self.folder.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = as_user(&self.programs.join("pg_ctl"));
        stop.args(["stop", "--mode=immediate", "-D"]).arg(self.folder.path().join("pg"));
        let _stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(self.folder.path()).status();
        let _ended = self.child.wait();
    }
}

/// The newest PostgreSQL of this machine, where Debian and others put it.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// A command that does not run as root, as which PostgreSQL refuses to.
fn as_user(program: &Path) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
