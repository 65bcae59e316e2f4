//! `witan` is killed at any moment of a push and of a first call, which pulls, verifies, compiles and locks: nothing that is
//! not whole is trusted, and the next command gives the right answer.

use std::{fs, time::Instant};

use witan_rounds::{kill::Moments, random, rounds};

use crate::{Home, SUMS, world::World};

const CALL: [&str; 5] = ["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"];

/// Forgets all that a host keeps.
fn forget(home: &Home) {
    for folder in [".witan", ".local/share/witan/components"] {
        let _none = fs::remove_dir_all(home.path(folder));
    }
    let _none = fs::remove_file(home.path("witan.lock"));
}

#[test]
fn a_call_that_is_killed_leaves_nothing_half_that_is_trusted() {
    let world = World::new();
    let began = Instant::now();
    world.call(&[]).well();
    let mut moments = Moments::new(began.elapsed(), random());
    let locked = fs::read_to_string(world.home.path("witan.lock")).unwrap();
    let trusting = world.system();
    let other = Home::new();
    other.key("release");
    let other = other.run(&["keys", "export", "release"]).well().out;
    let trusting_another = trusting.replace(world.key().trim(), other.trim());

    for round in rounds("kill a pull, verify, compile and lock", 8) {
        forget(&world.home);
        // Every other time it is one that must be refused, before and after.
        let trusted = round % 2 == 0;
        world.write_system(if trusted { &trusting } else { &trusting_another });
        let arguments = if round % 4 < 2 { &CALL[..] } else { &["verify", "acme:sums@1.0.0"] };
        moments.kill(&mut world.home.command(arguments)).unwrap();
        if let Ok(found) = fs::read_to_string(world.home.path("witan.lock")) {
            assert_eq!(found, locked);
        }
        let verified = world.home.run(&["verify", "acme:sums@1.0.0"]);
        if trusted {
            assert!(verified.well().out.contains("signed by the key"));
            assert_eq!(world.call(&[]).well().out.trim(), "8");
            assert_eq!(fs::read_to_string(world.home.path("witan.lock")).unwrap(), locked);
            assert_eq!(world.call(&["--locked"]).well().out.trim(), "8");
        } else {
            verified.badly(&["is not trusted"]);
            world.call(&[]).badly(&["is not trusted"]);
            assert!(!world.home.path("witan.lock").exists());
        }
    }
    assert!(moments.under_way() > 2, "{moments:?} prove nothing");
}

#[test]
fn a_push_that_is_killed_is_not_there_or_whole_and_can_be_done_again() {
    let world = World::new();
    let began = Instant::now();
    world.publish("2.0.0", "i32.sub", &[]);
    let mut moments = Moments::new(began.elapsed(), random());
    for round in rounds("kill a push", 6) {
        let package = format!("acme:sums@3.{round}.0");
        // Bytes of its own: signatures are attached to those.
        let own = format!("(core module $m (func (result i32) i32.const {round})");
        world.home.component("sums.wasm", &SUMS.replace("(core module $m", &own));
        let publish = ["publish", "sums.wasm", "--package", &package, "--registry", &world.served.host];
        let publish = [&publish[..], &["--key", "release", "--lock", "Cargo.lock"]].concat();
        moments.kill(&mut world.home.command(&publish)).unwrap();
        // Before it was said to be there it may be or not; what can be had of it is whole, or is not let in.
        let verified = world.home.run(&["verify", &package]);
        let partly = ["has no signature", "that counts", "was not found", "has no version", "is not in the registry"];
        assert!(verified.success || partly.iter().any(|part| verified.err.contains(part)), "{}", verified.err);
        world.home.run(&publish).well();
        forget(&world.home);
        world.home.run(&["verify", &package]).well();
    }
    assert!(moments.under_way() > 2, "{moments:?} prove nothing");
}
