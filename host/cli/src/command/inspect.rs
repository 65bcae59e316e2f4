//! `witan inspect`: what a file is and what it would need, without running or compiling any of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use wasm_metadata::Producers;
use wasmparser::{KnownCustom, Parser, Payload};
use wit_parser::{Resolve, TypeDefKind, WorldItem};
use witan_capability::Capability;
use witan_engine::{Engine, Settings};
use witan_registry_component::Component;
use witan_system::{Compile, Grants, format_bytes};
use witan_tools::Tools;

use crate::{Global, flags::granting, host, output};

#[derive(Args)]
#[command(after_help = "Examples:
  witan inspect tool.wasm           what it is, what it imports and exports, what it would need granted, its WIT
  witan inspect tool.wasm --wit     its WIT alone
  witan inspect tool.wasm --json    the same for programs")]
pub(crate) struct Arguments {
    /// A component's `.wasm` file.
    file: PathBuf,
    /// Print the WIT alone.
    #[arg(long)]
    wit: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let bytes = read(&arguments.file)?;
    let about = About::of(&bytes).with_context(|| format!("cannot inspect `{}`", arguments.file.display()))?;
    match (global.json, arguments.wit) {
        (true, _) => output::json(&about),
        (false, true) => output::line(about.wit.trim_end()),
        (false, false) => output::line(&about.in_words(&arguments.file)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads no more than the host would compile.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let most = Compile::default().size;
    let size = std::fs::metadata(file).with_context(|| format!("cannot read `{}`", file.display()))?.len();
    if size > most {
        bail!("`{}` has {}, more than the {} of any component", file.display(), format_bytes(size), format_bytes(most));
    }
    std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))
}

/// What a component is.
#[derive(Serialize)]
struct About {
    /// Bytes.
    size: u64,
    /// `blake3:` and the digest, as `digest` in system.toml has it.
    digest: String,
    imports: Vec<Import>,
    exports: Vec<Export>,
    /// By field (`language`, `processed-by`, `sdk`), the names with their versions.
    producers: BTreeMap<String, BTreeMap<String, String>>,
    wit: String,
}

/// An import and what would satisfy it.
#[derive(Serialize)]
struct Import {
    name: String,
    /// In words.
    meaning: &'static str,
    needs: Needs,
}

/// What it takes for an import to be satisfied.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Needs {
    /// Nothing: types alone.
    Types,
    /// Nothing: every component has it.
    Baseline {
        /// The flag without which it is of little use.
        #[serde(skip_serializing_if = "Option::is_none")]
        useful_with: Option<&'static str>,
    },
    /// A grant; the load is refused without it.
    Grant {
        /// The flag for one run.
        flag: Option<&'static str>,
        /// The line under `[components.NAME.grants]`.
        line: &'static str,
    },
    /// A component that exports it.
    Component,
}

/// An export and how it is used.
#[derive(Serialize)]
struct Export {
    name: String,
    /// In words.
    meaning: &'static str,
}

impl About {
    fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        let component = Component::read(bytes)?;
        let resolve = component.resolve();
        // Asked for what they serve, and never linked.
        let engine = Engine::new(Settings::default())?;
        let capabilities = host::capabilities(&std::env::temp_dir(), Tools::new(engine))?;
        let world = component.world();
        let imports = world.imports.iter().map(|(key, item)| {
            let name = resolve.name_world_key(key);
            let needs = needs(&capabilities, resolve, &name, item);
            let meaning = if matches!(needs, Needs::Types) { "types alone" } else { import_in_words(&name) };
            Import { name, meaning, needs }
        });
        let exports = world.exports.keys().map(|key| {
            let name = resolve.name_world_key(key);
            Export { meaning: export_in_words(&name), name }
        });
        Ok(Self {
            size: bytes.len() as u64,
            digest: format!("blake3:{}", blake3::hash(bytes).to_hex()),
            imports: imports.collect(),
            exports: exports.collect(),
            producers: producers(bytes)?,
            wit: component.wit().to_owned(),
        })
    }

    fn in_words(&self, file: &Path) -> String {
        let mut lines = vec![format!("{}: a component of {} bytes, {}", file.display(), self.size, self.digest)];
        for (field, tools) in &self.producers {
            let tools: Vec<String> =
                tools.iter().map(|(name, version)| format!("{name} {version}").trim().to_owned()).collect();
            lines.push(format!("  {field}: {}", tools.join(", ")));
        }
        let names =
            self.imports.iter().map(|import| &import.name).chain(self.exports.iter().map(|export| &export.name));
        let width = names.map(String::len).max().unwrap_or(0);
        let exports = self.exports.iter().map(|export| format!("  {:width$}  {}", export.name, export.meaning));
        lines.extend(listed("Exports", exports));
        let imports = self
            .imports
            .iter()
            .map(|import| format!("  {:width$}  {}{}", import.name, import.meaning, import.needs.in_words()));
        lines.extend(listed("Imports", imports));
        lines.push("\nNeeds granted:".to_owned());
        lines.extend(self.needed());
        lines.push(format!("\nWIT:\n{}", self.wit.trim_end()));
        lines.join("\n")
    }

    /// The lines that say what it takes to load it.
    fn needed(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for import in &self.imports {
            let line = match &import.needs {
                Needs::Grant { flag: Some(flag), line } => format!("  {flag}   or in system.toml: {line}"),
                Needs::Grant { flag: None, line } => format!("  in system.toml: {line}"),
                Needs::Component => format!("  a link to a component that exports `{}`", import.name),
                Needs::Types | Needs::Baseline { .. } => continue,
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.is_empty() {
            lines.push("  nothing: the baseline is enough to load it".to_owned());
        }
        lines
    }
}

/// A heading and what stands under it.
fn listed(heading: &str, items: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = std::iter::once(format!("\n{heading}:")).chain(items).collect();
    if lines.len() == 1 {
        lines.push("  none".to_owned());
    }
    lines
}

impl Needs {
    fn in_words(&self) -> String {
        match self {
            Self::Types => String::new(),
            Self::Baseline { useful_with: None } => " (baseline)".to_owned(),
            Self::Baseline { useful_with: Some(flag) } => format!(" (baseline; of use with `{flag}`)"),
            Self::Grant { .. } => " (needs a grant)".to_owned(),
            Self::Component => " (needs a link)".to_owned(),
        }
    }
}

/// What the component and the modules in it say of how they were made.
pub(crate) fn producers(bytes: &[u8]) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut all = Producers::empty();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CustomSection(section) = payload?
            && let KnownCustom::Producers(_) = section.as_known()
        {
            all.merge(&Producers::from_bytes(section.data(), section.data_offset())?);
        }
    }
    let tools = |field: wasm_metadata::ProducersField<'_>| -> BTreeMap<String, String> {
        field.iter().map(|(name, version)| (name.clone(), version.clone())).collect()
    };
    Ok(all.iter().map(|(field, values)| (field.clone(), tools(values))).collect())
}

fn needs(capabilities: &[Arc<dyn Capability>], resolve: &Resolve, name: &str, item: &WorldItem) -> Needs {
    if has_types_alone(resolve, item) {
        return Needs::Types;
    }
    match capabilities.iter().find(|capability| capability.serves(name)) {
        Some(capability) if capability.granted(&Grants::default()) => {
            Needs::Baseline { useful_with: useful_with(name) }
        }
        Some(capability) => Needs::Grant { flag: granting(capability.name()), line: capability.remedy() },
        None => Needs::Component,
    }
}

pub(crate) fn has_types_alone(resolve: &Resolve, item: &WorldItem) -> bool {
    match item {
        WorldItem::Interface { id, .. } => {
            let interface = &resolve.interfaces[*id];
            let mut types = interface.types.values();
            interface.functions.is_empty() && !types.any(|id| matches!(resolve.types[*id].kind, TypeDefKind::Resource))
        }
        WorldItem::Function(_) => false,
        WorldItem::Type { .. } => true,
    }
}

/// The baseline has these, but they come to life with a grant.
fn useful_with(interface: &str) -> Option<&'static str> {
    let (name, _) = interface.split_once('@').unwrap_or((interface, ""));
    match name {
        "wasi:filesystem/preopens" => granting("filesystem"),
        "wasi:cli/environment" => granting("environment"),
        _ => None,
    }
}

fn import_in_words(interface: &str) -> &'static str {
    let (name, _) = interface.split_once('@').unwrap_or((interface, ""));
    let (package, name) = name.split_once('/').unwrap_or((name, ""));
    match (package, name) {
        ("wasi:cli", "environment") => "read its arguments and environment",
        ("wasi:cli", "exit") => "end itself with an exit code",
        ("wasi:cli", "stdin") => "read standard input",
        ("wasi:cli", "stdout" | "stderr") => "write to standard output and error",
        ("wasi:cli", _) => "ask whether a terminal is there",
        ("wasi:clocks", "wall-clock" | "system-clock" | "timezone") => "know the time of day",
        ("wasi:clocks", _) => "measure time and wait",
        ("wasi:filesystem", _) => "use the files and folders it is given",
        ("wasi:http", "types") => "hold HTTP requests and responses",
        ("wasi:http", _) => "send HTTP requests",
        ("wasi:io", _) => "wait, and move bytes",
        ("wasi:random", _) => "get random numbers",
        ("wasi:sockets", _) => "connect to other machines",
        ("wasi:config", _) => "read its settings",
        ("wasi:keyvalue", _) => "keep keys and values of its own",
        ("wasi:logging", _) => "write to the log",
        ("witan:tools", "broker" | "broker-sync") => "find and call tools",
        ("witan:documents", _) => "have documents read",
        ("witan:task", _) => "have a task done",
        _ => "call another component",
    }
}

fn export_in_words(interface: &str) -> &'static str {
    let (name, _) = interface.split_once('@').unwrap_or((interface, ""));
    match name {
        "wasi:cli/run" => "a program: `witan run`",
        "wasi:http/incoming-handler" | "wasi:http/handler" => "serves HTTP: `witan serve`, or a mount",
        "witan:task/handler" | "witan:task/handler-sync" => "does a task: an intent in system.toml",
        "witan:tools/tool" | "witan:tools/tool-sync" => "tools for agents",
        "witan:documents/extract" | "witan:documents/extract-sync" => "reads documents",
        "witan:component/health" | "witan:component/health-sync" => "says whether it is fit to serve",
        _ => "functions: `witan call`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(wat: &str) -> anyhow::Result<About> {
        About::of(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn each_import_says_what_it_takes() {
        let about = about(
            r#"(component
                (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64)))))
                (import "wasi:logging/logging" (instance (export "log" (func (param "a" string)))))
                (import "acme:other/thing" (instance (export "do" (func))))
            )"#,
        )
        .unwrap();
        let needs: Vec<&Needs> = about.imports.iter().map(|import| &import.needs).collect();
        assert!(matches!(needs[0], Needs::Baseline { .. }));
        assert!(matches!(needs[2], Needs::Component));
        let text = about.in_words(Path::new("x.wasm"));
        assert!(text.contains("acme:other/thing") && text.contains("a link to a component"), "{text}");
    }

    #[test]
    fn what_is_no_component_is_named() {
        let module = About::of(&wat::parse_str("(module)").unwrap()).err().unwrap().to_string();
        assert!(module.contains("core module"), "{module}");
        for bytes in [&b""[..], b"hello", b"\0asm\x0d\0\x01\0garbage"] {
            assert!(About::of(bytes).is_err());
        }
    }
}
