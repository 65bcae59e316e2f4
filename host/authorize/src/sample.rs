//! Policies of a size to measure with.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{Action, Context, Principal, PrincipalKind, Resource, Sources, TrustLevel};

/// About `policies` policies as a host of many tenants has them (most name a role, a tenant, a group or a principal, a
/// tenth concern everybody), and `entities` entities.
#[must_use]
pub fn sources(policies: usize, entities: usize) -> Sources {
    let mut text = String::new();
    for n in 0..policies {
        let _infallible = match n % 10 {
            0..=2 => writeln!(
                text,
                "permit (principal in Role::\"team{n}\", action in Action::\"use\", resource) when {{ context.time.hour < 23 }};"
            ),
            3..=5 => writeln!(
                text,
                "permit (principal in Tenant::\"tenant{}\", action in Action::\"read\", resource) when {{ principal.level >= 1 }};",
                n / 2
            ),
            6 => writeln!(
                text,
                "permit (principal == User::\"tenant{n}/user{n}\", action == Action::\"tool.call\", resource in Group::\"group{n}\");"
            ),
            7 => writeln!(
                text,
                "permit (principal, action == Action::\"tool.call\", resource in Group::\"group{n}\") when {{ principal.level >= 2 }};"
            ),
            8 => writeln!(
                text,
                "permit (principal is Key in Tenant::\"tenant{n}\", action in Action::\"use\", resource);"
            ),
            _ => writeln!(
                text,
                "forbid (principal, action, resource) when {{ context.risk == \"high\" && principal.level < 1 && context.time.hour > {} }};",
                n % 24
            ),
        };
    }
    text.push_str(&crate::BuiltIn::Roles.to_copy());
    Sources { policies: BTreeMap::from([("sample.cedar".to_owned(), text)]), entities: Some(entities_of(entities)) }
}

/// As many policies, each of which concerns everybody and every action: the worst that a set can be.
#[must_use]
pub fn general(policies: usize, entities: usize) -> Sources {
    let rule = |n: usize| {
        format!(
            "permit (principal, action, resource) when {{ principal.level >= 1 && context.time.hour != {} }};\n",
            n % 24
        )
    };
    let text = (0..policies).map(rule).collect();
    Sources { policies: BTreeMap::from([("sample.cedar".to_owned(), text)]), entities: Some(entities_of(entities)) }
}

fn entities_of(count: usize) -> String {
    let entity = |n: usize| match n % 4 {
        0 => format!(
            "{{\"uid\": {{\"type\": \"User\", \"id\": \"tenant{}/user{n}\"}}, \"attrs\": {{\"labels\": [\"l{n}\"]}}, \
             \"parents\": [{{\"type\": \"Role\", \"id\": \"team{}\"}}, {{\"type\": \"Group\", \"id\": \"group{}\"}}]}}",
            n % 40,
            n % 30,
            n % 50
        ),
        1 => format!(
            "{{\"uid\": {{\"type\": \"Tool\", \"id\": \"component.tool{n}\"}}, \"attrs\": {{\"labels\": [\"reads\"]}}, \
             \"parents\": [{{\"type\": \"Group\", \"id\": \"group{}\"}}]}}",
            n % 50
        ),
        2 => format!(
            "{{\"uid\": {{\"type\": \"Origin\", \"id\": \"https://api{n}.example.com:443\"}}, \"attrs\": {{}}, \
             \"parents\": [{{\"type\": \"Group\", \"id\": \"group{}\"}}]}}",
            n % 50
        ),
        _ => format!(
            "{{\"uid\": {{\"type\": \"Key\", \"id\": \"tenant{}/key{n}\"}}, \"attrs\": {{}}, \
             \"parents\": [{{\"type\": \"Role\", \"id\": \"team{}\"}}]}}",
            n % 40,
            n % 30
        ),
    };
    format!("[{}]", (0..count).map(entity).collect::<Vec<_>>().join(",\n"))
}

/// What to ask.
#[must_use]
pub fn questions() -> Vec<(&'static str, Action, Resource<'static>)> {
    let task = Resource::Task {
        id: "0199a3a0-7c1e-7d33-8000-000000000007".into(),
        tenant: "tenant4".into(),
        owner: "tenant4/user4".into(),
        intent: "summarize".into(),
    };
    let origin = Resource::Origin { scheme: "https".into(), host: "api6.example.com".into(), port: 443 };
    vec![
        ("a task is submitted", Action::TaskCreate, Resource::Intent("summarize".into())),
        ("a task is cancelled", Action::TaskCancel, task),
        ("a tool is called", Action::ToolCall, Resource::Tool("component.tool9".into())),
        ("a request is sent", Action::HttpSend, origin),
        ("policies may not be written", Action::PolicyWrite, Resource::Policy),
    ]
}

/// Who asks.
#[must_use]
pub fn principal() -> Principal {
    Principal {
        kind: PrincipalKind::User,
        name: "user4".into(),
        tenant: "tenant4".into(),
        roles: ["user".into(), "team2".into()].into(),
        trust: TrustLevel::Standard,
        scopes: [].into(),
    }
}

/// What else is known.
#[must_use]
pub fn context() -> Context<'static> {
    Context {
        epoch: 1_767_609_000,
        source: Some([10, 1, 2, 3].into()),
        intent: Some("summarize".into()),
        route: Some("/v1/tasks".into()),
        method: Some("POST".into()),
        ..Context::default()
    }
}
