//! `witan policy`: checks, tests and explains request policies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use witan_authorize::{
    BuiltIn, Cases, ContextSpec, Explanation, Fault, Faults, Outcome, PrincipalKind, PrincipalSpec, Question,
    ResourceSpec, RuleView, SCHEMA, Set, Sources, TrustLevel,
};

use crate::{Global, output};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the schema that policies are held to.
    Schema,
    /// Print the policies that hold where none are configured.
    Default {
        /// Those for a host whose clients do not authenticate.
        #[arg(long)]
        local: bool,
    },
    /// Say whether policies could be loaded, and if not, every fault with its line and remedy.
    #[command(after_help = "Example:
  witan policy check policies --entities policies/entities.json")]
    Check(Check),
    /// Ask policies what a file of cases asks, and say which are decided as they should be.
    #[command(after_help = "Example:
  witan policy test cases.toml --policies policies --entities policies/entities.json

A case in the file:
  [[case]]
  name = \"a viewer cancels nothing\"
  principal = { kind = \"user\", name = \"vera\", tenant = \"acme\", roles = [\"viewer\"] }
  action = \"task.cancel\"
  resource = { kind = \"task\", id = \"7\" }
  expect = \"deny\"")]
    Test(Test),
    /// Say what would be decided, and which rules decide.
    #[command(after_help = "Example:
  witan policy explain --policies policies --principal user:acme/vera --role viewer \\
    --action task.cancel --resource task:7 --owner acme/ann")]
    Explain(Box<Explain>),
}

#[derive(Args)]
struct Check {
    /// The folder of `.cedar` files.
    folder: PathBuf,
    /// The file of entities.
    #[arg(long, value_name = "FILE")]
    entities: Option<PathBuf>,
}

/// Which policies are asked.
#[derive(Args)]
struct Which {
    /// The folder of `.cedar` files.
    #[arg(long, value_name = "FOLDER")]
    policies: PathBuf,
    /// The file of entities.
    #[arg(long, value_name = "FILE")]
    entities: Option<PathBuf>,
}

#[derive(Args)]
struct Test {
    /// Files of cases.
    #[arg(required = true, value_name = "CASES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Explain {
    #[command(flatten)]
    which: Which,
    /// Who: `user`, `key`, `service` or `local`, then the tenant and the name, such as `user:acme/alice`.
    #[arg(long, default_value = "local:local/local", value_parser = principal)]
    principal: PrincipalSpec,
    /// A role of the principal. May be given more than once.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// How far the principal is trusted: `restricted`, `standard`, `elevated` or `privileged`.
    #[arg(long, default_value = "standard", value_parser = word::<TrustLevel>)]
    trust: TrustLevel,
    /// What the principal's credential was made for. May be given more than once.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// What, such as `task.cancel`.
    #[arg(long)]
    action: String,
    /// To what: a kind and an id, such as `task:7`, `intent:summarize`, `origin:https://example.com`; `host`, `policy`.
    #[arg(long, value_parser = resource)]
    resource: ResourceSpec,
    /// Whose the resource is; the principal's tenant if not given.
    #[arg(long, value_name = "TENANT")]
    of: Option<String>,
    /// The id of whoever submitted the task, such as `acme/ann`; the principal if not given.
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// The intent of the task.
    #[arg(long)]
    intent: Option<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// When, such as `2026-01-05T10:00:00Z`; now if not given.
    #[arg(long)]
    time: Option<String>,
    /// The component that asks for the principal.
    #[arg(long)]
    component: Option<String>,
    /// The call is local-only.
    #[arg(long)]
    local_only: bool,
}

/// A word as it stands in files of cases.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
}

fn principal(text: &str) -> Result<PrincipalSpec, String> {
    let parts = text.split_once(':').and_then(|(kind, id)| Some((kind, id.split_once('/')?)));
    let (kind, (tenant, name)) = parts.ok_or("write the kind, the tenant and the name, such as `user:acme/alice`")?;
    Ok(PrincipalSpec {
        kind: word::<PrincipalKind>(kind)?,
        name: name.to_owned(),
        tenant: tenant.to_owned(),
        roles: Vec::new(),
        trust: TrustLevel::default(),
        scopes: Vec::new(),
    })
}

fn resource(text: &str) -> Result<ResourceSpec, String> {
    let (kind, id) = text.split_once(':').unwrap_or((text, ""));
    Ok(ResourceSpec { kind: word(kind)?, id: id.to_owned(), tenant: None, owner: None, intent: None })
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Schema => output::line(SCHEMA.trim_end()),
        Command::Default { local } => {
            let own = if *local { BuiltIn::Local } else { BuiltIn::Roles };
            output::line(own.text().trim_end());
        }
        Command::Check(arguments) => return check(arguments, global),
        Command::Test(arguments) => return test(arguments, global),
        Command::Explain(arguments) => return explain(arguments, global),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(folder: &Path, entities: Option<&Path>) -> anyhow::Result<Result<Set, Faults>> {
    Ok(Set::new(&Sources::read(folder, entities)?))
}

fn check(arguments: &Check, global: &Global) -> anyhow::Result<ExitCode> {
    let checked = read(&arguments.folder, arguments.entities.as_deref())?;
    let (faults, warnings, digest) = match &checked {
        Ok(set) => (&[][..], set.warnings(), Some(set.digest())),
        Err(Faults(faults)) => (&faults[..], &[][..], None),
    };
    if global.json {
        output::json(&serde_json::json!({ "digest": digest, "faults": faults, "warnings": warnings }));
    } else {
        print_faults(faults, "error");
        print_faults(warnings, "warning");
    }
    let Ok(set) = checked else { return Ok(ExitCode::FAILURE) };
    if !global.json {
        let (policies, entities) = set.size();
        output::line(&format!("{policies} policies and {entities} entities: {}", set.digest()));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_faults(faults: &[Fault], label: &str) {
    for fault in faults {
        output::line(&format!("{label}: {fault}"));
    }
}

fn test(arguments: &Test, global: &Global) -> anyhow::Result<ExitCode> {
    let set = read(&arguments.which.policies, arguments.which.entities.as_deref())??;
    let mut outcomes = Vec::new();
    for file in &arguments.files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let cases = Cases::parse(&text).with_context(|| format!("cannot use `{}`", file.display()))?;
        outcomes.extend(cases.run(&set, None, now()));
    }
    print_outcomes(&outcomes, global);
    let passed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_outcomes(outcomes: &[Outcome], global: &Global) {
    if global.json {
        return output::json(&outcomes);
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        output::line(&format!("failed: {}: {}", outcome.name, outcome.fault.as_deref().unwrap_or_default()));
        for rule in outcome.explanation.iter().flat_map(|explanation| &explanation.determining) {
            output::line(&format!("  {}", in_words(rule)));
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    output::line(&format!("{} of {} cases passed", outcomes.len() - failed, outcomes.len()));
}

fn explain(arguments: &Explain, global: &Global) -> anyhow::Result<ExitCode> {
    let set = read(&arguments.which.policies, arguments.which.entities.as_deref())??;
    let explanation = set.explain(&arguments.question().understand(now())?.request(), None);
    print_explanation(&explanation, global);
    Ok(ExitCode::SUCCESS)
}

impl Explain {
    fn question(&self) -> Question {
        Question {
            principal: PrincipalSpec {
                roles: self.role.clone(),
                trust: self.trust,
                scopes: self.scope.clone(),
                ..self.principal.clone()
            },
            action: self.action.clone(),
            resource: ResourceSpec {
                tenant: self.of.clone(),
                owner: self.owner.clone(),
                intent: self.intent.clone(),
                ..self.resource.clone()
            },
            context: ContextSpec {
                time: self.time.clone(),
                local_only: self.local_only,
                source: self.source.clone(),
                intent: self.intent.clone(),
                component: self.component.clone(),
                ..ContextSpec::default()
            },
        }
    }
}

fn print_explanation(explanation: &Explanation, global: &Global) {
    if global.json {
        return output::json(explanation);
    }
    let Explanation { principal, action, resource, reason, obligations, .. } = explanation;
    let verdict = if explanation.allow { "allowed" } else { "denied" };
    output::line(&format!("{verdict}: {principal} {action} {resource}: {reason}"));
    for rule in &explanation.determining {
        output::line(&format!("  by {}", in_words(rule)));
        rule.text.lines().for_each(|line| output::line(&format!("    {line}")));
    }
    if obligations.local_only {
        output::line("  the call is local-only");
    }
    if let Some(budget) = obligations.budget_micros {
        output::line(&format!("  the call may spend {budget} millionths of a US dollar"));
    }
    for rule in &explanation.others {
        let why = match (&rule.error, rule.holds) {
            (Some(error), _) => format!("could not be asked: {error}"),
            (None, Some(true)) => "holds, and did not decide".to_owned(),
            _ => "does not hold".to_owned(),
        };
        output::line(&format!("  not by {}: it {why}", in_words(rule)));
    }
}

fn in_words(rule: &RuleView) -> String {
    format!("{} `{}` at {}:{}", rule.effect, rule.id, rule.file, rule.line)
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
