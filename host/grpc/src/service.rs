//! The service `witan.v1.Tasks`.

use std::{pin::Pin, sync::Arc};

use futures::{FutureExt as _, Stream, stream};
use http::Extensions;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};
use uuid::Uuid;
use witan_tasks::{CANCELLED_WITHIN, Code, Edge, Once, Paths, Task, TaskError, TaskEvent, TaskRequest, Tasks};

use crate::{Door, message, status, v1};

pub(crate) struct Service {
    pub(crate) tasks: Tasks,
    pub(crate) door: Arc<dyn Door>,
    pub(crate) draining: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

/// How keys of requests to methods are told apart.
const SUBMIT: &str = "/witan.v1.Tasks/Submit";

/// A request for a task, on its way.
struct Submission {
    tasks: Tasks,
    door: Arc<dyn Door>,
    extensions: Extensions,
    asked: TaskRequest,
    once: Option<Once>,
}

impl Submission {
    /// The task, and whether a request with the same key made it before.
    async fn submit(self) -> Result<(Task, bool), TaskError> {
        let Self { tasks, door, extensions, asked, once } = self;
        if let Some(once) = &once
            && let Some(known) = tasks.known(&keys_of(&*door, &extensions), once).await?
        {
            door.submit(&extensions, &asked)?;
            return Ok((known, true));
        }
        let edge = door.submit(&extensions, &asked)?;
        let counted = door.begin_task(&extensions)?;
        let (task, replayed) = match &once {
            Some(once) => tasks.submit_once(asked, &edge, once).await?,
            None => (tasks.submit(asked, &edge).await?, false),
        };
        if !replayed {
            let task = task.clone();
            tokio::spawn(async move {
                task.finished().await;
                drop(counted);
            });
        }
        Ok((task, replayed))
    }
}

/// Whose keys a request's is one of.
fn keys_of(door: &dyn Door, extensions: &Extensions) -> Edge {
    Edge { context: door.caller(extensions), paths: Paths::Under(Vec::new()) }
}

impl Service {
    /// The request as one that is carried out once, if it has a key.
    fn once(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        asked: &TaskRequest,
    ) -> Result<Option<Once>, TaskError> {
        let Some(key) = metadata.get("idempotency-key") else { return Ok(None) };
        // Maps come in any order over the wire, and in one from here.
        let body = serde_json::to_vec(asked).map_err(|error| TaskError::new(Code::Internal, error.to_string()))?;
        // What is no text is no key either, and is refused as one.
        let key = key.to_str().unwrap_or_default();
        self.tasks.once(&keys_of(&*self.door, extensions), SUBMIT, key, &body).map(Some)
    }

    async fn find(&self, request: &Extensions, id: &str) -> Result<Task, Status> {
        let tenant = self.door.caller(request).tenant().to_owned();
        let task = match id.parse::<Uuid>() {
            Ok(id) => self.tasks.get(&tenant, id).await.map_err(|error| status(&error))?,
            Err(_) => None,
        };
        task.ok_or_else(|| status(&TaskError::new(Code::NotFound, "no such task is kept").at("id")))
    }
}

#[tonic::async_trait]
impl v1::tasks_server::Tasks for Service {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::Task> {
        let (metadata, extensions, message) = request.into_parts();
        let asked = message::request(message).map_err(|error| status(&error))?;
        let once = self.once(&metadata, &extensions, &asked).map_err(|error| status(&error))?;
        let submission = Submission { tasks: self.tasks.clone(), door: self.door.clone(), extensions, asked, once };
        // A client that goes away must not leave a task behind that is not counted.
        let trace = self.door.caller(&submission.extensions).trace().id();
        let submitted = tokio::spawn(witan_ledger::in_trace(trace, submission.submit())).await;
        let submitted = submitted.map_err(|_| Status::internal("the host failed while it accepted the task"))?;
        let (task, replayed) = submitted.map_err(|error| status(&error))?;
        let mut response = Response::new(message::task(task.view()));
        if replayed {
            response.metadata_mut().insert("idempotency-replayed", MetadataValue::from_static("true"));
        }
        Ok(response)
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::TaskEvent, Status>> + Send>>;

    async fn stream(&self, request: Request<v1::StreamRequest>) -> Answer<Self::StreamStream> {
        let (_, extensions, request) = request.into_parts();
        let task = self.find(&extensions, &request.id).await?;
        let cut_off = self.door.cut_off(&extensions, &task).shared();
        self.door.see(&extensions, &task).map_err(|error| status(&error))?;
        let following = Arc::new(self.door.follow(&extensions).map_err(|error| status(&error))?);
        // After the last event comes the envelope, and after that nothing.
        let draining = self.draining.clone();
        let events = stream::unfold(Some(request.starting_after), move |after| {
            let (task, draining, cut_off) = (task.clone(), draining.clone(), cut_off.clone());
            let following = following.clone();
            async move {
                let _following = following;
                let after = after?;
                let event = tokio::select! {
                    // What is denied is not told, however much of it waits.
                    biased;
                    error = cut_off => return Some((Err(status(&error)), None)),
                    event = task.event_after(after) => event,
                    () = draining.cancelled() => return Some((Err(stopping()), None)),
                };
                Some(match event {
                    Some(event) => {
                        let TaskEvent { sequence, at_ms, happened } = event;
                        (Ok(message::event(sequence, at_ms, happened)), Some(sequence))
                    }
                    None => (Ok(message::last(&*task.finished().await)), None),
                })
            }
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn status_by_id(&self, request: Request<v1::StatusByIdRequest>) -> Answer<v1::Task> {
        let task = self.find(request.extensions(), &request.get_ref().id).await?;
        self.door.see(request.extensions(), &task).map_err(|error| status(&error))?;
        Ok(Response::new(message::task(task.view())))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::Task> {
        let task = self.find(request.extensions(), &request.get_ref().id).await?;
        self.door.cancel(request.extensions(), &task).map_err(|error| status(&error))?;
        let _ended = task.cancel_within(&self.door.caller(request.extensions()), CANCELLED_WITHIN).await;
        Ok(Response::new(message::task(task.view())))
    }
}

fn stopping() -> Status {
    status(&TaskError::new(Code::Overloaded, "the host is stopping; the task goes on where it runs, ask again later"))
}
