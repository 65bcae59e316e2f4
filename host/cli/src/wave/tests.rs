//! WAVE text of every kind of value, there and back.

use std::sync::LazyLock;

use proptest::{collection, option, prelude::*};
use wasmtime::component::{Component, types::ComponentItem};

use super::*;

/// A function of parameters of every kind of type that has a text, one after the other.
const TYPES: &str = r#"(component
    (import "f" (func $f
        (param "bool" bool) (param "s8" s8) (param "u8" u8) (param "s16" s16) (param "u16" u16) (param "s32" s32)
        (param "u32" u32) (param "s64" s64) (param "u64" u64) (param "f32" f32) (param "f64" f64)
        (param "char" char) (param "string" string) (param "list" (list string)) (param "bytes" (list u8))
        (param "tuple" (tuple u8 string)) (param "option" (option (option string)))
        (param "result" (result (list char) (error string))) (param "empty-result" (result))
    ))
    (type $color' (enum "red" "true" "some"))
    (import "color" (type $color (eq $color')))
    (type $rights' (flags "read" "write" "none"))
    (import "rights" (type $rights (eq $rights')))
    (type $shape' (variant (case "dot") (case "circle" f64) (case "ok" (tuple u8 u8))))
    (import "shape" (type $shape (eq $shape')))
    (type $record' (record (field "name" string) (field "maybe" (option u8)) (field "shape" $shape)
        (field "rights" $rights) (field "color" $color)))
    (import "record" (type $record (eq $record')))
    (import "g" (func (param "record" $record) (param "several" (list $record))))
    (import "r" (type $r (sub resource)))
    (import "h" (func (param "handle" (own $r)) (param "nested" (option (list (own $r))))))
    (import "i" (func (param "borrowed" (borrow $r)) (param "bytes" (stream u8)) (param "beats" (stream))
        (param "later" (future (result (list (own $r)) (error string)))) (param "end" (future))
        (param "error" (result (error u8)))))
)"#;

fn component() -> &'static Component {
    static COMPONENT: LazyLock<Component> = LazyLock::new(|| {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        Component::new(&engine, wat::parse_str(TYPES).unwrap()).unwrap()
    });
    &COMPONENT
}

fn parameters(function: &str) -> Vec<(String, Type)> {
    let component = component();
    let ty = component.component_type();
    let item = ty.get_import(component.engine(), function).unwrap();
    let ComponentItem::ComponentFunc(function) = item.ty else { panic!("`{function}` is no function") };
    function.params().map(|(name, ty)| (name.to_owned(), ty)).collect()
}

fn value(ty: &Type) -> BoxedStrategy<Val> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        Type::Float32 => proptest::num::f32::ANY.prop_map(Val::Float32).boxed(),
        Type::Float64 => proptest::num::f64::ANY.prop_map(Val::Float64).boxed(),
        Type::Char => any::<char>().prop_map(Val::Char).boxed(),
        Type::String => any::<String>().prop_map(Val::String).boxed(),
        Type::List(list) => collection::vec(value(&list.ty()), 0..4).prop_map(Val::List).boxed(),
        Type::Tuple(tuple) => tuple.types().map(|ty| value(&ty)).collect::<Vec<_>>().prop_map(Val::Tuple).boxed(),
        Type::Option(some) => option::of(value(&some.ty())).prop_map(|some| Val::Option(some.map(Box::new))).boxed(),
        Type::Result(result) => {
            let ok = payload(result.ok()).prop_map(|payload| Val::Result(Ok(payload)));
            let err = payload(result.err()).prop_map(|payload| Val::Result(Err(payload)));
            prop_oneof![ok, err].boxed()
        }
        Type::Enum(names) => {
            proptest::sample::select(names.names().map(str::to_owned).collect::<Vec<_>>()).prop_map(Val::Enum).boxed()
        }
        Type::Flags(flags) => {
            let names: Vec<String> = flags.names().map(str::to_owned).collect();
            let most = names.len();
            proptest::sample::subsequence(names, 0..=most).prop_map(Val::Flags).boxed()
        }
        Type::Record(record) => {
            let fields: Vec<_> = record.fields().map(|field| (Just(field.name.to_owned()), value(&field.ty))).collect();
            fields.prop_map(Val::Record).boxed()
        }
        Type::Variant(variant) => {
            let cases = variant.cases().map(|case| {
                let name = case.name.to_owned();
                payload(case.ty).prop_map(move |payload| Val::Variant(name.clone(), payload)).boxed()
            });
            proptest::strategy::Union::new(cases).boxed()
        }
        other => panic!("{other:?} has no text"),
    }
}

fn payload(ty: Option<Type>) -> BoxedStrategy<Option<Box<Val>>> {
    match ty {
        Some(ty) => value(&ty).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

fn values(function: &'static str) -> impl Strategy<Value = Vec<Val>> {
    parameters(function).iter().map(|(_, ty)| value(ty)).collect::<Vec<_>>()
}

fn survives(function: &str, values: &[Val]) -> Result<(), TestCaseError> {
    let texts: Vec<String> = values.iter().map(|value| value.to_wave().unwrap()).collect();
    let parameters = parameters(function);
    let values = sorted(values.to_vec());
    prop_assert_eq!(&sorted(arguments(&parameters, &texts).unwrap()), &values, "{:?}", texts);
    prop_assert_eq!(&sorted(arguments(&parameters, &[texts.join(", ")]).unwrap()), &values, "{:?}", texts);
    Ok(())
}

/// The values with their flags in one order: flags are a set.
fn sorted(values: Vec<Val>) -> Vec<Val> {
    let sort = |value| match value {
        Val::Flags(mut names) => {
            names.sort();
            Val::Flags(names)
        }
        Val::List(values) => Val::List(sorted(values)),
        Val::Record(fields) => {
            let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
            Val::Record(names.into_iter().zip(sorted(values)).collect())
        }
        other => other,
    };
    values.into_iter().map(sort).collect()
}

proptest! {
    #[test]
    fn text_gives_back_the_value(values in values("f")) {
        survives("f", &values)?;
    }

    #[test]
    fn text_of_records_gives_back_the_value(values in values("g")) {
        survives("g", &values)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _either = arguments(&parameters("f"), std::slice::from_ref(&text));
        for (_, ty) in parameters("f").into_iter().chain(parameters("g")) {
            let _either = arguments(&[("x".to_owned(), ty)], std::slice::from_ref(&text));
        }
    }
}

fn refusal(parameters: &[(String, Type)], texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    arguments(parameters, &texts).unwrap_err().to_string()
}

#[test]
fn a_wrong_argument_is_named_with_its_type() {
    let parameters = parameters("f");
    let two = &parameters[6..8];
    assert_eq!(refusal(two, &["1", "x"]), "argument `s64` must be s64, but `x` is not");
    assert_eq!(refusal(two, &["-1, 2"]), "argument `u32` must be u32, but `-1` is not");
    assert_eq!(refusal(two, &["1"]), "argument `s64` is missing; it is s64");
    assert_eq!(refusal(two, &[]), "argument `u32` is missing; it is u32");
    assert_eq!(refusal(two, &["1", "2", "3"]), "there are 3 arguments, but the function takes 2");
    assert_eq!(refusal(two, &["1, 2, 3"]), "there are 3 arguments, but the function takes 2");
    assert!(refusal(two, &["1 2"]).contains("no WAVE values with commas"));
    assert!(refusal(&parameters[12..13], &["text"]).contains("written with quotes"));
    assert!(refusal(&parameters[13..14], &["[1]"]).contains("must be list<string>"));
}

#[test]
fn options_at_the_end_may_be_left_out() {
    let parameters = [parameters("f")[0].clone(), parameters("f")[16].clone()];
    let read = arguments(&parameters, &["true".to_owned()]).unwrap();
    assert_eq!(read, [Val::Bool(true), Val::Option(None)]);
}

#[test]
fn what_has_no_text_is_refused_before_the_call() {
    let parameters = parameters("h");
    for parameter in &parameters {
        assert!(refusal(std::slice::from_ref(parameter), &["1"]).contains("which WAVE cannot write"));
        assert!(check_results([&parameter.1]).is_err());
    }
}

#[test]
fn types_are_written_as_wit_writes_them() {
    let component = component().component_type();
    let resources = Resources::of(&component, self::component().engine());
    let written = |function| parameters(function).iter().map(|(_, ty)| resources.write(ty)).collect::<Vec<_>>();
    assert_eq!(written("h"), ["r", "option<list<r>>"]);
    assert_eq!(
        written("i"),
        ["borrow<r>", "stream<u8>", "stream", "future<result<list<r>, string>>", "future", "result<_, u8>"]
    );
    let record = "record { name: string, maybe: option<u8>, shape: variant { dot, circle(f64), ok(tuple<u8, u8>) }, \
                  rights: flags { read, write, none }, color: enum { red, true, some } }";
    assert_eq!(written("g"), [record.to_owned(), format!("list<{record}>")]);
}
