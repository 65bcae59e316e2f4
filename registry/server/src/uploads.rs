//! Blobs on their way in.

use std::{collections::HashMap, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use parking_lot::Mutex;
use sqlx::Row as _;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;
use witan_database::{Database, Writer};

use crate::{
    Digest, Failure, Namespace, Refusal, Registry, Repository,
    blobs::{Incoming, blocking},
    body,
    tokens::now,
};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 512 << 10;

/// An upload under way.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) id: Uuid,
    pub(crate) repository: Repository,
    namespace: Namespace,
    incoming: Arc<Incoming>,
    /// Held by the request that writes.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// All uploads under way.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<Uuid, Upload>>);

impl Uploads {
    /// Bytes of the uploads of `namespace`, and how many there are.
    fn held(&self, namespace: &Namespace) -> (u64, usize) {
        let uploads = self.0.lock();
        let ours = uploads.values().filter(|upload| upload.namespace == *namespace);
        ours.fold((0, 0), |(bytes, count), upload| (bytes + upload.incoming.size(), count + 1))
    }

    fn forget(&self, id: Uuid) {
        self.0.lock().remove(&id);
    }

    /// Whether the upload is one of this process.
    pub(crate) fn is_running(&self, id: Uuid) -> bool {
        self.0.lock().get(&id).is_some_and(|upload| upload.turn.try_lock().is_err())
    }
}

impl Upload {
    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.incoming.size()
    }

    fn take_turn(&self) -> Result<OwnedMutexGuard<()>, Refusal> {
        self.turn.clone().try_lock_owned().map_err(|_| Refusal::UploadBusy)
    }
}

impl Registry {
    /// Begins an upload to `repository`.
    pub(crate) async fn begin_upload(&self, repository: &Repository) -> Result<Upload, Refusal> {
        let namespace = self.namespace(repository);
        if self.0.uploads.held(&namespace).1 >= self.0.settings.limits.namespace_uploads {
            return Err(Refusal::TooManyUploads(namespace));
        }
        let id = Uuid::now_v7();
        let mut writer = self.0.database.write().await?;
        sqlx::query("INSERT INTO upload (id, repository, namespace, begun) VALUES ($1, $2, $3, $4)")
            .bind(id.to_string())
            .bind(repository.as_str())
            .bind(namespace.as_str())
            .bind(now())
            .execute(&mut *writer)
            .await?;
        let blobs = self.0.blobs.clone();
        let incoming = blocking(move || blobs.begin(id)).await.map_err(Refusal::from)?;
        writer.commit().await?;
        Ok(self.keep(id, repository.clone(), namespace, incoming))
    }

    fn keep(&self, id: Uuid, repository: Repository, namespace: Namespace, incoming: Incoming) -> Upload {
        let upload = Upload { id, repository, namespace, incoming: Arc::new(incoming), turn: Arc::default() };
        self.0.uploads.0.lock().entry(id).or_insert(upload).clone()
    }

    /// The upload `id` to `repository`, also one that was begun before this process.
    pub(crate) async fn find_upload(&self, repository: &Repository, id: Uuid) -> Result<Upload, Refusal> {
        let known = self.0.uploads.0.lock().get(&id).cloned();
        if let Some(upload) = known {
            return if upload.repository == *repository { Ok(upload) } else { Err(Refusal::UploadUnknown) };
        }
        sqlx::query("SELECT begun FROM upload WHERE id = $1 AND repository = $2")
            .bind(id.to_string())
            .bind(repository.as_str())
            .fetch_optional(self.0.database.pool())
            .await?
            .ok_or(Refusal::UploadUnknown)?;
        let blobs = self.0.blobs.clone();
        let incoming = blocking(move || blobs.resume(id)).await.map_err(Refusal::from)?;
        let incoming = incoming.ok_or(Refusal::UploadUnknown)?;
        Ok(self.keep(id, repository.clone(), self.namespace(repository), incoming))
    }

    /// Writes `body` to `upload`, from byte `at` on, or from where it is; how many bytes there are then. A `length` that
    /// was told is what has to come.
    pub(crate) async fn receive(
        &self,
        upload: &Upload,
        at: Option<u64>,
        length: Option<u64>,
        mut body: Body,
    ) -> Result<u64, Refusal> {
        let _turn = upload.take_turn()?;
        let before = upload.size();
        if at.is_some_and(|at| at != before) {
            return Err(Refusal::UploadOrder(before));
        }
        let quota = self.quota(&upload.namespace).await?;
        let most = self.0.settings.limits.blob_bytes;
        self.check_room(upload, quota, length.unwrap_or(0), most)?;
        let stall = self.0.settings.limits.stall_time;
        let (mut size, mut parts, mut gathered) = (before, Vec::new(), 0);
        loop {
            let part = body::next(&mut body, stall).await;
            let ended = !matches!(part, Ok(Some(_)));
            if let Ok(Some(part)) = &part {
                gathered += part.len();
                parts.push(part.clone());
            }
            if gathered > 0 && (ended || gathered >= GATHERED) {
                self.check_room(upload, quota, gathered as u64, most)?;
                size = write(upload, size, std::mem::take(&mut parts), most).await?;
                gathered = 0;
            }
            if part?.is_none() {
                break;
            }
        }
        if length.is_some_and(|length| size - before != length) {
            return Err(Refusal::UploadInvalid(format!(
                "its headers say otherwise than the {} bytes sent",
                size - before
            )));
        }
        Ok(size)
    }

    fn check_room(&self, upload: &Upload, quota: Quota, more: u64, most: u64) -> Result<(), Refusal> {
        if upload.size().saturating_add(more) > most {
            return Err(Refusal::TooLarge { what: "a blob", most });
        }
        let held = self.0.uploads.held(&upload.namespace).0;
        quota.check(&upload.namespace, held.saturating_add(more))
    }

    /// Ends `upload`: its bytes become the blob `digest` of its repository, if they are that.
    pub(crate) async fn finish_upload(&self, upload: &Upload, digest: &Digest) -> Result<(), Refusal> {
        let _turn = upload.take_turn()?;
        // Nothing is collected between the file's taking its name and the row that says whose it is.
        let _kept = self.0.collecting.read().await;
        let (blobs, incoming, expected) = (self.0.blobs.clone(), upload.incoming.clone(), *digest);
        let named = blocking(move || blobs.finish(&incoming, &expected)).await;
        if let Err(Refusal::DigestDiffers { .. }) = named {
            self.forget_upload(upload.id).await?;
        }
        let size = named?;
        let mut writer = self.0.database.write().await?;
        let linked = self.link(&mut writer, &upload.repository, digest, Some(size)).await;
        sqlx::query("DELETE FROM upload WHERE id = $1").bind(upload.id.to_string()).execute(&mut *writer).await?;
        writer.commit().await?;
        self.0.uploads.forget(upload.id);
        linked
    }

    /// Ends an upload and removes what came of it.
    pub(crate) async fn abandon_upload(&self, upload: &Upload) -> Result<(), Refusal> {
        let _turn = upload.take_turn()?;
        self.forget_upload(upload.id).await
    }

    pub(crate) async fn forget_upload(&self, id: Uuid) -> Result<(), Refusal> {
        let mut writer = self.0.database.write().await?;
        sqlx::query("DELETE FROM upload WHERE id = $1").bind(id.to_string()).execute(&mut *writer).await?;
        writer.commit().await?;
        self.0.uploads.forget(id);
        let blobs = self.0.blobs.clone();
        Ok(blocking(move || blobs.remove_upload(id)).await?)
    }

    /// Makes the blob `digest`, which is on disk, one of `repository`, within the quota of its namespace. Without a
    /// `size` it must be known already.
    pub(crate) async fn link(
        &self,
        writer: &mut Writer,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<(), Refusal> {
        let namespace = self.namespace(repository);
        let known = sqlx::query("SELECT size FROM blob WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&mut **writer)
            .await?;
        let size = match (&known, size) {
            (Some(row), _) => u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0),
            (None, Some(size)) => size,
            (None, None) => {
                return Err(Refusal::BlobUnknown { repository: repository.clone(), digest: *digest });
            }
        };
        let linked = sqlx::query("UPDATE repository_blob SET touched = $3 WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .bind(now())
            .execute(&mut **writer)
            .await?;
        if linked.rows_affected() > 0 {
            return Ok(());
        }
        let quota = self.quota_within(writer, &namespace).await?;
        quota.check(&namespace, size)?;
        if known.is_none() {
            sqlx::query("INSERT INTO blob (digest, size) VALUES ($1, $2)")
                .bind(digest.to_string())
                .bind(stored(size))
                .execute(&mut **writer)
                .await?;
        }
        sqlx::query("INSERT INTO repository_blob (repository, digest, namespace, touched) VALUES ($1, $2, $3, $4)")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .bind(namespace.as_str())
            .bind(now())
            .execute(&mut **writer)
            .await?;
        charge(writer, &namespace, stored(size)).await?;
        Ok(())
    }

    /// What `namespace` holds and may hold.
    async fn quota(&self, namespace: &Namespace) -> Result<Quota, Refusal> {
        let row = sqlx::query(HELD).bind(namespace.as_str()).fetch_optional(self.0.database.pool()).await?;
        self.quota_of(row.as_ref())
    }

    async fn quota_within(&self, writer: &mut Writer, namespace: &Namespace) -> Result<Quota, Refusal> {
        let row = sqlx::query(HELD).bind(namespace.as_str()).fetch_optional(&mut **writer).await?;
        self.quota_of(row.as_ref())
    }

    fn quota_of(&self, row: Option<&sqlx::any::AnyRow>) -> Result<Quota, Refusal> {
        let usual = self.0.settings.limits.namespace_bytes;
        let Some(row) = row else { return Ok(Quota { used: 0, most: usual }) };
        let most = u64::try_from(row.try_get::<i64, _>("quota")?).unwrap_or(usual);
        Ok(Quota { used: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0), most })
    }
}

/// Lets `namespace` hold `bytes`, or what others may where there are none.
pub(crate) async fn set_quota(database: &Database, namespace: &Namespace, bytes: Option<u64>) -> Result<(), Failure> {
    let mut writer = database.write().await?;
    sqlx::query(
        "INSERT INTO namespace (namespace, bytes, quota) VALUES ($1, 0, $2) \
         ON CONFLICT (namespace) DO UPDATE SET quota = excluded.quota",
    )
    .bind(namespace.as_str())
    .bind(bytes.map_or(-1, stored))
    .execute(&mut *writer)
    .await?;
    Ok(writer.commit().await?)
}

const HELD: &str = "SELECT bytes, quota FROM namespace WHERE namespace = $1";

#[derive(Clone, Copy)]
struct Quota {
    used: u64,
    most: u64,
}

impl Quota {
    fn check(self, namespace: &Namespace, more: u64) -> Result<(), Refusal> {
        if self.used.saturating_add(more) <= self.most {
            return Ok(());
        }
        Err(Refusal::Quota { namespace: namespace.clone(), quota: self.most })
    }
}

/// Writes that `namespace` holds `bytes` more, or fewer. No quota of its own is written as -1.
pub(crate) async fn charge(writer: &mut Writer, namespace: &Namespace, bytes: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO namespace (namespace, bytes, quota) VALUES ($1, $2, -1) \
         ON CONFLICT (namespace) DO UPDATE SET bytes = namespace.bytes + excluded.bytes",
    )
    .bind(namespace.as_str())
    .bind(bytes)
    .execute(&mut **writer)
    .await
    .map(drop)
}

/// As a number of the database, which has signed ones alone.
pub(crate) fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

async fn write(upload: &Upload, at: u64, parts: Vec<Bytes>, most: u64) -> Result<u64, Refusal> {
    let incoming = upload.incoming.clone();
    blocking(move || incoming.append(at, &parts, most)).await
}
