//! A client of one registry.

use witan_registry_types::{Host, Mapping, PackageName, Repository};

use crate::http::{Http, RequestError};
use crate::settings::Settings;

/// A client of one registry, which knows in which of its repositories a package lies.
pub struct Client {
    pub(crate) http: Http,
    pub(crate) mapping: Mapping,
}

impl Client {
    /// A client of the registry at `host`, where packages lie as `mapping` says. It is asked over HTTPS; over HTTP where it
    /// is this machine.
    pub fn new(host: Host, mapping: Mapping, settings: Settings) -> Result<Self, RequestError> {
        Ok(Self { http: Http::new(host, settings)?, mapping })
    }

    /// The registry.
    pub fn host(&self) -> &Host {
        &self.http.host
    }

    /// The repository of `package`.
    pub fn repository(&self, package: &PackageName) -> Repository {
        self.mapping.repository(package)
    }
}

/// The scope that lets us read a repository.
pub(crate) fn pull(repository: &Repository) -> String {
    format!("repository:{repository}:pull")
}

/// The scope that lets us write to a repository.
pub(crate) fn push(repository: &Repository) -> String {
    format!("repository:{repository}:pull,push")
}
