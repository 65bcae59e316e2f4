//! TLS as the client speaks it.

use std::{io, sync::Arc};

use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::Error;
use witan_system::HostName;

/// The settings of TLS: the public roots of the web and `more`, no client certificate, HTTP/1.1.
pub(crate) fn config(more: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    for certificate in more {
        roots.add(certificate.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates in the PEM file `path`.
///
/// # Errors
/// When it cannot be read, or has none.
pub fn authorities(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    use rustls::pki_types::pem::PemObject as _;
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if certificates.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(certificates) }
}

/// Speaks TLS over `stream`. The certificate must be for `host`, the name that was granted.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    host: &HostName,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = server_name(host).map_err(|_| Error::HttpRequestUriInvalid)?;
    TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| code(&error))
}

fn server_name(host: &HostName) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        HostName::Name(name) => ServerName::try_from(name.clone()),
        HostName::Address(address) => Ok(ServerName::from(*address)),
    }
}

fn code(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: alert.as_str().map(str::to_owned),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}
