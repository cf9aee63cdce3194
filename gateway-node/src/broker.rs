//! The embedded nats-server: found, started on the loopback interface, watched and stopped. With an external broker
//! none of this runs.

pub mod binary;
mod leftover;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::EmbeddedBroker;
use binary::Places;

/// The server's configuration unless another is named; the same file serves a nats-server that is started by hand.
const BUILT_IN_CONFIG: &str = include_str!("../../nats.conf");

/// A server reads its streams before it listens; after a crash it checks every block of them.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// A server flushes its streams before it exits.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How often a starting server is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The server renames its log at this size, and keeps as many old ones as `logfile_max_num` in its configuration says.
const LOG_BYTES: &str = "16777216";

/// A running nats-server. It is killed when this is dropped; [`Broker::stop`] is the kind way.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    url: String,
    files: Files,
    /// Keeps other nodes off the data directory for as long as the server runs.
    _lock: File,
}

impl Broker {
    /// Starts a server and waits until it takes connections.
    ///
    /// # Errors
    /// If there is no nats-server that is new enough, if the data directory belongs to another node, or if the server
    /// does not come up; with its last words.
    pub async fn start(config: &EmbeddedBroker) -> anyhow::Result<Broker> {
        let (program, version) = binary::find(&Places::of_this_process(config.server.clone())).await?;
        let files = Files::prepare(config)?;
        let lock = files.lock()?;
        leftover::stop(&files.pid, STOP_PATIENCE).await?;
        files.clear_ports()?;
        let log_from = files.log_bytes();

        let child = files.command(&program, config)?.spawn();
        let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let url = match timeout(START_PATIENCE, files.listening(&mut child)).await {
            Ok(Ok(url)) => url,
            Ok(Err(ended)) => {
                bail!(
                    "nats-server {ended} instead of starting{}{}",
                    files.advice(config, log_from),
                    files.tail(log_from)
                )
            }
            Err(_) => {
                bail!("nats-server did not start within {} s{}", START_PATIENCE.as_secs(), files.tail(log_from))
            }
        };
        info!(%url, %version, program = %program.display(), directory = %files.root.display(), "nats-server started");
        Ok(Broker { child, url, files, _lock: lock })
    }

    /// Where to connect: `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for an end that nobody asked for; what it returns says how the server ended, with its last words. Safe to
    /// drop and to call again.
    pub async fn exited(&mut self) -> anyhow::Error {
        let ended = match self.child.wait().await {
            Ok(status) => told(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        let from = self.files.log_bytes().saturating_sub(4096);
        anyhow::anyhow!("nats-server {ended} although nobody stopped it{}", self.files.tail(from))
    }

    /// Stops the server: first asks, then, after 15 s, kills.
    ///
    /// # Errors
    /// If the server cannot be waited for, or did not end well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // ESRCH cannot happen: an ended child keeps its number until it is waited for, here.
            kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop nats-server")?;
        }
        let status = match timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(status) => status.context("cannot wait for nats-server")?,
            Err(_) => {
                warn!("nats-server did not stop in {} s and is killed", STOP_PATIENCE.as_secs());
                self.child.kill().await.context("cannot kill nats-server")?;
                bail!("nats-server had to be killed");
            }
        };
        if !status.success() {
            let from = self.files.log_bytes().saturating_sub(4096);
            bail!("nats-server {}{}", told(status), self.files.tail(from));
        }
        info!("nats-server stopped");
        Ok(())
    }
}

/// What the embedded server keeps below the data directory, all paths absolute.
#[derive(Debug)]
struct Files {
    /// `<data_dir>/broker`: the server's working directory, so that the relative `store_dir` of its configuration is here.
    root: PathBuf,
    lock: PathBuf,
    config: PathBuf,
    pid: PathBuf,
    log: PathBuf,
    /// What the server says before it has a log, and when it panics.
    output: PathBuf,
}

impl Files {
    fn prepare(config: &EmbeddedBroker) -> anyhow::Result<Files> {
        let root = config.data_dir.join("broker");
        let cannot = || format!("cannot make {} (broker.data_dir)", root.display());
        std::fs::create_dir_all(&root).with_context(cannot)?;
        let root = root.canonicalize().with_context(cannot)?;
        let files = Files {
            lock: root.join("lock"),
            config: root.join("nats.conf"),
            pid: root.join("nats-server.pid"),
            log: root.join("nats-server.log"),
            output: root.join("nats-server.out"),
            root,
        };
        Ok(files)
    }

    /// Takes the directory for this node; the kernel gives it back however the node ends.
    fn lock(&self) -> anyhow::Result<File> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)
            .with_context(|| format!("cannot open {}", self.lock.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).ok();
                let holder = holder.trim().parse::<u32>().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                bail!(
                    "{} is in use by another node{holder}: stop it, or give this one a broker.data_dir of its own",
                    self.root.display()
                );
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", self.lock.display()));
            }
        }
        // For the sentence above; the lock itself is the kernel's.
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).context("cannot write the lock file")?;
        Ok(file)
    }

    fn command(&self, program: &Path, config: &EmbeddedBroker) -> anyhow::Result<Command> {
        let server_config = match &config.config {
            None => {
                std::fs::write(&self.config, BUILT_IN_CONFIG)
                    .with_context(|| format!("cannot write {}", self.config.display()))?;
                self.config.clone()
            }
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {} (broker.config)", path.display()))?;
                check_store_dir(&text).with_context(|| format!("{} (broker.config)", path.display()))?;
                path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?
            }
        };
        let output = File::create(&self.output).with_context(|| format!("cannot write {}", self.output.display()))?;
        let port = if config.port == 0 { "-1".to_owned() } else { config.port.to_string() };
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(server_config)
            .args(["-a", "127.0.0.1", "-p", &port, "-P"])
            .arg(&self.pid)
            .arg("--ports_file_dir")
            .arg(&self.root)
            .arg("-l")
            .arg(&self.log)
            .args(["--log_size_limit", LOG_BYTES])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A Ctrl-C in the terminal goes to the terminal's whole group: the node must drain before its server ends.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// The address of a server that answers; `Err` says how it ended before that.
    async fn listening(&self, child: &mut Child) -> Result<String, String> {
        loop {
            tokio::select! {
                ended = child.wait() => return Err(ended.map_or_else(|error| error.to_string(), told)),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            let Some(url) = self.told_url(child.id()) else { continue };
            if greets(&url).await {
                return Ok(url);
            }
        }
    }

    /// From the file that the server writes once it listens: `{"nats":["nats://127.0.0.1:40501"]}`. It may be half written.
    fn told_url(&self, pid: Option<u32>) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let text = std::fs::read_to_string(self.root.join(format!("nats-server_{}.ports", pid?))).ok()?;
        serde_json::from_str::<Ports>(&text).ok()?.nats.into_iter().next()
    }

    /// Killed servers leave their ports files behind.
    fn clear_ports(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.root).context("cannot list the data directory")?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "ports") {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map(|log| log.len()).unwrap_or(0)
    }

    /// What to do about the commonest failure.
    fn advice(&self, config: &EmbeddedBroker, log_from: u64) -> String {
        if read_from(&self.log, log_from).contains("address already in use") {
            format!(
                ": port {} is taken, perhaps by a nats-server that runs already. Stop that one, join it with \
                 broker.address = \"nats://127.0.0.1:{}\", or write broker.port = 0 for any free port",
                config.port, config.port
            )
        } else {
            String::new()
        }
    }

    /// The last lines that the server wrote, from this position of its log on.
    fn tail(&self, log_from: u64) -> String {
        let text = format!("{}{}", read_from(&self.log, log_from), read_from(&self.output, 0));
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
        format!("\n{}:\n  {last}", self.log.display())
    }
}

/// At most 64 KiB, from that position or, where the file has been replaced by a shorter one, from the beginning.
fn read_from(path: &Path, position: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let start = if position > length { 0 } else { position };
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(64 << 10))))?;
        let mut bytes = Vec::new();
        file.take(64 << 10).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// A server without a `store_dir` keeps its streams where temporary files are deleted.
fn check_store_dir(text: &str) -> anyhow::Result<()> {
    let words = |line: &str| line.split('#').next().unwrap_or_default().to_owned();
    // What other files that it includes hold is not looked at.
    if text.lines().map(words).any(|line| line.contains("store_dir") || line.contains("include")) {
        return Ok(());
    }
    bail!(
        "names no store_dir, so the journals would go to the directory of temporary files: add jetstream {{ store_dir: \"nats\" }}"
    )
}

/// Whether a NATS server answers at this URL: it speaks first, with its INFO.
async fn greets(url: &str) -> bool {
    let greeting = async {
        let stream = TcpStream::connect(url.strip_prefix("nats://")?).await.ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.ok()?;
        line.starts_with("INFO ").then_some(())
    };
    matches!(timeout(Duration::from_secs(2), greeting).await, Ok(Some(())))
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

#[cfg(test)]
mod tests;
