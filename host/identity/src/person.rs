//! People, as issuers vouch for them.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use uuid::Uuid;
use witan_system::{Name, TenantName};

use crate::{
    Directory, Event, IdentityError, Page, What,
    directory::shortened,
    now,
    page::List,
    tables::{Columns, came, words},
};

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their id.
    pub id: Uuid,
    /// Whose they are.
    pub tenant: TenantName,
    /// Which issuer vouches for them, by its name in `system.toml`.
    pub issuer: String,
    /// Who they are there.
    pub subject: String,
    /// What they are called there.
    pub name: String,
    /// Their address there.
    pub email: String,
    /// Roles that were given to them here, beside those of their claims.
    pub roles: BTreeSet<Name>,
    /// When they logged in first, in seconds since 1970.
    pub created: i64,
    /// Since when they are not let in, in seconds since 1970.
    pub disabled: Option<i64>,
}

impl Person {
    /// Who they are in policies and records.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{}/{}", self.issuer, self.subject)
    }
}

/// What an issuer says of somebody who logs in.
#[derive(Debug, Clone)]
pub(crate) struct Vouched {
    pub(crate) tenant: TenantName,
    pub(crate) issuer: Name,
    pub(crate) subject: String,
    pub(crate) name: String,
    pub(crate) email: String,
}

const COLUMNS: &str = "id, tenant_id, issuer, subject, name, email, roles, created, disabled";

fn person(row: &AnyRow) -> Result<Person, IdentityError> {
    let columns = Columns(row);
    Ok(Person {
        id: columns.id("id")?,
        tenant: columns.tenant()?,
        issuer: columns.text("issuer")?,
        subject: columns.text("subject")?,
        name: columns.text("name")?,
        email: columns.text("email")?,
        roles: columns.names("roles")?,
        created: columns.number("created")?,
        disabled: came(columns.number("disabled")?),
    })
}

impl Directory {
    /// A page of the people of `tenant`, or of every tenant, the newest first; and whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn people(&self, tenant: Option<&TenantName>, page: Page) -> Result<(Vec<Person>, bool), IdentityError> {
        let list = List { select: &format!("SELECT {COLUMNS} FROM person"), table: "person", only: None };
        page.read(&list, tenant, &self.database, person).await
    }

    /// Whom `issuer` calls `subject`, if they have logged in here.
    pub(crate) async fn person_of(&self, issuer: &Name, subject: &str) -> Result<Option<Person>, IdentityError> {
        let statement = format!("SELECT {COLUMNS} FROM person WHERE issuer = $1 AND subject = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(issuer.as_str())
            .bind(subject)
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(person).transpose()
    }

    /// The person `id`.
    pub(crate) async fn person(&self, id: Uuid) -> Result<Person, IdentityError> {
        let statement = format!("SELECT {COLUMNS} FROM person WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id.to_string())
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(person).transpose()?.ok_or(IdentityError::NoPerson(id))
    }

    /// Whom `vouched` is about, as it is now. Somebody whose issuer moves them to another tenant has another tenant's
    /// sessions and keys no more.
    pub(crate) async fn vouched(&self, vouched: &Vouched) -> Result<Person, IdentityError> {
        let mut writer = self.database.write().await?;
        sqlx::query(
            "INSERT INTO person (id, tenant_id, issuer, subject, name, email, roles, created, disabled) VALUES ($1, $2, \
             $3, $4, $5, $6, '', $7, 0) ON CONFLICT (issuer, subject) DO UPDATE SET tenant_id = $2, name = $5, email = $6",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(vouched.tenant.as_str())
        .bind(vouched.issuer.as_str())
        .bind(&vouched.subject)
        .bind(shortened(&vouched.name))
        .bind(shortened(&vouched.email))
        .bind(now())
        .execute(&mut *writer)
        .await?;
        sqlx::query(
            "UPDATE login_session SET revoked = $1 WHERE revoked = 0 AND tenant_id <> $2 AND person_id IN (SELECT id FROM \
             person WHERE issuer = $3 AND subject = $4)",
        )
        .bind(now())
        .bind(vouched.tenant.as_str())
        .bind(vouched.issuer.as_str())
        .bind(&vouched.subject)
        .execute(&mut *writer)
        .await?;
        writer.commit().await?;
        let found = self.person_of(&vouched.issuer, &vouched.subject).await?;
        found.ok_or_else(|| IdentityError::Damaged("somebody who was just written is not there".to_owned()))
    }

    /// Lets the person `id` in no more from the next request on, or lets them in again.
    ///
    /// # Errors
    /// When there is nobody of this id, or the database fails.
    pub async fn disable_person(&self, id: Uuid, disabled: bool, by: &str) -> Result<(), IdentityError> {
        if !disabled {
            self.recorded()?;
        }
        let mut writer = self.database.write().await?;
        sqlx::query("UPDATE person SET disabled = $1 WHERE id = $2")
            .bind(if disabled { now() } else { 0 })
            .bind(id.to_string())
            .execute(&mut *writer)
            .await?;
        writer.commit().await?;
        let detail = if disabled { "disabled" } else { "enabled" };
        self.person_changed(id, by, detail).await
    }

    /// Gives the person `id` these roles beside those of their claims, in place of those that they were given before.
    ///
    /// # Errors
    /// When there is nobody of this id, or the database fails.
    pub async fn give_roles(&self, id: Uuid, roles: &BTreeSet<Name>, by: &str) -> Result<(), IdentityError> {
        self.recorded()?;
        let mut writer = self.database.write().await?;
        sqlx::query("UPDATE person SET roles = $1 WHERE id = $2")
            .bind(words(roles))
            .bind(id.to_string())
            .execute(&mut *writer)
            .await?;
        writer.commit().await?;
        self.person_changed(id, by, &format!("roles: {}", words(roles))).await
    }

    async fn person_changed(&self, id: Uuid, by: &str, detail: &str) -> Result<(), IdentityError> {
        let person = self.person(id).await?;
        self.changed(
            Event::new(What::UserChanged).of(&person.tenant).by(by).on(id).about(person.principal()).because(detail),
        )
    }
}
