//! Names to addresses.

use std::{io, net::IpAddr};

use async_trait::async_trait;

/// Looks names up. Whoever checks addresses asks it once for each request, checks every address it gives, and connects to none
/// but those: a name that resolves to another address a moment later changes nothing.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `name`, best first.
    ///
    /// # Errors
    /// When the look-up fails. A name without addresses is not an error.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = tokio::net::lookup_host((name, 0)).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}
