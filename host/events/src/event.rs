//! The events.

use std::collections::BTreeMap;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows from event to event, over starts of the host too.
    pub id: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whose it is; none where it is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident = $name:literal { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            pub struct $event {
                $($(#[$field_meta])* pub $field: $kind,)*
            }
        )*

        /// What happened, by type.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type", content = "data")]
        pub enum What {
            $($(#[$doc])* #[serde(rename = $name)] $event($event),)*
        }

        impl What {
            /// The names of all types.
            pub const TYPES: &'static [&'static str] = &[$($name,)*];

            /// The name of its type.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$event(_) => $name,)*
                }
            }
        }

        /// For each type of event, the JSON Schema of its `data`.
        #[must_use]
        pub fn schemas() -> BTreeMap<&'static str, Value> {
            BTreeMap::from([$(($name, schema_for!($event).to_value()),)*])
        }
    };
}

events! {
    /// A task was accepted.
    TaskCreated = "task.created" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
        /// Who asked.
        principal: String,
    }
    /// The handler of a task starts.
    TaskStarted = "task.started" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
        /// How often it has started, with this time.
        attempt: u32,
    }
    /// A task has come further. Not each step is told, but some in a second.
    TaskProgress = "task.progress" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What is being done.
        stage: String,
        /// Units of this stage that are done.
        done: u32,
        /// Units of this stage in all; 0 while it is not known.
        total: u32,
    }
    /// A task is held back.
    TaskPaused = "task.paused" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
    }
    /// A task waits for its turn again.
    TaskResumed = "task.resumed" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
    }
    /// A task has ended with a result.
    TaskCompleted = "task.completed" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
        /// Milliseconds from its acceptance to its end.
        latency_ms: u64,
    }
    /// A task has ended with an error.
    TaskFailed = "task.failed" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
        /// The code of the error.
        code: String,
        /// Milliseconds from its acceptance to its end.
        latency_ms: u64,
    }
    /// A task was cancelled.
    TaskCancelled = "task.cancelled" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// What was asked for.
        intent: String,
    }
    /// What was to be told to a callback was given up.
    CallbackFailed = "callback.failed" {
        /// The task.
        #[schemars(with = "String", extend("format" = "uuid"))]
        task: Uuid,
        /// How often it was tried.
        attempts: u32,
        /// Why it failed the last time.
        reason: String,
    }
    /// A component serves from now on.
    ComponentLoaded = "component.loaded" {
        /// Its name in the system.
        component: String,
        /// The blake3 digest of its bytes, in hexadecimal digits.
        digest: String,
    }
    /// The policy was loaded again.
    PolicyReloaded = "policy.reloaded" {
        /// Its version.
        version: String,
    }
    /// The system was loaded again.
    SystemReloaded = "system.reloaded" {
        /// Its file.
        system: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_with_its_type_and_reads_back() {
        let what = What::TaskCompleted(TaskCompleted { task: Uuid::nil(), intent: "a".into(), latency_ms: 7 });
        let event = Event { id: 1, at_ms: 2, tenant: Some("acme".into()), what };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["type"], &json["data"]["latency_ms"]), (&"task.completed".into(), &7.into()));
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn each_type_has_a_schema_that_names_its_fields() {
        let schemas = schemas();
        assert!(schemas.keys().eq(What::TYPES.iter().collect::<std::collections::BTreeSet<_>>()));
        let created = &schemas["task.created"];
        assert_eq!(created["required"], serde_json::json!(["task", "intent", "principal"]));
        assert!(schemas.values().all(|schema| schema["description"].is_string()));
    }
}
