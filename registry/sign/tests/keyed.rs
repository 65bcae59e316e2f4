//! Signatures by keys: from a new key to the verdict, and every way in which that must fail.

mod common;

use common::*;

#[test]
fn a_signed_version_is_trusted() {
    let publisher = Publisher::new();
    let verified = publisher.evaluate(&publisher.bundles()).unwrap();
    assert_eq!(verified.signers, [SignerId::Key(publisher.key.id())].into());
    assert_eq!(verified.release, release());
    assert!(verified.rejected.is_empty());
}
