//! Fuses components into one, in memory, so that a call between them costs tens of nanoseconds.
//!
//! Fused parts share a store: its limits, its span, its fate, and its imports, for imports of the same name become
//! one. So what is joined must not have been apart for a reason. All rules are checked on the parts, before they are
//! fused, since nothing tells them apart afterwards:
//! - parts that have grants have the same, a part without grants imports nothing that needs one, and nothing at all that
//!   can be called where another part has grants;
//! - imports of the same name have the same types and are satisfied by the same thing;
//! - both sides of a wire agree on every function, and on whether it is async.
//!
//! Start reading at [`fuse`].

mod check;
mod error;

pub use error::FuseError;

use std::panic::{AssertUnwindSafe, catch_unwind};

use wac_graph::{
    CompositionGraph, EncodeError, EncodeOptions, NodeId, PackageId,
    types::{Package, Types, WorldId},
};
use witan_system::Grants;

/// A component that is to become part of another.
pub struct Part<'a> {
    /// Its name in the system.
    pub name: &'a str,
    /// The component, as it was verified.
    pub bytes: &'a [u8],
    /// What the operator granted it.
    pub grants: &'a Grants,
    /// What satisfies those of its imports that no wire does, by the name of the import; `None` where nothing does.
    pub origin: &'a dyn Fn(&str) -> Option<Origin>,
}

/// What satisfies an import that stays an import of the fused component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The baseline, which has no authority.
    Baseline,
    /// A capability, because the part was granted it.
    Grant,
    /// Another component, over a link that is not fused.
    Link(String),
}

/// Joins an import of one part to the export of the same name of another. Parts are named by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire<'a> {
    /// The part that imports.
    pub caller: usize,
    /// The part that exports.
    pub callee: usize,
    /// The interface, as both name it: `acme:text/split@1.0.0`.
    pub interface: &'a str,
}

/// Fuses `parts` along `wires`. The first part is the root: the result has its exports and no others. What no wire
/// satisfies stays an import, once for all parts that import it.
///
/// The same input gives the same bytes. A result can itself be a part, under the rules of all that went into it.
///
/// # Errors
/// When a rule of this crate forbids it, or the parts do not fit together; each error says which, and what to do.
pub fn fuse(parts: &[Part<'_>], wires: &[Wire<'_>]) -> Result<Vec<u8>, FuseError> {
    check::grants(parts)?;
    // The composer asserts what it believes of components; bytes that come from elsewhere may know better.
    catch_unwind(AssertUnwindSafe(|| compose(parts, wires)))
        .unwrap_or_else(|_| Err(FuseError::Unsupported { part: names(parts), detail: "the composer gave up".into() }))
}

/// The names of what the component called `name` imports.
///
/// # Errors
/// When its bytes are no component that can be fused.
pub fn imports(name: &str, bytes: &[u8]) -> Result<Vec<String>, FuseError> {
    let unsupported = |detail: String| FuseError::Unsupported { part: name.into(), detail: detail.into() };
    let mut types = Types::new();
    let read = catch_unwind(AssertUnwindSafe(|| Package::from_bytes(name, None, bytes, &mut types)));
    let package = read
        .map_err(|_| unsupported("the composer gave up".to_owned()))?
        .map_err(|error| unsupported(format!("{error:#}")))?;
    Ok(types[package.ty()].imports.keys().cloned().collect())
}

fn names(parts: &[Part<'_>]) -> Box<str> {
    parts.iter().map(|part| part.name).collect::<Vec<_>>().join("`, `").into()
}

/// A part that was read.
struct Read {
    package: PackageId,
    world: WorldId,
    node: NodeId,
}

fn compose(parts: &[Part<'_>], wires: &[Wire<'_>]) -> Result<Vec<u8>, FuseError> {
    let mut graph = CompositionGraph::new();
    let read = parts.iter().map(|part| read(&mut graph, part)).collect::<Result<Vec<_>, _>>()?;
    let worlds: Vec<WorldId> = read.iter().map(|read| read.world).collect();
    check::wires(parts, &worlds, graph.types(), wires)?;
    check::imports(parts, &worlds, graph.types(), wires)?;

    for wire in wires {
        let failed = |detail: String| FuseError::Mismatch {
            caller: parts[wire.caller].name.into(),
            callee: parts[wire.callee].name.into(),
            interface: wire.interface.into(),
            detail: detail.into(),
        };
        let export = graph
            .alias_instance_export(read[wire.callee].node, wire.interface)
            .map_err(|error| failed(error.to_string()))?;
        graph
            .set_instantiation_argument(read[wire.caller].node, wire.interface, export)
            .map_err(|error| failed(chain(&error)))?;
    }
    if let Some(root) = read.first() {
        export_all(&mut graph, root, parts[0].name)?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| match error {
        EncodeError::GraphContainsCycle { node } => FuseError::Cycle {
            part: read
                .iter()
                .position(|read| read.node == node)
                .map_or_else(|| names(parts), |at| parts[at].name.into()),
        },
        error => FuseError::Unsupported { part: names(parts), detail: chain(&error).into() },
    })
}

fn read(graph: &mut CompositionGraph, part: &Part<'_>) -> Result<Read, FuseError> {
    let failed = |detail: String| FuseError::Unsupported { part: part.name.into(), detail: detail.into() };
    let package = Package::from_bytes(part.name, None, part.bytes, graph.types_mut())
        .map_err(|error| failed(format!("{error:#}")))?;
    let world = package.ty();
    let package = graph.register_package(package).map_err(|error| failed(error.to_string()))?;
    Ok(Read { package, world, node: graph.instantiate(package) })
}

fn export_all(graph: &mut CompositionGraph, root: &Read, name: &str) -> Result<(), FuseError> {
    let failed = |detail: String| FuseError::Unsupported { part: name.into(), detail: detail.into() };
    let exports: Vec<String> = graph.types()[graph[root.package].ty()].exports.keys().cloned().collect();
    for name in exports {
        let export = graph.alias_instance_export(root.node, &name).map_err(|error| failed(chain(&error)))?;
        graph.export(export, &name).map_err(|error| failed(chain(&error)))?;
    }
    Ok(())
}

/// An error of the composer with its causes, which it keeps as `anyhow` errors that do not print by themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
