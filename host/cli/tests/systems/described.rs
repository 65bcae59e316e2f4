//! Schemathesis asks a host for all that its OpenAPI document describes, and for much that it does not.

use std::fs;

use serde_json::Value;
use witan_rounds::{random, rounds};
use witan_test_tools::{Found, Tool};

use crate::up::{Up, built};

const SYSTEM: &str = r#"schema = 1

[intents]
tell = "site"
summarize = "site"

[components.site]
source = "site.wasm"
allow-unsigned = true
"#;

/// A task that has not ended by its deadline is answered with 504, and a route that could not have its turn, with 503: both
/// are described. Nothing else of 500 and more is.
const SETTINGS: &str =
    "[checks]\nnot_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"503\", \"504\"]\n";

/// What an answer must not be. Left out is what is no fault here: rules between parameters, which OpenAPI cannot say, refuse
/// what is described, and what is no JSON is refused before the method and the credential are looked at.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,use_after_free";

/// The requests of one run: all that break one rule of the description each, and so many more of each route as the number says.
const REQUESTS: [&str; 4] = ["--phases", "coverage,fuzzing", "--max-examples", "3"];
/// Seconds for one answer. A stream of events has no end.
const PATIENCE: &str = "5";

#[test]
fn no_request_gets_an_answer_that_is_not_described() {
    let Some(schemathesis) = Tool::Schemathesis.or_skip() else { return };
    let up = Up::start(SYSTEM, &built("versioned"));
    let operations = operations(&up.get("/openapi.json").json());
    let mut random = random();
    for _ in rounds("described", 1) {
        let said = asked(&schemathesis, &up, random.u32(..));
        assert!(said.contains(&format!("Tested: {operations}")), "{operations} operations:\n{said}");
        assert_eq!(up.get("/healthz").status, 200);
    }
}

fn asked(schemathesis: &Found, up: &Up, seed: u32) -> String {
    let settings = up.folder().join("schemathesis.toml");
    fs::write(&settings, SETTINGS).unwrap();
    let mut run = schemathesis.command();
    run.arg("--no-color").arg("--config-file").arg(&settings).arg("run");
    run.arg(format!("http://{}/openapi.json", up.address())).args(["--checks", CHECKS]);
    run.args(["--request-timeout", PATIENCE, "--workers", "2", "--continue-on-failure"]);
    let output = run.args(REQUESTS).args(["--seed", &seed.to_string()]).current_dir(up.folder()).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

/// How many operations `document` describes, but for the one that it came from, which is not asked again.
fn operations(document: &Value) -> usize {
    let paths = document["paths"].as_object().unwrap();
    paths.values().map(|path| path.as_object().unwrap().len()).sum::<usize>() - 1
}
