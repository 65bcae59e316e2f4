//! The pictures of a system say what the system says, whatever names it has.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::Path;

use witan_system::{Graph, Interfaces, System};

const SYSTEM: &str = r#"
schema = 1

[components.summarize]
source = "summarize.wasm"
grants.tools = ["tool-files.read", "tool-files.list", "fetch.*"]
links."witan:documents/extract" = { component = "documents" }
links."witan:text/segment" = { component = "segment", mode = "fused" }

[components.documents]
source = "documents.wasm"

[components.segment]
source = "segment.wasm"

[components.tool-files]
source = "tool-files.wasm"
grants.filesystem = [{ task = true }, { path = "<script>\"alert(1)\"</script>", guest = "/a&b]]>\"'`--\u0001" }]

[components.fetch]
source = "fetch.wasm"
grants.http = [{ host = "*.example.com", path-prefix = "/v1" }]
grants.wall-clock = true

[components.hello]
source = "hello.wasm"

[intents]
summarize = "summarize"

[[mounts]]
path = "/hello"
component = "hello"
"#;

fn graph(text: &str) -> Graph {
    let system = System::parse(text, Path::new("system.toml")).unwrap_or_else(|error| panic!("{error}"));
    let exports = vec!["witan:documents/extract@0.1.0-draft".to_owned()];
    let known = BTreeMap::from([("documents".parse().unwrap(), Interfaces { imports: Vec::new(), exports })]);
    Graph::of(&system, &known)
}

#[test]
fn links_are_drawn_by_their_mode() {
    let mermaid = graph(SYSTEM).to_mermaid();
    for arrow in ["-->|\"witan:documents/extract\"|", "==>|\"witan:text/segment\"|", "-.->|\"tools: read, list\"|"] {
        assert!(mermaid.contains(arrow), "{arrow} in {mermaid}");
    }
    let dot = graph(SYSTEM).to_dot();
    assert!(dot.contains("[style=bold, label=\"witan:text/segment\"]"), "{dot}");
    assert!(dot.contains("[style=dotted, label=\"tools: *\"]"), "{dot}");
}

#[test]
fn names_cannot_leave_their_label() {
    let graph = graph(SYSTEM);
    for picture in [graph.to_svg(), graph.to_mermaid()] {
        assert!(!picture.contains("<script") && !picture.contains('\u{1}'), "{picture}");
    }
    assert!(!graph.to_svg().contains("]]>") && !graph.to_svg().contains("a&b"));
    let labels = |line: &str| line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
    assert!(graph.to_dot().lines().filter(|line| line.contains("label=")).all(|line| labels(line) == 2));
    assert!(graph.to_mermaid().lines().skip(1).all(|line| matches!(line.matches('"').count(), 0 | 2)));
}

#[test]
fn a_system_without_components_is_an_empty_picture() {
    let svg = graph("schema = 1").to_svg();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
}

#[test]
fn a_circle_of_tools_is_drawn() {
    let system = "schema = 1\n[components.a]\nsource = \"a.wasm\"\ngrants.tools = [\"b.*\"]\n[components.b]\nsource = \"b.wasm\"\ngrants.tools = [\"a.*\"]\n";
    assert_eq!(graph(system).to_svg().matches("class=\"edge tools\"").count(), 2);
}
