//! The order of loading: whoever is called stands before whoever calls.

use std::collections::BTreeMap;

use witan_system::{ComponentName, System};

use crate::LoadProblem;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Open,
    Done,
}

/// The components of `system`, each after all that it is linked to.
pub(crate) fn callees_first(system: &System) -> Result<Vec<ComponentName>, LoadProblem> {
    let mut order = Vec::new();
    let mut marks = BTreeMap::new();
    for name in system.components.keys() {
        visit(system, name, &mut marks, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

fn visit<'a>(
    system: &'a System,
    name: &'a ComponentName,
    marks: &mut BTreeMap<&'a ComponentName, Mark>,
    path: &mut Vec<&'a ComponentName>,
    order: &mut Vec<ComponentName>,
) -> Result<(), LoadProblem> {
    path.push(name);
    match marks.insert(name, Mark::Open) {
        Some(Mark::Done) => {
            marks.insert(name, Mark::Done);
        }
        Some(Mark::Open) => {
            let circle = path.iter().skip_while(|other| **other != name);
            let names: Vec<&str> = circle.map(|name| name.as_str()).collect();
            return Err(LoadProblem::Cycle(names.join(" → ")));
        }
        None => {
            if let Some(component) = system.components.get(name) {
                for link in component.links.values() {
                    visit(system, &link.component, marks, path, order)?;
                }
            }
            marks.insert(name, Mark::Done);
            order.push(name.clone());
        }
    }
    path.pop();
    Ok(())
}
