use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::{
        preopens,
        types::{
            Descriptor, DescriptorFlags, ErrorCode, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags,
        },
    },
};
use wasmtime_wasi_io::bindings::wasi::io::streams::HostOutputStream;
use witan_capability::{Action, CallContext, CallError, Limits, Meter, TaskFile};
use witan_system::{Access, Files, FilesystemGrant, Grants};

use super::{Guest, folder, grant};

pub(super) type Fd = Resource<Descriptor>;

fn borrow(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// A folder `granted` with `file` in it, beside a `secret` that is not granted.
pub(super) fn disk() -> (TempDir, PathBuf) {
    let disk = tempfile::tempdir().unwrap();
    let granted = disk.path().canonicalize().unwrap().join("granted");
    fs::create_dir(&granted).unwrap();
    fs::write(granted.join("file"), "hello").unwrap();
    fs::write(disk.path().join("secret"), "secret").unwrap();
    (disk, granted)
}

impl Guest {
    pub(super) fn root(&mut self) -> Fd {
        let mut preopens = preopens::Host::get_directories(&mut self.view()).unwrap();
        assert_eq!(preopens.len(), 1);
        preopens.remove(0).0
    }

    async fn open(&mut self, fd: &Fd, path: &str, open: OpenFlags, flags: DescriptorFlags) -> FsResult<Fd> {
        self.view().open_at(borrow(fd), PathFlags::SYMLINK_FOLLOW, path.to_owned(), open, flags).await
    }

    pub(super) async fn read(&mut self, fd: &Fd, path: &str) -> Result<Vec<u8>, ErrorCode> {
        let opened = self.open(fd, path, OpenFlags::empty(), DescriptorFlags::READ).await.map_err(code)?;
        let (bytes, _) = HostDescriptor::read(&mut self.view(), borrow(&opened), 100, 0).await.map_err(code)?;
        HostDescriptor::drop(&mut self.view(), opened).unwrap();
        Ok(bytes)
    }

    pub(super) async fn create(&mut self, fd: &Fd, path: &str) -> Result<Fd, ErrorCode> {
        self.open(fd, path, OpenFlags::CREATE, DescriptorFlags::WRITE).await.map_err(code)
    }

    async fn write(&mut self, fd: &Fd, bytes: usize) -> FsResult<u64> {
        HostDescriptor::write(&mut self.view(), borrow(fd), vec![0; bytes], 0).await
    }
}

fn code(error: wasmtime_wasi::p2::FsError) -> ErrorCode {
    error.downcast().unwrap()
}

#[tokio::test]
async fn what_was_granted_is_read() {
    let (_disk, granted) = disk();
    let mut guest = Guest::new(folder(&granted, "/docs", Access::Read));
    let root = guest.root();
    assert_eq!(guest.read(&root, "file").await.unwrap(), b"hello");
    let asked = guest.asked();
    assert_eq!(asked[0], (Action::FileRead, "/docs/file".to_owned()));
    assert_eq!(asked[1], (Action::Handle, "/docs/file".to_owned()));
}

#[tokio::test]
async fn no_path_leads_out() {
    let (disk, granted) = disk();
    let outside = disk.path().canonicalize().unwrap().join("secret");
    symlink("../secret", granted.join("relative")).unwrap();
    symlink(&outside, granted.join("absolute")).unwrap();
    symlink("..", granted.join("up")).unwrap();
    let mut guest = Guest::new(folder(&granted, "/docs", Access::ReadWrite));
    let root = guest.root();
    let outside = outside.to_str().unwrap();
    for path in ["../secret", "a/../../secret", "relative", "absolute", "up/secret", outside, "/etc/passwd"] {
        let error = guest.read(&root, path).await.unwrap_err();
        assert!(matches!(error, ErrorCode::NotPermitted | ErrorCode::NoEntry), "{path}: {error}");
        assert!(guest.create(&root, path).await.is_err(), "{path}");
    }
    let link = guest.view().symlink_at(borrow(&root), "/etc".into(), "etc".into()).await.map_err(code);
    assert_eq!(link.unwrap_err(), ErrorCode::NotPermitted);
    assert_eq!(fs::read_to_string(disk.path().join("secret")).unwrap(), "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_changes_under_the_guest_never_leads_out() {
    let (disk, granted) = disk();
    fs::create_dir(granted.join("real")).unwrap();
    fs::write(granted.join("real/secret"), "harmless").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let swap = || {
        let (here, there) = (granted.join("swapped"), granted.join("next"));
        for target in ["real", ".."].iter().cycle() {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            symlink(target, &there).unwrap();
            fs::rename(&there, &here).unwrap();
        }
    };
    let mut guest = Guest::new(folder(&granted, "/docs", Access::Read));
    let root = guest.root();
    let runtime = tokio::runtime::Handle::current();
    let seen: Vec<_> = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(swap);
            let seen = (0..200).map(|_| runtime.block_on(guest.read(&root, "swapped/secret"))).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            seen
        })
    });
    assert!(seen.iter().all(|read| read.as_ref().map_or(true, |bytes| bytes == b"harmless")));
    drop(disk);
}

#[tokio::test]
async fn a_grant_for_reading_changes_nothing() {
    let (_disk, granted) = disk();
    let mut guest = Guest::new(folder(&granted, "/docs", Access::Read));
    let root = guest.root();
    assert_eq!(guest.create(&root, "new").await.unwrap_err(), ErrorCode::NotPermitted);
    let truncated = guest.open(&root, "file", OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await.map_err(code);
    assert_eq!(truncated.unwrap_err(), ErrorCode::NotPermitted);
    let mut view = guest.view();
    assert!(view.unlink_file_at(borrow(&root), "file".into()).await.is_err());
    assert!(view.rename_at(borrow(&root), "file".into(), borrow(&root), "other".into()).await.is_err());
    assert!(view.create_directory_at(borrow(&root), "folder".into()).await.is_err());
    assert_eq!(fs::read_to_string(granted.join("file")).unwrap(), "hello");
    assert_eq!(fs::read_dir(&granted).unwrap().count(), 1);
}

#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    let (_disk, granted) = disk();
    pipe(&granted.join("pipe"));
    let mut guest = Guest::new(folder(&granted, "/docs", Access::ReadWrite));
    let root = guest.root();
    assert_eq!(guest.read(&root, "pipe").await.unwrap_err(), ErrorCode::NotPermitted);
    assert_eq!(guest.create(&root, "pipe").await.unwrap_err(), ErrorCode::NotPermitted);
}

#[tokio::test]
async fn a_refusal_by_policy_is_not_permitted() {
    let (_disk, granted) = disk();
    let grants = folder(&granted, "/docs", Access::ReadWrite);
    let mut guest =
        Guest::with(grants, CallContext::local(), Limits::default(), |request| request.action != Action::FileWrite);
    let root = guest.root();
    assert!(guest.read(&root, "file").await.is_ok());
    assert_eq!(guest.create(&root, "new").await.unwrap_err(), ErrorCode::NotPermitted);
    assert!(!granted.join("new").exists());
    assert_eq!(guest.state.call().kernel.denials.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_handle_dies_with_its_leave() {
    let (_disk, granted) = disk();
    let grants = folder(&granted, "/docs", Access::Read);
    let mut guest =
        Guest::with(grants, CallContext::local(), Limits::default(), |request| request.action != Action::Handle);
    let root = guest.root();
    let opened = guest.open(&root, "file", OpenFlags::empty(), DescriptorFlags::READ).await.unwrap();
    let read = HostDescriptor::read(&mut guest.view(), opened, 5, 0).await.map_err(code);
    assert_eq!(read.unwrap_err(), ErrorCode::NotPermitted);
}

#[tokio::test]
async fn a_grant_has_its_bytes_once_for_the_whole_call_tree() {
    let (_disk, granted) = disk();
    let grants =
        Grants { filesystem: vec![grant(&granted, "/docs", Access::ReadWrite, Some(5000))], ..Grants::default() };
    let mut guest = Guest::new(grants);
    let root = guest.root();
    let file = guest.create(&root, "new").await.unwrap();
    assert_eq!(guest.write(&file, 500).await.unwrap(), 500);
    assert_eq!(guest.write(&file, 500).await.map_err(code).unwrap_err(), ErrorCode::InsufficientSpace);
    let mut sibling = guest.again();
    let root = sibling.root();
    let file = sibling.open(&root, "file", OpenFlags::empty(), DescriptorFlags::WRITE).await.unwrap();
    assert_eq!(sibling.write(&file, 500).await.map_err(code).unwrap_err(), ErrorCode::InsufficientSpace);
    let grown = sibling.view().set_size(borrow(&file), 5_000_000).await.map_err(code);
    assert_eq!(grown.unwrap_err(), ErrorCode::InsufficientSpace);
    let stream = sibling.view().append_via_stream(borrow(&file)).unwrap();
    assert!(sibling.view().blocking_write_and_flush(stream, vec![0; 500]).await.is_err());
    assert!(sibling.state.call().account.ended().is_none(), "a full grant does not end the call");
    assert_eq!(fs::metadata(granted.join("file")).unwrap().len(), 5);
}

#[tokio::test]
async fn a_flood_of_writes_ends_the_call_tree() {
    let (_disk, granted) = disk();
    let limits = Limits { disk_bytes: 5000, ..Limits::default() };
    let grants = folder(&granted, "/docs", Access::ReadWrite);
    let mut guest = Guest::with(grants, CallContext::local(), limits, |_| true);
    let root = guest.root();
    let file = guest.create(&root, "new").await.unwrap();
    guest.write(&file, 500).await.unwrap();
    let error = guest.write(&file, 500).await.unwrap_err().downcast().unwrap_err();
    assert!(matches!(CallError::from_engine("guest", &error), CallError::Limit(_)));
    assert_eq!(guest.state.call().account.used(Meter::DiskBytes), 4596);
    assert!(guest.state.call().account.ended().is_some());
}

pub(super) fn task(files: &[(&str, PathBuf)]) -> CallContext {
    let files = files.iter().map(|(guest, host)| TaskFile {
        name: "file".into(),
        guest: (*guest).to_owned(),
        host: host.clone(),
    });
    CallContext::local().for_task(uuid::Uuid::now_v7(), files.collect())
}

pub(super) fn task_grant() -> Grants {
    let grant = FilesystemGrant { files: Files::Task, access: Access::ReadWrite, max_bytes: None };
    Grants { filesystem: vec![grant], ..Grants::default() }
}

#[tokio::test]
async fn a_task_sees_its_file_and_nothing_beside_it() {
    let (_disk, granted) = disk();
    fs::write(granted.join("sibling"), "sibling").unwrap();
    let context = task(&[("/task/0/file", granted.join("file"))]);
    let mut guest = Guest::with(task_grant(), context, Limits::default(), |_| true);
    let root = guest.root();
    assert_eq!(guest.read(&root, "file").await.unwrap(), b"hello");
    assert_eq!(guest.read(&root, "./file").await.unwrap(), b"hello");
    assert_eq!(guest.read(&root, "sibling").await.unwrap_err(), ErrorCode::NoEntry);
    for path in ["../file", "..", "/etc/passwd", "file/../sibling", "a/file"] {
        assert_eq!(guest.read(&root, path).await.unwrap_err(), ErrorCode::NotPermitted, "{path}");
    }
    let entries = guest.view().read_directory(borrow(&root)).await.unwrap();
    let first = guest.view().read_directory_entry(Resource::new_borrow(entries.rep())).await.unwrap();
    assert_eq!(first.unwrap().name, "file");
    assert!(guest.view().read_directory_entry(entries).await.unwrap().is_none());
    let stat = guest.view().stat_at(borrow(&root), PathFlags::empty(), "file".into()).await.unwrap();
    assert_eq!(stat.size, 5);
    assert!(guest.view().stat_at(borrow(&root), PathFlags::empty(), "sibling".into()).await.is_err());
    assert!(guest.view().stat(borrow(&root)).await.is_ok());
    let itself = guest.open(&root, ".", OpenFlags::DIRECTORY, DescriptorFlags::READ).await.unwrap();
    assert_eq!(guest.read(&itself, "file").await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_tasks_file_is_only_read_and_its_folder_never_changed() {
    let (_disk, granted) = disk();
    let context = task(&[("/task/0/file", granted.join("file"))]);
    let mut guest = Guest::with(task_grant(), context, Limits::default(), |_| true);
    let root = guest.root();
    let written = guest.open(&root, "file", OpenFlags::empty(), DescriptorFlags::WRITE).await.map_err(code);
    assert_eq!(written.unwrap_err(), ErrorCode::NotPermitted);
    assert!(guest.create(&root, "new").await.is_err());
    let mut view = guest.view();
    assert!(view.unlink_file_at(borrow(&root), "file".into()).await.is_err());
    assert!(view.rename_at(borrow(&root), "file".into(), borrow(&root), "x".into()).await.is_err());
    assert!(view.link_at(borrow(&root), PathFlags::empty(), "file".into(), borrow(&root), "x".into()).await.is_err());
    assert!(view.symlink_at(borrow(&root), "file".into(), "x".into()).await.is_err());
    assert!(view.create_directory_at(borrow(&root), "x".into()).await.is_err());
    assert!(view.readlink_at(borrow(&root), "file".into()).await.is_err());
    assert_eq!(fs::read_to_string(granted.join("file")).unwrap(), "hello");
    assert_eq!(fs::read_dir(&granted).unwrap().count(), 1);
}

#[tokio::test]
async fn a_tasks_file_that_became_a_link_or_a_pipe_is_not_followed() {
    let (disk, granted) = disk();
    let context = task(&[("/task/0/file", granted.join("file"))]);
    let mut guest = Guest::with(task_grant(), context, Limits::default(), |_| true);
    let root = guest.root();
    fs::remove_file(granted.join("file")).unwrap();
    symlink(disk.path().join("secret"), granted.join("file")).unwrap();
    assert_eq!(guest.read(&root, "file").await.unwrap_err(), ErrorCode::Loop);
    fs::remove_file(granted.join("file")).unwrap();
    pipe(&granted.join("file"));
    assert_eq!(guest.read(&root, "file").await.unwrap_err(), ErrorCode::NotPermitted);
}

#[tokio::test]
async fn a_granted_file_is_written_and_its_siblings_are_not() {
    let (_disk, granted) = disk();
    let mut guest = Guest::new(folder(&granted.join("file"), "/docs/notes", Access::ReadWrite));
    let root = guest.root();
    let file = guest.open(&root, "notes", OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await.unwrap();
    guest.write(&file, 3).await.unwrap();
    assert_eq!(fs::read(granted.join("file")).unwrap(), [0; 3]);
    assert_eq!(guest.create(&root, "file").await.unwrap_err(), ErrorCode::NoEntry);
}
