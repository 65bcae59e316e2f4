//! How a call tree began: what request policies ask of its client's request, whatever component asks for the client now.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The request that a call tree serves, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beginning {
    /// What the task is for.
    pub intent: Option<Arc<str>>,
    /// The route that it came by, such as `/v1/tasks`; none for a mount.
    pub route: Option<Arc<str>>,
    /// The client's address.
    pub source: Option<IpAddr>,
}
