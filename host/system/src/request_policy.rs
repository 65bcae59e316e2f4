//! Where request policies come from: `[host.policy]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{check::Checker, problem::Key};

/// Where the policies come from that decide each request. Default: the host's own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RequestPolicyFile {
    /// A folder of policies in Cedar, `*.cedar`, relative to this file. Default: the host's own policies.
    pub(crate) folder: Option<String>,
    /// A file of entities in Cedar's JSON, relative to this file: roles, groups and labels of principals and things. Default:
    /// none.
    pub(crate) entities: Option<String>,
    /// A folder of policies that are asked what the others are asked, and never obeyed, relative to this file. Default: none.
    pub(crate) shadow: Option<String>,
}

/// Where the policies come from that decide each request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequestPolicy {
    /// The folder of policies; without one, the host's own hold.
    pub folder: Option<PathBuf>,
    /// The file of entities.
    pub entities: Option<PathBuf>,
    /// The folder of policies that are only asked.
    pub shadow: Option<PathBuf>,
}

impl Checker<'_> {
    pub(crate) fn request_policy(&mut self, key: &Key, policy: &RequestPolicyFile) -> RequestPolicy {
        let mut path =
            |name: &str, path: &Option<String>| path.as_deref().map(|path| self.resolve(&key.child(name), path));
        let read = RequestPolicy {
            folder: path("folder", &policy.folder),
            entities: path("entities", &policy.entities),
            shadow: path("shadow", &policy.shadow),
        };
        if read.folder.is_none() && read.entities.is_some() {
            let message = "`entities` are there, and no policies that could speak of them".to_owned();
            self.report(&key.child("entities"), message, "name the policies with `folder`, or remove it");
        }
        read
    }
}
