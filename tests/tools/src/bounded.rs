//! Running a program for a bounded time.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Runs `command` for `time` at most, and gives what it wrote to standard output. The error is what it said last.
pub(crate) fn run(command: &mut Command, time: Duration) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that what it has started ends with it.
    let child = command.process_group(0).spawn().map_err(|error| format!("cannot run `{program}`: {error}"))?;
    let group = format!("-{}", child.id());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(time) else {
        let _ended = Command::new("kill").args(["-KILL", "--", &group]).status();
        return Err(format!("`{program}` took longer than {} s", time.as_secs()));
    };
    let output = output.map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    Err(format!("`{program}` failed: {}", last.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, time: Duration) -> Result<String, String> {
        run(Command::new("sh").args(["-c", script]), time)
    }

    #[test]
    fn what_it_says_is_given() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("echo good", long).unwrap(), "good\n");
        assert_eq!(shell("echo first >&2; echo bad >&2; exit 3", long).unwrap_err(), "`sh` failed: bad");
        assert!(run(&mut Command::new("/there/is/none"), long).unwrap_err().contains("cannot run"));
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let said = shell("sleep 600 & wait", Duration::from_millis(50)).unwrap_err();
        assert_eq!(said, "`sh` took longer than 0 s");
    }
}
