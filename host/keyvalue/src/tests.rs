//! The store as a component sees it: what stays, who sees it, how much there may be, and what is refused.

use witan_capability::{
    Account, Action, Call, CallContext, CallError, Component, Decision, DecisionId, Denial, Kernel, Limits, Policy,
    Privacy, Request,
};
use witan_system::KeyvalueGrant;

use super::*;
use crate::functions::{ALL, Error, Work, open};

struct Deny(Option<Action>);

impl Policy for Deny {
    fn decide(&self, request: &Request<'_>) -> Decision {
        if self.0 == Some(request.action) {
            Decision::Deny(Denial { decision: DecisionId(uuid::Uuid::nil()), reason: "no".into() })
        } else {
            Decision::Allow
        }
    }
}

struct Host {
    store: Arc<Store>,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::new(Store::new(folder.path().join("keyvalue.sqlite"))), folder }
    }

    fn guest(&self, component: &str, context: CallContext, deny: Option<Action>) -> Work {
        let grants = Grants { keyvalue: Some(KeyvalueGrant { max_bytes: 100 }), ..Grants::default() };
        let call = Call {
            context,
            account: Account::open(Limits::default()),
            component: Arc::new(Component { name: component.into(), digest: [0; 32], grants: Arc::new(grants) }),
            kernel: Kernel::new(Arc::new(Deny(deny))),
        };
        Work { function: ALL[0], store: self.store.clone(), call }
    }

    fn local(&self, component: &str) -> Work {
        self.guest(component, CallContext::local(), None)
    }

    fn local_only(&self, component: &str) -> Work {
        self.guest(component, CallContext::local().narrow_privacy(Privacy::LocalOnly), None)
    }
}

async fn set(work: &Work, key: &str, value: &str) -> Result<(), Error> {
    work.set(vec![(key.to_owned(), value.as_bytes().to_vec())]).await.unwrap()
}

async fn get(work: &Work, key: &str) -> Result<Option<String>, Error> {
    Ok(work.get(key).await.unwrap()?.map(|value| String::from_utf8(value).unwrap()))
}

#[tokio::test]
async fn what_was_set_is_there_until_it_is_deleted_also_for_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let host = || Host {
        store: Arc::new(Store::new(folder.path().join("keyvalue.sqlite"))),
        folder: tempfile::tempdir().unwrap(),
    };
    set(&host().local("a"), "k", "v").await.unwrap();
    let later = host();
    let work = later.local("a");
    assert_eq!(get(&work, "k").await.unwrap().as_deref(), Some("v"));
    assert!(work.exists("k").await.unwrap().unwrap());
    work.delete(vec!["k".into(), "absent".into()]).await.unwrap().unwrap();
    assert_eq!(get(&work, "k").await.unwrap(), None);
}

#[tokio::test]
async fn nobody_else_on_the_machine_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::new();
    set(&host.local("a"), "k", "v").await.unwrap();
    for file in std::fs::read_dir(host.folder.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
}

#[tokio::test]
async fn components_and_tenants_do_not_see_one_another() {
    let host = Host::new();
    set(&host.local("a"), "k", "a's").await.unwrap();
    assert_eq!(get(&host.local("b"), "k").await.unwrap(), None);
    let other = host.guest("a", CallContext::new("alice", "acme"), None);
    assert_eq!(get(&other, "k").await.unwrap(), None);
    assert!(other.keys(None).await.unwrap().unwrap().keys.is_empty());
    assert_eq!(get(&host.local("a"), "k").await.unwrap().as_deref(), Some("a's"));
}

#[tokio::test]
async fn the_size_is_held_also_by_a_batch_and_what_is_deleted_is_free_again() {
    let host = Host::new();
    let work = host.local("a");
    set(&work, "k", &"x".repeat(90)).await.unwrap();
    assert!(matches!(set(&work, "l", &"x".repeat(9)).await, Err(Error::Other(why)) if why.contains("max-bytes")));
    let batch = vec![("l".to_owned(), vec![0; 4]), ("m".to_owned(), vec![0; 4])];
    assert!(work.set(batch).await.unwrap().is_err());
    assert_eq!(get(&work, "l").await.unwrap(), None, "a batch is set as a whole or not at all");
    set(&work, "k", "short").await.unwrap();
    set(&work, "l", &"x".repeat(90)).await.unwrap();
    work.delete(vec!["l".into()]).await.unwrap().unwrap();
    set(&work, "m", &"x".repeat(90)).await.unwrap();
    assert!(work.call.account.ended().is_none());
}

#[tokio::test]
async fn many_writers_at_once_do_not_exceed_the_size() {
    let host = Host::new();
    let writes = (0..20).map(|number| {
        let work = host.local("a");
        tokio::spawn(async move { set(&work, &format!("{number:02}"), &"x".repeat(18)).await.is_ok() })
    });
    let mut kept = 0;
    for write in writes.collect::<Vec<_>>() {
        kept += u32::from(write.await.unwrap());
    }
    assert_eq!(kept, 5);
}

#[tokio::test]
async fn what_a_local_only_call_wrote_stays_with_local_only_calls() {
    let host = Host::new();
    let (narrow, wide) = (host.local_only("a"), host.local("a"));
    set(&narrow, "secret", "s").await.unwrap();
    set(&wide, "public", "p").await.unwrap();
    assert!(matches!(get(&wide, "secret").await, Err(Error::AccessDenied)));
    assert!(matches!(wide.exists("secret").await.unwrap(), Err(Error::AccessDenied)));
    assert!(matches!(wide.get_many(vec!["public".into(), "secret".into()]).await.unwrap(), Err(Error::AccessDenied)));
    assert_eq!(wide.keys(None).await.unwrap().unwrap().keys, ["public"]);
    assert_eq!(narrow.keys(None).await.unwrap().unwrap().keys.len(), 2);
    assert_eq!(get(&narrow, "secret").await.unwrap().as_deref(), Some("s"));
    assert_eq!(get(&narrow, "public").await.unwrap().as_deref(), Some("p"));
    narrow.increment("count", 1).await.unwrap().unwrap();
    assert!(matches!(wide.increment("count", 1).await.unwrap(), Err(Error::AccessDenied)));
}

#[tokio::test]
async fn a_number_is_added_to_by_many_at_once() {
    let host = Host::new();
    let additions: Vec<_> = (0..20)
        .map(|_| {
            let work = host.local("a");
            tokio::spawn(async move { work.increment("n", 2).await.unwrap().unwrap() })
        })
        .collect();
    for addition in additions {
        addition.await.unwrap();
    }
    let work = host.local("a");
    assert_eq!(work.increment("n", 2).await.unwrap().unwrap(), 42);
    assert!(work.increment("n", u64::MAX).await.unwrap().is_err());
    set(&work, "text", "text").await.unwrap();
    assert!(work.increment("text", 1).await.unwrap().is_err());
}

#[tokio::test]
async fn refusals_are_access_denied_and_bounds_hold() {
    let host = Host::new();
    let reader = host.guest("a", CallContext::local(), Some(Action::KeyvalueWrite));
    assert!(matches!(set(&reader, "k", "v").await, Err(Error::AccessDenied)));
    assert!(matches!(reader.increment("k", 1).await.unwrap(), Err(Error::AccessDenied)));
    let writer = host.guest("a", CallContext::local(), Some(Action::KeyvalueRead));
    assert!(matches!(get(&writer, "k").await, Err(Error::AccessDenied)));
    assert!(matches!(writer.keys(None).await.unwrap(), Err(Error::AccessDenied)));
    let work = host.local("a");
    assert!(set(&work, &"k".repeat(2000), "v").await.is_err());
    assert!(work.delete(vec![String::new(); 2000]).await.unwrap().is_err());
}

#[tokio::test]
async fn a_flood_of_writes_ends_the_call() {
    let host = Host::new();
    let mut work = host.local("a");
    work.call.account = Account::open(Limits { disk_bytes: 10, ..Limits::default() });
    let error = work.set(vec![("key".to_owned(), vec![0; 10])]).await.unwrap_err();
    assert!(matches!(CallError::from_engine("a", &error), CallError::Limit(_)));
}

#[tokio::test]
async fn keys_come_in_pages() {
    let host = Host::new();
    let mut work = host.local("a");
    let grants = Grants { keyvalue: Some(KeyvalueGrant { max_bytes: 1 << 20 }), ..Grants::default() };
    work.call.component = Arc::new(Component { name: "a".into(), digest: [0; 32], grants: Arc::new(grants) });
    for half in 0..2 {
        let batch = (0..600).map(|number| (format!("{half}-{number}"), vec![]));
        work.set(batch.collect()).await.unwrap().unwrap();
    }
    let first = work.keys(None).await.unwrap().unwrap();
    assert_eq!(first.keys.len(), 1000);
    let second = work.keys(first.cursor).await.unwrap().unwrap();
    assert_eq!((second.keys.len(), second.cursor), (200, None));
}

#[test]
fn there_is_one_bucket() {
    let host = Host::new();
    let mut state = CallState::new(host.local("a").call);
    assert!(open(&mut state, "default").unwrap().is_ok());
    assert!(open(&mut state, "").unwrap().is_ok());
    assert!(matches!(open(&mut state, "other").unwrap(), Err(Error::NoSuchStore)));
}

#[test]
fn what_is_linked_is_what_enters_the_guard_and_fits_the_wit() {
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/deps/keyvalue")).unwrap();
    let interfaces = resolve.interfaces.iter().filter(|(_, interface)| interface.name.as_deref() != Some("watcher"));
    let linked: std::collections::BTreeSet<_> = interfaces
        .flat_map(|(id, interface)| {
            let id = resolve.id_of(id).unwrap();
            interface.functions.keys().map(move |name| (id.clone(), name.clone()))
        })
        .collect();
    let table: std::collections::BTreeSet<_> =
        ALL.iter().map(|function| (function.interface.to_owned(), function.name.to_owned())).collect();
    assert_eq!(linked, table);

    let engine = wasmtime::Engine::default();
    let wat = wat::parse_str(
        r#"(component
            (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
                (export "bucket" (type $bucket (sub resource)))
                (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                (export "error" (type $error (eq $e)))
                (type $k (record (field "keys" (list string)) (field "cursor" (option u64))))
                (export "key-response" (type $keys (eq $k)))
                (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
                (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result (option (list u8)) (error $error)))))
                (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
                    (param "value" (list u8)) (result (result (error $error)))))
                (export "[method]bucket.delete" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result (error $error)))))
                (export "[method]bucket.exists" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result bool (error $error)))))
                (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket)) (param "cursor" (option u64))
                    (result (result $keys (error $error)))))))
            (alias export $store "bucket" (type $bucket))
            (alias export $store "error" (type $error))
            (import "wasi:keyvalue/atomics@0.2.0-draft" (instance
                (alias outer 1 $bucket (type $b))
                (export "bucket" (type $bucket' (eq $b)))
                (alias outer 1 $error (type $e))
                (export "error" (type $error' (eq $e)))
                (export "increment" (func (param "bucket" (borrow $bucket')) (param "key" string) (param "delta" u64)
                    (result (result u64 (error $error')))))))
            (import "wasi:keyvalue/batch@0.2.0-draft" (instance
                (alias outer 1 $bucket (type $b))
                (export "bucket" (type $bucket' (eq $b)))
                (alias outer 1 $error (type $e))
                (export "error" (type $error' (eq $e)))
                (export "get-many" (func (param "bucket" (borrow $bucket')) (param "keys" (list string))
                    (result (result (list (option (tuple string (list u8)))) (error $error')))))
                (export "set-many" (func (param "bucket" (borrow $bucket'))
                    (param "key-values" (list (tuple string (list u8)))) (result (result (error $error')))))
                (export "delete-many" (func (param "bucket" (borrow $bucket')) (param "keys" (list string))
                    (result (result (error $error'))))))))"#,
    );
    let component = wasmtime::component::Component::new(&engine, wat.unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    Keyvalue::new("unused".into()).add_to_linker(&mut linker).unwrap();
    linker.instantiate_pre(&component).unwrap();
}

#[test]
fn without_a_grant_it_is_not_linked() {
    let keyvalue = Keyvalue::new("unused".into());
    assert!(!keyvalue.granted(&Grants::default()) && keyvalue.serves("wasi:keyvalue/store@0.2.0-draft"));
}
