//! What a host does with the tasks that the one before it left.

use tracing::Instrument as _;
use witan_capability::{Account, CallContext};
use witan_task_store::{Row, State};

use crate::{
    Code, Input, Paths, Task, TaskError, Tasks,
    record::now_ms,
    run::{Run, Source},
    runner::{Place, resolve},
    span,
};

/// How often the handler of a task is started at most where the host ends each time: it may be the task that ends it.
const ATTEMPTS: u32 = 3;

impl Tasks {
    /// Goes on with the tasks that are stored: those that wait run in their turn, those that ran when the host ended are run
    /// again or have failed, as their intents say. `paths` are judged anew: what may be named may have changed. Says how many
    /// there were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self, paths: &Paths) -> Result<usize, witan_task_store::StoreError> {
        let Some(store) = &self.0.store else { return Ok(0) };
        let rows = store.unfinished().await?;
        let number = rows.len();
        let mut interrupted = Vec::new();
        for row in rows {
            let place = Place::again(self, &row.tenant);
            let again = self.0.serving.read().run_again.contains(&row.intent) && row.attempt < ATTEMPTS;
            let run = self.recovered(&row, paths.clone()).await;
            match run {
                Ok(run) if row.state != State::Working || again => {
                    run.tasks.0.kept.lock().insert(run.task.clone());
                    self.observe(&run.task, &run.context, run.task.state(), None);
                    let span = span::open(&run.context, &row.intent);
                    tokio::spawn(run.carry_out(Source::Stored, place).instrument(span));
                }
                Ok(run) => interrupted.push((run, interruption(&row), place)),
                Err((run, error)) => interrupted.push((run, error, place)),
            }
        }
        // All at once: the writer commits together what comes together.
        let ends = interrupted.into_iter().map(|(run, error, place)| async move {
            run.tasks.0.kept.lock().insert(run.task.clone());
            let envelope = run.envelope(Err(error));
            run.end(envelope).await;
            drop(place);
        });
        futures::future::join_all(ends).await;
        Ok(number)
    }

    /// The task of `row`, on its way again, or why it cannot be.
    async fn recovered(&self, row: &Row, paths: Paths) -> Result<Run, (Run, TaskError)> {
        let (handler, allowed) = match self.handler(&row.intent) {
            Ok((handler, allowed)) => (Some(handler), allowed),
            Err(_) => (None, self.0.serving.read().limits.clone()),
        };
        let stored = CallContext::from_json(&row.context);
        let context = stored.as_ref().map_or_else(
            |_| CallContext::new(row.principal.as_str(), row.tenant.as_str()).for_task(row.id, Vec::new()),
            CallContext::clone,
        );
        let run = |context: CallContext| Run {
            tasks: self.clone(),
            task: Task::recovered(row, Account::open(allowed.clone()), now_ms()),
            handler,
            context,
            limits: allowed,
        };
        if let Err(error) = stored {
            let message = format!("the call context of the task cannot be read: {error}");
            return Err((run(context), TaskError::new(Code::Internal, message)));
        }
        if context.files().is_empty() {
            return Ok(run(context));
        }
        let names = context.files().iter().map(|file| file.name.clone()).collect();
        match resolve(Input::Paths(names), paths).await {
            Ok((_, files)) => Ok(run(context.for_task(row.id, files))),
            Err(error) => Err((run(context), error)),
        }
    }
}

fn interruption(row: &Row) -> TaskError {
    let message = if row.attempt < ATTEMPTS {
        format!(
            "the host ended while the task ran, and tasks of the intent `{}` are not run again; submit it again if what \
             it does may be done twice",
            row.intent
        )
    } else {
        format!("the host ended each of the {} times that the task ran", row.attempt)
    };
    TaskError::new(Code::Interrupted, message).setting("host.tasks.run-again")
}
