//! What an answer tells a client of its rates: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers),
//! the `x-ratelimit-…` that clients of model providers read, and when to ask again.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, header};

use crate::Standing;

/// The longest that a client is told to wait. Widely used clients give up on more.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Tells where the client stands in its rates. Says nothing where it is held to none.
pub fn standing(standing: &Standing, headers: &mut HeaderMap) {
    let Some(tightest) = standing.tightest() else { return };
    let mut policies = String::new();
    for policy in &standing.0 {
        let comma = if policies.is_empty() { "" } else { ", " };
        let window = policy.window.as_secs();
        // Writing into a string does not fail.
        let _written = write!(policies, "{comma}\"{}-{window}s\";q={};w={window}", policy.by.name(), policy.quota);
    }
    let name = format!("{}-{}s", tightest.by.name(), tightest.window.as_secs());
    let reset = ceil_seconds(tightest.reset);
    put(headers, "ratelimit-policy", policies);
    put(headers, "ratelimit", format!("\"{name}\";r={};t={reset}", tightest.remaining));
    put(headers, "x-ratelimit-limit-requests", tightest.quota.to_string());
    put(headers, "x-ratelimit-remaining-requests", tightest.remaining.to_string());
    put(headers, "x-ratelimit-reset-requests", format!("{}ms", tightest.reset.as_millis()));
}

/// Tells when to ask again; none is never.
pub fn retry(wait: Option<Duration>, headers: &mut HeaderMap) {
    match wait {
        Some(wait) => {
            let wait = wait.min(LONGEST_WAIT);
            // A client that asks a moment too early is refused again.
            let milliseconds = wait.as_nanos().div_ceil(1_000_000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ceil_seconds(wait).max(1)));
            put(headers, "retry-after-ms", milliseconds.to_string());
        }
        None => {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
    }
}

fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn put(headers: &mut HeaderMap, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{By, Policy};

    #[test]
    fn the_tightest_rate_is_told_and_all_are_named() {
        let policy = |by, quota, window, remaining, reset| Policy {
            by,
            quota,
            window: Duration::from_secs(window),
            remaining,
            reset: Duration::from_millis(reset),
        };
        let all = Standing(vec![policy(By::Tenant, 100, 1, 40, 600), policy(By::Key, 60, 60, 3, 57_001)]);
        let mut headers = HeaderMap::new();
        standing(&all, &mut headers);
        for (name, value) in [
            ("ratelimit-policy", "\"tenant-1s\";q=100;w=1, \"key-60s\";q=60;w=60"),
            ("ratelimit", "\"key-60s\";r=3;t=58"),
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "57001ms"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let mut none = HeaderMap::new();
        standing(&Standing::default(), &mut none);
        assert!(none.is_empty());
    }

    fn told<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers[name].to_str().unwrap()
    }

    #[test]
    fn nobody_is_told_to_wait_longer_than_clients_do() {
        for (wait, seconds, milliseconds) in [(0, "1", "1"), (1_500_000, "1", "2"), (2_000_000_001, "3", "2001")] {
            let mut headers = HeaderMap::new();
            retry(Some(Duration::from_nanos(wait)), &mut headers);
            assert_eq!((told(&headers, "retry-after"), told(&headers, "retry-after-ms")), (seconds, milliseconds));
        }
        let mut long = HeaderMap::new();
        retry(Some(Duration::from_secs(100_000)), &mut long);
        assert_eq!((told(&long, "retry-after"), told(&long, "retry-after-ms")), ("120", "120000"));
        let mut never = HeaderMap::new();
        retry(None, &mut never);
        assert_eq!(never["x-should-retry"], "false");
        assert!(!never.contains_key("retry-after"));
    }
}
