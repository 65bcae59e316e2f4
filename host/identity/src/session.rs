//! Sessions of people who logged in, and the tokens that stand for them.
//!
//! A refresh token is good once: whoever trades it gets the next. If one comes a second time, somebody has a copy, and
//! nobody can tell who; so the session ends for both.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use sqlx::any::AnyRow;
use uuid::Uuid;
use witan_system::{Auth, Name, TenantName};

use crate::{
    AuthError, Directory, Event, IdentityError, Page, Person, Secret, What,
    directory::shortened,
    now,
    page::List,
    seconds,
    secret::{self, REFRESH},
    tables::{Columns, came, words},
};

/// A session of somebody who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Whose tenant.
    pub tenant: TenantName,
    /// Whose it is, by their id.
    pub person: Uuid,
    /// Who they are in policies and records.
    pub principal: String,
    /// Roles that their claims gave when they logged in.
    pub(crate) roles: BTreeSet<Name>,
    /// With what they logged in, as that says of itself.
    pub agent: String,
    /// From where they logged in.
    pub address: String,
    /// When they logged in, in seconds since 1970.
    pub created: i64,
    /// When it was refreshed last, in seconds since 1970.
    pub used: i64,
    /// When it ends unless it is refreshed, in seconds since 1970.
    pub idle: i64,
    /// When it ends at last, in seconds since 1970.
    pub expires: i64,
    /// When it was revoked, in seconds since 1970.
    pub revoked: Option<i64>,
}

impl Session {
    /// Whether it is good now.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.revoked.is_none() && self.idle.min(self.expires) > now()
    }
}

/// What somebody who logged in is given.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// What requests are sent with.
    pub access: Secret,
    /// What is traded for the next two.
    pub refresh: Secret,
    /// How long the access token is good.
    pub time: Duration,
    /// The session.
    pub session: Uuid,
}

/// From where somebody logs in, and with what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    pub(crate) agent: String,
}

const COLUMNS: &str = "login_session.id, login_session.tenant_id, login_session.person_id, login_session.roles, \
                       login_session.agent, login_session.address, login_session.created, login_session.used, \
                       login_session.idle, login_session.expires, login_session.revoked, person.issuer, person.subject";

const FROM: &str = "FROM login_session JOIN person ON person.id = login_session.person_id";

fn session(row: &AnyRow) -> Result<Session, IdentityError> {
    let columns = Columns(row);
    Ok(Session {
        id: columns.id("id")?,
        tenant: columns.tenant()?,
        person: columns.id("person_id")?,
        principal: format!("{}/{}", columns.text("issuer")?, columns.text("subject")?),
        roles: columns.names("roles")?,
        agent: columns.text("agent")?,
        address: columns.text("address")?,
        created: columns.number("created")?,
        used: columns.number("used")?,
        idle: columns.number("idle")?,
        expires: columns.number("expires")?,
        revoked: came(columns.number("revoked")?),
    })
}

impl Directory {
    /// Begins a session of `person`, and gives its first refresh token.
    pub(crate) async fn begin_session(
        &self,
        person: &Person,
        roles: &BTreeSet<Name>,
        origin: &Origin,
        settings: &Auth,
    ) -> Result<(Uuid, Secret), IdentityError> {
        self.recorded()?;
        let (id, secret) = (Uuid::now_v7(), Secret::generate(REFRESH)?);
        let mut writer = self.database.write().await?;
        self.forget(&mut writer).await?;
        sqlx::query(
            "INSERT INTO login_session (id, tenant_id, person_id, roles, agent, address, created, used, idle, expires, \
             revoked) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, 0)",
        )
        .bind(id.to_string())
        .bind(person.tenant.as_str())
        .bind(person.id.to_string())
        .bind(words(roles))
        .bind(shortened(&origin.agent))
        .bind(origin.address.map(|address| address.to_string()).unwrap_or_default())
        .bind(now())
        .bind(now().saturating_add(seconds(settings.idle_time)))
        .bind(now().saturating_add(seconds(settings.session_time)))
        .execute(&mut *writer)
        .await?;
        insert_refresh(&mut writer, &secret, &person.tenant, id).await?;
        writer.commit().await?;
        self.changed(Event::new(What::LoggedIn).of(&person.tenant).by(person.principal()).on(id).from(origin.address))?;
        Ok((id, secret))
    }

    /// Trades the refresh token `text` for the next one. One that was traded before ends its session.
    pub(crate) async fn refresh(
        &self,
        text: &str,
        address: Option<IpAddr>,
        settings: &Auth,
    ) -> Result<(Session, Secret), AuthError> {
        let hash = secret::hash(text);
        let mut writer = self.database.write().await.map_err(IdentityError::from)?;
        let statement = format!(
            "SELECT {COLUMNS}, refresh_token.used AS spent {FROM} JOIN refresh_token ON refresh_token.session_id = \
             login_session.id JOIN tenant ON tenant.name = login_session.tenant_id WHERE refresh_token.secret = $1 AND \
             person.disabled = 0 AND tenant.disabled = 0"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(&hash).fetch_optional(&mut *writer).await;
        let row =
            row.map_err(IdentityError::from)?.ok_or_else(|| AuthError::refused("the refresh token is unknown"))?;
        let (found, spent) = (session(&row)?, Columns(&row).number("spent")?);
        if !found.is_good() {
            return Err(AuthError::refused("the session has ended"));
        }
        if spent != 0 {
            end(&mut writer, found.id).await?;
            writer.commit().await.map_err(IdentityError::from)?;
            let detail = "a refresh token came a second time: somebody has a copy, and the session was ended";
            let event = Event::new(What::RefreshReused).of(&found.tenant).by(&found.principal).on(found.id);
            self.changed(event.from(address).because(detail))?;
            return Err(AuthError::refused(detail));
        }
        let next = Secret::generate(REFRESH)?;
        sqlx::query("UPDATE refresh_token SET used = $1 WHERE secret = $2")
            .bind(now())
            .bind(&hash)
            .execute(&mut *writer)
            .await
            .map_err(IdentityError::from)?;
        // Those that were traded stay for as long as the session: whoever shows one of them has a copy, however old.
        sqlx::query("UPDATE login_session SET used = $1, idle = $2 WHERE id = $3")
            .bind(now())
            .bind(now().saturating_add(seconds(settings.idle_time)))
            .bind(found.id.to_string())
            .execute(&mut *writer)
            .await
            .map_err(IdentityError::from)?;
        insert_refresh(&mut writer, &next, &found.tenant, found.id).await?;
        writer.commit().await.map_err(IdentityError::from)?;
        let event = Event::new(What::SessionRefreshed).of(&found.tenant).by(&found.principal).on(found.id);
        self.tell(&event.from(address));
        Ok((found, next))
    }

    /// The session `id` with whose it is, if both are good.
    pub(crate) async fn good_session(&self, id: Uuid) -> Result<Option<(Session, Person)>, IdentityError> {
        let statement = format!(
            "SELECT {COLUMNS} {FROM} JOIN tenant ON tenant.name = login_session.tenant_id WHERE login_session.id = $1 AND \
             person.disabled = 0 AND tenant.disabled = 0 AND person.tenant_id = login_session.tenant_id"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id.to_string())
            .fetch_optional(self.database.pool())
            .await?;
        let Some(found) = row.as_ref().map(session).transpose()?.filter(Session::is_good) else { return Ok(None) };
        let person = self.person(found.person).await?;
        Ok(Some((found, person)))
    }

    /// A page of the sessions of `tenant`, or of every tenant, and of `principal` alone where one is named, the newest
    /// first; and whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sessions(
        &self,
        tenant: Option<&TenantName>,
        principal: Option<&str>,
        page: Page,
    ) -> Result<(Vec<Session>, bool), IdentityError> {
        let only = principal.map(|principal| ("person.issuer || '/' || person.subject", principal));
        let list = List { select: &format!("SELECT {COLUMNS} {FROM}"), table: "login_session", only };
        page.read(&list, tenant, &self.database, session).await
    }

    /// Ends the session `id` of `tenant`, or of any, and of `principal` where one is named, from the next request on.
    ///
    /// # Errors
    /// When there is no such session, or the database fails.
    pub async fn revoke_session(
        &self,
        tenant: Option<&TenantName>,
        principal: Option<&str>,
        id: Uuid,
        by: &str,
    ) -> Result<Session, IdentityError> {
        let statement = format!("SELECT {COLUMNS} {FROM} WHERE login_session.id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id.to_string())
            .fetch_optional(self.database.pool())
            .await?;
        let found = row.as_ref().map(session).transpose()?.filter(|found| {
            tenant.is_none_or(|tenant| *tenant == found.tenant) && principal.is_none_or(|asks| asks == found.principal)
        });
        let mut found = found.ok_or(IdentityError::NoSession(id))?;
        let mut writer = self.database.write().await?;
        end(&mut writer, id).await?;
        writer.commit().await?;
        found.revoked.get_or_insert(now());
        self.changed(Event::new(What::SessionRevoked).of(&found.tenant).by(by).on(id).about(&found.principal))?;
        Ok(found)
    }

    /// Removes sessions that ended a while ago, so that the tables do not grow for ever.
    async fn forget(&self, writer: &mut witan_database::Writer) -> Result<(), IdentityError> {
        let long_ago = now().saturating_sub(KEPT);
        let ended = "(expires < $1 OR idle < $1 OR (revoked > 0 AND revoked < $1))";
        let tokens =
            format!("DELETE FROM refresh_token WHERE session_id IN (SELECT id FROM login_session WHERE {ended})");
        let sessions = format!("DELETE FROM login_session WHERE {ended}");
        for statement in [tokens, sessions] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).bind(long_ago).execute(&mut **writer).await?;
        }
        Ok(())
    }
}

/// How long a session that has ended is kept to be seen, in seconds: 30 days.
const KEPT: i64 = 30 * 24 * 3_600;

async fn end(writer: &mut witan_database::Writer, id: Uuid) -> Result<(), IdentityError> {
    sqlx::query("UPDATE login_session SET revoked = $1 WHERE id = $2 AND revoked = 0")
        .bind(now())
        .bind(id.to_string())
        .execute(&mut **writer)
        .await?;
    Ok(())
}

async fn insert_refresh(
    writer: &mut witan_database::Writer,
    secret: &Secret,
    tenant: &TenantName,
    session: Uuid,
) -> Result<(), IdentityError> {
    sqlx::query("INSERT INTO refresh_token (secret, tenant_id, session_id, created, used) VALUES ($1, $2, $3, $4, 0)")
        .bind(secret.hash())
        .bind(tenant.as_str())
        .bind(session.to_string())
        .bind(now())
        .execute(&mut **writer)
        .await?;
    Ok(())
}
