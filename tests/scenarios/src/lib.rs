//! A folder per behaviour, run against the real binary.
