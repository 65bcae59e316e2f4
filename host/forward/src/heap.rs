//! How much memory a value holds, for what waits in a stream to be charged to its call tree.

/// A value that knows what it holds.
pub trait Heap {
    /// Bytes that it holds beyond its own size.
    fn heap(&self) -> u64;
}

/// What all of `items` hold, beyond their own size.
pub(crate) fn heap_of<T: Heap>(items: &[T]) -> u64 {
    items.iter().map(Heap::heap).sum()
}

macro_rules! holds_nothing {
    ($($ty:ty)*) => {$(
        impl Heap for $ty {
            fn heap(&self) -> u64 {
                0
            }
        }
    )*};
}

holds_nothing!(() bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 char);

impl Heap for String {
    fn heap(&self) -> u64 {
        self.len() as u64
    }
}

impl<T: Heap> Heap for Vec<T> {
    fn heap(&self) -> u64 {
        (self.len() as u64).saturating_mul(size_of::<T>() as u64).saturating_add(heap_of(self))
    }
}

impl<T: Heap> Heap for Option<T> {
    fn heap(&self) -> u64 {
        self.as_ref().map_or(0, Heap::heap)
    }
}

impl<T: Heap, E: Heap> Heap for Result<T, E> {
    fn heap(&self) -> u64 {
        match self {
            Ok(value) => value.heap(),
            Err(error) => error.heap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lies_behind_the_value() {
        assert_eq!(7_u64.heap(), 0);
        assert_eq!(vec![Some("abc".to_owned()), None].heap(), 2 * size_of::<Option<String>>() as u64 + 3);
        assert_eq!(Err::<u8, _>("abc".to_owned()).heap(), 3);
    }
}
