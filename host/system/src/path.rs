//! Paths, normalised so that a prefix can be compared.

/// Why a path is refused before any grant is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path `{0}` does not begin with `/`")]
    Relative(String),
    /// It has a part that servers read in different ways, so that comparing a prefix says nothing.
    #[error("the path `{0}` has a part that means another place to some servers: `.` or `..`, in the clear or encoded")]
    Ambiguous(String),
    /// It has a character that no path has.
    #[error("the path `{0}` has a character or a percent-encoding that no path has")]
    Malformed(String),
}

/// The path of a request or a grant as it is compared: percent-encodings of unreserved characters decoded, the others
/// in capitals (RFC 3986, sections 6.2.2.1 and 6.2.2.2).
///
/// Paths with `.` and `..` are refused rather than resolved, also where they are encoded once or twice, stand before a
/// `;`, or are set off by an encoded slash or a backslash: what such a path means differs from server to server, and the
/// one that answers need not be the one that we imagine.
pub fn normalise_http_path(path: &str) -> Result<String, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative(path.to_owned()));
    }
    let normalised = normalise_percent(path).ok_or_else(|| PathError::Malformed(path.to_owned()))?;
    if has_dot_segment(&normalised) {
        return Err(PathError::Ambiguous(path.to_owned()));
    }
    Ok(normalised)
}

/// Whether `path` is `prefix` or below it. Both are normalised.
pub fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn normalise_percent(path: &str) -> Option<String> {
    if path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#')) {
        return Some(path.to_owned());
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        if next == '%' {
            let byte = u8::from_str_radix(rest.get(1..3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?, 16)
                .ok()?;
            match char::from(byte) {
                plain if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => out.push(plain),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            rest = rest.get(3..)?;
        } else if next.is_ascii_graphic() && !"?#".contains(next) {
            out.push(next);
            rest = rest.get(1..)?;
        } else {
            return None;
        }
    }
    Some(out)
}

fn has_dot_segment(path: &str) -> bool {
    // Every spelling of a dot has one of these; nearly all paths have neither, and are asked about often.
    if !path.contains(['.', '%']) {
        return false;
    }
    // `%25` is `%`: a server that decodes twice sees what comes after it.
    let once_more = path.replace("%25", "%");
    let plain =
        once_more.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    plain.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

/// The absolute path under which a guest sees something: no `.`, no `..`, no empty part, no `/` at the end. `None` if
/// the text cannot be one.
pub fn normalise_guest_path(path: &str) -> Option<String> {
    if path == "/" {
        return Some(path.to_owned());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts_are_plain =
        |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']));
    path.strip_prefix('/').filter(|rest| parts_are_plain(rest)).map(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_path_are_one_path() {
        assert_eq!(normalise_http_path("/%76%31/a%2fb/%7e").unwrap(), "/v1/a%2Fb/~");
    }

    #[test]
    fn ways_out_of_a_prefix_are_refused() {
        for path in [
            "/v1/..",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/admin",
            "/v1/./x",
            "/v1/%252e%252e/admin",
            "/v1/..;/admin",
            "/v1/..;a=b/admin",
            "/v1/..%2fadmin",
            "/v1/x%2f..%2f..%2fadmin",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1/%252e%252e%252fadmin",
            "/..",
        ] {
            assert!(matches!(normalise_http_path(path), Err(PathError::Ambiguous(_))), "{path}");
        }
        for path in ["/v1/%", "/v1/%2", "/v1/%zz", "/v1/%+1", "/a b", "/a\nb", "/ä", "/a?b", "/a#b"] {
            assert!(matches!(normalise_http_path(path), Err(PathError::Malformed(_))), "{path:?}");
        }
        assert!(matches!(normalise_http_path("v1"), Err(PathError::Relative(_))));
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        assert!(is_below("/v1", "/v1") && is_below("/v1/x", "/v1") && is_below("/anything", "/"));
        assert!(!is_below("/v1evil", "/v1") && !is_below("/v", "/v1"));
    }

    #[test]
    fn guest_paths_are_absolute_and_plain() {
        assert_eq!(normalise_guest_path("/docs/").as_deref(), Some("/docs"));
        assert_eq!(normalise_guest_path("/").as_deref(), Some("/"));
        for bad in ["", "docs", "/a/../b", "/a//b", "/.", "//", "/a\\b", "/a\0"] {
            assert_eq!(normalise_guest_path(bad), None, "{bad}");
        }
    }
}
