//! `chaos run` breaks an installation of its own and judges; `chaos client` is one of its clients.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chaos::fault::Fault;
use chaos::run::{Length, Outcome, run};
use chaos::site::Plan;
use chaos::{report, trader};
use clap::{Parser, Subcommand};
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Something was lost, duplicated or mismatched.
const FOUND: u8 = 1;
/// Nothing is wrong, but leaders were replaced too slowly.
const SLOW: u8 = 3;
/// The run did not come to a judgement, or proves nothing.
const FAILED: u8 = 2;

/// Breaks a whole installation again and again, and judges whether anything was lost.
#[derive(Parser)]
#[command(name = "chaos", max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, strike, judge; exit code 1 if something is wrong, 2 if the run proves nothing, 3 if takeovers
    /// took more than twice the lease at the median
    Run(RunArgs),
    /// Trade without pause, as `run` tells on standard input
    Client(trader::ClientArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// How many faults; by default each kind once
    #[arg(long, conflicts_with = "minutes")]
    rounds: Option<std::num::NonZeroUsize>,
    /// For how long
    #[arg(long)]
    minutes: Option<std::num::NonZeroU64>,
    /// Decides everything that chance decides; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes host the gateway
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    nodes: u8,
    /// How many clients trade
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    clients: u8,
    /// Only these faults: names or parts of names, separated by commas
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// The defect that the nodes have; their program must be built with planted-defects
    #[arg(long)]
    defect: Option<String>,
    /// The program of the nodes
    #[arg(long)]
    node: PathBuf,
    /// The program of the venue; by default that of the nodes
    #[arg(long)]
    venue: Option<PathBuf>,
    /// The nats-server program
    #[arg(long, env = "GATEMESH_NATS_SERVER")]
    nats_server: PathBuf,
    /// Keep logs and ledgers though nothing was wrong
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,async_nats=error,client_sdk=error".to_owned());
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: cannot start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let done = match args.command {
        Command::Client(args) => runtime.block_on(trader::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => runtime.block_on(judged(args)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("chaos: {error:#}");
        ExitCode::from(FAILED)
    })
}

async fn judged(args: RunArgs) -> anyhow::Result<ExitCode> {
    let kinds = kinds(&args.faults)?;
    let seed = args.seed.unwrap_or_else(|| rand_chacha::ChaCha8Rng::from_rng(&mut rand::rng()).next_u64() >> 32);
    let length = match (args.rounds, args.minutes) {
        (Some(rounds), _) => Length::Rounds(rounds.get()),
        (None, Some(minutes)) => Length::For(Duration::from_secs(60 * minutes.get())),
        (None, None) => Length::Rounds(kinds.len()),
    };
    let directory = chaos::run::directory(seed);
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{}", path.display()));
    let plan = Plan {
        directory: directory.clone(),
        nats_server: absolute(&args.nats_server)?,
        node: absolute(&args.node)?,
        venue: absolute(args.venue.as_ref().unwrap_or(&args.node))?,
        defect: args.defect.clone(),
        nodes: usize::from(args.nodes),
        clients: usize::from(args.clients),
        seed,
    };
    println!("seed {seed}, everything in {}", directory.display());
    let asked = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    // Whatever ends this, the installation is dropped with the future, and with it every process.
    let ended = tokio::select! {
        ended = run(plan, &kinds, length) => ended,
        () = interrupted(asked) => Err(anyhow::anyhow!("interrupted")),
    };
    let kept = || format!("seed {seed}; everything is kept in {}", directory.display());
    let outcome = ended.with_context(kept)?;
    print!("{}", report::table(&outcome, &kinds));
    let code = verdict(&outcome, &kinds).with_context(kept)?;
    if code == ExitCode::SUCCESS && !args.keep {
        std::fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    } else {
        println!("{}", kept());
    }
    Ok(code)
}

fn verdict(outcome: &Outcome, kinds: &[Fault]) -> anyhow::Result<ExitCode> {
    if !outcome.findings.is_empty() {
        print!("{}", report::findings(outcome));
        return Ok(ExitCode::from(FOUND));
    }
    // A run that was cut short by --rounds owes no kind.
    let owed = if outcome.rounds.len() >= kinds.len() { kinds } else { &[] };
    outcome.check_proves_something(owed)?;
    if let Some(median) = outcome.too_slow() {
        println!("too slow: {median} ms at the median until a failed leader was replaced, more than twice the lease");
        return Ok(ExitCode::from(SLOW));
    }
    Ok(ExitCode::SUCCESS)
}

/// The faults that are meant by these words.
fn kinds(words: &[String]) -> anyhow::Result<Vec<Fault>> {
    for word in words {
        if !Fault::ALL.iter().any(|fault| fault.name().contains(word.as_str())) {
            let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
            anyhow::bail!("--faults: `{word}` is part of no fault's name: write parts of {}", names.join(", "));
        }
    }
    let is_meant = |fault: &Fault| words.is_empty() || words.iter().any(|word| fault.name().contains(word.as_str()));
    Ok(Fault::ALL.iter().copied().filter(is_meant).collect())
}

/// Ctrl-C, SIGTERM, or a terminal that is closed.
async fn interrupted(mut asked: [Signal; 3]) {
    let [interrupt, terminate, hangup] = &mut asked;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
