//! Two components, one linked to the other.

use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use wasmtime::component::{Component as Code, Linker};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{
    Account, CallContext, CallError, CallState, Component, Decision, DecisionId, Denial, HostFunction, Kernel, Limits,
    Policy, Request,
};
use witan_engine::{Engine, Service, ServiceSettings, Settings, Version};
use witan_forward::{
    Caller, Run,
    task::{self, Error, Event, Handler as _, Input, Outcome, Parameter, Value},
};
use witan_system::{Instances, Pool, Reuse};

/// The faces of an interface: itself and its twin.
pub const FACES: [&str; 2] = ["async", "sync"];

/// Every face of a caller with every face of a callee.
pub fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    FACES.into_iter().flat_map(|caller| FACES.map(|callee| (caller, callee)))
}

pub static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 200, ..Pool::default() }, ..Settings::default() }).unwrap()
});

/// Builds the guests once.
static GUESTS: LazyLock<Checkout> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let checkout = Checkout::at(root).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout
});

/// Compiled once for all tests: that is what takes time.
pub fn code(guest: &str) -> Code {
    static CODE: Mutex<Vec<(String, Code)>> = Mutex::new(Vec::new());
    let mut compiled = CODE.lock().unwrap();
    if let Some((_, code)) = compiled.iter().find(|(name, _)| name == guest) {
        return code.clone();
    }
    let path = GUESTS.build_folder(Workspace::Programs).join(format!("{guest}.wasm"));
    let code = Code::from_file(ENGINE.wasmtime(), path).unwrap();
    compiled.push((guest.to_owned(), code.clone()));
    code
}

/// Notes what it is asked, and allows it unless told otherwise.
#[derive(Default)]
pub struct Noting {
    deny: bool,
    asked: Mutex<Vec<(HostFunction, String)>>,
}

impl Noting {
    /// The functions it was asked about and what they were to be done to, each once.
    pub fn asked(&self) -> Vec<(HostFunction, String)> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

impl Policy for Noting {
    fn decide(&self, request: &Request<'_>) -> Decision {
        self.asked.lock().unwrap().push((request.function, request.resource.to_string()));
        if self.deny {
            let decision = DecisionId(uuid::Uuid::nil());
            return Decision::Deny(Denial { decision, reason: "told to".to_owned() });
        }
        Decision::Allow
    }
}

fn service(name: &str, guest: &str, kernel: &Arc<Kernel>, linker: &Linker<CallState>, reuse: Reuse) -> Arc<Service> {
    let pre = linker.instantiate_pre(&code(guest)).unwrap();
    let component = Arc::new(Component { name: name.into(), digest: [0; 32], grants: Arc::default() });
    let version = Version::new(ENGINE.clone(), component, pre, Instances { reuse, ..Instances::default() });
    Service::new(name, kernel.clone(), ServiceSettings::default(), version)
}

/// A caller linked to a callee.
pub struct Pair {
    pub caller: Arc<Service>,
    pub callee: Arc<Service>,
    pub policy: Arc<Noting>,
}

impl Pair {
    /// A caller and a callee of these faces.
    pub fn new((caller, callee): (&str, &str)) -> Self {
        Self::with((caller, callee), Reuse::Fresh, Noting::default())
    }

    /// As [`Self::new`], with a policy that denies everything.
    pub fn denied(faces: (&str, &str)) -> Self {
        Self::with(faces, Reuse::Fresh, Noting { deny: true, ..Noting::default() })
    }

    pub fn with((caller, callee): (&str, &str), reuse: Reuse, policy: Noting) -> Self {
        let policy = Arc::new(policy);
        let kernel = Kernel::new(policy.clone());
        let callee = callee_with(callee, &kernel, reuse);
        let guest = format!("forward-{caller}-caller");
        let mut linker = Linker::new(ENGINE.wasmtime());
        for (name, _) in code(&guest).component_type().imports(ENGINE.wasmtime()) {
            if let Some(linked) = witan_forward::link(&mut linker, name, callee.clone()) {
                linked.unwrap();
            } else {
                assert_eq!(witan_forward::serves(name), Some(witan_forward::Served::Types), "{name}");
            }
        }
        Self { caller: service("caller", &guest, &kernel, &linker, reuse), callee, policy }
    }
}

/// A callee alone.
pub fn callee(face: &str) -> Arc<Service> {
    callee_with(face, &Kernel::new(Arc::new(Noting::default())), Reuse::Fresh)
}

fn callee_with(face: &str, kernel: &Arc<Kernel>, reuse: Reuse) -> Arc<Service> {
    let guest = format!("forward-{face}-callee");
    service("callee", &guest, kernel, &Linker::new(ENGINE.wasmtime()), reuse)
}

/// A guest with these imports.
pub fn alone(guest: &str, linker: &Linker<CallState>) -> Arc<Service> {
    service("guest", guest, &Kernel::new(Arc::new(Noting::default())), linker, Reuse::Fresh)
}

/// A call tree with the limits that are usual.
pub fn account() -> Arc<Account> {
    ENGINE.open_account(Limits::default())
}

/// A request for `intent` with a text.
pub fn request(intent: &str) -> task::Request {
    let parameter = |name: &str, value| Parameter { name: name.to_owned(), value };
    task::Request {
        intent: intent.to_owned(),
        input: Input::Text("a text".to_owned()),
        parameters: vec![
            parameter("flag", Value::Flag(true)),
            parameter("integer", Value::Integer(-7)),
            parameter("number", Value::Number(0.5)),
            parameter("text", Value::Text("é".to_owned())),
            parameter("texts", Value::Texts(vec!["a".to_owned(), String::new()])),
        ],
    }
}

/// Begins a call by the host.
pub async fn begin(
    service: &Arc<Service>,
    account: &Arc<Account>,
    request: task::Request,
) -> Result<Run<Event, Outcome, Error>, CallError> {
    let context = CallContext::local();
    service.handle(&Caller::host(&context, account), request).await
}

/// Calls and gives all events and the verdict.
pub async fn call(
    service: &Arc<Service>,
    account: &Arc<Account>,
    request: task::Request,
) -> (Vec<Event>, Result<Result<Outcome, Error>, CallError>) {
    let mut run = match begin(service, account, request).await {
        Ok(run) => run,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut events = Vec::new();
    while let Some(items) = run.events.next().await {
        events.extend(items);
    }
    (events, run.verdict.await)
}

/// A notice.
pub fn notice(text: &str) -> Event {
    Event::Notice(text.to_owned())
}
