//! How calls end before their work is done, and who sees it.

use std::time::Duration;

use witan_capability::{CallError, Limit, Limits, Meter};
use witan_forward::{
    component::{Denial, Failure},
    task::{Document, Error, Input, Request},
};

use crate::host::{ENGINE, FACES, Pair, account, begin, call, callee, notice, pairs, request};

#[tokio::test]
async fn a_callee_that_traps_midway_is_a_value_for_its_caller() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (events, outcome) = call(&pair.caller, &account(), request("pass/trap")).await;
        assert_eq!(events, [notice("before the trap")], "{faces:?}");
        let Ok(Err(Error::CallFailed(Failure::Trapped(message)))) = outcome else { panic!("{faces:?}: {outcome:?}") };
        assert!(message.contains("`callee`"), "{faces:?}: {message}");
        pair.caller.current().drained().await;
        assert_eq!((pair.caller.stats().completed, pair.callee.stats().trapped), (1, 1), "{faces:?}");
    }
}

#[tokio::test]
async fn the_host_gets_the_trap_of_a_callee_as_an_error() {
    for face in FACES {
        let (events, outcome) = call(&callee(face), &account(), request("trap")).await;
        assert_eq!(events, [notice("before the trap")]);
        assert!(matches!(&outcome, Err(CallError::Trapped { component, .. }) if component == "callee"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_extractor_that_traps_while_it_reads_is_a_value_for_its_caller() {
    let document = Document { name: "trap".to_owned(), media_type: None, data: vec![b'x'; 1 << 20] };
    for faces in pairs() {
        let pair = Pair::new(faces);
        let request = Request {
            intent: "extract".to_owned(),
            input: Input::Documents(vec![document.clone()]),
            parameters: Vec::new(),
        };
        let (_, outcome) = call(&pair.caller, &account(), request).await;
        assert!(matches!(outcome, Ok(Err(Error::CallFailed(Failure::Trapped(_))))), "{faces:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_caller_that_drops_a_call_cancels_it() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let account = account();
        let (_, outcome) = call(&pair.caller, &account, request("drop")).await;
        assert_eq!(outcome.unwrap().unwrap().text, "dropped", "{faces:?}");
        // The flood has no end of its own.
        pair.callee.current().drained().await;
        pair.caller.current().drained().await;
        assert_eq!(account.used(Meter::Memory), 0, "{faces:?}");
    }
}

#[tokio::test]
async fn a_host_that_drops_a_call_cancels_all_below_it() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let account = account();
        let mut run = begin(&pair.caller, &account, request("pass/flood")).await.unwrap();
        assert!(run.events.next().await.is_some());
        drop(run);
        pair.caller.current().drained().await;
        pair.callee.current().drained().await;
        assert_eq!(account.used(Meter::Memory), 0, "{faces:?}");
    }
}

#[tokio::test]
async fn either_end_of_a_run_keeps_it_alive() {
    for face in FACES {
        let callee = callee(face);
        let run = begin(&callee, &account(), request("echo")).await.unwrap();
        drop(run.events);
        assert_eq!(run.verdict.await.unwrap().unwrap().text, "a text");
        let mut run = begin(&callee, &account(), request("echo")).await.unwrap();
        drop(run.verdict);
        assert_eq!(run.events.next().await, Some(vec![notice("flag=true")]));
    }
}

#[tokio::test]
async fn a_caller_that_drops_the_stream_still_gets_the_verdict() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let (_, outcome) = call(&pair.caller, &account(), request("verdict")).await;
        let sent: u64 = outcome.unwrap().unwrap().text.parse().unwrap();
        assert!((1..=20).contains(&sent), "{faces:?}: {sent}");
    }
}

/// Long enough for a guest that runs to write thousands of items.
async fn let_all_run() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_fast_callee_waits_for_a_slow_reader() {
    for face in FACES {
        let callee = callee(face);
        let account = account();
        let mut run = begin(&callee, &account, request("flood")).await.unwrap();
        let_all_run().await;
        let mut read: u64 = 0;
        for _ in 0..3 {
            read += run.events.next().await.unwrap().len() as u64;
        }
        drop(run.events);
        let sent: u64 = run.verdict.await.unwrap().unwrap().text.parse().unwrap();
        assert!(sent >= read && sent <= read + 6, "{face}: {sent} sent, {read} read");
    }
}

#[tokio::test]
async fn a_fast_callee_waits_for_the_reader_of_its_caller() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let account = account();
        let mut run = begin(&pair.caller, &account, request("pass/flood")).await.unwrap();
        assert!(run.events.next().await.is_some());
        let_all_run().await;
        // Two stores with a memory of about a megabyte each; a flood that ran free would hold the rest.
        assert!(account.used(Meter::Memory) < 8 << 20, "{faces:?}: {}", account.used(Meter::Memory));
        drop(run.events);
        let sent: u64 = run.verdict.await.unwrap().unwrap().text.parse().unwrap();
        assert!(sent <= 20, "{faces:?}: {sent} sent");
    }
}

#[tokio::test]
async fn a_denied_call_is_a_value_and_reaches_no_callee() {
    for faces in pairs() {
        let pair = Pair::denied(faces);
        let (_, outcome) = call(&pair.caller, &account(), request("pass/echo")).await;
        match faces.0 {
            "async" => {
                let denial = Denial { decision: uuid::Uuid::nil().to_string(), reason: "told to".to_owned() };
                assert_eq!(outcome, Ok(Err(Error::CallFailed(Failure::Denied(denial)))), "{faces:?}");
            }
            // Here policy denies the use of the handle as well, and `next` has no error to say so.
            _ => assert!(matches!(outcome, Err(CallError::Denied(_))), "{faces:?}: {outcome:?}"),
        }
        assert_eq!((pair.callee.stats().completed, pair.callee.stats().ended), (0, 0), "{faces:?}");
    }
}

#[tokio::test]
async fn a_callee_that_is_left_alone_is_a_value() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        for _ in 0..5 {
            let _trapped = call(&pair.callee, &account(), request("trap")).await;
            pair.callee.current().drained().await;
        }
        let (_, outcome) = call(&pair.caller, &account(), request("pass/echo")).await;
        assert!(matches!(outcome, Ok(Err(Error::CallFailed(Failure::Unavailable(_))))), "{faces:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_limit_that_the_callee_meets_ends_both_with_its_own_error() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let account = ENGINE.open_account(Limits { depth: 1, ..Limits::default() });
        let (_, outcome) = call(&pair.caller, &account, request("pass/echo")).await;
        assert!(
            matches!(&outcome, Err(CallError::Limit(limit)) if limit.limit == Limit::Depth),
            "{faces:?}: {outcome:?}"
        );
        pair.caller.current().drained().await;
    }
}

#[tokio::test]
async fn the_deadline_ends_both_while_they_wait_for_a_reader() {
    for faces in pairs() {
        let pair = Pair::new(faces);
        let account = ENGINE.open_account(Limits { deadline: Duration::from_millis(300), ..Limits::default() });
        let run = begin(&pair.caller, &account, request("pass/flood")).await.unwrap();
        account.when_ended().await;
        let verdict = run.verdict.await;
        assert!(matches!(&verdict, Err(CallError::Limit(limit)) if limit.limit == Limit::Deadline), "{verdict:?}");
        pair.caller.current().drained().await;
        pair.callee.current().drained().await;
    }
}
