//! One policy, ready to be asked.

use std::{collections::BTreeSet, sync::Arc};

use cedar_policy::{Effect, Policy, PrincipalConstraint, ResourceConstraint};
use cedar_policy_core::ast::{EntityUID, Expr, ExprKind, Literal, SlotEnv};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Action, PrincipalKind, fault::Collector};

/// What a rule that allows a call adds to it. Of several rules that allow it, the narrowest of each holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Obligations {
    /// Nothing of the call leaves this machine.
    pub local_only: bool,
    /// Millionths of a US dollar that the call tree may spend.
    pub budget_micros: Option<u64>,
}

impl Obligations {
    /// Both at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let budgets = self.budget_micros.into_iter().chain(other.budget_micros);
        Self { local_only: self.local_only || other.local_only, budget_micros: budgets.min() }
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// A policy and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) text: String,
    pub(crate) permits: bool,
    pub(crate) reason: Option<String>,
    pub(crate) obligations: Obligations,
    /// All of its scope but the action, and its conditions.
    pub(crate) condition: Expr,
    /// What of it the slice that the rule is in does not prove already; none where that is nothing.
    pub(crate) rest: Option<Arc<Expr>>,
    pub(crate) slots: SlotEnv,
    pub(crate) policy: Policy,
}

/// Annotations that mean something here. Another would be one that somebody relies on, and nothing obeys.
const ANNOTATIONS: [&str; 5] = ["id", "description", "reason", "privacy", "budget_micros"];

/// How deep the conditions of a rule may be nested. They are looked through, evaluated and freed from one level to the next, and
/// the validator lets pass unseen what is too deep for it.
const DEEPEST: usize = 200;

/// How rules of an operator may not begin.
const RESERVED: &str = "witan.";

impl Rule {
    /// The rule of `policy`, which stands in `file`, whose text is `text`.
    pub(crate) fn new(policy: &Policy, file: &str, text: &str, own: bool, faults: &mut Collector) -> Self {
        let (start, end) = policy.as_ref().loc().map_or((0, 0), |loc| (loc.start(), loc.end()));
        let line = crate::fault::line_at(text, start);
        let id = policy.annotation("id").map_or_else(|| format!("{file}:{line}"), str::to_owned);
        for (key, _) in policy.annotations().filter(|(key, _)| !ANNOTATIONS.contains(key)) {
            let known = ANNOTATIONS.map(|known| format!("@{known}")).join(", ");
            faults.add(file, Some(line), format!("the annotation `@{key}` is not known"), format!("use {known}"));
        }
        if !own && id.starts_with(RESERVED) {
            let help = format!("`{RESERVED}` begins the names of the host's own rules; choose another");
            faults.add(file, Some(line), format!("a rule may not be called `{id}`"), help);
        }
        let core = policy.as_ref();
        if core.non_scope_constraints().is_some_and(|condition| depth(condition) > DEEPEST) {
            let message =
                format!("its conditions are nested more than {DEEPEST} deep, or as many are joined by `&&` or `||`");
            faults.add(file, Some(line), message, "write several rules, or a set: `[…].contains(…)`");
        }
        let permits = policy.effect() == Effect::Permit;
        let obligations = obligations(policy, file, line, faults);
        let allows_calls = permits && Action::ALL.iter().any(|action| action.begins_call() && reaches(policy, *action));
        if !obligations.is_none() && !allows_calls {
            faults.add(
                file,
                Some(line),
                "`@privacy` and `@budget_micros` narrow the call that a rule allows, and this rule allows none",
                "put them on a `permit` that covers `task.create` or `mount.call`",
            );
        }
        let scope = Expr::and(core.principal_constraint().as_expr(), core.resource_constraint().as_expr());
        let condition = match core.non_scope_constraints() {
            Some(conditions) => Expr::and(scope, conditions.clone()),
            None => scope,
        };
        Self {
            id: id.into(),
            file: file.to_owned(),
            line,
            text: text.get(start..end).unwrap_or_default().to_owned(),
            permits,
            reason: policy.annotation("reason").filter(|reason| !reason.is_empty()).map(str::to_owned),
            obligations,
            condition,
            rest: rest(policy).map(Arc::new),
            slots: core.env().clone(),
            policy: policy.clone(),
        }
    }

    /// Whether its scope covers the action at all.
    pub(crate) fn reaches(&self, action: Action) -> bool {
        reaches(&self.policy, action)
    }

    /// The actions that it names, one by one and not by a group.
    pub(crate) fn named(&self) -> BTreeSet<Action> {
        let core = self.policy.as_ref();
        let scope = core.action_constraint().as_expr();
        let expressions = core.non_scope_constraints().into_iter().chain([&scope]).flat_map(Expr::subexpressions);
        let uids = expressions.filter_map(|expression| match expression.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) if uid.is_action() => Action::parse(uid.eid().as_ref()),
            _ => None,
        });
        uids.collect()
    }

    /// Whether its scope covers principals of this kind at all.
    pub(crate) fn concerns(&self, kind: PrincipalKind) -> bool {
        match self.policy.principal_constraint() {
            PrincipalConstraint::Is(name) | PrincipalConstraint::IsIn(name, _) => name.basename() == kind.type_name(),
            PrincipalConstraint::Eq(uid) => uid.type_name().basename() == kind.type_name(),
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        }
    }

    /// What a principal must be or be in, if its scope says.
    pub(crate) fn of_principal(&self) -> Option<EntityUID> {
        match self.policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                Some(uid.as_ref().clone())
            }
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        }
    }

    /// What a resource must be or be in, if its scope says.
    pub(crate) fn of_resource(&self) -> Option<EntityUID> {
        match self.policy.resource_constraint() {
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                Some(uid.as_ref().clone())
            }
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        }
    }
}

/// How deep `condition` is nested, found without nesting.
fn depth(condition: &Expr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(condition, 1)];
    while let Some((expression, level)) = open.pop() {
        deepest = deepest.max(level);
        let within = level + 1;
        match expression.expr_kind() {
            ExprKind::If { test_expr, then_expr, else_expr } => {
                open.extend([test_expr, then_expr, else_expr].map(|part| (&**part, within)));
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                open.extend([left, right].map(|part| (&**part, within)));
            }
            ExprKind::BinaryApp { arg1, arg2, .. } => open.extend([arg1, arg2].map(|part| (&**part, within))),
            ExprKind::UnaryApp { arg: part, .. }
            | ExprKind::GetAttr { expr: part, .. }
            | ExprKind::HasAttr { expr: part, .. }
            | ExprKind::ExtHasAttr { expr: part, .. }
            | ExprKind::Like { expr: part, .. }
            | ExprKind::Is { expr: part, .. } => open.push((part, within)),
            ExprKind::ExtensionFunctionApp { args: parts, .. } | ExprKind::Set(parts) => {
                open.extend(parts.iter().map(|part| (part, within)));
            }
            ExprKind::Record(parts) => open.extend(parts.values().map(|part| (part, within))),
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }
    deepest
}

/// The condition of `policy` for whom it is known that its action, and that its kind of principal and whatever that must be
/// in, are as the scope says.
fn rest(policy: &Policy) -> Option<Expr> {
    let core = policy.as_ref();
    let principal = matches!(policy.principal_constraint(), PrincipalConstraint::Eq(_));
    let principal = principal.then(|| core.principal_constraint().as_expr());
    let resource = !matches!(policy.resource_constraint(), ResourceConstraint::Any);
    let resource = resource.then(|| core.resource_constraint().as_expr());
    let conditions = core.non_scope_constraints().cloned();
    [principal, resource, conditions].into_iter().flatten().reduce(Expr::and)
}

fn reaches(policy: &Policy, action: Action) -> bool {
    use cedar_policy::ActionConstraint;
    let covers = |uid: &cedar_policy::EntityUid| {
        let name: &str = uid.id().as_ref();
        name == "all" || name == action.name() || name == action.group().name()
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => covers(&uid) && uid.id().as_ref() as &str == action.name(),
        ActionConstraint::In(uids) => uids.iter().any(covers),
    }
}

fn obligations(policy: &Policy, file: &str, line: u32, faults: &mut Collector) -> Obligations {
    let local_only = match policy.annotation("privacy") {
        None => false,
        Some("local-only") => true,
        Some(other) => {
            let help = "write `@privacy(\"local-only\")`, or remove it: nothing can widen a call";
            faults.add(file, Some(line), format!("`{other}` is no privacy that narrows"), help);
            false
        }
    };
    let budget_micros = policy.annotation("budget_micros").and_then(|text| {
        let budget = text.parse().ok();
        if budget.is_none() {
            let help = "write millionths of a US dollar, such as `@budget_micros(\"500000\")` for half a dollar";
            faults.add(file, Some(line), format!("`{text}` is no budget"), help);
        }
        budget
    });
    Obligations { local_only, budget_micros }
}
