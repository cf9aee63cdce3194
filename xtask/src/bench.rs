//! `cargo xtask bench`: builds the measurements for release and runs them with the pinned nats-server.

use std::process::ExitCode;

use crate::{fetch_nats, workspace};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// Half a minute instead of three, with wider spreads
    #[arg(long)]
    quick: bool,
}

/// Fetches, builds, measures.
///
/// # Errors
/// If something could not be fetched, built or started.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let nats_server = fetch_nats::for_use()?;
    // Built first and apart, so that nothing compiles while it measures.
    workspace::run(&mut workspace::cargo(&["build", "--locked", "--release", "-p", "bench"]))?;
    let mut bench = std::process::Command::new(workspace::programs(true)?.join("bench"));
    if args.quick {
        bench.arg("--quick");
    }
    bench.env("GATEMESH_NATS_SERVER", nats_server);
    workspace::run_for_code(&mut bench)
}
