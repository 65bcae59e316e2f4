//! A host with many stored tasks starts.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use witan_database::{Database, Location};

use super::{client::Client, hosts::Host, mix};
use crate::{
    Setting,
    rounds::{Best, time},
    table::{Figure, Row},
};

const TASKS: u32 = 100_000;
const ROUNDS: usize = 3;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Row> {
    let mut host = Host::alone(setting)?;
    Client::connect(&host.server.address, None).await?.task(&mix::short()).await?;
    host = host.again(setting, copy).await?;
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        let mut began = Instant::now();
        let ended = async |_: &Path| {
            began = Instant::now();
            Ok(())
        };
        host = host.again(setting, ended).await?;
        let mut client = host.client(0).await?;
        client.get("/readyz").await?;
        best.note([began.elapsed()]);
        let page = client.get("/v1/tasks?limit=100").await?;
        ensure!(page["data"].as_array().is_some_and(|tasks| tasks.len() == 100), "the tasks are not there");
    }
    let [best] = best.all();
    Ok(Row {
        measure: format!("from the start of `witan up` to ready, with {TASKS} stored tasks"),
        value: time(best),
        floor: String::new(),
        figure: Figure::AtMost { value: best.as_secs_f64() * 1e3, bar: 1_000.0, aim: None, unit: " ms" },
    })
}

/// Makes copies of the one task that is stored.
async fn copy(folder: &Path) -> anyhow::Result<()> {
    let database = Database::open(Location::Sqlite(folder.join("witan.db"))).await?;
    let mut writer = database.write().await?;
    let numbers =
        format!("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {TASKS})");
    let id = "printf('01900000-0000-7000-8000-%012x', n)";
    for statement in [
        format!(
            "{numbers} INSERT INTO task SELECT {id}, tenant, principal, intent, state, priority, attempt, created_ms, \
             started_ms, finished_ms, context, metadata, callback FROM task, numbers"
        ),
        format!("{numbers} INSERT INTO task_body SELECT {id}, kind, bytes FROM task_body, numbers"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *writer).await?;
    }
    Ok(writer.commit().await?)
}
