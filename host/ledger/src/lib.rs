//! The ledger: what was decided, loaded, granted, done and sent, in a log that shows when it was changed.
//!
//! Start reading at [`Ledger`]. An entry is redacted, sealed with the key of the person it is about, and written to the
//! journal; a commitment to it is a leaf of one Merkle log (RFC 6962), under checkpoints that the host's key signs and binds
//! to a time. Entries that wait are written together, with one synchronisation. To destroy a person's key is to erase what
//! was written of that person, and the log verifies as before.
//!
//! A ledger proves what it holds to whoever kept an earlier checkpoint; alone it proves nothing about what it held before,
//! since whoever can write the folder can also read the key. [`verify`] therefore takes checkpoints that were kept
//! elsewhere, and [`Settings::sink`] and [`Settings::witnesses`] send them there.

mod entry;
mod export;
mod file;
mod host_key;
mod journal;
mod keeper;
mod keys;
mod ledger;
mod read;
mod record;
mod redact;
mod settings;
mod trace;
mod verify;
mod witness;
mod writer;

pub use entry::{Entry, HOST, Kind, Verdict};
pub use export::{ExportError, Exported, export, verify_export};
pub use host_key::{HostKeyError, HostKeys};
pub use keys::KeyId;
pub use ledger::{EraseError, Erased, Health, Ledger, OpenError, Refused, WeakLedger};
pub use read::{Filter, Page, Placed, ReadError, Reader, TimedCheckpoint, Tree};
pub use redact::{Class, Personal, Redaction, Redactor, Treatment};
pub use settings::{FOLDER, Settings};
pub use trace::in_trace;
pub use verify::{Fault, Report, VerifyError, kept_in, public_key, verify};
pub use witan_merkle_log::{Hash, PublicKey, Witness};
pub use witness::{Answer, Transport, WitnessSettings};
