//! Signatures by keys: from a new key to the verdict, and every way in which that must fail. Each attack changes one thing
//! in a flow that succeeds without it.

use std::time::Duration;

use super::common::*;
use witan_registry_types::json as strict;

/// Whether a reason is the right one.
type Expected = fn(&Reason) -> bool;

#[test]
fn a_signed_version_is_trusted() {
    let publisher = Publisher::new();
    let verified = publisher.evaluate(&publisher.bundles()).unwrap();
    assert_eq!(verified.signers, [SignerId::Key(publisher.key.id())].into());
    assert_eq!((verified.package, verified.digest), (package(), digest()));
    assert_eq!(verified.release, release());
    assert_eq!(verified.provenance, Some(provenance()));
    assert_eq!(verified.sbom, Some(sbom()));
    assert_eq!(verified.signed, Some(noon()));
    assert!(verified.rejected.is_empty());
    let sizes: Vec<u64> = verified.checkpoints.iter().map(|checkpoint| checkpoint.size).collect();
    assert_eq!(sizes, [1, 2, 3]);
    assert!(verified.checkpoints.iter().all(|checkpoint| checkpoint.origin == "log.example - 1"));
}

#[test]
fn the_order_of_the_bundles_says_nothing() {
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    bundles.reverse();
    assert!(publisher.evaluate(&bundles).is_ok());
}

#[test]
fn a_version_without_signatures_is_refused() {
    let publisher = Publisher::new();
    assert!(publisher.evaluate(&publisher.bundles()).is_ok());
    let refusal = publisher.evaluate(&[]).unwrap_err();
    assert!(matches!(&refusal, Refusal::Unsigned(package) if *package == super::common::package()));
    assert_eq!(refusal.to_string(), "`acme:tool@1.2.3` has no signature");
    assert!(refusal.help().contains("acme:tool"));
}

#[test]
fn each_required_statement_must_be_there() {
    let publisher = Publisher::new();
    for (missing, attestation) in Attestation::ALL.into_iter().enumerate() {
        let mut bundles = publisher.bundles();
        bundles.remove(missing);
        let refusal = publisher.evaluate(&bundles).unwrap_err();
        let Refusal::Missing { attestation: found, rejected, .. } = &refusal else { panic!("{refusal:?}") };
        assert_eq!((*found, rejected.len()), (attestation, 0));
    }
    // A rule may demand less; a release statement it always demands.
    let mut least = rule(&[&publisher.key]);
    least.require.clear();
    let publisher = Publisher { policy: policy(vec![least]), ..publisher };
    let verified = publisher.evaluate(&publisher.bundles()[..1]).unwrap();
    assert_eq!((verified.provenance, verified.sbom), (None, None));
    assert!(publisher.evaluate(&publisher.bundles()[1..]).is_err());
}

#[test]
fn what_no_rule_is_about_is_refused() {
    let publisher = Publisher::new();
    for rules in [Vec::new(), vec![Rule { packages: "other:*".parse().unwrap(), ..rule(&[&publisher.key]) }]] {
        let refusal =
            evaluate(&policy(rules), &publisher.root(), &package(), &digest(), &publisher.bundles(), publisher.now);
        assert!(matches!(refusal, Err(Refusal::NoRule(_))));
    }
}

#[test]
fn an_sbom_is_no_release() {
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    // What a stock client would take for a signature.
    bundles[0] = publisher.sign(&statement(Attestation::Sbom));
    let refusal = publisher.evaluate(&bundles).unwrap_err();
    assert!(matches!(refusal, Refusal::Missing { attestation: Attestation::Release, .. }));
    let other = Statement { predicate: sbom().to_predicate(), ..statement(Attestation::Release) };
    bundles[0] = publisher.sign(&other);
    assert!(matches!(publisher.reason(&bundles), Reason::Predicate(Attestation::Release, _)));
}

#[test]
fn a_statement_of_another_kind_does_not_count() {
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    // A signed payload with a predicate type that we do not ask about, as `cosign sign` makes one.
    let key = &publisher.key;
    let text = String::from_utf8(statement(Attestation::Release).to_payload()).unwrap();
    let text = text.replace(Attestation::Release.predicate_type(), "https://sigstore.dev/cosign/sign/v1");
    bundles[0] = resigned(&bundles[0], key, text.as_bytes());
    assert!(matches!(publisher.reason(&bundles), Reason::Statement(StatementError::PredicateType(_))));
}

/// The bundle with another payload, signed by `key`, and without its log entry.
fn resigned(bundle: &[u8], key: &SigningKey, payload: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let kind = "application/vnd.in-toto+json";
    let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), payload].concat();
    changed(bundle, |value| {
        value["dsseEnvelope"]["payload"] = base64.encode(payload).into();
        value["dsseEnvelope"]["signatures"][0]["sig"] = base64.encode(key.sign(&signed).unwrap()).into();
        value["verificationMaterial"]["tlogEntries"] = json!([]);
    })
}

#[test]
fn a_bundle_counts_for_its_own_name_and_version() {
    let publisher = Publisher::new();
    let evaluate = |package: &str, digest: &Digest| {
        let bundles = publisher.bundles();
        evaluate(&publisher.policy, &publisher.root(), &package.parse().unwrap(), digest, &bundles, publisher.now)
    };
    assert!(evaluate("acme:tool@1.2.3", &digest()).is_ok());
    for package in ["acme:tool@1.2.4", "acme:other@1.2.3"] {
        let refusal = evaluate(package, &digest()).unwrap_err();
        let expected = |reason: &Reason| matches!(reason, Reason::Package(found) if *found == super::common::package());
        assert!(refusal.rejected().iter().all(|rejected| expected(&rejected.reason)), "{refusal}");
        assert_eq!(refusal.rejected().len(), 3);
    }
    let refusal = evaluate("acme:tool@1.2.3", &Digest::of(b"other bytes")).unwrap_err();
    assert!(refusal.rejected().iter().all(|it| matches!(it.reason, Reason::Digest(found) if found == digest())));
}

#[test]
fn a_digest_has_one_spelling() {
    let publisher = Publisher::new();
    let mut unlogged = rule(&[&publisher.key]);
    unlogged.allow_unlogged = true;
    let publisher = Publisher { policy: policy(vec![unlogged]), ..publisher };
    let bundles = publisher.bundles();
    let text = String::from_utf8(statement(Attestation::Release).to_payload()).unwrap();
    let hex = digest().hex();
    let (short, sha512) = (&hex[..62], format!("{hex}{hex}"));
    assert!(
        publisher
            .evaluate(&[&[resigned(&bundles[0], &publisher.key, text.as_bytes())], &bundles[1..]].concat())
            .is_ok()
    );
    for (from, to) in [
        (format!("\"{hex}\""), format!("\"{}\"", hex.to_uppercase())),
        (format!("\"{hex}\""), format!("\"{short}\"")),
        (format!("\"{hex}\""), format!("\"../{hex}\"")),
        (format!("\"sha256\":\"{hex}\""), format!("\"sha512\":\"{sha512}\"")),
        (format!("\"sha256\":\"{hex}\""), format!("\"sha256\":\"{hex}\",\"sha512\":\"{sha512}\"")),
        (format!("\"sha256\":\"{hex}\""), format!("\"sha256\":\"{}\",\"sha256\":\"{hex}\"", "0".repeat(64))),
    ] {
        assert!(text.contains(&from));
        let mut bundles = bundles.clone();
        bundles[0] = resigned(&bundles[0], &publisher.key, text.replace(&from, &to).as_bytes());
        let reason = publisher.reason(&bundles);
        assert!(matches!(reason, Reason::Statement(_)), "{to}: {reason:?}");
    }
}

#[test]
fn another_key_is_not_trusted() {
    let publisher = Publisher::new();
    let other = SigningKey::generate().unwrap();
    let mut bundles = publisher.bundles();
    bundles[0] = publisher.sign_with(&statement(Attestation::Release), &other);
    assert!(matches!(publisher.reason(&bundles), Reason::UnknownKey(Some(key)) if key == other.id()));
    // A hint is not who signed: the trusted key's name on another's signature.
    let trusted: Value = serde_json::from_slice(&bundles[1]).unwrap();
    bundles[0] = changed(&bundles[0], |value| {
        value["verificationMaterial"]["publicKey"] = trusted["verificationMaterial"]["publicKey"].clone();
    });
    assert!(matches!(publisher.reason(&bundles), Reason::Signature));
    // Without one, the trusted keys are tried.
    let without = |bundle: &[u8]| changed(bundle, |value| value["verificationMaterial"]["publicKey"] = json!({}));
    bundles[0] = without(&bundles[0]);
    assert!(matches!(publisher.reason(&bundles), Reason::UnknownKey(None)));
    bundles[0] = without(&publisher.sign(&statement(Attestation::Release)));
    assert!(publisher.evaluate(&bundles).is_ok());
}

#[test]
fn who_would_sign_again_is_told_what_is_signed() {
    let publisher = Publisher::new();
    let release = statement(Attestation::Release);
    let (bundle, key) = (publisher.sign(&release), publisher.key.public());
    assert!(is_signature_of(&bundle, &release, key, true));
    assert!(!is_signature_of(&bundle, &release, key, false), "it is in a log");
    assert!(!is_signature_of(&bundle, &statement(Attestation::Sbom), key, true));
    assert!(!is_signature_of(&bundle, &release, SigningKey::generate().unwrap().public(), true));
    let forged = changed(&bundle, |value| value["dsseEnvelope"]["signatures"][0]["sig"] = "MAYCAQECAQE=".into());
    assert!(!is_signature_of(&forged, &release, key, true));
    assert!(!is_signature_of(b"not a bundle", &release, key, true));
}

#[test]
fn a_key_for_another_namespace_does_not_count() {
    let publisher = Publisher::new();
    let other = SigningKey::generate().unwrap();
    let elsewhere = Rule { packages: "other:*".parse().unwrap(), ..rule(&[&other]) };
    let publisher = Publisher { policy: policy(vec![rule(&[&publisher.key]), elsewhere]), ..publisher };
    let mut bundles = publisher.bundles();
    assert!(publisher.evaluate(&bundles).is_ok());
    bundles[0] = publisher.sign_with(&statement(Attestation::Release), &other);
    let reason = publisher.reason(&bundles);
    assert!(
        matches!(&reason, Reason::OtherPackages { packages, .. } if packages.to_string() == "other:*"),
        "{reason:?}"
    );
}

#[test]
fn the_most_specific_rule_holds_alone() {
    let publisher = Publisher::new();
    let (special, general) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let rules = vec![
        Rule { packages: "*".parse().unwrap(), ..rule(&[&general]) },
        Rule { packages: "acme:tool".parse().unwrap(), ..rule(&[&special]) },
        rule(&[&publisher.key]),
    ];
    let publisher = Publisher { policy: policy(rules), ..publisher };
    for (key, counts) in [(&special, true), (&publisher.key, false), (&general, false)] {
        let bundles: Vec<_> = Attestation::ALL.iter().map(|it| publisher.sign_with(&statement(*it), key)).collect();
        assert_eq!(publisher.evaluate(&bundles).is_ok(), counts);
    }
}

#[test]
fn the_threshold_counts_different_signers() {
    let publisher = Publisher::new();
    let (second, third) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let two_of_three = Rule { threshold: 2, ..rule(&[&publisher.key, &second, &third]) };
    let publisher = Publisher { policy: policy(vec![two_of_three]), ..publisher };
    let by = |key: &SigningKey| Attestation::ALL.map(|it| publisher.sign_with(&statement(it), key)).to_vec();
    let verified = publisher.evaluate(&[by(&publisher.key), by(&third)].concat()).unwrap();
    assert_eq!(verified.signers, [SignerId::Key(publisher.key.id()), SignerId::Key(third.id())].into());
    // One signer, however often: the same bundle twice, and signed twice.
    let once = by(&publisher.key);
    for bundles in [once.clone(), [once.clone(), once.clone()].concat(), [once.clone(), by(&publisher.key)].concat()] {
        let refusal = publisher.evaluate(&bundles).unwrap_err();
        assert!(matches!(refusal, Refusal::Threshold { found: 1, needed: 2, attestation: Attestation::Release, .. }));
    }
    // Two signers, of whom one signed something else.
    let other = Statement {
        predicate: Release::new(Default::default(), Digest::of(b"wit")).to_predicate(),
        ..statement(Attestation::Release)
    };
    let mut bundles = [by(&publisher.key), by(&second)].concat();
    bundles[3] = publisher.sign_with(&other, &second);
    assert!(matches!(publisher.evaluate(&bundles), Err(Refusal::Threshold { found: 1, .. })));
}

#[test]
fn two_different_releases_of_one_version_are_refused() {
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    assert!(publisher.evaluate(&bundles).is_ok());
    let other = Release::new(Default::default(), Digest::of(b"wit")).to_predicate();
    bundles.push(publisher.sign(&Statement { predicate: other, ..statement(Attestation::Release) }));
    let refusal = publisher.evaluate(&bundles).unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { attestation: Attestation::Release, .. }));
}

#[test]
fn what_others_attach_does_no_harm() {
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    bundles.insert(0, b"not a bundle".to_vec());
    bundles.push(publisher.sign_with(&statement(Attestation::Release), &SigningKey::generate().unwrap()));
    let verified = publisher.evaluate(&bundles).unwrap();
    let rejected: Vec<usize> = verified.rejected.iter().map(|rejected| rejected.bundle).collect();
    assert_eq!(rejected, [0, 4]);
    let many = vec![bundles[1].clone(); 65];
    assert!(matches!(publisher.evaluate(&many), Err(Refusal::TooManyBundles { found: 65, .. })));
}

#[test]
fn a_signature_without_a_log_needs_leave() {
    let publisher = Publisher::new();
    let unlogged = |key: &SigningKey| {
        let sign = |it| Signed::with_key(&statement(it), key).unwrap().unlogged().unwrap();
        Attestation::ALL.map(sign).to_vec()
    };
    let refusal = publisher.evaluate(&unlogged(&publisher.key)).unwrap_err();
    assert!(refusal.rejected().iter().all(|rejected| matches!(rejected.reason, Reason::Unlogged)), "{refusal}");
    assert!(refusal.help().contains("allow-unlogged = true"));
    // An entry that is taken out is one that is not there.
    let stripped = publisher
        .bundles()
        .into_iter()
        .map(|bundle| changed(&bundle, |value| value["verificationMaterial"]["tlogEntries"] = json!([])));
    assert!(publisher.evaluate(&stripped.collect::<Vec<_>>()).is_err());

    let mut lenient = rule(&[&publisher.key]);
    lenient.allow_unlogged = true;
    let publisher = Publisher { policy: policy(vec![lenient.clone()]), ..publisher };
    let verified = publisher.evaluate(&unlogged(&publisher.key)).unwrap();
    assert_eq!((verified.signed, verified.checkpoints.len()), (None, 0));
    assert!(publisher.evaluate(&unlogged(&SigningKey::generate().unwrap())).is_err());
    let forged = changed(&unlogged(&publisher.key)[0], |value| {
        value["dsseEnvelope"]["signatures"][0]["sig"] = "MAYCAQECAQE=".into();
    });
    let bundles = [&[forged], &unlogged(&publisher.key)[1..]].concat();
    assert!(matches!(publisher.reason(&bundles), Reason::Signature));
    // Leave to be in no log is none to be wrong about one.
    let mut bundles = publisher.bundles();
    bundles[0] = changed(&bundles[0], |value| {
        value["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]["signedEntryTimestamp"] =
            "MAYCAQECAQE=".into();
    });
    assert!(matches!(publisher.reason(&bundles), Reason::Promise(_)));
}

#[test]
fn a_key_that_was_replaced_counts_for_what_it_signed_before() {
    let publisher = Publisher::new();
    let until = |time| {
        let mut rule = rule(&[&publisher.key]);
        rule.keys[0].not_after = Some(time);
        rule.allow_unlogged = true;
        policy(vec![rule])
    };
    let bundles = publisher.bundles();
    let evaluate = |policy: &TrustPolicy, bundles: &[Vec<u8>]| {
        evaluate(policy, &publisher.root(), &package(), &digest(), bundles, publisher.now)
    };
    assert!(evaluate(&until(noon()), &bundles).is_ok());
    let refusal = evaluate(&until(noon() - Duration::from_secs(1)), &bundles).unwrap_err();
    assert!(refusal.rejected().iter().all(|it| matches!(it.reason, Reason::KeyExpired { .. })), "{refusal}");
    // Without a log nobody knows when it signed.
    let unlogged =
        Attestation::ALL.map(|it| Signed::with_key(&statement(it), &publisher.key).unwrap().unlogged().unwrap());
    let refusal = evaluate(&until(publisher.now), &unlogged).unwrap_err();
    assert!(refusal.rejected().iter().all(|it| matches!(it.reason, Reason::Unlogged)), "{refusal}");
}

#[test]
fn evidence_that_was_changed_is_refused() {
    let publisher = Publisher::new();
    let entry = "/verificationMaterial/tlogEntries/0";
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let signature = "MEQCIAMbYzaLcVfSzwbkIvgQCPRpW7MVpfu/TLYBSgjTbCYmAiAMWnxVTYmaAYFvlyvWgfNkLjzbHcLSo0yXsTXUdx4Tzg==";
    let cases: [(&str, Value, Expected); 11] = [
        ("/inclusionPromise/signedEntryTimestamp", json!(signature), |it| matches!(it, Reason::Promise(_))),
        ("/inclusionPromise/signedEntryTimestamp", json!("AAAA"), |it| matches!(it, Reason::Promise(_))),
        // Earlier than it was: the promise covers the time.
        ("/integratedTime", json!("1735700000"), |it| matches!(it, Reason::Promise(_))),
        ("/logIndex", json!("5"), |it| matches!(it, Reason::Promise(_))),
        ("/logId/keyId", json!(zeros), |it| matches!(it, Reason::UnknownLog(_))),
        ("/inclusionProof/hashes", json!([zeros]), |it| matches!(it, Reason::Proof(_))),
        ("/inclusionProof/logIndex", json!("0"), |it| matches!(it, Reason::Proof(_))),
        ("/inclusionProof/rootHash", json!(zeros), |it| matches!(it, Reason::Bundle(_))),
        ("/inclusionProof/treeSize", json!("9"), |it| matches!(it, Reason::Bundle(_))),
        ("/inclusionProof/treeSize", json!("-1"), |it| matches!(it, Reason::Bundle(_))),
        ("/inclusionProof/checkpoint/envelope", json!("log.example - 1\n2\n"), |it| matches!(it, Reason::Bundle(_))),
    ];
    // So that an index and a path of hashes are there to be changed.
    publisher.authority.log.append(b"before");
    for (pointer, value, expected) in cases {
        let mut bundles = publisher.bundles();
        assert!(publisher.evaluate(&bundles).is_ok());
        bundles[0] = changed(&bundles[0], |bundle| {
            *bundle.pointer_mut(&format!("{entry}{pointer}")).unwrap_or_else(|| panic!("{pointer}")) = value;
        });
        let reason = publisher.reason(&bundles);
        assert!(expected(&reason), "{pointer}: {reason:?}");
    }
    for part in ["inclusionPromise", "inclusionProof", "integratedTime"] {
        let mut bundles = publisher.bundles();
        bundles[0] = changed(&bundles[0], |bundle| {
            bundle.pointer_mut(entry).unwrap().as_object_mut().unwrap().remove(part).unwrap();
        });
        let reason = publisher.reason(&bundles);
        assert!(matches!(reason, Reason::Bundle(BundleError::HalfEntry(_))), "{part}: {reason:?}");
    }
}

/// The release with the entry changed by one who has the signer's key, but not the log's.
fn with_entry(publisher: &Publisher, change: impl FnOnce(&mut LogEntry)) -> Vec<Vec<u8>> {
    let signed = Signed::with_key(&statement(Attestation::Release), &publisher.key).unwrap();
    let mut entry = publisher.authority.log.append(&signed.entry_body().unwrap());
    change(&mut entry);
    let mut bundles = publisher.bundles();
    bundles[0] = signed.logged(&entry).unwrap();
    bundles
}

#[test]
fn a_log_vouches_with_its_own_key_and_name() {
    let publisher = Publisher::new();
    let impostor = LocalLog::new("log.example");
    assert!(publisher.evaluate(&with_entry(&publisher, |_| ())).is_ok());
    let forged = with_entry(&publisher, |entry| {
        entry.proof.checkpoint = impostor.checkpoint(entry.proof.size, &entry.proof.root);
    });
    assert!(matches!(publisher.reason(&forged), Reason::Checkpoint(_)));
    let forged = with_entry(&publisher, |entry| {
        let payload = promise_payload(&entry.log, entry.index, entry.time, &entry.body);
        entry.promise = impostor.key().sign(&payload).unwrap();
    });
    assert!(matches!(publisher.reason(&forged), Reason::Promise(_)));
    let forged = with_entry(&publisher, |entry| *entry = impostor.append(&entry.body));
    assert!(matches!(publisher.reason(&forged), Reason::Checkpoint(_) | Reason::UnknownLog(_)));
    // Signed by the log, and under another name: a note of another purpose.
    for origin in ["other.example - 1", "log.example.evil - 1", "log.example - x", "log.example - "] {
        let forged = with_entry(&publisher, |entry| {
            let log = &publisher.authority.log;
            entry.proof.checkpoint = log.checkpoint_of(origin, entry.proof.size, &entry.proof.root);
        });
        assert!(matches!(publisher.reason(&forged), Reason::Checkpoint(_)), "{origin}");
    }
}

#[test]
fn one_logs_checkpoint_does_not_speak_for_another() {
    let publisher = Publisher::new();
    let second = LocalLog::new("second.example");
    let both = trusted_root(&[publisher.authority.log.trusted(), second.trusted()]);
    let root = TrustRoot::parse(&both, publisher.now).unwrap();
    let evaluate =
        |bundles: &[Vec<u8>]| evaluate(&publisher.policy, &root, &package(), &digest(), bundles, publisher.now);
    // Both logs are empty before, so that the place of the entry is the same in both.
    let mixed = with_entry(&publisher, |entry| entry.proof = second.append(&entry.body).proof);
    let refusal = evaluate(&mixed).unwrap_err();
    assert!(matches!(refusal.rejected()[0].reason, Reason::Checkpoint(_)), "{refusal}");
    assert!(evaluate(&with_entry(&publisher, |_| ())).is_ok());
    assert!(evaluate(&with_entry(&publisher, |entry| *entry = second.append(&entry.body))).is_ok());
}

#[test]
fn an_entry_is_for_its_own_signature() {
    let publisher = Publisher::new();
    let other = Statement { digest: Digest::of(b"other"), ..statement(Attestation::Release) };
    let other: Value = serde_json::from_slice(&publisher.sign(&other)).unwrap();
    let mut bundles = publisher.bundles();
    bundles[0] = changed(&bundles[0], |bundle| {
        bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
    });
    assert!(matches!(publisher.reason(&bundles), Reason::Entry(_)));
    // The same statement, signed again: another signature.
    let again: Value = serde_json::from_slice(&publisher.sign(&statement(Attestation::Release))).unwrap();
    bundles[0] = changed(&publisher.sign(&statement(Attestation::Release)), |bundle| {
        bundle["verificationMaterial"]["tlogEntries"] = again["verificationMaterial"]["tlogEntries"].clone();
    });
    assert!(matches!(publisher.reason(&bundles), Reason::Entry(_)));
    let signed = Signed::with_key(&statement(Attestation::Release), &publisher.key).unwrap();
    let entry = publisher.authority.log.append(b"something else");
    assert!(matches!(signed.logged(&entry), Err(SignError::OtherEntry)));
}

#[test]
fn a_bundle_has_one_signature_and_one_entry() {
    let publisher = Publisher::new();
    let second: Value = serde_json::from_slice(&publisher.bundles()[1]).unwrap();
    let cases: [(&str, Expected); 2] = [
        ("/verificationMaterial/tlogEntries", |it| matches!(it, Reason::Bundle(BundleError::Entries(2)))),
        ("/dsseEnvelope/signatures", |it| matches!(it, Reason::Bundle(BundleError::Signatures(2)))),
    ];
    for (pointer, expected) in cases {
        for first in [true, false] {
            // The same once more, and another's beside it.
            for same in [true, false] {
                let mut bundles = publisher.bundles();
                bundles[0] = changed(&bundles[0], |bundle| {
                    let list = bundle.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
                    let more = if same { list[0].clone() } else { second.pointer(pointer).unwrap()[0].clone() };
                    list.insert(usize::from(!first), more);
                });
                let reason = publisher.reason(&bundles);
                assert!(expected(&reason), "{pointer}: {reason:?}");
            }
        }
    }
}

#[test]
fn a_payload_that_was_changed_is_refused() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let publisher = Publisher::new();
    let mut bundles = publisher.bundles();
    let wider = Release::new(serde_json::from_value(json!({ "wall-clock": true })).unwrap(), Digest::of(b"wit"));
    let payload = Statement { predicate: wider.to_predicate(), ..statement(Attestation::Release) }.to_payload();
    bundles[0] = changed(&bundles[0], |bundle| bundle["dsseEnvelope"]["payload"] = base64.encode(payload).into());
    assert!(matches!(publisher.reason(&bundles), Reason::Signature));
}

#[test]
fn a_bundle_has_one_form() {
    let publisher = Publisher::new();
    let changes: [fn(&mut Value); 8] = [
        |bundle| bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into(),
        |bundle| drop(bundle.as_object_mut().unwrap().remove("mediaType")),
        |bundle| bundle["dsseEnvelope"]["payloadType"] = "text/plain".into(),
        |bundle| bundle["messageSignature"] = json!({ "signature": "AAAA" }),
        |bundle| bundle["verificationMaterial"]["certificate"] = json!({ "rawBytes": "AAAA" }),
        |bundle| bundle["verificationMaterial"]["x509CertificateChain"] = json!({ "certificates": [] }),
        |bundle| bundle["more"] = json!(true),
        |bundle| drop(bundle.as_object_mut().unwrap().remove("verificationMaterial")),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut bundles = publisher.bundles();
        bundles[0] = changed(&bundles[0], change);
        let reason = publisher.reason(&bundles);
        assert!(matches!(reason, Reason::Bundle(_)), "{number}: {reason:?}");
    }
    let mut bundles = publisher.bundles();
    let text = String::from_utf8(bundles[0].clone()).unwrap();
    bundles[0] = text.replacen("\"dsseEnvelope\"", "\"dsseEnvelope\":null,\"dsseEnvelope\"", 1).into_bytes();
    assert!(matches!(publisher.reason(&bundles), Reason::Bundle(BundleError::Json(strict::JsonError::Syntax(_)))));
    bundles[0] = vec![b' '; (4 << 20) + 1];
    let reason = publisher.reason(&bundles);
    assert!(matches!(reason, Reason::Bundle(BundleError::Json(strict::JsonError::TooLarge { .. }))));
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let publisher = Publisher::new();
    publisher.authority.log.set_time(publisher.now + Duration::from_secs(299));
    assert!(publisher.evaluate(&publisher.bundles()).is_ok());
    let ahead = publisher.bundles();
    publisher.authority.log.set_time(publisher.now + Duration::from_secs(301));
    let bundles = [&[publisher.sign(&statement(Attestation::Release))], &ahead[1..]].concat();
    assert!(matches!(publisher.reason(&bundles), Reason::Future(_)));
}

#[test]
fn trust_that_was_not_confirmed_expires() {
    let publisher = Publisher::new();
    let at = |as_of| {
        let root = TrustRoot::parse(&publisher.authority.trusted_root(), as_of).unwrap();
        evaluate(&publisher.policy, &root, &package(), &digest(), &publisher.bundles(), publisher.now)
    };
    let week = TrustPolicy::MAX_AGE;
    assert!(at(publisher.now - week).is_ok());
    assert!(matches!(at(publisher.now - week - Duration::from_secs(1)), Err(Refusal::TrustTooOld { .. })));
    assert!(at(publisher.now + Duration::from_secs(60)).is_ok());
    assert!(matches!(at(publisher.now + Duration::from_secs(600)), Err(Refusal::TrustFromTheFuture(_))));
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let publisher = Publisher::new();
    let signed = Signed::with_key(&statement(Attestation::Release), &publisher.key).unwrap();
    publisher.authority.log.append(b"before");
    let entry = publisher.authority.log.append(&signed.entry_body().unwrap());
    assert_eq!(LogEntry::from_json(&entry.to_json().unwrap()).unwrap(), entry);
    for bad in [&b""[..], b"{}", b"null"] {
        assert!(LogEntry::from_json(bad).is_err());
    }
}

#[test]
fn a_trusted_root_of_another_form_is_refused() {
    let publisher = Publisher::new();
    let text = String::from_utf8(publisher.authority.trusted_root()).unwrap();
    let parse = |text: &str| TrustRoot::parse(text.as_bytes(), publisher.now);
    assert!(parse(&text).is_ok());
    for (from, to) in
        [("trustedroot", "bundle"), ("\"tlogs\":[", "\"tlogs\":[],\"tlogs\":["), ("SHA2_256", "MD5"), ("{", "[")]
    {
        assert!(parse(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}
