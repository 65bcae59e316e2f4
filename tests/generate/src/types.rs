//! The values of a package, as Rust.

use std::fmt::Write as _;

use anyhow::bail;
use wit_parser::{Type, TypeDef, TypeDefKind};

use crate::{
    name::{camel, shout, snake},
    source::{Package, Source},
};

/// The Rust type of `ty`, named from within `package`.
pub(crate) fn rust(source: &Source, package: &Package, ty: &Type) -> anyhow::Result<String> {
    let Type::Id(id) = ty else { return Ok(primitive(ty)?.to_owned()) };
    let definition = source.definition(*id);
    if let Some(name) = &definition.name {
        return Ok(match source.package_of(definition) {
            Some(other) if other.id != package.id => format!("crate::{}::{}", snake(&other.name), camel(name)),
            _ => camel(name),
        });
    }
    let part = |ty: &Type| rust(source, package, ty);
    let optional = |ty: &Option<Type>| ty.as_ref().map_or(Ok("()".to_owned()), part);
    Ok(match &definition.kind {
        TypeDefKind::Option(item) => format!("Option<{}>", part(item)?),
        TypeDefKind::List(item) => format!("Vec<{}>", part(item)?),
        TypeDefKind::Result(parts) => format!("Result<{}, {}>", optional(&parts.ok)?, optional(&parts.err)?),
        TypeDefKind::Tuple(parts) => {
            let parts = parts.types.iter().map(|ty| Ok(part(ty)? + ",")).collect::<anyhow::Result<String>>()?;
            format!("({parts})")
        }
        other => bail!("no forwarder carries a {}", other.as_str()),
    })
}

fn primitive(ty: &Type) -> anyhow::Result<&'static str> {
    Ok(match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "i8",
        Type::S16 => "i16",
        Type::S32 => "i32",
        Type::S64 => "i64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "String",
        Type::ErrorContext | Type::Id(_) => bail!("no forwarder carries an error context"),
    })
}

/// The definition of a named type.
pub(crate) fn define(source: &Source, package: &Package, definition: &TypeDef) -> anyhow::Result<String> {
    let Some(name) = definition.name.as_deref().map(camel) else { bail!("a type without a name") };
    let mut text = String::new();
    match &definition.kind {
        TypeDefKind::Record(record) => {
            derives(&mut text, source, definition, "record");
            writeln!(text, "pub struct {name} {{")?;
            for field in &record.fields {
                doc(&mut text, source.docs(&field.docs));
                let ty = rust(source, package, &field.ty)?;
                let rust_name = snake(&field.name);
                if rust_name != field.name {
                    writeln!(text, "#[component(name = \"{}\")]", field.name)?;
                }
                writeln!(text, "pub {rust_name}: {ty},")?;
            }
            text.push_str("}\n");
            let fields = record.fields.iter().map(|field| snake(&field.name)).collect::<Vec<_>>();
            let sum = fields.iter().map(|field| format!("self.{field}.heap()")).collect::<Vec<_>>().join(" + ");
            heap(&mut text, &name, &sum)?;
        }
        TypeDefKind::Variant(variant) => {
            derives(&mut text, source, definition, "variant");
            writeln!(text, "pub enum {name} {{")?;
            let mut arms = String::new();
            let mut empty = Vec::new();
            for case in &variant.cases {
                doc(&mut text, source.docs(&case.docs));
                let case_name = camel(&case.name);
                write!(text, "#[component(name = \"{}\")]\n{case_name}", case.name)?;
                if let Some(ty) = &case.ty {
                    write!(text, "({})", rust(source, package, ty)?)?;
                    write!(arms, "Self::{case_name}(value) => value.heap(),")?;
                } else {
                    empty.push(format!("Self::{case_name}"));
                }
                text.push_str(",\n");
            }
            text.push_str("}\n");
            if !empty.is_empty() {
                write!(arms, "{} => 0,", empty.join(" | "))?;
            }
            heap(&mut text, &name, &format!("match self {{ {arms} }}"))?;
            if variant.cases.iter().any(|case| case.name == "call-failed") {
                call_failed(&mut text, &name)?;
            }
        }
        TypeDefKind::Enum(cases) => {
            doc(&mut text, source.docs(&definition.docs));
            text.push_str("#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq)]\n");
            writeln!(text, "#[component(enum)]\n#[repr(u8)]\npub enum {name} {{")?;
            for case in &cases.cases {
                doc(&mut text, source.docs(&case.docs));
                writeln!(text, "#[component(name = \"{}\")]\n{},", case.name, camel(&case.name))?;
            }
            text.push_str("}\n");
            heap(&mut text, &name, "0")?;
        }
        TypeDefKind::Flags(flags) => {
            let module = snake(definition.name.as_deref().unwrap_or_default());
            doc(&mut text, source.docs(&definition.docs));
            writeln!(text, "pub use {module}::{name};\n")?;
            writeln!(text, "mod {module} {{")?;
            text.push_str(
                "#![allow(missing_docs, reason = \"the macro takes no documentation; it stands in the WIT\")]\n",
            );
            writeln!(text, "wasmtime::component::flags! {{\n{name} {{")?;
            for flag in &flags.flags {
                writeln!(text, "#[component(name = \"{}\")]\nconst {};", flag.name, shout(&flag.name))?;
            }
            text.push_str("}\n}\n}\n\n");
            heap(&mut text, &name, "0")?;
        }
        TypeDefKind::Type(_) => {}
        other => bail!("`{name}` is a {}, which no forwarder carries", other.as_str()),
    }
    Ok(text)
}

fn derives(text: &mut String, source: &Source, definition: &TypeDef, kind: &str) {
    doc(text, source.docs(&definition.docs));
    text.push_str("#[derive(ComponentType, Lift, Lower, Clone, Debug, PartialEq)]\n");
    text.push_str(&format!("#[component({kind})]\n"));
}

fn heap(text: &mut String, name: &str, sum: &str) -> anyhow::Result<()> {
    writeln!(text, "\nimpl Heap for {name} {{\nfn heap(&self) -> u64 {{ {sum} }}\n}}\n")?;
    Ok(())
}

fn call_failed(text: &mut String, name: &str) -> anyhow::Result<()> {
    writeln!(
        text,
        "impl From<crate::component::Failure> for {name} {{
            fn from(failure: crate::component::Failure) -> Self {{ Self::CallFailed(failure) }}
        }}\n"
    )?;
    Ok(())
}

/// Writes `docs` as a documentation comment.
pub(crate) fn doc(text: &mut String, docs: &str) {
    for line in docs.lines() {
        text.push_str(format!("/// {line}").trim_end());
        text.push('\n');
    }
}
