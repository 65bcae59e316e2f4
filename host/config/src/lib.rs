//! wasi:config: the keys the operator granted.
//!
//! A key that was not granted and one that does not exist answer the same, so that a guest cannot probe for names.

use wasmtime::component::{HasSelf, Linker};
use witan_capability::{Action, CallState, Capability, Denial, HostFunction, Resource};
use witan_system::Grants;

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit/deps/config",
        world: "wasi:config/imports",
        imports: { default: trappable },
    });
}

use bindings::wasi::config::store::{self, Error};

const STORE: &str = "wasi:config/store@0.2.0-rc.1";
const GET: HostFunction = HostFunction::new(STORE, "get");
const GET_ALL: HostFunction = HostFunction::new(STORE, "get-all");

/// wasi:config/store.
pub struct Config;

impl Capability for Config {
    fn name(&self) -> &'static str {
        "config"
    }

    fn serves(&self, interface: &str) -> bool {
        interface == STORE
    }

    fn granted(&self, grants: &Grants) -> bool {
        !grants.config.is_empty()
    }

    fn remedy(&self) -> &'static str {
        "config = { key = \"value\" }"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        store::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
    }

    fn functions(&self) -> Vec<HostFunction> {
        vec![GET, GET_ALL]
    }
}

/// The value of `key`, if it was granted and policy lets it be read.
fn read(state: &CallState, function: HostFunction, key: &str) -> Result<Option<String>, Denial> {
    let call = state.call();
    let value = call.component.grants.config.get(key);
    match call.enter(function, Action::ConfigRead, &Resource::Key(key)) {
        Ok(_permit) => Ok(value.cloned()),
        // The decision log has it; the guest is told only of keys that it was granted.
        Err(_) if value.is_none() => Ok(None),
        Err(denial) => Err(denial),
    }
}

impl store::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(read(self, GET, &key).map_err(|denial| Error::Upstream(denial.to_string())))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let keys: Vec<String> = self.call().component.grants.config.keys().cloned().collect();
        let values = keys.into_iter().filter_map(|key| {
            let value = read(self, GET_ALL, &key).ok().flatten()?;
            Some((key, value))
        });
        Ok(Ok(values.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use witan_capability::{
        Account, Call, CallContext, Component, Decision, DecisionId, Kernel, Limits, Policy, Request,
    };

    use super::*;

    struct Only(&'static str);

    impl Policy for Only {
        fn decide(&self, request: &Request<'_>) -> Decision {
            assert_eq!(request.action, Action::ConfigRead);
            if request.resource == Resource::Key(self.0) {
                Decision::Allow
            } else {
                Decision::Deny(Denial { decision: DecisionId(uuid::Uuid::nil()), reason: "no".into() })
            }
        }
    }

    fn guest(allowed: &'static str) -> CallState {
        let config = [("url", "https://example.org"), ("model", "small")];
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let grants = Arc::new(Grants { config, ..Grants::default() });
        CallState::new(Call {
            context: CallContext::local(),
            account: Account::open(Limits::default()),
            component: Arc::new(Component { name: "guest".into(), digest: [0; 32], grants }),
            kernel: Kernel::new(Arc::new(Only(allowed))),
        })
    }

    fn get(state: &mut CallState, key: &str) -> Result<Option<String>, Error> {
        store::Host::get(state, key.to_owned()).unwrap()
    }

    #[test]
    fn a_granted_key_is_read() {
        let mut guest = guest("model");
        assert_eq!(get(&mut guest, "model").unwrap().as_deref(), Some("small"));
        assert_eq!(store::Host::get_all(&mut guest).unwrap().unwrap(), [("model".to_owned(), "small".to_owned())]);
    }

    #[test]
    fn a_refused_key_says_so_with_its_decision() {
        let error = get(&mut guest("model"), "url").unwrap_err();
        assert!(matches!(error, Error::Upstream(reason) if reason.contains("decision")));
    }

    #[test]
    fn a_key_that_was_not_granted_does_not_exist() {
        assert_eq!(get(&mut guest("model"), "password").unwrap(), None);
        assert_eq!(get(&mut guest("password"), "password").unwrap(), None);
    }

    #[test]
    fn without_a_grant_it_is_not_linked() {
        assert!(!Config.granted(&Grants::default()) && Config.serves(STORE));
        let mut linker = Linker::new(&wasmtime::Engine::default());
        Config.add_to_linker(&mut linker).unwrap();
    }

    #[test]
    fn what_is_linked_is_what_enters_the_guard() {
        let mut resolve = wit_parser::Resolve::default();
        resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/deps/config")).unwrap();
        let (id, interface) = resolve.interfaces.iter().next().unwrap();
        assert_eq!(resolve.interfaces.len(), 1);
        let linked: Vec<_> =
            interface.functions.keys().map(|name| (resolve.id_of(id).unwrap(), name.clone())).collect();
        let table = Config.functions();
        let table: Vec<_> = table.iter().map(|f| (f.interface.to_owned(), f.name.to_owned())).collect();
        assert_eq!(linked, table);
    }
}
