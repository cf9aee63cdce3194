//! The workspace's own programs as processes: started, watched, signalled, and gone when the test is over.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::PATIENCE;

/// How long something takes that must happen at once, on a machine that others use too.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// What the person who runs the tests may have set, and no program of a test may see.
const VARIABLES: [&str; 7] = [
    "GATEMESH_CA",
    "GATEMESH_CONFIG",
    "GATEMESH_CREDENTIALS",
    "GATEMESH_LOG",
    "GATEMESH_SERVER",
    "NO_COLOR",
    "RUST_LOG",
];

/// Where cargo puts a program or an example: beside this test's own executable, in `target/debug/deps`.
pub fn path(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    let programs = this.ancestors().nth(2).expect("target/debug");
    let example = programs.join("examples").join(name);
    if example.is_file() { example } else { programs.join(name) }
}

/// Whether these programs are there to be tested; says so if not. `cargo xtask test` builds them.
pub fn built(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !path(name).is_file()).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        // Not by print: what passes is not heard.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {missing} not built; `cargo xtask test` builds what they start");
    }
    missing.is_empty()
}

/// A command of one of the programs that hears nothing of the tester's own settings.
pub fn command(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(path(name));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// A running program; killed when it is dropped. What it writes goes to files, so it never waits for a reader.
pub struct Program {
    name: String,
    child: Child,
    output: TempDir,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 128 and the signal's number if it was killed, as a shell has it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn start<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Program {
        Program::start_in(name, arguments, &std::env::temp_dir(), &[])
    }

    /// Starts it in a directory, with variables.
    pub fn start_in<A: AsRef<OsStr>>(
        name: &str,
        arguments: &[A],
        directory: &Path,
        variables: &[(&str, &str)],
    ) -> Program {
        let output = TempDir::new().expect("a temporary directory");
        let file = |name| File::create(output.path().join(name)).expect("a file");
        let mut command = Command::from(command(name));
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Program { name: name.to_owned(), child, output }
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> String {
        read(&self.output.path().join("out"))
    }

    /// What it has written to standard error so far.
    pub fn err(&self) -> String {
        read(&self.output.path().join("err"))
    }

    pub fn signal(&self, signal: Signal) {
        // A child that was not waited for keeps its number, so this cannot hit anybody else.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it has not ended");
        kill(Pid::from_raw(pid), signal).expect("signalled");
        if signal == Signal::SIGSTOP {
            // Until then some of its threads may go on for a while.
            waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WUNTRACED)).expect("it is stopped");
        }
    }

    /// Whether it is still there.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// Waits until what it wrote satisfies a condition; fails if it ends before.
    pub async fn until<T>(&mut self, what: &str, condition: impl Fn(&Program) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let runs = self.runs();
            if let Some(value) = condition(self) {
                return value;
            }
            assert!(runs, "{} ended before: {what}\n{}\n{}", self.name, self.out(), self.err());
            assert!(Instant::now() < deadline, "waited for: {what}\n{}\n{}", self.out(), self.err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Ended {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{} does not end\n{}\n{}", self.name, self.out(), self.err()));
        Ended { code: code(status.expect("waited for")), out: self.out(), err: self.err() }
    }

    /// Signals it, and waits until it ends.
    pub async fn end_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended().await
    }
}

impl Ended {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// What it complained of on standard error, if it ended with this code.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// Runs a program to its end.
pub async fn run<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Ended {
    Program::start(name, arguments).ended().await
}

pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
