//! A component is replaced while it serves: no call is lost, new calls get the new version, and what cannot serve is not
//! taken.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use witan_rounds::rounds;

use crate::{
    WITAN,
    up::{self, TELLING, Up, built},
};

/// What the program `versioned` has within its bytes; the last two say which version it is, and how its health check
/// goes.
const MARK: &[u8] = b"the version's mark: 1f";
/// Times that an answer repeats the version.
const TIMES: usize = 100_000;

/// The program as `version`, with a health check that goes as `health` says.
fn version(version: u8, health: u8) -> Vec<u8> {
    let mut bytes = built("versioned");
    let at = bytes.windows(MARK.len()).position(|window| window == MARK).expect("the program has its mark");
    bytes[at + MARK.len() - 2] = version;
    bytes[at + MARK.len() - 1] = health;
    bytes
}

fn task() -> String {
    json!({ "intent": "tell", "input": { "text": "which version?" } }).to_string()
}

/// The version that a whole answer of the mount tells.
fn ask_mount(up: &Up) -> Result<char, String> {
    let answer = up.ask("POST", "/site", "{}").map_err(|error| error.to_string())?;
    told(answer.status, &answer.body)
}

/// The version that a whole result of a task tells.
fn ask_task(up: &Up) -> Result<char, String> {
    let answer = up.ask("POST", "/v1/tasks?wait=60", &task()).map_err(|error| error.to_string())?;
    let envelope: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match envelope["result"]["text"].as_str() {
        Some(text) => told(answer.status, text),
        None => Err(format!("{}: {}", answer.status, answer.body)),
    }
}

fn told(status: u16, text: &str) -> Result<char, String> {
    let version = text.chars().next().unwrap_or(' ');
    if status == 200 && text.len() == TIMES && text.chars().all(|other| other == version) {
        return Ok(version);
    }
    Err(format!("{status}: {} bytes, {}", text.len(), text.get(..200).unwrap_or(text)))
}

/// Clients that ask without pause, and what they were told.
struct Load<'a> {
    up: &'a Up,
    over: AtomicBool,
    told: Mutex<BTreeMap<char, usize>>,
    wrong: Mutex<Vec<String>>,
}

impl<'a> Load<'a> {
    /// Runs `change` while clients ask for the mount and for tasks. Gives how often each version was told; every answer
    /// has been a whole one.
    fn during(up: &'a Up, change: impl FnOnce()) -> BTreeMap<char, usize> {
        /// Ends the clients when what they accompany has ended, and says how they fared when it has failed.
        struct Over<'a>(&'a Load<'a>);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.over.store(true, Ordering::Relaxed);
                if thread::panicking() {
                    let wrong = self.0.wrong.lock().unwrap();
                    println!("told {:?}, and {} times wrong: {:?}", self.0.told, wrong.len(), wrong.first());
                }
            }
        }
        let load = Load { up, over: AtomicBool::new(false), told: Mutex::default(), wrong: Mutex::default() };
        thread::scope(|scope| {
            for ask in [ask_mount, ask_task] {
                let load = &load;
                (0..4).for_each(|_| drop(scope.spawn(move || load.ask(ask))));
            }
            let _over = Over(&load);
            change();
        });
        let wrong = load.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{} answers were lost or wrong, such as {:?}", wrong.len(), wrong.first());
        load.told.into_inner().unwrap()
    }

    fn ask(&self, ask: fn(&Up) -> Result<char, String>) {
        while !self.over.load(Ordering::Relaxed) {
            match ask(self.up) {
                Ok(version) => *self.told.lock().unwrap().entry(version).or_default() += 1,
                Err(wrong) => self.wrong.lock().unwrap().push(wrong),
            }
        }
    }
}

/// Puts `version` in place, and waits until it serves.
fn swap(up: &Up, version: char) {
    let (logged, former) = (up.logged(), up.digest());
    up.replace(&self::version(u8::try_from(version).unwrap(), b'f'));
    up.until("/v1/components", |components| !components.contains(&former));
    assert_eq!((ask_mount(up), ask_task(up)), (Ok(version), Ok(version)), "new calls get the new version");
    up.until_logged(logged, "the former system has ended its last call");
}

#[test]
fn under_load_no_call_is_lost_while_versions_replace_each_other() {
    let up = Up::start(TELLING, &version(b'1', b'f'));
    let told = Load::during(&up, || {
        for _ in rounds("versions replace each other", 2) {
            ['2', '1'].into_iter().for_each(|version| swap(&up, version));
        }
    });
    assert_eq!(told.keys().collect::<String>(), "12");
}

#[test]
fn under_load_a_version_that_cannot_serve_is_not_taken() {
    let up = Up::start(TELLING, &version(b'1', b'f'));
    let bad: [(&str, Vec<u8>, &str); 4] = [
        ("no component", b"no component".to_vec(), "site"),
        ("a component that serves nothing", wat::parse_str("(component)").unwrap(), "intents.tell"),
        ("one that is unfit", version(b'2', b'u'), "the mark says so"),
        ("one whose health check traps", version(b'2', b't'), "trapped"),
    ];
    let told = Load::during(&up, || {
        let first = up.digest();
        for (what, bytes, why) in rounds("what cannot serve is not taken", 1).flat_map(|_| &bad) {
            let logged = up.logged();
            up.replace(bytes);
            up.until_logged(logged, "the former one goes on");
            let logs = up.get(&format!("/v1/host/logs?after={logged}")).body;
            assert!(logs.contains(why), "{what}: {logs}");
            assert_eq!(up.digest(), first, "{what}");
            assert_eq!((ask_mount(&up), ask_task(&up)), (Ok('1'), Ok('1')), "{what}");
        }
        // None of them keeps a good one from being taken.
        swap(&up, '3');
    });
    assert_eq!(told.keys().collect::<String>(), "13");
}

#[test]
fn a_call_ends_on_the_version_that_it_began_on() {
    let up = Up::start(TELLING, &version(b'1', b'f'));
    let (logged, former) = (up.logged(), up.digest());
    // The component has the first byte of a request that the client has not finished.
    let mut request = up.begin("POST", "/site", 2).unwrap();
    request.write_all(b"{").unwrap();
    up.until("/v1/components", |components| components.contains("\"active\":1"));

    up.replace(&version(b'2', b'f'));
    up.until("/v1/components", |components| !components.contains(&former));
    assert_eq!(ask_mount(&up), Ok('2'));
    let ended = "the former system has ended its last call";
    assert!(!up.get(&format!("/v1/host/logs?after={logged}")).body.contains(ended), "a call is under way");

    request.write_all(b"}").unwrap();
    let answer = up::end(request).unwrap();
    assert_eq!(told(answer.status, &answer.body), Ok('1'));
    up.until_logged(logged, ended);
}

#[test]
fn what_is_put_into_quarantine_ends_its_calls_and_takes_no_more_until_it_is_let_go() {
    let up = Up::start(TELLING, &version(b'1', b'f'));
    let quarantine = |arguments: &[&str]| {
        let command = Command::new(WITAN).arg("quarantine").args(arguments).current_dir(up.folder()).output().unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    };
    let logged = up.logged();
    let mut request = up.begin("POST", "/site", 2).unwrap();
    request.write_all(b"{").unwrap();
    up.until("/v1/components", |components| components.contains("\"active\":1"));

    quarantine(&["add", "site", "--reason", "answers oddly"]);
    up.until_logged(logged, "component.quarantined");
    for refused in [ask_mount(&up), ask_task(&up)] {
        let refused = refused.expect_err("it takes no more calls");
        assert!(refused.contains("in quarantine (operator): answers oddly"), "{refused}");
    }
    request.write_all(b"}").unwrap();
    let answer = up::end(request).unwrap();
    assert_eq!(told(answer.status, &answer.body), Ok('1'));

    quarantine(&["release", "site"]);
    up.until_logged(logged, "the system was loaded again");
    assert_eq!((ask_mount(&up), ask_task(&up)), (Ok('1'), Ok('1')));
}

#[test]
fn a_system_that_changes_is_watched_as_it_has_become() {
    let up = Up::start(TELLING, &version(b'1', b'f'));
    let former = up.digest();
    up.put("other.wasm", &version(b'2', b'f'));
    up.put("system.toml", TELLING.replace("site.wasm", "other.wasm").as_bytes());
    up.until("/v1/components", |components| !components.contains(&former));
    assert_eq!(ask_mount(&up), Ok('2'));

    let former = up.digest();
    up.put("other.wasm", &version(b'3', b'f'));
    up.until("/v1/components", |components| !components.contains(&former));
    assert_eq!(ask_mount(&up), Ok('3'));

    // Limits of the system count for tasks from now on.
    let limited = TELLING.replace("schema = 1\n", "schema = 1\nlimits.call-bytes = \"16KiB\"\n");
    let logged = up.logged();
    up.put("system.toml", limited.replace("site.wasm", "other.wasm").as_bytes());
    up.until_logged(logged, "the system was loaded again");
    let envelope = up.ask("POST", "/v1/tasks?wait=60", &task()).unwrap().json();
    assert_eq!(envelope["error"]["limit"], "call-bytes", "{envelope}");
}
