//! Fused links: which components become part of which, before anything is compiled.

use std::collections::BTreeMap;

use witan_fuse::{FuseError, Origin, Part, Wire};
use witan_system::{ComponentName, LinkMode, System};

use crate::{LoadProblem, Loader, admit::Bytes};

/// The bytes of `root` with all that the system fuses into it, and the names of that.
pub(crate) fn fuse(
    loader: &Loader,
    system: &System,
    bytes: &BTreeMap<ComponentName, Bytes>,
    root: &ComponentName,
) -> Result<(Bytes, Vec<ComponentName>), LoadProblem> {
    let Some(own) = bytes.get(root) else {
        return Err(LoadProblem::Compile { component: root.clone(), message: "its bytes were not read".to_owned() });
    };
    let names = parts(system, root);
    if names.len() == 1 {
        return Ok((own.clone(), Vec::new()));
    }
    let failed = |source| LoadProblem::Fuse { component: root.clone(), source };
    let origins: Vec<_> = names.iter().map(|name| origin(loader, system, name)).collect();
    let parts: Vec<Part<'_>> = names
        .iter()
        .zip(&origins)
        .filter_map(|(name, origin)| {
            let grants = &system.components.get(name)?.grants;
            Some(Part { name: name.as_str(), bytes: &bytes.get(name)?.bytes, grants, origin })
        })
        .collect();
    let interfaces = wires(system, &names, &parts).map_err(failed)?;
    let wires: Vec<Wire<'_>> = interfaces
        .iter()
        .map(|(caller, callee, interface)| Wire { caller: *caller, callee: *callee, interface })
        .collect();
    let fused = witan_fuse::fuse(&parts, &wires).map_err(failed)?;
    Ok((Bytes::new(fused), names.iter().skip(1).cloned().collect()))
}

/// `root` and everything that fused links lead to from there, once each.
fn parts(system: &System, root: &ComponentName) -> Vec<ComponentName> {
    let mut names = vec![root.clone()];
    let mut at = 0;
    while let Some(component) = names.get(at).and_then(|name| system.components.get(name)) {
        let fused = component.links.values().filter(|link| link.mode == LinkMode::Fused);
        let more: Vec<_> = fused.map(|link| link.component.clone()).filter(|name| !names.contains(name)).collect();
        names.extend(more);
        at += 1;
    }
    names
}

/// The wires between parts: caller, callee and the full name of the interface, as the caller imports it.
fn wires(
    system: &System,
    names: &[ComponentName],
    parts: &[Part<'_>],
) -> Result<Vec<(usize, usize, String)>, FuseError> {
    let mut wires = Vec::new();
    for (caller, (name, part)) in names.iter().zip(parts).enumerate() {
        let Some(component) = system.components.get(name) else { continue };
        for import in witan_fuse::imports(part.name, part.bytes)? {
            let Some(link) = component.link(&import) else { continue };
            let callee = names.iter().position(|name| *name == link.component);
            if let (LinkMode::Fused, Some(callee)) = (link.mode, callee) {
                wires.push((caller, callee, import));
            }
        }
    }
    Ok(wires)
}

/// What satisfies the imports of a part that no wire does.
fn origin<'a>(loader: &'a Loader, system: &'a System, name: &'a ComponentName) -> impl Fn(&str) -> Option<Origin> + 'a {
    move |import| {
        let component = system.components.get(name)?;
        if let Some(link) = component.link(import) {
            return Some(Origin::Link(link.component.to_string()));
        }
        let capability = loader.capabilities.iter().find(|capability| capability.serves(import))?;
        if capability.granted(&witan_system::Grants::default()) {
            Some(Origin::Baseline)
        } else if capability.granted(&component.grants) {
            Some(Origin::Grant)
        } else {
            None
        }
    }
}
