//! Where the host may listen.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Why the host cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Other machines could reach the address, and nothing asks them who they are.
    #[error(
        "`{0}` can be reached from other machines, and nothing asks who they are; add [host.auth] to system.toml, or listen \
         on `127.0.0.1:{port}` or `[::1]:{port}`",
        port = .0.port()
    )]
    NobodyAsks(SocketAddr),
    /// Other machines could reach the address, and credentials would come in the clear.
    #[error(
        "`{0}` can be reached from other machines, and credentials would come in the clear; set up TLS, say `--behind-tls` \
         where a proxy in front speaks it, or listen on `127.0.0.1:{port}` or `[::1]:{port}`",
        port = .0.port()
    )]
    InTheClear(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on `{address}`; choose another with `--listen`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// How a host meets other machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Whether every request needs a credential.
    pub asks: bool,
    /// Whether what clients send is kept from others on the way.
    pub private: bool,
}

/// Checks that only this machine can reach `address`, or that others may.
///
/// # Errors
/// When it is no loopback address, and nothing asks clients who they are, or they would say it in the clear.
pub fn check_listen(address: SocketAddr, exposure: Exposure) -> Result<(), ListenError> {
    match exposure {
        _ if address.ip().to_canonical().is_loopback() => Ok(()),
        Exposure { asks: false, .. } => Err(ListenError::NobodyAsks(address)),
        Exposure { private: false, .. } => Err(ListenError::InTheClear(address)),
        Exposure { asks: true, private: true } => Ok(()),
    }
}

/// Listens on `address`.
///
/// # Errors
/// When other machines could reach it that may not, or the system refuses.
pub async fn bind(address: SocketAddr, exposure: Exposure) -> Result<TcpListener, ListenError> {
    check_listen(address, exposure)?;
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_reach_only_a_host_that_asks_and_is_told_in_private() {
        let all = [false, true].map(|asks| [false, true].map(|private| Exposure { asks, private }));
        for exposure in all.into_iter().flatten() {
            for address in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
                assert!(check_listen(address.parse().unwrap(), exposure).is_ok(), "{address}");
            }
            for address in ["0.0.0.0:8080", "[::]:8080", "192.168.0.1:80", "[::ffff:10.0.0.1]:80", "[fe80::1]:80"] {
                let checked = check_listen(address.parse().unwrap(), exposure);
                assert_eq!(checked.is_ok(), exposure.asks && exposure.private, "{address} {exposure:?}");
                if let Err(error) = checked {
                    assert_eq!(matches!(error, ListenError::NobodyAsks(_)), !exposure.asks);
                    assert!(error.to_string().contains("127.0.0.1"), "{error}");
                }
            }
        }
    }
}
