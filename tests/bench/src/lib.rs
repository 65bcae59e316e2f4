//! Measures the kernel against its floors.
