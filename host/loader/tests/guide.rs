//! `docs/writing-a-component.md`: its files are those of `tests/programs/example-tool`, and what it says happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use tempfile::TempDir;
use witan_admission::{Development, Gate};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{CallContext, Capability, Kernel, Limits};
use witan_engine::{Compiler, Engine, Settings};
use witan_forward::{
    Caller,
    tools::{Content, Error, Tool as _},
};
use witan_loader::{Loader, Running};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{Pool, System};

const GUIDE: &str = include_str!("../../../docs/writing-a-component.md");
const MANIFEST: &str = include_str!("../../../tests/programs/example-tool/Cargo.toml");
const CEILING: &str = include_str!("../../../tests/programs/example-tool/ceiling.toml");
const SOURCE: &str = include_str!("../../../tests/programs/example-tool/src/lib.rs");

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 10, ..Pool::default() }, ..Settings::default() }).unwrap()
});

static GUEST: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let checkout = Checkout::at(root).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout.build_folder(Workspace::Programs).join("example-tool.wasm")
});

/// The first block of the guide after the line that names `file`.
fn block(file: &str) -> &'static str {
    let rest = GUIDE.split_once(&format!("`{file}`:\n\n```")).unwrap_or_else(|| panic!("no block for `{file}`")).1;
    let text = rest.split_once('\n').unwrap().1;
    text.split_once("```").unwrap().0
}

/// What the reader has made at the end of the guide: the component, its words and the system.
fn written(system: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let build = folder.path().join("example-tool/build");
    fs::create_dir_all(&build).unwrap();
    for file in ["example-tool.wasm", "example-tool.wasm.sigstore.json"] {
        fs::copy(GUEST.with_file_name(file), build.join(file)).unwrap();
    }
    fs::create_dir(folder.path().join("words")).unwrap();
    fs::write(folder.path().join("words/words.txt"), block("words/words.txt")).unwrap();
    fs::write(folder.path().join("system.toml"), system).unwrap();
    folder
}

fn development() -> Development {
    Development::at(&Development::folder().unwrap()).unwrap()
}

async fn load(folder: &TempDir) -> Result<Running, String> {
    let system = System::load(&folder.path().join("system.toml")).unwrap();
    let mut capabilities: Vec<Arc<dyn Capability>> = witan_wasi::capabilities();
    capabilities.push(Arc::new(witan_config::Config));
    let policy = Arc::new(GrantPolicy::new(DecisionLog::in_memory()));
    let loader = Loader {
        engine: ENGINE.clone(),
        gate: Arc::new(Gate::local(folder.path(), development().public().unwrap())),
        kernel: Kernel::new(policy.clone()),
        policy,
        capabilities,
        cache: None,
        compiler: Some(Compiler { program: env!("CARGO_BIN_EXE_witan-compile-worker").into(), arguments: Vec::new() }),
        link_all: false,
    };
    loader.load(system, &|_| {}).await.map_err(|error| error.to_string())
}

async fn define(running: &Running, arguments: &str) -> Result<Vec<Content>, Error> {
    let service = running.component(&"glossary".parse().unwrap()).unwrap().service.clone();
    let (context, account) = (CallContext::local(), ENGINE.open_account(Limits::default()));
    service.invoke(&Caller::host(&context, &account), "define".to_owned(), arguments.to_owned()).await.unwrap()
}

#[test]
fn the_files_in_the_guide_are_those_of_the_example() {
    let of_the_reader = MANIFEST.split("\n# What follows").next().unwrap();
    assert_eq!(block("Cargo.toml"), of_the_reader);
    assert_eq!(block("ceiling.toml"), CEILING);
    // A reader has our interfaces in a folder beside the sources.
    assert_eq!(block("src/lib.rs"), SOURCE.replace("../../../wit/", "wit/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_in_the_guide_runs_the_tool() {
    let folder = written(block("system.toml"));
    let running = load(&folder).await.unwrap();
    let service = running.component(&"glossary".parse().unwrap()).unwrap().service.clone();
    let (context, account) = (CallContext::local(), ENGINE.open_account(Limits::default()));
    let described = service.describe(&Caller::host(&context, &account)).await.unwrap();
    assert_eq!(described.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["define"]);
    let meaning = define(&running, r#"{"word": "Grant"}"#).await.unwrap();
    assert_eq!(meaning, [Content::Text("what the operator gives a component".to_owned())]);
    let unknown = define(&running, r#"{"word": "nothing"}"#).await.unwrap_err();
    assert_eq!(unknown, Error::Failed("the glossary has no word `nothing`".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_grants_it_is_refused_as_the_guide_says() {
    let system = block("system.toml");
    let (bare, _) = system.split_once("[components.glossary.grants]").unwrap();
    let refusal = load(&written(bare)).await.err().unwrap();
    assert!(GUIDE.contains(&format!("error: {refusal}\n")), "{refusal}");
    let no_files: String = system
        .lines()
        .filter(|line| !line.starts_with("filesystem"))
        .fold(String::new(), |text, line| text + line + "\n");
    let running = load(&written(&no_files)).await.unwrap();
    let Err(Error::Failed(message)) = define(&running, r#"{"word": "grant"}"#).await else {
        panic!("read a file that was not granted")
    };
    assert!(GUIDE.contains(&message), "{message}");
}
