//! Who is let in to a host that runs, by the binary: keys that are made while it runs and while it does not, tokens of an
//! issuer, a login from the command line, and where it may listen.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use witan_authority::{CLIENT, Provider};

use crate::{
    WITAN,
    up::{Answer, Up, built, end},
};

const SITE: &str = "[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n[[mounts]]\npath = \"/site\"\n\
                    component = \"site\"\n";

fn witan(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null());
    command.env_remove("WITAN_LOG").env_remove("WITAN_API_KEY").env("XDG_CONFIG_HOME", folder.join("config"));
    command
}

fn told(folder: &Path, line: &str) -> Value {
    let output = witan(folder, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", text(&output.stdout)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// A folder with a system that has `auth` under `[host.auth]`.
fn folder(auth: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), format!("schema = 1\n[host.auth]\n{auth}\n{SITE}")).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    folder
}

fn with(up: &Up, path: &str, credential: &str) -> Answer {
    up.with("GET", path, &format!("authorization: Bearer {credential}\r\n"))
}

impl Up {
    fn with(&self, method: &str, path: &str, headers: &str) -> Answer {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(self.address()).unwrap();
        let address = self.address();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        end(stream).unwrap()
    }
}

#[test]
fn a_key_is_good_while_the_host_runs_until_it_is_revoked_or_replaced() {
    let folder = folder("");
    // Before there is a host.
    let first = told(folder.path(), "auth key create early --scope * --trust privileged --json");
    let mut up = Up::serve(folder, &[]);
    let at = up.folder().to_owned();
    let secret = |key: &Value| key["secret"].as_str().unwrap().to_owned();
    assert_eq!(with(&up, "/v1/tasks", &secret(&first)).status, 200);
    assert_eq!(up.with("GET", "/site", &format!("x-api-key: {}\r\n", secret(&first))).status, 200);
    assert_eq!(up.get("/v1/tasks").status, 401);
    assert_eq!(up.get("/site").status, 401);

    // While it runs, each counts with the next request.
    told(&at, "auth tenant create acme --json");
    let key = told(&at, "auth key create ci --tenant acme --scope tasks:read --expires 1h --json");
    assert_eq!(with(&up, "/v1/tasks", &secret(&key)).status, 200);
    assert_eq!(with(&up, "/v1/host", &secret(&key)).status, 403);
    let line = format!("auth key rotate {} --json", key["id"].as_str().unwrap());
    let next = told(&at, &line);
    assert_eq!(with(&up, "/v1/tasks", &secret(&key)).status, 401);
    assert_eq!(with(&up, "/v1/tasks", &secret(&next)).status, 200);
    let listed = told(&at, "auth key list --tenant acme --json");
    assert_eq!((listed[0]["id"].clone(), listed[0]["active"].clone()), (next["id"].clone(), json!(true)), "{listed}");
    assert!(!listed.to_string().contains(&secret(&next)));
    told(&at, &format!("auth key revoke {} --json", next["id"].as_str().unwrap()));
    assert_eq!(with(&up, "/v1/tasks", &secret(&next)).status, 401);
    let short = told(&at, "auth key create short --scope tasks:read --expires 0s --json");
    assert_eq!(with(&up, "/v1/tasks", &secret(&short)).status, 401);
    let third = told(&at, "auth key create third --tenant acme --scope tasks:read --json");
    assert_eq!(with(&up, "/v1/tasks", &secret(&third)).status, 200);
    told(&at, "auth tenant disable acme --json");
    assert_eq!(with(&up, "/v1/tasks", &secret(&third)).status, 401);

    // The commands of this folder have the host's own token; others use a key from the environment.
    assert_eq!(told(&at, "status --json")["state"], "serving");
    let elsewhere = tempfile::tempdir().unwrap();
    let ps = format!("ps --json --server http://{}", up.address());
    let error = witan(elsewhere.path(), &ps).output().unwrap();
    assert!(text(&error.stdout).contains("witan auth login"), "{}", text(&error.stdout));
    let output = witan(elsewhere.path(), &ps).env("WITAN_API_KEY", secret(&first)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
    told(&at, "stop --json");
    assert!(up.ended().success());
}

#[test]
fn a_user_logs_in_from_the_command_line_and_out_again() {
    let provider = Provider::serve(json!({ "sub": "7", "name": "Ada", "groups": ["admins"] }));
    let folder = folder(&format!(
        "access-time = \"1s\"\n[host.auth.roles.operator]\nscopes = [\"*\"]\ntrust = \"privileged\"\n\
         [host.auth.login]\nissuer = \"corp\"\nclient-id = \"witan\"\nclient-secret-file = \"secret\"\n\
         [host.auth.issuers.corp]\nurl = \"{}\"\naudiences = [\"api\"]\ntenant = \"acme\"\nroles-claim = \"groups\"\n\
         roles = {{ admins = [\"operator\"] }}\n",
        provider.issuer()
    ));
    let secret = folder.path().join("secret");
    fs::write(&secret, CLIENT[1]).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    told(folder.path(), "auth tenant create acme --json");
    let up = Up::serve(folder, &[]);
    let at = up.folder().to_owned();
    let server = format!("http://{}", up.address());
    let mut login = witan(&at, &format!("auth login --no-browser --server {server}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(login.stdout.take().unwrap()).lines();
    let page = browse(&lines.next().unwrap().unwrap());
    assert!(page.contains("logged in"), "{page}");
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(login.wait().unwrap().success());
    assert_eq!(said, ["logged in as corp/7, of the tenant `acme`"]);
    let kept = at.join("config/witan/sessions.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    // Each command refreshes the token, which is good for a second, as it needs it.
    for _ in 0..3 {
        let me = told(&at, &format!("auth whoami --json --server {server}"));
        assert_eq!((&me["principal"], &me["trust"]), (&json!("corp/7"), &json!("privileged")));
    }
    assert!(told(&at, &format!("ps --json --server {server}")).is_array());
    let people = told(&at, "auth user list --json");
    assert_eq!((&people[0]["principal"], &people[0]["name"]), (&json!("corp/7"), &json!("Ada")));
    let sessions = told(&at, "auth session list --json");
    assert_eq!((&sessions[0]["principal"], &sessions[0]["active"]), (&json!("corp/7"), &json!(true)));

    // A copy of the file from before is an old refresh token: the session ends for both.
    let copy = fs::read(&kept).unwrap();
    told(&at, &format!("auth whoami --json --server {server}"));
    fs::write(&kept, copy).unwrap();
    let whoami = |expect: &str| {
        let error = witan(&at, &format!("auth whoami --server {server}")).output().unwrap();
        let error = refused(&error);
        assert!(error.contains(expect), "{error}");
    };
    whoami("has ended");
    whoami("witan auth login");
    assert_eq!(told(&at, "auth session list --json")[0]["active"], false);
}

/// Does what a browser does with `address`, and gives the page that it ends with.
fn browse(address: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let browser =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let (mut address, mut cookie) = (address.to_owned(), String::new());
        loop {
            let answer = browser.get(&address).header("cookie", &cookie).send().await.unwrap();
            if let Some(set) = answer.headers().get("set-cookie") {
                cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            }
            match answer.headers().get("location") {
                Some(location) => address = location.to_str().unwrap().to_owned(),
                None => return answer.text().await.unwrap(),
            }
        }
    })
}

#[test]
fn tokens_of_an_issuer_are_taken_by_each_algorithm_and_its_new_keys_are_found() {
    let provider = Provider::serve(json!({}));
    let folder = folder(&format!(
        "[host.auth.issuers.corp]\nurl = \"{}\"\naudiences = [\"witan\"]\ntenant = \"acme\"\nscopes = [\"tasks:*\"]\n\
         refresh = \"1ms\"\n",
        provider.issuer()
    ));
    told(folder.path(), "auth tenant create acme --json");
    let up = Up::serve(folder, &[]);
    let person = || json!({ "sub": "7" });
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        assert_eq!(with(&up, "/v1/tasks", &provider.token(algorithm, person())).status, 200, "{algorithm}");
    }
    for wrong in [
        provider.token_with(&json!({ "alg": "none" }), person()),
        provider.token_with(&json!({ "alg": "HS256", "kid": "RS256-1" }), person()),
        provider.token_with(&json!({ "alg": "RS256", "kid": "unknown" }), person()),
        provider.token("RS256", json!({ "sub": "7", "aud": "other" })),
        provider.token("RS256", json!({ "sub": "7", "iss": "https://other.example" })),
        provider.token("RS256", json!({ "sub": "7", "exp": 1 })),
    ] {
        assert_eq!(with(&up, "/v1/tasks", &wrong).status, 401, "{wrong}");
    }
    let old = provider.token("ES256", person());
    provider.rotate();
    assert_eq!(with(&up, "/v1/tasks", &provider.token("ES256", person())).status, 200);
    assert_eq!(with(&up, "/v1/tasks", &old).status, 401);
}

#[test]
fn other_machines_reach_a_host_only_where_it_asks_and_is_told_in_private() {
    let open = tempfile::tempdir().unwrap();
    fs::write(open.path().join("system.toml"), format!("schema = 1\n{SITE}")).unwrap();
    fs::write(open.path().join("site.wasm"), built("hello-p3")).unwrap();
    let optional = folder("required = false");
    let asking = folder("public-url = \"https://witan.example\"");
    for (folder, line, expect) in [
        (&open, "up --listen 0.0.0.0:0", "[host.auth]"),
        (&open, "up --listen 0.0.0.0:0 --behind-tls", "[host.auth]"),
        (&open, "up --listen 127.0.0.1:0 --behind-tls", "[host.auth]"),
        (&optional, "up --listen 0.0.0.0:0 --behind-tls", "[host.auth]"),
        (&asking, "up --listen 0.0.0.0:0", "--behind-tls"),
    ] {
        let error = refused(&witan(folder.path(), line).output().unwrap());
        assert!(error.contains(expect), "{line}: {error}");
    }
    let key = told(asking.path(), "auth key create a --scope tasks:read --json");
    let up = Up::serve(asking, &["--listen", "0.0.0.0:0", "--behind-tls"]);
    let port = up.address().rsplit_once(':').unwrap().1.to_owned();
    let ask = |host: &str| {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let secret = key["secret"].as_str().unwrap();
        let head =
            format!("GET /v1/tasks HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-api-key: {secret}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        end(stream).unwrap().status
    };
    assert_eq!((ask("witan.example"), ask(&format!("127.0.0.1:{port}")), ask("evil.example")), (200, 200, 421));
}
