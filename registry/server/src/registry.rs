//! A registry: its settings, what it keeps, and what its operator may do with it.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::RwLock;
use uuid::Uuid;
use witan_database::Database;

use crate::{
    Digest, Failure, MetadataError, Namespace, Repository, Scope, Settings, Token,
    blobs::Blobs,
    component::Descriptions,
    database,
    limits::Limiter,
    metadata::Metadata,
    tokens::{self, Minter, Policy},
    transparency::Transparency,
    uploads::{self, Uploads},
};

/// A registry. It is cheap to clone.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) database: Database,
    pub(crate) blobs: Blobs,
    pub(crate) uploads: Uploads,
    pub(crate) minter: Minter,
    pub(crate) limiter: Limiter,
    pub(crate) transparency: Transparency,
    pub(crate) metadata: Metadata,
    pub(crate) descriptions: Descriptions,
    /// Held for reading while something is on disk that no row names yet, and for writing while what no row names is
    /// removed.
    pub(crate) collecting: RwLock<()>,
    /// Downloads that are not written down yet.
    pub(crate) downloads: Mutex<HashMap<(Repository, Digest), i64>>,
    /// Held for as long as the folder is used.
    _lock: File,
}

/// Why a registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("`{0}` is used by another process; stop that one, or choose another folder")]
    InUse(PathBuf),
    /// The public URL is none that clients could use.
    #[error("`{0}` is not a URL of a registry: it needs `http` or `https`, a host, and no path")]
    PublicUrl(url::Url),
    /// The transparency log cannot be opened.
    #[error("the transparency log cannot be opened")]
    Log(#[from] witan_merkle_log::OpenError),
    /// A witness's key is none.
    #[error(transparent)]
    Witness(#[from] witan_merkle_log::WitnessError),
    /// The TUF metadata cannot be used.
    #[error("the TUF metadata cannot be used")]
    Metadata(#[from] MetadataError),
    /// The disk or the database fails.
    #[error("the registry's data cannot be used")]
    Failed(#[from] Failure),
    /// The database cannot be opened, or is a newer program's.
    #[error("the database cannot be used")]
    Database(#[from] witan_database::DatabaseError),
}

impl Registry {
    /// Opens the registry in the folder that `settings` name, and makes it if it is not there.
    ///
    /// # Errors
    /// When another process uses the folder, or the disk or the database fails.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let url = &settings.public_url;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || url.path() != "/" {
            return Err(OpenError::PublicUrl(url.clone()));
        }
        let lock = lock(&settings)?;
        let database = database::open(&settings.database, &settings.data).await?;
        let blobs = Blobs::open(&settings.data)?;
        let minter = Minter::new()?;
        let transparency = Transparency::open(&settings, &database).await?;
        let log = &transparency.log;
        let metadata = Metadata::open(&settings.data, log.signer(), log.key().der())?;
        let limiter = Limiter::new(&settings.limits);
        Ok(Self(Arc::new(Inner {
            settings,
            database,
            blobs,
            uploads: Uploads::default(),
            minter,
            limiter,
            transparency,
            metadata,
            descriptions: Descriptions::default(),
            collecting: RwLock::default(),
            downloads: Mutex::default(),
            _lock: lock,
        })))
    }

    /// Makes a token that allows `scopes` until `expires`, in seconds since 1970, or for good; gives its id and its
    /// secret, which is not kept and cannot be shown again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[Scope],
        expires: Option<i64>,
    ) -> Result<(Uuid, String), Failure> {
        tokens::create(&self.0.database, name, scopes, expires).await
    }

    /// Every token, without its secret.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, Failure> {
        tokens::list(&self.0.database).await
    }

    /// Ends a token at once; whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(&self, id: Uuid) -> Result<bool, Failure> {
        tokens::revoke(&self.0.database, id).await
    }

    /// Lets `namespace` hold `bytes`, or what the settings say where there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_quota(&self, namespace: &Namespace, bytes: Option<u64>) -> Result<(), Failure> {
        uploads::set_quota(&self.0.database, namespace, bytes).await
    }

    pub(crate) fn namespace(&self, repository: &Repository) -> Namespace {
        Namespace::of(repository, &self.0.settings.namespace_prefix)
    }

    pub(crate) fn policy(&self) -> Policy<'_> {
        let settings = &self.0.settings;
        Policy { prefix: &settings.namespace_prefix, anonymous_pull: settings.anonymous_pull }
    }
}

/// What an operator may do to a registry's tokens and quotas while another process serves it. What is written counts from
/// the next request on.
pub struct Administration(Database);

impl Administration {
    /// Opens the registry in the folder that `settings` name, and makes it if it is not there.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub async fn open(settings: &Settings) -> Result<Self, OpenError> {
        make_folder(settings)?;
        Ok(Self(database::open(&settings.database, &settings.data).await?))
    }

    /// As [`Registry::create_token`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[Scope],
        expires: Option<i64>,
    ) -> Result<(Uuid, String), Failure> {
        tokens::create(&self.0, name, scopes, expires).await
    }

    /// Every token, without its secret.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, Failure> {
        tokens::list(&self.0).await
    }

    /// Ends a token at once; whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(&self, id: Uuid) -> Result<bool, Failure> {
        tokens::revoke(&self.0, id).await
    }

    /// Lets `namespace` hold `bytes`, or what the settings say where there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_quota(&self, namespace: &Namespace, bytes: Option<u64>) -> Result<(), Failure> {
        uploads::set_quota(&self.0, namespace, bytes).await
    }
}

/// What is not public lies here as well.
fn make_folder(settings: &Settings) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = &settings.data;
    let failed = |source| Failure::Disk { path: folder.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)
}

/// Takes the folder for this process. The system gives it back when the process ends, however it does.
fn lock(settings: &Settings) -> Result<File, OpenError> {
    make_folder(settings)?;
    let folder = &settings.data;
    let failed = |path: PathBuf| move |source| Failure::Disk { path, source };
    let path = folder.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(failed(path.clone()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.clone())),
        Err(TryLockError::Error(source)) => Err(failed(path)(source).into()),
    }
}
