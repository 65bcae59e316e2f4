//! Removing what nothing needs.
//!
//! What a tag names is needed, what a released version names, what such a manifest names, and what says that it is about
//! one; so is what an upload under way has, and what was pushed a short while ago, since the manifest that names it may
//! still come. Rows go first and bytes after them. Bytes go while nobody is between giving a file its name and writing
//! its row.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use sqlx::Row as _;
use tokio::time::Instant;
use uuid::Uuid;

use crate::names;
use crate::{
    Digest, Failure, Refusal, Registry, Repository,
    blobs::blocking,
    oci_manifests::{digest, remove_manifest, unlink},
    tokens::now,
};

/// How often downloads are written down: a few of them may be lost in a crash, but not many.
const DOWNLOADS: Duration = Duration::from_secs(10);

/// How often it is looked whether metadata have to be signed anew: operators who signed some wait for it.
const METADATA: Duration = Duration::from_secs(1);

/// Rows that are removed at once, so that pushes need not wait for long.
const BATCH: i64 = 500;

/// After a start, clients that waited for it come first. A registry that is often started collects all the same.
const FIRST_COLLECTION: Duration = Duration::from_secs(60);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads that were idle for too long.
    pub uploads: u64,
    /// Manifests that no tag needs.
    pub manifests: u64,
    /// Blobs that no manifest names, counted in each repository.
    pub links: u64,
    /// Files.
    pub files: u64,
}

impl Registry {
    /// Tends to what has to be done now and then, for as long as it is polled.
    pub(crate) async fn tend(&self) {
        let mut downloads = tokio::time::interval(DOWNLOADS);
        let mut metadata = tokio::time::interval(METADATA);
        let every = self.0.settings.limits.collect_every.max(Duration::from_secs(1));
        let mut collect = tokio::time::interval_at(Instant::now() + every.min(FIRST_COLLECTION), every);
        loop {
            tokio::select! {
                _ = downloads.tick() => {
                    if let Err(error) = self.write_downloads().await {
                        tracing::warn!(error = %crate::chain(&error), "downloads are not counted");
                    }
                }
                _ = metadata.tick() => self.keep_metadata().await,
                _ = collect.tick() => match self.collect().await {
                    Ok(collected) => tracing::info!(?collected, "collected what nothing needs"),
                    Err(error) => tracing::warn!(error = %crate::chain(&error), "what nothing needs is not collected"),
                },
            }
        }
    }

    /// Writes down how often what was downloaded.
    pub(crate) async fn write_downloads(&self) -> Result<(), Failure> {
        let downloads = std::mem::take(&mut *self.0.downloads.lock());
        if downloads.is_empty() {
            return Ok(());
        }
        let mut writer = self.0.database.write().await?;
        for ((repository, digest), count) in downloads {
            sqlx::query("UPDATE manifest SET downloads = downloads + $3 WHERE repository = $1 AND digest = $2")
                .bind(repository.as_str())
                .bind(digest.to_string())
                .bind(count)
                .execute(&mut *writer)
                .await?;
        }
        Ok(writer.commit().await?)
    }

    /// Removes what nothing needs any more.
    ///
    /// # Errors
    /// When the database or the disk fails; what was removed until then stays so.
    pub async fn collect(&self) -> Result<Collected, Failure> {
        let mut collected = Collected { uploads: self.collect_uploads().await?, ..Collected::default() };
        if let Some(age) = self.0.settings.limits.untagged {
            for repository in self.repositories().await? {
                collected.manifests += self.collect_manifests(&repository, age).await?;
            }
        }
        collected.links = self.collect_links().await?;
        collected.files = self.collect_files().await? + self.collect_orphans().await?;
        Ok(collected)
    }

    async fn collect_uploads(&self) -> Result<u64, Failure> {
        let idle = self.0.settings.limits.upload_idle;
        let before = SystemTime::now().checked_sub(idle).unwrap_or(SystemTime::UNIX_EPOCH);
        let blobs = self.0.blobs.clone();
        let on_disk = blocking(move || blobs.uploads()).await?;
        let known: BTreeSet<Uuid> = on_disk.iter().map(|(id, _)| *id).collect();
        let mut idle_ones: Vec<Uuid> =
            on_disk.into_iter().filter(|(_, written)| *written <= before).map(|(id, _)| id).collect();
        let rows = sqlx::query("SELECT id FROM upload WHERE begun <= $1")
            .bind(now().saturating_sub(seconds(idle)))
            .fetch_all(self.0.database.pool())
            .await?;
        for row in rows {
            let id: String = row.try_get("id")?;
            idle_ones.extend(Uuid::try_parse(&id).ok().filter(|id| !known.contains(id)));
        }
        let mut count = 0;
        for id in idle_ones.into_iter().filter(|id| !self.0.uploads.is_running(*id)) {
            self.forget_upload(id).await.map_err(failure)?;
            count += 1;
        }
        Ok(count)
    }

    async fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        let rows =
            sqlx::query("SELECT DISTINCT repository FROM repository_blob").fetch_all(self.0.database.pool()).await?;
        let parse = |row: &sqlx::any::AnyRow| {
            names::repository(row.try_get("repository")?).map_err(|refusal| Failure::Damaged(refusal.to_string()))
        };
        rows.iter().map(parse).collect()
    }

    async fn collect_manifests(&self, repository: &Repository, age: Duration) -> Result<u64, Failure> {
        let mut writer = self.0.database.write().await?;
        let before = now().saturating_sub(seconds(age));
        let rows = sqlx::query("SELECT digest, subject, pushed FROM manifest WHERE repository = $1")
            .bind(repository.as_str())
            .fetch_all(&mut *writer)
            .await?;
        let mut about = HashMap::<String, Vec<String>>::new();
        let mut all = Vec::new();
        let mut needed = Vec::new();
        for row in &rows {
            let (digest, subject): (String, String) = (row.try_get("digest")?, row.try_get("subject")?);
            if row.try_get::<i64, _>("pushed")? > before {
                needed.push(digest.clone());
            }
            if !subject.is_empty() {
                about.entry(subject).or_default().push(digest.clone());
            }
            all.push(digest);
        }
        let named =
            "SELECT digest FROM tag WHERE repository = $1 UNION SELECT digest FROM version WHERE repository = $1";
        for row in sqlx::query(named).bind(repository.as_str()).fetch_all(&mut *writer).await? {
            needed.push(row.try_get("digest")?);
        }
        let mut names = HashMap::<String, Vec<String>>::new();
        let references = "SELECT manifest, digest FROM reference WHERE repository = $1";
        for row in sqlx::query(references).bind(repository.as_str()).fetch_all(&mut *writer).await? {
            names.entry(row.try_get("manifest")?).or_default().push(row.try_get("digest")?);
        }
        let mut kept = BTreeSet::new();
        while let Some(digest) = needed.pop() {
            needed.extend(about.remove(&digest).into_iter().flatten());
            needed.extend(names.remove(&digest).into_iter().flatten());
            kept.insert(digest);
        }
        let mut count = 0;
        for unneeded in all.iter().filter(|digest| !kept.contains(*digest)) {
            let unneeded = names::digest(unneeded).map_err(failure)?;
            remove_manifest(&mut writer, repository, &unneeded).await?;
            count += 1;
        }
        writer.commit().await?;
        Ok(count)
    }

    async fn collect_links(&self) -> Result<u64, Failure> {
        let before = now().saturating_sub(seconds(self.0.settings.limits.unreferenced));
        let mut count = 0;
        loop {
            let mut writer = self.0.database.write().await?;
            let rows = sqlx::query(
                "SELECT b.repository AS repository, b.digest AS digest FROM repository_blob b WHERE b.touched <= $1 \
                 AND NOT EXISTS (SELECT 1 FROM reference r WHERE r.repository = b.repository AND r.digest = b.digest) \
                 AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.repository = b.repository AND m.digest = b.digest) \
                 LIMIT $2",
            )
            .bind(before)
            .bind(BATCH)
            .fetch_all(&mut *writer)
            .await?;
            for row in &rows {
                let repository = names::repository(row.try_get("repository")?).map_err(failure)?;
                unlink(&mut writer, &self.namespace(&repository), &repository, &digest(row, "digest")?).await?;
                count += 1;
            }
            writer.commit().await?;
            if (rows.len() as i64) < BATCH {
                return Ok(count);
            }
        }
    }

    async fn collect_files(&self) -> Result<u64, Failure> {
        let mut count = 0;
        loop {
            let _alone = self.0.collecting.write().await;
            let mut writer = self.0.database.write().await?;
            let rows = sqlx::query(
                "SELECT digest FROM blob b WHERE NOT EXISTS \
                 (SELECT 1 FROM repository_blob r WHERE r.digest = b.digest) LIMIT $1",
            )
            .bind(BATCH)
            .fetch_all(&mut *writer)
            .await?;
            let digests: Vec<Digest> = rows.iter().map(|row| digest(row, "digest")).collect::<Result<_, _>>()?;
            for digest in &digests {
                sqlx::query("DELETE FROM blob WHERE digest = $1")
                    .bind(digest.to_string())
                    .execute(&mut *writer)
                    .await?;
            }
            writer.commit().await?;
            count += digests.len() as u64;
            let last = (digests.len() as i64) < BATCH;
            self.remove_files(digests).await?;
            if last {
                return Ok(count);
            }
        }
    }

    async fn remove_files(&self, digests: Vec<Digest>) -> Result<(), Failure> {
        let blobs = self.0.blobs.clone();
        blocking(move || digests.iter().try_for_each(|digest| blobs.remove(digest))).await
    }

    /// Removes files that no row names: a crash left them.
    async fn collect_orphans(&self) -> Result<u64, Failure> {
        let age = self.0.settings.limits.unreferenced;
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let blobs = self.0.blobs.clone();
        let old = blocking(move || blobs.older_than(before)).await?;
        let mut count = 0;
        for digest in old {
            let row = sqlx::query("SELECT 1 FROM blob WHERE digest = $1").bind(digest.to_string());
            if row.fetch_optional(self.0.database.pool()).await?.is_some() {
                continue;
            }
            let _alone = self.0.collecting.write().await;
            let row = sqlx::query("SELECT 1 FROM blob WHERE digest = $1").bind(digest.to_string());
            if row.fetch_optional(self.0.database.pool()).await?.is_none() {
                self.remove_files(vec![digest]).await?;
                count += 1;
            }
        }
        Ok(count)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn failure(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Failed(failure) => failure,
        other => Failure::Damaged(other.to_string()),
    }
}
