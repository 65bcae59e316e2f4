//! How wasmtime is set up.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Settings of the engine. They hold for the whole host, and those that shape code are part of the cache's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Component instances alive at once, callers and callees together.
    pub instances: u32,
    /// Stacks alive at once: one for each guest call under way.
    pub stacks: u32,
    /// The most linear memory of one memory, in bytes.
    pub memory: u64,
    /// Elements of one table at most.
    pub table_elements: u32,
    /// Bytes of each pooled memory that stay resident between two uses: speed for memory.
    pub keep_resident: u64,
    /// Pool slots that stay warm between two uses.
    pub warm_slots: u32,
    /// Bytes of a component at most.
    pub component_bytes: u64,
    /// Functions of a component at most.
    pub component_functions: u32,
    /// What a compilation in a child process may take.
    pub compile: CompileLimits,
    /// Where compiled code is kept; none keeps it nowhere.
    pub cache: Option<PathBuf>,
}

/// Limits of a compilation in a child process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLimits {
    /// Bytes of address space.
    pub memory: u64,
    /// Time by the clock, and the processor time of each core.
    pub time: Duration,
}

impl Default for Settings {
    /// Sized for 1,000 callers and their 1,000 callees on a small machine; only address space is reserved.
    fn default() -> Self {
        Self {
            instances: 2_500,
            stacks: 5_000,
            memory: 1 << 30,
            table_elements: 20_000,
            keep_resident: 512 << 10,
            warm_slots: 64,
            component_bytes: 64 << 20,
            component_functions: 100_000,
            compile: CompileLimits { memory: 4 << 30, time: Duration::from_secs(60) },
            cache: None,
        }
    }
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
    /// The parts that shape compiled code; two engines with the same can share a cache.
    #[must_use]
    pub(crate) fn code_key(&self) -> String {
        format!("wasmtime-48;epoch;async;memory={};stack={GUEST_STACK}", self.memory)
    }

    pub(crate) fn engine(&self) -> Result<wasmtime::Engine, EngineError> {
        wasmtime::Engine::new(&self.config()).map_err(|error| EngineError::Settings(format!("{error:#}")))
    }

    /// An engine that only compiles: the same code, without pools, whose address space a limited process lacks.
    pub(crate) fn compiler(&self) -> Result<wasmtime::Engine, String> {
        wasmtime::Engine::new(&self.code()).map_err(|error| format!("{error:#}"))
    }

    fn config(&self) -> Config {
        let mut config = self.code();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pools()));
        config
    }

    /// All that shapes code.
    fn code(&self) -> Config {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .wasm_component_model_async(true)
            .wasm_component_model_async_stackful(true)
            .epoch_interruption(true)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
            .max_wasm_stack(GUEST_STACK)
            .async_stack_size(STACK);
        config
    }

    fn pools(&self) -> PoolingAllocationConfig {
        let mut pools = PoolingAllocationConfig::new();
        let keep = usize::try_from(self.keep_resident).unwrap_or(usize::MAX);
        // A component is some core modules with, mostly, one memory: adapters and shims bring tables, not memories.
        pools
            .total_component_instances(self.instances)
            .total_core_instances(self.instances.saturating_mul(4))
            .total_memories(self.instances.saturating_mul(2))
            .total_tables(self.instances.saturating_mul(4))
            .total_stacks(self.stacks)
            .max_memory_size(usize::try_from(self.memory).unwrap_or(usize::MAX))
            .table_elements(self.table_elements as usize)
            .max_memories_per_module(10)
            .max_tables_per_module(10)
            .max_unused_warm_slots(self.warm_slots)
            .linear_memory_keep_resident(keep)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        pools
    }
}
