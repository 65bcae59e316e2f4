//! What an authorizer answers, and how that is explained.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Obligations, Request, Set, authorizer::now_ms, evaluate::Verdict, rule::Rule};

/// One allow or deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Names it.
    pub id: Uuid,
    /// Whether it may go on.
    pub allow: bool,
    /// The rules that decided: all that allow it, or all that forbid it. None, where no rule allows it.
    pub determining: Vec<Arc<str>>,
    /// The version of the policies that was asked.
    pub version: u64,
    /// What to tell whoever asked; it names no rule, and nothing that they do not know.
    pub reason: String,
    /// What the rules that allow it add to the call.
    pub obligations: Obligations,
}

/// A rule in an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// The rule's `@id`, or its file and line.
    pub id: String,
    /// The file that it stands in.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Whether it holds for the request; none where it could not be asked.
    pub holds: Option<bool>,
    /// Why it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its text.
    pub text: String,
}

/// A decision, and which rules decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Whether it may go on.
    pub allow: bool,
    /// Why, in words.
    pub reason: String,
    /// The version of the policies; none where they are not loaded.
    pub version: Option<u64>,
    /// Who asked, such as `User::"acme/alice"`.
    pub principal: String,
    /// For what.
    pub action: String,
    /// To what.
    pub resource: String,
    /// The rules that decided.
    pub determining: Vec<RuleView>,
    /// The other rules about this action for such a principal, which did not.
    pub others: Vec<RuleView>,
    /// What the rules that allow it add to the call.
    pub obligations: Obligations,
}

/// Rules in an explanation that did not decide.
const MOST_OTHERS: usize = 50;

/// Why nothing, whatever rules say, crosses from one tenant to another.
pub(crate) const ISOLATION_RULE: &str = "witan.tenant-isolation";
/// What is said where no rule permits something.
const NOT_PERMITTED: &str = "no policy permits it";

impl Set {
    /// What this set and what holds in every set say of `request`.
    pub(crate) fn decide(&self, request: &Request<'_>, version: u64) -> Decision {
        let decided = |allow, determining, reason: String, obligations| Decision {
            id: next_id(),
            allow,
            determining,
            version,
            reason,
            obligations,
        };
        if crosses_tenants(request) {
            // As of what does not exist.
            return decided(false, vec![ISOLATION_RULE.into()], NOT_PERMITTED.to_owned(), Obligations::default());
        }
        let verdict = self.ask(request);
        let determining = verdict.determining.iter().filter_map(|index| self.rule(*index)).map(|rule| rule.id.clone());
        decided(verdict.allow, determining.collect(), self.in_words(&verdict), verdict.obligations)
    }

    /// Decides `request` and says which rules decided.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, version: Option<u64>) -> Explanation {
        let decision = self.decide(request, version.unwrap_or_default());
        let (mut determining, mut others) = (Vec::new(), Vec::new());
        for (index, holds) in self.consider(request) {
            let Some(rule) = self.rule(index) else { continue };
            let view = RuleView {
                id: rule.id.to_string(),
                file: rule.file.clone(),
                line: rule.line,
                effect: if rule.permits { "permit" } else { "forbid" }.to_owned(),
                holds: holds.as_ref().ok().copied(),
                error: holds.err(),
                text: rule.text.clone(),
            };
            if decision.determining.contains(&rule.id) {
                determining.push(view);
            } else if others.len() < MOST_OTHERS {
                others.push(view);
            }
        }
        for id in decision.determining.iter().filter(|id| self.rules.iter().all(|rule| rule.id != **id)) {
            let (file, text) = ("host".to_owned(), decision.reason.clone());
            let effect = "forbid".to_owned();
            determining.push(RuleView {
                id: id.to_string(),
                file,
                line: 0,
                effect,
                holds: Some(true),
                error: None,
                text,
            });
        }
        Explanation {
            allow: decision.allow,
            reason: decision.reason,
            version,
            principal: request.principal.to_string(),
            action: request.action.name().to_owned(),
            resource: request.resource.to_string(),
            determining,
            others,
            obligations: decision.obligations,
        }
    }

    /// Where the rule called `id` stands, as `file:line`.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<String> {
        let rule = self.rules.iter().find(|rule| &*rule.id == id)?;
        Some(format!("{}:{}", rule.file, rule.line))
    }

    pub(crate) fn rule(&self, index: u32) -> Option<&Rule> {
        self.rules.get(index as usize)
    }

    fn in_words(&self, verdict: &Verdict) -> String {
        if let Some((_, why)) = &verdict.failed {
            tracing::warn!(%why, "a policy could not be asked, so that nothing is allowed");
            return "the policies of this host could not be asked".to_owned();
        }
        if verdict.allow {
            return "a policy permits it".to_owned();
        }
        let reason = verdict.determining.iter().filter_map(|index| self.rule(*index)?.reason.as_deref()).next();
        match (reason, verdict.determining.is_empty()) {
            (Some(reason), _) => format!("a policy forbids it: {reason}"),
            (None, false) => "a policy forbids it".to_owned(),
            (None, true) => NOT_PERMITTED.to_owned(),
        }
    }
}

/// The id of the next decision: to ask the system for randomness for each would cost as much as some rules.
fn next_id() -> Uuid {
    /// What tells the decisions of this run from those of another.
    static RUN: LazyLock<[u8; 4]> = LazyLock::new(|| {
        let [.., a, b, c, d] = *Uuid::now_v7().as_bytes();
        [a, b, c, d]
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let [_, _, number @ ..] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut rest = [0; 10];
    let (numbered, run) = rest.split_at_mut(number.len());
    numbered.copy_from_slice(&number);
    run.copy_from_slice(&*RUN);
    uuid::Builder::from_unix_timestamp_millis(now_ms(), &rest).into_uuid()
}

/// Whether the request crosses from one tenant to another, which no policy can allow.
fn crosses_tenants(request: &Request<'_>) -> bool {
    request.resource.tenant().is_some_and(|tenant| tenant != &*request.principal.tenant)
}
