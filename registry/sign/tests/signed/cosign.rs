//! What stock cosign signs. The bundle was made by cosign 3.1.1 without a log:
//! `cosign attest-blob --statement release.json --key cosign.key --bundle release.sigstore.json`, with a signing
//! configuration that names no services.

use super::common::*;

const BUNDLE: &[u8] = include_bytes!("cosign/release.sigstore.json");

fn trusted() -> Rule {
    let key = TrustedKey { key: include_str!("cosign/key.pub").parse().unwrap(), not_after: None };
    Rule { keys: vec![key], require: [].into(), ..rule(&[]) }
}

fn judge(rule: Rule, package: &str, bundle: &[u8]) -> Result<Verified, Refusal> {
    let publisher = Publisher::new();
    let package = package.parse().unwrap();
    evaluate(&policy(vec![rule]), &publisher.root(), &package, &digest(), &[bundle], publisher.now)
}

fn the_reason(verdict: Result<Verified, Refusal>) -> Reason {
    match verdict {
        Err(Refusal::Missing { mut rejected, .. }) => rejected.remove(0).reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_signature_counts_where_none_needs_a_log() {
    let lenient = Rule { allow_unlogged: true, ..trusted() };
    let verified = judge(lenient.clone(), "acme:tool@1.2.3", BUNDLE).unwrap();
    assert_eq!(verified.release, Release::new(Default::default(), Digest::of(b"wit")));
    assert!(matches!(the_reason(judge(trusted(), "acme:tool@1.2.3", BUNDLE)), Reason::Unlogged));
    assert!(matches!(the_reason(judge(lenient.clone(), "acme:tool@1.2.4", BUNDLE)), Reason::Package(_)));
    let forged = changed(BUNDLE, |bundle| {
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = "MAYCAQECAQE=".into();
    });
    assert!(matches!(the_reason(judge(lenient, "acme:tool@1.2.3", &forged)), Reason::Signature));
}
