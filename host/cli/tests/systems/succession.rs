//! One host after another on the same tasks: what runs when a host is asked to end ends there, what waits runs under the
//! next, and no two have one database at once.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use witan_database::{Claimant, Database, Location};
use witan_test_tools::Postgres;

use crate::{
    WITAN, killed,
    up::{Answer, Up},
};

fn try_submit(up: &Up, intent: &str, name: &str, ms: u32) -> std::io::Result<Answer> {
    let task = json!({ "intent": intent, "input": { "text": format!("{name} {ms}") } });
    up.ask("POST", "/v1/tasks", &task.to_string())
}

fn submit(up: &Up, intent: &str, name: &str, ms: u32) -> String {
    let answer = try_submit(up, intent, name, ms).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn until(up: &Up, id: &str, state: &str) -> Value {
    let state = format!("\"state\":\"{state}\"");
    up.until(&format!("/v1/tasks/{id}"), |task| task.contains(&state));
    up.get(&format!("/v1/tasks/{id}")).json()
}

/// The files that tasks have left, one for each time that one ran.
fn ran(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("ran")).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_host_that_is_asked_to_end_ends_what_runs_and_leaves_what_waits_to_the_next() {
    let folder = killed::folder();
    let mut up = Up::on(folder.path(), &["--drain", "100s"]);
    // Three run at once in this system.
    let run: Vec<String> = (0..3).map(|number| submit(&up, "record", &format!("run-{number}"), 1_500)).collect();
    for id in &run {
        until(&up, id, "working");
    }
    let wait: Vec<String> = (0..4).map(|number| submit(&up, "record", &format!("wait-{number}"), 0)).collect();
    up.signal("TERM");
    // From when it has heard of it on, it takes nothing that it would not keep.
    let began = Instant::now();
    let mut more = Vec::new();
    while let Ok(answer) = try_submit(&up, "record", &format!("more-{}", more.len()), 0) {
        if answer.status == 503 {
            break;
        }
        assert_eq!(answer.status, 202, "{}", answer.body);
        more.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
    }
    assert!(up.ended().success());
    assert_eq!(ran(folder.path()), ["run-0.1", "run-1.1", "run-2.1"]);

    let up = Up::on(folder.path(), &[]);
    for (number, id) in run.iter().enumerate() {
        let task = up.get(&format!("/v1/tasks/{id}")).json();
        assert_eq!(task["envelope"]["result"]["text"], format!("run-{number} 1"), "{task}");
    }
    for id in wait.iter().chain(&more) {
        assert_eq!(until(&up, id, "completed")["attempt"], 1);
    }
    let files = ran(folder.path());
    assert!(files.iter().all(|file| file.ends_with(".1")), "{files:?}");
    assert_eq!(files.len(), run.len() + wait.len() + more.len());
    assert_eq!(up.get("/v1/tasks?limit=100").json()["data"].as_array().unwrap().len(), files.len());
}

/// The tables of tasks as the first version of them was made, with the columns that they had.
const FIRST: &str = include_str!("tasks-1.sql");

/// Puts the rows of the tasks in `folder` into the tables of the first version.
#[tokio::main]
async fn as_of_the_first_version(folder: &Path) {
    let database = Database::open(Location::Sqlite(folder.join(".witan/witan.db"))).await.unwrap();
    let mut rows = database.write().await.unwrap();
    let made: Vec<(String, String)> = sqlx::query_as(
        "SELECT type, name FROM sqlite_master WHERE tbl_name LIKE 'task%' AND sql IS NOT NULL ORDER BY type",
    )
    .fetch_all(&mut *rows)
    .await
    .unwrap();
    let mut run = async |statement: String| {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *rows).await;
        done.unwrap_or_else(|error| panic!("{error}: {statement}"));
    };
    for (kind, name) in &made {
        match kind.as_str() {
            "index" => run(format!("DROP INDEX {name}")).await,
            _ => run(format!("ALTER TABLE {name} RENAME TO now_{name}")).await,
        }
    }
    let statements = FIRST.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    for statement in statements.split(';').filter(|statement| !statement.trim().is_empty()) {
        run(statement.to_owned()).await;
    }
    let task = "id, tenant, principal, intent, state, priority, attempt, created_ms, started_ms, finished_ms, context, metadata";
    for (table, columns) in [
        ("task", task),
        ("task_body", "task, kind, bytes"),
        ("task_metadata", "tenant, name, value, task"),
        ("task_key", "key, tenant, fingerprint, task, expires_ms"),
        ("task_delivery", "id, tenant, task, body, attempts, created_ms, due_ms"),
    ] {
        run(format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM now_{table}")).await;
    }
    for (_, name) in made.iter().filter(|(kind, _)| kind == "table") {
        run(format!("DROP TABLE now_{name}")).await;
    }
    run("UPDATE part SET version = 1 WHERE name = 'tasks'".to_owned()).await;
    rows.commit().await.unwrap();
}

/// Which version the tables of tasks have.
#[tokio::main]
async fn version(folder: &Path) -> i64 {
    let database = Database::open(Location::Sqlite(folder.join(".witan/witan.db"))).await.unwrap();
    let version = sqlx::query_scalar("SELECT version FROM part WHERE name = 'tasks'");
    version.fetch_one(database.pool()).await.unwrap()
}

#[test]
fn an_upgrade_takes_the_tables_of_an_earlier_version_forwards_and_loses_no_task() {
    let folder = killed::folder();
    let mut up = Up::on(folder.path(), &["--drain", "100ms"]);
    let done = submit(&up, "record", "done", 0);
    until(&up, &done, "completed");
    let run = [("record", "once"), ("again", "again"), ("again", "more")].map(|(intent, name)| {
        let id = submit(&up, intent, name, 3_000);
        until(&up, &id, "working");
        id
    });
    let keyed = |up: &Up| {
        let task = json!({ "intent": "record", "input": { "text": "waits 0" } }).to_string();
        let answer = crate::up::ask(up.address(), "POST", "/v1/tasks", "idempotency-key: one\r\n", &task).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let (waits, held) = (keyed(&up), submit(&up, "record", "held", 0));
    assert_eq!(up.ask("POST", &format!("/v1/tasks/{held}/pause"), "{}").unwrap().status, 200);
    up.signal("TERM");
    assert!(up.ended().success());
    let now = version(folder.path());
    as_of_the_first_version(folder.path());
    assert!(now > version(folder.path()));

    // The new program stands where the old one did.
    let new = folder.path().join("witan");
    fs::copy(WITAN, &new).unwrap();
    let up = Up::of(&new, folder.path());
    assert_eq!(version(folder.path()), now);
    assert_eq!(until(&up, &done, "completed")["envelope"]["result"]["text"], "done 1");
    let failed = until(&up, &run[0], "failed");
    assert_eq!((&failed["envelope"]["error"]["code"], &failed["attempt"]), (&json!("interrupted"), &json!(1)));
    for (id, name) in run[1..].iter().zip(["again", "more"]) {
        let completed = until(&up, id, "completed");
        assert_eq!(completed["envelope"]["result"]["text"], format!("{name} 2"));
        assert_eq!(completed["attempt"], 2);
    }
    assert_eq!(until(&up, &waits, "completed")["attempt"], 1);
    assert_eq!(keyed(&up), waits, "the key of a request is known still");
    assert_eq!(until(&up, &held, "paused")["attempt"], 0);
    assert_eq!(up.ask("POST", &format!("/v1/tasks/{held}/resume"), "{}").unwrap().status, 200);
    assert_eq!(until(&up, &held, "completed")["attempt"], 1);
    assert_eq!(ran(folder.path()), ["again.1", "again.2", "done.1", "held.1", "more.1", "more.2", "once.1", "waits.1"]);
    assert_eq!(up.get("/v1/tasks?limit=100").json()["data"].as_array().unwrap().len(), 6);
}

/// A folder whose host keeps its rows at `url`.
fn folder_at(url: &str) -> tempfile::TempDir {
    let folder = killed::folder();
    let file = folder.path().join("system.toml");
    let system = fs::read_to_string(&file).unwrap();
    fs::write(file, system.replacen("[host.tasks]", &format!("[host]\ndatabase = \"{url}\"\n[host.tasks]"), 1))
        .unwrap();
    folder
}

#[test]
fn one_database_has_one_host() {
    let Some(postgres) = Postgres::or_skip() else { return };
    let (one, other) = (folder_at(&postgres.url()), folder_at(&postgres.url()));
    let mut up = Up::on(one.path(), &["--drain", "100s"]);
    let run: Vec<String> = (0..3).map(|number| submit(&up, "record", &format!("run-{number}"), 4_000)).collect();
    for id in &run {
        until(&up, id, "working");
    }
    let waits = submit(&up, "record", "waits", 0);
    // It is refused before it touches a task.
    let refused = Command::new(WITAN)
        .args(["up", "--listen", "127.0.0.1:0"])
        .current_dir(other.path())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has the database already"), "{said}");
    assert!(said.contains(&format!("process {}", up.pid())) && said.contains("host.database"), "{said}");
    up.signal("TERM");
    assert!(up.ended().success());

    // Now that it has ended, the other goes on, at once.
    let mut up = Up::on(other.path(), &["--drain", "100s"]);
    until(&up, &waits, "completed");
    for id in &run {
        until(&up, id, "completed");
    }
    assert_eq!((ran(one.path()).len(), ran(other.path())), (3, vec!["waits.1".to_owned()]));

    // Another takes the database over while this one is cut off from it: it ends by itself, and has stored no more.
    let slow = submit(&up, "again", "slow", 3_000);
    until(&up, &slow, "working");
    let place = fs::read_to_string(other.path().join(".witan/host-id")).unwrap();
    taken_over(&postgres.url(), place);
    assert!(!up.ended().success());
    let up = Up::on(other.path(), &[]);
    assert_eq!(until(&up, &slow, "completed")["attempt"], 2);
}

/// Ends the connection by which a host holds the database at `url`, and takes the database for a moment, as of the same place.
#[tokio::main]
async fn taken_over(url: &str, place: String) {
    let database = Database::open(Location::Postgres(url.to_owned())).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND \
               ((classid::bigint << 32) | objid::bigint) = 8602190417206";
    sqlx::query(cut).fetch_one(database.pool()).await.unwrap();
    let claimant = Claimant { run: "another".to_owned(), place, who: "a test".to_owned() };
    let claim = database.claim(claimant).await.unwrap();
    drop(claim);
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Where the secret of a callback stands in the files of the state folder.
fn found(folder: &Path) -> Vec<std::path::PathBuf> {
    let canary = &SECRET.as_bytes()[6..];
    let (mut folders, mut found) = (vec![folder.join(".witan")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = match fs::read(&path) {
                // A host that runs replaces some meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                bytes => bytes.unwrap(),
            };
            if bytes.windows(canary.len()).any(|bytes| bytes == canary) {
                found.push(path);
            }
        }
    }
    found
}

/// Writes the rows as the version before did: with secrets as clients said them, and without the last steps of the tables.
#[tokio::main]
async fn as_before(folder: &Path) {
    let database = Database::open(Location::Sqlite(folder.join(".witan/witan.db"))).await.unwrap();
    let mut rows = database.write().await.unwrap();
    let sealed: Vec<String> = sqlx::query_scalar(
        "SELECT json_extract(callback, '$.secret') FROM task UNION ALL SELECT json_extract(body, '$.callback.secret') FROM \
         task_delivery UNION ALL SELECT json_extract(CAST(bytes AS TEXT), '$.callback.secret') FROM task_body WHERE kind = 0",
    )
    .fetch_all(&mut *rows)
    .await
    .unwrap();
    assert!(sealed.len() >= 3 && sealed.iter().all(|sealed| sealed.starts_with("sealed:1:")), "{sealed:?}");
    for sealed in sealed {
        for (table, column) in [("task", "callback"), ("task_delivery", "body"), ("task_body", "bytes")] {
            let update = format!("UPDATE {table} SET {column} = replace({column}, $1, $2)");
            let update = if table == "task_body" {
                "UPDATE task_body SET bytes = CAST(replace(CAST(bytes AS TEXT), $1, $2) AS BLOB) WHERE kind = 0"
                    .to_owned()
            } else {
                update
            };
            let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind(sealed.clone()).bind(SECRET);
            update.execute(&mut *rows).await.unwrap();
        }
    }
    for statement in [
        "DROP INDEX task_delivery_of",
        "CREATE INDEX task_delivery_due ON task_delivery (due_ms)",
        "DROP TABLE task_unsealed",
        "UPDATE part SET version = 2 WHERE name = 'tasks'",
    ] {
        sqlx::query(statement).execute(&mut *rows).await.unwrap();
    }
    rows.commit().await.unwrap();
}

#[test]
fn the_secret_of_a_callback_is_in_no_file_and_those_of_an_earlier_version_are_sealed() {
    let folder = killed::folder();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let file = folder.path().join("system.toml");
    let system = fs::read_to_string(&file).unwrap();
    let named = format!("[host.tasks]\ncallback-hosts = [\"{host}\"]\n");
    fs::write(file, system.replacen("[host.tasks]\n", &named, 1)).unwrap();
    // Nobody answers yet, so that it is kept.
    drop(listener);
    let mut up = Up::on(folder.path(), &["--drain", "100ms"]);
    let task = json!({
        "intent": "record",
        "input": { "text": "told 50000" },
        "callback": { "url": format!("http://{host}/"), "secret": SECRET, "events": ["task.started", "task.cancelled"] },
    });
    let answer = up.ask("POST", "/v1/tasks", &task.to_string()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    until(&up, &id, "working");
    assert!(up.ask("POST", &format!("/v1/tasks/{id}/cancel"), "{}").unwrap().body.contains("cancelled"));
    up.signal("TERM");
    assert!(up.ended().success());
    assert_eq!(found(folder.path()), Vec::<std::path::PathBuf>::new());
    as_before(folder.path());
    assert!(!found(folder.path()).is_empty());
    let mut up = Up::on(folder.path(), &["--drain", "100ms"]);
    assert_eq!(found(folder.path()), Vec::<std::path::PathBuf>::new());
    // It is good still: what is tried again is signed, as is the delivery that waits.
    let again = up.ask("POST", &format!("/v1/tasks/{id}/retry"), "{}").unwrap();
    assert_eq!(again.status, 202, "{}", again.body);
    up.signal("TERM");
    up.ended();
    assert_eq!(found(folder.path()), Vec::<std::path::PathBuf>::new());
}
