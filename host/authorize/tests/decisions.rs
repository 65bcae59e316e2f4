//! What sets decide, refuse and explain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use witan_authorize::{
    Action, Authorizer, BuiltIn, Cases, Context, Obligations, Principal, PrincipalKind, Request, Resource, Set,
    Sources, TrustLevel,
};

fn sources(text: &str) -> Sources {
    Sources { policies: BTreeMap::from([("rules.cedar".to_owned(), text.to_owned())]), entities: None }
}

fn with_entities(text: &str, entities: &str) -> Sources {
    Sources { entities: Some(entities.to_owned()), ..sources(text) }
}

fn user(tenant: &str, name: &str, roles: &[&str]) -> Principal {
    Principal {
        kind: PrincipalKind::User,
        name: name.into(),
        tenant: tenant.into(),
        roles: roles.iter().map(|role| (*role).into()).collect(),
        trust: TrustLevel::Standard,
        scopes: [].into(),
    }
}

fn request<'a>(principal: &'a Principal, action: Action, resource: Resource<'a>) -> Request<'a> {
    Request { principal, action, resource, context: Context::default() }
}

fn task<'a>(tenant: &'a str, owner: &'a str) -> Resource<'a> {
    Resource::Task { id: "7".into(), tenant: tenant.into(), owner: owner.into(), intent: "summarize".into() }
}

fn allows(set: &Set, request: &Request<'_>) -> bool {
    set.explain(request, None).allow
}

/// Every fault of a set that must have some, as `file:line: message`.
fn faults(sources: &Sources) -> Vec<String> {
    let faults = Set::new(sources).expect_err("it is at fault").0;
    assert!(faults.iter().all(|fault| !fault.help.is_empty()), "{faults:?}");
    faults.iter().map(|fault| format!("{}:{}: {}", fault.file, fault.line.unwrap_or(0), fault.message)).collect()
}

#[test]
fn the_local_owner_may_do_everything_and_nobody_else_anything() {
    let set = Set::new(&BuiltIn::Local.sources()).unwrap();
    let (local, other) = (Principal::local(), user("acme", "alice", &["admin"]));
    for action in Action::ALL {
        for kind in action.resources() {
            for principal in [&local, &other] {
                let resource = resource(*kind, &principal.tenant);
                let may = allows(&set, &request(principal, *action, resource));
                assert_eq!(may, principal.kind == PrincipalKind::Local, "{action} {kind:?} {principal}");
            }
        }
    }
    let elsewhere = Principal { tenant: "acme".into(), ..Principal::local() };
    assert!(!allows(&set, &request(&elsewhere, Action::SystemRead, Resource::Host)));
}

fn resource(kind: witan_authorize::ResourceKind, tenant: &str) -> Resource<'static> {
    use witan_authorize::ResourceKind as Kind;
    let tenant = || tenant.to_owned().into();
    match kind {
        Kind::Intent => Resource::Intent("summarize".into()),
        Kind::Task => Resource::Task { id: "7".into(), tenant: tenant(), owner: "x/y".into(), intent: "i".into() },
        Kind::Tenant => Resource::Tenant(tenant()),
        Kind::Tool => Resource::Tool("files.read".into()),
        Kind::Model => Resource::Model("m".into()),
        Kind::Component => Resource::Component("c".into()),
        Kind::Mount => Resource::Mount("/hello".into()),
        Kind::Origin => Resource::Origin { scheme: "https".into(), host: "example.com".into(), port: 443 },
        Kind::Policy => Resource::Policy,
        Kind::AuditLog => Resource::AuditLog(tenant()),
        Kind::Host => Resource::Host,
    }
}

#[test]
fn the_default_roles_are_what_their_file_of_cases_says() {
    let set = Set::new(&BuiltIn::Roles.sources()).unwrap();
    let cases = Cases::parse(include_str!("default.cases.toml")).unwrap();
    for outcome in cases.run(&set, None, 0) {
        assert!(outcome.passed, "{}: {:?}", outcome.name, outcome.fault);
    }
}

/// Whatever a set permits, in words and by code.
#[test]
fn no_policy_crosses_from_one_tenant_to_another() {
    let set = Set::new(&sources("permit (principal, action, resource);")).unwrap();
    let alice = user("acme", "alice", &["admin"]);
    for action in Action::ALL {
        for kind in action.resources().iter().filter(|kind| kind.has_tenant()) {
            assert!(allows(&set, &request(&alice, *action, resource(*kind, "acme"))), "{action}");
            let explanation = set.explain(&request(&alice, *action, resource(*kind, "globex")), None);
            assert!(!explanation.allow, "{action}");
            assert!(explanation.determining[0].id.starts_with("witan.tenant-isolation"), "{explanation:?}");
            assert_eq!(explanation.reason, "no policy permits it", "it must not say that the resource is there");
        }
    }
}

/// The rule that holds in every set does so without the code, too.
#[test]
fn the_rule_of_isolation_holds_by_itself() {
    let text = "@id(\"all\") permit (principal, action, resource);";
    let set = Set::new(&sources(text)).unwrap();
    let alice = user("acme", "alice", &[]);
    let explanation = set.explain(&request(&alice, Action::TaskRead, task("globex", "globex/bob")), None);
    let held = explanation.others.iter().chain(&explanation.determining);
    let held: Vec<_> = held.filter(|rule| rule.holds == Some(true)).map(|rule| rule.id.as_str()).collect();
    assert!(held.contains(&"witan.tenant-isolation") && held.contains(&"all"), "{held:?}");
}

#[test]
fn rules_see_what_a_credential_was_made_for() {
    let text = "permit (principal, action, resource) when { principal.scopes.contains(\"tasks:write\") };";
    let set = Set::new(&sources(text)).unwrap();
    for (scopes, may) in [(&["tasks:write", "tasks:read"][..], true), (&["tasks:read"][..], false), (&[][..], false)] {
        let scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        let key = Principal { scopes, ..user("acme", "ci", &[]) };
        assert_eq!(allows(&set, &request(&key, Action::TaskCreate, Resource::Intent("i".into()))), may, "{key:?}");
    }
}

#[test]
fn entities_give_roles_groups_and_labels() {
    let text = r#"
        @id("fleet") permit (principal in Group::"acme-team", action == Action::"tool.call", resource in Group::"safe");
        @id("labels") permit (principal, action == Action::"model.use", resource)
        when { resource has labels && resource.labels.contains("cheap") && principal has labels
            && principal.labels.contains("trial") };
        @id("implied") permit (principal in Role::"reader", action == Action::"task.list", resource);
    "#;
    let entities = r#"[
        {"uid": {"type": "User", "id": "acme/alice"}, "attrs": {"labels": ["trial"]},
         "parents": [{"type": "Group", "id": "acme-team"}]},
        {"uid": {"type": "Tool", "id": "files.read"}, "attrs": {}, "parents": [{"type": "Group", "id": "safe"}]},
        {"uid": {"type": "Model", "id": "small"}, "attrs": {"labels": ["cheap"]}, "parents": []},
        {"uid": {"type": "Role", "id": "writer"}, "attrs": {}, "parents": [{"type": "Role", "id": "reader"}]}
    ]"#;
    let set = Set::new(&with_entities(text, entities)).unwrap();
    let (alice, bob) = (user("acme", "alice", &[]), user("acme", "bob", &["writer"]));
    // The same name in another tenant is another.
    let other = user("globex", "alice", &[]);
    let call = |principal, tool: &'static str| {
        allows(&set, &request(principal, Action::ToolCall, Resource::Tool(tool.into())))
    };
    assert!(call(&alice, "files.read") && !call(&alice, "files.write") && !call(&bob, "files.read"));
    assert!(!call(&other, "files.read"));
    let ask = |principal, model: &'static str| {
        allows(&set, &request(principal, Action::ModelUse, Resource::Model(model.into())))
    };
    assert!(ask(&alice, "small") && !ask(&alice, "large") && !ask(&bob, "small"));
    assert!(allows(&set, &request(&bob, Action::TaskList, Resource::Tenant("acme".into()))));
    assert!(!allows(&set, &request(&alice, Action::TaskList, Resource::Tenant("acme".into()))));
}

#[test]
fn the_context_reaches_the_rules() {
    let text = r#"
        permit (principal, action == Action::"task.create", resource) when {
            context.time.weekday == 1 && context.time.hour >= 9 && context.time.hour < 17 && context.time.minute == 30
            && context has source && context.source.isInRange(ip("10.0.0.0/8"))
            && context.privacy == "local-only" && context.risk == "medium"
            && context has budget_micros && context.budget_micros <= 1000000
            && context has route && context.route == "POST /v1/tasks"
            && context has intent && context.intent == "summarize"
        };"#;
    let set = Set::new(&sources(text)).unwrap();
    let alice = user("acme", "alice", &[]);
    // Monday, 2026-01-05T10:30:00Z.
    let context = Context {
        epoch: 1_767_609_000,
        local_only: true,
        source: Some("10.1.2.3".parse().unwrap()),
        intent: Some("summarize".into()),
        route: Some("POST /v1/tasks".into()),
        budget_micros: Some(1_000_000),
        ..Context::default()
    };
    let ask = |context: Context<'_>| {
        let intent = Resource::Intent("summarize".into());
        allows(&set, &Request { principal: &alice, action: Action::TaskCreate, resource: intent, context })
    };
    assert!(ask(context.clone()));
    let mapped = Some("::ffff:10.1.2.3".parse().unwrap());
    assert!(ask(Context { source: mapped, ..context.clone() }), "a mapped address is the address");
    assert!(!ask(Context { epoch: context.epoch + 86_400, ..context.clone() }));
    assert!(!ask(Context { epoch: context.epoch - 7_200, ..context.clone() }));
    assert!(!ask(Context { source: Some("192.168.0.1".parse().unwrap()), ..context.clone() }));
    assert!(!ask(Context { source: None, ..context.clone() }));
    assert!(!ask(Context { budget_micros: Some(1_000_001), ..context.clone() }));
    assert!(!ask(Context { local_only: false, ..context }));
}

#[test]
fn obligations_of_all_rules_that_permit_add_up_and_the_narrowest_holds() {
    let text = r#"
        @id("a") @budget_micros("500") permit (principal, action == Action::"task.create", resource);
        @id("b") @budget_micros("200") @privacy("local-only")
        permit (principal in Role::"intern", action == Action::"task.create", resource);
        @id("c") forbid (principal in Role::"nobody", action, resource);
    "#;
    let set = Set::new(&sources(text)).unwrap();
    let create = |principal: &Principal| {
        set.explain(&request(principal, Action::TaskCreate, Resource::Intent("i".into())), None).obligations
    };
    let none = Obligations::default();
    assert_eq!(create(&user("acme", "a", &[])), Obligations { budget_micros: Some(500), ..none });
    let both = Obligations { budget_micros: Some(200), local_only: true };
    assert_eq!(create(&user("acme", "a", &["intern"])), both);
    assert_eq!(create(&user("acme", "a", &["intern", "nobody"])), none);
}

#[test]
fn a_rule_that_cannot_be_asked_allows_nothing() {
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("overflow") permit (principal, action == Action::"task.create", resource)
        when { context.time.epoch + 9223372036854775807 > 0 };"#;
    let set = Set::new(&sources(text)).unwrap();
    let alice = user("acme", "alice", &[]);
    let context = Context { epoch: 1, ..Context::default() };
    let create = Request { context, ..request(&alice, Action::TaskCreate, Resource::Intent("i".into())) };
    let explanation = set.explain(&create, None);
    assert!(!explanation.allow && explanation.reason.contains("could not be asked"), "{explanation:?}");
    assert!(explanation.others.iter().any(|rule| rule.id == "overflow" && rule.error.is_some()));
    assert!(allows(&set, &request(&alice, Action::SystemRead, Resource::Host)), "others are not its concern");
}

#[test]
fn an_action_on_what_it_is_not_done_to_is_denied() {
    let set = Set::new(&sources("permit (principal, action, resource);")).unwrap();
    let alice = user("acme", "alice", &[]);
    assert!(!allows(&set, &request(&alice, Action::TaskCreate, Resource::Host)));
}

#[test]
fn faults_name_the_file_the_line_and_the_remedy() {
    let broken = "permit (principal, action, resource);\n\npermit (principal action, resource);";
    let found = faults(&sources(broken));
    assert!(found[0].starts_with("rules.cedar:3: unexpected token"), "{found:?}");

    let unknown = "permit (principal, action, resource)\nwhen { principal.size > 3 };";
    let found = faults(&sources(unknown));
    assert!(found[0].starts_with("rules.cedar:2: ") && found[0].contains("size"), "{found:?}");

    let action = "// one\npermit (principal, action == Action::\"task.creat\", resource);";
    let found = faults(&sources(action));
    assert!(found[0].starts_with("rules.cedar:2: ") && found[0].contains("task.creat"), "{found:?}");

    let typo = "@privcy(\"local-only\")\npermit (principal, action, resource);";
    assert_eq!(faults(&sources(typo)), ["rules.cedar:1: the annotation `@privcy` is not known"]);
    let widens = "@privacy(\"standard\") permit (principal, action, resource);";
    assert_eq!(faults(&sources(widens)), ["rules.cedar:1: `standard` is no privacy that narrows"]);
    let idle = "@privacy(\"local-only\") permit (principal, action == Action::\"task.read\", resource);";
    assert!(faults(&sources(idle))[0].contains("this rule allows none"));
    let forbid = "@budget_micros(\"1\") forbid (principal, action, resource);";
    assert!(faults(&sources(forbid))[0].contains("this rule allows none"));
    let reserved = "@id(\"witan.tenant-isolation\") permit (principal, action, resource);";
    assert!(faults(&sources(reserved)).iter().any(|fault| fault.contains("may not be called")));
    let twice = "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);";
    assert_eq!(faults(&sources(twice)), ["rules.cedar:2: two rules are called `a`; the other is at rules.cedar:1"]);
    let template = "permit (principal == ?principal, action, resource);";
    assert!(faults(&sources(template))[0].contains("templates are not linked"));
}

#[test]
fn faults_of_entities_name_the_line_and_the_remedy() {
    let all = "permit (principal, action, resource);";
    let one = |entity: &str| {
        let found = faults(&with_entities(
            all,
            &format!(
                "[\n{{\"uid\": {{\"type\": \"Role\", \"id\": \"r\"}}, \"attrs\": {{}}, \"parents\": []}},\n{entity}]"
            ),
        ));
        assert!(found[0].starts_with("entities.json:3: "), "{found:?}");
        found.join("\n")
    };
    let user = |attributes: &str, parents: &str| {
        one(&format!(
            "{{\"uid\": {{\"type\": \"User\", \"id\": \"acme/alice\"}}, \"attrs\": {{{attributes}}}, \"parents\": [{parents}]}}"
        ))
    };
    assert!(user("\"trust\": \"privileged\"", "").contains("`trust` of \"acme/alice\" is not for a file to say"));
    assert!(user("", "{\"type\": \"Tenant\", \"id\": \"globex\"}").contains("cannot be put into a tenant"));
    assert!(user("\"colour\": \"red\"", "").contains("colour"));
    assert!(user("", "{\"type\": \"Tool\", \"id\": \"t\"}").contains("Tool"));
    let nameless = r#"{"uid": {"type": "User", "id": "alice"}, "attrs": {}, "parents": []}"#;
    assert!(one(nameless).contains("does not say of which tenant it is"));
    let made = r#"{"uid": {"type": "Task", "id": "1"}, "attrs": {}, "parents": []}"#;
    assert!(one(made).contains("is made by the host"));
    assert!(one("7").contains("this is no entity"));
    assert!(faults(&with_entities(all, "{}"))[0].contains("this is no list of entities"));
    let round = r#"[{"uid": {"type": "Role", "id": "a"}, "attrs": {}, "parents": [{"type": "Role", "id": "b"}]},
        {"uid": {"type": "Role", "id": "b"}, "attrs": {}, "parents": [{"type": "Role", "id": "a"}]}]"#;
    assert!(faults(&with_entities(all, round))[0].contains("cycle"), "{:?}", faults(&with_entities(all, round)));
}

#[test]
fn a_rule_that_can_never_hold_is_warned_of() {
    let set = Set::new(&sources("permit (principal is User, action, resource) when { principal is Key };")).unwrap();
    assert_eq!(set.warnings().len(), 1);
    assert_eq!((set.warnings()[0].file.as_str(), set.warnings()[0].line), ("rules.cedar", Some(1)));
}

#[test]
fn a_rule_about_what_nothing_asks_is_warned_of() {
    let warnings = |text: &str| Set::new(&sources(text)).unwrap().warnings().to_vec();
    let unasked = warnings(
        "permit (principal, action, resource);
         @id(\"one\") forbid (principal, action == Action::\"model.use\", resource);
         @id(\"two\") forbid (principal, action in [Action::\"read\", Action::\"tenant.manage\"], resource);
         @id(\"three\") forbid (principal, action, resource) when { action == Action::\"secret.manage\" };",
    );
    let said: Vec<_> = unasked.iter().map(|warning| (warning.line, warning.message.as_str())).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (line, action, rule) in [(2, "model.use", "one"), (3, "tenant.manage", "two"), (4, "secret.manage", "three")] {
        let found = said.iter().find(|(_, message)| message.contains(action)).unwrap();
        assert!(found.0 == Some(line) && found.1.contains(rule), "{said:?}");
    }
    assert_eq!(warnings("permit (principal, action in [Action::\"operate\", Action::\"task.read\"], resource);"), []);
    assert!(Set::new(&BuiltIn::Roles.sources()).unwrap().warnings().is_empty());
    assert_eq!(warnings(&BuiltIn::Roles.to_copy()), [], "what was copied is meant for later");
}

#[test]
fn cases_are_held_to_their_form_and_to_what_decides() {
    let set = Set::new(&BuiltIn::Roles.sources()).unwrap();
    let case = |rest: &str| {
        let text = format!(
            "[[case]]\nname = \"n\"\nprincipal = {{ kind = \"user\", name = \"a\", tenant = \"acme\", roles = [\"viewer\"] }}\n{rest}"
        );
        let cases = Cases::parse(&text).unwrap();
        cases.run(&set, None, 0).remove(0)
    };
    let list = "action = \"task.list\"\nresource = { kind = \"tenant\" }\n";
    assert!(case(&format!("{list}expect = \"allow\"\nby = [\"witan.viewer\"]")).passed);
    let wrong = case(&format!("{list}expect = \"deny\""));
    assert_eq!(wrong.fault.as_deref(), Some("it was allowed: a policy permits it"));
    let other = case(&format!("{list}expect = \"allow\"\nby = [\"witan.admin\"]"));
    assert_eq!(other.fault.as_deref(), Some("`witan.admin` did not decide it; what did: witan.viewer"));
    let unknown = case("action = \"task.crate\"\nresource = { kind = \"tenant\" }\nexpect = \"deny\"");
    assert!(unknown.fault.unwrap().contains("did you mean task.create"));
    let kind = case("action = \"task.create\"\nresource = { kind = \"tenant\" }\nexpect = \"deny\"");
    assert_eq!(kind.fault.as_deref(), Some("`task.create` is not done to a Tenant, but to: Intent"));
    assert!(
        Cases::parse("").is_err() && Cases::parse("case = []").is_err() && Cases::parse("[[case]]\nnmae = 1").is_err()
    );
}

#[test]
fn the_example_of_the_documentation_holds() {
    let policies = include_str!("../../../docs/examples/policy/rules.cedar");
    let entities = include_str!("../../../docs/examples/policy/entities.json");
    let set = Set::new(&with_entities(policies, entities)).unwrap();
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    let cases = Cases::parse(include_str!("../../../docs/examples/policy/cases.toml")).unwrap();
    for outcome in cases.run(&set, None, 1_767_609_000) {
        assert!(outcome.passed, "{}: {:?}", outcome.name, outcome.fault);
    }
}

#[test]
fn the_documentation_lists_every_action() {
    let text = include_str!("../../../docs/policy.md");
    for action in Action::ALL {
        let of = action.resources().iter().map(|kind| kind.type_name()).collect::<Vec<_>>().join(", ");
        let row = format!("| `{action}` | `{}` | {} | {of} |", action.group().name(), action.risk().name());
        let found = text.lines().find(|line| line.starts_with(&row));
        let found = found.unwrap_or_else(|| panic!("docs/policy.md has no row `{row} …`"));
        assert_eq!(found.contains("Nothing asks it yet."), !action.is_asked(), "{found}");
    }
}

#[test]
fn deciding_and_authorizing_agree() {
    let authorizer = Authorizer::new(Set::new(&BuiltIn::Roles.sources()).unwrap(), 3);
    let viewer = user("acme", "v", &["viewer"]);
    let list = request(&viewer, Action::TaskList, Resource::Tenant("acme".into()));
    let (one, other) = (authorizer.decide(&list), authorizer.authorize(&list));
    assert!(one.allow && other.allow && one.id != other.id && one.version == 3);
    assert_eq!(one.determining, other.determining);
}

/// Scopes and conditions of rules, put together at random.
fn policy() -> impl Strategy<Value = String> {
    let effect = prop_oneof![3 => Just("permit"), 1 => Just("forbid")];
    let principal = prop::sample::select(vec![
        "principal",
        "principal is User",
        "principal is Key",
        "principal == User::\"acme/alice\"",
        "principal in Role::\"a\"",
        "principal in Role::\"above\"",
        "principal in Tenant::\"acme\"",
        "principal is User in Group::\"g\"",
        "principal is Key in Tenant::\"acme\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"task.read\"",
        "action in Action::\"read\"",
        "action in [Action::\"egress\", Action::\"task.cancel\"]",
        "action in Action::\"all\"",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is Task",
        "resource in Tenant::\"acme\"",
        "resource in Group::\"g\"",
        "resource is Tool in Group::\"g\"",
        "resource == Tool::\"t\"",
    ]);
    let condition = prop::sample::select(vec![
        "",
        "when { principal.level >= 2 }",
        "when { principal has labels && principal.labels.contains(\"l\") }",
        "when { resource has tenant && resource.tenant == principal.tenant }",
        "unless { context.risk == \"high\" }",
        "when { Tool::\"t\" has labels && Tool::\"t\".labels.contains(\"l\") }",
        "when { action in Action::\"read\" }",
        "when { principal.tenant has labels && principal.tenant.labels.contains(\"l\") }",
        "when { principal has tenant.labels && principal.level >= 1 }",
        "when { principal.tenant in Group::\"g\" }",
        "when { principal.id like \"acme/*\" }",
        "when { context.risk == \"low\" || principal.level >= 2 }",
        "when { context has budget_micros && context.budget_micros < 5 && context.risk == \"low\" }",
        "when { !(action == Action::\"task.read\") && principal.trust == \"privileged\" }",
        "when { !(context.risk == \"low\" && principal.level < 2) }",
        "when { context.time.weekday == 4 && context.privacy == \"local-only\" }",
        "when { context has source && context.source.isInRange(ip(\"10.0.0.0/8\")) }",
        "when { context == context && context has intent && context.intent == \"summarize\" }",
        "when { principal.scopes.contains(\"tasks:read\") || context has component }",
    ]);
    (effect, principal, action, resource, condition).prop_map(|(effect, principal, action, resource, condition)| {
        format!("{effect} ({principal}, {action}, {resource}) {condition};\n")
    })
}

const ENTITIES: &str = r#"[
    {"uid": {"type": "User", "id": "acme/alice"}, "attrs": {"labels": ["l"]}, "parents": [{"type": "Group", "id": "h"}]},
    {"uid": {"type": "Key", "id": "acme/alice"}, "attrs": {}, "parents": [{"type": "Role", "id": "b"}]},
    {"uid": {"type": "Group", "id": "h"}, "attrs": {}, "parents": [{"type": "Group", "id": "g"}]},
    {"uid": {"type": "Role", "id": "a"}, "attrs": {}, "parents": [{"type": "Role", "id": "above"}]},
    {"uid": {"type": "Role", "id": "b"}, "attrs": {}, "parents": [{"type": "Role", "id": "a"}]},
    {"uid": {"type": "Tenant", "id": "acme"}, "attrs": {"labels": ["l"]}, "parents": [{"type": "Group", "id": "h"}]},
    {"uid": {"type": "Tool", "id": "t"}, "attrs": {"labels": ["l"]}, "parents": [{"type": "Group", "id": "h"}]}
]"#;

/// Whoever may ask about policies sends their texts.
#[test]
fn conditions_that_go_too_deep_are_at_fault() {
    let joined = |count: usize, by: &str| {
        format!("permit (principal, action, resource) when {{ {} }};", vec!["principal.level < 1"; count].join(by))
    };
    assert!(Set::new(&sources(&joined(150, " && "))).is_ok());
    let deepest = format!("permit (principal, action, resource) when {{ context{} }};", ".a".repeat(60_000));
    for (text, fault) in [
        (joined(300, " || "), "200 deep"),
        (joined(5_000, " && "), "200 deep"),
        (deepest, "200 deep"),
        (joined(40_000, " && "), "longer than"),
    ] {
        let faults = faults(&sources(&text));
        assert!(faults.iter().any(|said| said.contains(fault)), "{faults:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is sliced and prepared decides as Cedar itself does by all policies and all entities.
    #[test]
    fn decides_as_cedar_does(
        policies in prop::collection::vec(policy(), 1..12),
        kind in prop::sample::select(vec![PrincipalKind::User, PrincipalKind::Key]),
        tenant in prop::sample::select(vec!["acme", "globex"]),
        roles in prop::sample::subsequence(vec!["a", "b", "c"], 0..3),
        trust in prop::sample::select(vec![TrustLevel::Restricted, TrustLevel::Privileged]),
        asked in prop::sample::select(vec![
            (Action::TaskRead, witan_authorize::ResourceKind::Task),
            (Action::TaskCancel, witan_authorize::ResourceKind::Task),
            (Action::TaskList, witan_authorize::ResourceKind::Tenant),
            (Action::ToolCall, witan_authorize::ResourceKind::Tool),
            (Action::HttpSend, witan_authorize::ResourceKind::Origin),
        ]),
        tool in prop::sample::select(vec!["t", "u"]),
        local_only in any::<bool>(),
        source in prop::option::of(prop::sample::select(vec!["10.0.0.1", "192.0.2.1"])),
        intent in prop::option::of(prop::sample::select(vec!["summarize", "other"])),
        budget_micros in prop::option::of(0_u64..10),
    ) {
        let set = Set::new(&with_entities(&policies.concat(), ENTITIES)).unwrap();
        let principal = Principal { kind, trust, ..user(tenant, "alice", &roles) };
        let (action, kind) = asked;
        let resource = match kind {
            witan_authorize::ResourceKind::Tool => Resource::Tool(tool.into()),
            kind => resource(kind, tenant),
        };
        let context = Context {
            local_only,
            source: source.map(|source| source.parse().unwrap()),
            intent: intent.map(Into::into),
            budget_micros,
            ..Context::default()
        };
        let request = Request { context, ..request(&principal, action, resource) };
        let (allow, determining) = set.decide_by_all(&request).unwrap();
        let explanation = set.explain(&request, None);
        prop_assert_eq!(explanation.allow, allow, "{:?}", &explanation);
        let mut by: Vec<String> = explanation.determining.into_iter().map(|rule| rule.id).collect();
        by.sort();
        prop_assert_eq!(by, determining);
    }

    /// Whatever a client sends as policies, entities or cases is an answer and no panic.
    #[test]
    fn texts_of_any_kind_are_answered(policies in ".{0,200}", entities in ".{0,200}", cases in ".{0,200}") {
        let _answered = Set::new(&with_entities(&policies, &entities));
        let _answered = Cases::parse(&cases);
    }
}
