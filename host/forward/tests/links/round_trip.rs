//! Whatever a request, an event or a verdict holds, it goes through a guest and comes out the same.
//!
//! The host serves the interface here, and a guest of either face stands between it and the host that calls.

use std::sync::{Arc, Mutex};

use proptest::{collection::vec, option, prelude::*};
use tokio::{runtime::Runtime, sync::oneshot};
use wasmtime::component::Linker;
use witan_capability::{CallError, Incoming, channel};
use witan_engine::Service;
use witan_forward::{
    Caller, Heap as _, Run,
    component::{Denial, Failure},
    documents::{self, Extraction, extract},
    task::{
        Document, Error, Event, File, Handler, Input, Outcome, Parameter, Passage, Progress, Request, Value, handler,
    },
};

use crate::host::{FACES, account, alone, call};

fn text() -> impl Strategy<Value = String> + Clone {
    ".{0,20}"
}

fn number() -> impl Strategy<Value = f64> + Clone {
    prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE
}

fn document() -> impl Strategy<Value = Document> {
    (text(), option::of(text()), vec(any::<u8>(), 0..100)).prop_map(|(name, media_type, data)| Document {
        name,
        media_type,
        data,
    })
}

fn input() -> impl Strategy<Value = Input> {
    let file = (text(), text()).prop_map(|(name, path)| File { name, path });
    prop_oneof![
        text().prop_map(Input::Text),
        vec(document(), 0..4).prop_map(Input::Documents),
        vec(file, 0..4).prop_map(Input::Files),
    ]
}

fn parameter() -> impl Strategy<Value = Parameter> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(Value::Integer),
        number().prop_map(Value::Number),
        text().prop_map(Value::Text),
        vec(text(), 0..4).prop_map(Value::Texts),
    ];
    (text(), value).prop_map(|(name, value)| Parameter { name, value })
}

fn request() -> impl Strategy<Value = Request> {
    (text(), input(), vec(parameter(), 0..4)).prop_map(|(intent, input, parameters)| Request {
        intent,
        input,
        parameters,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let progress = (text(), any::<u32>(), any::<u32>());
    prop_oneof![
        progress.prop_map(|(stage, done, total)| Event::Progress(Progress { stage, done, total })),
        text().prop_map(Event::Text),
        text().prop_map(Event::Notice),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let passage = (text(), text(), any::<u64>(), any::<u64>(), option::of(any::<u32>()), number())
        .prop_map(|(text, source, start, end, page, weight)| Passage { text, source, start, end, page, weight });
    (text(), vec(passage, 0..4), option::of(text()), text()).prop_map(|(text, passages, language, method)| Outcome {
        text,
        passages,
        language,
        method,
    })
}

fn error() -> impl Strategy<Value = Error> {
    let failure = prop_oneof![
        (text(), text()).prop_map(|(decision, reason)| Failure::Denied(Denial { decision, reason })),
        text().prop_map(Failure::Unavailable),
        text().prop_map(Failure::Trapped),
    ];
    prop_oneof![
        text().prop_map(Error::Invalid),
        text().prop_map(Error::Unsupported),
        text().prop_map(Error::Failed),
        failure.prop_map(Error::CallFailed),
    ]
}

/// What the host gives next, and what it was asked.
#[derive(Default)]
struct Script {
    events: Vec<Event>,
    verdict: Option<Result<Outcome, Error>>,
    asked: Option<Request>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Handler for Scripted {
    async fn handle(&self, caller: &Caller<'_>, request: Request) -> Result<Run<Event, Outcome, Error>, CallError> {
        let (events, verdict) = {
            let mut script = self.0.lock().unwrap();
            script.asked = Some(request);
            (std::mem::take(&mut script.events), script.verdict.take().unwrap())
        };
        let (mut outgoing, incoming) = channel(caller.account());
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            for event in events {
                let heap = event.heap();
                outgoing.send(vec![event], heap).await.unwrap();
            }
            drop(outgoing);
            sender.send(verdict).unwrap();
        });
        Ok(Run::new(incoming, receiver))
    }
}

impl documents::Extract for Scripted {
    async fn extract(
        &self,
        _: &Caller<'_>,
        name: String,
        _: Option<String>,
        _: Incoming<u8>,
    ) -> Result<Result<Extraction, documents::Error>, CallError> {
        Ok(Err(documents::Error::Unsupported(name)))
    }
}

fn guest(face: &str, script: &Scripted) -> Arc<Service> {
    let mut linker = Linker::new(crate::host::ENGINE.wasmtime());
    handler::link(&mut linker, script.clone()).unwrap();
    handler::link_twin(&mut linker, script.clone()).unwrap();
    extract::link(&mut linker, script.clone()).unwrap();
    extract::link_twin(&mut linker, script.clone()).unwrap();
    alone(&format!("forward-{face}-caller"), &linker)
}

#[test]
fn every_value_comes_out_as_it_went_in() {
    let runtime = Runtime::new().unwrap();
    for face in FACES {
        let script = Scripted::default();
        let guest = guest(face, &script);
        let verdict = prop_oneof![outcome().prop_map(Ok), error().prop_map(Err)];
        proptest!(ProptestConfig::with_cases(64), |(
            request in request(),
            events in vec(event(), 0..10),
            verdict in verdict,
        )| {
            *script.0.lock().unwrap() =
                Script { events: events.clone(), verdict: Some(verdict.clone()), asked: None };
            let passed = Request { intent: format!("pass/{}", request.intent), ..request.clone() };
            let (got_events, got_verdict) = runtime.block_on(call(&guest, &account(), passed));
            prop_assert_eq!(got_events, events);
            prop_assert_eq!(got_verdict, Ok(verdict));
            prop_assert_eq!(script.0.lock().unwrap().asked.take(), Some(request));
        });
    }
}
