//! How people log in: OpenID Connect, the authorization code with PKCE.
//!
//! What a login must remember until its provider sends the browser back stands in a sealed cookie of that browser, not in
//! this host: nobody fills its memory by beginning logins, and nobody has another's browser end one that they began.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use parking_lot::Mutex;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use witan_system::{Issuer, Login, Name};
use zeroize::Zeroizing;

use crate::{
    AuthError, Event, FetchError, Identities, IdentityError, Person, Secret, Token, Tokens, What,
    authenticate::Configured,
    fetch::{endpoint, fetch, shown},
    issuer::Known,
    jwt::Claims,
    mapping, now,
    person::Vouched,
    secret::{self, CODE, hash, random},
    session::Origin,
};

/// How long a login may take, in seconds.
const TIME: i64 = 600;
/// How long the code is good that ends a login on the command line.
const CODE_TIME: Duration = Duration::from_secs(60);
/// Such codes that are kept at once.
const CODES: usize = 1_000;
/// The longest texts that a command line sends.
const LONGEST: usize = 512;
/// The largest secret that a provider gives.
const LARGEST_SECRET: u64 = 4 << 10;

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no provider.
    #[error("nobody logs in here: `[host.auth.login]` in system.toml names no provider")]
    NotSetUp,
    /// What the command line asks for is not what it may.
    #[error("`{0}` is missing or not of its form")]
    Caller(&'static str),
    /// The login was not begun in this browser, or too long ago.
    #[error("this login was not begun here, or took longer than ten minutes; begin it again")]
    Unknown,
    /// The provider refuses.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// The provider cannot be asked.
    #[error("the provider cannot be asked now")]
    Provider(#[from] FetchError),
    /// What the provider says is not believed. Why is for the host's log and for nobody else.
    #[error("the provider's word is not good here, or it knows somebody who is not let in")]
    NotBelieved(AuthError),
    /// The rows cannot be used.
    #[error("the login cannot be finished now")]
    Unavailable(#[source] IdentityError),
}

impl From<IdentityError> for LoginError {
    fn from(error: IdentityError) -> Self {
        Self::Unavailable(error)
    }
}

/// How a login begins.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Where the provider sends the browser back to.
    pub callback: String,
    /// The command that waits for the end of the login; none where that is the browser itself.
    pub caller: Option<Caller>,
}

/// A command on the user's machine that waits for the end of a login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Caller {
    redirect: String,
    challenge: String,
    state: String,
}

/// A login that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where to send the browser.
    pub location: String,
    /// What the browser must bring back.
    pub cookie: Secret,
}

/// How a login has ended.
#[derive(Debug)]
pub enum Ended {
    /// With tokens for the browser.
    Tokens(Tokens),
    /// With a code for the command that waits: where to send the browser.
    Caller(String),
}

/// What a login must remember.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    callback: String,
    caller: Option<Caller>,
    until: i64,
}

/// Somebody who has logged in and whose command has not asked for the tokens yet.
struct Waiting {
    person: Person,
    roles: BTreeSet<Name>,
    origin: Origin,
    challenge: String,
    until: Instant,
}

/// The logins of a host.
pub(crate) struct Logins {
    seal: LessSafeKey,
    /// By the hash of the code.
    waiting: Mutex<HashMap<String, Waiting>>,
}

#[derive(Deserialize)]
struct Answer {
    id_token: String,
}

impl Caller {
    /// A command that listens at `redirect`, an address of the machine that the browser runs on, and shows by the secret of
    /// `challenge` (S256) that it is the one that began; `state` is its own.
    ///
    /// # Errors
    /// When one of them is not of its form.
    pub fn new(redirect: &str, challenge: &str, state: &str) -> Result<Self, LoginError> {
        let url = Url::parse(redirect).ok().filter(|url| url.scheme() == "http" && redirect.len() <= LONGEST);
        let loopback = url.as_ref().is_some_and(|url| match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            // A name may lead elsewhere.
            Some(Host::Domain(_)) | None => false,
        });
        let plain =
            url.is_some_and(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
        if !loopback || !plain {
            return Err(LoginError::Caller("redirect"));
        }
        if BASE64.decode(challenge).ok().is_none_or(|digest| digest.len() != 32) {
            return Err(LoginError::Caller("challenge"));
        }
        if state.is_empty() || state.len() > LONGEST {
            return Err(LoginError::Caller("state"));
        }
        Ok(Self { redirect: redirect.to_owned(), challenge: challenge.to_owned(), state: state.to_owned() })
    }
}

impl Logins {
    pub(crate) fn new() -> Result<Self, IdentityError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*random()?).map_err(|_| IdentityError::Random)?;
        Ok(Self { seal: LessSafeKey::new(key), waiting: Mutex::default() })
    }

    fn seal(&self, pending: &Pending) -> Result<Secret, IdentityError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| IdentityError::Random)?;
        let text = serde_json::to_vec(pending).map_err(|error| IdentityError::Damaged(error.to_string()))?;
        let mut sealed = text;
        let given = Nonce::assume_unique_for_key(nonce);
        self.seal.seal_in_place_append_tag(given, Aad::empty(), &mut sealed).map_err(|_| IdentityError::Random)?;
        Ok(Secret::of(BASE64.encode([&nonce[..], &sealed].concat())))
    }

    fn open(&self, cookie: &str) -> Option<Pending> {
        let mut sealed = Zeroizing::new(BASE64.decode(cookie).ok()?);
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.seal.open_in_place(nonce, Aad::empty(), text).ok()?;
        serde_json::from_slice(text).ok().filter(|pending: &Pending| pending.until > now())
    }

    fn wait(&self, waiting: Waiting) -> Result<Secret, IdentityError> {
        let code = Secret::generate(CODE)?;
        let mut all = self.waiting.lock();
        all.retain(|_, waiting| waiting.until > Instant::now());
        if all.len() >= CODES {
            let oldest = all.iter().min_by_key(|(_, waiting)| waiting.until).map(|(code, _)| code.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        all.insert(code.hash(), waiting);
        Ok(code)
    }

    /// Who waits with `code`; a code is good once.
    fn take(&self, code: &str) -> Option<Waiting> {
        let waiting = self.waiting.lock().remove(&hash(code));
        waiting.filter(|waiting| waiting.until > Instant::now())
    }
}

/// 256 random bits as text.
fn random_text() -> Result<String, IdentityError> {
    Ok(BASE64.encode(*random()?))
}

/// The challenge of PKCE for `verifier`.
fn challenge(verifier: &str) -> String {
    BASE64.encode(secret::digest(verifier.as_bytes()))
}

impl Identities {
    fn provider(&self) -> Result<(std::sync::Arc<Configured>, Login), LoginError> {
        let configured = self.configured().ok_or(LoginError::NotSetUp)?;
        let login = configured.auth.login.clone().ok_or(LoginError::NotSetUp)?;
        Ok((configured, login))
    }

    /// Begins a login.
    ///
    /// # Errors
    /// When there is no provider, or it cannot be asked.
    pub async fn begin_login(&self, begin: Begin) -> Result<Begun, LoginError> {
        let (configured, login) = self.provider()?;
        let issuer = configured.issuers.get(&login.issuer).ok_or(LoginError::NotSetUp)?;
        let discovery = issuer.discover().await?;
        let pending = Pending {
            state: random_text()?,
            nonce: random_text()?,
            verifier: random_text()?,
            callback: begin.callback,
            caller: begin.caller,
            until: now().saturating_add(TIME),
        };
        let mut location = endpoint(&discovery.authorization_endpoint)?;
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &login.client_id)
            .append_pair("redirect_uri", &pending.callback)
            .append_pair("scope", &login.scopes.join(" "))
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &challenge(&pending.verifier))
            .append_pair("code_challenge_method", "S256");
        Ok(Begun { location: location.into(), cookie: self.logins.seal(&pending)? })
    }

    /// Ends a login that the provider has sent back with `state`, and `code` or `error`, to the browser that has `cookie`.
    ///
    /// # Errors
    /// When it was not begun there, the provider refuses or cannot be asked, or its word is not good.
    pub async fn end_login(
        &self,
        cookie: &str,
        state: &str,
        code: Result<&str, &str>,
        address: IpAddr,
        agent: &str,
    ) -> Result<Ended, LoginError> {
        let (configured, login) = self.provider()?;
        let pending = self.logins.open(cookie).filter(|pending| pending.state == state).ok_or(LoginError::Unknown)?;
        let origin = Origin { address: Some(address.to_canonical()), agent: agent.to_owned() };
        let ended = match code {
            Ok(code) => self.finish(&configured, &login, &pending, code, origin).await,
            Err(error) => Err(LoginError::Refused(shown(error))),
        };
        if let Err(error) = &ended {
            let why = match error {
                LoginError::NotBelieved(AuthError::Refused(reason)) => reason.to_string(),
                error => error.to_string(),
            };
            let event = Event::new(What::LoginFailed).from(Some(address.to_canonical()));
            self.directory.tell(&event.because(why));
        }
        ended
    }

    async fn finish(
        &self,
        configured: &Configured,
        login: &Login,
        pending: &Pending,
        code: &str,
        origin: Origin,
    ) -> Result<Ended, LoginError> {
        let issuer = configured.issuers.get(&login.issuer).ok_or(LoginError::NotSetUp)?;
        let answer = exchange(issuer, login, pending, code).await?;
        let claims = believe(configured, issuer, login, pending, &answer.id_token).await?;
        let (person, roles) = self.person_for(issuer, &claims).await?;
        let Some(caller) = &pending.caller else {
            let session = self.directory.begin_session(&person, &roles, &origin, &configured.auth).await?;
            let (id, refresh) = session;
            let tokens = self.tokens(&configured.auth, &person.principal(), &person.tenant, id, refresh);
            return tokens.map(Ended::Tokens).map_err(LoginError::NotBelieved);
        };
        let until = Instant::now() + CODE_TIME;
        let code = self.logins.wait(Waiting { person, roles, origin, challenge: caller.challenge.clone(), until })?;
        let mut location = Url::parse(&caller.redirect).map_err(|_| LoginError::Caller("redirect"))?;
        location.query_pairs_mut().append_pair("code", code.expose()).append_pair("state", &caller.state);
        Ok(Ended::Caller(location.into()))
    }

    /// Whom `claims` are about.
    async fn person_for(&self, issuer: &Known, claims: &Claims) -> Result<(Person, BTreeSet<Name>), LoginError> {
        let refused = |error| LoginError::NotBelieved(AuthError::refused(error));
        let settings: &Issuer = &issuer.settings;
        let subject = mapping::subject(claims).map_err(refused)?;
        let tenant = mapping::tenant(settings, claims).map_err(refused)?;
        self.tenant_is_good(&tenant).await.map_err(LoginError::NotBelieved)?;
        let vouched = Vouched {
            tenant,
            issuer: issuer.name.clone(),
            subject: subject.to_owned(),
            name: claims.text("name").or_else(|| claims.text("preferred_username")).unwrap_or_default().to_owned(),
            email: claims.text("email").unwrap_or_default().to_owned(),
        };
        let person = self.directory.vouched(&vouched).await?;
        if person.disabled.is_some() {
            return Err(LoginError::NotBelieved(AuthError::refused("the user is disabled")));
        }
        Ok((person, mapping::roles(settings, claims)))
    }

    /// Trades the code that a login on the command line ended with, and the secret of its challenge, for tokens.
    ///
    /// # Errors
    /// When it is not good, too many bad ones came from there, or the database fails.
    pub async fn redeem(&self, code: &str, verifier: &str, address: IpAddr) -> Result<Tokens, AuthError> {
        let address = address.to_canonical();
        self.may_try(address)?;
        let configured = self.configured().ok_or_else(|| AuthError::refused("nobody logs in here"))?;
        let waiting = self.logins.take(code).filter(|waiting| waiting.challenge == challenge(verifier));
        let waiting = waiting.ok_or_else(|| self.failed(address, AuthError::refused("there is no such login")))?;
        let Waiting { person, roles, origin, .. } = waiting;
        let (id, refresh) = self.directory.begin_session(&person, &roles, &origin, &configured.auth).await?;
        self.tokens(&configured.auth, &person.principal(), &person.tenant, id, refresh)
    }
}

/// Trades the provider's code for its word on who logs in.
async fn exchange(issuer: &Known, login: &Login, pending: &Pending, code: &str) -> Result<Answer, LoginError> {
    let discovery = issuer.discover().await?;
    let url = endpoint(&discovery.token_endpoint)?;
    let secret = login.client_secret_file.as_deref().map(read_secret).transpose()?;
    let methods = &discovery.token_endpoint_auth_methods_supported;
    // What a provider takes that does not say.
    let basic = methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", pending.callback.as_str()),
        ("code_verifier", pending.verifier.as_str()),
    ];
    let mut request = issuer.http().client.post(url.clone());
    match &secret {
        Some(secret) if basic => {
            let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(&login.client_id), Some(encoded(secret)));
        }
        Some(secret) => {
            form.extend([("client_id", login.client_id.as_str()), ("client_secret", secret.as_str())]);
        }
        None => {
            form.push(("client_id", login.client_id.as_str()));
        }
    }
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let kind = "application/x-www-form-urlencoded";
    let request = request.header(http::header::CONTENT_TYPE, kind).body(form);
    let body = match fetch(issuer.http(), url.as_str(), request).await {
        // It understood, and says no: the code is wrong, old, or of another login.
        Err(FetchError::Status { status, .. }) if (400..500).contains(&status) => {
            return Err(LoginError::Refused(format!("it answers {status} to the code")));
        }
        answered => answered?,
    };
    serde_json::from_slice(&body).map_err(|_| {
        LoginError::Provider(FetchError::Unreadable { url: url.into(), why: "it has no `id_token`".to_owned() })
    })
}

/// What the provider says in `token`, if it is its word on this very login.
async fn believe(
    configured: &Configured,
    issuer: &Known,
    login: &Login,
    pending: &Pending,
    token: &str,
) -> Result<Claims, LoginError> {
    let refused = |error: &dyn std::fmt::Display| LoginError::NotBelieved(AuthError::refused(error));
    let token = Token::parse(token).map_err(|error| refused(&error))?;
    if token.issuer() != Some(issuer.settings.url.as_str()) {
        return Err(refused(&"the provider's token is of another issuer"));
    }
    let claims = issuer.verify(token).await.map_err(|error| refused(&error))?;
    let audience = [login.client_id.clone()];
    let skew = crate::seconds(configured.auth.clock_skew);
    claims.check(&audience, now(), skew).map_err(|error| refused(&error))?;
    let several = claims.audiences().map_err(|error| refused(&error))?.len() > 1;
    let party = claims.text("azp");
    if party.map_or(several, |party| party != login.client_id) {
        return Err(refused(&"the provider's token was made for another client"));
    }
    if claims.text("nonce") != Some(pending.nonce.as_str()) {
        return Err(refused(&"the provider's token is of another login"));
    }
    Ok(claims)
}

fn read_secret(path: &std::path::Path) -> Result<Zeroizing<String>, IdentityError> {
    use std::{io::Read as _, os::unix::fs::MetadataExt as _};
    let failed = |source| IdentityError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(failed(std::io::Error::other("others can read it: make its mode 0600")));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LARGEST_SECRET).read_to_string(&mut text).map_err(failed)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(until: i64) -> Pending {
        let text = || "text".to_owned();
        Pending { state: text(), nonce: text(), verifier: text(), callback: text(), caller: None, until }
    }

    #[test]
    fn what_a_login_remembers_is_sealed_and_ends() {
        let logins = Logins::new().unwrap();
        let cookie = logins.seal(&pending(now() + 60)).unwrap();
        assert_eq!(logins.open(cookie.expose()).unwrap().nonce, "text");
        assert!(Logins::new().unwrap().open(cookie.expose()).is_none(), "of another host");
        let mut changed = BASE64.decode(cookie.expose()).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        assert!(logins.open(&BASE64.encode(changed)).is_none());
        assert!(logins.open(logins.seal(&pending(now())).unwrap().expose()).is_none(), "it has ended");
        for text in ["", "a", "!", "AAAA"] {
            assert!(logins.open(text).is_none());
        }
    }

    #[test]
    fn a_command_listens_on_its_own_machine() {
        let digest = challenge("verifier");
        assert!(Caller::new("http://127.0.0.1:4242/done", &digest, "state").is_ok());
        assert!(Caller::new("http://[::1]:4242/", &digest, "state").is_ok());
        for redirect in [
            "https://127.0.0.1/",
            "http://localhost:4242/",
            "http://evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1/?code=mine",
            "file:///etc/passwd",
            "",
        ] {
            assert!(
                matches!(Caller::new(redirect, &digest, "state"), Err(LoginError::Caller("redirect"))),
                "{redirect}"
            );
        }
        assert!(Caller::new("http://127.0.0.1:1/", "short", "state").is_err());
        assert!(Caller::new("http://127.0.0.1:1/", &digest, "").is_err());
    }
}
