//! The tables, step by step. A step that was released is never changed.

pub(crate) const STEPS: &[&[&str]] = &[TASKS, CALLBACKS, SEALED, DELIVERIES];

/// What is to be delivered is asked for tenant by tenant.
const DELIVERIES: &[&str] =
    &["CREATE INDEX task_delivery_of ON task_delivery (tenant, due_ms)", "DROP INDEX task_delivery_due"];

const CALLBACKS: &[&str] = &["ALTER TABLE task ADD COLUMN callback TEXT "];

/// The tasks whose secrets were stored as clients said them: the host seals those when it starts.
const SEALED: &[&str] = &[
    "CREATE TABLE task_unsealed (task TEXT NOT NULL PRIMARY KEY)",
    "INSERT INTO task_unsealed (task) SELECT id FROM task WHERE callback LIKE '%\"whsec_%'",
    "INSERT INTO task_unsealed (task) SELECT DISTINCT task FROM task_delivery WHERE body LIKE '%\"whsec_%' AND task NOT IN \
     (SELECT task FROM task_unsealed)",
];

const TASKS: &[&str] = &[
    "CREATE TABLE task (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        intent TEXT NOT NULL,
        state TEXT NOT NULL,
        priority BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        started_ms BIGINT,
        finished_ms BIGINT,
        context TEXT NOT NULL,
        metadata TEXT NOT NULL
    )",
    "CREATE INDEX task_of ON task (tenant, id)",
    "CREATE INDEX task_state ON task (tenant, state, id)",
    "CREATE INDEX task_intent ON task (tenant, intent, id)",
    "CREATE INDEX task_finished ON task (tenant, finished_ms)",
    // What a host that starts has to look at, however many have ended.
    "CREATE INDEX task_unfinished ON task (id) WHERE finished_ms IS NULL",
    // Inputs and results; no bytes where a file has them.
    "CREATE TABLE task_body (
        task TEXT NOT NULL,
        kind BIGINT NOT NULL,
        bytes BLOB ,
        PRIMARY KEY (task, kind)
    )",
    "CREATE TABLE task_metadata (
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        task TEXT NOT NULL,
        PRIMARY KEY (tenant, name, task)
    )",
    "CREATE INDEX task_metadata_value ON task_metadata (tenant, name, value, task)",
    "CREATE INDEX task_metadata_task ON task_metadata (task)",
    "CREATE TABLE task_key (
        key TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        task TEXT NOT NULL,
        expires_ms BIGINT NOT NULL
    )",
    "CREATE INDEX task_key_expires ON task_key (expires_ms)",
    "CREATE TABLE task_delivery (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        task TEXT NOT NULL,
        body TEXT NOT NULL,
        attempts BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        due_ms BIGINT NOT NULL
    )",
    "CREATE INDEX task_delivery_due ON task_delivery (due_ms)",
];
