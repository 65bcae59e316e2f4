//! Why a system was not loaded.

use std::fmt;

use witan_admission::Refused;
use witan_engine::CompileError;
use witan_fuse::FuseError;
use witan_system::ComponentName;

/// What keeps a component from being loaded, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadProblem {
    /// It may not run.
    #[error("component `{component}` may not run{}: {refused}; {help}", needed(.needed_by))]
    Refused {
        /// The component.
        component: ComponentName,
        /// Why not.
        refused: Box<Refused>,
        /// What of the system cannot do without it; empty where it is merely not there.
        needed_by: String,
        /// What to do about it.
        help: String,
    },
    /// What was loaded cannot be written down, so that something older could take its place.
    #[error("cannot keep what was loaded: {message}")]
    Kept {
        /// Why not.
        message: String,
    },
    /// Its bytes are not the ones that the operator pinned.
    #[error(
        "component `{component}` has the digest {found}, but `components.{component}.digest` says {expected}; \
         restore the file, or correct the digest if the change is yours"
    )]
    Digest {
        /// The component.
        component: ComponentName,
        /// What the system says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// Its bytes do not become code.
    #[error("cannot compile component `{component}`: {message}")]
    Compile {
        /// The component.
        component: ComponentName,
        /// Why not.
        message: String,
    },
    /// It cannot be fused as the system says.
    #[error("cannot fuse into component `{component}`: {source}")]
    Fuse {
        /// The component that others are fused into.
        component: ComponentName,
        /// Why not.
        source: FuseError,
    },
    /// An import needs a grant that the component does not have.
    #[error(
        "component `{component}` imports `{import}`, which `{capability}` provides and which it is not granted; add \
         `{remedy}` under [components.{component}.grants], or drop the import"
    )]
    NotGranted {
        /// The component.
        component: ComponentName,
        /// Its import.
        import: String,
        /// The capability.
        capability: &'static str,
        /// The line to add.
        remedy: &'static str,
    },
    /// Nothing provides an import.
    #[error("component `{component}` imports `{import}`, which nothing provides; {remedy}")]
    Unsatisfied {
        /// The component.
        component: ComponentName,
        /// Its import.
        import: String,
        /// What to do.
        remedy: String,
    },
    /// A link leads to a component that does not export the interface.
    #[error(
        "component `{component}` links `{import}` to `{target}`, which does not export it; its exports are: {exports}"
    )]
    NotExported {
        /// The component.
        component: ComponentName,
        /// Its import.
        import: String,
        /// The component that is linked to.
        target: ComponentName,
        /// What that exports.
        exports: String,
    },
    /// A link cannot be made.
    #[error("cannot link `{import}` of component `{component}` to `{target}`: {message}")]
    Link {
        /// The component.
        component: ComponentName,
        /// Its import.
        import: String,
        /// The component that is linked to.
        target: ComponentName,
        /// Why not.
        message: String,
    },
    /// A capability could not be linked; a fault of the host.
    #[error("cannot link the capability `{capability}` for component `{component}`: {message}")]
    Capability {
        /// The component.
        component: ComponentName,
        /// The capability.
        capability: &'static str,
        /// Why not.
        message: String,
    },
    /// What is linked has other types than the component imports.
    #[error("component `{component}` does not fit what it is linked to: {message}")]
    Mismatch {
        /// The component.
        component: ComponentName,
        /// Where the types differ.
        message: String,
    },
    /// The components call each other in a circle.
    #[error("the links go round in a circle: {0}; remove one of them")]
    Cycle(String),
    /// An intent or a mount leads to a component that cannot serve it.
    #[error("`{what}` is served by component `{component}`, which does not export `{interface}`")]
    NotServing {
        /// The intent or mount, as in `system.toml`.
        what: String,
        /// The component.
        component: ComponentName,
        /// What it would have to export.
        interface: &'static str,
    },
    /// The component says that it is not fit, or does not even start.
    #[error("component `{component}` is not fit to serve: {message}")]
    Unhealthy {
        /// The component.
        component: ComponentName,
        /// What it said.
        message: String,
    },
}

fn needed(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(", which {by} cannot do without") }
}

impl LoadProblem {
    pub(crate) fn compile(component: &ComponentName, error: &CompileError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            message = format!("{message}: {source}");
        }
        Self::Compile { component: component.clone(), message }
    }

    pub(crate) fn mismatch(component: &ComponentName, error: &wasmtime::Error) -> Self {
        Self::Mismatch { component: component.clone(), message: format!("{error:#}") }
    }
}

/// Everything that keeps a system from being loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The problems, at least one.
    pub problems: Vec<LoadProblem>,
}

impl LoadError {
    pub(crate) fn unless_empty(problems: Vec<LoadProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl From<LoadProblem> for LoadError {
    fn from(problem: LoadProblem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
