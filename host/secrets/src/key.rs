//! The operator key, which stored secrets are encrypted under.
//!
//! A key file has a line for each key, 64 hexadecimal digits. The first encrypts; the others only decrypt, which is what
//! lets the key be replaced without a moment at which a crash would lose what is stored.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::source::LARGEST_OUTPUT;

/// How long a program may take to print the key. A person may have to confirm it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys that one file may hold.
const MOST: usize = 16;

/// Where the operator key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file of the host's own, made at first use.
    Own(PathBuf),
    /// In a file that the operator made.
    File(PathBuf),
    /// A program prints it.
    Command(Vec<String>),
}

/// Why there is no operator key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the operator key `{path}`; make one with `openssl rand -hex 32`, for your user alone")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("others may read the operator key `{path}`: its mode is {mode:o}; run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It has another form.
    #[error("`{0}` gives no operator key: write a line of 64 hexadecimal digits, as `openssl rand -hex 32` prints")]
    Malformed(String),
    /// The program failed.
    #[error("`{program}` did not print the operator key: {why}")]
    Command {
        /// The program.
        program: String,
        /// How it failed.
        why: String,
    },
    /// It cannot be written.
    #[error("cannot write the operator key `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no randomness.
    #[error("the system has no randomness to make a key of")]
    Randomness,
}

/// One operator key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Randomness)?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells it from others, and says nothing of it.
    pub(crate) fn id(&self) -> String {
        let hash = blake3::derive_key("witan operator key id 1", self.0.as_slice());
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        if line.len() != 64 || !line.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(line.as_bytes().chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(*digits.first()?)? << 4 | digit(*digits.get(1)?)?;
        }
        Some(Self(bytes))
    }

    fn line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(65));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                line.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        line.push('\n');
        line
    }
}

/// The keys of a text, the one that encrypts first.
fn parse(text: &str, from: &str) -> Result<Vec<Key>, KeyError> {
    let keys: Option<Vec<Key>> = text.lines().map(|line| Key::parse(line.trim())).collect();
    let keys = keys.filter(|keys| !keys.is_empty() && keys.len() <= MOST);
    keys.ok_or_else(|| KeyError::Malformed(from.to_owned()))
}

impl KeySource {
    /// The keys, the one that encrypts first. None if it is the host's own and there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Vec<Key>>, KeyError> {
        match self {
            Self::Own(path) if !path.exists() => Ok(None),
            Self::Own(path) | Self::File(path) => read(path).map(Some),
            Self::Command(command) => run(command).map(Some),
        }
    }

    /// The bytes of the keys, the one that encrypts first, for whoever encrypts something else than secrets under such keys.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub fn bytes(&self) -> Result<Vec<Zeroizing<[u8; 32]>>, KeyError> {
        let keys = self.read()?.ok_or_else(|| KeyError::Malformed("a key that is not there".to_owned()))?;
        Ok(keys.into_iter().map(|key| key.0).collect())
    }

    /// The keys, one of which is made if it is the host's own and there is none yet.
    pub(crate) fn read_or_make(&self) -> Result<Vec<Key>, KeyError> {
        if let Some(keys) = self.read()? {
            return Ok(keys);
        }
        let keys = vec![Key::generate()?];
        self.write(&keys)?;
        Ok(keys)
    }

    /// Whether [`Self::write`] can change it.
    pub(crate) fn is_file(&self) -> bool {
        !matches!(self, Self::Command(_))
    }

    /// Puts `keys` in the place of those that there are, whole or not at all.
    pub(crate) fn write(&self, keys: &[Key]) -> Result<(), KeyError> {
        let (Self::Own(path) | Self::File(path)) = self else { return Ok(()) };
        let failed = |source| KeyError::Write { path: path.clone(), source };
        let mut lines = Zeroizing::new(Vec::new());
        for key in keys {
            lines.extend_from_slice(key.line().as_bytes());
        }
        witan_durable::replace(path, &lines, witan_durable::OWN).map_err(failed)
    }
}

fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode();
    if mode & others(path, &metadata) != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut text = Zeroizing::new(String::new());
    io::Read::read_to_string(&mut io::Read::take(file, LARGEST_OUTPUT), &mut text).map_err(failed)?;
    parse(&text, &path.display().to_string())
}

/// The bits of a mode that let others read `path`. A credential that systemd gives a service is root's, and shows under its group
/// what an access list lets this service alone do.
fn others(path: &Path, metadata: &fs::Metadata) -> u32 {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| {
        let folder = Path::new(&folder);
        folder.is_absolute() && path.parent() == Some(folder)
    });
    if given && metadata.uid() == 0 { 0o007 } else { 0o077 }
}

/// What `command` prints, within bounds.
fn run(command: &[String]) -> Result<Vec<Key>, KeyError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(KeyError::Malformed("an empty command".to_owned()));
    };
    let failed = |why: String| KeyError::Command { program: program.clone(), why };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let Some(stdout) = child.stdout.take() else { return Err(failed("it has no output".to_owned())) };
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::new());
        let read = io::Read::read_to_string(&mut io::Read::take(stdout, LARGEST_OUTPUT), &mut text);
        let _gone = send.send(read.map(|_| text));
    });
    let text = receive.recv_timeout(PATIENCE);
    if text.is_err() {
        let _ended = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let text = text.map_err(|_| failed(format!("it took longer than {} s", PATIENCE.as_secs())))?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    parse(&text.map_err(|error| failed(error.to_string()))?, program)
}
