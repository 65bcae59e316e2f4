//! Clients of others push and pull; what lies in a registry is the same for them and for us.

use oci_client::{
    Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};

use super::*;

in_both!(
    crane_pulls_what_we_publish,
    crane_pushes_what_we_fetch,
    oras_pulls_what_we_publish,
    oras_pushes_what_we_fetch,
    oras_copies_signatures_that_still_count,
    skopeo_pulls_what_we_publish,
    skopeo_pushes_what_we_fetch,
    wkg_pulls_what_we_publish,
    wkg_pushes_what_we_fetch,
    oci_client_pulls_and_pushes,
    we_publish_and_run,
);

/// What a tool pulled as files by their digests must be what was published, every byte.
fn pulled(world: &World, folder: &str, digest: &str) {
    let blob = |digest: &str| fs::read(world.home.path(folder).join(digest.trim_start_matches("sha256:"))).unwrap();
    let manifest = blob(digest);
    assert_eq!(Digest::of(&manifest).to_string(), digest);
    assert_eq!(blob(&layer_of(&manifest)), fs::read(world.home.path("sums.wasm")).unwrap());
}

/// What a tool pushed is fetched by us, every byte, and not let in, since nobody signed it.
fn fetched(world: &World) {
    let said = world.home.run(&["pull", "acme:sums@1.0.0", "--registry", &world.host, "--json"]).well().json();
    assert_eq!((&said["signatures"], &said["verified"]), (&Value::from(0), &Value::from(false)));
    let component = fs::read(world.home.path("sums.wasm")).unwrap();
    assert_eq!(fs::read(world.fetched(&Digest::of(&component).to_string())).unwrap(), component);
    world.system(&fs::read_to_string(world.key("release")).unwrap(), "");
    world.call().badly(&["has no signature"]);
}

fn crane_pulls_what_we_publish(place: Place) {
    let Some(crane) = Tool::Crane.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    let pull = |version: &str| {
        let reference = format!("{}:{version}", world.repository());
        world.tool(&crane, &["pull", "--insecure", "--format=oci", &reference, "pulled"])
    };
    pull("1.0.0").well();
    pulled(&world, "pulled/blobs/sha256", &digest);
    pull("1.0.1").badly(&["MANIFEST_UNKNOWN"]);
}

fn crane_pushes_what_we_fetch(place: Place) {
    let Some(crane) = Tool::Crane.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    world.sign("1.0.0", &["--key", "release", "--unlogged"]).layout(&world.home, "1.0.0");
    world.tool(&crane, &["push", "--insecure", "layout", &format!("{}:1.0.0", world.repository())]).well();
    fetched(&world);
}

fn oras_pulls_what_we_publish(place: Place) {
    let Some(oras) = Tool::Oras.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    let copy = |version: &str| {
        let reference = format!("{}:{version}", world.repository());
        world.tool(&oras, &["copy", "--from-plain-http", &reference, "--to-oci-layout", "pulled:1.0.0"])
    };
    copy("1.0.0").well();
    pulled(&world, "pulled/blobs/sha256", &digest);
    copy("1.0.1").badly(&["not found"]);
}

fn oras_pushes_what_we_fetch(place: Place) {
    let Some(oras) = Tool::Oras.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    world.sign("1.0.0", &["--key", "release", "--unlogged"]);
    fs::copy(world.home.path("signed/config.json"), world.home.path("config.json")).unwrap();
    let config = format!("config.json:{}", media::CONFIG);
    let layer = format!("sums.wasm:{}", media::WASM);
    let reference = format!("{}:1.0.0", world.repository());
    world.tool(&oras, &["push", "--plain-http", &reference, "--config", &config, &layer]).well();
    fetched(&world);
}

/// A mirror that somebody else filled: what was signed for one place counts in another.
fn oras_copies_signatures_that_still_count(place: Place) {
    let Some(oras) = Tool::Oras.or_skip() else { return };
    // From each into the other.
    let Some(mut world) = World::new(Place::DockerS) else { return };
    let docker_s = world.docker_s.as_ref().unwrap().host().to_owned();
    let (from, to) = match place {
        Place::Ours => (docker_s, world.ours.host.clone()),
        Place::DockerS => (world.ours.host.clone(), docker_s),
    };
    world.host = from;
    world.publish("1.0.0");
    let source = format!("{}:1.0.0", world.repository());
    world.host = to;
    let target = format!("{}:1.0.0", world.repository());
    world.system(&fs::read_to_string(world.key("release")).unwrap(), "");
    let copy = ["copy", "--from-plain-http", "--to-plain-http", &source, &target];
    // Without what refers to it, it is a component that nobody signed.
    world.tool(&oras, &copy).well();
    world.call().badly(&["has no signature"]);
    world.tool(&oras, &[&copy[..], &["--recursive"]].concat()).well();
    fs::remove_dir_all(world.home.path(".local/share/witan/components")).unwrap();
    assert_eq!(world.call().well().out.trim(), "8");
}

fn skopeo_pulls_what_we_publish(place: Place) {
    let Some(skopeo) = Tool::Skopeo.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    let copy = |version: &str| {
        let source = format!("docker://{}:{version}", world.repository());
        world.tool(&skopeo, &["--insecure-policy", "copy", "--src-tls-verify=false", &source, "dir:pulled"])
    };
    copy("1.0.0").well();
    let name = world.home.path("pulled").join(digest.trim_start_matches("sha256:"));
    fs::rename(world.home.path("pulled/manifest.json"), name).unwrap();
    pulled(&world, "pulled", &digest);
    copy("1.0.1").badly(&["manifest unknown"]);
}

fn skopeo_pushes_what_we_fetch(place: Place) {
    let Some(skopeo) = Tool::Skopeo.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    world.sign("1.0.0", &["--key", "release", "--unlogged"]).layout(&world.home, "1.0.0");
    let target = format!("docker://{}:1.0.0", world.repository());
    world.tool(&skopeo, &["--insecure-policy", "copy", "--dest-tls-verify=false", "oci:layout:1.0.0", &target]).well();
    fetched(&world);
}

fn wkg_pulls_what_we_publish(place: Place) {
    let Some(wkg) = Tool::Wkg.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    world.publish("1.0.0");
    let pull = |version: &str| {
        let reference = format!("{}:{version}", world.repository());
        world.tool(&wkg, &["oci", "pull", "--insecure", &world.host, &reference, "--output", "pulled.wasm"])
    };
    pull("1.0.0").well();
    assert_eq!(fs::read(world.home.path("pulled.wasm")).unwrap(), fs::read(world.home.path("sums.wasm")).unwrap());
    assert!(!pull("1.0.1").success);
}

fn wkg_pushes_what_we_fetch(place: Place) {
    let Some(wkg) = Tool::Wkg.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let reference = format!("{}:1.0.0", world.repository());
    world.tool(&wkg, &["oci", "push", "--insecure", &world.host, &reference, "sums.wasm"]).well();
    fetched(&world);
}

/// `wkg` finds packages by the file that our registry serves for it.
#[test]
fn wkg_gets_a_package_by_its_name() {
    let Some(wkg) = Tool::Wkg.or_skip() else { return };
    let Some(world) = World::new(Place::Ours) else { return };
    world.publish("1.0.0");
    let (_, port) = world.host.rsplit_once(':').unwrap();
    let config = format!(
        "[namespace_registries]\nacme = \"localhost:{port}\"\n[registry.\"localhost:{port}\".oci]\nprotocol = \"http\"\n\
         auth = {{ username = \"anyone\", password = \"{}\" }}\n",
        world.token
    );
    world.home.file("wkg.toml", config);
    let get = |package: &str| {
        world.tool(&wkg, &["get", "--config", "wkg.toml", package, "--output", "./got.wasm", "--overwrite"])
    };
    get("acme:sums@1.0.0").well();
    assert_eq!(fs::read(world.home.path("got.wasm")).unwrap(), fs::read(world.home.path("sums.wasm")).unwrap());
    assert!(!get("acme:sums@1.0.1").success);
}

/// A tool without a token is let in nowhere.
#[test]
fn who_has_no_token_pulls_nothing() {
    let Some(oras) = Tool::Oras.or_skip() else { return };
    let Some(world) = World::new(Place::Ours) else { return };
    let digest = world.publish("1.0.0");
    let reference = format!("{}@{digest}", world.repository());
    let fetch = || world.tool(&oras, &["manifest", "fetch", "--plain-http", &reference]);
    fetch().well();
    world.home.file(".docker/config.json", "{}");
    assert!(!fetch().success);
}

fn oci_client_pulls_and_pushes(place: Place) {
    let Some(world) = World::new(place) else { return };
    let component = fs::read(world.home.path("sums.wasm")).unwrap();
    let client = oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let auth = RegistryAuth::Basic("anyone".to_owned(), world.token.clone());
    let reference = |version: &str| -> Reference { format!("{}:{version}", world.repository()).parse().unwrap() };
    let signed = world.sign("1.0.0", &["--key", "release", "--unlogged"]);
    let layers = [ImageLayer::new(component.clone(), media::WASM.to_owned(), None)];
    let config = Config::new(signed.artifact.config.clone(), media::CONFIG.to_owned(), None);
    wait(client.push(&reference("1.0.0"), &layers, config, &auth, None)).unwrap();
    fetched(&world);
    fs::remove_file(world.home.path("system.toml")).unwrap();
    world.publish("1.1.0");
    let pull = |version: &str| wait(client.pull(&reference(version), &auth, vec![media::WASM]));
    assert_eq!(pull("1.1.0").unwrap().layers[0].data.to_vec(), component);
    assert!(pull("1.2.0").is_err());
}

/// Ours, from end to end; Debian's registry has no list of what refers to a version, so that signatures lie under a tag.
fn we_publish_and_run(place: Place) {
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    let said = world.home.run(&["pull", "acme:sums@1.0.0", "--registry", &world.host, "--json"]).well().json();
    assert_eq!((&said["digest"], &said["signatures"]), (&Value::from(digest), &Value::from(3)));
    world.home.key("other");
    world.system(&fs::read_to_string(world.key("other")).unwrap(), "");
    world.call().badly(&["is not trusted"]);
    world.system(&fs::read_to_string(world.key("release")).unwrap(), "");
    assert_eq!(world.call().well().out.trim(), "8");
}
