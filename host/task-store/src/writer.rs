//! The one writer: what comes while it commits is committed together next.

use tokio::sync::{mpsc, oneshot};
use witan_database::Database;

use crate::{
    StoreError,
    change::{Accepted, Change},
};

/// Changes that wait for the writer; who brings more waits.
const WAITING: usize = 1_024;
/// Changes in one transaction at most: what was committed is told before much more is begun.
const TOGETHER: usize = 256;

type Answer = Result<Option<Accepted>, StoreError>;

#[derive(Debug)]
struct Request {
    change: Change,
    answer: oneshot::Sender<Answer>,
}

/// What takes changes to the writer, which ends when this is dropped and all is written.
#[derive(Debug)]
pub(crate) struct Writer(mpsc::Sender<Request>);

impl Writer {
    pub(crate) fn start(database: Database) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write(database, receiver));
        Self(sender)
    }

    /// Carries out `change`, which is durable when this returns.
    pub(crate) async fn change(&self, change: Change) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request { change, answer }).await.map_err(|_| StoreError::Ended)?;
        answered.await.map_err(|_| StoreError::Ended)?
    }
}

async fn write(database: Database, mut requests: mpsc::Receiver<Request>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while requests.recv_many(&mut together, TOGETHER).await > 0 {
        match commit(&database, &together).await {
            Ok(answers) => {
                for (request, answer) in together.drain(..).zip(answers) {
                    // Whoever asked may have gone away.
                    let _gone = request.answer.send(Ok(answer));
                }
            }
            Err(error) if together.len() == 1 => tell(&mut together, &error.into()),
            // One of them may be at fault, and must not take the others with it.
            Err(_) => {
                for request in together.drain(..) {
                    let answer = commit(&database, std::slice::from_ref(&request)).await;
                    let answer = answer.map(|answers| answers.into_iter().next().flatten()).map_err(Into::into);
                    let _gone = request.answer.send(answer);
                }
            }
        }
    }
}

fn tell(requests: &mut Vec<Request>, error: &StoreError) {
    for request in requests.drain(..) {
        let _gone = request.answer.send(Err(error.clone()));
    }
}

async fn commit(database: &Database, requests: &[Request]) -> Result<Vec<Option<Accepted>>, sqlx::Error> {
    let mut transaction = database.write().await?;
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        answers.push(request.change.apply(&mut transaction).await?);
    }
    transaction.commit().await?;
    Ok(answers)
}
