//! `witan audit sbom`.

use serde_json::Value;

use crate::Home;

const ADVISORY: &str = r#"```toml
[advisory]
id = "RUSTSEC-2026-0001"
package = "sums"
date = "2026-01-02"
url = "https://example.com/advisory"

[versions]
patched = [">= 1.2.0"]
```

# It adds wrongly

Always.
"#;

fn sbom(home: &Home, name: &str, version: &str) {
    let document = serde_json::json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [
            { "type": "library", "name": "sums", "version": version, "purl": format!("pkg:cargo/sums@{version}") },
            { "type": "library", "name": "left-pad", "version": "1.0.0", "purl": "pkg:npm/left-pad@1.0.0" },
        ],
    });
    home.file(name, document.to_string());
}

#[test]
fn what_is_vulnerable_is_named_with_what_to_use() {
    let home = Home::new();
    home.file("advisories/crates/sums/RUSTSEC-2026-0001.md", ADVISORY);
    sbom(&home, "old.json", "1.1.0");
    sbom(&home, "new.json", "1.2.0");
    let audit = |file: &str| home.run(&["audit", "sbom", file, "--advisories", "advisories", "--json"]);
    let old = audit("old.json");
    assert!(!old.success);
    let report = old.json();
    let finding = &report["files"][0]["findings"][0];
    assert_eq!(
        (&finding["advisory"], &finding["dependency"]),
        (&Value::from("RUSTSEC-2026-0001"), &Value::from("pkg:cargo/sums@1.1.0"))
    );
    assert_eq!(report["files"][0]["notCovered"], 1);
    assert_eq!(report["advisoriesOf"], "2026-01-02");
    assert!(report["advisoriesAge"].is_i64());
    let new = audit("new.json").well().json();
    assert_eq!(new["files"][0]["findings"], Value::from(Vec::<Value>::new()));
    let text = home.run(&["audit", "sbom", "old.json", "--advisories", "advisories"]);
    assert!(text.out.contains("RUSTSEC-2026-0001") && text.out.contains(">=1.2.0"), "{}", text.out);
}

#[test]
fn what_is_worth_knowing_alone_fails_nothing_and_what_was_withdrawn_is_not_said() {
    let home = Home::new();
    let about = |id: &str, line: &str| {
        let text = ADVISORY.replace("RUSTSEC-2026-0001", id).replace("url =", &format!("{line}\nurl ="));
        home.file(&format!("advisories/crates/sums/{id}.md"), text);
    };
    about("RUSTSEC-2026-0002", "informational = \"unmaintained\"");
    about("RUSTSEC-2026-0003", "withdrawn = \"2026-02-01\"");
    sbom(&home, "old.json", "1.1.0");
    let report = home.run(&["audit", "sbom", "old.json", "--advisories", "advisories", "--json"]).well().json();
    let findings = report["files"][0]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0]["informational"], "unmaintained");
}

#[test]
fn nothing_to_compare_with_is_an_error() {
    let home = Home::new();
    sbom(&home, "sbom.json", "1.1.0");
    std::fs::create_dir_all(home.path("advisories/crates")).unwrap();
    home.run(&["audit", "sbom", "sbom.json", "--advisories", "advisories"]).badly(&["no advisories"]);
    home.run(&["audit", "sbom", "sbom.json", "--advisories", "missing"]).badly(&["missing"]);
    home.file("advisories/crates/sums/RUSTSEC-2026-0001.md", ADVISORY);
    home.component("sums.wasm", crate::SUMS);
    home.run(&["audit", "sbom", "sums.wasm", "--advisories", "advisories"]).badly(&["cargo auditable"]);
}
