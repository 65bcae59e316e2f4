//! Secrets and personal data are not written.

use std::collections::BTreeMap;

use proptest::prelude::*;
use witan_ledger::{Class, Entry, Filter, Kind, Ledger, Personal, Redaction, Redactor, Settings, Treatment};
use zeroize::Zeroizing;

use crate::support::{bytes, settings};

fn redactor(redaction: Redaction) -> Redactor {
    Redactor::new(redaction, Zeroizing::new([7; 32]))
}

fn reason(text: &str) -> String {
    redactor(Redaction::default()).entry(Entry::new(Kind::Decision, "a", "b").because(text)).reason.unwrap()
}

#[test]
fn what_has_the_form_of_a_secret_is_masked_and_the_rest_stays() {
    let masked = [
        ("Authorization: Bearer abcdefgh12345678", "Authorization: [redacted:credential]"),
        ("sent Bearer abc.def-ghi_jkl to it", "sent Bearer [redacted:credential] to it"),
        ("password=hunter2&user=x", "password=[redacted:credential]&user=x"),
        (r#"{"api_key": "abc"}"#, r#"{"api_key": [redacted:credential]}"#),
        ("Bearer schlüsselgeheim", "Bearer [redacted:credential]"),
        ("sk-äöüäöü0123456789", "[redacted:credential]"),
        ("eyJhbüci.eyJzdüIi.abc_déf x", "[redacted:credential] x"),
        ("größe_token_für = abc", "größe_token_für = [redacted:credential]"),
        ("menüghp_0123456789abcdefghij", "menü[redacted:credential]"),
        ("postgres://bob:hunter2@db.example/x", "postgres://[redacted:credential]@db.example/x"),
        ("key sk-proj-abcdefghijklmnopqrstu.", "key [redacted:credential]."),
        ("ghp_0123456789abcdefghij0123456789abcdef", "[redacted:credential]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted:credential]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc_def", "[redacted:credential]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- x", "[redacted:credential] x"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nMIIE", "[redacted:credential]"),
        ("write to ann@example.com", "write to [redacted:e-mail]"),
        ("card 4111 1111 1111 1111.", "card [redacted:card]."),
        ("card 4111-1111-1111-1111.", "card [redacted:card]."),
        ("from DE89 3704 0044 0532 0130 00", "from [redacted:iban]"),
    ];
    for (text, expected) in masked {
        assert_eq!(reason(text), expected, "{text}");
    }
    for text in [
        "`summarize` may not send `GET https://example.com:443/a`: no grant covers it",
        "acme:sums@1.0.0 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "card 4111 1111 1111 1112",
        "wasi:http/outgoing-handler@0.2.12#handle",
        "1763764800000",
        "018f3f5e-7b1c-7c3a-9d2e-1a2b3c4d5e6f",
    ] {
        assert_eq!(reason(text), text);
    }
}

#[test]
fn a_detail_whose_name_says_so_is_masked() {
    let entry = Entry::new(Kind::Decision, "a", "b").with("cookie", "x").with("port", 443);
    let details = redactor(Redaction::default()).entry(entry).details;
    assert_eq!(details["cookie"], "[redacted:credential]");
    assert_eq!(details["port"], "443");
}

#[test]
fn fields_are_treated_as_the_operator_chose() {
    let entry = || Entry::new(Kind::Decision, "a", "GET /users/7").by("acme", "ann@example.com").because("why");
    let kept = redactor(Redaction::default()).entry(entry());
    assert_eq!(kept.principal, "ann@example.com");
    let fields = BTreeMap::from([
        (Class::Identity, Treatment::Hash),
        (Class::Resource, Treatment::Drop),
        (Class::Reason, Treatment::Keep),
    ]);
    let all = Redaction { fields, personal: Personal::ALL.to_vec(), ..Redaction::default() };
    let treated = redactor(all.clone()).entry(entry());
    assert!(treated.principal.starts_with("hash:"));
    assert_eq!(treated.principal, redactor(all.clone()).entry(entry()).principal);
    let other = Redactor::new(all, Zeroizing::new([8; 32])).entry(entry());
    assert_ne!(treated.principal, other.principal);
    assert_eq!((treated.resource.as_str(), treated.reason.as_deref()), ("[dropped]", Some("why")));

    let own = Redaction { patterns: vec![regex::Regex::new("EMP-[0-9]+").unwrap()], ..Redaction::default() };
    let entry = Entry::new(Kind::Decision, "a", "about EMP-1234");
    assert_eq!(redactor(own).entry(entry).resource, "about [redacted:pattern]");
}

#[test]
fn values_that_the_host_knows_are_masked_wherever_they_stand() {
    let redactor = redactor(Redaction::default());
    redactor
        .hide(["correct horse".to_owned(), "correct horse battery".to_owned(), "short".to_owned()].map(Zeroizing::new));
    let entry = Entry::new(Kind::Decision, "x correct horse", "correct horse battery").by("correct horse", "short");
    let entry = redactor.entry(entry);
    assert_eq!(entry.action, "x [redacted:secret]");
    assert_eq!(entry.resource, "[redacted:secret]");
    assert_eq!((entry.tenant.as_str(), entry.principal.as_str()), ("[redacted:secret]", "short"));
}

#[test]
fn values_that_the_host_knows_are_masked_as_debug_and_json_write_them() {
    let (redactor, value) = (redactor(Redaction::default()), "a \"quoted\" \\ one\nwith a bell \u{7} in it");
    redactor.hide([Zeroizing::new(value.to_owned())]);
    let json = serde_json::json!({ "value": value }).to_string();
    let debug = format!("{:?}", Some(value));
    for (text, expected) in [
        (value.to_owned(), "[redacted:secret]"),
        (debug, "Some(\"[redacted:secret]\")"),
        (json, "{\"value\":\"[redacted:secret]\"}"),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn values_are_masked_when_they_are_used_and_the_former_for_a_while() {
    let redactor = redactor(Redaction::default());
    redactor.hide([Zeroizing::new("as it was loaded".to_owned())]);
    for number in 1..=5 {
        redactor.hide_used("acme/key", &format!("value number {number}"));
        redactor.hide_used("acme/key", &format!("value number {number}"));
        redactor.hide_used("acme/other", "another value");
    }
    let is_masked = |value: &str| redactor.text(format!("<{value}>")) == "<[redacted:secret]>";
    assert!((2..=5).all(|number| is_masked(&format!("value number {number}"))));
    assert!(!is_masked("value number 1"), "as many are known as there is room for");
    assert!(is_masked("another value") && is_masked("as it was loaded"));
    redactor.hide([]);
    assert!(is_masked("value number 5") && !is_masked("as it was loaded"));
    for number in 0..2_000 {
        redactor.hide_used(&number.to_string(), &format!("one of many {number:04}"));
    }
    assert!(is_masked("one of many 1999") && !is_masked("value number 5"));
}

#[test]
fn a_value_is_masked_by_its_name() {
    let redactor = redactor(Redaction::default());
    assert_eq!(redactor.named("db_password", "hunter2".to_owned()), "[redacted:credential]");
    assert_eq!(redactor.named("user", "ann@example.com is hunter2".to_owned()), "[redacted:e-mail] is hunter2");
}

#[test]
fn addresses_are_masked_in_whatever_letters() {
    let redactor = redactor(Redaction::default());
    let letters: Vec<char> = ('\u{80}'..=char::MAX).filter(|char| char.is_alphanumeric()).collect();
    assert!(letters.len() > 100_000);
    for letters in letters.chunks(300) {
        let some: String = letters.iter().collect();
        assert_eq!(redactor.text(format!("to {some}@{some}.{some}!")), "to [redacted:e-mail]!");
    }
    let quoted = "“someone@example.com”、（someone@example.com）";
    assert_eq!(redactor.text(quoted.to_owned()), "“[redacted:e-mail]”、（[redacted:e-mail]）");
}

#[test]
fn long_texts_are_cut() {
    let entry = Entry::new(Kind::Decision, "a", "ä".repeat(1 << 20));
    let resource = redactor(Redaction::default()).entry(entry).resource;
    assert!(resource.len() < 1100 && resource.ends_with('…'));
}

/// A secret in one of the forms in which secrets come, around `canary`.
fn forms(canary: &str) -> Vec<String> {
    vec![
        format!("Authorization: Bearer {canary}"),
        format!("authorization=Basic {canary}"),
        format!("https://user:{canary}@example.com/"),
        format!("https://example.com/?access_token={canary}&x=1"),
        format!("client_secret: '{canary}'"),
        format!("{{\"password\":\"{canary}\"}}"),
        format!("sk-{canary}"),
        format!("github_pat_{canary}"),
        format!("-----BEGIN EC PRIVATE KEY-----\n{canary}\n-----END EC PRIVATE KEY-----"),
        format!("{canary}@example.com"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A canary in any form, in any field, with anything around it, is neither in an entry nor in a file.
    #[test]
    fn a_canary_never_reaches_the_disk(
        canary in "[A-Za-z][A-Za-z0-9]{22,30}",
        before in "[ -~]{0,40}[ ,;(]",
        after in "([ ,;)][ -~]{0,40})?",
        form in 0..10_usize,
        field in 0..5_usize,
    ) {
        let text = format!("{before}{}{after}", forms(&canary)[form]);
        let entry = Entry::new(Kind::Decision, "send", "x").by("acme", "alice");
        let entry = match field {
            0 => Entry { resource: text, ..entry },
            1 => entry.because(text),
            2 => entry.with("header", text),
            3 => Entry { action: text, ..entry },
            _ => Entry { component: Some(text), ..entry },
        };
        // An address of e-mail is personal data, and no secret: it is masked where people's data may stand.
        prop_assume!(form != 9 || field < 3);
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), Settings { ..settings() }).unwrap();
        ledger.append_blocking(entry).unwrap();
        let page = ledger.reader().after(&Filter::default(), None, 10).unwrap();
        let written = serde_json::to_string(page.entries[0].entry.as_ref().unwrap()).unwrap();
        prop_assert!(!written.contains(&canary), "{written}");
        ledger.close();
        let found = bytes(folder.path()).windows(canary.len()).any(|window| window == canary.as_bytes());
        prop_assert!(!found);
    }

    #[test]
    fn any_text_is_redacted_without_a_panic(text in any::<String>()) {
        let entry = Entry::new(Kind::Decision, text.clone(), text.clone()).by(text.clone(), text.clone());
        let redacted = redactor(Redaction { personal: Personal::ALL.to_vec(), ..Redaction::default() }).entry(entry);
        // What was redacted stays as it is.
        let again = redactor(Redaction::default()).entry(redacted.clone());
        prop_assert_eq!(again.resource.contains("[redacted"), redacted.resource.contains("[redacted"));
    }
}
