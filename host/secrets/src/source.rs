//! Fetches a secret from where it is, within bounds.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};
use zeroize::Zeroizing;

use crate::{StoreError, Value, ValueError, VaultError};

/// The most that a file, a program or a key may hold: more than the largest secret, and far from harm.
pub(crate) const LARGEST_OUTPUT: u64 = 16 << 10;

/// How long a program may take.
const COMMAND: Duration = Duration::from_secs(10);

/// Why there is no secret. None of these says anything of its value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nobody has stored one.
    #[error("it is not set for the tenant `{tenant}`; set it with `witan secrets set {name} --tenant {tenant}`")]
    NotSet {
        /// The secret.
        name: String,
        /// The tenant.
        tenant: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its file cannot be read.
    #[error("cannot read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The variable is not set, or is no text.
    #[error("the environment variable `{0}` of the host is not set")]
    Environment(String),
    /// The program failed.
    #[error("`{program}` did not print it: {why}")]
    Command {
        /// The program.
        program: String,
        /// How it failed.
        why: String,
    },
    /// Vault did not give it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What came cannot be a secret.
    #[error("what its source gave cannot be sent: {0}")]
    Value(#[from] ValueError),
}

pub(crate) async fn file(path: &std::path::Path) -> Result<Value, SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    Ok(Value::new(bounded(file).await.map_err(failed)?.to_vec())?)
}

pub(crate) fn environment(name: &str) -> Result<Value, SourceError> {
    let text = std::env::var(name).map_err(|_| SourceError::Environment(name.to_owned()))?;
    Ok(Value::new(text.into_bytes())?)
}

/// What the program prints. It gets no input, and what it says of its errors is not kept: it may hold the secret.
pub(crate) async fn command(command: &[String]) -> Result<Value, SourceError> {
    let (program, arguments) = command.split_first().ok_or(SourceError::Value(ValueError::TooShort))?;
    let failed = |why: String| SourceError::Command { program: program.clone(), why };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
    let ended = timeout(COMMAND, async {
        let text = bounded(stdout).await?;
        Ok::<_, io::Error>((text, child.wait().await?))
    });
    let late = |_| failed(format!("it took longer than {} s", COMMAND.as_secs()));
    let (text, status) = ended.await.map_err(late)?.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    Ok(Value::new(text.to_vec())?)
}

async fn bounded(from: impl tokio::io::AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST_OUTPUT).unwrap_or(0) + 1));
    from.take(LARGEST_OUTPUT + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > LARGEST_OUTPUT {
        return Err(io::Error::other(format!("it has more than {LARGEST_OUTPUT} bytes")));
    }
    Ok(bytes)
}
