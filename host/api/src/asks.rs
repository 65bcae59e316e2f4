//! Whether a request may pass: the rates of its client, and its turn.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::Response;
use http::{Extensions, HeaderMap, header, request};
use witan_identity::Kind;
use witan_tasks::{Code, Task, TaskError, Tasks};
use witan_telemetry::Metrics;
use witan_throttle::{
    Client, Gate, GateSettings, LONGEST_WAIT, Lease, Over, Place, Priority, Settings, Standing, Throttle,
};

use crate::answer::error_response;

/// How much clients may ask. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The rates of clients, and their tasks at once.
    pub throttle: Throttle,
    /// The requests that are answered at once.
    pub gate: Gate,
}

impl Requests {
    /// Holds clients to `rates`, and lets in as `gate` says.
    #[must_use]
    pub fn new(rates: Settings, gate: GateSettings) -> Self {
        Self { throttle: Throttle::new(rates), gate: Gate::new(gate) }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new(Settings::default(), GateSettings::default())
    }
}

/// Who asks, as rates know clients. The front leaves it in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    pub(crate) tenant: Arc<str>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) address: IpAddr,
}

impl Asks {
    /// Whoever was found to have sent a request from `address`. Of routes that are open to all, only that is known.
    pub(crate) fn of(extensions: &Extensions, address: IpAddr) -> Self {
        match extensions.get::<witan_identity::Client>() {
            Some(client) => {
                let key = (client.kind() == Kind::Key).then(|| client.principal().into());
                Self { tenant: client.tenant().as_str().into(), user: Some(client.principal().into()), key, address }
            }
            None => Self { tenant: "".into(), user: None, key: None, address },
        }
    }

    /// Whom the front has left in the extensions of a request.
    ///
    /// # Errors
    /// When it has not been there.
    pub(crate) fn left(extensions: &Extensions) -> Result<&Self, TaskError> {
        extensions.get::<Self>().ok_or_else(|| TaskError::new(Code::Internal, "nobody asks"))
    }

    fn client(&self) -> Client<'_> {
        let (user, key) = (self.user.as_deref(), self.key.as_deref());
        Client { tenant: &self.tenant, user, key, address: Some(self.address) }
    }
}

/// What an answer tells of the client's rates. The front writes it into the headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    standing: Standing,
    /// Of a refusal: after which time to ask again, and none for never.
    retry: Option<Option<Duration>>,
}

impl Told {
    /// That it may help to ask again after `wait`.
    pub(crate) fn later(wait: Duration) -> Self {
        Self { standing: Standing::default(), retry: Some(Some(wait)) }
    }

    /// After which time it may help to ask again, where that is known.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry.flatten().map(|wait| wait.min(LONGEST_WAIT))
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        witan_throttle::standing(&self.standing, headers);
        if let Some(wait) = self.retry {
            witan_throttle::retry(wait, headers);
        }
    }
}

/// Paths that an operator needs when a host has too much to do. They cost little, and no client gains by them; but whoever
/// may not ask for them is no operator.
const ALWAYS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/v1/host/stop"];

/// Bytes of a body that weigh as much as a request.
pub(crate) const WEIGHT: u64 = 64 << 10;

/// The longest that a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);

/// A request that may pass.
pub(crate) struct Passed {
    pub(crate) told: Told,
    _place: Option<Place>,
}

impl Requests {
    /// Counts the tasks that a host goes on with when it starts, as those that were accepted since: of their tenants, and of the
    /// users and keys that submitted them.
    pub fn count_left(&self, tasks: &Tasks) {
        for task in tasks.left() {
            let (tenant, principal) = (task.tenant().to_owned(), task.principal().to_owned());
            // Users and keys have names that differ.
            let (user, key) = (Some(principal.as_str()), Some(principal.as_str()));
            count(&task, self.throttle.resume_task(&Client { tenant: &tenant, user, key, address: None }));
        }
    }

    /// Lets `request` of `asks` pass when it is its turn, whether or not its credential is for it.
    ///
    /// # Errors
    /// With the answer, when its client asks more than it may, or the host has more to do than can wait.
    pub(crate) async fn pass(
        &self,
        request: &request::Parts,
        asks: &Asks,
        permitted: bool,
        metrics: &Metrics,
    ) -> Result<Passed, Box<Response>> {
        if permitted && ALWAYS.contains(&request.uri.path()) {
            return Ok(Passed { told: Told::default(), _place: None });
        }
        let admitted = self.throttle.admit(&asks.client(), cost(&request.headers), Instant::now());
        let standing = admitted.map_err(|over| Box::new(refused(over, metrics)))?;
        let told = Told { standing, retry: None };
        let entering = self.gate.enter(&asks.tenant, priority(&request.headers));
        match tokio::time::timeout(PATIENCE, entering).await {
            Ok(Ok(place)) => Ok(Passed { told, _place: Some(place) }),
            Ok(Err(shed)) => Err(Box::new(overloaded(shed.to_string(), shed.wait(), told))),
            Err(_) => {
                let message = format!("the request waited {} s for its turn; try again later", PATIENCE.as_secs());
                Err(Box::new(overloaded(message, Duration::from_secs(5), told)))
            }
        }
    }

    /// Holds what `asks` asks on a connection that is open already, and that weighs `cost`, to the rates of its client.
    ///
    /// # Errors
    /// When the client asks more than it may, with the time after which it may ask again, if ever.
    pub(crate) fn charge(
        &self,
        asks: &Asks,
        cost: u32,
        metrics: &Metrics,
    ) -> Result<(), (TaskError, Option<Duration>)> {
        let admitted = self.throttle.admit(&asks.client(), cost, Instant::now());
        admitted.map(drop).map_err(|over| (refusal(&over, metrics), over.wait()))
    }

    /// Counts a task of `asks` until the lease is dropped.
    ///
    /// # Errors
    /// With the answer, when as many run or wait as may.
    pub(crate) fn begin_task(&self, asks: &Asks, metrics: &Metrics) -> Result<Lease, Box<Response>> {
        self.throttle.begin_task(&asks.client()).map_err(|over| Box::new(refused(over, metrics)))
    }

    /// The same, with the refusal as an error.
    ///
    /// # Errors
    /// As [`Self::begin_task`].
    pub(crate) fn count_task(&self, asks: &Asks, metrics: &Metrics) -> Result<Lease, TaskError> {
        self.throttle.begin_task(&asks.client()).map_err(|over| refusal(&over, metrics))
    }
}

/// Counts `task` until it ends.
pub(crate) fn count(task: &Task, lease: Lease) {
    if lease.counts() {
        let task = task.clone();
        tokio::spawn(async move {
            task.finished().await;
            drop(lease);
        });
    }
}

fn refusal(over: &Over, metrics: &Metrics) -> TaskError {
    metrics.throttled(over.by().name());
    let code = if over.wait().is_some() { Code::RateLimited } else { Code::TooHeavy };
    TaskError::new(code, over.to_string())
}

fn refused(over: Over, metrics: &Metrics) -> Response {
    let mut response = error_response(refusal(&over, metrics));
    let retry = Some(over.wait());
    let standing = match over {
        Over::Rate { standing, .. } => standing,
        Over::Heavy { .. } | Over::Tasks { .. } => Standing::default(),
    };
    response.extensions_mut().insert(Told { standing, retry });
    response
}

fn overloaded(message: String, wait: Duration, told: Told) -> Response {
    let mut response = error_response(TaskError::new(Code::Overloaded, message));
    response.extensions_mut().insert(Told { retry: Some(Some(wait)), ..told });
    response
}

/// What a request weighs: one, and one more for each 64 KiB that its body is said to have. The body of one that does not say
/// is weighed as it comes.
pub(crate) fn cost(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    u32::try_from(length.unwrap_or(0) / WEIGHT).unwrap_or(u32::MAX).saturating_add(1)
}

/// What the client says of its own request (RFC 9218): that it can wait. That it is urgent, everybody could say.
pub(crate) fn priority(headers: &HeaderMap) -> Priority {
    let said = headers.get("priority").and_then(|said| said.to_str().ok()).unwrap_or_default();
    let urgency = said.split(',').find_map(|part| part.trim().strip_prefix("u=")?.parse::<u8>().ok());
    if urgency.is_some_and(|urgency| urgency > 3) { Priority::Low } else { Priority::Normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_request_weighs_by_its_body() {
        for (length, weight) in
            [("0", 1), ("65535", 1), ("65536", 2), ("1048576", 17), ("x", 1), ("18446744073709551615", u32::MAX)]
        {
            assert_eq!(cost(&headers("content-length", length)), weight, "{length}");
        }
        assert_eq!(cost(&HeaderMap::new()), 1);
    }

    #[test]
    fn a_client_can_say_that_it_can_wait_and_not_that_it_cannot() {
        for (said, expected) in [
            ("u=7", Priority::Low),
            ("i, u=4", Priority::Low),
            ("u=3", Priority::Normal),
            ("u=0", Priority::Normal),
            ("x", Priority::Normal),
        ] {
            assert_eq!(priority(&headers("priority", said)), expected, "{said}");
        }
    }
}
