//! The standard streams and arguments of a call: the log, unless a person sits at the other end.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncWrite, empty};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{OutputStream, StreamError, StreamResult},
};
use witan_capability::{Call, CallState, LimitExceeded, Meter};

use crate::view::Wasi;

/// What a call sees as its process.
pub struct Process {
    /// The arguments, the name of the program first.
    pub arguments: Vec<String>,
    /// Standard input.
    pub stdin: Box<dyn StdinStream + Sync>,
    /// Standard output.
    pub stdout: Box<dyn StdoutStream + Sync>,
    /// Standard error.
    pub stderr: Box<dyn StdoutStream + Sync>,
    /// The status with which the guest left through `wasi:cli/exit`, if it did. To the engine, that is a trap.
    pub exited: Arc<OnceLock<u8>>,
}

impl Process {
    /// No arguments, no input, and output line by line to the log.
    #[must_use]
    pub fn logged(call: &Call) -> Self {
        Self {
            arguments: Vec::new(),
            stdin: Box::new(empty()),
            stdout: Box::new(Log::new(call, "stdout")),
            stderr: Box::new(Log::new(call, "stderr")),
            exited: Arc::default(),
        }
    }

    /// The streams of this very process, for a command that a person runs.
    #[must_use]
    pub fn inherited(arguments: Vec<String>) -> Self {
        Self {
            arguments,
            stdin: Box::new(tokio::io::stdin()),
            stdout: Box::new(tokio::io::stdout()),
            stderr: Box::new(tokio::io::stderr()),
            exited: Arc::default(),
        }
    }

    /// Gives this process to the one call that `state` is for. Handles that the guest holds stay what they are.
    pub fn provide(self, state: &mut CallState) {
        state.slot(Wasi::new).replace_process(self);
    }
}

/// What waits for the end of its line at most. A longer line is cut into several.
const LINE: usize = 4096;

/// What a line is charged beyond its bytes: in the log it has a time and the names of its component and trace, and a
/// flood of empty lines is a flood.
const LINE_OVERHEAD: u64 = 100;

/// How much a guest may write at once.
const WRITE: usize = 64 << 10;

/// An output stream whose lines go to the log, and are charged to the call tree.
#[derive(Clone)]
struct Log(Arc<Lines>);

struct Lines {
    call: Call,
    stream: &'static str,
    /// The line that has not ended yet.
    pending: Mutex<Vec<u8>>,
}

impl Log {
    fn new(call: &Call, stream: &'static str) -> Self {
        Self(Arc::new(Lines { call: call.clone(), stream, pending: Mutex::default() }))
    }
}

impl Lines {
    fn pending(&self) -> MutexGuard<'_, Vec<u8>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), LimitExceeded> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.call.account.charge(Meter::LogBytes, bytes.len() as u64 + lines * LINE_OVERHEAD)?;
        let mut pending = self.pending();
        for &byte in bytes {
            if byte == b'\n' || pending.len() == LINE {
                self.emit(&mut pending);
            }
            if byte != b'\n' {
                pending.push(byte);
            }
        }
        Ok(())
    }

    fn emit(&self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        tracing::info!(
            target: "witan::guest",
            component = %self.call.component.name,
            trace = %self.call.context.trace(),
            stream = self.stream,
            "{}",
            printable(&text)
        );
        line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut *self.pending());
        if !rest.is_empty() {
            self.emit(&mut rest);
        }
    }
}

/// The text with its control characters escaped: a guest must not move the cursor of whoever reads the log, or begin
/// a line that looks like another's.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        if char.is_control() && char != '\t' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
        out
    })
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Log {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes).map_err(|limit| StreamError::Trap(limit.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}
