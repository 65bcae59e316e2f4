//! What must not be written down: secrets always, personal data as the operator chose.
//!
//! Patterns find what has a form. What has none, such as a password of one's own choosing, is found where its name stands
//! before it, or by value where the host knows it ([`Redactor::hide`], [`Redactor::hide_used`]).
//!
//! Patterns spell out what they take, and take more than they must: all of Unicode's letters, as `\w` and `\b` have them,
//! make automata of megabytes, which are a hundred times slower too.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
};

use parking_lot::RwLock;
use regex::{Captures, Regex, RegexSet};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Entry, Kind};

/// A longer text is cut before it is looked at: who acted may have chosen its length.
const LONGEST_READ: usize = 16 << 10;
/// A longer text is cut when it has been looked at.
const LONGEST_WRITTEN: usize = 1 << 10;
/// Details of one entry.
const MOST_DETAILS: usize = 16;
/// A shorter value is not hidden: it would stand everywhere.
const SHORTEST_HIDDEN: usize = 6;

/// Values of one secret that are masked: a former one may still be on its way into an entry or a log line.
const FORMER: usize = 4;
/// Values of all secrets that are masked since they were used.
const MOST_USED: usize = 1_024;

/// All letters and digits beyond ASCII, with what else stands among them; quotation marks, dashes and the like do not.
macro_rules! letters {
    () => {
        concat!(
            r"\x{AA}\x{B2}-\x{B5}\x{B9}\x{BA}\x{BC}-\x{BE}\x{C0}-\x{1FFF}\x{2070}-\x{218F}\x{2460}-\x{24FF}\x{2776}-\x{2793}",
            r"\x{2C00}-\x{2DFF}\x{2E2F}\x{3005}-\x{3007}\x{3021}-\x{3029}\x{3031}-\x{303C}\x{3041}-\x{FDFF}",
            r"\x{FE70}-\x{FEFC}\x{FF10}-\x{FF19}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{FF66}-\x{FFDC}\x{10000}-\x{10FFFF}"
        )
    };
}

/// Personal data that has a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Personal {
    /// Addresses of e-mail.
    Email,
    /// Numbers of payment cards, by their check digit.
    Card,
    /// Numbers of bank accounts (IBAN), by their check digits.
    Iban,
    /// Telephone numbers in the international form.
    Phone,
    /// IP addresses.
    IpAddress,
}

impl Personal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Email, Self::Card, Self::Iban, Self::Phone, Self::IpAddress];

    /// Its name in `system.toml`, and in the place of what was there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "e-mail",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::IpAddress => "ip-address",
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::Email => concat!(
                r"[0-9A-Za-z._%+",
                letters!(),
                r"-]+(?:@|%40)(?:[0-9A-Za-z",
                letters!(),
                r"-]+\.)+[A-Za-z",
                letters!(),
                r"]{2,}"
            ),
            Self::Card => r"(?-u:\b)[2-6](?:[ -]?[0-9]){12,18}(?-u:\b)",
            Self::Iban => r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?-u:\b)",
            Self::Phone => r"\+[0-9][0-9 ().-]{6,}[0-9]",
            Self::IpAddress => {
                r"(?-u:\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|\b(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4})+\b)"
            }
        }
    }

    /// Whether what has the form is one.
    fn holds(self, text: &str) -> bool {
        match self {
            Self::Email | Self::Phone | Self::IpAddress => true,
            Self::Card => luhn(text),
            Self::Iban => mod97(text),
        }
    }
}

/// A field of an entry, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `principal` and `about`: who.
    Identity,
    /// `resource`: to what.
    Resource,
    /// `reason`: why.
    Reason,
    /// `details`: what else.
    Details,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Resource, Self::Reason, Self::Details];

    /// Its name in `system.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Resource => "resource",
            Self::Reason => "reason",
            Self::Details => "details",
        }
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Treatment {
    /// Secrets alone are masked.
    Keep,
    /// Secrets and personal data are masked.
    Mask,
    /// A hash stands in its place, by which equal ones can be told to be equal.
    Hash,
    /// It is left out.
    Drop,
}

impl Treatment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keep, Self::Mask, Self::Hash, Self::Drop];

    /// Its name in `system.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Mask => "mask",
            Self::Hash => "hash",
            Self::Drop => "drop",
        }
    }
}

/// What is redacted beside secrets, which always are.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// Personal data that is masked.
    pub personal: Vec<Personal>,
    /// Further patterns of what is masked.
    pub patterns: Vec<Regex>,
    /// What becomes of each class of fields.
    pub fields: BTreeMap<Class, Treatment>,
}

/// E-mail, cards and accounts are masked everywhere but in who acted.
impl Default for Redaction {
    fn default() -> Self {
        let of = |class| (class, if class == Class::Identity { Treatment::Keep } else { Treatment::Mask });
        Self {
            personal: vec![Personal::Email, Personal::Card, Personal::Iban],
            patterns: Vec::new(),
            fields: Class::ALL.into_iter().map(of).collect(),
        }
    }
}

/// A form that secrets have, and what of it stays.
struct Secret<'a> {
    pattern: &'a str,
    kept: &'static str,
}

/// The name of a value that is secret.
const NAMES: &str = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|authorization|cookie|session[_-]?id|signature)";

/// What stands beside that in a longer name, in whatever language.
const IN_NAMES: &str = r"[0-9a-z_.\x{80}-\x{10FFFF}-]";

/// What may be in a token that was written down, in whatever language.
macro_rules! in_tokens {
    () => {
        r"[0-9A-Za-z_\x{80}-\x{10FFFF}-]"
    };
}

static SECRETS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let named = format!(
        r#"(?i)({IN_NAMES}*{NAMES}{IN_NAMES}*["']?\s*(?:=|:|%3d|%3a)\s*)(?:(?:bearer|basic)\s+)?("[^"]*"?|'[^']*'?|\[redacted:[a-z-]+\]|[^\s&;,"'}}\]]+)"#
    );
    let secrets = [
        Secret {
            pattern: r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
            kept: "",
        },
        Secret { pattern: &named, kept: "$1" },
        Secret {
            pattern: r"(?i)(?-u:\b)((?:bearer|basic|negotiate|digest)\s+)[0-9a-z_.~+/=\x{80}-\x{10FFFF}-]{6,}",
            kept: "$1",
        },
        Secret { pattern: r"(?i)(?-u:\b)([a-z][a-z0-9+.-]*://)[^\s/?#@]+@", kept: "$1" },
        Secret {
            pattern: concat!(r"(?-u:\b)eyJ", in_tokens!(), r"{5,}\.", in_tokens!(), r"{5,}(?:\.", in_tokens!(), r"*)*"),
            kept: "",
        },
        Secret {
            pattern: concat!(
                r"(?-u:\b)(?:sk|pk|rk|xai|gsk|r8|hf|npm|dop_v1|glpat|github_pat|gh[opsur]|xox[abeprs]|shp(?:at|ss)|witan(?:_[a-z]+)?|wtn|wk)[_-]",
                in_tokens!(),
                r"{16,}"
            ),
            kept: "",
        },
        Secret { pattern: r"(?-u:\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[0-9A-Z]{16}\b)", kept: "" },
        Secret { pattern: concat!(r"(?-u:\b)AIza", in_tokens!(), r"{30,}"), kept: "" },
        Secret { pattern: r"(?i)(?-u:\b)age-secret-key-1[a-z0-9]{20,}", kept: "" },
    ];
    let compile = |secret: &Secret<'_>| Some((Regex::new(secret.pattern).ok()?, secret.kept));
    secrets.iter().filter_map(compile).collect()
});

/// Whether there is anything to look for at all: most texts have nothing.
static ANY_SECRET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(SECRETS.iter().map(|(pattern, _)| pattern.as_str())).ok());

/// Takes out of entries what must not be written.
pub struct Redactor {
    redaction: Redaction,
    personal: Vec<(Personal, Regex)>,
    /// Keeps a hash in the place of a field from being found by guessing.
    pepper: Zeroizing<[u8; 32]>,
    hidden: RwLock<Hidden>,
}

/// Values that are masked wherever they stand.
#[derive(Default)]
struct Hidden {
    /// Those that were given all at once.
    given: Vec<Zeroizing<String>>,
    /// Those that were used, with what each is the value of; the newest last.
    used: VecDeque<(String, Zeroizing<String>)>,
    /// All of them, also as they read in quotes, the longest first: one may be a part of another.
    forms: Vec<Zeroizing<String>>,
}

impl Hidden {
    fn newest(&self, of: &str) -> Option<&str> {
        self.used.iter().rev().find(|(name, _)| name == of).map(|(_, value)| value.as_str())
    }

    fn sort(&mut self) {
        let values = self.given.iter().chain(self.used.iter().map(|(_, value)| value));
        let values = values.filter(|value| value.len() >= SHORTEST_HIDDEN);
        let mut forms: Vec<_> = values.flat_map(|value| escaped(value).into_iter().chain([value.clone()])).collect();
        forms.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        forms.dedup();
        self.forms = forms;
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("redaction", &self.redaction).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Redacts as `redaction` says. `pepper` is secret, and the same as long as hashes are to be compared.
    #[must_use]
    pub fn new(redaction: Redaction, pepper: Zeroizing<[u8; 32]>) -> Self {
        let compile = |kind: &Personal| Some((*kind, Regex::new(kind.pattern()).ok()?));
        let personal = redaction.personal.iter().filter_map(compile).collect();
        Self { redaction, personal, pepper, hidden: RwLock::default() }
    }

    /// Masks these values wherever they stand, from now on and in place of those before: secrets that the host knows. They are
    /// known also as `Debug` and JSON write them, with `\"` for `"`.
    pub fn hide(&self, values: impl IntoIterator<Item = Zeroizing<String>>) {
        let mut hidden = self.hidden.write();
        hidden.given = values.into_iter().collect();
        hidden.sort();
    }

    /// Masks `value` too, which is used from now on as the value of `of`. The values that were used before it stay masked, the
    /// newest few of each secret and of all.
    pub fn hide_used(&self, of: &str, value: &str) {
        if self.hidden.read().newest(of) == Some(value) {
            return;
        }
        let mut hidden = self.hidden.write();
        if hidden.newest(of) == Some(value) {
            return;
        }
        let is_same = |(name, _): &(String, _)| name == of;
        if hidden.used.iter().filter(|used| is_same(used)).count() >= FORMER
            && let Some(oldest) = hidden.used.iter().position(is_same)
        {
            hidden.used.remove(oldest);
        } else if hidden.used.len() >= MOST_USED {
            hidden.used.pop_front();
        }
        hidden.used.push_back((of.to_owned(), Zeroizing::new(value.to_owned())));
        hidden.sort();
    }

    /// A text of no entry, such as a line of a log, as it may be written: without secrets, and without personal data unless
    /// the details of entries keep it.
    #[must_use]
    pub fn text(&self, text: String) -> String {
        match self.redaction.fields.get(&Class::Details) {
            Some(Treatment::Keep) => self.secrets(text).into_owned(),
            _ => self.personal(self.secrets(text)).into_owned(),
        }
    }

    /// The value that stands under `name`, as [`Self::text`] gives a text; none of it where the name is that of a secret.
    #[must_use]
    pub fn named(&self, name: &str, text: String) -> String {
        if is_secret(name) { mask("credential") } else { self.text(text) }
    }

    /// The entry as it may be written.
    #[must_use]
    pub fn entry(&self, entry: Entry) -> Entry {
        let secrets = |text: String| cut(self.secrets(bounded(text)).into_owned());
        let public = entry.kind == Kind::Load;
        Entry {
            tenant: secrets(entry.tenant),
            principal: self.field(Class::Identity, entry.principal),
            about: entry.about.map(|text| self.field(Class::Identity, text)),
            component: entry.component.map(secrets),
            digest: entry.digest.map(secrets),
            action: secrets(entry.action),
            resource: self.said(public, Class::Resource, entry.resource),
            reason: entry.reason.map(|text| self.said(public, Class::Reason, text)),
            trace_id: entry.trace_id.map(secrets),
            details: entry
                .details
                .into_iter()
                .take(MOST_DETAILS)
                .map(|(name, value)| {
                    let value = if is_secret(&name) { mask("credential") } else { self.field(Class::Details, value) };
                    (secrets(name), value)
                })
                .collect(),
            ..entry
        }
    }

    /// Who signed a component is public, and what a load is decided by.
    fn said(&self, public: bool, class: Class, text: String) -> String {
        match self.redaction.fields.get(&class) {
            Some(Treatment::Mask) if public => cut(self.secrets(bounded(text)).into_owned()),
            _ => self.field(class, text),
        }
    }

    fn field(&self, class: Class, text: String) -> String {
        let text = bounded(text);
        match self.redaction.fields.get(&class).copied().unwrap_or(Treatment::Mask) {
            Treatment::Keep => cut(self.secrets(text).into_owned()),
            Treatment::Mask => cut(self.personal(self.secrets(text)).into_owned()),
            Treatment::Hash => self.hash(&text),
            Treatment::Drop => "[dropped]".to_owned(),
        }
    }

    fn secrets(&self, text: String) -> Cow<'static, str> {
        let mut text = text;
        for hidden in &self.hidden.read().forms {
            if text.contains(hidden.as_str()) {
                text = text.replace(hidden.as_str(), &mask("secret"));
            }
        }
        if ANY_SECRET.as_ref().is_some_and(|any| !any.is_match(&text)) {
            return text.into();
        }
        for (pattern, kept) in &*SECRETS {
            let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
                let mut masked = String::new();
                found.expand(kept, &mut masked);
                masked.push_str("[redacted:credential]");
                if found.get(0).is_some_and(|found| found.as_str().ends_with('@')) {
                    masked.push('@');
                }
                masked
            });
            if let Cow::Owned(replaced) = replaced {
                text = replaced;
            }
        }
        text.into()
    }

    fn personal(&self, text: Cow<'static, str>) -> Cow<'static, str> {
        let mut text = text.into_owned();
        for (kind, pattern) in &self.personal {
            let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
                let found = found.get(0).map_or("", |found| found.as_str());
                if kind.holds(found) { mask(kind.name()) } else { found.to_owned() }
            });
            if let Cow::Owned(replaced) = replaced {
                text = replaced;
            }
        }
        for pattern in &self.redaction.patterns {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, "[redacted:pattern]") {
                text = replaced;
            }
        }
        text.into()
    }

    fn hash(&self, text: &str) -> String {
        let hash = Sha256::new_with_prefix(b"witan-ledger field\n").chain_update(*self.pepper).chain_update(text);
        let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("hash:{hex}")
    }
}

static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("(?i){NAMES}")).ok());

/// How `value` reads in quotes, where that is not as it is.
fn escaped(value: &str) -> Vec<Zeroizing<String>> {
    let quoted = [Zeroizing::new(format!("{value:?}")), Zeroizing::new(serde_json::json!(value).to_string())];
    let inside = quoted.iter().filter_map(|quoted| quoted.strip_prefix('"')?.strip_suffix('"'));
    let other = inside.filter(|inside| *inside != value);
    other.map(|inside| Zeroizing::new(inside.to_owned())).collect()
}

/// A name says what its value is: `token`, `cookie`.
fn is_secret(name: &str) -> bool {
    NAMED.as_ref().is_some_and(|names| names.is_match(name))
}

fn mask(what: &str) -> String {
    format!("[redacted:{what}]")
}

fn bounded(mut text: String) -> String {
    if text.len() > LONGEST_READ {
        text.truncate(text.floor_char_boundary(LONGEST_READ));
    }
    text
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_WRITTEN {
        text.truncate(text.floor_char_boundary(LONGEST_WRITTEN));
        text.push('…');
    }
    text
}

/// Whether the digits end in the check digit of payment cards.
fn luhn(text: &str) -> bool {
    let digits = text.chars().filter_map(|char| char.to_digit(10)).collect::<Vec<_>>();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

/// Whether the check digits of an IBAN hold.
fn mod97(text: &str) -> bool {
    let compact: Vec<char> = text.chars().filter(|char| *char != ' ').collect();
    let (head, rest) = compact.split_at(compact.len().min(4));
    let mut remainder = 0_u32;
    for char in rest.iter().chain(head) {
        let Some(value) = char.to_digit(36) else { return false };
        remainder = (remainder * if value > 9 { 100 } else { 10 } + value) % 97;
    }
    (15..=34).contains(&compact.len()) && remainder == 1
}
