//! What every component gets: nothing with authority, and the filesystem, in which nothing is found without a grant.

use wasmtime::component::Linker;
use wasmtime_wasi::{p2 as wasip2, p3 as wasip3};
use wasmtime_wasi_io::bindings::wasi::io;
use witan_capability::{Call, CallState, Capability, HostFunction};
use witan_system::Grants;

use crate::{
    guard::Refusal,
    p2, p3,
    view::{Guarded, View, view},
};

/// wasi:io, cli, filesystem, random and the monotonic clock.
pub struct Baseline;

const TABLES: &[&[HostFunction]] = &[
    p2::io::ERROR,
    p2::io::POLL,
    p2::io::POLLABLE,
    p2::io::INPUT,
    p2::io::OUTPUT,
    p2::cli::ENVIRONMENT,
    p2::cli::EXIT,
    p2::cli::STDIN,
    p2::cli::STDOUT,
    p2::cli::STDERR,
    p2::cli::TERMINAL_STDIN,
    p2::cli::TERMINAL_STDOUT,
    p2::cli::TERMINAL_STDERR,
    p2::clocks::MONOTONIC,
    p2::random::RANDOM,
    p2::random::INSECURE,
    p2::random::INSECURE_SEED,
    p2::filesystem::PREOPENS,
    p2::filesystem::TYPES,
    p2::filesystem::DESCRIPTOR,
    p2::filesystem::ENTRIES,
    p3::cli::ENVIRONMENT,
    p3::cli::EXIT,
    p3::cli::STDIN,
    p3::cli::STDOUT,
    p3::cli::STDERR,
    p3::cli::TERMINAL_STDIN,
    p3::cli::TERMINAL_STDOUT,
    p3::cli::TERMINAL_STDERR,
    p3::clocks::MONOTONIC,
    p3::clocks::WAITING,
    p3::random::RANDOM,
    p3::random::INSECURE,
    p3::random::INSECURE_SEED,
    p3::filesystem::PREOPENS,
    p3::filesystem::DESCRIPTOR,
];

/// Interfaces without functions, of which components import types or handles.
const TYPES: &[&str] = &[
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/types@0.3.0",
    "wasi:cli/terminal-input@0.3.0",
    "wasi:cli/terminal-output@0.3.0",
    "wasi:clocks/types@0.3.0",
    "wasi:filesystem/types@0.3.0",
];

impl Capability for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn serves(&self, interface: &str) -> bool {
        let linked = TABLES.iter().flat_map(|table| table.iter()).map(|function| function.interface);
        linked.chain(TYPES.iter().copied()).any(|linked| crate::serves(linked, interface))
    }

    fn granted(&self, _: &Grants) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "every component has it"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        add_p2(linker)?;
        add_p3(linker)
    }

    fn functions(&self) -> Vec<HostFunction> {
        TABLES.concat()
    }
}

fn add_p2(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    use wasip2::bindings::{cli, clocks, filesystem, random};

    io::error::add_to_linker::<_, Guarded>(linker, view)?;
    io::poll::add_to_linker::<_, Guarded>(linker, view)?;
    io::streams::add_to_linker::<_, Guarded>(linker, view)?;
    cli::environment::add_to_linker::<_, Guarded>(linker, view)?;
    cli::exit::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stdin::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stdout::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stderr::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_input::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_output::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stdin::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stdout::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stderr::add_to_linker::<_, Guarded>(linker, view)?;
    clocks::monotonic_clock::add_to_linker::<_, Guarded>(linker, view)?;
    random::random::add_to_linker::<_, Guarded>(linker, view)?;
    random::insecure::add_to_linker::<_, Guarded>(linker, view)?;
    random::insecure_seed::add_to_linker::<_, Guarded>(linker, view)?;
    filesystem::types::add_to_linker::<_, Guarded>(linker, view)?;
    filesystem::preopens::add_to_linker::<_, Guarded>(linker, view)
}

fn add_p3(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    use wasip3::bindings::{cli, clocks, filesystem, random};

    cli::types::add_to_linker::<_, Guarded>(linker, view)?;
    cli::environment::add_to_linker::<_, Guarded>(linker, view)?;
    cli::exit::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stdin::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stdout::add_to_linker::<_, Guarded>(linker, view)?;
    cli::stderr::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_input::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_output::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stdin::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stdout::add_to_linker::<_, Guarded>(linker, view)?;
    cli::terminal_stderr::add_to_linker::<_, Guarded>(linker, view)?;
    clocks::types::add_to_linker::<_, Guarded>(linker, view)?;
    clocks::monotonic_clock::add_to_linker::<_, Guarded>(linker, view)?;
    random::random::add_to_linker::<_, Guarded>(linker, view)?;
    random::insecure::add_to_linker::<_, Guarded>(linker, view)?;
    random::insecure_seed::add_to_linker::<_, Guarded>(linker, view)?;
    filesystem::types::add_to_linker::<_, Guarded>(linker, view)?;
    filesystem::preopens::add_to_linker::<_, Guarded>(linker, view)
}

impl View<'_> {
    /// The granted variables, each of which policy lets pass.
    pub(crate) fn environment(&self, function: HostFunction) -> wasmtime::Result<Vec<(String, String)>> {
        let _permit = self.baseline(function)?;
        let Call { component, .. } = &self.wasi.call;
        let passes = |name: &str| -> Result<_, Refusal> {
            let key = witan_capability::Resource::Key(name);
            self.wasi.enter(function, witan_capability::Action::EnvironmentRead, &key)
        };
        let granted = component.grants.environment.iter();
        Ok(granted
            .filter(|(name, _)| passes(name).is_ok())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }
}
