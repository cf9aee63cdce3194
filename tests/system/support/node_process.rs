//! A gateway-node as a process of its own, with the embedded broker that it starts.

use std::path::{Path, PathBuf};

use async_nats::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::program::{Ended, Program};
use super::{eventually, until_ready};

/// A directory for a node's configuration and data that outlives the node. A nats-server that a killed node left there
/// is killed with it; declare it before the node.
pub struct Home {
    directory: TempDir,
}

impl Home {
    pub fn new() -> Home {
        Home { directory: TempDir::new().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Writes the configuration of a node with an embedded broker on any free port.
    pub fn config(&self, gateways: &str) -> PathBuf {
        self.config_on_port(0, gateways)
    }

    pub fn config_on_port(&self, port: u16, gateways: &str) -> PathBuf {
        let text = format!(
            "[node]\nname = \"test\"\n[broker]\ndata_dir = \"data\"\nport = {port}\n[journal]\nmax_bytes = 67108864\n{gateways}"
        );
        self.file("node.toml", &text)
    }

    /// The nats-server that runs on this data, if one does.
    pub fn server(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path().join("data/broker/nats-server.pid")).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        is_running(pid).then(|| Pid::from_raw(pid))
    }

    pub fn signal_server(&self, signal: Signal) {
        kill(self.server().expect("a server runs"), signal).expect("signalled");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(pid) = self.server() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Also true of a stopped process, but not of one that has ended and that nobody has waited for.
fn is_running(pid: i32) -> bool {
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(command) => !command.is_empty(),
        Err(_) => !Path::new("/proc/self").exists() && kill(Pid::from_raw(pid), None).is_ok(),
    }
}

/// A running gateway-node whose broker takes connections.
pub struct NodeProcess {
    pub program: Program,
    pub url: String,
}

impl NodeProcess {
    /// Starts a node on what is written in the home's configuration, and waits until its broker takes connections.
    pub async fn start(home: &Home) -> NodeProcess {
        let mut program = NodeProcess::launch(home);
        let url = program.until("the broker's address", |p| address(&p.err())).await;
        NodeProcess { program, url }
    }

    /// Starts a node and waits for nothing.
    pub fn launch(home: &Home) -> Program {
        Program::start_in("gateway-node", &["--config", "node.toml"], home.path(), &[])
    }

    pub async fn client(&self) -> Client {
        async_nats::connect(&self.url).await.expect("connects")
    }

    /// A client, once the gateway takes orders.
    pub async fn ready(&self, gateway: &str) -> Client {
        let client = self.client().await;
        until_ready(&client, gateway).await;
        client
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub async fn kill(self) {
        assert_eq!(self.program.end_by(Signal::SIGKILL).await.code, 137);
    }

    /// Drains and stops it.
    pub async fn stop(self) -> Ended {
        let ended = self.program.end_by(Signal::SIGTERM).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended
    }
}

/// From `nats-server started url=nats://127.0.0.1:40501 version=...`.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("nats-server started"))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("url=")).map(str::to_owned)
}

/// Waits until no nats-server runs on this data.
pub async fn until_server_is_gone(home: &Home) {
    eventually("the nats-server to be gone", || async { home.server().is_none().then_some(()) }).await;
}
