//! How long it takes until a task that runs has ended, once it is cancelled.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hyper::{Method, StatusCode, body::Bytes};

use super::{
    client::{Client, on_text},
    hosts::{Host, collector},
    percentile,
};
use crate::{
    Setting,
    rounds::time,
    table::{Figure, Row},
};

const ROUNDS: usize = 30;
/// Between questions whether a task runs by now.
const POLL: Duration = Duration::from_millis(2);

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let host = Host::guarded(setting, collector().await?, "")?;
    let mut client = host.client(0).await?;
    // Some seconds of ranking.
    let prose = std::fs::read_to_string(setting.root.join("docs/http-api.md"))?;
    let computes = on_text("summarize", &prose.repeat(60));
    let mut rows = Vec::new();
    for (what, task) in [("waits", None), ("computes", Some(computes))] {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let task = task.clone().unwrap_or_else(|| on_text("wait", &format!("bench-{round} 60000")));
            times.push(cancelled(&mut client, &task).await?);
        }
        let [p50, most] = [0.5, 1.0].map(|share| percentile(&mut times, share));
        rows.push(Row {
            measure: format!("from the request that cancels a component that {what} to the end of its task"),
            value: format!("p50 {}", time(p50)),
            floor: String::new(),
            figure: Figure::AtMost { value: most.as_secs_f64() * 1e3, bar: 100.0, aim: None, unit: " ms at most" },
        });
    }
    Ok(rows)
}

async fn cancelled(client: &mut Client, task: &Bytes) -> anyhow::Result<Duration> {
    let id = client.submit(task).await?;
    let path = format!("/v1/tasks/{id}");
    while client.get(&path).await?["state"] != "working" {
        tokio::time::sleep(POLL).await;
    }
    // It has come to its own code by then.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let started = Instant::now();
    let (status, answer) = client.ask(Method::POST, &format!("{path}/cancel"), Bytes::new()).await?;
    let taken = started.elapsed();
    let answer = String::from_utf8_lossy(&answer);
    ensure!(status == StatusCode::OK && answer.contains("\"cancelled\""), "it was not cancelled: {status}: {answer}");
    Ok(taken)
}
