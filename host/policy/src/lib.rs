//! Decides: grants against requests, and the decision log.
