//! witan:tools/broker: finds and calls the tools of a system.
//!
//! A tool is known by its full name, `component.tool`. What a component was not granted looks to it as if it did not
//! exist: it is not found, and calling it gives the error of a missing tool, so that names cannot be probed for.

mod arguments;
mod rank;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::OnceCell;
use wasmtime::component::Linker;
use witan_capability::{Action, CallError, CallState, Capability, HostFunction, Resource};
use witan_engine::Service;
use witan_forward::{
    Caller,
    tools::{
        Content, Description, Error, Offer,
        broker::{self, Broker},
        tool::Tool as _,
    },
};
use witan_system::{ComponentName, Grants};

/// The tools of a system. Cloning is cheap; all clones are the same.
///
/// Made before the system is loaded, because its components link to it, and told afterwards what there is.
#[derive(Clone, Default)]
pub struct Tools(Arc<RwLock<BTreeMap<String, Arc<Offering>>>>);

/// A component that offers tools.
struct Offering {
    service: Arc<Service>,
    /// What it says of them, asked once: the answer is the same for all calls of one version.
    described: OnceCell<Vec<Description>>,
}

impl Tools {
    /// Says which components offer tools.
    pub fn set(&self, services: impl Iterator<Item = (ComponentName, Arc<Service>)>) {
        let offerings = services.map(|(name, service)| {
            (name.as_str().to_owned(), Arc::new(Offering { service, described: OnceCell::new() }))
        });
        *self.0.write() = offerings.collect();
    }

    fn offerings(&self) -> Vec<(String, Arc<Offering>)> {
        self.0.read().iter().map(|(name, offering)| (name.clone(), offering.clone())).collect()
    }

    fn offering(&self, component: &str) -> Option<Arc<Offering>> {
        self.0.read().get(component).cloned()
    }
}

impl Offering {
    async fn described(&self, caller: &Caller<'_>) -> Result<&[Description], CallError> {
        // As the host: what a component says of its tools is nobody's secret, and is asked once for all callers.
        let host = Caller::host(caller.context(), caller.account());
        Ok(self.described.get_or_try_init(|| self.service.describe(&host)).await?)
    }
}

/// Whether `caller` may call the tool `tool` of `component`. The host may call all.
fn may_call(caller: &Caller<'_>, component: &str, tool: &str) -> bool {
    caller.component().is_none_or(|own| {
        own.grants.tools.iter().any(|grant| {
            grant.component.as_str() == component && grant.tool.as_ref().is_none_or(|granted| granted.as_str() == tool)
        })
    })
}

/// The most tools that one search gives.
const MOST: usize = 100;

impl Broker for Tools {
    async fn find(
        &self,
        caller: &Caller<'_>,
        query: String,
        limit: u32,
    ) -> Result<Result<Vec<Offer>, Error>, CallError> {
        caller.enter(Action::Handle, &Resource::None)?;
        let mut offers = Vec::new();
        for (component, offering) in self.offerings() {
            // A component that fails to say what it offers hides nobody else's tools.
            let Ok(described) = offering.described(caller).await else { continue };
            for description in described.iter().filter(|tool| may_call(caller, &component, &tool.name)) {
                offers.push(Offer {
                    tool: format!("{component}.{}", description.name),
                    description: description.clone(),
                });
            }
        }
        Ok(Ok(rank::best(offers, &query, MOST.min(limit as usize))))
    }

    async fn call(
        &self,
        caller: &Caller<'_>,
        tool: String,
        arguments: String,
    ) -> Result<Result<Vec<Content>, Error>, CallError> {
        if caller.enter(Action::ToolCall, &Resource::Tool(&tool)).is_err() {
            return Ok(Err(missing(&tool)));
        }
        let Some((component, name)) = tool.split_once('.') else { return Ok(Err(missing(&tool))) };
        let Some(offering) = self.offering(component) else { return Ok(Err(missing(&tool))) };
        let described = offering.described(caller).await?;
        let Some(description) = described.iter().find(|description| description.name == name) else {
            return Ok(Err(missing(&tool)));
        };
        if let Err(message) = arguments::check(&description.parameters, &arguments) {
            return Ok(Err(Error::InvalidArguments(format!("`{tool}`: {message}"))));
        }
        // The guard has decided on the tool; that its component is called is how the host does it.
        let host = Caller::host(caller.context(), caller.account());
        offering.service.invoke(&host, name.to_owned(), arguments).await
    }
}

fn missing(tool: &str) -> Error {
    Error::NotFound(format!("there is no tool `{tool}` that this component may call; `find` lists those it may"))
}

impl Capability for Tools {
    fn name(&self) -> &'static str {
        "tools"
    }

    fn serves(&self, interface: &str) -> bool {
        interface == broker::NAME || interface == broker::TWIN
    }

    fn granted(&self, grants: &Grants) -> bool {
        !grants.tools.is_empty()
    }

    fn remedy(&self) -> &'static str {
        r#"tools = ["component.tool"]"#
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        broker::link(linker, self.clone())?;
        broker::link_twin(linker, self.clone())
    }

    fn functions(&self) -> Vec<HostFunction> {
        broker::FUNCTIONS.to_vec()
    }
}
