//! Values on their way between two stores.

use std::sync::Arc;

use wasmtime::{
    AsContextMut as _, StoreContextMut,
    component::{ResourceDynamic, Val},
};
use witan_capability::{Account, CallError, CallState, LimitExceeded, Meter};

use crate::{
    passage::{self, Fate, Passage, Pump},
    resource::Held,
    shape::{Leaf, Shape},
};

/// Which of the two stores values are taken from or put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The caller, which holds proxies.
    Caller,
    /// The callee, which holds the resources.
    Callee,
}

/// Something that belongs to a store, on its way to another.
enum Handle {
    Resource(u32),
    Passage(Box<dyn Passage>),
}

/// Values on their way, of which those that belong to a store are replaced by their place among the handles.
pub(crate) struct Parcel {
    values: Vec<Val>,
    handles: Vec<Option<Handle>>,
    _charge: Charge,
}

impl Parcel {
    /// Takes `values` out of `store`. What they hold in the host's memory is charged to `account` until they have
    /// arrived, since many calls may be under way at once.
    pub(crate) fn pack(
        mut store: StoreContextMut<'_, CallState>,
        side: Side,
        shapes: &[Shape],
        mut values: Vec<Val>,
        account: &Arc<Account>,
        pump: &Pump,
    ) -> wasmtime::Result<Self> {
        let charge = Charge::new(account, values.iter().map(size).sum())?;
        let mut handles = Vec::new();
        for (shape, value) in shapes.iter().zip(&mut values) {
            shape.walk(value, &mut |value, leaf| {
                let handle = take(store.as_context_mut(), side, leaf, value, pump)?;
                *value = Val::U32(u32::try_from(handles.len())?);
                handles.push(Some(handle));
                Ok(())
            })?;
        }
        Ok(Self { values, handles, _charge: charge })
    }

    /// Streams that are on their way.
    pub(crate) fn passages(&self) -> usize {
        self.handles.iter().flatten().filter(|handle| matches!(handle, Handle::Passage(_))).count()
    }

    /// Puts the values into `store`. `fate` says how the store that they come from ends.
    pub(crate) fn unpack(
        self,
        mut store: StoreContextMut<'_, CallState>,
        side: Side,
        shapes: &[Shape],
        fate: Option<&Fate>,
    ) -> wasmtime::Result<Vec<Val>> {
        let Self { mut values, mut handles, .. } = self;
        for (shape, value) in shapes.iter().zip(&mut values) {
            shape.walk(value, &mut |value, leaf| {
                let handle = match value {
                    Val::U32(at) => handles.get_mut(*at as usize).and_then(Option::take),
                    _ => None,
                };
                let handle = handle.ok_or_else(|| CallError::Internal("a handle was lost on its way".to_owned()))?;
                *value = put(store.as_context_mut(), side, leaf, handle, fate)?;
                Ok(())
            })?;
        }
        Ok(values)
    }
}

fn take(
    mut store: StoreContextMut<'_, CallState>,
    side: Side,
    leaf: Leaf,
    value: &Val,
    pump: &Pump,
) -> wasmtime::Result<Handle> {
    match (value, leaf, side) {
        (Val::Resource(proxy), Leaf::Own(_) | Leaf::Borrow(_), Side::Caller) => {
            Ok(Handle::Resource(ResourceDynamic::try_from_resource_any(*proxy, store)?.rep()))
        }
        (Val::Resource(resource), Leaf::Own(_), Side::Callee) => {
            Ok(Handle::Resource(store.data_mut().slot(|_| Held::default()).keep(*resource)))
        }
        (Val::Stream(stream), Leaf::Stream(item), _) => {
            Ok(Handle::Passage(passage::of_stream(store, item, stream.clone(), pump)?))
        }
        (Val::Future(future), Leaf::Future(item), _) => {
            Ok(Handle::Passage(passage::of_future(store, item, future.clone(), pump)?))
        }
        _ => Err(CallError::Internal("a value is not of its type".to_owned()).into()),
    }
}

fn put(
    mut store: StoreContextMut<'_, CallState>,
    side: Side,
    leaf: Leaf,
    handle: Handle,
    fate: Option<&Fate>,
) -> wasmtime::Result<Val> {
    match (handle, leaf, side) {
        (Handle::Resource(number), Leaf::Own(ty), Side::Caller) => {
            let proxy = ResourceDynamic::new_own(number, ty);
            Ok(Val::Resource(proxy.try_into_resource_any(store)?))
        }
        (Handle::Resource(number), Leaf::Own(_), Side::Callee) => {
            Ok(Val::Resource(store.data_mut().slot(|_| Held::default()).give(number)?))
        }
        (Handle::Resource(number), Leaf::Borrow(_), Side::Callee) => {
            Ok(Val::Resource(store.data_mut().slot(|_| Held::default()).lend(number)?))
        }
        (Handle::Passage(passage), _, _) => passage.arrive(store, fate),
        _ => Err(CallError::Internal("a handle is not of its type".to_owned()).into()),
    }
}

/// Memory that is charged as long as this lives.
struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Charge {
    fn new(account: &Arc<Account>, bytes: u64) -> Result<Self, LimitExceeded> {
        account.charge(Meter::Memory, bytes)?;
        Ok(Self { account: account.clone(), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(Meter::Memory, self.bytes);
    }
}

/// Bytes of the host's memory that a value holds.
fn size(value: &Val) -> u64 {
    let inside = match value {
        Val::String(text) | Val::Enum(text) => text.len() as u64,
        Val::List(items) | Val::FixedLengthList(items) | Val::Tuple(items) => items.iter().map(size).sum(),
        Val::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
        Val::Record(fields) => fields.iter().map(|(name, field)| name.len() as u64 + NAME + size(field)).sum(),
        Val::Variant(name, payload) => name.len() as u64 + payload.as_deref().map_or(0, size),
        Val::Option(Some(value)) | Val::Result(Ok(Some(value)) | Err(Some(value))) => size(value),
        Val::Flags(names) => names.iter().map(|name| name.len() as u64 + NAME).sum(),
        _ => 0,
    };
    size_of::<Val>() as u64 + inside
}

/// What an owned name takes beside its text.
const NAME: u64 = size_of::<String>() as u64;
