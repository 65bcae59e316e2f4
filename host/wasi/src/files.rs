//! Which files a call sees, and what each of its descriptors leads to.
//!
//! A granted folder is a directory that cap-primitives confines: `..`, absolute paths and links out of it fail there.
//! A granted file, and each file of a task, is an entry of a *listing*: a directory that exists only here, has exactly
//! the granted names, and behind which stands an empty, deleted directory. What this module forgets to refuse for a
//! listing therefore fails for want of anything to find.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};
use wasmtime::component::Resource as Handle;
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, File as OpenFile},
};
use witan_capability::{Action, Call, HostFunction, Meter, Permit, Resource};
use witan_system::{Access, Files as Granted, normalise_guest_path};

use crate::{guard::Refusal, view::View};

/// As long as Linux takes a path.
const PATH: usize = 4096;

/// What a new name is charged: directories and links take room that no write shows.
const ENTRY: u64 = 4096;

/// Descriptors of a store, by their number in its table.
#[derive(Default)]
pub(crate) struct Files {
    open: HashMap<u32, Place>,
    /// What remains to be read of the directories that are listings.
    unread: HashMap<u32, std::vec::IntoIter<String>>,
}

/// What a descriptor leads to.
#[derive(Clone)]
pub(crate) enum Place {
    /// Something below a granted folder, or a granted file.
    Granted {
        root: Arc<Root>,
        /// As the guest sees it: absolute, without `.` and `..`.
        path: String,
    },
    /// A directory of ours.
    Listing(Arc<Listing>),
}

/// A grant, as far as this call sees it.
pub(crate) struct Root {
    guest: String,
    host: PathBuf,
    access: Access,
    max_bytes: Option<u64>,
    /// What the call tree has written under this grant.
    written: Arc<AtomicU64>,
}

/// The granted files whose guest paths have the same folder.
pub(crate) struct Listing {
    entries: BTreeMap<String, Arc<Root>>,
}

/// How something is to be opened, for WASI 0.2 and 0.3 alike.
#[derive(Clone, Copy, Default)]
pub(crate) struct Opening {
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    /// Whether directories below may be changed through it.
    pub(crate) mutate: bool,
}

/// What a name in a listing is.
pub(crate) enum Entry {
    /// The listing itself.
    Itself,
    /// A granted file.
    File(Arc<Root>),
}

impl Opening {
    fn changes(self) -> bool {
        self.write || self.create || self.exclusive || self.truncate || self.mutate
    }

    fn action(self) -> Action {
        if self.changes() { Action::FileWrite } else { Action::FileRead }
    }
}

impl View<'_> {
    /// The directories that the call starts with.
    pub(crate) fn preopens(&mut self, function: HostFunction) -> wasmtime::Result<Vec<(Handle<Descriptor>, String)>> {
        let _permit = self.baseline(function)?;
        let (roots, listings) = roots(&self.wasi.call);
        let mut preopens = Vec::new();
        for (guest, root) in roots {
            match open_folder(&root) {
                Ok(folder) => {
                    let place = Place::Granted { path: guest.clone(), root: Arc::new(root) };
                    preopens.push((self.opened(folder, place)?, guest));
                }
                Err(error) => {
                    tracing::warn!(component = %self.wasi.call.component.name, path = %root.host.display(), %error,
                        "cannot open a granted folder: the component does not see it");
                }
            }
        }
        for (guest, listing) in listings {
            let handle = self.opened(empty_folder()?, Place::Listing(Arc::new(listing)))?;
            preopens.push((handle, guest));
        }
        Ok(preopens)
    }

    /// Puts `descriptor` into the table, and remembers what it leads to.
    pub(crate) fn opened(&mut self, descriptor: Descriptor, place: Place) -> wasmtime::Result<Handle<Descriptor>> {
        let handle = self.table.push(descriptor)?;
        self.wasi.files.open.insert(handle.rep(), place);
        Ok(handle)
    }

    /// Remembers what an open descriptor leads to.
    pub(crate) fn remember(&mut self, handle: &Handle<Descriptor>, place: Place) {
        self.wasi.files.open.insert(handle.rep(), place);
    }

    /// Forgets a descriptor that the guest has dropped.
    pub(crate) fn forget(&mut self, handle: &Handle<Descriptor>) {
        self.wasi.files.open.remove(&handle.rep());
    }

    /// What a descriptor leads to.
    pub(crate) fn place(&self, handle: &Handle<Descriptor>) -> Result<&Place, Refusal> {
        self.wasi.files.open.get(&handle.rep()).ok_or_else(|| Refusal::Code(Errno::BADF.into()))
    }

    /// Where `path` below a descriptor leads, which must be of a granted folder.
    pub(crate) fn below(&self, handle: &Handle<Descriptor>, path: &str) -> Result<(Arc<Root>, String), Refusal> {
        if path.len() > PATH {
            return Err(Refusal::Code(Errno::NAMETOOLONG.into()));
        }
        match self.place(handle)? {
            Place::Granted { root, path: base } => Ok((root.clone(), join(base, path))),
            Place::Listing(_) => Err(Refusal::not_permitted()),
        }
    }

    fn path(
        &self,
        function: HostFunction,
        action: Action,
        fd: &Handle<Descriptor>,
        path: &str,
    ) -> Result<Permit, Refusal> {
        let (root, guest) = self.below(fd, path)?;
        self.wasi.enter(function, action, &Resource::Path { guest: &guest, host: Some(&root.host) })
    }

    /// Enters a function that reads what `path` names.
    pub(crate) fn reading(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        path: &str,
    ) -> Result<Permit, Refusal> {
        self.path(function, Action::FileRead, fd, path)
    }

    /// Enters a function that changes what `path` names.
    pub(crate) fn changing(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        path: &str,
    ) -> Result<Permit, Refusal> {
        self.path(function, Action::FileWrite, fd, path)
    }

    /// Enters a function that makes the new name `path`.
    pub(crate) fn creating(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        path: &str,
    ) -> Result<Permit, Refusal> {
        let permit = self.changing(function, fd, path)?;
        self.written(fd, ENTRY)?;
        Ok(permit)
    }

    /// Enters a function that links or moves one name to another.
    pub(crate) fn moving(
        &self,
        function: HostFunction,
        (from, old): (&Handle<Descriptor>, &str),
        (to, new): (&Handle<Descriptor>, &str),
    ) -> Result<Permit, Refusal> {
        self.changing(function, from, old)?;
        self.creating(function, to, new)
    }

    /// Enters a function that opens what `path` names.
    pub(crate) fn opening(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        path: &str,
        how: Opening,
    ) -> Result<Permit, Refusal> {
        if how.create { self.creating(function, fd, path) } else { self.path(function, how.action(), fd, path) }
    }

    /// Enters a function that uses a descriptor.
    pub(crate) fn handle(&self, function: HostFunction, fd: &Handle<Descriptor>) -> Result<Permit, Refusal> {
        match self.place(fd)? {
            Place::Granted { root, path } => {
                self.wasi.enter(function, Action::Handle, &Resource::Path { guest: path, host: Some(&root.host) })
            }
            Place::Listing(_) => self.baseline(function),
        }
    }

    /// Enters a function that uses two descriptors.
    pub(crate) fn handles(
        &self,
        function: HostFunction,
        one: &Handle<Descriptor>,
        other: &Handle<Descriptor>,
    ) -> Result<Permit, Refusal> {
        self.handle(function, one)?;
        self.handle(function, other)
    }

    /// Enters a function that writes `bytes` through a descriptor.
    pub(crate) fn writing(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        bytes: usize,
    ) -> Result<Permit, Refusal> {
        let permit = self.handle(function, fd)?;
        self.written(fd, bytes as u64)?;
        Ok(permit)
    }

    /// Enters a function that gives a file another size. Only growth is charged.
    pub(crate) fn resizing(
        &self,
        function: HostFunction,
        fd: &Handle<Descriptor>,
        size: u64,
    ) -> Result<Permit, Refusal> {
        let permit = self.handle(function, fd)?;
        let now = match self.table.get(fd) {
            Ok(Descriptor::File(file)) => file.file.metadata()?.len(),
            _ => size,
        };
        self.written(fd, size.saturating_sub(now))?;
        Ok(permit)
    }

    fn written(&self, fd: &Handle<Descriptor>, bytes: u64) -> Result<(), Refusal> {
        match self.place(fd)? {
            Place::Granted { root, .. } => root.charge(&self.wasi.call, bytes),
            Place::Listing(_) => Err(Refusal::not_permitted()),
        }
    }

    /// What charges the writes of a stream that was opened on a descriptor.
    pub(crate) fn charging(&self, fd: &Handle<Descriptor>) -> Result<crate::stream::Charge, Refusal> {
        match self.place(fd)? {
            Place::Granted { root, .. } => {
                let (root, call) = (root.clone(), self.wasi.call.clone());
                Ok(Arc::new(move |bytes| root.charge(&call, bytes)))
            }
            Place::Listing(_) => Err(Refusal::not_permitted()),
        }
    }

    /// Finds `path` in a listing, and enters `function` for what was found.
    pub(crate) fn listed(
        &self,
        function: HostFunction,
        listing: &Listing,
        path: &str,
        how: Opening,
    ) -> Result<(Entry, Permit), Refusal> {
        let name = path.trim_start_matches("./").trim_end_matches('/');
        if matches!(name, "" | ".") && !path.starts_with('/') {
            if how.changes() {
                return Err(Refusal::not_permitted());
            }
            return Ok((Entry::Itself, self.baseline(function)?));
        }
        if name.contains('/') || name == ".." {
            return Err(Refusal::not_permitted());
        }
        let root = listing.entries.get(name).ok_or_else(|| Refusal::Code(Errno::NOENT.into()))?;
        let resource = Resource::Path { guest: &root.guest, host: Some(&root.host) };
        let permit = self.wasi.enter(function, how.action(), &resource)?;
        if how.changes() && root.access == Access::Read {
            return Err(Refusal::not_permitted());
        }
        if how.create {
            root.charge(&self.wasi.call, ENTRY)?;
        }
        Ok((Entry::File(root.clone()), permit))
    }

    /// Keeps the names of a listing for the directory stream `stream`.
    pub(crate) fn list(&mut self, stream: u32, listing: &Listing) {
        self.wasi.files.unread.insert(stream, listing.names().into_iter());
    }

    /// The next name of a directory stream, if it is one of a listing.
    pub(crate) fn next_listed(&mut self, stream: u32) -> Option<Option<String>> {
        self.wasi.files.unread.get_mut(&stream).map(Iterator::next)
    }

    /// Forgets a directory stream that the guest has dropped.
    pub(crate) fn forget_list(&mut self, stream: u32) {
        self.wasi.files.unread.remove(&stream);
    }
}

impl Listing {
    /// The names in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }
}

impl Root {
    fn permissions(&self) -> FsPerms {
        match self.access {
            Access::Read => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        }
    }

    /// Charges `bytes` to the grant and to the call tree.
    fn charge(&self, call: &Call, bytes: u64) -> Result<(), Refusal> {
        if let Some(allowed) = self.max_bytes {
            let charged = self.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| {
                written.checked_add(bytes).filter(|sum| *sum <= allowed)
            });
            if charged.is_err() {
                tracing::info!(component = %call.component.name, path = %self.guest, allowed,
                    "refused: the grant's `max-bytes` is used up");
                return Err(Refusal::Code(Errno::NOSPC.into()));
            }
        }
        call.account.charge(Meter::DiskBytes, bytes)?;
        Ok(())
    }
}

/// What the stores of a call tree have written, by component and grant.
#[derive(Default)]
struct Written(Mutex<HashMap<GrantOf, Arc<AtomicU64>>>);

/// A component and the place of one of its grants.
type GrantOf = (Arc<str>, usize);

/// The folders and the listings that `call` was granted, by guest path.
fn roots(call: &Call) -> (Vec<(String, Root)>, BTreeMap<String, Listing>) {
    let mut folders = Vec::new();
    let mut listings: BTreeMap<String, Listing> = BTreeMap::new();
    let mut add = |root: Root| match root.guest.rsplit_once('/') {
        Some(_) if root.host.is_dir() => folders.push((root.guest.clone(), root)),
        Some((folder, name)) if !name.is_empty() => {
            let folder = if folder.is_empty() { "/" } else { folder };
            let listing = listings.entry(folder.to_owned()).or_insert_with(|| Listing { entries: BTreeMap::new() });
            listing.entries.insert(name.to_owned(), Arc::new(root));
        }
        _ => {}
    };
    let shared = call.account.shared(Written::default);
    for (index, grant) in call.component.grants.filesystem.iter().enumerate() {
        let key = (call.component.name.clone(), index);
        let written = shared.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let root = |guest: &str, host: PathBuf| Root {
            guest: guest.to_owned(),
            host,
            access: grant.access,
            max_bytes: grant.max_bytes,
            written: written.clone(),
        };
        match &grant.files {
            Granted::Path { host, guest } => add(root(guest, without_links(host))),
            Granted::Task => {
                for file in call.context.files() {
                    // Only a file, and only for reading, whatever the grant says: it is the client's.
                    if let Some(guest) = normalise_guest_path(&file.guest).filter(|_| !file.host.is_dir()) {
                        add(Root { access: Access::Read, ..root(&guest, file.host.clone()) });
                    }
                }
            }
        }
    }
    (folders, listings)
}

/// `host` with the links in its folders resolved: what the operator wrote may well go through one. The last part of a
/// file's path is left as it is, since it need not exist, and must not be a link when it is opened.
fn without_links(host: &Path) -> PathBuf {
    if host.is_dir() {
        return host.canonicalize().unwrap_or_else(|_| host.to_owned());
    }
    match (host.parent().and_then(|folder| folder.canonicalize().ok()), host.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => host.to_owned(),
    }
}

/// `path` below `base`, without `.` and `..`. Only names what policy decides about; what is opened is found by
/// cap-primitives.
fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        parts.clear();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Opens `path`, no part of which may be a link: whoever may write to a folder above must not lead us elsewhere.
fn open_without_links(path: &Path, flags: OFlags) -> io::Result<File> {
    let mut parts = path.components().peekable();
    if parts.next() != Some(Component::RootDir) {
        return Err(Errno::INVAL.into());
    }
    let through = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    let through = through | OFlags::PATH;
    let mut folder = openat(CWD, "/", through, Mode::empty())?;
    while let Some(Component::Normal(name)) = parts.next() {
        if parts.peek().is_none() {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(openat(&folder, name, flags, Mode::from_raw_mode(0o666))?.into());
        }
        folder = openat(&folder, name, through, Mode::empty())?;
    }
    if path == Path::new("/") {
        return Ok(openat(CWD, "/", flags | OFlags::CLOEXEC, Mode::empty())?.into());
    }
    Err(Errno::INVAL.into())
}

fn open_folder(root: &Root) -> io::Result<Descriptor> {
    let folder = open_without_links(&root.host, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mode = match root.access {
        Access::Read => OpenMode::READ,
        Access::ReadWrite => OpenMode::READ | OpenMode::WRITE,
    };
    Ok(Descriptor::Dir(Dir::new(folder, root.permissions(), mode, false)))
}

/// What stands behind a listing: a directory that is deleted, so that nothing is in it and nothing can be put there.
pub(crate) fn empty_folder() -> io::Result<Descriptor> {
    static EMPTY: OnceLock<File> = OnceLock::new();
    let empty = match EMPTY.get() {
        Some(empty) => empty,
        None => {
            let folder = tempfile::tempdir()?;
            let opened = File::open(folder.path())?;
            folder.close()?;
            EMPTY.get_or_init(|| opened)
        }
    };
    Ok(Descriptor::Dir(Dir::new(empty.try_clone()?, FsPerms::ReadOnly, OpenMode::READ, false)))
}

/// Opens a granted file.
pub(crate) async fn open_file(root: Arc<Root>, how: Opening) -> io::Result<Descriptor> {
    tokio::task::spawn_blocking(move || open_file_now(&root, how)).await.map_err(io::Error::other)?
}

fn open_file_now(root: &Root, how: Opening) -> io::Result<Descriptor> {
    if how.directory {
        return Err(Errno::NOTDIR.into());
    }
    // Without blocking: the name may have become a pipe that no one writes to.
    let mut flags = OFlags::NONBLOCK;
    let mode = if how.write || how.truncate || how.create {
        flags |= OFlags::RDWR;
        OpenMode::READ | OpenMode::WRITE
    } else {
        flags |= OFlags::RDONLY;
        OpenMode::READ
    };
    flags.set(OFlags::CREATE, how.create);
    flags.set(OFlags::EXCL, how.exclusive);
    flags.set(OFlags::TRUNC, how.truncate);
    let file = open_without_links(&root.host, flags)?;
    if !file.metadata()?.is_file() {
        return Err(Errno::PERM.into());
    }
    Ok(Descriptor::File(OpenFile::new(file, root.permissions(), mode, false)))
}

impl Root {
    /// The place of a granted file that was opened.
    pub(crate) fn place(self: &Arc<Self>) -> Place {
        Place::Granted { root: self.clone(), path: self.guest.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_without_dots() {
        assert_eq!(join("/docs", "a/./b//c"), "/docs/a/b/c");
        assert_eq!(join("/docs", "../../etc"), "/etc");
        assert_eq!(join("/docs", "/etc/passwd"), "/etc/passwd");
        assert_eq!(join("/", "."), "/");
    }

    #[test]
    fn no_part_of_a_path_may_be_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("file", folder.join("real/alias")).unwrap();
        assert!(open_without_links(&folder.join("real/file"), OFlags::RDONLY).is_ok());
        assert!(open_without_links(&folder.join("link/file"), OFlags::RDONLY).is_err());
        assert!(open_without_links(&folder.join("real/alias"), OFlags::RDONLY).is_err());
        assert!(open_without_links(Path::new("relative"), OFlags::RDONLY).is_err());
    }
}
