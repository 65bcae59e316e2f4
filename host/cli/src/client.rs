//! Speaks to a running host over its HTTP API.

use std::{error::Error, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;
use witan_api::{LogLevel, Token};
use witan_tasks::{Envelope, TaskRequest, TaskView};

use crate::{egress::CaArgument, pin, session};

/// How long one request waits for a task before it asks again.
const WAIT: Duration = Duration::from_secs(30);

/// How often a task that takes longer is looked after.
const POLL: Duration = Duration::from_millis(500);

/// What a host answers to a task: its end, or that it has begun.
#[derive(Deserialize)]
#[serde(untagged)]
enum Submitted {
    Ended(Box<Envelope>),
    Accepted(Box<TaskView>),
}

/// A client of one host.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    credential: Credential,
}

/// What a client shows the host.
enum Credential {
    /// Nothing.
    None,
    /// What the user has for the host: a key in the environment, or a session.
    Users,
    /// The token of the host that runs on this folder's system.
    Token(Token),
}

impl Client {
    /// A client that shows what the user has for the host, and believes whom `ca` says.
    pub(crate) fn new(server: Url, ca: &CaArgument) -> anyhow::Result<Self> {
        let http = ca.way_to(&server)?.client().build().context("cannot set up an HTTP client")?;
        Ok(Self { http, server, credential: Credential::Users })
    }

    /// The same client, which shows nothing.
    #[must_use]
    pub(crate) fn anonymous(self) -> Self {
        Self { credential: Credential::None, ..self }
    }

    /// The same client, which shows the token of the host that runs on this folder's system.
    #[must_use]
    pub(crate) fn with_token(self, token: Token) -> Self {
        Self { credential: Credential::Token(token), ..self }
    }

    /// A client of the host on this machine that has the first certificate in the file `certificate`, whatever name is in it
    /// and whoever signed it: that file is what tells the host from others.
    pub(crate) fn pinned(server: Url, certificate: &Path) -> anyhow::Result<Self> {
        let tls = pin::config(certificate)
            .with_context(|| format!("cannot read the host's certificate `{}`", certificate.display()))?;
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build();
        let http = http.context("cannot set up an HTTP client")?;
        Ok(Self { http, server, credential: Credential::Users })
    }

    /// Has the host do a task, and waits for its end.
    pub(crate) async fn task(&self, request: &TaskRequest) -> anyhow::Result<Envelope> {
        let wait = WAIT.as_secs();
        let url = self.url(&format!("v1/tasks?wait={wait}"))?;
        let mut answer: Submitted = self.answer(self.http.post(url).json(request)).await?;
        loop {
            match answer {
                Submitted::Ended(envelope) => return Ok(*envelope),
                Submitted::Accepted(view) => {
                    if let Some(envelope) = view.envelope {
                        return Ok(envelope);
                    }
                    tokio::time::sleep(POLL).await;
                    answer = Submitted::Accepted(self.get(&format!("v1/tasks/{}", view.id)).await?);
                }
            }
        }
    }

    /// Reads `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.answer(self.http.get(self.url(path)?)).await
    }

    /// Sends `body` to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.answer(self.http.post(self.url(path)?).json(body)).await
    }

    /// Removes what is at `path`.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let _empty = self.succeed(self.http.delete(self.url(path)?)).await?;
        Ok(())
    }

    /// Reads `path`, which goes on for as long as there is something to say.
    pub(crate) async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let response = self.send(self.http.get(self.url(path)?)).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        bail!("the host answered {}; look for the task with `witan tasks list`", response.status())
    }

    /// Asks the host to stop.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let _stopping: serde_json::Value = self.post("v1/host/stop", &serde_json::json!({})).await?;
        Ok(())
    }

    /// Has the host log what `filter` says.
    pub(crate) async fn set_log_level(&self, filter: &str) -> anyhow::Result<LogLevel> {
        let level = LogLevel { filter: filter.to_owned() };
        self.post("v1/logs/level", &level).await
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        self.server.join(path).with_context(|| format!("`{}` is not the address of a host", self.server))
    }

    /// Sends `request` with the credential.
    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let request = match &self.credential {
            Credential::None => request,
            Credential::Token(token) => request.bearer_auth(token.secret()),
            Credential::Users => match session::credential(&self.http, &self.server).await? {
                Some(credential) => request.bearer_auth(&*credential),
                None => request,
            },
        };
        request.send().await.map_err(|error| unreached(&self.server, error))
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let body = self.succeed(request).await?;
        serde_json::from_slice(&body).context("the host answered something else than it should")
    }

    async fn succeed(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.bytes().await.context("the host ended its answer early")?;
        if status.is_success() {
            return Ok(body.into());
        }
        let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == 401 && matches!(self.credential, Credential::Users) {
            let server = &self.server;
            bail!(
                "the host does not know you; log in with `witan auth login --server {server}`, or set `WITAN_API_KEY`"
            );
        }
        match error.pointer("/error/message").and_then(serde_json::Value::as_str) {
            Some(message) => bail!("the host refused: {message}"),
            None => bail!("the host answered {status}"),
        }
    }
}

/// Why a request did not reach `server`, and what to do.
fn unreached(server: &Url, error: reqwest::Error) -> anyhow::Error {
    let causes = std::iter::successors(error.source(), |&error| {
        // What TLS found is within an error of the connection.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        within.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source())
    });
    let by_tls = causes.filter_map(|error| error.downcast_ref::<rustls::Error>()).next().is_some();
    let message = if by_tls {
        format!(
            "`{server}` does not show a certificate that is believed here; name its authority with `--ca` or `WITAN_CA`"
        )
    } else {
        format!("cannot reach a host at `{server}`; start one with `witan up`, or correct `--server`")
    };
    anyhow::Error::new(error).context(message)
}
