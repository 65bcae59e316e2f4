//! Decides: grants against requests, and the decision log.
//!
//! [`GrantPolicy`] is the kernel's one `decide()`. What it allows is what the component's grants cover, within what
//! the call's own context leaves of them, and, where a request has an action of its own there, what request policy allows
//! the call's principal; everything else is denied. The grants' verdict is a function of the request alone;
//! beside it stand the [`DecisionLog`] and record mode, which watch and change nothing.

mod address;
mod ask;
mod log;
mod record;
mod verdict;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

pub use address::is_public;
pub use ask::principal;
pub use log::{DecisionLog, Digest, Entry};
use witan_authorize::Authorizer;
use witan_capability::{Decision, Denial, Policy, Request};
use witan_system::Grants;

use record::Recorder;
use verdict::Refusal;

/// Decides by the grants of the component that asks.
#[derive(Debug)]
pub struct GrantPolicy {
    log: DecisionLog,
    recorder: Option<Recorder>,
    trial: bool,
    authorizer: OnceLock<Arc<Authorizer>>,
}

impl GrantPolicy {
    /// A policy that writes its decisions to `log`.
    pub fn new(log: DecisionLog) -> Self {
        Self { log, recorder: None, trial: false, authorizer: OnceLock::new() }
    }

    /// The same policy in record mode: it decides as before, and collects what would have been needed.
    #[must_use]
    pub fn recording(self) -> Self {
        Self { recorder: Some(Recorder::default()), ..self }
    }

    /// The same policy in record mode for a trial, in which a component that is trusted that far does what it has not
    /// been granted, so that one run shows all that it needs. A person must have asked for this: it stands in for the
    /// grants of every component.
    ///
    /// Local-only stays local-only. Addresses that are not public, listening, and paths that say one thing and mean
    /// another are refused as ever. Files lie only where a grant put them before the run.
    #[must_use]
    pub fn trial(self) -> Self {
        Self { trial: true, ..self.recording() }
    }

    /// Asks `authorizer` too, from now on: both must allow. The first stays.
    pub fn ask(&self, authorizer: Arc<Authorizer>) {
        let _first = self.authorizer.set(authorizer);
    }

    /// Whether request policy is asked.
    pub fn asks(&self) -> bool {
        self.authorizer.get().is_some()
    }

    /// The decisions so far.
    pub fn log(&self) -> &DecisionLog {
        &self.log
    }

    /// For each component that asked for anything, the least grants that would have sufficed. Empty outside record
    /// mode.
    pub fn suggestions(&self) -> BTreeMap<String, Grants> {
        self.recorder.as_ref().map(Recorder::suggestions).unwrap_or_default()
    }
}

impl GrantPolicy {
    /// Allows `request` if that is written down: an effect that nobody could account for must not happen.
    fn accounted(&self, request: &Request<'_>, reason: Option<String>) -> Decision {
        match self.log.record(request, true, reason) {
            (_, Ok(())) => Decision::Allow,
            (_, Err(refused)) => {
                let Request { component, action, resource, .. } = request;
                let action = action_in_words(*action);
                let reason = format!("`{}` may not {action} `{resource}` now: {refused}", component.name);
                self.deny(request, reason)
            }
        }
    }

    fn deny(&self, request: &Request<'_>, reason: String) -> Decision {
        // A refusal that the ledger has no room for stays one; the ledger counts it.
        let (decision, _counted) = self.log.record(request, false, Some(reason.clone()));
        tracing::debug!(%decision, component = %request.component.name, %reason, "denied");
        Decision::Deny(Denial { decision, reason })
    }
}

impl Policy for GrantPolicy {
    fn decide(&self, request: &Request<'_>) -> Decision {
        if let Some(recorder) = &self.recorder {
            recorder.note(request);
        }
        let granted = match verdict::verdict(request) {
            Err(refusal) if self.trial && refusal.trial_may_allow => {
                Ok(Some(format!("a trial; otherwise {}", in_words(request, &refusal))))
            }
            granted => granted.map(|()| None),
        };
        match granted.and_then(|trial| self.asked(request).map(|()| trial)) {
            Ok(None) if !request.action.is_effect() => Decision::Allow,
            Ok(trial) => self.accounted(request, trial),
            Err(refusal) => self.deny(request, in_words(request, &refusal)),
        }
    }
}

impl GrantPolicy {
    /// What request policy says, where it is asked.
    fn asked(&self, request: &Request<'_>) -> Result<(), Refusal> {
        match self.authorizer.get() {
            Some(authorizer) => ask::ask(authorizer, request),
            None => Ok(()),
        }
    }
}

fn in_words(request: &Request<'_>, refusal: &Refusal) -> String {
    let Request { component, function, action, resource, .. } = request;
    let name = &component.name;
    let action = action_in_words(*action);
    let Refusal { cause, remedy, .. } = refusal;
    let help = remedy.as_ref().map(|line| format!("; to allow it, add `{line}` under [components.{name}.grants]"));
    format!("`{name}` may not {action} `{resource}` through `{function}`: {cause}{}", help.unwrap_or_default())
}

fn action_in_words(action: witan_capability::Action) -> &'static str {
    use witan_capability::Action;
    match action {
        Action::Baseline | Action::Handle => "use",
        Action::FileRead => "read the file",
        Action::FileWrite => "write the file",
        Action::HttpSend => "send",
        Action::DnsLookup => "look up",
        Action::SocketConnect => "connect to",
        Action::SocketBind => "bind",
        Action::EnvironmentRead => "read the variable",
        Action::ConfigRead => "read the setting",
        Action::SecretUse => "use the secret",
        Action::WallClock => "read the time of day",
        Action::Log => "log",
        Action::KeyvalueRead => "read the stored key",
        Action::KeyvalueWrite => "write the stored key",
        Action::ToolCall => "call the tool",
        Action::ComponentCall => "call the component",
        Action::ComponentLoad => "load",
    }
}
