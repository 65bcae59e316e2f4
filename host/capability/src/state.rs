//! The data of a store: one call of one component.

use std::any::Any;

use wasmtime::component::ResourceTable;

use crate::{Account, Call, LimitExceeded, Meter};

/// What every store carries.
///
/// Capabilities keep what they need for a call in slots, made on first use: a call that never touches the filesystem
/// never pays for one, and what was not asked for does not exist.
pub struct CallState {
    call: Call,
    /// The resources that host and guest share by handle.
    pub table: ResourceTable,
    slots: Vec<Box<dyn Any + Send>>,
    /// Bytes of memory and tables that the instance holds, charged to the account unless parked.
    held: u64,
    parked: bool,
}

impl CallState {
    /// The state of a new store for `call`.
    #[must_use]
    pub fn new(call: Call) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(call.account.limits().handles).unwrap_or(usize::MAX));
        Self { call, table, slots: Vec::new(), held: 0, parked: false }
    }

    /// The call that the store runs.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Lays the store aside between two calls: its slots are emptied, and what its instance holds in memory is charged
    /// to no call tree until [`Self::rebind`].
    pub fn park(&mut self) {
        self.slots.clear();
        if !std::mem::replace(&mut self.parked, true) {
            self.account().release(Meter::Memory, self.held);
        }
    }

    /// Gives a parked store to another call, which takes over the memory that its instance holds.
    ///
    /// # Errors
    /// When that exceeds the memory of the new call's tree.
    pub fn rebind(&mut self, call: Call) -> Result<(), LimitExceeded> {
        call.account.charge(Meter::Memory, self.held)?;
        self.call = call;
        self.parked = false;
        Ok(())
    }

    /// The slot of type `S`, made by `make` on first use.
    pub fn slot<S: Any + Send>(&mut self, make: impl FnOnce(&Call) -> S) -> &mut S {
        self.slot_and_table(make).0
    }

    /// The slot of type `S` together with the table, since most views need both.
    pub fn slot_and_table<S: Any + Send>(&mut self, make: impl FnOnce(&Call) -> S) -> (&mut S, &mut ResourceTable) {
        let at = self.slots.iter().position(|slot| slot.is::<S>()).unwrap_or_else(|| {
            self.slots.push(Box::new(make(&self.call)));
            self.slots.len() - 1
        });
        match self.slots[at].downcast_mut::<S>() {
            Some(slot) => (slot, &mut self.table),
            None => unreachable!("the position was found by this very type"),
        }
    }

    fn account(&self) -> &Account {
        &self.call.account
    }

    fn charge(&mut self, bytes: u64) -> Result<(), LimitExceeded> {
        self.account().charge(Meter::Memory, bytes)?;
        self.held += bytes;
        Ok(())
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        self.park();
    }
}

/// The most instances, memories and tables of one store. Components are made of a handful of core modules; more than
/// this is an attack on the host's bookkeeping.
const OBJECTS: usize = 100;

impl wasmtime::ResourceLimiter for CallState {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.charge(desired.saturating_sub(current) as u64)?;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        self.charge(bytes as u64)?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        OBJECTS
    }

    fn memories(&self) -> usize {
        OBJECTS
    }

    fn tables(&self) -> usize {
        OBJECTS
    }
}
