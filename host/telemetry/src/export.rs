//! Sends spans to a collector, as OTLP over HTTP.

use std::{env, sync::Arc, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use witan_egress::{Egress, Outcome, Purpose};

use crate::{
    Sampling,
    spans::End,
    traces::{Counters, Finished},
};

/// Spans in one request to the collector at most.
const BATCH: usize = 512;
/// How long spans wait for others to go with.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one request to the collector may take. `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a failure is logged at most.
const QUIET: Duration = Duration::from_secs(60);

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Export {
    /// The collector, such as `http://127.0.0.1:4318`; `/v1/traces` is appended. None leaves it to the environment.
    pub endpoint: Option<String>,
    /// The name of the service. None leaves it to the environment, and then it is `witan`.
    pub service: Option<String>,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Spans that wait to be sent; more are dropped and counted.
    pub queue: usize,
    /// The way to the collector.
    pub egress: Egress,
}

impl Default for Export {
    fn default() -> Self {
        Self { endpoint: None, service: None, sampling: Sampling::default(), queue: 8_192, egress: Egress::default() }
    }
}

impl Export {
    /// Whether the standard's environment variables name a collector and do not switch the export off.
    #[must_use]
    pub fn in_environment() -> bool {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .into_iter()
            .any(|name| set(name).is_some());
        named && !Self::switched_off()
    }

    /// Whether the standard's environment variables switch the export off.
    #[must_use]
    pub fn switched_off() -> bool {
        let is = |name, wanted: &str| env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(wanted));
        is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none")
    }

    /// Sends the collector a request without spans, and says whether it took that.
    ///
    /// # Errors
    /// When the settings are no way to a collector, it cannot be reached, or it refuses.
    pub async fn try_out(&self) -> Result<(), ExportError> {
        Ok(exporter(self)?.export(Vec::new()).await?)
    }
}

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The settings are no way to a collector.
    #[error(
        "cannot export traces; check `host.telemetry.otlp` in system.toml and the `OTEL_EXPORTER_OTLP_…` variables"
    )]
    Settings(#[from] ExporterBuildError),
    /// The environment asks for a protocol that is not spoken here.
    #[error("`OTEL_EXPORTER_OTLP_PROTOCOL` is `{0}`; this host speaks `http/protobuf`, which every collector takes")]
    Protocol(String),
    /// The client of HTTP could not be made.
    #[error("cannot make the client that sends traces")]
    Client(#[from] reqwest::Error),
    /// The collector was asked, and did not take it.
    #[error("the collector does not take traces")]
    Refused(#[from] OTelSdkError),
    /// Traces are exported already.
    #[error("traces are exported already")]
    Twice,
}

/// The task that sends.
#[derive(Debug)]
pub(crate) struct Run {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    timeout: Duration,
}

impl Run {
    pub(crate) async fn finish(self) {
        let _gone = self.stop.send(());
        let task = self.task;
        if tokio::time::timeout(self.timeout, task).await.is_err() {
            tracing::warn!("some traces were not sent in time, and are lost");
        }
    }
}

fn exporter(export: &Export) -> Result<SpanExporter, ExportError> {
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        match env::var(name) {
            Ok(protocol) if !protocol.is_empty() && protocol != "http/protobuf" => {
                return Err(ExportError::Protocol(protocol));
            }
            _ => {}
        }
    }
    let agent = concat!("witan/", env!("CARGO_PKG_VERSION"));
    let client = export.egress.client().timeout(timeout()).user_agent(agent).build()?;
    let client = Client { client, egress: export.egress.clone() };
    let mut builder = SpanExporter::builder().with_http().with_http_client(client).with_timeout(timeout());
    if let Some(endpoint) = &export.endpoint {
        builder = builder.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    }
    let mut exporter = builder.build()?;
    exporter.set_resource(&resource(export));
    Ok(exporter)
}

pub(crate) fn start(
    export: &Export,
    spans: mpsc::Receiver<Finished>,
    counters: Arc<Counters>,
) -> Result<Run, ExportError> {
    let exporter = exporter(export)?;
    let (stop, stopped) = oneshot::channel();
    let sender = Sender { exporter, counters, scope: scope(), told: None };
    Ok(Run { stop, task: tokio::spawn(sender.run(spans, stopped)), timeout: timeout() })
}

/// A client whose requests are told of.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    egress: Egress,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string().parse();
        let answer = self.client.send_bytes(request).await;
        if let Ok(url) = url {
            let status = answer.as_ref().map(|answer| answer.status().as_u16());
            self.egress.sent(Purpose::Collector, &url, status.map_or(Outcome::Unreachable, Outcome::Answered));
        }
        answer
    }
}

fn timeout() -> Duration {
    let set = |name| env::var(name).ok()?.parse().ok().map(Duration::from_millis);
    set("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| set("OTEL_EXPORTER_OTLP_TIMEOUT")).unwrap_or(TIMEOUT)
}

fn resource(export: &Export) -> Resource {
    // The builder reads `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; what system.toml says goes before.
    let named = env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name="));
    let service = export.service.clone().or_else(|| (!named).then(|| "witan".to_owned()));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match service {
        Some(service) => builder.with_service_name(service).build(),
        None => builder.build(),
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("witan").with_version(env!("CARGO_PKG_VERSION")).build()
}

struct Sender {
    exporter: SpanExporter,
    counters: Arc<Counters>,
    scope: InstrumentationScope,
    told: Option<Instant>,
}

impl Sender {
    async fn run(mut self, mut spans: mpsc::Receiver<Finished>, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut open = true;
        while open {
            let until = Instant::now() + PATIENCE;
            while batch.len() < BATCH && open {
                tokio::select! {
                    span = spans.recv() => match span {
                        Some(span) => batch.push(self.data(span)),
                        None => open = false,
                    },
                    () = tokio::time::sleep_until(until), if !batch.is_empty() => break,
                    // Whether it was told to stop or nobody is left to tell it.
                    _ = &mut stopped => {
                        spans.close();
                        while let Ok(span) = spans.try_recv() {
                            batch.push(self.data(span));
                        }
                        open = false;
                    }
                }
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                self.send(std::mem::replace(&mut batch, rest)).await;
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.counters.exported.fetch_add(spans, Ordering::Relaxed);
            }
            Err(error) => {
                self.counters.failed.fetch_add(spans, Ordering::Relaxed);
                if self.told.is_none_or(|told| told.elapsed() > QUIET) {
                    self.told = Some(Instant::now());
                    tracing::warn!(%error, spans, "the collector did not take spans, which are lost; no request waits for it");
                }
            }
        }
    }

    fn data(&self, Finished { open, ended }: Finished) -> SpanData {
        let flags = TraceFlags::SAMPLED;
        let context =
            SpanContext::new(TraceId::from(open.trace), SpanId::from(open.span), flags, false, TraceState::default());
        let mut events = SpanEvents::default();
        events.events = open.notes.into_iter().map(|(at, message)| Event::new(message, at, Vec::new(), 0)).collect();
        events.dropped_count = open.notes_left_out;
        SpanData {
            span_context: context,
            parent_span_id: SpanId::from(open.parent),
            parent_span_is_remote: open.end == End::Server,
            span_kind: match open.end {
                End::Server => SpanKind::Server,
                End::Client => SpanKind::Client,
                End::Inside => SpanKind::Internal,
            },
            name: open.name.into(),
            start_time: open.began,
            end_time: ended,
            attributes: open.attributes,
            dropped_attributes_count: open.left_out,
            events,
            links: SpanLinks::default(),
            status: open.failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}
