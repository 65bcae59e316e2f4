//! What a client certificate says of a service. Whether to believe it is for whoever made the connection.

/// The most names of a certificate that are looked at.
const MOST: usize = 64;

/// The names of a client certificate that was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// URIs, such as `spiffe://acme.example/worker`.
    pub uris: Vec<String>,
    /// DNS names, in lower case. Wildcards name no service.
    pub names: Vec<String>,
}

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate cannot be read: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Reads the names of `der`, a certificate whose chain and time were verified by whoever made the connection.
    ///
    /// # Errors
    /// When it is no X.509 certificate.
    pub fn from_verified(der: &[u8]) -> Result<Self, CertificateError> {
        let der = rustls_pki_types::CertificateDer::from(der);
        let certificate = webpki::EndEntityCert::try_from(&der).map_err(|error| CertificateError(error.to_string()))?;
        let names = certificate.valid_dns_names().filter(|name| !name.starts_with('*'));
        Ok(Self {
            uris: certificate.valid_uri_names().take(MOST).map(str::to_owned).collect(),
            names: names.take(MOST).map(str::to_ascii_lowercase).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_are_read_from_a_certificate() {
        let mut params =
            CertificateParams::new(vec!["Worker.acme.example".to_owned(), "*.acme.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://acme.example/worker".try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = Certificate::from_verified(certificate.der()).unwrap();
        assert_eq!(read.uris, ["spiffe://acme.example/worker"]);
        assert_eq!(read.names, ["worker.acme.example"]);
        assert!(Certificate::from_verified(b"no certificate").is_err());
    }
}
