//! Whole systems, run by the binary as users run it: the default one, the same one fused, and one that changes while it
//! serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const WITAN: &str = env!("CARGO_BIN_EXE_witan");

/// Long enough for a component to compile on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn witan(arguments: &[&str]) -> Value {
    let output = Command::new(WITAN).args(arguments).arg("--json").current_dir(checkout()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_default_system_summarizes_a_file_and_says_where_each_sentence_stands() {
    let envelope = witan(&["task", "summarize", "README.md", "--param", "sentences=3"]);
    assert_eq!(envelope["status"], "OK");
    let source = fs::read_to_string(checkout().join("README.md")).unwrap();
    let passages = envelope["result"]["passages"].as_array().unwrap();
    assert_eq!(passages.len(), 3);
    for passage in passages {
        assert_eq!(passage["source"], "README.md");
        let at = |key: &str| usize::try_from(passage[key].as_u64().unwrap()).unwrap();
        let words = |text: &str| -> Vec<String> {
            text.split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .map(Into::into)
                .collect()
        };
        let range = words(&source[at("start")..at("end")]);
        // The source has marks of Markdown within the sentence; its words are those of the sentence, in their order.
        let mut rest = range.iter();
        let text = words(passage["text"].as_str().unwrap());
        assert!(text.iter().all(|word| rest.any(|other| other == word)), "{text:?} in {range:?}");
    }
}

#[test]
fn fused_and_isolated_components_give_the_same_bytes() {
    let result = |system: &str| witan(&["--system", system, "task", "summarize", "README.md"])["result"].to_string();
    assert_eq!(result("system.toml"), result("systems/fused.toml"));
}

#[test]
fn a_task_that_names_a_missing_file_says_so() {
    let task = ["task", "summarize", "no/such/file.md"];
    let output = Command::new(WITAN).args(task).current_dir(checkout()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("no/such/file.md"), "{message}");
}

/// A host that serves a system in a folder of its own, ended with the test.
struct Up {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Up {
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let system = "schema = 1\n[components.site]\nsource = \"site.wasm\"\n[[mounts]]\npath = \"/site\"\ncomponent = \"site\"\n";
        fs::write(folder.path().join("system.toml"), system).unwrap();
        fs::copy(built(program), folder.path().join("site.wasm")).unwrap();
        let mut child = Command::new(WITAN)
            .args(["up", "--watch", "--listen", "127.0.0.1:0", "--json"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut announced = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !announced.contains('}') {
            assert!(lines.read_line(&mut announced).unwrap() > 0, "the host ended before it served");
        }
        let announced: Value = serde_json::from_str(&announced).unwrap();
        let address = announced["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { child, address, folder }
    }

    /// Puts `bytes` in the place of the component, at once.
    fn replace(&self, bytes: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.folder.path().join("site.wasm")).unwrap();
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks for `path` until `fits`, and checks that each answer on the way is a good one.
    fn until(&self, path: &str, fits: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let answer = self.get(path);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            if fits(&answer) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{path} still answers {answer}");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn built(program: &str) -> PathBuf {
    let path = checkout().join("tests/programs/build").join(format!("{program}.wasm"));
    assert!(path.exists(), "`{}` is missing; run `cargo xtask build`", path.display());
    path
}

#[test]
fn a_component_is_replaced_while_it_serves_and_a_bad_one_is_not_taken() {
    let up = Up::start("hello-p2");
    assert!(up.get("/site").contains("Hello, world!"));
    let digest = || {
        let answer = up.get("/v1/components");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["data"][0]["digest"].as_str().unwrap().to_owned()
    };
    let first = digest();

    up.replace(b"no component");
    up.until("/v1/host/logs", |logs| logs.contains("the former one goes on"));
    assert_eq!(digest(), first, "what does not load changes nothing");
    assert!(up.get("/site").contains("Hello, world!"));

    up.replace(&fs::read(built("hello-p3")).unwrap());
    up.until("/v1/components", |components| !components.contains(&first));
    up.until("/site", |answer| answer.contains("Hello, world!"));
}
