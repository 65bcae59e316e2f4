//! A process that is killed while it writes to the cache of code leaves entries that are whole, or none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{fs, path::Path, sync::Arc};

use witan_engine::{Cache, CompileError, Engine, Settings, Trust};
use witan_rounds::{kill, random, rounds};
use witan_system::Pool;

fn engine() -> Arc<Engine> {
    Engine::new(Settings { pool: Pool { instances: 1, ..Pool::default() }, ..Settings::default() }).unwrap()
}

fn cache(folder: &Path) -> Cache {
    Cache::open(folder.join("code"), &folder.join("key")).unwrap()
}

/// A component that gives `number`, large enough for its code to be written in pieces.
fn component(number: u32) -> Vec<u8> {
    let more: String = (0..200).map(|more| format!("(func (result i32) (i32.const {more}))")).collect();
    let text = format!(
        r#"(component
            (core module $m {more} (func (export "run") (result i32) (i32.const {number})))
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    );
    wat::parse_str(text).unwrap()
}

/// Compiles one component after another.
fn compile(folder: &Path) {
    let (engine, cache) = (engine(), cache(folder));
    for number in 0_u32.. {
        let component = component(number);
        kill::begun(number);
        engine.compile(&component, Trust::Own, None, Some(&cache)).unwrap();
        kill::done(number);
    }
}

#[test]
fn an_entry_is_whole_or_compiled_again() {
    if let Some(folder) = kill::work() {
        return compile(&folder);
    }
    let (mut random, engine) = (random(), engine());
    let (mut whole, mut broken_off) = (0, 0);
    for _ in rounds("kill a write to the code cache", 15) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = kill::child("an_entry_is_whole_or_compiled_again", folder.path()).unwrap();
        let told = kill::interrupted(&mut child, &mut random).unwrap();
        let cache = cache(folder.path());
        let mut there = 0;
        for (number, done) in told {
            let bytes = component(number.parse().unwrap());
            let sound = engine.compile(&bytes, Trust::Own, None, None).unwrap().serialize().unwrap();
            // Without a compiler, foreign bytes have their code from the cache or not at all.
            match engine.compile(&bytes, Trust::Foreign, None, Some(&cache)) {
                Ok(code) => {
                    assert_eq!(code.serialize().unwrap(), sound, "{number} is other code");
                    there += 1;
                }
                Err(CompileError::NoCompiler) => {
                    assert!(!done, "{number} was written and is gone");
                    broken_off += 1;
                }
                Err(error) => panic!("{error}"),
            }
            let again = engine.compile(&bytes, Trust::Own, None, Some(&cache)).unwrap();
            assert_eq!(again.serialize().unwrap(), sound);
        }
        let is_entry = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "code");
        let entries =
            fs::read_dir(folder.path().join("code")).unwrap().filter(|entry| is_entry(entry.as_ref().unwrap()));
        assert!(entries.count() >= there);
        whole += there;
    }
    assert!(whole > 10 && broken_off > 2, "{whole} whole and {broken_off} broken off prove nothing");
}
