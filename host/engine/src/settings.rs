//! How wasmtime is set up.

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};
use witan_system::{Compile, Pool};

/// Settings of the engine. They hold for the whole host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much is kept ready.
    pub pool: Pool,
    /// What compiling may take.
    pub compile: Compile,
    /// The most linear memory of one memory, in bytes: what the widest limit allows.
    pub memory: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pool: Pool::default(), compile: Compile::default(), memory: 1 << 30 }
    }
}

/// The part of the settings that shapes code: two engines with the same can share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeSettings {
    pub(crate) version: String,
    pub(crate) memory: u64,
    /// The most bytes that a compiler reads.
    pub(crate) size: u64,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The settings do not fit this machine.
    #[error("cannot set up the engine; smaller pools under `[host]` may help: {0}")]
    Settings(String),
    /// The watchdog did not start.
    #[error("cannot start the watchdog thread")]
    Thread(#[source] std::io::Error),
}

/// The stack of one guest call. Twice what deep but sane recursion needs, so that the guest's own limit is met first.
const STACK: usize = 1 << 20;

/// What a guest may use of its stack before it traps.
const GUEST_STACK: usize = 512 << 10;

impl Settings {
    pub(crate) fn code(&self) -> CodeSettings {
        CodeSettings { version: VERSION.to_owned(), memory: self.memory, size: self.compile.size }
    }

    pub(crate) fn engine(&self) -> Result<wasmtime::Engine, EngineError> {
        let mut config = self.code().config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pools()));
        wasmtime::Engine::new(&config).map_err(|error| EngineError::Settings(format!("{error:#}")))
    }

    fn pools(&self) -> PoolingAllocationConfig {
        let mut pools = PoolingAllocationConfig::new();
        let keep = usize::try_from(self.pool.keep_resident).unwrap_or(usize::MAX);
        let instances = self.pool.instances;
        pools
            .total_component_instances(instances)
            .max_memories_per_component(self.pool.memories_per_instance)
            .max_tables_per_component(self.pool.tables_per_instance)
            // Most components have one core module with a memory, and some without: adapters and shims.
            .total_core_instances(instances.saturating_mul(CORE_PER_COMPONENT))
            .total_memories(instances.saturating_mul(2))
            .total_tables(instances.saturating_mul(CORE_PER_COMPONENT))
            // A call that waits in one export while another runs needs a stack for each.
            .total_stacks(instances.saturating_mul(2))
            .max_memory_size(usize::try_from(self.memory).unwrap_or(usize::MAX))
            .table_elements(TABLE_ELEMENTS)
            .max_memories_per_module(self.pool.memories_per_instance)
            .max_tables_per_module(self.pool.tables_per_instance)
            .max_unused_warm_slots(WARM_SLOTS)
            .linear_memory_keep_resident(keep)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        pools
    }
}

impl CodeSettings {
    /// An engine that only compiles: the same code, without pools, whose address space a limited process lacks.
    pub(crate) fn compiler(&self) -> Result<wasmtime::Engine, String> {
        wasmtime::Engine::new(&self.config()).map_err(|error| format!("{error:#}"))
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .wasm_component_model_async(true)
            .wasm_component_model_async_stackful(true)
            .epoch_interruption(true)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
            // Only debuggers and profilers of the host read it.
            .native_unwind_info(false)
            .max_wasm_stack(GUEST_STACK)
            .async_stack_size(STACK);
        config
    }
}

/// The engine whose code is kept. Wasmtime itself refuses the code of another version.
const VERSION: &str = "wasmtime 48";

/// Core instances to a component.
const CORE_PER_COMPONENT: u32 = 4;

/// Elements of a table at most. Large programs have some thousands of functions in theirs.
const TABLE_ELEMENTS: usize = 20_000;

/// Pool slots whose pages stay mapped between two uses.
const WARM_SLOTS: u32 = 64;
