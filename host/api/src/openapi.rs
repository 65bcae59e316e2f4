//! The routes, and their description.

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodRouter, delete, get, post},
};
use utoipa::{
    Modify, Number, OpenApi,
    openapi::{
        KnownFormat, Ref, RefOr, Response, Schema, SchemaFormat,
        content::ContentBuilder,
        path::Parameter,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use witan_tasks::{Code, Envelope, TaskError, TaskEvent, TaskRequest, TaskView};

use crate::{
    Api,
    answer::{ErrorBody, Refusal},
    audit, auth, authorize, events, gate, keys, platform, policies, seen, socket, tasks,
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
        ("/v1/auth/login", get(auth::login)),
        ("/v1/auth/callback", get(auth::callback)),
        ("/v1/auth/token", post(auth::token)),
        ("/v1/auth/logout", post(auth::logout)),
        ("/v1/auth/me", get(auth::me)),
        ("/v1/auth/sessions", get(auth::sessions)),
        ("/v1/auth/sessions/{id}", delete(auth::end_session)),
        ("/v1/keys", get(keys::list).post(keys::create)),
        ("/v1/keys/{id}", get(keys::show).delete(keys::revoke)),
        ("/v1/keys/{id}/rotate", post(keys::rotate)),
        ("/v1/tasks/{id}/pause", post(tasks::pause)),
        ("/v1/tasks/{id}/resume", post(tasks::resume)),
        ("/v1/tasks/{id}/retry", post(tasks::retry)),
        ("/v1/tasks/{id}/ws", get(socket::open_task)),
        ("/v1/ws", get(socket::open)),
        ("/v1/events", get(events::events)),
        ("/v1/events/schemas", get(events::schemas)),
        ("/v1/components", get(platform::components)),
        ("/v1/policies", get(policies::list)),
        ("/v1/policies/{version}", get(policies::show)),
        ("/v1/policies/reload", post(policies::reload)),
        ("/v1/policies/rollback", post(policies::rollback)),
        ("/v1/policies/test", post(policies::test)),
        ("/v1/policies/shadow", get(policies::shadow).post(policies::begin_shadow).delete(policies::end_shadow)),
        ("/v1/host", get(platform::host)),
        ("/v1/host/logs", get(platform::logs)),
        ("/v1/host/stop", post(platform::stop)),
        ("/v1/logs/level", get(platform::log_level).post(platform::set_log_level)),
        ("/healthz", get(platform::health)),
        ("/readyz", get(platform::ready)),
        ("/metrics", get(platform::metrics)),
        ("/openapi.json", get(platform::openapi)),
    ]
}

pub(crate) fn router(api: Api) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let router = router.route_layer(axum::middleware::from_fn_with_state(api.clone(), authorize::decide));
    let router = router.route_layer(axum::middleware::from_fn(seen::mark));
    let router = router.method_not_allowed_fallback(method_not_allowed).fallback(not_found).with_state(api.clone());
    match grpc(api) {
        Ok(services) => router.merge(services.route_layer(axum::middleware::from_fn(seen::mark))),
        Err(error) => {
            tracing::error!(%error, "gRPC is not served");
            router
        }
    }
}

fn grpc(api: Api) -> Result<Router, witan_grpc::ReflectionError> {
    let most = usize::try_from(api.0.parts.settings.body_bytes).unwrap_or(usize::MAX);
    let (tasks, draining) = (api.0.parts.tasks.clone(), api.0.draining.clone());
    witan_grpc::routes(tasks, Arc::new(api), most, draining)
}

async fn not_found() -> Refusal {
    TaskError::new(Code::NotFound, "there is no such route; /openapi.json lists them, and no component is mounted here")
        .into()
}

async fn method_not_allowed() -> Refusal {
    not_served().into()
}

pub(crate) fn not_served() -> TaskError {
    TaskError::new(Code::MethodNotAllowed, "the route does not serve this method; /openapi.json says which")
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
        auth::login,
        auth::callback,
        auth::token,
        auth::logout,
        auth::me,
        auth::sessions,
        auth::end_session,
        keys::list,
        keys::create,
        keys::show,
        keys::revoke,
        keys::rotate,
        tasks::pause,
        tasks::resume,
        tasks::retry,
        policies::list,
        policies::show,
        policies::reload,
        policies::rollback,
        policies::test,
        policies::shadow,
        policies::begin_shadow,
        policies::end_shadow,
        socket::open_task,
        socket::open,
        events::events,
        events::schemas,
        platform::components,
        platform::host,
        platform::logs,
        platform::stop,
        platform::log_level,
        platform::set_log_level,
        platform::health,
        platform::ready,
        platform::metrics,
        platform::openapi,
    ),
    components(schemas(TaskRequest, Envelope, TaskView, TaskEvent, ErrorBody)),
    modifiers(&Credentials, &Exact),
)]
struct Described;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = || SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("host_token", bearer());
        components.add_security_scheme("bearer", bearer());
        let key = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(key));
        let asked = ["bearer", "api_key"].map(|name| SecurityRequirement::new(name, [""; 0]));
        // A host without `[host.auth]` asks for none.
        openapi.security = Some(asked.into_iter().chain([SecurityRequirement::default()]).collect());
        for (path, item) in &mut openapi.paths.paths {
            if !gate::is_open(path) {
                let operations = [&mut item.get, &mut item.post, &mut item.delete];
                operations.into_iter().flatten().for_each(refusals);
            }
        }
    }
}

/// Says what the types alone do not.
struct Exact;

impl Modify for Exact {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                operation.parameters.iter_mut().flatten().for_each(unsigned);
                operation.responses.responses.values_mut().for_each(streamed);
            }
        }
    }
}

/// A `u64` is described as a signed number that is not negative, which is half of them.
fn unsigned(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && object.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int64))
        && object.minimum.is_some()
    {
        object.format = None;
        object.maximum.get_or_insert(Number::UInt(usize::MAX));
    }
}

/// The events of a stream have schemas of their own, and the stream as a whole has none.
fn streamed(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response
        && let Some(RefOr::T(stream)) = response.content.get_mut("text/event-stream")
    {
        stream.schema = None;
    }
}

/// Says of a route that asks for a credential what it answers without.
fn refusals(operation: &mut utoipa::openapi::path::Operation) {
    let body = || ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    for (status, why) in [
        ("401", "The credential is missing or not good"),
        ("403", "The credential is not for this"),
        ("429", "Too many bad credentials came from this address"),
    ] {
        let mut response = Response::new(why);
        response.content.insert("application/json".to_owned(), RefOr::T(body()));
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response));
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
