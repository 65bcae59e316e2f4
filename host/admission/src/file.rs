//! Small files that must be whole: read within bounds, written under another name and renamed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what this host writes.
    #[error("`{}` cannot be read: {message}; restore it, or remove it to begin anew", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl FileError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn form(path: &Path, message: impl ToString) -> Self {
        Self::Form { path: path.to_owned(), message: message.to_string() }
    }
}

/// The text of a file of at most `most` bytes; none if there is no file.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<String>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(FileError::io(path))?,
    };
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text).map_err(FileError::io(path))?;
    if text.len() as u64 > most {
        return Err(FileError::form(path, format!("it is larger than {most} bytes")));
    }
    Ok(Some(text))
}

/// Puts `text` in the place of a file: whoever reads it sees the old or the new one, also after a crash.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    std::fs::create_dir_all(witan_durable::folder(path)).map_err(FileError::io(path))?;
    witan_durable::replace(path, text.as_bytes(), witan_durable::OWN).map_err(FileError::io(path))
}

/// Held while a file is read and replaced, so that two commands do not undo each other's changes.
pub(crate) struct Turn {
    _file: File,
}

impl Turn {
    /// Waits for the turn. It is of `path`'s neighbour `PATH.turn`, since the file itself is replaced.
    pub(crate) fn at(path: &Path) -> Result<Self, FileError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".turn");
        let turn = PathBuf::from(name);
        if let Some(folder) = turn.parent() {
            std::fs::create_dir_all(folder).map_err(FileError::io(folder))?;
        }
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&turn).map_err(FileError::io(&turn))?;
        file.lock().map_err(FileError::io(&turn))?;
        Ok(Self { _file: file })
    }
}
