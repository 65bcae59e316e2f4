//! Decides which bytes may run.
//!
//! Start reading at [`Gate::admit`]: it is given a component as the system names it, and gives back bytes that may be
//! compiled, or why there are none. Nothing here opens a connection: packages were fetched before, and whoever served
//! them is not trusted. What is not allowed is refused, and a refusal names its one cause.
//!
//! Beside the verdict stand the files of an operator that outlive it: [`Lock`], what ran; [`Quarantine`], what must not;
//! [`Marks`], what must not be older or forked; [`Metadata`], what a registry was believed last.

mod development;
mod file;
mod gate;
mod lock;
mod marks;
mod metadata;
mod package;
mod quarantine;
mod refused;

pub use development::{BUNDLE_SUFFIX, Development, DevelopmentError, bundle_path};
pub use file::FileError;
pub use gate::{Admitted, Advisories, By, Fetched, Gate, Needs, Passed, Verdict};
pub use lock::{Difference, Lock, LockError, Locked};
pub use marks::{MarkError, Marks};
pub use metadata::Metadata;
pub use package::{Trust, VerifiedPackage, verify};
pub use quarantine::{Cause, Held, Quarantine};
pub use refused::Refused;
