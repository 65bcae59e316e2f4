//! Attacks on the disk: floods, and paths that would lead out of what was granted.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use witan_capability::{Action, Limit, Limits};

use crate::{
    guest::{MEMORY, component},
    host::{Host, short},
};

/// The functions of wasi:filesystem 0.2 that the guests here need, and `$open`, which opens `path` in the first
/// preopened folder and gives the descriptor at 100, or an error's number plus one.
const FILES: &str = r#"
    (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $directories (param i32)))
    (import "wasi:filesystem/types@0.2.12" "[method]descriptor.open-at"
        (func $open-at (param i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.12" "[method]descriptor.write" (func $write (param i32 i32 i32 i64 i32)))
    (import "wasi:filesystem/types@0.2.12" "[method]descriptor.read" (func $read (param i32 i64 i64 i32)))
    (func $open (param $path i32) (param $length i32) (param $create i32) (param $flags i32) (result i32)
        (call $directories (i32.const 80))
        (call $open-at (i32.load (i32.load (i32.const 80))) (i32.const 1)
            (local.get $path) (local.get $length) (local.get $create) (local.get $flags) (i32.const 96))
        (if (result i32) (i32.load8_u (i32.const 96))
            (then (i32.add (i32.load8_u (i32.const 100)) (i32.const 1)))
            (else (i32.const 0))))"#;

const WORLD: &str = "import wasi:filesystem/preopens@0.2.12; import wasi:filesystem/types@0.2.12;";

/// Writes a page to `file` again and again, at the same place or further on each time.
fn writes(further: bool) -> Vec<u8> {
    let step = if further { 65_536 } else { 0 };
    component(
        &format!("{WORLD} export run: func() -> u32; export once: func() -> u32;"),
        &format!(
            r#"{FILES} {MEMORY}
            (data (i32.const 512) "file")
            (func $page (param i64)
                (call $write (i32.load (i32.const 100)) (i32.const 0) (i32.const 65536) (local.get 0) (i32.const 112)))
            (func (export "once") (result i32)
                (if (result i32) (call $open (i32.const 512) (i32.const 4) (i32.const 1) (i32.const 2))
                    (then (i32.const 100))
                    (else (call $page (i64.const 0)) (i32.load8_u (i32.const 112)))))
            (func (export "run") (result i32) (local i64)
                (if (call $open (i32.const 512) (i32.const 4) (i32.const 1) (i32.const 2)) (then (unreachable)))
                (loop $more
                    (call $page (local.get 0))
                    (local.set 0 (i64.add (local.get 0) (i64.const {step})))
                    (br_if $more (i32.eqz (i32.load8_u (i32.const 112)))))
                (i32.add (i32.load8_u (i32.const 120)) (i32.const 1)))"#
        ),
    )
}

fn grant(folder: &Path, rest: &str) -> String {
    format!("grants.filesystem = [{{ path = {:?}, guest = \"/out\"{rest} }}]", folder.to_str().unwrap())
}

#[tokio::test]
async fn a_flood_of_the_disk_ends_with_the_bytes_that_a_call_may_write() {
    let host = Host::new();
    let out = tempfile::tempdir().unwrap();
    for further in [true, false] {
        let guest = host.guest(&writes(further), &grant(out.path(), ", access = \"read-write\"")).await;
        assert_eq!(guest.call("once").await, Ok(0));
        let limits = Limits { disk_bytes: 1 << 20, ..short() };
        assert_eq!(guest.attack_limited(limits).await, Limit::DiskBytes);
        assert!(fs::metadata(out.path().join("file")).unwrap().len() <= 1 << 20);
    }
}

#[tokio::test]
async fn a_flood_of_one_grant_fills_that_grant_and_says_so_to_the_guest() {
    /// Its number among the error codes of wasi:filesystem 0.2.
    const INSUFFICIENT_SPACE: u32 = 23;
    let host = Host::new();
    let out = tempfile::tempdir().unwrap();
    let guest =
        host.guest(&writes(true), &grant(out.path(), ", access = \"read-write\", max-bytes = \"256KiB\"")).await;
    assert_eq!(guest.call("run").await, Ok(INSUFFICIENT_SPACE + 1));
    assert!(fs::metadata(out.path().join("file")).unwrap().len() <= 256 << 10);
}

#[tokio::test]
async fn a_folder_granted_for_reading_is_not_written_to() {
    let host = Host::new();
    let out = tempfile::tempdir().unwrap();
    let guest = host.guest(&writes(true), &grant(out.path(), "")).await;
    assert_eq!(guest.call("once").await, Ok(100));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    let newest = host.policy.log().newest(1).remove(0);
    assert!(!newest.allowed && newest.action == Action::FileWrite, "{newest:?}");
}

/// Opens `path` and gives the first byte of it, or the number of an error plus 1000.
fn reads(path: &str) -> Vec<u8> {
    let length = path.len();
    component(
        &format!("{WORLD} export run: func() -> u32;"),
        &format!(
            r#"{FILES} {MEMORY}
            (data (i32.const 512) {path:?})
            (func (export "run") (result i32) (local i32)
                (local.set 0 (call $open (i32.const 512) (i32.const {length}) (i32.const 0) (i32.const 1)))
                (if (local.get 0) (then (return (i32.add (local.get 0) (i32.const 1000)))))
                (call $read (i32.load (i32.const 100)) (i64.const 1) (i64.const 0) (i32.const 112))
                (if (i32.load8_u (i32.const 112)) (then (return (i32.const 2000))))
                (i32.load8_u (i32.load (i32.const 116))))"#
        ),
    )
}

/// A folder `granted`, with `file` in it that holds `f`, beside a `secret` that holds `s`.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let disk = tempfile::tempdir().unwrap();
        fs::create_dir_all(disk.path().join("granted/folder")).unwrap();
        fs::write(disk.path().join("granted/file"), "f").unwrap();
        fs::write(disk.path().join("granted/folder/secret"), "f").unwrap();
        fs::write(disk.path().join("secret"), "s").unwrap();
        Self(disk)
    }

    fn granted(&self) -> std::path::PathBuf {
        self.0.path().canonicalize().unwrap().join("granted")
    }
}

const F: u32 = b'f' as u32;

#[tokio::test]
async fn no_path_leads_out_of_a_grant() {
    let (host, disk) = (Host::new(), Disk::new());
    let granted = disk.granted();
    let secret = granted.parent().unwrap().join("secret");
    symlink("../secret", granted.join("relative")).unwrap();
    symlink(&secret, granted.join("absolute")).unwrap();
    symlink("..", granted.join("up")).unwrap();
    symlink("up/secret", granted.join("twice")).unwrap();
    symlink("file", granted.join("inside")).unwrap();
    for path in ["file", "folder/secret", "folder/../file", "./file", "inside"] {
        assert_eq!(host.guest(&reads(path), &grant(&granted, "")).await.call("run").await, Ok(F), "{path}");
    }
    let secret = secret.to_str().unwrap();
    for path in [
        "../secret",
        "folder/../../secret",
        "./../secret",
        "relative",
        "absolute",
        "up/secret",
        "twice",
        secret,
        "/etc/passwd",
        "/proc/self/environ",
        "folder/../up/secret",
        "..//secret",
        "missing/../../secret",
    ] {
        let code = host.guest(&reads(path), &grant(&granted, "")).await.call("run").await.unwrap();
        assert!((1000..2000).contains(&code), "{path}: {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_under_the_guest_never_leads_out() {
    let (host, disk) = (Host::new(), Disk::new());
    let granted = disk.granted();
    symlink("folder", granted.join("swapped")).unwrap();
    let guest = host.guest(&reads("swapped/secret"), &grant(&granted, "")).await;
    assert_eq!(guest.call("run").await, Ok(F));
    let stop = AtomicBool::new(false);
    let swap = || {
        for target in ["..", "folder"].iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            symlink(target, granted.join("next")).unwrap();
            fs::rename(granted.join("next"), granted.join("swapped")).unwrap();
        }
    };
    let runtime = tokio::runtime::Handle::current();
    let seen: Vec<_> = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(swap);
            let seen = (0..300).map(|_| runtime.block_on(guest.call("run")).unwrap()).collect();
            stop.store(true, Ordering::Relaxed);
            seen
        })
    });
    assert!(seen.iter().all(|byte| *byte == F || (1000..2000).contains(byte)), "{seen:?}");
}
