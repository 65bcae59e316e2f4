//! Tasks over HTTP as clients send them, of a host that authenticates, limits, authorizes, records and traces.

mod cancel;
mod client;
mod cost;
pub(crate) mod flood;
mod hosts;
mod load;
mod mix;
mod restart;
mod sustained;

use std::time::Duration;

use crate::{Setting, runtime, table::Row};

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let runtime = runtime()?;
    let mut rows = vec![runtime.block_on(cost::measure(setting))?];
    rows.extend(runtime.block_on(sustained::measure(setting))?);
    rows.extend(runtime.block_on(flood::measure(setting))?);
    rows.extend(runtime.block_on(cancel::measure(setting))?);
    rows.push(runtime.block_on(restart::measure(setting))?);
    Ok(rows)
}

/// The least time that `share` of `times` took no longer than: 0.95 for the 95th percentile.
fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}
