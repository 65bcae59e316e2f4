//! Compiles, caches, links, runs and limits components; names no capability.
