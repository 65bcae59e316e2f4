//! An append-only log whose every entry is in a tree (RFC 6962) under a signed checkpoint.
//!
//! Start reading at [`Log`]. What is on disk has the layout and the formats of C2SP (`tlog-tiles`, `tlog-checkpoint`,
//! `signed-note`, `tlog-cosignature`), so that it can be served as it is and read by others' tools. The checkpoint is the
//! commit: what lies beyond the one on disk was never acknowledged, and is removed when the log is opened.
//!
//! A log proves what it holds to whoever kept an earlier checkpoint; alone it proves nothing about what it held before.
//! [`audit`] therefore takes checkpoints that were kept elsewhere.
//!
//! Proofs are made here, and verified by `sigstore-merkle`.

mod audit;
mod disk;
mod hash;
mod log;
mod note;
mod tile;
mod tree;
mod witness;

pub use audit::{Audit, AuditError, audit};
pub use hash::Hash;
pub use log::{Appended, Log, LogError, OpenError, Settings, Snapshot};
pub use note::{Checkpoint, KeyError, NoteError, PublicKey, SigningKey};
pub use tile::{Tile, TileKind};
pub use tree::{ProofError, verify_consistency, verify_inclusion};
pub use witness::{CosignError, Cosignature, Witness, WitnessError};
