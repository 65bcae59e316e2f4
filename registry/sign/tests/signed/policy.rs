//! Policies as they are written.

use super::common::*;
use witan_registry_types::PackageName;
use witan_system::TrustFile;

fn parse(policy: &Value) -> Result<TrustPolicy, String> {
    let file: TrustFile = serde_json::from_value(policy.clone()).map_err(|error| error.to_string())?;
    TrustPolicy::try_from(&file).map_err(|error| error.to_string())
}

fn pem() -> String {
    SigningKey::generate().unwrap().public().to_pem()
}

#[test]
fn a_policy_that_says_nothing_trusts_nobody() {
    let policy = parse(&json!({})).unwrap();
    assert!(policy.rules().is_empty());
    assert_eq!(policy.max_age(), TrustPolicy::MAX_AGE);
    assert!(policy.rule(&"acme:tool".parse::<PackageName>().unwrap()).is_none());
}

#[test]
fn what_a_rule_leaves_out_is_strict() {
    let policy = parse(&json!({ "rules": [{ "packages": "acme:*", "keys": [{ "key": pem() }] }] })).unwrap();
    let rule = policy.rule(&"acme:tool".parse().unwrap()).unwrap();
    assert_eq!((rule.threshold, rule.allow_unlogged), (1, false));
    assert_eq!(rule.require, Attestation::ALL.into());
    assert!(policy.rule(&"acme-tools:tool".parse().unwrap()).is_none());
}

#[test]
fn a_policy_is_written_in_full() {
    let policy = parse(&json!({
        "max-age": "24h",
        "rules": [{
            "packages": "acme:tool",
            "keys": [{ "key": pem(), "not-after": "2025-01-01T12:00:00Z" }],
            "identities": [
                { "issuer": "https://accounts.example", "email": "author@acme.example" },
                { "issuer": "https://ci.example", "uri": "https://git.example/acme/tool" },
            ],
            "threshold": 2,
            "require": ["release", "sbom"],
            "allow-unlogged": true,
        }],
    }));
    let rule = policy.as_ref().unwrap().rules()[0].clone();
    assert_eq!(policy.unwrap().max_age().as_secs(), 24 * 3600);
    assert_eq!(rule.keys[0].not_after, Some(noon()));
    assert_eq!(rule.identities[1].subject, Subject::Uri("https://git.example/acme/tool".to_owned()));
    assert_eq!((rule.threshold, rule.allow_unlogged, rule.require.len()), (2, true, 2));
}

#[test]
fn a_policy_that_cannot_mean_what_it_says_is_refused() {
    let pem = pem();
    let key = json!({ "key": pem });
    let rule = |change: Value| {
        let mut rule = json!({ "packages": "acme:*", "keys": [key] });
        rule.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "rules": [rule] })
    };
    assert!(parse(&rule(json!({}))).is_ok());
    for (change, expected) in [
        (json!({ "packages": "acme" }), "`packages` must be"),
        (json!({ "packages": "*:tool" }), "`packages` must be"),
        (json!({ "packages": "ac*:*" }), "`packages` must be"),
        (json!({ "threshold": 0 }), "needs 0 signers"),
        (json!({ "threshold": 2 }), "needs 2 signers and names 1"),
        (json!({ "threshold": -1 }), "invalid value"),
        (json!({ "keys": [] }), "names 0"),
        (json!({ "keys": [key, key], "threshold": 2 }), "twice"),
        (json!({ "keys": [{ "key": "" }] }), "cannot be read"),
        (json!({ "keys": [{ "key": pem, "not-after": "tomorrow" }] }), "`tomorrow` is not a time"),
        (json!({ "keys": [{ "key": pem, "not-before": "2025-01-01T12:00:00Z" }] }), "unknown field"),
        (json!({ "identities": [{ "issuer": "https://a.example" }] }), "must have an `issuer`"),
        (json!({ "identities": [{ "issuer": "", "email": "a@b.example" }] }), "must have an `issuer`"),
        (json!({ "identities": [{ "issuer": "i", "email": "a", "uri": "b" }] }), "must have an `issuer`"),
        (json!({ "require": ["everything"] }), "unknown variant"),
        (json!({ "allow-unloged": true }), "unknown field"),
    ] {
        let error = parse(&rule(change.clone())).unwrap_err();
        assert!(error.contains(expected), "{change}: {error}");
    }
    let both = json!({ "rules": [{ "packages": "acme:*", "keys": [key] }, { "packages": "acme:*", "keys": [key] }] });
    assert!(parse(&both).unwrap_err().contains("two rules are about `acme:*`"));
    assert!(parse(&json!({ "max-age": "7 days" })).unwrap_err().contains("not a duration"));
    let many = vec![json!({ "packages": "acme:*", "keys": [key] }); 257];
    assert!(parse(&json!({ "rules": many })).unwrap_err().contains("257 rules"));
}
