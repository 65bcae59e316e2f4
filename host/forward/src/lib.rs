//! Typed forwarders for witan interfaces, generated from WIT.
