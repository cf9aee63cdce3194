//! What README's commands call: `cargo xtask demo`, `cargo xtask test` and what they need.

mod bench;
mod chaos;
mod demo;
mod fetch_ctp;
mod fetch_nats;
mod localctp;
mod process;
mod python;
mod simulate;
mod test;
mod wheel;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Gatemesh workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A gateway on a simulated venue, a strategy that trades through it, and a live view, until q or Ctrl-C
    #[command(after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --synthetic --speed 50\n  \
                            cargo xtask demo --no-watch --for 30")]
    Demo(demo::DemoArgs),
    /// Every test, with everything that the tests need
    #[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -- broker\n  \
                            cargo xtask test -- --test system -- --nocapture")]
    Test(test::TestArgs),
    /// What Gatemesh costs, beside bare NATS and VeighNa's RPC, in one table
    #[command(after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --quick --only latency calls\n  \
                            cargo xtask bench --save BENCHMARKS.md")]
    Bench(bench::BenchArgs),
    /// Many histories of crashes, delays and losses, in one thread with a virtual clock: no order lost, doubled, unknown
    #[command(
        after_help = "Examples:\n  cargo xtask simulate\n  cargo xtask simulate --histories 1000\n  \
                            cargo xtask simulate --seed 42\n  cargo xtask simulate --judge",
        disable_help_flag = true
    )]
    Simulate(simulate::SimulateArgs),
    /// Break a whole installation again and again while clients trade, and judge whether anything was lost
    #[command(after_help = "Examples:\n  cargo xtask chaos\n  cargo xtask chaos --minutes 30 --nodes 3\n  \
                            cargo xtask chaos --seed 7 --faults 'kill the leading,silent' --rounds 20\n  \
                            cargo xtask chaos --judge")]
    Chaos(chaos::ChaosArgs),
    /// Download the pinned nats-server into .tools, check it, and print its path
    FetchNats,
    /// Download CTP's own libraries into .tools, a version of each family, for the tests on them; print where they are
    FetchCtp,
    /// Fetch what the tests with LocalCTP need into .tools, check it, and print its directory
    FetchLocalctp,
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Simulate(args) => simulate::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::FetchNats => fetch_nats::fetch().map(|program| {
            println!("{}", program.display());
            ExitCode::SUCCESS
        }),
        Task::FetchCtp => fetch_ctp::fetch().map(|directories| {
            directories.iter().for_each(|directory| println!("{}", directory.display()));
            ExitCode::SUCCESS
        }),
        Task::FetchLocalctp => localctp::for_use().map(|home| match home {
            Some(home) => {
                println!("{}", home.display());
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
