//! The policies of a host: loaded, numbered, kept, and put back.
//!
//! A version is what was loaded once, with all its texts, so that a rollback needs no file. A rollback stays across
//! restarts, until somebody loads the files again.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;
use witan_database::{Database, DatabaseError, Writer};

use crate::{
    Active, Authorizer, BuiltIn, Change, ChangeKind, Fault, Faults, Principal, Set, SourceError, Sources,
    authorizer::{Shadow, now_ms},
};

/// Versions that are kept; of more, the oldest go.
pub const MOST_VERSIONS: i64 = 1_000;

const PART: &str = "policy";
const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE policy_version (
        version BIGINT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        sources TEXT NOT NULL,
        origin TEXT NOT NULL,
        loaded_by TEXT NOT NULL,
        loaded_at_ms BIGINT NOT NULL
    )",
    // One row: which version decides, and whether somebody put it back.
    "CREATE TABLE policy_active (
        id BIGINT NOT NULL PRIMARY KEY,
        version BIGINT NOT NULL,
        pinned BIGINT NOT NULL
    )",
]];

/// Where policies come from: `[host.policy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The folder of `.cedar` files; without it, the host's own policies hold.
    pub folder: Option<PathBuf>,
    /// The file of entities.
    pub entities: Option<PathBuf>,
    /// The folder of a candidate.
    pub shadow: Option<PathBuf>,
    /// Whether clients authenticate, so that the host's own policies are those of roles.
    pub authenticated: bool,
}

/// A version of the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// What names its texts.
    pub digest: String,
    /// Where it came from.
    pub origin: String,
    /// Who loaded it.
    pub loaded_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub loaded_at_ms: u64,
    /// Whether it decides.
    pub active: bool,
    /// Whether somebody put it back, so that the files are not read when the host starts.
    pub pinned: bool,
    /// Its texts; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
    /// What is no fault in it, and yet hardly meant; where it was just loaded or put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Fault>,
}

/// Policies that might be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Candidate {
    /// A version that is kept.
    Version(u64),
    /// These texts.
    Sources(Sources),
}

/// Why policies could not be loaded, kept or found.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The files.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What is in them.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The database.
    #[error("the versions of the policies cannot be kept")]
    Database(#[from] DatabaseError),
    /// The database.
    #[error("the versions of the policies cannot be kept")]
    Sql(#[from] sqlx::Error),
    /// What the database holds is not what was put there.
    #[error("version {0} in the database cannot be read; load the files again with `witan policy reload`")]
    Damaged(u64),
    /// There is no such version.
    #[error("there is no version {0}; `witan policy list` shows those that are kept")]
    NoVersion(u64),
    /// There is nothing to go back to.
    #[error("no version is kept before the one that decides")]
    NothingBefore,
    /// Checking them was broken off.
    #[error("checking the policies was broken off")]
    BrokenOff,
}

/// The policies of a host. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    database: Database,
    authorizer: Arc<Authorizer>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Policies {
    /// Loads the policies that `settings` name, or the version that somebody put back, and keeps versions in `database`.
    ///
    /// # Errors
    /// When they are at fault: a host whose policies do not hold does not start.
    pub async fn open(settings: Settings, database: Database) -> Result<Self, PolicyError> {
        database.migrate(PART, STEPS).await?;
        let (sources, origin) = settings.sources()?;
        let pinned = active_row(&database).await?.filter(|active| active.pinned);
        let (set, version) = match pinned {
            Some(active) => {
                let sources = sources_of(&database, active.version).await?;
                let origin = settings.folder.as_deref().map(|folder| folder.display().to_string());
                tracing::warn!(
                    version = active.version,
                    folder = origin,
                    "policies were rolled back; the files are not read until `witan policy reload`"
                );
                (checked(sources).await?, active.version)
            }
            None => {
                let set = checked(sources.clone()).await?;
                let version = keep(&database, &sources, set.digest(), &origin, "the start of the host").await?;
                (set, version)
            }
        };
        log_warnings(&set);
        let authorizer = Authorizer::new(set, version);
        if let Some(folder) = &settings.shadow {
            let set = checked(Sources::read(folder, settings.entities.as_deref())?).await?;
            authorizer.replace_shadow(Some(Shadow::new(set, folder.display().to_string())));
        }
        let changing = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { settings, database, authorizer, changing })))
    }

    /// What decides.
    #[must_use]
    pub fn authorizer(&self) -> &Arc<Authorizer> {
        &self.0.authorizer
    }

    /// Loads the policies again from where they are kept. A set that is at fault changes nothing. The same texts keep
    /// their version.
    ///
    /// # Errors
    /// When they cannot be read, are at fault, or cannot be kept.
    pub async fn reload(&self, by: &Principal) -> Result<VersionView, PolicyError> {
        let _one = self.0.changing.lock().await;
        let settings = self.0.settings.clone();
        let read = tokio::task::spawn_blocking(move || settings.sources()).await;
        let (sources, origin) = read.map_err(|_| PolicyError::BrokenOff)??;
        let set = checked(sources.clone()).await?;
        let version = keep(&self.0.database, &sources, set.digest(), &origin, &by.to_string()).await?;
        self.begin(set, version, ChangeKind::Reloaded, by).await
    }

    /// Puts version `to` back, or the one before the one that decides.
    ///
    /// # Errors
    /// When there is none, or it does not hold any more.
    pub async fn rollback(&self, to: Option<u64>, by: &Principal) -> Result<VersionView, PolicyError> {
        let _one = self.0.changing.lock().await;
        let version = match to {
            Some(version) => version,
            None => self.before(self.0.authorizer.active().version).await?,
        };
        let set = checked(sources_of(&self.0.database, version).await?).await?;
        let mut writer = self.0.database.write().await?;
        activate(&mut writer, version, true).await?;
        writer.commit().await?;
        self.begin(set, version, ChangeKind::RolledBack, by).await
    }

    /// The versions that are kept, newest first, from the one before `after`; and whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn versions(&self, most: usize, after: Option<u64>) -> Result<(Vec<VersionView>, bool), PolicyError> {
        let before = after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let rows = sqlx::query(
            "SELECT version, digest, origin, loaded_by, loaded_at_ms FROM policy_version
             WHERE version < $1 ORDER BY version DESC LIMIT $2",
        );
        let rows = rows.bind(before).bind(limit).fetch_all(self.0.database.pool()).await?;
        let active = active_row(&self.0.database).await?;
        let mut versions: Vec<VersionView> =
            rows.iter().map(|row| view(row, active)).collect::<Result<_, sqlx::Error>>()?;
        let more = versions.len() > most;
        versions.truncate(most);
        Ok((versions, more))
    }

    /// A version with its texts.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub async fn version(&self, version: u64) -> Result<VersionView, PolicyError> {
        let number = i64::try_from(version).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "SELECT version, digest, origin, loaded_by, loaded_at_ms FROM policy_version WHERE version = $1",
        );
        let row = row.bind(number).fetch_optional(self.0.database.pool()).await?;
        let row = row.ok_or(PolicyError::NoVersion(version))?;
        let view = view(&row, active_row(&self.0.database).await?)?;
        Ok(VersionView { sources: Some(sources_of(&self.0.database, version).await?), ..view })
    }

    /// Asks `candidate` whatever the active policies are asked, from now on and until the host ends.
    ///
    /// # Errors
    /// When it is at fault, or there is no such version.
    pub async fn begin_shadow(&self, candidate: Candidate, by: &Principal) -> Result<(), PolicyError> {
        let _one = self.0.changing.lock().await;
        let origin = match &candidate {
            Candidate::Version(version) => format!("version {version}"),
            Candidate::Sources(_) => format!("texts that {by} sent"),
        };
        let set = self.check(candidate).await?;
        let digest = set.digest().to_owned();
        self.0.authorizer.replace_shadow(Some(Shadow::new(set, origin)));
        self.tell(ChangeKind::ShadowBegun, digest, by);
        Ok(())
    }

    /// Asks no candidate any more. Whether there was one.
    pub async fn end_shadow(&self, by: &Principal) -> bool {
        let _one = self.0.changing.lock().await;
        let Some(shadow) = self.0.authorizer.shadow() else { return false };
        self.0.authorizer.replace_shadow(None);
        self.tell(ChangeKind::ShadowEnded, shadow.digest().to_owned(), by);
        true
    }

    /// Checks `candidate`, and changes nothing.
    ///
    /// # Errors
    /// When it is at fault, or there is no such version.
    pub async fn check(&self, candidate: Candidate) -> Result<Set, PolicyError> {
        let sources = match candidate {
            Candidate::Version(version) => sources_of(&self.0.database, version).await?,
            Candidate::Sources(sources) => sources,
        };
        checked(sources).await
    }

    async fn before(&self, version: u64) -> Result<u64, PolicyError> {
        let number = i64::try_from(version).unwrap_or(i64::MAX);
        let row = sqlx::query("SELECT version FROM policy_version WHERE version < $1 ORDER BY version DESC LIMIT 1");
        let row = row.bind(number).fetch_optional(self.0.database.pool()).await?;
        let found: i64 = row.ok_or(PolicyError::NothingBefore)?.try_get("version")?;
        u64::try_from(found).map_err(|_| PolicyError::NothingBefore)
    }

    async fn begin(
        &self,
        set: Set,
        version: u64,
        kind: ChangeKind,
        by: &Principal,
    ) -> Result<VersionView, PolicyError> {
        let digest = set.digest().to_owned();
        log_warnings(&set);
        let warnings = set.warnings().to_vec();
        self.0.authorizer.replace(Active { set: Arc::new(set), version });
        self.tell(kind, digest, by);
        let view = self.version(version).await?;
        Ok(VersionView { sources: None, warnings, ..view })
    }

    fn tell(&self, kind: ChangeKind, digest: String, by: &Principal) {
        let version = self.0.authorizer.active().version;
        self.0.authorizer.tell(&Change { kind, version, digest, by: by.clone(), time_ms: now_ms() });
    }
}

impl Settings {
    /// The texts that these settings name, and where they are.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sources(&self) -> Result<(Sources, String), SourceError> {
        match &self.folder {
            Some(folder) => {
                Ok((Sources::read(folder, self.entities.as_deref())?, format!("folder {}", folder.display())))
            }
            None => {
                let own = if self.authenticated { BuiltIn::Roles } else { BuiltIn::Local };
                let name = if self.authenticated { "the host's own roles" } else { "the host's own, for one user" };
                Ok((own.sources(), name.to_owned()))
            }
        }
    }
}

fn log_warnings(set: &Set) {
    for Fault { file, line, message, .. } in set.warnings() {
        tracing::warn!(file, line, "{message}");
    }
}

/// Checks in a thread of its own: thousands of policies take a while.
async fn checked(sources: Sources) -> Result<Set, PolicyError> {
    let checked = tokio::task::spawn_blocking(move || Set::new(&sources)).await;
    Ok(checked.map_err(|_| PolicyError::BrokenOff)??)
}

#[derive(Clone, Copy)]
struct ActiveRow {
    version: u64,
    pinned: bool,
}

async fn active_row(database: &Database) -> Result<Option<ActiveRow>, PolicyError> {
    let row = sqlx::query("SELECT version, pinned FROM policy_active WHERE id = 1");
    let Some(row) = row.fetch_optional(database.pool()).await? else { return Ok(None) };
    let (version, pinned): (i64, i64) = (row.try_get("version")?, row.try_get("pinned")?);
    Ok(u64::try_from(version).ok().map(|version| ActiveRow { version, pinned: pinned != 0 }))
}

fn view(row: &sqlx::any::AnyRow, active: Option<ActiveRow>) -> Result<VersionView, sqlx::Error> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(|number| u64::try_from(number).unwrap_or_default());
    let version = number("version")?;
    let is_active = active.is_some_and(|active| active.version == version);
    Ok(VersionView {
        version,
        digest: row.try_get("digest")?,
        origin: row.try_get("origin")?,
        loaded_by: row.try_get("loaded_by")?,
        loaded_at_ms: number("loaded_at_ms")?,
        active: is_active,
        pinned: is_active && active.is_some_and(|active| active.pinned),
        sources: None,
        warnings: Vec::new(),
    })
}

async fn sources_of(database: &Database, version: u64) -> Result<Sources, PolicyError> {
    let row = sqlx::query("SELECT digest, sources FROM policy_version WHERE version = $1");
    let row = row.bind(i64::try_from(version).unwrap_or(i64::MAX)).fetch_optional(database.pool()).await?;
    let row = row.ok_or(PolicyError::NoVersion(version))?;
    let (digest, text): (String, String) = (row.try_get("digest")?, row.try_get("sources")?);
    let sources: Sources = serde_json::from_str(&text).map_err(|_| PolicyError::Damaged(version))?;
    if sources.digest() == digest { Ok(sources) } else { Err(PolicyError::Damaged(version)) }
}

/// Keeps `sources` as a version that decides: the newest one, if it has the same texts, or else a new one.
async fn keep(
    database: &Database,
    sources: &Sources,
    digest: &str,
    origin: &str,
    by: &str,
) -> Result<u64, PolicyError> {
    let mut writer = database.write().await?;
    let newest = sqlx::query("SELECT version, digest FROM policy_version ORDER BY version DESC LIMIT 1");
    let newest = newest.fetch_optional(&mut *writer).await?;
    let newest: Option<(i64, String)> = match newest {
        Some(row) => Some((row.try_get("version")?, row.try_get("digest")?)),
        None => None,
    };
    let number = match newest {
        Some((version, known)) if known == digest => version,
        newest => {
            let version = newest.map_or(0, |(version, _)| version).saturating_add(1);
            let text = serde_json::to_string(sources).map_err(|_| PolicyError::BrokenOff)?;
            sqlx::query(
                "INSERT INTO policy_version (version, digest, sources, origin, loaded_by, loaded_at_ms)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(version)
            .bind(digest)
            .bind(text)
            .bind(origin)
            .bind(by)
            .bind(i64::try_from(now_ms()).unwrap_or(i64::MAX))
            .execute(&mut *writer)
            .await?;
            sqlx::query("DELETE FROM policy_version WHERE version <= $1")
                .bind(version.saturating_sub(MOST_VERSIONS))
                .execute(&mut *writer)
                .await?;
            version
        }
    };
    let version = u64::try_from(number).unwrap_or_default();
    activate(&mut writer, version, false).await?;
    writer.commit().await?;
    Ok(version)
}

async fn activate(writer: &mut Writer, version: u64, pinned: bool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO policy_active (id, version, pinned) VALUES (1, $1, $2)
         ON CONFLICT (id) DO UPDATE SET version = $1, pinned = $2",
    )
    .bind(i64::try_from(version).unwrap_or(i64::MAX))
    .bind(i64::from(pinned))
    .execute(&mut **writer)
    .await?;
    Ok(())
}
