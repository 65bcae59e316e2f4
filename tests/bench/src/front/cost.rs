//! What it costs to authenticate, limit, authorize, record and trace a request.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    client::Client,
    hosts::{Host, collector},
    mix, percentile,
};
use crate::{
    Setting,
    rounds::time,
    table::{Figure, Row},
};

const ROUNDS: usize = 400;
/// Before what counts: code and caches are warm then.
const WARM: usize = 40;
/// What is written before it is synchronized: a page of a database.
const PAGE: [u8; 4096] = [7; 4096];

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Row> {
    let alone = Host::alone(setting)?;
    let guarded = Host::guarded(setting, collector().await?, "[host.requests.tenant]\nper-second = 100000\n")?;
    let (mut plain, mut full) = (alone.client(0).await?, guarded.client(0).await?);
    let mut disk = Disk::open(guarded.folder())?;
    let task = mix::short();
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..WARM + ROUNDS {
        // Who comes first changes, so that what one leaves behind the other does not always pay for.
        let (a, b) = if round % 2 == 0 {
            let a = timed(&mut plain, &task).await?;
            (a, timed(&mut full, &task).await?)
        } else {
            let b = timed(&mut full, &task).await?;
            (timed(&mut plain, &task).await?, b)
        };
        if round >= WARM {
            for (times, taken) in times.iter_mut().zip([a, b, disk.synchronize()?]) {
                times.push(taken);
            }
        }
    }
    let [plain, full, disk] = times.map(|mut times| percentile(&mut times, 0.5));
    let beyond = full.as_secs_f64() - plain.as_secs_f64() - disk.as_secs_f64();
    Ok(Row {
        measure:
            "a task over HTTP with authentication, limits, policy, ledger and telemetry, beyond one without them and \
                  one fdatasync, p50"
                .to_owned(),
        value: time(full),
        floor: format!("{} for a single user, {} for fdatasync", time(plain), time(disk)),
        figure: Figure::AtMost { value: beyond * 1e3, bar: 0.1, aim: None, unit: " ms" },
    })
}

async fn timed(client: &mut Client, task: &hyper::body::Bytes) -> anyhow::Result<Duration> {
    let started = Instant::now();
    client.task(task).await?;
    Ok(started.elapsed())
}

/// A file on the disk that the host writes to.
struct Disk(File);

impl Disk {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::create(folder.join("synchronized"))?))
    }

    fn synchronize(&mut self) -> anyhow::Result<Duration> {
        self.0.write_all(&PAGE)?;
        let started = Instant::now();
        self.0.sync_data()?;
        Ok(started.elapsed())
    }
}
