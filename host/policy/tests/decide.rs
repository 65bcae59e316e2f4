//! What grants allow, beside what they refuse.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use witan_authorize::{Authorizer, Set, Sources};
use witan_capability::{
    Action, Authority, Beginning, CallContext, Component, Decision, HostFunction, Policy, PrincipalKind, Privacy,
    Request, Resource, TaskFile,
};
use witan_ledger::{Filter, Kind, Ledger, Settings, Verdict};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{Access, Files, FilesystemGrant, Grants, System, TrustLevel};

const HTTP: HostFunction = HostFunction::new("wasi:http/outgoing-handler@0.2.6", "handle");
const TCP: HostFunction = HostFunction::new("wasi:sockets/tcp@0.2.6", "[method]tcp-socket.start-connect");
const UDP: HostFunction = HostFunction::new("wasi:sockets/udp@0.2.6", "[method]udp-socket.stream");
const LISTEN: HostFunction = HostFunction::new("wasi:sockets/tcp@0.2.6", "[method]tcp-socket.start-listen");
const NAMES: HostFunction = HostFunction::new("wasi:sockets/ip-name-lookup@0.2.6", "resolve-addresses");
const FILES: HostFunction = HostFunction::new("wasi:filesystem/types@0.2.6", "[method]descriptor.open-at");

/// A component with grants, and a policy to ask.
struct Asker {
    policy: GrantPolicy,
    component: Component,
    context: CallContext,
}

impl Asker {
    fn with(grants: &str) -> Self {
        let text = format!(
            "schema = 1\n[components.other]\nsource = \"o.wasm\"\n[components.a]\nsource = \"a.wasm\"\n[components.a.grants]\n{grants}"
        );
        let system = System::parse(&text, Path::new("/s/system.toml")).unwrap_or_else(|error| panic!("{error}"));
        let grants = system.components[&"a".parse().unwrap()].grants.clone();
        Self {
            policy: GrantPolicy::new(DecisionLog::in_memory()),
            component: Component { name: "a".into(), digest: [0; 32], grants: Arc::new(grants) },
            context: CallContext::local(),
        }
    }

    fn local_only(self) -> Self {
        Self { context: self.context.narrow_privacy(Privacy::LocalOnly), ..self }
    }

    fn recording(self) -> Self {
        Self { policy: self.policy.recording(), ..self }
    }

    fn decide(&self, function: HostFunction, action: Action, resource: Resource<'_>) -> Result<(), String> {
        let request = Request { context: &self.context, component: &self.component, function, action, resource };
        match self.policy.decide(&request) {
            Decision::Allow => Ok(()),
            Decision::Deny(denial) => {
                let entry = self.policy.log().find(denial.decision).expect("every denial is logged");
                let logged = entry.reason.as_deref().expect("as refused");
                assert!(denial.reason.starts_with(logged.trim_end_matches('…')));
                Err(denial.reason)
            }
        }
    }

    fn send(&self, method: &str, url: &str) -> Result<(), String> {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().unwrap()),
            _ => (authority, if scheme == "https" { 443 } else { 80 }),
        };
        self.decide(HTTP, Action::HttpSend, Resource::Url { method, scheme, host, port, path })
    }

    fn connect(&self, function: HostFunction, name: Option<&str>, address: &str) -> Result<(), String> {
        let address = address.parse().unwrap();
        self.decide(function, Action::SocketConnect, Resource::Address { name, address })
    }

    fn file(&self, action: Action, guest: &str) -> Result<(), String> {
        self.decide(FILES, action, Resource::Path { guest, host: None })
    }
}

#[test]
fn without_grants_everything_but_the_baseline_is_refused() {
    let asker = Asker::with("");
    assert!(asker.send("GET", "https://example.com/").is_err());
    assert!(asker.connect(TCP, None, "8.8.8.8:53").is_err());
    assert!(asker.file(Action::FileRead, "/docs/a").is_err());
    for action in [Action::WallClock, Action::Log, Action::KeyvalueRead, Action::KeyvalueWrite] {
        assert!(asker.decide(FILES, action, Resource::None).is_err(), "{action:?}");
    }
    for action in [Action::EnvironmentRead, Action::ConfigRead, Action::KeyvalueRead] {
        assert!(asker.decide(FILES, action, Resource::Key("HOME")).is_err(), "{action:?}");
    }
    assert!(asker.decide(FILES, Action::ToolCall, Resource::Tool("other.read")).is_err());
    assert!(asker.decide(FILES, Action::Baseline, Resource::None).is_ok());
}

#[test]
fn a_resource_that_does_not_belong_to_the_action_is_refused() {
    let asker = Asker::with("http = [{ host = \"example.com\" }]\nkeyvalue = {}");
    assert!(asker.decide(HTTP, Action::HttpSend, Resource::None).is_err());
    assert!(asker.decide(HTTP, Action::FileRead, Resource::Key("x")).is_err());
}

#[test]
fn http_is_held_to_scheme_host_port_method_and_path() {
    let asker = Asker::with("http = [{ host = \"api.example.com\", methods = [\"GET\"], path-prefix = \"/v1\" }]");
    for url in ["https://api.example.com/v1", "https://API.example.com./v1/x", "https://api.example.com/%76%31/x%20y"] {
        assert_eq!(asker.send("GET", url), Ok(()), "{url}");
    }
    for url in [
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
        "https://example.com/v1",
        "https://xapi.example.com/v1",
        "https://api.example.com.evil/v1",
        "https://api.example.com/v1evil",
        "https://api.example.com/",
        "https://api.example.com/v1/../admin",
        "https://api.example.com/v1/%2e%2e/admin",
        "https://api.example.com/v1/..%2fadmin",
        "https://api.example.com@evil/v1",
        "https:///v1",
    ] {
        assert!(asker.send("GET", url).is_err(), "{url}");
    }
    assert!(asker.send("POST", "https://api.example.com/v1").is_err());
    assert!(asker.send("get", "https://api.example.com/v1").is_err());
}

#[test]
fn two_http_grants_are_not_mixed() {
    let asker = Asker::with(
        "http = [{ host = \"a.example\", methods = [\"GET\"], path-prefix = \"/read\" }, \
         { host = \"a.example\", methods = [\"POST\"], path-prefix = \"/write\" }]",
    );
    assert!(
        asker.send("GET", "https://a.example/read").is_ok() && asker.send("POST", "https://a.example/write").is_ok()
    );
    assert!(asker.send("POST", "https://a.example/read").is_err());
}

#[test]
fn a_domain_pattern_means_the_names_below_it() {
    let asker = Asker::with("http = [{ host = \"*.example.com\" }]");
    assert!(asker.send("GET", "https://a.b.example.com/").is_ok());
    for url in ["https://example.com/", "https://aexample.com/", "https://127.0.0.1/"] {
        assert!(asker.send("GET", url).is_err(), "{url}");
    }
}

#[test]
fn a_public_name_that_resolves_to_a_private_address_is_refused() {
    let asker = Asker::with("http = [{ host = \"example.com\" }]");
    assert!(asker.connect(HTTP, Some("example.com"), "93.184.216.34:443").is_ok());
    for address in [
        "127.0.0.1:443",
        "10.1.2.3:443",
        "169.254.169.254:443",
        "100.64.0.1:443",
        "0.0.0.0:443",
        "224.0.0.1:443",
        "[::1]:443",
        "[::ffff:10.0.0.1]:443",
        "[fd00::1]:443",
        "[fe80::1]:443",
        "[ff02::1]:443",
        "[64:ff9b::a00:1]:443",
    ] {
        let refusal = asker.connect(HTTP, Some("example.com"), address).unwrap_err();
        assert!(refusal.contains("private"), "{refusal}");
    }
}

#[test]
fn a_private_address_is_reached_where_the_grant_says_so() {
    let by_name = Asker::with("http = [{ host = \"db.internal\", private = true }]");
    assert!(by_name.connect(HTTP, Some("db.internal"), "10.1.2.3:443").is_ok());
    assert!(by_name.connect(HTTP, Some("other.internal"), "10.1.2.3:443").is_err());
    let by_address = Asker::with("http = [{ scheme = \"http\", host = \"127.0.0.1\", port = 8080 }]");
    assert!(by_address.send("GET", "http://127.0.0.1:8080/").is_ok());
    assert!(by_address.send("GET", "http://127.1:8080/").is_ok(), "another spelling of the same address");
    assert!(by_address.connect(HTTP, Some("127.0.0.1"), "127.0.0.1:8080").is_ok());
    assert!(by_address.connect(HTTP, Some("127.0.0.1"), "127.0.0.2:8080").is_err());
    assert!(by_address.send("GET", "http://localhost:8080/").is_err());
}

#[test]
fn an_http_grant_opens_no_raw_connection() {
    let asker = Asker::with("http = [{ host = \"example.com\" }]\nsockets = [{ host = \"db.example\", port = 5432 }]");
    assert!(asker.connect(TCP, Some("example.com"), "93.184.216.34:443").is_err());
    assert!(asker.connect(TCP, Some("db.example"), "93.184.216.34:5432").is_ok());
    assert!(asker.connect(HTTP, Some("db.example"), "93.184.216.34:5432").is_err());
    assert!(asker.connect(UDP, Some("db.example"), "93.184.216.34:5432").is_err());
    assert!(asker.connect(TCP, Some("db.example"), "93.184.216.34:22").is_err());
    assert!(asker.connect(TCP, None, "93.184.216.34:5432").is_err(), "the name that led there is not known");
}

#[test]
fn only_granted_names_are_looked_up() {
    let asker = Asker::with("http = [{ host = \"example.com\" }]\nsockets = [{ host = \"*.db.example\", port = 1 }]");
    let look_up = |function, name| asker.decide(function, Action::DnsLookup, Resource::Host { name, port: 0 });
    assert!(look_up(NAMES, "a.db.example").is_ok() && look_up(HTTP, "example.com").is_ok());
    assert!(look_up(NAMES, "example.com").is_err() && look_up(NAMES, "secret.evil.example").is_err());
}

#[test]
fn nothing_listens() {
    let asker = Asker::with(
        "sockets = [{ host = \"8.8.8.8\", port = 53 }, { host = \"8.8.8.8\", port = 53, protocol = \"udp\" }]",
    );
    for (function, address) in
        [(UDP, "0.0.0.0:53"), (TCP, "127.0.0.1:0"), (LISTEN, "0.0.0.0:0"), (LISTEN, "8.8.8.8:53")]
    {
        let resource = Resource::Address { name: None, address: address.parse().unwrap() };
        assert!(asker.decide(function, Action::SocketBind, resource).is_err(), "{address}");
    }
}

#[test]
fn local_only_refuses_every_egress_whatever_is_granted() {
    let grants = "http = [{ host = \"127.0.0.1\" }]\nsockets = [{ host = \"8.8.8.8\", port = 53 }]\nkeyvalue = {}";
    let asker = Asker::with(grants);
    assert!(asker.send("GET", "https://127.0.0.1/").is_ok() && asker.connect(TCP, None, "8.8.8.8:53").is_ok());
    let asker = asker.local_only();
    let address = "8.8.8.8:53".parse().unwrap();
    let url = Resource::Url { method: "GET", scheme: "https", host: "127.0.0.1", port: 443, path: "/" };
    let host = Resource::Host { name: "8.8.8.8", port: 53 };
    let peer = Resource::Address { name: None, address };
    for (action, resource) in [
        (Action::HttpSend, url.clone()),
        (Action::DnsLookup, host.clone()),
        (Action::SocketConnect, peer.clone()),
        (Action::SocketBind, peer.clone()),
        (Action::Handle, url),
        (Action::Handle, host),
        (Action::Handle, peer),
    ] {
        let refusal = asker.decide(TCP, action, resource).unwrap_err();
        assert!(refusal.contains("local-only"), "{refusal}");
    }
    assert!(asker.decide(FILES, Action::KeyvalueWrite, Resource::Key("k")).is_ok());
    assert!(asker.decide(FILES, Action::Handle, Resource::None).is_ok());
}

/// Grants for each thing that request policy is asked of.
const ASKED: &str =
    "http = [{ host = \"api.example.com\" }]\nsockets = [{ host = \"8.8.8.8\", port = 53 }]\ntools = [\"other.*\"]";

fn authorizer(rules: &str) -> Arc<Authorizer> {
    let sources = Sources { policies: [("r.cedar".to_owned(), rules.to_owned())].into(), entities: None };
    Authorizer::new(Set::new(&sources).unwrap_or_else(|faults| panic!("{faults}")), 1)
}

/// What grants allow, in the order of the actions in `ASKED_OF`.
fn ask_all(asker: &Asker) -> [Result<(), String>; 4] {
    [
        asker.send("GET", "https://api.example.com/v1"),
        asker.connect(TCP, None, "8.8.8.8:53"),
        asker.decide(NAMES, Action::DnsLookup, Resource::Host { name: "api.example.com", port: 0 }),
        asker.decide(FILES, Action::ToolCall, Resource::Tool("other.t")),
    ]
}

const ASKED_OF: [&str; 4] = ["http.send", "socket.connect", "dns.lookup", "tool.call"];

#[test]
fn grants_and_request_policy_must_both_allow() {
    let asker = Asker::with(ASKED);
    let granted = ask_all(&asker).map(|decision| decision.is_ok());
    asker.policy.ask(authorizer("permit (principal, action, resource);"));
    assert_eq!(ask_all(&asker).map(|decision| decision.is_ok()), granted, "what all is permitted changes nothing");
    assert_eq!(granted.iter().filter(|granted| **granted).count(), 3, "{granted:?}");
    assert!(asker.send("GET", "https://elsewhere.example.com/").is_err(), "a permit grants nothing");
    for (index, action) in ASKED_OF.iter().enumerate().filter(|(index, _)| granted[*index]) {
        let asker = Asker::with(ASKED);
        let rules = format!(
            "permit (principal, action, resource);\n@reason(\"not today\") forbid (principal, action == Action::\"{action}\", resource);"
        );
        asker.policy.ask(authorizer(&rules));
        let decisions = ask_all(&asker);
        let refusal = decisions[index].clone().expect_err(action);
        assert!(refusal.contains("not today") && refusal.contains(action), "{refusal}");
        assert_eq!(decisions.iter().filter(|decision| decision.is_ok()).count(), 2, "the others are as before");
    }
}

#[test]
fn request_policy_is_asked_for_the_principal_of_the_call() {
    let authority = |roles: &[&str]| Authority {
        kind: PrincipalKind::User,
        roles: roles.iter().map(|role| (*role).into()).collect(),
        scopes: [].into(),
    };
    let rules = "permit (principal is User in Role::\"user\", action == Action::\"http.send\",
            resource == Origin::\"https://api.example.com:443\") when { principal in Tenant::\"acme\"
            && principal.id == \"acme/ann\" && principal.level >= 1 && context has component && context.component == \"a\"
            && context has method && context.method == \"GET\" && context has path && context.path == \"/v1\" };";
    let as_whom = |tenant: &str, name: &str, trust, authority| {
        let asker = Asker::with(ASKED);
        asker.policy.ask(authorizer(rules));
        let context = CallContext::trusted(name, tenant, trust).with_authority(authority).child();
        Asker { context, ..asker }.send("GET", "https://api.example.com/v1").is_ok()
    };
    let user = || authority(&["user"]);
    assert!(as_whom("acme", "ann", TrustLevel::Standard, user()));
    assert!(!as_whom("globex", "ann", TrustLevel::Standard, user()));
    assert!(!as_whom("acme", "bob", TrustLevel::Standard, user()));
    assert!(!as_whom("acme", "ann", TrustLevel::Standard, authority(&["viewer"])));
    assert!(!as_whom("acme", "ann", TrustLevel::Restricted, user()));
    assert!(!as_whom("acme", "ann", TrustLevel::Standard, Authority::local()), "whoever sits here is no user");
}

#[test]
fn request_policy_sees_how_the_call_began() {
    let source = |address: &str| Some(address.parse().unwrap());
    let began = |beginning: Option<Beginning>, rule: &str| {
        let asker = Asker::with(ASKED);
        let rules = format!(
            "permit (principal, action, resource);\nforbid (principal, action == Action::\"http.send\", resource) when {{ {rule} }};"
        );
        asker.policy.ask(authorizer(&rules));
        // As the components have it that the first one calls.
        let context =
            beginning.map_or_else(|| asker.context.clone(), |beginning| asker.context.begun(beginning)).child();
        Asker { context, ..asker }.send("GET", "https://api.example.com/v1").is_ok()
    };
    let outside = "context has source && !context.source.isInRange(ip(\"10.0.0.0/8\"))";
    assert!(!began(Some(Beginning { source: source("192.0.2.1"), ..Beginning::default() }), outside));
    assert!(began(Some(Beginning { source: source("10.1.2.3"), ..Beginning::default() }), outside));
    assert!(began(None, outside), "what is not known is not there");
    let of_task = || Beginning { intent: Some("mail".into()), route: Some("/v1/tasks".into()), source: None };
    assert!(!began(Some(of_task()), "context has intent && context.intent == \"mail\""));
    assert!(!began(Some(of_task()), "context has route && context.route == \"/v1/tasks\""));
    assert!(began(Some(of_task()), "context has source"));
}

#[test]
fn a_permit_for_all_opens_nothing_that_is_local_only() {
    let asker = Asker::with(ASKED).local_only();
    asker.policy.ask(authorizer("permit (principal, action, resource);"));
    for decision in &ask_all(&asker)[..3] {
        assert!(decision.as_ref().unwrap_err().contains("local-only"));
    }
}

#[test]
fn a_trial_does_not_go_round_request_policy() {
    let asker = Asker::with("");
    let asker = Asker { policy: asker.policy.trial(), ..asker };
    assert!(asker.send("GET", "https://api.example.com/").is_ok());
    asker.policy.ask(authorizer("forbid (principal, action, resource);"));
    assert!(asker.send("GET", "https://api.example.com/").is_err());
}

#[test]
fn files_are_held_to_folder_and_access() {
    let asker = Asker::with(
        "filesystem = [{ path = \"docs\", guest = \"/docs\" }, { path = \"out\", guest = \"/out\", access = \"read-write\" }]",
    );
    for (action, guest) in [
        (Action::FileRead, "/docs/a.md"),
        (Action::FileRead, "/docs"),
        (Action::FileRead, "/out/a"),
        (Action::FileWrite, "/out/a"),
    ] {
        assert_eq!(asker.file(action, guest), Ok(()));
    }
    assert!(asker.file(Action::FileWrite, "/docs/a.md").unwrap_err().contains("for reading"));
    for guest in ["/docsevil", "/docs/../etc/passwd", "/docs/./a", "/docs//a", "docs/a", "/etc/passwd", "/", ""] {
        assert!(asker.file(Action::FileRead, guest).is_err(), "{guest}");
    }
}

#[test]
fn where_folders_lie_in_one_another_every_grant_must_allow_it() {
    let mut asker = Asker::with("");
    let grant = |guest: &str, access| {
        let files = Files::Path { host: guest.into(), guest: guest.to_owned() };
        FilesystemGrant { files, access, max_bytes: None }
    };
    let filesystem = vec![grant("/docs", Access::Read), grant("/docs/out", Access::ReadWrite)];
    asker.component.grants = Arc::new(Grants { filesystem, ..Grants::default() });
    assert!(asker.file(Action::FileRead, "/docs/out/a").is_ok());
    assert!(asker.file(Action::FileWrite, "/docs/out/a").is_err());
}

#[test]
fn task_files_are_those_of_this_task() {
    let file = |name: &str| TaskFile { name: name.into(), guest: format!("/task/0/{name}"), host: PathBuf::from(name) };
    let mut asker = Asker::with("filesystem = [{ task = true }]");
    assert!(asker.file(Action::FileRead, "/task/0/a.md").is_err(), "no task");
    asker.context = asker.context.for_task(uuid::Uuid::nil(), vec![file("a.md")]);
    assert!(asker.file(Action::FileRead, "/task/0/a.md").is_ok());
    assert!(asker.file(Action::FileWrite, "/task/0/a.md").is_err());
    assert!(asker.file(Action::FileRead, "/task/0/b.md").is_err());
    let mut without = Asker::with("");
    without.context = asker.context.clone();
    assert!(without.file(Action::FileRead, "/task/0/a.md").is_err(), "the component was not granted task files");
}

#[test]
fn keys_and_tools_are_held_to_their_names() {
    let asker = Asker::with("environment = { LANG = \"C\" }\nconfig = { style = \"plain\" }\ntools = [\"other.read\"]");
    let ask = |action, resource| asker.decide(FILES, action, resource);
    assert!(ask(Action::EnvironmentRead, Resource::Key("LANG")).is_ok());
    assert!(ask(Action::EnvironmentRead, Resource::Key("style")).is_err());
    assert!(ask(Action::ConfigRead, Resource::Key("style")).is_ok());
    assert!(ask(Action::ConfigRead, Resource::Key("LANG")).is_err());
    assert!(ask(Action::ToolCall, Resource::Tool("other.read")).is_ok());
    for tool in ["other.write", "other.read.x", "other", "a.read", "other.*", ""] {
        assert!(ask(Action::ToolCall, Resource::Tool(tool)).is_err(), "{tool}");
    }
    let all = Asker::with("tools = [\"other.*\"]");
    assert!(all.decide(FILES, Action::ToolCall, Resource::Tool("other.write")).is_ok());
}

#[test]
fn denials_and_effects_are_logged_and_reads_are_not() {
    let asker = Asker::with("wall-clock = true\nhttp = [{ host = \"example.com\" }]");
    asker.decide(FILES, Action::WallClock, Resource::None).unwrap();
    assert!(asker.policy.log().newest(10).is_empty());
    asker.send("GET", "https://example.com/a").unwrap();
    asker.send("GET", "https://example.org/b").unwrap_err();
    let entries = asker.policy.log().newest(10);
    let said: Vec<_> = entries.iter().map(|entry| (entry.allowed, entry.resource.as_str())).collect();
    assert_eq!(said, [(false, "GET https://example.org:443/b"), (true, "GET https://example.com:443/a")]);
    assert_eq!(&*entries[0].component, "a");
    let reason = entries[0].reason.as_deref().unwrap();
    assert!(reason.contains("[components.a.grants]") && reason.contains("example.org"));
    assert_ne!(entries[0].decision, entries[1].decision);
}

#[test]
fn a_flood_fills_neither_memory_nor_lines() {
    let asker = Asker::with("");
    let long = format!("https://example.org/{}", "ä".repeat(100_000));
    for _ in 0..10_000 {
        asker.send("GET", "https://example.org/").unwrap_err();
    }
    asker.send("GET", &long).unwrap_err();
    let entries = asker.policy.log().newest(usize::MAX);
    assert!(entries.len() < 10_000 && entries[0].resource.len() < 1_000);
}

/// A policy whose decisions are in the ledger in `folder`.
fn accountable(asker: Asker, folder: &Path, settings: Settings) -> (Asker, Ledger) {
    let ledger = Ledger::open(folder, settings).unwrap();
    (Asker { policy: GrantPolicy::new(DecisionLog::to_ledger(ledger.clone())), ..asker }, ledger)
}

#[test]
fn the_ledger_has_each_denial_and_each_effect() {
    let folder = tempfile::tempdir().unwrap();
    let granted = Asker::with("http = [{ host = \"api.example.com\" }]");
    let (asker, ledger) = accountable(granted, folder.path(), Settings::default());
    asker.send("GET", "https://example.org/\u{202e}\"\\n").unwrap_err();
    asker.send("GET", "https://api.example.com/").unwrap();
    asker.decide(FILES, Action::WallClock, Resource::None).unwrap_err();
    asker.policy.log().settle().unwrap();
    let page = ledger.reader().after(&Filter::default(), None, 10).unwrap();
    let entries: Vec<_> = page.entries.into_iter().filter_map(|placed| placed.entry).collect();
    let told: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.decision)).collect();
    let expected = [("http-send", Verdict::Deny), ("http-send", Verdict::Allow), ("wall-clock", Verdict::Deny)];
    assert_eq!(told, expected);
    let first = &entries[0];
    assert_eq!((first.component.as_deref(), first.tenant.as_str()), (Some("a"), "local"));
    assert_eq!(
        entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(),
        [Kind::Egress, Kind::Egress, Kind::Decision]
    );
    assert!(entries.iter().all(|entry| entry.trace_id == Some(asker.context.trace().to_string())));
    assert_eq!(first.details["function"], "wasi:http/outgoing-handler@0.2.6#handle");
    assert!(first.reason.as_deref().is_some_and(|reason| reason.contains("may not send")));
    assert!(first.digest.as_deref().is_some_and(|digest| digest.starts_with("blake3:")));
    let in_memory = asker.policy.log().newest(1)[0].decision;
    assert_eq!(entries[2].decision_id, Some(in_memory.0));
}

#[test]
fn what_the_ledger_does_not_take_is_not_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let granted =
        Asker::with("http = [{ host = \"api.example.com\" }]\nfilesystem = [{ path = \"docs\", guest = \"/docs\" }]");
    let gathers = Settings { queue: 4, gather: Duration::from_secs(3600), ..Settings::default() };
    let (asker, ledger) = accountable(granted, folder.path(), gathers);
    let sent = (0..10).filter(|_| asker.send("GET", "https://api.example.com/").is_ok()).count();
    assert_eq!(sent, 3);
    let denial = asker.send("GET", "https://api.example.com/").unwrap_err();
    assert!(denial.contains("the ledger has no room"), "{denial}");
    // What changes nothing is not written, and goes on.
    assert!(asker.file(Action::FileRead, "/docs/a.md").is_ok());
    asker.policy.log().settle().unwrap();
    assert!(asker.send("GET", "https://api.example.com/").is_ok());
    drop(ledger);
}

#[test]
fn record_mode_changes_no_decision_and_suggests_what_suffices() {
    let run = |asker: &Asker| {
        let mut refused = 0;
        for (method, path) in [("GET", "/v1/a"), ("POST", "/v1/b")] {
            refused += u8::from(asker.send(method, &format!("https://api.example.com{path}")).is_err());
        }
        refused += u8::from(asker.connect(HTTP, Some("api.example.com"), "10.0.0.1:443").is_err());
        refused += u8::from(asker.connect(TCP, Some("db.example"), "8.8.8.8:5432").is_err());
        refused += u8::from(asker.file(Action::FileRead, "/docs/sub/a.md").is_err());
        refused += u8::from(asker.file(Action::FileRead, "/docs/sub/b.md").is_err());
        refused += u8::from(asker.decide(FILES, Action::ToolCall, Resource::Tool("other.read")).is_err());
        refused += u8::from(asker.decide(FILES, Action::EnvironmentRead, Resource::Key("LANG")).is_err());
        refused += u8::from(asker.decide(FILES, Action::WallClock, Resource::None).is_err());
        refused
    };
    let granted = "filesystem = [{ path = \"docs\", guest = \"/docs\" }]\nenvironment = { LANG = \"C\", HOME = \"/\" }";
    let recording = Asker::with(granted).recording();
    assert_eq!(run(&recording), 6);
    let suggested = recording.policy.suggestions().remove("a").unwrap();
    let text = witan_system::grants_toml("a", &suggested, Path::new("/s"));
    let system = System::parse(
        &format!("schema = 1\n[components.other]\nsource = \"o.wasm\"\n[components.a]\nsource = \"a.wasm\"\n{text}"),
        Path::new("/s/system.toml"),
    );
    let reread = system
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .components
        .remove(&"a".parse().unwrap())
        .unwrap()
        .grants;
    assert_eq!(reread, suggested, "{text}");
    assert!(!reread.environment.contains_key("HOME") && reread.environment["LANG"] == "C");
    let mut granted = Asker::with("");
    granted.component.grants = Arc::new(reread);
    assert_eq!(granted.component.grants.filesystem.len(), 1);
    assert!(granted.send("POST", "https://api.example.com/v1/b").is_ok());
    assert!(granted.send("POST", "https://api.example.com/v2").is_err());
    assert!(granted.connect(HTTP, Some("api.example.com"), "10.0.0.1:443").is_ok());
    assert!(granted.connect(TCP, Some("db.example"), "8.8.8.8:5432").is_ok());
    assert!(granted.file(Action::FileRead, "/docs/sub/a.md").is_ok());
    assert!(granted.file(Action::FileRead, "/docs/other.md").is_err());
    assert!(granted.decide(FILES, Action::ToolCall, Resource::Tool("other.read")).is_ok());
    assert!(granted.decide(FILES, Action::WallClock, Resource::None).is_ok());
}

#[test]
fn a_trial_goes_beyond_the_grants_and_says_so() {
    let asker = Asker::with("");
    let asker = Asker { policy: asker.policy.trial(), ..asker };
    assert!(asker.send("POST", "https://api.example.com/v1").is_ok());
    assert!(asker.connect(HTTP, Some("api.example.com"), "8.8.8.8:443").is_ok());
    assert!(asker.decide(FILES, Action::WallClock, Resource::None).is_ok());
    let entries = asker.policy.log().newest(10);
    assert_eq!(entries.len(), 3, "whatever no grant covers is logged, effect or not");
    assert!(entries.iter().all(|entry| entry.allowed && entry.reason.as_deref().unwrap().starts_with("a trial")));
    let suggested = asker.policy.suggestions().remove("a").unwrap();
    assert!(suggested.wall_clock && suggested.http.len() == 1 && suggested.sockets.is_empty());
}

#[test]
fn a_trial_reaches_no_private_address_and_stays_local_only() {
    let asker = Asker::with("");
    let asker = Asker { policy: asker.policy.trial(), ..asker };
    for address in ["127.0.0.1:80", "169.254.169.254:80", "[::ffff:10.0.0.1]:80"] {
        assert!(asker.connect(TCP, None, address).is_err() && asker.connect(HTTP, Some("a.example"), address).is_err());
    }
    assert!(asker.send("GET", "https://api.example.com/v1/%2e%2e/admin").is_err());
    let bind = Resource::Address { name: None, address: "0.0.0.0:80".parse().unwrap() };
    assert!(asker.decide(LISTEN, Action::SocketBind, bind).is_err());
    assert!(asker.local_only().send("GET", "https://api.example.com/").is_err());
}
