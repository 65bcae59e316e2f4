//! wasi:filesystem 0.2: below granted folders and files.

use wasmtime::{Error, Result, component::Resource};
use wasmtime_wasi::p2::{
    FsError, FsResult,
    bindings::filesystem::{
        preopens,
        types::{
            self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
            HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
    },
};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::{
    files::{Entry, Opening, Place, open_file},
    guard::guarded,
    stream::charged,
    view::View,
};

type Fd = Resource<Descriptor>;
type Entries = Resource<types::DirectoryEntryStream>;

guarded! {
    PREOPENS: "wasi:filesystem/preopens@0.2.12", preopens::Host, via filesystem;
    ["get-directories"] sync fn get_directories(&mut self) -> Result<Vec<(Fd, String)>> = custom (function) { self.preopens(function) };
}

guarded! {
    TYPES: "wasi:filesystem/types@0.2.12", types::Host, via filesystem;
    ["filesystem-error-code"] sync fn filesystem_error_code(&mut self, error: Resource<Error>) -> Result<Option<ErrorCode>> = baseline();
    also {
        fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
            error.downcast()
        }
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
fn is_special(what: DescriptorType) -> bool {
    !matches!(what, DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink)
}

fn borrowed(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

impl View<'_> {
    /// Opens a granted file in order to look at it.
    async fn peek(&mut self, root: std::sync::Arc<crate::files::Root>) -> FsResult<Fd> {
        Ok(self.table.push(open_file(root, Opening::default()).await?)?)
    }
}

guarded! {
    DESCRIPTOR: "wasi:filesystem/types@0.2.12", types::HostDescriptor, via filesystem;
    ["[method]descriptor.advise"] async fn advise(&mut self, fd: Fd, offset: u64, length: u64, advice: Advice) -> FsResult<()> = handle(&fd);
    ["[method]descriptor.sync-data"] async fn sync_data(&mut self, fd: Fd) -> FsResult<()> = handle(&fd);
    ["[method]descriptor.get-flags"] async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> = handle(&fd);
    ["[method]descriptor.get-type"] async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> = handle(&fd);
    ["[method]descriptor.set-size"] async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> = resizing(&fd, size);
    ["[method]descriptor.set-times"] async fn set_times(&mut self, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> = handle(&fd);
    ["[method]descriptor.read"] async fn read(&mut self, fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> = handle(&fd);
    ["[method]descriptor.write"] async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: u64) -> FsResult<u64> = writing(&fd, bytes.len());
    ["[method]descriptor.sync"] async fn sync(&mut self, fd: Fd) -> FsResult<()> = handle(&fd);
    ["[method]descriptor.create-directory-at"] async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> = creating(&fd, &path);
    ["[method]descriptor.stat"] async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> = handle(&fd);
    ["[method]descriptor.set-times-at"] async fn set_times_at(&mut self, fd: Fd, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> = changing(&fd, &path);
    ["[method]descriptor.link-at"] async fn link_at(&mut self, fd: Fd, flags: PathFlags, path: String, to: Fd, new_path: String) -> FsResult<()> = moving((&fd, &path), (&to, &new_path));
    ["[method]descriptor.readlink-at"] async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> = reading(&fd, &path);
    ["[method]descriptor.remove-directory-at"] async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> = changing(&fd, &path);
    ["[method]descriptor.rename-at"] async fn rename_at(&mut self, fd: Fd, path: String, to: Fd, new_path: String) -> FsResult<()> = moving((&fd, &path), (&to, &new_path));
    ["[method]descriptor.symlink-at"] async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> = creating(&fd, &path);
    ["[method]descriptor.unlink-file-at"] async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> = changing(&fd, &path);
    ["[method]descriptor.is-same-object"] async fn is_same_object(&mut self, fd: Fd, other: Fd) -> Result<bool> = handles(&fd, &other);
    ["[method]descriptor.metadata-hash"] async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> = handle(&fd);
    ["[method]descriptor.read-via-stream"] sync fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> = handle(&fd);
    ["[method]descriptor.write-via-stream"] sync fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> = custom (function) {
        let _permit = self.handle(function, &fd)?;
        let charge = self.charging(&fd)?;
        let stream = HostDescriptor::write_via_stream(&mut self.filesystem(), fd, offset)?;
        charged(self.table, &stream, charge).map_err(FsError::trap)?;
        Ok(stream)
    };
    ["[method]descriptor.append-via-stream"] sync fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> = custom (function) {
        let _permit = self.handle(function, &fd)?;
        let charge = self.charging(&fd)?;
        let stream = HostDescriptor::append_via_stream(&mut self.filesystem(), fd)?;
        charged(self.table, &stream, charge).map_err(FsError::trap)?;
        Ok(stream)
    };
    ["[method]descriptor.read-directory"] async fn read_directory(&mut self, fd: Fd) -> FsResult<Entries> = custom (function) {
        let _permit = self.handle(function, &fd)?;
        let listing = match self.place(&fd)? {
            Place::Listing(listing) => Some(listing.clone()),
            Place::Granted { .. } => None,
        };
        let entries = HostDescriptor::read_directory(&mut self.filesystem(), fd).await?;
        if let Some(listing) = listing {
            self.list(entries.rep(), &listing);
        }
        Ok(entries)
    };
    ["[method]descriptor.open-at"] async fn open_at(&mut self, fd: Fd, path_flags: PathFlags, path: String, open: OpenFlags, flags: DescriptorFlags) -> FsResult<Fd> = custom (function) {
        let how = opening(open, flags);
        if let Place::Listing(listing) = self.place(&fd)?.clone() {
            let (entry, _permit) = self.listed(function, &listing, &path, how)?;
            return match entry {
                Entry::Itself => self.opened(crate::files::empty_folder()?, Place::Listing(listing)),
                Entry::File(root) => self.opened(open_file(root.clone(), how).await?, root.place()),
            }
            .map_err(FsError::trap);
        }
        let _permit = self.opening(function, &fd, &path, how)?;
        let (root, guest) = self.below(&fd, &path)?;
        let what = HostDescriptor::stat_at(&mut self.filesystem(), borrowed(&fd), path_flags, path.clone()).await;
        if what.is_ok_and(|stat| is_special(stat.type_)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let opened = HostDescriptor::open_at(&mut self.filesystem(), fd, path_flags, path, open, flags).await?;
        self.remember(&opened, Place::Granted { root, path: guest });
        Ok(opened)
    };
    ["[method]descriptor.stat-at"] async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> = custom (function) {
        if let Place::Listing(listing) = self.place(&fd)?.clone() {
            let (entry, _permit) = self.listed(function, &listing, &path, Opening::default())?;
            return match entry {
                Entry::Itself => HostDescriptor::stat(&mut self.filesystem(), fd).await,
                Entry::File(root) => {
                    let opened = self.peek(root).await?;
                    let seen = HostDescriptor::stat(&mut self.filesystem(), borrowed(&opened)).await;
                    self.table.delete(opened)?;
                    seen
                }
            };
        }
        let _permit = self.reading(function, &fd, &path)?;
        HostDescriptor::stat_at(&mut self.filesystem(), fd, flags, path).await
    };
    ["[method]descriptor.metadata-hash-at"] async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> = custom (function) {
        if let Place::Listing(listing) = self.place(&fd)?.clone() {
            let (entry, _permit) = self.listed(function, &listing, &path, Opening::default())?;
            return match entry {
                Entry::Itself => HostDescriptor::metadata_hash(&mut self.filesystem(), fd).await,
                Entry::File(root) => {
                    let opened = self.peek(root).await?;
                    let seen = HostDescriptor::metadata_hash(&mut self.filesystem(), borrowed(&opened)).await;
                    self.table.delete(opened)?;
                    seen
                }
            };
        }
        let _permit = self.reading(function, &fd, &path)?;
        HostDescriptor::metadata_hash_at(&mut self.filesystem(), fd, flags, path).await
    };
    also {
        fn drop(&mut self, fd: Fd) -> Result<()> {
            self.forget(&fd);
            HostDescriptor::drop(&mut self.filesystem(), fd)
        }
    }
}

guarded! {
    ENTRIES: "wasi:filesystem/types@0.2.12", types::HostDirectoryEntryStream, via filesystem;
    ["[method]directory-entry-stream.read-directory-entry"] async fn read_directory_entry(&mut self, entries: Entries) -> FsResult<Option<DirectoryEntry>> = custom (function) {
        let _permit = self.baseline(function)?;
        if let Some(next) = self.next_listed(entries.rep()) {
            return Ok(next.map(|name| DirectoryEntry { type_: DescriptorType::RegularFile, name }));
        }
        HostDirectoryEntryStream::read_directory_entry(&mut self.filesystem(), entries).await
    };
    also {
        fn drop(&mut self, entries: Entries) -> Result<()> {
            self.forget_list(entries.rep());
            HostDirectoryEntryStream::drop(&mut self.filesystem(), entries)
        }
    }
}
