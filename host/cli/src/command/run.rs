//! `witan run`: runs a program, a component that exports `wasi:cli/run`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use wasmtime::component::{Accessor, Instance};
use witan_capability::{CallError, CallState};
use witan_engine::{Invocation, Reply};
use witan_tasks::TaskError;
use witan_wasi::Process;

use crate::{Global, flags::Flags, foreign::Ready, host::Mode};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The program: a component that exports `wasi:cli/run`, 0.2 or 0.3.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Arguments of the program; write `--` before the first that begins with a dash.
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    #[command(flatten)]
    flags: Flags,
}

const EXAMPLES: &str =
    "The program has this process's standard streams, and its exit code becomes that of `witan`. Exit
codes of `witan` itself: 1 the program cannot be loaded or trapped, 3 refused, 4 over a limit, 5
out of time, 130 ended by Ctrl-C.

Examples:
  witan run tool.wasm
  witan run tool.wasm --dir docs --dir out::/out:rw -- --verbose docs/a.md
  witan run fetch.wasm --http https://api.example.com/v1 --env API_REGION=eu
  cat notes.md | witan run tool.wasm --deadline 5m";

/// The interface of programs, without version.
const RUN: &str = "wasi:cli/run";

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let (ready, code) = perform(arguments, global, Mode::Enforce).await?;
    ready.tell_refusals();
    Ok(code)
}

/// Runs the program. In record mode its output goes to standard error, since standard output is for the grants.
pub(crate) async fn perform(arguments: Arguments, global: &Global, mode: Mode) -> anyhow::Result<(Ready, ExitCode)> {
    let ready = Ready::file(&arguments.file, &arguments.flags, mode).await?;
    let loaded = ready.loaded()?;
    let is_run = |export: &&String| export.split('@').next() == Some(RUN);
    let Some(export) = loaded.exports.iter().filter(is_run).max().cloned() else {
        anyhow::bail!(
            "`{}` is no program: it does not export `{RUN}`; its exports are: {}; see `witan call` and `witan serve`",
            arguments.file.display(),
            ready.exports()
        );
    };
    let name = arguments.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut process = Process::inherited(std::iter::once(name).chain(arguments.arguments).collect());
    if mode != Mode::Enforce {
        process.stdout = Box::new(tokio::io::stderr());
    }
    let exited = process.exited.clone();
    let account = ready.host.engine.open_account(ready.limits());
    let call = loaded.service.call_plain(&ready.context, &account, Program { export, process });
    let result = tokio::select! {
        result = call => result,
        _ = tokio::signal::ctrl_c() => Err(CallError::Cancelled),
    };
    let code = match (result, exited.get()) {
        (Ok(code), _) => code,
        // To exit is to end the store from within; it is no failure of the call.
        (Err(CallError::Trapped { .. }), Some(status)) => *status,
        (Err(error), _) => ready.report(&TaskError::from(error), global),
    };
    Ok((ready, ExitCode::from(code)))
}

/// The call of a program.
struct Program {
    export: String,
    process: Process,
}

impl Invocation for Program {
    type Output = u8;

    async fn run(self, store: &Accessor<CallState>, instance: Instance, reply: Reply<u8>) -> wasmtime::Result<()> {
        let function = store.with(|mut store| {
            self.process.provide(store.data_mut());
            let interface = instance.get_export_index(&mut store, None, &self.export);
            let function =
                interface.and_then(|interface| instance.get_export_index(&mut store, Some(&interface), "run"));
            let function = function
                .with_context(|| format!("`{}` has no `run`", self.export))
                .map_err(wasmtime::Error::from_anyhow)?;
            instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, function)
        })?;
        let (outcome,) = function.call_concurrent(store, ()).await?;
        reply.send(u8::from(outcome.is_err()));
        Ok(())
    }
}
