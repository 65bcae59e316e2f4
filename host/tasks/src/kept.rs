//! The tasks that are kept in memory: all that have not ended, and the last that have.

use std::collections::{BTreeMap, HashMap, VecDeque};

use uuid::Uuid;

use crate::{Code, Settings, Task, TaskError};

/// The tasks of a host. Ids are made in the order of time, so that their order is that of acceptance.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    tasks: BTreeMap<Uuid, Task>,
    /// Those that have ended, oldest end first, with the bytes that each was counted with.
    ended: VecDeque<(Uuid, usize)>,
    ended_bytes: usize,
    pub(crate) unfinished: usize,
    unfinished_bytes: usize,
    /// What each tenant has of both, if it has any.
    tenants: HashMap<String, Load>,
}

/// Tasks that have not ended, and the bytes of their requests.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    tasks: usize,
    bytes: usize,
}

impl Kept {
    /// Takes a place for a request of `tenant` and of `bytes`.
    pub(crate) fn reserve(&mut self, settings: &Settings, tenant: &str, bytes: usize) -> Result<(), TaskError> {
        let most = settings.concurrency.saturating_add(settings.queue);
        if self.unfinished >= most {
            let message = format!("{} tasks run or wait already, the most that this host takes; try again later", most);
            return Err(TaskError::new(Code::Overloaded, message));
        }
        let sum = self.unfinished_bytes.saturating_add(bytes);
        if sum > settings.unfinished_bytes {
            let message = format!(
                "the tasks that run or wait hold {} bytes of requests, and this one has {bytes} more, beyond the {} that \
                 this host takes; try again later",
                self.unfinished_bytes, settings.unfinished_bytes
            );
            return Err(TaskError::new(Code::Overloaded, message));
        }
        let own = self.tenants.get(tenant).copied().unwrap_or_default();
        let (tasks, share) = (settings.of_one_tenant(most), settings.of_one_tenant(settings.unfinished_bytes));
        if own.tasks >= tasks || own.bytes.saturating_add(bytes) > share {
            let message = format!(
                "the tasks of tenant `{tenant}` that run or wait are {} and hold {} bytes of requests, and of one tenant \
                 this host takes {tasks} and {share} bytes; try again when some have ended",
                own.tasks, own.bytes
            );
            return Err(TaskError::new(Code::RateLimited, message));
        }
        self.take(tenant, bytes);
        Ok(())
    }

    /// Takes a place for a request that was accepted before, whatever there is.
    pub(crate) fn force(&mut self, tenant: &str) {
        self.take(tenant, 0);
    }

    fn take(&mut self, tenant: &str, bytes: usize) {
        self.unfinished += 1;
        self.unfinished_bytes += bytes;
        let own = self.tenants.entry(tenant.to_owned()).or_default();
        own.tasks += 1;
        own.bytes += bytes;
    }

    /// Gives back a place that [`Self::reserve`] or [`Self::force`] took.
    pub(crate) fn release(&mut self, tenant: &str, bytes: usize) {
        self.unfinished -= 1;
        self.unfinished_bytes -= bytes;
        if let Some(own) = self.tenants.get_mut(tenant) {
            own.tasks -= 1;
            own.bytes -= bytes;
            if own.tasks == 0 {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Takes out a task that was not accepted after all.
    pub(crate) fn remove(&mut self, id: Uuid) {
        self.tasks.remove(&id);
    }

    pub(crate) fn insert(&mut self, task: Task) {
        self.tasks.insert(task.id(), task);
    }

    /// Counts a task as ended, and drops the oldest that are too many. The newest always stays, so that whoever waits
    /// for it can read it.
    pub(crate) fn ended(&mut self, settings: &Settings, task: &Task) {
        let bytes = task.bytes();
        self.ended.push_back((task.id(), bytes));
        self.ended_bytes += bytes;
        while self.ended.len() > 1 && (self.ended.len() > settings.kept || self.ended_bytes > settings.kept_bytes) {
            let Some((id, bytes)) = self.ended.pop_front() else { break };
            self.ended_bytes -= bytes;
            self.tasks.remove(&id);
        }
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<Task> {
        self.tasks.get(&id).cloned()
    }

    /// The newest first, of those accepted before `before`.
    pub(crate) fn newest(&self, before: Option<Uuid>) -> impl Iterator<Item = &Task> {
        let end = before.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.tasks.range((std::ops::Bound::Unbounded, end)).rev().map(|(_, task)| task)
    }
}
