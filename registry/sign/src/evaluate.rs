//! The verdict: whether a package in a version, with these bytes, may be trusted.
//!
//! A function of what it is given, the time included: it opens no file and no connection. Bundles come from whoever could
//! write to a registry, so a bundle that does not count is passed over, with its reason; what decides is whether enough of
//! them count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use witan_registry_types::{Digest, Package};

use crate::checkpoint::Checkpoint;
use crate::provenance::Provenance;
use crate::reason::Reason;
use crate::release::Release;
use crate::sbom::Sbom;
use crate::sigstore::{Bundle, Proof};
use crate::statement::{Attestation, Statement};
use crate::time::rfc3339;
use crate::trust::{Identity, Rule, SignerId, Subject, TrustPolicy, TrustRoot};

/// Bundles of one package that are looked at. A version has three for each of its signers; a list without end would only
/// keep the host busy.
const MOST_BUNDLES: usize = 64;
/// How far a log's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What a package was found to be.
#[derive(Debug)]
pub struct Verified {
    /// The package.
    pub package: Package,
    /// The digest that was signed.
    pub digest: Digest,
    /// Who signed its release.
    pub signers: BTreeSet<SignerId>,
    /// What its author says that it may ever need.
    pub release: Release,
    /// How it was built, if enough signers say so.
    pub provenance: Option<Provenance>,
    /// What it is made of, if enough signers say so.
    pub sbom: Option<Sbom>,
    /// When its release was signed, by the log's time; the latest of several signers. `None` where a signature is in no
    /// log.
    pub signed: Option<SystemTime>,
    /// The states of the logs that have the signatures; they must continue those that were seen before.
    pub checkpoints: BTreeSet<Checkpoint>,
    /// Bundles that did not count.
    pub rejected: Vec<Rejected>,
}

/// A bundle that did not count.
#[derive(Debug)]
pub struct Rejected {
    /// Its place among those that were given, from 0.
    pub bundle: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a package is not trusted. [`Refusal::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule is about the package.
    #[error("no rule of the trust policy is about `{0}`")]
    NoRule(Package),
    /// The trusted root was not confirmed for too long, so that nobody knows what has been revoked since.
    #[error("the trusted root is of {}, and may be {} old", rfc3339(*.as_of), hours(*.max_age))]
    TrustTooOld {
        /// When it was last known to be current.
        as_of: SystemTime,
        /// How old it may be.
        max_age: Duration,
    },
    /// The trusted root is from the future, or the clock of this machine is wrong.
    #[error("the trusted root is of {}, which is in the future", rfc3339(*.0))]
    TrustFromTheFuture(SystemTime),
    /// There is no signature at all.
    #[error("`{0}` has no signature")]
    Unsigned(Package),
    /// There are more bundles than are looked at.
    #[error("`{package}` has {found} bundles, and at most {MOST_BUNDLES} are looked at")]
    TooManyBundles {
        /// The package.
        package: Package,
        /// How many there are.
        found: usize,
    },
    /// A statement that the rule demands is not there, or not one that counts.
    #[error("`{package}` has no {attestation} that counts{}", listed(.rejected))]
    Missing {
        /// The package.
        package: Package,
        /// What is missing.
        attestation: Attestation,
        /// Bundles that did not count; one of them may be the one that is missing.
        rejected: Vec<Rejected>,
    },
    /// Too few different signers signed the same statement.
    #[error("the {attestation} of `{package}` is signed by {found} of the {needed} signers that are needed{}", listed(.rejected))]
    Threshold {
        /// The package.
        package: Package,
        /// The statement.
        attestation: Attestation,
        /// How many different signers signed the same.
        found: usize,
        /// How many must.
        needed: usize,
        /// Bundles that did not count.
        rejected: Vec<Rejected>,
    },
    /// Enough signers signed two different statements, and which is meant is not known.
    #[error("`{package}` has two different statements of the kind {attestation}, each signed by enough signers")]
    Conflict {
        /// The package.
        package: Package,
        /// The statement.
        attestation: Attestation,
    },
}

fn hours(time: Duration) -> String {
    format!("{} hours", time.as_secs() / 3600)
}

fn listed(rejected: &[Rejected]) -> String {
    let texts: Vec<String> = rejected.iter().map(|Rejected { reason, .. }| in_full(reason)).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) }
}

fn in_full(reason: &dyn std::error::Error) -> String {
    reason.source().map_or_else(|| reason.to_string(), |source| format!("{reason}: {}", in_full(source)))
}

impl Refusal {
    /// Bundles that did not count.
    pub fn rejected(&self) -> &[Rejected] {
        match self {
            Self::Missing { rejected, .. } | Self::Threshold { rejected, .. } => rejected,
            _ => &[],
        }
    }

    /// Whether it is about the age of the trusted root alone, and says nothing of the package.
    pub fn is_of_age(&self) -> bool {
        matches!(self, Self::TrustTooOld { .. } | Self::TrustFromTheFuture(_))
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoRule(package) => {
                let namespace = &package.name.namespace;
                format!("add a rule with `packages = \"{namespace}:*\"` and the keys or identities that may sign it")
            }
            Self::TrustTooOld { .. } => "refresh the trusted root".to_owned(),
            Self::TrustFromTheFuture(_) => "set the clock of this machine, or refresh the trusted root".to_owned(),
            Self::Unsigned(package) => {
                format!(
                    "ask who publishes `{}` to sign it, and look whether a mirror left the signatures out",
                    package.name
                )
            }
            Self::TooManyBundles { .. } => "remove the referrers that are not signatures from the registry".to_owned(),
            Self::Missing { attestation, rejected, .. } => match rejected.first() {
                Some(Rejected { reason, .. }) => reason.help(),
                None => format!("publish the version with a signed {attestation}, or do not `require` it in the rule"),
            },
            Self::Threshold { needed, .. } => {
                format!("have the same statement signed by {needed} different signers of the rule")
            }
            Self::Conflict { .. } => "remove the signature that is out of date from the registry".to_owned(),
        }
    }
}

impl Reason {
    /// What to do about it.
    pub fn help(&self) -> String {
        let text = match self {
            Self::Bundle(_) | Self::Statement(_) | Self::Predicate(..) => {
                "sign the version again with a tool of this version"
            }
            Self::Package(_) | Self::Digest(_) => {
                "pull the version again; if it stays so, the registry serves another's signature"
            }
            Self::UnknownKey(_) | Self::UnknownIdentity(_) => {
                "if you trust the signer, add it to the rule of the package"
            }
            Self::Issuer { .. } | Self::SubjectKind(_) => {
                "compare the rule with the certificate; another may use a trusted name"
            }
            Self::OtherPackages { .. } => "if the signer may sign this package too, add it to the rule of the package",
            Self::KeyExpired { .. } => "ask for a signature by the key that replaced it",
            Self::Unlogged => "sign with a transparency log, or set `allow-unlogged = true` in the rule",
            Self::Signature => "pull the version again; if it stays so, the signature was changed",
            Self::CertificateExpired { .. } | Self::CertificateNotYetValid { .. } => {
                "sign again with a valid certificate"
            }
            Self::Certificate(_) | Self::CertificateLog(_) | Self::UnknownLog(_) => {
                "refresh the trusted root; if it stays so, the signature is of an authority that you do not trust"
            }
            Self::Promise(_) | Self::Proof(_) | Self::Checkpoint(_) | Self::Entry(_) => {
                "pull the version again; if it stays so, the evidence of the log was changed"
            }
            Self::Time(_) | Self::Future(_) => "compare the clock of this machine",
        };
        text.to_owned()
    }
}

/// Evaluates what is signed of `package`, whose manifest (or bytes, where it lies in no registry) has `digest`. `bundles`
/// are all that were found for it, in any order. Answers the same for the same, and only a signer that the one rule for the
/// package names can make it say yes.
pub fn evaluate<B: AsRef<[u8]>>(
    policy: &TrustPolicy,
    root: &TrustRoot,
    package: &Package,
    digest: &Digest,
    bundles: &[B],
    now: SystemTime,
) -> Result<Verified, Refusal> {
    check_age(policy, root, now)?;
    let rule = policy.rule(&package.name).ok_or_else(|| Refusal::NoRule(package.clone()))?;
    if bundles.is_empty() {
        return Err(Refusal::Unsigned(package.clone()));
    }
    if bundles.len() > MOST_BUNDLES {
        return Err(Refusal::TooManyBundles { package: package.clone(), found: bundles.len() });
    }
    let judge = Judge { policy, root, rule, package, digest, now };
    let (mut counted, mut rejected) = (Vec::new(), Vec::new());
    for (bundle, bytes) in bundles.iter().enumerate() {
        match judge.judge(bytes.as_ref()) {
            Ok(it) => counted.push(it),
            Err(reason) => rejected.push(Rejected { bundle, reason }),
        }
    }
    let mut agreed = BTreeMap::new();
    for attestation in Attestation::ALL {
        let required = attestation == Attestation::Release || rule.require.contains(&attestation);
        match judge.agreed(attestation, &counted)? {
            Agreed::By(votes) => {
                agreed.insert(attestation, votes);
            }
            Agreed::Nobody if required => {
                return Err(Refusal::Missing { package: package.clone(), attestation, rejected });
            }
            Agreed::TooFew(found) if required => {
                let (package, needed) = (package.clone(), rule.threshold);
                return Err(Refusal::Threshold { package, attestation, found, needed, rejected });
            }
            Agreed::Nobody | Agreed::TooFew(_) => {}
        }
    }
    let content = |attestation| agreed.get(&attestation).and_then(|votes| votes.first()).map(|vote| &vote.content);
    let missing = |attestation| Refusal::Missing { package: package.clone(), attestation, rejected: Vec::new() };
    let Some(Content::Release(release)) = content(Attestation::Release) else {
        return Err(missing(Attestation::Release));
    };
    let release_votes = agreed.get(&Attestation::Release).map_or(&[][..], Vec::as_slice);
    let times: Option<Vec<SystemTime>> = release_votes.iter().map(|vote| vote.proof.time).collect();
    Ok(Verified {
        package: package.clone(),
        digest: *digest,
        signers: release_votes.iter().map(|vote| vote.signer.clone()).collect(),
        release: release.clone(),
        provenance: content(Attestation::Provenance).and_then(|content| match content {
            Content::Provenance(provenance) => Some(provenance.clone()),
            _ => None,
        }),
        sbom: content(Attestation::Sbom).and_then(|content| match content {
            Content::Sbom(sbom) => Some(sbom.clone()),
            _ => None,
        }),
        signed: times.and_then(|times| times.into_iter().max()),
        checkpoints: agreed.values().flatten().filter_map(|vote| vote.proof.checkpoint.clone()).collect(),
        rejected,
    })
}

fn check_age(policy: &TrustPolicy, root: &TrustRoot, now: SystemTime) -> Result<(), Refusal> {
    match now.duration_since(root.as_of) {
        Ok(age) if age > policy.max_age() => Err(Refusal::TrustTooOld { as_of: root.as_of, max_age: policy.max_age() }),
        Err(ahead) if ahead.duration() > CLOCK_SKEW => Err(Refusal::TrustFromTheFuture(root.as_of)),
        _ => Ok(()),
    }
}

/// A bundle that counts.
struct Vote {
    signer: SignerId,
    payload: Vec<u8>,
    content: Content,
    proof: Proof,
}

enum Content {
    Release(Release),
    Provenance(Provenance),
    Sbom(Sbom),
}

impl Content {
    fn attestation(&self) -> Attestation {
        match self {
            Self::Release(_) => Attestation::Release,
            Self::Provenance(_) => Attestation::Provenance,
            Self::Sbom(_) => Attestation::Sbom,
        }
    }
}

enum Agreed<'a> {
    By(Vec<&'a Vote>),
    TooFew(usize),
    Nobody,
}

struct Judge<'a> {
    policy: &'a TrustPolicy,
    root: &'a TrustRoot,
    rule: &'a Rule,
    package: &'a Package,
    digest: &'a Digest,
    now: SystemTime,
}

impl Judge<'_> {
    fn judge(&self, bytes: &[u8]) -> Result<Vote, Reason> {
        let bundle = Bundle::parse(bytes)?;
        let statement = Statement::parse(bundle.payload())?;
        if statement.package != *self.package {
            return Err(Reason::Package(statement.package));
        }
        if statement.digest != *self.digest {
            return Err(Reason::Digest(statement.digest));
        }
        let (signer, proof) = if bundle.is_keyless() { self.keyless(&bundle)? } else { self.keyed(&bundle)? };
        if let Some(time) = proof.time.filter(|time| *time > self.now + CLOCK_SKEW) {
            return Err(Reason::Future(time));
        }
        let content = self.content(&statement)?;
        Ok(Vote { signer, payload: bundle.payload().to_vec(), content, proof })
    }

    fn content(&self, statement: &Statement) -> Result<Content, Reason> {
        let unreadable = |error: String| Reason::Predicate(statement.attestation, error);
        let predicate = &statement.predicate;
        match statement.attestation {
            Attestation::Release => Release::parse(predicate).map(Content::Release).map_err(unreadable),
            Attestation::Provenance => Provenance::parse(predicate).map(Content::Provenance).map_err(unreadable),
            Attestation::Sbom => {
                Sbom::parse(predicate).map(Content::Sbom).map_err(|error| unreadable(error.to_string()))
            }
        }
    }

    fn keyed(&self, bundle: &Bundle) -> Result<(SignerId, Proof), Reason> {
        let hint = bundle.key_hint();
        let hinted = self.rule.keys.iter().find(|trusted| Some(trusted.key.id()) == hint);
        let trusted = hinted.or_else(|| self.rule.keys.iter().find(|trusted| bundle.is_signed_by(&trusted.key)));
        let Some(trusted) = trusted else {
            let elsewhere =
                self.policy.rules().iter().find(|rule| rule.keys.iter().any(|trusted| Some(trusted.key.id()) == hint));
            return Err(match (elsewhere, hint) {
                (Some(rule), Some(key)) => {
                    Reason::OtherPackages { signer: SignerId::Key(key), packages: rule.packages.clone() }
                }
                _ => Reason::UnknownKey(hint),
            });
        };
        let key = trusted.key.id();
        let proof = if bundle.is_logged() {
            self.root.verifier.keyed(bundle, self.digest, &trusted.key)?
        } else if !self.rule.allow_unlogged || trusted.not_after.is_some() {
            return Err(Reason::Unlogged);
        } else if bundle.is_signed_by(&trusted.key) {
            Proof { time: None, checkpoint: None }
        } else {
            return Err(Reason::Signature);
        };
        match (trusted.not_after, proof.time) {
            (Some(until), Some(signed)) if signed > until => Err(Reason::KeyExpired { key, signed, until }),
            _ => Ok((SignerId::Key(key), proof)),
        }
    }

    fn keyless(&self, bundle: &Bundle) -> Result<(SignerId, Proof), Reason> {
        // A certificate is valid for minutes, and only a log can say that it was used within them.
        if !bundle.is_logged() {
            return Err(Reason::Unlogged);
        }
        let (identity, proof) = self.root.verifier.keyless(bundle, self.digest)?;
        if self.rule.identities.contains(&identity) {
            return Ok((SignerId::Identity(identity), proof));
        }
        Err(self.unknown(identity))
    }

    fn unknown(&self, found: Identity) -> Reason {
        let same_subject = self.rule.identities.iter().find(|trusted| trusted.subject == found.subject);
        if let Some(trusted) = same_subject {
            return Reason::Issuer { expected: trusted.issuer.clone(), found };
        }
        let text = |subject: &Subject| subject.as_str().to_owned();
        if self.rule.identities.iter().any(|trusted| text(&trusted.subject) == text(&found.subject)) {
            return Reason::SubjectKind(found);
        }
        match self.policy.rules().iter().find(|rule| rule.identities.contains(&found)) {
            Some(rule) => Reason::OtherPackages { signer: SignerId::Identity(found), packages: rule.packages.clone() },
            None => Reason::UnknownIdentity(found),
        }
    }

    /// The statement of this kind that enough different signers signed word for word.
    fn agreed<'v>(&self, attestation: Attestation, votes: &'v [Vote]) -> Result<Agreed<'v>, Refusal> {
        let mut groups: BTreeMap<&[u8], BTreeMap<&SignerId, &'v Vote>> = BTreeMap::new();
        for vote in votes.iter().filter(|vote| vote.content.attestation() == attestation) {
            groups.entry(&vote.payload).or_default().insert(&vote.signer, vote);
        }
        let most = groups.values().map(BTreeMap::len).max();
        let mut enough = groups.into_values().filter(|group| group.len() >= self.rule.threshold);
        match (enough.next(), enough.next(), most) {
            (Some(_), Some(_), _) => Err(Refusal::Conflict { package: self.package.clone(), attestation }),
            (Some(group), None, _) => Ok(Agreed::By(group.into_values().collect())),
            (None, _, Some(most)) => Ok(Agreed::TooFew(most)),
            (None, _, None) => Ok(Agreed::Nobody),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bundle {}: {}", self.bundle, in_full(&self.reason))
    }
}
