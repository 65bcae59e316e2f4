//! Who calls: a component through one of its imports, or the host itself.

use std::sync::Arc;

use wasmtime::component::Accessor;
use witan_capability::{
    Account, Action, Call, CallContext, CallState, Component, Denial, HostFunction, Permit, Resource,
};

/// Whoever calls an interface, for whom and at whose cost.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    context: &'a CallContext,
    account: &'a Arc<Account>,
    import: Option<(&'a Call, HostFunction)>,
}

impl<'a> Caller<'a> {
    /// The host itself, on behalf of `context` and at the cost of `account`. No policy is asked.
    #[must_use]
    pub fn host(context: &'a CallContext, account: &'a Arc<Account>) -> Self {
        Self { context, account, import: None }
    }

    /// The component of `call`, through its import `function`.
    #[must_use]
    pub fn guest(call: &'a Call, function: HostFunction) -> Self {
        Self { context: &call.context, account: &call.account, import: Some((call, function)) }
    }

    /// For whom and within what bounds it calls.
    #[must_use]
    pub fn context(&self) -> &'a CallContext {
        self.context
    }

    /// What its call tree uses.
    #[must_use]
    pub fn account(&self) -> &'a Arc<Account> {
        self.account
    }

    /// The component that calls, unless it is the host.
    #[must_use]
    pub fn component(&self) -> Option<&'a Arc<Component>> {
        self.import.map(|(call, _)| &call.component)
    }

    /// Enters the guard, as whatever serves a call does before anything else.
    ///
    /// # Errors
    /// When policy denies it.
    pub fn enter(&self, action: Action, resource: &Resource<'_>) -> Result<Option<Permit>, Denial> {
        self.import.map(|(call, function)| call.enter(function, action, resource)).transpose()
    }
}

/// The call that a store runs.
pub(crate) fn calling(accessor: &Accessor<CallState>) -> Call {
    accessor.with(|mut store| store.get().call().clone())
}
