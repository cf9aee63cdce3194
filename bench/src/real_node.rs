//! The programs as they are installed: `gateway-node` as a process, with a configuration in a file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use client_sdk::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::GatewayState;

use crate::site::PATIENCE;

/// How often a starting gateway is asked how it is doing.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// The gateway of every configuration here.
pub const GATEWAY: &str = "sim";

/// A process of `gateway-node`. It is killed when this is dropped.
pub struct RealNode {
    child: std::process::Child,
    log: PathBuf,
}

impl RealNode {
    /// Starts it with these arguments; what it says goes into a file of this name.
    ///
    /// # Errors
    /// If it is not built, or cannot be started.
    pub fn start(arguments: &[&str], directory: &Path, log: &str) -> anyhow::Result<RealNode> {
        let this = std::env::current_exe().context("cannot find this program")?;
        let program = this.with_file_name("gateway-node");
        ensure!(program.is_file(), "{} is not built: start the bench with `cargo xtask bench`", program.display());
        let log = directory.join(log);
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("cannot start gateway-node")?;
        Ok(RealNode { child, log })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.child.kill().context("killing a node")?;
        self.child.wait().context("waiting for a node")?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and waits until it has drained.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.check()?;
        let pid = i32::try_from(self.child.id()).context("a process id that is none")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("asking a node to end")?;
        let status = tokio::task::block_in_place(|| self.child.wait()).context("waiting for a node")?;
        ensure!(status.success(), "gateway-node ended with {status}");
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If it does not, with its last words.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait().context("looking at a node")? else { return Ok(()) };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        bail!("gateway-node ended by itself ({status}): {last}")
    }

    /// Waits until it serves its gateway: when that was.
    ///
    /// # Errors
    /// If it ends, or takes longer than is bearable.
    pub async fn wait_until_ready(&mut self, url: &str) -> anyhow::Result<(Client, Instant)> {
        let start = Instant::now();
        let mut client = None;
        loop {
            if client.is_none() {
                // A server that does not listen yet is tried again at once.
                client = Client::connect(url).await.ok();
            }
            if let Some(client) = &client {
                let status = client.gateway(GATEWAY).get_status().await;
                if status.is_ok_and(|status| status.state == GatewayState::Ready) {
                    return Ok((client.clone(), Instant::now()));
                }
            }
            self.check()?;
            ensure!(start.elapsed() < PATIENCE, "gateway-node did not get ready in {} s", PATIENCE.as_secs());
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
