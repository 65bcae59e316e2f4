//! witan:tools/broker: finds and calls the tools of a system.
