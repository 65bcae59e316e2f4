//! wasi:filesystem 0.3: below granted folders and files.

use wasmtime::{
    AsContextMut as _, Result,
    component::{Access, FutureReader, Resource, StreamReader},
};
use wasmtime_wasi::{
    filesystem::WasiFilesystem,
    p3::{
        bindings::filesystem::{
            preopens,
            types::{
                self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
                HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
        filesystem::{FilesystemError, FilesystemResult},
    },
};
use witan_capability::{CallState, HostFunction};

use crate::{
    files::{Entry, Opening, Place, open_file},
    guard::{Refusal, guarded, guarded_concurrent},
    stream::write_to_file,
    view::{self, Guarded, View},
};

type Fd = Resource<Descriptor>;
type Outcome = FutureReader<Result<(), ErrorCode>>;
type Store<'a> = Access<'a, CallState, Guarded>;
type Accessor = wasmtime::component::Accessor<CallState, Guarded>;

guarded! {
    PREOPENS: "wasi:filesystem/preopens@0.3.0", preopens::Host, via filesystem;
    ["get-directories"] sync fn get_directories(&mut self) -> Result<Vec<(Fd, String)>> = custom (function) { self.preopens(function) };
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> Result<ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for View<'_> {
    fn drop(&mut self, fd: Fd) -> Result<()> {
        self.forget(&fd);
        HostDescriptor::drop(&mut self.filesystem(), fd)
    }
}

fn opening(open: OpenFlags, flags: DescriptorFlags) -> Opening {
    Opening {
        write: flags.contains(DescriptorFlags::WRITE),
        create: open.contains(OpenFlags::CREATE),
        exclusive: open.contains(OpenFlags::EXCLUSIVE),
        truncate: open.contains(OpenFlags::TRUNCATE),
        directory: open.contains(OpenFlags::DIRECTORY),
        mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
    }
}

/// Whether it is a device, a pipe or a socket. Opening one may wait for ever, on a thread that others need.
fn is_special(what: &DescriptorType) -> bool {
    !matches!(what, DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink)
}

/// The code of a refusal where the outcome is a future, which cannot end the store. A limit ends it by itself.
fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::Denied(_) => ErrorCode::NotPermitted,
        Refusal::Code(error) => error.into(),
        Refusal::Limit(_) => ErrorCode::InsufficientSpace,
    }
}

fn inner<'a>(store: &'a mut Store<'_>) -> Access<'a, CallState, WasiFilesystem> {
    Access::<_, WasiFilesystem>::new(store.as_context_mut(), view::filesystem)
}

/// Writes `data` to the file behind `fd`.
fn write(
    store: &mut Store<'_>,
    function: HostFunction,
    fd: &Fd,
    mut data: StreamReader<u8>,
    offset: Option<u64>,
) -> Result<Outcome> {
    let mut view = store.get();
    let target = view.handle(function, fd).and_then(|_permit| Ok((view.charging(fd)?, view.writable(fd)?)));
    match target {
        Ok((charge, file)) => {
            let written = write_to_file(&mut *store, data, file, offset, charge)?;
            FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(written.await?.map_err(code)) })
        }
        Err(refusal) => {
            data.close(&mut *store)?;
            FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(Err(code(refusal))) })
        }
    }
}

impl View<'_> {
    /// The file behind a descriptor that may be written to.
    fn writable(&mut self, fd: &Fd) -> Result<std::sync::Arc<std::fs::File>, Refusal> {
        match self.table.get(fd) {
            Ok(Descriptor::File(file)) if !file.perms.write_not_permitted() => Ok(file.file.clone()),
            Ok(Descriptor::File(_)) => Err(Refusal::not_permitted()),
            _ => Err(Refusal::Code(rustix::io::Errno::BADF.into())),
        }
    }
}

fn listing(store: &Accessor, fd: &Fd) -> Result<Option<std::sync::Arc<crate::files::Listing>>, Refusal> {
    store.with(|mut access| match access.get().place(fd)? {
        Place::Listing(listing) => Ok(Some(listing.clone())),
        Place::Granted { .. } => Ok(None),
    })
}

/// Opens what `path` names in a listing in order to look at it. The descriptor to look at, and whether to close it.
async fn peek(
    store: &Accessor,
    function: HostFunction,
    (fd, listing, path): (&Fd, &crate::files::Listing, &str),
) -> FilesystemResult<(Fd, bool)> {
    let (entry, _permit) = store.with(|mut access| access.get().listed(function, listing, path, Opening::default()))?;
    match entry {
        Entry::Itself => Ok((Resource::new_borrow(fd.rep()), false)),
        Entry::File(root) => {
            let descriptor = open_file(root, Opening::default()).await?;
            Ok((store.with(|mut access| access.get().table.push(descriptor))?, true))
        }
    }
}

/// Closes what was opened to look at.
fn close(store: &Accessor, opened: u32, close: bool) -> FilesystemResult<()> {
    if close {
        store.with(|mut access| access.get().table.delete(Fd::new_own(opened)))?;
    }
    Ok(())
}

guarded_concurrent! {
    DESCRIPTOR: "wasi:filesystem/types@0.3.0", types::HostDescriptorWithStore<CallState>, of WasiFilesystem, via view::filesystem;
    ["[method]descriptor.advise"] fn advise(store, fd: Fd, offset: u64, length: u64, advice: Advice) -> FilesystemResult<()> = handle(&fd);
    ["[method]descriptor.sync-data"] fn sync_data(store, fd: Fd) -> FilesystemResult<()> = handle(&fd);
    ["[method]descriptor.get-flags"] fn get_flags(store, fd: Fd) -> FilesystemResult<DescriptorFlags> = handle(&fd);
    ["[method]descriptor.get-type"] fn get_type(store, fd: Fd) -> FilesystemResult<DescriptorType> = handle(&fd);
    ["[method]descriptor.set-size"] fn set_size(store, fd: Fd, size: u64) -> FilesystemResult<()> = resizing(&fd, size);
    ["[method]descriptor.set-times"] fn set_times(store, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FilesystemResult<()> = handle(&fd);
    ["[method]descriptor.sync"] fn sync(store, fd: Fd) -> FilesystemResult<()> = handle(&fd);
    ["[method]descriptor.create-directory-at"] fn create_directory_at(store, fd: Fd, path: String) -> FilesystemResult<()> = creating(&fd, &path);
    ["[method]descriptor.stat"] fn stat(store, fd: Fd) -> FilesystemResult<DescriptorStat> = handle(&fd);
    ["[method]descriptor.set-times-at"] fn set_times_at(store, fd: Fd, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp) -> FilesystemResult<()> = changing(&fd, &path);
    ["[method]descriptor.link-at"] fn link_at(store, fd: Fd, flags: PathFlags, path: String, to: Fd, new_path: String) -> FilesystemResult<()> = moving((&fd, &path), (&to, &new_path));
    ["[method]descriptor.readlink-at"] fn readlink_at(store, fd: Fd, path: String) -> FilesystemResult<String> = reading(&fd, &path);
    ["[method]descriptor.remove-directory-at"] fn remove_directory_at(store, fd: Fd, path: String) -> FilesystemResult<()> = changing(&fd, &path);
    ["[method]descriptor.rename-at"] fn rename_at(store, fd: Fd, path: String, to: Fd, new_path: String) -> FilesystemResult<()> = moving((&fd, &path), (&to, &new_path));
    ["[method]descriptor.symlink-at"] fn symlink_at(store, fd: Fd, target: String, path: String) -> FilesystemResult<()> = creating(&fd, &path);
    ["[method]descriptor.unlink-file-at"] fn unlink_file_at(store, fd: Fd, path: String) -> FilesystemResult<()> = changing(&fd, &path);
    ["[method]descriptor.is-same-object"] fn is_same_object(store, fd: Fd, other: Fd) -> Result<bool> = handles(&fd, &other);
    ["[method]descriptor.metadata-hash"] fn metadata_hash(store, fd: Fd) -> FilesystemResult<MetadataHashValue> = handle(&fd);
    ["[method]descriptor.read-via-stream"] fn read_via_stream(store, fd: Fd, offset: u64) -> Result<(StreamReader<u8>, Outcome)> = accessing (function) {
        if let Err(refusal) = store.get().handle(function, &fd) {
            let stream = StreamReader::new(&mut store, std::iter::empty())?;
            let outcome = FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(Err(code(refusal))) })?;
            return Ok((stream, outcome));
        }
        HostDescriptorWithStore::read_via_stream(inner(&mut store), fd, offset)
    };
    ["[method]descriptor.write-via-stream"] fn write_via_stream(store, fd: Fd, data: StreamReader<u8>, offset: u64) -> Result<Outcome> = accessing (function) {
        write(&mut store, function, &fd, data, Some(offset))
    };
    ["[method]descriptor.append-via-stream"] fn append_via_stream(store, fd: Fd, data: StreamReader<u8>) -> Result<Outcome> = accessing (function) {
        write(&mut store, function, &fd, data, None)
    };
    ["[method]descriptor.read-directory"] fn read_directory(store, fd: Fd) -> Result<(StreamReader<DirectoryEntry>, Outcome)> = accessing (function) {
        let view = store.get();
        let place = view.handle(function, &fd).and_then(|_permit| view.place(&fd).cloned());
        let (entries, outcome) = match place {
            Ok(Place::Granted { .. }) => return HostDescriptorWithStore::read_directory(inner(&mut store), fd),
            Ok(Place::Listing(listing)) => (listing.names(), Ok(())),
            Err(refusal) => (Vec::new(), Err(code(refusal))),
        };
        let entries: Vec<_> =
            entries.into_iter().map(|name| DirectoryEntry { type_: DescriptorType::RegularFile, name }).collect();
        Ok((StreamReader::new(&mut store, entries)?, FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(outcome) })?))
    };
    ["[method]descriptor.open-at"] fn open_at(store, fd: Fd, path_flags: PathFlags, path: String, open: OpenFlags, flags: DescriptorFlags) -> FilesystemResult<Fd> = custom (function) {
        let how = opening(open, flags);
        if let Some(listing) = listing(store, &fd)? {
            let (entry, _permit) = store.with(|mut access| access.get().listed(function, &listing, &path, how))?;
            let (descriptor, place) = match entry {
                Entry::Itself => (crate::files::empty_folder()?, Place::Listing(listing)),
                Entry::File(root) => (open_file(root.clone(), how).await?, root.place()),
            };
            return store.with(|mut access| access.get().opened(descriptor, place)).map_err(FilesystemError::trap);
        }
        let (_permit, root, guest) = store.with(|mut access| {
            let view = access.get();
            let permit = view.opening(function, &fd, &path, how)?;
            let (root, guest) = view.below(&fd, &path)?;
            Ok::<_, Refusal>((permit, root, guest))
        })?;
        let wasi = store.with_getter::<WasiFilesystem>(view::filesystem);
        let what = HostDescriptorWithStore::stat_at(&wasi, Resource::new_borrow(fd.rep()), path_flags, path.clone()).await;
        if what.is_ok_and(|stat| is_special(&stat.type_)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let opened = HostDescriptorWithStore::open_at(&wasi, fd, path_flags, path, open, flags).await?;
        store.with(|mut access| access.get().remember(&opened, Place::Granted { root, path: guest }));
        Ok(opened)
    };
    ["[method]descriptor.stat-at"] fn stat_at(store, fd: Fd, flags: PathFlags, path: String) -> FilesystemResult<DescriptorStat> = custom (function) {
        let wasi = store.with_getter::<WasiFilesystem>(view::filesystem);
        if let Some(listing) = listing(store, &fd)? {
            let (opened, ours) = peek(store, function, (&fd, &listing, &path)).await?;
            let number = opened.rep();
            let seen = HostDescriptorWithStore::stat(&wasi, opened).await;
            close(store, number, ours)?;
            return seen;
        }
        let _permit = store.with(|mut access| access.get().reading(function, &fd, &path))?;
        HostDescriptorWithStore::stat_at(&wasi, fd, flags, path).await
    };
    ["[method]descriptor.metadata-hash-at"] fn metadata_hash_at(store, fd: Fd, flags: PathFlags, path: String) -> FilesystemResult<MetadataHashValue> = custom (function) {
        let wasi = store.with_getter::<WasiFilesystem>(view::filesystem);
        if let Some(listing) = listing(store, &fd)? {
            let (opened, ours) = peek(store, function, (&fd, &listing, &path)).await?;
            let number = opened.rep();
            let seen = HostDescriptorWithStore::metadata_hash(&wasi, opened).await;
            close(store, number, ours)?;
            return seen;
        }
        let _permit = store.with(|mut access| access.get().reading(function, &fd, &path))?;
        HostDescriptorWithStore::metadata_hash_at(&wasi, fd, flags, path).await
    };
}
