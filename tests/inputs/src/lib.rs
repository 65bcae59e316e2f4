//! What the host does with input that somebody else wrote.
//!
//! Each function takes any bytes and must return: a panic, an abort or a hang is a fault of the host. `tests/fuzz` has a
//! fuzz target for each; the tests here run them over the same corpus and a bounded number of inputs made from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a fault is reported")]

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use wasmtime::component::{Component, Type, Val, types::ComponentItem};
use witan_authorize::{Cases, Set, Sources};
use witan_callback::Settings as CallbackSettings;
use witan_capability::{Kernel, Trace, TraceState};
use witan_engine::{Engine, Settings};
use witan_events::{Command, Pattern, What};
use witan_loader::Loader;
use witan_merkle_log::{Checkpoint, Tile, Witness};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_registry_server::{
    Route, Scope,
    range::{Asked, asked, part},
};
use witan_registry_sign::{Embedded, LogEntry, Provenance, PublicKey, Release, Sbom, TrustPolicy, TrustRoot, evaluate};
use witan_registry_types::{
    BundleManifest, ComponentConfig, ComponentManifest, Digest, Mapping, Package, Reference, Referrers,
    json::parse_value, media,
};
use witan_system::{Ceiling, Compile, CompileIn, Pool, System, grants_toml};
use witan_tasks::TaskRequest;

/// Reads `bytes` as a `system.toml`. What is refused is refused in words, and what is taken can be written again.
pub fn manifest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match System::parse(&text, Path::new("system.toml")) {
        Ok(system) => {
            for (name, component) in &system.components {
                let _text = grants_toml(name.as_str(), &component.grants, system.folder());
            }
        }
        Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
    }
}

/// Reads each line of `text` as a `traceparent`, and all of it as the values of `tracestate`.
fn traces(text: &str) {
    for trace in text.lines().filter_map(Trace::parse) {
        assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
    }
    if let Some(state) = TraceState::parse(text.lines()) {
        assert!(state.as_str().len() <= 512);
        assert_eq!(TraceState::parse([state.as_str()]), Some(state));
    }
}

/// Reads `bytes` as the head of a request, its address in the first line and a header in each other one, and as the message that a
/// client sends over gRPC. A header that HTTP would not let through is none.
pub fn request(bytes: &[u8]) {
    if let Ok(message) = <witan_grpc::v1::SubmitRequest as prost::Message>::decode(bytes)
        && let Ok(request) = witan_grpc::request(message)
    {
        let _refused = request.check();
        assert!(serde_json::to_vec(&request).is_ok());
    }
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = http::Request::new(());
    let address = lines.next().and_then(|line| http::Uri::try_from(line).ok());
    *request.uri_mut() = address.unwrap_or_default();
    for line in lines.take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| http::HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| http::HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    let read = witan_api::input::read(&request, "https://witan.example");
    assert!(read.cost >= 1);
    let hosts = request.headers().get_all("host").iter().count() + usize::from(request.uri().host().is_some());
    assert!(!read.ours || hosts >= 1, "a request that names no host is not for this one");
}

/// Reads `bytes` as what a client sends: the request of a task, with its callback, a command over a WebSocket, and the headers
/// of a trace. What is taken reads the same once it was stored.
pub fn client(bytes: &[u8]) {
    traces(&String::from_utf8_lossy(bytes));
    if let Ok(request) = TaskRequest::from_json(bytes) {
        let stored = serde_json::to_vec(&request).expect("it was read from JSON");
        let again: TaskRequest = serde_json::from_slice(&stored).expect("it was written");
        assert_eq!(
            (again.input, again.callback, again.metadata),
            (request.input.clone(), request.callback.clone(), request.metadata.clone())
        );
        let settings = CallbackSettings {
            is_public: witan_policy::is_public,
            hosts: vec!["named.example:8".to_owned()],
            egress: Default::default(),
        };
        if let Some(callback) = &request.callback {
            let _refused = callback.check(&settings);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let _refused = witan_telemetry::Levels::check(&text);
    let _refused = Command::parse(&text);
    if let Ok(patterns) = Pattern::list(&text) {
        assert!(patterns.iter().all(|pattern| What::TYPES.iter().any(|name| pattern.takes(name))));
    }
}

/// Reads `bytes` as policies, entities and cases with NULs between them, and asks the ones the others. What is refused says
/// where and what to do, and Cedar itself decides as we do.
pub fn policies(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '\0');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let policies = [("a.cedar".to_owned(), part())].into();
    let entities = Some(part()).filter(|text| !text.is_empty());
    let set = Set::new(&Sources { policies, entities });
    if let Err(faults) = &set {
        assert!(faults.0.iter().all(|fault| !fault.message.is_empty() && !fault.help.is_empty()));
        assert!(!faults.0.is_empty());
    }
    let cases = Cases::parse(&part());
    let (Ok(set), Ok(cases)) = (set, cases) else { return };
    for case in &cases.cases {
        let Ok(asked) = case.question().understand(0) else { continue };
        let request = asked.request();
        let explanation = set.explain(&request, None);
        let failed = explanation.others.iter().any(|rule| rule.error.is_some());
        let by_code = explanation.determining.iter().any(|rule| rule.file == "host");
        if let Some((allow, _)) = set.decide_by_all(&request).filter(|_| !failed && !by_code) {
            assert_eq!(explanation.allow, allow, "{case:?}");
        }
    }
}

/// Reads `bytes` as an answer of Vault.
pub fn vault(bytes: &[u8]) {
    if let Ok((value, _lease)) = witan_secrets::parse_answer(bytes, "value") {
        assert!(http_header(value.expose()) && !format!("{value:?}").contains(value.expose()));
    }
}

/// Whether a header can carry `text`.
fn http_header(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Reads `bytes` as a backup, and as what one says that it holds.
pub fn backup(bytes: &[u8]) {
    let _verdict = witan_backup::verify(bytes).map_err(|error| assert!(!error.to_string().is_empty()));
    if let Ok(contents) = witan_backup::parse_contents(bytes) {
        let into = Path::new("/into");
        assert!(contents.files.iter().all(|file| into.join(&file.name).starts_with(into)));
    }
}

/// An export of a ledger, and the key that its checkpoint is signed with.
const EXPORT: &str = include_str!("../../fuzz/corpus/export/valid");
static EXPORT_KEY: LazyLock<witan_merkle_log::PublicKey> = LazyLock::new(|| {
    witan_ledger::public_key(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ledger.pem")).expect("it is a key")
});

/// Reads `bytes` as an export of a ledger, as its keys, and as a checkpoint that was kept. An export that holds says nothing that
/// the ledger did not say.
pub fn export(bytes: &[u8]) {
    match witan_ledger::verify_export(&mut &bytes[..], &EXPORT_KEY) {
        Ok(exported) => {
            assert!(exported.erased <= exported.entries && exported.entries <= exported.size);
            let entry = |line: &str| -> Option<serde_json::Value> {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                line.get("entry").cloned()
            };
            let said: Vec<serde_json::Value> = EXPORT.lines().filter_map(entry).collect();
            let text = std::str::from_utf8(bytes).expect("it was read as text");
            assert!(text.lines().filter_map(entry).all(|entry| said.contains(&entry)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(keys) = witan_ledger::HostKeys::from_lines(&lines) {
        assert!(!keys.origin().is_empty());
    }
    let keys: Vec<String> = include_str!("../../fuzz/corpus/export/keys").lines().map(str::to_owned).collect();
    let keys = witan_ledger::HostKeys::from_lines(&keys).expect("they are keys");
    if let Ok(kept) = witan_ledger::TimedCheckpoint::verified(&text, &keys, Some(&EXPORT_KEY)) {
        assert_eq!(kept.checkpoint.size(), 5, "no other was signed");
    }
}

/// Types of every kind, as a component may export functions of.
const TYPES: &str = r#"(component
    (type $record' (record (field "name" string) (field "sizes" (list u32)) (field "rest" (option string))))
    (import "record" (type $record (eq $record')))
    (type $variant' (variant (case "none") (case "some" $record) (case "text" string)))
    (import "variant" (type $variant (eq $variant')))
    (type $enum' (enum "a" "b" "long-name"))
    (import "enum" (type $enum (eq $enum')))
    (type $flags' (flags "read" "write" "list"))
    (import "flags" (type $flags (eq $flags')))
    (import "function" (func
        (param "a" bool) (param "b" u8) (param "c" s8) (param "d" u16) (param "e" s16) (param "f" u32) (param "g" s32)
        (param "h" u64) (param "i" s64) (param "j" float32) (param "k" float64) (param "l" char) (param "m" string)
        (param "n" (list u8)) (param "o" (list (list string))) (param "p" (option (option u32)))
        (param "q" (result u32 (error string))) (param "r" (result)) (param "s" (tuple u8 string (list char)))
        (param "t" $record) (param "u" $variant) (param "v" $enum) (param "w" $flags)
        (param "x" (list $variant)) (param "y" (option $record)))))"#;

static WAVE_TYPES: LazyLock<Vec<Type>> = LazyLock::new(|| {
    let engine = wasmtime::Engine::default();
    let component = Component::new(&engine, wat::parse_str(TYPES).unwrap()).unwrap();
    let function = component.component_type().imports(&engine).find_map(|(_, item)| match item.ty {
        ComponentItem::ComponentFunc(function) => Some(function),
        _ => None,
    });
    function.unwrap().params().map(|(_, ty)| ty).collect()
});

/// Reads `bytes` as a value of every type. What is read is written as what is read again as the same.
pub fn wave(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for ty in &*WAVE_TYPES {
        let Ok(value) = Val::from_wave(ty, &text) else { continue };
        let written = value.to_wave().unwrap();
        let again = Val::from_wave(ty, &written).unwrap_or_else(|error| panic!("`{written}` is not read: {error}"));
        assert_eq!(again.to_wave().unwrap(), written);
    }
}

/// The largest component that is looked at.
const LARGEST: u64 = 1 << 16;

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    let pool = Pool { instances: 2, ..Pool::default() };
    let compile = Compile { size: LARGEST, functions: 100, ..Compile::default() };
    Engine::new(Settings { pool, compile, ..Settings::default() }).unwrap()
});

/// Loads `bytes` as a component without grants, up to where its own code would run. It is compiled in this process, so
/// that a fault of the compiler shows.
pub fn component(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("guest.wasm"), bytes).unwrap();
    let text = "schema = 1\n[components.guest]\nsource = \"guest.wasm\"\n";
    let mut system = System::parse(text, &folder.path().join("system.toml")).unwrap();
    for component in system.components.values_mut() {
        component.compile = CompileIn::Host;
        component.allow_unsigned = true;
    }
    let policy = Arc::new(GrantPolicy::new(DecisionLog::in_memory()));
    let loader = Loader {
        engine: ENGINE.clone(),
        gate: Arc::new(witan_admission::Gate::local(folder.path(), None)),
        kernel: Kernel::new(policy.clone()),
        policy,
        capabilities: witan_wasi::capabilities(),
        cache: None,
        compiler: None,
        link_all: false,
    };
    match loader.prepare(system, &|_| {}) {
        Ok(running) => assert_eq!(running.components().len(), 1),
        Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
    }
}

/// Reads `bytes` as each document that a registry serves, and as each name. What is read is written as what is read again as
/// the same.
pub fn registry(bytes: &[u8]) {
    if let Ok(manifest) = ComponentManifest::parse(bytes, media::MANIFEST) {
        assert_eq!(ComponentManifest::parse(&manifest.to_json(), media::MANIFEST).unwrap(), manifest);
    }
    if let Ok(manifest) = BundleManifest::parse(bytes, media::MANIFEST) {
        assert_eq!(BundleManifest::parse(&manifest.to_json(), media::MANIFEST).unwrap(), manifest);
    }
    if let Ok(config) = ComponentConfig::parse(bytes) {
        assert_eq!(ComponentConfig::parse(&config.to_json()).unwrap(), config);
    }
    if let Ok(Referrers(referrers)) = Referrers::parse(bytes) {
        assert!(referrers.len() <= Referrers::MOST);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(package) = text.parse::<Package>() {
        assert_eq!(package.to_string(), text);
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let _mapping = Mapping::with_prefix(&text);
}

/// Those who signed what is in the corpus.
static SIGNED: LazyLock<(TrustPolicy, TrustRoot)> = LazyLock::new(|| {
    let file: witan_system::TrustFile = serde_json::from_slice(include_bytes!("../signed/policy.json")).unwrap();
    let policy = TrustPolicy::try_from(&file).unwrap();
    let root = TrustRoot::parse(include_bytes!("../signed/trusted_root.json"), noon()).unwrap();
    (policy, root)
});

fn noon() -> SystemTime {
    // When the corpus was signed.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_732_800)
}

/// Takes `bytes` as a bundle that came from a registry, and as what else a signer or a verifier reads. None is trusted that
/// says something else than what the corpus's signers signed.
pub fn bundle(bytes: &[u8]) {
    let (policy, root) = &*SIGNED;
    let package = "acme:tool@1.2.3".parse().unwrap();
    let digest = Digest::of(b"the manifest");
    match evaluate(policy, root, &package, &digest, &[bytes], noon()) {
        Ok(verified) => assert_eq!(verified.release, Release::new(Ceiling::default(), Digest::of(b"wit"))),
        Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.help().is_empty()),
    }
    let _root = TrustRoot::parse(bytes, noon());
    let _entry = LogEntry::from_json(bytes);
    let file = serde_json::from_slice::<witan_system::TrustFile>(bytes);
    let _policy = file.map(|file| TrustPolicy::try_from(&file));
    if let Ok(ceiling) = serde_json::from_slice::<Ceiling>(bytes) {
        assert_eq!(ceiling.excess(&ceiling), []);
    }
    let text = String::from_utf8_lossy(bytes);
    let _key = text.parse::<PublicKey>();
}

/// Reads `bytes` as a component with dependencies in it, and as an SBOM.
pub fn dependencies(bytes: &[u8]) {
    let package = "acme:tool@1.2.3".parse().unwrap();
    if let Ok(embedded) = Embedded::read(bytes) {
        let sbom = Sbom::of_embedded(&package, &embedded).unwrap();
        assert_eq!(sbom.missing(&embedded), []);
    }
    if let Ok(document) = parse_value(bytes, 1 << 20) {
        let _sbom = Sbom::parse(&document);
        let _provenance = Provenance::parse(&document);
    }
}

/// Reads `bytes` as what a registry is asked: a path, the name of a manifest, ranges, a tile and a note. What is read is
/// written again as what was read, and asks for nothing that is not there.
pub fn registry_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        if let Ok(route) = Route::parse(line)
            && let Some(repository) = route.repository()
        {
            assert!(line.starts_with(repository.as_str()) && !repository.as_str().contains(".."));
        }
        if let Ok(reference) = witan_registry_server::Reference::parse(line) {
            assert_eq!(reference.to_string(), line);
        }
        for size in [0, 1, 100, u64::MAX] {
            if let Asked::Part(first, last) = asked(line, size) {
                assert!(first <= last && last < size);
            }
        }
        if let Some((first, last)) = part(line) {
            assert!(first <= last);
        }
        if let Some(tile) = Tile::parse(line) {
            assert_eq!(tile.to_string(), line);
        }
        let _witness = line.parse::<Witness>();
        let _scope = line.parse::<Scope>();
    }
    let _checkpoint = Checkpoint::parse(&text, "log.example - 7", &LOG_KEY);
}

static LOG_KEY: LazyLock<witan_merkle_log::PublicKey> =
    LazyLock::new(|| witan_merkle_log::SigningKey::generate_ed25519().unwrap().public().unwrap());

/// What a client shows for who it is, and what an issuer says of its keys: the first line is a token, the rest a set of keys.
pub fn credential(bytes: &[u8]) {
    let (token, keys) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, bytes),
    };
    let keys = witan_identity::KeySet::parse(keys);
    let Ok(text) = std::str::from_utf8(token) else { return };
    if let Ok(scope) = text.parse::<witan_identity::Scope>() {
        assert_eq!(scope.to_string().parse(), Ok(scope));
    }
    let Ok(token) = witan_identity::Token::parse(text) else { return };
    if let Ok(keys) = keys {
        // Nobody who fuzzes has a key.
        assert!(keys.verify(&token).is_err() || keys.has_key_for(&token));
    }
    let _refused = witan_identity::Caller::new(text, text, text);
    let _refused = witan_identity::Certificate::from_verified(bytes);
}
