//! `witan serve`: serves HTTP with one component, each request in a store of its own.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request, Response, StatusCode, header, uri::Scheme};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use witan_api::{Hosts, Settings};
use witan_capability::{CallContext, CallError};
use witan_engine::{Engine, Service};
use witan_http::{Protocol, ResponseBody};
use witan_system::{Limits, Reuse};
use witan_tasks::{Code, TaskError};
use witan_telemetry::LogSettings;

use crate::{Global, flags::Flags, foreign::Ready, output};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A component that exports `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to listen: an address of this machine alone, since there is no authentication. Port 0 chooses one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Whether an instance answers one request, several one after another, or several at once.
    #[arg(long, value_name = "fresh|serial|concurrent", default_value = "fresh", value_parser = reuse)]
    reuse: Reuse,
    #[command(flatten)]
    flags: Flags,
}

const EXAMPLES: &str =
    "Each request runs in a fresh instance, unless `--reuse` says otherwise: what one request leaves in
the memory of an instance, the next one in it sees. `--memory`, `--cpu` and `--deadline` hold for
each request. Requests must name this machine in `Host`, and pages of other origins are refused. The
first line on standard output says where it listens. Ctrl-C or SIGTERM lets requests under way finish.

Examples:
  witan serve hello.wasm
  witan serve shop.wasm --listen 127.0.0.1:9000 --keyvalue --http https://api.example.com
  witan serve site.wasm --dir public::/public --deadline 10s";

/// A value of `--reuse`.
fn reuse(text: &str) -> Result<Reuse, String> {
    match text {
        "fresh" => Ok(Reuse::Fresh),
        "serial" => Ok(Reuse::Serial),
        "concurrent" => Ok(Reuse::Concurrent),
        other => Err(format!("`{other}` is none of `fresh`, `serial` and `concurrent`")),
    }
}

/// How long to wait before accepting again, where accepting failed: most likely for want of file handles.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    crate::telemetry::logs(&LogSettings { filter: global.log.clone(), ..LogSettings::default() })?;
    let listener = witan_api::bind(arguments.listen, witan_api::Exposure::default()).await?;
    let ready = Ready::reusing(&arguments.file, &arguments.flags, arguments.reuse).await?;
    let loaded = ready.loaded()?;
    if Protocol::of(loaded.service.current().pre()).is_none() {
        bail!(
            "`{}` serves no HTTP: it exports neither `wasi:http/handler` nor `wasi:http/incoming-handler`; its exports \
             are: {}",
            arguments.file.display(),
            ready.exports()
        );
    }
    let address = listener.local_addr()?;
    let stopped = super::stopped();
    crate::memory::give_back();
    match global.json {
        true => output::json(&serde_json::json!({ "url": format!("http://{address}") })),
        false => output::line(&format!("serving `{}` on http://{address}", ready.name)),
    }
    let server = Server {
        service: loaded.service.clone(),
        engine: ready.host.engine.clone(),
        context: ready.context.clone(),
        limits: ready.limits(),
        hosts: Hosts::of(address),
        settings: Settings::default(),
    };
    accept(listener, Arc::new(server), stopped).await;
    Ok(ExitCode::SUCCESS)
}

/// Accepts connections until the end is asked for, and then lets those under way finish.
async fn accept(listener: TcpListener, server: Arc<Server>, stopped: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(server.settings.connections));
    let mut end = std::pin::pin!(stopped);
    loop {
        let accepted = async {
            // Nobody closes the semaphore.
            let place = places.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            accepted = accepted => match accepted {
                (place, Ok((stream, _))) => (place, stream),
                (_, Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                    continue;
                }
            },
            () = &mut end => break,
        };
        let (server, stop) = (server.clone(), stop.clone());
        connections.spawn(async move {
            server.connection(stream, stop).await;
            drop(place);
        });
    }
    stop.cancel();
    connections.close();
    let _late = tokio::time::timeout(server.settings.drain, connections.wait()).await;
}

/// What every request is answered with.
struct Server {
    service: Arc<Service>,
    engine: Arc<Engine>,
    context: CallContext,
    limits: Limits,
    hosts: Hosts,
    settings: Settings,
}

type Answer = Response<Either<ResponseBody, Full<Bytes>>>;

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        let _slower = stream.set_nodelay(true);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_time)
            .max_buf_size(self.settings.header_bytes as usize);
        let answer = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.serve(request).await.unwrap_or_else(|error| refusal(&error))
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Answer, TaskError> {
        self.hosts.check(&request)?;
        let request = witan_http::incoming(request, Scheme::HTTP)?;
        let account = self.engine.open_account(self.limits.clone());
        match witan_http::serve(&self.service, &self.context, &account, request).await {
            Ok(response) => Ok(response.map(Either::Left)),
            // What a trap says is for whoever runs the component, not for its clients; the log has it.
            Err(CallError::Trapped { .. }) => Err(TaskError::new(Code::Trapped, "the component trapped")),
            Err(error) => Err(error.into()),
        }
    }
}

fn refusal(error: &TaskError) -> Answer {
    let body = serde_json::json!({ "error": error }).to_string();
    let mut response = Response::new(Either::Right(Full::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
