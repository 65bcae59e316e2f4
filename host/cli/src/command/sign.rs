//! `witan sign`: the manifest of a component and the three statements about it, signed.
//!
//! What is signed is computed from the component's bytes and from files that are named; nothing is asked of anybody but the
//! log.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use url::Url;
use wit_parser::WorldItem;
use witan_capability::Capability;
use witan_engine::{Engine, Settings};
use witan_registry_component::Component;
use witan_registry_sign::{
    Attestation, Embedded, Identity, LocalBuild, Log, Provenance, Release, Sbom, Signed, SigningKey, Source, Statement,
    is_signature_of,
};
use witan_registry_types::{Artifact, ComponentConfig, ComponentManifest, Digest, Name, Package, Registry};
use witan_system::{Ceiling, Grants};
use witan_tools::Tools;

use crate::{
    Global,
    command::inspect,
    host,
    keyless::{Keyless, KeylessArguments},
    lock, output,
    registry::{KeysArgument, client, place},
};

/// The largest ceiling or SBOM that is read.
const LARGEST: u64 = 16 << 20;

#[derive(Args)]
#[command(after_help = "Examples:
  witan sign sums.wasm --package acme:sums@1.0.0 --key release --out signed \\
      --transparency-log registry.example.org
  witan sign sums.wasm --package acme:sums@1.0.0 --key ci --unlogged --out signed \\
      --ceiling ceiling.toml
  witan sign sums.wasm --package acme:sums@1.0.0 --keyless --out signed \\
      --transparency-log registry.example.org
  witan sign sums.wasm --package acme:sums@1.0.0 --identity-token token --out signed \\
      --fulcio fulcio.example.org --trusted-root trusted_root.json \\
      --transparency-log rekor.example.org

A ceiling is what the component may ever need, under your signature; no operator can grant more.
Without one it is empty, which is enough for what needs the baseline alone. `witan publish` signs
and publishes.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    log: LogArgument,
    /// The folder for what is made: manifest.json, config.json, component.wasm and the three bundles.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// What is signed, and by whom.
#[derive(Args)]
pub(crate) struct What {
    /// A component's `.wasm` file.
    file: PathBuf,
    /// What it is published as: `namespace:name@1.2.3`.
    #[arg(long)]
    pub(crate) package: Package,
    /// The key to sign with; see `witan keys`.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["keyless", "identity_token"])]
    key: Option<Name>,
    #[command(flatten)]
    keyless: KeylessArguments,
    #[command(flatten)]
    keys: KeysArgument,
    /// A TOML file of what it may ever need.
    #[arg(long, value_name = "FILE")]
    ceiling: Option<PathBuf>,
    /// A CycloneDX 1.5 document of what it is made of, in JSON; without it, what the build left in the bytes.
    #[arg(long, value_name = "FILE", conflicts_with = "lock")]
    sbom: Option<PathBuf>,
    /// A lock file of what it is made of: Cargo.lock, package-lock.json, uv.lock, poetry.lock, requirements.txt. It names
    /// all that may be in the component.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The command that built it, for its provenance.
    #[arg(long, value_name = "COMMAND", default_value = "not recorded")]
    build_command: String,
}

/// Which log witnesses the signatures.
#[derive(Args)]
pub(crate) struct LogArgument {
    /// The registry, or the Rekor, whose log witnesses the signatures; `publish` takes that of the registry.
    #[arg(long, value_name = "HOST", conflicts_with = "unlogged", value_parser = place)]
    pub(crate) transparency_log: Option<Registry>,
    /// Have no log witness them. They count only where an operator's policy allows that.
    #[arg(long)]
    pub(crate) unlogged: bool,
}

/// A version, ready to be signed.
pub(crate) struct Prepared {
    pub(crate) package: Package,
    pub(crate) digest: Digest,
    artifact: Artifact,
    statements: Vec<Statement>,
    signer: Signer,
    summary: Summary,
}

/// Who signs.
enum Signer {
    /// The holder of a key.
    Key(SigningKey),
    /// Whom a token names.
    Keyless(Box<Keyless>),
}

/// What a version is, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    package: String,
    /// Of its manifest, as lock files name it.
    digest: String,
    bytes: u64,
    imports: Vec<String>,
    exports: Vec<String>,
    ceiling: Ceiling,
    /// Of its WIT.
    wit: String,
    dependencies: usize,
    /// The key that signs, or the identity.
    #[serde(flatten)]
    signer: SignerSummary,
    commit: Option<String>,
}

/// Who signs, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum SignerSummary {
    Key(String),
    Identity { issuer: String, subject: String },
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let LogArgument { transparency_log: log, unlogged } = &arguments.log;
    if log.is_none() && !unlogged {
        bail!("name a log with `--transparency-log HOST`, or say `--unlogged`; most policies want a log's witness");
    }
    let prepared = arguments.what.prepare(global).await?;
    let artifact = match log {
        Some(place) => prepared.witnessed(&client(place, global).await?.log()).await?,
        None => prepared.unlogged()?,
    };
    write(&arguments.out, &artifact)?;
    let summary = prepared.summary();
    match global.json {
        true => output::json(summary),
        false => output::line(&format!("{}\nsigned in `{}`", summary.in_words(), arguments.out.display())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the parts of a version as files.
fn write(folder: &Path, artifact: &Artifact) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let names = ["release.sigstore.json", "provenance.sigstore.json", "sbom.sigstore.json"];
    let bundles = names.into_iter().zip(&artifact.bundles);
    let parts =
        [("manifest.json", &artifact.manifest), ("config.json", &artifact.config), ("component.wasm", &artifact.layer)];
    for (name, bytes) in parts.into_iter().chain(bundles) {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

impl What {
    /// Computes what is to be signed, and opens the key or reads the token.
    pub(crate) async fn prepare(&self, global: &Global) -> anyhow::Result<Prepared> {
        let bytes = inspect::read(&self.file)?;
        let component = Component::read(&bytes).with_context(|| format!("cannot sign `{}`", self.file.display()))?;
        let ceiling = self.ceiling(&component)?;
        let sbom = self.sbom(&bytes)?;
        let made = made(&self.file)?;
        let source = source(&self.file);
        let build = LocalBuild {
            command: self.build_command.clone(),
            tools: tools(&bytes)?,
            source: source.clone(),
            started: made,
            finished: made,
        };
        let interfaces = component.interfaces();
        let config = ComponentConfig::new(rfc3339(made), Digest::of(&bytes), interfaces.clone()).to_json();
        let manifest = ComponentManifest::new(&config, &bytes).to_json();
        let digest = Digest::of(&manifest);
        let wit = component.wit_digest();
        let statement =
            |attestation, predicate| Statement { package: self.package.clone(), digest, attestation, predicate };
        let statements = vec![
            statement(Attestation::Release, Release::new(ceiling.clone(), wit).to_predicate()),
            statement(Attestation::Provenance, Provenance::local(&build).to_predicate()),
            statement(Attestation::Sbom, sbom.to_predicate()),
        ];
        let signer = match &self.key {
            Some(name) => Signer::Key(self.keys.load(name)?),
            None => Signer::Keyless(Box::new(self.keyless.open(global).await?)),
        };
        let summary = Summary {
            package: self.package.to_string(),
            digest: digest.to_string(),
            bytes: bytes.len() as u64,
            imports: interfaces.imports,
            exports: interfaces.exports,
            ceiling,
            wit: wit.to_string(),
            dependencies: sbom.dependencies().len(),
            signer: signer.summary(),
            commit: source.map(|source| source.commit),
        };
        let artifact = Artifact { manifest, config, layer: bytes, bundles: Vec::new() };
        Ok(Prepared { package: self.package.clone(), digest, artifact, statements, signer, summary })
    }

    fn ceiling(&self, component: &Component) -> anyhow::Result<Ceiling> {
        let needed = needed(component)?;
        let ceiling = match &self.ceiling {
            None => Ceiling::default(),
            Some(path) => {
                let text = String::from_utf8(read(path)?).context("a ceiling is a text")?;
                toml::from_str(&text).with_context(|| format!("`{}` is no ceiling", path.display()))?
            }
        };
        let lacking: Vec<_> = needed.iter().filter(|(capability, _)| !has(&ceiling, capability)).collect();
        if lacking.is_empty() {
            return Ok(ceiling);
        }
        let lines: Vec<String> =
            lacking.iter().map(|(capability, import)| format!("{}   # for {import}", example(capability))).collect();
        let what = match &self.ceiling {
            Some(path) => format!("the ceiling in `{}` lacks what the component imports; add to it", path.display()),
            None => {
                "the component imports more than the baseline, so it needs a ceiling: what it may ever need, under \
                     your signature; give it with `--ceiling FILE`"
                    .to_owned()
            }
        };
        bail!("{what}, as narrow as it can be, such as:\n\n{}\n", lines.join("\n"))
    }

    fn sbom(&self, bytes: &[u8]) -> anyhow::Result<Sbom> {
        let embedded = Embedded::read(bytes).with_context(|| format!("cannot sign `{}`", self.file.display()))?;
        let (sbom, origin) = match (&self.sbom, &self.lock) {
            (Some(path), _) => {
                let document = serde_json::from_slice(&read(path)?);
                let document = document.with_context(|| format!("`{}` is not JSON", path.display()))?;
                (Sbom::parse(&document).with_context(|| format!("`{}` is no SBOM", path.display()))?, path)
            }
            (None, _) if !embedded.is_empty() => return Ok(Sbom::of_embedded(&self.package, &embedded)?),
            (None, Some(path)) => (Sbom::of_dependencies(&self.package, &lock::read(path)?)?, path),
            (None, None) => bail!(
                "nobody knows what `{}` is made of, and every version carries that: build it with `cargo auditable \
                 build`, or give its lock file with `--lock` or a CycloneDX document with `--sbom`",
                self.file.display()
            ),
        };
        let missing: Vec<String> = sbom.missing(&embedded).iter().map(ToString::to_string).collect();
        if !missing.is_empty() {
            bail!("`{}` does not name what is in the component: {}", origin.display(), missing.join(", "));
        }
        Ok(sbom)
    }
}

impl Prepared {
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    fn signed(&self, key: &SigningKey) -> anyhow::Result<Vec<Signed>> {
        Ok(self.statements.iter().map(|statement| Signed::with_key(statement, key)).collect::<Result<_, _>>()?)
    }

    /// Sees that the key can sign, where there is one yet; nobody is asked.
    pub(crate) fn try_key(&self) -> anyhow::Result<()> {
        if let Signer::Key(key) = &self.signer {
            self.signed(key)?;
        }
        Ok(())
    }

    /// Leaves out what the key has signed already in one of `bundles`, in a log or in none. A certificate's key signs once.
    pub(crate) fn unless_signed(&mut self, bundles: &[Vec<u8>], logged: bool) {
        let Signer::Key(key) = &self.signer else { return };
        let is_signed = |statement: &Statement| {
            bundles.iter().any(|bundle| is_signature_of(bundle, statement, key.public(), logged))
        };
        self.statements.retain(|statement| !is_signed(statement));
    }

    fn with(&self, bundles: Vec<Vec<u8>>) -> Artifact {
        Artifact { bundles, ..self.artifact.clone() }
    }

    /// The version with signatures that `log` has witnessed.
    pub(crate) async fn witnessed(&self, log: &impl Log) -> anyhow::Result<Artifact> {
        let key = match &self.signer {
            Signer::Key(key) => key,
            Signer::Keyless(keyless) => {
                return Ok(self.with(keyless.sign(&self.statements, &self.digest, log).await?));
            }
        };
        let mut bundles = Vec::new();
        for signed in self.signed(key)? {
            bundles.push(signed.witnessed(log).await?);
        }
        Ok(self.with(bundles))
    }

    /// The version with signatures that nobody has witnessed.
    pub(crate) fn unlogged(&self) -> anyhow::Result<Artifact> {
        let Signer::Key(key) = &self.signer else {
            bail!(
                "a certificate is valid for minutes, and only a log can say when it was used: leave out `--unlogged`"
            );
        };
        let bundles = self.signed(key)?.iter().map(Signed::unlogged).collect::<Result<_, _>>()?;
        Ok(self.with(bundles))
    }
}

impl Signer {
    fn summary(&self) -> SignerSummary {
        match self {
            Self::Key(key) => SignerSummary::Key(key.id().to_string()),
            Self::Keyless(keyless) => {
                let Identity { issuer, subject } = keyless.identity();
                SignerSummary::Identity { issuer: issuer.clone(), subject: subject.as_str().to_owned() }
            }
        }
    }
}

impl Summary {
    pub(crate) fn in_words(&self) -> String {
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let ceiling = if self.ceiling.is_empty() {
            "the baseline alone".to_owned()
        } else {
            toml::to_string(&self.ceiling).unwrap_or_default().trim_end().replace('\n', "\n            ")
        };
        let commit = self.commit.as_deref().unwrap_or("none known");
        let signer = match &self.signer {
            SignerSummary::Key(key) => format!("key       {key}"),
            SignerSummary::Identity { issuer, subject } => format!("signer    {subject} (of {issuer})"),
        };
        format!(
            "{}\n  manifest  {}\n  imports   {}\n  exports   {}\n  ceiling   {ceiling}\n  made of   {} dependencies, commit \
             {commit}\n  {signer}",
            self.package,
            self.digest,
            list(&self.imports),
            list(&self.exports),
            self.dependencies
        )
    }
}

/// The capabilities beyond the baseline that a component imports, each with the first import that needs it.
fn needed(component: &Component) -> anyhow::Result<Vec<(&'static str, String)>> {
    // Asked for what they serve, and never linked.
    let engine = Engine::new(Settings::default())?;
    let capabilities: Vec<Arc<dyn Capability>> = host::capabilities(&std::env::temp_dir(), Tools::new(engine))?;
    let (resolve, mut seen, mut found) = (component.resolve(), BTreeSet::new(), Vec::new());
    let imports: Vec<(String, &WorldItem)> =
        component.world().imports.iter().map(|(key, item)| (resolve.name_world_key(key), item)).collect();
    for (name, item) in imports {
        let capability = capabilities.iter().find(|capability| capability.serves(&name));
        let Some(capability) = capability.filter(|capability| !capability.granted(&Grants::default())) else {
            continue;
        };
        if !inspect::has_types_alone(resolve, item) && seen.insert(capability.name()) {
            found.push((capability.name(), name));
        }
    }
    Ok(found)
}

/// Whether a ceiling has anything of a capability.
fn has(ceiling: &Ceiling, capability: &str) -> bool {
    let none = witan_system::Names::default();
    match capability {
        "filesystem" => !ceiling.filesystem.is_empty(),
        "http" => !ceiling.http.is_empty(),
        "sockets" => !ceiling.sockets.is_empty(),
        "environment" => ceiling.environment != none,
        "config" => ceiling.config != none,
        "wall-clock" => ceiling.wall_clock,
        "logging" => ceiling.logging,
        "keyvalue" => ceiling.keyvalue.is_some(),
        "tools" => !ceiling.tools.is_empty(),
        _ => false,
    }
}

/// A line of a ceiling that has something of a capability.
fn example(capability: &str) -> &'static str {
    match capability {
        "filesystem" => "filesystem = [{ task = true }]",
        "http" => r#"http = [{ host = "api.example.com", methods = ["GET"] }]"#,
        "sockets" => r#"sockets = [{ host = "db.example.com", port = 5432 }]"#,
        "environment" => r#"environment = ["NAME"]"#,
        "config" => r#"config = ["key"]"#,
        "wall-clock" => "wall-clock = true",
        "logging" => "logging = true",
        "keyvalue" => r#"keyvalue = { max-bytes = "1MiB" }"#,
        "tools" => r#"tools = ["*.*"]"#,
        _ => "",
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?.len();
    if size > LARGEST {
        bail!("`{}` has {size} bytes, more than are read", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// When the component was made. What is signed twice must be the same, so this is not now.
fn made(file: &Path) -> anyhow::Result<SystemTime> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    if let Some(seconds) = epoch {
        return Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }
    let metadata = fs::metadata(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    metadata.modified().with_context(|| format!("cannot tell when `{}` was made", file.display()))
}

fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// The tools that the component says it was made with.
fn tools(bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let producers = inspect::producers(bytes)?;
    let tools = producers.into_iter().filter(|(field, _)| field == "processed-by").flat_map(|(_, tools)| tools);
    Ok(tools.map(|(name, version)| format!("{name} {version}").trim().to_owned()).collect())
}

/// The commit that the file's folder is at, where it is one of git.
fn source(file: &Path) -> Option<Source> {
    let folder = fs::canonicalize(file).ok()?.parent()?.to_owned();
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--verify", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let uri = git(&["remote", "get-url", "origin"]).and_then(|url| public(&url));
    Some(Source { uri: uri.unwrap_or_else(|| "urn:witan:source:unpublished".to_owned()), commit, clean })
}

/// The address of a repository without what lets somebody in; nothing for one on this machine.
fn public(url: &str) -> Option<String> {
    if let Ok(mut url) = Url::parse(url) {
        url.host_str().filter(|host| !host.is_empty())?;
        url.set_password(None).ok()?;
        if url.scheme() != "ssh" {
            url.set_username("").ok()?;
        }
        url.set_query(None);
        return Some(format!("git+{url}"));
    }
    let (host, path) = url.split_once(':').filter(|(host, _)| host.contains('@') && !host.contains('/'))?;
    Some(format!("git+ssh://{host}/{}", path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_beyond_the_baseline_has_a_line_that_a_ceiling_has() {
        let engine = Engine::new(Settings::default()).unwrap();
        for capability in host::capabilities(&std::env::temp_dir(), Tools::new(engine)).unwrap() {
            if capability.granted(&Grants::default()) {
                continue;
            }
            let ceiling: Ceiling = toml::from_str(example(capability.name())).unwrap();
            assert!(has(&ceiling, capability.name()), "{}", capability.name());
            assert!(!has(&Ceiling::default(), capability.name()), "{}", capability.name());
        }
    }

    #[test]
    fn the_address_of_a_repository_lets_nobody_in() {
        let secret = "https://user:secret@git.example/a/b?token=secret";
        assert_eq!(public(secret).unwrap(), "git+https://git.example/a/b");
        assert_eq!(public("git@git.example:a/b.git").unwrap(), "git+ssh://git@git.example/a/b.git");
        assert_eq!(public("ssh://git@git.example/a").unwrap(), "git+ssh://git@git.example/a");
        for local in ["/home/me/a", "../a", "file:///home/me/a", "C:\\a"] {
            assert_eq!(public(local), None, "{local}");
        }
    }
}
