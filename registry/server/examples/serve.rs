//! Serves a registry in the folder that is named first, at an address that it prints: for tests that kill it.

use std::{error::Error, io::Write as _, path::PathBuf};

use tokio::net::TcpListener;
use witan_registry_server::{Settings, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("name a folder")?.into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut settings = Settings::new(folder, format!("http://{address}").parse()?);
    settings.log_host = Some("registry.test".to_owned());
    writeln!(std::io::stdout(), "{address}")?;
    // Whoever started it ends it by closing its input, if not otherwise.
    let closed = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    serve(settings, listener, async { drop(closed.await) }).await?;
    Ok(())
}
