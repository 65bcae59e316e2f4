//! Attacks on the compiler, and on the cache of what it made.

use std::{fmt::Write as _, fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use witan_capability::{CallContext, Limits};
use witan_engine::Settings;
use witan_loader::LoadProblem;
use witan_system::Compile;

use crate::{
    guest::{gives, runs},
    host::{Host, call, engine, service},
};

const SYSTEM: &str = "[components.guest]\nsource = \"guest.wasm\"";

/// A host whose compiler is a child process with these limits.
fn host(compile: Compile) -> Host {
    Host::with(engine(Settings { compile, ..Settings::default() })).compiling_apart()
}

async fn answer(host: &Host) -> u32 {
    let running = host.load(SYSTEM).await.unwrap_or_else(|error| panic!("{error}"));
    let account = host.loader.engine.open_account(Limits::default());
    call(service(&running, "guest"), &CallContext::local(), &account, "run").await.unwrap()
}

/// What the compiler says to `bytes`; after which it still compiles others.
async fn refused(host: &Host, bytes: &[u8]) -> String {
    host.put("guest", bytes);
    let (component, message) = match host.problem(SYSTEM).await {
        LoadProblem::Compile { component, message } => (component, message),
        // What is larger than may be compiled is not even read.
        LoadProblem::Refused { component, refused, .. } => (component, refused.to_string()),
        other => panic!("{other}"),
    };
    assert_eq!(component.as_str(), "guest");
    host.put("guest", &gives(5));
    assert_eq!(answer(host).await, 5);
    message
}

/// One function of so many blocks, each of which may jump to the next: quick to write down, slow to compile.
fn long(blocks: usize) -> Vec<u8> {
    let mut body = String::new();
    for at in 0..blocks {
        let _fits = writeln!(
            body,
            "(if (i32.and (local.get 0) (i32.const {at})) (then (local.set 0 (i32.mul (local.get 0) (i32.const {at})))))"
        );
    }
    runs(&format!(r#"(func (export "run") (result i32) (local i32) {body} (local.get 0))"#))
}

#[tokio::test]
async fn a_component_that_is_slow_to_compile_is_stopped_by_the_clock() {
    let host = host(Compile { time: Duration::from_millis(1_500), ..Compile::default() });
    host.put("guest", &long(10));
    assert_eq!(answer(&host).await, 0);
    let message = refused(&host, &long(400_000)).await;
    assert!(message.contains("host.compile.time"), "{message}");
}

#[tokio::test]
async fn a_component_that_compiles_large_is_stopped_by_its_memory() {
    let host = host(Compile { memory: 512 << 20, ..Compile::default() });
    host.put("guest", &long(10));
    assert_eq!(answer(&host).await, 0);
    let message = refused(&host, &long(400_000)).await;
    assert!(message.contains("host.compile.memory"), "{message}");
}

#[tokio::test]
async fn too_many_bytes_and_functions_are_refused_before_they_are_compiled() {
    let host = host(Compile { size: 100_000, functions: 1_000, ..Compile::default() });
    let functions = |count: usize| {
        let more = "(func (result i32) (i32.const 1))".repeat(count);
        runs(&format!(r#"{more} (func (export "run") (result i32) (i32.const 1))"#))
    };
    host.put("guest", &functions(900));
    assert_eq!(answer(&host).await, 1);
    assert!(refused(&host, &functions(1_000)).await.contains("host.compile.functions"));
    let large = format!(r#"(data "{}") (func (export "run") (result i32) (i32.const 1))"#, "a".repeat(200_000));
    assert!(refused(&host, &runs(&large)).await.contains("host.compile.size"));
}

#[tokio::test]
async fn what_is_no_component_is_refused_in_words() {
    let host = host(Compile::default());
    let good = gives(1);
    let half = &good[..good.len() / 2];
    for bytes in [&b""[..], b"garbage", b"\0asm\x0d\0\x01\0", b"\0asm\x0d\0\x01\0\x63\xff", half] {
        // Nothing in it is nothing wrong with it: the empty component is one.
        if bytes == b"\0asm\x0d\0\x01\0" {
            continue;
        }
        assert!(refused(&host, bytes).await.contains("not a valid component"), "{bytes:?}");
    }
    assert!(refused(&host, &wat::parse_str("(module)").unwrap()).await.contains("wasm-tools component new"));
}

#[tokio::test]
async fn a_compiler_that_cannot_be_started_is_an_error() {
    let mut host = host(Compile::default());
    host.put("guest", &gives(1));
    assert_eq!(answer(&host).await, 1);
    host.loader.compiler.as_mut().unwrap().program = "/does/not/exist".into();
    let problem = host.problem(SYSTEM).await;
    assert!(
        matches!(&problem, LoadProblem::Compile { message, .. } if message.contains("/does/not/exist")),
        "{problem}"
    );
}

fn entries(host: &Host) -> Vec<PathBuf> {
    fs::read_dir(host.folder.path().join("code")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_cache_entry_that_this_host_did_not_write_is_compiled_again_and_never_loaded() {
    let host = Host::new().caching();
    host.put("guest", &gives(3));
    assert_eq!(answer(&host).await, 3);
    let [entry] = &entries(&host)[..] else { panic!("one component, one entry") };
    let file = || fs::metadata(entry).unwrap().ino();
    let genuine = fs::read(entry).unwrap();
    let written = file();
    assert_eq!(answer(&host).await, 3);
    assert_eq!(file(), written, "a genuine entry is taken as it is");

    let flipped = |at: usize| {
        let mut bytes = genuine.clone();
        bytes[at] ^= 1;
        bytes
    };
    let end = genuine.len();
    let mut forged: Vec<Vec<u8>> = [0, 31, 32, 40, 100, end / 4, end / 2, end / 4 * 3, end - 1].map(flipped).into();
    forged.extend([Vec::new(), genuine[..20].to_vec(), genuine[..32].to_vec(), genuine[..end - 1].to_vec()]);
    forged.push([&genuine[..], b"more"].concat());
    forged.push([&[0; 32][..], &genuine[32..]].concat());
    for bytes in forged {
        fs::write(entry, &bytes).unwrap();
        let before = file();
        assert_eq!(answer(&host).await, 3);
        assert_ne!(file(), before, "it was compiled again");
        assert!(fs::read(entry).unwrap() != bytes);
    }
}

#[tokio::test]
async fn a_genuine_entry_under_another_s_name_or_of_another_host_is_not_loaded() {
    let host = Host::new().caching();
    host.put("guest", &gives(4));
    assert_eq!(answer(&host).await, 4);
    let four = entries(&host)[0].clone();
    host.put("guest", &gives(5));
    assert_eq!(answer(&host).await, 5);
    let five = entries(&host).into_iter().find(|entry| *entry != four).unwrap();
    fs::copy(&four, &five).unwrap();
    assert_eq!(answer(&host).await, 5, "not what stands under the name of five");

    let other = Host::new().caching();
    other.put("guest", &gives(5));
    assert_eq!(answer(&other).await, 5);
    let foreign = entries(&other)[0].clone();
    assert_eq!(foreign.file_name(), five.file_name(), "the same component, engine and settings");
    fs::copy(&foreign, &five).unwrap();
    let copied = fs::read(&five).unwrap();
    assert_eq!(answer(&host).await, 5);
    assert_ne!(fs::read(&five).unwrap(), copied, "what another host vouches for is compiled again");
}
