//! Why a link was refused. Each case names the function and the place in it, and ends with the way out.

/// Why an interface was not linked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DynamicError {
    /// The callee does not export the interface.
    #[error("`{target}` does not export `{interface}`; link it to a component that does")]
    NotExported {
        /// The callee.
        target: Box<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// The callee's interface lacks something that the caller imports.
    #[error("`{target}` exports `{interface}` without `{item}`, which the caller imports; use versions that fit")]
    Missing {
        /// The callee.
        target: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function or type.
        item: Box<str>,
    },
    /// Both have an item, with different types.
    #[error(
        "`{interface}#{item}` of `{target}` is not what the caller imports: {place} is {export}, and the caller \
         expects {import}; build both against the same version"
    )]
    Differs {
        /// The callee.
        target: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function or type.
        item: Box<str>,
        /// Where in it.
        place: Box<str>,
        /// What the caller expects.
        import: Box<str>,
        /// What the callee has.
        export: Box<str>,
    },
    /// The types agree, and the host cannot carry one of them between stores.
    #[error(
        "`{interface}#{item}` of `{target}` cannot be forwarded: {place} is {reason}; the two components may be fused \
         instead, with `mode = \"fused\"` on the link"
    )]
    Unsupported {
        /// The callee.
        target: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function or type.
        item: Box<str>,
        /// Where in it.
        place: Box<str>,
        /// What it is, and why that does not pass.
        reason: Box<str>,
    },
    /// The caller's linker refused an item.
    #[error("cannot link `{interface}` of `{target}`: {detail}")]
    Linker {
        /// The callee.
        target: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// What the linker said.
        detail: Box<str>,
    },
}

/// What every error names.
pub(crate) struct Names<'a> {
    pub(crate) target: &'a str,
    pub(crate) interface: &'a str,
}

impl Names<'_> {
    pub(crate) fn not_exported(&self) -> DynamicError {
        DynamicError::NotExported { target: self.target.into(), interface: self.interface.into() }
    }

    pub(crate) fn missing(&self, item: &str) -> DynamicError {
        DynamicError::Missing { target: self.target.into(), interface: self.interface.into(), item: item.into() }
    }

    pub(crate) fn differs(&self, item: &str, place: &str, import: &str, export: &str) -> DynamicError {
        DynamicError::Differs {
            target: self.target.into(),
            interface: self.interface.into(),
            item: item.into(),
            place: place.into(),
            import: import.into(),
            export: export.into(),
        }
    }

    pub(crate) fn unsupported(&self, item: &str, place: &str, reason: &str) -> DynamicError {
        DynamicError::Unsupported {
            target: self.target.into(),
            interface: self.interface.into(),
            item: item.into(),
            place: place.into(),
            reason: reason.into(),
        }
    }
}
