//! SVG, laid out here: entries on the left, and every component right of those that call it.
//!
//! The layout is the plain layered one (Sugiyama, Tagawa and Toda, 1981) without its dummy nodes: ranks by longest
//! path, order within a rank by the mean of the callers. Systems have tens of components, and the picture must not
//! need a program that draws.

use super::{EdgeKind, Graph, Node, NodeKind, shown};

/// Mean advance of a character in the fonts below, in pixels: generous, since fonts differ.
const LABEL_ADVANCE: f64 = 9.6;
const NOTE_ADVANCE: f64 = 6.0;
const NOTE_LINE: f64 = 15.0;
const MARGIN: f64 = 24.0;
const GAP_ACROSS: f64 = 28.0;
/// Space between ranks, beside the longest label that is written in it.
const GAP_ALONG: f64 = 56.0;

/// Plain properties, no variables: programs that turn SVG into pixels know the former only.
const STYLE: &str = "\
.paper { fill: #ffffff; } .box { fill: #f6f8fa; stroke: #8c959f; } .entry { fill: #ffffff; stroke: #8c959f; }
.label { font: 600 14px sans-serif; fill: #1f2328; } .note { font: 11px sans-serif; fill: #59636e; }
.edge { fill: none; stroke: #8c959f; stroke-width: 1.5; } .tools { stroke-dasharray: 2 4; }
.fused { stroke: #0a5cc2; stroke-width: 4; } .head { fill: #59636e; }
.on-edge { font: 11px sans-serif; fill: #59636e; text-anchor: middle;
  paint-order: stroke; stroke: #ffffff; stroke-width: 4; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; } .box { fill: #161b22; stroke: #7d8590; } .entry { fill: #0d1117; stroke: #7d8590; }
  .label { fill: #f0f6fc; } .note, .on-edge { fill: #9da7b3; } .on-edge { stroke: #0d1117; }
  .edge { stroke: #7d8590; } .fused { stroke: #58a6ff; } .head { fill: #9da7b3; }
}";

/// Where a box lies.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

pub(super) fn draw(graph: &Graph) -> String {
    let ranks = ranks(graph);
    let columns = columns(graph, &ranks);
    let places = places(graph, &columns);
    let (width, height) = places.iter().fold((200.0_f64, 80.0_f64), |(width, height), place| {
        (width.max(place.x + place.width + MARGIN), height.max(place.y + place.height + MARGIN))
    });
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>system</title>\n<style>\n{STYLE}\n</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerUnits=\"userSpaceOnUse\" markerWidth=\"9\" markerHeight=\"9\" orient=\"auto\">\
         <path class=\"head\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n"
    );
    // Arrows first, so that boxes cover what passes behind them; their labels last, so that nothing covers those.
    let mut labels = String::new();
    for (index, edge) in graph.edges.iter().enumerate() {
        let (Some(from), Some(to)) = (places.get(edge.from), places.get(edge.to)) else { continue };
        let twins = graph.edges.iter().take(index).filter(|twin| (twin.from, twin.to) == (edge.from, edge.to)).count();
        let (path, x, y) = curve(*from, *to, twins);
        let class = match edge.kind {
            EdgeKind::Entry | EdgeKind::Isolated => "edge",
            EdgeKind::Fused => "edge fused",
            EdgeKind::Tools => "edge tools",
        };
        out.push_str(&format!("<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#head)\"/>\n"));
        if !edge.label.is_empty() {
            labels
                .push_str(&format!("<text class=\"on-edge\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", text(&edge.label)));
        }
    }
    for (node, place) in graph.nodes.iter().zip(&places) {
        out.push_str(&draw_node(node, *place));
    }
    out + &labels + "</svg>\n"
}

fn draw_node(node: &Node, Place { x, y, width, height }: Place) -> String {
    let (class, round) = match node.kind {
        NodeKind::Intent => ("entry", height / 2.0),
        NodeKind::Mount => ("entry", 0.0),
        NodeKind::Component => ("box", 6.0),
    };
    let mut out = format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round:.1}\"/>\n\
         <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
        x + 14.0,
        y + 23.0,
        text(&node.label)
    );
    for (line, note) in (1..).zip(&node.notes) {
        let y = y + 25.0 + f64::from(line) * NOTE_LINE;
        out.push_str(&format!("<text class=\"note\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>\n", x + 14.0, text(note)));
    }
    out
}

/// For each node, its column: one more than the greatest of its callers. Calls through the broker may go in circles,
/// and are followed only as far as no node is moved more often than there are nodes.
fn ranks(graph: &Graph) -> Vec<usize> {
    let mut ranks: Vec<usize> = graph.nodes.iter().map(|node| usize::from(node.kind == NodeKind::Component)).collect();
    for _ in 0..graph.nodes.len() {
        let before = ranks.clone();
        for edge in &graph.edges {
            let least = ranks.get(edge.from).copied().unwrap_or_default() + 1;
            if let Some(rank) = ranks.get_mut(edge.to)
                && *rank < least
                && least < graph.nodes.len()
            {
                *rank = least;
            }
        }
        if before == ranks {
            break;
        }
    }
    close_up(&mut ranks);
    ranks
}

/// Leaves no column empty.
fn close_up(ranks: &mut [usize]) {
    let used: std::collections::BTreeSet<usize> = ranks.iter().copied().collect();
    for rank in ranks {
        *rank = used.range(..*rank).count();
    }
}

/// The nodes of each column from top to bottom: beside their callers, so that few arrows cross.
fn columns(graph: &Graph, ranks: &[usize]) -> Vec<Vec<usize>> {
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); ranks.iter().max().map_or(0, |last| last + 1)];
    for (node, rank) in ranks.iter().enumerate() {
        if let Some(column) = columns.get_mut(*rank) {
            column.push(node);
        }
    }
    // Entries take the order of what they lead to, then every column that of its callers.
    let mut height: Vec<f64> = (0..graph.nodes.len()).map(|index| index as f64).collect();
    for (rank, column) in columns.iter_mut().enumerate() {
        let mean = |node: usize, height: &[f64]| {
            let neighbours = graph.edges.iter().filter_map(|edge| match rank {
                0 => (edge.from == node).then_some(edge.to),
                _ => (edge.to == node && ranks.get(edge.from) < Some(&rank)).then_some(edge.from),
            });
            let (sum, count) =
                neighbours.fold((0.0, 0.0), |(sum, count), at| (sum + height.get(at).unwrap_or(&0.0), count + 1.0));
            if count > 0.0 { sum / count } else { f64::MAX }
        };
        column.sort_by(|a, b| mean(*a, &height).total_cmp(&mean(*b, &height)));
        let middle = column.len() as f64 / 2.0;
        for (position, node) in column.iter().enumerate() {
            if let Some(height) = height.get_mut(*node) {
                *height = position as f64 - middle;
            }
        }
    }
    columns
}

fn size(node: &Node) -> (f64, f64) {
    let wide = |text: &str, advance: f64| shown(text).chars().count() as f64 * advance;
    let notes = node.notes.iter().map(|note| wide(note, NOTE_ADVANCE));
    let width = notes.fold(wide(&node.label, LABEL_ADVANCE), f64::max) + 28.0;
    let foot = if node.notes.is_empty() { 0.0 } else { 6.0 };
    (width.max(80.0), 36.0 + node.notes.len() as f64 * NOTE_LINE + foot)
}

fn places(graph: &Graph, columns: &[Vec<usize>]) -> Vec<Place> {
    let sizes: Vec<(f64, f64)> = graph.nodes.iter().map(size).collect();
    let size_of = |node: &usize| sizes.get(*node).copied().unwrap_or_default();
    let column_height = |column: &Vec<usize>| column.iter().map(|node| size_of(node).1 + GAP_ACROSS).sum::<f64>();
    let tallest = columns.iter().map(column_height).fold(0.0, f64::max);
    let mut places = vec![Place::default(); graph.nodes.len()];
    let mut x = MARGIN;
    for column in columns {
        let widest = column.iter().map(|node| size_of(node).0).fold(0.0, f64::max);
        let mut y = MARGIN + (tallest - column_height(column)) / 2.0;
        for node in column {
            let (width, height) = size_of(node);
            if let Some(place) = places.get_mut(*node) {
                *place = Place { x, y, width, height };
            }
            y += height + GAP_ACROSS;
        }
        let leaving = graph.edges.iter().filter(|edge| column.contains(&edge.from));
        let written = leaving.map(|edge| shown(&edge.label).chars().count() as f64 * NOTE_ADVANCE).fold(0.0, f64::max);
        x += widest + GAP_ALONG + written;
    }
    places
}

/// A curve from the right side of one box to the left side of another, and a place for its label. Each further arrow
/// between the same two runs below the one before.
fn curve(from: Place, to: Place, twins: usize) -> (String, f64, f64) {
    let shift = twins as f64 * 22.0;
    let (x1, y1) = (from.x + from.width, from.y + 18.0 + shift.min(from.height - 24.0).max(0.0));
    let (x2, y2) = (to.x - 2.0, to.y + 18.0 + shift.min(to.height - 24.0).max(0.0));
    if x2 > x1 {
        let bend = (x2 - x1) / 2.0;
        let path = format!("M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}", x1 + bend, x2 - bend);
        return (path, (x1 + x2) / 2.0, (y1 + y2) / 2.0 - 6.0);
    }
    // Back to the left, or within a column: out, around and in again.
    let out = x1 + 40.0 + shift;
    let back = x2 - 40.0 - shift;
    let below = from.y.max(to.y) + from.height.max(to.height) + 10.0 + shift;
    let path = format!(
        "M{x1:.1} {y1:.1}C{out:.1} {y1:.1} {out:.1} {below:.1} {:.1} {below:.1}S{back:.1} {y2:.1} {x2:.1} {y2:.1}",
        (x1 + x2) / 2.0
    );
    (path, (x1 + x2) / 2.0, below - 6.0)
}

fn text(text: &str) -> String {
    shown(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
