//! Whole systems, run by the binary as users run it: the default one, the same one fused, and one that changes while it
//! serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod audit;
mod auth;
mod authority;
mod described;
mod egress;
mod gate;
mod killed;
mod mutual;
mod operate;
mod policies;
mod running;
mod secrets;
mod succession;
mod swap;
mod tasks;
mod telemetry;
mod up;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const WITAN: &str = env!("CARGO_BIN_EXE_witan");

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
