//! How every WASI function enters the guard: a refusal as WASI sees it, and the macros that put the guard in front of
//! wasmtime's implementation.
//!
//! wasmtime's own `add_to_linker` knows nothing of our guard. So its bindings are linked with implementations of ours,
//! which enter the guard and then hand over. One line of [`guarded!`] is one function; the same line makes its entry
//! in the table of linked functions, so that neither can be written without the other.

use std::io;

use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_io::streams::StreamError;
use witan_capability::{Denial, LimitExceeded};

/// Why a function does not go on.
pub(crate) enum Refusal {
    /// Policy denied it. Told to the guest by the interface's own code; where it has none, it ends the store.
    Denied(Denial),
    /// What the guest asked for cannot be done with what it holds.
    Code(io::Error),
    /// The call tree exceeded a limit: its store ends.
    Limit(LimitExceeded),
}

impl Refusal {
    /// The guest may not do this with the handle it holds, whatever policy says: nothing was asked.
    pub(crate) fn not_permitted() -> Self {
        Self::Code(rustix::io::Errno::PERM.into())
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<LimitExceeded> for Refusal {
    fn from(limit: LimitExceeded) -> Self {
        Self::Limit(limit)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Code(error)
    }
}

impl From<Refusal> for wasmtime::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denial) => Self::new(denial),
            Refusal::Code(error) => Self::new(error),
            Refusal::Limit(limit) => Self::new(limit),
        }
    }
}

impl From<Refusal> for StreamError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Code(error) => Self::LastOperationFailed(error.into()),
            other => Self::Trap(other.into()),
        }
    }
}

impl From<Refusal> for p2::FsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(_) => p2::bindings::filesystem::types::ErrorCode::NotPermitted.into(),
            Refusal::Code(error) => error.into(),
            Refusal::Limit(limit) => Self::trap(limit),
        }
    }
}

impl From<Refusal> for p3::filesystem::FilesystemError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(_) => p3::bindings::filesystem::types::ErrorCode::NotPermitted.into(),
            Refusal::Code(error) => error.into(),
            Refusal::Limit(limit) => Self::trap(limit),
        }
    }
}

impl From<Refusal> for p2::SocketError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(_) => p2::bindings::sockets::network::ErrorCode::AccessDenied.into(),
            Refusal::Code(error) => error.into(),
            Refusal::Limit(limit) => Self::trap(limit),
        }
    }
}

impl From<Refusal> for p3::sockets::SocketError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(_) => p3::bindings::sockets::types::ErrorCode::AccessDenied.into(),
            Refusal::Code(error) => p3::bindings::sockets::types::ErrorCode::from(error).into(),
            Refusal::Limit(limit) => Self::trap(limit),
        }
    }
}

/// Implements a `Host` trait of wasmtime's bindings, function by function.
///
/// `["wit name"] sync fn f(…) -> R = guard(arguments);` enters by `View::guard(function, arguments)` and hands over to
/// wasmtime's view `via`. `= custom |function| { … };` does everything itself, and enters `function`. `async` marks
/// what is asynchronous on the host. `also` holds what WIT does not name, such as the drop of a handle.
macro_rules! guarded {
    (
        $(#[$doc:meta])*
        $table:ident: $interface:literal, $trait:path, via $view:ident;
        $( [$wit:literal] $kind:ident fn $name:ident(&mut $self:ident $(, $arg:ident: $ty:ty)* $(,)?) -> $ret:ty
            = $guard:ident $tail:tt $($body:block)?; )*
        $( also { $($also:tt)* } )?
    ) => {
        $(#[$doc])*
        pub(crate) const $table: &[witan_capability::HostFunction] =
            &[$(witan_capability::HostFunction::new($interface, $wit)),*];

        impl $trait for crate::view::View<'_> {
            $( crate::guard::guarded!(@ $kind
                (witan_capability::HostFunction::new($interface, $wit)) ($trait) $view
                $name($self $(, $arg: $ty)*) -> $ret = $guard $tail $($body)?
            ); )*
            $( $($also)* )?
        }
    };
    (@ sync ($function:expr) ($trait:path) $view:ident
        $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = custom ($f:ident) $body:block) => {
        fn $name(&mut $self $(, $arg: $ty)*) -> $ret {
            let $f = $function;
            $body
        }
    };
    (@ async ($function:expr) ($trait:path) $view:ident
        $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = custom ($f:ident) $body:block) => {
        async fn $name(&mut $self $(, $arg: $ty)*) -> $ret {
            let $f = $function;
            $body
        }
    };
    (@ sync ($function:expr) ($trait:path) $view:ident
        $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = $guard:ident ($($given:expr),*)) => {
        fn $name(&mut $self $(, $arg: $ty)*) -> $ret {
            let _permit = $self.$guard($function $(, $given)*)?;
            <_ as $trait>::$name(&mut $self.$view() $(, $arg)*)
        }
    };
    (@ async ($function:expr) ($trait:path) $view:ident
        $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = $guard:ident ($($given:expr),*)) => {
        async fn $name(&mut $self $(, $arg: $ty)*) -> $ret {
            let permit = $self.$guard($function $(, $given)*)?;
            let mut view = $self.$view();
            let call = <_ as $trait>::$name(&mut view $(, $arg)*);
            tracing::Instrument::instrument(call, permit.span).await
        }
    };
}

/// The same for the traits of WASI 0.3 whose functions run beside others of their store, and so get at it only for
/// moments. `of` names the type that wasmtime implements the trait for, and `via` its view of our store.
macro_rules! guarded_concurrent {
    (
        $(#[$doc:meta])*
        $table:ident: $interface:literal, $trait:path, of $host:ty, via $view:path;
        $( [$wit:literal] fn $name:ident($store:ident $(, $arg:ident: $ty:ty)* $(,)?) -> $ret:ty
            = $guard:ident $tail:tt $($body:block)?; )*
        $( also { $($also:tt)* } )?
    ) => {
        $(#[$doc])*
        pub(crate) const $table: &[witan_capability::HostFunction] =
            &[$(witan_capability::HostFunction::new($interface, $wit)),*];

        impl $trait for crate::view::Guarded {
            $( crate::guard::guarded_concurrent!(@
                (witan_capability::HostFunction::new($interface, $wit))
                ($trait) ($host) ($view)
                $name($store $(, $arg: $ty)*) -> $ret = $guard $tail $($body)?
            ); )*
            $( $($also)* )?
        }
    };
    (@ ($function:expr) ($trait:path) ($host:ty) ($view:path)
        $name:ident($store:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = custom ($f:ident) $body:block) => {
        async fn $name(
            $store: &wasmtime::component::Accessor<witan_capability::CallState, Self> $(, $arg: $ty)*
        ) -> $ret {
            let $f = $function;
            $body
        }
    };
    (@ ($function:expr) ($trait:path) ($host:ty) ($view:path)
        $name:ident($store:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = accessing ($f:ident) $body:block) => {
        fn $name(
            mut $store: wasmtime::component::Access<'_, witan_capability::CallState, Self> $(, $arg: $ty)*
        ) -> $ret {
            let $f = $function;
            $body
        }
    };
    (@ ($function:expr) ($trait:path) ($host:ty) ($view:path)
        $name:ident($store:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = awaiting ($f:ident) $body:block) => {
        async fn $name(
            mut $store: wasmtime::component::Access<'_, witan_capability::CallState, Self> $(, $arg: $ty)*
        ) -> $ret {
            let $f = $function;
            $body
        }
    };
    (@ ($function:expr) ($trait:path) ($host:ty) ($view:path)
        $name:ident($store:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty = $guard:ident ($($given:expr),*)) => {
        async fn $name(
            $store: &wasmtime::component::Accessor<witan_capability::CallState, Self> $(, $arg: $ty)*
        ) -> $ret {
            let permit = $store.with(|mut access| access.get().$guard($function $(, $given)*))?;
            let store = $store.with_getter::<$host>($view);
            let call = <$host as $trait>::$name(&store $(, $arg)*);
            tracing::Instrument::instrument(call, permit.span).await
        }
    };
}

pub(crate) use {guarded, guarded_concurrent};
