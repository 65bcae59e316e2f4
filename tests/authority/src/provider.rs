//! An OpenID Connect provider on this machine, which signs with keys of its own and holds its clients to PKCE.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::listening::{Listening, Port};

/// What the provider's client is called there, and its secret.
pub const CLIENT: [&str; 2] = ["witan", "the client's secret: 100%"];

/// How a provider misbehaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slip {
    /// It does not.
    #[default]
    None,
    /// Every answer is an error of the server.
    Down,
    /// The person says no.
    Denies,
    /// The token is of another login.
    OtherNonce,
    /// The token is for another client.
    OtherAudience,
    /// The discovery document is of another issuer.
    OtherIssuer,
}

/// A provider that listens on this machine until it is dropped.
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    issuer: String,
    state: Mutex<Inner>,
}

struct Inner {
    keys: Keys,
    slip: Slip,
    person: Value,
    asked: Vec<String>,
    codes: HashMap<String, HashMap<String, String>>,
}

struct Keys {
    generation: u32,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Keys {
    fn new(generation: u32) -> Self {
        Self {
            generation,
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn kid(&self, algorithm: &str) -> String {
        format!("{algorithm}-{}", self.generation)
    }

    /// The modulus: the public key is a sequence of it and the exponent, which for 2048 bits stand at known places.
    fn modulus(&self) -> Vec<u8> {
        let der = self.rsa.public_key().as_ref();
        let end = der.len() - 5;
        assert_eq!((der.len(), &der[end..]), (270, &[2, 3, 1, 0, 1][..]), "of 2048 bits, with the usual exponent");
        der[end - 256..end].to_vec()
    }

    fn set(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": self.kid("RS256"), "use": "sig", "alg": "RS256", "n": BASE64.encode(self.modulus()),
              "e": "AQAB" },
            { "kty": "EC", "kid": self.kid("ES256"), "crv": "P-256", "x": BASE64.encode(&point[1..33]),
              "y": BASE64.encode(&point[33..]) },
            { "kty": "OKP", "kid": self.kid("EdDSA"), "crv": "Ed25519", "x": BASE64.encode(self.ed.public_key()) },
            { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" },
        ] })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match header["alg"].as_str() {
            Some("ES256") => self.ec.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Some("EdDSA") => self.ed.sign(text.as_bytes()).as_ref().to_vec(),
            Some("RS256") => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
            // As whoever takes the public key for a secret would be deceived.
            Some("HS256") => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.modulus());
                aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{text}.{}", BASE64.encode(signature))
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap()
}

impl Provider {
    /// Serves a provider on a port of this machine, where `person` logs in: claims, of which `sub` is one.
    #[must_use]
    pub fn serve(person: Value) -> Self {
        let port = Port::open();
        let address = port.address();
        let state =
            Inner { keys: Keys::new(1), slip: Slip::None, person, asked: Vec::new(), codes: HashMap::default() };
        let shared = Arc::new(Shared { issuer: format!("http://{address}"), state: Mutex::new(state) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .layer(middleware::from_fn_with_state(shared.clone(), ask))
            .with_state(shared.clone());
        Self { address, shared, _listening: port.serve(router) }
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.shared.issuer.clone()
    }

    /// Has `person` log in from now on.
    pub fn log_in(&self, person: Value) {
        self.shared.lock().person = person;
    }

    /// Misbehaves from now on, or not.
    pub fn slip(&self, slip: Slip) {
        self.shared.lock().slip = slip;
    }

    /// Signs with new keys from now on, and publishes the old ones no more.
    pub fn rotate(&self) {
        let mut state = self.shared.lock();
        state.keys = Keys::new(state.keys.generation + 1);
    }

    /// The paths that were asked since the last time, in order.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().asked)
    }

    /// A token with these claims, signed by `algorithm` with the key that is published for it. `iss`, `aud` (`witan`), `iat`
    /// and `exp` are added where they are not given; a claim that is null is left out.
    #[must_use]
    pub fn token(&self, algorithm: &str, claims: Value) -> String {
        let state = self.shared.lock();
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": state.keys.kid(algorithm) });
        state.keys.sign(&header, &self.shared.claims(claims))
    }

    /// A token with this header.
    #[must_use]
    pub fn token_with(&self, header: &Value, claims: Value) -> String {
        self.shared.lock().keys.sign(header, &self.shared.claims(claims))
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(&self, given: Value) -> Value {
        let mut claims = json!({ "iss": self.issuer, "aud": CLIENT[0], "iat": now(), "exp": now() + 300 });
        let all = claims.as_object_mut().unwrap();
        all.extend(given.as_object().cloned().unwrap_or_default());
        all.retain(|_, value| !value.is_null());
        claims
    }
}

async fn ask(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let slip = {
        let mut state = shared.lock();
        state.asked.push(request.uri().path().to_owned());
        state.slip
    };
    if slip == Slip::Down { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { next.run(request).await }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", shared.issuer);
    let issuer = match shared.lock().slip {
        Slip::OtherIssuer => "https://other.example".to_owned(),
        _ => shared.issuer.clone(),
    };
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "jwks_uri": at("/keys"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }))
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.lock().keys.set())
}

/// The person agrees at once, and is sent back.
async fn authorize(State(shared): State<Arc<Shared>>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let is = |name: &str, value: &str| asked.get(name).is_some_and(|given| given == value);
    let has = |name: &str| asked.get(name).is_some_and(|given| !given.is_empty());
    let openid = asked.get("scope").is_some_and(|scope| scope.split(' ').any(|one| one == "openid"));
    let whole = is("response_type", "code") && is("client_id", CLIENT[0]) && is("code_challenge_method", "S256");
    if !whole || !openid || !["redirect_uri", "state", "nonce", "code_challenge"].into_iter().all(has) {
        return (StatusCode::BAD_REQUEST, "the request is not whole").into_response();
    }
    let (redirect, state) = (asked["redirect_uri"].clone(), asked["state"].clone());
    let mut inner = shared.lock();
    let answer = match inner.slip {
        Slip::Denies => "error=access_denied".to_owned(),
        _ => {
            let code = format!("code-{}", inner.codes.len());
            inner.codes.insert(code.clone(), asked);
            format!("code={code}")
        }
    };
    (StatusCode::FOUND, [(header::LOCATION, format!("{redirect}?{answer}&state={state}"))]).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let refused = |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    let asked: HashMap<String, String> = form(&body);
    let basic = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok()?.strip_prefix("Basic "));
    let basic = basic.and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok()).unwrap_or_default();
    let given: Vec<String> = basic.split(':').map(decoded).collect();
    if given != CLIENT {
        return refused("invalid_client");
    }
    let mut state = shared.lock();
    // A code is good once.
    let Some(began) = asked.get("code").and_then(|code| state.codes.remove(code)) else {
        return refused("invalid_grant");
    };
    let verifier = asked.get("code_verifier").map(|verifier| BASE64.encode(Sha256::digest(verifier)));
    let same = asked.get("redirect_uri") == began.get("redirect_uri");
    if verifier.as_ref() != began.get("code_challenge") || !same || asked["grant_type"] != "authorization_code" {
        return refused("invalid_grant");
    }
    let mut claims = state.person.clone();
    let (nonce, audience) = match state.slip {
        Slip::OtherNonce => ("another", CLIENT[0]),
        Slip::OtherAudience => (began["nonce"].as_str(), "another"),
        _ => (began["nonce"].as_str(), CLIENT[0]),
    };
    claims["nonce"] = nonce.into();
    claims["aud"] = audience.into();
    let header = json!({ "alg": "RS256", "kid": state.keys.kid("RS256") });
    let id = state.keys.sign(&header, &shared.claims(claims));
    Json(json!({ "access_token": "the provider's", "token_type": "Bearer", "id_token": id })).into_response()
}

fn form(body: &str) -> HashMap<String, String> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
