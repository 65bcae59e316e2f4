//! The ledger of a host: its settings as `system.toml` has them, and how witnesses are reached.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use regex::Regex;
use tokio::runtime::Handle;
use url::Url;
use witan_egress::{Cause, Egress, Observer as EgressObserver, Outcome, Purpose, Sent};
use witan_identity::{Event, Logged, Observer};
use witan_ledger::{
    Answer, Class, Entry, FOLDER, HOST, Kind, Ledger, Personal, Redaction, Settings, Transport, Treatment, Verdict,
    Witness, WitnessSettings,
};
use witan_secrets::Secrets;
use witan_system::System;
use witan_tasks::Transition;
use witan_telemetry::LedgerSample;
use zeroize::Zeroizing;

/// How often requests of the host that are alike are written down at most.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// The most kinds of them that are known at once: issuers and registries name hosts too.
const MOST_TOLD: usize = 1_024;

/// How long a witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer of a witness.
const LARGEST: usize = 64 << 10;

/// Opens the ledger in the state folder of `system`.
pub(crate) fn open(system: &System) -> anyhow::Result<Ledger> {
    let settings = settings(system)?;
    Ok(Ledger::open(&folder(&system.host.state), settings)?)
}

/// The folder of the ledger in a state folder.
pub(crate) fn folder(state: &Path) -> std::path::PathBuf {
    state.join(FOLDER)
}

/// Has the secrets in the store of `system` masked wherever they would be written, as they are now.
pub(crate) fn hide(ledger: &Ledger, system: &System) -> anyhow::Result<()> {
    let store = Secrets::store(system);
    let mut values = Vec::new();
    for info in store.list()? {
        values.extend(store.get(&info.tenant, &info.name)?.map(|value| Zeroizing::new(value.expose().to_owned())));
    }
    ledger.hide(values);
    Ok(())
}

/// How the ledger does, for `/metrics`.
pub(crate) fn sample(ledger: &Ledger) -> LedgerSample {
    let health = ledger.health();
    LedgerSample {
        entries: health.written,
        refused: health.refused,
        waiting: health.waiting as u64,
        writes: health.writes,
        failures: health.failures,
        write_time: health.write_time,
        failing: health.failing.is_some(),
    }
}

/// Writes down what an operator does with a command, before it is done.
pub(crate) fn administration(system: &System, action: &str, resource: &str) -> anyhow::Result<()> {
    let ledger = open(system)?;
    let entry = Entry::new(Kind::Administration, action, resource).by("local", "local");
    // A command has no other work to do meanwhile.
    let written = tokio::task::block_in_place(|| ledger.append_blocking(entry));
    written.map(drop).context("what is not written down is not done")
}

/// Writes down that the host begins or ends something that an operator must be able to account for, and waits until that is
/// durable.
pub(crate) async fn host(ledger: &Ledger, action: &str, resource: String) -> anyhow::Result<()> {
    let entry = Entry::new(Kind::Administration, action, resource);
    ledger.append_durable(entry).await.map(drop).context("what is not written down is not done")
}

/// Writes down that a task has come to a state.
pub(crate) fn task(ledger: &Ledger, transition: &Transition<'_>) {
    let Transition { context, envelope, .. } = transition;
    let mut entry = Entry::new(Kind::Task, format!("task-{}", transition.state.name()), transition.intent)
        .by(context.tenant(), context.principal())
        .with("attempt", transition.attempt);
    (entry.task, entry.trace_id) = (Some(transition.task), Some(context.trace().to_string()));
    if let Some(envelope) = envelope {
        entry = entry.with("latency_ms", envelope.usage.latency_ms);
        if let Some(error) = &envelope.error {
            // A component's message may say what the client sent it; the task's own record has it.
            entry = entry.denied(error.code.name());
        }
    }
    if let Err(error) = ledger.append(entry) {
        let state = transition.state.name();
        tracing::error!(task = %transition.task, state, %error, "what became of a task is not in the ledger");
    }
}

/// Writes down what happens to identities, besides the log.
pub(crate) struct Identities(pub(crate) Ledger);

impl Observer for Identities {
    fn ready(&self) -> Result<(), String> {
        self.0.failing().map_or(Ok(()), Err)
    }

    fn observe(&self, event: &Event) {
        Logged.observe(event);
        let action = event.what.name().replace(['.', '_'], "-");
        let mut entry = Entry::new(Kind::Administration, action, event.subject.as_deref().unwrap_or_default());
        if let Some(tenant) = &event.tenant {
            entry.tenant = tenant.to_string();
        }
        if let Some(principal) = &event.principal {
            entry.principal.clone_from(principal);
        }
        entry.about.clone_from(&event.about);
        if event.what.is_refusal() {
            entry.decision = Verdict::Deny;
        }
        entry.reason = (!event.detail.is_empty()).then(|| event.detail.clone());
        if let Some(address) = event.address {
            entry = entry.with("address", address);
        }
        if let Err(error) = self.0.append(entry) {
            tracing::error!(what = event.what.name(), %error, "what happened to identities is not in the ledger");
        }
    }
}

/// Writes down which requests the host itself makes: the first to a host with its outcome, and then, at most every so often, how
/// many there were since: a collector is sent something every other second. Of what is sent for a task, it is told of the first
/// try and the last.
pub(crate) struct Outgoing {
    ledger: Ledger,
    told: Mutex<HashMap<(Purpose, String, Outcome), Told>>,
}

/// When requests of one kind were last written down, and how many there were since.
struct Told {
    at: Instant,
    since: u64,
}

impl Outgoing {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger, told: Mutex::default() }
    }

    /// How many requests an entry is to stand for now; none where it is too early for one.
    fn due(&self, sent: &Sent<'_>, now: Instant) -> Option<u64> {
        let mut told = self.told.lock();
        if told.len() >= MOST_TOLD {
            told.clear();
        }
        let key = (sent.purpose, sent.host.to_owned(), sent.outcome);
        let Some(last) = told.get_mut(&key) else {
            told.insert(key, Told { at: now, since: 0 });
            return Some(1);
        };
        last.since += 1;
        (now.duration_since(last.at) >= TELL_AGAIN).then(|| {
            last.at = now;
            std::mem::take(&mut last.since)
        })
    }
}

impl EgressObserver for Outgoing {
    fn observe(&self, sent: &Sent<'_>) {
        let requests = match sent.cause {
            // Each names its task, which has entries of its own beside them.
            Some(_) => Some(1),
            None => self.due(sent, Instant::now()),
        };
        let Some(requests) = requests else { return };
        let mut entry = Entry::new(Kind::Egress, sent.purpose.name(), sent.host).with("outcome", sent.outcome);
        if let Some(Cause { tenant, principal, task, tries, delivered }) = sent.cause {
            entry = entry.by(tenant, principal.unwrap_or(HOST)).with("tries", tries);
            entry.task = Some(task);
            if let Some(delivered) = delivered {
                entry = entry.with("delivery", if delivered { "delivered" } else { "given-up" });
            }
        } else {
            entry = entry.with("requests", requests);
        }
        if let Err(error) = self.ledger.append(entry) {
            tracing::error!(host = sent.host, %error, "a request of the host is not in the ledger");
        }
    }
}

/// Writes down which components may do something else in `after` than in `before`, and waits until that is durable.
pub(crate) async fn grants_changed(ledger: &Ledger, before: &System, after: &System) -> anyhow::Result<()> {
    let names: BTreeSet<_> = before.components.keys().chain(after.components.keys()).collect();
    for name in names {
        let grants = |system: &System| system.components.get(name).map(|component| component.grants.clone());
        let (old, new) = (grants(before), grants(after));
        let action = match (&old, &new) {
            (None, Some(_)) => "component-added",
            (Some(_), None) => "component-removed",
            _ if old != new => "grants-changed",
            _ => continue,
        };
        let lines = new.map(|new| witan_system::grants_toml(name.as_str(), &new, after.folder())).unwrap_or_default();
        let mut entry = Entry::new(Kind::Grant, action, name.as_str());
        entry.component = Some(name.to_string());
        let written = ledger.append_durable(entry.with("grants", lines)).await;
        written.context("grants that cannot be written to the ledger are not changed")?;
    }
    Ok(())
}

fn settings(system: &System) -> anyhow::Result<Settings> {
    let file = &system.host.ledger;
    let egress = crate::egress::way(system)?;
    let personal = file.personal.iter().map(|kind| match kind {
        witan_system::PersonalData::Email => Personal::Email,
        witan_system::PersonalData::Card => Personal::Card,
        witan_system::PersonalData::Iban => Personal::Iban,
        witan_system::PersonalData::Phone => Personal::Phone,
        witan_system::PersonalData::IpAddress => Personal::IpAddress,
    });
    let mut redaction = Redaction { personal: personal.collect(), ..Redaction::default() };
    redaction.patterns = file.patterns.iter().map(|text| Regex::new(text)).collect::<Result<_, _>>()?;
    let fields: BTreeMap<Class, Treatment> =
        file.fields.iter().map(|(field, how)| (class(*field), treatment(*how))).collect();
    redaction.fields.extend(fields);
    let witness = |(key, url): &(String, String)| -> anyhow::Result<WitnessSettings> {
        let witness: Witness = key.parse()?;
        Ok(WitnessSettings { witness, transport: Arc::new(Remote::new(url.parse()?, &egress)?) })
    };
    Ok(Settings {
        redaction,
        checkpoint: file.checkpoint,
        keep: file.keep,
        max_bytes: file.max_bytes,
        sink: file.sink.clone(),
        witnesses: file.witnesses.iter().map(witness).collect::<anyhow::Result<_>>()?,
        witness_interval: file.witness_interval,
        ..Settings::default()
    })
}

fn class(field: witan_system::FieldClass) -> Class {
    match field {
        witan_system::FieldClass::Identity => Class::Identity,
        witan_system::FieldClass::Resource => Class::Resource,
        witan_system::FieldClass::Reason => Class::Reason,
        witan_system::FieldClass::Details => Class::Details,
    }
}

fn treatment(how: witan_system::Treatment) -> Treatment {
    match how {
        witan_system::Treatment::Keep => Treatment::Keep,
        witan_system::Treatment::Mask => Treatment::Mask,
        witan_system::Treatment::Hash => Treatment::Hash,
        witan_system::Treatment::Drop => Treatment::Drop,
    }
}

/// A witness that is reached over HTTP.
struct Remote {
    http: reqwest::Client,
    url: Url,
    runtime: Handle,
}

impl Remote {
    /// One whose requests are not written down: an entry for each would be a reason for the next.
    fn new(url: Url, egress: &Egress) -> anyhow::Result<Self> {
        let http = egress.client().timeout(PATIENCE).build();
        Ok(Self { http: http.context("cannot set up an HTTP client")?, url, runtime: Handle::current() })
    }

    async fn ask(&self, body: String) -> Result<Answer, reqwest::Error> {
        let mut response = self.http.post(self.url.clone()).body(body).send().await?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk[..chunk.len().min(LARGEST - bytes.len())]);
            if bytes.len() == LARGEST {
                break;
            }
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

impl Transport for Remote {
    fn post(&self, body: String) -> Result<Answer, String> {
        self.runtime.block_on(self.ask(body)).map_err(|error| error.without_url().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_alike_are_written_down_now_and_then_with_their_number() {
        let folder = tempfile::tempdir().unwrap();
        let outgoing = Outgoing::new(Ledger::open(folder.path(), Settings::default()).unwrap());
        let start = Instant::now();
        let due = |host: &str, outcome: Outcome, after: u64| {
            outgoing.due(
                &Sent { purpose: Purpose::Registry, host, outcome, cause: None },
                start + Duration::from_secs(after),
            )
        };
        assert_eq!(due("a.test", Outcome::Answered(200), 0), Some(1));
        assert_eq!(due("a.test", Outcome::Answered(200), 1), None);
        assert_eq!(due("a.test", Outcome::Unreachable, 2), Some(1), "another outcome");
        assert_eq!(due("b.test", Outcome::Answered(200), 3), Some(1), "another host");
        assert_eq!(due("a.test", Outcome::Answered(200), 60), Some(2));
        for number in 0..MOST_TOLD {
            assert_eq!(due(&format!("{number}.test"), Outcome::Unreachable, 61), Some(1));
        }
        assert!(outgoing.told.lock().len() <= MOST_TOLD);
    }
}
