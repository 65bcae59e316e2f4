//! What a component's bytes say of it: what it imports and exports, its WIT, and the digest of that.
//!
//! Whoever signs a release and whoever verifies it must come to the same names and the same digest, so there is one
//! function that computes them. It reads within the bytes it is given and runs nothing of them.

use std::panic;

use wasmparser::Parser;
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{Resolve, World, WorldId};
use witan_registry_types::{ComponentInterfaces, Digest};

/// Why bytes are no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// They are a module, as compilers make them before a component is made of it.
    #[error("it is a core module, not a component; make it one with `wasm-tools component new`")]
    CoreModule,
    /// They are not WebAssembly, or of a version that is not known.
    #[error("it is no WebAssembly component")]
    NotWasm,
    /// They are a package of WIT in its binary form.
    #[error("it is a WIT package in binary form, which has no code")]
    WitPackage,
    /// They cannot be read.
    #[error("it is no valid component: {0}")]
    Invalid(String),
}

/// A component, as far as its types say what it is.
#[derive(Debug)]
pub struct Component {
    resolve: Resolve,
    world: WorldId,
    wit: String,
}

impl Component {
    /// Reads `bytes`, whose number the caller bounds.
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        if Parser::is_core_wasm(bytes) {
            return Err(ComponentError::CoreModule);
        }
        if !Parser::is_component(bytes) {
            return Err(ComponentError::NotWasm);
        }
        // The reader was made for sound files; what it makes of others must not end us.
        let decoded = panic::catch_unwind(|| {
            let (resolve, world) = match wit_component::decode(bytes) {
                Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
                Ok(DecodedWasm::WitPackage(..)) => return Err(ComponentError::WitPackage),
                Err(error) => return Err(ComponentError::Invalid(format!("{error:#}"))),
            };
            let wit = print(&resolve, world).map_err(|error| ComponentError::Invalid(error.to_string()))?;
            Ok(Self { resolve, world, wit })
        });
        decoded.unwrap_or_else(|_| Err(ComponentError::Invalid("its types cannot be read".to_owned())))
    }

    /// The types of everything in its world.
    pub fn resolve(&self) -> &Resolve {
        &self.resolve
    }

    /// Its world.
    pub fn world(&self) -> &World {
        &self.resolve.worlds[self.world]
    }

    /// Its WIT as text, with the documentation that is in it.
    pub fn wit(&self) -> &str {
        &self.wit
    }

    /// The SHA-256 of [`Component::wit`], as a release statement has it.
    pub fn wit_digest(&self) -> Digest {
        Digest::of(self.wit.as_bytes())
    }

    /// The names of what it imports and exports, in the order of the alphabet, as the config in a registry has them.
    pub fn interfaces(&self) -> ComponentInterfaces {
        let names = |items: &mut dyn Iterator<Item = &wit_parser::WorldKey>| -> Vec<String> {
            let mut names: Vec<String> = items.map(|key| self.resolve.name_world_key(key)).collect();
            names.sort();
            names
        };
        let world = self.world();
        ComponentInterfaces {
            exports: names(&mut world.exports.keys()),
            imports: names(&mut world.imports.keys()),
            target: None,
        }
    }
}

fn print(resolve: &Resolve, world: WorldId) -> Result<String, String> {
    let main = resolve.worlds[world].package.ok_or("its world belongs to no package")?;
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    let mut printer = WitPrinter::default();
    printer.print(resolve, main, &others).map_err(|error| format!("{error:#}"))?;
    Ok(printer.output.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOUND: &str = r#"(component
        (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func))))
        (import "acme:other/thing" (instance (export "do" (func (param "a" string)))))
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $e (export "add" (func $f)))
        (export "acme:sums/add@1.0.0" (instance $e)))"#;

    #[test]
    fn a_component_says_what_it_imports_and_exports() {
        let component = Component::read(&wat::parse_str(SOUND).unwrap()).unwrap();
        let interfaces = component.interfaces();
        assert_eq!(interfaces.imports, ["acme:other/thing", "wasi:clocks/wall-clock@0.2.0"]);
        assert_eq!(interfaces.exports, ["acme:sums/add@1.0.0"]);
        assert!(component.wit().contains("export acme:sums/add@1.0.0"), "{}", component.wit());
    }

    /// Releases that were signed have this digest. A printer that prints another text needs a way to verify them still.
    #[test]
    fn the_wit_of_what_was_signed_keeps_its_digest() {
        let component = Component::read(&wat::parse_str(SOUND).unwrap()).unwrap();
        let known = "sha256:9e8082639a448d3924893294feb1e53bb2f2c1cca43c400a8f0143ad3f054911";
        assert_eq!(component.wit_digest().to_string(), known, "{}", component.wit());
    }

    #[test]
    fn what_is_no_component_is_named() {
        let read = |bytes: &[u8]| Component::read(bytes).unwrap_err();
        assert_eq!(read(&wat::parse_str("(module)").unwrap()), ComponentError::CoreModule);
        assert_eq!(read(b""), ComponentError::NotWasm);
        assert_eq!(read(b"hello"), ComponentError::NotWasm);
        assert!(matches!(read(b"\0asm\x0d\0\x01\0garbage"), ComponentError::Invalid(_)));
        let package = wat::parse_str(r#"(component (export "x" (func)))"#);
        assert!(package.is_err() || Component::read(&package.unwrap()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = wat::parse_str(SOUND).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _component = Component::read(&bytes);
        }
    }
}
