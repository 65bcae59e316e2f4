//! What the host functions do, called as the bindings call them.

mod baseline;
mod concurrent;
mod filesystem;
mod granted;
mod sockets;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use witan_capability::{
    Account, Action, Call, CallContext, CallState, Component, Decision, DecisionId, Denial, Kernel, Limits, Policy,
    Request,
};
use witan_system::{Access, Files, FilesystemGrant, Grants};

/// Allows what `allow` allows, and remembers every question.
pub(crate) struct Asked {
    allow: fn(&Request<'_>) -> bool,
    questions: Mutex<Vec<(Action, String)>>,
}

impl Policy for Asked {
    fn decide(&self, request: &Request<'_>) -> Decision {
        self.questions.lock().unwrap().push((request.action, request.resource.to_string()));
        if (self.allow)(request) {
            Decision::Allow
        } else {
            Decision::Deny(Denial { decision: DecisionId(uuid::Uuid::nil()), reason: "the test says no".into() })
        }
    }
}

/// A store's data, and what its policy was asked.
pub(crate) struct Guest {
    pub(crate) state: CallState,
    policy: Arc<Asked>,
}

impl Guest {
    pub(crate) fn new(grants: Grants) -> Self {
        Self::with(grants, CallContext::local(), Limits::default(), |_| true)
    }

    pub(crate) fn with(grants: Grants, context: CallContext, limits: Limits, allow: fn(&Request<'_>) -> bool) -> Self {
        let policy = Arc::new(Asked { allow, questions: Mutex::default() });
        let component = Component { name: "guest".into(), digest: [0; 32], grants: Arc::new(grants) };
        let state = CallState::new(Call {
            context,
            account: Account::open(limits),
            component: Arc::new(component),
            kernel: Kernel::new(policy.clone()),
        });
        Self { state, policy }
    }

    /// A guest held to its grants by the kernel's own policy.
    pub(crate) fn held(grants: Grants, context: CallContext) -> Self {
        let mut guest = Self::with(grants, context, Limits::default(), |_| true);
        let log = witan_policy::DecisionLog::in_memory();
        let call =
            Call { kernel: Kernel::new(Arc::new(witan_policy::GrantPolicy::new(log))), ..guest.state.call().clone() };
        guest.state = CallState::new(call);
        guest
    }

    /// Another store of the same call tree and component.
    pub(crate) fn again(&self) -> Self {
        Self { state: CallState::new(self.state.call().clone()), policy: self.policy.clone() }
    }

    pub(crate) fn view(&mut self) -> crate::view::View<'_> {
        crate::view::view(&mut self.state)
    }

    /// What policy was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<(Action, String)> {
        std::mem::take(&mut *self.policy.questions.lock().unwrap())
    }
}

pub(crate) fn folder(host: &Path, guest: &str, access: Access) -> Grants {
    Grants { filesystem: vec![grant(host, guest, access, None)], ..Grants::default() }
}

pub(crate) fn grant(host: &Path, guest: &str, access: Access, max_bytes: Option<u64>) -> FilesystemGrant {
    FilesystemGrant { files: Files::Path { host: host.to_owned(), guest: guest.to_owned() }, access, max_bytes }
}
