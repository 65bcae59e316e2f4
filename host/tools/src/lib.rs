//! witan:tools/broker: finds and calls the tools of a system.
//!
//! A component is granted tools by name, and through the broker it sees those and no others: a tool that it was not
//! granted is as absent as one that does not exist.
//!
//! What a component says of its tools is asked once for each version of it, on behalf of nobody: it must not depend
//! on who asks first, and must not carry anything of theirs to the next.

mod directory;
mod rank;
mod schema;

use std::sync::Arc;

use futures::future::join_all;
use tracing::Instrument as _;
use wasmtime::component::Linker;
use witan_capability::{Action, CallError, CallState, Capability, HostFunction, Resource};
use witan_engine::{Engine, Service};
use witan_forward::{
    Caller,
    tools::{Broker, Content, Error, Offer, Tool as _, broker},
};
use witan_system::{ComponentName, Grants, ToolGrant};

use crate::directory::{Directory, Offered};

/// The tools of a system. Cloning is cheap.
#[derive(Clone)]
pub struct Tools(Arc<Directory>);

impl Tools {
    /// The tools of a system that runs on `engine`: none yet.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(Arc::new(Directory::new(engine)))
    }

    /// Says which components offer tools, in place of what was said before: each exports `witan:tools/tool` or its
    /// twin. The broker is made before the system is loaded, because its components link to it.
    pub fn set(&self, services: impl IntoIterator<Item = (ComponentName, Arc<Service>)>) {
        self.0.set(services);
    }

    /// The tools of a component that `caller` may use.
    async fn granted_of(&self, caller: &Caller<'_>, service: Arc<Service>) -> Vec<Offer> {
        let offered = match self.0.described(&service).await {
            Ok(offered) => offered,
            Err(error) => {
                tracing::warn!(component = service.name(), %error, "a component did not describe its tools");
                return Vec::new();
            }
        };
        let granted = |tool: &&Offered| is_granted(caller, service.name(), &tool.description.name);
        offered.iter().filter(granted).map(|tool| tool.offer(service.name())).collect()
    }
}

/// Whether `caller` was granted the tool. The host itself needs no grant.
fn is_granted(caller: &Caller<'_>, component: &str, tool: &str) -> bool {
    let covers = |grant: &ToolGrant| {
        grant.component.as_str() == component && grant.tool.as_ref().is_none_or(|name| name.as_str() == tool)
    };
    caller.component().is_none_or(|caller| caller.grants.tools.iter().any(covers))
}

/// Whether `caller` was granted some tool of the component.
fn may_use(caller: &Caller<'_>, component: &str) -> bool {
    caller
        .component()
        .is_none_or(|caller| caller.grants.tools.iter().any(|grant| grant.component.as_str() == component))
}

/// Tools that one search gives at most.
const MOST: usize = 100;

fn not_found(tool: &str) -> Error {
    Error::NotFound(format!("there is no tool `{tool}` that this component was granted"))
}

impl Broker for Tools {
    async fn find(
        &self,
        caller: &Caller<'_>,
        query: String,
        limit: u32,
    ) -> Result<Result<Vec<Offer>, Error>, CallError> {
        let permit = caller.enter(Action::Handle, &Resource::None)?;
        let services = self.0.services().into_iter().filter(|service| may_use(caller, service.name()));
        let offers = join_all(services.map(|service| self.granted_of(caller, service)))
            .instrument(permit.map_or_else(tracing::Span::none, |permit| permit.span))
            .await;
        Ok(Ok(rank::best(offers.into_iter().flatten().collect(), &query, MOST.min(limit as usize))))
    }

    async fn call(
        &self,
        caller: &Caller<'_>,
        tool: String,
        arguments: String,
    ) -> Result<Result<Vec<Content>, Error>, CallError> {
        // Policy decides by the grants, and its refusal is in the decision log. Here it looks as if the tool was not
        // there.
        let Ok(permit) = caller.enter(Action::ToolCall, &Resource::Tool(&tool)) else {
            return Ok(Err(not_found(&tool)));
        };
        let call = self.call_granted(caller, &tool, arguments);
        call.instrument(permit.map_or_else(tracing::Span::none, |permit| permit.span)).await
    }
}

impl Tools {
    async fn call_granted(
        &self,
        caller: &Caller<'_>,
        tool: &str,
        arguments: String,
    ) -> Result<Result<Vec<Content>, Error>, CallError> {
        let found = tool.split_once('.').and_then(|(component, name)| Some((self.0.service(component)?, name)));
        let Some((service, name)) = found else { return Ok(Err(not_found(tool))) };
        let offered = self.0.described(&service).await?;
        let Some(offered) = offered.iter().find(|offered| offered.description.name == name) else {
            return Ok(Err(not_found(tool)));
        };
        if let Err(reason) = schema::check(&offered.schema, &arguments) {
            return Ok(Err(Error::InvalidArguments(reason)));
        }
        // The guard was entered for the tool; the call of its component is the same call.
        let caller = Caller::host(caller.context(), caller.account());
        service.invoke(&caller, name.to_owned(), arguments).await
    }
}

impl Capability for Tools {
    fn name(&self) -> &'static str {
        "tools"
    }

    fn serves(&self, interface: &str) -> bool {
        [broker::NAME, broker::TWIN].contains(&interface)
    }

    fn granted(&self, grants: &Grants) -> bool {
        !grants.tools.is_empty()
    }

    fn remedy(&self) -> &'static str {
        "tools = [\"component.tool\"]"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        broker::link(linker, self.clone())?;
        broker::link_twin(linker, self.clone())
    }

    fn functions(&self) -> Vec<HostFunction> {
        broker::FUNCTIONS.to_vec()
    }
}
