//! Request policy: who may do what to what, decided for each request by policies in Cedar.
//!
//! Start at [`Authorizer::decide`]. A [`Set`] is made of [`Sources`] and never changes; an [`Authorizer`] asks the one that
//! is active, and holds to the isolation of tenants whatever policies say. [`Policies`] loads sets, numbers them, keeps
//! them, returns to former ones, and asks a candidate in the shadow of the active one.
//!
//! Grants bound what a component may ever do; policies decide each request. Both must allow.

mod action;
mod authorizer;
mod cases;
mod decision;
mod entities;
mod evaluate;
mod fault;
mod fold;
mod ground;
mod policies;
mod request;
mod rule;
#[doc(hidden)]
pub mod sample;
mod set;
mod source;

pub use action::{Action, Group, ResourceKind, Risk};
pub use authorizer::{
    Active, Authorizer, Change, ChangeKind, Difference, MOST_DIFFERENCES, Observer, Shadow, ShadowView,
};
pub use cases::{
    Asked, Case, Cases, ContextSpec, Expected, MOST_CASES, Outcome, PrincipalSpec, Question, QuestionError,
    ResourceSpec,
};
pub use decision::{Decision, Explanation, RuleView};
pub use entities::MOST_ENTITIES;
pub use fault::{Fault, Faults};
pub use ground::SCHEMA;
pub use policies::{Candidate, MOST_VERSIONS, Policies, PolicyError, Settings, VersionView};
pub use request::{Context, HOST_TENANT, Principal, PrincipalKind, Request, Resource};
pub use rule::Obligations;
pub use set::{BuiltIn, MOST_POLICIES, Set};
pub use source::{LARGEST, MOST_FILES, SourceError, Sources};
pub use witan_system::TrustLevel;
