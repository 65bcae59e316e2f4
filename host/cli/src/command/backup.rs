//! `witan backup`: a host's data in one file, made while it runs, and a folder made of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use witan_backup::{Contents, Key, Opened, Target};
use witan_database::{Database, Location};
use witan_secrets::KeySource;
use witan_system::System;

use crate::{Global, output, source, supply};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copy the data of this folder's system into a file, also while its host runs.
    ///
    /// In it are the database, the ledger, what guests keep, stored secrets with the operator key that lies beside them, what
    /// was seen of registries, and the lock file. Compiled code is made anew. Whoever can read the file can use the secrets,
    /// unless `--key-file` has it encrypted.
    #[command(after_help = "Examples:
  witan backup create /backups/witan-monday.tar
  witan backup create rows-elsewhere.tar --without-database    where `host.database` names PostgreSQL
  (umask 077; openssl rand -hex 32 > /etc/witan/backup.key)    and keep a copy elsewhere
  witan backup create /backups/witan-monday --key-file /etc/witan/backup.key")]
    Create {
        /// The file, which must not exist. Only you may read it.
        file: PathBuf,
        /// Leave the database out, which is backed up by its own tools.
        #[arg(long)]
        without_database: bool,
        #[command(flatten)]
        keys: Keys,
    },
    /// Check that a backup is whole, without restoring it.
    #[command(after_help = "Example:\n  witan backup verify /backups/witan-monday.tar")]
    Verify {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        keys: Keys,
    },
    /// Make the data folder of this folder's system of a backup. There must be none yet, or an empty one.
    #[command(after_help = "Example:
  mv .witan .witan.before && witan backup restore /backups/witan-monday.tar && witan up")]
    Restore {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        keys: Keys,
    },
}

/// What a backup is encrypted under.
#[derive(Args)]
struct Keys {
    /// Encrypt it, or decrypt it: a file with a line of 64 hexadecimal digits for each key, for your user alone. The first
    /// encrypts. Without the key, nobody restores the backup; keep it where the backup is not.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Keys {
    fn read(&self) -> anyhow::Result<Vec<Key>> {
        let Some(path) = &self.key_file else { return Ok(Vec::new()) };
        let keys = KeySource::File(path.clone()).bytes().context("there is no key for the backup")?;
        Ok(keys.into_iter().map(Key::new).collect())
    }
}

/// What the data folder has that no backup needs: what one process says about itself, and what is made anew.
const LEFT_OUT: [&str; 5] = ["code", "code.key", "host-id", "host.json", "lock"];

/// How often the log of the ledger is copied anew because the host went on with it.
const ATTEMPTS: usize = 100;

/// Below which names the files of the data folder stand, and the lock file.
const STATE: &str = "state/";
const LOCK: &str = "system/witan.lock";

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Create { file, without_database, keys } => {
            let system = System::load(&source::find(global)?)?;
            let contents = create(&system, file, *without_database, keys.read()?.first()).await?;
            told(global, file, &contents, "wrote");
        }
        Command::Verify { file, keys } => {
            let contents = witan_backup::verify(open(file, keys)?).with_context(|| cannot(file))?;
            told(global, file, &contents, "verified");
        }
        Command::Restore { file, keys } => {
            let system = System::load(&source::find(global)?)?;
            let contents = restore(&system, file, keys)?;
            told(global, file, &contents, "restored");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cannot(file: &Path) -> String {
    format!("cannot use the backup `{}`", file.display())
}

fn open(file: &Path, keys: &Keys) -> anyhow::Result<Opened<BufReader<File>>> {
    let keys = keys.read()?;
    let opened = BufReader::new(File::open(file).with_context(|| cannot(file))?);
    witan_backup::open(opened, &keys).with_context(|| cannot(file))
}

fn told(global: &Global, file: &Path, contents: &Contents, what: &str) {
    let bytes: u64 = contents.files.iter().map(|stated| stated.bytes).sum();
    let count = contents.files.len();
    if global.json {
        return output::json(&serde_json::json!({
            "file": file, "begun_at": contents.begun_at, "program": contents.program, "files": count, "bytes": bytes,
        }));
    }
    let (size, files) = (witan_system::format_bytes(bytes), output::counted(count, "file"));
    output::line(&format!("{what} `{}`: {files}, {size}", file.display()));
}

async fn create(system: &System, file: &Path, without_database: bool, key: Option<&Key>) -> anyhow::Result<Contents> {
    let state = &system.host.state;
    if !state.is_dir() {
        bail!("there is no data folder `{}` yet; nothing has run here", state.display());
    }
    if system.host.database.is_some() && !without_database {
        bail!(
            "`host.database` names PostgreSQL, whose own tools back it up: run `pg_dump --format=custom`, and this with \
             `--without-database`"
        );
    }
    if file.exists() {
        bail!("`{}` exists; name a file that does not", file.display());
    }
    let begun_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Copies have what the data has in it, so that they lie where the backup will, and not where others may read; and where
    // the backup says nothing to who reads it, they do not lie beside it.
    let scratch = if key.is_some() { state.as_path() } else { folder };
    let copies = tempfile::Builder::new().prefix(".backup-").tempdir_in(scratch);
    let copies = copies.with_context(|| format!("cannot write into `{}`", scratch.display()))?;
    let mut found = BTreeMap::new();
    // The files that rows name are looked for after them: those that came later are no harm.
    let databases = walk(state)?.into_iter().filter(|(_, path)| is_sqlite(path));
    for (number, (name, path)) in databases.enumerate() {
        if !(without_database && name == "witan.db") {
            found.insert(name, copy_rows(&path, copies.path(), number).await?);
        }
    }
    found.extend(copy_log(state, copies.path())?);
    found.extend(walk(state)?.into_iter().filter(|(name, path)| !is_log_head(name) && !is_sqlite(path)));
    let mut found: Vec<(String, PathBuf)> = found.into_iter().collect();
    found.sort_by_key(|(name, _)| turn(name));
    let mut files: Vec<_> = found.into_iter().map(|(name, path)| (format!("{STATE}{name}"), path)).collect();
    if let Some(lock) = supply::lock_path(system).filter(|lock| lock.is_file()) {
        files.push((LOCK.to_owned(), lock));
    }
    let program = env!("CARGO_PKG_VERSION");
    let target = Target { file, scratch, key };
    witan_backup::write(target, &files, program, begun_at).with_context(|| format!("cannot write `{}`", file.display()))
}

/// When a file is copied. What is made of something else comes before it: the ledger's log has no leaf without its entry, and
/// no entry is without its key.
fn turn(name: &str) -> u8 {
    match name.strip_prefix("ledger/") {
        Some(name) if name.starts_with("entries/") => 2,
        Some(name) if name.starts_with("keys") => 3,
        Some(_) => 1,
        // Rows are sealed with a key that is made there first.
        None if name == "secrets.json" => 1,
        None => 0,
    }
}

/// Whether a file below the data folder changes from one checkpoint of the ledger to the next: all of its log but the tiles that
/// are full.
fn is_log_head(name: &str) -> bool {
    let Some(name) = name.strip_prefix("ledger/") else { return false };
    match name.strip_prefix("log/") {
        None => name == "checkpoint" || name.starts_with("cosigned-"),
        Some(name) => !name.starts_with("tile/") || name.contains(".p/"),
    }
}

/// Copies of the files that [`is_log_head`] says, of one checkpoint. While they are copied a host may make the next one, and remove
/// what that replaces.
fn copy_log(state: &Path, copies: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let head = || match fs::read(state.join("ledger/log/checkpoint")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        head => head.map(Some),
    };
    let cannot = || format!("cannot copy the log of the ledger in `{}`", state.display());
    for attempt in 0..ATTEMPTS {
        let before = head().with_context(cannot)?;
        let copied = copy_log_once(state, &copies.join(format!("log-{attempt}")));
        match copied {
            Ok(copied) if head().with_context(cannot)? == before => return Ok(copied),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => {}
        }
    }
    bail!("the log of the ledger changes faster than it can be copied; try again when the host has less to do")
}

fn copy_log_once(state: &Path, copies: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut copied = BTreeMap::new();
    // In the order of their names: the checkpoint that is bound to a time comes before the log, which then has all it is of.
    let ledger = walk_below(state, "ledger/")?;
    for (number, (name, path)) in ledger.into_iter().filter(|(name, _)| is_log_head(name)).enumerate() {
        fs::create_dir_all(copies)?;
        let copy = copies.join(number.to_string());
        fs::copy(path, &copy)?;
        copied.insert(name, copy);
    }
    Ok(copied)
}

/// A copy of all rows of the SQLite database `path` at one moment.
async fn copy_rows(path: &Path, copies: &Path, number: usize) -> anyhow::Result<PathBuf> {
    let copy = copies.join(number.to_string());
    let cannot = || format!("cannot copy the database `{}`", path.display());
    let database = Database::open(Location::Sqlite(path.to_owned())).await.with_context(cannot)?;
    database.back_up(&copy).await.with_context(cannot)?;
    database.pool().close().await;
    Ok(copy)
}

/// Whether `path` begins as a SQLite database does.
pub(super) fn is_sqlite(path: &Path) -> bool {
    let mut head = [0; 16];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head == *b"SQLite format 3\0"
}

/// The files of the data folder that a backup has, by their names below it. What goes away meanwhile, as a log that is set
/// aside does under its former name, is not in it.
fn walk(state: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    walk_below(state, "")
}

/// Those of them whose names begin with `prefix`, which is a folder's and ends with `/`, or empty.
fn walk_below(state: &Path, prefix: &str) -> io::Result<BTreeMap<String, PathBuf>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![(prefix.to_owned(), state.join(prefix))]);
    while let Some((prefix, folder)) = folders.pop() {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", folder.display()));
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => continue,
            entries => entries.map_err(named)?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let no_text = || io::Error::other(format!("`{}` has a name that is no text", entry.path().display()));
            let name = name.to_str().ok_or_else(no_text)?;
            let passing = name == "tmp" && prefix == "ledger/log/"
                || [".tmp", ".new-", ".backup-", ".restore-"].iter().any(|start| name.starts_with(start))
                || ["-wal", "-shm", "-journal", ".lock"].iter().any(|end| name.ends_with(end));
            if passing || (prefix.is_empty() && LEFT_OUT.contains(&name)) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((format!("{prefix}{name}/"), entry.path()));
            } else if kind.is_file() {
                files.insert(format!("{prefix}{name}"), entry.path());
            }
        }
    }
    Ok(files)
}

fn restore(system: &System, file: &Path, keys: &Keys) -> anyhow::Result<Contents> {
    let (contents, others) =
        witan_backup::restore(open(file, keys)?, STATE, &system.host.state).with_context(|| cannot(file))?;
    match (others.get(LOCK), supply::lock_path(system)) {
        (Some(bytes), Some(lock)) if !lock.exists() => {
            witan_durable::replace(&lock, bytes, 0o644)
                .with_context(|| format!("cannot write `{}`", lock.display()))?;
        }
        (Some(bytes), Some(lock)) if fs::read(&lock).is_ok_and(|now| now != *bytes) => {
            let lock = lock.display();
            output::note(&format!("`{lock}` is another than at the time of the backup, and stays as it is"));
        }
        _ => {}
    }
    if system.host.database.is_some() {
        output::note("restore the rows in PostgreSQL with `pg_restore` before you start the host");
    }
    Ok(contents)
}
