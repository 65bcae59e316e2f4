//! An interface, as a Rust module: a trait, its implementation by a component, and its linking into a component.

use std::fmt::Write as _;

use wit_parser::{Function, Type, TypeDefKind};

use crate::{
    name::{camel, shout, snake},
    source::{Gives, Interface, Package, Source, Takes},
    twin::run_name,
    types::{doc, rust as rust_type},
};

/// The text of the interface's module.
pub(crate) fn rust(source: &Source, package: &Package, interface: &Interface) -> anyhow::Result<String> {
    let functions = source
        .functions(interface)
        .map(|function| FunctionText::new(source, package, function))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut text = String::new();
    let name = &interface.name;
    writeln!(text, "/// `{name}`: the trait, how a component serves it, and how it is linked into one.")?;
    writeln!(text, "pub mod {} {{", snake(name))?;
    text.push_str(PRELUDE);
    constants(&mut text, interface, &functions)?;
    trait_text(&mut text, source, interface, &functions)?;
    service(&mut text, interface, &functions)?;
    for function in &functions {
        function.call(&mut text)?;
    }
    link(&mut text, interface, &functions)?;
    text.push_str("}\n");
    Ok(text)
}

/// What the modules use. Which of it depends on the shapes of the functions.
const PRELUDE: &str = "
#![allow(unused_imports, reason = \"one list for interfaces of every shape\")]

use std::sync::Arc;

use wasmtime::component::{Accessor, Component, FutureReader, Instance, Linker, StreamReader};
use witan_capability::{CallError, CallState, HostFunction, Incoming};
use witan_engine::{Reply, Service};

use super::*;
use crate::{Caller, Run, answer, caller::calling, export::{self, Export, Face, Function, FunctionCall}, pump, run::Parts, twin::{self, TwinRun}};

";

/// The pieces of Rust that a function is made of.
struct FunctionText<'a> {
    wit: &'a Function,
    docs: String,
    params: Vec<Param>,
    gives: GivesText,
}

struct Param {
    name: String,
    /// The item, if it is a stream; else the type.
    ty: String,
    stream: bool,
}

enum GivesText {
    Nothing,
    Value(String),
    Fallible(String),
    Run { item: String, ok: String, error: String },
}

impl<'a> FunctionText<'a> {
    fn new(source: &Source, package: &Package, wit: &'a Function) -> anyhow::Result<Self> {
        let ty = |ty: &Type| rust_type(source, package, ty);
        let mut params = Vec::new();
        for (name, takes) in source.takes(wit) {
            let (item, stream) = match &takes {
                Takes::Value(value) => (value, false),
                Takes::Stream(item) => (item, true),
            };
            params.push(Param { name: snake(name), ty: ty(item)?, stream });
        }
        let gives = match source.gives(wit) {
            Gives::Nothing => GivesText::Nothing,
            Gives::Value(value) => GivesText::Value(ty(&value)?),
            Gives::Fallible(value) => GivesText::Fallible(ty(&value)?),
            Gives::Run { item, verdict } => {
                let (mut ok, mut error) = ("()".to_owned(), "()".to_owned());
                if let Some(TypeDefKind::Result(parts)) = source.kind(&verdict) {
                    ok = parts.ok.as_ref().map_or(Ok(ok), ty)?;
                    error = parts.err.as_ref().map_or(Ok(error), ty)?;
                }
                GivesText::Run { item: ty(&item)?, ok, error }
            }
        };
        Ok(Self { wit, docs: source.docs(&wit.docs).to_owned(), params, gives })
    }

    fn rust_name(&self) -> String {
        snake(&self.wit.name)
    }

    fn constant(&self) -> String {
        shout(&self.wit.name)
    }

    fn struct_name(&self) -> String {
        camel(&self.wit.name) + "Call"
    }

    fn run_of(&self) -> Option<String> {
        match &self.gives {
            GivesText::Run { item, ok, error } => Some(format!("<{item}, {ok}, {error}>")),
            _ => None,
        }
    }

    fn host_type(param: &Param) -> String {
        if param.stream { format!("Incoming<{}>", param.ty) } else { param.ty.clone() }
    }

    fn tuple(&self, each: impl Fn(&Param) -> String) -> String {
        let parts: String = self.params.iter().map(|param| each(param) + ",").collect();
        format!("({parts})")
    }

    /// The type of the parameters in the async interface.
    fn async_types(&self) -> String {
        self.tuple(|param| if param.stream { format!("StreamReader<{}>", param.ty) } else { param.ty.clone() })
    }

    /// The type of the parameters in the twin.
    fn twin_types(&self) -> String {
        self.tuple(|param| if param.stream { format!("Vec<{}>", param.ty) } else { param.ty.clone() })
    }

    fn names(&self) -> String {
        self.tuple(|param| param.name.clone())
    }

    fn arguments(&self) -> String {
        self.params.iter().map(|param| format!(", {}", param.name)).collect()
    }

    /// What the trait's function comes to when the call completes.
    fn output(&self) -> String {
        match &self.gives {
            GivesText::Nothing => "()".to_owned(),
            GivesText::Value(ty) | GivesText::Fallible(ty) => ty.clone(),
            GivesText::Run { .. } => format!("Run{}", self.run_of().unwrap_or_default()),
        }
    }

    fn trait_signature(&self) -> String {
        let params: String =
            self.params.iter().map(|param| format!(", {}: {}", param.name, Self::host_type(param))).collect();
        format!("(&self, caller: &Caller<'_>{params})")
    }

    /// How a component is called.
    fn call(&self, text: &mut String) -> anyhow::Result<()> {
        let (name, constant) = (self.struct_name(), self.constant());
        let fields: String =
            self.params.iter().map(|param| format!("{}: {},", param.name, Self::host_type(param))).collect();
        let names: Vec<_> = self.params.iter().map(|param| param.name.as_str()).collect();
        let names = names.join(", ");
        let output = match &self.gives {
            GivesText::Run { .. } => format!("Parts{}", self.run_of().unwrap_or_default()),
            _ => self.output(),
        };
        let take = if names.is_empty() { String::new() } else { format!("let Self {{ {names} }} = self;") };
        writeln!(
            text,
            "struct {name} {{ {fields} }}

            impl FunctionCall for {name} {{
                type Found = Face<Function<{}, {}>, {}>;
                type Output = {output};

                const EXPORT: &'static Export = &{constant};

                fn find(code: &Component) -> Option<Self::Found> {{
                    match Function::find(code, NAME, {constant}.name) {{
                        Some(function) => Some(Face::Async(function)),
                        None => {}.map(Face::Twin),
                    }}
                }}

                async fn run(
                    self,
                    found: &Self::Found,
                    accessor: &Accessor<CallState>,
                    instance: Instance,
                    reply: Reply<Self::Output>,
                ) -> wasmtime::Result<()> {{
                    {take}
                    match found {{
                        Face::Async(function) => {{ {} }}
                        Face::Twin(function) => {{ {} }}
                    }}
                    Ok(())
                }}
            }}\n",
            self.async_types(),
            self.async_result(),
            self.twin_function(),
            self.find_twin(),
            self.call_async(),
            self.call_twin(),
        )?;
        Ok(())
    }

    fn async_result(&self) -> String {
        match &self.gives {
            GivesText::Nothing => "()".to_owned(),
            GivesText::Value(ty) | GivesText::Fallible(ty) => format!("({ty},)"),
            GivesText::Run { item, ok, error } => {
                format!("((StreamReader<{item}>, FutureReader<Result<{ok}, {error}>>),)")
            }
        }
    }

    fn twin_function(&self) -> String {
        match &self.gives {
            GivesText::Run { item, ok, error } => {
                format!("twin::TwinFunctions<{}, {item}, {ok}, {error}>", self.twin_types())
            }
            _ => format!("Function<{}, {}>", self.twin_types(), self.async_result()),
        }
    }

    fn find_twin(&self) -> String {
        let constant = self.constant();
        match &self.gives {
            GivesText::Run { .. } => {
                format!("twin::TwinFunctions::find(code, {constant}.name, &{constant}_RUN)")
            }
            _ => format!("Function::find(code, TWIN, {constant}.name)"),
        }
    }

    fn call_async(&self) -> String {
        let mut text = String::new();
        for param in self.params.iter().filter(|param| param.stream) {
            text.push_str(&format!("let {0} = pump::into_guest(accessor, {0})?;", param.name));
        }
        let call = format!("function.call(accessor, instance, {}).await?", self.names());
        text.push_str(&match &self.gives {
            GivesText::Nothing => format!("{call}; reply.send(());"),
            GivesText::Value(_) | GivesText::Fallible(_) => format!("reply.send({call}.0);"),
            GivesText::Run { .. } => {
                format!("let readers = {call}.0; reply.send(pump::run_out_of_guest(accessor, readers)?);")
            }
        });
        text
    }

    fn call_twin(&self) -> String {
        let mut text = String::new();
        for param in self.params.iter().filter(|param| param.stream) {
            text.push_str(&format!("let ({0}, _held) = pump::collect(accessor, {0}).await?;", param.name));
        }
        let names = self.names();
        text.push_str(&match &self.gives {
            GivesText::Nothing => format!("function.call(accessor, instance, {names}).await?; reply.send(());"),
            GivesText::Value(_) | GivesText::Fallible(_) => {
                format!("reply.send(function.call(accessor, instance, {names}).await?.0);")
            }
            GivesText::Run { .. } => format!("function.call(accessor, instance, {names}, reply).await?;"),
        });
        text
    }

    /// How the async function is linked into a caller.
    fn link(&self, text: &mut String) -> anyhow::Result<()> {
        writeln!(
            text,
            "let served = target.clone();
            instance.func_wrap_concurrent(\"{}\", move |accessor: &Accessor<CallState>, {}: {}| {{
                let target = served.clone();
                Box::pin(async move {{
                    let call = calling(accessor);
                    let caller = Caller::guest(&call, {}.host_function());",
            self.wit.name,
            self.names(),
            self.async_types(),
            self.constant(),
        )?;
        for param in self.params.iter().filter(|param| param.stream) {
            writeln!(text, "let {0} = pump::out_of_guest(accessor, {0})?;", param.name)?;
        }
        writeln!(text, "let result = target.{}(&caller{}).await;", self.rust_name(), self.arguments())?;
        text.push_str(match &self.gives {
            GivesText::Nothing => "answer::plain(result)\n",
            GivesText::Value(_) => "Ok((answer::plain(result)?,))\n",
            GivesText::Fallible(_) => "Ok((answer::value(result)?,))\n",
            GivesText::Run { .. } => "Ok((pump::run_into_guest(accessor, answer::run(result)?)?,))\n",
        });
        text.push_str("})\n})?;\n");
        Ok(())
    }

    /// How the twin's function is linked into a caller.
    fn link_twin(&self, text: &mut String) -> anyhow::Result<()> {
        if let GivesText::Run { item, ok, error } = &self.gives {
            writeln!(
                text,
                "twin::link_run::<{item}, {ok}, {error}>(&mut instance, \"{}\", &{}_RUN)?;",
                run_name(&self.wit.name),
                self.constant()
            )?;
        }
        let store = if self.run_of().is_some() { "mut store" } else { "store" };
        writeln!(
            text,
            "let served = target.clone();
            instance.func_wrap_async(\"{}\", move |{store}: wasmtime::StoreContextMut<'_, CallState>, {}: {}| {{
                let target = served.clone();
                Box::new(async move {{
                    let call = store.data().call().clone();
                    let caller = Caller::guest(&call, {}.host_twin());",
            self.wit.name,
            self.names(),
            self.twin_types(),
            self.constant(),
        )?;
        for param in self.params.iter().filter(|param| param.stream) {
            writeln!(text, "let {0} = pump::of_list({0}, &call)?;", param.name)?;
        }
        writeln!(text, "let result = target.{}(&caller{}).await;", self.rust_name(), self.arguments())?;
        text.push_str(match &self.gives {
            GivesText::Nothing => "answer::plain(result)\n",
            GivesText::Value(_) => "Ok((answer::plain(result)?,))\n",
            GivesText::Fallible(_) => "Ok((answer::value(result)?,))\n",
            GivesText::Run { .. } => "Ok((store.data_mut().table.push(TwinRun::new(answer::run(result)?))?,))\n",
        });
        text.push_str("})\n})?;\n");
        Ok(())
    }
}

fn constants(text: &mut String, interface: &Interface, functions: &[FunctionText<'_>]) -> anyhow::Result<()> {
    writeln!(
        text,
        "/// The interface's full name.
        pub const NAME: &str = \"{}\";

        /// The full name of its synchronous twin.
        pub const TWIN: &str = \"{}\";

        /// Every function that [`link()`] and [`link_twin()`] link.",
        interface.full_name, interface.twin_name
    )?;
    let mut list = String::new();
    let mut exports = String::new();
    for function in functions {
        let (constant, name) = (function.constant(), &function.wit.name);
        write!(list, "{constant}.host_function(), {constant}.host_twin(),")?;
        writeln!(exports, "const {constant}: Export = Export {{ interface: NAME, twin: TWIN, name: \"{name}\" }};")?;
        if function.run_of().is_some() {
            let run = run_name(name);
            writeln!(
                exports,
                "const {constant}_RUN: twin::Names = twin::Names {{ interface: TWIN,
                    next: \"[method]{run}.next\", verdict: \"[static]{run}.verdict\" }};"
            )?;
            write!(list, "{constant}_RUN.host_next(), {constant}_RUN.host_verdict(),")?;
        }
    }
    writeln!(text, "pub const FUNCTIONS: &[HostFunction] = &[{list}];\n\n{exports}")?;
    Ok(())
}

fn trait_text(
    text: &mut String,
    source: &Source,
    interface: &Interface,
    functions: &[FunctionText<'_>],
) -> anyhow::Result<()> {
    doc(text, source.docs(&source.resolve.interfaces[interface.id].docs));
    writeln!(text, "pub trait {}: Send + Sync + 'static {{", camel(&interface.name))?;
    for function in functions {
        doc(text, &function.docs);
        text.push_str("///\n/// # Errors\n/// When the call does not complete.\n");
        writeln!(
            text,
            "fn {}{} -> impl Future<Output = Result<{}, CallError>> + Send;",
            function.rust_name(),
            function.trait_signature(),
            function.output()
        )?;
    }
    text.push_str("}\n\n");
    Ok(())
}

/// A component serves the interface: the isolated link.
fn service(text: &mut String, interface: &Interface, functions: &[FunctionText<'_>]) -> anyhow::Result<()> {
    writeln!(text, "impl {} for Arc<Service> {{", camel(&interface.name))?;
    for function in functions {
        let names: Vec<_> = function.params.iter().map(|param| param.name.as_str()).collect();
        let call = if function.run_of().is_some() { "call_run" } else { "call" };
        writeln!(
            text,
            "async fn {}{} -> Result<{}, CallError> {{
                export::{call}(self, caller, {} {{ {} }}).await
            }}\n",
            function.rust_name(),
            function.trait_signature(),
            function.output(),
            function.struct_name(),
            names.join(", ")
        )?;
    }
    text.push_str("}\n\n");
    Ok(())
}

fn link(text: &mut String, interface: &Interface, functions: &[FunctionText<'_>]) -> anyhow::Result<()> {
    let name = camel(&interface.name);
    for (link, constant, what) in [("link", "NAME", "the interface"), ("link_twin", "TWIN", "its synchronous twin")] {
        writeln!(
            text,
            "/// Links {what} to `target`.
            ///
            /// # Errors
            /// When the linker has it already.
            pub fn {link}<T: {name} + Clone>(linker: &mut Linker<CallState>, target: T) -> wasmtime::Result<()> {{
                let mut instance = linker.instance({constant})?;"
        )?;
        for function in functions {
            if link == "link" { function.link(text)? } else { function.link_twin(text)? }
        }
        text.push_str("Ok(())\n}\n\n");
    }
    Ok(())
}
