//! From a checked system to running services.
//!
//! The one way from a source to the engine: [`Loader::load`] has the gate verify the bytes, compiles those very bytes,
//! and links what each component imports to what it was granted or linked, and to nothing else. Deny is by
//! complement: an import that is neither baseline, nor granted, nor linked stops the load.
//!
//! A load is all or nothing, and a running system is never changed: to reload is to load anew beside it, and to put
//! the new one in its place once it stands. Calls under way end on the system that they began on.

mod admit;
mod error;
mod fused;
mod health;
mod link;
mod order;
mod running;

use std::{collections::BTreeMap, sync::Arc};

pub use admit::needs;
pub use error::{LoadError, LoadProblem};
pub use running::{By, Import, Loaded, Running};
use wasmtime::component::Linker;
use witan_admission::{Admitted, Gate, Refused};
use witan_capability::{CallState, Capability, Component, Kernel};
use witan_engine::{Cache, Compiler, Engine, Service, ServiceSettings, Trust, Version};
use witan_policy::GrantPolicy;
use witan_system::{CompileIn, ComponentName, System};

use crate::admit::Bytes;

/// Told how far a load has come; each component is announced once, when it is compiled.
pub type Progress<'a> = &'a (dyn Fn(&ComponentName) + Sync);

/// What a load needs of the host.
pub struct Loader {
    /// Compiles and runs.
    pub engine: Arc<Engine>,
    /// Decides which bytes may.
    pub gate: Arc<Gate>,
    /// Keeps the decision log, which has each of its verdicts.
    pub policy: Arc<GrantPolicy>,
    /// What all calls share.
    pub kernel: Arc<Kernel>,
    /// Every capability that the host has.
    pub capabilities: Vec<Arc<dyn Capability>>,
    /// Compiled code of former runs.
    pub cache: Option<Cache>,
    /// How to compile bytes that are not our own.
    pub compiler: Option<Compiler>,
    /// Whether to link every capability, granted or not: record mode, in which policy alone decides.
    pub link_all: bool,
}

/// A component whose bytes are read, checked and compiled.
pub(crate) struct Compiled {
    pub(crate) bytes: Bytes,
    pub(crate) fused: Vec<ComponentName>,
    pub(crate) code: wasmtime::component::Component,
}

impl Loader {
    /// Loads `system`: all of it, or nothing.
    ///
    /// # Errors
    /// Every problem that keeps a component from being loaded, not the first alone. Components that are linked to one
    /// that failed are not reported again.
    pub async fn load(&self, system: System, progress: Progress<'_>) -> Result<Running, LoadError> {
        let running = self.prepare(system, progress)?;
        self.start(&running).await?;
        Ok(running)
    }

    /// Asks the components of a system that [`Self::prepare`] made whether they are fit to serve; the first of their code
    /// that runs. From here on, nothing older may take their place.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn start(&self, running: &Running) -> Result<(), LoadError> {
        self.keep(running)?;
        health::check(self, running).await
    }

    /// As [`Self::load`], without running any code of the components: what `witan check` needs.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn prepare(&self, system: System, progress: Progress<'_>) -> Result<Running, LoadError> {
        let order = order::callees_first(&system)?;
        let mut verdicts = admit::admit_all(self, &system)?;
        let compiled = self.compile_all(&system, &verdicts.bytes, progress)?;
        let mut running = Running::new(Arc::new(system), std::mem::take(&mut verdicts.held));
        let mut problems = Vec::new();
        for name in order {
            let Some(code) = compiled.get(&name) else { continue };
            let Some(admitted) = verdicts.admitted.remove(&name) else { continue };
            match self.link_one(&running, &name, code, admitted, &mut problems) {
                Some(loaded) => running.insert(name, loaded),
                None => continue,
            }
        }
        problems.extend(running.unserved());
        LoadError::unless_empty(problems)?;
        Ok(running)
    }

    /// Keeps what was loaded: nothing older may take its place, and what was said of its checks no longer holds.
    fn keep(&self, running: &Running) -> Result<(), LoadError> {
        let kept = || -> Result<(), Refused> {
            let all = running.components().iter();
            let sources =
                all.filter_map(|(name, loaded)| Some((&running.system.components.get(name)?.source, &loaded.admitted)));
            self.gate.loaded(sources)?;
            Ok(self.gate.quarantine.passed(&running.components().keys().map(ComponentName::as_str).collect())?)
        };
        kept().map_err(|refused| LoadProblem::Kept { message: refused.to_string() }.into())
    }

    fn compile_all(
        &self,
        system: &System,
        bytes: &BTreeMap<ComponentName, Bytes>,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<ComponentName, Compiled>, LoadError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(bytes.len()).max(1);
        let queue = std::sync::Mutex::new(bytes.keys());
        let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
        let work = || {
            let mut done = Vec::new();
            while let Some(name) = next() {
                done.push((name.clone(), self.compile_one(system, bytes, name)));
                progress(name);
            }
            done
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        let mut compiled = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, result) in results {
            match result {
                Ok(code) => drop(compiled.insert(name, code)),
                Err(problem) => problems.push(problem),
            }
        }
        LoadError::unless_empty(problems)?;
        Ok(compiled)
    }

    fn compile_one(
        &self,
        system: &System,
        bytes: &BTreeMap<ComponentName, Bytes>,
        name: &ComponentName,
    ) -> Result<Compiled, LoadProblem> {
        let (bytes, fused) = fused::fuse(self, system, bytes, name)?;
        let trust = match system.components.get(name).map(|component| component.compile) {
            Some(CompileIn::Host) => Trust::Own,
            _ => Trust::Foreign,
        };
        let code = self
            .engine
            .compile(&bytes.bytes, trust, self.compiler.as_ref(), self.cache.as_ref())
            .map_err(|error| LoadProblem::compile(name, &error))?;
        Ok(Compiled { bytes, fused, code })
    }

    fn link_one(
        &self,
        running: &Running,
        name: &ComponentName,
        compiled: &Compiled,
        admitted: Admitted,
        problems: &mut Vec<LoadProblem>,
    ) -> Option<Loaded> {
        let settings = running.system.components.get(name)?;
        let mut linker = Linker::<CallState>::new(self.engine.wasmtime());
        let before = problems.len();
        let imports = link::link_imports(self, running, name, compiled, &mut linker, problems);
        if problems.len() > before {
            return None;
        }
        let pre = match linker.instantiate_pre(&compiled.code) {
            Ok(pre) => pre,
            Err(error) => {
                problems.push(LoadProblem::mismatch(name, &error));
                return None;
            }
        };
        let component = Arc::new(Component {
            name: name.as_str().into(),
            digest: compiled.bytes.digest,
            grants: Arc::new(settings.grants.clone()),
        });
        let version = Version::new(self.engine.clone(), component, pre, settings.instances.clone());
        let limits = &settings.limits;
        let admits = ServiceSettings { concurrency: limits.concurrency, queue: limits.queue, breaker: limits.breaker };
        Some(Loaded {
            service: Service::limited(
                name.as_str(),
                self.kernel.clone(),
                admits,
                version,
                settings.limits.call.clone(),
            ),
            imports,
            exports: link::exports(&compiled.code),
            fused: compiled.fused.clone(),
            size: compiled.bytes.bytes.len() as u64,
            digest: compiled.bytes.digest,
            admitted,
        })
    }
}
