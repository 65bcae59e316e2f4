//! The supply of components: the gate that they pass, made from what the operator says, and the lock that says what ran.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use witan_admission::{
    Development, Fetched, Gate, Lock, LockError, Locked, MarkError, Marks, Metadata, Quarantine, Trust, VerifiedPackage,
};
use witan_egress::Egress;
use witan_loader::Running;
use witan_registry_client::{Client, LogPin, Store};
use witan_registry_sign::{Checkpoint, Dependency, TrustPolicy, TrustRoot, Verified};
use witan_registry_tuf::{HoldError, Trusted, hold};
use witan_registry_types::{Artifact, Digest, Host, Namespace, Package, PackageName, Registry, Version};
use witan_system::{ComponentName, Key, Source, System, TrustFile};

use crate::{advisories::Advisories, output, registry::Bar};

/// What was fetched of each package.
pub(crate) type Packages = BTreeMap<Package, Fetched>;

/// The largest file of trust.
const LARGEST: u64 = 4 << 20;

/// The quarantine of a host that keeps its data in `state`.
pub(crate) fn quarantine(state: &Path) -> Quarantine {
    Quarantine::at(state.join("quarantine.json"))
}

/// What a host that keeps its data in `state` has seen.
pub(crate) fn marks(state: &Path) -> Marks {
    Marks::at(state.join("marks.json"))
}

/// When the registries of a host were last heard.
pub(crate) fn heard(state: &Path) -> PathBuf {
    state.join("heard")
}

/// Where a package of `system` comes from.
pub(crate) async fn client(system: &System, package: &PackageName) -> anyhow::Result<Client> {
    let registry = system.registries.of(package);
    let registry = registry.with_context(|| {
        format!("no registry is named for `{package}`; add its namespace under [registries] in system.toml")
    })?;
    crate::registry::client_by(registry, crate::egress::way(system)?).await
}

/// Fetches `package` into `store` unless it is there. What was fetched is not verified yet.
pub(crate) async fn fetch(
    client: &Client,
    store: &Store,
    package: &Package,
    digest: &Digest,
) -> anyhow::Result<Artifact> {
    if let Ok(Some(artifact)) = store.get(package, digest) {
        return Ok(artifact);
    }
    let bar = Bar::new();
    let artifact = client.fetch(package, digest, &|at| bar.at(at.received, at.total)).await?;
    store.put(package, digest, &artifact)?;
    Ok(artifact)
}

/// What is in `store` of the packages of `system`, by the digests that are locked.
pub(crate) fn fetched(system: &System, store: &Store, lock: Option<&Lock>) -> anyhow::Result<Packages> {
    let mut packages = Packages::new();
    for (package, digest) in lock.map(|lock| lock.pins(system)).unwrap_or_default() {
        if let Some(artifact) = store.get(&package, &digest)? {
            packages.insert(package, Fetched { digest, artifact });
        }
    }
    Ok(packages)
}

/// Why a package was not fetched.
pub(crate) struct NotFetched {
    /// The component that comes from it.
    pub(crate) component: ComponentName,
    pub(crate) package: Package,
    /// The digest that is locked, if one is.
    pub(crate) digest: Option<Digest>,
    pub(crate) error: anyhow::Error,
}

/// Fetches the packages of `system` that are not there, each by the digest that is locked, else, where nothing is held to
/// the lock, by the one that the registry names for a version that was not yanked. Gives also which a registry was asked
/// for.
pub(crate) async fn fetch_all(
    system: &System,
    store: &Store,
    lock: Option<&Lock>,
    locked: bool,
) -> Result<(Packages, BTreeSet<Package>), NotFetched> {
    let pins = lock.map(|lock| lock.pins(system)).unwrap_or_default();
    let (mut packages, mut asked) = (Packages::new(), BTreeSet::new());
    for (component, package) in packages_of(system) {
        let known = pins.get(package).copied();
        if let Some(digest) = known
            && let Ok(Some(artifact)) = store.get(package, &digest)
        {
            packages.insert(package.clone(), Fetched { digest, artifact });
            continue;
        }
        let fetched = ask_for(system, store, package, known, locked).await.map_err(|error| NotFetched {
            component: component.clone(),
            package: package.clone(),
            digest: known,
            error,
        })?;
        packages.insert(package.clone(), fetched);
        asked.insert(package.clone());
    }
    Ok((packages, asked))
}

/// The components of `system` that come from a registry, each with its package.
fn packages_of(system: &System) -> impl Iterator<Item = (&ComponentName, &Package)> {
    system.components.iter().filter_map(|(name, component)| Some((name, component.source.package()?)))
}

async fn ask_for(
    system: &System,
    store: &Store,
    package: &Package,
    known: Option<Digest>,
    locked: bool,
) -> anyhow::Result<Fetched> {
    if locked && known.is_none() {
        bail!("`{package}` is not in the lock, and `--locked` fetches nothing else; run once without `--locked`");
    }
    let client = client(system, &package.name).await?;
    let digest = match known {
        Some(digest) => digest,
        None => {
            if let Some(reason) = yanked(system, &system.host.state, package).await? {
                bail!("`{package}` was yanked: {reason}; choose another version");
            }
            client.resolve(package).await?
        }
    };
    let artifact = fetch(&client, store, package, &digest).await?;
    Ok(Fetched { digest, artifact })
}

/// The gate for the components of `system`, of which `packages` were fetched.
pub(crate) fn gate(system: &System, state: &Path, packages: Packages) -> anyhow::Result<Gate> {
    let mut gate = Gate::local(state, Development::at(&Development::folder()?)?.public()?);
    gate.quarantine = quarantine(state);
    gate.marks = marks(state);
    gate.packages = packages;
    gate.trust = trust(system, state)?;
    if let Some(folder) = &system.trust.advisories {
        let advisories = Advisories::open(folder)?;
        gate.advisories = Some(Arc::new(move |dependency: &Dependency| advisories.vulnerability(dependency)));
    }
    Ok(gate)
}

/// The rules of the system and those for all systems of this user.
fn policy(system: &System) -> anyhow::Result<TrustPolicy> {
    let mut rules = system.trust.rules.clone();
    rules.rules.extend(global()?.map(|(_, file)| file.rules).unwrap_or_default());
    TrustPolicy::try_from(&rules).map_err(|error| {
        let problem = system.origin.problem(
            &Key::root().child("trust"),
            format!("{:#}", anyhow::Error::new(error)),
            "correct the rules",
        );
        anyhow::anyhow!("{problem}")
    })
}

/// Whom to trust: the rules, and the roots that the system or those for all systems of this user name.
pub(crate) fn trust(system: &System, state: &Path) -> anyhow::Result<Trust> {
    let policy = policy(system)?;
    let root = match root_path(system)? {
        None => None,
        Some(path) => Some(root(&path, state)?),
    };
    let mut held = BTreeMap::new();
    for pin in pins(system)? {
        held.insert(pin.registry.host.clone(), pin.trusted_root(state)?);
    }
    Ok(Trust { registries: system.registries.clone(), held, ..Trust::new(policy, root) })
}

/// A registry whose TUF root is pinned.
struct Pin {
    registry: Registry,
    root: Vec<u8>,
    /// The namespaces whose packages are used.
    namespaces: Vec<Namespace>,
}

/// The registries of `system` whose TUF roots it pins, or those for all systems of this user.
fn pins(system: &System) -> anyhow::Result<Vec<Pin>> {
    let mut roots = BTreeMap::<Host, PathBuf>::new();
    if let Some((folder, file)) = global()? {
        for (host, path) in &file.tuf {
            let host = host.parse().with_context(|| format!("`{host}` under `tuf` in `trust.toml` is no host"))?;
            roots.insert(host, folder.join(path));
        }
    }
    roots.extend(system.trust.tuf.clone());
    let mut pins = Vec::new();
    for (host, path) in &roots {
        let Some(registry) = system.registries.at(host) else { continue };
        let packages = system.components.values().filter_map(|component| component.source.package());
        let of_host = packages.filter(|package| system.registries.of(&package.name).is_some_and(|at| at.host == *host));
        let namespaces: BTreeSet<Namespace> = of_host.map(|package| package.name.namespace.clone()).collect();
        let namespaces = namespaces.into_iter().collect();
        pins.push(Pin { registry: registry.clone(), root: read_root(path)?, namespaces });
    }
    Ok(pins)
}

impl Pin {
    fn metadata(&self, state: &Path) -> Metadata {
        Metadata::of(state, &self.registry.host)
    }

    /// What the registry may be believed now by what was kept of its metadata, and when it was heard.
    fn kept(&self, state: &Path) -> anyhow::Result<Result<(Trusted, SystemTime), HoldError>> {
        let Some((held, heard)) = self.metadata(state).read()? else { return Ok(Err(HoldError::Never)) };
        let trusted = held.trusted(&self.root, &self.namespaces, SystemTime::now());
        Ok(trusted.map(|trusted| (trusted, heard)))
    }

    fn trusted_root(&self, state: &Path) -> anyhow::Result<Result<TrustRoot, HoldError>> {
        Ok(self.kept(state)?.and_then(|(trusted, heard)| {
            TrustRoot::parse(&trusted.trusted_root, heard).map_err(|error| HoldError::Form(error.to_string()))
        }))
    }

    /// Asks the registry for its metadata, and keeps what may be believed.
    async fn refresh(&self, state: &Path, egress: Egress) -> anyhow::Result<()> {
        let (host, metadata) = (&self.registry.host, self.metadata(state));
        let kept = metadata.read()?.map(|(held, _)| held);
        let client = crate::registry::client_by(&self.registry, egress).await?;
        let held = hold(&self.root, kept.as_ref(), client, &self.namespaces, SystemTime::now()).await;
        let (held, _) = held.map_err(|error| {
            let help = error.help();
            anyhow::anyhow!("the TUF metadata of `{host}` do not hold: {error}; {help}")
        })?;
        Ok(metadata.keep(&held)?)
    }
}

/// Asks the registries whose TUF roots are pinned for their metadata: all of them, whichever fails.
pub(crate) async fn refresh_metadata(system: &System, state: &Path) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for pin in pins(system)?.iter().filter(|pin| !pin.namespaces.is_empty()) {
        failures.extend(pin.refresh(state, crate::egress::way(system)?).await.err().map(|error| format!("{error:#}")));
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

/// Asks the registries of whose metadata nothing was kept that holds now, or nothing that is new enough. Where that fails,
/// what needs it is refused, and nothing else.
pub(crate) async fn have_metadata(system: &System, state: &Path) -> anyhow::Result<()> {
    let max_age = policy(system)?.max_age();
    for pin in pins(system)?.iter().filter(|pin| !pin.namespaces.is_empty()) {
        let too_old = |heard: SystemTime| heard.elapsed().is_ok_and(|age| age > max_age);
        if pin.kept(state)?.map_or(true, |(_, heard)| too_old(heard))
            && let Err(error) = pin.refresh(state, crate::egress::way(system)?).await
        {
            output::note(&format!("{error:#}"));
        }
    }
    Ok(())
}

/// The rules for all systems of this user, with the folder of their file.
fn global() -> anyhow::Result<Option<(PathBuf, TrustFile)>> {
    let Ok(folder) = crate::registry::config_folder() else { return Ok(None) };
    let path = folder.join("trust.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let file = toml::from_str(&text).with_context(|| format!("`{}` cannot be read", path.display()))?;
            Ok(Some((folder, file)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// The trusted root in `path`, as old as the last time that it was written or that the registries were heard.
fn root(path: &Path, state: &Path) -> anyhow::Result<TrustRoot> {
    let heard = std::fs::metadata(heard(state)).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    root_at(path, heard)
}

/// The trusted root in `path`, as old as the last time that it was written, or `confirmed` where that is later.
pub(crate) fn root_at(path: &Path, confirmed: SystemTime) -> anyhow::Result<TrustRoot> {
    let failed = || format!("cannot read the trusted root `{}`", path.display());
    let written = std::fs::metadata(path).and_then(|about| about.modified()).with_context(failed)?;
    TrustRoot::parse(&read_root(path)?, written.max(confirmed)).with_context(failed)
}

fn read_root(path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("cannot read the root `{}`", path.display());
    if std::fs::metadata(path).with_context(failed)?.len() > LARGEST {
        bail!("the root `{}` is larger than {LARGEST} bytes", path.display());
    }
    std::fs::read(path).with_context(failed)
}

/// Verifies what was fetched of `package`, by the rules of `system` and of this user.
pub(crate) fn verify(
    system: &System,
    package: &Package,
    digest: &Digest,
    artifact: &Artifact,
) -> anyhow::Result<VerifiedPackage> {
    let trust = trust(system, &system.host.state)?;
    witan_admission::verify(&trust, package, digest, artifact, SystemTime::now()).map_err(|refused| {
        let help = refused.help(&Source::Registry(package.clone()));
        anyhow::anyhow!("{refused}; {help}")
    })
}

/// Who signed a version, in words.
pub(crate) fn signers(signed: &Verified) -> Vec<String> {
    signed.signers.iter().map(ToString::to_string).collect()
}

/// Where the lock of a system lies: `witan.lock` beside `system.toml`, and `NAME.witan.lock` beside another file. None for
/// a system that no file describes.
pub(crate) fn lock_path(system: &System) -> Option<PathBuf> {
    let file = system.origin.file();
    let stem = file.file_stem()?.to_str()?;
    let name = if stem == "system" { "witan.lock".to_owned() } else { format!("{stem}.witan.lock") };
    Some(file.with_file_name(name))
}

/// What is locked for `system`.
pub(crate) fn lock(system: &System) -> anyhow::Result<Option<Lock>> {
    Ok(lock_path(system).map(|path| Lock::load(&path)).transpose()?.flatten())
}

/// What is to be locked of a system that stands.
pub(crate) fn to_lock(running: &Running) -> BTreeMap<String, Locked> {
    let folder = running.system.folder();
    let components = running.components().iter().filter_map(|(name, loaded)| {
        let component = running.system.components.get(name)?;
        Some((name.to_string(), Locked::of(name, component, &loaded.admitted, folder)))
    });
    components.collect()
}

/// Whether a system may start by what is locked; nothing of it has run yet.
pub(crate) fn hold_to_lock(running: &Running) -> Result<(), LockError> {
    let Some(path) = lock_path(&running.system) else { return Ok(()) };
    let file = path.display().to_string();
    let lock = Lock::load(&path)?.ok_or_else(|| LockError::Missing(file.clone()))?;
    let differences = lock.differences(&to_lock(running));
    if differences.is_empty() { Ok(()) } else { Err(LockError::Differs { file, differences }) }
}

/// Writes down what runs, where that is something else than before.
pub(crate) fn keep_lock(running: &Running) {
    let Some(path) = lock_path(&running.system) else { return };
    let kept = || -> anyhow::Result<()> {
        let old = Lock::load(&path)?.unwrap_or_default();
        let components = to_lock(running);
        if old.components == components {
            return Ok(());
        }
        let mut lock = old.clone();
        lock.components = components;
        lock.previous.retain(|name, _| lock.components.contains_key(name));
        for (name, before) in &old.components {
            let changed = lock.components.get(name).is_some_and(|now| now.package != before.package);
            if changed && before.package.is_some() {
                lock.previous.insert(name.clone(), before.clone());
            }
        }
        for difference in old.differences(&lock.components) {
            tracing::debug!(lock = %path.display(), "{difference}");
        }
        Ok(lock.save(&path)?)
    };
    if let Err(error) = kept() {
        tracing::warn!(error = format!("{error:#}"), "the lock was not written");
    }
}

/// The trusted root that a system names, or else that of all systems of this user.
pub(crate) fn root_path(system: &System) -> anyhow::Result<Option<PathBuf>> {
    let of_all = global()?.and_then(|(folder, file)| Some(folder.join(file.root?)));
    Ok(system.trust.root.clone().or(of_all))
}

/// The logs that the registry at `host` keeps itself: by its TUF metadata, where their root is pinned, else by the root that
/// is named. Signatures may be in the log of another, for which it does not speak.
fn logs_of(system: &System, state: &Path, host: &Host) -> anyhow::Result<Vec<LogPin>> {
    let pinned = pins(system)?.into_iter().find(|pin| pin.registry.host == *host);
    let root = match pinned {
        // Why there is none was said when the metadata were asked for.
        Some(pin) => pin.kept(state)?.ok().map(|(trusted, _)| trusted.trusted_root),
        None => root_path(system)?.map(|path| read_root(&path)).transpose()?,
    };
    let Some(root) = root else { return Ok(Vec::new()) };
    Ok(LogPin::of_trusted_root(&root)?.into_iter().filter(|pin| pin.host == host.as_str()).collect())
}

/// Sees that the logs of the registries that `system` uses go on from where they were seen last, and keeps where they are.
pub(crate) async fn follow_logs(system: &System, state: &Path) -> anyhow::Result<()> {
    // One package of each registry is enough to ask it.
    let by_registry: BTreeMap<String, &Package> = packages_of(system)
        .filter_map(|(_, package)| Some((system.registries.of(&package.name)?.to_string(), package)))
        .collect();
    for package in by_registry.into_values() {
        let client = client(system, &package.name).await?;
        for pin in logs_of(system, state, client.host())? {
            let kept = marks(state).log(&pin.origin())?;
            let found = client.log().checkpoint(&pin, kept.as_ref()).await?;
            marks(state).raise_log(&found)?;
        }
    }
    Ok(())
}

/// Sees that the log of the registry that `package` comes from, whose `shown` states its signatures have, is the one that
/// was seen here before: a state that was signed says nothing of what came before it. Gives where the log is now, which is to
/// be kept once the package is let in.
pub(crate) async fn continues(
    system: &System,
    state: &Path,
    package: &Package,
    shown: &BTreeSet<Checkpoint>,
) -> anyhow::Result<Vec<Checkpoint>> {
    let client = client(system, &package.name).await?;
    let mut now = Vec::new();
    for pin in logs_of(system, state, client.host())? {
        let mut shown = shown.iter().filter(|shown| shown.origin == pin.origin()).peekable();
        if shown.peek().is_none() {
            continue;
        }
        let kept = marks(state).log(&pin.origin())?;
        let current = client.log().checkpoint(&pin, kept.as_ref()).await?;
        for shown in shown {
            client.log().consistent(shown, &current).await?;
        }
        now.push(current);
    }
    Ok(now)
}

/// Keeps where logs are, which were seen to go on.
pub(crate) fn keep_logs(state: &Path, now: &[Checkpoint]) -> Result<(), MarkError> {
    let marks = marks(state);
    now.iter().try_for_each(|checkpoint| marks.raise_log(checkpoint))
}

/// Notes that the registries were heard just now.
pub(crate) fn hear(state: &Path) {
    let path = heard(state);
    if let Err(error) = std::fs::write(&path, b"") {
        tracing::warn!(file = %path.display(), %error, "cannot note that the registries were heard");
    }
}

/// The yanked versions of `package`, by what was kept of its registry's TUF metadata; none where those are not pinned.
pub(crate) fn held_yanks(
    system: &System,
    state: &Path,
    package: &PackageName,
) -> anyhow::Result<Option<BTreeMap<Version, String>>> {
    let registry = system.registries.of(package).map(|registry| &registry.host);
    let Some(pin) = pins(system)?.into_iter().find(|pin| Some(&pin.registry.host) == registry) else {
        return Ok(None);
    };
    let (trusted, _) = pin.kept(state)??;
    Ok(Some(trusted.yanks.get(&package.namespace).map(|yanks| yanks.of(package)).unwrap_or_default()))
}

/// Why `package` was yanked, if it was.
pub(crate) async fn yanked(system: &System, state: &Path, package: &Package) -> anyhow::Result<Option<String>> {
    if let Some(mut yanks) = held_yanks(system, state, &package.name)? {
        return Ok(yanks.remove(&package.version));
    }
    match client(system, &package.name).await?.yanked(&package.name).await {
        Ok(mut yanked) => Ok(yanked.remove(&package.version)),
        // A registry that is not ours does not know of yanking.
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
