//! Who is let in, and who is not: each kind of credential where it is good, and where it is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use witan_authority::{CLIENT, Provider, Slip, now};
use witan_database::{Database, Location};
use witan_identity::{
    AuthError, Begin, Caller, Certificate, Client, Directory, Ended, Event, Identities, IdentityError, Kind,
    LoginError, NewKey, Observer, Page, Peer, Settings, Tokens, TrustLevel, Verb, What,
};
use witan_system::{Auth, System};
use witan_test_tools::Postgres;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PAGE: usize = 10;

#[derive(Default)]
struct Seen(Mutex<Vec<Event>>);

impl Observer for Seen {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct World {
    identities: Identities,
    seen: Arc<Seen>,
    folder: tempfile::TempDir,
}

/// `[host.auth]` as `text` has it.
fn auth(text: &str) -> Auth {
    let system = System::parse(&format!("schema = 1\n[host.auth]\n{text}"), Path::new("system.toml"));
    system.unwrap_or_else(|error| panic!("{error}")).host.auth.unwrap()
}

impl World {
    async fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("rows.db"));
        Self::at(location, folder, Some(auth(text))).await
    }

    /// Whom the newest event of this kind is about, if that is another than who did it.
    fn about(&self, what: What) -> Option<String> {
        let seen = self.seen.0.lock().unwrap();
        seen.iter().rev().find(|event| event.what == what).unwrap().about.clone()
    }

    async fn at(location: Location, folder: tempfile::TempDir, auth: Option<Auth>) -> Self {
        let database = Database::open(location).await.unwrap();
        let seen = Arc::new(Seen::default());
        let directory = Directory::open(database, folder.path(), seen.clone()).await.unwrap();
        directory.create_tenant(&"acme".parse().unwrap(), "test").await.unwrap();
        let identities = Identities::new(Settings { directory, auth, egress: Default::default() }).unwrap();
        Self { identities, seen, folder }
    }

    /// One whose issuer is `provider`.
    async fn with(provider: &Provider, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, CLIENT[1]).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "clock-skew = \"5s\"\n[host.auth.roles.operator]\nscopes = [\"*\"]\ntrust = \"privileged\"\n\
             [host.auth.login]\nissuer = \"login\"\nclient-id = \"witan\"\nclient-secret-file = {secret:?}\n\
             [host.auth.issuers.login]\nurl = \"{}\"\naudiences = [\"witan\"]\ntenant-claim = \"org\"\n\
             tenants = {{ o1 = \"acme\", o2 = \"nobody\" }}\nroles-claim = \"groups\"\nroles = {{ admins = [\"operator\"] }}\n\
             scopes = [\"tasks:*\"]\n{more}",
            provider.issuer()
        );
        let location = Location::Sqlite(folder.path().join("rows.db"));
        Self::at(location, folder, Some(auth(&text))).await
    }

    async fn key(&self, more: impl FnOnce(&mut NewKey)) -> (witan_identity::Key, String) {
        let mut new = NewKey {
            tenant: "acme".parse().unwrap(),
            name: "ci".to_owned(),
            scopes: vec!["tasks:*".parse().unwrap()],
            roles: BTreeSet::new(),
            trust: TrustLevel::Standard,
            time: None,
        };
        more(&mut new);
        let (key, secret) = self.identities.directory().create_key(&new, "test").await.unwrap();
        (key, secret.expose().to_owned())
    }

    async fn ask(&self, credential: &str) -> Result<Client, AuthError> {
        self.ask_from(ELSEWHERE, credential).await
    }

    async fn ask_from(&self, address: IpAddr, credential: &str) -> Result<Client, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::try_from(format!("Bearer {credential}")).unwrap());
        self.identities.authenticate(&headers, &Peer { address, certificate: None }).await
    }

    async fn is_refused(&self, credential: &str) -> bool {
        match self.ask(credential).await {
            Ok(_) => false,
            Err(AuthError::Refused(_)) => true,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn seen(&self) -> Vec<What> {
        self.seen.0.lock().unwrap().drain(..).map(|event| event.what).collect()
    }

    fn reason(&self) -> String {
        self.seen.0.lock().unwrap().last().unwrap().detail.clone()
    }

    /// Logs somebody in as a browser does.
    async fn log_in(&self, caller: Option<Caller>) -> Result<Ended, LoginError> {
        let begin = Begin { callback: "http://127.0.0.1:8080/v1/auth/callback".to_owned(), caller };
        let begun = self.identities.begin_login(begin).await?;
        let answered = answer(&begun.location).await;
        let cookie = begun.cookie.expose();
        let code = answered.code.as_deref().ok_or(answered.error.as_deref().unwrap_or_default());
        self.identities.end_login(cookie, &answered.state, code, ELSEWHERE, "a browser").await
    }

    async fn tokens(&self) -> Tokens {
        match self.log_in(None).await.unwrap() {
            Ended::Tokens(tokens) => tokens,
            Ended::Caller(location) => panic!("{location}"),
        }
    }
}

#[derive(Default)]
struct Sent {
    state: String,
    code: Option<String>,
    error: Option<String>,
}

/// Asks the provider as a browser does, and says what it sends back.
async fn answer(location: &str) -> Sent {
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let answer = browser.get(location).send().await.unwrap();
    assert_eq!(answer.status(), 302, "{location}");
    let back = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    assert_eq!(back.path(), "/v1/auth/callback");
    let mut sent = Sent::default();
    for (name, value) in back.query_pairs() {
        match &*name {
            "state" => sent.state = value.into_owned(),
            "code" => sent.code = Some(value.into_owned()),
            "error" => sent.error = Some(value.into_owned()),
            other => panic!("{other}"),
        }
    }
    sent
}

fn person() -> Value {
    json!({ "sub": "7", "name": "Ada", "email": "ada@acme.example", "org": "o1", "groups": ["staff", "admins"] })
}

#[tokio::test]
async fn a_key_is_good_for_what_it_was_made_for() {
    let world = World::new("").await;
    let (key, secret) = world.key(|_| {}).await;
    assert!(secret.starts_with("witan_sk_") && secret.len() > 50);
    let client = world.ask(&secret).await.unwrap();
    assert_eq!((client.principal(), client.kind()), (format!("key/{}", key.id).as_str(), Kind::Key));
    assert_eq!((client.tenant().as_str(), client.trust()), ("acme", TrustLevel::Standard));
    assert!(client.allows("tasks", Verb::Write) && !client.allows("keys", Verb::Read));
    assert!(client.may_give(&["tasks:read".parse().unwrap()], TrustLevel::Restricted));
    assert!(!client.may_give(&["*".parse().unwrap()], TrustLevel::Restricted));
    assert!(!client.may_give(&[], TrustLevel::Elevated));
    for wrong in [&secret[..20], &format!("{secret}a"), "witan_sk_", "", "a", "a.b.c"] {
        assert!(world.is_refused(wrong).await, "{wrong}");
    }
    // What is kept is a hash.
    let bytes = std::fs::read(world.folder.path().join("rows.db-wal")).unwrap();
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found(&key.hint) && !found(&secret[key.hint.len()..]));
    assert!(matches!(
        world.identities.authenticate(&HeaderMap::new(), &Peer { address: HERE, certificate: None }).await,
        Err(AuthError::Missing)
    ));
}

#[tokio::test]
async fn a_key_ends_when_it_is_revoked_when_it_expires_and_with_its_tenant() {
    let world = World::new("").await;
    let directory = world.identities.directory();
    let (key, secret) = world.key(|_| {}).await;
    assert!(world.ask(&secret).await.is_ok());
    // Another process that has the same rows and folder revokes it.
    let database = Database::open(Location::Sqlite(world.folder.path().join("rows.db"))).await.unwrap();
    let other = Directory::open(database, world.folder.path(), Arc::new(Seen::default())).await.unwrap();
    other.revoke_key(None, key.id, "cli").await.unwrap();
    assert!(world.is_refused(&secret).await);
    assert!(other.key(None, key.id).await.unwrap().revoked.is_some());

    let (_, secret) = world.key(|new| new.time = Some(Duration::ZERO)).await;
    assert!(world.is_refused(&secret).await);

    let (_, secret) = world.key(|_| {}).await;
    let acme = "acme".parse().unwrap();
    assert!(world.ask(&secret).await.is_ok());
    other.disable_tenant(&acme, true, "cli").await.unwrap();
    assert!(world.is_refused(&secret).await);
    other.disable_tenant(&acme, false, "cli").await.unwrap();
    assert!(world.ask(&secret).await.is_ok());
    assert!(matches!(
        directory.disable_tenant(&"local".parse().unwrap(), true, "").await,
        Err(IdentityError::LocalTenant)
    ));
}

#[tokio::test]
async fn a_key_is_replaced_with_an_overlap() {
    let world = World::new("").await;
    let directory = world.identities.directory();
    let (key, secret) = world.key(|new| new.time = Some(Duration::from_secs(1_000))).await;
    let (next, second) = directory.rotate_key(None, key.id, Duration::from_secs(100), "test").await.unwrap();
    assert_eq!((next.replaces, next.name.as_str(), next.scopes == key.scopes), (Some(key.id), "ci", true));
    assert!(world.ask(&secret).await.is_ok() && world.ask(second.expose()).await.is_ok());
    let former = directory.key(None, key.id).await.unwrap();
    assert!(former.expires.unwrap() <= now() + 100);
    let (_, third) = directory.rotate_key(None, next.id, Duration::ZERO, "test").await.unwrap();
    assert!(world.is_refused(second.expose()).await && world.ask(third.expose()).await.is_ok());
    let refused = directory.rotate_key(None, next.id, Duration::ZERO, "test").await;
    assert!(matches!(refused, Err(IdentityError::KeyEnded(_))));
    // The former ends at its own time, whatever the overlap.
    let (short, _) = world.key(|new| new.time = Some(Duration::from_secs(10))).await;
    directory.rotate_key(None, short.id, Duration::from_secs(100), "test").await.unwrap();
    assert_eq!(directory.key(None, short.id).await.unwrap().expires, short.expires);
}

async fn tenants_have_their_own_keys(world: &World) {
    let directory = world.identities.directory();
    directory.create_tenant(&"other".parse().unwrap(), "test").await.unwrap();
    let again = directory.create_tenant(&"other".parse().unwrap(), "test").await;
    assert!(matches!(again, Err(IdentityError::TenantExists(_))));
    let names: Vec<String> = directory.tenants().await.unwrap().iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["acme", "local", "other"]);
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, world.key(|_| {}).await.0.id);
    }
    let (theirs, secret) = world.key(|new| new.tenant = "other".parse().unwrap()).await;
    let (page, more) = directory.keys(Some(&acme), Page::first(2)).await.unwrap();
    assert_eq!((page.iter().map(|key| key.id).collect::<Vec<_>>(), more), (ids[..2].to_vec(), true));
    let (page, more) = directory.keys(Some(&acme), Page { limit: 2, after: Some(ids[1]) }).await.unwrap();
    assert_eq!((page.iter().map(|key| key.id).collect::<Vec<_>>(), more), (ids[2..].to_vec(), false));
    assert_eq!(directory.keys(None, Page::first(PAGE)).await.unwrap().0.len(), 4);
    // Another's key is not there.
    for refused in [
        directory.key(Some(&acme), theirs.id).await.map(drop),
        directory.revoke_key(Some(&acme), theirs.id, "test").await.map(drop),
        directory.rotate_key(Some(&acme), theirs.id, Duration::ZERO, "test").await.map(drop),
    ] {
        assert!(matches!(refused, Err(IdentityError::NoKey(id)) if id == theirs.id));
    }
    assert_eq!(world.ask(&secret).await.unwrap().tenant(), &other);
    let unknown = NewKey {
        tenant: "unknown".parse().unwrap(),
        name: "a".to_owned(),
        scopes: Vec::new(),
        roles: BTreeSet::new(),
        trust: TrustLevel::Standard,
        time: None,
    };
    assert!(matches!(directory.create_key(&unknown, "").await, Err(IdentityError::NoTenant(_))));
    let unnamed = NewKey { tenant: acme, name: "\n".to_owned(), ..unknown };
    assert!(matches!(directory.create_key(&unnamed, "").await, Err(IdentityError::Named(_))));
}

#[tokio::test]
async fn a_tenant_has_keys_of_its_own() {
    tenants_have_their_own_keys(&World::new("").await).await;
}

#[tokio::test]
async fn a_tenant_has_keys_of_its_own_in_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(Location::Postgres(postgres.url()), folder, Some(auth(""))).await;
    tenants_have_their_own_keys(&world).await;
}

#[tokio::test]
async fn guessing_is_bounded_and_harms_nobody_else() {
    let world = World::new("").await;
    let (_, secret) = world.key(|_| {}).await;
    let (_, other) = world.key(|_| {}).await;
    assert!(world.ask(&secret).await.is_ok());
    for _ in 0..20 {
        assert!(world.is_refused("witan_sk_guess").await);
    }
    assert!(matches!(world.ask("witan_sk_guess").await, Err(AuthError::TooMany(_))));
    assert!(matches!(world.ask(&other).await, Err(AuthError::TooMany(_))));
    assert!(world.ask_from(HERE, &other).await.is_ok(), "from elsewhere");
    let failures = world.seen().into_iter().filter(|what| *what == What::AuthenticationFailed).count();
    assert_eq!(failures, 20);
}

#[tokio::test]
async fn a_token_of_an_issuer_is_taken_by_each_algorithm_and_by_no_other() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let client = world.ask(&provider.token(algorithm, person())).await.unwrap();
        assert_eq!((client.principal(), client.tenant().as_str(), client.kind()), ("login/7", "acme", Kind::User));
        assert_eq!(client.trust(), TrustLevel::Privileged, "by the role");
        assert!(client.roles().contains(&"operator".parse().unwrap()) && client.allows("host", Verb::Write));
    }
    let plain = json!({ "sub": "8", "org": "o1", "groups": ["staff"] });
    let client = world.ask(&provider.token("EdDSA", plain)).await.unwrap();
    assert_eq!((client.trust(), client.roles().len()), (TrustLevel::Standard, 0));
    assert!(client.allows("tasks", Verb::Write) && !client.allows("host", Verb::Read));
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256", "kid": "RS256-1" }),
        json!({ "alg": "RS256", "kid": "ES256-1" }),
        json!({ "alg": "EdDSA", "kid": "another" }),
        json!({ "alg": "RS256", "kid": "RS256-1", "crit": ["x"] }),
    ] {
        assert!(world.is_refused(&provider.token_with(&header, person())).await, "{header}");
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_is_for_this_host_and_for_now() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let with = |name: &str, value: Value| {
        let mut claims = person();
        claims[name] = value;
        provider.token("ES256", claims)
    };
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("iss", json!(null)),
        ("aud", json!("other")),
        ("aud", json!(null)),
        ("exp", json!(now() - 6)),
        ("exp", json!(null)),
        ("nbf", json!(now() + 60)),
        ("iat", json!(now() + 60)),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("org", json!("unknown")),
        ("org", json!(null)),
        // The mapping knows the tenant, and this host does not.
        ("org", json!("o2")),
    ] {
        assert!(world.is_refused(&with(name, value.clone())).await, "{name}: {value}");
    }
    assert!(world.reason().contains("nobody"), "{}", world.reason());
    for (name, value) in [("exp", json!(now() - 2)), ("nbf", json!(now() + 3)), ("aud", json!(["other", "witan"]))] {
        assert!(world.ask_from(HERE, &with(name, value.clone())).await.is_ok(), "{name}: {value}");
    }
    // The signature is of another token.
    let [one, other] = [person(), json!({ "sub": "8", "org": "o1" })].map(|claims| provider.token("ES256", claims));
    let forged = format!("{}.{}", one.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    assert!(matches!(world.ask_from(HERE, &forged).await, Err(AuthError::Refused(_))));
}

#[tokio::test]
async fn new_keys_of_an_issuer_are_fetched_and_not_too_often() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "refresh = \"1h\"").await;
    let old = provider.token("RS256", person());
    assert!(world.ask(&old).await.is_ok());
    assert_eq!(provider.asked(), ["/.well-known/openid-configuration", "/keys"]);
    // Keys were fetched a moment ago: whoever names unknown ones has the issuer asked no more often.
    for _ in 0..5 {
        let unknown = provider.token_with(&json!({ "alg": "RS256", "kid": "unknown" }), person());
        assert!(world.is_refused(&unknown).await);
    }
    assert_eq!(provider.asked(), [""; 0]);

    // Where keys may be fetched again at once, a new one is found when it is named first, and an old one is gone.
    let world = World::with(&provider, "refresh = \"1ms\"").await;
    assert!(world.ask(&old).await.is_ok());
    provider.rotate();
    assert!(world.ask(&provider.token("RS256", person())).await.is_ok());
    assert!(world.is_refused(&old).await);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_believed_for_a_while() {
    let provider = Provider::serve(person());
    let patient = World::with(&provider, "refresh = \"1ms\"\noutage = \"1h\"").await;
    let strict = World::with(&provider, "refresh = \"1ms\"\noutage = \"0s\"").await;
    let token = provider.token("EdDSA", person());
    assert!(patient.ask(&token).await.is_ok() && strict.ask(&token).await.is_ok());
    provider.slip(Slip::Down);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(patient.ask(&token).await.is_ok());
    assert!(strict.is_refused(&token).await);
    assert!(strict.reason().contains("too old"), "{}", strict.reason());
    let first = World::with(&provider, "").await;
    assert!(first.is_refused(&token).await, "it was never heard of");
    provider.slip(Slip::OtherIssuer);
    let other = World::with(&provider, "").await;
    assert!(other.is_refused(&token).await);
    provider.slip(Slip::None);
    assert!(strict.ask(&token).await.is_ok());
}

#[tokio::test]
async fn somebody_logs_in_and_their_session_is_theirs() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let tokens = world.tokens().await;
    let client = world.ask(tokens.access.expose()).await.unwrap();
    assert_eq!((client.principal(), client.tenant().as_str()), ("login/7", "acme"));
    assert_eq!((client.credential(), client.trust()), (Some(tokens.session), TrustLevel::Privileged));
    let (sessions, _) = world.identities.sessions(&client, false, Page::first(PAGE)).await.unwrap();
    assert_eq!((sessions[0].id, sessions[0].agent.as_str()), (tokens.session, "a browser"));
    let (people, _) = world.identities.directory().people(None, Page::first(PAGE)).await.unwrap();
    assert_eq!((people[0].name.as_str(), people[0].email.as_str()), ("Ada", "ada@acme.example"));
    assert!(world.seen().contains(&What::LoggedIn));
    // The host's keys are its process's own.
    let other = World::with(&provider, "").await;
    assert!(other.is_refused(tokens.access.expose()).await);
}

#[tokio::test]
async fn a_login_on_the_command_line_ends_with_a_code_for_whoever_began_it() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    // The digest of `verifier`.
    let challenge = "iMnq5o6zALKXGivsnlom_0F5_WYda32GHkxlV7mq7hQ";
    let code = || async {
        let caller = Caller::new("http://127.0.0.1:4242/done", challenge, "mine").unwrap();
        let Ended::Caller(location) = world.log_in(Some(caller)).await.unwrap() else { panic!("it has tokens") };
        let location = url::Url::parse(&location).unwrap();
        assert_eq!((location.port(), location.path()), (Some(4242), "/done"));
        let query: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
        assert_eq!(query["state"], "mine");
        query["code"].clone()
    };
    let first = code().await;
    let tokens = world.identities.redeem(&first, "verifier", HERE).await.unwrap();
    assert!(world.ask(tokens.access.expose()).await.is_ok());
    assert!(world.identities.redeem(&first, "verifier", HERE).await.is_err(), "it is good once");
    let second = code().await;
    assert!(world.identities.redeem(&second, "another", HERE).await.is_err());
    assert!(world.identities.redeem(&second, "verifier", HERE).await.is_err(), "and was tried");
}

#[tokio::test]
async fn a_login_that_is_not_right_is_refused() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    for slip in [Slip::OtherNonce, Slip::OtherAudience] {
        provider.slip(slip);
        assert!(matches!(world.log_in(None).await, Err(LoginError::NotBelieved(_))), "{slip:?}");
    }
    provider.slip(Slip::Denies);
    assert!(matches!(world.log_in(None).await, Err(LoginError::Refused(why)) if why == "access_denied"));
    provider.slip(Slip::None);
    for (name, value) in [("org", json!("o2")), ("org", json!(null)), ("sub", json!(null))] {
        let mut other = person();
        other[name] = value;
        provider.log_in(other);
        assert!(matches!(world.log_in(None).await, Err(LoginError::NotBelieved(_))), "{name}");
    }
    provider.log_in(person());

    // A browser that did not begin it, and a code that is not the provider's.
    let begin = || Begin { callback: "http://127.0.0.1:8080/v1/auth/callback".to_owned(), caller: None };
    let [one, other] =
        [world.identities.begin_login(begin()).await.unwrap(), world.identities.begin_login(begin()).await.unwrap()];
    let sent = answer(&one.location).await;
    let end = async |cookie: &str, state: &str, code: &str| {
        world.identities.end_login(cookie, state, Ok(code), HERE, "").await
    };
    let code = sent.code.unwrap();
    assert!(matches!(end(other.cookie.expose(), &sent.state, &code).await, Err(LoginError::Unknown)));
    assert!(matches!(end("", &sent.state, &code).await, Err(LoginError::Unknown)));
    assert!(matches!(end(one.cookie.expose(), "another", &code).await, Err(LoginError::Unknown)));
    assert!(matches!(end(one.cookie.expose(), &sent.state, "guess").await, Err(LoginError::Refused(_))));
    // The verifier is the other login's.
    let other_state = answer(&other.location).await.state;
    assert!(matches!(end(other.cookie.expose(), &other_state, &code).await, Err(LoginError::Refused(_))));
    assert_eq!(world.seen().iter().filter(|what| **what == What::LoggedIn).count(), 0);
    let none = World::new("").await;
    assert!(matches!(none.identities.begin_login(begin()).await, Err(LoginError::NotSetUp)));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_session() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let first = world.tokens().await;
    let second = world.identities.refresh(first.refresh.expose(), HERE).await.unwrap();
    assert_eq!(second.session, first.session);
    let third = world.identities.refresh(second.refresh.expose(), HERE).await.unwrap();
    assert!(world.ask(third.access.expose()).await.is_ok());
    // Somebody has a copy of the first.
    assert!(world.identities.refresh(first.refresh.expose(), ELSEWHERE).await.is_err());
    assert!(world.seen().contains(&What::RefreshReused));
    assert!(world.is_refused(third.access.expose()).await);
    assert!(world.identities.refresh(third.refresh.expose(), HERE).await.is_err());
    for wrong in ["", "witan_rt_guess", first.access.expose()] {
        assert!(world.identities.refresh(wrong, HERE).await.is_err());
    }
    // Another login is another session.
    assert!(world.ask(world.tokens().await.access.expose()).await.is_ok());
}

#[tokio::test]
async fn a_refresh_token_that_was_traded_long_ago_ends_its_session_too() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let first = world.tokens().await;
    let second = world.identities.refresh(first.refresh.expose(), HERE).await.unwrap();
    // As if a month had passed in which the session went on.
    let database = Database::open(Location::Sqlite(world.folder.path().join("rows.db"))).await.unwrap();
    sqlx::query("UPDATE refresh_token SET used = used - 2592000 WHERE used > 0")
        .execute(database.pool())
        .await
        .unwrap();
    let third = world.identities.refresh(second.refresh.expose(), HERE).await.unwrap();
    assert!(world.identities.refresh(first.refresh.expose(), ELSEWHERE).await.is_err());
    assert!(world.seen().contains(&What::RefreshReused));
    assert!(world.is_refused(third.access.expose()).await);
}

#[tokio::test]
async fn a_session_ends_when_it_is_revoked_and_with_its_person() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let directory = world.identities.directory();
    let tokens = world.tokens().await;
    let client = world.ask(tokens.access.expose()).await.unwrap();
    let (tenant, principal) = (Some(client.tenant()), Some(client.principal()));
    for (tenant, principal) in [(Some(&"other".parse().unwrap()), None), (tenant, Some("login/8"))] {
        let refused = directory.revoke_session(tenant, principal, tokens.session, "").await;
        assert!(matches!(refused, Err(IdentityError::NoSession(_))));
    }
    directory.revoke_session(tenant, principal, tokens.session, "login/7").await.unwrap();
    assert_eq!(world.about(What::SessionRevoked), None, "it is their own");
    assert!(world.is_refused(tokens.access.expose()).await);
    assert!(world.identities.refresh(tokens.refresh.expose(), HERE).await.is_err());

    let tokens = world.tokens().await;
    let id = directory.people(None, Page::first(PAGE)).await.unwrap().0[0].id;
    directory.give_roles(id, &BTreeSet::from(["auditor".parse().unwrap()]), "test").await.unwrap();
    let roles = world.ask(tokens.access.expose()).await.unwrap().roles().clone();
    assert_eq!(roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(), ["auditor", "operator"]);
    directory.disable_person(id, true, "test").await.unwrap();
    assert_eq!(world.about(What::UserChanged).as_deref(), Some("login/7"));
    assert!(world.is_refused(tokens.access.expose()).await);
    assert!(world.identities.refresh(tokens.refresh.expose(), HERE).await.is_err());
    assert!(world.is_refused(&provider.token("EdDSA", person())).await);
    assert!(matches!(world.log_in(None).await, Err(LoginError::NotBelieved(_))));
    directory.disable_person(id, false, "test").await.unwrap();
    assert!(world.ask_from(HERE, tokens.access.expose()).await.is_ok());
    // The provider moves them to another tenant: what they had in the former is theirs no more.
    directory.create_tenant(&"nobody".parse().unwrap(), "test").await.unwrap();
    provider.log_in(json!({ "sub": "7", "org": "o2" }));
    let moved = world.tokens().await;
    assert_eq!(world.ask_from(HERE, moved.access.expose()).await.unwrap().tenant().as_str(), "nobody");
    assert!(world.ask_from(HERE, tokens.access.expose()).await.is_err());
    directory.revoke_session(None, None, tokens.session, "admin").await.unwrap();
    assert_eq!(world.about(What::SessionRevoked).as_deref(), Some("login/7"));
}

#[tokio::test]
async fn a_session_ends_when_nobody_refreshes_it() {
    let provider = Provider::serve(person());
    let world = World::with(&provider, "").await;
    let mut settings = auth("idle-time = \"1ms\"");
    let configured = Auth { issuers: world_issuers(&provider), login: login(&world), ..settings.clone() };
    assert!(world.identities.replace(Some(configured)));
    let tokens = world.tokens().await;
    assert!(world.is_refused(tokens.access.expose()).await);
    assert!(world.identities.refresh(tokens.refresh.expose(), HERE).await.is_err());
    // What would ask for no credentials any more is not taken while it runs.
    settings.required = false;
    assert!(!world.identities.replace(Some(settings)));
    assert!(!world.identities.replace(None));
}

fn world_issuers(provider: &Provider) -> std::collections::BTreeMap<witan_identity::Name, witan_system::Issuer> {
    let text = format!(
        "[host.auth.issuers.login]\nurl = \"{}\"\naudiences = [\"witan\"]\ntenant = \"acme\"\n",
        provider.issuer()
    );
    auth(&text).issuers
}

fn login(world: &World) -> Option<witan_system::Login> {
    let secret = world.folder.path().join("secret");
    let text = format!(
        "[host.auth.issuers.login]\nurl = \"https://a.example\"\naudiences = [\"a\"]\ntenant = \"acme\"\n\
         [host.auth.login]\nissuer = \"login\"\nclient-id = \"witan\"\nclient-secret-file = {secret:?}\n"
    );
    auth(&text).login
}

#[tokio::test]
async fn a_service_is_known_by_its_certificate() {
    let world = World::new(
        "[[host.auth.certificates]]\nuri = \"spiffe://acme.example/worker\"\nname = \"worker\"\ntenant = \"acme\"\n\
         scopes = [\"tasks:write\"]\n[[host.auth.certificates]]\ndns = \"Other.acme.example\"\nname = \"other\"\n\
         tenant = \"nobody\"\n",
    )
    .await;
    let ask = async |uris: &[&str], names: &[&str]| {
        let [uris, names] = [uris, names].map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        let certificate = Some(Arc::new(Certificate { uris, names }));
        world.identities.authenticate(&HeaderMap::new(), &Peer { address: ELSEWHERE, certificate }).await
    };
    let client = ask(&["spiffe://acme.example/worker"], &["a.example"]).await.unwrap();
    assert_eq!((client.principal(), client.kind()), ("service/worker", Kind::Service));
    assert!(client.allows("tasks", Verb::Write) && !client.allows("tasks", Verb::Read));
    for (uris, names) in [
        (&["spiffe://acme.example/worker/x"][..], &[][..]),
        (&[], &["spiffe://acme.example/worker"]),
        (&[], &[]),
        // Its tenant is not known.
        (&[], &["other.acme.example"]),
    ] {
        assert!(matches!(ask(uris, names).await, Err(AuthError::Refused(_))), "{uris:?} {names:?}");
    }
}

#[tokio::test]
async fn without_settings_this_machine_is_let_in_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(Location::Sqlite(folder.path().join("rows.db")), folder, None).await;
    let client = world.ask_from(HERE, "whatever").await.unwrap();
    assert_eq!((client.principal(), client.tenant().as_str(), client.kind()), ("local", "local", Kind::Local));
    assert!(matches!(world.ask("whatever").await, Err(AuthError::Missing)));

    let world = World::new("required = false").await;
    let none = |address| {
        let peer = Peer { address, certificate: None };
        let identities = &world.identities;
        async move { identities.authenticate(&HeaderMap::new(), &peer).await }
    };
    assert_eq!(none(HERE).await.unwrap().kind(), Kind::Local);
    assert!(matches!(none(ELSEWHERE).await, Err(AuthError::Missing)));
    // Who shows a credential is held to it.
    assert!(world.is_refused("witan_sk_wrong").await);
}
