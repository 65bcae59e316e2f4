//! The service `witan.v1.Tasks`.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use http::Extensions;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use witan_tasks::{Code, Task, TaskError, TaskEvent, Tasks};

use crate::{Door, message, status, v1};

pub(crate) struct Service {
    pub(crate) tasks: Tasks,
    pub(crate) door: Arc<dyn Door>,
    pub(crate) draining: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
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
        let (_, extensions, message) = request.into_parts();
        let asked = message::request(message).map_err(|error| status(&error))?;
        let edge = self.door.submit(&extensions, &asked).map_err(|error| status(&error))?;
        let task = self.tasks.submit(asked, &edge).await.map_err(|error| status(&error))?;
        Ok(Response::new(message::task(task.view())))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::TaskEvent, Status>> + Send>>;

    async fn stream(&self, request: Request<v1::StreamRequest>) -> Answer<Self::StreamStream> {
        let (_, extensions, request) = request.into_parts();
        let task = self.find(&extensions, &request.id).await?;
        self.door.see(&extensions, &task).map_err(|error| status(&error))?;
        // After the last event comes the envelope, and after that nothing.
        let draining = self.draining.clone();
        let events = stream::unfold(Some(request.starting_after), move |after| {
            let (task, draining) = (task.clone(), draining.clone());
            async move {
                let after = after?;
                let event = tokio::select! {
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
        task.cancel();
        task.finished().await;
        Ok(Response::new(message::task(task.view())))
    }
}

fn stopping() -> Status {
    status(&TaskError::new(Code::Overloaded, "the host is stopping; the task goes on where it runs, ask again later"))
}
