//! The HTTP API over the kernel's traits.
