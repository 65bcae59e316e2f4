//! Which operation a path under `/v2/` names.
//!
//! The name of a repository may hold any word that stands elsewhere in a path (`blobs`, `uploads`), so a path is read
//! from its end.

use uuid::Uuid;

use crate::names;
use crate::{Digest, Reference, Refusal, Repository};

/// What a path under `/v2/` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: whether this is a registry, and whether the client is known.
    Base,
    /// A manifest.
    Manifest(Repository, Reference),
    /// A blob.
    Blob(Repository, Digest),
    /// Where uploads are begun.
    Uploads(Repository),
    /// An upload that was begun.
    Upload(Repository, Uuid),
    /// The tags of a repository.
    Tags(Repository),
    /// The manifests that say that they are about another.
    Referrers(Repository, Digest),
}

impl Route {
    /// Reads `path`, as it came in the request's line, what stands behind `/v2/`.
    ///
    /// # Errors
    /// When it names nothing, or a part of it is not a name.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        // No name needs an escape; some clients escape the colon of a digest all the same.
        let unescaped = path.replace("%3A", ":").replace("%3a", ":");
        let parts: Vec<&str> = unescaped.split('/').collect();
        let repository = |parts: &[&str]| names::repository(&parts.join("/"));
        match parts.as_slice() {
            [""] => Ok(Self::Base),
            [name @ .., "manifests", reference] => Ok(Self::Manifest(repository(name)?, Reference::parse(reference)?)),
            [name @ .., "blobs", "uploads" | "uploads/"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = Uuid::try_parse(id).map_err(|_| Refusal::UploadUnknown)?;
                Ok(Self::Upload(repository(name)?, id))
            }
            [name @ .., "blobs", digest] => Ok(Self::Blob(repository(name)?, names::digest(digest)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "referrers", digest] => Ok(Self::Referrers(repository(name)?, names::digest(digest)?)),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    /// The repository that it is about.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Base => None,
            Self::Manifest(repository, _)
            | Self::Blob(repository, _)
            | Self::Uploads(repository)
            | Self::Upload(repository, _)
            | Self::Tags(repository)
            | Self::Referrers(repository, _) => Some(repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn repository(name: &str) -> Repository {
        names::repository(name).unwrap()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = names::digest(&format!("sha256:{HEX}")).unwrap();
        let id = Uuid::from_u128(7);
        for (path, route) in [
            (String::new(), Route::Base),
            (
                "a/b/manifests/latest".to_owned(),
                Route::Manifest(repository("a/b"), Reference::parse("latest").unwrap()),
            ),
            (format!("a/manifests/sha256%3A{HEX}"), Route::Manifest(repository("a"), Reference::Digest(digest))),
            (format!("a/blobs/sha256:{HEX}"), Route::Blob(repository("a"), digest)),
            ("a/blobs/uploads/".to_owned(), Route::Uploads(repository("a"))),
            ("a/blobs/uploads".to_owned(), Route::Uploads(repository("a"))),
            (format!("a/blobs/uploads/{id}"), Route::Upload(repository("a"), id)),
            ("a/tags/list".to_owned(), Route::Tags(repository("a"))),
            ("tags/list/tags/list".to_owned(), Route::Tags(repository("tags/list"))),
            (format!("a/referrers/sha256:{HEX}"), Route::Referrers(repository("a"), digest)),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn nothing_leaves_its_place() {
        for path in [
            "../manifests/latest".to_owned(),
            "a/../../manifests/latest".to_owned(),
            "a/%2e%2e/manifests/latest".to_owned(),
            "a%2fb/manifests/latest".to_owned(),
            "a/manifests/..".to_owned(),
            "a/manifests/../../x".to_owned(),
            "a/blobs/..".to_owned(),
            "a/blobs/sha256:..%2f..%2fetc".to_owned(),
            "a/blobs/uploads/../x".to_owned(),
            "a/blobs/uploads/..".to_owned(),
            format!("a/blobs/sha512:{HEX}{HEX}"),
            "/manifests/latest".to_owned(),
            "manifests/latest".to_owned(),
            "a/tags/other".to_owned(),
            "_catalog".to_owned(),
        ] {
            assert!(Route::parse(&path).is_err(), "{path}");
        }
    }
}
