//! `witan policy`: checks, tests and explains request policies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use witan_api::{List, PolicyTest, PolicyTested, Rollback, ShadowState};
use witan_authorize::{
    BuiltIn, Candidate, Cases, ContextSpec, Explanation, Fault, Faults, Outcome, PrincipalKind, PrincipalSpec,
    Question, ResourceSpec, RuleView, SCHEMA, Set, Sources, TrustLevel, VersionView,
};

use crate::{Global, client::Client, command::running::Target, output};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the schema that policies are held to.
    Schema,
    /// Print the policies that hold where none are configured, to begin a file of your own with.
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
    /// List the versions of the policies that a running host keeps.
    List(Kept),
    /// Show a version of the policies with its texts.
    Show(Show),
    /// Have a running host load its policies again. A set at fault changes nothing.
    Reload(Target),
    /// Have a running host put a former version of its policies back.
    #[command(after_help = "Examples:
  witan policy rollback                     the version before the one that decides
  witan policy rollback 3")]
    Rollback(Back),
    /// Have a running host ask a candidate beside its policies, say how that does, or end it.
    #[command(after_help = "Examples:
  witan policy shadow policies/next         begin
  witan policy shadow                       how it does
  witan policy shadow --end")]
    Shadow(Shadow),
}

#[derive(Args)]
struct Kept {
    #[command(flatten)]
    target: Target,
    /// Versions at most.
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    target: Target,
    /// The version; the one that decides, if not given.
    version: Option<u64>,
}

#[derive(Args)]
struct Back {
    #[command(flatten)]
    target: Target,
    /// The version; the one before the one that decides, if not given.
    version: Option<u64>,
}

#[derive(Args)]
struct Shadow {
    #[command(flatten)]
    target: Target,
    /// The folder of the candidate's `.cedar` files.
    folder: Option<PathBuf>,
    /// The candidate's file of entities.
    #[arg(long, value_name = "FILE", requires = "folder")]
    entities: Option<PathBuf>,
    /// A version that the host keeps, as the candidate.
    #[arg(long, conflicts_with = "folder")]
    version: Option<u64>,
    /// Ask no candidate any more.
    #[arg(long, conflicts_with_all = ["folder", "version"])]
    end: bool,
    /// Differences to show.
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
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
    /// The folder of `.cedar` files. Without it, those of the host that runs on this folder's system.
    #[arg(long, value_name = "FOLDER", conflicts_with = "server")]
    policies: Option<PathBuf>,
    /// The file of entities.
    #[arg(long, value_name = "FILE", requires = "policies")]
    entities: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
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

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Schema => output::line(SCHEMA.trim_end()),
        Command::Default { local } => {
            let own = if *local { BuiltIn::Local } else { BuiltIn::Roles };
            output::line(own.to_copy().trim_end());
        }
        Command::Check(arguments) => return check(arguments, global),
        Command::Test(arguments) => return test(arguments, global).await,
        Command::Explain(arguments) => explain(arguments, global).await?,
        Command::List(arguments) => list(arguments, global).await?,
        Command::Show(arguments) => show(arguments, global).await?,
        Command::Reload(target) => {
            let view = target.client(global)?.post("v1/policies/reload", &serde_json::json!({})).await?;
            print_active(&view, global);
        }
        Command::Rollback(arguments) => {
            let body = Rollback { version: arguments.version };
            let view = arguments.target.client(global)?.post("v1/policies/rollback", &body).await?;
            print_active(&view, global);
        }
        Command::Shadow(arguments) => shadow(arguments, global).await?,
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

async fn test(arguments: &Test, global: &Global) -> anyhow::Result<ExitCode> {
    let mut all = Cases::default();
    for file in &arguments.files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let cases = Cases::parse(&text).with_context(|| format!("cannot use `{}`", file.display()))?;
        all.cases.extend(cases.cases);
    }
    let outcomes = match &arguments.which.policies {
        Some(folder) => all.run(&read(folder, arguments.which.entities.as_deref())??, None, now()),
        None => ask(&arguments.which.target.client(global)?, all, Vec::new()).await?.outcomes,
    };
    print_outcomes(&outcomes, global);
    let passed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(client: &Client, Cases { cases }: Cases, questions: Vec<Question>) -> anyhow::Result<PolicyTested> {
    client.post("v1/policies/test", &PolicyTest { cases, questions, candidate: None }).await
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

async fn explain(arguments: &Explain, global: &Global) -> anyhow::Result<()> {
    let question = arguments.question();
    // What is no question is said here, whoever would be asked.
    let asked = question.understand(now())?;
    let explanation = match &arguments.which.policies {
        Some(folder) => read(folder, arguments.which.entities.as_deref())??.explain(&asked.request(), None),
        None => {
            let client = arguments.which.target.client(global)?;
            let mut answer = ask(&client, Cases::default(), vec![question]).await?;
            answer.explanations.pop().context("the host explained nothing")?
        }
    };
    print_explanation(&explanation, global);
    Ok(())
}

async fn list(arguments: &Kept, global: &Global) -> anyhow::Result<()> {
    let client = arguments.target.client(global)?;
    let versions: List<VersionView> = client.get(&format!("v1/policies?limit={}", arguments.limit)).await?;
    if global.json {
        output::json(&versions.data);
        return Ok(());
    }
    versions.data.iter().for_each(|version| output::line(&in_a_line(version)));
    Ok(())
}

fn in_a_line(view: &VersionView) -> String {
    let VersionView { version, digest, origin, loaded_by, .. } = view;
    let time = i64::try_from(view.loaded_at_ms).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    let time = time.map_or_else(String::new, |time| format!("{time:.0}"));
    let mark = match (view.active, view.pinned) {
        (true, true) => "  decides, put back",
        (true, false) => "  decides",
        _ => "",
    };
    format!("{version:>4}  {time}  {:.19}  {origin}, loaded by {loaded_by}{mark}", digest)
}

fn print_active(view: &VersionView, global: &Global) {
    match global.json {
        true => output::json(view),
        false => output::line(&in_a_line(view)),
    }
}

async fn show(arguments: &Show, global: &Global) -> anyhow::Result<()> {
    let version = arguments.version.map_or_else(|| "active".to_owned(), |version| version.to_string());
    let view: VersionView = arguments.target.client(global)?.get(&format!("v1/policies/{version}")).await?;
    if global.json {
        output::json(&view);
        return Ok(());
    }
    let sources = view.sources.unwrap_or_default();
    for (name, text) in &sources.policies {
        output::line(&format!("// {name}\n{}", text.trim_end()));
    }
    if let Some(entities) = &sources.entities {
        output::line(&format!("// entities\n{}", entities.trim_end()));
    }
    Ok(())
}

async fn shadow(arguments: &Shadow, global: &Global) -> anyhow::Result<()> {
    let client = arguments.target.client(global)?;
    if arguments.end {
        return client.delete("v1/policies/shadow").await;
    }
    let candidate = match (&arguments.folder, arguments.version) {
        (Some(folder), _) => Some(Candidate::Sources(Sources::read(folder, arguments.entities.as_deref())?)),
        (None, version) => version.map(Candidate::Version),
    };
    let state: ShadowState = match candidate {
        Some(candidate) => client.post("v1/policies/shadow", &candidate).await?,
        None => client.get(&format!("v1/policies/shadow?limit={}", arguments.limit)).await?,
    };
    if global.json {
        output::json(&state);
        return Ok(());
    }
    let Some(view) = state.shadow else {
        output::line("no candidate is asked; begin with `witan policy shadow FOLDER`");
        return Ok(());
    };
    let (asked, allow, deny, oblige) = (view.asked, view.would_allow, view.would_deny, view.would_oblige);
    output::line(&format!(
        "{}: asked {asked} times, would have allowed {allow} more, denied {deny} more, and obliged {oblige} otherwise",
        view.origin
    ));
    for difference in &view.differences {
        let verdict = |allowed| if allowed { "allowed" } else { "denied" };
        output::line(&format!(
            "  {} {} {}: {} by {}, would be {} by {}",
            difference.principal,
            difference.action,
            difference.resource,
            verdict(difference.allowed),
            named(&difference.by),
            verdict(difference.would_allow),
            named(&difference.would_by)
        ));
    }
    Ok(())
}

fn named(rules: &[String]) -> String {
    if rules.is_empty() { "no rule".to_owned() } else { rules.join(", ") }
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
