//! A host is killed at any moment while clients submit tasks, again and again: no task that it acknowledged is lost, and none
//! is there or was run twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use witan_rounds::{random, rounds};

use crate::{
    WITAN,
    up::{self, Answer, Up, built},
};

/// Few tasks run at once, so that others wait when the host is killed.
const SYSTEM: &str = r#"schema = 1

[host.tasks]
concurrency = 3
run-again = ["again"]

[intents]
record = "recorder"
again = "recorder"

[components.recorder]
source = "recorder.wasm"
allow-unsigned = true
grants.filesystem = [{ path = "./ran", guest = "/ran", access = "read-write" }]
"#;

const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// What a client knows of a task: its intent, and its id once it was told.
#[derive(Clone, Debug)]
struct Known {
    intent: &'static str,
    id: Option<String>,
}

type Tasks = Mutex<BTreeMap<String, Known>>;

pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("recorder.wasm"), built("recorder")).unwrap();
    fs::create_dir(folder.path().join("ran")).unwrap();
    folder
}

fn submit(address: &str, name: &str, intent: &str, ms: u64) -> std::io::Result<Answer> {
    let task = json!({
        "intent": intent,
        "input": { "text": format!("{name} {ms}") },
        "metadata": { "name": name },
    });
    up::ask(address, "POST", "/v1/tasks", &format!("idempotency-key: {name}\r\n"), &task.to_string())
}

/// Submits `name`, and notes what the host says.
fn note(address: &str, tasks: &Tasks, name: &str, intent: &'static str, ms: u64) -> std::io::Result<u16> {
    tasks.lock().unwrap().entry(name.to_owned()).or_insert(Known { intent, id: None });
    let answer = submit(address, name, intent, ms)?;
    if answer.status == 202 {
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let before = tasks.lock().unwrap().get_mut(name).unwrap().id.replace(id.clone());
        assert!(before.is_none_or(|before| before == id), "`{name}` was another task before");
    }
    Ok(answer.status)
}

/// Submits tasks from some threads until the host is gone, and kills it after a random time of that.
fn kill_under_load(up: &mut Up, tasks: &Tasks, round: usize, random: &mut fastrand::Rng) {
    let (stop, number) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = up.address().to_owned();
    let time = Duration::from_millis(random.u64(5..250));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let number = number.fetch_add(1, Ordering::SeqCst);
                    let intent = if number.is_multiple_of(2) { "record" } else { "again" };
                    // What is refused for want of room is asked for later again, by the same key.
                    match note(&address, tasks, &format!("t{round}-{number}"), intent, number as u64 % 7 * 5) {
                        Ok(status) => assert!([202, 503].contains(&status), "{status}"),
                        Err(_) => return,
                    }
                }
            });
        }
        thread::sleep(time);
        up.kill();
        stop.store(true, Ordering::SeqCst);
    });
}

/// Asks again for what the host may not have taken, and waits until all has ended.
fn settle(up: &Up, tasks: &Tasks) -> BTreeMap<String, Value> {
    let in_doubt: Vec<(String, Known)> = tasks.lock().unwrap().clone().into_iter().collect();
    let began = Instant::now();
    for (name, known) in in_doubt.into_iter().filter(|(_, known)| known.id.is_none()) {
        let number: u64 = name.rsplit('-').next().unwrap().parse().unwrap();
        while note(up.address(), tasks, &name, known.intent, number % 7 * 5).unwrap() != 202 {
            assert!(began.elapsed() < PATIENCE, "the host takes no task");
            thread::sleep(POLL);
        }
    }
    let known = tasks.lock().unwrap().clone();
    let ended = known.iter().map(|(name, known)| {
        let path = format!("/v1/tasks/{}", known.id.as_ref().unwrap());
        loop {
            let answer = up.get(&path);
            assert_eq!(answer.status, 200, "`{name}` was acknowledged and is lost: {}", answer.body);
            let task = answer.json();
            if task["envelope"].is_object() {
                return (name.clone(), task);
            }
            assert!(began.elapsed() < PATIENCE, "`{name}` does not end: {task}");
            thread::sleep(POLL);
        }
    });
    ended.collect()
}

fn times_run(folder: &Path, name: &str) -> u64 {
    (1..).take_while(|number| folder.join(format!("ran/{name}.{number}")).exists()).last().unwrap_or(0)
}

fn check(up: &Up, name: &str, intent: &str, task: &Value) {
    let times = times_run(up.folder(), name);
    let attempts = task["attempt"].as_u64().unwrap();
    assert!(times <= attempts, "`{name}` ran {times} times in {task}");
    match (task["state"].as_str().unwrap(), task["envelope"]["error"]["code"].as_str()) {
        ("completed", None) => {
            assert!(times >= 1, "`{name}` has not run");
            assert_eq!(task["envelope"]["result"]["text"], format!("{name} {times}"));
            assert!(intent == "again" || times == 1, "`{name}` ran {times} times");
        }
        // One that is run again is given up after three times.
        ("failed", Some("interrupted")) => assert!(attempts == if intent == "again" { 3 } else { 1 }, "{task}"),
        _ => panic!("`{name}` ended as {task}"),
    }
    let same = up.get(&format!("/v1/tasks?metadata=name%3D{name}")).json();
    assert_eq!(same["data"].as_array().unwrap().len(), 1, "`{name}` is there twice: {same}");
}

/// That the ledger which the killed hosts wrote one after another holds, and has what was done.
fn verify(folder: &Path, tasks: usize) {
    let output = Command::new(WITAN).args(["audit", "verify", "--json"]).current_dir(folder).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["holds"], true, "{report}");
    let output = Command::new(WITAN)
        .args(["audit", "show", "--kind", "task", "--last", "1000000", "--json"])
        .current_dir(folder)
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written: BTreeSet<&str> =
        shown.as_array().unwrap().iter().filter_map(|shown| shown["entry"]["task"].as_str()).collect();
    // What ended within the last 20 ms before a kill has its row, and may have no entry.
    assert!(written.len() > tasks / 2, "{} of {tasks} tasks are in the ledger", written.len());
}

#[test]
fn no_task_is_lost_or_doubled_by_a_host_that_is_killed() {
    let folder = folder();
    let (mut random, tasks) = (random(), Tasks::default());
    let (mut interrupted, mut again, mut all) = (0, 0, 0);
    for round in rounds("kill a host under load", 8) {
        let mut up = Up::on(folder.path(), &[]);
        kill_under_load(&mut up, &tasks, round, &mut random);
        // Every other time it is killed while it goes on with what the one before has left.
        if round % 2 == 0 {
            continue;
        }
        let mut up = Up::on(folder.path(), &[]);
        let ended = settle(&up, &tasks);
        for (name, known) in std::mem::take(&mut *tasks.lock().unwrap()) {
            let task = &ended[&name];
            check(&up, &name, known.intent, task);
            all += 1;
            interrupted += usize::from(task["state"] == "failed");
            again += usize::from(task["attempt"].as_u64() > Some(1));
        }
        up.kill();
        verify(up.folder(), all);
    }
    assert!(all > 20 && interrupted + again > 0, "{all} tasks, {interrupted} interrupted, {again} run again: no proof");
}
