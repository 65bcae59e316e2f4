//! Debian's registry, as a server to try ours beside.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use crate::Found;

/// A `docker-registry` that listens on this machine until it is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    host: String,
}

impl DockerRegistry {
    /// Starts `found`, which keeps everything in `folder`, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, and when it ends before it listens.
    pub fn start(found: &Found, folder: &Path) -> io::Result<Self> {
        const LISTENS: &str = "listening on ";
        fs::create_dir_all(folder)?;
        let settings = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{ formatter: text }}\nhttp: {{ addr: '127.0.0.1:0' }}\n\
             storage: {{ filesystem: {{ rootdirectory: '{}' }} }}\n",
            folder.join("data").display()
        );
        fs::write(&settings, text)?;
        let mut command = found.command();
        command.arg("serve").arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut registry = Self { child: command.spawn()?, host: String::new() };
        let said = registry.child.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let host = lines.find_map(|line| {
            let host = line.split_once(LISTENS)?.1.split(['"', ' ']).next()?;
            Some(host.to_owned())
        });
        registry.host = host.ok_or_else(|| io::Error::other("it ended before it listened"))?;
        // It logs each request, and waits for whoever reads that.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(registry)
    }

    /// Where it listens: an address with a port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
