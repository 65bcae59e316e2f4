//! The routes, and their description.

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use witan_tasks::{Code, Envelope, TaskError, TaskEvent, TaskRequest, TaskView};

use crate::{
    Api,
    answer::{ErrorBody, Refusal},
    audit, platform, tasks,
};

/// Every route. A test holds the description to it.
fn routes() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/v1/tasks", post(tasks::submit).get(tasks::list)),
        ("/v1/tasks/{id}", get(tasks::show)),
        ("/v1/tasks/{id}/cancel", post(tasks::cancel)),
        ("/v1/tasks/{id}/events", get(tasks::events)),
        ("/v1/audit/entries", get(audit::entries)),
        ("/v1/audit/checkpoint", get(audit::checkpoint)),
        ("/v1/audit/proof", get(audit::proof)),
        ("/v1/components", get(platform::components)),
        ("/v1/host", get(platform::host)),
        ("/v1/host/logs", get(platform::logs)),
        ("/v1/host/stop", post(platform::stop)),
        ("/healthz", get(platform::health)),
        ("/readyz", get(platform::ready)),
        ("/metrics", get(platform::metrics)),
        ("/openapi.json", get(platform::openapi)),
    ]
}

pub(crate) fn router(api: Api) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let router = router.method_not_allowed_fallback(method_not_allowed).fallback(not_found).with_state(api.clone());
    match grpc(api) {
        Ok(services) => router.merge(services),
        Err(error) => {
            tracing::error!(%error, "gRPC is not served");
            router
        }
    }
}

fn grpc(api: Api) -> Result<Router, witan_grpc::ReflectionError> {
    let most = usize::try_from(api.0.parts.settings.body_bytes).unwrap_or(usize::MAX);
    let (tasks, draining) = (api.0.parts.tasks.clone(), api.0.draining.clone());
    witan_grpc::routes(tasks, Arc::new(move |_| api.edge()), most, draining)
}

async fn not_found() -> Refusal {
    TaskError::new(Code::NotFound, "there is no such route; /openapi.json lists them, and no component is mounted here")
        .into()
}

async fn method_not_allowed() -> Refusal {
    TaskError::new(Code::MethodNotAllowed, "the route does not serve this method; /openapi.json says which").into()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Witan",
        description = "Tasks and the platform of one Witan host. Every error has the shape of `ErrorBody`; its `code` is \
            one of a fixed list."
    ),
    paths(
        tasks::submit,
        tasks::list,
        tasks::show,
        tasks::cancel,
        tasks::events,
        audit::entries,
        audit::checkpoint,
        audit::proof,
        platform::components,
        platform::host,
        platform::logs,
        platform::stop,
        platform::health,
        platform::ready,
        platform::metrics,
        platform::openapi,
    ),
    components(schemas(TaskRequest, Envelope, TaskView, TaskEvent, ErrorBody)),
    modifiers(&HostToken),
)]
struct Described;

struct HostToken;

impl Modify for HostToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("host_token", SecurityScheme::Http(scheme));
    }
}

/// The description of every route, as an OpenAPI 3.1 document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn json() -> Value {
        serde_json::to_value(document()).unwrap()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let json = json();
        let described: BTreeSet<&str> = json["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let served: BTreeSet<&str> = routes().iter().map(|(path, _)| *path).collect();
        assert_eq!(described, served);
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let json = json();
        let mut references = Vec::new();
        collect(&json, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            assert!(json.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_has_what_the_format_asks_for() {
        let json = json();
        assert!(json["info"]["title"].is_string() && json["info"]["version"].is_string());
        let mut ids = BTreeSet::new();
        for (path, operations) in json["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "two operations are called {id}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(!responses.is_empty(), "{method} {path}");
                assert!(responses.values().all(|response| response["description"].is_string()), "{method} {path}");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let named: BTreeSet<&str> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                let placeholders = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
                assert_eq!(named, placeholders.collect::<BTreeSet<_>>(), "{method} {path}");
                assert!(parameters.iter().all(|parameter| parameter["schema"].is_object()), "{method} {path}");
            }
        }
    }

    fn collect(json: &Value, references: &mut Vec<String>) {
        match json {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    references.push(reference.clone());
                }
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
            _ => {}
        }
    }
}
