//! `witan graph`: draws a system.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use witan_system::{Graph, Interfaces};

use crate::{Global, host, output, source};

#[derive(Args)]
#[command(after_help = "Examples:
  witan graph                                  Mermaid, for Markdown
  witan graph --format svg --output system.svg
  witan graph --format dot | dot -Tpng > system.png")]
pub(crate) struct Arguments {
    /// The language of the drawing.
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Write the drawing to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For Markdown.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let system = source::load(global)?;
    let host = host::Host::new(&system, host::Mode::Enforce)?;
    let running = host.prepare(system)?;
    let interfaces: BTreeMap<_, _> = running
        .components()
        .iter()
        .map(|(name, loaded)| {
            let imports = loaded.imports.iter().map(|import| import.name.clone()).collect();
            (name.clone(), Interfaces { imports, exports: loaded.exports.clone() })
        })
        .collect();
    let graph = Graph::of(&running.system, &interfaces);
    let text = match arguments.format {
        Format::Mermaid => graph.to_mermaid(),
        Format::Dot => graph.to_dot(),
        Format::Svg => graph.to_svg(),
    };
    match &arguments.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        None if global.json => output::json(&serde_json::json!({ "drawing": text })),
        None => output::line(text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
