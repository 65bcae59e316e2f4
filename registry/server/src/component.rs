//! What a component's bytes say of it: what it imports and exports, and its WIT.
//!
//! The bytes are an author's: they are read within bounds, on a thread of their own, one at a time.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use wit_parser::{Docs, Resolve, WorldItem, WorldKey};
use witan_registry_component::Component;

use crate::{Digest, blobs::Blobs};

/// The largest component that is read for a page.
pub(crate) const LARGEST: u64 = 16 << 20;

/// The longest WIT that is shown, in bytes.
const LONGEST: usize = 256 << 10;

/// Components whose descriptions are kept.
const KEPT: usize = 128;

/// What a component says of itself.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) imports: Vec<Interface>,
    pub(crate) exports: Vec<Interface>,
    /// Its WIT as text.
    pub(crate) wit: String,
}

/// An interface or a function of a component's world.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) functions: Vec<(String, String)>,
}

/// Descriptions that were made, by the digest of the bytes. What cannot be read is kept as well.
pub(crate) struct Descriptions {
    kept: Mutex<HashMap<Digest, Arc<Result<Description, String>>>>,
    turn: Semaphore,
}

impl Default for Descriptions {
    fn default() -> Self {
        Self { kept: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Descriptions {
    /// What the component `digest` of `size` bytes says of itself, or why that is not known.
    pub(crate) async fn of(&self, blobs: &Blobs, digest: &Digest, size: u64) -> Arc<Result<Description, String>> {
        if size > LARGEST {
            return Arc::new(Err(format!("it has more than {LARGEST} bytes, and is not looked into")));
        }
        let known = self.kept.lock().get(digest).cloned();
        if let Some(known) = known {
            return known;
        }
        // Nobody closes the semaphore.
        let _turn = self.turn.acquire().await;
        let (blobs, wanted) = (blobs.clone(), *digest);
        let read = tokio::task::spawn_blocking(move || {
            let bytes = blobs.read(&wanted, LARGEST).map_err(|_| "its bytes cannot be read".to_owned())?;
            describe(&bytes)
        });
        let described = read.await.unwrap_or_else(|_| Err("it cannot be read".to_owned()));
        let described = Arc::new(described);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(*digest, described.clone());
        described
    }
}

/// Reads a component.
pub(crate) fn describe(bytes: &[u8]) -> Result<Description, String> {
    let component = Component::read(bytes).map_err(|error| error.to_string())?;
    let (resolve, world) = (component.resolve(), component.world());
    let list = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| -> Vec<Interface> {
        items.filter_map(|(key, item)| interface(resolve, key, item)).collect()
    };
    let imports = list(&mut world.imports.iter());
    let exports = list(&mut world.exports.iter());
    let mut wit = component.wit().to_owned();
    if wit.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| wit.is_char_boundary(*end)).unwrap_or(0);
        wit.truncate(end);
        wit.push_str("\n// and more\n");
    }
    Ok(Description { imports, exports, wit })
}

fn docs(docs: &Docs) -> String {
    docs.contents.clone().unwrap_or_default()
}

fn interface(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Option<Interface> {
    let name = resolve.name_world_key(key);
    match item {
        WorldItem::Interface { id, .. } => {
            let interface = resolve.interfaces.get(*id)?;
            let functions =
                interface.functions.iter().map(|(name, function)| (name.clone(), docs(&function.docs))).collect();
            Some(Interface { name, docs: docs(&interface.docs), functions })
        }
        WorldItem::Function(function) => Some(Interface { name, docs: docs(&function.docs), functions: Vec::new() }),
        WorldItem::Type { .. } => None,
    }
}

/// What an import means for whoever runs the component, in words.
pub(crate) fn in_words(import: &str) -> String {
    let interface = import.split('@').next().unwrap_or(import);
    let words = match interface {
        "wasi:http/outgoing-handler" | "wasi:http/client" => "sends HTTP requests to other machines",
        "wasi:http/types" => "knows what an HTTP request is",
        "wasi:clocks/wall-clock" | "wasi:clocks/system-clock" => "knows the time of day",
        "wasi:cli/environment" => "reads its arguments and environment variables",
        "witan:tools/broker" => "finds and calls tools",
        _ => match interface.split('/').next().unwrap_or(interface) {
            "wasi:filesystem" => "reads and writes files",
            "wasi:sockets" => "connects to other machines",
            "wasi:clocks" => "measures how long things take",
            "wasi:random" => "draws random numbers",
            "wasi:cli" => "reads its input and writes its output as a program does",
            "wasi:io" => "reads and writes streams that it is given",
            "wasi:config" => "reads its settings",
            "wasi:keyvalue" => "keeps values under keys",
            "wasi:logging" => "writes to the host's log",
            "wasi:blobstore" => "keeps files in a store",
            "wasi:nn" => "runs models",
            _ => return format!("calls `{interface}`, which another component or the host provides"),
        },
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_s_world_is_read() {
        let component = wat::parse_str(
            r#"(component
                (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func))))
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (instance $e (export "add" (func $f)))
                (export "acme:sums/add@1.0.0" (instance $e)))"#,
        )
        .unwrap();
        let description = describe(&component).unwrap();
        assert_eq!(description.imports[0].name, "wasi:clocks/wall-clock@0.2.0");
        assert_eq!(in_words(&description.imports[0].name), "knows the time of day");
        assert_eq!(description.exports[0].functions[0].0, "add");
        assert!(description.wit.contains("export acme:sums/add@1.0.0"), "{}", description.wit);
    }

    #[test]
    fn what_is_no_component_is_said_to_be_none() {
        let module = wat::parse_str("(module)").unwrap();
        for bytes in [&module[..], b"", b"text", &[0; 100]] {
            assert!(describe(bytes).is_err());
        }
    }

    #[test]
    fn an_unknown_import_is_named() {
        assert!(in_words("acme:other/thing@1.0.0").contains("`acme:other/thing`"));
    }
}
