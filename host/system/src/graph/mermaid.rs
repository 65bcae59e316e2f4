//! Mermaid flowcharts, which code hosts and many editors draw.

use super::{EdgeKind, Graph, NodeKind, shown};

pub(super) fn draw(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    for (index, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match node.kind {
            NodeKind::Intent => ("([", "])"),
            NodeKind::Mount => ("[/", "/]"),
            NodeKind::Component => ("[", "]"),
        };
        let notes: String = node.notes.iter().map(|note| format!("<br/><small>{}</small>", text(note))).collect();
        out.push_str(&format!("    n{index}{open}\"{}{notes}\"{close}\n", text(&node.label)));
    }
    for edge in &graph.edges {
        let arrow = match edge.kind {
            EdgeKind::Entry | EdgeKind::Isolated => "-->",
            EdgeKind::Fused => "==>",
            EdgeKind::Tools => "-.->",
        };
        let label = if edge.label.is_empty() { String::new() } else { format!("|\"{}\"|", text(&edge.label)) };
        out.push_str(&format!("    n{} {arrow}{label} n{}\n", edge.from, edge.to));
    }
    out
}

/// Mermaid takes character entities, written with `#`, inside quotes. Whatever could end the quotes, be HTML or be
/// Markdown becomes one.
fn text(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || " /:.,@-_()…".contains(c);
    shown(text).chars().map(|c| if plain(c) { c.to_string() } else { format!("#{};", u32::from(c)) }).collect()
}
