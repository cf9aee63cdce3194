//! The command line of Gatemesh: reads the arguments, runs the command, gives the exit code.

mod args;
mod exit;
mod format;
mod out;
mod rows;
mod run;
mod table;
mod watch;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use exit::{Failure, report};

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.global.json;
    if let Command::Completions { shell } = args.command {
        return report(completions(shell), json);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(Failure::Local(format!("cannot start threads: {error}"))), json),
    };
    let colored = args.global.color.enabled(std::io::stdout().is_terminal(), no_color());
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Watch(watch) => watch::run(&args.global, watch, colored).await,
            command => {
                log_to_standard_error();
                run::run(args.global, command, colored).await
            }
        }
    });
    // A reader of the terminal or the network that is still blocked must not hold up the end.
    runtime.shutdown_background();
    report(outcome, json)
}

/// <https://no-color.org>: set, and not empty.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    // Written in one piece: the generator itself panics on a closed output.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "gatectl", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Warnings of the client library; `GATEMESH_LOG=debug` shows more.
fn log_to_standard_error() {
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color())
        .with_target(false)
        .init();
}

fn log_filter() -> tracing_subscriber::EnvFilter {
    let default = || tracing_subscriber::EnvFilter::new("warn");
    tracing_subscriber::EnvFilter::try_from_env("GATEMESH_LOG").unwrap_or_else(|_| default())
}
