//! Each folder in `cases/` is a `system.toml` and what is said about it, what is wrong with it or what its components
//! may do: adding a case adds no code.
//!
//! `WITAN_BLESS=1` writes what is said now into `expected.txt`, for review.

use std::path::Path;

use witan_system::System;

#[test]
fn what_is_said_about_each_case_is_what_was_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    for case in std::fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let text = std::fs::read_to_string(case.join("system.toml")).unwrap();
        let said = match System::parse(&text, Path::new("system.toml")) {
            Ok(system) => explained(&system),
            Err(error) => format!("{error}\n"),
        };
        let expected = case.join("expected.txt");
        if std::env::var_os("WITAN_BLESS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        if std::fs::read_to_string(&expected).ok().as_ref() != Some(&said) {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What the components of a good system may do.
fn explained(system: &System) -> String {
    let explanations = system.components.keys().filter_map(|name| system.explain(name));
    format!("ok\n{}", explanations.map(|explanation| format!("\n{explanation}")).collect::<String>())
}
