//! `/v1/events`: what happens in the host, for its operator, and to the tasks of a tenant, for that.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    extract::{Extension, State},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::stream;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use witan_authorize::{Action, Resource};
use witan_capability::CallContext;
use witan_events::{CutOff, Event, Pattern, Subscription};
use witan_tasks::TaskError;

use crate::{
    Api,
    answer::{ErrorBody, Refusal},
    authorize::{Caller, Way},
    gate,
    streams::Following,
    tasks::{Fields, Given, last_event},
};

const ROUTE: &str = "/v1/events";

/// Events for one who listens: those of a tenant that are asked for, and those of the host where the tenant is its operator's.
pub(crate) struct Heard {
    subscription: Subscription,
    patterns: Vec<Pattern>,
}

impl Heard {
    pub(crate) fn new(api: &Api, tenant: &str, patterns: Vec<Pattern>, after: Option<u64>) -> Self {
        Self { subscription: api.0.parts.tasks.bus().subscribe(tenant, after), patterns }
    }

    /// Whether events are missing before the first.
    pub(crate) fn gap(&self) -> bool {
        self.subscription.gap
    }

    pub(crate) async fn next(&mut self) -> Result<Arc<Event>, CutOff> {
        loop {
            let event = self.subscription.next().await?;
            if self.patterns.iter().any(|pattern| pattern.takes(event.what.name())) {
                return Ok(event);
            }
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Which, with commas between: `task.completed`, all below a name such as `task.*`, or `*`, which is the default.
    #[serde(default)]
    types: Option<String>,
    /// The `id` of the last event that the client has; `Last-Event-ID` goes before it.
    #[serde(default)]
    starting_after: Option<u64>,
}

/// Streams what happens, from now on, or from an event on.
///
/// Server-sent events named by their types; `/v1/events/schemas` has the schema of each one's `data`. The last thousand are
/// kept for clients that come again; `gap` comes first where that was not enough, and `cut_off` last where a client read too
/// slowly, its credential is no longer good, or policies no longer let it follow.
#[utoipa::path(
    get,
    operation_id = "all_events",
    path = "/v1/events",
    tag = "events",
    params(Asked),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = String),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = 503, description = "Too many are open", body = ErrorBody),
    )
)]
pub(crate) async fn events(
    State(api): State<Api>,
    Extension(context): Extension<CallContext>,
    Given(extensions): Given,
    Fields(asked): Fields<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let patterns = Pattern::list(asked.types.as_deref().unwrap_or("*"));
    let patterns = patterns.map_err(|error| TaskError::invalid("types", error.to_string()))?;
    let after = last_event(&headers)?.or(asked.starting_after);
    let following = api.0.streams.open(context.tenant())?;
    let heard = Heard::new(&api, context.tenant(), patterns, after);
    let caller = Caller::of(&extensions);
    let way = Way { route: Some(ROUTE), method: Some("GET"), path: Some(ROUTE) };
    let cut_off = api.until_either(&extensions, move |api| may_read(api, &caller, way));
    let begin = Telling { gap: heard.gap(), heard, draining: api.0.draining.clone(), cut_off, _following: following };
    let events = stream::unfold(Some(begin), |telling| async { telling?.next().await });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Proxies that buffer would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Asks whether `caller` may follow the events of its tenant.
pub(crate) fn may_read(api: &Api, caller: &Caller, way: Way<'_>) -> Result<(), TaskError> {
    let own = Resource::Tenant(caller.context.tenant().into());
    api.authorize(caller, Action::EventRead, own, way).map(|_| ())
}

struct Telling {
    heard: Heard,
    gap: bool,
    draining: CancellationToken,
    cut_off: gate::CutOff,
    _following: Following,
}

/// The last event for a client that may not be told any more.
pub(crate) fn cut_off(error: TaskError) -> Result<sse::Event, axum::Error> {
    sse::Event::default().event("cut_off").json_data(ErrorBody { error })
}

type Told = Result<sse::Event, Infallible>;

impl Telling {
    async fn next(mut self) -> Option<(Told, Option<Self>)> {
        if self.gap {
            self.gap = false;
            return Some((Ok(sse::Event::default().event("gap").data("{}")), Some(self)));
        }
        let event = tokio::select! {
            // What is denied is not told, however much of it waits.
            biased;
            error = &mut self.cut_off => {
                let told = cut_off(error).unwrap_or_else(|_| sse::Event::default().event("cut_off"));
                return Some((Ok(told), None));
            }
            event = self.heard.next() => event,
            () = self.draining.cancelled() => return None,
        };
        match event {
            Ok(event) => {
                let told = sse::Event::default().id(event.id.to_string()).event(event.what.name()).json_data(&*event);
                let told = told.unwrap_or_else(|_| sse::Event::default().comment("an event could not be written"));
                Some((Ok(told), Some(self)))
            }
            Err(CutOff(missed)) => {
                let data = format!("{{\"missed\":{missed}}}");
                Some((Ok(sse::Event::default().event("cut_off").data(data)), None))
            }
        }
    }
}

/// The JSON Schema of the `data` of each type of event.
#[utoipa::path(
    get,
    path = "/v1/events/schemas",
    tag = "events",
    responses((status = 200, description = "By type, its schema", body = Value))
)]
pub(crate) async fn schemas() -> Json<Value> {
    Json(serde_json::to_value(witan_events::schemas()).unwrap_or_default())
}
