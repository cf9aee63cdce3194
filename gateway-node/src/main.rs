//! The node's process: arguments, configuration, logs, signals, exit code.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gateway_node::Node;
use gateway_node::config::Config;
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
    after_help = "Example:\n  gateway-node --config deploy/sim.toml\n\nExit codes: 0 stopped as told, 1 failed, 2 bad arguments or configuration, 130 ended at once"
)]
struct Arguments {
    /// The configuration file; deploy/node.example.toml has every key.
    #[arg(short, long, value_name = "FILE", env = "GATEMESH_CONFIG")]
    config: PathBuf,
    /// Checks the configuration, says what it found, and exits.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gateway-node: {error}");
            return ExitCode::from(2);
        }
    };
    let filter = EnvFilter::try_from_default_env()
        // The NATS client's own lines repeat what the node says of its connections.
        .unwrap_or_else(|_| EnvFilter::new(format!("async_nats=warn,{}", config.node.log)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let names: Vec<String> = config.gateways.iter().map(|g| g.name.to_string()).collect();
    let node = match Node::new(config) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("gateway-node: {}: {error:#}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{}: fine; gateways: {}", arguments.config.display(), names.join(", "));
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gateway-node: cannot make a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(async { node.run(stop_signal()?).await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
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
            #[allow(clippy::disallowed_methods)] // this is main's own decision
            std::process::exit(130);
        });
    })
}
