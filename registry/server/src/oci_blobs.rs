//! Blobs and uploads over HTTP.

use std::io::SeekFrom;

use axum::{body::Body, response::Response};
use futures::TryStreamExt as _;
use http::{HeaderName, StatusCode, header, request::Parts};
use sqlx::Row as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::names;
use crate::{
    Digest, Failure, Refusal, Registry, Repository, body,
    oci::{CONTENT_DIGEST, headers, insert, query, text},
    range::{self, Asked},
    tokens::{Action, Client, Verdict, now},
    uploads::Upload,
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Bytes that are read from the disk at once. Each time is a hop to another thread.
const READ: usize = 512 << 10;

/// How long a blob is known to be wanted without writing down again that it is.
const TOUCHED: i64 = 600;

impl Registry {
    pub(crate) async fn get_blob(
        &self,
        client: &Client,
        repository: &Repository,
        digest: &Digest,
        parts: &Parts,
    ) -> Result<Response, Refusal> {
        let unknown = || Refusal::BlobUnknown { repository: repository.clone(), digest: *digest };
        let row = sqlx::query(
            "SELECT b.size AS size, r.touched AS touched FROM repository_blob r JOIN blob b ON b.digest = r.digest \
             WHERE r.repository = $1 AND r.digest = $2",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(self.0.database.pool())
        .await?
        .ok_or_else(unknown)?;
        let size = u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
        let head = parts.method == http::Method::HEAD;
        if head {
            self.touch(client, repository, digest, row.try_get("touched")?).await?;
        }
        let asked = text(&parts.headers, &header::RANGE).map_or(Asked::Whole, |header| range::asked(header, size));
        let (status, first, length) = match asked {
            Asked::Whole => (StatusCode::OK, 0, size),
            Asked::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Asked::Outside => return Err(Refusal::RangeOutside(size)),
        };
        let mut response = headers(
            status,
            [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
                (header::ACCEPT_RANGES, "bytes".to_owned()),
                (header::ETAG, format!("\"{digest}\"")),
                (CONTENT_DIGEST, digest.to_string()),
            ],
        );
        if let Asked::Part(first, last) = asked {
            insert(&mut response, [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"))]);
        }
        if !head {
            *response.body_mut() = self.stream(digest, first, length).await?;
        }
        Ok(response)
    }

    /// The blob's bytes from `first` on.
    async fn stream(&self, digest: &Digest, first: u64, length: u64) -> Result<Body, Refusal> {
        let path = self.0.blobs.path(digest);
        let failed = |source| Failure::Disk { path: path.clone(), source };
        let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
        file.set_max_buf_size(READ);
        if first > 0 {
            file.seek(SeekFrom::Start(first)).await.map_err(failed)?;
        }
        let capacity = usize::try_from(length).unwrap_or(READ).clamp(1, READ);
        // An answer that breaks off is told by its length.
        let stream = ReaderStream::with_capacity(file.take(length), capacity)
            .inspect_err(move |error| tracing::error!(path = %path.display(), %error, "a blob cannot be read"));
        Ok(Body::from_stream(stream))
    }

    /// Whoever may push and asks for a blob is about to push what names it: it is not collected meanwhile.
    async fn touch(
        &self,
        client: &Client,
        repository: &Repository,
        digest: &Digest,
        touched: i64,
    ) -> Result<(), Refusal> {
        let pushes = self.policy().decide(client, Action::Push, repository) == Verdict::Allowed;
        if !pushes || now().saturating_sub(touched) < TOUCHED {
            return Ok(());
        }
        let mut writer = self.0.database.write().await?;
        sqlx::query("UPDATE repository_blob SET touched = $3 WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .bind(now())
            .execute(&mut *writer)
            .await?;
        Ok(writer.commit().await?)
    }

    pub(crate) async fn post_upload(
        &self,
        client: &Client,
        repository: &Repository,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        if let Some(mount) = query(parts, "mount") {
            let digest = names::digest(&mount)?;
            if self.mount(client, repository, &digest, query(parts, "from").as_deref()).await? {
                return Ok(created(repository, &digest));
            }
        }
        let digest = query(parts, "digest").map(|digest| names::digest(&digest)).transpose()?;
        let upload = self.begin_upload(repository).await?;
        let Some(digest) = digest else { return Ok(accepted(StatusCode::ACCEPTED, &upload, upload.size())) };
        let received = self.receive(&upload, Some(0), body::length(&parts.headers), body).await;
        let ended = match received {
            Ok(_) => self.finish_upload(&upload, &digest).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = ended {
            // The client has no address by which to go on.
            self.forget_upload(upload.id).await?;
            return Err(refusal);
        }
        Ok(created(repository, &digest))
    }

    /// Whether the blob is in `repository` now, because it is in one that the client may read.
    async fn mount(
        &self,
        client: &Client,
        repository: &Repository,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<bool, Refusal> {
        let Some(from) = from else { return Ok(false) };
        let from = names::repository(from)?;
        // What it may not read is as if it were not there.
        let reads = match self.policy().decide(client, Action::Pull, &from) {
            Verdict::Allowed => true,
            Verdict::Unknown | Verdict::Denied => false,
        };
        if !reads {
            return Ok(false);
        }
        let mut writer = self.0.database.write().await?;
        let found = sqlx::query("SELECT 1 FROM repository_blob WHERE repository = $1 AND digest = $2")
            .bind(from.as_str())
            .bind(digest.to_string())
            .fetch_optional(&mut *writer)
            .await?;
        if found.is_none() {
            return Ok(false);
        }
        self.link(&mut writer, repository, digest, None).await?;
        writer.commit().await?;
        Ok(true)
    }

    pub(crate) async fn get_upload(&self, repository: &Repository, id: Uuid) -> Result<Response, Refusal> {
        let upload = self.find_upload(repository, id).await?;
        Ok(accepted(StatusCode::NO_CONTENT, &upload, upload.size()))
    }

    pub(crate) async fn patch_upload(
        &self,
        repository: &Repository,
        id: Uuid,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        let upload = self.find_upload(repository, id).await?;
        let size = self.receive_part(&upload, parts, body).await?;
        Ok(accepted(StatusCode::ACCEPTED, &upload, size))
    }

    async fn receive_part(&self, upload: &Upload, parts: &Parts, body: Body) -> Result<u64, Refusal> {
        let length = body::length(&parts.headers);
        let Some(header) = parts.headers.get(header::CONTENT_RANGE) else {
            return self.receive(upload, None, length, body).await;
        };
        let invalid = |reason: &str| Refusal::UploadInvalid(reason.to_owned());
        let range = header.to_str().ok().and_then(range::part);
        let (first, last) = range.ok_or_else(|| invalid("`Content-Range` is not of the form `first-last`"))?;
        let count = last - first + 1;
        if length.is_some_and(|length| length != count) {
            return Err(invalid("`Content-Range` and `Content-Length` differ"));
        }
        self.receive(upload, Some(first), Some(count), body).await
    }

    pub(crate) async fn put_upload(
        &self,
        repository: &Repository,
        id: Uuid,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        let digest = query(parts, "digest").ok_or_else(|| Refusal::DigestInvalid(String::new()))?;
        let digest = names::digest(&digest)?;
        let upload = self.find_upload(repository, id).await?;
        let ends_with_part =
            body::length(&parts.headers) != Some(0) || parts.headers.contains_key(header::CONTENT_RANGE);
        if ends_with_part {
            self.receive_part(&upload, parts, body).await?;
        }
        self.finish_upload(&upload, &digest).await?;
        Ok(created(repository, &digest))
    }

    pub(crate) async fn delete_upload(&self, repository: &Repository, id: Uuid) -> Result<Response, Refusal> {
        let upload = self.find_upload(repository, id).await?;
        self.abandon_upload(&upload).await?;
        Ok(headers(StatusCode::NO_CONTENT, []))
    }
}

fn accepted(status: StatusCode, upload: &Upload, size: u64) -> Response {
    headers(
        status,
        [
            (header::LOCATION, format!("/v2/{}/blobs/uploads/{}", upload.repository, upload.id)),
            // Of no bytes there is no last one; clients know `0-0` for it.
            (header::RANGE, format!("0-{}", size.saturating_sub(1))),
            (UPLOAD_ID, upload.id.to_string()),
        ],
    )
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    headers(
        StatusCode::CREATED,
        [(header::LOCATION, format!("/v2/{repository}/blobs/{digest}")), (CONTENT_DIGEST, digest.to_string())],
    )
}
