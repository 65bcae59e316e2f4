//! How the commands on this machine find the host that runs, and show that they may stop it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The file in the state folder that says which host runs.
const FILE: &str = "host.json";

/// A secret that lets its bearer stop the host. Whoever can read the state folder has it: the user who started the
/// host, and no web page and no other user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A new one, of 256 random bits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The secret itself, for the header `Authorization: Bearer`.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token; takes as long for a guess that is nearly right as for any other.
    pub(crate) fn matches(&self, given: &str) -> bool {
        // Comparing digests compares in constant time, and hides the length.
        blake3::hash(given.as_bytes()) == blake3::hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A host that runs: what `witan up` writes into the state folder, and `witan status` and `witan stop` read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Where it serves, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// What lets its bearer stop it.
    pub token: Token,
}

impl Running {
    /// Writes it into `state`, readable by this user alone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let path = file(state);
        // A file that is there keeps its mode, and a link leads elsewhere: begin with a new one.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        witan_durable::replace(&path, serde_json::to_string_pretty(self)?.as_bytes(), witan_durable::OWN)
    }

    /// Reads what a running host wrote into `state`; none if no host has, or it was stopped.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(state: &Path) -> io::Result<Option<Self>> {
        match fs::read(file(state)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes it from `state`.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn remove(state: &Path) -> io::Result<()> {
        match fs::remove_file(file(state)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn file(state: &Path) -> PathBuf {
    state.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_user_reads_what_is_written() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Running::read(state.path()).unwrap(), None);
        fs::write(file(state.path()), "open to all").unwrap();
        let running = Running { url: "http://127.0.0.1:1".into(), pid: 7, token: Token::generate().unwrap() };
        running.write(state.path()).unwrap();
        assert_eq!(fs::metadata(file(state.path())).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Running::read(state.path()).unwrap(), Some(running.clone()));
        assert!(!format!("{running:?}").contains(running.token.secret()));
        Running::remove(state.path()).unwrap();
        Running::remove(state.path()).unwrap();
        assert_eq!(Running::read(state.path()).unwrap(), None);
    }

    #[test]
    fn tokens_differ_and_match_only_themselves() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(one.matches(one.secret()));
        assert!(!one.matches(other.secret()) && !one.matches("") && !one.matches(&one.secret()[1..]));
    }
}
