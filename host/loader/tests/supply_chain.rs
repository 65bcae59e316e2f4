//! The attacks on the supply chain that the gate stops, one by one: the same version is loaded without the attack, then
//! refused with it, for the one reason that is meant, and the decision log says so. What registries and the ways to them do
//! is stopped before the gate; `docs/trust.md` has the whole list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use witan_admission::{Cause, Fetched, Gate, Held, Trust};
use witan_authority::{Authority, LocalLog, Version, noon};
use witan_capability::Kernel;
use witan_engine::{Engine, Settings};
use witan_loader::{LoadError, Loader, Running};
use witan_policy::{DecisionLog, Entry, GrantPolicy};
use witan_registry_sign::{
    Attestation, Embedded, Identity, Rule, Sbom, SigningKey, Statement, Subject, TrustPolicy, TrustRoot, TrustedKey,
};
use witan_registry_tuf::HoldError;
use witan_registry_types::{Artifact, ComponentInterfaces, Digest, Package};
use witan_system::{Ceiling, CompileIn, ComponentName, Pool, System};

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 10, ..Pool::default() }, ..Settings::default() }).unwrap()
});

fn package(version: &str) -> Package {
    format!("acme:sums@{version}").parse().unwrap()
}

/// An author, whatever lies between, and an operator who trusts the author. `sums` is version 1.0.0.
struct World {
    authority: Authority,
    key: SigningKey,
    rules: Vec<Rule>,
    /// When the trusted root was last known to be current.
    as_of: SystemTime,
    /// Why what the registry says of whom to trust does not hold, if it is held to that.
    held: Option<HoldError>,
    packages: BTreeMap<Package, Fetched>,
    policy: Arc<GrantPolicy>,
    source: Package,
    grants: &'static str,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let mut world = Self {
            authority: Authority::new(),
            rules: vec![rule("acme:*", &[&key], 1)],
            key,
            as_of: SystemTime::now(),
            held: None,
            packages: BTreeMap::new(),
            policy: Arc::new(GrantPolicy::new(DecisionLog::in_memory())),
            source: package("1.0.0"),
            grants: "unit = \"mm\"",
            folder: tempfile::tempdir().unwrap(),
        };
        world.publish(&Version::new("1.0.0"));
        world
    }

    /// Has `version` signed by the author and fetched.
    fn publish(&mut self, version: &Version) {
        let (digest, artifact) = self.authority.publish(&self.key, version);
        self.packages.insert(version.package.clone(), Fetched { digest, artifact });
    }

    /// The same with another manifest, `from` in its text being `to`.
    fn publish_as(&mut self, from: &str, to: &str) {
        let version = Version::new("1.0.0");
        let text = String::from_utf8(version.manifest()).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        let manifest = text.replacen(from, to, 1).into_bytes();
        let (digest, artifact) = version.artifact(manifest, |it| self.authority.sign(&self.key, it));
        self.packages.insert(version.package, Fetched { digest, artifact });
    }

    fn artifact(&mut self) -> &mut Artifact {
        &mut self.packages.get_mut(&self.source).unwrap().artifact
    }

    fn digest(&self) -> Option<Digest> {
        self.packages.get(&self.source).map(|fetched| fetched.digest)
    }

    /// The author's statement about the version that was fetched.
    fn statement(&self, attestation: Attestation) -> Statement {
        Version::of(&self.source).statement(attestation, &self.digest().unwrap())
    }

    /// Puts another bundle in the place of the release.
    fn release(&mut self, bundle: Vec<u8>) {
        self.artifact().bundles[0] = bundle;
    }

    /// Changes what the bundle of the release says.
    fn change(&mut self, change: impl FnOnce(&mut Value)) {
        let mut bundle: Value = serde_json::from_slice(&self.artifact().bundles[0]).unwrap();
        change(&mut bundle);
        self.release(bundle.to_string().into_bytes());
    }

    /// Changes what is said of the log's entry for the release.
    fn change_entry(&mut self, change: impl FnOnce(&mut Value)) {
        self.change(|bundle| change(&mut bundle["verificationMaterial"]["tlogEntries"][0]));
    }

    /// Has the author sign another text in the place of the release, and no log see it.
    fn resign(&mut self, from: &str, to: &str) {
        const KIND: &str = "application/vnd.in-toto+json";
        let text = String::from_utf8(self.statement(Attestation::Release).to_payload()).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        let payload = text.replace(from, to);
        let signed = format!("DSSEv1 {} {KIND} {} {payload}", KIND.len(), payload.len());
        let signature = STANDARD.encode(self.key.sign(signed.as_bytes()).unwrap());
        self.change(|bundle| {
            bundle["dsseEnvelope"]["payload"] = STANDARD.encode(payload).into();
            bundle["dsseEnvelope"]["signatures"][0]["sig"] = signature.into();
            bundle["verificationMaterial"]["tlogEntries"] = json!([]);
        });
    }

    /// Has the release logged by one who has the author's key, but not the log's.
    fn relog(&mut self, change: impl FnOnce(&Authority, &mut witan_registry_sign::LogEntry)) {
        let signed = witan_registry_sign::Signed::with_key(&self.statement(Attestation::Release), &self.key).unwrap();
        let mut entry = self.authority.log.append(&signed.entry_body().unwrap());
        change(&self.authority, &mut entry);
        self.release(signed.logged(&entry).unwrap());
    }

    /// Has all statements signed with a certificate for `identity`, whose use the log saw `after` seconds.
    fn certify(&mut self, identity: &Identity, after: u64) {
        let certified = self.authority.certify(identity, noon());
        self.authority.log.set_time(noon() + Duration::from_secs(after));
        let bundles = Attestation::ALL.map(|it| self.authority.sign_certified(&certified, &self.statement(it)));
        self.artifact().bundles = bundles.to_vec();
    }

    async fn load(&self) -> Result<Running, LoadError> {
        let file = self.folder.path().join("system.toml");
        let text = format!(
            "schema = 1\n[registries]\nacme = \"registry.example\"\nacrne = \"registry.example\"\n[components.sums]\nsource = \"{}\"\n[components.sums.grants]\nconfig = {{ {} }}\n",
            self.source, self.grants
        );
        let mut system = System::parse(&text, &file).unwrap_or_else(|error| panic!("{error}"));
        system.components.values_mut().for_each(|component| component.compile = CompileIn::Host);
        let mut gate = Gate::local(self.folder.path(), None);
        gate.packages = self.packages.clone();
        let policy = TrustPolicy::new(self.rules.clone(), TrustPolicy::MAX_AGE).unwrap();
        let root = TrustRoot::parse(&self.authority.trusted_root(), self.as_of).unwrap();
        let held = self.held.iter().map(|error| ("registry.example".parse().unwrap(), Err(error.clone()))).collect();
        gate.trust = Trust { registries: system.registries.clone(), held, ..Trust::new(policy, Some(root)) };
        let loader = Loader {
            engine: ENGINE.clone(),
            gate: Arc::new(gate),
            policy: self.policy.clone(),
            kernel: Kernel::new(self.policy.clone()),
            capabilities: vec![Arc::new(witan_config::Config)],
            cache: None,
            compiler: None,
            link_all: false,
        };
        loader.load(system, &|_| {}).await
    }

    /// The newest decision.
    fn decision(&self) -> Arc<Entry> {
        self.policy.log().newest(1).into_iter().next().expect("nothing was decided")
    }

    /// What the decision log calls that which is loaded.
    fn resource(&self) -> String {
        self.digest().map_or_else(|| self.source.to_string(), |digest| format!("{}@{digest}", self.source))
    }
}

fn rule(packages: &str, keys: &[&SigningKey], threshold: usize) -> Rule {
    let keys = keys.iter().map(|key| TrustedKey { key: key.public().clone(), not_after: None });
    Rule {
        packages: packages.parse().unwrap(),
        keys: keys.collect(),
        identities: Vec::new(),
        threshold,
        require: Attestation::ALL.into(),
        allow_unlogged: false,
    }
}

fn email(issuer: &str, email: &str) -> Identity {
    Identity { issuer: issuer.to_owned(), subject: Subject::Email(email.to_owned()) }
}

/// The author as an identity, in the place of a key.
fn author() -> Identity {
    email("https://accounts.example", "author@acme.example")
}

/// Without an attack of its own.
fn as_it_is(_: &mut World) {}

/// An operator who trusts the author's identity, and an author who has a certificate for it.
fn by_identity(world: &mut World) {
    world.rules = vec![Rule { identities: vec![author()], ..rule("acme:*", &[], 1) }];
    world.certify(&author(), 60);
}

/// An operator who trusts the author's key without a log.
fn unlogged(world: &mut World) {
    world.rules[0].allow_unlogged = true;
}

/// An attack, and how it is met.
struct Attack {
    /// As `docs/trust.md` calls it.
    name: &'static str,
    /// What the flow that succeeds is like.
    before: fn(&mut World),
    change: fn(&mut World),
    /// A part of the message.
    reason: &'static str,
}

const fn attack(name: &'static str, change: fn(&mut World), reason: &'static str) -> Attack {
    Attack { name, before: as_it_is, change, reason }
}

const fn attack_on(before: fn(&mut World), name: &'static str, change: fn(&mut World), reason: &'static str) -> Attack {
    Attack { name, before, change, reason }
}

const ATTACKS: &[Attack] = &[
    attack(
        "a tag that was moved to other bytes",
        |world| {
            let locked = world.digest().unwrap();
            let mut other = Version::new("1.0.0");
            other.config.created = "2025-06-01T00:00:00Z".to_owned();
            world.publish(&other);
            world.packages.get_mut(&package("1.0.0")).unwrap().digest = locked;
        },
        "the manifest of `acme:sums@1.0.0` is sha256:",
    ),
    attack_on(
        |world| {
            world.publish(&Version::new("1.1.0"));
            world.source = package("1.1.0");
        },
        "an older version in the place of one that ran",
        |world| world.source = package("1.0.0"),
        "version 1.0.0 is older than 1.1.0, which ran here before",
    ),
    attack(
        "metadata that is held back until it is too old",
        |world| world.as_of = SystemTime::now() - TrustPolicy::MAX_AGE - Duration::from_secs(60),
        "and may be 168 hours old",
    ),
    attack(
        "TUF metadata that do not hold",
        |world| world.held = Some(HoldError::Never),
        "the TUF metadata of `registry.example` do not hold",
    ),
    attack(
        "metadata from the future",
        |world| world.as_of = SystemTime::now() + Duration::from_secs(3600),
        "which is in the future",
    ),
    attack(
        "a threshold that is not met",
        |world| world.rules = vec![rule("acme:*", &[&world.key, &SigningKey::generate().unwrap()], 2)],
        "is signed by 1 of the 2 signers that are needed",
    ),
    attack_on(
        |world| {
            let second = SigningKey::generate().unwrap();
            world.rules = vec![rule("acme:*", &[&world.key, &second], 2)];
            let bundles = Attestation::ALL.map(|it| world.authority.sign(&second, &world.statement(it)));
            world.artifact().bundles.extend(bundles);
        },
        "one key that signs twice",
        |world| {
            let bundles = Attestation::ALL.map(|it| world.authority.sign(&world.key, &world.statement(it)));
            let all = &mut world.artifact().bundles;
            all.truncate(3);
            all.extend(bundles);
        },
        "is signed by 1 of the 2 signers that are needed",
    ),
    attack(
        "a key that was removed",
        |world| world.rules = vec![rule("acme:*", &[&SigningKey::generate().unwrap()], 1)],
        "is not trusted",
    ),
    attack(
        "a key that was replaced before it signed",
        |world| world.rules[0].keys[0].not_after = Some(noon() - Duration::from_secs(1)),
        "is trusted for signatures until 2025-01-01T11:59:59Z",
    ),
    attack("signatures that were left out", |world| world.artifact().bundles.clear(), "has no signature"),
    attack(
        "one statement that was left out",
        |world| drop(world.artifact().bundles.pop()),
        "has no CycloneDX SBOM that counts",
    ),
    attack(
        "bundles without end",
        |world| {
            let bundle = world.artifact().bundles[0].clone();
            world.artifact().bundles.extend(vec![bundle; 62]);
        },
        "has 65 bundles, and at most 64 are looked at",
    ),
    attack(
        "a bundle copied from another name",
        |world| {
            let other = Version::of(&"acme:tax@1.0.0".parse().unwrap());
            let statement = other.statement(Attestation::Release, &world.digest().unwrap());
            world.release(world.authority.sign(&world.key, &statement));
        },
        "the statement is about `acme:tax@1.0.0`",
    ),
    attack(
        "a bundle copied from another version",
        |world| {
            let statement = Version::new("1.0.1").statement(Attestation::Release, &world.digest().unwrap());
            world.release(world.authority.sign(&world.key, &statement));
        },
        "the statement is about `acme:sums@1.0.1`",
    ),
    attack(
        "a bundle copied from other bytes",
        |world| {
            let statement = Version::new("1.0.0").statement(Attestation::Release, &Digest::of(b"other"));
            world.release(world.authority.sign(&world.key, &statement));
        },
        "the statement is about sha256:",
    ),
    attack(
        "an SBOM in the place of the release",
        |world| world.release(world.authority.sign(&world.key, &world.statement(Attestation::Sbom))),
        "has no release statement that counts",
    ),
    attack_on(
        unlogged,
        "a predicate of another type",
        |world| {
            world.resign(Attestation::Release.predicate_type(), "https://sigstore.dev/cosign/sign/v1");
        },
        "the statement has the predicate type `https://sigstore.dev/cosign/sign/v1`",
    ),
    attack_on(
        by_identity,
        "another identity",
        |world| world.certify(&email("https://accounts.example", "other@acme.example"), 60),
        "is not trusted",
    ),
    attack_on(
        by_identity,
        "another issuer",
        |world| world.certify(&email("https://evil.example", "author@acme.example"), 60),
        "was vouched for by another than `https://accounts.example`",
    ),
    attack_on(
        by_identity,
        "a name of another kind",
        |world| {
            let subject = Subject::Uri("author@acme.example".to_owned());
            world.certify(&Identity { subject, ..author() }, 60);
        },
        "is a trusted name of another kind",
    ),
    attack(
        "a key that is good for another namespace",
        |world| {
            let other = SigningKey::generate().unwrap();
            world.rules.push(rule("other:*", &[&other], 1));
            world.release(world.authority.sign(&other, &world.statement(Attestation::Release)));
        },
        "may sign `other:*`, and not this package",
    ),
    attack_on(
        by_identity,
        "an expired certificate",
        |world| world.certify(&author(), 601),
        "the certificate was valid until",
    ),
    attack_on(
        by_identity,
        "a time before the true one",
        |world| {
            world.certify(&author(), 3000);
            let time = noon().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 60;
            world.change_entry(|entry| entry["integratedTime"] = time.to_string().into());
        },
        "the log's promise is wrong",
    ),
    attack(
        "a signature from the future",
        |world| {
            world.authority.log.set_time(SystemTime::now() + Duration::from_secs(3600));
            world.release(world.authority.sign(&world.key, &world.statement(Attestation::Release)));
        },
        "the time of the signature is wrong",
    ),
    attack(
        "a garbage promise of the log",
        |world| {
            world.change_entry(|entry| {
                entry["inclusionPromise"]["signedEntryTimestamp"] = "MAYCAQECAQE=".into();
            });
        },
        "the log's promise is wrong",
    ),
    attack(
        "a garbage proof of inclusion",
        |world| world.change_entry(|entry| entry["inclusionProof"]["hashes"] = json!([STANDARD.encode([0; 32])])),
        "the inclusion proof is wrong",
    ),
    attack(
        "a checkpoint that another signed",
        |world| {
            world.relog(|_, entry| {
                entry.proof.checkpoint = LocalLog::new("log.example").checkpoint(entry.proof.size, &entry.proof.root);
            });
        },
        "the log's checkpoint is wrong",
    ),
    attack(
        "a log that is not trusted",
        |world| world.relog(|_, entry| *entry = LocalLog::new("log.example").append(&entry.body)),
        "the transparency log ",
    ),
    attack(
        "another history of the log",
        |world| {
            world.authority.log.forget();
            world.publish(&Version::new("1.0.0"));
        },
        "the log `log.example - 1` shows another history than before, at 3 entries",
    ),
    attack(
        "two entries of the log",
        |world| {
            world.change(|bundle| {
                let entries = bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap();
                entries.push(entries[0].clone());
            });
        },
        "the bundle has 2 log entries, and may have one",
    ),
    attack(
        "two signatures in one bundle",
        |world| {
            world.change(|bundle| {
                let signatures = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
                signatures.push(signatures[0].clone());
            });
        },
        "the bundle has 2 signatures, and must have one",
    ),
    attack(
        "two different statements",
        |world| {
            let mut other = Version::new("1.0.0");
            other.release.wit = Digest::of(b"another interface");
            let statement = other.statement(Attestation::Release, &world.digest().unwrap());
            let bundle = world.authority.sign(&world.key, &statement);
            world.artifact().bundles.push(bundle);
        },
        "two different statements of the kind release statement",
    ),
    attack_on(
        unlogged,
        "a digest of another kind",
        |world| {
            let hex = world.digest().unwrap().hex();
            world.resign(&format!("\"sha256\":\"{hex}\""), &format!("\"sha512\":\"{hex}{hex}\""));
        },
        "and must have `sha256` alone",
    ),
    attack_on(
        unlogged,
        "a digest in upper case",
        |world| {
            let hex = world.digest().unwrap().hex();
            world.resign(&format!("\"{hex}\""), &format!("\"{}\"", hex.to_uppercase()));
        },
        "the statement",
    ),
    attack_on(
        unlogged,
        "a digest that is too short",
        |world| {
            let hex = world.digest().unwrap().hex();
            world.resign(&format!("\"{hex}\""), &format!("\"{}\"", &hex[..62]));
        },
        "the statement",
    ),
    attack_on(
        unlogged,
        "a digest that is a path",
        |world| {
            let hex = world.digest().unwrap().hex();
            world.resign(&format!("\"{hex}\""), &format!("\"../{hex}\""));
        },
        "the statement",
    ),
    attack(
        "a list of manifests that is also one",
        |world| world.publish_as("\"layers\":[", "\"manifests\":[],\"layers\":["),
        "the manifest of `acme:sums@1.0.0` is refused",
    ),
    attack(
        "another media type",
        |world| world.publish_as("vnd.oci.image.manifest.v1", "vnd.oci.image.index.v1"),
        "the manifest of `acme:sums@1.0.0` is refused",
    ),
    attack(
        "bytes that are not those of their digest",
        |world| world.artifact().layer.push(0),
        "the layer of `acme:sums@1.0.0` is sha256:",
    ),
    attack(
        "a config that is not the one of its digest",
        |world| world.artifact().config.push(b'\n'),
        "the config of `acme:sums@1.0.0` is sha256:",
    ),
    attack(
        "a size that is a lie",
        |world| {
            let size = format!("\"size\":{}", world.artifact().layer.len());
            world.publish_as(&size, "\"size\":1");
        },
        "and the manifest says 1",
    ),
    attack(
        "a compressed layer",
        |world| world.publish_as("application/wasm", "application/vnd.oci.image.layer.v1.tar+gzip"),
        "the manifest of `acme:sums@1.0.0` is refused",
    ),
    attack(
        "one layer more",
        |world| {
            let digest = Digest::of(b"");
            let more =
                format!("\"layers\":[{{\"mediaType\":\"application/wasm\",\"digest\":\"{digest}\",\"size\":0}},");
            world.publish_as("\"layers\":[", &more);
        },
        "the manifest of `acme:sums@1.0.0` is refused",
    ),
    attack(
        "a title that leads out of its folder",
        |world| {
            let size = format!("\"size\":{}", world.artifact().layer.len());
            let titled = format!("{size},\"annotations\":{{\"org.opencontainers.image.title\":\"../../../bin/sh\"}}");
            world.publish_as(&size, &titled);
        },
        "the manifest of `acme:sums@1.0.0` is refused",
    ),
    attack(
        "a list of dependencies that unfolds without end",
        |world| {
            let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b' '; 64 << 20], 9);
            world.publish(&Version::new("1.0.0").with_section(".dep-v0", &bomb));
        },
        "a list of dependencies is larger than",
    ),
    attack(
        "a config that says something else than the bytes",
        |world| {
            let mut version = Version::new("1.0.0");
            version.config.component = ComponentInterfaces { imports: Vec::new(), ..version.config.component };
            world.publish(&version);
        },
        "the config says that it imports nothing, and its bytes wasi:config/store@0.2.0-rc.1",
    ),
    attack(
        "a WIT that is not the one that was signed",
        |world| {
            let mut version = Version::new("1.0.0");
            version.release.wit = Digest::of(b"another interface");
            world.publish(&version);
        },
        "its WIT has the digest",
    ),
    attack(
        "imports beyond the ceiling",
        |world| {
            let mut version = Version::new("1.0.0");
            version.release.ceiling = Ceiling::default();
            world.publish(&version);
        },
        "it imports `wasi:config/store@0.2.0-rc.1`, and its ceiling has no `config`",
    ),
    attack(
        "grants beyond the ceiling",
        |world| world.grants = "unit = \"mm\", secret = \"x\"",
        "it is granted more than its ceiling has",
    ),
    attack_on(
        |world| {
            let mut version = with_dependencies();
            version.sbom = sbom(&Embedded::read(&version.wasm).unwrap());
            world.publish(&version);
        },
        "an SBOM that leaves out a dependency",
        |world| world.publish(&with_dependencies()),
        "its SBOM leaves out what is in its bytes: `pkg:cargo/leftpad@0.1.0`",
    ),
    attack(
        "a name like a trusted one",
        |world| {
            let stranger = SigningKey::generate().unwrap();
            let version = Version::of(&"acrne:sums@1.0.0".parse().unwrap());
            let (digest, artifact) = world.authority.publish(&stranger, &version);
            world.packages.insert(version.package.clone(), Fetched { digest, artifact });
            world.source = version.package;
        },
        "no rule of the trust policy is about `acrne:sums@1.0.0`",
    ),
    attack(
        "a version that a stranger published",
        |world| {
            let version = Version::new("9.0.0");
            let (digest, artifact) = world.authority.publish(&SigningKey::generate().unwrap(), &version);
            world.packages.insert(version.package.clone(), Fetched { digest, artifact });
            world.source = version.package;
        },
        "is not trusted",
    ),
    attack(
        "a version that was yanked while it ran",
        |world| {
            let (name, source): (ComponentName, _) =
                ("sums".parse().unwrap(), witan_system::Source::Registry(world.source.clone()));
            let held = Held::new(&name, &source, Cause::Yanked, "it loses files").of(world.digest().unwrap());
            Gate::local(world.folder.path(), None).quarantine.add(held).unwrap();
        },
        "it is in quarantine: it loses files",
    ),
    attack("a version that was not fetched", |world| world.packages.clear(), "`acme:sums@1.0.0` was not fetched"),
];

/// A component whose build left what it is made of, with an SBOM that says nothing of it.
fn with_dependencies() -> Version {
    let list = br#"{"packages":[{"name":"sums","version":"1.0.0","source":"local","root":true,"dependencies":[1]},
        {"name":"leftpad","version":"0.1.0","source":"crates.io"}]}"#;
    Version::new("1.0.0").with_section(".dep-v0", &miniz_oxide::deflate::compress_to_vec_zlib(list, 6))
}

fn sbom(embedded: &Embedded) -> Value {
    Sbom::of_embedded(&package("1.0.0"), embedded).unwrap().to_predicate()
}

impl Attack {
    /// What is not as it should be when the attack is made on a flow that succeeds without it.
    async fn fails(&self) -> Result<(), String> {
        let mut world = World::new();
        (self.before)(&mut world);
        let running = world.load().await.map_err(|error| format!("without it: {error}"))?;
        let decision = world.decision();
        let good = running.held().is_empty() && decision.allowed && decision.resource == world.resource();
        good.then_some(()).ok_or_else(|| format!("without it: {:?}, {decision:?}", running.held()))?;

        (self.change)(&mut world);
        let message = match world.load().await {
            // Nothing needs it, so that the rest stands without it.
            Ok(running) => running.held().first().ok_or("it is let in")?.reason.clone(),
            Err(error) => error.to_string(),
        };
        let decision = world.decision();
        let reason = decision.reason.as_deref().unwrap_or_default();
        let told = message.contains(self.reason) && reason.contains(self.reason);
        let written = (decision.allowed, &*decision.component, decision.resource == world.resource());
        let good = told && written == (false, "sums", true);
        good.then_some(()).ok_or_else(|| format!("no `{}` in\n  {message}\nnor in\n  {decision:?}", self.reason))
    }
}

#[tokio::test]
async fn each_attack_is_refused_for_its_own_reason_and_written_down() {
    let mut failures = Vec::new();
    for attack in ATTACKS {
        if let Err(failure) = attack.fails().await {
            failures.push(format!("{}: {failure}", attack.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A line of the list of attacks: the attack, where it is stopped, the file of its test and what the test is called there.
fn listed() -> Vec<[String; 4]> {
    const TRUST: &str = include_str!("../../../docs/trust.md");
    let table = TRUST.split_once("\n| attack | ").expect("there is a list of attacks").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let cells = |row: &str| {
        let [attack, place, test] = row.trim_matches('|').split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        let (file, name) = test.split_once("`: ").unwrap_or_else(|| panic!("{row}"));
        [cell(attack), cell(place), cell(file), cell(name)]
    };
    // Headings have no test.
    rows.filter(|row| row.contains("`: ")).map(cells).collect()
}

#[test]
fn the_list_of_attacks_in_the_documentation_is_that_of_the_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = listed();
    for [attack, _, file, test] in &listed {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{attack}: {file}: {error}"));
        assert!(
            text.contains(&format!("fn {test}(")) || text.contains(&format!("\"{test}\"")),
            "{attack}: {file} has no {test}"
        );
    }
    let documented: BTreeSet<&str> = listed.iter().map(|[.., test]| test.as_str()).collect();
    let missing: Vec<&str> =
        ATTACKS.iter().map(|attack| attack.name).filter(|name| !documented.contains(name)).collect();
    assert!(missing.is_empty(), "docs/trust.md does not list {missing:?}");
}
