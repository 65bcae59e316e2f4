//! The transparency log: signatures on their way in, and the evidence on its way out.
//!
//! Entries have the form of Rekor's first version, since the clients of Sigstore verify that: a canonical body, a promise
//! over body, index and time, and a proof under a checkpoint. The log itself is [`witan_merkle_log::Log`]; a row for each
//! entry says when it was logged, and finds it by its hash. Everyone may read the log: it holds hashes, keys and
//! signatures, and is worth what those who watch it are.

use std::{collections::HashSet, fs, io, path::Path};

use axum::{
    Router,
    body::Body,
    extract::{self, Request, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_crypto::{VerificationKey, parse_certificate_info};
use sigstore_types::{DerCertificate, DerPublicKey, DsseEnvelope, SignatureBytes};
use sqlx::Row as _;
use witan_database::Database;
use witan_merkle_log::{CosignError, Hash, Log, LogError, SigningKey, Tile, Witness};

use crate::names;
use crate::{
    Digest, Failure, OpenError, Refusal, Registry, Settings,
    blobs::blocking,
    body, hex, oci,
    tokens::{Action, now},
};

/// The largest entry that is proposed: the envelope of an SBOM of some thousand dependencies, as JSON within JSON.
const PROPOSED: u64 = 24 << 20;

/// The largest note of a witness.
const NOTE: u64 = 64 << 10;

/// Entries that are asked for at once.
const RETRIEVED: usize = 10;

/// The log with what is needed to promise.
pub(crate) struct Transparency {
    pub(crate) log: Log,
    key: SigningKey,
    tree: u64,
    /// Leaves that are being appended.
    appending: Mutex<HashSet<Hash>>,
}

/// A proposed entry, as far as its kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proposed {
    kind: String,
    api_version: String,
    spec: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProposedDsse {
    proposed_content: ProposedContent,
}

#[derive(Deserialize)]
struct ProposedContent {
    envelope: String,
    verifiers: Vec<String>,
}

/// The body of a DSSE entry, sent as it is to be logged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CanonicalDsse {
    envelope_hash: HashJson,
    payload_hash: HashJson,
    signatures: Vec<SignatureJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashJson {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
struct HashedRekord {
    data: HashedData,
    signature: HashedSignature,
}

#[derive(Deserialize)]
struct HashedData {
    hash: HashJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedSignature {
    content: String,
    public_key: HashedKey,
}

#[derive(Deserialize)]
struct HashedKey {
    content: String,
}

/// What is to be logged.
struct Entry {
    body: Vec<u8>,
    /// The digest of what was signed, by which it is found.
    artifact: String,
}

pub(crate) fn router() -> Router<Registry> {
    Router::new()
        .route("/api/v1/log", get(info))
        .route("/api/v1/log/publicKey", get(public_key))
        .route("/api/v1/log/proof", get(proof))
        .route("/api/v1/log/entries", get(by_index).post(propose))
        .route("/api/v1/log/entries/{id}", get(by_id))
        .route("/api/v1/log/entries/retrieve", post(retrieve))
        .route("/api/v1/index/retrieve", post(find))
        .route("/log/checkpoint", get(checkpoint))
        .route("/log/cosigned", get(cosigned))
        .route("/log/add-cosignature", post(cosign))
        .route("/log/tile/{*path}", get(tile))
}

impl Transparency {
    /// Opens the log of a registry, and makes it and its key if there are none.
    pub(crate) async fn open(settings: &Settings, database: &Database) -> Result<Self, OpenError> {
        let path = settings.data.join("log.key");
        let failed = |source| OpenError::Failed(Failure::Disk { path: path.clone(), source });
        let pkcs8 = match fs::read(&path) {
            Ok(pkcs8) => pkcs8,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(&path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let key = || SigningKey::from_pkcs8(&pkcs8).map_err(|error| failed(io::Error::other(error)));
        let id = key()?.public().map_err(|error| failed(io::Error::other(error)))?.id();
        let [a, b, c, d, e, f, g, h, ..] = id;
        // A number that is the key's: another key is another log. Some clients read it as signed.
        let tree = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        let host = settings.log_host.clone().unwrap_or_else(|| settings.authority());
        let witnesses: Vec<Witness> =
            settings.witnesses.iter().map(|witness| witness.parse()).collect::<Result<_, _>>()?;
        let log = witan_merkle_log::Settings {
            origin: format!("{host} - {tree}"),
            signer: host,
            key: key()?,
            previous: Vec::new(),
            witnesses,
        };
        let log = Log::open(&settings.data.join("log"), log)?;
        let transparency = Self { log, key: key()?, tree, appending: Mutex::default() };
        transparency.index(database).await?;
        Ok(transparency)
    }

    /// Writes the rows that a crash between an entry and its row left out.
    async fn index(&self, database: &Database) -> Result<(), Failure> {
        let size = self.log.checkpoint().size();
        let row = sqlx::query("SELECT COUNT(*) AS count FROM log_entry").fetch_one(database.pool()).await?;
        let count = u64::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0);
        if count == size {
            return Ok(());
        }
        tracing::warn!(entries = size, rows = count, "rows of the log are missing, and are made again");
        for index in 0..size {
            let body = self.log.entry(index).map_err(Failure::Log)?;
            self.remember(database, index, &Hash::leaf(&body), now(), &artifact_of(&body)).await?;
        }
        Ok(())
    }

    async fn remember(
        &self,
        database: &Database,
        index: u64,
        leaf: &Hash,
        integrated: i64,
        artifact: &str,
    ) -> Result<(), Failure> {
        let mut writer = database.write().await?;
        sqlx::query(
            "INSERT INTO log_entry (log_index, leaf, integrated, artifact) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(i64::try_from(index).unwrap_or(i64::MAX))
        .bind(hex(&leaf.0))
        .bind(integrated)
        .bind(artifact)
        .execute(&mut *writer)
        .await?;
        Ok(writer.commit().await?)
    }

    /// The name of the entry with the hash `leaf`.
    fn uuid(&self, leaf: &str) -> String {
        format!("{:016x}{leaf}", self.tree)
    }

    /// What a client is given of an entry.
    fn evidence(&self, index: u64, integrated: i64, body: &[u8]) -> Result<Value, Refusal> {
        let body_text = BASE64.encode(body);
        let log = hex(&self.log.key().id());
        // In the order of its keys, and with nothing that needs an escape: this is the canonical form (RFC 8785).
        let promised = json!({
            "body": body_text,
            "integratedTime": integrated,
            "logID": log,
            "logIndex": index,
        });
        let promise = self.key.sign(promised.to_string().as_bytes()).map_err(|_| Failure::Ended)?;
        let checkpoint = self.log.checkpoint();
        let hashes = self.log.inclusion(index, checkpoint.size()).map_err(log_failure)?;
        Ok(json!({
            self.uuid(&hex(&Hash::leaf(body).0)): {
                "body": body_text,
                "integratedTime": integrated,
                "logID": log,
                "logIndex": index,
                "verification": {
                    "inclusionProof": {
                        "checkpoint": checkpoint.note(),
                        "hashes": hashes.iter().map(|hash| hex(&hash.0)).collect::<Vec<_>>(),
                        "logIndex": index,
                        "rootHash": hex(&checkpoint.root().0),
                        "treeSize": checkpoint.size(),
                    },
                    "signedEntryTimestamp": BASE64.encode(promise),
                },
            },
        }))
    }
}

/// Makes the log's key, readable for this user alone, durably: a log whose key is lost cannot go on.
fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let pkcs8 = SigningKey::generate_ecdsa().and_then(|key| key.to_pkcs8()).map_err(io::Error::other)?;
    witan_durable::replace(path, &pkcs8, witan_durable::OWN)?;
    Ok(pkcs8)
}

fn log_failure(error: LogError) -> Refusal {
    match error {
        LogError::Beyond(size) => Refusal::Invalid(format!("the log has {size} entries, and no other")),
        LogError::TooLong(_) => Refusal::Invalid(error.to_string()),
        other => Refusal::Failed(Failure::Log(other)),
    }
}

/// What an entry is about, where it says so.
fn artifact_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let spec = &body["spec"];
    let value = [&spec["payloadHash"]["value"], &spec["data"]["hash"]["value"]].into_iter().find_map(Value::as_str);
    value.unwrap_or_default().to_owned()
}

fn invalid(reason: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(format!("the entry is invalid: {reason}"))
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    BASE64.decode(text).map_err(|_| invalid(format!("{what} is not in Base64")))
}

/// The key in `verifier`: a public key or a certificate, in PEM.
fn public_key_of(verifier: &[u8]) -> Result<VerificationKey, Refusal> {
    let pem = std::str::from_utf8(verifier).map_err(|_| invalid("the verifier is not in PEM"))?;
    let key = match DerPublicKey::from_pem(pem) {
        Ok(key) => key,
        Err(_) => {
            let certificate = DerCertificate::from_pem(pem);
            let certificate = certificate.map_err(|_| invalid("the verifier is neither a key nor a certificate"))?;
            parse_certificate_info(&certificate).map_err(invalid)?.public_key
        }
    };
    VerificationKey::from_spki(&key).map_err(invalid)
}

fn sha256_json(bytes: &[u8]) -> Value {
    json!({ "algorithm": "sha256", "value": Digest::of(bytes).hex() })
}

impl HashJson {
    fn checked(&self) -> Result<Digest, Refusal> {
        if self.algorithm != "sha256" {
            return Err(invalid("its hashes must be `sha256`"));
        }
        names::digest(&format!("sha256:{}", self.value))
    }
}

impl Entry {
    /// Reads what a client proposes, and checks the signature that it shows.
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let proposed: Proposed = serde_json::from_slice(bytes).map_err(invalid)?;
        let parse =
            |kind: &str| (proposed.kind == kind && proposed.api_version == "0.0.1").then(|| proposed.spec.clone());
        if let Some(spec) = parse("hashedrekord") {
            return Self::hashed(serde_json::from_value(spec).map_err(invalid)?);
        }
        let spec =
            parse("dsse").ok_or_else(|| invalid("only `dsse` and `hashedrekord` in version 0.0.1 are logged"))?;
        if spec.get("proposedContent").is_some() {
            let ProposedDsse { proposed_content } = serde_json::from_value(spec).map_err(invalid)?;
            return Self::dsse(&proposed_content);
        }
        Self::canonical(&serde_json::from_value(spec).map_err(invalid)?)
    }

    fn dsse(content: &ProposedContent) -> Result<Self, Refusal> {
        let envelope: DsseEnvelope = serde_json::from_str(&content.envelope).map_err(invalid)?;
        let [verifier] = content.verifiers.as_slice() else { return Err(invalid("it needs one verifier")) };
        let key = public_key_of(&decoded(verifier, "the verifier")?)?;
        key.verify(envelope.pae(), &envelope.signature.sig)
            .map_err(|_| invalid("the signature of the envelope is not one of its verifier"))?;
        let payload = sha256_json(envelope.payload.as_bytes());
        let artifact = payload["value"].as_str().unwrap_or_default().to_owned();
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": sha256_json(content.envelope.as_bytes()),
                "payloadHash": payload,
                "signatures": [{ "signature": envelope.signature.sig.to_base64(), "verifier": verifier }],
            },
        });
        Ok(Self { body: body.to_string().into_bytes(), artifact })
    }

    /// The signature cannot be checked where what it is over is not sent. The log promises that an entry is in it, and
    /// nothing of what it says: whoever relies on a signature checks that.
    fn canonical(spec: &CanonicalDsse) -> Result<Self, Refusal> {
        let (envelope, payload) = (spec.envelope_hash.checked()?, spec.payload_hash.checked()?);
        let [signature] = spec.signatures.as_slice() else { return Err(invalid("it needs one signature")) };
        decoded(&signature.signature, "the signature")?;
        public_key_of(&decoded(&signature.verifier, "the verifier")?)?;
        let hash = |digest: &Digest| json!({ "algorithm": "sha256", "value": digest.hex() });
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": hash(&envelope),
                "payloadHash": hash(&payload),
                "signatures": [{ "signature": signature.signature, "verifier": signature.verifier }],
            },
        });
        Ok(Self { body: body.to_string().into_bytes(), artifact: payload.hex().to_owned() })
    }

    fn hashed(spec: HashedRekord) -> Result<Self, Refusal> {
        let digest = spec.data.hash.checked()?;
        let signature = SignatureBytes::new(decoded(&spec.signature.content, "the signature")?);
        let key = public_key_of(&decoded(&spec.signature.public_key.content, "the public key")?)?;
        let bytes: Vec<u8> =
            (0..64).step_by(2).filter_map(|at| u8::from_str_radix(&digest.hex()[at..at + 2], 16).ok()).collect();
        key.verify_prehashed(&bytes, &signature).map_err(|_| invalid("the signature is not one of the public key"))?;
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": digest.hex() } },
                "signature": {
                    "content": spec.signature.content,
                    "publicKey": { "content": spec.signature.public_key.content },
                },
            },
        });
        Ok(Self { body: body.to_string().into_bytes(), artifact: digest.hex().to_owned() })
    }
}

/// Removes a leaf from those that are being appended, however that ends.
struct Appending {
    registry: Registry,
    leaf: Hash,
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.registry.0.transparency.appending.lock().remove(&self.leaf);
    }
}

impl Registry {
    /// Everything here may be asked by anyone, but not at any rate.
    async fn log_client(
        &self,
        request: Request,
    ) -> Result<(crate::tokens::Client, http::request::Parts, Body), Refusal> {
        let (parts, body) = request.into_parts();
        let client = self.identify(&parts).await?;
        Ok((client, parts, body))
    }

    async fn propose(&self, request: Request) -> Result<Response, Refusal> {
        let (client, parts, body) = self.log_client(request).await?;
        if !self.policy().anywhere(&client, Action::Push) {
            return Err(self.unauthorized(None));
        }
        let stall = self.0.settings.limits.stall_time;
        let bytes = body::all(body, &parts.headers, "an entry", PROPOSED, stall).await?;
        let entry = blocking(move || Entry::read(&bytes)).await?;
        let leaf = Hash::leaf(&entry.body);
        let transparency = &self.0.transparency;
        let location = format!("/api/v1/log/entries/{}", transparency.uuid(&hex(&leaf.0)));
        let known = sqlx::query("SELECT 1 FROM log_entry WHERE leaf = $1")
            .bind(hex(&leaf.0))
            .fetch_optional(self.0.database.pool())
            .await?;
        if known.is_some() || !transparency.appending.lock().insert(leaf) {
            return Err(Refusal::Conflict(location));
        }
        let appending = Appending { registry: self.clone(), leaf };
        let registry = self.clone();
        // A client that goes away leaves an entry with its row all the same.
        let logged = tokio::spawn(async move {
            let transparency = &registry.0.transparency;
            let appended = transparency.log.append(entry.body.clone()).await.map_err(log_failure)?;
            let integrated = now();
            transparency.remember(&registry.0.database, appended.index, &leaf, integrated, &entry.artifact).await?;
            drop(appending);
            let proof = registry.clone();
            blocking(move || proof.0.transparency.evidence(appended.index, integrated, &entry.body)).await
        });
        let evidence = logged.await.map_err(|_| Failure::Ended)??;
        let mut response = oci::json(StatusCode::CREATED, evidence.to_string());
        oci::insert(&mut response, [(header::LOCATION, location)]);
        Ok(response)
    }

    async fn evidence(&self, index: u64) -> Result<Value, Refusal> {
        let row = sqlx::query("SELECT integrated FROM log_entry WHERE log_index = $1")
            .bind(i64::try_from(index).unwrap_or(i64::MAX))
            .fetch_optional(self.0.database.pool())
            .await?
            .ok_or(Refusal::NoSuchPath)?;
        let integrated: i64 = row.try_get("integrated")?;
        let registry = self.clone();
        blocking(move || {
            let transparency = &registry.0.transparency;
            let body = transparency.log.entry(index).map_err(log_failure)?;
            transparency.evidence(index, integrated, &body)
        })
        .await
    }

    /// The index of the entry that `id` names: its hash, with the number of the tree before it or not.
    async fn log_index(&self, id: &str) -> Result<u64, Refusal> {
        let tree = format!("{:016x}", self.0.transparency.tree);
        let leaf = if id.len() == 80 { id.strip_prefix(&tree).ok_or(Refusal::NoSuchPath)? } else { id };
        let row = sqlx::query("SELECT log_index FROM log_entry WHERE leaf = $1")
            .bind(leaf)
            .fetch_optional(self.0.database.pool())
            .await?
            .ok_or(Refusal::NoSuchPath)?;
        Ok(u64::try_from(row.try_get::<i64, _>("log_index")?).unwrap_or(u64::MAX))
    }

    /// The entries about the payload or artifact with the SHA-256 `artifact`.
    pub(crate) async fn logged(&self, artifact: &str) -> Result<Vec<(u64, String)>, Failure> {
        let rows =
            sqlx::query("SELECT log_index, leaf FROM log_entry WHERE artifact = $1 ORDER BY log_index LIMIT 100")
                .bind(artifact)
                .fetch_all(self.0.database.pool())
                .await?;
        let read = |row: &sqlx::any::AnyRow| -> Result<_, Failure> {
            let leaf: String = row.try_get("leaf")?;
            let index = u64::try_from(row.try_get::<i64, _>("log_index")?).unwrap_or(0);
            Ok((index, self.0.transparency.uuid(&leaf)))
        };
        rows.iter().map(read).collect()
    }
}

fn answered(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(Refusal::into_response)
}

fn text(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn propose(State(registry): State<Registry>, request: Request) -> Response {
    answered(registry.propose(request).await)
}

async fn info(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let _client = registry.log_client(request).await?;
        let transparency = &registry.0.transparency;
        let checkpoint = transparency.log.checkpoint();
        let info = json!({
            "inactiveShards": [],
            "rootHash": hex(&checkpoint.root().0),
            "signedTreeHead": checkpoint.note(),
            "treeID": transparency.tree.to_string(),
            "treeSize": checkpoint.size(),
        });
        Ok(oci::json(StatusCode::OK, info.to_string()))
    };
    answered(answer.await)
}

async fn public_key(State(registry): State<Registry>) -> Response {
    text("application/x-pem-file", registry.0.transparency.log.key().pem())
}

async fn proof(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, _) = registry.log_client(request).await?;
        let number = |name: &str| {
            let text = oci::query(&parts, name);
            text.map(|text| text.parse::<u64>().map_err(|_| Refusal::Invalid(format!("`{name}` is not a number"))))
        };
        let first = number("firstSize").transpose()?.unwrap_or(1);
        let last = number("lastSize").transpose()?.unwrap_or_else(|| registry.0.transparency.log.checkpoint().size());
        let log = registry.0.transparency.log.clone();
        let (hashes, root) = blocking(move || {
            Ok::<_, Refusal>((log.consistency(first, last).map_err(log_failure)?, log.root(last).map_err(log_failure)?))
        })
        .await?;
        let hashes: Vec<String> = hashes.iter().map(|hash| hex(&hash.0)).collect();
        Ok(oci::json(StatusCode::OK, json!({ "hashes": hashes, "rootHash": hex(&root.0) }).to_string()))
    };
    answered(answer.await)
}

async fn by_index(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, _) = registry.log_client(request).await?;
        let index = oci::query(&parts, "logIndex").and_then(|index| index.parse().ok());
        let index = index.ok_or_else(|| Refusal::Invalid("`logIndex` is not a number".to_owned()))?;
        Ok(oci::json(StatusCode::OK, registry.evidence(index).await?.to_string()))
    };
    answered(answer.await)
}

async fn by_id(
    State(registry): State<Registry>,
    extract::Path(id): extract::Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let _client = registry.log_client(request).await?;
        let index = registry.log_index(&id).await?;
        Ok(oci::json(StatusCode::OK, registry.evidence(index).await?.to_string()))
    };
    answered(answer.await)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retrieve {
    #[serde(default)]
    log_indexes: Vec<u64>,
    #[serde(default, rename = "entryUUIDs")]
    entry_uuids: Vec<String>,
}

async fn retrieve(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, body) = registry.log_client(request).await?;
        let stall = registry.0.settings.limits.stall_time;
        let bytes = body::all(body, &parts.headers, "a request", NOTE, stall).await?;
        let Retrieve { mut log_indexes, entry_uuids } = serde_json::from_slice(&bytes).map_err(invalid)?;
        if log_indexes.len() + entry_uuids.len() > RETRIEVED {
            return Err(Refusal::Invalid(format!("{RETRIEVED} entries at most are given at once")));
        }
        for id in &entry_uuids {
            log_indexes.push(registry.log_index(id).await?);
        }
        let mut entries = Vec::new();
        for index in log_indexes {
            entries.push(registry.evidence(index).await?);
        }
        Ok(oci::json(StatusCode::OK, Value::Array(entries).to_string()))
    };
    answered(answer.await)
}

async fn find(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, body) = registry.log_client(request).await?;
        let stall = registry.0.settings.limits.stall_time;
        let bytes = body::all(body, &parts.headers, "a request", NOTE, stall).await?;
        let asked: Value = serde_json::from_slice(&bytes).map_err(invalid)?;
        let digest = names::digest(asked["hash"].as_str().unwrap_or_default())?;
        let found: Vec<String> = registry.logged(&digest.hex()).await?.into_iter().map(|(_, uuid)| uuid).collect();
        Ok(oci::json(StatusCode::OK, json!(found).to_string()))
    };
    answered(answer.await)
}

async fn checkpoint(State(registry): State<Registry>) -> Response {
    let mut response = text("text/plain; charset=utf-8", registry.0.transparency.log.checkpoint().note().to_owned());
    oci::insert(&mut response, [(header::CACHE_CONTROL, "no-cache".to_owned())]);
    response
}

async fn cosigned(State(registry): State<Registry>) -> Response {
    let answer = async {
        let log = registry.0.transparency.log.clone();
        let newest = blocking(move || log.cosigned().map_err(log_failure)).await?.ok_or(Refusal::NoSuchPath)?;
        Ok(text("text/plain; charset=utf-8", newest.note().to_owned()))
    };
    answered(answer.await)
}

/// A witness needs no token: its signature says who it is.
async fn cosign(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, body) = registry.log_client(request).await?;
        let stall = registry.0.settings.limits.stall_time;
        let bytes = body::all(body, &parts.headers, "a note", NOTE, stall).await?;
        let log = registry.0.transparency.log.clone();
        let taken = blocking(move || {
            log.cosign(&String::from_utf8_lossy(&bytes)).map_err(|error| match error {
                CosignError::Log(error) => log_failure(error),
                other => Refusal::Invalid(crate::chain(&other)),
            })
        });
        Ok(oci::json(StatusCode::OK, json!({ "taken": taken.await? }).to_string()))
    };
    answered(answer.await)
}

async fn tile(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (_, parts, _) = registry.log_client(request).await?;
        let path = parts.uri.path().strip_prefix("/log/").unwrap_or_default();
        let tile = Tile::parse(path).ok_or(Refusal::NoSuchPath)?;
        let log = registry.0.transparency.log.clone();
        let bytes = blocking(move || log.tile(tile).map_err(log_failure)).await?.ok_or(Refusal::NoSuchPath)?;
        let mut response = text("application/octet-stream", bytes);
        // What a tile's name names never changes.
        oci::insert(&mut response, [(header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned())]);
        Ok(response)
    };
    answered(answer.await)
}
