//! Secrets: kept encrypted, fetched from where they are, and never given to a component.
//!
//! A component that is granted a secret sees a placeholder, a random token of this run. [`Secrets::swap`] puts the value in
//! its place in the named headers of a request that goes to one of the secret's origins, and refuses a request that would
//! take a placeholder elsewhere. What comes back is searched for the value, best effort, by [`Scan`].
//!
//! Start at [`Secrets`], and at [`Store`] for what `witan secrets` keeps. The crate knows no WebAssembly and decides nothing:
//! who may use which secret is asked of the caller, which asks policy.

mod key;
mod run;
mod scan;
mod sealer;
mod source;
mod store;
mod swap;
mod value;
mod vault;

pub use key::{KeyError, KeySource};
pub use run::{Listener, RunKey, Secrets, SecretsError};
pub use scan::{Scan, Scanner};
pub use sealer::{SealError, Sealer};
pub use source::SourceError;
pub use store::{Info, Store, StoreError};
pub use swap::{Asker, SwapError};
pub use value::{Value, ValueError};
pub use vault::{VaultError, parse_answer};
