//! A system as a picture: what is called from outside, the components, how they are linked, and what each may do.

mod dot;
mod mermaid;
mod svg;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::name::ComponentName;
use crate::system::{Component, LinkMode, System};

/// The names of interfaces that a component imports and exports, as its bytes say. This crate reads no component, so
/// that whoever does passes them in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// The picture, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// What is drawn as a box.
    pub nodes: Vec<Node>,
    /// What is drawn as an arrow.
    pub edges: Vec<Edge>,
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it stands for.
    pub kind: NodeKind,
    /// Its name.
    pub label: String,
    /// Small print: what is granted, imported and exported.
    pub notes: Vec<String>,
}

/// What a box stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// An intent that clients ask for.
    Intent,
    /// An HTTP path that is mounted.
    Mount,
    /// A component.
    Component,
}

/// An arrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Whence, an index into the nodes.
    pub from: usize,
    /// Where to, an index into the nodes.
    pub to: usize,
    /// What it stands for.
    pub kind: EdgeKind,
    /// What is written on it; may be empty.
    pub label: String,
}

/// What an arrow stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// A request from outside.
    Entry,
    /// An isolated link.
    Isolated,
    /// A fused link.
    Fused,
    /// Calls through the tools broker.
    Tools,
}

impl Graph {
    /// The picture of `system`, with what is known about the interfaces of its components.
    pub fn of(system: &System, interfaces: &BTreeMap<ComponentName, Interfaces>) -> Self {
        let mut graph = Self::default();
        let nothing_known = Interfaces::default();
        for (name, component) in &system.components {
            let notes = notes(component, interfaces.get(name).unwrap_or(&nothing_known), system);
            graph.nodes.push(Node { kind: NodeKind::Component, label: name.to_string(), notes });
        }
        let at = |name: &ComponentName| system.components.keys().position(|known| known == name);
        for (intent, component) in &system.intents {
            graph.entry(NodeKind::Intent, intent.as_str(), at(component));
        }
        for mount in &system.mounts {
            graph.entry(NodeKind::Mount, &mount.path, at(&mount.component));
        }
        for (from, component) in system.components.values().enumerate() {
            graph.links(from, component, at);
            graph.tools(from, component, at);
        }
        graph
    }

    fn entry(&mut self, kind: NodeKind, label: &str, to: Option<usize>) {
        let Some(to) = to else { return };
        self.nodes.push(Node { kind, label: label.to_owned(), notes: Vec::new() });
        self.edges.push(Edge { from: self.nodes.len() - 1, to, kind: EdgeKind::Entry, label: String::new() });
    }

    fn links(&mut self, from: usize, component: &Component, at: impl Fn(&ComponentName) -> Option<usize>) {
        for (interface, link) in &component.links {
            let kind = match link.mode {
                LinkMode::Isolated => EdgeKind::Isolated,
                LinkMode::Fused => EdgeKind::Fused,
            };
            let label = interface.to_string();
            self.edges.extend(at(&link.component).map(|to| Edge { from, to, kind, label }));
        }
    }

    fn tools(&mut self, from: usize, component: &Component, at: impl Fn(&ComponentName) -> Option<usize>) {
        let mut by_component: BTreeMap<&ComponentName, Vec<&str>> = BTreeMap::new();
        for grant in &component.grants.tools {
            let tool = grant.tool.as_ref().map_or("*", |tool| tool.as_str());
            by_component.entry(&grant.component).or_default().push(tool);
        }
        for (callee, tools) in by_component {
            let label = format!("tools: {}", tools.join(", "));
            self.edges.extend(at(callee).map(|to| Edge { from, to, kind: EdgeKind::Tools, label }));
        }
    }

    /// As a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// As a graph in the DOT language.
    pub fn to_dot(&self) -> String {
        dot::draw(self)
    }

    /// As an SVG picture, laid out.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }
}

fn notes(component: &Component, interfaces: &Interfaces, system: &System) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let grants = &component.grants;
    // Tools are arrows.
    let without_tools = crate::Grants { tools: Vec::new(), ..grants.clone() };
    notes.extend(without_tools.in_words(system.folder()).into_iter().map(|line| line.replace('`', "")));
    if grants.is_empty() {
        notes.push("nothing beyond the baseline".to_owned());
    }
    let linked = |import: &&String| component.link(import).is_none();
    notes.extend(interfaces.imports.iter().filter(linked).map(|name| format!("imports {name}")));
    notes.extend(interfaces.exports.iter().map(|name| format!("exports {name}")));
    notes
}

/// A text for small print: what does not fit is cut, and what no format can carry is replaced.
fn shown(text: &str) -> String {
    const LONGEST: usize = 72;
    let mut shown: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    // Not characters of XML 1.0.
    shown.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
