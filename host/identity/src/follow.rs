//! Whether what a client showed is good still, for as long as the client is told something.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, header};

use crate::{AuthError, Client, Identities, Kind, Peer};

/// How often it is looked. What has changed is seen then, and what has ended.
const LOOK: Duration = Duration::from_millis(400);

/// For how long a database that does not answer is put up with.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client showed of itself with a request. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Shown {
    bearer: Option<HeaderValue>,
    key: Option<HeaderValue>,
    peer: Peer,
}

impl Shown {
    /// What `peer` showed with a request that has these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: &Peer) -> Self {
        let value = |name: &str| {
            let mut value = headers.get(name)?.clone();
            value.set_sensitive(true);
            Some(value)
        };
        Self { bearer: value(header::AUTHORIZATION.as_str()), key: value("x-api-key"), peer: peer.clone() }
    }

    fn headers(&self) -> HeaderMap {
        let bearer = self.bearer.iter().map(|value| (header::AUTHORIZATION, value.clone()));
        let key = self.key.iter().map(|value| (header::HeaderName::from_static("x-api-key"), value.clone()));
        bearer.chain(key).collect()
    }
}

impl Identities {
    /// Resolves when what `client` has shown is not good any more, or is worth something else than when it was let in, and
    /// says why: it was revoked, it has ended, or the tenant or the person is disabled.
    pub async fn until_refused(&self, client: &Client, shown: &Shown) -> AuthError {
        if client.kind() == Kind::Local {
            return pending().await;
        }
        let headers = shown.headers();
        let mut answered = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look_again(&headers, &shown.peer).await {
                Ok(now) if *now == *client.who => answered = Instant::now(),
                Ok(_) => return AuthError::refused("the credential is worth something else than it was"),
                Err(AuthError::Unavailable(_)) if answered.elapsed() < PATIENCE => {}
                Err(error) => return error,
            }
        }
    }
}
