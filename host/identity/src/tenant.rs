//! Tenants: groups of people, keys and data that never see one another.

use serde::Serialize;
use witan_system::TenantName;

use crate::{
    Directory, Event, IdentityError, What, now,
    tables::{Columns, came},
};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// When it was made, in seconds since 1970; 0 for `local`.
    pub created: i64,
    /// Since when nobody of it is let in, in seconds since 1970.
    pub disabled: Option<i64>,
}

impl Directory {
    /// Makes a tenant.
    ///
    /// # Errors
    /// When there is one of this name, no record can be kept, or the database fails.
    pub async fn create_tenant(&self, name: &TenantName, by: &str) -> Result<(), IdentityError> {
        self.recorded()?;
        let mut writer = self.database.write().await?;
        let made = sqlx::query(
            "INSERT INTO tenant (name, created, disabled) VALUES ($1, $2, 0) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(now())
        .execute(&mut *writer)
        .await?;
        writer.commit().await?;
        if made.rows_affected() == 0 {
            return Err(IdentityError::TenantExists(name.clone()));
        }
        self.changed(Event::new(What::TenantCreated).of(name).by(by).on(name))
    }

    /// Every tenant, in the order of names.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, IdentityError> {
        let rows = sqlx::query("SELECT name AS tenant_id, created, disabled FROM tenant ORDER BY name")
            .fetch_all(self.database.pool())
            .await?;
        let tenant = |row| {
            let columns = Columns(row);
            let disabled = came(columns.number("disabled")?);
            Ok(Tenant { name: columns.tenant()?, created: columns.number("created")?, disabled })
        };
        rows.iter().map(tenant).collect()
    }

    /// Lets nobody of `name` in from the next request on, or lets them in again.
    ///
    /// # Errors
    /// When there is no such tenant, it is `local`, or the database fails.
    pub async fn disable_tenant(&self, name: &TenantName, disabled: bool, by: &str) -> Result<(), IdentityError> {
        if name.as_str() == "local" {
            return Err(IdentityError::LocalTenant);
        }
        if !disabled {
            self.recorded()?;
        }
        let mut writer = self.database.write().await?;
        let found = sqlx::query("UPDATE tenant SET disabled = $1 WHERE name = $2")
            .bind(if disabled { now() } else { 0 })
            .bind(name.as_str())
            .execute(&mut *writer)
            .await?;
        writer.commit().await?;
        if found.rows_affected() == 0 {
            return Err(IdentityError::NoTenant(name.clone()));
        }
        let detail = if disabled { "disabled" } else { "enabled" };
        self.changed(Event::new(What::TenantChanged).of(name).by(by).on(name).because(detail))
    }

    /// Whether there is a tenant `name` whose people are let in.
    pub(crate) async fn is_tenant(&self, name: &TenantName) -> Result<bool, IdentityError> {
        let row = sqlx::query("SELECT name FROM tenant WHERE name = $1 AND disabled = 0")
            .bind(name.as_str())
            .fetch_optional(self.database.pool())
            .await?;
        Ok(row.is_some())
    }
}
