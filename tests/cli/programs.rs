//! Running the programs, ours and the original's, and comparing what they did.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Which program of which make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make {
    Ours,
    Original,
}

/// What a program did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// No test takes longer; a program that does is killed and has no status.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn path(make: Make, program: &str) -> Option<PathBuf> {
    let path = match (make, program) {
        (Make::Ours, "mosquitto_pub") => env!("CARGO_BIN_EXE_mosquitto_pub").into(),
        (Make::Ours, "mosquitto_sub") => env!("CARGO_BIN_EXE_mosquitto_sub").into(),
        (Make::Ours, _) => panic!("no such program: {program}"),
        (Make::Original, _) => Path::new("/usr/bin").join(program),
    };
    path.exists().then_some(path)
}

/// Both makes, or ours alone.
pub fn makes() -> impl Iterator<Item = Make> {
    [Make::Ours, Make::Original]
        .into_iter()
        .filter(|make| path(*make, "mosquitto_pub").is_some())
}

/// Starts a program with pipes all around. No options file of the user's gets in the way.
pub fn start(make: Make, program: &str, arguments: &[&str]) -> Child {
    Command::new(path(make, program).unwrap())
        .args(arguments)
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a program's end; closes its input.
pub fn finish(mut child: Child) -> Outcome {
    drop(child.stdin.take());
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    let (ended, wait) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    Outcome {
        status: output.status.code(),
        stdout: alike(&String::from_utf8_lossy(&output.stdout)),
        stderr: without_blank_lines(&alike(&String::from_utf8_lossy(&output.stderr))),
    }
}

pub fn run(make: Make, program: &str, arguments: &[&str], input: &str) -> Outcome {
    let mut child = start(make, program, arguments);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_bytes().to_vec();
    // Beside reading what it prints, or each would wait for the other.
    let writer = std::thread::spawn(move || {
        // A program that does not want its input may be gone already.
        let _ = stdin.write_all(&input);
    });
    let outcome = finish(child);
    writer.join().unwrap();
    outcome
}

/// Without what differs by chance or by age: ids that somebody made up, and what is printed where there is none.
fn alike(text: &str) -> String {
    let words = text.replace("(null) ", "null ");
    words
        .split_inclusive(' ')
        .map(|word| {
            if word.starts_with("auto-") {
                "auto-UUID "
            } else if word.starts_with("mosq-") {
                "mosq-RANDOM "
            } else {
                word
            }
        })
        .collect()
}

/// The original has more or fewer of them from one error to the next.
fn without_blank_lines(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

/// Our `run`, and that of the original beside it: must be the same.
pub fn same(program: &str, arguments: &[&str], input: &str) -> Outcome {
    let ours = run(Make::Ours, program, arguments, input);
    if path(Make::Original, program).is_some() {
        let original = run(Make::Original, program, arguments, input);
        assert_eq!(ours, original, "{program} {arguments:?}");
    }
    ours
}
