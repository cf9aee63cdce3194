//! `cargo xtask demo`: a node with an embedded broker and a simulated venue, a strategy that trades through it, and a
//! live view; started in order, stopped in order, nothing left running.

mod market;
mod stream;

use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::process::{Running, interrupt};
use crate::{fetch_nats, workspace};
use market::Market;

const READY_PATIENCE: Duration = Duration::from_secs(60);
const STRATEGY_PATIENCE: Duration = Duration::from_secs(10);
/// The node drains, and its broker has 15 s of its own.
const NODE_PATIENCE: Duration = Duration::from_secs(40);

/// Options of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Replay the recorded ticks in DIR/ticks [default: GATEMESH_DATA, or ../shared/data if it is there; otherwise as
    /// with --synthetic]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Trade on a made-up market that needs no file
    #[arg(long, conflicts_with = "data")]
    synthetic: bool,
    /// So many times as fast as it happened, or `max`
    #[arg(long, value_name = "N", default_value = "10", value_parser = market::speed)]
    speed: toml::Value,
    /// Print what happens instead of the full-screen view; always so where the output is no terminal
    #[arg(long)]
    no_watch: bool,
    /// End after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Build with optimisation: slower to start, faster to run
    #[arg(long)]
    release: bool,
}

/// Fetches, builds, and plays until asked to stop.
///
/// # Errors
/// If something could not be fetched, built or started, or did not last.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let market = Market::choose(args.data.clone(), args.synthetic, args.speed.clone())?;
    let nats_server = fetch_nats::for_use()?;
    workspace::build_programs(args.release)?;
    let programs = workspace::programs(args.release)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asked = StopRequests::new()?;
        let demo = Demo::prepare(programs, &market)?;
        demo.run(args, &nats_server, &mut asked).await
    })
}

/// A directory with the node's configuration, its journal and the logs.
struct Demo {
    programs: PathBuf,
    directory: PathBuf,
    url: String,
}

impl Demo {
    fn prepare(programs: PathBuf, market: &Market) -> anyhow::Result<Demo> {
        let directory = tempfile::Builder::new().prefix("gatemesh-demo-").tempdir()?.keep();
        let port = free_port()?;
        let data = directory.join("data");
        std::fs::write(directory.join("node.toml"), market.node_config(&data, port)?)?;
        say(&format!("market    {market}"));
        say(&format!("logs      {}", directory.display()));
        Ok(Demo { programs, directory, url: format!("nats://127.0.0.1:{port}") })
    }

    async fn run(&self, args: &DemoArgs, nats_server: &Path, asked: &mut StopRequests) -> anyhow::Result<ExitCode> {
        let mut command = Command::new(self.programs.join("gateway-node"));
        command.arg("--config").arg(self.directory.join("node.toml")).env("GATEMESH_NATS_SERVER", nats_server);
        let mut node = Running::start("gateway-node", &mut command, self.directory.join("node.log"))?;
        let mut strategy = None;
        let played = self.play(args, &mut node, &mut strategy, asked).await;
        // Whatever happened: first who trades, then what it trades through.
        let told = played.is_err();
        let stopped = self.stop(strategy, node, asked, told).await;
        played.and(stopped)
    }

    async fn play(
        &self,
        args: &DemoArgs,
        node: &mut Running,
        strategy: &mut Option<Running>,
        asked: &mut StopRequests,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ready = self.ready(node) => ready?,
            () = asked.wait() => return Ok(()),
        }
        let mut command = Command::new(self.programs.join("examples/double_ma"));
        command.args(["--server", &self.url, "--gateway", "sim1"]);
        let strategy = strategy.insert(Running::start("double_ma", &mut command, self.directory.join("strategy.log"))?);
        say(&format!("strategy  double_ma, log {}", self.directory.join("strategy.log").display()));
        say(&format!("look      {} --server {} status", self.programs.join("gatectl").display(), self.url));

        let time_is_up = async {
            match args.time {
                Some(time) => sleep(time).await,
                None => std::future::pending().await,
            }
        };
        if args.no_watch || !std::io::stdout().is_terminal() {
            say("stop      Ctrl-C");
            tokio::select! {
                shown = stream::show(|arguments| self.gatectl(arguments)) => shown?,
                () = time_is_up => {}
                () = asked.wait() => {}
                ended = node.ended() => return Err(unexpected(node, ended?)),
                ended = strategy.ended() => return Err(unexpected(strategy, ended?)),
            }
            for summary in ["positions", "accounts"] {
                let _ = timeout(Duration::from_secs(10), self.gatectl(&[summary]).stdin(Stdio::null()).status()).await;
            }
            return Ok(());
        }
        self.watch(time_is_up, asked).await
    }

    /// The full-screen view. It stays when the node or the strategy ends, and shows that; how they ended is told after it.
    async fn watch(&self, time_is_up: impl Future<Output = ()>, asked: &mut StopRequests) -> anyhow::Result<()> {
        let mut view = self.gatectl(&["watch"]).kill_on_drop(true).spawn().context("cannot start gatectl watch")?;
        tokio::select! {
            ended = view.wait() => {
                let status = ended.context("cannot wait for gatectl watch")?;
                if !status.success() {
                    bail!("gatectl watch {}", crate::process::told(status));
                }
                return Ok(());
            }
            () = time_is_up => {}
            () = asked.wait() => {}
        }
        interrupt(&view);
        if !matches!(timeout(Duration::from_secs(3), view.wait()).await, Ok(Ok(status)) if status.success()) {
            view.kill().await.context("cannot end gatectl watch")?;
            // Out of the alternate screen, cursor shown, line mode: a view that was killed could not do it.
            print!("\x1b[?1049l\x1b[?25h");
            let _ = std::io::stdout().flush();
            let _ = Command::new("stty").arg("sane").status().await;
        }
        Ok(())
    }

    /// Waits until the gateway takes orders.
    async fn ready(&self, node: &mut Running) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        let mut state = "no answer".to_owned();
        while Instant::now() < deadline {
            let mut ask = self.gatectl(&["status", "--json", "--timeout", "2"]);
            tokio::select! {
                ended = node.ended() => return Err(unexpected(node, ended?)),
                answer = ask.stdin(Stdio::null()).kill_on_drop(true).output() => {
                    let answer = answer.context("cannot run gatectl")?;
                    if let Some(found) = state_of(&String::from_utf8_lossy(&answer.stdout)) {
                        state = found;
                    }
                    if state == "READY" {
                        return Ok(());
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        let log = node.last_words();
        bail!("the gateway was not ready within {} s (last seen: {state})\n{log}", READY_PATIENCE.as_secs())
    }

    fn gatectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("gatectl"));
        command.args(["--server", &self.url]).args(arguments);
        command
    }

    /// Stops the strategy, then the node. `told`: what went wrong before is being told, and need not be shown again.
    async fn stop(
        &self,
        strategy: Option<Running>,
        node: Running,
        asked: &mut StopRequests,
        told: bool,
    ) -> anyhow::Result<ExitCode> {
        let mut good = true;
        let strategy = strategy.map(|strategy| (strategy, STRATEGY_PATIENCE));
        for (running, patience) in strategy.into_iter().chain([(node, NODE_PATIENCE)]) {
            let name = running.name();
            tokio::select! {
                ended = running.stop(patience) => {
                    let ended = ended?;
                    say(&format!("stopped   {ended}"));
                    if !ended.is_good() {
                        good = false;
                        if !told {
                            say(&ended.last_words());
                        }
                    }
                }
                // Dropping what was being stopped kills it.
                () = asked.wait() => {
                    say(&format!("stopped   {name} was killed, as you asked a second time"));
                    good = false;
                }
            }
        }
        let data = self.directory.join("data");
        if good {
            // The logs stay for whoever wants to read them; the journal is the bulk of it.
            let _ = std::fs::remove_dir_all(&data);
        } else {
            end_left_over_broker(&data.join("broker/nats-server.pid")).await;
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Somebody asking to stop: Ctrl-C, SIGTERM, or a terminal that is closed.
struct StopRequests([Signal; 3]);

impl StopRequests {
    fn new() -> anyhow::Result<StopRequests> {
        Ok(StopRequests([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn unexpected(running: &Running, status: std::process::ExitStatus) -> anyhow::Error {
    anyhow::anyhow!("{} {} by itself\n{}", running.name(), crate::process::told(status), running.last_words())
}

/// A line for the person at the terminal; a reader that has gone is no reason to leave processes behind.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The state in what `gatectl status --json` prints: the status itself, or an event that carries it.
fn state_of(answer: &str) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(answer.lines().next()?).ok()?;
    let state = status.get("state").or_else(|| status.get("data")?.get("state"))?;
    state.as_str().map(str::to_owned)
}

/// Free now; should somebody take it before the broker does, the node says so and the demo ends.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// A node that broke or was killed could not stop its broker.
async fn end_left_over_broker(pid_file: &Path) {
    let Ok(pid) = std::fs::read_to_string(pid_file) else { return };
    let Ok(number) = pid.trim().parse::<i32>() else { return };
    let asked = Command::new("ps").args(["-ww", "-o", "command=", "-p", &number.to_string()]).output().await;
    let Ok(answer) = asked else { return };
    let command = String::from_utf8_lossy(&answer.stdout).into_owned();
    if number > 1 && command.contains("nats-server") && command.contains(&*pid_file.to_string_lossy()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), nix::sys::signal::Signal::SIGTERM);
        say(&format!("stopped   nats-server (pid {number}), which the node left behind"));
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write a number of seconds above 0, such as 30");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_in_a_status_and_in_an_event() {
        assert_eq!(state_of(r#"{"gateway_name":"sim1","state":"READY"}"#).as_deref(), Some("READY"));
        assert_eq!(state_of(r#"{"gateway":"sim1","data":{"state":"CONNECTING"}}"#).as_deref(), Some("CONNECTING"));
        for nothing in ["", "no gateway", "[]", r#"{"state":1}"#] {
            assert_eq!(state_of(nothing), None);
        }
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["0", "-1", "nan", "inf", "soon", "1e300"] {
            assert!(seconds(wrong).expect_err("refused").contains("number of seconds"), "{wrong}");
        }
    }
}
