//! A frozen subscriber beside a healthy one: what it does to the healthy one's latency, with and without
//! `no_fast_producer_stall` in the server's configuration.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::far_side::{self, Extent, Hosts};
use crate::feed::{Feed, Side};
use crate::plan::Plan;
use crate::series::{Series, Unit};
use crate::site::Server;
use crate::subscribers::{Shape, Subscribers};

/// Messages a second.
const RATE: f64 = 50_000.0;
/// Messages of one run: enough to fill what the server keeps for the frozen one, 64 MB.
const COUNT: u64 = 200_000;
const SETTING: &str = "no_fast_producer_stall: true";

/// What to know when reading the table.
pub const NOTES: &[&str] =
    &["The healthy subscriber is a bare one with a connection of its own, at 50,000 a second for 4 s; the server is \
     configured as the node's own. Beside it, a process with the same subscription that is stopped (SIGSTOP)."];

/// Each variant in turn.
pub async fn series(plan: &Plan) -> anyhow::Result<Vec<Series>> {
    if plan.frozen_rounds == 0 {
        return Ok(Vec::new());
    }
    let directory = tempfile::tempdir()?;
    let stalling = stalling_config(directory.path().join("stalling.conf"))?;
    let alone = "healthy subscriber's p99, alone";
    let mut variants = [
        (None, false, Series::new(alone, Unit::Microseconds)),
        (None, true, Series::new("the same, beside a frozen one", Unit::Microseconds).ratio_to(alone)),
        (
            Some(stalling),
            true,
            Series::new("the same, with the server's default stall", Unit::Microseconds).ratio_to(alone),
        ),
    ];
    for _ in 0..plan.frozen_rounds {
        for (config, frozen, series) in &mut variants {
            series.push(p99(config.clone(), *frozen).await?);
        }
    }
    Ok(variants.into_iter().map(|(_, _, series)| series).collect())
}

/// The node's own configuration of the server without the setting.
fn stalling_config(path: PathBuf) -> anyhow::Result<PathBuf> {
    let ours = include_str!("../../nats.conf");
    anyhow::ensure!(ours.contains(SETTING), "nats.conf does not say `{SETTING}`");
    std::fs::write(&path, ours.replace(SETTING, "")).context("writing a server's configuration")?;
    Ok(path)
}

/// The healthy subscriber's p99 in one run, in microseconds.
async fn p99(config: Option<PathBuf>, beside_frozen: bool) -> anyhow::Result<f64> {
    let server = Server::start(config).await?;
    let mut far = far_side::start(server.url(), Hosts::Bare, &Extent::default())?;
    let mut healthy = Subscribers::start(server.url(), Side::Bare, Shape::ONE)?;
    let frozen = beside_frozen.then(|| Subscribers::start(server.url(), Side::Bare, Shape::ONE)).transpose()?;
    if let Some(frozen) = &frozen {
        frozen.freeze()?;
    }
    let outcome = tokio::task::block_in_place(|| healthy.take(&mut far, Feed::paced(Side::Bare, COUNT, RATE)))?;
    anyhow::ensure!(outcome.lost == 0, "the healthy subscriber lost {} messages", outcome.lost);
    drop(frozen);
    far.stop()?;
    server.stop().await?;
    Ok(outcome.latency.context("nothing arrived")?.p99 as f64 / 1e3)
}
