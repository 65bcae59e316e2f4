//! One component, loaded for one run: from a file that no system names, or from a system.

use std::path::Path;

use anyhow::{Context as _, bail};
use witan_capability::CallContext;
use witan_loader::{LoadError, LoadProblem, Loaded, Running};
use witan_system::{ComponentName, Limits, Reuse, System};
use witan_tasks::TaskError;

use crate::{
    Global,
    flags::{Flags, granting},
    host::{Host, Mode},
    output,
    owner::{self, Owner},
    source,
};

/// A component that is ready to be called.
pub(crate) struct Ready {
    pub(crate) host: Host,
    pub(crate) running: Running,
    pub(crate) name: ComponentName,
    /// What each call starts from.
    pub(crate) context: CallContext,
    /// The system's data folder, where it is a component of a system.
    _owner: Option<Owner>,
}

impl Ready {
    /// Loads the component in `file`, with what `flags` grant.
    pub(crate) async fn file(file: &Path, flags: &Flags, mode: Mode) -> anyhow::Result<Self> {
        let (name, system) = flags.system(file)?;
        Self::load(name, system, flags, mode, false).await
    }

    /// As [`Self::file`], held to what is granted, with instances reused as `reuse` says.
    pub(crate) async fn reusing(file: &Path, flags: &Flags, reuse: Reuse) -> anyhow::Result<Self> {
        let (name, mut system) = flags.system(file)?;
        system.components.values_mut().for_each(|component| component.instances.reuse = reuse);
        Self::load(name, system, flags, Mode::Enforce, false).await
    }

    /// Loads the component that `text` names: a file, or a component of the system.
    pub(crate) async fn named(text: &str, flags: &Flags, global: &Global, mode: Mode) -> anyhow::Result<Self> {
        if is_file(text) {
            return Self::file(Path::new(text), flags, mode).await;
        }
        if !flags.is_empty() {
            bail!("flags grant to a `.wasm` file alone; what `{text}` is granted stands in system.toml");
        }
        let system = source::load(global).with_context(|| format!("`{text}` is no `.wasm` file"))?;
        let name: ComponentName = text.parse()?;
        if !system.components.contains_key(&name) {
            let names: Vec<&str> = system.components.keys().map(ComponentName::as_str).collect();
            bail!("there is no component `{name}`; the components are: {}; or name a `.wasm` file", names.join(", "));
        }
        Self::load(name, system, flags, mode, global.locked).await
    }

    async fn load(
        name: ComponentName,
        system: System,
        flags: &Flags,
        mode: Mode,
        locked: bool,
    ) -> anyhow::Result<Self> {
        let owner = match system.origin.file() {
            // What no system names has a folder of its own, which holds nothing but copies.
            file if file.as_os_str().is_empty() => None,
            _ => {
                let remedy = "call a component beside it with `witan task`, or stop it with `witan stop`";
                Some(owner::alone(&system.host.state, "call", remedy).await?)
            }
        };
        let host = Host::new(&system, mode)?.held_to_lock(locked);
        let running = host.load(system).await.map_err(with_flags)?;
        if let Some(held) = running.held().iter().find(|held| held.component == name.as_str()) {
            bail!(
                "`{name}` may not run: {}; {}",
                held.reason,
                held.help.as_deref().unwrap_or("see `witan quarantine`")
            );
        }
        Ok(Self { host, running, name, context: flags.context(), _owner: owner })
    }

    /// The component.
    pub(crate) fn loaded(&self) -> anyhow::Result<&Loaded> {
        self.running.component(&self.name).with_context(|| format!("`{}` was not loaded", self.name))
    }

    /// The names of what it exports, for errors.
    pub(crate) fn exports(&self) -> String {
        let exports = self.running.component(&self.name).map(|loaded| loaded.exports.join(", ")).unwrap_or_default();
        if exports.is_empty() { "none".to_owned() } else { exports }
    }

    /// What a call tree that begins here may use.
    pub(crate) fn limits(&self) -> Limits {
        let component = self.running.system.components.get(&self.name);
        component.map_or_else(|| self.running.system.limits.clone(), |component| component.limits.call.clone())
    }

    /// Tells why a call failed, with the flag that sets the limit it met, and gives the exit code.
    pub(crate) fn report(&self, error: &TaskError, global: &Global) -> u8 {
        output::call_error(global, error);
        let limit = error.setting.as_deref().and_then(|setting| setting.strip_prefix("limits."));
        if let Some(limit @ ("memory" | "cpu" | "deadline")) = limit {
            output::note(&format!("`--{limit}` sets it for one run of a `.wasm` file"));
        }
        error.code.exit_code()
    }

    /// Tells the person what was refused: in WASI the component sees a bare code, and may not even say so.
    pub(crate) fn tell_refusals(&self) {
        const MOST: usize = 20;
        let newest = self.host.policy.log().newest(MOST);
        let mut told: Vec<&str> = Vec::new();
        let refused = newest.iter().rev().filter(|entry| !entry.allowed);
        for reason in refused.filter_map(|entry| entry.reason.as_deref()) {
            if !told.contains(&reason) {
                output::note(&format!("refused: {reason}"));
                told.push(reason);
            }
        }
    }
}

/// Whether a person who writes `text` means a file rather than a component of the system.
pub(crate) fn is_file(text: &str) -> bool {
    text.contains(std::path::MAIN_SEPARATOR) || Path::new(text).extension().is_some()
}

/// A refused load names the lines of system.toml; a person at the command line wants the flag.
fn with_flags(error: anyhow::Error) -> anyhow::Error {
    let Some(LoadError { problems }) = error.downcast_ref::<LoadError>() else { return error };
    let line = |problem: &LoadProblem| match problem {
        LoadProblem::NotGranted { capability, .. } => match granting(capability) {
            Some(flag) => format!("{problem}; for one run, add the flag `{flag}`"),
            None => problem.to_string(),
        },
        LoadProblem::Compile { message, .. } => format!("cannot run this file: {message}"),
        other => other.to_string(),
    };
    anyhow::anyhow!(problems.iter().map(line).collect::<Vec<_>>().join("\n"))
}
