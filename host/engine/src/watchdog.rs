//! A thread of its own that ticks epochs and ends call trees at their deadline.
//!
//! Not a task: a guest that hogs the executor would also hold up whatever is to stop it.

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use witan_capability::{Account, Limit};

use crate::EngineError;

/// How often a running guest yields. Short enough that a call of some milliseconds is not held up by a runaway
/// beside it, long enough that the ticks cost nothing.
const TICK: Duration = Duration::from_millis(2);

/// After this many ticks, accounts that were closed are forgotten. Seldom, since each is a look into memory that has
/// left the caches; often enough that those of a tenth of a second are all that lie about.
const FORGET: u32 = 64;

/// Ticks epochs while accounts are open, and ends those whose deadline has passed.
pub struct Watchdog {
    watched: Mutex<Watched>,
    wake: Condvar,
}

#[derive(Default)]
struct Watched {
    accounts: Vec<(Instant, Weak<Account>)>,
    stopped: bool,
}

impl Watchdog {
    pub(crate) fn start(engine: wasmtime::Engine) -> Result<Arc<Self>, EngineError> {
        let watchdog = Arc::new(Self { watched: Mutex::default(), wake: Condvar::new() });
        let shared = watchdog.clone();
        thread::Builder::new()
            .name("witan-watchdog".to_owned())
            .spawn(move || shared.run(&engine))
            .map_err(EngineError::Thread)?;
        Ok(watchdog)
    }

    /// Ends `account` at its deadline, and ticks epochs as long as it is open.
    pub fn watch(&self, account: &Arc<Account>) {
        let mut watched = self.watched.lock();
        watched.accounts.push((account.deadline(), Arc::downgrade(account)));
        if watched.accounts.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Ends the thread. Guests no longer yield after this, so that it comes last.
    pub(crate) fn stop(&self) {
        self.watched.lock().stopped = true;
        self.wake.notify_one();
    }

    fn run(&self, engine: &wasmtime::Engine) {
        let mut tick: u32 = 0;
        loop {
            let expired = {
                let mut watched = self.watched.lock();
                while watched.accounts.is_empty() && !watched.stopped {
                    self.wake.wait(&mut watched);
                }
                if watched.stopped {
                    return;
                }
                watched.sweep(tick.is_multiple_of(FORGET))
            };
            // Ending an account wakes its tasks, which is not to happen under the lock.
            for account in expired {
                account.exceed(Limit::Deadline);
            }
            engine.increment_epoch();
            thread::sleep(TICK);
            tick = tick.wrapping_add(1);
        }
    }
}

impl Watched {
    /// Takes out the accounts whose deadline has passed and, if asked, those that were closed.
    fn sweep(&mut self, forget: bool) -> Vec<Arc<Account>> {
        let now = Instant::now();
        let mut expired = Vec::new();
        self.accounts.retain(|(deadline, account)| {
            if *deadline <= now {
                expired.extend(account.upgrade());
                return false;
            }
            !forget || account.strong_count() > 0
        });
        expired
    }
}
