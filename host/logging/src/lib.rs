//! wasi:logging, at a limited rate.
//!
//! A line is bounded, its control characters are escaped, and its bytes are charged to the call tree. Lines over the
//! component's rate are dropped and counted; the next line that passes is preceded by one that says how many.

mod rate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use wasmtime::component::Linker;
use witan_capability::{Action, Call, CallState, Capability, HostFunction, Meter, Resource};
use witan_system::Grants;

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wasmtime::component::bindgen!({ path: "../../wit/deps/logging", world: "wasi:logging/imports" });
}

use bindings::wasi::logging::logging::Level;
use rate::{Bucket, Passage};

const LOGGING: &str = "wasi:logging/logging@0.1.0-draft";
const LOG: HostFunction = HostFunction::new(LOGGING, "log");

/// Bytes of a message that are logged; the rest is cut.
const MESSAGE: usize = 8192;

/// Bytes of a context that are logged.
const CONTEXT: usize = 128;

/// What a line is charged beyond its bytes: in the log it has a time and the names of its component and trace.
const LINE_OVERHEAD: u64 = 100;

/// wasi:logging/logging. One for the host: the rates of all components are kept in it.
#[derive(Default)]
pub struct Logging {
    buckets: Arc<Buckets>,
}

type Buckets = Mutex<HashMap<Arc<str>, Bucket>>;

impl Capability for Logging {
    fn name(&self) -> &'static str {
        "logging"
    }

    fn serves(&self, interface: &str) -> bool {
        interface == LOGGING
    }

    fn granted(&self, grants: &Grants) -> bool {
        grants.logging.is_some()
    }

    fn remedy(&self) -> &'static str {
        "logging = { rate = \"100/s\" }"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        let buckets = self.buckets.clone();
        linker.instance(LOGGING)?.func_wrap(LOG.name, move |store, line: (Level, String, String)| {
            let call = wasmtime::AsContext::as_context(&store).data().call().clone();
            log(&buckets, &call, Instant::now(), &line)
        })
    }

    fn functions(&self) -> Vec<HostFunction> {
        vec![LOG]
    }
}

fn log(
    buckets: &Buckets,
    call: &Call,
    now: Instant,
    (level, context, message): &(Level, String, String),
) -> wasmtime::Result<()> {
    let _permit = call.enter(LOG, Action::Log, &Resource::None)?;
    let rate = call.component.grants.logging.clone().unwrap_or_default().rate;
    let passage = buckets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(call.component.name.clone())
        .or_insert_with(|| Bucket::full(now))
        .take(&rate, now);
    let Passage::Passes { dropped } = passage else { return Ok(()) };
    let (context, message) = (line(context, CONTEXT), line(message, MESSAGE));
    call.account.charge(Meter::LogBytes, (context.len() + message.len()) as u64 + LINE_OVERHEAD)?;
    if dropped > 0 {
        tracing::warn!(component = %call.component.name, "{dropped} lines were dropped: more than the granted rate");
    }
    emit(call, *level, &context, &message);
    Ok(())
}

fn emit(call: &Call, level: Level, context: &str, message: &str) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target: "witan::guest",
                component = %call.component.name,
                trace = %call.context.trace(),
                context,
                "{message}"
            )
        };
    }
    match level {
        Level::Trace => event!(trace),
        Level::Debug => event!(debug),
        Level::Info => event!(info),
        Level::Warn => event!(warn),
        Level::Error | Level::Critical => event!(error),
    }
}

/// `text` in one line: its control characters escaped, and no longer than `most` bytes but for a note of what was cut.
///
/// A guest must not move the cursor of whoever reads the log, or begin a line that looks like another's.
fn line(text: &str, most: usize) -> String {
    let kept = text.floor_char_boundary(most);
    let mut out = String::with_capacity(kept);
    for char in text[..kept].chars() {
        if char.is_control() && char != '\t' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    if kept < text.len() {
        out.push_str(&format!(" … ({} bytes cut)", text.len() - kept));
    }
    out
}

#[cfg(test)]
mod tests;
