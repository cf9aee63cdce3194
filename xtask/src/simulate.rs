//! `cargo xtask simulate`: the deterministic simulation, built by itself with defects that can be planted. Cargo unites
//! the features of what it builds together, so it is never built with them beside a node.

use std::process::ExitCode;

use crate::workspace;

/// Options of `simulate`.
#[derive(clap::Args)]
pub struct SimulateArgs {
    /// What the simulation is told; --help lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Builds and runs it. The exit code says whether nothing was found.
///
/// # Errors
/// If it could not be built or started.
pub fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    simulate(&args.options)
}

/// Whether the simulation finds every planted defect.
///
/// # Errors
/// As [`run`].
pub fn judge() -> anyhow::Result<ExitCode> {
    simulate(&["--judge".to_owned()])
}

fn simulate(options: &[String]) -> anyhow::Result<ExitCode> {
    let mut simulation = workspace::cargo(&["run", "--locked", "--quiet", "-p", "simulation"]);
    simulation.args(["--features", "planted-defects", "--"]).args(options);
    workspace::run_for_code(&mut simulation)
}
