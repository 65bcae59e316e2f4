//! What clients follow at once: streams of events, WebSockets and streams over gRPC alike.
//!
//! Each lasts as long as its client likes. So a tenant has a share of them, and what is left is for whoever comes next.

use std::sync::Arc;

use parking_lot::Mutex;
use witan_tasks::{Code, TaskError};

use crate::counts::Counts;

/// The streams that are open. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    /// By tenant.
    open: Mutex<Counts<Arc<str>>>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    streams: Streams,
    tenant: Arc<str>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.streams.0.open.lock().remove(&self.tenant);
    }
}

impl Streams {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, open: Mutex::default() }))
    }

    /// Counts a stream of `tenant` until what comes back is dropped.
    ///
    /// # Errors
    /// When as many are open as may be.
    pub(crate) fn open(&self, tenant: &str) -> Result<Following, TaskError> {
        let most = self.0.most;
        let share = most - most / 8;
        let mut open = self.0.open.lock();
        if open.all() >= most {
            return Err(full(format!("{most} streams and WebSockets are open, the most that this host has")));
        }
        if open.of(tenant) >= share {
            return Err(full(format!("{share} streams and WebSockets of this tenant are open, the most that one has")));
        }
        let tenant: Arc<str> = tenant.into();
        open.add(tenant.clone());
        drop(open);
        Ok(Following { streams: self.clone(), tenant })
    }
}

fn full(what: String) -> TaskError {
    TaskError::new(Code::Overloaded, format!("{what}; end one, or try again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_some_for_the_next() {
        let streams = Streams::new(16);
        let mut flood: Vec<_> = (0..14).map(|_| streams.open("flood").unwrap()).collect();
        let error = streams.open("flood").unwrap_err();
        assert_eq!((error.code, error.retryable), (Code::Overloaded, true));
        let others = ["a", "b"].map(|tenant| streams.open(tenant).unwrap());
        assert_eq!(streams.open("c").unwrap_err().code, Code::Overloaded);
        flood.pop();
        let third = streams.open("c").unwrap();
        drop((flood, others, third));
        let open = streams.0.open.lock();
        assert!(open.all() == 0 && open.holders() == 0);
    }
}
