//! Runs tasks: an intent, its handler, its envelope.
