//! `[host.auth]`: who may ask, and how they show who they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::check::Checker;
use crate::file::Time;
use crate::identity::{Scope, TrustLevel};
use crate::name::{Name, TenantName};
use crate::problem::Key;

/// Who may ask, and how they show who they are. Where this table stands, every request needs a credential.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct AuthFile {
    /// Whether every request needs a credential; without, those of this machine that have none are `local`. Default: true.
    pub(crate) required: Option<bool>,
    /// Where clients reach this host, such as `https://witan.example`, where that is not the address it listens on.
    pub(crate) public_url: Option<String>,
    /// How long an access token is good, `1h` at most. Default: `10m`.
    pub(crate) access_time: Option<Time>,
    /// How long a session lasts that nobody refreshes. Default: `168h`.
    pub(crate) idle_time: Option<Time>,
    /// How long a session lasts at most. Default: `2160h`.
    pub(crate) session_time: Option<Time>,
    /// What the clocks of issuers and of this host may differ by. Default: `60s`.
    pub(crate) clock_skew: Option<Time>,
    /// What roles allow those who have them, by the role's name.
    pub(crate) roles: BTreeMap<String, RoleFile>,
    /// Who vouches for others with signed tokens (JWT), by a name of your choice.
    pub(crate) issuers: BTreeMap<String, IssuerFile>,
    /// How people log in. Default: they do not.
    pub(crate) login: Option<LoginFile>,
    /// Services that show a client certificate.
    pub(crate) certificates: Vec<CertificateFile>,
}

/// What a role allows those who have it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RoleFile {
    /// What those who have it may ask for. Default: nothing.
    pub(crate) scopes: Vec<String>,
    /// How far they are trusted at least. Default: no further than without it.
    pub(crate) trust: Option<TrustLevel>,
}

/// Somebody who vouches for others with signed tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct IssuerFile {
    /// What its tokens have as `iss`, exactly.
    pub(crate) url: String,
    /// For whom a token must be: one of these must be in its `aud`.
    #[serde(default)]
    pub(crate) audiences: Vec<String>,
    /// Where its keys are, a JSON Web Key Set. Default: where its discovery document says.
    #[serde(default)]
    pub(crate) jwks: Option<String>,
    /// The tenant of all whom it vouches for. Either this or `tenant-claim`.
    #[serde(default)]
    pub(crate) tenant: Option<String>,
    /// The claim that says the tenant.
    #[serde(default)]
    pub(crate) tenant_claim: Option<String>,
    /// Which value of `tenant-claim` is which tenant. Default: the value is the tenant's name.
    #[serde(default)]
    pub(crate) tenants: BTreeMap<String, String>,
    /// The claim that lists what somebody is, such as `groups`.
    #[serde(default)]
    pub(crate) roles_claim: Option<String>,
    /// Which roles a value of `roles-claim` gives. Other values give none.
    #[serde(default)]
    pub(crate) roles: BTreeMap<String, Vec<String>>,
    /// What everybody it vouches for may ask for. Default: nothing but what roles allow.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// How far everybody it vouches for is trusted. Default: `standard`.
    #[serde(default)]
    pub(crate) trust: Option<TrustLevel>,
    /// How old its keys may be before they are fetched again. Default: `10m`.
    #[serde(default)]
    pub(crate) refresh: Option<Time>,
    /// How long its keys count while it cannot be reached. Default: `12h`.
    #[serde(default)]
    pub(crate) outage: Option<Time>,
}

/// How people log in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LoginFile {
    /// The name of the issuer under `issuers` that knows them: an OpenID Connect provider.
    pub(crate) issuer: String,
    /// What the provider calls this host.
    pub(crate) client_id: String,
    /// The file with the secret that the provider gave this host, readable by its user alone. Default: none.
    #[serde(default)]
    pub(crate) client_secret_file: Option<String>,
    /// What is asked of the provider beside `openid`. Default: `profile` and `email`.
    #[serde(default)]
    pub(crate) scopes: Option<Vec<String>>,
}

/// A service that shows a client certificate. Either `uri` or `dns`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CertificateFile {
    /// The URI among the certificate's alternative names, exactly.
    #[serde(default)]
    pub(crate) uri: Option<String>,
    /// The DNS name among the certificate's alternative names, exactly.
    #[serde(default)]
    pub(crate) dns: Option<String>,
    /// What the service is called here.
    pub(crate) name: String,
    /// Its tenant.
    pub(crate) tenant: String,
    /// Its roles.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    /// What it may ask for, beside what its roles allow. Default: nothing.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// How far it is trusted. Default: `standard`.
    #[serde(default)]
    pub(crate) trust: Option<TrustLevel>,
}

/// Who may ask, and how they show who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// Whether every request needs a credential.
    pub required: bool,
    /// Where clients reach this host.
    pub public_url: Option<Arc<str>>,
    /// How long an access token is good.
    pub access_time: Duration,
    /// How long a session lasts that nobody refreshes.
    pub idle_time: Duration,
    /// How long a session lasts at most.
    pub session_time: Duration,
    /// What clocks may differ by.
    pub clock_skew: Duration,
    /// What roles allow.
    pub roles: BTreeMap<Name, Role>,
    /// Who vouches for others.
    pub issuers: BTreeMap<Name, Issuer>,
    /// How people log in.
    pub login: Option<Login>,
    /// Services that show a certificate.
    pub certificates: Vec<CertificateRule>,
}

impl Default for Auth {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        Self {
            required: true,
            public_url: None,
            access_time: Duration::from_secs(600),
            idle_time: hours(168),
            session_time: hours(2_160),
            clock_skew: Duration::from_secs(60),
            roles: BTreeMap::new(),
            issuers: BTreeMap::new(),
            login: None,
            certificates: Vec::new(),
        }
    }
}

/// What a role allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Role {
    /// What those who have it may ask for.
    pub scopes: Vec<Scope>,
    /// How far they are trusted at least.
    pub trust: Option<TrustLevel>,
}

/// Somebody who vouches for others with signed tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issuer {
    /// What its tokens have as `iss`.
    pub url: String,
    /// For whom a token must be.
    pub audiences: Vec<String>,
    /// Where its keys are; none is where its discovery document says.
    pub jwks: Option<String>,
    /// Which tenant a token is of.
    pub tenant: TenantRule,
    /// The claim that lists what somebody is.
    pub roles_claim: Option<String>,
    /// Which roles a value of that claim gives.
    pub roles: BTreeMap<String, BTreeSet<Name>>,
    /// What everybody may ask for.
    pub scopes: Vec<Scope>,
    /// How far everybody is trusted.
    pub trust: TrustLevel,
    /// How old its keys may be before they are fetched again.
    pub refresh: Duration,
    /// How long its keys count while it cannot be reached.
    pub outage: Duration,
}

/// Which tenant a token is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantRule {
    /// This one.
    Fixed(TenantName),
    /// The one that a claim says.
    Claim {
        /// The claim.
        claim: String,
        /// Which value is which tenant; where there are none, the value is the name.
        values: BTreeMap<String, TenantName>,
    },
}

/// How people log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The issuer that knows them.
    pub issuer: Name,
    /// What the provider calls this host.
    pub client_id: String,
    /// The file with the secret that the provider gave this host.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked of the provider, `openid` included.
    pub scopes: Vec<String>,
}

/// A service that shows a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateRule {
    /// The alternative name that its certificate has.
    pub subject: CertificateName,
    /// What the service is called here.
    pub name: Name,
    /// Its tenant.
    pub tenant: TenantName,
    /// Its roles.
    pub roles: BTreeSet<Name>,
    /// What it may ask for, beside what its roles allow.
    pub scopes: Vec<Scope>,
    /// How far it is trusted.
    pub trust: TrustLevel,
}

/// An alternative name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateName {
    /// A URI.
    Uri(String),
    /// A DNS name, in lower case.
    Dns(String),
}

/// Whether secrets may be sent to `url`: over TLS, or within this machine.
fn is_private(url: &Url) -> bool {
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && local)
}

const URL_HELP: &str = "write a URL such as `https://login.example`; `http` is taken within this machine alone";

impl Checker<'_> {
    pub(crate) fn auth(&mut self, key: &Key, file: &AuthFile) -> Auth {
        let default = Auth::default();
        let issuers = self.issuers(&key.child("issuers"), &file.issuers);
        let auth = Auth {
            required: file.required.unwrap_or(default.required),
            public_url: file
                .public_url
                .as_ref()
                .and_then(|url| self.origin_url(&key.child("public-url"), url))
                .map(Into::into),
            access_time: self.positive(&key.child("access-time"), &file.access_time, default.access_time),
            idle_time: self.positive(&key.child("idle-time"), &file.idle_time, default.idle_time),
            session_time: self.positive(&key.child("session-time"), &file.session_time, default.session_time),
            clock_skew: self.time(&key.child("clock-skew"), &file.clock_skew, default.clock_skew),
            roles: self.roles(&key.child("roles"), &file.roles),
            login: file.login.as_ref().and_then(|login| self.login(&key.child("login"), login, &issuers)),
            certificates: self.certificates(&key.child("certificates"), &file.certificates),
            issuers,
        };
        if auth.clock_skew > Duration::from_secs(600) {
            let message = "clocks that differ by more than `10m` make the end of a token meaningless";
            self.report(&key.child("clock-skew"), message, "lower it, and set the clocks");
        }
        if auth.access_time > Duration::from_secs(3_600) {
            let message = "an access token is good for at most `1h`: it is refreshed, and so ends soon where it is not";
            self.report(&key.child("access-time"), message, "lower it; `session-time` says how long a session lasts");
        }
        self.known_roles(key, &auth);
        auth
    }

    fn positive(&mut self, key: &Key, time: &Option<Time>, default: Duration) -> Duration {
        let time = self.time(key, time, default);
        self.at_least_one(key, time, "with none, nothing would ever be good")
    }

    fn private_url(&mut self, key: &Key, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok().filter(is_private);
        if url.is_none() {
            self.report(key, format!("`{text}` is no URL that a secret may be sent to"), URL_HELP);
        }
        url
    }

    fn origin_url(&mut self, key: &Key, text: &str) -> Option<String> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none());
        if url.is_none() {
            let help = "write scheme and host alone, such as `https://witan.example`";
            self.report(key, format!("`{text}` is not where clients reach a host"), help);
        }
        url.map(|url| url.origin().ascii_serialization())
    }

    fn scopes(&mut self, key: &Key, written: &[String]) -> Vec<Scope> {
        let mut scopes = Vec::new();
        for (index, text) in written.iter().enumerate() {
            match text.parse() {
                Ok(scope) => scopes.push(scope),
                Err(error) => self.report(&key.index(index), format!("{error}"), "correct the scope"),
            }
        }
        scopes
    }

    fn names(&mut self, key: &Key, written: &[String]) -> BTreeSet<Name> {
        written.iter().enumerate().filter_map(|(index, name)| self.name(&key.index(index), name)).collect()
    }

    fn roles(&mut self, key: &Key, written: &BTreeMap<String, RoleFile>) -> BTreeMap<Name, Role> {
        let mut roles = BTreeMap::new();
        for (name, role) in written {
            let key = key.child(name);
            let checked = Role { scopes: self.scopes(&key.child("scopes"), &role.scopes), trust: role.trust };
            if let Some(name) = self.name(&key, name) {
                roles.insert(name, checked);
            }
        }
        roles
    }

    fn issuers(&mut self, key: &Key, written: &BTreeMap<String, IssuerFile>) -> BTreeMap<Name, Issuer> {
        let mut issuers: BTreeMap<Name, Issuer> = BTreeMap::new();
        for (name, issuer) in written {
            let key = key.child(name);
            let checked = self.issuer(&key, issuer);
            let name: Option<Name> = self.name(&key, name);
            let (Some(name), Some(checked)) = (name, checked) else { continue };
            if issuers.values().any(|other| other.url == checked.url) {
                let message = format!("two issuers have the `url` `{}`", checked.url);
                self.report(&key.child("url"), message, "remove one of them");
            }
            issuers.insert(name, checked);
        }
        issuers
    }

    fn issuer(&mut self, key: &Key, file: &IssuerFile) -> Option<Issuer> {
        let url = self.private_url(&key.child("url"), &file.url);
        if file.audiences.is_empty() || file.audiences.iter().any(String::is_empty) {
            let message = format!("`{key}` does not say for whom its tokens must be");
            let help = "list what this host is called there, such as `audiences = [\"witan\"]`: tokens for others are \
                        not for this host";
            self.report(&key.child("audiences"), message, help);
        }
        if !file.roles.is_empty() && file.roles_claim.is_none() {
            let message = format!("`{key}.roles` is without effect, since there is no `roles-claim`");
            self.report(&key.child("roles"), message, "add `roles-claim`, or remove `roles`");
        }
        let mut roles = BTreeMap::new();
        for (value, given) in &file.roles {
            roles.insert(value.clone(), self.names(&key.child("roles").child(value), given));
        }
        let issuer = Issuer {
            url: file.url.clone(),
            audiences: file.audiences.clone(),
            jwks: file.jwks.as_ref().and_then(|url| self.private_url(&key.child("jwks"), url)).map(Into::into),
            tenant: self.tenant_rule(key, file)?,
            roles_claim: file.roles_claim.clone(),
            roles,
            scopes: self.scopes(&key.child("scopes"), &file.scopes),
            trust: file.trust.unwrap_or_default(),
            refresh: self.positive(&key.child("refresh"), &file.refresh, Duration::from_secs(600)),
            outage: self.time(&key.child("outage"), &file.outage, Duration::from_secs(12 * 3_600)),
        };
        url.map(|_| issuer)
    }

    fn tenant_rule(&mut self, key: &Key, file: &IssuerFile) -> Option<TenantRule> {
        match (&file.tenant, &file.tenant_claim) {
            (Some(tenant), None) => {
                if !file.tenants.is_empty() {
                    let message = format!("`{key}.tenants` is without effect beside `tenant`");
                    self.report(&key.child("tenants"), message, "remove one of the two");
                }
                self.name(&key.child("tenant"), tenant).map(TenantRule::Fixed)
            }
            (None, Some(claim)) => {
                let mut values = BTreeMap::new();
                for (value, tenant) in &file.tenants {
                    if let Some(tenant) = self.name(&key.child("tenants").child(value), tenant) {
                        values.insert(value.clone(), tenant);
                    }
                }
                Some(TenantRule::Claim { claim: claim.clone(), values })
            }
            _ => {
                let message = format!("`{key}` does not say which tenant its tokens are of");
                self.report(key, message, "add `tenant`, or `tenant-claim`, and not both");
                None
            }
        }
    }

    fn login(&mut self, key: &Key, file: &LoginFile, issuers: &BTreeMap<Name, Issuer>) -> Option<Login> {
        let issuer: Option<Name> = self.name(&key.child("issuer"), &file.issuer);
        if issuer.as_ref().is_some_and(|issuer| !issuers.contains_key(issuer)) {
            let message = format!("there is no issuer `{}`", file.issuer);
            self.report(&key.child("issuer"), message, format!("add [host.auth.issuers.{}]", file.issuer));
        }
        if file.client_id.is_empty() {
            self.report(&key.child("client-id"), "`client-id` is empty", "write what the provider calls this host");
        }
        let secret = file.client_secret_file.as_ref();
        let usual = ["profile", "email"].map(str::to_owned).to_vec();
        let mut scopes = file.scopes.clone().unwrap_or(usual);
        scopes.retain(|scope| scope != "openid");
        scopes.insert(0, "openid".to_owned());
        Some(Login {
            issuer: issuer?,
            client_id: file.client_id.clone(),
            client_secret_file: secret.map(|path| self.resolve(&key.child("client-secret-file"), path)),
            scopes,
        })
    }

    fn certificates(&mut self, key: &Key, written: &[CertificateFile]) -> Vec<CertificateRule> {
        let mut rules: Vec<CertificateRule> = Vec::new();
        for (index, file) in written.iter().enumerate() {
            let key = key.index(index);
            let subject = match (&file.uri, &file.dns) {
                (Some(uri), None) => CertificateName::Uri(uri.clone()),
                (None, Some(dns)) => CertificateName::Dns(dns.to_ascii_lowercase()),
                _ => {
                    let message = "a certificate is known by `uri` or by `dns`, and not by both";
                    self.report(&key, message, "write one of the two");
                    continue;
                }
            };
            if rules.iter().any(|rule| rule.subject == subject) {
                self.report(&key, "two entries are of the same certificate", "remove one of them");
            }
            let roles = self.names(&key.child("roles"), &file.roles);
            let scopes = self.scopes(&key.child("scopes"), &file.scopes);
            let name = self.name(&key.child("name"), &file.name);
            let tenant = self.name(&key.child("tenant"), &file.tenant);
            if let (Some(name), Some(tenant)) = (name, tenant) {
                let trust = file.trust.unwrap_or_default();
                rules.push(CertificateRule { subject, name, tenant, roles, scopes, trust });
            }
        }
        rules
    }

    /// A role that nobody defined gives nothing here; policies may know it, so that only what looks like a slip is refused.
    fn known_roles(&mut self, key: &Key, auth: &Auth) {
        let given = auth.issuers.iter().flat_map(|(name, issuer)| {
            let key = key.child("issuers").child(name.as_str()).child("roles");
            issuer.roles.iter().map(move |(value, roles)| (key.child(value), roles))
        });
        let certificates = auth.certificates.iter().enumerate();
        let certificates =
            certificates.map(|(index, rule)| (key.child("certificates").index(index).child("roles"), &rule.roles));
        let mut slips = Vec::new();
        for (key, roles) in given.chain(certificates) {
            for role in roles.iter().filter(|role| !auth.roles.contains_key(*role)) {
                slips.push((key.clone(), role.clone()));
            }
        }
        for (key, role) in slips {
            let help = format!("add [host.auth.roles.{role}]; it may be empty where policies alone know the role");
            self.report(&key, format!("there is no role `{role}`"), help);
        }
    }
}
