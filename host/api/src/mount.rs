//! Paths that components serve.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use axum::body::Body;
use http::{Request, Response};

use crate::RequestBody;

/// What a mount answers with.
pub type MountFuture<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// A component that answers requests.
pub trait Mount: Send + Sync + 'static {
    /// Answers `request`, whose extensions have the [`CallContext`](witan_capability::CallContext) that it runs in. Dropping the
    /// future cancels the work; so does dropping the response's body.
    fn handle(&self, request: Request<RequestBody>) -> MountFuture<'_>;
}

/// Paths that the host serves itself, each with every path below it.
pub const RESERVED: [&str; 5] = ["/v1", "/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Why a path cannot be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The host serves it.
    #[error("the host itself serves `{path}`; mount the component elsewhere (taken are {taken})", taken = RESERVED.join(", "))]
    Reserved {
        /// The path.
        path: String,
    },
    /// Two components are mounted there.
    #[error("`{path}` is mounted twice; remove one of the two `[[mounts]]`")]
    Twice {
        /// The path.
        path: String,
    },
}

/// The mounts of a host, longest path first.
#[derive(Clone, Default)]
pub struct Mounts(Vec<(String, Arc<dyn Mount>)>);

impl Mounts {
    /// Mounts each component at its path, and at every path below it. A path begins with `/`.
    ///
    /// # Errors
    /// When the host serves a path itself, or one is given twice.
    pub fn new(mounts: impl IntoIterator<Item = (String, Arc<dyn Mount>)>) -> Result<Self, MountError> {
        let mut sorted: Vec<(String, Arc<dyn Mount>)> = Vec::new();
        for (path, mount) in mounts {
            if is_reserved(&path) {
                return Err(MountError::Reserved { path });
            }
            let path = path.trim_end_matches('/').to_owned();
            if sorted.iter().any(|(other, _)| *other == path) {
                return Err(MountError::Twice { path: if path.is_empty() { "/".to_owned() } else { path } });
            }
            sorted.push((path, mount));
        }
        sorted.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(Self(sorted))
    }

    /// The mounted paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(path, _)| if path.is_empty() { "/" } else { path.as_str() })
    }

    /// What serves `path`, if it is not the host itself.
    pub(crate) fn find(&self, path: &str) -> Option<(&str, &Arc<dyn Mount>)> {
        if self.0.is_empty() || is_reserved(path) {
            return None;
        }
        self.0.iter().find(|(prefix, _)| lies_below(path, prefix)).map(|(prefix, mount)| (prefix.as_str(), mount))
    }
}

impl fmt::Debug for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|reserved| lies_below(path, reserved))
}

fn lies_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl Mount for Named {
        fn handle(&self, _request: Request<RequestBody>) -> MountFuture<'_> {
            Box::pin(async { Response::new(Body::from(self.0)) })
        }
    }

    fn mounts(paths: &[&'static str]) -> Result<Mounts, MountError> {
        Mounts::new(paths.iter().map(|path| ((*path).to_owned(), Arc::new(Named(path)) as Arc<dyn Mount>)))
    }

    #[test]
    fn the_longest_path_serves_and_the_host_keeps_its_own() {
        let mounts = mounts(&["/", "/a", "/a/b/"]).unwrap();
        let prefix = |path: &str| mounts.find(path).map(|(prefix, _)| prefix);
        assert_eq!(prefix("/a/b/c"), Some("/a/b"));
        assert_eq!(prefix("/a/bc"), Some("/a"));
        assert_eq!(prefix("/ab"), Some(""));
        assert_eq!(prefix("/v1x"), Some(""));
        for path in RESERVED {
            assert_eq!(prefix(path), None);
            assert_eq!(prefix(&format!("{path}/x")), None);
        }
    }

    #[test]
    fn the_hosts_paths_and_duplicates_cannot_be_mounted() {
        assert_eq!(mounts(&["/v1/tasks"]).unwrap_err(), MountError::Reserved { path: "/v1/tasks".into() });
        assert_eq!(mounts(&["/a", "/a/"]).unwrap_err(), MountError::Twice { path: "/a".into() });
    }
}
