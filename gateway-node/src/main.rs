//! The node's process: arguments, configuration, logs, signals, exit code.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway_node::Node;
use gateway_node::config::Config;
use gateway_node::gateway::sim::config::VenueConfig;
use gateway_node::gateway::sim::server::{VenueOptions, VenueServer};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Hosts trading gateways and serves them on NATS.
///
/// Without a broker address in its configuration it starts a nats-server of its own. Ctrl-C or SIGTERM drains and
/// stops it; a second one ends it at once.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  gateway-node --config deploy/sim.toml\n\nExit codes: 0 stopped as told, 1 failed, 2 bad arguments or configuration, 130 ended at once"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Args)]
struct NodeArguments {
    /// The configuration file; deploy/node.example.toml has every key.
    #[arg(short, long, value_name = "FILE", env = "GATEMESH_CONFIG", required = true)]
    config: Option<PathBuf>,
    /// Checks the configuration, says what it found, and exits.
    #[arg(long)]
    check: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the simulated venue as a process of its own, which outlives the nodes that log in there.
    ///
    /// A node reaches it with [gateways.sim] venue = "HOST:PORT". One account, one session: a newer login ends the older
    /// one. Orders, trades and positions are in the ledger before they are answered, so that a killed venue goes on where
    /// it was. Whoever reaches the port can trade: there is no password.
    #[command(
        after_help = "Examples:\n  gateway-node venue --listen 127.0.0.1:7700 --ledger data/venue\n  gateway-node venue --listen 127.0.0.1:7700 --ledger data/venue --config deploy/venue.example.toml\n\nExit codes: 0 stopped as told, 1 failed, 2 bad arguments, configuration or ledger, 130 ended at once"
    )]
    Venue(VenueArguments),
}

#[derive(Args)]
struct VenueArguments {
    /// Where nodes connect; port 0 takes any free one, which the log names.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// The directory of the ledger; made if need be. An empty one begins a new account.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// The venue's settings; deploy/venue.example.toml has every key. Without it, a synthetic market.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lets whoever reaches the port inject faults: for tests only.
    #[arg(long)]
    allow_faults: bool,
    /// What is logged, as node.log in a node's configuration.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = match arguments.command {
        Some(Command::Venue(venue)) => run_venue(venue),
        None => run_node(arguments.node),
    };
    ctp::leave(code);
    ExitCode::from(code)
}

/// Exit codes: as told, failed, and a mistake in arguments or configuration.
const STOPPED: u8 = 0;
const FAILED: u8 = 1;
const MISTAKE: u8 = 2;

fn run_node(arguments: NodeArguments) -> u8 {
    let Some(path) = arguments.config else {
        eprintln!("gateway-node: no configuration: write --config FILE");
        return MISTAKE;
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gateway-node: {error}");
            return MISTAKE;
        }
    };
    // The NATS client's own lines repeat what the node says of its connections.
    start_log(&format!("async_nats=warn,{}", config.node.log));
    if let Some(defect) = protocol::defect::planted() {
        error!(defect = defect.name(), "a defect is planted in this node, for tests: never trade through it");
    }
    let names: Vec<String> = config.gateways.iter().map(|g| g.name.to_string()).collect();
    let node = match Node::new(config) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("gateway-node: {}: {error:#}", path.display());
            return MISTAKE;
        }
    };
    if arguments.check {
        println!("{}: fine; gateways: {}", path.display(), names.join(", "));
        return STOPPED;
    }
    run(async { node.run(stop_signal()?).await })
}

fn run_venue(arguments: VenueArguments) -> u8 {
    let VenueArguments { listen, ledger, config, allow_faults, log } = arguments;
    let filter = match EnvFilter::try_new(&log) {
        Ok(_) => log,
        Err(error) => {
            eprintln!("gateway-node: --log {log}: {error}; write a level such as info");
            return MISTAKE;
        }
    };
    let config = match config.map_or_else(|| Ok(VenueConfig::default()), |path| VenueConfig::load(&path)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gateway-node: {error:#}");
            return MISTAKE;
        }
    };
    start_log(&filter);
    let mut is_served = false;
    let code = run(async {
        let server = VenueServer::bind(VenueOptions { listen, config, ledger, allow_faults }).await?;
        let address = server.address()?;
        is_served = true;
        info!(%address, allow_faults, "the venue takes logins");
        server.run(stop_signal()?).await
    });
    if is_served { code } else { MISTAKE }
}

fn start_log(directives: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn run(task: impl Future<Output = anyhow::Result<()>>) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gateway-node: cannot make a runtime: {error}");
            return FAILED;
        }
    };
    match runtime.block_on(task) {
        Ok(()) => STOPPED,
        Err(error) => {
            error!("{error:#}");
            FAILED
        }
    }
}

/// Completes at the first Ctrl-C or SIGTERM; the second one ends the process.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!(signal = name, "asked to stop");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("gateway-node: asked a second time: ending at once");
            ctp::leave(130);
            #[allow(clippy::disallowed_methods)] // this is main's own decision
            std::process::exit(130);
        });
    })
}
