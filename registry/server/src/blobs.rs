//! Bytes on disk, each under its own digest.
//!
//! A file takes its name only when all of it is durable and its digest was computed from what was written; then its
//! folder is synchronised too. So a name that is there after a crash has its content.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::names;
use crate::{Digest, Failure, Refusal};

/// Bytes that are read at once when a file is hashed again.
const CHUNK: usize = 256 << 10;

/// The folder of all blobs, and that of uploads.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    blobs: PathBuf,
    uploads: PathBuf,
}

/// A file that is being uploaded. Parts are written one after the other.
pub(crate) struct Incoming {
    path: PathBuf,
    state: Mutex<State>,
    /// As in the state, to be read while that is being written.
    size: AtomicU64,
}

struct State {
    file: File,
    hasher: Sha256,
    size: u64,
}

pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::Disk { path, source }
}

/// Makes what was created in, renamed into or removed from `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Failure> {
    witan_durable::synchronize(folder).map_err(disk(folder))
}

impl Blobs {
    /// Makes the folders in `data`.
    pub(crate) fn open(data: &Path) -> Result<Self, Failure> {
        let blobs = data.join("blobs").join("sha256");
        let uploads = data.join("uploads");
        // All 256 at once: a folder made during a push would be one more to synchronise, and to forget.
        for number in 0..=255_u8 {
            let folder = blobs.join(format!("{number:02x}"));
            fs::create_dir_all(&folder).map_err(disk(&folder))?;
        }
        fs::create_dir_all(&uploads).map_err(disk(&uploads))?;
        sync_folder(&blobs)?;
        sync_folder(&data.join("blobs"))?;
        sync_folder(data)?;
        Ok(Self { blobs, uploads })
    }

    /// Where `digest` is, if it is here.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(&digest.hex()[..2]).join(digest.hex())
    }

    /// Begins an upload.
    pub(crate) fn begin(&self, id: Uuid) -> Result<Incoming, Failure> {
        let path = self.upload_path(id);
        let file = File::create_new(&path).map_err(disk(&path))?;
        Ok(Incoming {
            path,
            state: Mutex::new(State { file, hasher: Sha256::new(), size: 0 }),
            size: AtomicU64::new(0),
        })
    }

    /// Takes up an upload that was begun before this process.
    pub(crate) fn resume(&self, id: Uuid) -> Result<Option<Incoming>, Failure> {
        let path = self.upload_path(id);
        let mut file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(&path)(error)),
        };
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = file.read(&mut chunk).map_err(disk(&path))?;
            if count == 0 {
                break;
            }
            hasher.update(&chunk[..count]);
            size += count as u64;
        }
        file.seek(io::SeekFrom::Start(size)).map_err(disk(&path))?;
        Ok(Some(Incoming { path, state: Mutex::new(State { file, hasher, size }), size: AtomicU64::new(size) }))
    }

    /// Gives the file of `incoming` its name, if it has the digest that was told.
    ///
    /// # Errors
    /// When it has another, and when the disk fails.
    pub(crate) fn finish(&self, incoming: &Incoming, expected: &Digest) -> Result<u64, Refusal> {
        let state = incoming.state.lock();
        let found = names::finished(state.hasher.clone());
        if found != *expected {
            return Err(Refusal::DigestDiffers { found, expected: *expected });
        }
        state.file.sync_all().map_err(disk(&incoming.path))?;
        let path = self.path(expected);
        fs::rename(&incoming.path, &path).map_err(disk(&path))?;
        sync_folder(path.parent().unwrap_or(&self.blobs))?;
        Ok(state.size)
    }

    /// Keeps `bytes` under their digest.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Refusal> {
        let path = self.path(digest);
        if path.exists() {
            // Whoever is just putting it there may not have come to this yet.
            return Ok(sync_folder(path.parent().unwrap_or(&self.blobs))?);
        }
        let incoming = self.begin(Uuid::now_v7())?;
        let kept = incoming.append(0, &[Bytes::copy_from_slice(bytes)], u64::MAX);
        let kept = kept.and_then(|_| self.finish(&incoming, digest));
        if kept.is_err() {
            let _gone = fs::remove_file(&incoming.path);
        }
        kept.map(drop)
    }

    /// The bytes of `digest`, which are expected to be `most` at most.
    pub(crate) fn read(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Failure> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(disk(&path))?;
        file.take(most).read_to_end(&mut bytes).map_err(disk(&path))?;
        Ok(bytes)
    }

    /// Removes the file of `digest`, if it is there.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), Failure> {
        remove(&self.path(digest))
    }

    /// Removes the file of an upload, if it is there.
    pub(crate) fn remove_upload(&self, id: Uuid) -> Result<(), Failure> {
        remove(&self.upload_path(id))
    }

    /// Every blob on disk that was last written at `before` or earlier.
    pub(crate) fn older_than(&self, before: SystemTime) -> Result<Vec<Digest>, Failure> {
        let mut digests = Vec::new();
        for folder in fs::read_dir(&self.blobs).map_err(disk(&self.blobs))? {
            let folder = folder.map_err(disk(&self.blobs))?.path();
            for file in fs::read_dir(&folder).map_err(disk(&folder))? {
                let file = file.map_err(disk(&folder))?;
                let written = file.metadata().and_then(|metadata| metadata.modified()).map_err(disk(&file.path()))?;
                let name = file.file_name();
                let digest = name.to_str().and_then(|name| names::digest(&format!("sha256:{name}")).ok());
                if let Some(digest) = digest.filter(|_| written <= before) {
                    digests.push(digest);
                }
            }
        }
        Ok(digests)
    }

    /// Every upload on disk, with when it was last written to.
    pub(crate) fn uploads(&self) -> Result<Vec<(Uuid, SystemTime)>, Failure> {
        let mut uploads = Vec::new();
        for file in fs::read_dir(&self.uploads).map_err(disk(&self.uploads))? {
            let file = file.map_err(disk(&self.uploads))?;
            let name = file.file_name();
            // A file may end while it is looked at.
            let Ok(written) = file.metadata().and_then(|metadata| metadata.modified()) else { continue };
            if let Some(id) = name.to_str().and_then(|name| Uuid::try_parse(name).ok()) {
                uploads.push((id, written));
            }
        }
        Ok(uploads)
    }

    fn upload_path(&self, id: Uuid) -> PathBuf {
        self.uploads.join(id.to_string())
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(path)(error)),
        _ => Ok(()),
    }
}

impl Incoming {
    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Writes `parts`, which begin at byte `at`, and gives how many bytes there are then.
    ///
    /// # Errors
    /// When they do not follow what is there, when there would be more than `most`, and when the disk fails.
    pub(crate) fn append(&self, at: u64, parts: &[Bytes], most: u64) -> Result<u64, Refusal> {
        let mut state = self.state.lock();
        if state.size != at {
            return Err(Refusal::UploadOrder(state.size));
        }
        for part in parts {
            let size = state.size.saturating_add(part.len() as u64);
            if size > most {
                return Err(Refusal::TooLarge { what: "a blob", most });
            }
            if let Err(source) = state.file.write_all(part) {
                // How much of it was written is unknown: go back to what was.
                let before = state.size;
                let _length = state.file.set_len(before);
                let _place = state.file.seek(io::SeekFrom::Start(before));
                return Err(Failure::Disk { path: self.path.clone(), source }.into());
            }
            state.hasher.update(part);
            state.size = size;
            self.size.store(size, Ordering::Relaxed);
        }
        Ok(state.size)
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static, E: From<Failure> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Failure::Ended.into()))
}
