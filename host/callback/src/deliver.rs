//! Until it has arrived.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;
use witan_egress::Cause;
use witan_events::{Bus, CallbackFailed, What};
use witan_secrets::{SealError, Sealer};
use witan_task_store::{Delivery, Store, StoreError};

use crate::{Callback, SendError, Sender, tries::Tries};

/// How often something is tried, and for how long at most.
const TRIES: u32 = 10;
const AGE_MS: u64 = 24 * 3_600 * 1_000;
/// How long to wait after the first try; each time is three times as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// How long to wait until what came of a try is stored again after the first time; each time is twice as long, up to the
/// longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Deliveries of one tenant that wait at most for another task to have a callback: about one every ten seconds of a day.
const WAITING: usize = 10_000;
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

/// What came of a try.
#[derive(Clone, Copy, Debug)]
enum Came {
    /// It has arrived, or is given up.
    ToItsEnd,
    /// It is to be tried again.
    Again { attempts: u32, due_ms: u64 },
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

    /// Whether there is room for what another task of `tenant` has to tell.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn takes(&self, tenant: &str) -> Result<bool, StoreError> {
        Ok(!self.store.delivers(tenant, WAITING).await?)
    }

    /// Sends, as long as it is polled.
    pub async fn run(self) {
        let mut tries = Tries::default();
        loop {
            let next = match self.start(&mut tries).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "callbacks cannot be read");
                    POLL
                }
            };
            tokio::select! {
                () = tries.ended(), if !tries.is_empty() => {}
                () = self.more.notified() => {}
                () = tokio::time::sleep(next.min(POLL)) => {}
            }
        }
    }

    /// Begins what is due and has room, fairly by tenant, and says how long until the next is.
    async fn start(&self, tries: &mut Tries) -> Result<Duration, StoreError> {
        let now = now_ms();
        let mut tenants = self.store.delivering().await?;
        tries.forget_all_but(&tenants);
        let mut next = u64::MAX;
        tenants.retain(|(_, due_ms)| {
            let due = *due_ms <= now;
            next = if due { next } else { next.min(*due_ms) };
            due
        });
        let mut tenants: Vec<String> = tenants.into_iter().map(|(tenant, _)| tenant).collect();
        while let Some(at) = tries.next(&tenants)
            && let Some(tenant) = tenants.get(at)
        {
            let some = self.store.next_deliveries(tenant, tries.known_of(tenant) + 1).await?;
            match some.into_iter().find(|delivery| !tries.knows(delivery.id)) {
                Some(delivery) if delivery.due_ms <= now => {
                    let (id, this) = (delivery.id, self.clone());
                    tries.spawn(id, tenant, async move { this.attempt(delivery).await });
                }
                later => {
                    next = later.map_or(next, |later| next.min(later.due_ms));
                    tenants.swap_remove(at);
                }
            }
        }
        Ok(Duration::from_millis(next.saturating_sub(now)))
    }

    /// Tries it once, and stores what came of that.
    async fn attempt(&self, delivery: Delivery) {
        let came = self.send(&delivery).await;
        // It must not be sent again because this cannot be written now. Its place is not given back meanwhile, so that what is
        // sent and not written stays little.
        let mut pause = FIRST_PAUSE;
        loop {
            let stored = match came {
                Came::ToItsEnd => self.store.delivered(delivery.id).await,
                Came::Again { attempts, due_ms } => self.store.postpone(delivery.id, attempts, due_ms).await,
            };
            match stored {
                Ok(()) | Err(StoreError::Ended) => return,
                Err(error) => {
                    let reason = in_full(&error);
                    tracing::warn!(task = %delivery.task, reason, "what came of a callback is not stored yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, delivery: &Delivery) -> Came {
        let attempts = delivery.attempts + 1;
        let Ok(stored) = serde_json::from_str::<Stored>(&delivery.body) else {
            self.give_up(delivery, attempts, &Unreadable);
            return Came::ToItsEnd;
        };
        let sent = match stored.callback.clone().opened(delivery.task, &self.sealer).await {
            Ok(callback) => self.sender.send(&callback, delivery, &stored.body).await,
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
                return Came::Again { attempts, due_ms };
            }
            Err(error) => self.give_up(delivery, attempts, &error),
            Ok(_) => {}
        }
        Came::ToItsEnd
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
