//! How the end of a call becomes the answer that a component gets.
//!
//! Our errors have a case for a call that the host did not complete, so that a caller can act on a callee that
//! trapped. A call tree that has ended gets no answer: its caller's store ends with it.

use witan_capability::CallError;

use crate::{
    Run,
    component::{Denial, Failure},
    run::Verdict,
};

/// The answer of a function whose error can say that the call did not complete.
pub(crate) fn value<T, E: From<Failure>>(result: Result<Result<T, E>, CallError>) -> wasmtime::Result<Result<T, E>> {
    match result {
        Ok(answer) => Ok(answer),
        Err(error) => Ok(Err(failure(error)?.into())),
    }
}

/// The answer of a function that has no way to say so.
pub(crate) fn plain<T>(result: Result<T, CallError>) -> wasmtime::Result<T> {
    Ok(result?)
}

/// The answer of a function that streams. One that did not begin is one that ended at once.
pub(crate) fn run<T, S, E>(result: Result<Run<T, S, E>, CallError>) -> wasmtime::Result<Run<T, S, E>> {
    match result {
        Err(error @ (CallError::Limit(_) | CallError::Cancelled)) => Err(error.into()),
        Err(error) => Ok(Run::failed(error)),
        Ok(run) => Ok(run),
    }
}

/// The answer that ends a stream.
pub(crate) async fn verdict<S, E: From<Failure>>(verdict: Verdict<S, E>) -> wasmtime::Result<Result<S, E>> {
    value(verdict.await)
}

fn failure(error: CallError) -> Result<Failure, CallError> {
    match error {
        CallError::Denied(denial) => {
            Ok(Failure::Denied(Denial { decision: denial.decision.to_string(), reason: denial.reason }))
        }
        error @ CallError::Unavailable { .. } => Ok(Failure::Unavailable(error.to_string())),
        error @ (CallError::Trapped { .. } | CallError::Invalid(_) | CallError::Internal(_)) => {
            Ok(Failure::Trapped(error.to_string()))
        }
        error @ (CallError::Limit(_) | CallError::Cancelled) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use witan_capability::{Limit, LimitExceeded};

    use super::*;
    use crate::documents;

    fn answered(error: CallError) -> wasmtime::Result<Result<(), documents::Error>> {
        value(Err(error))
    }

    #[test]
    fn what_a_caller_can_act_on_is_a_value() {
        let trapped = CallError::Trapped { component: "c".into(), message: "m".into() };
        let answer = answered(trapped).unwrap().unwrap_err();
        assert_eq!(answer, documents::Error::CallFailed(Failure::Trapped("`c` trapped: m".into())));
        let full = CallError::Unavailable { component: "c".into(), reason: "r".into() };
        assert!(matches!(answered(full).unwrap(), Err(documents::Error::CallFailed(Failure::Unavailable(_)))));
    }

    #[test]
    fn the_end_of_the_tree_ends_the_caller_and_keeps_its_reason() {
        for error in [CallError::Cancelled, LimitExceeded { limit: Limit::Cpu, allowed: 1, component: None }.into()] {
            let ended = answered(error.clone()).unwrap_err();
            assert_eq!(CallError::from_engine("caller", &ended), error);
        }
    }
}
