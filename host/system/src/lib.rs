//! system.toml, checked: components, grants, limits, links, mounts and intents.
