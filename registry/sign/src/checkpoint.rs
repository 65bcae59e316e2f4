//! The state of a log, as it signed it.

use std::fmt;

/// A state of a log. Whoever keeps the largest that was seen can tell when a log shows another history: the next must be of
/// the same size with the same root, or be proven to continue it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// Which log: its host, and the number of its tree where it has one.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// The root of the tree.
    pub root: [u8; 32],
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root: String = self.root.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "Checkpoint({} {} {root})", self.origin, self.size)
    }
}
