//! What all sets of policies stand on: the schema, and the names that it gives.

use std::sync::LazyLock;

use cedar_policy::Schema;
use cedar_policy_core::ast::{Eid, EntityType, EntityUID};
use smol_str::SmolStr;

use crate::{Action, PrincipalKind, Resource, ResourceKind};

/// The schema, as it is published.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// The schema and the types in it.
pub(crate) struct Ground {
    pub(crate) schema: Schema,
    principals: Vec<EntityType>,
    resources: Vec<EntityType>,
    role: EntityType,
    tenant: EntityType,
    actions: Vec<EntityUID>,
}

static GROUND: LazyLock<Result<Ground, String>> = LazyLock::new(Ground::new);

impl Ground {
    /// The one ground.
    ///
    /// # Errors
    /// When the published schema is none, which a test excludes.
    pub(crate) fn get() -> Result<&'static Self, &'static str> {
        GROUND.as_ref().map_err(String::as_str)
    }

    fn new() -> Result<Self, String> {
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
        let of = |name: &str| name.parse::<EntityType>().map_err(|error| error.to_string());
        let action = of("Action")?;
        let uid = |action_type: &EntityType, name: &'static str| {
            EntityUID::from_components(action_type.clone(), Eid::new(SmolStr::new_static(name)), None)
        };
        Ok(Self {
            schema,
            principals: PrincipalKind::ALL.iter().map(|kind| of(kind.type_name())).collect::<Result<_, _>>()?,
            resources: ResourceKind::ALL.iter().map(|kind| of(kind.type_name())).collect::<Result<_, _>>()?,
            role: of("Role")?,
            tenant: of("Tenant")?,
            actions: Action::ALL.iter().map(|known| uid(&action, known.name())).collect(),
        })
    }

    pub(crate) fn principal(&self, kind: PrincipalKind, id: &str) -> Option<EntityUID> {
        Some(entity(self.principals.get(kind as usize)?, id))
    }

    pub(crate) fn resource(&self, resource: &Resource<'_>) -> Option<EntityUID> {
        Some(entity(self.resources.get(resource.kind() as usize)?, &resource.id()))
    }

    pub(crate) fn role(&self, name: &str) -> EntityUID {
        entity(&self.role, name)
    }

    pub(crate) fn tenant(&self, name: &str) -> EntityUID {
        entity(&self.tenant, name)
    }

    pub(crate) fn action(&self, action: Action) -> Option<&EntityUID> {
        self.actions.get(action as usize)
    }
}

fn entity(of: &EntityType, id: &str) -> EntityUID {
    EntityUID::from_components(of.clone(), Eid::new(id), None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_schema_says_what_the_table_of_actions_says() {
        let schema = &Ground::get().unwrap().schema;
        let mut known = BTreeSet::new();
        for uid in schema.actions() {
            let name: &str = uid.id().as_ref();
            let Some(resources) = schema.resources_for_action(uid) else { continue };
            let mut resources: Vec<String> = resources.map(ToString::to_string).collect();
            if resources.is_empty() {
                continue;
            }
            let action = Action::parse(name).unwrap_or_else(|| panic!("the table has no `{name}`"));
            let mut expected: Vec<&str> = action.resources().iter().map(|kind| kind.type_name()).collect();
            expected.sort_unstable();
            resources.sort_unstable();
            resources.dedup();
            assert_eq!(resources, expected, "{name}");
            let parents: BTreeSet<String> =
                schema.action_entities().unwrap().ancestors(uid).unwrap().map(|uid| uid.to_string()).collect();
            assert_eq!(
                parents,
                BTreeSet::from(["Action::\"all\"".to_owned(), format!("Action::{:?}", action.group().name())])
            );
            let principals: BTreeSet<String> =
                schema.principals_for_action(uid).unwrap().map(ToString::to_string).collect();
            assert_eq!(principals, PrincipalKind::ALL.iter().map(|kind| kind.type_name().to_owned()).collect());
            known.insert(action);
        }
        assert_eq!(known, Action::ALL.iter().copied().collect());
    }

    #[test]
    fn the_lists_are_in_the_order_of_their_kinds() {
        assert!(PrincipalKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(ResourceKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(Action::ALL.iter().enumerate().all(|(index, action)| *action as usize == index));
    }
}
