//! `cargo xtask bench`: builds the measurements for release and runs them with the pinned nats-server.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{fetch_nats, python, workspace};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// A minute and a half instead of seven, with wider spreads and without the frozen neighbour
    #[arg(long)]
    quick: bool,
    /// Only these: codec, fanout, latency, calls, orders, takeover, footprint, frozen, vnpy, growth
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Also how costs grow with symbols, subscribers, gateways, brokers and nodes: six minutes more
    #[arg(long)]
    growth: bool,
    /// Also writes the table into this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Fetches, builds, measures.
///
/// # Errors
/// If something could not be fetched, built or started.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let nats_server = fetch_nats::for_use()?;
    // Built first and apart, so that nothing compiles while it measures.
    workspace::run(&mut workspace::cargo(&["build", "--locked", "--release", "-p", "bench", "-p", "gateway-node"]))?;
    let mut bench = std::process::Command::new(workspace::programs(true)?.join("bench"));
    if args.quick {
        bench.arg("--quick");
    }
    if args.growth {
        bench.arg("--growth");
    }
    if !args.only.is_empty() {
        bench.arg("--only").args(&args.only);
    }
    if let Some(file) = &args.save {
        bench.arg("--save").arg(file);
    }
    if args.only.is_empty() || args.only.iter().any(|name| name == "vnpy") {
        match python::with_vnpy() {
            Ok(python) => _ = bench.env("GATEMESH_BENCH_PYTHON", python),
            Err(error) => eprintln!("xtask: no Python with VeighNa, so its columns are left out: {error:#}"),
        }
    }
    bench.env("GATEMESH_NATS_SERVER", nats_server);
    workspace::run_for_code(&mut bench)
}
