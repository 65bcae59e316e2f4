//! The broker with real tools, a real agent and the kernel's own policy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use wasmtime::component::{Component as Code, Linker};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{
    Call, CallContext, CallError, CallState, Capability as _, Component, HostFunction, Kernel, Limits,
};
use witan_engine::{Engine, Service, ServiceSettings, Settings, Version};
use witan_forward::{
    Caller,
    component::Failure,
    task::{self, Handler as _, Input, Parameter, Value},
    tools::{Blob, Broker as _, Content, Error, broker},
};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{Grants, Instances, Pool, Reuse, ToolGrant};
use witan_tools::Tools;

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 50, ..Pool::default() }, ..Settings::default() }).unwrap()
});

static GUESTS: LazyLock<Checkout> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let checkout = Checkout::at(root).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout
});

fn version(guest: &str, name: &str, grants: Grants, linker: &Linker<CallState>) -> Arc<Version> {
    let path = GUESTS.build_folder(Workspace::Programs).join(format!("{guest}.wasm"));
    let code = Code::from_file(ENGINE.wasmtime(), path).unwrap();
    let component = Arc::new(Component { name: name.into(), digest: [0; 32], grants: Arc::new(grants) });
    let instances = Instances { reuse: Reuse::Serial, ..Instances::default() };
    Version::new(ENGINE.clone(), component, linker.instantiate_pre(&code).unwrap(), instances)
}

fn grants(tools: &[&str]) -> Grants {
    let grant = |tool: &&str| {
        let (component, tool) = tool.split_once('.').unwrap();
        ToolGrant { component: component.parse().unwrap(), tool: tool.parse().ok() }
    };
    Grants { tools: tools.iter().map(grant).collect(), ..Grants::default() }
}

/// Two components with the same tools, and whoever calls them.
struct System {
    tools: Tools,
    policy: Arc<GrantPolicy>,
    kernel: Arc<Kernel>,
    one: Arc<Service>,
}

impl System {
    fn new() -> Self {
        let policy = Arc::new(GrantPolicy::new(DecisionLog::in_memory()));
        let kernel = Kernel::new(policy.clone());
        let tools = Tools::new(ENGINE.clone());
        let offer = |name: &str| {
            let version = version("tools-offer", name, Grants::default(), &Linker::new(ENGINE.wasmtime()));
            Service::new(name, kernel.clone(), ServiceSettings::default(), version)
        };
        let one = offer("one");
        let services = [("one", one.clone()), ("two", offer("two"))];
        tools.set(services.map(|(name, service)| (name.parse().unwrap(), service)));
        Self { tools, policy, kernel, one }
    }

    /// A call of a component with these grants.
    fn call(&self, tools: &[&str]) -> Call {
        Call {
            context: CallContext::local(),
            account: ENGINE.open_account(Limits::default()),
            component: Arc::new(Component { name: "agent".into(), digest: [0; 32], grants: Arc::new(grants(tools)) }),
            kernel: self.kernel.clone(),
        }
    }

    async fn find(&self, granted: &[&str], query: &str) -> Vec<String> {
        let call = self.call(granted);
        let caller = Caller::guest(&call, HostFunction::new(broker::NAME, "find"));
        let offers = self.tools.find(&caller, query.to_owned(), 100).await.unwrap().unwrap();
        offers.into_iter().map(|offer| offer.tool).collect()
    }

    async fn use_tool(
        &self,
        granted: &[&str],
        tool: &str,
        arguments: &str,
    ) -> Result<Result<Vec<Content>, Error>, CallError> {
        let call = self.call(granted);
        let caller = Caller::guest(&call, HostFunction::new(broker::NAME, "call"));
        self.tools.call(&caller, tool.to_owned(), arguments.to_owned()).await
    }
}

#[tokio::test]
async fn finds_what_was_granted_and_nothing_else() {
    let system = System::new();
    assert_eq!(system.find(&["one.echo", "two.trap"], "").await, ["one.echo", "two.trap"]);
    assert_eq!(system.find(&["one.*"], "").await, ["one.count", "one.echo", "one.refuse", "one.trap"]);
    assert_eq!(system.find(&["one.*", "two.*"], "echo").await, ["one.echo", "two.echo"]);
    assert_eq!(system.find(&["three.*", "one.nothing"], "").await, Vec::<String>::new());
    assert_eq!(system.find(&[], "").await, Vec::<String>::new());
}

#[tokio::test]
async fn the_host_itself_sees_all() {
    let system = System::new();
    let (context, account) = (CallContext::local(), ENGINE.open_account(Limits::default()));
    let offers = system.tools.find(&Caller::host(&context, &account), String::new(), 3).await.unwrap().unwrap();
    let names: Vec<_> = offers.iter().map(|offer| offer.tool.as_str()).collect();
    assert_eq!(names, ["one.count", "one.echo", "one.refuse"]);
}

#[tokio::test]
async fn calls_a_granted_tool_and_passes_its_answer_on() {
    let system = System::new();
    let arguments = r#"{"text":"hello"}"#;
    let contents = system.use_tool(&["one.echo"], "one.echo", arguments).await.unwrap().unwrap();
    let blob = Blob { media_type: "application/x-test".to_owned(), data: vec![0, 255] };
    let expected = [Content::Json(arguments.to_owned()), Content::Text("said".to_owned()), Content::Blob(blob)];
    assert_eq!(contents, expected);
    let refused = system.use_tool(&["one.*"], "one.refuse", "{}").await.unwrap();
    assert_eq!(refused, Err(Error::Denied("{}".to_owned())));
}

#[tokio::test]
async fn a_tool_that_was_not_granted_looks_as_one_that_does_not_exist() {
    let system = System::new();
    for tool in ["two.echo", "one.missing", "missing.echo", "echo", "one.echo.more", "", "one.broken"] {
        let answer = system.use_tool(&["one.*", "missing.*"], tool, r#"{"text":""}"#).await.unwrap();
        let expected = format!("there is no tool `{tool}` that this component was granted");
        assert_eq!(answer, Err(Error::NotFound(expected)));
    }
    let denied = system.policy.log().newest(20).iter().filter(|entry| !entry.allowed).count();
    assert_eq!(denied, 3, "what was not granted is in the decision log");
}

#[tokio::test]
async fn arguments_that_do_not_fit_never_reach_the_tool() {
    let system = System::new();
    for arguments in ["{}", "[]", "{", r#"{"text": 1}"#] {
        let answer = system.use_tool(&["one.*"], "one.echo", arguments).await.unwrap();
        assert!(matches!(answer, Err(Error::InvalidArguments(_))), "{arguments}: {answer:?}");
    }
    let asked = system.use_tool(&["one.*"], "one.count", "{}").await.unwrap().unwrap();
    assert_eq!(asked, [Content::Text("1".to_owned())], "no other call has reached this instance");
}

#[tokio::test]
async fn a_component_is_asked_once_for_each_version() {
    let system = System::new();
    for _ in 0..3 {
        system.find(&["one.*"], "").await;
    }
    system.one.current().drained().await;
    assert_eq!(system.one.stats().completed, 1);
    let version = version("tools-offer", "one", Grants::default(), &Linker::new(ENGINE.wasmtime()));
    let former = system.one.replace(version);
    former.drained().await;
    system.find(&["one.*"], "").await;
    system.one.current().drained().await;
    assert_eq!(system.one.stats().completed, 2);
}

#[tokio::test]
async fn a_component_that_is_gone_offers_nothing() {
    let system = System::new();
    system.tools.set([]);
    assert_eq!(system.find(&["one.*"], "").await, Vec::<String>::new());
    assert!(matches!(system.use_tool(&["one.*"], "one.echo", "{}").await, Ok(Err(Error::NotFound(_)))));
}

#[tokio::test]
async fn a_tool_that_traps_fails_the_call_alone() {
    let system = System::new();
    let error = system.use_tool(&["one.*"], "one.trap", "{}").await.unwrap_err();
    assert!(matches!(&error, CallError::Trapped { component, .. } if component == "one"), "{error}");
    assert!(system.use_tool(&["one.*"], "one.count", "{}").await.unwrap().is_ok());
}

#[tokio::test]
async fn an_agent_finds_and_calls_by_either_face() {
    let system = System::new();
    let mut linker = Linker::new(ENGINE.wasmtime());
    system.tools.add_to_linker(&mut linker).unwrap();
    let version = version("tools-agent", "agent", grants(&["one.echo", "one.trap"]), &linker);
    let agent = Service::new("agent", system.kernel.clone(), ServiceSettings::default(), version);
    let (context, account) = (CallContext::local(), ENGINE.open_account(Limits::default()));
    let ask = async |intent: &str, tool: &str, text: &str, faces: usize| {
        let parameter = Parameter { name: "tool".to_owned(), value: Value::Text(tool.to_owned()) };
        let request = task::Request {
            intent: intent.to_owned(),
            input: Input::Text(text.to_owned()),
            parameters: vec![parameter; faces],
        };
        let run = agent.handle(&Caller::host(&context, &account), request).await.unwrap();
        run.verdict.await.unwrap().map(|outcome| outcome.text)
    };
    for faces in [1, 2] {
        assert_eq!(ask("find", "", "", faces).await, Ok("one.echo one.trap".to_owned()));
        let said = ask("call", "one.echo", r#"{"text":"x"}"#, faces).await.unwrap();
        assert!(said.contains("said"), "{said}");
        let missing = ask("call", "two.echo", "{}", faces).await;
        assert!(matches!(&missing, Err(task::Error::Invalid(error)) if error.contains("NotFound")), "{missing:?}");
        let trapped = ask("call", "one.trap", "{}", faces).await;
        assert!(matches!(&trapped, Err(task::Error::CallFailed(Failure::Trapped(_)))), "{trapped:?}");
    }
}
