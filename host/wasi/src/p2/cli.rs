//! wasi:cli 0.2: environment, exit, standard streams and terminals.

use wasmtime::{Result, component::Resource};
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::{guard::guarded, view::View};

type Input = Resource<terminal_input::TerminalInput>;
type Output = Resource<terminal_output::TerminalOutput>;

guarded! {
    ENVIRONMENT: "wasi:cli/environment@0.2.12", environment::Host, via cli;
    ["get-environment"] sync fn get_environment(&mut self) -> Result<Vec<(String, String)>> = custom (function) { self.environment(function) };
    ["get-arguments"] sync fn get_arguments(&mut self) -> Result<Vec<String>> = baseline();
    ["initial-cwd"] sync fn initial_cwd(&mut self) -> Result<Option<String>> = baseline();
}

guarded! {
    EXIT: "wasi:cli/exit@0.2.12", exit::Host, via cli;
    ["exit"] sync fn exit(&mut self, status: Result<(), ()>) -> Result<()> = exiting(status.map_or(1, |()| 0));
    ["exit-with-code"] sync fn exit_with_code(&mut self, code: u8) -> Result<()> = exiting(code);
}

guarded! {
    STDIN: "wasi:cli/stdin@0.2.12", stdin::Host, via cli;
    ["get-stdin"] sync fn get_stdin(&mut self) -> Result<Resource<DynInputStream>> = baseline();
}

guarded! {
    STDOUT: "wasi:cli/stdout@0.2.12", stdout::Host, via cli;
    ["get-stdout"] sync fn get_stdout(&mut self) -> Result<Resource<DynOutputStream>> = baseline();
}

guarded! {
    STDERR: "wasi:cli/stderr@0.2.12", stderr::Host, via cli;
    ["get-stderr"] sync fn get_stderr(&mut self) -> Result<Resource<DynOutputStream>> = baseline();
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
    TERMINAL_STDIN: "wasi:cli/terminal-stdin@0.2.12", terminal_stdin::Host, via cli;
    ["get-terminal-stdin"] sync fn get_terminal_stdin(&mut self) -> Result<Option<Input>> = baseline();
}

guarded! {
    TERMINAL_STDOUT: "wasi:cli/terminal-stdout@0.2.12", terminal_stdout::Host, via cli;
    ["get-terminal-stdout"] sync fn get_terminal_stdout(&mut self) -> Result<Option<Output>> = baseline();
}

guarded! {
    TERMINAL_STDERR: "wasi:cli/terminal-stderr@0.2.12", terminal_stderr::Host, via cli;
    ["get-terminal-stderr"] sync fn get_terminal_stderr(&mut self) -> Result<Option<Output>> = baseline();
}
