//! Values as people write them on the command line: WAVE, the text form of component values.

mod types;

pub(crate) use types::Resources;
use wasmtime::component::{
    Type, Val,
    wasm_wave::{parser::ParserError, untyped::UntypedFuncCall},
};

/// Why the arguments of a call cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// The text of all arguments is not a list of values.
    #[error("the arguments `{text}` are no WAVE values with commas between them")]
    List {
        /// What was given.
        text: String,
        /// Why not.
        source: ParserError,
    },
    /// One argument is not of its type.
    #[error("argument `{name}` must be {expected}, but `{text}` is not{}", hint(expected))]
    Value {
        /// The parameter.
        name: String,
        /// Its type.
        expected: String,
        /// What was given.
        text: String,
        /// Why not.
        source: wasmtime::Error,
    },
    /// An argument is missing.
    #[error("argument `{name}` is missing; it is {expected}")]
    Missing {
        /// The parameter.
        name: String,
        /// Its type.
        expected: String,
    },
    /// There are more arguments than parameters.
    #[error("there are {found} arguments, but the function takes {expected}")]
    TooMany {
        /// Given.
        found: usize,
        /// Taken.
        expected: usize,
    },
    /// A type that has no text form.
    #[error(
        "{what} is or has a resource, stream, future or map, which WAVE cannot write; call such a function from a \
         component"
    )]
    NoText {
        /// The parameter or result.
        what: String,
    },
}

/// What people stumble over most.
fn hint(expected: &str) -> &'static str {
    match expected {
        "string" => "; a string is written with quotes, which the shell must not take away: '\"text\"'",
        _ => "",
    }
}

/// A type as WIT writes it, whose values have a text: it is and has no handle.
fn type_name(ty: &Type) -> String {
    Resources::default().write(ty)
}

/// The arguments for `parameters`, from one text for each, or from one text for all with commas between them.
/// Trailing parameters that are options may be left out.
pub(crate) fn arguments(parameters: &[(String, Type)], texts: &[String]) -> Result<Vec<Val>, ArgumentError> {
    for (name, ty) in parameters {
        if !has_text(ty) {
            return Err(ArgumentError::NoText { what: format!("argument `{name}`") });
        }
    }
    let texts = match texts {
        [all] if parameters.len() != 1 => return list(parameters, all),
        each => each,
    };
    let read = texts.iter().map(|text| (text.as_str(), move |ty: &Type| Val::from_wave(ty, text)));
    fit(parameters, read)
}

/// The arguments from one text with commas between them.
fn list(parameters: &[(String, Type)], text: &str) -> Result<Vec<Val>, ArgumentError> {
    let call = format!("f({text})");
    let failed = |source| ArgumentError::List { text: text.to_owned(), source };
    let call = UntypedFuncCall::parse(&call).map_err(failed)?;
    let Some(values) = call.params_node() else { return fit(parameters, no_values()) };
    let read = values.as_tuple().map_err(failed)?.map(|value| {
        let text = call.source().get(value.span()).unwrap_or_default();
        (text, |ty: &Type| Ok(value.to_wasm_value::<Val>(ty, call.source())?))
    });
    fit(parameters, read)
}

type Read = fn(&Type) -> wasmtime::Result<Val>;

fn no_values() -> std::iter::Empty<(&'static str, Read)> {
    std::iter::empty()
}

/// Reads each of `values`, a text and how it becomes a value of a type, as its parameter.
fn fit<'a, R: Fn(&Type) -> wasmtime::Result<Val>>(
    parameters: &[(String, Type)],
    values: impl ExactSizeIterator<Item = (&'a str, R)>,
) -> Result<Vec<Val>, ArgumentError> {
    if values.len() > parameters.len() {
        return Err(ArgumentError::TooMany { found: values.len(), expected: parameters.len() });
    }
    let values = values.map(Some).chain(std::iter::repeat_with(|| None));
    parameters.iter().zip(values).map(|((name, ty), value)| argument(name, ty, value)).collect()
}

fn argument<R: Fn(&Type) -> wasmtime::Result<Val>>(
    name: &str,
    ty: &Type,
    value: Option<(&str, R)>,
) -> Result<Val, ArgumentError> {
    match value {
        Some((text, read)) => read(ty).map_err(|source| ArgumentError::Value {
            name: name.to_owned(),
            expected: type_name(ty),
            text: text.to_owned(),
            source,
        }),
        None if matches!(ty, Type::Option(_)) => Ok(Val::Option(None)),
        None => Err(ArgumentError::Missing { name: name.to_owned(), expected: type_name(ty) }),
    }
}

/// Refuses results that cannot be printed, before the call is made.
pub(crate) fn check_results<'a>(results: impl IntoIterator<Item = &'a Type>) -> Result<(), ArgumentError> {
    match results.into_iter().all(has_text) {
        true => Ok(()),
        false => Err(ArgumentError::NoText { what: "the result".to_owned() }),
    }
}

/// Whether values of `ty` can be written as text.
fn has_text(ty: &Type) -> bool {
    match ty {
        Type::Own(_) | Type::Borrow(_) | Type::Stream(_) | Type::Future(_) | Type::ErrorContext | Type::Map(_) => false,
        Type::List(list) => has_text(&list.ty()),
        Type::FixedLengthList(list) => has_text(&list.ty()),
        Type::Record(record) => record.fields().all(|field| has_text(&field.ty)),
        Type::Tuple(tuple) => tuple.types().all(|ty| has_text(&ty)),
        Type::Variant(variant) => variant.cases().all(|case| case.ty.is_none_or(|ty| has_text(&ty))),
        Type::Option(option) => has_text(&option.ty()),
        Type::Result(result) => [result.ok(), result.err()].into_iter().flatten().all(|ty| has_text(&ty)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
