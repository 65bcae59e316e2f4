//! The components that offer tools, and what each version of them says of its tools.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::RwLock;
use serde_json::Value;
use witan_capability::{CallContext, CallError, Limits, Privacy};
use witan_engine::{Engine, Service, Version};
use witan_forward::{
    Caller, Heap as _,
    tools::{Description, Offer, Tool as _},
};
use witan_system::ComponentName;

/// Bytes that a component may say of its tools. They are kept, and a model has to read them.
const MOST_BYTES: u64 = 1 << 20;

/// A tool as its component describes it.
pub(crate) struct Offered {
    pub(crate) description: Description,
    /// Its parameters, parsed.
    pub(crate) schema: Value,
}

impl Offered {
    fn new(description: Description) -> Option<Self> {
        let schema: Value = serde_json::from_str(&description.parameters).ok()?;
        schema.is_object().then_some(Self { description, schema })
    }

    pub(crate) fn offer(&self, component: &str) -> Offer {
        Offer { tool: format!("{component}.{}", self.description.name), description: self.description.clone() }
    }
}

/// What a version said.
struct Said {
    version: Weak<Version>,
    tools: Arc<[Offered]>,
}

struct Entry {
    service: Arc<Service>,
    said: Option<Said>,
}

pub(crate) struct Directory {
    engine: Arc<Engine>,
    entries: RwLock<BTreeMap<String, Entry>>,
}

impl Directory {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, entries: RwLock::default() }
    }

    pub(crate) fn set(&self, services: impl IntoIterator<Item = (ComponentName, Arc<Service>)>) {
        let entry = |(name, service): (ComponentName, _)| (name.as_str().to_owned(), Entry { service, said: None });
        let entries = services.into_iter().map(entry).collect();
        *self.entries.write() = entries;
    }

    pub(crate) fn services(&self) -> Vec<Arc<Service>> {
        self.entries.read().values().map(|entry| entry.service.clone()).collect()
    }

    pub(crate) fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.entries.read().get(name).map(|entry| entry.service.clone())
    }

    /// What the current version of `service` says of its tools.
    ///
    /// # Errors
    /// When it does not say it, or says too much.
    pub(crate) async fn described(&self, service: &Arc<Service>) -> Result<Arc<[Offered]>, CallError> {
        let version = service.current();
        if let Some(tools) = self.said(service.name(), &version) {
            return Ok(tools);
        }
        let tools = self.ask(service).await?;
        // A version that was replaced meanwhile may or may not be the one that answered.
        if Arc::ptr_eq(&version, &service.current()) {
            self.keep(service.name(), &version, &tools);
        }
        Ok(tools)
    }

    fn said(&self, name: &str, version: &Arc<Version>) -> Option<Arc<[Offered]>> {
        let entries = self.entries.read();
        let said = entries.get(name)?.said.as_ref()?;
        std::ptr::eq(said.version.as_ptr(), Arc::as_ptr(version)).then(|| said.tools.clone())
    }

    fn keep(&self, name: &str, version: &Arc<Version>, tools: &Arc<[Offered]>) {
        if let Some(entry) = self.entries.write().get_mut(name) {
            entry.said = Some(Said { version: Arc::downgrade(version), tools: tools.clone() });
        }
    }

    /// Asks in a context of its own: no tenant's, without files, and unable to send anything away.
    async fn ask(&self, service: &Arc<Service>) -> Result<Arc<[Offered]>, CallError> {
        let context = CallContext::new("tools", "tools").narrow_privacy(Privacy::LocalOnly);
        let account = self.engine.open_account(limits());
        let said = service.describe(&Caller::host(&context, &account)).await?;
        if said.heap() > MOST_BYTES {
            return Err(CallError::Trapped {
                component: service.name().to_owned(),
                message: format!("it says more than {MOST_BYTES} bytes of its tools"),
            });
        }
        Ok(said.into_iter().filter_map(|description| checked(service.name(), description)).collect())
    }
}

fn checked(component: &str, description: Description) -> Option<Offered> {
    let name = description.name.clone();
    let offered = Offered::new(description);
    if offered.is_none() {
        tracing::warn!(component, tool = name, "a tool is left out: its parameters are no JSON object");
    }
    offered
}

/// Enough to put some texts together.
fn limits() -> Limits {
    Limits { cpu: Duration::from_secs(1), deadline: Duration::from_secs(5), ..Limits::default() }
}
