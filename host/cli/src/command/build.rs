//! `witan build`: makes components of Rust sources, and signs them with the key of this machine.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use witan_build::Progress;

use crate::{Global, output};

#[derive(Args)]
#[command(
    after_help = "Each package becomes `build/NAME.wasm`, with its signature beside it: `NAME.wasm.sigstore.json`. The key is
made on first use and lies in `$XDG_STATE_HOME/witan/development`; it is trusted for files of this machine
alone. Nothing else signs for it, and nothing is signed that was not just built.

What a component may ever need is written in `ceiling.toml` beside its `Cargo.toml`, in the words of grants.
Without that file it needs nothing beyond the baseline, and can be granted nothing more.

Examples:
  witan build                           the package or workspace in this folder
  witan build my-tool --output .        one of another folder, with its `.wasm` put here"
)]
pub(crate) struct Arguments {
    /// The folder of a `Cargo.toml`.
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Where the components go, instead of `FOLDER/build`.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let folder = std::path::absolute(&arguments.folder)?;
    if !folder.join("Cargo.toml").is_file() {
        bail!("there is no `Cargo.toml` in `{}`; name the folder of a package", arguments.folder.display());
    }
    let output = match &arguments.output {
        Some(output) => std::path::absolute(output)?,
        None => folder.join("build"),
    };
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => std::path::absolute(PathBuf::from(target).join("guests"))?,
        None => folder.join("target"),
    };
    let built = witan_build::build(&folder, &output, &target, &Progress::stderr()).context("nothing was built anew")?;
    if built.is_empty() {
        bail!("no package here makes a component; give one `crate-type = [\"cdylib\"]`, or a program");
    }
    let here = std::env::current_dir().unwrap_or_default();
    let shown = |path: &std::path::Path| path.strip_prefix(&here).unwrap_or(path).display().to_string();
    if global.json {
        let all = built
            .iter()
            .map(|built| serde_json::json!({ "name": built.name, "path": built.path, "changed": built.changed }));
        output::json(&all.collect::<Vec<_>>());
        return Ok(ExitCode::SUCCESS);
    }
    for built in &built {
        output::line(&format!("{}{}", shown(&built.path), if built.changed { "" } else { " (unchanged)" }));
    }
    Ok(ExitCode::SUCCESS)
}
