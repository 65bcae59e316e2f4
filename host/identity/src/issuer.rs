//! The keys of an issuer as they are now: fetched, kept, and fetched again when they are old or one is missing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use witan_system::{Issuer, Name};

use crate::{
    FetchError, KeySet, Token, TokenError,
    fetch::{Discovery, Http, discover, endpoint, fetch},
    jwt::Claims,
};

/// The least time between two attempts to fetch keys, whoever asks for which. A token costs an issuer nothing that another
/// just cost it.
const BETWEEN: Duration = Duration::from_secs(10);

/// An issuer, and its keys as far as they are known.
pub(crate) struct Known {
    pub(crate) name: Name,
    pub(crate) settings: Issuer,
    http: Http,
    kept: Mutex<Kept>,
    /// Held by whoever asks the issuer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    keys: Option<(Arc<KeySet>, Instant)>,
    discovery: Option<(Discovery, Instant)>,
    tried: Option<Instant>,
}

/// Why a token of an issuer is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBelieved {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the keys of the issuer `{issuer}` are not known, or too old to be believed{}", last(.error))]
    Keys { issuer: Name, error: Option<FetchError> },
}

fn last(error: &Option<FetchError>) -> String {
    error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

impl Known {
    pub(crate) fn new(name: Name, settings: Issuer, http: Http) -> Self {
        Self { name, settings, http, kept: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// What `token` says, if this issuer signed it.
    pub(crate) async fn verify(&self, token: Token<'_>) -> Result<Claims, NotBelieved> {
        let mut keys = self.keys().await?;
        if !keys.has_key_for(&token) && self.may_ask() {
            // The issuer may have a new key, which it tells nobody of.
            match self.fetch().await {
                Ok(fetched) => keys = fetched,
                Err(error) => tracing::warn!(issuer = %self.name, %error, "cannot look for a new key"),
            }
        }
        keys.verify(&token)?;
        Ok(token.into_claims())
    }

    /// What the provider says of itself. Asked for no more often than its keys, since anybody may begin a login.
    pub(crate) async fn discover(&self) -> Result<Discovery, FetchError> {
        if let Some((discovery, fetched)) = self.kept.lock().discovery.clone()
            && fetched.elapsed() <= self.settings.refresh
        {
            return Ok(discovery);
        }
        let discovery = discover(&self.http, &self.settings.url).await?;
        self.kept.lock().discovery = Some((discovery.clone(), Instant::now()));
        Ok(discovery)
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// The keys as they may be used: new enough, or the newest there are while the issuer cannot be reached.
    async fn keys(&self) -> Result<Arc<KeySet>, NotBelieved> {
        let kept = self.kept.lock().keys.clone();
        let Some((keys, fetched)) = kept else {
            // Whoever comes second finds what the first has fetched.
            let _turn = self.turn.lock().await;
            if let Some((keys, _)) = self.kept.lock().keys.clone() {
                return Ok(keys);
            }
            return match self.may_ask() {
                true => self.ask().await.map_err(|error| self.unknown(Some(error))),
                false => Err(self.unknown(None)),
            };
        };
        let age = fetched.elapsed();
        if age <= self.settings.refresh {
            return Ok(keys);
        }
        let mut failed = None;
        if self.may_ask() {
            match self.fetch().await {
                Ok(keys) => return Ok(keys),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = &failed {
            tracing::warn!(issuer = %self.name, %error, "cannot fetch the keys again");
        }
        if age <= self.settings.refresh.saturating_add(self.settings.outage) {
            return Ok(keys);
        }
        Err(self.unknown(failed))
    }

    fn unknown(&self, error: Option<FetchError>) -> NotBelieved {
        NotBelieved::Keys { issuer: self.name.clone(), error }
    }

    /// Whether the issuer was left alone long enough.
    fn may_ask(&self) -> bool {
        let between = BETWEEN.min(self.settings.refresh);
        self.kept.lock().tried.is_none_or(|tried| tried.elapsed() >= between)
    }

    /// Asks for the keys, or uses what whoever else asks gets.
    async fn fetch(&self) -> Result<Arc<KeySet>, FetchError> {
        let before = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some((keys, fetched)) = self.kept.lock().keys.clone()
            && fetched > before
        {
            return Ok(keys);
        }
        self.ask().await
    }

    async fn ask(&self) -> Result<Arc<KeySet>, FetchError> {
        self.kept.lock().tried = Some(Instant::now());
        let url = match &self.settings.jwks {
            Some(url) => url.clone(),
            None => endpoint(&self.discover().await?.jwks_uri)?.into(),
        };
        let json = fetch(&self.http, &url, self.http.client.get(&url)).await?;
        let keys = KeySet::parse(&json)
            .map_err(|error| FetchError::Unreadable { url: url.clone(), why: error.to_string() })?;
        let keys = Arc::new(keys);
        self.kept.lock().keys = Some((keys.clone(), Instant::now()));
        Ok(keys)
    }
}
