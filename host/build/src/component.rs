//! From the file that cargo built to the component that is run.

use std::fs;
use std::io::Write;
use std::path::Path;

use wit_component::ComponentEncoder;

use crate::BuildError;

/// The field after the magic number that tells a component from a module.
const COMPONENT_LAYER: [u8; 4] = [0x0d, 0x00, 0x01, 0x00];

/// The bytes of a component: those given, if they are one, else the module wrapped in the types that its bindings
/// left in it.
pub(crate) fn encode(name: &str, wasm: &[u8]) -> Result<Vec<u8>, BuildError> {
    if wasm.get(4..8) == Some(&COMPONENT_LAYER) {
        return Ok(wasm.to_vec());
    }
    let encoded = ComponentEncoder::default().validate(true).module(wasm).and_then(|encoder| encoder.encode());
    encoded.map_err(|source| BuildError::Encode { name: name.to_owned(), source })
}

/// Writes `bytes` to `path` unless they are there already, so that who reads it sees the old or the new file, never
/// a part, and an unchanged component keeps its time of change. Returns whether it wrote.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool, BuildError> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(BuildError::file(folder))?;
    file.write_all(bytes).map_err(BuildError::file(path))?;
    file.persist(path).map_err(|error| BuildError::File { path: path.to_owned(), source: error.error })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
    use wit_parser::Resolve;

    use super::*;

    fn module_with_types() -> Vec<u8> {
        let mut resolve = Resolve::default();
        let types = "package a:b; interface i { f: func() -> u32; } world w { export i; }";
        let package = resolve.push_str("t.wit", types).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        let text = r#"(module (func (export "a:b/i#f") (result i32) i32.const 1))"#;
        let mut module = wat::parse_str(text).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    #[test]
    fn a_module_with_types_becomes_a_component() {
        let component = encode("t", &module_with_types()).unwrap();
        assert_eq!(component[4..8], COMPONENT_LAYER);
    }

    #[test]
    fn a_component_stays_as_it_is() {
        let component = ComponentEncoder::default().module(&module_with_types()).unwrap().encode().unwrap();
        assert_eq!(encode("t", &component).unwrap(), component);
    }

    #[test]
    fn bytes_that_are_no_wasm_are_refused_by_name() {
        let error = encode("broken", b"not wasm").unwrap_err();
        assert!(error.to_string().contains("`broken`"), "{error}");
    }

    #[test]
    fn unchanged_bytes_are_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        assert!(write_if_changed(&path, b"one").unwrap());
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
    }
}
