//! What a capability implements: the guard, the call context, decisions and meters.
