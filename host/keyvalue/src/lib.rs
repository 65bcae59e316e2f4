//! wasi:keyvalue, embedded, a namespace for each component and tenant.
