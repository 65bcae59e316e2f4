//! wasi:cli 0.3: environment, exit, standard streams and terminals.

use wasmtime::{
    AsContextMut as _, Result,
    component::{Access, FutureReader, Resource, StreamReader},
};
use wasmtime_wasi::{
    cli::WasiCli,
    p3::bindings::cli::{
        environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
        terminal_stdout, types::ErrorCode,
    },
};
use witan_capability::CallState;

use crate::{
    guard::{guarded, guarded_concurrent},
    view::{self, View},
};

type Input = Resource<terminal_input::TerminalInput>;
type Output = Resource<terminal_output::TerminalOutput>;
type Outcome = FutureReader<Result<(), ErrorCode>>;

impl wasmtime_wasi::p3::bindings::cli::types::Host for View<'_> {}

guarded! {
    ENVIRONMENT: "wasi:cli/environment@0.3.0", environment::Host, via cli;
    ["get-environment"] sync fn get_environment(&mut self) -> Result<Vec<(String, String)>> = custom (function) { self.environment(function) };
    ["get-arguments"] sync fn get_arguments(&mut self) -> Result<Vec<String>> = baseline();
    ["get-initial-cwd"] sync fn get_initial_cwd(&mut self) -> Result<Option<String>> = baseline();
}

guarded! {
    EXIT: "wasi:cli/exit@0.3.0", exit::Host, via cli;
    ["exit"] sync fn exit(&mut self, status: Result<(), ()>) -> Result<()> = exiting(status.map_or(1, |()| 0));
    ["exit-with-code"] sync fn exit_with_code(&mut self, code: u8) -> Result<()> = exiting(code);
}

impl stdin::Host for View<'_> {}
impl stdout::Host for View<'_> {}
impl stderr::Host for View<'_> {}

guarded_concurrent! {
    STDIN: "wasi:cli/stdin@0.3.0", stdin::HostWithStore<CallState>, of WasiCli, via view::cli;
    ["read-via-stream"] fn read_via_stream(store) -> Result<(StreamReader<u8>, Outcome)> = accessing (function) {
        let _permit = store.get().baseline(function)?;
        stdin::HostWithStore::read_via_stream(Access::<_, WasiCli>::new(store.as_context_mut(), view::cli))
    };
}

guarded_concurrent! {
    STDOUT: "wasi:cli/stdout@0.3.0", stdout::HostWithStore<CallState>, of WasiCli, via view::cli;
    ["write-via-stream"] fn write_via_stream(store, data: StreamReader<u8>) -> Result<Outcome> = accessing (function) {
        let _permit = store.get().baseline(function)?;
        stdout::HostWithStore::write_via_stream(Access::<_, WasiCli>::new(store.as_context_mut(), view::cli), data)
    };
}

guarded_concurrent! {
    STDERR: "wasi:cli/stderr@0.3.0", stderr::HostWithStore<CallState>, of WasiCli, via view::cli;
    ["write-via-stream"] fn write_via_stream(store, data: StreamReader<u8>) -> Result<Outcome> = accessing (function) {
        let _permit = store.get().baseline(function)?;
        stderr::HostWithStore::write_via_stream(Access::<_, WasiCli>::new(store.as_context_mut(), view::cli), data)
    };
}

impl terminal_input::Host for View<'_> {}
impl terminal_input::HostTerminalInput for View<'_> {
    fn drop(&mut self, terminal: Input) -> Result<()> {
        terminal_input::HostTerminalInput::drop(&mut self.cli(), terminal)
    }
}

impl terminal_output::Host for View<'_> {}
impl terminal_output::HostTerminalOutput for View<'_> {
    fn drop(&mut self, terminal: Output) -> Result<()> {
        terminal_output::HostTerminalOutput::drop(&mut self.cli(), terminal)
    }
}

guarded! {
    TERMINAL_STDIN: "wasi:cli/terminal-stdin@0.3.0", terminal_stdin::Host, via cli;
    ["get-terminal-stdin"] sync fn get_terminal_stdin(&mut self) -> Result<Option<Input>> = baseline();
}

guarded! {
    TERMINAL_STDOUT: "wasi:cli/terminal-stdout@0.3.0", terminal_stdout::Host, via cli;
    ["get-terminal-stdout"] sync fn get_terminal_stdout(&mut self) -> Result<Option<Output>> = baseline();
}

guarded! {
    TERMINAL_STDERR: "wasi:cli/terminal-stderr@0.3.0", terminal_stderr::Host, via cli;
    ["get-terminal-stderr"] sync fn get_terminal_stderr(&mut self) -> Result<Option<Output>> = baseline();
}
