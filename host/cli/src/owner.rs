//! Who has the data folder of a system: one process at a time.
//!
//! Files there that two processes may change (what is in quarantine, what was seen of registries, stored secrets) are each
//! replaced whole; everything else is written by the owner alone. `docs/decisions/0047-operators.md` has the list.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::output;

/// How long a command waits for another one; a host that runs is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// What the owner writes about itself into the file that it has locked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// Its process.
    pub(crate) pid: u32,
    /// Its command, such as `up`.
    pub(crate) command: String,
}

/// The data folder, as long as this lives.
pub(crate) struct Owner {
    _lock: File,
}

/// Who has the folder now.
pub(crate) enum Taken {
    /// This process.
    Ours(Owner),
    /// A host, which serves until it is stopped.
    Host,
}

/// Takes `state` for a host that serves.
pub(crate) async fn host(state: &Path) -> anyhow::Result<Owner> {
    match take(state, "up").await? {
        Taken::Ours(owner) => Ok(owner),
        Taken::Host => bail!(
            "another host runs on the state folder `{}`; stop it with `witan stop`, or set another `host.state`",
            state.display()
        ),
    }
}

/// Takes `state` for `command`, which can do nothing while a host has it.
pub(crate) async fn alone(state: &Path, command: &str, remedy: &str) -> anyhow::Result<Owner> {
    match take(state, command).await? {
        Taken::Ours(owner) => Ok(owner),
        Taken::Host => bail!("a host runs on the state folder `{}`, and has it alone; {remedy}", state.display()),
    }
}

/// Takes `state` for `command`, when all other commands have ended; or finds that a host has it.
pub(crate) async fn take(state: &Path, command: &str) -> anyhow::Result<Taken> {
    fs::create_dir_all(state).with_context(|| format!("cannot make the folder `{}`", state.display()))?;
    let path = file(state);
    let cannot = || format!("cannot lock `{}`", path.display());
    let lock = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
    let mut lock = lock.with_context(cannot)?;
    let (began, mut told) = (Instant::now(), false);
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
            Err(TryLockError::WouldBlock) => {}
        }
        let who = read(&path);
        if who.as_ref().is_some_and(|who| who.command == "up" && lives(who.pid)) {
            return Ok(Taken::Host);
        }
        let name =
            who.map_or_else(|| "another command".to_owned(), |who| format!("`witan {}` ({})", who.command, who.pid));
        if began.elapsed() > PATIENCE {
            bail!("{name} has the state folder `{}`; wait until it has ended, or end it", state.display());
        }
        if !told && began.elapsed() > Duration::from_secs(1) {
            told = true;
            output::note(&format!("waiting for {name}, which has the state folder"));
        }
        tokio::time::sleep(LOOK).await;
    }
    let who = serde_json::to_vec(&Who { pid: std::process::id(), command: command.to_owned() })?;
    lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(&who)).with_context(cannot)?;
    Ok(Taken::Ours(Owner { _lock: lock }))
}

/// Who has `state` now, if anybody has.
pub(crate) fn current(state: &Path) -> anyhow::Result<Option<Who>> {
    let path = file(state);
    let lock = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        lock => lock.with_context(|| format!("cannot open `{}`", path.display()))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read(&path).unwrap_or(Who { pid: 0, command: "?".to_owned() }))),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot look at `{}`", path.display())),
    }
}

/// Whether there is a process `pid`: a host that was killed is in the file until the next owner has written its own name.
fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn file(state: &Path) -> PathBuf {
    state.join("lock")
}

fn read(path: &Path) -> Option<Who> {
    let mut text = String::new();
    File::open(path).ok()?.take(1_024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_not_waited_for_and_a_command_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(current(&state).unwrap(), None);
        let host = host(&state).await.unwrap();
        assert_eq!(current(&state).unwrap().unwrap(), Who { pid: std::process::id(), command: "up".to_owned() });
        assert!(matches!(take(&state, "task").await.unwrap(), Taken::Host));
        let refused = alone(&state, "task", "do otherwise").await.err().unwrap().to_string();
        assert!(refused.contains("do otherwise"), "{refused}");
        drop(host);
        assert_eq!(current(&state).unwrap(), None);
        let Taken::Ours(task) = take(&state, "task").await.unwrap() else { panic!("nobody has it") };
        let waiting = tokio::spawn({
            let state = state.clone();
            async move { super::host(&state).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(task);
        assert!(waiting.await.unwrap());
    }
}
