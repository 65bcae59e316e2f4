//! What is asked of tasks that were accepted: of those in memory, and where there is a store, of all.

use uuid::Uuid;
use witan_capability::CallContext;
use witan_task_store::{Filter, Row, State, Stored};

use crate::{
    Code, Task, TaskError, TaskView, Tasks,
    record::{Ending, now_ms},
    runner::unstored,
};

impl Tasks {
    /// The task `id` of `tenant`, if it is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, tenant: &str, id: Uuid) -> Result<Option<Task>, TaskError> {
        let kept = self.0.kept.lock().get(id);
        if let Some(task) = kept {
            return Ok(Some(task).filter(|task| task.tenant() == tenant));
        }
        let Some(store) = &self.0.store else { return Ok(None) };
        let stored = store.get(tenant, id).await.map_err(|error| unstored(&error))?;
        stored
            .map(|stored| if stored.row.state.is_final() { ended(&stored) } else { Ok(Task::left(&stored.row)) })
            .transpose()
    }

    /// At most `limit` tasks of `tenant` that are kept and that `filter` takes, the newest first and without their
    /// envelopes, and whether there are more; with `after`, of those accepted before it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        tenant: &str,
        filter: &Filter,
        limit: usize,
        after: Option<Uuid>,
    ) -> Result<(Vec<TaskView>, bool), TaskError> {
        let Some(store) = &self.0.store else { return Ok(self.list_kept(tenant, filter, limit, after)) };
        let page = store.list(tenant, filter, limit, after).await.map_err(|error| unstored(&error))?;
        Ok((page.rows.into_iter().map(|row| self.view(row)).collect(), page.more))
    }

    /// What is known of a stored task: what runs has more to tell than its row.
    fn view(&self, row: Row) -> TaskView {
        match self.0.kept.lock().get(row.id) {
            Some(task) => TaskView { envelope: None, ..task.view() },
            None => TaskView::of_row(row),
        }
    }

    fn list_kept(&self, tenant: &str, filter: &Filter, limit: usize, after: Option<Uuid>) -> (Vec<TaskView>, bool) {
        let kept = self.0.kept.lock();
        let fits = |task: &&Task| task.tenant() == tenant && takes(filter, &task.view());
        let mut views: Vec<TaskView> = kept
            .newest(after)
            .filter(fits)
            .take(limit.saturating_add(1))
            .map(|task| TaskView { envelope: None, ..task.view() })
            .collect();
        let more = views.len() > limit;
        views.truncate(limit);
        (views, more)
    }

    /// Pauses a task that waits for its turn, as `by` asked; [`Self::resume`] lets it go on.
    ///
    /// # Errors
    /// `conflict` when it has begun or has ended, or when the store fails.
    pub async fn pause(&self, task: &Task, by: &CallContext) -> Result<(), TaskError> {
        self.hold(task, State::Paused, by).await
    }

    /// Lets a task that is paused wait for its turn again, as `by` asked. One that waits already stays as it is.
    ///
    /// # Errors
    /// `conflict` when it has begun or has ended, or when the store fails.
    pub async fn resume(&self, task: &Task, by: &CallContext) -> Result<(), TaskError> {
        self.hold(task, State::Queued, by).await
    }

    async fn hold(&self, task: &Task, state: State, by: &CallContext) -> Result<(), TaskError> {
        if !task.hold(state) {
            let message = format!(
                "the task is {}; only one that waits for its turn can be paused and resumed. Cancel it to end it",
                task.state().name()
            );
            return Err(TaskError::new(Code::Conflict, message));
        }
        if let Some(store) = &self.0.store {
            store.hold(task.id(), state).await.map_err(|error| unstored(&error))?;
        }
        self.observe(task, by, state, None);
        self.publish_held(task, state);
        Ok(())
    }

    /// Deletes what the store keeps no longer, and says how many tasks.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, retention: &witan_task_store::Retention) -> Result<u64, witan_task_store::StoreError> {
        match &self.0.store {
            Some(store) => store.sweep(retention, now_ms()).await,
            None => Ok(0),
        }
    }
}

/// A task that is in the store alone, because it has ended.
fn ended(stored: &Stored) -> Result<Task, TaskError> {
    let unreadable = |why: String| {
        tracing::error!(task = %stored.row.id, why, "the end of a task cannot be read");
        TaskError::new(Code::Internal, "the end of the task cannot be read; the host's log says why")
    };
    let result = stored.result.as_ref().ok_or_else(|| unreadable("it was not stored".to_owned()))?;
    let ending: Ending = serde_json::from_slice(result).map_err(|error| unreadable(error.to_string()))?;
    Ok(Task::ended(&stored.row, ending))
}

fn takes(filter: &Filter, view: &TaskView) -> bool {
    let metadata = filter.metadata.as_ref().is_none_or(|(key, value)| {
        view.metadata.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    });
    metadata
        && filter.state.is_none_or(|state| state == view.state)
        && filter.intent.as_ref().is_none_or(|intent| *intent == view.intent)
        && filter.created_from_ms.is_none_or(|from| view.created_at_ms >= from)
        && filter.created_before_ms.is_none_or(|before| view.created_at_ms < before)
}
