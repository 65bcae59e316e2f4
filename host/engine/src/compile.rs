//! From bytes to code, within bounds.
//!
//! Compilation cannot be cancelled, and its cost is chosen by whoever wrote the bytes: so bytes that are not our own
//! are compiled in a child process that can be killed.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use wasmparser::{Parser, Payload};
use wasmtime::component::Component;

use witan_system::Compile;

use crate::{Cache, CacheError, Engine, settings::CodeSettings};

/// Whether bytes may be compiled in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are ours: built in this checkout.
    Own,
    /// They come from elsewhere.
    Foreign,
}

/// Why bytes did not become code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// More bytes than the engine takes.
    #[error("the component has {found} bytes, more than the {most} that `host.compile.size` allows")]
    TooLarge {
        /// Its size.
        found: u64,
        /// The setting.
        most: u64,
    },
    /// More functions than the engine takes.
    #[error("the component has more than the {most} functions that `host.compile.functions` allows")]
    TooManyFunctions {
        /// The setting.
        most: u32,
    },
    /// No valid component.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// A core module, which has no typed interface.
    #[error("a core module, not a component; make it one with `wasm-tools component new`")]
    Module,
    /// The compiler took too long.
    #[error("compiling took longer than the {0:?} that `host.compile.time` allows")]
    Time(Duration),
    /// The compiler ended without an answer, most likely for lack of memory.
    #[error("the compiler ended with {status} ({message}); `host.compile.memory` is its limit")]
    Killed {
        /// How the process ended.
        status: String,
        /// What it wrote to its standard error.
        message: String,
    },
    /// The compiler could not be started.
    #[error("cannot run the compiler `{program}`")]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The bytes are not our own, and there is nothing to compile them apart from this process.
    #[error("there is no child process to compile it in, and it is not our own")]
    NoCompiler,
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// How to start a process that calls [`compile_worker`].
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Engine {
    /// Compiles `bytes`, or takes them from the cache. Blocks: run it where blocking is fine.
    ///
    /// # Errors
    /// When the bytes are no valid component or exceed a bound, or the compiler fails.
    pub fn compile(
        &self,
        bytes: &[u8],
        trust: Trust,
        compiler: Option<&Compiler>,
        cache: Option<&Cache>,
    ) -> Result<Component, CompileError> {
        let key = cache.map(|cache| (cache, cache.key(bytes, &self.settings().code())));
        if let Some(code) = key.as_ref().and_then(|(cache, key)| cache.load(key)) {
            // SAFETY: the cache has just authenticated these bytes with this host's own key, for this very engine
            // version and these settings.
            if let Ok(component) = unsafe { Component::deserialize(self.wasmtime(), &code) } {
                return Ok(component);
            }
        }
        check(bytes, &self.settings().compile)?;
        let component = match (trust, compiler) {
            (Trust::Foreign, Some(compiler)) => self.compile_in_child(bytes, compiler)?,
            (Trust::Foreign, None) => return Err(CompileError::NoCompiler),
            (Trust::Own, _) => invalid(Component::new(self.wasmtime(), bytes))?,
        };
        if let Some((cache, key)) = key {
            cache.store(&key, &invalid(component.serialize())?)?;
        }
        Ok(component)
    }

    fn compile_in_child(&self, bytes: &[u8], compiler: &Compiler) -> Result<Component, CompileError> {
        let code = run_child(bytes, compiler, &self.settings().code(), &self.settings().compile)?;
        // SAFETY: the code comes from our own program, run with the same engine and settings. A guest's bytes are its
        // input; that the compiler makes sound code of them is what this process would rely on as well.
        unsafe { invalid(Component::deserialize(self.wasmtime(), code)) }
    }
}

fn invalid<T>(result: wasmtime::Result<T>) -> Result<T, CompileError> {
    result.map_err(|error| CompileError::Invalid(format!("{error:#}")))
}

/// Checks the bounds that are cheap to check, before anything expensive.
fn check(bytes: &[u8], limits: &Compile) -> Result<(), CompileError> {
    if bytes.len() as u64 > limits.size {
        return Err(CompileError::TooLarge { found: bytes.len() as u64, most: limits.size });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(CompileError::Module);
    }
    let mut functions: u32 = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| CompileError::Invalid(error.to_string()))?;
        if let Payload::CodeSectionStart { count, .. } = payload {
            functions = functions.saturating_add(count);
            if functions > limits.functions {
                return Err(CompileError::TooManyFunctions { most: limits.functions });
            }
        }
    }
    Ok(())
}

/// The child process may write this much to its standard error before it is cut.
const MESSAGE: u64 = 4096;

fn run_child(
    bytes: &[u8],
    compiler: &Compiler,
    settings: &CodeSettings,
    limits: &Compile,
) -> Result<Vec<u8>, CompileError> {
    let start_error = |source| CompileError::Start { program: compiler.program.clone(), source };
    let settings_json = serde_json::to_string(settings).map_err(|error| CompileError::Invalid(error.to_string()))?;
    let mut input = tempfile::tempfile().map_err(start_error)?;
    let mut output = tempfile::tempfile().map_err(start_error)?;
    std::io::Write::write_all(&mut input, bytes).map_err(start_error)?;
    std::io::Seek::rewind(&mut input).map_err(start_error)?;
    let mut command = Command::new(&compiler.program);
    command
        .args(&compiler.arguments)
        .env_clear()
        .env(SETTINGS_VARIABLE, settings_json)
        .stdin(input)
        .stdout(output.try_clone().map_err(start_error)?)
        .stderr(Stdio::piped());
    limit_child(&mut command, limits);
    let mut child = command.spawn().map_err(start_error)?;
    let message = read_message(&mut child);
    let status = wait(&mut child, limits.time)?;
    let message = message.and_then(|reader| reader.join().ok()).unwrap_or_default();
    match status.code() {
        Some(0) => {
            let mut code = Vec::new();
            std::io::Seek::rewind(&mut output).map_err(start_error)?;
            output.read_to_end(&mut code).map_err(start_error)?;
            Ok(code)
        }
        Some(REJECTED) => Err(CompileError::Invalid(message)),
        _ => Err(CompileError::Killed { status: status.to_string(), message }),
    }
}

fn read_message(child: &mut Child) -> Option<std::thread::JoinHandle<String>> {
    let stderr = child.stderr.take()?;
    Some(std::thread::spawn(move || {
        let mut message = Vec::new();
        let _cut = stderr.take(MESSAGE).read_to_end(&mut message);
        String::from_utf8_lossy(&message).trim().to_owned()
    }))
}

/// How often the child is looked after while it compiles.
const LOOK: Duration = Duration::from_millis(5);

fn wait(child: &mut Child, most: Duration) -> Result<std::process::ExitStatus, CompileError> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if started.elapsed() < most => std::thread::sleep(LOOK),
            _ => {
                let _gone = child.kill();
                let _gone = child.wait();
                return Err(CompileError::Time(most));
            }
        }
    }
}

fn limit_child(command: &mut Command, limits: &Compile) {
    use std::os::unix::process::CommandExt as _;
    let memory = limits.memory;
    let seconds = limits.time.as_secs().max(1);
    // SAFETY: between fork and exec only `setrlimit` is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            // All cores together may use the time of each.
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
            set_limit(libc::RLIMIT_AS, memory)?;
            set_limit(libc::RLIMIT_CPU, seconds.saturating_mul(cores))?;
            set_limit(libc::RLIMIT_CORE, 0)
        });
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a local of the right type, which the call only reads.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// How the worker is told the settings: not an argument, since those are for everyone to see.
const SETTINGS_VARIABLE: &str = "WITAN_COMPILE_SETTINGS";

/// The exit status of a worker that found the bytes invalid, rather than failing itself.
const REJECTED: i32 = 3;

/// What the child process does: reads a component from standard input and writes its code to standard output.
///
/// Returns the exit status.
#[must_use]
pub fn compile_worker() -> i32 {
    let Some(settings) = std::env::var(SETTINGS_VARIABLE).ok().and_then(|json| serde_json::from_str(&json).ok()) else {
        eprintln!("{SETTINGS_VARIABLE} is not set; this command is only run by the host itself");
        return 2;
    };
    match compile_standard_input(&settings) {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("{message}");
            REJECTED
        }
    }
}

fn compile_standard_input(settings: &CodeSettings) -> Result<(), String> {
    let engine = settings.compiler()?;
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(settings.size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
    std::io::Write::write_all(&mut std::io::stdout(), &code).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn modules_and_large_components_are_refused_before_compiling() {
        let engine = Engine::new(Settings {
            compile: Compile { size: 200, functions: 1, ..Compile::default() },
            ..Settings::default()
        })
        .unwrap();
        let compile = |text: &str| engine.compile(&wat::parse_str(text).unwrap(), Trust::Own, None, None).err();
        assert!(matches!(compile("(module)"), Some(CompileError::Module)));
        let long = format!("(component (core module (func (export \"{}\"))))", "x".repeat(300));
        assert!(matches!(compile(&long), Some(CompileError::TooLarge { .. })));
        let many = "(component (core module (func)) (core module (func)))";
        assert!(matches!(compile(many), Some(CompileError::TooManyFunctions { most: 1 })));
        assert!(compile("(component)").is_none());
        let invalid = engine.compile(b"\0asm\x0d\0\x01\0garbage", Trust::Own, None, None).err();
        assert!(matches!(invalid, Some(CompileError::Invalid(_))), "{invalid:?}");
    }
}
