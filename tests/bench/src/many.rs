//! Many calls at once that wait in the host.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use witan_capability::{CallContext, CallError};
use witan_engine::Service;
use witan_forward::{
    Caller,
    tools::{Content, Error, Tool as _},
};
use witan_system::Limits;

use crate::{
    Setting,
    host::{Export, Host},
    rounds::{Best, time},
    runtime,
    table::{Figure, Row},
};

const CALLS: u32 = 1_000;
const WAIT: u32 = 20;
const ROUNDS: usize = 20;

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let runtime = runtime()?;
    let host = Arc::new(runtime.block_on(Host::new(&setting.root))?);
    runtime.block_on(runtime.spawn(rows(host)))?
}

async fn rows(host: Arc<Host>) -> anyhow::Result<Vec<Row>> {
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        best.note([isolated(&host).await?, joined(&host).await?]);
    }
    let [isolated, joined] = best.all();
    let row = |measure: &str, value: Duration, bar| Row {
        measure: measure.to_owned(),
        value: time(value),
        floor: format!("{WAIT} ms, the wait itself"),
        figure: Figure::AtMost { value: value.as_secs_f64() * 1e3, bar, aim: None, unit: " ms" },
    };
    Ok(vec![
        row("1,000 isolated calls at once, each in a fresh instance, of a 20 ms wait in the host", isolated, 100.0),
        row("one agent that joins 1,000 such waits", joined, 40.0),
    ])
}

/// A thousand call trees at once.
async fn isolated(host: &Arc<Host>) -> anyhow::Result<Duration> {
    let service = host.service("wait")?;
    let started = Instant::now();
    let calls = (0..CALLS).map(|_| {
        let (host, service) = (host.clone(), service.clone());
        tokio::spawn(async move { wait(&host, &service).await })
    });
    for answer in try_join_all(calls).await? {
        answer?.map_err(|error| anyhow::anyhow!("the tool failed: {error:?}"))?;
    }
    Ok(started.elapsed())
}

async fn wait(host: &Host, service: &Arc<Service>) -> Result<Result<Vec<Content>, Error>, CallError> {
    let (context, account) = (CallContext::local(), host.engine.open_account(Limits::default()));
    service.invoke(&Caller::host(&context, &account), "wait".to_owned(), WAIT.to_string()).await
}

async fn joined(host: &Host) -> anyhow::Result<Duration> {
    let export = Export { interface: "test:bench/agent@1.0.0", name: "wait", params: (CALLS, WAIT) };
    let started = Instant::now();
    let waited: u32 = host.call("agent", export).await?;
    anyhow::ensure!(waited == CALLS, "{waited} waits ended");
    Ok(started.elapsed())
}
