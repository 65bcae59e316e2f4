//! Compiles, caches, links, runs and limits components.
//!
//! Start reading at [`Engine::new`], then [`Service::call`]: a service is a component under its name, and a call
//! gets a store of its own, driven by a task of its own.
//!
//! The engine names no capability: it receives filled linkers. It opens no socket, and no file but its cache.

mod breaker;
mod cache;
mod compile;
mod drive;
mod failure;
mod instances;
mod service;
mod session;
mod settings;
mod version;
mod watchdog;

pub use cache::{Cache, CacheError};
pub use compile::{CompileError, Compiler, Trust, compile_worker};
pub use service::{Admission, Ended, Invocation, Reply, Service, ServiceSettings, ServiceStats};
pub use session::{Exclusive, Session};
pub use settings::{EngineError, Settings};
pub use version::Version;
pub use watchdog::Watchdog;

use std::sync::Arc;

use witan_capability::{Account, Limits};

/// The compiler and the pools that every component of this host shares.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    settings: Settings,
    watchdog: Arc<Watchdog>,
}

impl Engine {
    /// Reserves the pools and starts the watchdog.
    ///
    /// # Errors
    /// When the pools do not fit into this machine's address space, or a thread cannot be started.
    pub fn new(settings: Settings) -> Result<Arc<Self>, EngineError> {
        let wasmtime = settings.engine()?;
        let watchdog = Watchdog::start(wasmtime.clone())?;
        Ok(Arc::new(Self { wasmtime, settings, watchdog }))
    }

    /// The wasmtime engine, for linkers and stores.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens the account of a new call tree, ended at its deadline whatever its guests do.
    #[must_use]
    pub fn open_account(&self, limits: Limits) -> Arc<Account> {
        let account = Account::open(limits);
        self.watchdog.watch(&account);
        account
    }

    /// Opens an account within `account`, for a call of `component` with narrower limits of its own.
    pub(crate) fn open_account_within(
        &self,
        account: &Arc<Account>,
        component: Arc<str>,
        limits: Limits,
    ) -> Arc<Account> {
        let account = account.open_within(component, limits);
        self.watchdog.watch(&account);
        account
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.watchdog.stop();
    }
}
