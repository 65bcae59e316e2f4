//! From what issuers and operators say of somebody to what they may ask for here.

use std::collections::BTreeSet;

use uuid::Uuid;
use witan_system::{Auth, CertificateName, CertificateRule, Issuer, Name, Scope, TenantName, TenantRule, TrustLevel};

use crate::{Certificate, Key, Kind, Person, TokenError, client::Who, jwt::Claims};

/// The longest name that an issuer may have for somebody.
const LONGEST_SUBJECT: usize = 255;

/// Who somebody is to their issuer.
pub(crate) fn subject(claims: &Claims) -> Result<&str, TokenError> {
    let fits = |subject: &&str| subject.len() <= LONGEST_SUBJECT && !subject.chars().any(char::is_control);
    claims.text("sub").filter(fits).ok_or_else(|| TokenError::Claim("sub".to_owned()))
}

/// Which tenant `issuer` says that somebody is of. Whether there is such a tenant is another question.
pub(crate) fn tenant(issuer: &Issuer, claims: &Claims) -> Result<TenantName, TokenError> {
    match &issuer.tenant {
        TenantRule::Fixed(tenant) => Ok(tenant.clone()),
        TenantRule::Claim { claim, values } => {
            let value = claims.text(claim);
            let tenant = match values.is_empty() {
                true => value.and_then(|value| value.parse().ok()),
                false => value.and_then(|value| values.get(value).cloned()),
            };
            tenant.ok_or_else(|| TokenError::Claim(claim.clone()))
        }
    }
}

/// Which roles `issuer` says that somebody has.
pub(crate) fn roles(issuer: &Issuer, claims: &Claims) -> BTreeSet<Name> {
    let values = issuer.roles_claim.as_deref().map(|claim| claims.texts(claim)).unwrap_or_default();
    values.into_iter().filter_map(|value| issuer.roles.get(value)).flatten().cloned().collect()
}

/// The scopes and the trust of somebody who has `scopes` and `trust` themselves, and `roles`.
fn with_roles(auth: &Auth, scopes: &[Scope], trust: TrustLevel, roles: &BTreeSet<Name>) -> (Vec<Scope>, TrustLevel) {
    let given = roles.iter().filter_map(|role| auth.roles.get(role));
    let all: BTreeSet<&Scope> = scopes.iter().chain(given.clone().flat_map(|role| &role.scopes)).collect();
    let trust = given.filter_map(|role| role.trust).fold(trust, TrustLevel::max);
    (all.into_iter().cloned().collect(), trust)
}

/// Who somebody is whom `issuer` calls `subject` and gave `roles`.
pub(crate) fn user(
    auth: &Auth,
    (name, issuer): (&Name, &Issuer),
    subject: &str,
    tenant: TenantName,
    roles: BTreeSet<Name>,
    session: Option<Uuid>,
) -> Who {
    let (scopes, trust) = with_roles(auth, &issuer.scopes, issuer.trust, &roles);
    let principal = format!("{name}/{subject}");
    Who { principal, kind: Kind::User, tenant, roles, trust, scopes, credential: session }
}

/// The roles of somebody who logged in: those of their claims, and those that they were given here.
pub(crate) fn all_roles(claimed: BTreeSet<Name>, person: &Person) -> BTreeSet<Name> {
    claimed.into_iter().chain(person.roles.iter().cloned()).collect()
}

/// Who has `key`. What a key may ask for is what it was made for: roles are for policies.
pub(crate) fn key(key: Key) -> Who {
    Who {
        principal: key.principal(),
        kind: Kind::Key,
        tenant: key.tenant,
        roles: key.roles,
        trust: key.trust,
        scopes: key.scopes,
        credential: Some(key.id),
    }
}

/// Which service has `certificate`, by the first rule that knows one of its names.
pub(crate) fn service(auth: &Auth, certificate: &Certificate) -> Option<Who> {
    let fits = |rule: &&CertificateRule| match &rule.subject {
        CertificateName::Uri(uri) => certificate.uris.contains(uri),
        CertificateName::Dns(name) => certificate.names.contains(name),
    };
    let rule = auth.certificates.iter().find(fits)?;
    let (scopes, trust) = with_roles(auth, &rule.scopes, rule.trust, &rule.roles);
    Some(Who {
        principal: format!("service/{}", rule.name),
        kind: Kind::Service,
        tenant: rule.tenant.clone(),
        roles: rule.roles.clone(),
        trust,
        scopes,
        credential: None,
    })
}
