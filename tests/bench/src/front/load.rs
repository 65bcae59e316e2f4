//! Requests that come at their times, whether those before them were answered or not.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::{Instant, sleep_until},
};

use super::{client::Client, hosts::Host, mix::Kind};

/// Connections of each tenant.
const CONNECTIONS: usize = 16;

/// One answer: what was asked, and how long it took from when it was due.
pub(crate) struct Answer {
    pub(crate) kind: &'static str,
    pub(crate) taken: Duration,
    pub(crate) good: bool,
}

/// Connections of one tenant, of which a request takes one that is free.
pub(crate) struct Connections {
    free: Mutex<UnboundedReceiver<Client>>,
    back: UnboundedSender<Client>,
}

impl Connections {
    pub(crate) async fn open(host: &Host, tenant: usize) -> anyhow::Result<Arc<Self>> {
        let (back, free) = unbounded_channel();
        for _ in 0..CONNECTIONS {
            back.send(host.client(tenant).await?)?;
        }
        Ok(Arc::new(Self { free: Mutex::new(free), back }))
    }

    async fn ask(self: Arc<Self>, kind: Kind, due: Instant, answered: UnboundedSender<Answer>) {
        let Some(mut client) = self.free.lock().await.recv().await else { return };
        let done = client.task(&kind.task).await;
        let _measured = answered.send(Answer { kind: kind.name, taken: due.elapsed(), good: done.is_ok() });
        if let Err(error) = done {
            eprintln!("a task was not done: {error:#}");
        }
        let _open = self.back.send(client);
    }
}

/// Sends `rate` requests a second for `seconds`, of each tenant in turn, and waits for all answers.
pub(crate) async fn paced(tenants: &[Arc<Connections>], requests: &[Kind], rate: u32, seconds: u32) -> Vec<Answer> {
    let (answered, mut answers) = unbounded_channel();
    let began = Instant::now();
    for (number, tenant) in (0..rate * seconds).zip(tenants.iter().cycle()) {
        let due = began + Duration::from_secs(1) * number / rate;
        sleep_until(due).await;
        // Each tenant asks for each kind.
        let kind = requests[number as usize / tenants.len() % requests.len()].clone();
        drop(tokio::spawn(tenant.clone().ask(kind, due, answered.clone())));
    }
    drop(answered);
    let mut all = Vec::new();
    while let Some(answer) = answers.recv().await {
        all.push(answer);
    }
    all
}
