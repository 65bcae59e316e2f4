//! `[host.tasks]`: how many tasks run and wait, how long they are kept, and what becomes of those that the host leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Checker;
use crate::file::Time;
use crate::name::{ComponentName, Intent};
use crate::problem::Key;

/// How many tasks run and wait, how long they are kept, and what becomes of those that ran when the host ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct TasksFile {
    /// Tasks that run at once. Default: 64.
    pub(crate) concurrency: Option<u32>,
    /// Tasks that wait for their turn; the next is refused. Default: 1000.
    pub(crate) queue: Option<u32>,
    /// How long a task that has ended is kept. Default: `168h`.
    pub(crate) keep: Option<Time>,
    /// Ended tasks that are kept of each tenant. Default: 100000.
    pub(crate) keep_number: Option<u32>,
    /// Intents whose tasks are run again where the host ended while they ran, three times at most: what they do may be done
    /// twice. Tasks of other intents have failed then. Default: none.
    pub(crate) run_again: Vec<String>,
}

/// How many tasks run and wait, how long they are kept, and what becomes of those that ran when the host ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// Tasks that run at once.
    pub concurrency: u32,
    /// Tasks that wait for their turn.
    pub queue: u32,
    /// How long a task that has ended is kept.
    pub keep: Duration,
    /// Ended tasks that are kept of each tenant.
    pub keep_number: u32,
    /// Intents whose tasks are run again where the host ended while they ran.
    pub run_again: BTreeSet<Intent>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            concurrency: 64,
            queue: 1_000,
            keep: Duration::from_secs(7 * 24 * 3_600),
            keep_number: 100_000,
            run_again: BTreeSet::new(),
        }
    }
}

impl Checker<'_> {
    /// The tasks that `file` describes; `intents` are those of the system.
    pub(crate) fn tasks(&mut self, file: &TasksFile, intents: &BTreeMap<Intent, ComponentName>) -> Tasks {
        let key = Key::root().child("host").child("tasks");
        let default = Tasks::default();
        let keep = self.time(&key.child("keep"), &file.keep, default.keep);
        let concurrency = file.concurrency.unwrap_or(default.concurrency);
        let mut run_again = BTreeSet::new();
        for (index, intent) in file.run_again.iter().enumerate() {
            let key = key.child("run-again").index(index);
            let Some(name) = self.name::<Intent>(&key, intent) else { continue };
            if !intents.contains_key(&name) {
                self.report(&key, format!("there is no intent `{intent}`"), "name one that is under [intents]");
            }
            run_again.insert(name);
        }
        Tasks {
            concurrency: self.at_least_one(&key.child("concurrency"), concurrency, "with none, no task could run"),
            queue: file.queue.unwrap_or(default.queue),
            keep,
            keep_number: file.keep_number.unwrap_or(default.keep_number),
            run_again,
        }
    }
}
