//! A system that stands.

use std::{collections::BTreeMap, sync::Arc};

use witan_admission::{Admitted, Held};
use witan_engine::Service;
use witan_system::{ComponentName, LinkMode, System};

use crate::LoadProblem;

/// A loaded system. It never changes; a reload makes another.
pub struct Running {
    /// What it was loaded from.
    pub system: Arc<System>,
    components: BTreeMap<ComponentName, Loaded>,
    held: Vec<Held>,
}

/// A loaded component.
pub struct Loaded {
    /// How it is called.
    pub service: Arc<Service>,
    /// What it imports, and what satisfies each.
    pub imports: Vec<Import>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// The components that were fused into it.
    pub fused: Vec<ComponentName>,
    /// Bytes of the component, with what was fused into it.
    pub size: u64,
    /// blake3 of those bytes.
    pub digest: [u8; 32],
    /// Whose word it is that the component's own bytes may run, and what was verified of them.
    pub admitted: Admitted,
}

/// An import and what satisfies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// What satisfies it.
    pub by: By,
}

/// What satisfies an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing is needed: it has types alone.
    Types,
    /// A capability of the host.
    Capability(&'static str),
    /// A component, over a link of this mode.
    Component(ComponentName, LinkMode),
}

impl Running {
    pub(crate) fn new(system: Arc<System>, held: Vec<Held>) -> Self {
        Self { system, components: BTreeMap::new(), held }
    }

    /// Components of the system that did not pass their checks, and without which the rest stands.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Components that run although nobody signed them.
    pub fn unsigned(&self) -> impl Iterator<Item = &ComponentName> {
        self.components
            .iter()
            .filter(|(_, loaded)| loaded.admitted.by == witan_admission::By::Nobody)
            .map(|(name, _)| name)
    }

    pub(crate) fn insert(&mut self, name: ComponentName, loaded: Loaded) {
        self.components.insert(name, loaded);
    }

    /// The components by name.
    #[must_use]
    pub fn components(&self) -> &BTreeMap<ComponentName, Loaded> {
        &self.components
    }

    /// The component called `name`.
    #[must_use]
    pub fn component(&self, name: &ComponentName) -> Option<&Loaded> {
        self.components.get(name)
    }

    /// For each intent, the service of its handler.
    pub fn intents(&self) -> impl Iterator<Item = (&str, &Arc<Service>)> {
        self.system
            .intents
            .iter()
            .filter_map(|(intent, name)| Some((intent.as_str(), &self.components.get(name)?.service)))
    }

    /// The services of the components that offer tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&ComponentName, &Arc<Service>)> {
        self.components.iter().filter(|(_, loaded)| loaded.serves(TOOL)).map(|(name, loaded)| (name, &loaded.service))
    }

    /// Calls under way in all components.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.components.values().map(|loaded| loaded.service.current().calls()).sum()
    }

    /// Resolves when no call is under way.
    pub async fn drained(&self) {
        while self.calls() > 0 {
            for loaded in self.components.values() {
                loaded.service.current().drained().await;
            }
        }
    }

    /// Intents and mounts whose component cannot serve them. A component that was not loaded has been reported.
    pub(crate) fn unserved(&self) -> Vec<LoadProblem> {
        let mut problems = Vec::new();
        let mut check = |what: String, name: &ComponentName, interfaces: &[&'static str]| {
            let Some(loaded) = self.components.get(name) else { return };
            if !interfaces.iter().any(|interface| loaded.serves(interface)) {
                problems.push(LoadProblem::NotServing { what, component: name.clone(), interface: interfaces[0] });
            }
        };
        for (intent, name) in &self.system.intents {
            check(format!("intents.{intent}"), name, &[HANDLER]);
        }
        for mount in &self.system.mounts {
            check(format!("mounts `{}`", mount.path), &mount.component, &[HTTP_3, HTTP_2]);
        }
        problems
    }
}

/// What the handler of an intent exports, itself or as its twin.
const HANDLER: &str = "witan:task/handler";
/// What a component that offers tools exports, itself or as its twin.
const TOOL: &str = "witan:tools/tool";
/// What the component of a mount exports.
const HTTP_3: &str = "wasi:http/handler";
/// The same in WASI 0.2.
const HTTP_2: &str = "wasi:http/incoming-handler";

impl Loaded {
    /// Whether the component exports `interface`, given without version, or its synchronous twin.
    #[must_use]
    pub fn serves(&self, interface: &str) -> bool {
        self.exports.iter().any(|export| {
            let name = export.split('@').next().unwrap_or(export);
            name == interface || name.strip_suffix("-sync") == Some(interface)
        })
    }
}
