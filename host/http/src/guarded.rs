//! Implements a host trait so that every function enters the guard first, and lists the functions from the same lines.

/// Implements `$host` for [`View`](crate::view::View): each function enters the baseline under the name that WIT gives
/// it, charges the headers it makes the host keep, if it names any, and is then wasmtime's own, or `by` ours. Drops
/// release what was given before and enter nothing. The names go into `$table`.
macro_rules! guarded {
    (
        $(#[$meta:meta])*
        $table:ident of $interface:literal;
        $(
            impl $host:path $([drop $resource:ty $(, first |$dropping:ident, $dropped:ident| $first:expr)?])? {
                $(
                    $wit:literal => fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty
                        $(, charging |$view:ident| $bytes:expr)?
                        $(, by |$ours:ident| $body:expr)?;
                )*
                $(also { $($also:tt)* })?
            }
        )*
    ) => {
        $(#[$meta])*
        pub(crate) const $table: &[witan_capability::HostFunction] =
            &[$($(witan_capability::HostFunction::new($interface, $wit),)*)*];

        $(
            impl $host for crate::view::View<'_> {
                $(
                    fn $name(&mut self, $($argument: $type),*) -> $result {
                        let _permit = self.enter(const { witan_capability::HostFunction::new($interface, $wit) });
                        $(
                            let $view = &mut *self;
                            let bytes: usize = $bytes;
                            if let Err(limit) = self.charge(bytes) {
                                return Err(crate::guarded::trap(limit));
                            }
                        )?
                        guarded_body!(self, $host, $name($($argument),*) $(, |$ours| $body)?)
                    }
                )*

                $(
                    fn drop(&mut self, resource: wasmtime::component::Resource<$resource>) -> wasmtime::Result<()> {
                        $(
                            let ($dropping, $dropped) = (&mut *self, &resource);
                            $first;
                        )?
                        <wasmtime_wasi_http::WasiHttpCtxView<'_> as $host>::drop(&mut self.http(), resource)
                    }
                )?

                $($($also)*)?
            }
        )*
    };
}

macro_rules! guarded_body {
    ($self:ident, $host:path, $name:ident($($argument:ident),*)) => {
        <wasmtime_wasi_http::WasiHttpCtxView<'_> as $host>::$name(&mut $self.http(), $($argument),*)
    };
    ($self:ident, $host:path, $name:ident($($argument:ident),*), |$ours:ident| $body:expr) => {{
        let $ours = $self;
        $body
    }};
}

/// An error that ends the guest.
pub(crate) trait Trap {
    /// Wraps `error`.
    fn trap(error: wasmtime::Error) -> Self;
}

impl Trap for wasmtime::Error {
    fn trap(error: wasmtime::Error) -> Self {
        error
    }
}

impl Trap for wasmtime_wasi_http::p2::HeaderError {
    fn trap(error: wasmtime::Error) -> Self {
        Self::trap(error)
    }
}

impl<T> Trap for wasmtime_wasi::TrappableError<T> {
    fn trap(error: wasmtime::Error) -> Self {
        Self::trap(error)
    }
}

/// Ends the guest with the limit that it exceeded.
pub(crate) fn trap<E: Trap>(limit: witan_capability::LimitExceeded) -> E {
    E::trap(limit.into())
}
