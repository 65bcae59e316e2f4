//! What of a request the rules look at: the rest need not be put in Cedar's words.

use cedar_policy_core::ast::{Expr, ExprKind, Var};

macro_rules! attributes {
    ($($attribute:ident = $name:literal,)*) => {
        /// A name that the schema gives to something of a request's context or of the entities that it brings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Attribute { $($attribute,)* }

        impl Attribute {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$attribute,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$attribute => $name,)* }
            }
        }
    };
}

attributes! {
    BudgetMicros = "budget_micros",
    Component = "component",
    Host = "host",
    Id = "id",
    Intent = "intent",
    Labels = "labels",
    Level = "level",
    Method = "method",
    Owner = "owner",
    Path = "path",
    Port = "port",
    Privacy = "privacy",
    Provider = "provider",
    Risk = "risk",
    Route = "route",
    Scheme = "scheme",
    Scopes = "scopes",
    Source = "source",
    Tenant = "tenant",
    Time = "time",
    Trust = "trust",
}

/// The attributes that some rules look at, whosever they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looks(u32);

impl Looks {
    pub(crate) const ALL: Self = Self(u32::MAX);

    pub(crate) fn at(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u32) != 0
    }

    /// What `condition` looks at too. An entity is compared by its name alone; the context as a whole is all that is in it.
    pub(crate) fn add(&mut self, condition: &Expr) {
        let (mut contexts, mut within) = (0_usize, 0_usize);
        for expression in condition.subexpressions() {
            match expression.expr_kind() {
                ExprKind::Var(Var::Context) => contexts += 1,
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
                    within += usize::from(is_context(expr));
                    self.name(attr);
                }
                ExprKind::ExtHasAttr { expr, attrs } => {
                    within += usize::from(is_context(expr));
                    attrs.iter().for_each(|attr| self.name(attr));
                }
                _ => {}
            }
        }
        if contexts != within {
            *self = Self::ALL;
        }
    }

    fn name(&mut self, attr: &str) {
        let named = Attribute::ALL.iter().find(|attribute| attribute.name() == attr);
        self.0 |= named.map_or(0, |attribute| 1 << *attribute as u32);
    }
}

pub(crate) fn is_context(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::Var(Var::Context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_at(condition: &str) -> Vec<&'static str> {
        let mut looks = Looks::default();
        looks.add(&condition.parse().unwrap());
        Attribute::ALL.iter().filter(|attribute| looks.at(**attribute)).map(|attribute| attribute.name()).collect()
    }

    #[test]
    fn what_is_named_is_looked_at() {
        assert_eq!(looked_at("true"), [""; 0]);
        assert_eq!(looked_at("context.time.hour < 5 && principal.level > 1"), ["level", "time"]);
        assert_eq!(looked_at("context has source && context.source.isInRange(ip(\"10.0.0.0/8\"))"), ["source"]);
        assert_eq!(looked_at("(if principal.level > 1 then principal else resource).id == \"a\""), ["id", "level"]);
        assert_eq!(looked_at("context == {} "), Attribute::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
        assert_eq!(looked_at("principal has tenant.labels && context has time.hour"), ["labels", "tenant", "time"]);
        assert_eq!(looked_at("[context].contains(context.time)").len(), Attribute::ALL.len());
    }

    /// What is not in the list would never be brought.
    #[test]
    fn every_attribute_of_the_schema_is_listed() {
        let schema = crate::SCHEMA.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let named = schema.filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim_end_matches('?').trim());
        let ours: Vec<_> = Attribute::ALL.iter().map(|attribute| attribute.name()).collect();
        let within_time = ["epoch", "hour", "minute", "weekday"];
        let applies = ["principal", "resource", "context"];
        for name in named.filter(|name| !within_time.contains(name) && !applies.contains(name)) {
            assert!(ours.contains(&name), "`{name}`");
        }
        assert!(Attribute::ALL.len() < 32);
    }
}
