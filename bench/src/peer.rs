//! Another process of a measurement: told what to do in JSON, a line each, on its standard input; it answers likewise on
//! its standard output, first with `ready`, and ends when its input does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The process. It is killed when this is dropped.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts this program in another role.
    pub fn of_this_program(arguments: &[&str]) -> anyhow::Result<Peer> {
        let program = std::env::current_exe().context("cannot find this program")?;
        Peer::start(Command::new(program).args(arguments))
    }

    /// Starts it and waits until it is ready.
    pub fn start(command: &mut Command) -> anyhow::Result<Peer> {
        let mut peer = Peer::launch(command)?;
        peer.wait_until_ready()?;
        Ok(peer)
    }

    /// Starts it and does not wait.
    pub fn launch(command: &mut Command) -> anyhow::Result<Peer> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start another process")?;
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Ok(Peer { child, input, output })
    }

    /// Waits for it to say so.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line == "ready\n", "another process did not get ready, it said `{line}`");
        Ok(())
    }

    /// Tells it something.
    pub fn tell(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(what)?;
        line.push('\n');
        let input = self.input.as_mut().context("the other process is told nothing any more")?;
        input.write_all(line.as_bytes()).context("the other process is gone")
    }

    /// Its next answer.
    pub fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("another process said `{line}`"))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says from now on, for a thread that reads it.
    pub fn output(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        self.output.take().context("another process's output is read already")
    }

    /// Stops it (SIGSTOP), as a machine that hangs would be: its connection stays, and nobody reads.
    pub fn freeze(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id that is none")?;
        kill(Pid::from_raw(pid), Signal::SIGSTOP).context("freezing the other process")
    }

    /// Lets it end, and waits for it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.child.wait().context("waiting for the other process")?;
        anyhow::ensure!(status.success(), "the other process ended with {status}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let output = self.output.as_mut().context("another process's output is read elsewhere")?;
        output.read_line(&mut line).context("waiting for the other process")?;
        if line.is_empty() {
            bail!("another process ended ({})", self.child.wait().context("waiting for the other process")?);
        }
        Ok(line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_peer_answers_line_by_line_and_ends_with_its_input() {
        let mut peer = Peer::start(&mut shell("echo ready; while read line; do echo \"$line\"; done")).expect("ready");
        for number in [1_u64, 2] {
            peer.tell(&number).expect("told");
            assert_eq!(peer.answer::<u64>().expect("answered"), number);
        }
        peer.stop().expect("ends well");
    }

    #[test]
    fn one_that_fails_is_an_error() {
        let error = |command: &mut Command| format!("{:#}", Peer::start(command).map(drop).expect_err("not ready"));
        assert!(error(&mut shell("exit 3")).contains("exit status: 3"));
        assert!(error(&mut shell("echo hello")).contains("it said `hello"));
        assert!(error(&mut Command::new("no-such-program-here")).contains("cannot start"));
    }
}
