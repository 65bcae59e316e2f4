//! The rules of fusing, checked on each part while the parts are still apart.

use std::collections::HashSet;

use wac_graph::types::{DefinedType, ItemKind, SubtypeChecker, Type, Types, ValueType, WorldId, are_semver_compatible};

use crate::{FuseError, Origin, Part, Wire};

/// All parts that have grants have the same: fused parts share a store, and with it everything that one of them may do.
/// What a part without grants must not do beside them, [`imports`] sees to.
pub(crate) fn grants(parts: &[Part<'_>]) -> Result<(), FuseError> {
    let mut granted = parts.iter().filter(|part| !part.grants.is_empty());
    let Some(first) = granted.next() else { return Ok(()) };
    match granted.find(|part| part.grants != first.grants) {
        Some(second) => Err(FuseError::GrantsDiffer { first: first.name.into(), second: second.name.into() }),
        None => Ok(()),
    }
}

/// Each wire joins an import to an export that fits it, no import is wired twice, and every part is used.
pub(crate) fn wires(
    parts: &[Part<'_>],
    worlds: &[WorldId],
    types: &Types,
    wires: &[Wire<'_>],
) -> Result<(), FuseError> {
    let mut wired = HashSet::new();
    for wire in wires {
        if let Some(part) = [wire.caller, wire.callee].into_iter().find(|part| *part >= parts.len()) {
            return Err(FuseError::NoSuchPart { interface: wire.interface.into(), part, parts: parts.len() });
        }
        if !wired.insert((wire.caller, wire.interface)) {
            return Err(FuseError::WiredTwice {
                caller: parts[wire.caller].name.into(),
                interface: wire.interface.into(),
            });
        }
        Fit { wire, caller: parts[wire.caller].name, callee: parts[wire.callee].name, types }.check(worlds)?;
    }
    unused(parts, wires)
}

fn unused(parts: &[Part<'_>], wires: &[Wire<'_>]) -> Result<(), FuseError> {
    let mut reached = vec![false; parts.len()];
    let mut next = vec![0];
    while let Some(part) = next.pop() {
        if reached.get(part) == Some(&false) {
            reached[part] = true;
            next.extend(wires.iter().filter(|wire| wire.caller == part).map(|wire| wire.callee));
        }
    }
    match reached.iter().position(|reached| !reached) {
        Some(part) => Err(FuseError::Unused { part: parts[part].name.into() }),
        None => Ok(()),
    }
}

/// Whether the two ends of a wire fit.
struct Fit<'a> {
    wire: &'a Wire<'a>,
    caller: &'a str,
    callee: &'a str,
    types: &'a Types,
}

impl Fit<'_> {
    fn check(&self, worlds: &[WorldId]) -> Result<(), FuseError> {
        let (caller, callee, interface) = (self.caller.into(), self.callee.into(), self.wire.interface);
        let Some(import) = self.types[worlds[self.wire.caller]].imports.get(interface) else {
            return Err(FuseError::NotImported { caller, callee, interface: interface.into() });
        };
        let Some(export) = self.types[worlds[self.wire.callee]].exports.get(interface) else {
            return Err(FuseError::NotExported { caller, callee, interface: interface.into() });
        };
        for (item, import, export) in items(self.types, interface, *import, *export) {
            let Some(export) = export else {
                let (interface, item) = (interface.into(), item.into());
                return Err(FuseError::Missing { caller, callee, interface, item });
            };
            self.item(item, import, export)?;
        }
        Ok(())
    }

    fn item(&self, item: &str, import: ItemKind, export: ItemKind) -> Result<(), FuseError> {
        let (caller, callee, interface) = (self.caller.into(), self.callee.into(), self.wire.interface.into());
        if let (Some(caller_kind), Some(callee_kind)) = (kind(self.types, import), kind(self.types, export))
            && caller_kind != callee_kind
        {
            let function = item.into();
            return Err(FuseError::AsyncDiffers { caller, callee, interface, function, caller_kind, callee_kind });
        }
        equal(self.types, export, import).map_err(|detail| FuseError::ItemDiffers {
            caller,
            callee,
            interface,
            item: item.into(),
            detail: detail.into(),
        })
    }
}

/// The items of `left`, each with the item of the same name of `right`. What is no instance is its own only item.
fn items<'a>(
    types: &'a Types,
    name: &'a str,
    left: ItemKind,
    right: ItemKind,
) -> Vec<(&'a str, ItemKind, Option<ItemKind>)> {
    match (left, right) {
        (ItemKind::Instance(left), ItemKind::Instance(right)) => types[left]
            .exports
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind, types[right].exports.get(name).copied()))
            .collect(),
        _ => vec![(name, left, Some(right))],
    }
}

fn kind(types: &Types, item: ItemKind) -> Option<&'static str> {
    match item {
        ItemKind::Func(function) => Some(if types[function].is_async { "async" } else { "sync" }),
        _ => None,
    }
}

/// Whether two items have the same type: each may stand in for the other.
fn equal(types: &Types, left: ItemKind, right: ItemKind) -> Result<(), String> {
    for (one, other) in [(left, right), (right, left)] {
        // A cache of its own: what was found to fit one way need not fit the other.
        let mut cache = HashSet::new();
        SubtypeChecker::new(&mut cache).is_subtype(one, types, other, types).map_err(|error| format!("{error:#}"))?;
    }
    Ok(())
}

/// Imports that stay: each is satisfied, by what the part may have, and those that will be one are alike.
pub(crate) fn imports(
    parts: &[Part<'_>],
    worlds: &[WorldId],
    types: &Types,
    wires: &[Wire<'_>],
) -> Result<(), FuseError> {
    let mut kept: Vec<Kept<'_>> = Vec::new();
    let granted = parts.iter().find(|part| !part.grants.is_empty());
    for (at, part) in parts.iter().enumerate() {
        for (name, kind) in &types[worlds[at]].imports {
            if wires.iter().any(|wire| wire.caller == at && wire.interface == name) {
                continue;
            }
            let origin = if only_types(types, *kind) { None } else { Some(origin(part, name)?) };
            // Even the baseline is a door here: a filesystem without preopens is one with those of the other part.
            if let (Some(granted), Some(_), true) = (granted, &origin, part.grants.is_empty()) {
                return Err(FuseError::SharesGrants {
                    part: part.name.into(),
                    import: name.as_str().into(),
                    granted: granted.name.into(),
                });
            }
            let import = Kept { part, name, kind: *kind, origin };
            for other in kept.iter().filter(|other| are_semver_compatible(other.name, name)) {
                alike(types, other, &import)?;
            }
            kept.push(import);
        }
    }
    Ok(())
}

struct Kept<'a> {
    part: &'a Part<'a>,
    name: &'a str,
    kind: ItemKind,
    /// None where nothing has to satisfy it.
    origin: Option<Origin>,
}

fn origin(part: &Part<'_>, import: &str) -> Result<Origin, FuseError> {
    let (name, import_name) = (part.name.into(), import.into());
    match (part.origin)(import) {
        None if part.grants.is_empty() => Err(FuseError::BeyondBaseline { part: name, import: import_name }),
        None => Err(FuseError::Unsatisfied { part: name, import: import_name }),
        Some(Origin::Grant) if part.grants.is_empty() => {
            Err(FuseError::BeyondBaseline { part: name, import: import_name })
        }
        Some(origin) => Ok(origin),
    }
}

fn alike(types: &Types, first: &Kept<'_>, second: &Kept<'_>) -> Result<(), FuseError> {
    let (one, other, import) = (first.part.name.into(), second.part.name.into(), second.name.into());
    if let (Some(first), Some(second)) = (&first.origin, &second.origin)
        && first != second
    {
        let (first_origin, second_origin) = (describe(first), describe(second));
        return Err(FuseError::OriginsDiffer { first: one, second: other, import, first_origin, second_origin });
    }
    for (item, left, right) in items(types, second.name, first.kind, second.kind) {
        // Each may use another half of the interface: the merged import has both.
        if let Some(right) = right {
            equal(types, left, right).map_err(|detail| FuseError::TypesDiffer {
                first: one.clone(),
                second: other.clone(),
                import: import.clone(),
                item: item.into(),
                detail: detail.into(),
            })?;
        }
    }
    Ok(())
}

fn describe(origin: &Origin) -> Box<str> {
    match origin {
        Origin::Baseline => "part of the baseline".into(),
        Origin::Grant => "a granted capability".into(),
        Origin::Link(component) => format!("a link to `{component}`").into(),
    }
}

/// Whether an import only names types of values: nothing can be done with it, so nothing has to satisfy it.
fn only_types(types: &Types, kind: ItemKind) -> bool {
    match kind {
        ItemKind::Instance(id) => types[id].exports.values().all(|item| match item {
            ItemKind::Type(Type::Value(value)) => !owns(types, *value),
            _ => false,
        }),
        _ => false,
    }
}

/// Whether a value type mentions a resource.
fn owns(types: &Types, value: ValueType) -> bool {
    let id = match value {
        ValueType::Primitive(_) => return false,
        ValueType::Borrow(_) | ValueType::Own(_) => return true,
        ValueType::Defined(id) => id,
    };
    let owns_some = |value: &Option<ValueType>| value.is_some_and(|value| owns(types, value));
    match &types[id] {
        DefinedType::Tuple(items) => items.iter().any(|item| owns(types, *item)),
        DefinedType::List(item) | DefinedType::FixedSizeList(item, _) | DefinedType::Option(item) => owns(types, *item),
        DefinedType::Alias(item) => owns(types, *item),
        DefinedType::Map(key, value) => owns(types, *key) || owns(types, *value),
        DefinedType::Result { ok, err } => owns_some(ok) || owns_some(err),
        DefinedType::Variant(variant) => variant.cases.values().any(owns_some),
        DefinedType::Record(record) => record.fields.values().any(|field| owns(types, *field)),
        DefinedType::Flags(_) | DefinedType::Enum(_) => false,
        DefinedType::Stream(item) | DefinedType::Future(item) => owns_some(item),
    }
}
