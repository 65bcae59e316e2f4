//! What is asked of a running host on the command line, what is said where none runs, and what commands log.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    WITAN, checkout,
    up::{Up, built},
};

const SYSTEM: &str = "schema = 1\n[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n[[mounts]]\npath = \"/site\"\n\
                      component = \"site\"\n";

fn up() -> Up {
    Up::start(SYSTEM, &built("hello-p3"))
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(folder).env_remove("WITAN_LOG").stdin(Stdio::null());
    command
}

fn witan(folder: &Path, line: &str) -> Output {
    command(folder, line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", text(&output.stdout)))
}

#[test]
fn a_running_host_says_how_it_is_and_stops_when_it_is_told_to() {
    let mut up = up();
    assert!(up.get("/site").body.contains("Hello, world!"));
    let told = |line: &str| {
        let output = witan(up.folder(), line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        output
    };
    let words = text(&told("status").stdout);
    assert!(words.contains("serving") && words.contains("/site"), "{words}");
    let status = json(&told("status --json"));
    assert_eq!((&status["state"], &status["mounts"][0]), (&"serving".into(), &"/site".into()), "{status}");
    let words = text(&told("ps").stdout);
    assert!(words.contains("COMPONENT") && words.contains("site"), "{words}");
    let components = json(&told("ps --json"));
    assert_eq!((&components[0]["name"], &components[0]["trapped"]), (&"site".into(), &0.into()), "{components}");
    // By its address, from anywhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = witan(elsewhere.path(), &format!("ps --json --server http://{}", up.address()));
    assert_eq!(json(&output)[0]["name"], "site");

    let stopped = json(&told("stop --json"));
    assert!(stopped["stopped"].is_u64(), "{stopped}");
    assert!(up.ended().success());
}

#[test]
fn a_limit_that_ends_a_request_of_a_mount_is_counted() {
    let up = Up::start(&SYSTEM.replace("[[mounts]]", "limits.handles = 1\n[[mounts]]"), &built("hello-p3"));
    let counted = || {
        let metrics = up.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("witan_limits_exceeded_total{limit=\"handles\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_else(|| panic!("{metrics}"))
    };
    assert_eq!(counted(), 0);
    let answer = up.get("/site");
    assert_eq!((answer.status, &answer.json()["error"]["limit"]), (422, &"handles".into()), "{}", answer.body);
    assert_eq!(counted(), 1);
}

#[test]
fn logs_are_followed_until_the_reader_has_enough_of_it() {
    let up = up();
    up.replace(b"no component");
    up.until_logged(0, "the former one goes on");
    let logs = |line: &str| witan(up.folder(), line);
    assert!(text(&logs("logs").stdout).contains("the former one goes on"));
    let line: Value = serde_json::from_slice(&logs("logs -n 1 --json").stdout).unwrap();
    assert_eq!(line["level"], "ERROR", "{line}");
    assert_eq!(logs("logs -n 0").stdout, b"");

    let mut follower = command(up.folder(), "logs -f -n 1").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("the former one goes on"));
    up.replace(&built("hello-p2"));
    let mut followed = lines.map_while(Result::ok);
    // Between the two it says that nobody signed the component.
    assert!(followed.any(|line| line.contains("the system was loaded again")), "the log ended");

    let interrupted = Command::new("kill").args(["-INT", &follower.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn where_no_host_runs_the_error_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    for line in ["status", "ps", "logs", "logs -f", "stop"] {
        let output = witan(folder.path(), line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let error = text(&output.stderr);
        assert!(error.contains("no host runs on") && error.contains("witan up"), "{line}: {error}");

        let output = witan(folder.path(), &format!("{line} --json"));
        let error = json(&output)["error"]["message"].as_str().unwrap().to_owned();
        assert!(error.contains("no host runs on") && error.contains("witan up"), "{line}: {error}");
        assert_eq!(output.status.code(), Some(1), "{line}");
    }
    // Nothing listens on the port of a listener that is gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for line in ["status", "ps", "logs"] {
        let output = witan(folder.path(), &format!("{line} --server http://{address}"));
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(&address.to_string()), "{line}: {error}");
        assert!(error.contains("start one with `witan up`, or correct `--server`"), "{line}: {error}");
    }
}

#[test]
fn a_host_that_was_killed_is_told_from_one_that_runs() {
    let mut up = up();
    up.kill();
    for line in ["status", "ps", "logs", "stop"] {
        let error = text(&witan(up.folder(), line).stderr);
        assert!(error.contains("cannot reach a host") && error.contains("witan up"), "{line}: {error}");
    }
}

#[test]
fn a_text_is_summarized_as_it_is_given() {
    let text = "Rivers carry water to the sea. The sea gives water to the clouds. Clouds give water to rivers.";
    let task = ["task", "summarize", "--text", text, "--param", "sentences=1", "--json"];
    let output = Command::new(WITAN).args(task).current_dir(checkout()).output().unwrap();
    let envelope = json(&output);
    assert_eq!((&envelope["status"], &envelope["result"]["passages"][0]["source"]), (&"OK".into(), &"text".into()));
    assert!(text.contains(envelope["result"]["text"].as_str().unwrap().trim()), "{envelope}");
}

#[test]
fn what_is_logged_is_chosen_and_nothing_is_where_all_goes_well() {
    let folder = tempfile::tempdir().unwrap();
    let system = |name: &str| checkout().join("tests/programs/build").join(name).display().to_string();
    let call = ["call", &system("hello-p3.wasm")];
    let run = |log: Option<&str>, variable: Option<&str>| {
        let mut command = Command::new(WITAN);
        command.args(call).current_dir(folder.path()).env_remove("WITAN_LOG").env("WITAN_STATE", folder.path());
        command.args(log.map(|log| format!("--log={log}")));
        command.envs(variable.map(|filter| ("WITAN_LOG", filter)));
        let output = command.output().unwrap();
        (output.status.success(), text(&output.stderr))
    };
    assert_eq!(run(None, None), (true, String::new()));
    let (_, errors) = run(Some("trace"), None);
    assert!(errors.contains("TRACE"), "{errors}");
    assert!(run(None, Some("trace")).1.contains("TRACE"));
    assert_eq!(run(Some("off"), Some("trace")), (true, String::new()), "the flag goes before");
    let (good, errors) = run(Some("=loud"), None);
    assert!(!good && errors.contains("`=loud` does not say what to log"), "{errors}");
}
