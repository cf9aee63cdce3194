//! What happens, line by line, for outputs that are no terminal: orders, trades and log lines as `gatectl` prints them.

use std::io::Write;
use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Shows until every source has ended, or the output is closed. What it started ends when it is dropped.
///
/// # Errors
/// If `gatectl` cannot be started.
pub async fn show(gatectl: impl Fn(&[&str]) -> Command) -> anyhow::Result<()> {
    let orders = follow("order", gatectl(&["orders", "--follow"]));
    let trades = follow("trade", gatectl(&["trades", "--follow"]));
    let logs = follow("log", gatectl(&["logs"]));
    tokio::try_join!(orders, trades, logs).map(drop)
}

async fn follow(name: &str, mut gatectl: Command) -> anyhow::Result<()> {
    let started = gatectl.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = started.context("cannot start gatectl")?;
    let output = child.stdout.take().context("gatectl has no output")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await.context("cannot read from gatectl")? {
        if writeln!(std::io::stdout(), "{name:<9} {line}").is_err() {
            break;
        }
    }
    Ok(())
}
