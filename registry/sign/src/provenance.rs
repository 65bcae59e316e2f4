//! How a component was built: SLSA provenance, version 1.
//!
//! A statement about a build is worth what its signer is. A build on somebody's own machine, signed with that person's own
//! key, says how it was built and proves nothing: SLSA calls that level 1, and a local build claims no more. Higher levels
//! belong to builders that their users cannot influence; which these are is for a trust policy to say, by who signed, and
//! never for the statement itself.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::time::rfc3339;

/// What a local build calls its builder.
pub const LOCAL_BUILDER: &str = "urn:witan:builder:local:v1";
/// What a build by `witan build` is called.
pub const BUILD_TYPE: &str = "urn:witan:build:v1";

/// Where the source of a build came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its repository, such as `git+https://git.example/tools`.
    pub uri: String,
    /// The commit, as hexadecimal digits.
    pub commit: String,
    /// Whether the files were those of the commit; a build of changed files is not a build of it.
    pub clean: bool,
}

/// A build on this machine, for [`Provenance::local`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBuild {
    /// What was asked for, such as `cargo build --target wasm32-wasip2`.
    pub command: String,
    /// The tools and their versions, such as `rustc 1.95.0`.
    pub tools: Vec<String>,
    /// Where the source came from, if that is known.
    pub source: Option<Source>,
    /// When it began.
    pub started: SystemTime,
    /// When it was done.
    pub finished: SystemTime,
}

/// How a component was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// What calls itself the builder.
    pub builder: String,
    /// What kind of build it was.
    pub build_type: String,
    /// The predicate as a whole.
    predicate: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    build_definition: Definition,
    run_details: Run,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    #[serde(rename = "externalParameters")]
    _external_parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Run {
    builder: Builder,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

impl Provenance {
    /// The provenance of a build on this machine.
    pub fn local(build: &LocalBuild) -> Self {
        let source = build.source.iter().map(|source| {
            let mut entry = json!({ "uri": source.uri, "digest": { "gitCommit": source.commit } });
            if !source.clean {
                entry["annotations"] = json!({ "changed": true });
            }
            entry
        });
        let predicate = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "command": build.command },
                "internalParameters": { "tools": build.tools },
                "resolvedDependencies": source.collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": { "id": LOCAL_BUILDER },
                "metadata": { "startedOn": rfc3339(build.started), "finishedOn": rfc3339(build.finished) },
            },
        });
        Self { builder: LOCAL_BUILDER.to_owned(), build_type: BUILD_TYPE.to_owned(), predicate }
    }

    /// Reads a predicate.
    pub fn parse(predicate: &Value) -> Result<Self, String> {
        let wire = Wire::deserialize(predicate).map_err(|error| error.to_string())?;
        let (builder, build_type) = (wire.run_details.builder.id, wire.build_definition.build_type);
        if builder.is_empty() || build_type.is_empty() {
            return Err("it names no builder, or no kind of build".to_owned());
        }
        Ok(Self { builder, build_type, predicate: predicate.clone() })
    }

    /// The predicate.
    pub fn to_predicate(&self) -> Value {
        self.predicate.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn build() -> LocalBuild {
        let source = Source { uri: "git+https://git.example/tools".to_owned(), commit: "ab".repeat(20), clean: false };
        LocalBuild {
            command: "witan build".to_owned(),
            tools: vec!["rustc 1.95.0".to_owned()],
            source: Some(source),
            started: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            finished: UNIX_EPOCH + Duration::from_secs(1_800_000_060),
        }
    }

    #[test]
    fn a_local_build_says_that_it_is_one() {
        let provenance = Provenance::local(&build());
        assert_eq!(Provenance::parse(&provenance.to_predicate()).unwrap(), provenance);
        assert_eq!(provenance.builder, LOCAL_BUILDER);
        let predicate = provenance.to_predicate();
        assert_eq!(predicate["runDetails"]["metadata"]["startedOn"], "2027-01-15T08:00:00Z");
        assert_eq!(predicate["buildDefinition"]["resolvedDependencies"][0]["annotations"]["changed"], true);
    }

    #[test]
    fn what_names_no_builder_is_refused() {
        let good = Provenance::local(&build()).to_predicate();
        for pointer in ["/runDetails/builder/id", "/buildDefinition/buildType", "/buildDefinition/externalParameters"] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = json!("");
            assert!(Provenance::parse(&bad).is_err(), "{pointer}");
        }
        assert!(Provenance::parse(&json!({})).is_err());
    }
}
