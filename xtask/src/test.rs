//! `cargo xtask test`: every test of the workspace, with the programs that they start, and a short run of chaos.

use std::process::ExitCode;

use crate::{chaos, fetch_ctp, fetch_nats, localctp, python, simulate, workspace};

/// Options of `test`.
#[derive(clap::Args)]
pub struct TestArgs {
    /// What cargo test is to be told: names of tests, -p PACKAGE, --release, -- --nocapture
    #[arg(last = true, value_name = "CARGO TEST ARGUMENTS")]
    cargo_test: Vec<String>,
}

/// Fetches, builds, tests. The exit code is that of what failed.
///
/// # Errors
/// If something could not be fetched, built or started.
pub fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let nats_server = fetch_nats::for_use()?;
    let python = python::with_nats_client()?;
    fetch_ctp::for_tests()?;
    let localctp = localctp::for_use()?;
    let release =
        args.cargo_test.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--release");
    workspace::build_programs(release)?;

    // -p narrows what is tested; otherwise it is everything.
    let one_package =
        args.cargo_test.iter().take_while(|a| *a != "--").any(|a| a == "-p" || a.starts_with("--package"));
    let mut test = workspace::cargo(&["test", "--locked"]);
    if !one_package {
        test.arg("--workspace");
    }
    test.args(&args.cargo_test).env("GATEMESH_NATS_SERVER", &nats_server).env("GATEMESH_PYTHON", python);
    if let Some(localctp) = localctp {
        test.env("GATEMESH_LOCALCTP", localctp);
    }
    let tested = workspace::run_for_code(&mut test)?;
    if tested != ExitCode::SUCCESS || !args.cargo_test.is_empty() {
        return Ok(tested);
    }
    // The judges are judged apart: what they are built with must not be in what is tested above.
    let judged = simulate::judge()?;
    if judged != ExitCode::SUCCESS {
        return Ok(judged);
    }
    // By itself and last: it needs the machine, and would disturb the timing of the tests.
    chaos::short(&nats_server)
}
