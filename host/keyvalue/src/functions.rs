//! The functions of the interfaces, each behind the guard.

use std::sync::Arc;

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use witan_capability::{Action, Call, CallState, Denial, HostFunction, Limit, Meter, Resource as Of};

use crate::store::{Namespace, Store, StoreError};

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit/deps/keyvalue",
        world: "wasi:keyvalue/imports",
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

pub(crate) use bindings::wasi::keyvalue::store::{Error, KeyResponse};

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";

const OPEN: HostFunction = HostFunction::new(STORE, "open");
const GET: HostFunction = HostFunction::new(STORE, "[method]bucket.get");
const SET: HostFunction = HostFunction::new(STORE, "[method]bucket.set");
const DELETE: HostFunction = HostFunction::new(STORE, "[method]bucket.delete");
const EXISTS: HostFunction = HostFunction::new(STORE, "[method]bucket.exists");
const LIST_KEYS: HostFunction = HostFunction::new(STORE, "[method]bucket.list-keys");
const INCREMENT: HostFunction = HostFunction::new(ATOMICS, "increment");
const GET_MANY: HostFunction = HostFunction::new(BATCH, "get-many");
const SET_MANY: HostFunction = HostFunction::new(BATCH, "set-many");
const DELETE_MANY: HostFunction = HostFunction::new(BATCH, "delete-many");

/// Everything that is linked.
pub(crate) const ALL: &[HostFunction] =
    &[OPEN, GET, SET, DELETE, EXISTS, LIST_KEYS, INCREMENT, GET_MANY, SET_MANY, DELETE_MANY];

/// Bytes of a key. Longer ones are contents, which belong into the value.
const KEY: usize = 1024;

/// Keys of one batch.
const BATCH_KEYS: usize = 1000;

/// The one bucket that a component has, open.
pub struct Bucket;

type Answer<T> = Result<T, Error>;

/// Links `function`, whose first parameter is an open bucket, to what `$body` makes of the others.
macro_rules! on_bucket {
    ($instance:ident, $store:ident, $function:ident($($name:ident: $type:ty),*), |$work:ident| $body:expr) => {
        let store = $store.clone();
        $instance.func_wrap_async(
            $function.name,
            move |state: StoreContextMut<'_, CallState>, (bucket, $($name,)*): (Resource<Bucket>, $($type,)*)| {
                let $work = Work { function: $function, store: store.clone(), call: state.data().call().clone() };
                let open = state.data().table.get(&bucket).map(|_| ());
                Box::new(async move {
                    open?;
                    Ok(($body.await?,))
                })
            },
        )?;
    };
}

/// Links the functions to `store`.
pub(crate) fn link(linker: &mut Linker<CallState>, store: &Arc<Store>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(STORE)?;
    instance.resource("bucket", ResourceType::host::<Bucket>(), |mut state, bucket| {
        state.data_mut().table.delete(Resource::<Bucket>::new_own(bucket))?;
        Ok(())
    })?;
    instance.func_wrap(OPEN.name, |mut state: StoreContextMut<'_, CallState>, (name,): (String,)| {
        Ok((open(state.data_mut(), &name)?,))
    })?;
    on_bucket!(instance, store, GET(key: String), |work| work.get(&key));
    on_bucket!(instance, store, SET(key: String, value: Vec<u8>), |work| work.set(vec![(key, value)]));
    on_bucket!(instance, store, DELETE(key: String), |work| work.delete(vec![key]));
    on_bucket!(instance, store, EXISTS(key: String), |work| work.exists(&key));
    on_bucket!(instance, store, LIST_KEYS(cursor: Option<u64>), |work| work.keys(cursor));
    let mut instance = linker.instance(ATOMICS)?;
    on_bucket!(instance, store, INCREMENT(key: String, delta: u64), |work| work.increment(&key, delta));
    let mut instance = linker.instance(BATCH)?;
    on_bucket!(instance, store, GET_MANY(keys: Vec<String>), |work| work.get_many(keys));
    on_bucket!(instance, store, SET_MANY(entries: Vec<(String, Vec<u8>)>), |work| work.set(entries));
    on_bucket!(instance, store, DELETE_MANY(keys: Vec<String>), |work| work.delete(keys));
    Ok(())
}

/// Opens the bucket. A component has one, called `default` or nothing at all.
pub(crate) fn open(state: &mut CallState, name: &str) -> wasmtime::Result<Answer<Resource<Bucket>>> {
    if let Err(denial) = state.call().enter(OPEN, Action::Handle, &Of::Key(name)) {
        return Ok(Err(refused(&denial)));
    }
    match name {
        "" | "default" => Ok(Ok(state.table.push(Bucket)?)),
        _ => Ok(Err(Error::NoSuchStore)),
    }
}

/// A function at work.
pub(crate) struct Work {
    pub(crate) function: HostFunction,
    pub(crate) store: Arc<Store>,
    pub(crate) call: Call,
}

impl Work {
    /// Enters the guard for `key`, and says whose keys they are.
    fn enter(&self, action: Action, key: &str) -> Answer<Namespace> {
        if key.len() > KEY {
            return Err(Error::Other(format!("a key has at most {KEY} bytes")));
        }
        let _permit = self.call.enter(self.function, action, &Of::Key(key)).map_err(|denial| refused(&denial))?;
        let Call { context, component, .. } = &self.call;
        Ok(Namespace {
            tenant: context.tenant().to_owned(),
            component: component.name.to_string(),
            local_only: context.local_only(),
            max_bytes: component.grants.keyvalue.as_ref().map_or(0, |grant| grant.max_bytes),
        })
    }

    fn enter_all<'a>(&self, action: Action, keys: impl ExactSizeIterator<Item = &'a String>) -> Answer<Namespace> {
        if keys.len() > BATCH_KEYS {
            return Err(Error::Other(format!("a batch has at most {BATCH_KEYS} keys")));
        }
        let mut namespace = None;
        for key in keys {
            namespace = Some(self.enter(action, key)?);
        }
        namespace.map_or_else(|| self.enter(action, ""), Ok)
    }

    pub(crate) async fn get(&self, key: &str) -> wasmtime::Result<Answer<Option<Vec<u8>>>> {
        Ok(match self.enter(Action::KeyvalueRead, key) {
            Ok(of) => self.store.get(&of, key).await.map_err(|error| self.failed(error)),
            Err(error) => Err(error),
        })
    }

    pub(crate) async fn exists(&self, key: &str) -> wasmtime::Result<Answer<bool>> {
        Ok(self.get(key).await?.map(|value| value.is_some()))
    }

    pub(crate) async fn get_many(&self, keys: Vec<String>) -> wasmtime::Result<Answer<Vec<Option<(String, Vec<u8>)>>>> {
        if let Err(error) = self.enter_all(Action::KeyvalueRead, keys.iter()) {
            return Ok(Err(error));
        }
        let (mut entries, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            match self.get(&key).await? {
                Ok(value) => entries.push(value.map(|value| (key, value))),
                Err(error) => return Ok(Err(error)),
            }
            // What is gathered for the guest lies in our memory meanwhile.
            bytes += entries.last().and_then(Option::as_ref).map_or(0, |(key, value)| key.len() + value.len());
            if bytes as u64 > self.call.account.limits().call_bytes {
                return Err(self.call.account.exceed(Limit::CallBytes).into());
            }
        }
        Ok(Ok(entries))
    }

    pub(crate) async fn set(&self, entries: Vec<(String, Vec<u8>)>) -> wasmtime::Result<Answer<()>> {
        let of = match self.enter_all(Action::KeyvalueWrite, entries.iter().map(|(key, _)| key)) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.call.account.charge(Meter::DiskBytes, bytes as u64)?;
        Ok(self.store.set(&of, &entries).await.map_err(|error| self.failed(error)))
    }

    pub(crate) async fn delete(&self, keys: Vec<String>) -> wasmtime::Result<Answer<()>> {
        Ok(match self.enter_all(Action::KeyvalueWrite, keys.iter()) {
            Ok(of) => self.store.delete(&of, &keys).await.map_err(|error| self.failed(error)),
            Err(error) => Err(error),
        })
    }

    pub(crate) async fn increment(&self, key: &str, delta: u64) -> wasmtime::Result<Answer<u64>> {
        let of = match self.enter(Action::KeyvalueRead, key).and_then(|_| self.enter(Action::KeyvalueWrite, key)) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        self.call.account.charge(Meter::DiskBytes, (key.len() + size_of::<u64>()) as u64)?;
        Ok(self.store.increment(&of, key, delta).await.map_err(|error| self.failed(error)))
    }

    pub(crate) async fn keys(&self, cursor: Option<u64>) -> wasmtime::Result<Answer<KeyResponse>> {
        Ok(match self.enter(Action::KeyvalueRead, "") {
            Ok(of) => match self.store.keys(&of, cursor.unwrap_or(0)).await {
                Ok((keys, cursor)) => Ok(KeyResponse { keys, cursor }),
                Err(error) => Err(self.failed(error)),
            },
            Err(error) => Err(error),
        })
    }

    /// The interface's error. What went wrong with the file is for the log, and none of the guest's business.
    fn failed(&self, error: StoreError) -> Error {
        match error {
            StoreError::Labelled => {
                tracing::info!(component = %self.call.component.name, trace = %self.call.context.trace(),
                    function = %self.function, "refused: {error}");
                Error::AccessDenied
            }
            StoreError::File(ref source) => {
                tracing::error!(component = %self.call.component.name, error = source as &dyn std::error::Error,
                    "the key-value file cannot be used");
                Error::Other(error.to_string())
            }
            StoreError::Full(_) | StoreError::NotANumber | StoreError::Overflow => Error::Other(error.to_string()),
        }
    }
}

/// The interface's error has no room for the decision: it is in the log.
fn refused(denial: &Denial) -> Error {
    tracing::info!(decision = %denial.decision, "refused: {}", denial.reason);
    Error::AccessDenied
}
