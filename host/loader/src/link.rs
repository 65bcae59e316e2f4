//! How each import of a component is satisfied, or why it is not.

use std::collections::BTreeSet;

use wasmtime::component::{Component, Linker, types::ComponentItem};
use witan_capability::{CallState, Capability};
use witan_forward::Served;
use witan_system::{ComponentName, Link};

use crate::{By, Compiled, Import, LoadProblem, Loader, Running};

/// The names of what `code` exports.
pub(crate) fn exports(code: &Component) -> Vec<String> {
    code.component_type().exports(code.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// Links every import of a component, and says what satisfies each. What cannot be linked is added to `problems`.
pub(crate) fn link_imports(
    loader: &Loader,
    running: &Running,
    name: &ComponentName,
    compiled: &Compiled,
    linker: &mut Linker<CallState>,
    problems: &mut Vec<LoadProblem>,
) -> Vec<Import> {
    let mut linking = Linking { loader, running, name, compiled, linker, linked: BTreeSet::new() };
    let mut imports = Vec::new();
    for (import, item) in compiled.code.component_type().imports(compiled.code.engine()) {
        match linking.satisfy(import, &item.ty) {
            Ok(Some(by)) => imports.push(Import { name: import.to_owned(), by }),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    imports
}

struct Linking<'a> {
    loader: &'a Loader,
    running: &'a Running,
    name: &'a ComponentName,
    compiled: &'a Compiled,
    linker: &'a mut Linker<CallState>,
    /// The capabilities that are linked already, by name: one may serve several imports.
    linked: BTreeSet<&'static str>,
}

impl Linking<'_> {
    /// What satisfies `import`; none if the component that would was not loaded, which is reported there.
    fn satisfy(&mut self, import: &str, item: &ComponentItem) -> Result<Option<By>, LoadProblem> {
        if let Some(link) = self.link_to(import) {
            return self.link_component(import, item, &link);
        }
        if has_types_alone(item, self.compiled.code.engine()) {
            return Ok(Some(By::Types));
        }
        let serving = self.loader.capabilities.iter().find(|capability| capability.serves(import)).cloned();
        match serving {
            Some(capability) => self.link_capability(import, capability.as_ref()).map(Some),
            None => Err(self.unsatisfied(import)),
        }
    }

    /// The link that the system has for `import`: that of the component, or of a part that was fused into it.
    fn link_to(&self, import: &str) -> Option<Link> {
        let parts = std::iter::once(self.name).chain(&self.compiled.fused);
        parts.filter_map(|part| self.running.system.components.get(part)?.link(import)).next().cloned()
    }

    fn link_component(&mut self, import: &str, item: &ComponentItem, link: &Link) -> Result<Option<By>, LoadProblem> {
        let Some(target) = self.running.component(&link.component) else { return Ok(None) };
        let by = By::Component(link.component.clone(), link.mode);
        let wanted = match witan_forward::serves(import) {
            Some(Served::Types) => return Ok(Some(by)),
            Some(Served::Interface(interface)) => interface,
            None => import,
        };
        if !target.exports.iter().any(|export| export == wanted || export == import || is_twin(export, wanted)) {
            return Err(LoadProblem::NotExported {
                component: self.name.clone(),
                import: import.to_owned(),
                target: link.component.clone(),
                exports: if target.exports.is_empty() { "none".to_owned() } else { target.exports.join(", ") },
            });
        }
        let failed = |message: String| LoadProblem::Link {
            component: self.name.clone(),
            import: import.to_owned(),
            target: link.component.clone(),
            message,
        };
        match witan_forward::link(self.linker, import, target.service.clone()) {
            Some(result) => result.map_err(|error| failed(format!("{error:#}")))?,
            None => {
                let ComponentItem::ComponentInstance(instance) = item else {
                    return Err(failed("only interfaces can be linked, not a function or type by itself".to_owned()));
                };
                let mut linked = self.linker.instance(import).map_err(|error| failed(format!("{error:#}")))?;
                witan_dynamic::link(&mut linked, import, instance, &target.service)
                    .map_err(|error| failed(error.to_string()))?;
            }
        }
        Ok(Some(by))
    }

    fn link_capability(&mut self, import: &str, capability: &dyn Capability) -> Result<By, LoadProblem> {
        let name = capability.name();
        let granted = self
            .running
            .system
            .components
            .get(self.name)
            .is_some_and(|component| capability.granted(&component.grants));
        if !granted && !self.loader.link_all {
            return Err(LoadProblem::NotGranted {
                component: self.name.clone(),
                import: import.to_owned(),
                capability: name,
                remedy: capability.remedy(),
            });
        }
        if self.linked.insert(name) {
            capability.add_to_linker(self.linker).map_err(|error| LoadProblem::Capability {
                component: self.name.clone(),
                capability: name,
                message: format!("{error:#}"),
            })?;
        }
        Ok(By::Capability(name))
    }

    fn unsatisfied(&self, import: &str) -> LoadProblem {
        let exporting: Vec<&str> = self
            .running
            .components()
            .iter()
            .filter(|(_, loaded)| loaded.exports.iter().any(|export| export == import))
            .map(|(name, _)| name.as_str())
            .collect();
        let interface = import.split('@').next().unwrap_or(import);
        let remedy = match exporting.first() {
            Some(other) => format!(
                "`{other}` exports it: add `\"{interface}\" = {{ component = \"{other}\" }}` under [components.{}.links]",
                self.name
            ),
            None => format!(
                "add a component that exports it and link it under [components.{}.links], or drop the import",
                self.name
            ),
        };
        LoadProblem::Unsatisfied { component: self.name.clone(), import: import.to_owned(), remedy }
    }
}

fn is_twin(export: &str, interface: &str) -> bool {
    let (name, version) = export.split_once('@').unwrap_or((export, ""));
    let (wanted, wanted_version) = interface.split_once('@').unwrap_or((interface, ""));
    version == wanted_version && name.strip_suffix("-sync") == Some(wanted)
}

/// Whether an import is an interface without functions and resources, so that nothing has to be linked.
fn has_types_alone(item: &ComponentItem, engine: &wasmtime::Engine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => true,
        _ => false,
    }
}
