//! The published schema is the one that is enforced.

use std::path::Path;

#[test]
fn the_published_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/system.schema.json");
    if std::env::var_os("WITAN_BLESS").is_some() {
        std::fs::write(&path, witan_system::json_schema_text()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == witan_system::json_schema_text(), "run `cargo xtask generate`");
}
