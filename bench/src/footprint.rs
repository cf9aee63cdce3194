//! What a node takes: time to start, memory, and processor time while nothing happens; with as many contracts as China's
//! futures exchanges list, options included.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client_sdk::{Client, Filter, Update};
use futures::StreamExt as _;
use protocol::{Exchange, InstrumentId};

use crate::feed::Side;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::real_node::{GATEWAY, RealNode, free_port};
use crate::series::{Series, Unit};
use crate::site::Server;
use crate::usage::{Meter, resident_mebibytes};

/// Contracts that the venue lists.
const CONTRACTS: usize = 20_000;
/// Those that have ticks, each twice a second.
const LIVE: usize = 1_000;
/// How long everybody has followed when memory is read.
const FOLLOWED: Duration = Duration::from_secs(2);
/// Behind READY, before an idle node is watched.
const SETTLE: Duration = Duration::from_millis(500);

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Footprint: the installed program `gateway-node` with a simulated venue inside that lists 20,000 contracts. Start-up is \
     from the process's start to the first answer that says READY, with an empty journal, at a nats-server that runs, and \
     with one that the node starts itself. Idle is READY with nothing subscribed. Memory is the resident set, of the node \
     and of a client that follows 1,000 symbols of two ticks a second each, 2 s after each has been seen; the bare client \
     subscribes to the same subjects and decodes nothing.",
];

/// All of it, several times.
pub async fn series(plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let mut ready = Series::new("start to READY, 20,000 contracts", Unit::Milliseconds);
    let mut alone = Series::new("start to READY, 20,000 contracts, its own nats-server", Unit::Milliseconds);
    let mut idle = Series::new("CPU of an idle node", Unit::PercentOfCore);
    let mut before = Series::new("memory of an idle node, 20,000 contracts", Unit::Mebibytes);
    let mut node = Series::new("memory of the node, 1,000 symbols live", Unit::Mebibytes);
    let mut client = Series::new("memory of the client that follows them", Unit::Mebibytes);
    for _ in 0..plan.starts {
        let seen = at_a_server(plan).await?;
        ready.push(seen.ready_ms);
        idle.push(seen.idle_percent);
        before.push(seen.idle_mebibytes);
        node.push(seen.node_mebibytes);
        client.push_pair(seen.client_mebibytes, seen.bare_mebibytes);
        alone.push(start_alone().await?);
    }
    Ok(vec![ready, alone, idle, before, node, client])
}

struct Seen {
    ready_ms: f64,
    idle_percent: f64,
    idle_mebibytes: f64,
    node_mebibytes: f64,
    client_mebibytes: f64,
    bare_mebibytes: f64,
}

/// One node at a server that runs already.
async fn at_a_server(plan: &Plan) -> anyhow::Result<Seen> {
    let server = Server::start(None).await?;
    let directory = tempfile::tempdir()?;
    write_config(directory.path(), &format!("address = \"{}\"", server.url()))?;
    let began = Instant::now();
    let mut node = RealNode::start(&["--config", "node.toml"], directory.path(), "node.log")?;
    let (client, ready) = node.wait_until_ready(server.url()).await?;
    let contracts = client.gateway(GATEWAY).get_status().await?.contracts;
    ensure!(contracts == CONTRACTS as u64, "READY with {contracts} contracts instead of {CONTRACTS}");
    drop(client);

    tokio::time::sleep(SETTLE).await;
    let meter = Meter::start(node.pid())?;
    tokio::time::sleep(Duration::from_secs(plan.idle_seconds)).await;
    let idle_percent = meter.percent_of_core()?;
    let idle_mebibytes = resident_mebibytes(node.pid())?;

    let follower = |side| Peer::of_this_program(&["follower", server.url(), side]);
    // The SDK's client asks for the symbols, so that it comes first.
    let (sdk, bare) = tokio::task::block_in_place(|| anyhow::Ok((follower("node")?, follower("bare")?)))?;
    tokio::time::sleep(FOLLOWED).await;
    let seen = Seen {
        ready_ms: ready.duration_since(began).as_secs_f64() * 1e3,
        idle_percent,
        idle_mebibytes,
        node_mebibytes: resident_mebibytes(node.pid())?,
        client_mebibytes: resident_mebibytes(sdk.pid())?,
        bare_mebibytes: resident_mebibytes(bare.pid())?,
    };
    node.kill()?;
    drop((sdk, bare));
    server.stop().await?;
    Ok(seen)
}

/// The time to READY of a node that starts its server too, in milliseconds.
async fn start_alone() -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let port = free_port()?;
    write_config(directory.path(), &format!("data_dir = \"data\"\nport = {port}"))?;
    let began = Instant::now();
    let mut node = RealNode::start(&["--config", "node.toml"], directory.path(), "node.log")?;
    let (_, ready) = node.wait_until_ready(&format!("nats://127.0.0.1:{port}")).await?;
    node.stop().await?;
    Ok(ready.duration_since(began).as_secs_f64() * 1e3)
}

/// The node's configuration, and the files that it names.
fn write_config(directory: &Path, broker: &str) -> anyhow::Result<()> {
    std::fs::write(directory.join("contracts.csv"), contracts_csv()).context("writing the contracts")?;
    let live: Vec<String> = instruments().take(LIVE).map(|live| format!("{{ symbol = \"{live}\" }}")).collect();
    let config = format!(
        "[node]\nname = \"bench\"\nlog = \"warn\"\n[broker]\n{broker}\n[[gateways]]\nname = \"{GATEWAY}\"\nkind = \"sim\"\n\
         [gateways.sim]\ninstruments = [\"contracts.csv\"]\n[gateways.sim.feed]\nkind = \"synthetic\"\n\
         instruments = [{}]\n",
        live.join(", ")
    );
    std::fs::write(directory.join("node.toml"), config).context("writing the node's configuration")
}

fn contracts_csv() -> String {
    let mut csv = "symbol,exchange,name,product_class,size,pricetick\n".to_owned();
    for id in instruments() {
        writeln!(csv, "{},{},{},FUTURES,10,1", id.symbol, id.exchange, id.symbol).expect("a String takes everything");
    }
    csv
}

/// What the venue lists; the first thousand are live.
fn instruments() -> impl Iterator<Item = InstrumentId> {
    (0..CONTRACTS).map(|number| InstrumentId::new(format!("bm{number:05}"), Exchange::SHFE))
}

/// The client's process: follows every live symbol, says `ready` once each has been seen, and goes on until its input
/// ends.
///
/// # Errors
/// If the server cannot be reached, or a stream ends.
pub async fn follow(url: &str, side: Side) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    let mut say_when_complete = |symbol: &str| {
        if seen.len() < LIVE && seen.insert(symbol.to_owned()) && seen.len() == LIVE {
            println!("ready");
        }
    };
    let following = async {
        if side == Side::Bare {
            let connection = async_nats::connect(url).await?;
            let mut ticks = connection.subscribe("evt.tick.>").await?;
            while let Some(tick) = ticks.next().await {
                say_when_complete(&tick.subject);
            }
        } else {
            let client = Client::connect(url).await?;
            let mut ticks = client.ticks(Filter::all()).await?;
            let gateway = client.gateway(GATEWAY);
            for instrument in instruments().take(LIVE) {
                gateway.subscribe(&instrument).await?;
            }
            while let Some(update) = ticks.next().await {
                if let Update::Event(event) = update {
                    say_when_complete(&event.data.symbol);
                }
            }
        }
        anyhow::bail!("the ticks ended")
    };
    let told_to_end = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        ended = following => ended,
        read = told_to_end => Ok(read?.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_node_takes() {
        let directory = tempfile::tempdir().expect("a directory");
        write_config(directory.path(), "data_dir = \"data\"\nport = 0").expect("written");
        let config = gateway_node::config::Config::load(&directory.path().join("node.toml")).expect("valid");
        assert_eq!(config.gateways.len(), 1);
        let files = [directory.path().join("contracts.csv")];
        let listed = gateway_node::gateway::sim::instruments::Contracts::load(&files, &[], &GATEWAY.into());
        assert_eq!(listed.expect("valid").len(), CONTRACTS);
    }
}
