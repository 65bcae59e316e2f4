//! The guard: the one way into every host function.
//!
//! A host function calls [`Call::enter`] before it does anything. That asks policy, writes the decision down, opens
//! the span and counts the call, so that no capability can forget one of them.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tracing::Span;

use crate::{Account, CallContext, Component, Denial};

/// A function that the host links, by the names that WIT gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostFunction {
    /// The interface, with its package and version: `wasi:filesystem/types@0.2.6`.
    pub interface: &'static str,
    /// The function, as WIT encodes it: `[method]descriptor.read`.
    pub name: &'static str,
}

impl HostFunction {
    /// Names a function.
    #[must_use]
    pub const fn new(interface: &'static str, name: &'static str) -> Self {
        Self { interface, name }
    }
}

impl fmt::Display for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.interface, self.name)
    }
}

/// What a host function is about to do. Every action but [`Action::Baseline`] is decided by policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Something without authority: monotonic time, randomness, its own streams. Always allowed, never logged.
    Baseline,
    /// Use a handle whose opening was decided. Counted and traced; allowed as long as the call tree lives, unless the
    /// call became local-only and the handle leads off this machine.
    Handle,
    /// Read a file or list a directory.
    FileRead,
    /// Create, change or remove a file or directory.
    FileWrite,
    /// Send an HTTP request.
    HttpSend,
    /// Look a name up.
    DnsLookup,
    /// Connect a socket or send a datagram.
    SocketConnect,
    /// Bind a socket or listen on it.
    SocketBind,
    /// Read an environment variable.
    EnvironmentRead,
    /// Read a configuration key.
    ConfigRead,
    /// Read the wall clock.
    WallClock,
    /// Write a log line.
    Log,
    /// Read a stored key.
    KeyvalueRead,
    /// Change a stored key.
    KeyvalueWrite,
    /// Call a tool.
    ToolCall,
    /// Call another component over a link.
    ComponentCall,
    /// Load a component's bytes; the loader decides it, before there is anything that could ask.
    ComponentLoad,
}

impl Action {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Handle => "handle",
            Self::FileRead => "file-read",
            Self::FileWrite => "file-write",
            Self::HttpSend => "http-send",
            Self::DnsLookup => "dns-lookup",
            Self::SocketConnect => "socket-connect",
            Self::SocketBind => "socket-bind",
            Self::EnvironmentRead => "environment-read",
            Self::ConfigRead => "config-read",
            Self::WallClock => "wall-clock",
            Self::Log => "log",
            Self::KeyvalueRead => "keyvalue-read",
            Self::KeyvalueWrite => "keyvalue-write",
            Self::ToolCall => "tool-call",
            Self::ComponentCall => "component-call",
            Self::ComponentLoad => "component-load",
        }
    }

    /// Whether the action may move data off this machine. A local-only call is refused these.
    ///
    /// A socket that is bound is egress too: whoever connects to it is sent what the guest answers.
    #[must_use]
    pub fn is_egress(self) -> bool {
        matches!(self, Self::HttpSend | Self::DnsLookup | Self::SocketConnect | Self::SocketBind)
    }

    /// Whether the action changes something outside the call. Every effect is in the decision log, as is every denial.
    #[must_use]
    pub fn is_effect(self) -> bool {
        self.is_egress() || matches!(self, Self::FileWrite | Self::KeyvalueWrite | Self::ToolCall)
    }
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// Nothing in particular.
    None,
    /// A file or directory.
    Path {
        /// As the guest names it, absolute: `/docs/a.md`.
        guest: &'a str,
        /// Where the grant's root lies on this machine, if a grant was found.
        host: Option<&'a Path>,
    },
    /// The target of an HTTP request.
    Url {
        /// Upper case.
        method: &'a str,
        /// `http` or `https`.
        scheme: &'a str,
        /// Lower case, without brackets.
        host: &'a str,
        /// Explicit or the scheme's own.
        port: u16,
        /// The path, without the query.
        path: &'a str,
    },
    /// A host by name, not yet looked up.
    Host {
        /// The name, lower case.
        name: &'a str,
        /// The port it will be used with; 0 for a look-up alone.
        port: u16,
    },
    /// A resolved address, checked when it is connected to.
    Address {
        /// The name that led there, if one did.
        name: Option<&'a str>,
        /// The address itself.
        address: SocketAddr,
    },
    /// A key of the environment, the configuration or a store.
    Key(&'a str),
    /// A tool by its full name.
    Tool(&'a str),
    /// A component.
    Component(&'a str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Path { guest, .. } => write!(f, "{guest}"),
            Self::Url { method, scheme, host, port, path } => write!(f, "{method} {scheme}://{host}:{port}{path}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Address { name: Some(name), address } => write!(f, "{name} ({address})"),
            Self::Address { name: None, address } => write!(f, "{address}"),
            Self::Key(name) | Self::Tool(name) | Self::Component(name) => f.write_str(name),
        }
    }
}

/// What policy is asked.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// For whom.
    pub context: &'a CallContext,
    /// By which component.
    pub component: &'a Component,
    /// Through which function.
    pub function: HostFunction,
    /// What.
    pub action: Action,
    /// To what.
    pub resource: Resource<'a>,
}

/// Identifies a decision in the decision log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct DecisionId(pub uuid::Uuid);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One allow or deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may go on.
    Allow,
    /// It may not.
    Deny(Denial),
}

/// Decides. The kernel has one; it must not block, and it writes the decision log itself.
pub trait Policy: Send + Sync + 'static {
    /// Allows or denies `request`, and records every denial and every effect.
    fn decide(&self, request: &Request<'_>) -> Decision;
}

/// What all calls of a host share.
pub struct Kernel {
    /// The one policy.
    pub policy: Arc<dyn Policy>,
    /// Host calls that entered a guard, since the start.
    pub host_calls: AtomicU64,
    /// Host calls that policy refused, since the start.
    pub denials: AtomicU64,
}

impl Kernel {
    /// A kernel that asks `policy`.
    #[must_use]
    pub fn new(policy: Arc<dyn Policy>) -> Arc<Self> {
        Arc::new(Self { policy, host_calls: AtomicU64::new(0), denials: AtomicU64::new(0) })
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

/// One call of one component: what its host functions need to know. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Call {
    /// For whom and within what bounds.
    pub context: CallContext,
    /// What the call tree uses.
    pub account: Arc<Account>,
    /// The component that runs.
    pub component: Arc<Component>,
    /// What all calls share.
    pub kernel: Arc<Kernel>,
}

/// Leave to go on, and the span of the host call. The span closes when it is dropped.
#[derive(Debug)]
pub struct Permit {
    /// The span of the host call, for an async function to run in.
    pub span: Span,
}

impl Call {
    /// Enters `function`, which is about to do `action` to `resource`.
    ///
    /// # Errors
    /// When policy denies it. Where the interface has an error for that, answer with it; otherwise return the denial
    /// itself, which ends the caller's store.
    pub fn enter(&self, function: HostFunction, action: Action, resource: &Resource<'_>) -> Result<Permit, Denial> {
        self.kernel.host_calls.fetch_add(1, Ordering::Relaxed);
        let span = tracing::trace_span!(
            "host.call",
            interface = function.interface,
            function = function.name,
            component = %self.component.name,
            outcome = tracing::field::Empty,
        );
        if action == Action::Baseline {
            return Ok(Permit { span });
        }
        let request = Request {
            context: &self.context,
            component: &self.component,
            function,
            action,
            resource: resource.clone(),
        };
        match self.kernel.policy.decide(&request) {
            Decision::Allow => {
                span.record("outcome", "allowed");
                Ok(Permit { span })
            }
            Decision::Deny(denial) => {
                span.record("outcome", "denied");
                self.kernel.denials.fetch_add(1, Ordering::Relaxed);
                Err(denial)
            }
        }
    }

    /// Enters a function without authority.
    pub fn enter_baseline(&self, function: HostFunction) -> Permit {
        self.kernel.host_calls.fetch_add(1, Ordering::Relaxed);
        Permit {
            span: tracing::trace_span!(
                "host.call",
                interface = function.interface,
                function = function.name,
                component = %self.component.name,
            ),
        }
    }
}
