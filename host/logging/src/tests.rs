//! Lines as a component writes them: where they go, how they are bounded, and what a flood or a refusal comes to.

use std::io::Write;

use tracing_subscriber::fmt::MakeWriter;
use witan_capability::{
    Account, CallContext, CallError, Component, Decision, DecisionId, Denial, Kernel, Limits, Policy, Request,
};

use witan_system::LoggingGrant;

use super::*;

struct Always(bool);

impl Policy for Always {
    fn decide(&self, _: &Request<'_>) -> Decision {
        if self.0 {
            Decision::Allow
        } else {
            Decision::Deny(Denial { decision: DecisionId(uuid::Uuid::nil()), reason: "no".into() })
        }
    }
}

fn call(allowed: bool, limits: Limits) -> Call {
    let grants = Grants { logging: Some(LoggingGrant::default()), ..Grants::default() };
    Call {
        context: CallContext::local(),
        account: Account::open(limits),
        component: Arc::new(Component { name: "guest".into(), digest: [0; 32], grants: Arc::new(grants) }),
        kernel: Kernel::new(Arc::new(Always(allowed))),
    }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(work: impl FnOnce()) -> String {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
}

fn info(message: &str) -> (Level, String, String) {
    (Level::Info, "test".to_owned(), message.to_owned())
}

#[test]
fn a_line_is_logged_under_its_component_and_charged() {
    let call = call(true, Limits::default());
    let text = logged(|| log(&Buckets::default(), &call, Instant::now(), &info("hello")).unwrap());
    assert!(text.contains("witan::guest") && text.contains("component=guest") && text.contains("hello"), "{text}");
    assert_eq!(call.account.used(Meter::LogBytes), 109);
}

#[test]
fn a_line_stays_one_line_and_is_bounded() {
    assert_eq!(line("a\nb\u{1b}[2J\u{85}", 100), "a\\nb\\u{1b}[2J\\u{85}");
    assert_eq!(line(&"ä".repeat(100), 11), format!("{} … (190 bytes cut)", "ä".repeat(5)));
}

#[test]
fn a_flood_is_dropped_and_counted() {
    let (call, buckets, now) = (call(true, Limits::default()), Buckets::default(), Instant::now());
    let text = logged(|| {
        for _ in 0..150 {
            log(&buckets, &call, now, &info("flood")).unwrap();
        }
        log(&buckets, &call, now + std::time::Duration::from_secs(2), &info("after")).unwrap();
    });
    assert_eq!(text.matches("flood").count(), 100);
    assert!(text.contains("50 lines were dropped"), "{text}");
}

#[test]
fn more_bytes_than_the_limit_end_the_call() {
    let call = call(true, Limits { log_bytes: 110, ..Limits::default() });
    let error = log(&Buckets::default(), &call, Instant::now(), &info("0123456789")).unwrap_err();
    assert!(matches!(CallError::from_engine("guest", &error), CallError::Limit(_)));
}

#[test]
fn a_refusal_ends_the_store_since_the_interface_has_no_error() {
    let error = log(&Buckets::default(), &call(false, Limits::default()), Instant::now(), &info("x")).unwrap_err();
    assert!(matches!(CallError::from_engine("guest", &error), CallError::Denied(_)));
}

#[test]
fn without_a_grant_it_is_not_linked() {
    assert!(!Logging::default().granted(&Grants::default()) && Logging::default().serves(LOGGING));
}

#[test]
fn what_is_linked_is_what_enters_the_guard_and_fits_the_wit() {
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/deps/logging")).unwrap();
    let (id, interface) = resolve.interfaces.iter().next().unwrap();
    let linked: Vec<_> = interface.functions.keys().map(|name| (resolve.id_of(id).unwrap(), name.clone())).collect();
    assert_eq!(linked, [(LOG.interface.to_owned(), LOG.name.to_owned())]);

    let engine = wasmtime::Engine::default();
    let wat = wat::parse_str(
        r#"(component (import "wasi:logging/logging@0.1.0-draft" (instance
            (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
            (export "level" (type $level (eq $l)))
            (export "log" (func (param "level" $level) (param "context" string) (param "message" string))))))"#,
    );
    let component = wasmtime::component::Component::new(&engine, wat.unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    Logging::default().add_to_linker(&mut linker).unwrap();
    linker.instantiate_pre(&component).unwrap();
}
