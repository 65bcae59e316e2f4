//! The authority and its log over HTTP, as Fulcio's second version and Rekor's first are asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse as _,
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use witan_registry_sign::{Identity, LogEntry, PublicKey, Subject, promise_payload};
use witan_registry_types::Digest;

use crate::{
    Authority,
    listening::{Listening, Port},
};

/// What a served authority does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conduct {
    /// What it should.
    #[default]
    Honest,
    /// Certifies a key of its own.
    OtherKey,
    /// Certifies the key for somebody else.
    OtherIdentity,
    /// Certifies with a key that the trusted root does not know.
    OtherAuthority,
    /// Answers with a certificate that is none.
    NoCertificate,
    /// Answers each proposed entry with a promise that is none.
    GarbagePromise,
    /// Answers each proposed entry with the proof of another.
    OtherEntry,
    /// Answers what it is asked for certificates with an error of the server.
    AuthorityFails,
    /// Answers each proposed entry with an error of the server.
    LogFails,
    /// Takes what it is asked, and never answers.
    Silent,
}

/// A test authority that listens on this machine until it is dropped.
pub struct Served {
    /// What is served.
    pub authority: Arc<Authority>,
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    authority: Arc<Authority>,
    conduct: Mutex<Conduct>,
    asked: Mutex<Vec<String>>,
}

/// A token by which an issuer says that it is `email` that asks, until `until` (in seconds since 1970). Nobody signed it.
#[must_use]
pub fn token(issuer: &str, email: &str, until: u64) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iss": issuer, "sub": "7", "email": email, "email_verified": true, "exp": until });
    format!("{}.{}.{}", part(&json!({ "alg": "none" })), part(&claims), URL_SAFE_NO_PAD.encode("nobody's"))
}

impl Authority {
    /// Serves this authority on a port of this machine.
    #[must_use]
    pub fn serve(self) -> Served {
        let authority = Arc::new(self);
        let shared = Shared { authority: authority.clone(), conduct: Mutex::default(), asked: Mutex::default() };
        let shared = Arc::new(shared);
        // As a log answers that has had a tree before.
        authority.log.continue_from(1000);
        let port = Port::open();
        let address = port.address();
        let router = Router::new()
            .route("/api/v2/signingCert", post(certify))
            .route("/api/v1/log/entries", post(log))
            .route("/token", get(job_token))
            .with_state(shared.clone());
        Served { authority, address, shared, _listening: port.serve(router) }
    }
}

impl Served {
    /// Has it do something else from now on.
    pub fn behave(&self, conduct: Conduct) {
        *lock(&self.shared.conduct) = conduct;
    }

    /// The paths that were asked since the last time, in order.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.asked))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

fn refused(status: StatusCode, message: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "code": 3, "message": message })))
}

impl Shared {
    async fn conduct(&self, path: &str) -> Conduct {
        lock(&self.asked).push(path.to_owned());
        let conduct = *lock(&self.conduct);
        if conduct == Conduct::Silent {
            std::future::pending::<()>().await;
        }
        conduct
    }

    fn certify(&self, request: &Value, conduct: Conduct) -> Answer {
        let bad = |message: &str| refused(StatusCode::BAD_REQUEST, message);
        let token = request["credentials"]["oidcIdentityToken"].as_str().unwrap_or_default();
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: Value = payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default();
        let (Some(issuer), Some(email)) = (claims["iss"].as_str(), claims["email"].as_str()) else {
            return Err(bad("there was an error processing the identity token"));
        };
        let asked = &request["publicKeyRequest"];
        let key: Option<PublicKey> = asked["publicKey"]["content"].as_str().and_then(|pem| pem.parse().ok());
        let key = key.ok_or_else(|| bad("the public key supplied in the request could not be parsed"))?;
        let proof = asked["proofOfPossession"].as_str().and_then(|proof| STANDARD.decode(proof).ok());
        if !proof.is_some_and(|proof| holds(&key, email.as_bytes(), &proof)) {
            return Err(bad("the signature supplied in the request could not be verified"));
        }
        let mut identity = Identity { issuer: issuer.to_owned(), subject: Subject::Email(email.to_owned()) };
        if conduct == Conduct::OtherIdentity {
            identity.subject = Subject::Email(format!("other-{email}"));
        }
        let now = SystemTime::now();
        let certificate = match conduct {
            Conduct::OtherKey => self.authority.certify(&identity, now).certificate,
            Conduct::OtherAuthority => Authority::new().certify_key(&identity, &key, now),
            Conduct::NoCertificate => b"nothing".to_vec(),
            _ => self.authority.certify_key(&identity, &key, now),
        };
        let pem = |label: &str, der: &[u8]| {
            let text = STANDARD.encode(der);
            let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        let chain = [pem("CERTIFICATE", &certificate), pem("CERTIFICATE", self.authority.ca.der())];
        Ok(Json(json!({ "signedCertificateEmbeddedSct": { "chain": { "certificates": chain } } })))
    }

    fn log(&self, proposed: &Value, conduct: Conduct) -> Result<Value, &'static str> {
        if (&proposed["kind"], &proposed["apiVersion"]) != (&json!("dsse"), &json!("0.0.1")) {
            return Err("only `dsse` 0.0.1 is logged");
        }
        let content = &proposed["spec"]["proposedContent"];
        let text = content["envelope"].as_str().ok_or("there is no envelope")?;
        let envelope: Value = serde_json::from_str(text).map_err(|_| "the envelope is not JSON")?;
        let payload = envelope["payload"].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or("no payload")?;
        let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": Digest::of(bytes).hex() });
        let signature = json!({ "signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0] });
        let spec = json!({
            "envelopeHash": hash(text.as_bytes()),
            "payloadHash": hash(&payload),
            "signatures": [signature],
        });
        let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": spec }).to_string().into_bytes();
        self.authority.log.set_time(SystemTime::now());
        let mut entry = self.authority.log.append(&body);
        match conduct {
            Conduct::GarbagePromise => entry.promise = b"garbage".to_vec(),
            Conduct::OtherEntry => {
                let log = &self.authority.log;
                let other = log.append(b"another");
                // The promise is one for the entry, and the proof is not.
                let promised = promise_payload(&other.log, other.index, other.time, &body);
                let promise = log.key().sign(&promised).map_err(|_| "no key")?;
                entry = LogEntry { body, promise, ..other };
            }
            _ => {}
        }
        Ok(wire(&entry))
    }
}

/// Whether `key` signed `message`.
fn holds(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    // The point is what stands last in the key's encoding.
    let point = key.der().len().checked_sub(65).and_then(|start| key.der().get(start..)).unwrap_or_default();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry as Rekor's first version answers with it.
fn wire(entry: &LogEntry) -> Value {
    let seconds = entry.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let proof = &entry.proof;
    json!({ hex(Digest::of(&entry.body).as_bytes()): {
        "body": STANDARD.encode(&entry.body),
        "integratedTime": seconds,
        "logID": entry.log.to_string(),
        "logIndex": entry.index,
        "verification": {
            "inclusionProof": {
                "checkpoint": proof.checkpoint,
                "hashes": proof.hashes.iter().map(|hash| hex(hash)).collect::<Vec<_>>(),
                "logIndex": proof.index,
                "rootHash": hex(&proof.root),
                "treeSize": proof.size,
            },
            "signedEntryTimestamp": STANDARD.encode(&entry.promise),
        },
    } })
}

async fn certify(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let conduct = shared.conduct("/api/v2/signingCert").await;
    if conduct == Conduct::AuthorityFails {
        return Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the authority is broken"));
    }
    let request = serde_json::from_slice(&body).unwrap_or_default();
    shared.certify(&request, conduct)
}

async fn log(State(shared): State<Arc<Shared>>, body: Bytes) -> axum::response::Response {
    let conduct = shared.conduct("/api/v1/log/entries").await;
    if conduct == Conduct::LogFails {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the log is broken").into_response();
    }
    let proposed = serde_json::from_slice(&body).unwrap_or_default();
    match shared.log(&proposed, conduct) {
        Ok(entry) => (StatusCode::CREATED, Json(entry)).into_response(),
        Err(message) => refused(StatusCode::BAD_REQUEST, message).into_response(),
    }
}

/// The token of a CI environment's job, given to whoever has the job's secret.
async fn job_token(uri: Uri, headers: HeaderMap) -> Answer {
    let asked = uri.query().is_some_and(|query| query.ends_with("&audience=sigstore"));
    let known = headers.get("authorization").is_some_and(|secret| secret == "Bearer the job's");
    if !asked || !known {
        return Err(refused(StatusCode::FORBIDDEN, "the job may have no token"));
    }
    let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() + 600;
    Ok(Json(json!({ "value": token("https://ci.example", "ci@acme.example", until) })))
}
