//! What the commands about registries share: where keys, tokens and fetched components lie, and which registry is meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{IsTerminal as _, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use witan_egress::Egress;
use witan_registry_client::{Client, Credentials, DiscoverError, Settings, Store};
use witan_registry_sign::{KeyError, KeyFolder, KeysError, SigningKey};
use witan_registry_types::{Host, Mapping, Name, Package, PackageName, ReferenceError, Registry, Version};

use crate::{Global, egress::CaArgument, output};

/// What is done in less time needs no bar.
const UNSEEN: Duration = Duration::from_secs(1);

/// The largest file of settings, passphrases or tokens.
const LARGEST: u64 = 64 << 10;

/// A folder of ours below the one that `variable` names, or below `usual` at home.
fn folder(variable: &str, usual: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let base = named.or_else(|| std::env::home_dir().map(|home| home.join(usual)));
    let base = base.with_context(|| format!("there is no home folder; set `HOME` or `{variable}`"))?;
    Ok(base.join("witan"))
}

/// The folder of our settings: `~/.config/witan`, unless `XDG_CONFIG_HOME` says otherwise.
pub(crate) fn config_folder() -> anyhow::Result<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config")
}

/// Which registry is asked.
#[derive(Args, Clone)]
pub(crate) struct RegistryArgument {
    /// The registry: a host, with the path before its namespaces if that is not the one the host names itself.
    #[arg(long, value_name = "HOST[/PREFIX]", env = "WITAN_REGISTRY", value_parser = place)]
    registry: Registry,
    #[command(flatten)]
    ca: CaArgument,
}

/// A registry as people write it: they copy what stands in the browser.
pub(crate) fn place(text: &str) -> Result<Registry, ReferenceError> {
    let copied = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    copied.map_or(text, |text| text.strip_suffix('/').unwrap_or(text)).parse()
}

impl RegistryArgument {
    /// A client of the registry, with the token that is kept for it.
    pub(crate) async fn client(&self, global: &Global) -> anyhow::Result<Client> {
        client_by(&self.registry, self.ca.way(global)?).await
    }

    /// The same of another registry.
    pub(crate) async fn client_of(&self, place: &Registry, global: &Global) -> anyhow::Result<Client> {
        client_by(place, self.ca.way(global)?).await
    }
}

/// A client of the registry at `place`, for commands that have no flags for it.
pub(crate) async fn client(place: &Registry, global: &Global) -> anyhow::Result<Client> {
    client_by(place, CaArgument::usual().way(global)?).await
}

/// A client of the registry at `place`, which is asked by `egress`. Where it names no path, the registry's own file says which; where it has none
/// either, packages lie where they do by default.
pub(crate) async fn client_by(place: &Registry, egress: Egress) -> anyhow::Result<Client> {
    let settings = Settings { egress, ..settings(&place.host)? };
    let mapping = match &place.mapping {
        Some(mapping) => mapping.clone(),
        None => match Client::discover(place.host.clone(), settings.clone()).await {
            Ok(client) => return Ok(client),
            Err(DiscoverError::Request(error)) if error.is_not_found() => Mapping::default(),
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Client::new(place.host.clone(), mapping, settings)?)
}

/// `registries.toml`: what is kept of each registry.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Registries {
    #[serde(default)]
    registries: BTreeMap<Host, Kept>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Other hosts that may trade its token.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    realms: BTreeSet<Host>,
    /// Other hosts to which its well-known file may point.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leads_to: BTreeSet<Host>,
}

fn registries_file() -> anyhow::Result<PathBuf> {
    Ok(config_folder()?.join("registries.toml"))
}

fn registries() -> anyhow::Result<Registries> {
    let path = registries_file()?;
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Registries::default()),
        file => file.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "`{}` has mode {mode:04o}: make it 0600, and replace its tokens if others may have read them",
            path.display()
        );
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).with_context(|| format!("cannot read `{}`", path.display()))?;
    // The error of the parser would show the line, and with it a token.
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        anyhow::anyhow!("`{}` cannot be read: line {line}: {}", path.display(), error.message())
    })
}

/// Keeps `token` for the registry at `host`, in a file that is this user's alone.
pub(crate) fn keep_token(host: &Host, user: Option<String>, token: String) -> anyhow::Result<PathBuf> {
    let mut kept = registries()?;
    let entry = kept.registries.entry(host.clone()).or_default();
    entry.token = Some(token);
    entry.user = user;
    let path = registries_file()?;
    let folder = config_folder()?;
    let failed = || format!("cannot write `{}`", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(failed)?;
    witan_durable::replace(&path, toml::to_string(&kept)?.as_bytes(), 0o600).with_context(failed)?;
    Ok(path)
}

fn settings(host: &Host) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    let mut kept = registries()?;
    for (host, kept) in &mut kept.registries {
        if let Some(token) = kept.token.take() {
            let user = kept.user.as_deref().unwrap_or("witan");
            settings.credentials.insert(host.clone(), Credentials::new(user, token));
        }
    }
    if let Some(kept) = kept.registries.remove(host) {
        settings.realms = kept.realms;
        settings.registries = kept.leads_to;
    }
    if let Ok(token) = std::env::var("WITAN_REGISTRY_TOKEN") {
        settings.credentials.insert(host.clone(), Credentials::new("witan", token.trim()));
    }
    Ok(settings)
}

/// Where fetched components are kept.
#[derive(Args, Clone)]
pub(crate) struct StoreArgument {
    /// The folder of fetched components, if not the one in `~/.local/share/witan`.
    #[arg(long, value_name = "FOLDER", env = "WITAN_STORE")]
    store: Option<PathBuf>,
}

impl StoreArgument {
    /// As the environment has it, for commands that have no flag for it.
    pub(crate) fn usual() -> Self {
        Self { store: std::env::var_os("WITAN_STORE").map(PathBuf::from) }
    }

    pub(crate) fn open(&self) -> anyhow::Result<Store> {
        let folder = match &self.store {
            Some(folder) => folder.clone(),
            None => folder("XDG_DATA_HOME", ".local/share")?.join("components"),
        };
        Ok(Store::open(&folder)?)
    }
}

/// A package, in one version or in the newest.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: PackageName,
    version: Option<Version>,
}

impl FromStr for Wanted {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            let Package { name, version } = text.parse().map_err(|error| format!("{error}"))?;
            return Ok(Self { name, version: Some(version) });
        }
        Ok(Self { name: text.parse().map_err(|error| format!("{error}"))?, version: None })
    }
}

impl Wanted {
    /// The version that is meant: the one that is named, or the newest that is neither yanked nor on trial.
    pub(crate) async fn resolve(&self, client: &Client) -> anyhow::Result<Package> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let (versions, yanked) = (client.versions(&self.name).await?, yanked(client, &self.name).await?);
                let sound = |version: &Version| !yanked.contains_key(version) && version.semver().pre.is_empty();
                let newest = versions.into_iter().find(sound);
                newest.with_context(|| format!("`{}` has no version here that is not yanked; name one", self.name))?
            }
        };
        Ok(Package { name: self.name.clone(), version })
    }
}

/// The versions that should not be used any more. Registries that know no more than OCI have no such list, which is said.
pub(crate) async fn yanked(client: &Client, package: &PackageName) -> anyhow::Result<BTreeMap<Version, String>> {
    match client.yanked(package).await {
        Err(error) if error.is_not_found() => {
            output::note(&format!("`{}` does not say which versions are yanked", client.host()));
            Ok(BTreeMap::new())
        }
        yanked => Ok(yanked?),
    }
}

/// Where keys lie, and what opens them.
#[derive(Args, Clone)]
pub(crate) struct KeysArgument {
    /// The folder of keys, if not the one in `~/.config/witan`.
    #[arg(long, value_name = "FOLDER", env = "WITAN_KEYS")]
    keys: Option<PathBuf>,
    /// Read the key's passphrase from a file, instead of asking for it or taking `WITAN_PASSPHRASE`.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeysArgument {
    pub(crate) fn folder(&self) -> anyhow::Result<KeyFolder> {
        let folder = match &self.keys {
            Some(folder) => folder.clone(),
            None => config_folder()?.join("keys"),
        };
        Ok(KeyFolder::open(&folder)?)
    }

    /// The key called `name`, with its passphrase where it has one.
    pub(crate) fn load(&self, name: &Name) -> anyhow::Result<SigningKey> {
        let folder = self.folder()?;
        match folder.load(name, None) {
            Err(KeysError::Key(_, KeyError::PassphraseNeeded)) => {
                let passphrase = self.passphrase(&format!("Passphrase of the key `{name}`: "))?;
                Ok(folder.load(name, Some(&passphrase))?)
            }
            key => Ok(key?),
        }
    }

    /// The passphrase that is given; asks for it twice on a terminal, since one that was mistyped opens nothing.
    pub(crate) fn new_passphrase(&self, name: &Name) -> anyhow::Result<String> {
        let passphrase = self.passphrase(&format!("New passphrase for the key `{name}`: "))?;
        if passphrase.is_empty() {
            bail!("the passphrase is empty; choose one, or say `--no-passphrase` if the key should have none");
        }
        let asked = self.passphrase_file.is_none() && std::env::var_os("WITAN_PASSPHRASE").is_none();
        if asked && rpassword::prompt_password("The same once more: ")? != passphrase {
            bail!("the two passphrases differ; no key was made");
        }
        Ok(passphrase)
    }

    fn passphrase(&self, prompt: &str) -> anyhow::Result<String> {
        if let Some(file) = &self.passphrase_file {
            return secret_file(file);
        }
        if let Ok(passphrase) = std::env::var("WITAN_PASSPHRASE") {
            return Ok(passphrase);
        }
        if !std::io::stdin().is_terminal() {
            bail!(
                "the key has a passphrase, and nobody can be asked for it here: give `--passphrase-file` or set \
                 `WITAN_PASSPHRASE`"
            );
        }
        rpassword::prompt_password(prompt).context("cannot ask for the passphrase")
    }
}

/// The first line of a file.
pub(crate) fn secret_file(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let opened = fs::File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    opened.take(LARGEST).read_to_string(&mut text).with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A secret from standard input: asked for without showing it on a terminal, else its first line.
pub(crate) fn secret(prompt: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).context("cannot ask for the secret");
    }
    let mut text = String::new();
    std::io::stdin().lock().take(LARGEST).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A bar of bytes, shown once it is worth it.
pub(crate) struct Bar {
    bar: ProgressBar,
    began: std::time::Instant,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::hidden(), began: std::time::Instant::now() }
    }

    pub(crate) fn at(&self, received: u64, total: u64) {
        if self.bar.is_hidden() && self.began.elapsed() > UNSEEN && std::io::stderr().is_terminal() {
            self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {bytes}/{total_bytes} {bytes_per_sec}") {
                self.bar.set_style(style);
            }
        }
        self.bar.set_length(total);
        self.bar.set_position(received);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_with_a_path_or_without() {
        assert_eq!(place("registry.example").unwrap().mapping, None);
        assert_eq!(place("https://registry.example/").unwrap(), place("registry.example").unwrap());
        let with = place("127.0.0.1:5000/some/where").unwrap();
        assert_eq!((with.host.as_str(), with.mapping), ("127.0.0.1:5000", Mapping::with_prefix("some/where").ok()));
        for bad in ["", "/x", "Registry.example", "registry.example/../x", "user@registry.example", "a b"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_package_is_wanted_in_a_version_or_in_the_newest() {
        assert!("acme:sums".parse::<Wanted>().unwrap().version.is_none());
        assert_eq!("acme:sums@1.0.0".parse::<Wanted>().unwrap().version.unwrap().to_string(), "1.0.0");
        for bad in ["", "acme", "acme:sums@", "acme:sums@latest", "../x"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }
}
