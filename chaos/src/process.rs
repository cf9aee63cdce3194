//! A program that the runner starts, freezes, kills and starts again: in a process group of its own, its output in a file,
//! killed when its owner is dropped.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // A child that was not waited for keeps its number, so this cannot hit anybody else.
        if self.child.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

impl Program {
    /// Starts it. What it prints is appended to `log`.
    ///
    /// # Errors
    /// If it cannot be started, or its log not be written.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Program> {
        let output = OpenOptions::new().append(true).create(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .env("NO_COLOR", "1")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).context("a process that has just started")?;
        Ok(Program { name: name.to_owned(), child, group: Pid::from_raw(group), log: log.to_owned() })
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The way to its standard input, once.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.id().is_some(), "{} is gone already", self.name);
        killpg(self.group, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        let _ = killpg(self.group, Signal::SIGKILL);
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end by SIGTERM, and waits.
    ///
    /// # Errors
    /// If it has not ended after `patience`.
    pub async fn stop(mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => ended.with_context(|| format!("cannot wait for {}", self.name)),
            Err(_) => bail!("{} did not stop within {patience:?} of SIGTERM\n{}", self.name, self.last_words()),
        }
    }

    /// How it ended, if it has ended by itself.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))
    }

    /// The last lines of its output.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last: String = lines[lines.len().saturating_sub(15)..].iter().map(|line| format!("  {line}\n")).collect();
        format!("{}:\n{last}", self.log.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done"]);
        Program::start("sleeper", &mut command, &directory.join("log")).expect("starts")
    }

    async fn until_up(directory: &Path) {
        while std::fs::read_to_string(directory.join("log")).unwrap_or_default() != "up\n" {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_program_is_stopped_killed_and_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = sleeper(directory.path());
        until_up(directory.path()).await;
        assert_eq!(program.stop(Duration::from_secs(20)).await.expect("stops").code(), Some(7));
        sleeper(directory.path()).kill().await.expect("killed");
        let program = sleeper(directory.path());
        let pid = program.group;
        drop(program);
        // Nobody of that group is left (a zombie is waited for by the runtime).
        while nix::sys::signal::kill(pid, None).is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_does_not_stop_is_told_with_its_last_words() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = sleeper(directory.path());
        until_up(directory.path()).await;
        program.signal(Signal::SIGSTOP).expect("frozen");
        let error = program.stop(Duration::from_millis(50)).await.expect_err("frozen").to_string();
        assert!(error.contains("sleeper did not stop") && error.ends_with("  up\n"), "{error}");
    }
}
