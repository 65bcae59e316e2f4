//! Headers that a guest may neither set nor see, and how many there may be.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, header};
use wasmtime_wasi_http::ForbiddenHeaderFilter;

/// Headers that belong to one connection, not to the message (RFC 9110, section 7.6.1), and those by which a message
/// could be cut up or routed otherwise than it was checked. `host` is here because the host writes it.
const FORBIDDEN: [HeaderName; 11] = [
    header::CONNECTION,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Bytes that one set of headers may take in this process, names, values and bookkeeping together. Servers commonly
/// refuse more than 8 to 32 KiB of plain text.
pub(crate) const SECTION: usize = 64 << 10;

/// Headers of one message.
pub(crate) const COUNT: usize = 128;

static FILTER: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));

/// Whether a guest may neither set nor see this header.
pub(crate) fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.contains(name)
}

/// [`is_forbidden`], in the form that bodies carry along for their trailers.
pub(crate) fn filter() -> ForbiddenHeaderFilter {
    FILTER.clone()
}

/// Bytes that `headers` take, as [`SECTION`] counts them.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| entry_size(name.as_str().len(), value.len())).sum()
}

/// Bytes that one header takes.
pub(crate) fn entry_size(name: usize, value: usize) -> usize {
    name + value + size_of::<HeaderName>() + size_of::<http::HeaderValue>()
}

/// Whether `headers` are few and small enough to be sent.
pub(crate) fn fits(headers: &HeaderMap) -> bool {
    headers.len() <= COUNT && size(headers) <= SECTION
}
