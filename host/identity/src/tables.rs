//! The tables, and how their values are written.

use std::collections::BTreeSet;

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;
use witan_system::{Name, Scope, TenantName, TrustLevel};

use crate::IdentityError;

/// Whose tables these are.
pub(crate) const PART: &str = "identity";

/// Times are seconds since 1970; a time that never comes is `i64::MAX`, and one that has not come is 0.
pub(crate) const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE tenant (name TEXT NOT NULL PRIMARY KEY, created BIGINT NOT NULL, disabled BIGINT NOT NULL)",
    "INSERT INTO tenant (name, created, disabled) VALUES ('local', 0, 0)",
    "CREATE TABLE person (
        id TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenant (name),
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        roles TEXT NOT NULL,
        created BIGINT NOT NULL,
        disabled BIGINT NOT NULL,
        UNIQUE (issuer, subject)
    )",
    "CREATE INDEX person_of_tenant ON person (tenant_id, id)",
    "CREATE TABLE api_key (
        id TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenant (name),
        name TEXT NOT NULL,
        hint TEXT NOT NULL,
        secret TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        roles TEXT NOT NULL,
        trust TEXT NOT NULL,
        created BIGINT NOT NULL,
        created_by TEXT NOT NULL,
        expires BIGINT NOT NULL,
        revoked BIGINT NOT NULL,
        replaced TEXT NOT NULL
    )",
    "CREATE INDEX api_key_of_tenant ON api_key (tenant_id, id)",
    "CREATE TABLE login_session (
        id TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenant (name),
        person_id TEXT NOT NULL REFERENCES person (id),
        roles TEXT NOT NULL,
        agent TEXT NOT NULL,
        address TEXT NOT NULL,
        created BIGINT NOT NULL,
        used BIGINT NOT NULL,
        idle BIGINT NOT NULL,
        expires BIGINT NOT NULL,
        revoked BIGINT NOT NULL
    )",
    "CREATE INDEX login_session_of_tenant ON login_session (tenant_id, id)",
    "CREATE INDEX login_session_of_person ON login_session (person_id)",
    "CREATE TABLE refresh_token (
        secret TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenant (name),
        session_id TEXT NOT NULL REFERENCES login_session (id),
        created BIGINT NOT NULL,
        used BIGINT NOT NULL
    )",
    "CREATE INDEX refresh_token_of_session ON refresh_token (session_id)",
]];

/// A time that never comes.
pub(crate) const NEVER: i64 = i64::MAX;

/// `expires` as a time that there may be.
pub(crate) fn ends(expires: i64) -> Option<i64> {
    (expires != NEVER).then_some(expires)
}

/// `since` as a time that may have come.
pub(crate) fn came(since: i64) -> Option<i64> {
    (since != 0).then_some(since)
}

pub(crate) fn words<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" ")
}

/// Reads columns of `row`.
pub(crate) struct Columns<'a>(pub(crate) &'a AnyRow);

impl Columns<'_> {
    pub(crate) fn text(&self, name: &str) -> Result<String, IdentityError> {
        Ok(self.0.try_get(name)?)
    }

    pub(crate) fn number(&self, name: &str) -> Result<i64, IdentityError> {
        Ok(self.0.try_get(name)?)
    }

    pub(crate) fn id(&self, name: &str) -> Result<Uuid, IdentityError> {
        parsed(&self.text(name)?)
    }

    pub(crate) fn tenant(&self) -> Result<TenantName, IdentityError> {
        parsed(&self.text("tenant_id")?)
    }

    pub(crate) fn trust(&self) -> Result<TrustLevel, IdentityError> {
        parsed(&self.text("trust")?)
    }

    pub(crate) fn scopes(&self) -> Result<Vec<Scope>, IdentityError> {
        self.text("scopes")?.split_whitespace().map(parsed).collect()
    }

    pub(crate) fn names(&self, column: &str) -> Result<BTreeSet<Name>, IdentityError> {
        self.text(column)?.split_whitespace().map(parsed).collect()
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, IdentityError> {
    text.parse().map_err(|error: T::Err| IdentityError::Damaged(error.to_string()))
}
