//! Why components were not fused. Each case names the parts and the place, and ends with the way out.

/// Why components were not fused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FuseError {
    /// Fusing would give one part the grants of another.
    #[error(
        "`{first}` and `{second}` have different grants, and fused parts share theirs; give both the same grants, or \
         link `{second}` isolated"
    )]
    GrantsDiffer {
        /// A part.
        first: Box<str>,
        /// One with other grants.
        second: Box<str>,
    },
    /// A part without grants would share those of another through an import.
    #[error(
        "`{part}` has no grants and imports `{import}`; fused with `{granted}` it would share the grants of that: link \
         `{part}` isolated, or drop the import"
    )]
    SharesGrants {
        /// The part without grants.
        part: Box<str>,
        /// Its import.
        import: Box<str>,
        /// A part with grants.
        granted: Box<str>,
    },
    /// A part without grants imports what needs one.
    #[error(
        "`{part}` has no grants and imports `{import}`, which is not part of the baseline; a fused part without \
         grants may import nothing else: link `{part}` isolated and grant it what it needs, or drop the import"
    )]
    BeyondBaseline {
        /// The part.
        part: Box<str>,
        /// Its import.
        import: Box<str>,
    },
    /// Nothing satisfies an import.
    #[error(
        "`{part}` imports `{import}`, which nothing provides; link it under `[components.{part}.links]`, or drop the \
         import"
    )]
    Unsatisfied {
        /// The part.
        part: Box<str>,
        /// Its import.
        import: Box<str>,
    },
    /// Imports that would merge are satisfied by different things.
    #[error(
        "`{first}` and `{second}` both import `{import}`, which fusing makes one, but it is {first_origin} for the \
         one and {second_origin} for the other; link it alike for both, or link `{second}` isolated"
    )]
    OriginsDiffer {
        /// A part.
        first: Box<str>,
        /// Another.
        second: Box<str>,
        /// The import.
        import: Box<str>,
        /// What satisfies it for the first.
        first_origin: Box<str>,
        /// What satisfies it for the second.
        second_origin: Box<str>,
    },
    /// Imports that would merge have different types.
    #[error(
        "`{first}` and `{second}` both import `{import}`, which fusing makes one, but they do not agree on `{item}`: \
         {detail}; build both against the same version, or link `{second}` isolated"
    )]
    TypesDiffer {
        /// A part.
        first: Box<str>,
        /// Another.
        second: Box<str>,
        /// The import.
        import: Box<str>,
        /// The function or type that differs.
        item: Box<str>,
        /// How.
        detail: Box<str>,
    },
    /// The caller does not import what a wire should satisfy.
    #[error("`{caller}` does not import `{interface}`; remove the link to `{callee}`")]
    NotImported {
        /// The part that should import it.
        caller: Box<str>,
        /// The part that should provide it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// The callee does not export what a wire needs.
    #[error("`{callee}` does not export `{interface}`, which `{caller}` imports; link it to a component that does")]
    NotExported {
        /// The part that imports it.
        caller: Box<str>,
        /// The part that should provide it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// The callee's interface lacks a function or type.
    #[error("`{callee}` exports `{interface}` without `{item}`, which `{caller}` imports; use versions that fit")]
    Missing {
        /// The part that imports it.
        caller: Box<str>,
        /// The part that should provide it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function or type.
        item: Box<str>,
    },
    /// One side is async and the other is not.
    #[error(
        "`{interface}#{function}` is {caller_kind} in `{caller}` and {callee_kind} in `{callee}`; fused parts must \
         agree: import the twin of the interface that `{callee}` exports, or link it isolated where it is one of ours"
    )]
    AsyncDiffers {
        /// The part that imports it.
        caller: Box<str>,
        /// The part that exports it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function.
        function: Box<str>,
        /// `async` or `sync`.
        caller_kind: &'static str,
        /// `async` or `sync`.
        callee_kind: &'static str,
    },
    /// Both sides have an item and mean different things by it.
    #[error(
        "`{caller}` and `{callee}` do not agree on `{interface}#{item}`: {detail}; build both against the same version"
    )]
    ItemDiffers {
        /// The part that imports it.
        caller: Box<str>,
        /// The part that exports it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// The function or type.
        item: Box<str>,
        /// How they differ.
        detail: Box<str>,
    },
    /// The two do not fit together in a way that belongs to no single item.
    #[error("`{interface}` of `{callee}` does not fit the import of `{caller}`: {detail}; link it isolated")]
    Mismatch {
        /// The part that imports it.
        caller: Box<str>,
        /// The part that exports it.
        callee: Box<str>,
        /// The interface.
        interface: Box<str>,
        /// Why.
        detail: Box<str>,
    },
    /// The same import is wired twice.
    #[error("the import `{interface}` of `{caller}` is linked twice; remove one of the links")]
    WiredTwice {
        /// The part that imports it.
        caller: Box<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// The parts call each other in a circle.
    #[error("`{part}` would be fused into itself by a circle of fused links; link one of the circle isolated")]
    Cycle {
        /// A part of the circle.
        part: Box<str>,
    },
    /// A part that no wire reaches from the root.
    #[error("nothing that is fused calls `{part}`; remove it from the list of parts")]
    Unused {
        /// The part.
        part: Box<str>,
    },
    /// A wire names a part that is not in the list.
    #[error("a wire of `{interface}` names part {part}, and there are only {parts}")]
    NoSuchPart {
        /// The interface of the wire.
        interface: Box<str>,
        /// The part that it names.
        part: usize,
        /// How many there are.
        parts: usize,
    },
    /// The composer cannot handle a part, or what would become of them.
    #[error("cannot fuse `{part}`: {detail}; link it isolated")]
    Unsupported {
        /// The part or parts.
        part: Box<str>,
        /// What the composer says.
        detail: Box<str>,
    },
}
