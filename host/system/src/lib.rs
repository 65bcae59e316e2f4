//! system.toml, checked: components, grants, limits, links, mounts and intents.

/// What the operator granted a component.
#[derive(Clone, Debug, Default)]
pub struct Grants {}
