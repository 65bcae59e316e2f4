//! The way out of this machine: through a proxy, to servers of an authority of one's own, by components and by the host itself.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::{
    WITAN,
    authority::Authority,
    up::{Up, built},
};

const SECRET: &str = "a-secret-of-the-vault";

type Seen = Arc<Mutex<Vec<String>>>;

/// A proxy that takes who asks for port 443 to `to`, whatever they call it, and keeps what it was asked for.
fn proxy(to: SocketAddr) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Seen::default());
    let keeps = asked.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let keeps = keeps.clone();
            thread::spawn(move || tunnel(client, to, &keeps));
        }
    });
    (address, asked)
}

fn tunnel(mut client: TcpStream, to: SocketAddr, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let head = head(&mut client)?;
    asked.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    // `user:password`
    if !head.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnzd29yza==\r\n") {
        return client.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut up, &mut down));
    io::copy(&mut server, &mut client).map(drop)
}

fn head(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A server over TLS that is all of `names`, as `authority` certifies it; it keeps the hosts and lines of requests.
fn server(authority: &Authority, names: &[&str]) -> (SocketAddr, Seen) {
    let certified = authority.certify_all(names);
    let chain = vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let keeps = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, keeps) = (config.clone(), keeps.clone());
            thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                answer(StreamOwned::new(connection, stream), &keeps)
            });
        }
    });
    (address, seen)
}

fn answer(mut stream: impl Read + Write, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let head = head(&mut stream)?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.to_owned())).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let line = head.lines().next().unwrap_or_default();
    seen.lock().unwrap().push(format!("{} {line}", header("host")));
    let text = match line.split(' ').nth(1).unwrap_or_default() {
        "/v1/secret/data/model" => json!({ "data": { "data": { "value": SECRET } } }).to_string(),
        "/" => format!("reached, {}", header("authorization").len()),
        _ => "{}".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    stream.write_all((head + &text).as_bytes())?;
    stream.flush()
}

/// A system whose component may reach `target.test` with the secret of a vault. `egress` is what stands in `[host.egress]`.
fn system(egress: &str, more: &str) -> String {
    format!(
        "schema = 1\n[host.egress]\n{egress}\n{more}\n[host.secrets.vault]\naddress = \"https://vault.test\"\n\
         token-file = \"token\"\n[secrets.key]\norigins = [\"https://target.test\"]\nvault = \"secret/data/model\"\n\
         [components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n[components.site.grants]\n\
         http = [{{ scheme = \"https\", host = \"target.test\", port = 443 }}]\n\
         logging = {{}}\nsecrets = [{{ secret = \"key\", config = \"key\" }}]\n[[mounts]]\npath = \"/site\"\ncomponent = \"site\"\n"
    )
}

fn folder(system: &str, authority: &Authority) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), system).unwrap();
    fs::write(folder.path().join("site.wasm"), built("secret")).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.path().join("token"), "token-of-vault").unwrap();
    fs::write(folder.path().join("credentials"), "user:password\n").unwrap();
    folder
}

fn witan(folder: &std::path::Path, line: &str) -> Output {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null()).env_remove("WITAN_LOG").output().unwrap()
}

fn through(proxy: SocketAddr, more: &str) -> String {
    format!("proxy = \"http://{proxy}\"\nproxy-credentials = \"credentials\"\nresolve = \"proxy\"\n{more}")
}

const ASK: &str = "/site/send-tls/authorization/target.test:443";

#[test]
fn what_leaves_goes_through_the_proxy_and_believes_the_authorities_that_are_named() {
    let authority = Authority::new();
    let names = ["target.test", "vault.test", "collector.test", "issuer.test", "registry.test"];
    let (to, seen) = server(&authority, &names);
    let (proxy, asked) = proxy(to);
    let more = "[host.telemetry]\notlp = \"https://collector.test\"\nsample = \"100%\"\n[host.auth]\nrequired = false\n\
                [host.auth.issuers.corp]\nurl = \"https://issuer.test\"\naudiences = [\"witan\"]\ntenant = \"local\"";
    let own = folder(&system(&through(proxy, "ca = \"ca.pem\""), more), &authority);
    let mut up = Up::serve(own, &[]);

    // The component reaches what only the proxy can look up, with the secret that the host fetched by the same way.
    let told = up.get(ASK).body;
    let length = "Bearer ".len() + SECRET.len();
    assert!(told.contains(&format!("reached, {length}")), "{told}");
    // A token of an issuer: its keys are asked for.
    let claims = json!({ "iss": "https://issuer.test", "aud": "witan", "sub": "7", "exp": 9_999_999_999_u64 });
    let part = |value: &Value| BASE64.encode(value.to_string());
    let token =
        format!("{}.{}.{}", part(&json!({ "alg": "ES256", "kid": "1" })), part(&claims), BASE64.encode([0; 64]));
    let asks = crate::up::ask(up.address(), "GET", "/v1/tasks", &format!("authorization: Bearer {token}\r\n"), "");
    assert_ne!(asks.unwrap().status, 200);
    up.signal("TERM");
    assert!(up.ended().success());
    // A registry, which is asked before a component of it would run.
    let registry =
        "schema = 1\n[registries]\nacme = \"registry.test\"\n[components.sums]\nsource = \"acme:sums@1.0.0\"\n";
    let with = format!("{registry}[host.egress]\n{}\n", through(proxy, "ca = \"ca.pem\""));
    let other = folder(&with, &authority);
    assert!(!witan(other.path(), "up --listen 127.0.0.1:0").status.success());

    let asked: BTreeSet<String> = asked.lock().unwrap().iter().cloned().collect();
    let expected: BTreeSet<String> = names.iter().map(|name| format!("CONNECT {name}:443 HTTP/1.1")).collect();
    assert_eq!(asked, expected);
    let seen = seen.lock().unwrap().join("\n");
    for line in ["target.test GET / ", "vault.test GET /v1/secret/data/model ", "collector.test POST /v1/traces "] {
        assert!(seen.contains(line), "no {line} in {seen}");
    }
    assert!(seen.contains("issuer.test GET /.well-known/openid-configuration "), "{seen}");
    assert!(seen.lines().any(|line| line.starts_with("registry.test GET ")), "{seen}");

    // Each that the host made is in its ledger, by host and outcome, and nothing of what was sent.
    let entries = |folder: &std::path::Path| -> BTreeSet<(String, String)> {
        let shown = witan(folder, "audit show --kind egress --json");
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("secret/data"), "{text}");
        let entries: Value = serde_json::from_str(&text).unwrap();
        let list = entries.as_array().or_else(|| entries["data"].as_array()).unwrap();
        let word = |entry: &Value, key: &str| entry["entry"][key].as_str().unwrap_or_default().to_owned();
        list.iter().map(|entry| (word(entry, "action"), word(entry, "resource"))).collect()
    };
    let own = entries(up.folder());
    for (action, host) in [("vault", "vault.test"), ("collector", "collector.test"), ("issuer", "issuer.test")] {
        assert!(own.contains(&(action.to_owned(), host.to_owned())), "no {action} in {own:?}");
    }
    assert!(entries(other.path()).contains(&("registry".to_owned(), "registry.test".to_owned())));
}

#[test]
fn what_no_authority_vouches_for_is_not_believed_and_what_needs_no_proxy_takes_none() {
    let authority = Authority::new();
    let (to, seen) = server(&authority, &["target.test", "vault.test"]);
    let (through_proxy, asked) = proxy(to);
    // Without the authority, nobody gets as far as a request.
    let up = Up::serve(folder(&system(&through(through_proxy, ""), ""), &authority), &[]);
    let told = up.get(ASK).body;
    assert!(!told.contains("reached"), "{told}");
    assert_eq!(*seen.lock().unwrap(), [] as [String; 0]);
    assert!(!asked.lock().unwrap().is_empty());
    drop(up);

    // Where the proxy is not needed, it is not asked: a name that only it knows is not found then.
    asked.lock().unwrap().clear();
    let exceptions = "ca = \"ca.pem\"\nno-proxy = [\"*.test\"]";
    let up = Up::serve(folder(&system(&through(through_proxy, exceptions), ""), &authority), &[]);
    let told = up.get(ASK).body;
    assert!(!told.contains("reached"), "{told}");
    assert_eq!(*asked.lock().unwrap(), [] as [String; 0]);
    drop(up);

    // A proxy that does not know us lets nothing through.
    let unknown = system(&format!("proxy = \"http://{through_proxy}\"\nresolve = \"proxy\"\nca = \"ca.pem\""), "");
    let up = Up::serve(folder(&unknown, &authority), &[]);
    assert!(!up.get(ASK).body.contains("reached"));
    assert!(!asked.lock().unwrap().is_empty() && seen.lock().unwrap().is_empty());
}

#[test]
fn a_command_that_names_a_registry_goes_as_a_named_system_says_and_without_one_as_the_environment_does() {
    let authority = Authority::new();
    let (to, seen) = server(&authority, &["registry.test"]);
    let (proxy, asked) = proxy(to);
    let environment = format!("http://user:password@{proxy}");
    let none = folder("", &authority);
    fs::remove_file(none.path().join("system.toml")).unwrap();
    let some = folder(&format!("schema = 1\n[host.egress]\n{}\n", through(proxy, "ca = \"ca.pem\"")), &authority);
    let pull = |folder: &std::path::Path, more: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(WITAN);
        command.args(["pull", "acme:sums@1.0.0", "--registry", "registry.test"]).args(more).current_dir(folder);
        command.env("XDG_CONFIG_HOME", folder).env("WITAN_STORE", folder.join("store"));
        for name in
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "WITAN_CA", "WITAN_SYSTEM"]
        {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
        // The server is none that has packages.
        assert!(!output.status.success());
        (std::mem::take(&mut *asked.lock().unwrap()), std::mem::take(&mut *seen.lock().unwrap()).join("\n"))
    };
    let connect = "CONNECT registry.test:443 HTTP/1.1";
    let proxied = [("HTTPS_PROXY", environment.as_str())];
    let (asked, seen) = pull(none.path(), &["--ca", "ca.pem"], &proxied);
    assert!(!asked.is_empty() && asked.iter().all(|line| line == connect), "{asked:?}");
    assert!(seen.contains("registry.test GET "), "{seen}");
    let (asked, seen) = pull(none.path(), &[], &proxied);
    assert!(!asked.is_empty() && seen.is_empty(), "an authority that nobody named is not believed: {seen}");
    let (asked, _) = pull(none.path(), &["--ca", "ca.pem"], &[proxied[0], ("NO_PROXY", "registry.test")]);
    assert!(asked.is_empty(), "{asked:?}");
    // What a system that somebody names says goes before the environment.
    let elsewhere = [("HTTPS_PROXY", "http://127.0.0.1:9")];
    let (asked, seen) = pull(some.path(), &["--system", "system.toml"], &elsewhere);
    assert!(!asked.is_empty() && asked.iter().all(|line| line == connect), "{asked:?}");
    assert!(seen.contains("registry.test GET "), "{seen}");
    // Whoever wrote the folder that one is in does not see the token of a registry.
    let (asked, seen) = pull(some.path(), &[], &elsewhere);
    assert!(asked.is_empty() && seen.is_empty(), "{asked:?} {seen}");
}

#[test]
fn callbacks_go_through_the_proxy_to_the_address_that_was_checked_and_straight_to_this_machine() {
    let authority = Authority::new();
    let (to, seen) = server(&authority, &["127.0.0.1", "192.0.2.7"]);
    let (through_proxy, asked) = proxy(to);
    let folder = crate::killed::folder();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.path().join("credentials"), "user:password\n").unwrap();
    let file = folder.path().join("system.toml");
    let hosts = format!("[host.tasks]\ncallback-hosts = [\"{to}\", \"192.0.2.7\"]\n");
    let text = fs::read_to_string(&file).unwrap().replace("[host.tasks]\n", &hosts);
    let way = format!("proxy = \"http://{through_proxy}\"\nproxy-credentials = \"credentials\"\nca = \"ca.pem\"\n");
    fs::write(&file, format!("{text}\n[host.egress]\n{way}")).unwrap();
    let up = Up::on(folder.path(), &[]);
    let tell = |host: &str| {
        let callback = json!({ "url": format!("https://{host}/told") });
        let task = json!({ "intent": "record", "input": { "text": "one 0" }, "callback": callback });
        let answer = up.ask("POST", "/v1/tasks?wait=60", &task.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let line = format!("{host} POST /told HTTP/1.1");
        let began = Instant::now();
        while !seen.lock().unwrap().contains(&line) {
            assert!(began.elapsed() < Duration::from_secs(60), "nobody was told");
            thread::sleep(Duration::from_millis(20));
        }
        answer.json()["task_id"].clone()
    };
    let tasks = [to.to_string(), "192.0.2.7".to_owned()].map(|host| (tell(&host), host));
    assert_eq!(*asked.lock().unwrap(), ["CONNECT 192.0.2.7:443 HTTP/1.1"]);
    let began = Instant::now();
    for (id, host) in tasks {
        let written = || {
            // As whoever has the right to read it asks, by the task.
            let entries = up.get(&format!("/v1/audit/entries?kind=egress&task={}", id.as_str().unwrap())).json();
            let entries: Vec<&Value> =
                entries["data"].as_array().unwrap().iter().map(|entry| &entry["entry"]).collect();
            entries.iter().any(|entry| {
                assert_eq!((&entry["tenant"], &entry["task"]), (&json!("local"), &id), "{entry}");
                assert_eq!(
                    (&entry["principal"], &entry["details"]["delivery"]),
                    (&json!("local"), &json!("delivered"))
                );
                entry["action"] == "callback" && entry["resource"] == host
            })
        };
        while !written() {
            assert!(began.elapsed() < Duration::from_secs(60), "it is not written down");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
