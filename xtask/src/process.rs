//! A program that the demo starts and stops: in a process group of its own, so that a Ctrl-C in the terminal reaches the
//! demo alone and everything ends in order.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A running program whose output goes to a file.
pub struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// How a program ended.
pub struct Ended {
    name: &'static str,
    status: ExitStatus,
    killed: bool,
    log: PathBuf,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started, or its log not be written.
    pub fn start(name: &'static str, command: &mut Command, log: PathBuf) -> anyhow::Result<Running> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // The output is a file, of which the last lines are shown: an error's backtrace would fill them.
            .env("NO_COLOR", "1")
            .env("RUST_LIB_BACKTRACE", "0")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Running { name, child, log })
    }

    /// Waits until it ends by itself. Safe to drop and to call again.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.name))
    }

    /// The last lines that it wrote.
    pub fn last_words(&self) -> String {
        last_lines(&self.log, 15)
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks it to end, and kills it if it has not after `patience`.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn stop(mut self, patience: Duration) -> anyhow::Result<Ended> {
        interrupt(&self.child);
        let killed = timeout(patience, self.child.wait()).await.is_err();
        if killed {
            self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))?;
        }
        let status = self.ended().await?;
        Ok(Ended { name: self.name, status, killed, log: self.log })
    }
}

impl Ended {
    /// Whether it ended as it should.
    pub fn is_good(&self) -> bool {
        self.status.success()
    }

    /// The last lines that it wrote.
    pub fn last_words(&self) -> String {
        last_lines(&self.log, 15)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kill = if self.killed { ", because it did not stop when asked" } else { "" };
        write!(f, "{} {}{kill}", self.name, told(self.status))
    }
}

/// How a program ended, in words.
pub fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Asks a child to end, as a Ctrl-C would; nothing happens if it has ended already.
pub fn interrupt(child: &Child) {
    // A child that was not waited for keeps its number, so this cannot hit anybody else.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
}

fn last_lines(file: &Path, count: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last: String = lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("  {line}\n")).collect();
    format!("{}:\n{last}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, directory: &Path) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(directory);
        Running::start("sh", &mut command, directory.join("sh.log")).expect("starts")
    }

    #[tokio::test]
    async fn one_that_stops_when_asked_is_not_killed() {
        let dir = tempfile::tempdir().expect("directory");
        let running = sh("trap 'echo bye; exit 0' INT; echo ready > ready; while :; do sleep 0.01; done", dir.path());
        while !dir.path().join("ready").exists() {
            tokio::task::yield_now().await;
        }
        let ended = running.stop(Duration::from_secs(20)).await.expect("stops");
        assert!(ended.is_good() && !ended.killed, "{ended}");
        assert!(last_lines(&dir.path().join("sh.log"), 5).contains("bye"));
    }

    #[tokio::test]
    async fn one_that_does_not_is() {
        let dir = tempfile::tempdir().expect("directory");
        let running = sh("trap '' INT; echo ready > ready; while :; do sleep 0.01; done", dir.path());
        while !dir.path().join("ready").exists() {
            tokio::task::yield_now().await;
        }
        let ended = running.stop(Duration::from_millis(50)).await.expect("stops");
        assert!(!ended.is_good() && ended.killed);
        assert_eq!(ended.to_string(), "sh was killed by signal 9, because it did not stop when asked");
    }

    #[tokio::test]
    async fn one_that_has_ended_says_how() {
        let dir = tempfile::tempdir().expect("directory");
        let mut running = sh("echo why; exit 3", dir.path());
        assert_eq!(told(running.ended().await.expect("ended")), "exited with code 3");
        assert!(running.last_words().ends_with("  why\n"));
        assert_eq!(running.stop(Duration::from_secs(20)).await.expect("ended").to_string(), "sh exited with code 3");
    }
}
