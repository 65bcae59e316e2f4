//! What goes through a link arrives.

use witan_capability::{CallContext, HostFunction, Meter};
use witan_forward::{
    Caller,
    component::Health as _,
    documents::{self, Extract as _},
    task::{Document, Error, Input, Request},
    tools::Tool as _,
};
use witan_system::Reuse;

use crate::host::{FACES, Noting, Pair, account, call, callee, code, notice, pairs, request};

#[tokio::test]
async fn events_and_outcome_come_through() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (events, outcome) = call(&pair.caller, &account(), request("pass/echo")).await;
        let expected = ["flag=true", "integer=-7", "number=0.5", "text=é", "texts=a,"].map(notice);
        assert_eq!(events, expected, "{faces:?}");
        let outcome = outcome.unwrap().unwrap();
        assert_eq!((outcome.text.as_str(), outcome.method.as_str()), ("a text", "callee"), "{faces:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_callee_comes_through() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (events, outcome) = call(&pair.caller, &account(), request("pass/refuse")).await;
        assert_eq!((events, outcome), (vec![], Ok(Err(Error::Invalid("a text".to_owned())))), "{faces:?}");
    }
}

fn documents(names: &[&str], data: &[u8]) -> Request {
    let document = |name: &&str| Document {
        name: (*name).to_owned(),
        media_type: Some("text/plain".to_owned()),
        data: data.to_owned(),
    };
    Request {
        intent: "extract".to_owned(),
        input: Input::Documents(names.iter().map(document).collect()),
        parameters: Vec::new(),
    }
}

#[tokio::test]
async fn bytes_that_need_many_chunks_come_through() {
    let data = "0123456789abcdef".repeat(20_000);
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (_, outcome) = call(&pair.caller, &account(), documents(&["one", "two"], data.as_bytes())).await;
        let expected = format!("one text/plain {data} 1 1two text/plain {data} 1 1");
        assert!(outcome.unwrap().unwrap().text == expected, "{faces:?}");
    }
}

#[tokio::test]
async fn a_callee_may_answer_before_it_has_read_everything() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (_, outcome) = call(&pair.caller, &account(), documents(&["early"], &[b'x'; 1 << 20])).await;
        let Ok(Err(Error::Invalid(message))) = outcome else { panic!("{faces:?}: {outcome:?}") };
        assert!(message.contains("Encrypted"), "{faces:?}: {message}");
    }
}

#[tokio::test]
async fn the_host_calls_without_a_guest() {
    for face in FACES {
        let (callee, account, context) = (callee(face), account(), CallContext::local());
        let caller = Caller::host(&context, &account);
        let (mut sender, data) = witan_capability::channel(&account);
        let (result, ()) = tokio::join!(callee.extract(&caller, "name".to_owned(), None, data), async {
            sender.send(b"some".to_vec(), 0).await.unwrap();
            sender.send(b"thing".to_vec(), 0).await.unwrap();
            drop(sender);
        });
        let extraction = result.unwrap().unwrap();
        assert_eq!(extraction.text, "something");
        assert_eq!(extraction.blocks[0].kind, documents::Kind::Heading(3));
        callee.current().drained().await;
        assert_eq!(account.used(Meter::Memory), 0, "{face}: all that was charged is given back");
    }
}

#[tokio::test]
async fn both_faces_of_a_function_without_arguments() {
    let (account, context) = (account(), CallContext::local());
    let caller = Caller::host(&context, &account);
    assert_eq!(callee("async").check(&caller).await, Ok(Ok(())));
    assert_eq!(callee("sync").check(&caller).await, Ok(Err("told to be ill".to_owned())));
}

#[tokio::test]
async fn an_interface_that_a_component_does_not_export_is_an_error() {
    let (account, context) = (account(), CallContext::local());
    let error = callee("async").describe(&Caller::host(&context, &account)).await.unwrap_err();
    assert!(error.to_string().contains("witan:tools/tool"), "{error}");
}

#[tokio::test]
async fn an_instance_that_is_kept_serves_again_after_it_streamed() {
    for faces in pairs() {
        let pair = Pair::with(faces, Reuse::Serial, Noting::default());
        for _ in 0..3 {
            let (events, outcome) = call(&pair.caller, &account(), request("pass/echo")).await;
            assert!(events.len() == 5 && outcome.unwrap().is_ok(), "{faces:?}");
            pair.caller.current().drained().await;
            pair.callee.current().drained().await;
        }
    }
}

#[tokio::test]
async fn every_function_asks_policy_under_its_own_name() {
    let (handler, twin) = ("witan:task/handler@0.1.0-draft", "witan:task/handler-sync@0.1.0-draft");
    for (caller, expected) in [
        ("async", vec![(handler, "handle", "callee")]),
        (
            "sync",
            vec![
                (twin, "[method]handle-run.next", "-"),
                (twin, "[static]handle-run.verdict", "-"),
                (twin, "handle", "callee"),
            ],
        ),
    ] {
        let pair = Pair::new((caller, "async"));
        call(&pair.caller, &account(), request("pass/echo")).await.1.unwrap().unwrap();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(interface, name, target)| (HostFunction::new(interface, name), target.to_owned()))
            .collect();
        assert_eq!(pair.policy.asked(), expected);
        for (function, _) in expected {
            assert!(witan_forward::functions().any(|listed| listed == function), "{function}");
        }
    }
}

#[test]
fn what_a_component_exports_is_told_whatever_its_face() {
    for face in FACES {
        assert_eq!(
            witan_forward::exports(&code(&format!("forward-{face}-callee"))),
            [
                "witan:component/health@0.1.0-draft",
                "witan:documents/extract@0.1.0-draft",
                "witan:task/handler@0.1.0-draft"
            ]
        );
    }
}
