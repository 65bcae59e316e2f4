//! Who is told what becomes of tasks: those who listen in this process, and the callbacks of clients.

use serde_json::json;
use uuid::Uuid;
use witan_callback::{Callback, Deliverer, deliveries};
use witan_events::{
    Bus, TaskCancelled, TaskCompleted, TaskCreated, TaskFailed, TaskPaused, TaskProgress, TaskResumed, TaskStarted,
    What,
};
use witan_secrets::{SealError, Sealer};
use witan_task_store::{Delivery, State, StoreError, Unsealed};

use crate::{
    Code, Envelope, Event, Task, TaskError, TaskRequest, Tasks,
    record::{About, now_ms},
    runner::unstored,
};

/// Tasks that are sealed in one go.
const TOGETHER: usize = 64;

/// Why what was stored could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealStoredError {
    /// There is no key.
    #[error("the secret of a callback cannot be sealed")]
    Seal(#[from] SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a client is told where its secret cannot be kept; the log says more.
fn unsealed(error: &SealError) -> TaskError {
    tracing::error!(error = error as &dyn std::error::Error, "the secret of a callback cannot be sealed or opened");
    TaskError::new(Code::Unavailable, "the host cannot keep the secret of the callback now; its log says why")
        .at("callback")
}

/// `open` with the secret of its callback sealed wherever it stands.
async fn seal(open: Unsealed, task: Uuid, sealer: &Sealer) -> Result<Unsealed, SealError> {
    let mut sealed = Unsealed::default();
    if let Some(text) = open.callback {
        sealed.callback = Some(match serde_json::from_str::<Callback>(&text) {
            Ok(callback) => {
                let callback = callback.sealed(task, sealer).await?;
                serde_json::to_string(&callback).unwrap_or(text)
            }
            Err(_) => text,
        });
    }
    if let Some(bytes) = open.input {
        sealed.input = match serde_json::from_slice::<TaskRequest>(&bytes) {
            Ok(mut request) => {
                if let Some(callback) = request.callback.take() {
                    request.callback = Some(callback.sealed(task, sealer).await?);
                }
                serde_json::to_vec(&request).ok()
            }
            Err(_) => None,
        };
    }
    for (id, body) in open.deliveries {
        if let Some(body) = witan_callback::sealed(&body, task, sealer).await? {
            sealed.deliveries.push((id, body));
        }
    }
    Ok(sealed)
}

impl Tasks {
    /// The bus that tells what happens to tasks. Others tell on it what happens to the host.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// Tells callbacks by `deliverer` from now on. Without one, requests that have a callback are refused.
    pub fn deliver_by(&self, deliverer: Deliverer) {
        let _first = self.0.deliverer.set(deliverer);
    }

    pub(crate) async fn check_callback(&self, tenant: &str, callback: Option<&Callback>) -> Result<(), TaskError> {
        let Some(callback) = callback else { return Ok(()) };
        let Some(deliverer) = self.0.deliverer.get() else {
            return Err(TaskError::new(Code::Unsupported, "no callbacks are told here").at("callback"));
        };
        let checked = callback.check(deliverer.sender().settings());
        checked.map_err(|error| TaskError::invalid("callback", error.to_string()))?;
        if !deliverer.takes(tenant).await.map_err(|error| unstored(&error))? {
            let message = "as many callbacks of the tenant wait to be delivered as this host keeps; try again when some have \
                           arrived or were given up, or ask for the task instead";
            return Err(TaskError::new(Code::RateLimited, message).at("callback"));
        }
        Ok(())
    }

    /// `callback` of `task` as it is kept: its secret is in no row and no file as the client said it.
    pub(crate) async fn sealed(&self, callback: Option<Callback>, task: Uuid) -> Result<Option<Callback>, TaskError> {
        match (callback, self.0.deliverer.get()) {
            (Some(callback), Some(deliverer)) => {
                callback.sealed(task, deliverer.sealer()).await.map(Some).map_err(|error| unsealed(&error))
            }
            (callback, _) => Ok(callback),
        }
    }

    /// `callback` of `task` as the client said it.
    pub(crate) async fn opened(&self, callback: Option<Callback>, task: Uuid) -> Result<Option<Callback>, TaskError> {
        match (callback, self.0.deliverer.get()) {
            (Some(callback), Some(deliverer)) => {
                callback.opened(task, deliverer.sealer()).await.map(Some).map_err(|error| unsealed(&error))
            }
            (callback, _) => Ok(callback),
        }
    }

    /// Seals the secrets that an earlier version stored as clients said them, and says of how many tasks.
    ///
    /// # Errors
    /// When there is no key to seal them with, or the store fails; what was sealed stays so.
    pub async fn seal_stored(&self) -> Result<usize, SealStoredError> {
        let (Some(store), Some(deliverer)) = (&self.0.store, self.0.deliverer.get()) else { return Ok(0) };
        let mut number = 0;
        loop {
            let tasks = store.unsealed(TOGETHER).await?;
            if tasks.is_empty() {
                break;
            }
            for task in tasks {
                let sealed = seal(store.unsealed_of(task).await?, task, deliverer.sealer()).await?;
                store.seal(task, sealed).await?;
                number += 1;
            }
        }
        if number > 0 {
            store.scrub().await?;
        }
        Ok(number)
    }

    /// What is to be told to the callback of `task`, which has come to `state`.
    pub(crate) fn deliveries(
        &self,
        task: &Task,
        state: State,
        at_ms: u64,
        envelope: Option<&Envelope>,
    ) -> Vec<Delivery> {
        let about = task.about();
        let name = match state {
            State::Working => "task.started",
            State::Completed => "task.completed",
            State::Failed => "task.failed",
            State::Cancelled => "task.cancelled",
            State::Queued | State::Paused | State::InputRequired => return Vec::new(),
        };
        // The result may be large, and is the client's to ask for.
        let data = json!({
            "id": about.id,
            "object": "task",
            "intent": about.intent,
            "state": state,
            "created_at_ms": about.created_at_ms,
            "metadata": about.metadata,
            "error": envelope.and_then(|envelope| envelope.error.as_ref()),
        });
        deliveries(about.callback.as_ref(), (&about.tenant, &about.principal), about.id, name, at_ms, &data)
    }

    /// Has what was stored for callbacks sent.
    pub(crate) fn deliver(&self) {
        if let Some(deliverer) = self.0.deliverer.get() {
            deliverer.more();
        }
    }

    pub(crate) fn publish(&self, about: &About, state: State, attempt: u32, envelope: Option<&Envelope>) {
        let (task, intent) = (about.id, about.intent.clone());
        let latency_ms = envelope.map_or(0, |envelope| envelope.usage.latency_ms);
        let code = envelope.and_then(|envelope| Some(envelope.error.as_ref()?.code.name().to_owned()));
        let what = match state {
            State::Queued => What::TaskCreated(TaskCreated { task, intent, principal: about.principal.clone() }),
            State::Working => What::TaskStarted(TaskStarted { task, intent, attempt }),
            State::Completed => What::TaskCompleted(TaskCompleted { task, intent, latency_ms }),
            State::Failed => What::TaskFailed(TaskFailed { task, intent, code: code.unwrap_or_default(), latency_ms }),
            State::Cancelled => What::TaskCancelled(TaskCancelled { task, intent }),
            State::Paused | State::InputRequired => return,
        };
        self.0.bus.publish(Some(&about.tenant), what);
    }

    pub(crate) fn publish_held(&self, task: &Task, state: State) {
        let about = task.about();
        let (id, intent) = (about.id, about.intent.clone());
        let what = match state {
            State::Paused => What::TaskPaused(TaskPaused { task: id, intent }),
            _ => What::TaskResumed(TaskResumed { task: id, intent }),
        };
        self.0.bus.publish(Some(&about.tenant), what);
    }

    pub(crate) fn publish_progress(&self, task: &Task, event: &Event) {
        let Event::Progress { stage, done, total } = event else { return };
        if task.tells_all(now_ms()) {
            let progress = TaskProgress { task: task.id(), stage: stage.clone(), done: *done, total: *total };
            self.0.bus.publish(Some(task.tenant()), What::TaskProgress(progress));
        }
    }
}
