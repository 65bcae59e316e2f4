//! What guests see of one another.

use std::time::Duration;

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    sample::{select, subsequence},
    strategy::Just,
    test_runner::{Config, TestRunner},
};
use wasmtime::component::Val;
use witan_capability::{CallError, Limit, Limits, Meter};

use crate::host::{self, Host};

fn string(text: impl Into<String>) -> Val {
    Val::String(text.into())
}

fn record<const N: usize>(fields: [(&str, Val); N]) -> Val {
    Val::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn numbers() -> impl Strategy<Value = Val> {
    (any::<(u8, i8, u16, i16, u32, i32)>(), any::<(u64, i64, f32, f64)>()).prop_map(
        |((a, b, c, d, e, f), (g, h, i, j))| {
            record([
                ("a", Val::U8(a)),
                ("b", Val::S8(b)),
                ("c", Val::U16(c)),
                ("d", Val::S16(d)),
                ("e", Val::U32(e)),
                ("f", Val::S32(f)),
                ("g", Val::U64(g)),
                ("h", Val::S64(h)),
                ("i", Val::Float32(i)),
                ("j", Val::Float64(j)),
            ])
        },
    )
}

fn color() -> impl Strategy<Value = Val> {
    select(vec!["red", "green", "blue"]).prop_map(|name| Val::Enum(name.to_owned()))
}

fn shape() -> impl Strategy<Value = Val> {
    let case = |name: &str, value: Option<Val>| Val::Variant(name.to_owned(), value.map(Box::new));
    proptest::prop_oneof![
        Just(case("nothing", None)),
        any::<f64>().prop_map(move |radius| case("circle", Some(Val::Float64(radius)))),
        any::<String>().prop_map(move |name| case("named", Some(string(name)))),
        vec(any::<(f32, f32)>(), 0..4).prop_map(move |corners| {
            let corner = |(x, y)| Val::Tuple(vec![Val::Float32(x), Val::Float32(y)]);
            case("corners", Some(Val::List(corners.into_iter().map(corner).collect())))
        }),
    ]
}

fn everything() -> impl Strategy<Value = Val> {
    let option = |value: Option<Val>| Val::Option(value.map(Box::new));
    let simple = (any::<bool>(), any::<char>(), any::<String>(), numbers());
    let named = (color(), subsequence(vec!["read", "write", "append", "search"], 0..=4), vec(shape(), 0..4));
    let cases = (
        any::<Option<Option<String>>>(),
        any::<Result<Vec<u8>, String>>(),
        any::<bool>(),
        (any::<String>(), vec(color(), 0..3)),
    );
    (simple, named, cases).prop_map(move |(simple, named, cases)| {
        let (yes, letter, text, numbers) = simple;
        let (color, access, shapes) = named;
        let (maybe, outcome, empty, (name, colors)) = cases;
        record([
            ("yes", Val::Bool(yes)),
            ("letter", Val::Char(letter)),
            ("text", string(text)),
            ("numbers", numbers),
            ("color", color),
            ("access", Val::Flags(access.into_iter().map(str::to_owned).collect())),
            ("shapes", Val::List(shapes)),
            ("maybe", option(maybe.map(|inner| option(inner.map(string))))),
            (
                "outcome",
                Val::Result(match outcome {
                    Ok(bytes) => Ok(Some(Box::new(Val::List(bytes.into_iter().map(Val::U8).collect())))),
                    Err(text) => Err(Some(Box::new(string(text)))),
                }),
            ),
            ("empty", Val::Result(if empty { Ok(None) } else { Err(None) })),
            ("pair", Val::Tuple(vec![string(name), Val::List(colors)])),
        ])
    })
}

#[test]
fn values_of_every_type_pass_unchanged() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = Host::guests();
    TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() })
        .run(&everything(), |value| {
            for function in ["echo", "echo-later"] {
                let echoed = runtime.block_on(host.call(function, std::slice::from_ref(&value)));
                assert_eq!(echoed.as_deref(), Ok(std::slice::from_ref(&value)));
            }
            Ok(())
        })
        .unwrap();
}

fn u32s(results: Result<Vec<Val>, CallError>) -> Vec<u32> {
    let values = match results.unwrap().remove(0) {
        Val::List(values) => values,
        value => vec![value],
    };
    values.into_iter().map(|value| if let Val::U32(n) = value { n } else { panic!("{value:?}") }).collect()
}

fn u64_of(results: Result<Vec<Val>, CallError>) -> u64 {
    let Val::U64(n) = results.unwrap().remove(0) else { panic!("not a u64") };
    n
}

#[tokio::test]
async fn resources_live_as_long_as_their_proxies() {
    // Before, with one, with two more of four, after these, after a merge, after its result.
    assert_eq!(u32s(Host::guests().call("lives", &[]).await), [0, 1, 3, 1, 1, 0]);
}

#[tokio::test]
async fn constructors_methods_borrows_and_statics_work() {
    assert_eq!(u32s(Host::guests().call("count", &[]).await), [3, 15, 1, 0, 18]);
}

#[tokio::test]
async fn calls_of_one_resource_run_together() {
    assert_eq!(u32s(Host::guests().call("count-together", &[]).await), [111]);
}

#[tokio::test]
async fn a_resource_of_one_interface_is_taken_by_another() {
    assert_eq!(u32s(Host::guests().call("read", &[]).await), [7, 7, 7, 0]);
}

#[tokio::test]
async fn each_store_of_a_caller_has_a_session_of_its_own() {
    let host = Host::guests();
    for _ in 0..3 {
        assert_eq!(u32s(host.call("remember", &[]).await), [1]);
    }
    host.callee.current().drained().await;
}

fn trapped(result: Result<Vec<Val>, CallError>) -> String {
    match result {
        Err(CallError::Trapped { component, .. }) => component,
        other => panic!("expected a trap, not {other:?}"),
    }
}

#[tokio::test]
async fn a_trap_ends_the_caller_and_names_the_callee() {
    let host = Host::guests();
    for function in ["fail", "fail-method", "broken"] {
        assert_eq!(trapped(host.call(function, &[]).await), "callee", "{function}");
    }
    assert_eq!(u32s(host.call("count", &[]).await), [3, 15, 1, 0, 18], "others are not affected");
}

#[tokio::test]
async fn streams_pass_both_ways() {
    let host = Host::guests();
    assert_eq!(u64_of(host.call("sum", &[Val::U32(1000)]).await), 499_500);
    assert_eq!(u64_of(host.call("total", &[Val::U32(200_000)]).await), 200_000);
    assert_eq!(u64_of(host.call("pass", &[Val::U32(200_000)]).await), 200_000);
    let lines = Val::List(["one", "", "zwölf"].map(string).to_vec());
    let upper = Val::List(["ONE", "", "ZWÖLF"].map(string).to_vec());
    assert_eq!(host.call("upper", &[lines]).await, Ok(vec![upper]));
}

#[tokio::test]
async fn futures_pass() {
    let answer = Val::Tuple(vec![Val::U32(6), Val::Bool(true)]);
    assert_eq!(Host::guests().call("later", &[Val::U32(6)]).await, Ok(vec![answer]));
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_writer() {
    let host = Host::guests();
    assert!(u32s(host.call("abandon", &[]).await)[0] > 0);
    host.callee.current().drained().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_cancels_the_callee() {
    let host = Host::guests();
    host.call("give-up", &[]).await.unwrap();
    host.callee.current().drained().await;
}

#[tokio::test]
async fn a_caller_that_is_dropped_takes_the_callee_with_it() {
    let host = Host::guests();
    let account = host::account();
    let call = host.call_in(&account, "hang", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    host.caller.current().drained().await;
    host.callee.current().drained().await;
}

fn limited(result: Result<Vec<Val>, CallError>) -> Limit {
    match result {
        Err(CallError::Limit(exceeded)) => exceeded.limit,
        other => panic!("expected a limit, not {other:?}"),
    }
}

#[tokio::test]
async fn a_deadline_ends_caller_and_callee() {
    let host = Host::guests();
    let limits = Limits { deadline: Duration::from_millis(100), ..Limits::default() };
    assert_eq!(limited(host.call_within(limits, "hang", &[]).await), Limit::Deadline);
    host.callee.current().drained().await;
}

#[tokio::test]
async fn values_on_their_way_are_charged_and_given_back() {
    let host = Host::guests();
    let account = host::account();
    assert_eq!(u32s(host.call_in(&account, "text", &[Val::U32(8 << 20)]).await), [8 << 20]);
    assert!(account.memory_peak() > 2 * (8 << 20), "in a guest and on the way");
    host.callee.current().drained().await;
    assert_eq!(account.used(Meter::Memory), 0);
}

#[tokio::test]
async fn a_value_that_is_too_large_for_a_call_ends_it() {
    let host = Host::guests();
    let limits = Limits { call_bytes: 1 << 20, ..Limits::default() };
    assert_eq!(u32s(host.call_within(limits.clone(), "text", &[Val::U32(1000)]).await), [1000]);
    host.call_within(limits, "text", &[Val::U32(2 << 20)]).await.unwrap_err();
}

#[tokio::test]
async fn depth_counts_over_links() {
    let host = Host::guests();
    for function in ["fail", "count"] {
        let limits = Limits { depth: 1, ..Limits::default() };
        assert_eq!(limited(host.call_within(limits, function, &[]).await), Limit::Depth);
    }
}

#[tokio::test]
async fn a_refused_call_ends_the_caller_with_the_denial() {
    for (refused, function) in [("text", "text"), ("[method]counter.add", "count"), ("[resource-drop]", "lives")] {
        let params = if function == "text" { vec![Val::U32(1)] } else { vec![] };
        let error = Host::refusing(Some(refused)).call(function, &params).await.unwrap_err();
        assert!(matches!(error, CallError::Denied(_)), "{error}");
    }
}
