//! `cargo xtask test`: all tests, after setting up what they need.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use witan_build::Checkout;
use witan_test_tools::{SKIPPED, Tool, Tools};

use crate::{succeed, with_guests};

/// Which tests to run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Given to the host's `cargo test`, such as the name of a test.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds the guests, then runs the tests of the host and those of the guests.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout = with_guests()?;
    let tools = tools();
    let skipped = Skipped::new()?;
    let tested = tests(&checkout, arguments, &skipped.file);
    // Said last, and whatever else there is to say.
    for line in skipped.lines(&tools) {
        eprintln!("{line}");
    }
    tested
}

fn tests(checkout: &Checkout, arguments: &Arguments, skipped: &Path) -> anyhow::Result<()> {
    let root = checkout.root();
    let mut host = Command::new("cargo");
    host.arg("test").arg("--workspace").args(&arguments.arguments).current_dir(root);
    succeed(host.env(SKIPPED, skipped))?;
    if arguments.arguments.is_empty() {
        let guests = checkout.target_folder()?;
        succeed(
            Command::new("cargo").arg("test").current_dir(root.join("components")).env("CARGO_TARGET_DIR", guests),
        )?;
    }
    Ok(())
}

/// Sets up the tools of others, and says which there are.
fn tools() -> Tools {
    let tools = witan_test_tools::set_up(&|step| eprintln!("{step} …"));
    let there =
        tools.iter().filter_map(|(tool, state)| Some(format!("{} {}", tool.program(), state.as_ref().ok()?.version)));
    eprintln!("tools of others: {}", there.collect::<Vec<_>>().join(", "));
    tools
}

/// The checks that tests skip for want of a tool.
struct Skipped {
    file: PathBuf,
}

impl Skipped {
    fn new() -> anyhow::Result<Self> {
        let folder = witan_test_tools::folder().context("`xtask` does not lie in a target folder")?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot write to `{}`", folder.display()))?;
        Ok(Self { file: folder.join(format!("skipped-{}", std::process::id())) })
    }

    /// What was skipped, and why.
    fn lines(&self, tools: &Tools) -> Vec<String> {
        let noted = fs::read_to_string(&self.file).unwrap_or_default();
        // A test that needs two tools stops at the first.
        let noted: BTreeSet<(&str, &str)> = noted.lines().filter_map(|line| line.split_once('\t')).collect();
        let why = |program: &str| {
            let tool = Tool::ALL.into_iter().find(|tool| tool.program() == program)?;
            tools.get(&tool)?.as_ref().err().cloned()
        };
        let line = |(test, program): (&str, &str)| {
            format!("SKIPPED {test}: there is no `{program}`: {}", why(program).unwrap_or_default())
        };
        noted.into_iter().map(line).collect()
    }
}

impl Drop for Skipped {
    fn drop(&mut self) {
        let _removed = fs::remove_file(&self.file);
    }
}
