//! A registry's TUF metadata: what its operators and the registry itself sign, and what a host holds it to.
//!
//! Who stands between a host and its registry can keep old answers and give them again: a trusted root whose key was
//! replaced, a list in which a yanked version is missing. Each answer was true once, so that no signature tells. Metadata
//! of The Update Framework end: a host refuses what is older than what it has seen, and what has expired. So what is
//! withheld is withheld for the life of the timestamp, and no longer.
//!
//! Two sorts of keys sign. Those of the operators stay offline, and sign who may sign what (`root`) and the trusted root
//! (`targets`). The registry's own key signs what changes by itself: which versions are yanked (`yanks`, to which
//! `targets` delegates), and that all this is current (`snapshot`, `timestamp`).
//!
//! Start reading at [`hold`] for a host and at [`sign_root`] for an operator. Nothing here opens a file or a connection, or
//! looks at the clock. That signatures, versions and times hold is for the crate `sigstore-tuf` to say, which these modules
//! alone know.

mod hold;
mod make;
mod yanks;

pub use hold::{Held, HoldError, Source, Trusted, hold};
pub use make::{Document, MakeError, Online, Signers, check_previous, sign_online, sign_root, sign_targets};
pub use yanks::{Yank, Yanks};

/// The target that is a registry's `trusted_root.json`.
pub const TRUSTED_ROOT: &str = "trusted_root.json";

/// The role that says which versions are yanked.
const YANKS: &str = "yanks";

/// The largest file of each kind, in bytes: what a registry sends beyond it is not read.
const LARGEST_ROOT: u64 = 64 << 10;
const LARGEST_TIMESTAMP: u64 = 16 << 10;
const LARGEST_SNAPSHOT: u64 = 64 << 10;
const LARGEST_TARGETS: u64 = 1 << 20;
const LARGEST_TARGET: u64 = 4 << 20;

/// Enough of a text that somebody else wrote, without what would move a terminal's cursor.
fn shown(text: &str) -> String {
    const LONGEST: usize = 400;
    text.chars().take(LONGEST).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The target that says which versions of a namespace's packages are yanked.
fn yanks_of(namespace: &str) -> String {
    format!("{YANKS}/{namespace}.json")
}
