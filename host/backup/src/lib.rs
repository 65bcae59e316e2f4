//! A folder in one file, checksummed: written whole, and restored whole or not at all.
//!
//! A backup is a tar archive that any `tar` reads: first `backup.json`, which says what it holds with sizes and checksums, and
//! its own checksum beside it; then the files. [`fn@write`] puts it in place only when it is complete and on the disk, and
//! [`restore`] puts a folder in place only when every byte was as stated.
//!
//! It may be encrypted: the same archive in sealed chunks, which [`open`] opens as they are read.
//!
//! It knows neither databases nor hosts: who calls it says which files there are, and gives copies of those that change.

mod seal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use seal::Sealing;
pub use seal::{Key, Opened, open};

/// The version of the form.
const SCHEMA: u32 = 1;

/// The entry that says what a backup holds, and the one with its checksum.
const CONTENTS: &str = "backup.json";
const CHECKSUM: &str = "backup.blake3";

/// The most that `backup.json` may hold, in bytes.
const LARGEST_CONTENTS: u64 = 64 << 20;

/// Files in one backup.
const MOST: usize = 1_000_000;

/// The longest name of a file.
const LONGEST_NAME: usize = 1_024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// The version of the form.
    pub schema: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// When it was begun, in seconds since the Unix epoch: what was acknowledged before is in it.
    pub begun_at: u64,
    /// The files, in the order in which they were copied.
    pub files: Vec<Stated>,
}

/// What is stated of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// Its name, with `/` between folders.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The blake3 of its bytes, in hexadecimal digits.
    pub blake3: String,
}

/// Why a backup was not written or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be used.
    #[error("cannot use `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A backup writes over nothing.
    #[error("`{0}` exists; name a file that does not")]
    Exists(PathBuf),
    /// There is something where the folder would be.
    #[error(
        "`{0}` is not empty; a backup is restored into a folder of its own: move it away, or set another `host.state`"
    )]
    NotEmpty(PathBuf),
    /// It is no backup.
    #[error("this is no backup: {0}")]
    Malformed(String),
    /// A newer program wrote it.
    #[error(
        "the backup has the form {found}, and this program knows {SCHEMA}: restore it with the program that wrote it, {program}"
    )]
    Newer {
        /// Its form.
        found: u32,
        /// The program.
        program: String,
    },
    /// It is encrypted, and no key was given.
    #[error("the backup is encrypted under the key {0}; name the file of that key with `--key-file`")]
    Encrypted(String),
    /// It is encrypted under a key that was not given.
    #[error(
        "the backup is encrypted under the key {0}, which is not in the file that `--key-file` names; bring it back"
    )]
    OtherKey(String),
    /// A key was given for one that is not encrypted.
    #[error("the backup is not encrypted, so that anybody can have written it; leave `--key-file` out if it is yours")]
    InTheClear,
    /// It is not what it was.
    #[error("the backup is damaged: `{0}` is not as it was written; use another backup")]
    Damaged(String),
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError {
    |source| BackupError::File { path: path.to_owned(), source }
}

/// Where and how a backup is written.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The file, which must not exist.
    pub file: &'a Path,
    /// The folder in which bytes lie for a moment, unnamed and not encrypted.
    pub scratch: &'a Path,
    /// Under what it is encrypted, if it is.
    pub key: Option<&'a Key>,
}

/// Writes a backup of `files`, names and where their bytes are, for this user alone. They are copied one after the
/// other: a file that grows meanwhile is in it as far as it had come when its turn began.
///
/// # Errors
/// When the file exists, a name cannot be one, or a file cannot be read or written.
pub fn write(
    target: Target<'_>,
    files: &[(String, PathBuf)],
    program: &str,
    begun_at: u64,
) -> Result<Contents, BackupError> {
    let Target { file, scratch, key } = target;
    if file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = Permissions::from_mode(0o600);
    // What grows must not change between its checksum and its bytes.
    let mut copies = tempfile::tempfile_in(scratch).map_err(failed(scratch))?;
    let mut contents = Contents { schema: SCHEMA, program: program.to_owned(), begun_at, files: Vec::new() };
    for (name, path) in files {
        if !is_name(name) {
            return Err(BackupError::Malformed(format!("`{}` cannot be the name of a file in it", path.display())));
        }
        let source = match File::open(path) {
            // What goes away meanwhile, as what is old does, is not in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            source => source.map_err(failed(path))?,
        };
        let bytes = source.metadata().map_err(failed(path))?.len();
        contents.files.push(copy(name, source.take(bytes), &mut copies).map_err(failed(path))?);
    }
    io::Seek::rewind(&mut copies).map_err(failed(scratch))?;
    let new =
        tempfile::Builder::new().prefix(".backup-").permissions(mode).tempfile_in(folder).map_err(failed(folder))?;
    let (copies, to) = (BufReader::new(copies), BufWriter::new(new.as_file()));
    match key {
        None => archive(&contents, copies, to).and_then(|mut to| to.flush()),
        Some(key) => Sealing::new(key, to).and_then(|to| archive(&contents, copies, to)?.finish()),
    }
    .map_err(failed(file))?;
    new.as_file().sync_all().map_err(failed(file))?;
    new.persist_noclobber(file).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => failed(file)(error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    Ok(contents)
}

fn archive<W: Write>(contents: &Contents, mut copies: impl Read, to: W) -> io::Result<W> {
    let mut archive = tar::Builder::new(to);
    let mut append = |name: &str, bytes: u64, data: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(contents.begun_at);
        archive.append_data(&mut header, name, data)
    };
    let text = serde_json::to_vec_pretty(contents)?;
    append(CONTENTS, text.len() as u64, &mut text.as_slice())?;
    let checksum = format!("{}\n", blake3::hash(&text));
    append(CHECKSUM, checksum.len() as u64, &mut checksum.as_bytes())?;
    for stated in &contents.files {
        append(&stated.name, stated.bytes, &mut copies.by_ref().take(stated.bytes))?;
    }
    archive.into_inner()
}

/// Reads all of a backup and compares it with what it states, without writing anything.
///
/// # Errors
/// When it is none, or damaged.
pub fn verify(backup: impl Read) -> Result<Contents, BackupError> {
    read(backup, |_, bytes| {
        io::copy(bytes, &mut io::sink())?;
        Ok(())
    })
}

/// Makes the folder `into` of what the backup has below `prefix`, for this user alone, and gives back the other files that
/// it has. The folder appears when all of it is there and on the disk.
///
/// # Errors
/// When `into` is there and not empty, or the backup is none, or damaged.
pub fn restore(
    backup: impl Read,
    prefix: &str,
    into: &Path,
) -> Result<(Contents, BTreeMap<String, Vec<u8>>), BackupError> {
    if fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::NotEmpty(into.to_owned()));
    }
    let parent = into.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let private = Permissions::from_mode(0o700);
    let new = tempfile::Builder::new().prefix(".restore-").permissions(private).tempdir_in(parent);
    let new = new.map_err(failed(parent))?;
    let mut others = BTreeMap::new();
    let contents = read(backup, |name, bytes| {
        let Some(below) = name.strip_prefix(prefix) else {
            let mut other = Vec::new();
            bytes.take(LARGEST_CONTENTS).read_to_end(&mut other)?;
            others.insert(name.to_owned(), other);
            return Ok(());
        };
        let path = new.path().join(below);
        fs::create_dir_all(path.parent().unwrap_or(new.path()))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::copy(bytes, &mut file)?;
        file.sync_all()
    })?;
    sync_folders(new.path()).map_err(failed(new.path()))?;
    // Onto a folder that is not empty, a rename fails.
    let new = new.keep();
    if let Err(error) = fs::rename(&new, into) {
        let _left = fs::remove_dir_all(&new);
        return Err(match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => BackupError::NotEmpty(into.to_owned()),
            _ => failed(into)(error),
        });
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent))?;
    Ok((contents, others))
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Reads a backup from its first byte to its last, and gives each file to `take` as it comes. Each is compared with what is
/// stated of it when it has been taken.
fn read(
    backup: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Contents, BackupError> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => BackupError::Damaged("a part of it".to_owned()),
        _ => BackupError::Malformed(error.to_string()),
    };
    let mut archive = tar::Archive::new(backup);
    let mut entries = archive.entries().map_err(broken)?;
    let mut next = || -> Result<Option<(String, tar::Entry<'_, _>)>, BackupError> {
        let Some(entry) = entries.next() else { return Ok(None) };
        let entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_str().map(str::to_owned);
        let name = name.filter(|name| is_name(name) && entry.header().entry_type().is_file());
        let name =
            name.ok_or_else(|| BackupError::Malformed("it has an entry that is no file of a backup".to_owned()))?;
        Ok(Some((name, entry)))
    };
    let mut first = |expected: &str, most: u64| match next()? {
        Some((name, mut entry)) if name == expected && entry.size() <= most => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            Ok(bytes)
        }
        _ => Err(BackupError::Malformed(format!("it has no `{expected}` where one belongs"))),
    };
    let text = first(CONTENTS, LARGEST_CONTENTS)?;
    let checksum = first(CHECKSUM, 128)?;
    if checksum != format!("{}\n", blake3::hash(&text)).as_bytes() {
        return Err(BackupError::Damaged(CONTENTS.to_owned()));
    }
    let contents = parse_contents(&text)?;
    let mut left = contents.files.iter();
    while let Some((name, mut entry)) = next()? {
        let stated = left.next().filter(|stated| stated.name == name && stated.bytes == entry.size());
        let Some(stated) = stated else { return Err(BackupError::Damaged(name)) };
        let mut hashed = Hashed { from: &mut entry, hasher: blake3::Hasher::new(), bytes: 0 };
        take(&name, &mut hashed).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => BackupError::Damaged(name.clone()),
            _ => failed(Path::new(&name))(error),
        })?;
        io::copy(&mut hashed, &mut io::sink()).map_err(broken)?;
        if hashed.bytes != stated.bytes || hashed.hasher.finalize().to_hex().as_str() != stated.blake3 {
            return Err(BackupError::Damaged(name));
        }
    }
    if let Some(missing) = left.next() {
        return Err(BackupError::Damaged(missing.name.clone()));
    }
    // The end of an encrypted one says that nothing was cut off.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(contents)
}

/// What a backup says that it holds: its first entry.
///
/// # Errors
/// When it is none, or of a newer form.
pub fn parse_contents(text: &[u8]) -> Result<Contents, BackupError> {
    #[derive(Deserialize)]
    struct Form {
        schema: u32,
        #[serde(default)]
        program: String,
    }
    let wrong = |error: serde_json::Error| BackupError::Malformed(error.to_string());
    let Form { schema, program } = serde_json::from_slice(text).map_err(wrong)?;
    if schema != SCHEMA {
        return Err(BackupError::Newer { found: schema, program });
    }
    let contents: Contents = serde_json::from_slice(text).map_err(wrong)?;
    let names: BTreeSet<&str> = contents.files.iter().map(|stated| stated.name.as_str()).collect();
    if names.len() > MOST || names.len() != contents.files.len() || !names.iter().all(|name| is_name(name)) {
        return Err(BackupError::Malformed("it states files that no backup has".to_owned()));
    }
    Ok(contents)
}

/// Whether `name` leads to a file below the folder that it is put into, whatever folder that is.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    name.len() <= LONGEST_NAME && name.split('/').all(plain)
}

/// Copies all of `from`, and says what it was.
fn copy(name: &str, from: impl Read, to: &mut impl Write) -> io::Result<Stated> {
    let mut from = from;
    let mut hashed = Hashed { from: &mut from, hasher: blake3::Hasher::new(), bytes: 0 };
    let bytes = io::copy(&mut hashed, to)?;
    Ok(Stated { name: name.to_owned(), bytes, blake3: hashed.hasher.finalize().to_hex().to_string() })
}

struct Hashed<'a, R: ?Sized> {
    from: &'a mut R,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<R: Read + ?Sized> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
