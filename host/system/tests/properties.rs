//! What holds for every text, not only for those that someone thought of.

use std::path::Path;

use proptest::prelude::*;
use witan_system::{Grants, System, SystemError, format_bytes, grants_toml};

const WHOLE: &str = include_str!("cases/whole/system.toml");

fn parse(text: &str) -> Result<System, SystemError> {
    System::parse(text, Path::new("system.toml"))
}

/// Lines that stand where keys can stand in `whole`, with the table that they belong to.
fn headers() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "host",
        "host.pool",
        "host.compile",
        "limits",
        "components.documents",
        "components.documents.limits",
        "components.documents.instances",
        "components.tool-files.grants",
        "components.tool-files.grants.logging",
        "components.tool-files.grants.keyvalue",
        "components.summarize.links.\"witan:documents/extract\"",
    ])
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _either = parse(&text);
    }

    #[test]
    fn no_text_made_of_toml_panics(pieces in prop::collection::vec(prop::sample::select(vec![
        "schema", "=", "1", "\n", "[", "]", "[[", "]]", "{", "}", ",", ".", "\"", "'", "\"\"\"", "components", "a", "limits", "memory", "\"1MiB\"",
        "grants", "http", "host", "links", "mounts", "intents", "true", "-1", "1e9", "0x", "1979-05-27", "\\u0000", "#", "ä", "\r\n", "\t",
    ]), 0..60)) {
        let _either = parse(&pieces.concat());
    }

    #[test]
    fn a_damaged_file_is_refused_with_places_in_it(at in 0..WHOLE.len(), damage in "\\PC{0,3}", cut in 0..8usize) {
        let (start, end) = (WHOLE.floor_char_boundary(at), WHOLE.floor_char_boundary((at + cut).min(WHOLE.len())));
        let text = format!("{}{damage}{}", &WHOLE[..start], &WHOLE[end..]);
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems.is_empty());
            let lines = text.split('\n').count();
            for problem in &error.problems {
                prop_assert!(!problem.message.is_empty() && !problem.help.is_empty());
                prop_assert!(problem.position.is_none_or(|at| (1..=lines).contains(&at.line) && at.column >= 1));
            }
        }
    }

    #[test]
    fn an_unknown_key_is_refused_wherever_it_stands(header in headers(), key in "[a-z]{1,12}x[0-9]") {
        let line = if header.is_empty() { format!("{key} = 1\n") } else { format!("{header}.{key} = 1\n") };
        // In front of the first table, dotted keys reach every other one; a table that they begin cannot be opened
        // again below, so that the rest of the file stands without headers of its own.
        let text = format!("schema = 1\n{line}components.documents.source = \"d.wasm\"\ncomponents.tool-files.source = \"t.wasm\"\ncomponents.summarize.source = \"s.wasm\"\n");
        let error = parse(&text).expect_err("refused");
        let expected = format!("unknown key `{key}`");
        let found = error.problems.iter().find(|problem| problem.message == expected);
        prop_assert!(found.is_some_and(|problem| problem.position.is_some_and(|at| at.line == 2)), "{error}");
    }

    #[test]
    fn what_is_a_size_reads_back(bytes in any::<u64>()) {
        prop_assert_eq!(witan_system::parse_bytes(&format_bytes(bytes)), Some(bytes));
    }

    #[test]
    fn written_grants_read_back_as_the_same(
        guests in prop::collection::btree_set("/[a-z ä\"'\\\\#=]{1,8}", 0..3),
        hosts in prop::collection::btree_set("([a-z]{1,8}\\.){1,2}[a-z]{2,3}|10\\.0\\.0\\.[1-9]|::[1-9]", 0..4),
        values in prop::collection::btree_map("[A-Z]{1,5}", "\\PC{0,10}", 0..3),
        number in 1..100_000u32,
        flag in any::<bool>(),
    ) {
        let text = |text: &str| toml::Value::from(text).to_string();
        let mut grants = String::new();
        let folders = guests.iter().filter(|guest| !guest.contains('\\'));
        let folders: String = folders.map(|guest| format!("{{ path = {0}, guest = {0}, access = \"read-write\", max-bytes = \"{number}B\" }},", text(guest))).collect();
        grants += &format!("filesystem = [{folders}]\n");
        let http: String = hosts.iter().map(|host| format!("{{ host = {}, private = {flag} }},", text(host))).collect();
        let sockets: String = hosts.iter().map(|host| format!("{{ host = {}, port = {} }},", text(host), number % 65_535 + 1)).collect();
        grants += &format!("http = [{http}]\nsockets = [{sockets}]\nwall-clock = {flag}\nlogging = {{ rate = \"{number}/m\" }}\n");
        let values: String = values.iter().map(|(key, value)| format!("{key} = {},", text(value))).collect();
        grants += &format!("environment = {{{values}}}\nconfig = {{{values}}}\n");
        let read = |grants: &str| -> Grants {
            let text = format!("schema = 1\n[components.a]\nsource = \"a.wasm\"\n{grants}");
            let mut system = System::parse(&text, Path::new("/s/system.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
            system.components.pop_first().unwrap().1.grants
        };
        let first = read(&format!("[components.a.grants]\n{grants}"));
        prop_assert_eq!(&read(&grants_toml("a", &first, Path::new("/s"))), &first);
    }
}

#[test]
fn deep_and_large_files_are_refused() {
    for text in [
        "a.".repeat(100_000) + "b = 1",
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        "#".repeat(2 << 20),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn reading_looks_at_nothing_on_the_machine_and_missing_names_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.toml");
    let text = "schema = 1\nhost.roots = [\"inbox\"]\n[components.a]\nsource = \"a.wasm\"\ngrants.filesystem = [{ path = \"docs\", guest = \"/docs\" }]\n";
    let system = System::parse(text, &file).unwrap();
    let keys: Vec<_> =
        system.missing().into_iter().map(|problem| (problem.key, problem.position.unwrap().line)).collect();
    let expected = [("host.roots[0]", 2), ("components.a.source", 4), ("components.a.grants.filesystem[0].path", 5)];
    assert_eq!(keys, expected.map(|(key, line)| (key.to_owned(), line)));
    std::fs::write(folder.path().join("a.wasm"), "").unwrap();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    assert!(system.missing().is_empty());
}

#[test]
fn the_file_of_a_system_that_is_not_there_is_named() {
    let error = System::load(Path::new("no/such/system.toml")).unwrap_err().to_string();
    assert!(error.starts_with("error: cannot read `no/such/system.toml`"), "{error}");
}
