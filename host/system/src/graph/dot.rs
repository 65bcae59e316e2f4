//! The DOT language of Graphviz.

use super::{EdgeKind, Graph, NodeKind, shown};

pub(super) fn draw(graph: &Graph) -> String {
    let mut out = String::from("digraph system {\n    rankdir=LR;\n    node [fontname=\"sans-serif\"];\n");
    for (index, node) in graph.nodes.iter().enumerate() {
        let shape = match node.kind {
            NodeKind::Intent => "oval",
            NodeKind::Mount => "parallelogram",
            NodeKind::Component => "box",
        };
        let notes: String = node.notes.iter().map(|note| format!("\\n{}", text(note))).collect();
        out.push_str(&format!("    n{index} [shape={shape}, label=\"{}{notes}\"];\n", text(&node.label)));
    }
    for edge in &graph.edges {
        let style = match edge.kind {
            EdgeKind::Entry | EdgeKind::Isolated => "solid",
            EdgeKind::Fused => "bold",
            EdgeKind::Tools => "dotted",
        };
        let label = text(&edge.label);
        out.push_str(&format!("    n{} -> n{} [style={style}, label=\"{label}\"];\n", edge.from, edge.to));
    }
    out.push_str("}\n");
    out
}

fn text(text: &str) -> String {
    shown(text).replace('\\', "\\\\").replace('"', "\\\"")
}
