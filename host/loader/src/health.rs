//! Whether what was loaded starts and is fit to serve.

use std::time::Duration;

use wasmtime::component::{Accessor, Instance};
use witan_capability::{CallContext, CallError, CallState, Limits};
use witan_engine::{Invocation, Reply};
use witan_forward::{Caller, component::Health as _};

use crate::{LoadError, LoadProblem, Loaded, Loader, Running};

/// How long a component may take to say that it is fit.
const PATIENCE: Duration = Duration::from_secs(10);

/// Instantiates without calling anything.
struct Start;

impl Invocation for Start {
    type Output = ();

    async fn run(self, _: &Accessor<CallState>, _: Instance, reply: Reply<()>) -> wasmtime::Result<()> {
        reply.send(());
        Ok(())
    }
}

pub(crate) async fn check(loader: &Loader, running: &Running) -> Result<(), LoadError> {
    let mut problems = Vec::new();
    for (name, loaded) in running.components() {
        if let Err(message) = check_one(loader, loaded, &running.system.limits).await {
            problems.push(LoadProblem::Unhealthy { component: name.clone(), message });
        }
    }
    LoadError::unless_empty(problems)
}

async fn check_one(loader: &Loader, loaded: &Loaded, limits: &Limits) -> Result<(), String> {
    let limits = Limits { deadline: limits.deadline.min(PATIENCE), ..limits.clone() };
    let account = loader.engine.open_account(limits);
    let context = CallContext::new("host", "local");
    let in_words = |error: CallError| error.to_string();
    if loaded.serves("witan:component/health") {
        loaded.service.check(&Caller::host(&context, &account)).await.map_err(in_words)?
    } else {
        loaded.service.call_plain(&context, &account, Start).await.map_err(in_words)
    }
}
