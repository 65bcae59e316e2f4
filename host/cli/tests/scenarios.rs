//! Runs every folder of tests/scenarios against the real binary; its README says what the files mean.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{LazyLock, Mutex},
    thread,
};

use witan_build::{Checkout, Progress, Workspace};

/// Builds the guests once.
static PROGRAMS: LazyLock<String> = LazyLock::new(|| {
    let checkout = Checkout::at(&root()).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout.build_folder(Workspace::Programs).display().to_string()
});

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// `witan` with a state folder that the scenarios share, so that each guest is compiled once.
fn witan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witan"));
    command.env("WITAN_STATE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("state"));
    command.env_remove("WITAN_SYSTEM").env_remove("WITAN_LOG").stdin(Stdio::null());
    command
}

#[test]
fn every_scenario_goes_as_it_is_written() {
    let server = server();
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("tests/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    let queue = Mutex::new(folders.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(folder) = { queue.lock().unwrap().next() } {
                    if let Err(failure) = scenario(folder, &server) {
                        let name = folder.file_name().unwrap().display();
                        failures.lock().unwrap().push(format!("== {name}: {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn scenario(folder: &Path, server: &str) -> Result<(), String> {
    let place = tempfile::tempdir().unwrap();
    copy(folder, place.path()).unwrap();
    let optional = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let commands = optional("command.txt").ok_or("there is no command.txt")?;
    let commands: Vec<&str> =
        commands.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
    let (last, before) = commands.split_last().ok_or("command.txt has no command")?;
    for line in before {
        let output = run(line, place.path(), server, None);
        if !output.status.success() {
            return Err(format!("`{line}` ended with {}:\n{}", output.status, text(&output.stderr)));
        }
    }
    let output = run(last, place.path(), server, optional("stdin.txt"));
    compare(folder, &output, server)
}

fn run(line: &str, place: &Path, server: &str, stdin: Option<String>) -> Output {
    let line = line.replace("{programs}", &PROGRAMS).replace("{server}", server);
    let mut child = witan()
        .args(words(&line))
        .current_dir(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that reads none of it closes the pipe.
    let _closed = input.write_all(stdin.unwrap_or_default().as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

fn compare(folder: &Path, output: &Output, server: &str) -> Result<(), String> {
    let optional = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let stdout = text(&output.stdout).replace(server, "{server}");
    let stderr = text(&output.stderr).replace(server, "{server}");
    let all = format!("exit: {:?}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status.code());
    let exit = optional("expected-exit.txt").map_or(0, |exit| exit.trim().parse().unwrap());
    if output.status.code() != Some(exit) {
        return Err(format!("the exit code should be {exit}\n{all}"));
    }
    if let Some(expected) = optional("expected-stdout.txt")
        && expected != stdout
    {
        return Err(format!("standard output should be:\n{expected}\n{all}"));
    }
    for expected in optional("expected-stderr.txt").unwrap_or_default().lines() {
        if !stderr.contains(expected) {
            return Err(format!("standard error should contain: {expected}\n{all}"));
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The words of a line: single quotes keep together what stands between them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut begun) = (String::new(), false, false);
    for char in line.chars() {
        match char {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            other => {
                word.push(other);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Copies a folder, and makes components of what is there in text form.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else if target.extension().is_some_and(|extension| extension == "wat") {
            fs::write(target.with_extension("wasm"), wat::parse_file(entry.path()).map_err(io::Error::other)?)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// A server that answers every request with its first line, and ends with the test.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let length = first.len();
            let _gone =
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{first}");
        }
    });
    address
}

/// A server process that is ended with the test.
struct Serving {
    child: std::process::Child,
    address: String,
}

impl Serving {
    fn start(guest: &str, flags: &[&str]) -> Self {
        let mut child = witan()
            .args(["serve", &format!("{}/{guest}.wasm", *PROGRAMS), "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        Self { child, address: address.expect("the first line says where it listens") }
    }

    /// Status and body of the answer to a request for `path` that names `host`.
    fn get(&self, path: &str, host: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Asks it to end, and gives its exit code.
    fn end(mut self) -> Option<i32> {
        let ended = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(ended.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_component_serves_and_ends_when_it_is_asked_to() {
    for guest in ["hello-p2", "hello-p3"] {
        let serving = Serving::start(guest, &[]);
        let (status, body) = serving.get("/", &serving.address);
        assert_eq!(status, 200, "{guest}");
        assert!(body.contains("Hello, world!"), "{guest}: {body}");
        assert_eq!(serving.end(), Some(0), "{guest}");
    }
}

#[test]
fn a_trap_ends_one_request_and_a_foreign_host_name_none() {
    for guest in ["serve-p2", "serve-p3"] {
        let serving = Serving::start(guest, &[]);
        let (status, body) = serving.get("/trap", &serving.address);
        assert_eq!(status, 502, "{guest}: {body}");
        assert!(!body.contains("asked to"), "{guest}: {body}");
        assert_eq!(serving.get("/", "rebound.example").0, 421, "{guest}");
        assert_eq!(serving.get("/count", &serving.address), (200, "1".to_owned()), "{guest}");
    }
}
