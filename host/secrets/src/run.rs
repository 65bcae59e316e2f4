//! The secrets of a running system: what each is called by here, and its value when it is needed.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Mutex as Turn, time::Instant};
use witan_egress::Egress;
use witan_system::{KeyPlace, Secret, SecretName, SecretSource, System};

use crate::{
    KeySource, Store, Value, VaultError,
    source::{self, SourceError},
    vault::Vault,
};

/// What every placeholder begins with.
pub(crate) const MARK: &str = "witan-secret-";

/// The variable that names the operator key's file, before what the system says.
const KEY_FILE: &str = "WITAN_SECRETS_KEY_FILE";

/// Values that are kept at once. A tenant more than this only costs a fetch.
const KEPT: usize = 1_024;

/// The longest that a value is kept, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Hears of each value for a tenant before it is used.
pub type Listener = Arc<dyn Fn(&str, &SecretName, &Value) + Send + Sync>;

/// What the placeholders of one run are made of.
#[derive(Clone)]
pub struct RunKey(Arc<zeroize::Zeroizing<[u8; 32]>>);

/// Why secrets cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// There is no randomness for placeholders.
    #[error("the system has no randomness to make placeholders of")]
    Randomness,
    /// Vault cannot be spoken to.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl RunKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, SecretsError> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| SecretsError::Randomness)?;
        Ok(Self(Arc::new(bytes)))
    }
}

impl std::fmt::Debug for RunKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunKey(…)")
    }
}

/// The secrets of a running system.
pub struct Secrets {
    pub(crate) secrets: BTreeMap<SecretName, Secret>,
    pub(crate) scan: u64,
    run: RunKey,
    store: Store,
    vault: Option<Vault>,
    kept: Mutex<HashMap<(String, SecretName), Place>>,
    listener: Option<Listener>,
}

/// Where one value is kept; who fetches it holds the turn.
type Place = Arc<Turn<Option<Kept>>>;

struct Kept {
    value: Value,
    until: Instant,
}

impl Secrets {
    /// The secrets of `system`, which are asked for by `egress`. Nothing is fetched yet.
    ///
    /// # Errors
    /// When Vault cannot be spoken to.
    pub fn new(system: &System, run: RunKey, egress: &Egress) -> Result<Self, SecretsError> {
        let vault = system.host.secrets.vault.clone().map(|server| Vault::new(server, egress.clone())).transpose()?;
        Ok(Self {
            secrets: system.secrets.clone(),
            scan: system.host.secrets.scan,
            run,
            store: Self::store(system),
            vault,
            kept: Mutex::default(),
            listener: None,
        })
    }

    /// The same, whose values `listener` hears, each time that one is used: it must be quick, and may keep them masked.
    #[must_use]
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// The store of `system`, with the operator key that its settings or the environment name.
    #[must_use]
    pub fn store(system: &System) -> Store {
        let state = &system.host.state;
        let keys = match (std::env::var_os(KEY_FILE), &system.host.secrets.key) {
            (Some(path), _) => KeySource::File(path.into()),
            (None, Some(KeyPlace::File(path))) => KeySource::File(path.clone()),
            (None, Some(KeyPlace::Command(command))) => KeySource::Command(command.clone()),
            (None, None) => KeySource::Own(Path::new(state).join("secrets.key")),
        };
        Store::new(state, keys)
    }

    /// Gives the components of `system` their placeholders, where grants name a variable or a setting for one.
    pub fn place(&self, system: &mut System) {
        for (name, component) in &mut system.components {
            for grant in &component.grants.secrets {
                let placeholder = self.placeholder(name.as_str(), &grant.secret);
                if let Some(variable) = &grant.environment {
                    component.grants.environment.insert(variable.clone(), placeholder.clone());
                }
                if let Some(key) = &grant.config {
                    component.grants.config.insert(key.clone(), placeholder.clone());
                }
            }
        }
    }

    /// What `component` sees of `secret` in this run: it says nothing of the secret, and another component that learns it can
    /// do nothing with it.
    #[must_use]
    pub fn placeholder(&self, component: &str, secret: &SecretName) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.run.0);
        hasher.update(&(component.len() as u64).to_be_bytes()).update(component.as_bytes());
        hasher.update(secret.as_str().as_bytes());
        let digest = hasher.finalize();
        let digits: String = digest.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{MARK}{digits}")
    }

    /// The value of a secret for `tenant`.
    ///
    /// # Errors
    /// When its source does not give it.
    pub(crate) async fn value(&self, tenant: &str, name: &SecretName, secret: &Secret) -> Result<Value, SourceError> {
        let value = self.fetch(tenant, name, secret).await?;
        if let Some(listener) = &self.listener {
            listener(tenant, name, &value);
        }
        Ok(value)
    }

    async fn fetch(&self, tenant: &str, name: &SecretName, secret: &Secret) -> Result<Value, SourceError> {
        match &secret.source {
            SecretSource::Stored => {
                let not_set = || SourceError::NotSet { name: name.to_string(), tenant: tenant.to_owned() };
                self.store.get(tenant, name)?.ok_or_else(not_set)
            }
            SecretSource::File(path) => source::file(path).await,
            SecretSource::Environment(name) => source::environment(name),
            SecretSource::Command(command) => {
                let fetch = async || Ok((source::command(command).await?, None));
                self.kept(tenant, name, secret.cache, fetch).await
            }
            SecretSource::Vault { path, field } => {
                let missing = || VaultError::Missing(path.clone());
                let vault = self.vault.as_ref().ok_or_else(missing)?;
                // A tenant's name must not lead to another's entry.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                if path.contains("{tenant}") && (tenant.is_empty() || !tenant.bytes().all(plain)) {
                    return Err(missing().into());
                }
                let path = path.replace("{tenant}", tenant);
                let fetch = async || Ok(vault.fetch(&path, field).await?);
                self.kept(tenant, name, secret.cache, fetch).await
            }
        }
    }

    /// The value that was kept, or the one that `fetch` gives: once for all who ask at the same time.
    async fn kept(
        &self,
        tenant: &str,
        name: &SecretName,
        cache: Duration,
        fetch: impl AsyncFnOnce() -> Result<(Value, Option<Duration>), SourceError>,
    ) -> Result<Value, SourceError> {
        let place = (tenant.to_owned(), name.clone());
        let turn = {
            let mut kept = self.kept.lock();
            if kept.len() >= KEPT && !kept.contains_key(&place) {
                kept.clear();
            }
            kept.entry(place).or_default().clone()
        };
        let mut kept = turn.lock().await;
        if let Some(Kept { value, until }) = &*kept
            && Instant::now() < *until
        {
            return Ok(value.clone());
        }
        // A value whose time is over is not used again, whatever becomes of the fetch.
        *kept = None;
        let (value, lease) = fetch().await?;
        let time = lease.unwrap_or(cache).min(LONGEST);
        *kept = Some(Kept { value: value.clone(), until: Instant::now() + time });
        Ok(value)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("secrets", &self.secrets.keys()).finish_non_exhaustive()
    }
}
