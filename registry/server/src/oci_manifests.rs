//! Manifests, tags and referrers over HTTP.

use axum::{body::Body, response::Response};
use http::{HeaderName, Method, StatusCode, header, request::Parts};
use serde_json::json;
use sqlx::Row as _;
use witan_database::Writer;

use crate::names;
use crate::{
    Deletion, Digest, Failure, Reference, Refusal, Registry, Repository, Tag,
    blobs::blocking,
    body,
    manifest::{Manifest, OCI_INDEX, Referrer},
    oci::{CONTENT_DIGEST, headers, insert, json as answer, query, text},
    tokens::now,
    uploads::{charge, stored},
};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The most tags of one page.
const TAGS: i64 = 1_000;

/// The most referrers of one page.
const REFERRERS: i64 = 1_000;

/// Bytes of a page of referrers after which no further one is added.
const REFERRERS_BYTES: usize = 2 << 20;

impl Registry {
    /// The digest and the media type of a manifest.
    pub(crate) async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(Digest, String), Refusal> {
        let unknown = || Refusal::ManifestUnknown { repository: repository.clone(), reference: reference.to_string() };
        let row = match reference {
            Reference::Digest(digest) => {
                sqlx::query("SELECT digest, media_type FROM manifest WHERE repository = $1 AND digest = $2")
                    .bind(repository.as_str())
                    .bind(digest.to_string())
                    .fetch_optional(self.0.database.pool())
                    .await?
            }
            Reference::Tag(tag) => {
                sqlx::query(
                    "SELECT m.digest AS digest, m.media_type AS media_type FROM tag t JOIN manifest m \
                     ON m.repository = t.repository AND m.digest = t.digest WHERE t.repository = $1 AND t.tag = $2",
                )
                .bind(repository.as_str())
                .bind(tag.as_str())
                .fetch_optional(self.0.database.pool())
                .await?
            }
        };
        let row = row.ok_or_else(unknown)?;
        Ok((digest(&row, "digest")?, row.try_get("media_type")?))
    }

    /// The bytes of the manifest `digest`.
    pub(crate) async fn manifest_bytes(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let (blobs, digest, most) = (self.0.blobs.clone(), *digest, self.0.settings.limits.manifest_bytes);
        blocking(move || blobs.read(&digest, most)).await
    }

    pub(crate) async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        parts: &Parts,
    ) -> Result<Response, Refusal> {
        let (digest, media_type) = self.resolve(repository, reference).await?;
        let bytes = self.manifest_bytes(&digest).await?;
        let mut response = headers(
            StatusCode::OK,
            [
                (header::CONTENT_TYPE, media_type),
                (header::CONTENT_LENGTH, bytes.len().to_string()),
                (header::ETAG, format!("\"{digest}\"")),
                (CONTENT_DIGEST, digest.to_string()),
            ],
        );
        if parts.method == Method::GET {
            *self.0.downloads.lock().entry((repository.clone(), digest)).or_default() += 1;
            *response.body_mut() = Body::from(bytes);
        }
        Ok(response)
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        let limits = &self.0.settings.limits;
        let bytes = body::all(body, &parts.headers, "a manifest", limits.manifest_bytes, limits.stall_time).await?;
        let content_type = text(&parts.headers, &header::CONTENT_TYPE).unwrap_or_default();
        let manifest = Manifest::parse(&bytes, content_type)?;
        let digest = Digest::of(&bytes);
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            return Err(Refusal::DigestDiffers { found: digest, expected: *expected });
        }
        let _kept = self.0.collecting.read().await;
        let (blobs, named, content) = (self.0.blobs.clone(), digest, bytes.clone());
        blocking(move || blobs.put(&named, &content)).await?;
        let mut writer = self.0.database.write().await?;
        check_named(&mut writer, repository, &manifest).await?;
        if let Reference::Tag(tag) = reference {
            point(&mut writer, repository, tag, &digest).await?;
        }
        self.insert(&mut writer, repository, &digest, &manifest, bytes.len() as u64).await?;
        writer.commit().await?;
        let mut response = headers(
            StatusCode::CREATED,
            [(header::LOCATION, format!("/v2/{repository}/manifests/{digest}")), (CONTENT_DIGEST, digest.to_string())],
        );
        if let Some(subject) = &manifest.subject {
            insert(&mut response, [(SUBJECT, subject.to_string())]);
        }
        Ok(response)
    }

    async fn insert(
        &self,
        writer: &mut Writer,
        repository: &Repository,
        digest: &Digest,
        manifest: &Manifest,
        size: u64,
    ) -> Result<(), Refusal> {
        self.link(writer, repository, digest, Some(size)).await?;
        let annotations =
            serde_json::to_string(&manifest.annotations).map_err(|error| Failure::Damaged(error.to_string()))?;
        sqlx::query(
            "INSERT INTO manifest (repository, digest, namespace, media_type, artifact_type, subject, size, \
             annotations, pushed, downloads) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) \
             ON CONFLICT (repository, digest) DO NOTHING",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .bind(self.namespace(repository).as_str())
        .bind(manifest.media_type.as_str())
        .bind(manifest.artifact_type.as_str())
        .bind(manifest.subject.map(|subject| subject.to_string()).unwrap_or_default())
        .bind(stored(size))
        .bind(annotations)
        .bind(now())
        .execute(&mut **writer)
        .await?;
        for named in manifest.blobs.iter().chain(&manifest.manifests) {
            sqlx::query(
                "INSERT INTO reference (repository, manifest, digest) VALUES ($1, $2, $3) \
                 ON CONFLICT (repository, manifest, digest) DO NOTHING",
            )
            .bind(repository.as_str())
            .bind(digest.to_string())
            .bind(named.digest.to_string())
            .execute(&mut **writer)
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Response, Refusal> {
        let policy = self.0.settings.deletion;
        if policy == Deletion::Refused {
            return Err(Refusal::Unsupported("this registry deletes nothing; its operator can change that"));
        }
        let (digest, _) = self.resolve(repository, reference).await?;
        let mut writer = self.0.database.write().await?;
        if policy == Deletion::Unreleased && is_needed_by_release(&mut writer, repository, &digest, reference).await? {
            return Err(Refusal::Unsupported("this registry does not delete released versions; yank them instead"));
        }
        match reference {
            Reference::Tag(tag) => {
                sqlx::query("DELETE FROM tag WHERE repository = $1 AND tag = $2")
                    .bind(repository.as_str())
                    .bind(tag.as_str())
                    .execute(&mut *writer)
                    .await?;
            }
            Reference::Digest(_) => remove_manifest(&mut writer, repository, &digest).await?,
        }
        writer.commit().await?;
        Ok(headers(StatusCode::ACCEPTED, []))
    }

    pub(crate) async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<Response, Refusal> {
        if self.0.settings.deletion == Deletion::Refused {
            return Err(Refusal::Unsupported("this registry deletes nothing; its operator can change that"));
        }
        let mut writer = self.0.database.write().await?;
        let used = sqlx::query(
            "SELECT 1 FROM reference WHERE repository = $1 AND digest = $2 \
             UNION ALL SELECT 1 FROM manifest WHERE repository = $1 AND digest = $2",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(&mut *writer)
        .await?;
        if used.is_some() {
            return Err(Refusal::Unsupported("a manifest names this blob; delete that first"));
        }
        if !unlink(&mut writer, &self.namespace(repository), repository, digest).await? {
            return Err(Refusal::BlobUnknown { repository: repository.clone(), digest: *digest });
        }
        writer.commit().await?;
        Ok(headers(StatusCode::ACCEPTED, []))
    }

    pub(crate) async fn get_tags(&self, repository: &Repository, parts: &Parts) -> Result<Response, Refusal> {
        let asked = query(parts, "n").map(|n| n.parse::<u32>()).transpose();
        let asked = asked.map_err(|_| Refusal::Invalid("`n` is not a number".to_owned()))?;
        let most = asked.map_or(TAGS, |n| i64::from(n).min(TAGS));
        let last = query(parts, "last").unwrap_or_default();
        let rows = sqlx::query("SELECT tag FROM tag WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3")
            .bind(repository.as_str())
            .bind(last.as_str())
            .bind(most + 1)
            .fetch_all(self.0.database.pool())
            .await?;
        let mut tags: Vec<String> = rows.iter().map(|row| row.try_get("tag")).collect::<Result<_, _>>()?;
        if tags.is_empty() {
            let known = sqlx::query("SELECT 1 FROM repository_blob WHERE repository = $1 LIMIT 1")
                .bind(repository.as_str())
                .fetch_optional(self.0.database.pool())
                .await?;
            known.ok_or_else(|| Refusal::NameUnknown(repository.clone()))?;
        }
        let most = usize::try_from(most).unwrap_or(0);
        let more = tags.len() > most;
        tags.truncate(most);
        let mut response = answer(StatusCode::OK, json!({ "name": repository.as_str(), "tags": tags }).to_string());
        if let Some(last) = tags.last().filter(|_| more) {
            let next = format!("</v2/{repository}/tags/list?n={most}&last={last}>; rel=\"next\"");
            insert(&mut response, [(header::LINK, next)]);
        }
        Ok(response)
    }

    pub(crate) async fn get_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        parts: &Parts,
    ) -> Result<Response, Refusal> {
        let kind = query(parts, "artifactType").filter(|kind| !kind.is_empty());
        let last = query(parts, "last").unwrap_or_default();
        let rows = sqlx::query(
            "SELECT digest, media_type, artifact_type, size, annotations FROM manifest \
             WHERE repository = $1 AND subject = $2 AND digest > $3 AND (artifact_type = $4 OR $4 = '') \
             ORDER BY digest LIMIT $5",
        )
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind(last.as_str())
        .bind(kind.as_deref().unwrap_or_default())
        .bind(REFERRERS + 1)
        .fetch_all(self.0.database.pool())
        .await?;
        let (mut referrers, mut bytes) = (Vec::new(), 0);
        for row in &rows {
            let annotations: String = row.try_get("annotations")?;
            bytes += annotations.len();
            if bytes > REFERRERS_BYTES || referrers.len() as i64 == REFERRERS {
                break;
            }
            referrers.push(Referrer {
                media_type: row.try_get("media_type")?,
                digest: row.try_get("digest")?,
                size: u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0),
                artifact_type: row.try_get("artifact_type")?,
                annotations: serde_json::from_str(&annotations).map_err(|error| Failure::Damaged(error.to_string()))?,
            });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": referrers });
        let mut response = answer(StatusCode::OK, index.to_string());
        insert(&mut response, [(header::CONTENT_TYPE, OCI_INDEX.to_owned())]);
        if kind.is_some() {
            insert(&mut response, [(FILTERS, "artifactType".to_owned())]);
        }
        if let Some(last) = referrers.last().filter(|_| referrers.len() < rows.len()) {
            let kind: String = url::form_urlencoded::byte_serialize(kind.unwrap_or_default().as_bytes()).collect();
            let next = format!(
                "</v2/{repository}/referrers/{subject}?artifactType={kind}&last={}>; rel=\"next\"",
                last.digest
            );
            insert(&mut response, [(header::LINK, next)]);
        }
        Ok(response)
    }
}

pub(crate) fn digest(row: &sqlx::any::AnyRow, column: &str) -> Result<Digest, Failure> {
    let text: String = row.try_get(column)?;
    names::digest(&text).map_err(|refusal| Failure::Damaged(refusal.to_string()))
}

/// Checks that the repository has what `manifest` names, in the size that it says.
async fn check_named(writer: &mut Writer, repository: &Repository, manifest: &Manifest) -> Result<(), Refusal> {
    for named in &manifest.blobs {
        let row = sqlx::query(
            "SELECT b.size AS size FROM repository_blob r JOIN blob b ON b.digest = r.digest \
             WHERE r.repository = $1 AND r.digest = $2",
        )
        .bind(repository.as_str())
        .bind(named.digest.to_string())
        .fetch_optional(&mut **writer)
        .await?;
        check_size(row.as_ref(), &named.digest, named.size)?;
    }
    for named in &manifest.manifests {
        let row = sqlx::query("SELECT size FROM manifest WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(named.digest.to_string())
            .fetch_optional(&mut **writer)
            .await?;
        check_size(row.as_ref(), &named.digest, named.size)?;
    }
    Ok(())
}

fn check_size(row: Option<&sqlx::any::AnyRow>, digest: &Digest, stated: u64) -> Result<(), Refusal> {
    let row = row.ok_or_else(|| Refusal::ManifestBlobUnknown(*digest))?;
    let found = u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
    if found == stated { Ok(()) } else { Err(Refusal::SizeDiffers { digest: *digest, stated, found }) }
}

/// Lets `tag` name `digest`, unless it is a version that was released as something else.
async fn point(writer: &mut Writer, repository: &Repository, tag: &Tag, to: &Digest) -> Result<(), Refusal> {
    if names::version(tag).is_some() {
        let released = sqlx::query("SELECT digest FROM version WHERE repository = $1 AND tag = $2")
            .bind(repository.as_str())
            .bind(tag.as_str())
            .fetch_optional(&mut **writer)
            .await?;
        match released.map(|row| digest(&row, "digest")).transpose()? {
            Some(released) if released != *to => {
                return Err(Refusal::Immutable { tag: tag.to_string(), digest: released });
            }
            Some(_) => {}
            None => {
                sqlx::query(
                    "INSERT INTO version (repository, tag, digest, released, yanked, yank_reason) \
                     VALUES ($1, $2, $3, $4, 0, '')",
                )
                .bind(repository.as_str())
                .bind(tag.as_str())
                .bind(to.to_string())
                .bind(now())
                .execute(&mut **writer)
                .await?;
            }
        }
    }
    sqlx::query(
        "INSERT INTO tag (repository, tag, digest, updated) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, updated = excluded.updated",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(to.to_string())
    .bind(now())
    .execute(&mut **writer)
    .await?;
    Ok(())
}

/// Whether deleting `reference` would take away a released version, a part of one, or what is said about one.
async fn is_needed_by_release(
    writer: &mut Writer,
    repository: &Repository,
    digest: &Digest,
    reference: &Reference,
) -> Result<bool, Refusal> {
    if let Reference::Tag(tag) = reference {
        return Ok(names::version(tag).is_some());
    }
    let row = sqlx::query(
        "SELECT 1 FROM version WHERE repository = $1 AND digest = $2 \
         UNION ALL SELECT 1 FROM reference r JOIN version v ON v.repository = r.repository AND v.digest = r.manifest \
            WHERE r.repository = $1 AND r.digest = $2 \
         UNION ALL SELECT 1 FROM manifest m JOIN version v ON v.repository = m.repository AND v.digest = m.subject \
            WHERE m.repository = $1 AND m.digest = $2 LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(digest.to_string())
    .fetch_optional(&mut **writer)
    .await?;
    Ok(row.is_some())
}

/// Removes the rows of a manifest. Its bytes are collected later, where nothing else needs them.
pub(crate) async fn remove_manifest(
    writer: &mut Writer,
    repository: &Repository,
    digest: &Digest,
) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM tag WHERE repository = $1 AND digest = $2",
        "DELETE FROM reference WHERE repository = $1 AND manifest = $2",
        "DELETE FROM manifest WHERE repository = $1 AND digest = $2",
    ] {
        sqlx::query(statement).bind(repository.as_str()).bind(digest.to_string()).execute(&mut **writer).await?;
    }
    Ok(())
}

/// Removes a blob from a repository; whether it was there.
pub(crate) async fn unlink(
    writer: &mut Writer,
    namespace: &crate::Namespace,
    repository: &Repository,
    digest: &Digest,
) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query("DELETE FROM repository_blob WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .execute(&mut **writer)
        .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    let row = sqlx::query("SELECT size FROM blob WHERE digest = $1")
        .bind(digest.to_string())
        .fetch_optional(&mut **writer)
        .await?;
    let size: i64 = row.map_or(Ok(0), |row| row.try_get("size"))?;
    charge(writer, namespace, -size).await?;
    Ok(true)
}
