//! Bodies of requests, within bounds of size and of time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use crate::Refusal;

/// The next part of `body`; nothing at its end.
///
/// # Errors
/// When nothing comes for as long as `stall`, or the connection breaks.
pub(crate) async fn next(body: &mut Body, stall: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = tokio::time::timeout(stall, body.frame()).await.map_err(|_| Refusal::Timeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refusal::UploadInvalid("the connection broke off".to_owned())),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// All of `body`, which is `what` and may have `most` bytes.
///
/// # Errors
/// When it has more, nothing comes for as long as `stall`, or the connection breaks.
pub(crate) async fn all(
    mut body: Body,
    headers: &HeaderMap,
    what: &'static str,
    most: u64,
    stall: Duration,
) -> Result<Bytes, Refusal> {
    if length(headers).is_some_and(|length| length > most) {
        return Err(Refusal::TooLarge { what, most });
    }
    let mut bytes = BytesMut::new();
    while let Some(part) = next(&mut body, stall).await? {
        if (bytes.len() as u64).saturating_add(part.len() as u64) > most {
            return Err(Refusal::TooLarge { what, most });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// How long the request says that its body is.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
