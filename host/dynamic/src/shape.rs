//! Whether the types of import and export agree, and where in a value something sits that belongs to a store.

use wasmtime::component::{
    ResourceType, Type, Val,
    types::{ComponentFunc, ComponentItem},
};

use crate::{
    error::{DynamicError, Names},
    passage::Item,
    resource::Proxies,
};

/// Types may nest this deep; what is deeper is no interface but an attack on the stack.
const DEPTH: usize = 100;

/// Where in a value of some type something sits that belongs to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nowhere: the value means the same in every store.
    Plain,
    Leaf(Leaf),
    /// In the items of a list, of any kind.
    List(Box<Shape>),
    /// In the values of a map.
    Map(Box<Shape>),
    /// In some of the fields, in order.
    Fields(Vec<Shape>),
    /// In what some of the cases carry.
    Cases(Vec<(Box<str>, Shape)>),
    Option(Box<Shape>),
    Result(Box<Shape>, Box<Shape>),
}

/// Something that belongs to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A resource, by the number of its type.
    Own(u32),
    /// A resource that is lent, by the number of its type.
    Borrow(u32),
    Stream(Item),
    Future(Item),
}

impl Shape {
    fn or_plain(self, parts: &[&Shape]) -> Self {
        if parts.iter().all(|part| **part == Self::Plain) { Self::Plain } else { self }
    }

    /// Visits each leaf in `value`, in order.
    pub(crate) fn walk(
        &self,
        value: &mut Val,
        visit: &mut dyn FnMut(&mut Val, Leaf) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        match (self, value) {
            (Self::Plain, _) => Ok(()),
            (Self::Leaf(leaf), value) => visit(value, *leaf),
            (Self::List(shape), Val::List(items) | Val::FixedLengthList(items)) => {
                items.iter_mut().try_for_each(|item| shape.walk(item, visit))
            }
            (Self::Map(shape), Val::Map(entries)) => {
                entries.iter_mut().try_for_each(|(_, value)| shape.walk(value, visit))
            }
            (Self::Fields(shapes), Val::Tuple(items)) => {
                shapes.iter().zip(items).try_for_each(|(shape, item)| shape.walk(item, visit))
            }
            (Self::Fields(shapes), Val::Record(fields)) => {
                shapes.iter().zip(fields).try_for_each(|(shape, (_, field))| shape.walk(field, visit))
            }
            (Self::Cases(cases), Val::Variant(name, Some(payload))) => {
                match cases.iter().find(|(case, _)| **case == **name) {
                    Some((_, shape)) => shape.walk(payload, visit),
                    None => Ok(()),
                }
            }
            (Self::Option(shape), Val::Option(Some(value)))
            | (Self::Result(shape, _), Val::Result(Ok(Some(value))))
            | (Self::Result(_, shape), Val::Result(Err(Some(value)))) => shape.walk(value, visit),
            // A case without a payload.
            _ => Ok(()),
        }
    }
}

/// The shapes of what a function takes and gives.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) params: Vec<Shape>,
    pub(crate) results: Vec<Shape>,
}

/// The signature that `import` and `export` share. That one of them is async is no difference: the host can wait for
/// either.
pub(crate) fn signature(
    names: &Names<'_>,
    item: &str,
    import: &ComponentFunc,
    export: &ComponentFunc,
    proxies: &Proxies,
) -> Result<Signature, DynamicError> {
    let compare = Compare { names, item, proxies };
    if import.params().len() != export.params().len() || import.results().len() != export.results().len() {
        let count =
            |f: &ComponentFunc| format!("with {} parameters and {} results", f.params().len(), f.results().len());
        return Err(names.differs(item, "the function", &count(import), &count(export)));
    }
    let mut params = Vec::new();
    for ((name, import), (other, export)) in import.params().zip(export.params()) {
        if name != other {
            return Err(names.differs(item, "a parameter", &format!("`{name}`"), &format!("`{other}`")));
        }
        params.push(compare.types(&import, &export, &mut vec![format!("parameter `{name}`")])?);
    }
    let mut results = Vec::new();
    for (import, export) in import.results().zip(export.results()) {
        results.push(compare.types(&import, &export, &mut vec!["the result".to_owned()])?);
    }
    Ok(Signature { params, results })
}

/// Checks that a named type is the same for both.
pub(crate) fn check(
    names: &Names<'_>,
    item: &str,
    import: &Type,
    export: &Type,
    proxies: &Proxies,
) -> Result<(), DynamicError> {
    Compare { names, item, proxies }.types(import, export, &mut vec!["the type".to_owned()]).map(|_| ())
}

pub(crate) fn kind(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) => "a function",
        ComponentItem::Module(_) => "a core module",
        ComponentItem::Component(_) => "a component",
        ComponentItem::ComponentInstance(_) => "an instance",
        ComponentItem::Type(_) => "a type",
        ComponentItem::Resource(_) => "a resource",
    }
}

struct Compare<'a> {
    names: &'a Names<'a>,
    item: &'a str,
    proxies: &'a Proxies,
}

/// The way from a parameter or result to a type inside it.
type Place = Vec<String>;

fn place_text(place: &Place) -> String {
    place.iter().rev().cloned().collect::<Vec<_>>().join(" in ")
}

impl Compare<'_> {
    fn differs(&self, place: &Place, import: &str, export: &str) -> DynamicError {
        self.names.differs(self.item, &place_text(place), import, export)
    }

    fn unsupported(&self, place: &Place, reason: &str) -> DynamicError {
        self.names.unsupported(self.item, &place_text(place), reason)
    }

    fn inner(&self, step: String, import: &Type, export: &Type, place: &mut Place) -> Result<Shape, DynamicError> {
        if place.len() > DEPTH {
            return Err(self.unsupported(place, "nested deeper than the host follows"));
        }
        place.push(step);
        let shape = self.types(import, export, place);
        place.pop();
        shape
    }

    fn optional(
        &self,
        step: String,
        import: Option<Type>,
        export: Option<Type>,
        place: &mut Place,
    ) -> Result<Shape, DynamicError> {
        match (import, export) {
            (None, None) => Ok(Shape::Plain),
            (Some(import), Some(export)) => self.inner(step, &import, &export, place),
            (import, export) => {
                let describe = |ty: Option<Type>| ty.map_or("empty", |ty| describe(&ty));
                place.push(step);
                let error = self.differs(place, describe(import), describe(export));
                place.pop();
                Err(error)
            }
        }
    }

    fn types(&self, import: &Type, export: &Type, place: &mut Place) -> Result<Shape, DynamicError> {
        match (import, export) {
            (Type::List(import), Type::List(export)) => self.list(&import.ty(), &export.ty(), place),
            (Type::FixedLengthList(import), Type::FixedLengthList(export)) if import.len() == export.len() => {
                self.list(&import.ty(), &export.ty(), place)
            }
            (Type::Map(import), Type::Map(export)) => {
                self.inner("the key".to_owned(), &import.key(), &export.key(), place)?;
                let value = self.inner("the value".to_owned(), &import.value(), &export.value(), place)?;
                Ok(Shape::Map(Box::new(value.clone())).or_plain(&[&value]))
            }
            (Type::Option(import), Type::Option(export)) => {
                let some = self.inner("the option".to_owned(), &import.ty(), &export.ty(), place)?;
                Ok(Shape::Option(Box::new(some.clone())).or_plain(&[&some]))
            }
            (Type::Result(import), Type::Result(export)) => {
                let ok = self.optional("`ok`".to_owned(), import.ok(), export.ok(), place)?;
                let err = self.optional("`err`".to_owned(), import.err(), export.err(), place)?;
                Ok(Shape::Result(Box::new(ok.clone()), Box::new(err.clone())).or_plain(&[&ok, &err]))
            }
            (Type::Tuple(import), Type::Tuple(export)) => {
                let (import, export): (Vec<_>, Vec<_>) = (import.types().collect(), export.types().collect());
                self.same(place, "items", import.len().to_string(), export.len().to_string())?;
                let items = import.iter().zip(&export).enumerate();
                self.fields(items.map(|(at, (import, export))| (format!("item {at}"), import, export)), place)
            }
            (Type::Record(import), Type::Record(export)) => {
                let (import, export): (Vec<_>, Vec<_>) = (import.fields().collect(), export.fields().collect());
                self.same(
                    place,
                    "fields",
                    quoted(import.iter().map(|field| field.name)),
                    quoted(export.iter().map(|field| field.name)),
                )?;
                let fields = import.iter().zip(&export);
                let fields =
                    fields.map(|(import, export)| (format!("field `{}`", import.name), &import.ty, &export.ty));
                self.fields(fields, place)
            }
            (Type::Variant(import), Type::Variant(export)) => {
                let (import, export): (Vec<_>, Vec<_>) = (import.cases().collect(), export.cases().collect());
                self.same(
                    place,
                    "cases",
                    quoted(import.iter().map(|case| case.name)),
                    quoted(export.iter().map(|case| case.name)),
                )?;
                let mut cases = Vec::new();
                for (import, export) in import.into_iter().zip(export) {
                    let shape = self.optional(format!("case `{}`", import.name), import.ty, export.ty, place)?;
                    cases.push((import.name.into(), shape));
                }
                let plain = cases.iter().all(|(_, shape)| *shape == Shape::Plain);
                Ok(if plain { Shape::Plain } else { Shape::Cases(cases) })
            }
            (Type::Enum(import), Type::Enum(export)) => {
                self.same(place, "cases", quoted(import.names()), quoted(export.names()))?;
                Ok(Shape::Plain)
            }
            (Type::Flags(import), Type::Flags(export)) => {
                self.same(place, "flags", quoted(import.names()), quoted(export.names()))?;
                Ok(Shape::Plain)
            }
            (Type::Own(import), Type::Own(export)) => Ok(Shape::Leaf(Leaf::Own(self.proxy(*import, *export, place)?))),
            (Type::Borrow(import), Type::Borrow(export)) => {
                Ok(Shape::Leaf(Leaf::Borrow(self.proxy(*import, *export, place)?)))
            }
            (Type::Stream(import), Type::Stream(export)) => {
                Ok(Shape::Leaf(Leaf::Stream(self.item("a stream", import.ty(), export.ty(), place)?)))
            }
            (Type::Future(import), Type::Future(export)) => {
                Ok(Shape::Leaf(Leaf::Future(self.item("a future", import.ty(), export.ty(), place)?)))
            }
            (Type::ErrorContext, Type::ErrorContext) => {
                Err(self.unsupported(place, "an error-context, which belongs to one store"))
            }
            (import, export) if simple(import) && import == export => Ok(Shape::Plain),
            (import, export) => Err(self.differs(place, describe(import), describe(export))),
        }
    }

    fn list(&self, import: &Type, export: &Type, place: &mut Place) -> Result<Shape, DynamicError> {
        let item = self.inner("the items".to_owned(), import, export, place)?;
        Ok(Shape::List(Box::new(item.clone())).or_plain(&[&item]))
    }

    fn fields<'a>(
        &self,
        fields: impl Iterator<Item = (String, &'a Type, &'a Type)>,
        place: &mut Place,
    ) -> Result<Shape, DynamicError> {
        let mut shapes = Vec::new();
        for (step, import, export) in fields {
            shapes.push(self.inner(step, import, export, place)?);
        }
        let plain = shapes.iter().all(|shape| *shape == Shape::Plain);
        Ok(if plain { Shape::Plain } else { Shape::Fields(shapes) })
    }

    fn same(&self, place: &Place, what: &str, import: String, export: String) -> Result<(), DynamicError> {
        if import == export {
            return Ok(());
        }
        Err(self.differs(place, &format!("one with the {what} {import}"), &format!("one with the {what} {export}")))
    }

    fn proxy(&self, import: ResourceType, export: ResourceType, place: &Place) -> Result<u32, DynamicError> {
        match self.proxies.find(import) {
            None => Err(self.unsupported(place, "a resource of another component, which neither of the two can show")),
            Some((other, id)) if other == export => Ok(id),
            Some(_) => Err(self.differs(place, "one resource", "another resource")),
        }
    }

    /// The type of a stream's or future's items, which has to be one that the host knows by name.
    fn item(
        &self,
        what: &str,
        import: Option<Type>,
        export: Option<Type>,
        place: &mut Place,
    ) -> Result<Item, DynamicError> {
        self.optional("the items".to_owned(), import.clone(), export, place)?;
        Item::of(import.as_ref()).ok_or_else(|| {
            let items = import.as_ref().map_or("nothing", describe);
            self.unsupported(
                place,
                &format!("{what} whose items are {items}, and only numbers, `bool`, `char` and `string` pass"),
            )
        })
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn simple(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Bool
            | Type::S8
            | Type::U8
            | Type::S16
            | Type::U16
            | Type::S32
            | Type::U32
            | Type::S64
            | Type::U64
            | Type::Float32
            | Type::Float64
            | Type::Char
            | Type::String
    )
}

fn describe(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "`bool`",
        Type::S8 => "`s8`",
        Type::U8 => "`u8`",
        Type::S16 => "`s16`",
        Type::U16 => "`u16`",
        Type::S32 => "`s32`",
        Type::U32 => "`u32`",
        Type::S64 => "`s64`",
        Type::U64 => "`u64`",
        Type::Float32 => "`f32`",
        Type::Float64 => "`f64`",
        Type::Char => "`char`",
        Type::String => "`string`",
        Type::List(_) => "a list",
        Type::Map(_) => "a map",
        Type::Record(_) => "a record",
        Type::Tuple(_) => "a tuple",
        Type::Variant(_) => "a variant",
        Type::Enum(_) => "an enum",
        Type::Option(_) => "an option",
        Type::Result(_) => "a result",
        Type::Flags(_) => "flags",
        Type::Own(_) => "a resource",
        Type::Borrow(_) => "a borrowed resource",
        Type::Future(_) => "a future",
        Type::Stream(_) => "a stream",
        Type::ErrorContext => "an error-context",
        Type::FixedLengthList(_) => "a list of fixed length",
    }
}
