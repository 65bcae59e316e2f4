//! TLS for the clients of a host: version 1.3, certificates that are read again when they change, and client certificates.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use witan_identity::Certificate;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The host's certificate and those that lead to its authority, in PEM form.
    pub certificate: PathBuf,
    /// The private key, in PEM form.
    pub key: PathBuf,
    /// The authorities of clients' certificates, in PEM form. Without them, no client is asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("`{path}` has no {what} in PEM form: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// How it failed.
        why: String,
    },
    /// Anybody can read the key.
    #[error("everybody can read the private key `{path}`, whose mode is {mode:o}; run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Certificate and key do not fit, or are of a kind that TLS does not know.
    #[error("the certificate `{certificate}` and the key `{key}` cannot be used together: {why}")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// How it failed.
        why: String,
    },
}

/// The certificates of a host, as its files have them.
pub struct Tls {
    files: TlsFiles,
    loaded: RwLock<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// What the files were when they were last looked at, whether they could be used or not.
    stamps: Vec<Stamp>,
}

/// What tells one state of a file from the next.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Tls {
    /// Reads `files`.
    ///
    /// # Errors
    /// When one cannot be read, or they cannot be used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let config = files.config()?;
        Ok(Self { files, loaded: RwLock::new(Loaded { config, stamps }) })
    }

    /// Reads the files again if one has changed. Connections that are open go on with what they began with.
    ///
    /// # Errors
    /// When they cannot be used; what was read before is used on, and they are not read again until they change once more.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let stamps = self.files.stamps();
        if stamps == self.loaded.read().stamps {
            return Ok(false);
        }
        let config = self.files.config();
        let mut loaded = self.loaded.write();
        loaded.stamps = stamps;
        loaded.config = config?;
        Ok(true)
    }

    /// Looks at the files from time to time, for as long as it is awaited.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the certificates for TLS were read again"),
                Err(error) => {
                    tracing::error!(%error, "the certificates for TLS were not read again; the former ones go on")
                }
            }
        }
    }

    /// Greets a client.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.loaded.read().config.clone();
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate that a client showed, which was verified, if it showed one.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Option<Arc<Certificate>> {
    let first = stream.get_ref().1.peer_certificates()?.first()?;
    Certificate::from_verified(first)
        .inspect_err(|error| tracing::debug!(%error, "a client's certificate says nothing"))
        .ok()
        .map(Arc::new)
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
        };
        files.into_iter().flatten().map(stamp).collect()
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    let wrong = |error: rustls::Error| TlsError::File {
                        path: path.clone(),
                        what: "authority",
                        why: error.to_string(),
                    };
                    roots.add(authority).map_err(wrong)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(
                    verifier.allow_unauthenticated().build().map_err(|error| unusable(&error))?,
                )
            }
        };
        let certificates = certificates(&self.certificate)?;
        let mut config = builder.with_single_cert(certificates, key(&self.key)?).map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File { path: path.to_owned(), what: "certificate", why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() { Err(wrong("it has none".to_owned())) } else { Ok(read) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o007 != 0 {
        return Err(TlsError::Open { path: path.to_owned(), mode });
    }
    let wrong = |error: rustls::pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        what: "private key",
        why: error.to_string(),
    };
    PrivateKeyDer::from_pem_file(path).map_err(wrong)
}
