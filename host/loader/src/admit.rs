//! Which components may run: each passes the gate before anything else is done with its bytes, and what is compiled are the
//! very bytes that passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use witan_admission::{Admitted, Cause, Held, Passed, Refused, Verdict};
use witan_capability::Capability;
use witan_registry_types::Digest;
use witan_system::{ComponentName, Grants, System};

use crate::{LoadError, LoadProblem, Loader};

/// Bytes and what identifies them.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) bytes: Arc<[u8]>,
    /// blake3.
    pub(crate) digest: [u8; 32],
}

impl Bytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: *blake3::hash(&bytes).as_bytes(), bytes: bytes.into() }
    }
}

/// What the gate said of each component of a system.
pub(crate) struct Verdicts {
    pub(crate) bytes: BTreeMap<ComponentName, Bytes>,
    pub(crate) admitted: BTreeMap<ComponentName, Admitted>,
    /// Components that may not run, and that nothing else of the system needs.
    pub(crate) held: Vec<Held>,
}

/// Which of `capabilities` an import needs granted; none for what everybody has, and for what no capability serves.
#[must_use]
pub fn needs(capabilities: &[Arc<dyn Capability>], import: &str) -> Option<&'static str> {
    let capability = capabilities.iter().find(|capability| capability.serves(import))?;
    (!capability.granted(&Grants::default())).then(|| capability.name())
}

/// Has the gate look at every component, and writes each verdict into the decision log.
pub(crate) fn admit_all(loader: &Loader, system: &System) -> Result<Verdicts, LoadError> {
    let most = loader.engine.settings().compile.size;
    let needs = |import: &str| needs(&loader.capabilities, import);
    let mut verdicts = Verdicts { bytes: BTreeMap::new(), admitted: BTreeMap::new(), held: Vec::new() };
    let mut problems = Vec::new();
    for (name, component) in &system.components {
        let Verdict { digest, outcome } = loader.gate.judge(component, most, &needs);
        let written = |allowed, reason: String| {
            let source = component.source.to_string();
            let digest = digest.as_ref().map(|digest| digest as &dyn std::fmt::Display);
            loader.policy.log().record_load(name.as_str(), &source, digest, allowed, reason);
        };
        match outcome {
            Err(refused) => {
                written(false, refused.to_string());
                if let Some(problem) = hold(loader, system, name, digest, refused, &mut verdicts.held) {
                    problems.push(problem);
                }
            }
            Ok(Passed { bytes, admitted }) => match component.digest {
                Some(expected) if expected != *admitted.blake3.as_bytes() => {
                    let (expected, found) = (hex(&expected), admitted.blake3.hex());
                    let problem = LoadProblem::Digest { component: name.clone(), expected, found };
                    written(false, problem.to_string());
                    problems.push(problem);
                }
                _ => {
                    written(true, admitted.by.to_string());
                    let bytes = Bytes { bytes, digest: *admitted.blake3.as_bytes() };
                    verdicts.bytes.insert(name.clone(), bytes);
                    verdicts.admitted.insert(name.clone(), admitted);
                }
            },
        }
    }
    LoadError::unless_empty(problems)?;
    Ok(verdicts)
}

/// Puts a component aside that may not run. It keeps the system from starting if something needs it, or if it is merely
/// not there.
fn hold(
    loader: &Loader,
    system: &System,
    name: &ComponentName,
    digest: Option<Digest>,
    refused: Refused,
    held: &mut Vec<Held>,
) -> Option<LoadProblem> {
    let source = &system.components.get(name)?.source;
    let reason = refused.to_string();
    let help = refused.help(source);
    let entry = Held { digest, ..Held::new(name, source, Cause::Verification, &reason).with_help(&help) };
    if refused.is_distrust() && !matches!(refused, Refused::Quarantined(_)) {
        // What keeps the entry from being written must not let the component run.
        if let Err(error) = loader.gate.quarantine.add(entry.clone()) {
            tracing::error!(component = %name, %error, "cannot write the quarantine");
        }
    }
    let needed_by = needed_by(system, name);
    if refused.is_distrust() && needed_by.is_empty() {
        tracing::error!(component = %name, reason, help, "in quarantine; the rest of the system starts without it");
        held.push(entry);
        return None;
    }
    let needed_by = needed_by.into_iter().collect::<Vec<_>>().join(", ");
    Some(LoadProblem::Refused { component: name.clone(), refused: Box::new(refused), needed_by, help })
}

/// What of a system cannot do without `name`, in words.
fn needed_by(system: &System, name: &ComponentName) -> BTreeSet<String> {
    let callers = system.components.iter().filter(|(_, component)| {
        let linked = component.links.values().any(|link| link.component == *name);
        linked || component.grants.tools.iter().any(|grant| grant.component == *name)
    });
    let intents = system.intents.iter().filter(|(_, handler)| *handler == name);
    let mounts = system.mounts.iter().filter(|mount| mount.component == *name);
    let callers = callers.map(|(caller, _)| format!("`{caller}`"));
    let intents = intents.map(|(intent, _)| format!("the intent `{intent}`"));
    callers.chain(intents).chain(mounts.map(|mount| format!("the mount `{}`", mount.path))).collect()
}

pub(crate) fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from(*digest).to_hex().to_string()
}
