//! Asks the rules of a set: the one module that works with the core of Cedar.
//!
//! Cedar's own `is_authorized` evaluates every policy of a set, and builds a set of entities for each request. Here a
//! request meets the rules alone whose scope can cover it, and brings the few entities that a rule can look into. A test
//! holds both to the same decisions.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
};

use cedar_policy_core::{
    ast::{
        self, Context as CoreContext, Entity, EntityUID, EntityUIDEntry, Expr, Literal, Name, PartialValue, Value,
        ValueKind,
    },
    entities::{Entities, NoEntitiesSchema, TCComputation},
    evaluator::Evaluator,
    extensions::Extensions,
};
use smol_str::SmolStr;

use crate::{Context, Obligations, Principal, Request, Resource, Set, request::level, rule::Rule, set::Asked};

/// What a set says of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) allow: bool,
    /// The rules that decided: all that allow it, or all that forbid it.
    pub(crate) determining: Vec<u32>,
    pub(crate) obligations: Obligations,
    /// A rule that could not be asked, and why. Then nothing is allowed.
    pub(crate) failed: Option<(Option<u32>, String)>,
}

impl Verdict {
    fn fails(rule: Option<u32>, why: impl Into<String>) -> Self {
        Self { failed: Some((rule, why.into())), ..Self::default() }
    }
}

/// The request and its entities, as Cedar knows them.
pub(crate) struct Prepared {
    pub(crate) request: ast::Request,
    pub(crate) entities: Entities,
    ancestors: Vec<EntityUID>,
    resource: Vec<EntityUID>,
}

impl Set {
    /// What this set says of `request`.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Verdict {
        on_a_stack(|| self.ask_here(request))
    }

    fn ask_here(&self, request: &Request<'_>) -> Verdict {
        if !request.action.resources().contains(&request.resource.kind()) {
            let kind = request.resource.kind().type_name();
            return Verdict::fails(None, format!("`{}` is not done to a {kind}", request.action));
        }
        let Some(prepared) = self.prepare(request) else {
            return Verdict::fails(None, "the request cannot be put in the schema's words");
        };
        let Some(slice) = self.slice(request.action, request.principal.kind) else {
            return Verdict::fails(None, "the schema does not know the action");
        };
        let of_principal = prepared.ancestors.iter().filter_map(|uid| slice.by_principal.get(uid)).flatten();
        let of_resource = prepared.resource.iter().filter_map(|uid| slice.by_resource.get(uid)).flatten();
        let asked = slice.general.iter().chain(of_principal).chain(of_resource);
        let evaluator = Evaluator::new(prepared.request, &prepared.entities, Extensions::all_available());
        let (mut permits, mut forbids, mut obligations) = (Vec::new(), Vec::new(), Obligations::default());
        for Asked { rule: index, rest } in asked {
            let Some(rule) = self.rule(*index) else { continue };
            let held = rest.as_ref().map_or(Ok(true), |rest| holds(&evaluator, rest, rule));
            match held {
                Ok(false) => {}
                Ok(true) if rule.permits => {
                    obligations = obligations.and(rule.obligations);
                    permits.push(*index);
                }
                Ok(true) => forbids.push(*index),
                Err(why) => return Verdict::fails(Some(*index), why),
            }
        }
        let allow = forbids.is_empty() && !permits.is_empty();
        let mut determining = if forbids.is_empty() { permits } else { forbids };
        determining.sort_unstable();
        let obligations = if allow { obligations } else { Obligations::default() };
        Verdict { allow, determining, obligations, failed: None }
    }

    /// Each rule whose scope covers the action for such a principal, and whether it holds.
    pub(crate) fn consider(&self, request: &Request<'_>) -> Vec<(u32, Result<bool, String>)> {
        on_a_stack(|| self.consider_here(request))
    }

    fn consider_here(&self, request: &Request<'_>) -> Vec<(u32, Result<bool, String>)> {
        let Some(prepared) = self.prepare(request) else { return Vec::new() };
        let evaluator = Evaluator::new(prepared.request, &prepared.entities, Extensions::all_available());
        let all = self.rules.iter().enumerate();
        let concerned = all.filter(|(_, rule)| rule.reaches(request.action) && rule.concerns(request.principal.kind));
        let asked = concerned
            .map(|(index, rule)| (u32::try_from(index).unwrap_or(u32::MAX), holds(&evaluator, &rule.condition, rule)));
        asked.collect()
    }

    pub(crate) fn prepare(&self, request: &Request<'_>) -> Option<Prepared> {
        let principal = self.principal(request.principal)?;
        let resource = self.resource(&request.resource)?;
        let tenant = self.known.get(&self.ground.tenant(&request.principal.tenant)).cloned();
        let base = self.bases.get(request.action as usize)?;
        let of = |entity: &Entity| -> Vec<EntityUID> {
            std::iter::once(entity.uid()).chain(entity.ancestors()).cloned().collect()
        };
        let (ancestors, of_resource) = (of(&principal), of(&resource));
        let entry = |uid: &EntityUID| EntityUIDEntry::known(uid.clone(), None);
        let asked = ast::Request::new_unchecked(
            entry(principal.uid()),
            entry(self.ground.action(request.action)?),
            entry(resource.uid()),
            Some(CoreContext::Value(Arc::new(context(request)))),
        );
        let mut brought = vec![Arc::new(principal), Arc::new(resource)];
        // A tenant that is the resource is there already.
        brought.extend(tenant.filter(|tenant| brought.iter().all(|entity| entity.uid() != tenant.uid())));
        Some(Prepared { request: asked, entities: assemble(brought, base), ancestors, resource: of_resource })
    }

    /// The principal as its credential says, with the groups, roles and labels that the set knows of.
    fn principal(&self, principal: &Principal) -> Option<Entity> {
        let id = SmolStr::from(principal.id());
        let uid = self.ground.principal(principal.kind, &id)?;
        let tenant = self.ground.tenant(&principal.tenant);
        let known = self.known.get(&uid);
        let roles = principal.roles.iter().map(|role| self.ground.role(role));
        let mut parents: HashSet<EntityUID> = HashSet::with_capacity(principal.roles.len() + 2);
        let mut above: HashSet<EntityUID> = HashSet::new();
        for role in roles.chain([tenant.clone()]) {
            above.extend(self.known.get(&role).into_iter().flat_map(|role| role.ancestors()).cloned());
            parents.insert(role);
        }
        above.extend(known.into_iter().flat_map(|known| known.ancestors()).cloned());
        above.retain(|uid| !parents.contains(uid));
        let scopes = principal.scopes.iter().map(|scope| Literal::from(&**scope));
        let attributes = [
            ("id", text(&id)),
            ("tenant", Value::new(Literal::from(tenant), None)),
            ("trust", Value::new(Literal::String(SmolStr::new_static(principal.trust.name())), None)),
            ("level", long(level(principal.trust))),
            ("scopes", Value::set_of_lits(scopes, None)),
        ];
        let labels = known.and_then(|known| known.get("labels")).cloned().map(|labels| ("labels", labels));
        let attributes = attributes.into_iter().map(|(key, value)| (key, PartialValue::Value(value))).chain(labels);
        let attributes = attributes.map(|(key, value)| (SmolStr::new_static(key), value));
        Some(Entity::new_with_attr_partial_value(uid, attributes, above, parents, []))
    }

    fn resource(&self, resource: &Resource<'_>) -> Option<Entity> {
        let uid = self.ground.resource(resource)?;
        let known = self.known.get(&uid);
        let mut parents: HashSet<EntityUID> = HashSet::new();
        let mut attributes: Vec<(&'static str, Value)> = Vec::new();
        match resource {
            Resource::Task { tenant, owner, intent, .. } => {
                let tenant = self.ground.tenant(tenant);
                parents.insert(tenant.clone());
                attributes.push(("tenant", Value::new(Literal::from(tenant), None)));
                attributes.push(("owner", text(owner)));
                attributes.push(("intent", text(intent)));
            }
            Resource::AuditLog(tenant) => {
                let tenant = self.ground.tenant(tenant);
                parents.insert(tenant.clone());
                attributes.push(("tenant", Value::new(Literal::from(tenant), None)));
            }
            Resource::Origin { scheme, host, port } => {
                attributes.push(("scheme", text(scheme)));
                attributes.push(("host", text(host)));
                attributes.push(("port", long(i64::from(*port))));
            }
            _ => {}
        }
        let above = parents.iter().filter_map(|parent| self.known.get(parent)).chain(known);
        let above: HashSet<EntityUID> = above.flat_map(|entity| entity.ancestors()).cloned().collect();
        let labels = known.and_then(|known| known.get("labels")).cloned().map(|labels| ("labels", labels));
        let attributes = attributes.into_iter().map(|(key, value)| (key, PartialValue::Value(value))).chain(labels);
        let attributes = attributes.map(|(key, value)| (SmolStr::new_static(key), value));
        Some(Entity::new_with_attr_partial_value(uid, attributes, above, parents, []))
    }
}

/// `brought`, and of `others` those that are not among it.
fn assemble<'a>(brought: Vec<Arc<Entity>>, others: impl IntoIterator<Item = &'a Arc<Entity>>) -> Entities {
    let others: Vec<_> =
        others.into_iter().filter(|other| brought.iter().all(|entity| entity.uid() != other.uid())).cloned().collect();
    let all = brought.into_iter().chain(others);
    let computed = TCComputation::AssumeAlreadyComputed;
    let added = Entities::new().add_entities(all, None::<&NoEntitiesSchema>, computed, Extensions::all_available());
    // No two have one name, and there is no schema to hold them to: nothing can fail. If it did, rules would find nothing.
    added.unwrap_or_default()
}

/// Runs `evaluate` where Cedar finds room: it refuses to evaluate when little of the thread's stack is left, and takes the
/// stack on which a component's call runs, which is not the thread's, for one that is used up.
fn on_a_stack<T>(evaluate: impl FnOnce() -> T) -> T {
    const ASKED_FOR: usize = 128 << 10;
    const GIVEN: usize = 512 << 10;
    stacker::maybe_grow(ASKED_FOR, GIVEN, evaluate)
}

fn holds(evaluator: &Evaluator<'_>, condition: &Expr, rule: &Rule) -> Result<bool, String> {
    let value = evaluator.interpret(condition, &rule.slots).map_err(|error| error.to_string())?;
    match value.value_kind() {
        ValueKind::Lit(Literal::Bool(holds)) => Ok(*holds),
        _ => Err("its condition is neither true nor false".to_owned()),
    }
}

fn text(text: &str) -> Value {
    Value::new(Literal::String(SmolStr::new(text)), None)
}

fn long(number: i64) -> Value {
    Value::new(Literal::Long(number), None)
}

const DAY: i64 = 86_400;

fn context(request: &Request<'_>) -> BTreeMap<SmolStr, Value> {
    let Context { epoch, local_only, source, intent, route, provider, budget_micros, component, method, path } =
        &request.context;
    let of_day = epoch.rem_euclid(DAY);
    // The epoch began on a Thursday; Monday is 1.
    let weekday = (epoch.div_euclid(DAY) + 3).rem_euclid(7) + 1;
    let time = [("epoch", *epoch), ("hour", of_day / 3_600), ("minute", of_day / 60 % 60), ("weekday", weekday)];
    let time = Value::record(time.map(|(key, number)| (SmolStr::new_static(key), long(number))), None);
    let fixed = |name| Value::new(Literal::String(SmolStr::new_static(name)), None);
    let privacy = fixed(if *local_only { "local-only" } else { "standard" });
    let mut all = vec![("time", time), ("privacy", privacy), ("risk", fixed(request.action.risk().name()))];
    let texts = [
        ("intent", intent),
        ("route", route),
        ("provider", provider),
        ("component", component),
        ("method", method),
        ("path", path),
    ];
    all.extend(texts.into_iter().filter_map(|(key, value)| Some((key, text(value.as_deref()?)))));
    if let Some(budget) = budget_micros {
        all.push(("budget_micros", long(i64::try_from(*budget).unwrap_or(i64::MAX))));
    }
    if let Some(address) = source.and_then(|source| address(&source.to_canonical().to_string())) {
        all.push(("source", address));
    }
    all.into_iter().map(|(key, value)| (SmolStr::new_static(key), value)).collect()
}

fn address(address: &str) -> Option<Value> {
    // Parsing a name costs as much as a decision.
    static IP: LazyLock<Option<Name>> = LazyLock::new(|| "ip".parse().ok());
    let ip = Extensions::all_available().func(IP.as_ref()?).ok()?;
    match ip.call(&[text(address)]).ok()? {
        PartialValue::Value(address) => Some(address),
        PartialValue::Residual(_) => None,
    }
}

impl Set {
    /// The same question put to Cedar itself, by all policies and all entities: whether it allows, and the rules that
    /// decide. Slow; it is there to be compared with.
    #[doc(hidden)]
    #[must_use]
    pub fn decide_by_all(&self, request: &Request<'_>) -> Option<(bool, Vec<String>)> {
        use cedar_policy::{Authorizer, Decision, PolicyId, PolicySet};
        let prepared = self.prepare(request)?;
        let actions = self.ground.schema.action_entities().ok()?;
        let actions: &Entities = actions.as_ref();
        let actions = actions.iter().filter(|action| self.ground.action(request.action) != Some(action.uid()));
        let brought = prepared.entities.iter().chain(actions).cloned().map(Arc::new).collect();
        let all = assemble(brought, self.known.values());
        let mut policies = PolicySet::new();
        for (index, rule) in self.rules.iter().enumerate() {
            policies.add(rule.policy.new_id(PolicyId::new(index.to_string()))).ok()?;
        }
        let response = Authorizer::new().is_authorized(&prepared.request.into(), &policies, &all.into());
        let id = |id: &PolicyId| -> Option<String> {
            let index: &str = id.as_ref();
            Some(self.rule(index.parse().ok()?)?.id.to_string())
        };
        let mut rules: Vec<String> = response.diagnostics().reason().filter_map(id).collect();
        rules.sort();
        Some((response.decision() == Decision::Allow, rules))
    }
}
