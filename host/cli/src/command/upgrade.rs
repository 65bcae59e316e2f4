//! `witan upgrade` and `witan rollback`: from one locked version of a package to another, with open eyes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use witan_admission::{Fetched, Lock, Locked, Passed, Refused, VerifiedPackage};
use witan_registry_client::Client;
use witan_registry_types::{Digest, Package, PackageName, Version};
use witan_system::{Ceiling, ComponentName, Source, System};

use crate::{
    Global,
    advisories::Advisories,
    host, ledger, output,
    registry::{self, StoreArgument},
    source, supply,
};

#[derive(Args)]
#[command(
    after_help = "Says in what the new version differs before anything is changed: signers, imports, what it may ever need,
grants that it may no longer have, dependencies, and what is known against those. What it may need beyond the old one must be accepted, by an
answer or by `--accept`; accepting grants nothing. Then `system.toml` names the new version, and a running
host takes it up when it loads again.

Examples:
  witan upgrade                          all packages, to their newest versions
  witan upgrade sums --to 1.2.0 --accept http
  witan upgrade sums --dry-run --json"
)]
pub(crate) struct Arguments {
    /// The component; all that come from a registry without it.
    component: Option<ComponentName>,
    /// The version, if not the newest.
    #[arg(long, value_name = "VERSION", requires = "component")]
    to: Option<Version>,
    /// Accept that the new version may need more of a capability; can be said several times.
    #[arg(long, value_name = "CAPABILITY")]
    accept: Vec<String>,
    /// Change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[command(
    after_help = "Returns to what was locked before the last upgrade. A version that is older than one that ran here is
refused, since whoever can make a host go back can bring back holes that were mended; `--below-mark` says
that this is meant.

Example:
  witan rollback sums --below-mark"
)]
pub(crate) struct Rollback {
    /// The component.
    component: ComponentName,
    /// Go back although a newer version ran here.
    #[arg(long)]
    below_mark: bool,
}

/// In what one version of a package differs from another.
#[derive(Debug, Serialize)]
struct Step {
    component: String,
    from: String,
    to: String,
    digest: Digest,
    signers: Change,
    imports: Change,
    dependencies: Change,
    /// What is known against the dependencies, where the system names a folder of advisories.
    advisories: Change,
    /// What it may need beyond the old one, by capability.
    may_need: Vec<(String, String)>,
    /// What it is granted and may no longer have.
    no_longer: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Change {
    added: Vec<String>,
    removed: Vec<String>,
}

impl Change {
    fn between(old: impl IntoIterator<Item = String>, new: impl IntoIterator<Item = String>) -> Self {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.into_iter().collect(), new.into_iter().collect());
        Self { added: new.difference(&old).cloned().collect(), removed: old.difference(&new).cloned().collect() }
    }

    fn lines(&self, what: &str) -> Vec<String> {
        let line = |sign: &str, name: &String| format!("  {what:13} {sign} {name}");
        let added = self.added.iter().map(|name| line("+", name));
        added.chain(self.removed.iter().map(|name| line("-", name))).collect()
    }
}

impl Step {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {} → {}", self.component, self.from, self.to)];
        lines.extend(self.signers.lines("signers"));
        lines.extend(self.imports.lines("imports"));
        lines.extend(self.dependencies.lines("dependencies"));
        lines.extend(self.advisories.lines("advisories"));
        lines.extend(self.may_need.iter().map(|(capability, what)| format!("  may need      + {capability}: {what}")));
        lines.extend(self.no_longer.iter().map(|grant| format!("  may no longer - {grant}")));
        if lines.len() == 1 {
            lines.push("  the same signers, imports, ceiling and dependencies".to_owned());
        }
        lines
    }
}

pub(crate) async fn upgrade(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let file = source::find(global)?;
    let system = System::load(&file)?;
    supply::refresh_metadata(&system, &system.host.state).await?;
    let mut steps = Vec::new();
    for (name, component) in chosen(&system, arguments.component.as_ref())? {
        let wanted = newest(&system, &component, arguments.to.as_ref()).await?;
        if wanted == component {
            continue;
        }
        steps.push(step(&system, &name, &component, &wanted).await?);
    }
    let text: Vec<String> = steps.iter().flat_map(Step::lines).collect();
    match global.json {
        true => output::json(&steps),
        false if steps.is_empty() => output::line("everything is at its newest version"),
        false => text.iter().for_each(|line| output::line(line)),
    }
    if arguments.dry_run || steps.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for step in &steps {
        accept(step, &arguments.accept)?;
        if let Some(grant) = step.no_longer.first() {
            bail!(
                "`{}` is granted what version {} may not have, {grant}; take it out of its grants first",
                step.component,
                step.to
            );
        }
    }
    let mut lock = supply::lock(&system)?.unwrap_or_default();
    let mut moves = Vec::new();
    for step in &steps {
        let (name, package): (ComponentName, Package) = (step.component.parse()?, step.to.parse()?);
        lock.upgrade(&step.component, lock_of(&system, &name, &package, step.digest).await?);
        moves.push((name, package));
    }
    for (name, package) in &moves {
        ledger::administration(&system, "upgrade", &format!("{name} to {package}"))?;
    }
    for (name, package) in moves {
        write_source(&file, &name, &package)?;
    }
    keep(&system, &lock)?;
    if !global.json {
        output::line(&format!("`{}` names the new versions; `witan rollback` returns to the old", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The components that come from a registry: the one that is named, or all.
fn chosen(system: &System, component: Option<&ComponentName>) -> anyhow::Result<Vec<(ComponentName, Package)>> {
    let packages = system.components.iter().filter_map(|(name, component)| Some((name, component.source.package()?)));
    let all: Vec<_> = packages.map(|(name, package)| (name.clone(), package.clone())).collect();
    let Some(wanted) = component else { return Ok(all) };
    let found: Vec<_> = all.into_iter().filter(|(name, _)| name == wanted).collect();
    if found.is_empty() {
        bail!("there is no component `{wanted}` that comes from a registry; `system.toml` says where each comes from");
    }
    Ok(found)
}

/// The version that is asked for, or the newest that is neither yanked nor on trial.
async fn newest(system: &System, package: &Package, to: Option<&Version>) -> anyhow::Result<Package> {
    let name = &package.name;
    if let Some(version) = to {
        return Ok(Package { name: name.clone(), version: version.clone() });
    }
    let client = supply::client(system, name).await?;
    let (versions, yanked) = (client.versions(name).await?, yanks(system, &client, name).await?);
    let sound = |version: &Version| !yanked.contains_key(version) && version.semver().pre.is_empty();
    let newer = versions.into_iter().filter(sound).filter(|version| version.semver() > package.version.semver());
    let newest = newer.max_by(|a, b| a.semver().cmp(b.semver()));
    Ok(newest.map_or_else(|| package.clone(), |version| Package { name: name.clone(), version }))
}

async fn yanks(system: &System, client: &Client, package: &PackageName) -> anyhow::Result<BTreeMap<Version, String>> {
    match supply::held_yanks(system, &system.host.state, package)? {
        Some(yanks) => Ok(yanks),
        None => registry::yanked(client, package).await,
    }
}

/// Fetches and verifies `to`, and compares it with `from`.
async fn step(system: &System, name: &ComponentName, from: &Package, to: &Package) -> anyhow::Result<Step> {
    let store = StoreArgument::usual().open()?;
    let client = supply::client(system, &to.name).await?;
    if let Some(reason) = yanks(system, &client, &to.name).await?.get(&to.version) {
        bail!("`{to}` was yanked: {reason}");
    }
    let digest = client.resolve(to).await?;
    let artifact = supply::fetch(&client, &store, to, &digest).await?;
    let new = supply::verify(system, to, &digest, &artifact)?;
    let old = match supply::lock(system)?.and_then(|lock| lock.digest(from)) {
        None => None,
        Some(digest) => {
            let artifact = supply::fetch(&client, &store, from, &digest).await?;
            // The old one may no longer verify, which can be why it is to be replaced.
            supply::verify(system, from, &digest, &artifact).ok()
        }
    };
    let grants = system.components.get(name).map(|component| component.grants.clone()).unwrap_or_default();
    let ceiling = |verified: &VerifiedPackage| verified.signed.release.ceiling.clone();
    let before = old.as_ref().map(ceiling).unwrap_or_else(|| Ceiling::of(&grants));
    let more = before.excess(&ceiling(&new)).into_iter();
    let imports = |verified: &VerifiedPackage| verified.component.interfaces().imports;
    let signers = |verified: &VerifiedPackage| supply::signers(&verified.signed);
    let dependencies = |verified: &VerifiedPackage| -> Vec<String> {
        let sbom = verified.signed.sbom.as_ref();
        sbom.map(|sbom| sbom.dependencies().iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    let known = system.trust.advisories.as_deref().map(Advisories::open).transpose()?;
    let advisories = |verified: &VerifiedPackage| -> Vec<String> {
        let (Some(known), Some(sbom)) = (&known, &verified.signed.sbom) else { return Vec::new() };
        let found = sbom.dependencies().iter().filter_map(|dependency| known.of(dependency)).flatten();
        found.map(|finding| finding.to_string()).collect()
    };
    let between = |of: &dyn Fn(&VerifiedPackage) -> Vec<String>| {
        Change::between(old.as_ref().map(of).unwrap_or_default(), of(&new))
    };
    Ok(Step {
        component: name.to_string(),
        from: from.to_string(),
        to: to.to_string(),
        digest,
        signers: between(&signers),
        imports: between(&imports),
        dependencies: between(&dependencies),
        advisories: between(&advisories),
        may_need: more.map(|excess| (excess.capability.to_owned(), excess.wanted)).collect(),
        no_longer: ceiling(&new).excess_of_grants(&grants).into_iter().map(|excess| excess.to_string()).collect(),
    })
}

/// What is to be locked of `package` in the place of the component `name`: everything that keeps it from running is found
/// out here.
async fn lock_of(system: &System, name: &ComponentName, package: &Package, digest: Digest) -> anyhow::Result<Locked> {
    let artifact = StoreArgument::usual().open()?.get(package, &digest)?;
    let artifact = artifact.with_context(|| format!("`{package}` was not kept; upgrade again"))?;
    let mut component = system.components.get(name).cloned().with_context(|| format!("there is no `{name}`"))?;
    component.source = Source::Registry(package.clone());
    let packages = [(package.clone(), Fetched { digest, artifact })].into();
    let gate = supply::gate(system, &system.host.state, packages)?;
    let needs = host::needs(&system.host.state)?;
    let passed = gate.admit(&component, system.host.compile.size, &needs);
    let refused = |refused: Refused| anyhow::anyhow!("{refused}; {}", refused.help(&component.source));
    let Passed { admitted, .. } = passed.map_err(refused)?;
    let now = supply::continues(system, &system.host.state, package, &admitted.checkpoints).await?;
    supply::keep_logs(&system.host.state, &now)?;
    Ok(Locked::of(name, &component, &admitted, system.folder()))
}

/// Has everything accepted that the new version may need beyond the old one.
fn accept(step: &Step, accepted: &[String]) -> anyhow::Result<()> {
    let mut asked: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (capability, wanted) in &step.may_need {
        asked.entry(capability).or_default().push(wanted);
    }
    for (capability, wanted) in asked {
        if accepted
            .iter()
            .any(|accepted| accepted == capability || accepted.as_str() == format!("capability={capability}"))
        {
            continue;
        }
        let question = format!("`{}` may need `{capability}`: {}", step.component, wanted.join("; "));
        if !std::io::stdin().is_terminal() {
            bail!("{question}; nothing was changed; say `--accept {capability}` if it may");
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "{question}. May it? [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("not accepted; nothing was changed");
        }
    }
    Ok(())
}

/// Names `package` as the source of the component `name`, and leaves the rest of the file as it is.
fn write_source(file: &Path, name: &ComponentName, package: &Package) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", file.display());
    let text = std::fs::read_to_string(file).with_context(failed)?;
    let mut document: toml_edit::DocumentMut = text.parse().with_context(failed)?;
    let source = document
        .get_mut("components")
        .and_then(|all| all.get_mut(name.as_str()))
        .and_then(|component| component.get_mut("source"))
        .with_context(|| format!("`{}` does not say where `{name}` comes from", file.display()))?;
    if let Some(value) = source.as_value_mut() {
        let decor = value.decor().clone();
        *value = package.to_string().into();
        *value.decor_mut() = decor;
    }
    let text = document.to_string();
    System::parse(&text, file)?;
    witan_durable::replace(file, text.as_bytes(), 0o666).with_context(failed)
}

fn keep(system: &System, lock: &Lock) -> anyhow::Result<()> {
    let path = supply::lock_path(system).context("the system has no file, and so no lock")?;
    Ok(lock.save(&path)?)
}

pub(crate) fn rollback(arguments: &Rollback, global: &Global) -> anyhow::Result<ExitCode> {
    let file = source::find(global)?;
    let system = System::load(&file)?;
    let name = &arguments.component;
    let mut lock = supply::lock(&system)?.unwrap_or_default();
    let Some(package) = lock.previous.get(name.as_str()).and_then(|locked| locked.package.clone()) else {
        bail!("the lock knows of no earlier version of `{name}`");
    };
    ledger::administration(&system, "rollback", &format!("{name} to {package}"))?;
    let marks = supply::marks(&system.host.state);
    if let Some(mark) = marks.version(&package.name)?
        && package.version.semver() < mark.semver()
    {
        if !arguments.below_mark {
            bail!("version {mark} ran here, and {} is older; say `--below-mark` if that is meant", package.version);
        }
        marks.lower(&package.name, &package.version)?;
    }
    write_source(&file, name, &package)?;
    lock.roll_back(name.as_str());
    keep(&system, &lock)?;
    match global.json {
        true => output::json(&serde_json::json!({ "component": name.as_str(), "package": package.to_string() })),
        false => output::line(&format!("`{}` names {package} again", file.display())),
    }
    Ok(ExitCode::SUCCESS)
}
