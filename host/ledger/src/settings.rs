//! How a ledger is kept.

use std::{path::PathBuf, time::Duration};

use crate::{Redaction, WitnessSettings};

/// The folder of a ledger within a state folder.
pub const FOLDER: &str = "ledger";

/// How a ledger is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is taken out before it is written.
    pub redaction: Redaction,
    /// How long entries gather that nobody waits for. One that somebody waits for is written at once, with all that are
    /// there.
    pub gather: Duration,
    /// Entries that wait at most. When three quarters of the places are taken, what would be allowed is refused; denials
    /// have the rest.
    pub queue: usize,
    /// How old the newest checkpoint may be while there are entries that it does not have.
    pub checkpoint: Duration,
    /// What entries say is dropped after this time; their leaves stay.
    pub keep: Option<Duration>,
    /// Bytes of entries, beyond which the oldest are dropped.
    pub max_bytes: Option<u64>,
    /// Bytes at which a file of entries is ended and the next begun; the oldest are dropped by the file.
    pub file_bytes: u64,
    /// A file, best on another machine's disk, that checkpoints are added to.
    pub sink: Option<PathBuf>,
    /// Who co-signs checkpoints.
    pub witnesses: Vec<WitnessSettings>,
    /// How often the sink and the witnesses are given a checkpoint, while there are entries.
    pub witness_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redaction: Redaction::default(),
            gather: Duration::from_millis(20),
            queue: 65_536,
            checkpoint: Duration::from_secs(1),
            keep: None,
            max_bytes: None,
            file_bytes: 16 << 20,
            sink: None,
            witnesses: Vec::new(),
            witness_interval: Duration::from_secs(60),
        }
    }
}
