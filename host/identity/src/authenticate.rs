//! From a request to who sent it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use parking_lot::RwLock;
use uuid::Uuid;
use witan_egress::Egress;
use witan_system::{Auth, Name, TenantName};

use crate::{
    AuthError, Certificate, Client, Directory, Event, IdentityError, Page, Session, Token, Tokens, What,
    attempts::Attempts,
    cache::Cache,
    client::Who,
    fetch,
    issuer::Known,
    login::Logins,
    mapping, now,
    secret::{self, KEY},
    signer::{self, Signer},
    tables::NEVER,
};

/// What identities are made of.
#[derive(Debug)]
pub struct Settings {
    /// The rows.
    pub directory: Directory,
    /// `[host.auth]`; none is one user on this machine.
    pub auth: Option<Auth>,
    /// The way to issuers.
    pub egress: Egress,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: IpAddr,
    /// The certificate that they showed, if it was verified.
    pub certificate: Option<Arc<Certificate>>,
}

/// Who asks.
pub struct Identities {
    pub(crate) directory: Directory,
    configured: RwLock<Option<Arc<Configured>>>,
    pub(crate) signer: Signer,
    pub(crate) logins: Logins,
    attempts: Attempts,
    cache: Cache,
    http: fetch::Http,
}

/// What `[host.auth]` says, and what is known of issuers.
pub(crate) struct Configured {
    pub(crate) auth: Auth,
    pub(crate) issuers: BTreeMap<Name, Known>,
}

impl Configured {
    fn new(auth: Auth, http: &fetch::Http) -> Arc<Self> {
        let known = |(name, issuer): (&Name, &witan_system::Issuer)| {
            (name.clone(), Known::new(name.clone(), issuer.clone(), http.clone()))
        };
        Arc::new(Self { issuers: auth.issuers.iter().map(known).collect(), auth })
    }
}

/// What a credential was found to be, and until when it is good.
struct Found {
    who: Arc<Who>,
    until: i64,
    /// Whether the rows say all of it, so that it may be kept until they change.
    keep: bool,
}

impl Identities {
    /// Makes them.
    ///
    /// # Errors
    /// When the system has no random numbers, or no HTTP client can be made.
    pub fn new(settings: Settings) -> Result<Self, IdentityError> {
        let http = fetch::Http::new(settings.egress)?;
        let configured = settings.auth.map(|auth| Configured::new(auth, &http));
        Ok(Self {
            directory: settings.directory,
            configured: RwLock::new(configured),
            signer: Signer::default(),
            logins: Logins::new()?,
            attempts: Attempts::default(),
            cache: Cache::default(),
            http,
        })
    }

    /// Goes by `auth` from now on. Sessions stay; keys of issuers are fetched anew.
    ///
    /// Whether credentials are asked for at all is decided when the host starts, since where it may listen depends on it: what
    /// would ask for fewer changes nothing and is `false`.
    #[must_use]
    pub fn replace(&self, auth: Option<Auth>) -> bool {
        let mut configured = self.configured.write();
        let required = |auth: Option<&Auth>| (auth.is_some(), auth.is_some_and(|auth| auth.required));
        if required(auth.as_ref()) != required(configured.as_ref().map(|configured| &configured.auth)) {
            return false;
        }
        if configured.as_ref().map(|configured| &configured.auth) != auth.as_ref() {
            *configured = auth.map(|auth| Configured::new(auth, &self.http));
            self.cache.clear();
        }
        true
    }

    /// The rows.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether every request needs a credential.
    #[must_use]
    pub fn required(&self) -> bool {
        self.configured.read().as_ref().is_some_and(|configured| configured.auth.required)
    }

    /// Whether credentials are looked at. Where not, everybody on this machine is `local`.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.configured.read().is_some()
    }

    /// Where clients reach this host, if `[host.auth]` says.
    #[must_use]
    pub fn public_url(&self) -> Option<Arc<str>> {
        self.configured.read().as_ref().and_then(|configured| configured.auth.public_url.clone())
    }

    pub(crate) fn configured(&self) -> Option<Arc<Configured>> {
        self.configured.read().clone()
    }

    /// Who sent a request with these headers over the connection of `peer`.
    ///
    /// # Errors
    /// When it has no good credential, too many bad ones came from there, or it cannot be found out.
    pub async fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Client, AuthError> {
        let address = peer.address.to_canonical();
        let Some(configured) = self.configured() else {
            return if address.is_loopback() { Ok(Client::local(address)) } else { Err(AuthError::Missing) };
        };
        let presented = match presented(headers) {
            Ok(presented) => presented,
            Err(error) => return Err(self.failed(address, error)),
        };
        match (presented, &peer.certificate) {
            (Some(text), _) => self.with_credential(&configured, text, address).await,
            (None, Some(certificate)) => {
                let found = self.service(&configured, certificate).await;
                found.map(|who| Client::new(who, address)).map_err(|error| self.failed(address, error))
            }
            (None, None) if !configured.auth.required && address.is_loopback() => Ok(Client::local(address)),
            (None, None) => Err(AuthError::Missing),
        }
    }

    /// Who showed this before, if it is good still. No attempt is counted.
    pub(crate) async fn look_again(&self, headers: &HeaderMap, peer: &Peer) -> Result<Arc<Who>, AuthError> {
        let configured = self.configured().ok_or(AuthError::Missing)?;
        match (presented(headers)?, &peer.certificate) {
            (Some(text), _) => {
                let (digest, stamp) = (secret::digest(text.as_bytes()), self.directory.stamp());
                if let Some(who) = stamp.and_then(|stamp| self.cache.get(stamp, &digest)) {
                    return Ok(who);
                }
                let found = self.look_up(&configured, text).await?;
                self.keep(stamp, digest, &found);
                Ok(found.who)
            }
            (None, Some(certificate)) => self.service(&configured, certificate).await,
            (None, None) => Err(AuthError::Missing),
        }
    }

    fn keep(&self, stamp: Option<u64>, digest: [u8; 32], found: &Found) {
        if let (Some(stamp), true) = (stamp, found.keep) {
            self.cache.put(stamp, digest, found.who.clone(), found.until);
        }
    }

    async fn with_credential(&self, configured: &Configured, text: &str, address: IpAddr) -> Result<Client, AuthError> {
        let digest = secret::digest(text.as_bytes());
        let stamp = self.directory.stamp();
        if let Some(who) = stamp.and_then(|stamp| self.cache.get(stamp, &digest)) {
            return Ok(Client::new(who, address));
        }
        self.may_try(address)?;
        match self.look_up(configured, text).await {
            Ok(found) => {
                self.keep(stamp, digest, &found);
                Ok(Client::new(found.who, address))
            }
            Err(error) => Err(self.failed(address, error)),
        }
    }

    async fn look_up(&self, configured: &Configured, text: &str) -> Result<Found, AuthError> {
        if secret::is_secret(text, KEY) {
            let key = self.directory.key_with(text).await?;
            let key = key.ok_or_else(|| AuthError::refused("there is no such key, or it has ended"))?;
            let until = key.expires.unwrap_or(NEVER);
            return Ok(Found { who: Arc::new(mapping::key(key)), until, keep: true });
        }
        let token = Token::parse(text).map_err(AuthError::refused)?;
        if token.issuer() == Some(signer::ISSUER) {
            let (session, ends) = self.signer.verify(token).map_err(AuthError::refused)?;
            let (who, until) = self.of_session(configured, session).await?;
            return Ok(Found { who: Arc::new(who), until: until.min(ends), keep: true });
        }
        let (who, until) = self.of_issuer(configured, token).await?;
        Ok(Found { who: Arc::new(who), until, keep: false })
    }

    async fn of_session(&self, configured: &Configured, id: Uuid) -> Result<(Who, i64), AuthError> {
        let found = self.directory.good_session(id).await?;
        let (session, person) = found.ok_or_else(|| AuthError::refused("the session has ended"))?;
        let issuer = configured.auth.issuers.iter().find(|(name, _)| name.as_str() == person.issuer);
        let issuer = issuer.ok_or_else(|| AuthError::refused("the issuer of the session is no longer known"))?;
        let until = session.idle.min(session.expires);
        let roles = mapping::all_roles(session.roles, &person);
        Ok((mapping::user(&configured.auth, issuer, &person.subject, session.tenant, roles, Some(id)), until))
    }

    async fn of_issuer(&self, configured: &Configured, token: Token<'_>) -> Result<(Who, i64), AuthError> {
        let named = token.issuer().unwrap_or_default();
        let issuer = configured.issuers.values().find(|issuer| issuer.settings.url == named);
        let issuer = issuer.ok_or_else(|| AuthError::refused(crate::TokenError::Issuer(fetch::shown(named))))?;
        let claims = issuer.verify(token).await.map_err(AuthError::refused)?;
        let skew = crate::seconds(configured.auth.clock_skew);
        claims.check(&issuer.settings.audiences, now(), skew).map_err(AuthError::refused)?;
        let subject = mapping::subject(&claims).map_err(AuthError::refused)?;
        let tenant = mapping::tenant(&issuer.settings, &claims).map_err(AuthError::refused)?;
        self.tenant_is_good(&tenant).await?;
        let mut roles = mapping::roles(&issuer.settings, &claims);
        if let Some(person) = self.directory.person_of(&issuer.name, subject).await? {
            if person.disabled.is_some() {
                return Err(AuthError::refused("the user is disabled"));
            }
            if person.tenant == tenant {
                roles = mapping::all_roles(roles, &person);
            }
        }
        let until = claims.ends().map_err(AuthError::refused)?.saturating_add(skew);
        Ok((mapping::user(&configured.auth, (&issuer.name, &issuer.settings), subject, tenant, roles, None), until))
    }

    async fn service(&self, configured: &Configured, certificate: &Certificate) -> Result<Arc<Who>, AuthError> {
        let who = mapping::service(&configured.auth, certificate);
        let who = who.ok_or_else(|| AuthError::refused("no rule knows a name of the client certificate"))?;
        self.tenant_is_good(&who.tenant).await?;
        Ok(Arc::new(who))
    }

    pub(crate) async fn tenant_is_good(&self, tenant: &TenantName) -> Result<(), AuthError> {
        match self.directory.is_tenant(tenant).await? {
            true => Ok(()),
            false => Err(AuthError::refused(format!("there is no tenant `{tenant}`, or it is disabled"))),
        }
    }

    /// Whether credentials from `address` are looked at.
    pub(crate) fn may_try(&self, address: IpAddr) -> Result<(), AuthError> {
        self.attempts.check(address).map_err(AuthError::TooMany)
    }

    /// Counts a bad credential, and tells of it.
    pub(crate) fn failed(&self, address: IpAddr, error: AuthError) -> AuthError {
        if let AuthError::Refused(reason) = &error {
            self.attempts.failed(address);
            self.directory.tell(&Event::new(What::AuthenticationFailed).from(Some(address)).because(reason));
        }
        error
    }

    /// Trades a refresh token for the next two tokens.
    ///
    /// # Errors
    /// When it is not good, too many bad ones came from there, or the database fails.
    pub async fn refresh(&self, text: &str, address: IpAddr) -> Result<Tokens, AuthError> {
        let address = address.to_canonical();
        self.may_try(address)?;
        let configured = self.configured().ok_or_else(|| AuthError::refused("nobody logs in here"))?;
        let refreshed = match secret::is_secret(text, secret::REFRESH) {
            true => self.directory.refresh(text, Some(address), &configured.auth).await,
            false => Err(AuthError::refused("it has not the form of a refresh token")),
        };
        let (session, refresh) = refreshed.map_err(|error| self.failed(address, error))?;
        self.tokens(&configured.auth, &session.principal, &session.tenant, session.id, refresh)
    }

    pub(crate) fn tokens(
        &self,
        auth: &Auth,
        principal: &str,
        tenant: &TenantName,
        session: Uuid,
        refresh: crate::Secret,
    ) -> Result<Tokens, AuthError> {
        let access = self.signer.sign(principal, tenant.as_str(), session, auth.access_time)?;
        Ok(Tokens { access, refresh, time: auth.access_time, session })
    }

    /// A page of the sessions that `client` may see: their own, or all of their tenant's where `all` is asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sessions(
        &self,
        client: &Client,
        all: bool,
        page: Page,
    ) -> Result<(Vec<Session>, bool), IdentityError> {
        let principal = if all { None } else { Some(client.principal()) };
        self.directory.sessions(Some(client.tenant()), principal, page).await
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// The credential that a request presents: one, in one of two places.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut bearers = headers.get_all(header::AUTHORIZATION).iter();
    let mut keys = headers.get_all("x-api-key").iter();
    let several = || AuthError::refused("the request has several credentials");
    let (bearer, key) = (bearers.next(), keys.next());
    if bearers.next().is_some() || keys.next().is_some() {
        return Err(several());
    }
    match (bearer, key) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(several()),
        (Some(bearer), None) => {
            let bearer = text(bearer)?;
            match bearer.split_once(' ') {
                Some((kind, value)) if kind.eq_ignore_ascii_case("bearer") => Ok(Some(value.trim())),
                _ => Err(AuthError::refused("`Authorization` is not `Bearer` and a credential")),
            }
        }
        (None, Some(key)) => text(key).map(|key| Some(key.trim())),
    }
}

fn text(value: &HeaderValue) -> Result<&str, AuthError> {
    value.to_str().map_err(|_| AuthError::refused("the credential is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_presents_one_credential() {
        assert_eq!(presented(&headers(&[])).unwrap(), None);
        for (name, value) in [("authorization", "Bearer a"), ("authorization", "bearer  a "), ("x-api-key", "a")] {
            assert_eq!(presented(&headers(&[(name, value)])).unwrap(), Some("a"), "{name}: {value}");
        }
        for wrong in [
            &[("authorization", "Basic a")][..],
            &[("authorization", "a")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("authorization", "Bearer a"), ("x-api-key", "a")],
            &[("x-api-key", "a"), ("x-api-key", "a")],
        ] {
            assert!(matches!(presented(&headers(wrong)), Err(AuthError::Refused(_))), "{wrong:?}");
        }
    }
}
