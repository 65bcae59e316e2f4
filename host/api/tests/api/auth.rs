//! Who is let in over HTTP, and what tenants see of one another.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _};
use witan_authority::{Provider, Slip};
use witan_identity::TrustLevel;

use crate::world::{Answer, World, task};

impl World {
    pub async fn ask(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method.parse().unwrap(), self.url(path)).header("x-api-key", key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    /// Checks that what is another tenant's and what is nobody's are answered alike.
    async fn finds_nothing(&self, key: &str, method: &str, path: &str, theirs: &str) {
        let mut errors = Vec::new();
        for id in [theirs, NOBODY] {
            let body = (method == "POST").then(|| json!({}));
            let answer = self.ask(key, method, &path.replace("{id}", id), body).await;
            let mut error = answer.json()["error"].clone();
            error["request_id"] = Value::Null;
            errors.push((answer.status, error));
        }
        assert_eq!(errors[0].0, 404, "{method} {path}");
        assert_eq!(errors[0], errors[1], "{method} {path}");
    }
}

/// An id of nothing.
const NOBODY: &str = "0198c5e0-0000-7000-8000-000000000000";

const ROUTES: [(&str, &str); 14] = [
    ("GET", "/v1/tasks"),
    ("POST", "/v1/tasks"),
    ("GET", "/v1/tasks/x"),
    ("POST", "/v1/tasks/x/cancel"),
    ("GET", "/v1/tasks/x/events"),
    ("GET", "/v1/components"),
    ("GET", "/v1/host"),
    ("GET", "/v1/host/logs"),
    ("POST", "/v1/host/stop"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/auth/sessions"),
    ("GET", "/v1/auth/me"),
    ("GET", "/metrics"),
    ("GET", "/none"),
];

#[tokio::test]
async fn every_route_and_mount_asks_for_a_credential_but_a_few() {
    let world = World::asking("").await;
    let ask = async |method: &str, path: &str, header: Option<(&str, &str)>| {
        let mut request = world.client.request(method.parse().unwrap(), world.url(path));
        if method == "POST" {
            request = request.json(&json!({}));
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        Answer::of(request.send().await.unwrap()).await
    };
    for (method, path) in ROUTES.into_iter().chain([("GET", "/mirror"), ("POST", "/mirror/a")]) {
        let answer = ask(method, path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"witan\""));
    }
    for header in [("authorization", "Bearer wrong"), ("x-api-key", "wrong"), ("authorization", "Basic a")] {
        let answer = ask("GET", "/v1/tasks", Some(header)).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{header:?}");
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(ask("GET", path, None).await.status, 200, "{path}");
    }
    // Login is open, and there is none.
    assert_eq!(ask("GET", "/v1/auth/login", None).await.status, 404);
    assert_eq!(ask("POST", "/v1/auth/token", None).await.status, 400);
    // What comes after a slash is another route.
    for path in ["/healthz/", "/v1/auth/login/x", "/openapi.json/.."] {
        assert_eq!(ask("GET", path, None).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_credential_is_for_its_scopes_and_the_host_is_the_operators() {
    let world = World::asking("").await;
    let tasks = world.trusted_key("acme", &["tasks:*", "mounts:read"], TrustLevel::Standard).await;
    let all = world.trusted_key("acme", &["*"], TrustLevel::Elevated).await;
    let metrics = world.trusted_key("local", &["metrics:read"], TrustLevel::Privileged).await;
    assert_eq!(world.ask(&tasks, "GET", "/v1/tasks", None).await.status, 200);
    assert_eq!(world.ask(&tasks, "GET", "/mirror/a", None).await.status, 200);
    assert_eq!(world.ask(&metrics, "GET", "/metrics", None).await.status, 200);
    assert_eq!(world.ask(&all, "GET", "/v1/keys", None).await.status, 200);
    for (key, method, path) in [
        (&tasks, "GET", "/v1/keys"),
        (&tasks, "POST", "/mirror/a"),
        (&metrics, "GET", "/v1/tasks"),
        (&metrics, "GET", "/v1/host"),
        // Of every tenant.
        (&all, "GET", "/metrics"),
        (&all, "GET", "/v1/host"),
        (&all, "GET", "/v1/host/logs"),
        (&all, "GET", "/v1/components"),
    ] {
        let answer = world.ask(key, method, path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "insufficient_scope"), "{path}");
        assert!(answer.header("www-authenticate").unwrap().contains("insufficient_scope"));
    }
    // Whoever may read the state folder, on this machine.
    let operator = world.client.get(world.url("/v1/host/logs")).bearer_auth(world.token.secret());
    assert_eq!(operator.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn tenants_do_not_see_one_another() {
    let world = World::asking("").await;
    let acme = world.trusted_key("acme", &["*"], TrustLevel::Standard).await;
    let other = world.trusted_key("other", &["*"], TrustLevel::Standard).await;
    let submitted = world.ask(&acme, "POST", "/v1/tasks?wait=60", Some(task("a"))).await;
    assert_eq!(submitted.status, 200);
    let id = submitted.json()["task_id"].as_str().unwrap().to_owned();
    let made = world.ask(&acme, "GET", "/v1/keys", None).await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    for (method, path, theirs) in [
        ("GET", "/v1/tasks/{id}", &id),
        ("POST", "/v1/tasks/{id}/cancel", &id),
        ("GET", "/v1/tasks/{id}/events", &id),
        ("POST", "/v1/tasks/{id}/pause", &id),
        ("POST", "/v1/tasks/{id}/resume", &id),
        ("POST", "/v1/tasks/{id}/retry", &id),
        ("GET", "/v1/tasks/{id}/ws", &id),
        ("GET", "/v1/keys/{id}", &made),
        ("DELETE", "/v1/keys/{id}", &made),
        ("POST", "/v1/keys/{id}/rotate", &made),
    ] {
        world.finds_nothing(&other, method, path, theirs).await;
    }
    // The same over a handshake, which is no request for an answer.
    let handshake = async |id: &str| {
        let mut request = format!("ws://{}/v1/tasks/{id}/ws", world.address).into_client_request().unwrap();
        request.headers_mut().insert("x-api-key", other.parse().unwrap());
        match tokio_tungstenite::connect_async(request).await.unwrap_err() {
            tungstenite::Error::Http(answer) => (answer.status().as_u16(), answer.body().as_ref().map(Vec::len)),
            error => panic!("{error}"),
        }
    };
    let theirs = handshake(&id).await;
    assert_eq!((theirs.0, theirs), (404, handshake(NOBODY).await));
    assert_eq!(world.ask(&other, "GET", "/v1/tasks", None).await.json()["data"], json!([]));
    assert_eq!(world.ask(&other, "GET", "/v1/keys", None).await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.ask(&acme, "GET", "/v1/tasks", None).await.json()["data"][0]["id"], json!(id));
    assert_eq!(world.ask(&acme, "GET", &format!("/v1/tasks/{id}"), None).await.status, 200);
}

#[tokio::test]
async fn a_key_makes_no_key_that_is_for_more() {
    let world = World::asking("").await;
    let maker = world.trusted_key("acme", &["keys:*", "tasks:*"], TrustLevel::Standard).await;
    let body = |scopes: Value, more: Value| {
        let mut body = json!({ "name": "ci", "scopes": scopes });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        Some(body)
    };
    let made = world.ask(&maker, "POST", "/v1/keys", body(json!(["tasks:read"]), json!({"expires_in": 60}))).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let (secret, id) = (made.json()["secret"].clone(), made.json()["id"].as_str().unwrap().to_owned());
    let secret = secret.as_str().unwrap();
    assert_eq!(world.ask(secret, "GET", "/v1/tasks", None).await.status, 200);
    assert!(!world.ask(&maker, "GET", "/v1/keys", None).await.text.contains(secret));
    for (scopes, more) in [
        (json!(["*"]), json!({})),
        (json!(["host:read"]), json!({})),
        (json!(["tasks:read"]), json!({"trust": "elevated"})),
        (json!(["tasks:read"]), json!({"roles": ["operator"]})),
    ] {
        let answer = world.ask(&maker, "POST", "/v1/keys", body(scopes.clone(), more.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "insufficient_scope"), "{scopes} {more}");
    }
    for (scopes, more) in [
        (json!([]), json!({})),
        (json!(["tasks"]), json!({})),
        (json!(["tasks:read"]), json!({"trust": "root"})),
        (json!(["tasks:read"]), json!({"expires_in": 0})),
        (json!(["tasks:read"]), json!({"tenant": "other"})),
        (json!(["tasks:read"]), json!({"name": ""})),
    ] {
        let answer = world.ask(&maker, "POST", "/v1/keys", body(scopes.clone(), more.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{scopes} {more}");
    }
    // Nor has it the secret of one that is.
    world.trusted_key("acme", &["*"], TrustLevel::Privileged).await;
    let all = world.ask(&maker, "GET", "/v1/keys?limit=1", None).await.json();
    assert_eq!(all["has_more"], true);
    let strong = all["last_id"].as_str().unwrap().to_owned();
    let refused = world.ask(&maker, "POST", &format!("/v1/keys/{strong}/rotate"), Some(json!({}))).await;
    assert_eq!(refused.status, 403);
    // The next page, a replaced key, a revoked one.
    let next = world.ask(&maker, "GET", &format!("/v1/keys?limit=1&after={strong}"), None).await.json();
    assert_eq!(next["first_id"], json!(id));
    let rotated = world.ask(&maker, "POST", &format!("/v1/keys/{id}/rotate"), Some(json!({"overlap": 0}))).await.json();
    assert_eq!(rotated["replaces"], json!(id));
    assert_eq!(world.ask(secret, "GET", "/v1/tasks", None).await.status, 401);
    let second = rotated["secret"].as_str().unwrap();
    assert_eq!(world.ask(second, "GET", "/v1/tasks", None).await.status, 200);
    let path = format!("/v1/keys/{}", rotated["id"].as_str().unwrap());
    assert_eq!(world.ask(&maker, "DELETE", &path, None).await.json()["active"], false);
    assert_eq!(world.ask(second, "GET", "/v1/tasks", None).await.status, 401);
    // One that ends makes none that outlives it.
    let short = body(json!(["keys:*", "tasks:read"]), json!({"expires_in": 600}));
    let short = world.ask(&maker, "POST", "/v1/keys", short).await.json();
    let short = (short["secret"].as_str().unwrap().to_owned(), short["expires_at"].as_i64().unwrap());
    for more in [json!({}), json!({"expires_in": 86400})] {
        let child = world.ask(&short.0, "POST", "/v1/keys", body(json!(["tasks:read"]), more)).await.json();
        assert!((short.1 - 60..=short.1 + 1).contains(&child["expires_at"].as_i64().unwrap()), "{child}");
    }
}

#[tokio::test]
async fn guesses_are_told_to_wait() {
    let world = World::asking("").await;
    let mut statuses = Vec::new();
    for _ in 0..21 {
        let answer = world.ask("witan_sk_guess", "GET", "/v1/tasks", None).await;
        statuses.push(answer.status);
        if answer.status == 429 {
            assert_eq!(answer.code(), "too_many_attempts");
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");
            let wait = (seconds * 1000).to_string();
            assert_eq!(answer.header("retry-after-ms"), Some(wait.as_str()));
        }
    }
    assert_eq!((statuses.iter().filter(|status| **status == 401).count(), statuses.last()), (20, Some(&429)));
}

#[tokio::test]
async fn a_browser_logs_in_and_the_session_is_listed_refreshed_and_ended() {
    let provider = Provider::serve(json!({ "sub": "7", "name": "Ada" }));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, witan_authority::CLIENT[1]).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let world = World::asking(&format!(
        "[host.auth.login]\nissuer = \"login\"\nclient-id = \"witan\"\nclient-secret-file = {secret:?}\n\
         [host.auth.issuers.login]\nurl = \"{}\"\naudiences = [\"witan\"]\ntenant = \"local\"\nscopes = [\"tasks:*\"]\n",
        provider.issuer()
    ))
    .await;
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let get = async |url: String, cookie: &str| {
        Answer::of(browser.get(url).header("cookie", cookie).header("user-agent", "a browser").send().await.unwrap())
            .await
    };
    let begun = get(world.url("/v1/auth/login"), "").await;
    let cookie = begun.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/v1/auth"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let sent = get(begun.header("location").unwrap().to_owned(), "").await;
    let back = sent.header("location").unwrap().to_owned();
    assert!(back.starts_with(&world.url("/v1/auth/callback?code=")), "{back}");
    // Another browser does not end it.
    let other = get(back.clone(), "").await;
    assert_eq!((other.status, other.code().as_str()), (400, "invalid_request"));
    let ended = get(back.clone(), &format!("a=b; {cookie}")).await;
    assert_eq!((ended.status, ended.header("cache-control")), (200, Some("no-store")), "{}", ended.text);
    let tokens = ended.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(get(back, &cookie).await.status, 401, "the code is good once");

    let bearer = |tokens: &Value| tokens["access_token"].as_str().unwrap().to_owned();
    let mine = async |tokens: &Value, method: &str, path: &str| {
        let request = world.client.request(method.parse().unwrap(), world.url(path)).bearer_auth(bearer(tokens));
        let request = if method == "POST" { request.json(&json!({})) } else { request };
        Answer::of(request.send().await.unwrap()).await
    };
    let me = mine(&tokens, "GET", "/v1/auth/me").await.json();
    assert_eq!((&me["principal"], &me["kind"], &me["tenant"]), (&json!("login/7"), &json!("user"), &json!("local")));
    assert_eq!(mine(&tokens, "GET", "/v1/tasks").await.status, 200);
    let sessions = mine(&tokens, "GET", "/v1/auth/sessions").await.json();
    assert_eq!((&sessions["data"][0]["agent"], &sessions["data"][0]["current"]), (&json!("a browser"), &json!(true)));
    assert_eq!(mine(&tokens, "GET", "/v1/auth/sessions?all=true").await.status, 403);

    let refresh = |tokens: &Value| json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]});
    let second = world.post("/v1/auth/token", refresh(&tokens)).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let second = second.json();
    assert_eq!(mine(&second, "GET", "/v1/auth/me").await.status, 200);
    let reused = world.post("/v1/auth/token", refresh(&tokens)).await;
    assert_eq!((reused.status, reused.code().as_str()), (401, "unauthorized"));
    assert_eq!(mine(&second, "GET", "/v1/auth/me").await.status, 401, "the session has ended with the reuse");

    // Another session, ended by its owner; and by its id.
    let log_in = async || {
        let begun = get(world.url("/v1/auth/login"), "").await;
        let cookie = begun.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let sent = get(begun.header("location").unwrap().to_owned(), "").await;
        get(sent.header("location").unwrap().to_owned(), &cookie).await
    };
    let (one, other) = (log_in().await.json(), log_in().await.json());
    let path = format!("/v1/auth/sessions/{}", other["session"].as_str().unwrap());
    // Another tenant's is none.
    let foreign = world.trusted_key("acme", &["*"], TrustLevel::Elevated).await;
    world.finds_nothing(&foreign, "DELETE", "/v1/auth/sessions/{id}", other["session"].as_str().unwrap()).await;
    assert_eq!(mine(&other, "GET", "/v1/auth/me").await.status, 200);
    assert_eq!(mine(&one, "DELETE", &path).await.json()["active"], false);
    assert_eq!(mine(&other, "GET", "/v1/auth/me").await.status, 401);
    assert_eq!(mine(&one, "POST", "/v1/auth/logout").await.json()["active"], false);
    assert_eq!(mine(&one, "GET", "/v1/auth/me").await.status, 401);
    let key = world.trusted_key("local", &["*"], TrustLevel::Privileged).await;
    assert_eq!(world.ask(&key, "POST", "/v1/auth/logout", Some(json!({}))).await.code(), "invalid_request");

    provider.slip(Slip::Denies);
    let denied = log_in().await;
    assert_eq!((denied.status, denied.code().as_str()), (401, "unauthorized"));
    assert!(denied.text.contains("access_denied"));
    provider.slip(Slip::Down);
    assert_eq!(log_in_status(&world).await, 503);
    let evil = "/v1/auth/login?redirect=https://evil.example/&challenge=a&state=b";
    assert_eq!(get(world.url(evil), "").await.code(), "invalid_request");
}

async fn log_in_status(world: &World) -> u16 {
    // What the provider said of itself is kept; its token endpoint is asked.
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let begun = browser.get(world.url("/v1/auth/login")).send().await.unwrap();
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let location = reqwest::Url::parse(begun.headers()["location"].to_str().unwrap()).unwrap();
    let state = location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let callback = world.url(&format!("/v1/auth/callback?state={state}&code=a"));
    browser.get(callback).header("cookie", cookie).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn without_settings_a_credential_is_not_looked_at() {
    let world = World::new().await;
    let answer = world.ask("whatever", "GET", "/v1/auth/me", None).await.json();
    assert_eq!((&answer["principal"], &answer["trust"]), (&json!("local"), &json!("privileged")));
    let made = world.ask("whatever", "POST", "/v1/keys", Some(json!({"name": "a", "scopes": ["*"]}))).await;
    assert_eq!(made.status, 201);
}
