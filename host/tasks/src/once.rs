//! A request that comes twice makes one task.
//!
//! A client that does not know whether its request arrived sends it again with the same key. The key and the task are stored
//! together, so that neither a crash nor any number of requests at once makes a second task.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use witan_task_store::{Key, KnownKey};

use crate::{
    Code, Edge, Task, TaskError, TaskRequest, Tasks,
    record::now_ms,
    runner::{Submitted, unstored},
};

/// How long a key is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// The longest key, in bytes.
const KEY_BYTES: usize = 255;

/// Keys of requests that are being answered.
pub(crate) type InFlight = Arc<Mutex<HashSet<String>>>;

/// A request that is to be carried out once. While it lives, no other with its key is answered.
pub struct Once {
    key: String,
    fingerprint: String,
    in_flight: InFlight,
}

impl Drop for Once {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.key);
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Tasks {
    /// Begins a request to `route` that came with the `key` of its client and has this `body`. Keys of one principal of one
    /// tenant at one route are the same key.
    ///
    /// # Errors
    /// `idempotency_in_flight` while another with this key is answered; `invalid_request` where it is no key.
    pub fn once(&self, edge: &Edge, route: &str, key: &str, body: &[u8]) -> Result<Once, TaskError> {
        if key.is_empty() || key.len() > KEY_BYTES || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let message = format!("an idempotency key is 1 to {KEY_BYTES} visible ASCII characters");
            return Err(TaskError::invalid("Idempotency-Key", message));
        }
        let scope = [edge.context.tenant(), edge.context.principal(), route, key];
        let mut hasher = blake3::Hasher::new();
        for part in scope {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let key = hasher.finalize().to_hex().to_string();
        if !self.0.in_flight.lock().insert(key.clone()) {
            let message = "a request with this key is being answered; send it again when that has ended";
            return Err(TaskError::new(Code::IdempotencyInFlight, message).at("Idempotency-Key"));
        }
        let fingerprint = blake3::hash(body).to_hex().to_string();
        Ok(Once { key, fingerprint, in_flight: self.0.in_flight.clone() })
    }

    /// The task that a request of the same key made before, if there was one.
    ///
    /// # Errors
    /// `idempotency_key_reused` where that request had another body, `not_found` where its task is kept no longer, or when the
    /// store fails.
    pub async fn known(&self, edge: &Edge, once: &Once) -> Result<Option<Task>, TaskError> {
        let Some(store) = &self.0.store else { return Ok(None) };
        let known = store.key(&once.key, now_ms()).await.map_err(|error| unstored(&error))?;
        match known {
            Some(known) => self.of_key(edge, once, &known).await.map(Some),
            None => Ok(None),
        }
    }

    /// Accepts a task, unless a request of the same key made one before, and says whether that is so.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::known`].
    pub async fn submit_once(&self, request: TaskRequest, edge: &Edge, once: &Once) -> Result<(Task, bool), TaskError> {
        if self.0.store.is_none() {
            let message = "this host keeps tasks in memory, and could not keep the key; send the request without one";
            return Err(TaskError::new(Code::Unsupported, message).at("Idempotency-Key"));
        }
        let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now_ms().saturating_add(kept);
        let key = Key { key: once.key.clone(), fingerprint: once.fingerprint.clone(), expires_ms };
        match self.submit_with(request, edge, Some(key)).await? {
            Submitted::New(task) => Ok((task, false)),
            Submitted::Known(known) => Ok((self.of_key(edge, once, &known).await?, true)),
        }
    }

    async fn of_key(&self, edge: &Edge, once: &Once, known: &KnownKey) -> Result<Task, TaskError> {
        if known.fingerprint != once.fingerprint {
            let message = "this key came with another request before; take a new key for a new request";
            return Err(TaskError::new(Code::IdempotencyKeyReused, message).at("Idempotency-Key"));
        }
        self.get(edge.context.tenant(), known.task).await?.ok_or_else(|| {
            let message = "the task that this key made is kept no longer; take a new key to do it again";
            TaskError::new(Code::NotFound, message).at("Idempotency-Key")
        })
    }

    /// The request of `task`, to be submitted again as a task of its own.
    ///
    /// # Errors
    /// `conflict` where it has not failed and was not cancelled; when it cannot be read.
    pub async fn request_again(&self, task: &Task) -> Result<TaskRequest, TaskError> {
        let state = task.state();
        let input = match &self.0.store {
            Some(store) if state.is_final() => store.input(task.id()).await.map_err(|error| unstored(&error))?,
            _ => None,
        };
        let request = input.and_then(|input| serde_json::from_slice::<TaskRequest>(&input).ok());
        match request {
            Some(request) => {
                let callback = self.opened(request.callback, task.id()).await?;
                Ok(TaskRequest { callback, ..request })
            }
            None => {
                let message =
                    format!("the task is {}; one that has failed or was cancelled can be tried again", state.name());
                Err(TaskError::new(Code::Conflict, message))
            }
        }
    }
}
