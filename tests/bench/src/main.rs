//! Measures what the kernel costs: each figure beside the floor that it is a ratio to, taken in the same run.
//!
//! `cargo xtask bench` builds what is needed and runs this. Everything is on that is on in the product: context,
//! account, limits, guard, policy, decision log and spans. A measure takes rounds, and its best round counts: what else
//! a machine does makes a round slower, never faster.

#![allow(clippy::expect_used, reason = "a measurement may stop where it stands")]

mod calls;
mod decide;
mod front;
mod host;
mod http;
mod machine;
mod many;
mod process;
mod registry;
mod rounds;
mod table;
mod verify;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use witan_build::Checkout;

use crate::table::{Row, Table};

#[derive(Parser)]
#[command(name = "witan-bench")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Measure these alone: calls, decide, many, process, front, verify, registry, http. The saved results then stay as they are.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The `witan` program to measure.
    #[arg(long, default_value = "target/release/witan")]
    witan: PathBuf,
    /// Print JSON instead of a table, and save nothing.
    #[arg(long, global = true)]
    json: bool,
}

/// Processes that a measure starts beside itself.
#[derive(Subcommand)]
enum Part {
    /// Serves a greeting without any component: the floor.
    #[command(hide = true)]
    Native,
    /// Serves the files of a folder with nothing around them: the floor of a registry.
    #[command(hide = true)]
    Files {
        /// The folder.
        folder: PathBuf,
    },
    /// Sends tasks as one tenant, as fast as they are answered.
    #[command(hide = true)]
    Flood {
        /// `127.0.0.1:8080`
        address: String,
    },
    /// Asks for `/` on 32 connections, and prints how many answers came in a second.
    #[command(hide = true)]
    Load {
        /// `127.0.0.1:8080`
        address: std::net::SocketAddr,
        /// How long.
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Native) => runtime()?.block_on(http::native()),
        Some(Part::Files { folder }) => runtime()?.block_on(registry::files(&folder)),
        Some(Part::Flood { address }) => runtime()?.block_on(front::flood::flood(&address)),
        Some(Part::Load { address, seconds }) => http::load(address, seconds),
        None => measure(&arguments),
    }
}

type Measure = fn(&Setting) -> anyhow::Result<Vec<Row>>;

/// In the order of the table. What needs a quiet machine comes first.
const MEASURES: [(&str, Measure); 8] = [
    ("calls", calls::measure),
    ("decide", decide::measure),
    ("many", many::measure),
    ("process", process::measure),
    ("front", front::measure),
    ("verify", verify::measure),
    ("registry", registry::measure),
    ("http", http::measure),
];

/// Where things are.
struct Setting {
    root: PathBuf,
    witan: PathBuf,
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout =
        Checkout::find().context("this is no checkout of the project; run `cargo xtask bench` inside one")?;
    let root = checkout.root().to_owned();
    let witan = std::path::absolute(&arguments.witan)?;
    let setting = Setting { root, witan };
    let mut rows = Vec::new();
    let chosen: Vec<_> = MEASURES
        .iter()
        .filter(|(name, _)| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name))
        .collect();
    let bar = ProgressBar::new(chosen.len() as u64);
    for (name, measure) in chosen {
        bar.set_message(*name);
        bar.tick();
        rows.extend(measure(&setting).with_context(|| format!("cannot measure `{name}`"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let table = Table { machine: machine::describe(), rows };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&table.json())?);
        return Ok(());
    }
    print!("{}", table.markdown());
    if arguments.only.is_empty() {
        let path = setting.root.join("tests/bench/RESULTS.md");
        std::fs::write(&path, table.markdown()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// A runtime as the product has it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
