//! A load that goes on for a while.

use std::{collections::BTreeMap, time::Duration};

use super::{
    hosts::{Host, TENANTS, collector},
    load::{Connections, paced},
    mix, percentile,
};
use crate::{
    Setting,
    process::memory,
    rounds::time,
    table::{Figure, Row},
};

/// Requests a second.
const RATE: u32 = 200;
const SECONDS: u32 = 60;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let limits = "[host.requests.tenant]\nper-second = 1000\n";
    let host = Host::guarded(setting, collector().await?, limits)?;
    let requests = mix::requests(setting)?;
    // Each kind once, so that no first call is among what is measured.
    let mut first = host.client(0).await?;
    for request in &requests {
        first.task(&request.task).await?;
    }
    let mut tenants = Vec::new();
    for tenant in 0..TENANTS.len() {
        tenants.push(Connections::open(&host, tenant).await?);
    }
    let answers = paced(&tenants, &requests, RATE, SECONDS).await;
    let good = answers.iter().filter(|answer| answer.good).count();
    let mut kinds: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for answer in &answers {
        kinds.entry(answer.kind).or_default().push(answer.taken);
    }
    let mut rows = Vec::new();
    for (kind, mut times) in kinds {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(&mut times, share));
        rows.push(Row {
            measure: format!("— {kind}: time from when it was due to its answer"),
            value: format!("p50 {}, p95 {}, p99 {}", time(p50), time(p95), time(p99)),
            floor: String::new(),
            figure: if kind == mix::HELD {
                Figure::AtMost { value: p95.as_secs_f64() * 1e3, bar: 50.0, aim: None, unit: " ms p95" }
            } else {
                Figure::Report
            },
        });
    }
    let asked = (RATE * SECONDS) as usize;
    let success = Row {
        measure: format!("{RATE} tasks a second for {SECONDS} s, of {} tenants: {}", TENANTS.len(), mix::stated()),
        value: format!("{good} of {asked} succeeded"),
        floor: String::new(),
        figure: Figure::AtLeast { value: good as f64 / asked as f64, bar: 0.999, aim: None },
    };
    rows.insert(0, success);
    // Those that write entries and make checkpoints, and the one that keeps the Merkle log.
    let ledger = (host.server.share("ledger-")? + host.server.share("merkle-log")?) * 100.0;
    rows.push(Row {
        measure: "— the ledger's threads, of the processor time of the host".to_owned(),
        value: format!("{ledger:.1} %"),
        floor: String::new(),
        figure: Figure::AtMost { value: ledger, bar: 5.0, aim: None, unit: " %" },
    });
    rows.push(memory("— resident memory of the host after it", host.server.resident()?, None));
    Ok(rows)
}
