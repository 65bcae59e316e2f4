//! `witan tasks` against a host that runs.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::{WITAN, killed::folder, up::Up};

fn witan(up: &Up, line: &str) -> Output {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(up.folder()).env_remove("WITAN_LOG").stdin(Stdio::null());
    command.output().unwrap()
}

fn told(up: &Up, line: &str) -> String {
    let output = witan(up, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(up: &Up, line: &str) -> Value {
    serde_json::from_str(&told(up, &format!("{line} --json"))).unwrap()
}

fn submit(up: &Up, name: &str, ms: u32) -> String {
    let task = json!({ "intent": "record", "input": { "text": format!("{name} {ms}") }, "metadata": { "name": name } });
    let answer = up.ask("POST", "/v1/tasks", &task.to_string()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn tasks_are_listed_shown_held_cancelled_and_followed() {
    let folder = folder();
    let up = Up::on(folder.path(), &[]);
    let done = submit(&up, "done", 0);
    let events = told(&up, &format!("tasks events {done}"));
    assert!(events.contains(" queued\n") && events.trim_end().ends_with(" completed"), "{events}");
    assert!(told(&up, &format!("tasks show {done}")).contains("done 1"));

    // Three run at once in this system, for a minute: a fourth waits.
    let run: Vec<String> = (0..3).map(|number| submit(&up, &format!("run-{number}"), 55_000)).collect();
    for id in &run {
        up.until(&format!("/v1/tasks/{id}"), |task| task.contains("\"state\":\"working\""));
    }
    let waits = submit(&up, "waits", 0);
    assert_eq!(json_of(&up, &format!("tasks pause {waits}"))["state"], "paused");
    assert_eq!(json_of(&up, "tasks list --state working")["data"].as_array().unwrap().len(), 3);
    assert_eq!(json_of(&up, "tasks list --metadata name=waits")["first_id"], waits.as_str());
    assert!(told(&up, "tasks list").contains(&waits));
    let refused = witan(&up, &format!("tasks pause {}", run[0]));
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is working"));
    for id in &run {
        let cancelled = json_of(&up, &format!("tasks cancel {id}"));
        assert_eq!((&cancelled["state"], &cancelled["envelope"]["status"]), (&"cancelled".into(), &"CANCELED".into()));
    }
    // Its turn may come before the answer does.
    assert_ne!(json_of(&up, &format!("tasks resume {waits}"))["state"], "paused");
    up.until(&format!("/v1/tasks/{waits}"), |task| task.contains("\"state\":\"completed\""));
    let again = json_of(&up, &format!("tasks retry {}", run[0]));
    assert_ne!(again["id"], run[0].as_str());
    json_of(&up, &format!("tasks cancel {}", again["id"].as_str().unwrap()));
    assert!(!witan(&up, "tasks show 00000000-0000-7000-8000-000000000000").status.success());
    assert!(up.get("/v1/events/schemas").json()["component.loaded"].is_object());
}
