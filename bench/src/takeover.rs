//! How long nobody takes orders when the leading node is killed: two nodes for one gateway, and a venue that outlives
//! them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client_sdk::Client;
use protocol::{Direction, Exchange, InstrumentId, Offset, OrderRequest};

use crate::plan::Plan;
use crate::real_node::{GATEWAY, RealNode, free_port};
use crate::series::{Series, Unit};
use crate::site::{PATIENCE, Server};

/// A short lease, and the default one, in seconds.
const LEASES: [u64; 2] = [1, 6];
/// A standby has found the journal by then.
const SETTLE: Duration = Duration::from_secs(2);

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Takeover: two `gateway-node` processes for one gateway at a venue in a process of its own. The leader is killed with \
     SIGKILL, and a client calls `send_order` until an order is accepted, by the other node: it has waited for the lease to \
     end, taken over the journal and logged in to the venue. From the kill to the answer. Each round \
     kills at another point between two renewals of the lease.",
];

/// Each lease's row.
pub async fn series(plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let mut all = Vec::new();
    for (lease, rounds) in LEASES.into_iter().zip(plan.takeovers).filter(|(_, rounds)| *rounds > 0) {
        let mut series =
            Series::new(format!("takeover, lease {lease} s: kill -9 to accepted order"), Unit::Milliseconds);
        for took in takeovers(lease, rounds).await? {
            series.push(took.as_secs_f64() * 1e3);
        }
        all.push(series);
    }
    Ok(all)
}

async fn takeovers(lease: u64, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let server = Server::start(None).await?;
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let venue = format!("127.0.0.1:{}", free_port()?);
    let mut venue_process =
        RealNode::start(&["venue", "--listen", &venue, "--ledger", "ledger"], directory, "venue.log")?;
    for name in ["a", "b"] {
        write_config(directory, name, server.url(), lease, &venue)?;
    }
    let start = |name: &str| RealNode::start(&["--config", &format!("{name}.toml")], directory, &format!("{name}.log"));
    let (mut leader, mut standby) = ("a", "b");
    let mut leading = start(leader)?;
    let (client, _) = leading.wait_until_ready(server.url()).await?;
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut standing_by = start(standby)?;
        // A lease is renewed four times in its duration: the leader dies at another point between two renewals each time.
        tokio::time::sleep(SETTLE + Duration::from_secs(lease) / 4 * round as u32 / rounds as u32).await;
        standing_by.check()?;
        send(&client).await.context("an order at the leader")?;
        let epoch = led_by(&client, leader).await?;
        leading.kill()?;
        let killed = Instant::now();
        while let Err(error) = send(&client).await {
            ensure!(killed.elapsed() < PATIENCE, "no order is taken after a takeover: {error:#}");
        }
        all.push(killed.elapsed());
        ensure!(led_by(&client, standby).await? > epoch, "an order was taken in the same epoch as before");
        leading = standing_by;
        std::mem::swap(&mut leader, &mut standby);
    }
    venue_process.check()?;
    drop((leading, venue_process));
    server.stop().await?;
    Ok(all)
}

async fn send(client: &Client) -> anyhow::Result<()> {
    let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
    let order = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3_550.0, 1.0);
    let order = client.gateway(GATEWAY).send_order(&order).await?;
    ensure!(order.reason.is_none(), "an order was answered as {:?}: {:?}", order.status, order.reason);
    Ok(())
}

/// The epoch, if it is this node's.
async fn led_by(client: &Client, node: &str) -> anyhow::Result<u64> {
    let status = client.gateway(GATEWAY).get_status().await?;
    ensure!(status.node == node, "{} leads, and not {node}", status.node);
    Ok(status.epoch)
}

fn write_config(directory: &Path, name: &str, url: &str, lease: u64, venue: &str) -> anyhow::Result<()> {
    let config = format!(
        "[node]\nname = \"{name}\"\nlog = \"warn\"\n[broker]\naddress = \"{url}\"\n[lease]\nduration = \"{lease} s\"\n\
         [[gateways]]\nname = \"{GATEWAY}\"\nkind = \"sim\"\n[gateways.sim]\nvenue = \"{venue}\"\n"
    );
    std::fs::write(directory.join(format!("{name}.toml")), config).context("writing a node's configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_node_takes() {
        let directory = tempfile::tempdir().expect("a directory");
        write_config(directory.path(), "a", "nats://127.0.0.1:1", LEASES[0], "127.0.0.1:2").expect("written");
        gateway_node::config::Config::load(&directory.path().join("a.toml")).expect("valid");
    }
}
