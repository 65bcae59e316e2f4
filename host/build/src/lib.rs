//! Builds the components of a checkout.
