//! Whom an operator trusts to sign what. What no rule allows is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use witan_registry_types::{Digest, NameError, Namespace, PackageName};
use witan_system::{IdentityFile, KeyFile, RuleFile, StatementKind, TrustFile, parse_duration};

use crate::key::{KeyError, KeyId, PublicKey};
use crate::reason::Reason;
use crate::sigstore::{Bundle, Verifier};
use crate::statement::{Attestation, cut};
use crate::time::parse_rfc3339;

/// Rules and signers of one policy; each may have to be tried for each bundle.
const MOST_RULES: usize = 256;
const MOST_SIGNERS: usize = 32;

/// The packages that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackagePattern {
    /// `*`: every package.
    All,
    /// `namespace:*`: every package of a namespace.
    Namespace(Namespace),
    /// `namespace:name`: one package in all its versions.
    Package(PackageName),
}

impl PackagePattern {
    /// Whether `package` is meant.
    pub fn matches(&self, package: &PackageName) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => *namespace == package.namespace,
            Self::Package(name) => name == package,
        }
    }
}

impl FromStr for PackagePattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix(":*") {
            _ if text == "*" => Ok(Self::All),
            Some(namespace) => Ok(Self::Namespace(namespace.parse()?)),
            None => Ok(Self::Package(text.parse()?)),
        }
    }
}

impl fmt::Display for PackagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Namespace(namespace) => write!(f, "{namespace}:*"),
            Self::Package(name) => name.fmt(f),
        }
    }
}

/// A name in a certificate, with its kind: a URI that looks like an address is not that address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An e-mail address.
    Email(String),
    /// A URI, such as that of a workflow.
    Uri(String),
}

impl Subject {
    /// The name without its kind.
    pub fn as_str(&self) -> &str {
        let (Self::Email(text) | Self::Uri(text)) = self;
        text
    }
}

/// Who holds a certificate, and who vouched for that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The OIDC issuer that vouched.
    pub issuer: String,
    /// The name.
    pub subject: Subject,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (of `{}`)", cut(self.subject.as_str()), cut(&self.issuer))
    }
}

/// A key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Until when its signatures count, by the time of the log; a signature without a log entry has no time, and then
    /// counts no longer at all. For a key that was replaced.
    pub not_after: Option<SystemTime>,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignerId {
    /// The holder of a key.
    Key(KeyId),
    /// The holder of a certificate.
    Identity(Identity),
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "the key {key}"),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

/// Who may sign some packages, and what must be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The packages.
    pub packages: PackagePattern,
    /// The keys that may sign them.
    pub keys: Vec<TrustedKey>,
    /// The identities that may sign them.
    pub identities: Vec<Identity>,
    /// How many different signers must have signed each required statement, word for word the same.
    pub threshold: usize,
    /// Which statements must be there; a release statement always must.
    pub require: BTreeSet<Attestation>,
    /// Whether a key's signature counts without a log entry.
    pub allow_unlogged: bool,
}

/// Whom an operator trusts to sign what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    rules: Vec<Rule>,
    max_age: Duration,
}

/// Why rules are not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Two rules are about the same packages, and it would depend on their order which one holds.
    #[error("two rules are about `{0}`: join them")]
    Twice(PackagePattern),
    /// The rule can never be met: it needs more signers than it names.
    #[error("the rule for `{packages}` needs {threshold} signers and names {signers}")]
    Threshold {
        /// The packages of the rule.
        packages: PackagePattern,
        /// How many it needs.
        threshold: usize,
        /// How many it names.
        signers: usize,
    },
    /// A key or an identity is named twice, and could be taken for two.
    #[error("the rule for `{packages}` names {signer} twice")]
    SignerTwice {
        /// The packages of the rule.
        packages: PackagePattern,
        /// Who is named twice.
        signer: SignerId,
    },
    /// There are too many rules or signers.
    #[error("there are {found} {what}, and may be {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A pattern is not one.
    #[error("`packages` must be `*`, `namespace:*` or `namespace:name`")]
    Pattern(#[from] NameError),
    /// A key is not one.
    #[error("a key in the rule for `{0}` cannot be read")]
    Key(PackagePattern, #[source] KeyError),
    /// An identity has no name or two.
    #[error("an identity in the rule for `{0}` must have an `issuer`, and either `email` or `uri`")]
    Identity(PackagePattern),
    /// A time is not one.
    #[error("`{0}` is not a time such as `2026-01-01T00:00:00Z`")]
    Time(String),
    /// A duration is not one.
    #[error("`{0}` is not a duration such as `168h`")]
    Duration(String),
}

impl TrustPolicy {
    /// How old trust metadata may be where nothing else is said.
    pub const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

    /// The policy without rules: it refuses everything.
    pub fn nobody() -> Self {
        Self { rules: Vec::new(), max_age: Self::MAX_AGE }
    }

    /// The policy of these rules. A policy without rules refuses everything.
    pub fn new(rules: Vec<Rule>, max_age: Duration) -> Result<Self, PolicyError> {
        if rules.len() > MOST_RULES {
            return Err(PolicyError::TooMany { what: "rules", found: rules.len(), most: MOST_RULES });
        }
        let mut patterns = BTreeSet::new();
        for rule in &rules {
            if !patterns.insert(&rule.packages) {
                return Err(PolicyError::Twice(rule.packages.clone()));
            }
            check_rule(rule)?;
        }
        Ok(Self { rules, max_age })
    }

    /// The one rule for `package`: that of the package itself, else of its namespace, else of all. Rules are not merged: what
    /// is said of a package is all that holds for it.
    pub fn rule(&self, package: &PackageName) -> Option<&Rule> {
        // The order of the variants is from the least to the most specific.
        self.rules.iter().filter(|rule| rule.packages.matches(package)).max_by_key(|rule| match rule.packages {
            PackagePattern::All => 0,
            PackagePattern::Namespace(_) => 1,
            PackagePattern::Package(_) => 2,
        })
    }

    /// All rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How old trust metadata may be.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }
}

fn check_rule(rule: &Rule) -> Result<(), PolicyError> {
    let packages = || rule.packages.clone();
    let keys = rule.keys.iter().map(|trusted| SignerId::Key(trusted.key.id()));
    let identities = rule.identities.iter().cloned().map(SignerId::Identity);
    let mut signers = BTreeSet::new();
    for signer in keys.chain(identities) {
        if let Some(signer) = signers.replace(signer) {
            return Err(PolicyError::SignerTwice { packages: packages(), signer });
        }
    }
    if signers.len() > MOST_SIGNERS {
        return Err(PolicyError::TooMany { what: "signers in one rule", found: signers.len(), most: MOST_SIGNERS });
    }
    if rule.threshold == 0 || rule.threshold > signers.len() {
        let (threshold, signers) = (rule.threshold, signers.len());
        return Err(PolicyError::Threshold { packages: packages(), threshold, signers });
    }
    Ok(())
}

/// Why a trusted root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the trusted root cannot be used: {0}")]
pub struct TrustRootError(String);

/// The authorities and logs that are trusted, read once; pinned by whoever gives them.
pub struct TrustRoot {
    pub(crate) verifier: Verifier,
    pub(crate) as_of: SystemTime,
}

impl TrustRoot {
    /// Reads a `trusted_root.json` that was known to be current at `as_of`: when it was last refreshed or confirmed.
    pub fn parse(trusted_root: &[u8], as_of: SystemTime) -> Result<Self, TrustRootError> {
        Ok(Self { verifier: Verifier::parse(trusted_root).map_err(TrustRootError)?, as_of })
    }

    /// The address of the one certificate authority that is trusted and goes on certifying; none where there are several.
    pub fn authority(&self) -> Option<&str> {
        let authorities: Vec<&str> = self.verifier.authorities.iter().map(String::as_str).collect();
        if let [only] = authorities.as_slice() { Some(only) } else { None }
    }

    /// Whose certificate signed the statement in `bundle`, which must be about `digest` and in a trusted log. For whoever
    /// signs: what this refuses, nobody would believe. Whether somebody's word counts is for [`evaluate`](crate::evaluate).
    pub fn signer(&self, bundle: &[u8], digest: &Digest) -> Result<Identity, Reason> {
        let bundle = Bundle::parse(bundle)?;
        self.verifier.keyless(&bundle, digest).map(|(identity, _)| identity)
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustRoot").field("as_of", &self.as_of).finish_non_exhaustive()
    }
}

impl TryFrom<&TrustFile> for TrustPolicy {
    type Error = PolicyError;
    fn try_from(from: &TrustFile) -> Result<Self, PolicyError> {
        let max_age = match &from.max_age {
            None => Self::MAX_AGE,
            Some(text) => parse_duration(text).ok_or_else(|| PolicyError::Duration(cut(text)))?,
        };
        Self::new(from.rules.iter().map(rule).collect::<Result<_, _>>()?, max_age)
    }
}

fn rule(from: &RuleFile) -> Result<Rule, PolicyError> {
    let packages: PackagePattern = from.packages.parse()?;
    Ok(Rule {
        keys: from.keys.iter().map(|key| trusted_key(&packages, key)).collect::<Result<_, _>>()?,
        identities: from.identities.iter().map(|from| identity(&packages, from)).collect::<Result<_, _>>()?,
        threshold: from.threshold.unwrap_or(1),
        require: match &from.require {
            None => Attestation::ALL.into(),
            Some(kinds) => kinds.iter().copied().map(Attestation::from).collect(),
        },
        allow_unlogged: from.allow_unlogged,
        packages,
    })
}

fn trusted_key(packages: &PackagePattern, from: &KeyFile) -> Result<TrustedKey, PolicyError> {
    let key = from.key.parse().map_err(|error| PolicyError::Key(packages.clone(), error))?;
    let time = |text: &String| parse_rfc3339(text).ok_or_else(|| PolicyError::Time(cut(text)));
    Ok(TrustedKey { key, not_after: from.not_after.as_ref().map(time).transpose()? })
}

fn identity(packages: &PackagePattern, from: &IdentityFile) -> Result<Identity, PolicyError> {
    let subject = match (&from.email, &from.uri) {
        (Some(email), None) => Subject::Email(email.clone()),
        (None, Some(uri)) => Subject::Uri(uri.clone()),
        _ => return Err(PolicyError::Identity(packages.clone())),
    };
    if from.issuer.is_empty() || subject.as_str().is_empty() {
        return Err(PolicyError::Identity(packages.clone()));
    }
    Ok(Identity { issuer: from.issuer.clone(), subject })
}

impl From<StatementKind> for Attestation {
    fn from(kind: StatementKind) -> Self {
        match kind {
            StatementKind::Release => Self::Release,
            StatementKind::Provenance => Self::Provenance,
            StatementKind::Sbom => Self::Sbom,
        }
    }
}
