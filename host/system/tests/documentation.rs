//! The documentation says what the code does.

#![expect(clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use witan_system::{System, json_schema};

const TEXT: &str = include_str!("../../../docs/system-toml.md");
const LIMITS: &str = include_str!("../../../docs/limits.md");

fn parse(text: &str) -> System {
    System::parse(text, Path::new("system.toml")).unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        found.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(object) => object.values().for_each(|value| keys(value, found)),
        Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_example_is_a_system() {
    let examples: Vec<&str> = TEXT.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    examples.into_iter().for_each(|example| drop(parse(example)));
}

#[test]
fn every_key_is_documented() {
    let mut known = BTreeSet::new();
    keys(&json_schema(), &mut known);
    let documented = |key: &&String| {
        [format!("`{key}`"), format!("`[{key}"), format!("`[[{key}"), format!(".{key}]")]
            .iter()
            .any(|form| TEXT.contains(form))
    };
    let missing: Vec<&String> = known.iter().filter(|key| !documented(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_defaults_in_the_tables_are_those_of_the_code() {
    for section in ["host.pool", "host.compile", "limits"] {
        let text = TEXT.split(&format!("`[{section}]`\n")).nth(1).and_then(|rest| rest.split("\n#").next()).unwrap();
        let rows = text.lines().filter_map(|row| row.strip_prefix("| `")?.split_once("` |"));
        let lines: String = rows
            .map(|(key, rest)| {
                format!(
                    "{key} = {}\n",
                    rest.trim_end_matches(" |").rsplit("| ").next().unwrap().trim().trim_matches('`')
                )
            })
            .collect();
        assert!(lines.lines().count() >= 4, "{section}: {lines}");
        let stated = parse(&format!("schema = 1\n[{section}]\n{lines}"));
        assert_eq!(
            System { origin: Default::default(), ..stated },
            System { origin: Default::default(), ..parse("schema = 1") }
        );
    }
}

#[test]
fn the_defaults_in_the_schema_are_those_of_the_code() {
    for (section, name) in [("host.pool", "Pool"), ("host.compile", "Compile"), ("limits", "Limits")] {
        let schema = json_schema();
        let properties = schema["$defs"][name]["properties"].as_object().unwrap();
        let line = |(key, property): (&String, &Value)| {
            let text = property["description"].as_str().unwrap().replace('\n', " ");
            let default = text.split("Default: ").nth(1).unwrap().trim_end_matches('.').to_owned();
            let quoted = default.strip_prefix('`').map(|text| format!("\"{}\"", text.trim_end_matches('`')));
            format!("{key} = {}\n", quoted.unwrap_or(default))
        };
        let lines: String = properties.iter().map(line).collect();
        let stated = parse(&format!("schema = 1\n[{section}]\n{lines}"));
        assert_eq!(
            System { origin: Default::default(), ..stated },
            System { origin: Default::default(), ..parse("schema = 1") }
        );
    }
}

#[test]
fn every_limit_is_in_the_table_of_limits() {
    for name in ["Limits", "Pool", "Compile"] {
        for key in json_schema()["$defs"][name]["properties"].as_object().unwrap().keys() {
            // How much stays warm is a lever, not a limit.
            let is_limit = key != "keep-resident";
            assert!(!is_limit || LIMITS.contains(&format!(".{key}`")), "{key}");
        }
    }
}

#[test]
fn the_systems_that_we_ship_are_systems() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let others = std::fs::read_dir(root.join("systems")).unwrap().map(|entry| entry.unwrap().path());
    // Beside the files lies the state of a host that ran one of them.
    let files = others.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    for file in files.chain([root.join("system.toml")]) {
        System::load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_link_between_documents_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = |folder: &str| std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let all = pages("").chain(pages("docs")).chain(pages("docs/decisions")).chain(pages("components"));
    let mut links = 0;
    for page in all.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let elsewhere = link.is_empty() || link.starts_with("https://");
            assert!(elsewhere || page.with_file_name(link).exists(), "`{link}` in {}", page.display());
            links += 1;
        }
    }
    assert!(links >= 10, "{links}");
}
