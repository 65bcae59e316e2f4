//! What is known about the bytes: its tables.
//!
//! A row is written after what it speaks of is durable on disk, and removed before that is. So a crash leaves bytes
//! that no row names, which are never served and are collected, and never a row without its bytes.

use std::path::Path;

use witan_database::{Database, DatabaseError, Location};

use crate::DatabaseSettings;

const SCHEMA: &[&str] = &[
    // One row a content, whatever it is used as.
    "CREATE TABLE IF NOT EXISTS blob (
        digest TEXT NOT NULL PRIMARY KEY,
        size BIGINT NOT NULL
    )",
    // Who may read a blob: those who may read a repository that it is in. `touched` is when a client last pushed it, or
    // asked for it in order to push what names it.
    "CREATE TABLE IF NOT EXISTS repository_blob (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        namespace TEXT NOT NULL,
        touched BIGINT NOT NULL,
        PRIMARY KEY (repository, digest)
    )",
    "CREATE INDEX IF NOT EXISTS repository_blob_digest ON repository_blob (digest)",
    "CREATE TABLE IF NOT EXISTS manifest (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        namespace TEXT NOT NULL,
        media_type TEXT NOT NULL,
        artifact_type TEXT NOT NULL,
        subject TEXT NOT NULL,
        size BIGINT NOT NULL,
        annotations TEXT NOT NULL,
        pushed BIGINT NOT NULL,
        downloads BIGINT NOT NULL,
        PRIMARY KEY (repository, digest)
    )",
    "CREATE INDEX IF NOT EXISTS manifest_subject ON manifest (repository, subject)",
    "CREATE INDEX IF NOT EXISTS manifest_digest ON manifest (digest)",
    // What a manifest names, be it a blob or a manifest.
    "CREATE TABLE IF NOT EXISTS reference (
        repository TEXT NOT NULL,
        manifest TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (repository, manifest, digest)
    )",
    "CREATE INDEX IF NOT EXISTS reference_digest ON reference (repository, digest)",
    "CREATE TABLE IF NOT EXISTS tag (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        updated BIGINT NOT NULL,
        PRIMARY KEY (repository, tag)
    )",
    "CREATE INDEX IF NOT EXISTS tag_digest ON tag (repository, digest)",
    // A released version outlives its tag: deleting one does not make room for another under its name.
    "CREATE TABLE IF NOT EXISTS version (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        released BIGINT NOT NULL,
        yanked BIGINT NOT NULL,
        yank_reason TEXT NOT NULL,
        PRIMARY KEY (repository, tag)
    )",
    "CREATE TABLE IF NOT EXISTS namespace (
        namespace TEXT NOT NULL PRIMARY KEY,
        bytes BIGINT NOT NULL,
        quota BIGINT NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS upload (
        id TEXT NOT NULL PRIMARY KEY,
        repository TEXT NOT NULL,
        namespace TEXT NOT NULL,
        begun BIGINT NOT NULL
    )",
    // `secret` is the SHA-256 of a secret with 256 random bits, which no guessing reverses.
    "CREATE TABLE IF NOT EXISTS token (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        secret TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created BIGINT NOT NULL,
        expires BIGINT NOT NULL
    )",
    // The log's own index: what is lost of it is made again from the log.
    "CREATE TABLE IF NOT EXISTS log_entry (
        log_index BIGINT NOT NULL PRIMARY KEY,
        leaf TEXT NOT NULL UNIQUE,
        integrated BIGINT NOT NULL,
        artifact TEXT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS log_entry_artifact ON log_entry (artifact)",
];

/// Opens the database, and makes its tables if they are not there.
pub(crate) async fn open(settings: &DatabaseSettings, data: &Path) -> Result<Database, DatabaseError> {
    let location = match settings {
        DatabaseSettings::Sqlite => Location::Sqlite(data.join("registry.db")),
        DatabaseSettings::Postgres(url) => Location::Postgres(url.clone()),
    };
    let database = Database::open(location).await?;
    database.migrate("registry", &[SCHEMA]).await?;
    Ok(database)
}
