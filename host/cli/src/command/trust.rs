//! `witan trust`: the logs and authorities that are trusted, and how current that is.

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Args, Subcommand};
use witan_admission::Trust;
use witan_registry_sign::SignerId;
use witan_system::System;

use crate::{Global, ledger, output, source, supply};

#[derive(Args)]
#[command(after_help = "Examples:
  witan trust show
  witan trust refresh")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whom this system trusts to sign what.
    Show,
    /// Ask the registries of this system for their TUF metadata, whether their logs go on as they were, and what was yanked.
    Refresh,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Show => show(&System::load(&source::find(global)?)?, global)?,
        Command::Refresh => refresh(&System::load(&source::find(global)?)?, global).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(system: &System, global: &Global) -> anyhow::Result<()> {
    let trust = supply::trust(system, &system.host.state)?;
    let signers = |rule: &witan_registry_sign::Rule| -> Vec<String> {
        let keys = rule.keys.iter().map(|trusted| SignerId::Key(trusted.key.id()).to_string());
        keys.chain(rule.identities.iter().map(ToString::to_string)).collect()
    };
    let root = supply::root_path(system)?;
    if global.json {
        let rules: Vec<_> = trust
            .policy
            .rules()
            .iter()
            .map(|rule| {
                serde_json::json!({
                    "packages": rule.packages.to_string(),
                    "signers": signers(rule),
                    "threshold": rule.threshold,
                    "require": rule.require,
                    "allow_unlogged": rule.allow_unlogged,
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "root": root,
            "tuf": held(&trust).collect::<BTreeMap<_, _>>(),
            "max_age_s": trust.policy.max_age().as_secs(),
            "rules": rules,
        }));
        return Ok(());
    }
    for (registry, state) in held(&trust) {
        output::line(&format!("logs and authorities of `{registry}`: its TUF metadata; {state}"));
    }
    match root {
        Some(root) => output::line(&format!("logs and authorities: `{}`", root.display())),
        None if !trust.held.is_empty() => {}
        None => output::line("logs and authorities: none; nothing from a registry is let in"),
    }
    if trust.policy.rules().is_empty() {
        output::line("nobody may sign anything: there are no rules under [trust], nor in `trust.toml`");
    }
    for rule in trust.policy.rules() {
        let statements: Vec<String> = rule.require.iter().map(ToString::to_string).collect();
        output::line(&format!("`{}`: {} of", rule.packages, rule.threshold));
        signers(rule).iter().for_each(|signer| output::line(&format!("  {signer}")));
        let unlogged = if rule.allow_unlogged { ", also without a log" } else { "" };
        output::line(&format!("  must sign: {}{unlogged}", statements.join(", ")));
    }
    Ok(())
}

/// The registries that are held to TUF metadata, and whether those hold.
fn held(trust: &Trust) -> impl Iterator<Item = (String, String)> {
    trust.held.iter().map(|(registry, root)| {
        let state = root.as_ref().map_or_else(|error| format!("{error}; {}", error.help()), |_| "they hold".to_owned());
        (registry.to_string(), state)
    })
}

async fn refresh(system: &System, global: &Global) -> anyhow::Result<()> {
    ledger::administration(system, "trust-refresh", &system.origin.file().display().to_string())?;
    supply::refresh_metadata(system, &system.host.state).await?;
    supply::follow_logs(system, &system.host.state).await?;
    let mut yanked = Vec::new();
    for (name, component) in &system.components {
        let Some(package) = component.source.package() else { continue };
        if let Some(reason) = supply::yanked(system, &system.host.state, package).await? {
            yanked.push((name.to_string(), package.to_string(), reason));
        }
    }
    supply::hear(&system.host.state);
    if global.json {
        let yanked = yanked.iter().map(|(component, package, reason)| {
            serde_json::json!({ "component": component, "package": package, "reason": reason })
        });
        output::json(&serde_json::json!({ "yanked": yanked.collect::<Vec<_>>() }));
        return Ok(());
    }
    for (component, package, reason) in &yanked {
        output::note(&format!("`{component}` is {package}, which was yanked: {reason}"));
    }
    output::line("what is pinned holds, and the logs go on as they were");
    Ok(())
}
