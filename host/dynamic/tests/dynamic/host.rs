//! A caller that is linked to a callee.

use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use wasmtime::component::{
    Accessor, Component as Code, Instance, Linker, Val,
    types::{ComponentInstance, ComponentItem},
};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{
    Account, CallContext, CallError, CallState, Component, Decision, DecisionId, Denial, Kernel, Limits, Policy,
    Request, Resource,
};
use witan_dynamic::DynamicError;
use witan_engine::{Engine, Invocation, Reply, Service, ServiceSettings, Settings, Version};
use witan_system::{Instances, Pool};

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 100, ..Pool::default() }, ..Settings::default() }).unwrap()
});

/// Builds the guests once.
static GUESTS: LazyLock<Checkout> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let checkout = Checkout::at(root).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout
});

/// A guest of the checkout, compiled once for all tests: that is what takes time.
pub fn guest(name: &str) -> Code {
    static CODE: Mutex<Vec<(String, Code)>> = Mutex::new(Vec::new());
    let mut compiled = CODE.lock().unwrap();
    if let Some((_, code)) = compiled.iter().find(|(compiled, _)| compiled == name) {
        return code.clone();
    }
    let path = GUESTS.build_folder(Workspace::Programs).join(format!("{name}.wasm"));
    let code = Code::from_file(ENGINE.wasmtime(), path).unwrap();
    compiled.push((name.to_owned(), code.clone()));
    code
}

pub fn code(bytes: &[u8]) -> Code {
    Code::new(ENGINE.wasmtime(), bytes).unwrap()
}

/// Refuses what is named, and allows the rest.
struct Judge {
    refused: Option<&'static str>,
}

impl Policy for Judge {
    fn decide(&self, request: &Request<'_>) -> Decision {
        let Resource::Component(target) = request.resource else { panic!("{request:?}") };
        assert_eq!(target, "callee");
        if self.refused == Some(request.function.name) {
            let decision = DecisionId(uuid::Uuid::nil());
            return Decision::Deny(Denial { decision, reason: "refused by the test".to_owned() });
        }
        Decision::Allow
    }
}

/// A caller that is linked to a callee.
pub struct Host {
    pub caller: Arc<Service>,
    pub callee: Arc<Service>,
}

fn service(name: &'static str, code: &Code, linker: &Linker<CallState>, kernel: &Arc<Kernel>) -> Arc<Service> {
    let pre = linker.instantiate_pre(code).unwrap();
    let component = Arc::new(Component { name: name.into(), digest: [0; 32], grants: Arc::default() });
    let version = Version::new(ENGINE.clone(), component, pre, Instances::default());
    Service::new(name, kernel.clone(), ServiceSettings::default(), version)
}

impl Host {
    /// The guests of this test.
    pub fn guests() -> Self {
        Self::refusing(None)
    }

    /// The same, with a policy that refuses a function.
    pub fn refusing(refused: Option<&'static str>) -> Self {
        Self::link(&guest("dynamic-caller"), &guest("dynamic-callee"), refused).unwrap()
    }

    /// Links every import of `caller` to `callee`.
    pub fn link(caller: &Code, callee: &Code, refused: Option<&'static str>) -> Result<Self, DynamicError> {
        Self::link_some(caller, callee, refused, |_| true)
    }

    /// Links one import of `caller` to `callee`.
    pub fn link_only(interface: &str, caller: &Code, callee: &Code) -> Result<Self, DynamicError> {
        Self::link_some(caller, callee, None, |name| name == interface)
    }

    fn link_some(
        caller: &Code,
        callee: &Code,
        refused: Option<&'static str>,
        which: impl Fn(&str) -> bool,
    ) -> Result<Self, DynamicError> {
        let kernel = Kernel::new(Arc::new(Judge { refused }));
        let mut foreign = Linker::new(ENGINE.wasmtime());
        foreign.define_unknown_imports_as_traps(callee).unwrap();
        let callee = service("callee", callee, &foreign, &kernel);
        let mut linker = Linker::new(ENGINE.wasmtime());
        for (interface, import) in imports(caller).into_iter().filter(|(name, _)| which(name)) {
            witan_dynamic::link(&mut linker.instance(&interface).unwrap(), &interface, &import, &callee)?;
        }
        Ok(Self { caller: service("caller", caller, &linker, &kernel), callee })
    }

    /// Calls `function` of the caller's `run`.
    pub async fn call(&self, function: &'static str, params: &[Val]) -> Result<Vec<Val>, CallError> {
        self.call_within(Limits::default(), function, params).await
    }

    pub async fn call_within(
        &self,
        limits: Limits,
        function: &'static str,
        params: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        self.call_in(&ENGINE.open_account(limits), function, params).await
    }

    pub async fn call_in(
        &self,
        account: &Arc<Account>,
        function: &'static str,
        params: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        let invocation = Run { function, params: params.to_vec() };
        let (results, mut ended) = self.caller.call(&CallContext::local(), account, invocation).await?;
        ended.wait().await?;
        Ok(results)
    }
}

pub fn account() -> Arc<Account> {
    ENGINE.open_account(Limits::default())
}

fn imports(code: &Code) -> Vec<(String, ComponentInstance)> {
    let ty = code.component_type();
    ty.imports(ENGINE.wasmtime())
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentInstance(instance) => Some((name.to_owned(), instance)),
            _ => None,
        })
        .collect()
}

/// Calls a function of `run`.
struct Run {
    function: &'static str,
    params: Vec<Val>,
}

impl Invocation for Run {
    type Output = Vec<Val>;

    async fn run(
        self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Vec<Val>>,
    ) -> wasmtime::Result<()> {
        let function = accessor.with(|mut store| {
            let run = instance.get_export_index(&mut store, None, "test:dynamic/run@1.0.0").unwrap();
            let function = instance.get_export_index(&mut store, Some(&run), self.function).unwrap();
            instance.get_func(&mut store, function).unwrap()
        });
        let results = accessor.with(|store| function.ty(store).results().len());
        let mut results = vec![Val::Bool(false); results];
        function.call_concurrent(accessor, &self.params, &mut results).await?;
        reply.send(results);
        Ok(())
    }
}
