//! One tenant floods the host; how long does another wait?

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hyper::{Method, body::Bytes};
use tokio::task::JoinSet;

use super::{
    client::Client,
    hosts::{Host, collector},
    load::{Answer, Connections, paced},
    mix::{self, Kind},
    percentile,
};
use crate::{
    Setting,
    rounds::{ratio, time},
    table::{Figure, Row},
};

/// Requests a second of the tenant that is quiet.
const RATE: u32 = 20;
/// Seconds of each half of a round: quiet, and flooded.
const SECONDS: u32 = 10;
const ROUNDS: usize = 3;
/// The environment variable with the key of the tenant that floods.
const KEY: &str = "WITAN_BENCH_KEY";
/// Connections of the tenant that floods, each of which asks again as soon as it was answered.
const FLOOD: usize = 64;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let held = flooded(setting, "[host.requests.tenant]\nper-second = 50\n").await?;
    let free = flooded(setting, "").await?;
    let row = |measure: String, (quiet, loud, answers): (Duration, Duration, u64), bar: Option<f64>| Row {
        measure,
        value: time(loud),
        floor: format!("{} without the flood, which had {answers} answers", time(quiet)),
        figure: bar.map_or(Figure::Report, |bar| Figure::AtMost {
            value: ratio(loud, quiet),
            bar,
            aim: None,
            unit: "",
        }),
    };
    let measure = format!(
        "p99 of a tenant's {RATE} short tasks a second while another floods on {FLOOD} connections, each held to 50 a second"
    );
    Ok(vec![
        row(measure, held, Some(2.0)),
        row(
            format!("— the same without rates, so that all turns are taken: {:.1} times", ratio(free.1, free.0)),
            free,
            None,
        ),
    ])
}

/// The p99 of a tenant that is quiet, without and with a flood of another, and how many answers the flood had.
async fn flooded(setting: &Setting, limits: &str) -> anyhow::Result<(Duration, Duration, u64)> {
    let host = Host::guarded(setting, collector().await?, limits)?;
    let tenant = [Connections::open(&host, 0).await?];
    let task = [Kind { name: "short", task: mix::short() }];
    let (mut quiet, mut loud, mut answers) = (Vec::new(), Vec::new(), 0);
    // What is compiled and cached by the first of them is not measured.
    let _warm = paced(&tenant, &task, RATE, 1).await;
    for _ in 0..ROUNDS {
        quiet.extend(paced(&tenant, &task, RATE, SECONDS).await);
        let flood = Flood::start(&host)?;
        loud.extend(paced(&tenant, &task, RATE, SECONDS).await);
        answers += flood.ended()?;
    }
    Ok((p99(quiet)?, p99(loud)?, answers))
}

fn p99(answers: Vec<Answer>) -> anyhow::Result<Duration> {
    let failed = answers.iter().filter(|answer| !answer.good).count();
    ensure!(failed == 0, "{failed} of the quiet tenant's {} tasks failed", answers.len());
    let mut times: Vec<Duration> = answers.into_iter().map(|answer| answer.taken).collect();
    Ok(percentile(&mut times, 0.99))
}

/// A process that floods for as long as a half of a round is. Others' machines do not take their time from the host's, so
/// that it has what is left of this one's.
struct Flood(Child);

impl Flood {
    fn start(host: &Host) -> anyhow::Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?).args(["flood", &host.server.address]);
        Ok(Self(command.env(KEY, host.key(1)).stdout(Stdio::piped()).spawn().context("cannot start the flood")?))
    }

    /// How many answers it had.
    fn ended(self) -> anyhow::Result<u64> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "the flood failed");
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

/// Floods the host at `address`, and prints how many answers there were.
pub(crate) async fn flood(address: &str) -> anyhow::Result<()> {
    let key = std::env::var(KEY).context("the flood has no key")?;
    let until = Instant::now() + Duration::from_secs(SECONDS.into());
    let mut flood = JoinSet::new();
    for _ in 0..FLOOD {
        flood.spawn(ask_until(Client::connect(address, Some(&key)).await?, mix::short(), until));
    }
    let mut answers = 0;
    for done in flood.join_all().await {
        answers += done?;
    }
    println!("{answers}");
    Ok(())
}

/// Asks again and again, whatever the answer is. Returns how many there were.
async fn ask_until(mut client: Client, task: Bytes, until: Instant) -> anyhow::Result<u64> {
    let mut answers = 0;
    while Instant::now() < until {
        client.ask(Method::POST, "/v1/tasks?wait=60", task.clone()).await?;
        answers += 1;
    }
    Ok(answers)
}
