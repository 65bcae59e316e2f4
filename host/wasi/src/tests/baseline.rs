use wasmtime_wasi::p2::bindings::{
    cli::{environment, exit, stdout},
    clocks::wall_clock,
    filesystem::preopens,
    random::random,
};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_io::bindings::wasi::io::streams::HostOutputStream;
use witan_capability::{Action, CallContext, CallError, Limits, Meter};
use witan_system::Grants;

use super::Guest;
use crate::Process;

#[test]
fn without_grants_there_is_nothing_to_find() {
    let mut guest = Guest::new(Grants::default());
    assert!(preopens::Host::get_directories(&mut guest.view()).unwrap().is_empty());
    assert!(environment::Host::get_environment(&mut guest.view()).unwrap().is_empty());
    assert!(environment::Host::get_arguments(&mut guest.view()).unwrap().is_empty());
    assert_eq!(random::Host::get_random_bytes(&mut guest.view(), 9).unwrap().len(), 9);
    assert!(guest.asked().is_empty(), "the baseline is not a matter of policy");
}

#[test]
fn a_guest_does_not_have_the_host_fill_memory_with_randomness() {
    let mut guest = Guest::new(Grants::default());
    assert!(random::Host::get_random_bytes(&mut guest.view(), u64::MAX).is_err());
}

#[test]
fn only_granted_variables_that_policy_lets_pass_are_seen() {
    let environment = [("LANG", "C"), ("TOKEN", "secret")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let grants = Grants { environment: environment.into(), ..Grants::default() };
    let mut guest =
        Guest::with(grants, CallContext::local(), Limits::default(), |request| request.resource.to_string() == "LANG");
    let seen = environment::Host::get_environment(&mut guest.view()).unwrap();
    assert_eq!(seen, [("LANG".to_owned(), "C".to_owned())]);
    assert_eq!(guest.asked().len(), 2);
}

#[test]
fn the_wall_clock_is_a_matter_of_policy_and_its_refusal_ends_the_store() {
    let grants = Grants { wall_clock: true, ..Grants::default() };
    let mut guest = Guest::new(grants.clone());
    assert!(wall_clock::Host::now(&mut guest.view()).unwrap().seconds > 0);
    assert_eq!(guest.asked(), [(Action::WallClock, "-".to_owned())]);
    let mut guest = Guest::with(grants, CallContext::local(), Limits::default(), |_| false);
    let error = wall_clock::Host::now(&mut guest.view()).unwrap_err();
    assert!(matches!(CallError::from_engine("guest", &error), CallError::Denied(_)));
}

#[tokio::test]
async fn a_call_may_be_given_a_process() {
    let mut guest = Guest::new(Grants::default());
    let output = MemoryOutputPipe::new(100);
    let process = Process {
        arguments: vec!["guest".into(), "--help".into()],
        stdout: Box::new(output.clone()),
        ..Process::logged(guest.state.call())
    };
    let exited = process.exited.clone();
    process.provide(&mut guest.state);
    assert_eq!(environment::Host::get_arguments(&mut guest.view()).unwrap(), ["guest", "--help"]);
    let stream = stdout::Host::get_stdout(&mut guest.view()).unwrap();
    guest.view().blocking_write_and_flush(stream, b"hello".to_vec()).await.unwrap();
    assert_eq!(output.contents(), "hello");
    assert!(exit::Host::exit_with_code(&mut guest.view(), 3).is_err());
    assert_eq!(exited.get(), Some(&3));
}

#[tokio::test]
async fn output_is_charged_and_a_flood_ends_the_call() {
    let limits = Limits { log_bytes: 110, ..Limits::default() };
    let mut guest = Guest::with(Grants::default(), CallContext::local(), limits, |_| true);
    let stream = stdout::Host::get_stdout(&mut guest.view()).unwrap();
    let number = stream.rep();
    let write = async |guest: &mut Guest, bytes: &[u8]| {
        let stream = wasmtime::component::Resource::new_borrow(number);
        guest.view().blocking_write_and_flush(stream, bytes.to_vec()).await
    };
    write(&mut guest, b"12345\n").await.unwrap();
    assert_eq!(guest.state.call().account.used(Meter::LogBytes), 106);
    let error = write(&mut guest, b"12345").await.unwrap_err();
    assert!(matches!(error, wasmtime_wasi_io::streams::StreamError::Trap(_)));
    assert!(matches!(guest.state.call().account.ended(), Some(CallError::Limit(_))));
}
