//! Every way the registry says no: the status, the code that the OCI distribution specification has for it, and words.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{Digest, Namespace, Repository};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The path names nothing here.
    #[error("there is nothing at this path")]
    NoSuchPath,
    /// The path has no such operation.
    #[error("this path cannot be asked so; it takes {0}")]
    MethodNotAllowed(&'static str),
    /// A repository's name is no name.
    #[error("`{0}` is not a repository's name: use words of a-z and 0-9, joined by `/`, `-`, `.` or `_`")]
    NameInvalid(String),
    /// A tag is no tag.
    #[error("`{0}` is not a tag: use up to 128 letters, digits, `.`, `_` and `-`")]
    TagInvalid(String),
    /// A digest is none that is taken.
    #[error("`{0}` is not a digest: only `sha256:` with 64 hexadecimal digits in lower case is")]
    DigestInvalid(String),
    /// The bytes are not those of the digest.
    #[error("the bytes sent have the digest `{found}`, not `{expected}`")]
    DigestDiffers {
        /// The digest of what was sent.
        found: Digest,
        /// The digest that was told.
        expected: Digest,
    },
    /// There is no such repository, or the client may not know of it.
    #[error("there is no repository `{0}`")]
    NameUnknown(Repository),
    /// There is no such manifest in the repository.
    #[error("`{repository}` has no manifest `{reference}`")]
    ManifestUnknown {
        /// Where it was looked for.
        repository: Repository,
        /// What was looked for.
        reference: String,
    },
    /// There is no such blob in the repository.
    #[error("`{repository}` has no blob `{digest}`")]
    BlobUnknown {
        /// Where it was looked for.
        repository: Repository,
        /// What was looked for.
        digest: Digest,
    },
    /// A manifest names what the repository does not have.
    #[error("the manifest names `{0}`, which this repository does not have; push it first")]
    ManifestBlobUnknown(Digest),
    /// A manifest is not well made.
    #[error("the manifest is invalid: {0}")]
    ManifestInvalid(String),
    /// A manifest states another size than a thing has.
    #[error("the manifest says that `{digest}` has {stated} bytes, but it has {found}")]
    SizeDiffers {
        /// What it is about.
        digest: Digest,
        /// Bytes by the manifest.
        stated: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// There is no such upload, or it is not this client's.
    #[error("there is no such upload; it may have ended, or been idle for too long: begin again")]
    UploadUnknown,
    /// Another request writes to the upload.
    #[error("another request is writing to this upload; wait for it to end")]
    UploadBusy,
    /// A part of an upload is not what its headers say.
    #[error("the upload is invalid: {0}")]
    UploadInvalid(String),
    /// A part does not follow what is there.
    #[error("the upload has {0} bytes, and the next part must begin there")]
    UploadOrder(u64),
    /// A range that there is not.
    #[error("there are {0} bytes, and the range asks for others")]
    RangeOutside(u64),
    /// Something is larger than may be.
    #[error("{what} may have at most {most} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The most bytes.
        most: u64,
    },
    /// The namespace has no room.
    #[error(
        "`{namespace}` may hold {quota} bytes, and this would be more; delete something, or ask for a larger quota"
    )]
    Quota {
        /// Whose quota.
        namespace: Namespace,
        /// Bytes that it may hold.
        quota: u64,
    },
    /// Too many uploads at once.
    #[error("`{0}` has as many uploads under way as it may have; finish or delete one")]
    TooManyUploads(Namespace),
    /// A released version stays what it is.
    #[error("`{tag}` is a released version, `{digest}`, and never becomes another; release a new version")]
    Immutable {
        /// The version.
        tag: String,
        /// What it is, for good.
        digest: Digest,
    },
    /// Nothing says who asks.
    #[error("say who you are: this needs a token{}", .scope.as_ref().map(|scope| format!(" with `{scope}`")).unwrap_or_default())]
    Unauthorized {
        /// The header that tells a client where to get a token.
        challenge: String,
        /// What the token has to allow.
        scope: Option<String>,
    },
    /// The client is known, and may not.
    #[error("this token may not {action} in `{namespace}`")]
    Denied {
        /// What it wanted.
        action: &'static str,
        /// Where.
        namespace: Namespace,
    },
    /// The registry's own settings do not allow it.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Too many requests.
    #[error("too many requests; wait {0} seconds")]
    TooMany(u64),
    /// The client sent too slowly.
    #[error("nothing was received for too long")]
    Timeout,
    /// A request is not well made.
    #[error("{0}")]
    Invalid(String),
    /// It is there already.
    #[error("the log has this entry already, at `{0}`")]
    Conflict(String),
    /// The registry failed.
    #[error("the registry could not do it; its log says why")]
    Failed(#[from] Failure),
}

/// What failed on our side. The client is not told; the log is.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The disk.
    #[error("`{path}` cannot be used")]
    Disk {
        /// What could not be read or written.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The transparency log.
    #[error("the transparency log failed")]
    Log(#[source] witan_merkle_log::LogError),
    /// What is stored does not have the form that we gave it.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// A task of ours ended early.
    #[error("a task ended early")]
    Ended,
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath
            | Self::NameUnknown(_)
            | Self::ManifestUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::ManifestBlobUnknown(_)
            | Self::UploadUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) | Self::Unsupported(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NameInvalid(_)
            | Self::TagInvalid(_)
            | Self::DigestInvalid(_)
            | Self::DigestDiffers { .. }
            | Self::ManifestInvalid(_)
            | Self::SizeDiffers { .. }
            | Self::UploadInvalid(_)
            | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::UploadBusy | Self::Immutable { .. } | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::UploadOrder(_) | Self::RangeOutside(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Quota { .. } | Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::TooManyUploads(_) | Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of the OCI distribution specification, and `UNKNOWN` where it has none.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NameInvalid(_) => "NAME_INVALID",
            Self::TagInvalid(_) => "TAG_INVALID",
            Self::DigestInvalid(_) | Self::DigestDiffers { .. } => "DIGEST_INVALID",
            Self::NameUnknown(_) => "NAME_UNKNOWN",
            Self::ManifestUnknown { .. } => "MANIFEST_UNKNOWN",
            Self::BlobUnknown { .. } => "BLOB_UNKNOWN",
            Self::ManifestBlobUnknown(_) => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid(_) => "MANIFEST_INVALID",
            Self::SizeDiffers { .. } | Self::TooLarge { .. } => "SIZE_INVALID",
            Self::UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::UploadBusy
            | Self::UploadInvalid(_)
            | Self::UploadOrder(_)
            | Self::RangeOutside(_)
            | Self::Timeout => "BLOB_UPLOAD_INVALID",
            Self::Quota { .. } | Self::Immutable { .. } | Self::Denied { .. } => "DENIED",
            Self::Unauthorized { .. } => "UNAUTHORIZED",
            Self::NoSuchPath | Self::MethodNotAllowed(_) | Self::Unsupported(_) => "UNSUPPORTED",
            Self::TooManyUploads(_) | Self::TooMany(_) => "TOOMANYREQUESTS",
            Self::Invalid(_) | Self::Conflict(_) | Self::Failed(_) => "UNKNOWN",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Failed(failure) = &self {
            tracing::error!(error = %crate::chain(failure), "a request failed");
        }
        let body = json!({ "errors": [{ "code": self.code(), "message": self.to_string() }] });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut insert = |name, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        match self {
            Self::Unauthorized { challenge, .. } => insert(header::WWW_AUTHENTICATE, challenge),
            Self::TooMany(seconds) => insert(header::RETRY_AFTER, seconds.to_string()),
            Self::TooManyUploads(_) => insert(header::RETRY_AFTER, "60".to_owned()),
            Self::MethodNotAllowed(methods) => insert(header::ALLOW, methods.to_owned()),
            Self::RangeOutside(size) => insert(header::CONTENT_RANGE, format!("bytes */{size}")),
            Self::UploadOrder(size) => insert(header::RANGE, format!("0-{}", size.saturating_sub(1))),
            Self::Conflict(location) => insert(header::LOCATION, location),
            _ => {}
        }
        response
    }
}
