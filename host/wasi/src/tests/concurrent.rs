//! WASI 0.3, whose functions run beside one another in a store.

use std::{
    fs,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::channel::oneshot;
use tokio::{io::AsyncReadExt, net::TcpListener};
use wasmtime::{
    Engine, Store, StoreContextMut,
    component::{
        Access, Accessor, FutureConsumer, FutureReader, Lift, Resource, Source, StreamConsumer, StreamReader,
        StreamResult,
    },
};
use wasmtime_wasi::p3::bindings::{
    cli::stdout,
    filesystem::{
        preopens,
        types::{Descriptor, DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags},
    },
    sockets::{ip_name_lookup, types as sockets},
};
use witan_capability::{Action, CallContext, CallState, Limits, Meter, Request, TaskFile};
use witan_system::{Access as Grant, Files, FilesystemGrant, Grants};

use super::{Guest, folder, grant};
use crate::view::{Guarded, view};

type Wasi = Accessor<CallState, Guarded>;
type Fd = Resource<Descriptor>;

/// Runs `work` as host functions of a store run.
async fn run<T: Send + 'static>(guest: Guest, work: impl AsyncFnOnce(&Wasi) -> T + Send) -> (T, Store<CallState>) {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model_async(true);
    let mut store = Store::new(&Engine::new(&config).unwrap(), guest.state);
    let done = store.run_concurrent(async |store| work(&store.with_getter::<Guarded>(view)).await).await.unwrap();
    (done, store)
}

fn access<T>(wasi: &Wasi, work: impl FnOnce(Access<'_, CallState, Guarded>) -> T) -> T {
    wasi.with(work)
}

fn borrow(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

fn root(wasi: &Wasi) -> Fd {
    access(wasi, |mut store| preopens::Host::get_directories(&mut store.get()).unwrap().remove(0).0)
}

async fn open(wasi: &Wasi, fd: &Fd, path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Fd, ErrorCode> {
    let opened = Guarded::open_at(wasi, borrow(fd), PathFlags::SYMLINK_FOLLOW, path.to_owned(), open, flags).await;
    opened.map_err(|error| error.downcast().unwrap())
}

struct Collected(Arc<Mutex<Vec<u8>>>);

impl StreamConsumer<CallState> for Collected {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<CallState>,
        source: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let bytes = source.remaining().to_vec();
        source.mark_read(bytes.len());
        self.0.lock().unwrap().extend(bytes);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

struct Resolved<T>(Option<oneshot::Sender<T>>);

impl<T: Lift + Send + 'static> FutureConsumer<CallState> for Resolved<T> {
    type Item = T;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<CallState>,
        mut source: Source<'_, T>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut value = None;
        source.read(store, &mut value)?;
        if let (Some(value), Some(sender)) = (value, self.0.take()) {
            let _gone = sender.send(value);
        }
        Poll::Ready(Ok(()))
    }
}

async fn outcome(wasi: &Wasi, future: FutureReader<Result<(), ErrorCode>>) -> Result<(), ErrorCode> {
    let (sender, receiver) = oneshot::channel();
    access(wasi, |store| future.pipe(store, Resolved(Some(sender))).unwrap());
    receiver.await.unwrap()
}

async fn read(wasi: &Wasi, fd: &Fd) -> Result<Vec<u8>, ErrorCode> {
    let bytes = Arc::new(Mutex::default());
    let collected = Collected(bytes.clone());
    let future = access(wasi, |mut store| {
        let inner = Access::<_, Guarded>::new(wasmtime::AsContextMut::as_context_mut(&mut store), view);
        let (stream, future) = Guarded::read_via_stream(inner, borrow(fd), 0).unwrap();
        stream.pipe(&mut store, collected).unwrap();
        future
    });
    outcome(wasi, future).await?;
    Ok(std::mem::take(&mut *bytes.lock().unwrap()))
}

async fn append(wasi: &Wasi, fd: &Fd, bytes: &[u8]) -> Result<(), ErrorCode> {
    let bytes = bytes.to_vec();
    let future = access(wasi, |mut store| {
        let data = StreamReader::new(&mut store, bytes).unwrap();
        Guarded::append_via_stream(store, borrow(fd), data).unwrap()
    });
    outcome(wasi, future).await
}

#[tokio::test]
async fn a_granted_folder_is_read_and_written_and_charged() {
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("file"), "hello").unwrap();
    let guest = Guest::new(folder(disk.path(), "/docs", Grant::ReadWrite));
    let (read, store) = run(guest, async |wasi: &Wasi| {
        let root = root(wasi);
        let file = open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::READ | DescriptorFlags::WRITE)
            .await
            .unwrap();
        append(wasi, &file, b", world").await.unwrap();
        assert!(open(wasi, &root, "../etc", OpenFlags::empty(), DescriptorFlags::READ).await.is_err());
        read(wasi, &file).await
    })
    .await;
    assert_eq!(read.unwrap(), b"hello, world");
    assert_eq!(fs::read(disk.path().join("file")).unwrap(), b"hello, world");
    assert_eq!(store.data().call().account.used(Meter::DiskBytes), 7);
}

#[tokio::test]
async fn what_the_grant_has_no_room_for_is_the_outcome_of_the_write() {
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("file"), "").unwrap();
    let filesystem = vec![grant(disk.path(), "/docs", Grant::ReadWrite, Some(4))];
    let guest = Guest::new(Grants { filesystem, ..Grants::default() });
    let (written, store) = run(guest, async |wasi: &Wasi| {
        let root = root(wasi);
        let file = open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::WRITE).await.unwrap();
        append(wasi, &file, b"hello").await
    })
    .await;
    assert!(matches!(written, Err(ErrorCode::InsufficientSpace)));
    assert!(store.data().call().account.ended().is_none());
}

#[tokio::test]
async fn a_grant_for_reading_is_not_written_through() {
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("file"), "hello").unwrap();
    let guest = Guest::new(folder(disk.path(), "/docs", Grant::Read));
    let (written, _store) = run(guest, async |wasi: &Wasi| {
        let root = root(wasi);
        let file = open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::READ).await.unwrap();
        assert!(open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::WRITE).await.is_err());
        append(wasi, &file, b"!").await
    })
    .await;
    assert!(matches!(written, Err(ErrorCode::NotPermitted)));
    assert_eq!(fs::read(disk.path().join("file")).unwrap(), b"hello");
}

#[tokio::test]
async fn a_task_sees_its_file_and_nothing_beside_it() {
    let disk = tempfile::tempdir().unwrap();
    let host = disk.path().canonicalize().unwrap().join("file");
    fs::write(&host, "hello").unwrap();
    fs::write(disk.path().join("sibling"), "sibling").unwrap();
    let file = TaskFile { name: "file".into(), guest: "/task/0/file".into(), host };
    let context = CallContext::local().for_task(uuid::Uuid::now_v7(), vec![file]);
    let filesystem = vec![FilesystemGrant { files: Files::Task, access: Grant::Read, max_bytes: None }];
    let grants = Grants { filesystem, ..Grants::default() };
    let guest = Guest::with(grants, context, Limits::default(), |_| true);
    let (bytes, _store) = run(guest, async |wasi: &Wasi| {
        let root = root(wasi);
        for path in ["sibling", "../file", "/etc/passwd"] {
            assert!(open(wasi, &root, path, OpenFlags::empty(), DescriptorFlags::READ).await.is_err(), "{path}");
        }
        let stat = Guarded::stat_at(wasi, borrow(&root), PathFlags::empty(), "file".into()).await.unwrap();
        assert_eq!(stat.size, 5);
        let unlinked = Guarded::unlink_file_at(wasi, borrow(&root), "file".into()).await;
        assert!(unlinked.is_err());
        let file = open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::READ).await.unwrap();
        read(wasi, &file).await
    })
    .await;
    assert_eq!(bytes.unwrap(), b"hello");
}

#[tokio::test]
async fn a_refused_handle_reads_nothing() {
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("file"), "hello").unwrap();
    let grants = folder(disk.path(), "/docs", Grant::Read);
    let guest =
        Guest::with(grants, CallContext::local(), Limits::default(), |request| request.action != Action::Handle);
    let (read, _store) = run(guest, async |wasi: &Wasi| {
        let root = root(wasi);
        let file = open(wasi, &root, "file", OpenFlags::empty(), DescriptorFlags::READ).await.unwrap();
        read(wasi, &file).await
    })
    .await;
    assert!(matches!(read, Err(ErrorCode::NotPermitted)));
}

async fn connect(wasi: &Wasi, to: std::net::SocketAddr) -> Result<Resource<sockets::TcpSocket>, sockets::ErrorCode> {
    let socket = access(wasi, |mut store| {
        sockets::HostTcpSocket::create(&mut store.get(), sockets::IpAddressFamily::Ipv4).unwrap()
    });
    let borrowed = Resource::new_borrow(socket.rep());
    let connected = <Guarded as sockets::HostTcpSocketWithStore<CallState>>::connect(wasi, borrowed, to.into()).await;
    connected.map(|()| socket).map_err(|error| error.downcast().unwrap())
}

#[tokio::test]
async fn what_is_sent_arrives_and_is_charged() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (received, store) = run(Guest::new(Grants::default()), async |wasi: &Wasi| {
        let socket = connect(wasi, address).await.unwrap();
        access(wasi, |mut store| {
            let data = StreamReader::new(&mut store, b"hello".to_vec()).unwrap();
            sockets::HostTcpSocketWithStore::send(store, socket, data).unwrap();
        });
        let mut received = [0; 5];
        server.accept().await.unwrap().0.read_exact(&mut received).await.unwrap();
        received
    })
    .await;
    assert_eq!(&received, b"hello");
    assert_eq!(store.data().call().account.used(Meter::BytesOut), 5);
}

#[tokio::test]
async fn refused_addresses_and_names_are_access_denied() {
    let allow: fn(&Request<'_>) -> bool = |request| !request.action.is_egress();
    let guest = Guest::with(Grants::default(), CallContext::local(), Limits::default(), allow);
    let ((connected, found), _store) = run(guest, async |wasi: &Wasi| {
        let found = <Guarded as ip_name_lookup::HostWithStore<CallState>>::resolve_addresses(wasi, "localhost".into());
        (connect(wasi, "127.0.0.1:80".parse().unwrap()).await.map(|_| ()), found.await.unwrap())
    })
    .await;
    assert!(matches!(connected, Err(sockets::ErrorCode::AccessDenied)));
    assert!(matches!(found, Err(ip_name_lookup::ErrorCode::AccessDenied)));
}

#[tokio::test]
async fn output_is_charged() {
    let ((), store) = run(Guest::new(Grants::default()), async |wasi: &Wasi| {
        let (sender, receiver) = oneshot::channel();
        access(wasi, |mut store| {
            let data = StreamReader::new(&mut store, b"hello\n".to_vec()).unwrap();
            let inner = Access::<_, Guarded>::new(wasmtime::AsContextMut::as_context_mut(&mut store), view);
            let future = <Guarded as stdout::HostWithStore<CallState>>::write_via_stream(inner, data).unwrap();
            future.pipe(store, Resolved(Some(sender))).unwrap();
        });
        receiver.await.unwrap().unwrap();
    })
    .await;
    assert_eq!(store.data().call().account.used(Meter::LogBytes), 106);
}
