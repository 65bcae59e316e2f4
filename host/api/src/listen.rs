//! Where the host may listen.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Why the host cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Other machines could reach the address, and nothing asks them who they are.
    #[error(
        "`{0}` can be reached from other machines, and this version does not authenticate clients; listen on \
         `127.0.0.1:{port}` or `[::1]:{port}`",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on `{address}`; choose another with `--listen`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that only this machine can reach `address`.
///
/// # Errors
/// When it is no loopback address.
pub fn check_listen(address: SocketAddr) -> Result<(), ListenError> {
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ListenError::NotLoopback(address)) }
}

/// Listens on `address`.
///
/// # Errors
/// When it is no loopback address, or the system refuses.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    check_listen(address)?;
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        for address in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
            assert!(check_listen(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:8080", "[::]:8080", "192.168.0.1:80", "[::ffff:10.0.0.1]:80", "[fe80::1]:80"] {
            let error = check_listen(address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("127.0.0.1"), "{error}");
        }
    }
}
