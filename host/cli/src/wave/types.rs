//! Types as WIT writes them.

use wasmtime::component::{
    ResourceType, Type,
    types::{Component, ComponentItem},
};

/// The names of a component's resources, by which their handles are called.
#[derive(Default)]
pub(crate) struct Resources(Vec<(ResourceType, String)>);

impl Resources {
    /// The resources that `component` imports and exports.
    pub(crate) fn of(component: &Component, engine: &wasmtime::Engine) -> Self {
        let mut found = Vec::new();
        for (name, item) in component.imports(engine).chain(component.exports(engine)) {
            match item.ty {
                ComponentItem::Resource(ty) => found.push((ty, name.to_owned())),
                ComponentItem::ComponentInstance(instance) => {
                    found.extend(instance.exports(engine).filter_map(|(name, item)| match item.ty {
                        ComponentItem::Resource(ty) => Some((ty, name.to_owned())),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        Self(found)
    }

    fn name(&self, ty: &ResourceType) -> &str {
        self.0.iter().find(|(other, _)| other == ty).map_or("resource", |(_, name)| name)
    }

    /// `ty` as WIT writes it, types with names of their own in full.
    pub(crate) fn write(&self, ty: &Type) -> String {
        let write = |ty: Type| self.write(&ty);
        let or_nothing = |ty: Option<Type>| ty.map_or_else(|| "_".to_owned(), write);
        let of = |name: &str, ty: Option<Type>| match ty {
            Some(ty) => format!("{name}<{}>", self.write(&ty)),
            None => name.to_owned(),
        };
        let case = |name: &str, ty: Option<Type>| match ty {
            Some(ty) => format!("{name}({})", self.write(&ty)),
            None => name.to_owned(),
        };
        match ty {
            Type::Bool => "bool".to_owned(),
            Type::S8 => "s8".to_owned(),
            Type::U8 => "u8".to_owned(),
            Type::S16 => "s16".to_owned(),
            Type::U16 => "u16".to_owned(),
            Type::S32 => "s32".to_owned(),
            Type::U32 => "u32".to_owned(),
            Type::S64 => "s64".to_owned(),
            Type::U64 => "u64".to_owned(),
            Type::Float32 => "f32".to_owned(),
            Type::Float64 => "f64".to_owned(),
            Type::Char => "char".to_owned(),
            Type::String => "string".to_owned(),
            Type::ErrorContext => "error-context".to_owned(),
            Type::List(list) => of("list", Some(list.ty())),
            Type::FixedLengthList(list) => format!("list<{}, {}>", self.write(&list.ty()), list.len()),
            Type::Map(map) => format!("map<{}, {}>", self.write(&map.key()), self.write(&map.value())),
            Type::Option(some) => of("option", Some(some.ty())),
            Type::Stream(stream) => of("stream", stream.ty()),
            Type::Future(future) => of("future", future.ty()),
            Type::Tuple(tuple) => format!("tuple<{}>", tuple.types().map(write).collect::<Vec<_>>().join(", ")),
            Type::Result(result) => match (result.ok(), result.err()) {
                (None, None) => "result".to_owned(),
                (Some(ok), None) => of("result", Some(ok)),
                (ok, err) => format!("result<{}, {}>", or_nothing(ok), or_nothing(err)),
            },
            Type::Record(record) => {
                let fields = record.fields().map(|field| format!("{}: {}", field.name, self.write(&field.ty)));
                braced("record", fields)
            }
            Type::Variant(variant) => braced("variant", variant.cases().map(|one| case(one.name, one.ty))),
            Type::Enum(names) => braced("enum", names.names().map(str::to_owned)),
            Type::Flags(names) => braced("flags", names.names().map(str::to_owned)),
            Type::Own(resource) => self.name(resource).to_owned(),
            Type::Borrow(resource) => format!("borrow<{}>", self.name(resource)),
        }
    }
}

fn braced(keyword: &str, items: impl Iterator<Item = String>) -> String {
    format!("{keyword} {{ {} }}", items.collect::<Vec<_>>().join(", "))
}
