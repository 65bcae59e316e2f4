//! The entities of a set: what an operator says of principals and things.
//!
//! Who a principal is, whose it is and how far it is trusted, its credential says: a file that could say so too would be
//! believed by whoever reads it, and by nothing else. So a file may give it roles, groups and labels alone.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Entities, Entity};
use cedar_policy_core::ast::{self, EntityUID};
use rustc_hash::FxBuildHasher;
use serde_json::{Map, Value, json};

use crate::{
    PrincipalKind, ResourceKind, Sources,
    fault::{Collector, line_at},
    ground::Ground,
};

/// Entities in one file.
pub const MOST_ENTITIES: usize = 100_000;

/// What is known of entities beside what a request says.
pub(crate) type Known = HashMap<EntityUID, Arc<ast::Entity>, FxBuildHasher>;

/// Reads the entities of `text`.
pub(crate) fn read(ground: &Ground, text: &str, faults: &mut Collector) -> Known {
    let file = Sources::entities_name();
    let written: Vec<Value> = match serde_json::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let line = u32::try_from(error.line()).ok();
            faults.add(
                file,
                line,
                format!("this is no list of entities: {error}"),
                "write Cedar's JSON: a list of objects",
            );
            return Known::default();
        }
    };
    if written.len() > MOST_ENTITIES {
        let message = format!("there are {} entities, and {MOST_ENTITIES} at most are taken", written.len());
        faults.add(file, None, message, "give roles to groups, and put principals into those");
        return Known::default();
    }
    let starts = starts(text);
    let mut entities = Vec::with_capacity(written.len());
    for (index, value) in written.into_iter().enumerate() {
        let line = starts.get(index).map(|start| line_at(text, *start));
        let whole = complete(value).and_then(|value| {
            Entity::from_json_value(value, Some(&ground.schema)).map_err(|error| {
                let help = "hold it to the schema, which `witan policy schema` prints".to_owned();
                (in_words(&error), help)
            })
        });
        match whole {
            Ok(entity) => entities.push(entity),
            Err((message, help)) => faults.add(file, line, message, help),
        }
    }
    if !faults.is_empty() {
        return Known::default();
    }
    match Entities::from_entities(entities, Some(&ground.schema)) {
        Ok(entities) => {
            let entities: &cedar_policy_core::entities::Entities = entities.as_ref();
            let kept = entities.iter().filter(|entity| !entity.uid().is_action());
            kept.map(|entity| (entity.uid().clone(), Arc::new(entity.clone()))).collect()
        }
        Err(error) => {
            faults.add(file, None, in_words(&error), "name each entity once, and let no group be in itself");
            Known::default()
        }
    }
}

/// An error with its causes, which Cedar leaves to their sources.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// `value` with what its credential or its name says of it filled in, so that the schema can be held to it; or what is
/// wrong and what to do.
fn complete(mut value: Value) -> Result<Value, (String, String)> {
    let shape = || {
        let help = r#"write `{"uid": {"type": "User", "id": "acme/alice"}, "attrs": {}, "parents": []}`"#.to_owned();
        ("this is no entity".to_owned(), help)
    };
    let uid = value.get("uid").and_then(Value::as_object).ok_or_else(shape)?;
    // Cedar also takes the form with `__entity`.
    let uid = uid.get("__entity").and_then(Value::as_object).unwrap_or(uid);
    let kind = uid.get("type").and_then(Value::as_str).ok_or_else(shape)?.to_owned();
    let id = uid.get("id").and_then(Value::as_str).ok_or_else(shape)?.to_owned();
    let parents = value.get("parents").and_then(Value::as_array).cloned().unwrap_or_default();
    let object = value.as_object_mut().ok_or_else(shape)?;
    object.entry("parents").or_insert_with(|| json!([]));
    let attributes = object.entry("attrs").or_insert_with(|| json!({})).as_object_mut().ok_or_else(shape)?;
    if PrincipalKind::ALL.iter().any(|known| known.type_name() == kind) {
        principal(&kind, &id, &parents, attributes)?;
    } else if kind == ResourceKind::Origin.type_name() {
        let said = json!({ "scheme": "", "host": "", "port": 0 });
        fill(&id, "its name says it", attributes, &said)?;
    } else if let Some(known) = ResourceKind::ALL.iter().find(|known| known.type_name() == kind) {
        let made =
            matches!(known, ResourceKind::Task | ResourceKind::AuditLog | ResourceKind::Policy | ResourceKind::Host);
        if made {
            let help = "remove it; policies speak of its attributes instead".to_owned();
            return Err((format!("`{kind}::{id:?}` is made by the host for each request"), help));
        }
    }
    Ok(value)
}

fn principal(
    kind: &str,
    id: &str,
    parents: &[Value],
    attributes: &mut Map<String, Value>,
) -> Result<(), (String, String)> {
    let Some((tenant, _)) = id.split_once('/').filter(|(tenant, name)| !tenant.is_empty() && !name.is_empty()) else {
        let help = format!("write `{kind}::\"tenant/{id}\"`: the same name may be another's in another tenant");
        return Err((format!("`{kind}::{id:?}` does not say of which tenant it is"), help));
    };
    let of = |parent: &Value| {
        let parent = parent.get("__entity").unwrap_or(parent);
        parent.get("type").and_then(Value::as_str).map(str::to_owned)
    };
    if parents.iter().filter_map(of).any(|parent| parent == "Tenant") {
        let help = "remove the parent; its id begins with the tenant, and its credential proves it".to_owned();
        return Err((format!("`{kind}::{id:?}` cannot be put into a tenant by a file"), help));
    }
    let said = json!({
        "id": id,
        "tenant": { "type": "Tenant", "id": tenant },
        "trust": "standard",
        "level": 1,
        "scopes": [],
    });
    fill(id, "its credential says it", attributes, &said)
}

/// Adds to `attributes` what `said` holds, which they may not.
fn fill(id: &str, why: &str, attributes: &mut Map<String, Value>, said: &Value) -> Result<(), (String, String)> {
    for (key, value) in said.as_object().into_iter().flatten() {
        if attributes.insert(key.clone(), value.clone()).is_some() {
            let help = format!("remove it: {why}; `labels` and parents are what a file may give");
            return Err((format!("`{key}` of {id:?} is not for a file to say"), help));
        }
    }
    Ok(())
}

/// Where each element of the JSON list `text` begins.
fn starts(text: &str) -> Vec<usize> {
    let (mut depth, mut quoted, mut escaped, mut expected) = (0_usize, false, false, false);
    let mut starts = Vec::new();
    for (offset, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        if expected && !byte.is_ascii_whitespace() && byte != b']' {
            starts.push(offset);
            expected = false;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => {
                depth += 1;
                expected = depth == 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => expected = true,
            _ => {}
        }
    }
    starts
}
