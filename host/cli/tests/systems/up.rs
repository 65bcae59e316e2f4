//! A host that serves, and what is asked of it over HTTP.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{WITAN, checkout};

/// Long enough for a component to compile on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the host is asked whether it has come so far: it needs the processor more than we do.
const POLL: Duration = Duration::from_millis(10);

/// A system whose component `site` serves an intent and a mount.
pub(crate) const TELLING: &str = r#"schema = 1

[intents]
tell = "site"

[components.site]
source = "site.wasm"
allow-unsigned = true

[[mounts]]
path = "/site"
component = "site"
"#;

/// A host that serves a system in a folder of its own, and loads it again when it changes. It ends with the test.
pub(crate) struct Up {
    child: Child,
    address: String,
    folder: PathBuf,
    said: Arc<Mutex<Vec<u8>>>,
    /// Removed with the test.
    own: Option<tempfile::TempDir>,
}

/// The standard output of a host, and what came of it.
struct Heard {
    output: ChildStdout,
    said: Arc<Mutex<Vec<u8>>>,
}

impl io::Read for Heard {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.output.read(bytes)?;
        self.said.lock().unwrap().extend_from_slice(&bytes[..read]);
        Ok(read)
    }
}

/// What the host answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

impl Up {
    /// Serves `system`, in which the component `site` has the bytes of `site.wasm`.
    pub(crate) fn start(system: &str, site: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("system.toml"), system).unwrap();
        fs::write(folder.path().join("site.wasm"), site).unwrap();
        Self::serve(folder, &["--watch"])
    }

    /// Serves the system in `folder`.
    pub(crate) fn serve(folder: tempfile::TempDir, more: &[&str]) -> Self {
        Self::serve_logged(folder, more, Stdio::null())
    }

    /// As [`Self::serve`], with its log in `errors`.
    pub(crate) fn serve_logged(folder: tempfile::TempDir, more: &[&str], errors: impl Into<Stdio>) -> Self {
        let mut up = Self::start_on(folder.path(), more, errors);
        up.own = Some(folder);
        up
    }

    /// Serves the system in `folder`, which outlives it.
    pub(crate) fn on(folder: &Path, more: &[&str]) -> Self {
        Self::start_on(folder, more, Stdio::null())
    }

    /// As [`Self::on`], by another copy of the program.
    pub(crate) fn of(program: &Path, folder: &Path) -> Self {
        Self::start_of(program, folder, &[], Stdio::null())
    }

    fn start_on(folder: &Path, more: &[&str], errors: impl Into<Stdio>) -> Self {
        Self::start_of(Path::new(WITAN), folder, more, errors)
    }

    fn start_of(program: &Path, folder: &Path, more: &[&str], errors: impl Into<Stdio>) -> Self {
        let listen: &[&str] = if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = Command::new(program)
            .args(["up", "--json"])
            .args(listen)
            .args(more)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut output = Heard { output: child.stdout.take().unwrap(), said: said.clone() };
        let announced = serde_json::Deserializer::from_reader(&mut output).into_iter::<Value>().next();
        let announced = announced.expect("the host ended before it served").unwrap();
        let url = announced["url"].as_str().unwrap_or_else(|| panic!("the host does not serve: {announced}"));
        let address = url.trim_start_matches("http://").to_owned();
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Self { child, address, folder: folder.to_owned(), said, own: None }
    }

    /// What it has written to its standard output.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// The folder of its system.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens, as host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends it a signal, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.ended();
    }

    /// Puts `bytes` in the place of the component, at once.
    pub(crate) fn replace(&self, bytes: &[u8]) {
        self.put("site.wasm", bytes);
    }

    /// Puts `bytes` in the place of a file of its folder, at once.
    pub(crate) fn put(&self, file: &str, bytes: &[u8]) {
        let new = self.folder.join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.folder.join(file)).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Sends a request with a JSON body and reads the answer to its end.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut request = self.begin(method, path, body.len())?;
        request.write_all(body.as_bytes())?;
        end(request)
    }

    /// Sends the head of a request whose body has `length` bytes.
    pub(crate) fn begin(&self, method: &str, path: &str, length: usize) -> io::Result<TcpStream> {
        begin(&self.address, method, path, "", length)
    }

    /// Asks for `path` until `fits`, and checks that each answer on the way is a good one.
    pub(crate) fn until(&self, path: &str, fits: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let answer = self.get(path);
            assert_eq!(answer.status, 200, "{}", answer.body);
            if fits(&answer.body) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{path} still answers {}", answer.body);
            thread::sleep(POLL);
        }
    }

    /// The digest of the component that new calls get.
    pub(crate) fn digest(&self) -> String {
        self.get("/v1/components").json()["data"][0]["digest"].as_str().unwrap().to_owned()
    }

    /// The number of the last log line.
    pub(crate) fn logged(&self) -> u64 {
        let last = self.get("/v1/host/logs?limit=1").json()["data"][0]["sequence"].as_u64();
        last.unwrap_or(0)
    }

    /// Waits for a log line with `text` after the line `after`.
    pub(crate) fn until_logged(&self, after: u64, text: &str) {
        self.until(&format!("/v1/host/logs?after={after}"), |logs| logs.contains(text));
    }
}

/// Sends a request with a JSON body and headers to `address`, and reads the answer to its end.
pub(crate) fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let mut request = begin(address, method, path, headers, body.len())?;
    request.write_all(body.as_bytes())?;
    end(request)
}

fn begin(address: &str, method: &str, path: &str, headers: &str, length: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// Reads the answer to a request that has been sent, which must be whole.
pub(crate) fn end(mut request: TcpStream) -> io::Result<Answer> {
    let mut answer = Vec::new();
    request.read_to_end(&mut answer)?;
    whole(&answer).ok_or_else(|| io::Error::other(format!("no whole answer: {}", String::from_utf8_lossy(&answer))))
}

fn whole(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let body = &answer[end + 4..];
    let body = match header("content-length") {
        Some(length) => (body.len() == length.parse::<usize>().ok()?).then(|| body.to_vec())?,
        None => pieces(body)?,
    };
    Some(Answer { status, body: String::from_utf8(body).ok()? })
}

/// The body that was sent in pieces, if the last one has come.
fn pieces(mut sent: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = sent.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&sent[..line]).ok()?, 16).ok()?;
        let piece = sent.get(line + 2..line + 2 + length)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(piece);
        sent = sent.get(line + 2 + length + 2..)?;
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The bytes of a program that tests run.
pub(crate) fn built(program: &str) -> Vec<u8> {
    read_built(&format!("{program}.wasm"))
}

/// The signature that this machine made of a program when it built it.
pub(crate) fn signature(program: &str) -> Vec<u8> {
    read_built(&format!("{program}.wasm.sigstore.json"))
}

fn read_built(file: &str) -> Vec<u8> {
    let path: PathBuf = checkout().join("tests/programs/build").join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{error}: `{}`; run `cargo xtask build`", path.display()))
}
