//! Until it has arrived.

use std::{
    collections::HashSet,
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use uuid::Uuid;
use witan_egress::Cause;
use witan_events::{Bus, CallbackFailed, What};
use witan_secrets::{SealError, Sealer};
use witan_task_store::{Delivery, Store, StoreError};

use crate::{Callback, SendError, Sender};

/// How often something is tried, and for how long at most.
const TRIES: u32 = 10;
const AGE_MS: u64 = 24 * 3_600 * 1_000;
/// How long to wait after the first try; each time is three times as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Tries at once, and deliveries that are looked at in one go.
const AT_ONCE: usize = 8;
const LOOK: usize = 64;
/// How often it is looked whether something is due where nobody says so.
const POLL: Duration = Duration::from_secs(5);

/// What is stored of a delivery is none.
#[derive(Debug, thiserror::Error)]
#[error("what is stored of it cannot be read")]
struct Unreadable;

/// What is stored of a delivery.
#[derive(Serialize, Deserialize)]
struct Stored {
    callback: Callback,
    /// Who submitted the task; what was stored by an earlier version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    body: String,
}

/// What is sent.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    timestamp_ms: u64,
    data: &'a Value,
}

/// What is to be sent where `callback` is to be told of the event `name` of `task`, which `principal` of `tenant` submitted, with
/// `data`; nothing where it is not.
#[must_use]
pub fn deliveries(
    callback: Option<&Callback>,
    (tenant, principal): (&str, &str),
    task: Uuid,
    name: &str,
    at_ms: u64,
    data: &Value,
) -> Vec<Delivery> {
    let Some(callback) = callback.filter(|callback| callback.tells(name)) else { return Vec::new() };
    let body = serde_json::to_string(&Message { r#type: name, timestamp_ms: at_ms, data });
    let principal = Some(principal.to_owned());
    let stored = body.map(|body| Stored { callback: callback.clone(), principal, body });
    let Ok(body) = stored.and_then(|stored| serde_json::to_string(&stored)) else { return Vec::new() };
    let tenant = tenant.to_owned();
    vec![Delivery { id: Uuid::now_v7(), tenant, task, body, attempts: 0, created_ms: at_ms, due_ms: at_ms }]
}

/// What is stored of a delivery of `task` as `body`, with its secret sealed; none where it is sealed, or has none.
///
/// # Errors
/// When there is no key to seal it with.
pub async fn sealed(body: &str, task: Uuid, sealer: &Sealer) -> Result<Option<String>, SealError> {
    let Ok(mut stored) = serde_json::from_str::<Stored>(body) else { return Ok(None) };
    stored.callback = stored.callback.sealed(task, sealer).await?;
    Ok(serde_json::to_string(&stored).ok().filter(|sealed| sealed != body))
}

/// Sends what is stored until it has arrived or is given up.
#[derive(Clone, Debug)]
pub struct Deliverer {
    store: Store,
    sender: Sender,
    bus: Bus,
    sealer: Sealer,
    first_wait: Duration,
    more: Arc<Notify>,
}

impl Deliverer {
    /// One that sends what is in `store` by `sender`, opens secrets by `sealer`, and tells `bus` what it gives up.
    #[must_use]
    pub fn new(store: Store, sender: Sender, bus: Bus, sealer: Sealer) -> Self {
        Self { store, sender, bus, sealer, first_wait: FIRST_WAIT, more: Arc::default() }
    }

    /// The same, which waits so long after a first try.
    #[must_use]
    pub fn first_wait(self, first_wait: Duration) -> Self {
        Self { first_wait, ..self }
    }

    /// Where callbacks may lead.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// What seals the secrets of callbacks.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Says that there is more to send.
    pub fn more(&self) {
        self.more.notify_one();
    }

    /// Sends, as long as it is polled.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (mut tries, mut trying) = (JoinSet::new(), HashSet::new());
        loop {
            let next = match self.start(&places, &mut tries, &mut trying).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "callbacks cannot be read");
                    POLL
                }
            };
            tokio::select! {
                Some(tried) = tries.join_next(), if !tries.is_empty() => {
                    // A try that panicked is tried again once the host starts anew.
                    if let Ok(id) = tried {
                        trying.remove(&id);
                    }
                }
                () = self.more.notified() => {}
                () = tokio::time::sleep(next.min(POLL)) => {}
            }
        }
    }

    /// Begins what is due and has room, and says how long until the next is.
    async fn start(
        &self,
        places: &Arc<Semaphore>,
        tries: &mut JoinSet<Uuid>,
        trying: &mut HashSet<Uuid>,
    ) -> Result<Duration, StoreError> {
        let now = now_ms();
        for delivery in self.store.next_deliveries(LOOK).await? {
            if trying.contains(&delivery.id) {
                continue;
            }
            if delivery.due_ms > now {
                return Ok(Duration::from_millis(delivery.due_ms - now));
            }
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            trying.insert(delivery.id);
            let this = self.clone();
            tries.spawn(async move {
                let id = delivery.id;
                if let Err(error) = this.attempt(delivery).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a callback cannot be stored");
                }
                drop(place);
                id
            });
        }
        Ok(POLL)
    }

    async fn attempt(&self, delivery: Delivery) -> Result<(), StoreError> {
        let (attempts, id) = (delivery.attempts + 1, delivery.id);
        let Ok(stored) = serde_json::from_str::<Stored>(&delivery.body) else {
            self.give_up(&delivery, attempts, &Unreadable);
            return self.store.delivered(id).await;
        };
        let sent = match stored.callback.clone().opened(delivery.task, &self.sealer).await {
            Ok(callback) => self.sender.send(&callback, &delivery, &stored.body).await,
            Err(error) => Err(SendError::Sealed(error)),
        };
        let wait = self.wait(attempts);
        let due_ms = now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let may_wait = attempts < TRIES && due_ms < delivery.created_ms.saturating_add(AGE_MS);
        let again = may_wait && sent.as_ref().is_err_and(SendError::retryable);
        // The first and the last: who submits a task chooses where it is told, and must not fill a disk by that.
        if attempts == 1 || !again {
            let (tenant, principal, task) = (&delivery.tenant, stored.principal.as_deref(), delivery.task);
            let delivered = (!again).then_some(sent.is_ok());
            let cause = Cause { tenant, principal, task, tries: attempts, delivered };
            self.sender.tell(&stored.callback, cause, &sent);
        }
        match sent {
            Err(error) if again => {
                tracing::info!(task = %delivery.task, attempts, reason = in_full(&error), "a callback is tried again");
                self.store.postpone(id, attempts, due_ms).await
            }
            Err(error) => {
                self.give_up(&delivery, attempts, &error);
                self.store.delivered(id).await
            }
            Ok(_) => self.store.delivered(id).await,
        }
    }

    /// Gives it up. The log says why in full, and the client no more than is told of itself.
    fn give_up(&self, delivery: &Delivery, attempts: u32, error: &dyn Error) {
        tracing::warn!(task = %delivery.task, attempts, reason = in_full(error), "a callback is given up");
        let failed = CallbackFailed { task: delivery.task, attempts, reason: error.to_string() };
        self.bus.publish(Some(&delivery.tenant), What::CallbackFailed(failed));
    }

    /// How long to wait after the try number `attempts`: a server that was down must not be asked by all at once.
    fn wait(&self, attempts: u32) -> Duration {
        let wait = self.first_wait.saturating_mul(3_u32.saturating_pow(attempts.saturating_sub(1))).min(LONGEST_WAIT);
        wait.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

/// `error` and what it comes from.
fn in_full(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", in_full(source)))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
