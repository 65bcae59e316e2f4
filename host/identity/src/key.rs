//! API keys: for programs, with scopes and an end.

use std::{collections::BTreeSet, time::Duration};

use sqlx::any::AnyRow;
use uuid::Uuid;
use witan_system::{Name, Scope, TenantName, TrustLevel};

use crate::{
    Directory, Event, IdentityError, Page, Secret, What,
    directory::named,
    now,
    page::List,
    seconds,
    secret::{self, KEY},
    tables::{Columns, NEVER, came, ends, words},
};

/// The most scopes and roles of a key.
const MOST: usize = 64;

/// What a key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is.
    pub tenant: TenantName,
    /// What its owner calls it.
    pub name: String,
    /// What it may ask for.
    pub scopes: Vec<Scope>,
    /// What policies know it as.
    pub roles: BTreeSet<Name>,
    /// How far it is trusted.
    pub trust: TrustLevel,
    /// How long it is good; for good without.
    pub time: Option<Duration>,
}

/// A key as it is listed: never its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: TenantName,
    /// What its owner calls it.
    pub name: String,
    /// How its secret begins.
    pub hint: String,
    /// What it may ask for.
    pub scopes: Vec<Scope>,
    /// What policies know it as.
    pub roles: BTreeSet<Name>,
    /// How far it is trusted.
    pub trust: TrustLevel,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// When it was revoked, in seconds since 1970.
    pub revoked: Option<i64>,
    /// The key that this one takes the place of.
    pub replaces: Option<Uuid>,
}

impl Key {
    /// Who its holder is, in policies and records.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("key/{}", self.id)
    }

    /// Whether it is good now.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| expires > now())
    }
}

const COLUMNS: &str = "api_key.id, api_key.tenant_id, api_key.name, api_key.hint, api_key.scopes, api_key.roles, \
                       api_key.trust, api_key.created, api_key.created_by, api_key.expires, api_key.revoked, \
                       api_key.replaced";

fn key(row: &AnyRow) -> Result<Key, IdentityError> {
    let columns = Columns(row);
    let replaced = columns.text("replaced")?;
    Ok(Key {
        id: columns.id("id")?,
        tenant: columns.tenant()?,
        name: columns.text("name")?,
        hint: columns.text("hint")?,
        scopes: columns.scopes()?,
        roles: columns.names("roles")?,
        trust: columns.trust()?,
        created: columns.number("created")?,
        created_by: columns.text("created_by")?,
        expires: ends(columns.number("expires")?),
        revoked: came(columns.number("revoked")?),
        replaces: if replaced.is_empty() { None } else { Some(columns.id("replaced")?) },
    })
}

impl Directory {
    /// Makes a key, and gives its secret, which is not kept and cannot be shown again.
    ///
    /// # Errors
    /// When there is no such tenant, the name is none, no record can be kept, or the database fails.
    pub async fn create_key(&self, new: &NewKey, by: &str) -> Result<(Key, Secret), IdentityError> {
        self.recorded()?;
        if !self.is_tenant(&new.tenant).await? {
            return Err(IdentityError::NoTenant(new.tenant.clone()));
        }
        let expires = new.time.map_or(NEVER, |time| now().saturating_add(seconds(time)));
        let key = Key {
            id: Uuid::now_v7(),
            tenant: new.tenant.clone(),
            name: named(&new.name)?.to_owned(),
            hint: String::new(),
            scopes: new.scopes.iter().take(MOST).cloned().collect(),
            roles: new.roles.iter().take(MOST).cloned().collect(),
            trust: new.trust,
            created: now(),
            created_by: by.to_owned(),
            expires: ends(expires),
            revoked: None,
            replaces: None,
        };
        let mut writer = self.database.write().await?;
        let (key, secret) = insert(&mut writer, key).await?;
        writer.commit().await?;
        self.changed(
            Event::new(What::KeyCreated)
                .of(&key.tenant)
                .by(by)
                .on(key.id)
                .about(key.principal())
                .because(words(&key.scopes)),
        )?;
        Ok((key, secret))
    }

    /// A page of the keys of `tenant`, or of every tenant, the newest first; and whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys(&self, tenant: Option<&TenantName>, page: Page) -> Result<(Vec<Key>, bool), IdentityError> {
        let list = List { select: &format!("SELECT {COLUMNS} FROM api_key"), table: "api_key", only: None };
        page.read(&list, tenant, &self.database, key).await
    }

    /// The key `id` of `tenant`, or of any.
    ///
    /// # Errors
    /// When there is no such key, or the database fails.
    pub async fn key(&self, tenant: Option<&TenantName>, id: Uuid) -> Result<Key, IdentityError> {
        let statement = format!("SELECT {COLUMNS} FROM api_key WHERE id = $1 AND ($2 = '' OR tenant_id = $2)");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id.to_string())
            .bind(tenant.map_or("", TenantName::as_str))
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(key).transpose()?.ok_or(IdentityError::NoKey(id))
    }

    /// Ends the key `id` of `tenant`, or of any, from the next request on.
    ///
    /// # Errors
    /// When there is no such key, or the database fails.
    pub async fn revoke_key(&self, tenant: Option<&TenantName>, id: Uuid, by: &str) -> Result<Key, IdentityError> {
        let mut revoked = self.key(tenant, id).await?;
        let mut writer = self.database.write().await?;
        sqlx::query("UPDATE api_key SET revoked = $1 WHERE id = $2 AND revoked = 0")
            .bind(now())
            .bind(id.to_string())
            .execute(&mut *writer)
            .await?;
        writer.commit().await?;
        revoked.revoked.get_or_insert(now());
        self.changed(Event::new(What::KeyRevoked).of(&revoked.tenant).by(by).on(id).about(revoked.principal()))?;
        Ok(revoked)
    }

    /// Makes a key that takes the place of the key `id` of `tenant`, or of any. The former is good for `overlap` more, or
    /// until its own end; the new one is good for as long as the former was to be.
    ///
    /// # Errors
    /// When there is no such key, it has ended, no record can be kept, or the database fails.
    pub async fn rotate_key(
        &self,
        tenant: Option<&TenantName>,
        id: Uuid,
        overlap: Duration,
        by: &str,
    ) -> Result<(Key, Secret), IdentityError> {
        self.recorded()?;
        let former = self.key(tenant, id).await?;
        if !former.is_good() {
            return Err(IdentityError::KeyEnded(id));
        }
        let (expires, about) = (former.expires, former.principal());
        let time = expires.map(|expires| expires.saturating_sub(former.created));
        let next = Key {
            id: Uuid::now_v7(),
            created: now(),
            created_by: by.to_owned(),
            expires: time.map(|time| now().saturating_add(time)),
            replaces: Some(id),
            ..former
        };
        let mut writer = self.database.write().await?;
        let ends = now().saturating_add(seconds(overlap));
        let statement = "UPDATE api_key SET expires = CASE WHEN expires > $1 THEN $1 ELSE expires END WHERE id = $2 AND \
                         revoked = 0 AND expires > $3";
        let shortened =
            sqlx::query(statement).bind(ends).bind(id.to_string()).bind(now()).execute(&mut *writer).await?;
        if shortened.rows_affected() == 0 {
            // Since it was looked at, somebody has revoked it, who does not want another in its place.
            return Err(IdentityError::KeyEnded(id));
        }
        let (key, secret) = insert(&mut writer, next).await?;
        writer.commit().await?;
        let detail = if expires.is_some_and(|expires| expires <= ends) {
            "it ends at its own time"
        } else {
            "it ends after the overlap"
        };
        let event = Event::new(What::KeyRotated).of(&key.tenant).by(by).on(id).about(about);
        self.changed(event.because(format!("{detail}; now {}", key.id)))?;
        Ok((key, secret))
    }

    /// The key with this secret, if it is good. Found by its hash, so that how long it takes says nothing about the secret.
    pub(crate) async fn key_with(&self, text: &str) -> Result<Option<Key>, IdentityError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM api_key JOIN tenant ON tenant.name = api_key.tenant_id WHERE api_key.secret = $1 AND \
             api_key.revoked = 0 AND api_key.expires > $2 AND tenant.disabled = 0"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(secret::hash(text))
            .bind(now())
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(key).transpose()
    }
}

async fn insert(writer: &mut witan_database::Writer, mut key: Key) -> Result<(Key, Secret), IdentityError> {
    let secret = Secret::generate(KEY)?;
    key.hint = secret.hint(KEY);
    sqlx::query(
        "INSERT INTO api_key (id, tenant_id, name, hint, secret, scopes, roles, trust, created, created_by, expires, \
         revoked, replaced) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12)",
    )
    .bind(key.id.to_string())
    .bind(key.tenant.as_str())
    .bind(&key.name)
    .bind(&key.hint)
    .bind(secret.hash())
    .bind(words(&key.scopes))
    .bind(words(&key.roles))
    .bind(key.trust.name())
    .bind(key.created)
    .bind(&key.created_by)
    .bind(key.expires.unwrap_or(NEVER))
    .bind(key.replaces.map(|id| id.to_string()).unwrap_or_default())
    .execute(&mut **writer)
    .await?;
    Ok((key, secret))
}
