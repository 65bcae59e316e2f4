//! Puts values in the place of placeholders, in one request, where they may go.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, header};
use witan_system::{OriginName, SecretGrant, SecretName};
use zeroize::Zeroizing;

use crate::{Scan, Secrets, SourceError, Value, run::MARK};

/// How a header begins that shows a user and a password.
const BASIC: &str = "Basic ";
/// With its padding, and without, as some write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who sends a request, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The component.
    pub component: &'a str,
    /// The tenant that it works for.
    pub tenant: &'a str,
    /// What it was granted.
    pub grants: &'a [SecretGrant],
    /// Where the request goes.
    pub origin: &'a OriginName,
}

/// Why a request that has a placeholder is not sent.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The placeholder is none of the component's in this run.
    #[error("`{header}` has a placeholder of no secret that `{component}` was granted in this run")]
    NotGranted {
        /// The header.
        header: String,
        /// The component.
        component: String,
    },
    /// Policy is against it.
    #[error("policy refuses the secret `{0}`")]
    Policy(SecretName),
    /// The secret does not go there.
    #[error("the secret `{secret}` does not go to `{origin}`; add it to `origins` under [secrets.{secret}]")]
    Elsewhere {
        /// The secret.
        secret: SecretName,
        /// Where the request goes.
        origin: String,
    },
    /// The secret does not go into that header.
    #[error("the secret `{secret}` does not go into `{header}`; add it to `headers` under [secrets.{secret}]")]
    Header {
        /// The secret.
        secret: SecretName,
        /// The header.
        header: String,
    },
    /// There is no value.
    #[error("the secret `{secret}` is not to be had: {source}")]
    Source {
        /// The secret.
        secret: SecretName,
        /// Why.
        source: SourceError,
    },
    /// The header would be none.
    #[error("`{0}` would be no header with the secret in it")]
    Unfit(String),
}

impl Secrets {
    /// Puts values in the place of the placeholders in `headers`, each of which `permits` allows first. What the response is
    /// to be searched for, or nothing where there was no placeholder.
    ///
    /// Headers are left as they were when this fails, and the request must not be sent then.
    ///
    /// # Errors
    /// When a placeholder stands where its secret does not go, or there is no value for it.
    pub async fn swap(
        &self,
        asker: Asker<'_>,
        headers: &mut HeaderMap,
        permits: impl Fn(&SecretName) -> bool,
    ) -> Result<Option<Scan>, SwapError> {
        let marked = headers.values().enumerate().filter_map(|(place, value)| Some((place, Marked::of(value)?)));
        let marked: Vec<_> = marked.collect();
        if marked.is_empty() {
            return Ok(None);
        }
        let mut marked = marked.into_iter().peekable();
        let (mut swapped, mut used): (HeaderMap, Vec<Value>) = (headers.clone(), Vec::new());
        for (place, (name, value)) in swapped.iter_mut().enumerate() {
            if let Some((_, marked)) = marked.next_if(|(marked, _)| *marked == place) {
                *value = self.swap_one(asker, name.as_str(), marked, &permits, &mut used).await?;
            }
        }
        drop(marked);
        // What is compressed cannot be searched.
        swapped.remove(header::ACCEPT_ENCODING);
        *headers = swapped;
        Ok(Some(Scan::new(&used, self.scan)))
    }

    async fn swap_one(
        &self,
        asker: Asker<'_>,
        header: &str,
        marked: Marked<'_>,
        permits: &impl Fn(&SecretName) -> bool,
        used: &mut Vec<Value>,
    ) -> Result<HeaderValue, SwapError> {
        let not_granted = || SwapError::NotGranted { header: header.to_owned(), component: asker.component.to_owned() };
        let text = std::str::from_utf8(marked.bytes()).map_err(|_| not_granted())?;
        let mut text = Zeroizing::new(text.to_owned());
        for SecretGrant { secret: name, .. } in asker.grants {
            let placeholder = self.placeholder(asker.component, name);
            if !text.contains(&placeholder) {
                continue;
            }
            let secret = self.secrets.get(name).ok_or_else(not_granted)?;
            if !secret.origins.contains(asker.origin) {
                return Err(SwapError::Elsewhere { secret: name.clone(), origin: asker.origin.to_string() });
            }
            if !secret.headers.iter().any(|granted| granted == header) {
                return Err(SwapError::Header { secret: name.clone(), header: header.to_owned() });
            }
            if !permits(name) {
                return Err(SwapError::Policy(name.clone()));
            }
            let fetched = self.value(asker.tenant, name, secret).await;
            let fetched = fetched.map_err(|source| SwapError::Source { secret: name.clone(), source })?;
            text = Zeroizing::new(text.replace(&placeholder, fetched.expose()));
            used.push(fetched);
        }
        // A secret's own text may hold the mark; a header in which nothing was swapped has it from the guest.
        let left = used.iter().fold(text.clone(), |text, value| Zeroizing::new(text.replace(value.expose(), "")));
        if left.contains(MARK) {
            return Err(not_granted());
        }
        let text = if marked.is_basic() { basic(&text) } else { text };
        let mut value = HeaderValue::from_str(&text).map_err(|_| SwapError::Unfit(header.to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What of a header has a placeholder in it.
enum Marked<'a> {
    /// All of it.
    Plain(&'a [u8]),
    /// The user and the password that it shows in Base64: RFC 7617.
    Basic(Vec<u8>),
}

impl<'a> Marked<'a> {
    /// Of `value`, if it has one.
    fn of(value: &'a HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        if has_mark(bytes) {
            return Some(Self::Plain(bytes));
        }
        let (scheme, credential) = bytes.split_at_checked(BASIC.len())?;
        let credential = scheme.eq_ignore_ascii_case(BASIC.as_bytes()).then_some(credential)?;
        let credential = BASE64.decode(credential.trim_ascii()).ok()?;
        has_mark(&credential).then_some(Self::Basic(credential))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Basic(bytes) => bytes,
        }
    }

    fn is_basic(&self) -> bool {
        matches!(self, Self::Basic(_))
    }
}

/// The header that shows `credential`.
fn basic(credential: &str) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(credential));
    Zeroizing::new(format!("{BASIC}{}", *encoded))
}

fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}
