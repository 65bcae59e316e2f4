//! A set of policies, checked and ready to be asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cedar_policy::{PolicyId, PolicySet, ValidationMode, Validator};
use cedar_policy_core::ast::{Entity, EntityUID, Expr, ExprKind, Literal};
use rustc_hash::FxBuildHasher;

use crate::{
    Action, Fault, Faults, PrincipalKind, Sources,
    entities::{self, Known},
    fault::Collector,
    fold::{Folded, fold},
    ground::Ground,
    looks::Looks,
    rule::Rule,
};

/// Bytes of one policy, without its texts in quotes.
const LONGEST_POLICY: usize = 128 << 10;

/// Stack to read policies on: some 200 bytes for each level that the longest policy can have. What is not used costs nothing.
const ROOM: usize = 32 << 20;

/// Policies in one set.
pub const MOST_POLICIES: usize = 10_000;

/// What holds in every set.
pub(crate) const ISOLATION: (&str, &str) = ("witan/isolation.cedar", include_str!("../policies/isolation.cedar"));
const LOCAL: (&str, &str) = ("witan/local.cedar", include_str!("../policies/local.cedar"));
const DEFAULT: (&str, &str) = ("witan/default.cedar", include_str!("../policies/default.cedar"));

/// The policies that the host brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// For a host whose clients do not authenticate: whoever sits at it may do everything.
    Local,
    /// For a host whose clients do: the roles `admin`, `operator`, `user` and `viewer`.
    Roles,
}

impl BuiltIn {
    /// Its text.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.file().1
    }

    /// Its text for a file of one's own, where no rule may have the name of one of the host's.
    #[must_use]
    pub fn to_copy(self) -> String {
        self.text().replace("@id(\"witan.", "@id(\"default.")
    }

    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Local => LOCAL,
            Self::Roles => DEFAULT,
        }
    }

    /// As a set is known by.
    #[must_use]
    pub fn sources(self) -> Sources {
        let (name, text) = self.file();
        Sources { policies: BTreeMap::from([(name.to_owned(), text.to_owned())]), entities: None }
    }
}

/// A set of policies that passed every check. It never changes.
pub struct Set {
    pub(crate) ground: &'static Ground,
    pub(crate) rules: Vec<Rule>,
    pub(crate) known: Known,
    pub(crate) slices: Vec<Slice>,
    pub(crate) bases: Vec<Vec<Arc<Entity>>>,
    warnings: Vec<Fault>,
    digest: String,
}

/// The rules that may concern one action of one kind of principal, by what else their scopes name. An operator chooses the
/// names, and nobody can fill a map with such as collide.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    pub(crate) general: Vec<Asked>,
    pub(crate) by_principal: HashMap<EntityUID, Vec<Asked>, FxBuildHasher>,
    pub(crate) by_resource: HashMap<EntityUID, Vec<Asked>, FxBuildHasher>,
    /// What they look at.
    pub(crate) looks: Looks,
}

/// A rule that a slice may have to ask.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its place among the rules.
    pub(crate) rule: u32,
    /// What of it neither the slice nor the action proves; none where that is nothing.
    pub(crate) rest: Option<Arc<Expr>>,
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Set").field("digest", &self.digest).field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Set {
    /// Checks `sources` against the schema, and makes a set of them.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn new(sources: &Sources) -> Result<Self, Faults> {
        // Cedar frees what it has read level by level, and a text of two bytes a level is read before its depth is known.
        stacker::grow(ROOM, || Self::checked(sources))
    }

    fn checked(sources: &Sources) -> Result<Self, Faults> {
        let mut faults = Collector::default();
        let ground = match Ground::get() {
            Ok(ground) => ground,
            Err(error) => {
                faults.add("schema.cedarschema", None, error, "this program is broken; install it again");
                return Err(faults.finish(()).err().unwrap_or(Faults(Vec::new())));
            }
        };
        if sources.too_large() {
            let help = "give roles to groups instead of rules to principals";
            faults.add("policies", None, "there are more files or bytes than a set may have", help);
            return faults.finish(()).and(Err(Faults(Vec::new())));
        }
        let mut rules = Vec::new();
        read(ISOLATION.0, ISOLATION.1, true, &mut rules, &mut faults);
        for (name, text) in &sources.policies {
            read(name, text, is_own(name, text), &mut rules, &mut faults);
        }
        if rules.len() > MOST_POLICIES {
            let message = format!("there are {} policies, and {MOST_POLICIES} at most are taken", rules.len());
            faults.add("policies", None, message, "give roles to groups instead of rules to principals");
        }
        let warnings = validate(ground, sources, &rules, &mut faults);
        let known =
            sources.entities.as_deref().map(|text| entities::read(ground, text, &mut faults)).unwrap_or_default();
        // What follows looks into conditions that were found sound.
        faults.finish(())?;
        let slices = slices(ground, &rules);
        let bases = bases(ground, &rules, &known);
        Ok(Self { ground, rules, known, slices, bases, warnings, digest: sources.digest() })
    }

    /// What names its texts.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What is no fault, and yet hardly meant: rules that can never apply, or name what nothing asks yet.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// How many policies and entities it has, without the host's own rules.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.rules.iter().filter(|rule| rule.file != ISOLATION.0).count(), self.known.len())
    }

    pub(crate) fn slice(&self, action: Action, kind: PrincipalKind) -> Option<&Slice> {
        self.slices.get(slot(action, kind))
    }
}

/// Whether a file is one that the host brings along.
fn is_own(name: &str, text: &str) -> bool {
    [ISOLATION, LOCAL, DEFAULT].contains(&(name, text))
}

fn slot(action: Action, kind: PrincipalKind) -> usize {
    action as usize * PrincipalKind::ALL.len() + kind as usize
}

/// The bytes of the longest policy of `text`, without comments and what stands in quotes.
fn longest(text: &str) -> usize {
    let (mut longest, mut length) = (0, 0);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        length += 1;
        match byte {
            b';' => length = 0,
            b'"' => {
                // An escaped quote does not end it.
                while let Some(quoted) = bytes.next_if(|quoted| *quoted != b'"') {
                    if quoted == b'\\' {
                        let _escaped = bytes.next();
                    }
                }
                let _end = bytes.next();
            }
            b'/' if bytes.peek() == Some(&b'/') => while bytes.next_if(|comment| *comment != b'\n').is_some() {},
            _ => {}
        }
        longest = longest.max(length);
    }
    longest
}

/// Reads the policies of one file.
fn read(name: &str, text: &str, own: bool, rules: &mut Vec<Rule>, faults: &mut Collector) {
    if longest(text) > LONGEST_POLICY {
        let message = format!("a policy is longer than {LONGEST_POLICY} bytes");
        return faults.add(name, None, message, "write several, or give a group to those it names");
    }
    let set: PolicySet = match text.parse() {
        Ok(set) => set,
        Err(errors) => return faults.add_parse(name, text, &errors),
    };
    for template in set.templates() {
        let line = template.as_ref().loc().map(|loc| crate::fault::line_at(text, loc.start()));
        let help = "write the principal or resource in place of the slot, or a group that it is in";
        faults.add(name, line, "templates are not linked here, so that this one would never hold", help);
    }
    let mut found: Vec<Rule> = set.policies().map(|policy| Rule::new(policy, name, text, own, faults)).collect();
    found.sort_by_key(|rule| rule.line);
    for rule in found {
        if let Some(other) = rules.iter().find(|other| other.id == rule.id) {
            let message = format!("two rules are called `{}`; the other is at {}:{}", rule.id, other.file, other.line);
            faults.add(name, Some(rule.line), message, "give each an `@id` of its own");
        }
        rules.push(rule);
    }
}

/// Holds the rules to the schema, and gives what is no fault and hardly meant.
fn validate(ground: &Ground, sources: &Sources, rules: &[Rule], faults: &mut Collector) -> Vec<Fault> {
    let mut set = PolicySet::new();
    for (index, rule) in rules.iter().enumerate() {
        // Ids of files may be equal, which was said already.
        let added = set.add(rule.policy.new_id(PolicyId::new(index.to_string())));
        if let Err(error) = added {
            faults.add(&rule.file, Some(rule.line), error.to_string(), "write it as a policy of its own");
        }
    }
    let of = |id: &PolicyId| {
        let index: &str = id.as_ref();
        index.parse().ok().and_then(|index: usize| rules.get(index))
    };
    let text = |rule: &Rule| sources.policies.get(&rule.file).map(String::as_str).unwrap_or(ISOLATION.1);
    let result = Validator::new(ground.schema.clone()).validate(&set, ValidationMode::Strict);
    let help = "hold it to the schema, which `witan policy schema` prints";
    for error in result.validation_errors() {
        let Some(rule) = of(error.policy_id()) else { continue };
        let start = rule.policy.as_ref().loc().map_or(0, |loc| loc.start());
        faults.add_diagnostic(&rule.file, text(rule), start, error, help);
    }
    let mut warnings = Collector::default();
    for warning in result.validation_warnings() {
        let Some(rule) = of(warning.policy_id()).filter(|rule| rule.file != ISOLATION.0) else { continue };
        let start = rule.policy.as_ref().loc().map_or(0, |loc| loc.start());
        warnings.add_diagnostic(&rule.file, text(rule), start, warning, "see whether it says what you mean");
    }
    let copies = [BuiltIn::Local, BuiltIn::Roles].map(BuiltIn::to_copy);
    for rule in rules.iter().filter(|rule| !is_own(&rule.file, text(rule))) {
        let unasked: Vec<Action> = rule.named().into_iter().filter(|action| !action.is_asked()).collect();
        // One that was copied from the host's own is meant for when something asks.
        if unasked.is_empty() || copies.iter().any(|copy| copy.contains(&rule.text)) {
            continue;
        }
        for action in unasked {
            let message = format!("nothing asks `{action}` yet, so that what `{}` says of it has no effect", rule.id);
            warnings.add(&rule.file, Some(rule.line), message, "do not rely on it; docs/policy.md says what is asked");
        }
    }
    warnings.finish(()).err().map(|faults| faults.0).unwrap_or_default()
}

fn slices(ground: &Ground, rules: &[Rule]) -> Vec<Slice> {
    let mut slices = Vec::with_capacity(Action::ALL.len() * PrincipalKind::ALL.len());
    for action in Action::ALL {
        let asked: Vec<Option<Asked>> =
            rules.iter().enumerate().map(|(index, rule)| asked(ground, index, rule, *action)).collect();
        for kind in PrincipalKind::ALL {
            let mut slice = Slice::default();
            // What forbids to touch another tenant's has nothing to say of what is nobody's.
            let owned = action.resources().iter().any(|kind| kind.has_tenant());
            let concerned = rules.iter().zip(&asked).filter_map(|(rule, asked)| Some((rule, asked.clone()?)));
            let concerned = concerned.filter(|(rule, _)| rule.concerns(*kind) && (owned || rule.file != ISOLATION.0));
            for (rule, asked) in concerned {
                if let Some(rest) = &asked.rest {
                    slice.looks.add(rest);
                }
                match (rule.of_principal(), rule.of_resource()) {
                    (Some(uid), _) => slice.by_principal.entry(uid).or_default().push(asked),
                    (None, Some(uid)) => slice.by_resource.entry(uid).or_default().push(asked),
                    (None, None) => slice.general.push(asked),
                }
            }
            slices.push(slice);
        }
    }
    slices
}

/// What to ask of a rule about `action`; none where it has nothing to say of that.
fn asked(ground: &Ground, index: usize, rule: &Rule, action: Action) -> Option<Asked> {
    if !rule.reaches(action) {
        return None;
    }
    let rest = match (&rule.rest, ground.action(action)) {
        (Some(rest), Some(uid)) => match fold(rest, uid, action.risk().name()) {
            Folded::Known(false) => return None,
            Folded::Known(true) => None,
            Folded::Open(rest) => Some(rest),
        },
        (rest, _) => rest.clone(),
    };
    Some(Asked { rule: u32::try_from(index).unwrap_or(u32::MAX), rest })
}

/// For each action, what rules about it may look into beside what a request brings: the action with its groups, and the
/// entities that conditions name.
fn bases(ground: &Ground, rules: &[Rule], known: &Known) -> Vec<Vec<Arc<Entity>>> {
    let actions = ground.schema.action_entities().unwrap_or_else(|_| cedar_policy::Entities::empty());
    let actions: &cedar_policy_core::entities::Entities = actions.as_ref();
    let base = |action: &Action| {
        let own = actions.iter().filter(|entity| Some(entity.uid()) == ground.action(*action)).cloned().map(Arc::new);
        let conditions = rules.iter().filter(|rule| rule.reaches(*action)).map(|rule| rule.policy.as_ref());
        let conditions = conditions.filter_map(|policy| policy.non_scope_constraints());
        let named = conditions.flat_map(|conditions| conditions.subexpressions());
        let named = named.filter_map(|expression| match expression.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => Some(uid),
            _ => None,
        });
        let named: BTreeSet<&Arc<EntityUID>> = named.collect();
        own.chain(named.into_iter().filter_map(|uid| known.get(&**uid).cloned())).collect()
    };
    Action::ALL.iter().map(base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_where_cedar_says() {
        assert_eq!(longest(""), 0);
        assert_eq!(longest("12;123;1"), 3);
        assert_eq!(longest("1\";\"2;"), 3);
        assert_eq!(longest("1\";\\\";\"2;"), 3);
        assert_eq!(longest("1// ; \"\n2;\n"), 4);
    }
}
