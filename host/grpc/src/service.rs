//! The service `witan.v1.Tasks`.

use std::pin::Pin;

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use witan_tasks::{Code, Edge, Task, TaskError, TaskEvent, Tasks};

use crate::{EdgeOf, message, status, v1};

pub(crate) struct Service {
    pub(crate) tasks: Tasks,
    pub(crate) edge: EdgeOf,
    pub(crate) draining: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    fn edge<T>(&self, request: &Request<T>) -> Edge {
        (self.edge)(request.extensions())
    }

    fn find(&self, id: &str) -> Result<Task, Status> {
        let task = id.parse::<Uuid>().ok().and_then(|id| self.tasks.get(id));
        task.ok_or_else(|| status(&TaskError::new(Code::NotFound, "no such task is kept").at("id")))
    }
}

#[tonic::async_trait]
impl v1::tasks_server::Tasks for Service {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::Task> {
        let edge = self.edge(&request);
        let asked = message::request(request.into_inner()).map_err(|error| status(&error))?;
        let task = self.tasks.submit(asked, &edge).await.map_err(|error| status(&error))?;
        Ok(Response::new(message::task(task.view())))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::TaskEvent, Status>> + Send>>;

    async fn stream(&self, request: Request<v1::StreamRequest>) -> Answer<Self::StreamStream> {
        let request = request.into_inner();
        let task = self.find(&request.id)?;
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
        Ok(Response::new(message::task(self.find(&request.get_ref().id)?.view())))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::Task> {
        let task = self.find(&request.get_ref().id)?;
        task.cancel();
        task.finished().await;
        Ok(Response::new(message::task(task.view())))
    }
}

fn stopping() -> Status {
    status(&TaskError::new(Code::Overloaded, "the host is stopping; the task goes on where it runs, ask again later"))
}
