//! A connection that tasks are sent on.

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// One connection, kept open, with the credential of its client.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    key: Option<String>,
}

impl Client {
    pub(crate) async fn connect(address: &str, key: Option<&str>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // What goes wrong on it, whoever asks is told.
        drop(tokio::spawn(connection));
        Ok(Self { sender, host: address.to_owned(), key: key.map(str::to_owned) })
    }

    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// Sends a task and waits for its end.
    pub(crate) async fn task(&mut self, task: &Bytes) -> anyhow::Result<()> {
        let (status, answer) = self.ask(Method::POST, "/v1/tasks?wait=60", task.clone()).await?;
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Sends a task, and returns its id.
    pub(crate) async fn submit(&mut self, task: &Bytes) -> anyhow::Result<String> {
        let (status, answer) = self.ask(Method::POST, "/v1/tasks", task.clone()).await?;
        ensure!(status == StatusCode::ACCEPTED, "{status}: {}", String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["id"].as_str().context("the task has no id")?.to_owned())
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(Method::GET, path, Bytes::new()).await?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// A task of `intent` on `text`.
pub(crate) fn on_text(intent: &str, text: &str) -> Bytes {
    json!({ "intent": intent, "input": { "text": text } }).to_string().into()
}
