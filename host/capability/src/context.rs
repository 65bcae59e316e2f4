//! For whom and within what bounds a call runs.
//!
//! The context is data of the store, never an argument of the guest: a guest that could name its own tenant or
//! privacy would choose them. It is made once, at the edge where a request enters, and from then on only narrowed.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use witan_system::TrustLevel;

use crate::{Authority, Beginning, Trace, TraceState};

/// Where the data of a call may go. Ordered from wide to narrow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privacy {
    /// Wherever the grants allow.
    #[default]
    Standard,
    /// Nowhere beyond this machine: every egress refuses, whatever the grants say.
    LocalOnly,
}

/// A file that the call's own task may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskFile {
    /// The name the client gave it.
    pub name: String,
    /// The path under which guests see it, such as `/task/0/README.md`.
    pub guest: String,
    /// Where it is on this machine: absolute, without links.
    pub host: PathBuf,
}

/// The immutable context of a call. Cloning is cheap.
#[derive(Clone, Debug, PartialEq)]
pub struct CallContext(Arc<Fields>);

/// The version of the serialised form. A host refuses versions that it does not know.
const VERSION: u16 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    version: u16,
    principal: Arc<str>,
    tenant: Arc<str>,
    trust: TrustLevel,
    authority: Authority,
    task: Option<Uuid>,
    privacy: Privacy,
    /// Millionths of a US dollar that the call tree may still spend; none is unlimited.
    budget_micros: Option<u64>,
    /// Milliseconds since the Unix epoch.
    deadline_ms: Option<u64>,
    depth: u16,
    trace: Trace,
    /// Not written: what others wrote for themselves decides nothing, and ends with the host.
    #[serde(skip)]
    trace_state: Option<TraceState>,
    files: Vec<TaskFile>,
    /// A host that does not know it refuses the context, as each that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beginning: Option<Arc<Beginning>>,
}

impl CallContext {
    /// The context of a call that `principal` makes for `tenant`: standard trust and privacy, no budget, no deadline, no
    /// files.
    #[must_use]
    pub fn new(principal: impl Into<Arc<str>>, tenant: impl Into<Arc<str>>) -> Self {
        Self::trusted(principal, tenant, TrustLevel::Standard)
    }

    /// The context of a call that `principal`, who is trusted so far, makes for `tenant`. Only the edge calls this, where it
    /// is known who asks.
    #[must_use]
    pub fn trusted(principal: impl Into<Arc<str>>, tenant: impl Into<Arc<str>>, trust: TrustLevel) -> Self {
        Self(Arc::new(Fields {
            version: VERSION,
            principal: principal.into(),
            tenant: tenant.into(),
            trust,
            authority: Authority::none(),
            task: None,
            privacy: Privacy::Standard,
            budget_micros: None,
            deadline_ms: None,
            depth: 0,
            trace: Trace::begin(false),
            trace_state: None,
            files: Vec::new(),
            beginning: None,
        }))
    }

    /// The context of whoever sits at this machine: principal and tenant are `local`, and trust is `privileged`.
    #[must_use]
    pub fn local() -> Self {
        Self::trusted("local", "local", TrustLevel::Privileged).with_authority(Authority::local())
    }

    fn with(&self, change: impl FnOnce(&mut Fields)) -> Self {
        let mut fields = Fields::clone(&self.0);
        change(&mut fields);
        Self(Arc::new(fields))
    }

    /// The same context of a principal of whom this is known. Only the edge calls this, with what authentication found.
    #[must_use]
    pub fn with_authority(&self, authority: Authority) -> Self {
        self.with(|fields| fields.authority = authority)
    }

    /// The same context in a call tree that began so. Only the edge calls this, with what it knows of the request.
    #[must_use]
    pub fn begun(&self, beginning: Beginning) -> Self {
        self.with(|fields| fields.beginning = Some(Arc::new(beginning)))
    }

    /// The same context for a call that this call makes: one deeper, in a span of its own.
    #[must_use]
    pub fn child(&self) -> Self {
        self.with(|fields| {
            fields.depth = fields.depth.saturating_add(1);
            fields.trace = fields.trace.child();
        })
    }

    /// The same context within `task`, which may read `files` and has a span of its own. Only the edge calls this, where
    /// a task begins.
    #[must_use]
    pub fn for_task(&self, task: Uuid, files: Vec<TaskFile>) -> Self {
        self.with(|fields| {
            fields.task = Some(task);
            fields.files = files;
            fields.trace = fields.trace.child();
        })
    }

    /// The same context in `trace`. Only the edge calls this, with the trace of the request that it makes a context of.
    #[must_use]
    pub fn traced(&self, trace: Trace) -> Self {
        self.with(|fields| fields.trace = trace)
    }

    /// The same context with what tracing systems passed on beside its trace. Only the edge calls this.
    #[must_use]
    pub fn with_trace_state(&self, state: TraceState) -> Self {
        self.with(|fields| fields.trace_state = Some(state))
    }

    /// The same context, whose trace is not asked to be kept. The other way there is none.
    #[must_use]
    pub fn unsampled(&self) -> Self {
        self.with(|fields| fields.trace = fields.trace.unsampled())
    }

    /// The same context with this privacy, or its own where that is narrower.
    #[must_use]
    pub fn narrow_privacy(&self, privacy: Privacy) -> Self {
        if privacy <= self.0.privacy {
            return self.clone();
        }
        self.with(|fields| fields.privacy = privacy)
    }

    /// The same context for somebody who is trusted so far, or its own where that is less.
    #[must_use]
    pub fn narrow_trust(&self, trust: TrustLevel) -> Self {
        if self.0.trust <= trust {
            return self.clone();
        }
        self.with(|fields| fields.trust = trust)
    }

    /// The same context with this deadline (milliseconds since the Unix epoch), or its own where that is earlier.
    #[must_use]
    pub fn narrow_deadline(&self, deadline_ms: u64) -> Self {
        if self.0.deadline_ms.is_some_and(|own| own <= deadline_ms) {
            return self.clone();
        }
        self.with(|fields| fields.deadline_ms = Some(deadline_ms))
    }

    /// The same context with this budget in millionths of a US dollar, or its own where that is smaller.
    #[must_use]
    pub fn narrow_budget(&self, micros: u64) -> Self {
        if self.0.budget_micros.is_some_and(|own| own <= micros) {
            return self.clone();
        }
        self.with(|fields| fields.budget_micros = Some(micros))
    }

    /// Who asked.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.0.principal
    }

    /// The tenant that everything the call stores belongs to.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// How far whoever asked is trusted.
    #[must_use]
    pub fn trust(&self) -> TrustLevel {
        self.0.trust
    }

    /// What else is known of who asked.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// How the call tree began, where that is known.
    #[must_use]
    pub fn beginning(&self) -> Option<&Beginning> {
        self.0.beginning.as_deref()
    }

    /// The task that the call is part of.
    #[must_use]
    pub fn task(&self) -> Option<Uuid> {
        self.0.task
    }

    /// Where the call's data may go.
    #[must_use]
    pub fn privacy(&self) -> Privacy {
        self.0.privacy
    }

    /// Whether every egress refuses.
    #[must_use]
    pub fn local_only(&self) -> bool {
        self.0.privacy == Privacy::LocalOnly
    }

    /// What the call tree may still spend, in millionths of a US dollar.
    #[must_use]
    pub fn budget_micros(&self) -> Option<u64> {
        self.0.budget_micros
    }

    /// When the call must have ended, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.0.deadline_ms
    }

    /// How many calls lie above this one.
    #[must_use]
    pub fn depth(&self) -> u16 {
        self.0.depth
    }

    /// Where the call stands in its trace, which joins the logs and spans of one call tree.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.0.trace
    }

    /// What tracing systems passed on beside the trace.
    #[must_use]
    pub fn trace_state(&self) -> Option<&TraceState> {
        self.0.trace_state.as_ref()
    }

    /// The files that the task may read.
    #[must_use]
    pub fn files(&self) -> &[TaskFile] {
        &self.0.files
    }

    /// Writes the context for another host or a journal.
    ///
    /// # Errors
    /// When a value cannot be written as JSON, such as a path that is not Unicode.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&*self.0)
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no context, has unknown fields, or is of a version that this host does not know: a field that is
    /// not understood may be one that narrows.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        let fields: Fields = serde_json::from_str(json)?;
        if fields.version == VERSION {
            Ok(Self(Arc::new(fields)))
        } else {
            Err(serde::de::Error::custom(format!(
                "call context version {} is not known; this host knows {VERSION}",
                fields.version
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_narrows() {
        let context = CallContext::local().narrow_privacy(Privacy::LocalOnly).narrow_deadline(10).narrow_budget(5);
        let wider = context.narrow_privacy(Privacy::Standard).narrow_deadline(20).narrow_budget(6);
        assert_eq!(wider, context);
        assert!(wider.child().local_only());
        assert_eq!(wider.narrow_deadline(9).deadline_ms(), Some(9));
        let restricted = context.narrow_trust(TrustLevel::Restricted);
        assert_eq!((context.trust(), restricted.trust()), (TrustLevel::Privileged, TrustLevel::Restricted));
        assert_eq!(restricted.child().narrow_trust(TrustLevel::Elevated).trust(), TrustLevel::Restricted);
    }

    #[test]
    fn survives_a_round_trip_and_refuses_what_it_does_not_know() {
        let context = CallContext::new("alice", "acme").child();
        // As hosts wrote it that did not know how a call began.
        assert!(!context.to_json().unwrap().contains("beginning"));
        let source = Some([192, 0, 2, 1].into());
        let context = context.begun(Beginning { intent: Some("summarize".into()), route: None, source });
        let json = context.to_json().unwrap();
        assert_eq!(CallContext::from_json(&json).unwrap(), context);
        assert!(CallContext::from_json(&json.replace("\"version\":3", "\"version\":2")).is_err());
        assert!(CallContext::from_json(&json.replacen('{', "{\"tier\":1,", 1)).is_err());
    }
}
