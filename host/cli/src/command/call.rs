//! `witan call`: calls one function of a component, with WAVE values in and out.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use wasmtime::component::{
    Accessor, Instance, Type, Val,
    types::{ComponentFunc, ComponentItem},
};
use witan_capability::{CallError, CallState};
use witan_engine::{Invocation, Reply};
use witan_loader::Loaded;
use witan_tasks::TaskError;

use crate::{
    Global,
    flags::Flags,
    foreign::Ready,
    host::Mode,
    output,
    wave::{self, Resources},
};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A `.wasm` file, or a component of the system.
    component: String,
    /// The function, as `package:interface/name#function`; the version may be left out. Without it, the functions are
    /// listed.
    function: Option<String>,
    /// The arguments as WAVE values: one for each parameter, or one text with commas between the values.
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    values: Vec<String>,
    #[command(flatten)]
    flags: Flags,
}

const EXAMPLES: &str = "WAVE is the text form of component values: 1, true, \"text\", 'c', [1, 2], {name: \"a\", tags:
[\"b\"]}, (1, \"a\"), some(1), none, ok(1), err(\"why\"), a-case(1), {flag-a, flag-b}. The
result is printed in the same form; the exit code is 1 if it is an `err`.

Examples:
  witan call adder.wasm                     list its functions
  witan call adder.wasm 'docs:adder/add#add' 1 2
  witan call adder.wasm 'docs:adder/add#add' '1, 2'
  witan call tool.wasm 'acme:tool/text@1.0.0#count' '\"some text\"' --dir docs
  witan call tool-files                     list those of a component of the system";

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let (ready, answer) = perform(arguments, global, Mode::Enforce).await?;
    ready.tell_refusals();
    Ok(match answer {
        Answer::Functions(functions) if global.json => {
            output::json(&serde_json::json!({ "functions": functions }));
            ExitCode::SUCCESS
        }
        Answer::Functions(functions) => {
            output::line(&functions.join("\n"));
            ExitCode::SUCCESS
        }
        Answer::Result { function, texts, failed } => {
            match global.json {
                true => output::json(
                    &serde_json::json!({ "function": function, "result": texts.first(), "failed": failed }),
                ),
                false => texts.iter().for_each(|text| output::line(text)),
            }
            if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Answer::Error(error) => ExitCode::from(ready.report(&error, global)),
    })
}

/// What a call led to.
pub(crate) enum Answer {
    /// No function was named.
    Functions(Vec<String>),
    /// The function returned.
    Result {
        /// Its full name.
        function: String,
        /// WAVE; none if the function returns nothing.
        texts: Vec<String>,
        /// Whether the result is an `err`.
        failed: bool,
    },
    /// The call did not complete.
    Error(TaskError),
}

impl Answer {
    /// For a person who is not interested in more.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Functions(functions) => functions.join("\n"),
            Self::Result { texts, .. } => texts.join("\n"),
            Self::Error(error) => error.message.clone(),
        }
    }
}

/// Makes the call.
pub(crate) async fn perform(arguments: Arguments, global: &Global, mode: Mode) -> anyhow::Result<(Ready, Answer)> {
    let ready = Ready::named(&arguments.component, &arguments.flags, global, mode).await?;
    let loaded = ready.loaded()?;
    let functions = Functions::of(loaded);
    let Some(wanted) = &arguments.function else {
        return Ok((ready, Answer::Functions(functions.signatures(|_| true))));
    };
    let function = functions.find(wanted)?;
    let parameters: Vec<(String, Type)> = function.ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
    let results: Vec<Type> = function.ty.results().collect();
    let values = wave::arguments(&parameters, &arguments.values)
        .and_then(|values| wave::check_results(&results).map(|()| values))
        .with_context(|| format!("cannot call `{}`", functions.signature(function)))?;
    let call = Call {
        interface: function.interface.clone(),
        function: function.name.clone(),
        values,
        results: vec![Val::Bool(false); results.len()],
    };
    let account = ready.host.engine.open_account(ready.limits());
    let call = loaded.service.call_plain(&ready.context, &account, call);
    let result = tokio::select! {
        result = call => result,
        _ = tokio::signal::ctrl_c() => Err(CallError::Cancelled),
    };
    let answer = match result {
        Ok(values) => {
            let texts = values.iter().map(Val::to_wave).collect::<Result<_, _>>()?;
            let failed = matches!(values.first(), Some(Val::Result(Err(_))));
            Answer::Result { function: function.path(), texts, failed }
        }
        Err(error) => Answer::Error(error.into()),
    };
    Ok((ready, answer))
}

/// A function that a component exports.
struct Function {
    /// The interface it stands in, unless it is exported by itself.
    interface: Option<String>,
    name: String,
    ty: ComponentFunc,
}

impl Function {
    fn path(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{interface}#{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether a person who writes `text` may mean this function.
    fn is(&self, text: &str) -> bool {
        match (text.split_once('#'), &self.interface) {
            (Some((wanted, name)), Some(interface)) => {
                name == self.name && (wanted == interface || Some(wanted) == interface.split('@').next())
            }
            (None, _) => text == self.name,
            (Some(_), None) => false,
        }
    }
}

/// The functions that a component exports.
struct Functions {
    all: Vec<Function>,
    resources: Resources,
}

impl Functions {
    /// What `loaded` exports. Methods of resources are left out: they need a handle, which has no text.
    fn of(loaded: &Loaded) -> Self {
        let version = loaded.service.current();
        let component = version.pre().component();
        let (ty, engine) = (component.component_type(), component.engine());
        let mut all = Vec::new();
        for (name, item) in ty.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty) => all.push(Function { interface: None, name: name.to_owned(), ty }),
                ComponentItem::ComponentInstance(instance) => {
                    for (function, item) in instance.exports(engine) {
                        if let ComponentItem::ComponentFunc(ty) = item.ty
                            && !function.starts_with('[')
                        {
                            all.push(Function { interface: Some(name.to_owned()), name: function.to_owned(), ty });
                        }
                    }
                }
                _ => {}
            }
        }
        Self { all, resources: Resources::of(&ty, engine) }
    }

    /// `function` as WIT writes it.
    fn signature(&self, function: &Function) -> String {
        let write = |ty: &Type| self.resources.write(ty);
        let parameters: Vec<_> = function.ty.params().map(|(name, ty)| format!("{name}: {}", write(&ty))).collect();
        let result: String = function.ty.results().map(|ty| format!(" -> {}", write(&ty))).collect();
        let prefix = if function.ty.async_() { "async func" } else { "func" };
        format!("{}: {prefix}({}){result}", function.path(), parameters.join(", "))
    }

    fn signatures(&self, which: impl Fn(&Function) -> bool) -> Vec<String> {
        self.all.iter().filter(|function| which(function)).map(|function| self.signature(function)).collect()
    }

    fn find(&self, wanted: &str) -> anyhow::Result<&Function> {
        let list = |which: &dyn Fn(&Function) -> bool| match self.signatures(which) {
            none if none.is_empty() => " none".to_owned(),
            lines => format!("\n  {}", lines.join("\n  ")),
        };
        let fits = |function: &Function| function.is(wanted);
        let mut fitting = self.all.iter().filter(|function| fits(function));
        match (fitting.next(), fitting.next()) {
            (Some(function), None) => Ok(function),
            (None, _) => {
                anyhow::bail!("there is no function `{wanted}`; the functions are:{}", list(&|_| true))
            }
            _ => anyhow::bail!("`{wanted}` may be any of these; write it in full:{}", list(&fits)),
        }
    }
}

/// The call of a function whose types are known only now.
struct Call {
    interface: Option<String>,
    function: String,
    values: Vec<Val>,
    /// Room for the results; what it holds before is of no meaning.
    results: Vec<Val>,
}

impl Invocation for Call {
    type Output = Vec<Val>;

    async fn run(
        mut self,
        store: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Vec<Val>>,
    ) -> wasmtime::Result<()> {
        let function = store.with(|mut store| {
            let interface = self.interface.as_ref().map(|name| instance.get_export_index(&mut store, None, name));
            let index = match interface {
                Some(None) => None,
                Some(Some(interface)) => instance.get_export_index(&mut store, Some(&interface), &self.function),
                None => instance.get_export_index(&mut store, None, &self.function),
            };
            index.and_then(|index| instance.get_func(&mut store, index))
        });
        let Some(function) = function else {
            return Err(CallError::Invalid(format!("there is no function `{}`", self.function)).into());
        };
        function.call_concurrent(store, &self.values, &mut self.results).await?;
        reply.send(self.results);
        Ok(())
    }
}
