//! Services that show a client certificate to a host that runs: whom they are taken for, who is refused, and what changes
//! while it runs.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    WITAN,
    authority::{Authority, Certified},
    up::{Up, built},
};

const WORKER: &str = "spiffe://acme.example/worker";

/// A system whose services are those of `rules`.
fn system(rules: &str) -> String {
    format!(
        "schema = 1\n[host.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\nclient-ca = \"clients.pem\"\n\
         [host.auth]\n{rules}[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n"
    )
}

fn rule(subject: &str, name: &str, tenant: &str, scope: &str) -> String {
    format!("[[host.auth.certificates]]\n{subject}\nname = \"{name}\"\ntenant = \"{tenant}\"\nscopes = [\"{scope}\"]\n")
}

/// A client that believes `servers` alone, and shows `identity`. Each request has a connection of its own.
fn client(servers: &Authority, identity: Option<&Certified>) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(servers.pem().as_bytes()).unwrap();
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).pool_max_idle_per_host(0);
    if let Some(Certified { certificate, key }) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

/// What `up` says to `client` of `path`; an error is a connection that was not made.
async fn ask(up: &Up, client: &reqwest::Client, path: &str) -> Result<(u16, Value), reqwest::Error> {
    let answer = client.get(format!("{}{path}", up.address())).send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await.unwrap_or_default()))
}

async fn status(up: &Up, client: &reqwest::Client, path: &str) -> u16 {
    ask(up, client, path).await.unwrap().0
}

/// Waits until `holds`: the test ends by its own time limit if it never does.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_certificate_is_a_service_of_its_tenant_and_what_it_may_do_changes_while_the_host_runs() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    servers.certify("127.0.0.1").put(folder.path());
    fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    let worker = format!("uri = \"{WORKER}\"");
    let rules = rule(&worker, "worker", "acme", "tasks:read")
        + &rule("dns = \"clerk.acme.example\"", "clerk", "other", "tasks:*");
    fs::write(folder.path().join("system.toml"), system(&rules)).unwrap();
    for tenant in ["acme", "other"] {
        let mut create = Command::new(WITAN);
        create.args(["auth", "tenant", "create", tenant]).current_dir(folder.path());
        assert!(create.status().unwrap().success());
    }
    let up = Up::serve(folder, &[]);

    // Each is the service that its name stands for, of that tenant, and may do what its rule says.
    let (certified, clerk) = (clients.certify(WORKER), clients.certify("Clerk.acme.example"));
    let (worker_of_acme, clerk) = (client(&servers, Some(&certified)), client(&servers, Some(&clerk)));
    let (_, me) = ask(&up, &worker_of_acme, "/v1/auth/me").await.unwrap();
    assert_eq!((&me["principal"], &me["tenant"]), (&json!("service/worker"), &json!("acme")), "{me}");
    let (_, me) = ask(&up, &clerk, "/v1/auth/me").await.unwrap();
    assert_eq!((&me["principal"], &me["tenant"]), (&json!("service/clerk"), &json!("other")), "{me}");
    assert_eq!(status(&up, &worker_of_acme, "/v1/tasks").await, 200);
    assert_eq!(status(&up, &worker_of_acme, "/v1/host").await, 403);

    // No certificate, one that no rule knows, and one of an authority that is not the system's.
    assert_eq!(status(&up, &client(&servers, None), "/v1/tasks").await, 401);
    let unknown = clients.certify("spiffe://acme.example/other");
    assert_eq!(status(&up, &client(&servers, Some(&unknown)), "/v1/tasks").await, 401);
    let stranger = client(&servers, Some(&strangers.certify(WORKER)));
    assert!(ask(&up, &stranger, "/v1/tasks").await.is_err());

    // Another mapping: the same certificate is another service, of another tenant, and the clerk is nobody.
    up.put("system.toml", system(&rule(&worker, "robot", "other", "tasks:read")).as_bytes());
    up.signal("HUP");
    until(async || ask(&up, &worker_of_acme, "/v1/auth/me").await.unwrap().1["principal"] == "service/robot").await;
    assert_eq!(ask(&up, &worker_of_acme, "/v1/auth/me").await.unwrap().1["tenant"], "other");
    assert_eq!(status(&up, &clerk, "/v1/tasks").await, 401);

    // Other files in the place of the certificates: no restart, no signal.
    let (new_servers, new_clients) = (Authority::new(), Authority::new());
    new_servers.certify("127.0.0.1").put(up.folder());
    up.put("clients.pem", new_clients.pem().as_bytes());
    let renewed = client(&new_servers, Some(&new_clients.certify(WORKER)));
    until(async || ask(&up, &renewed, "/v1/tasks").await.is_ok_and(|(status, _)| status == 200)).await;
    assert!(ask(&up, &client(&new_servers, Some(&certified)), "/v1/tasks").await.is_err());
    assert!(ask(&up, &worker_of_acme, "/v1/tasks").await.is_err());
}
