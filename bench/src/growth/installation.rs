//! One size of an installation: brokers, nodes and subscribers, all processes of their own.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client_sdk::Client;

use super::axis::Step;
use crate::far_side::{self, Extent, Hosts};
use crate::feed::{Feed, Side};
use crate::peer::Peer;
use crate::site::{Server, wait_until_ready};
use crate::subscribers::{Subscribers, per_second};
use crate::usage::{Meter, resident_mebibytes};

/// A subscription has come to every server of a cluster by then.
const SETTLE: Duration = Duration::from_millis(500);
/// The rows of the kinds of processes, of Gatemesh and of the bare side.
pub const PROCESSES: [[&str; 3]; 2] = [
    ["CPU per tick, node", "CPU per tick, nats-server", "CPU per tick, clients"],
    ["CPU per tick, bare publisher", "CPU per tick, nats-server, bare", "CPU per tick, bare subscribers"],
];

/// See the module.
pub struct Installation {
    /// Its size.
    pub step: Step,
    servers: Vec<Server>,
    nodes: Vec<Peer>,
    subscribers: Vec<(Side, Subscribers)>,
}

impl Installation {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Errors
    /// If something does not get ready, or has not as many contracts as it is to have.
    pub async fn start(step: Step, sides: &[Side]) -> anyhow::Result<Installation> {
        let servers = if step.brokers == 1 { vec![Server::start(None).await?] } else { cluster(step.brokers).await? };
        let mut nodes = Vec::new();
        for (number, server) in (0..step.nodes).zip(servers.iter().cycle()) {
            let extent = Extent { name: format!("{}{number}", step.extent.name), ..step.extent.clone() };
            let url = server.url();
            nodes.push(tokio::task::block_in_place(|| far_side::start(url, Hosts::Both, &extent))?);
            let client = Client::connect(url).await?;
            for gateway in extent.gateway_names() {
                let contracts = wait_until_ready(&client, &gateway).await?;
                ensure!(contracts == extent.instruments as u64, "{gateway} is ready with {contracts} contracts");
            }
        }
        let urls: Vec<&str> = servers.iter().map(Server::url).collect();
        // Beside the first node, or away from it.
        let away = urls.get(1..).filter(|others| !others.is_empty()).unwrap_or(&urls);
        let start = |side: &Side| Ok((*side, Subscribers::start_at(away, *side, step.shape)?));
        let subscribers = tokio::task::block_in_place(|| sides.iter().map(start).collect::<anyhow::Result<Vec<_>>>())?;
        tokio::time::sleep(SETTLE).await;
        Ok(Installation { step, servers, nodes, subscribers })
    }

    /// Ticks a second to each subscriber. Blocks.
    ///
    /// # Errors
    /// If a process fails, or a tick is lost.
    pub fn flood(&mut self, feed: Feed) -> anyhow::Result<f64> {
        let receivers = self.step.shape.receivers();
        let outcome = self.take(feed)?;
        Ok(per_second(&outcome, receivers))
    }

    /// Processor time for each tick, in microseconds: nodes, servers, subscribers. Blocks.
    ///
    /// # Errors
    /// If a process fails, or a tick is lost.
    pub fn paced(&mut self, feed: Feed) -> anyhow::Result<[f64; 3]> {
        let pids = self.pids(feed.side)?;
        let meters = pids.each_ref().map(|pids| pids.iter().map(|pid| Meter::start(*pid)).collect::<Vec<_>>());
        self.take(feed)?;
        let mut used = [0.0; 3];
        for (used, meters) in used.iter_mut().zip(meters) {
            for meter in meters {
                *used += meter?.used_ns()? / 1e3 / feed.count as f64;
            }
        }
        Ok(used)
    }

    /// Meters from now on of nodes, servers, and the SDK's subscribers.
    ///
    /// # Errors
    /// If a process has ended.
    pub fn meters(&self) -> anyhow::Result<Vec<Vec<Meter>>> {
        self.pids(Side::Node)?.iter().map(|pids| pids.iter().map(|pid| Meter::start(*pid)).collect()).collect()
    }

    /// Memory of nodes, servers, subscribers, all of a kind together.
    ///
    /// # Errors
    /// If a process has ended.
    pub fn memory(&self, side: Side) -> anyhow::Result<Vec<f64>> {
        self.pids(side)?.iter().map(|pids| pids.iter().map(|pid| resident_mebibytes(*pid)).sum()).collect()
    }

    /// Stops everything.
    ///
    /// # Errors
    /// If something does not end well.
    pub async fn stop(self) -> anyhow::Result<()> {
        drop(self.subscribers);
        for node in self.nodes {
            tokio::task::block_in_place(|| node.stop())?;
        }
        futures::future::try_join_all(self.servers.into_iter().map(Server::stop)).await?;
        Ok(())
    }

    fn take(&mut self, feed: Feed) -> anyhow::Result<crate::subscriber::Outcome> {
        let Step { size, shape, .. } = self.step;
        let of_side = self.subscribers.iter_mut().find(|(side, _)| *side == feed.side);
        let (_, subscribers) = of_side.context("nobody receives this feed")?;
        let outcome = subscribers.take_from(&mut self.nodes, feed)?;
        let due = feed.count * shape.receivers() as u64;
        ensure!(
            (outcome.arrived, outcome.lost) == (due, 0),
            "size {size}, {:?}: {} of {due} arrived, {} were lost",
            feed.side,
            outcome.arrived,
            outcome.lost
        );
        Ok(outcome)
    }

    /// Nodes, servers, and who receives on this side.
    fn pids(&self, side: Side) -> anyhow::Result<[Vec<u32>; 3]> {
        let servers = self.servers.iter().map(Server::pid).collect::<anyhow::Result<_>>()?;
        let receiving = self.subscribers.iter().filter(|(of, _)| *of == side);
        let receiving = receiving.flat_map(|(_, subscribers)| subscribers.pids()).collect();
        Ok([self.nodes.iter().map(Peer::pid).collect(), servers, receiving])
    }
}

/// Servers of one cluster, each configured as the node's own but for that.
async fn cluster(count: usize) -> anyhow::Result<Vec<Server>> {
    let directory = tempfile::tempdir()?;
    let ports = (0..count).map(|_| crate::real_node::free_port()).collect::<anyhow::Result<Vec<_>>>()?;
    let starts = (0..count).map(|number| {
        let file = directory.path().join(format!("{number}.conf"));
        let written = std::fs::write(&file, cluster_config(number, &ports)).context("writing a server's configuration");
        async move {
            written?;
            Server::start(Some(file)).await
        }
    });
    let servers = futures::future::try_join_all(starts).await?;
    let first = servers.first().context("a cluster has servers")?;
    let context = async_nats::jetstream::new(async_nats::connect(first.url()).await?);
    let has_leader = async {
        while context.query_account().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::site::PATIENCE, has_leader).await.context("the cluster has no leader")?;
    Ok(servers)
}

fn cluster_config(number: usize, ports: &[u16]) -> String {
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    format!(
        "{}\nserver_name: \"bench{number}\"\ncluster {{ name: \"bench\", listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
        include_str!("../../../nats.conf"),
        ports[number],
        routes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_a_cluster_knows_all_of_it() {
        let config = cluster_config(1, &[11, 12, 13]);
        assert!(config.contains("listen: \"127.0.0.1:12\""));
        assert!(config.contains("[\"nats://127.0.0.1:11\", \"nats://127.0.0.1:12\", \"nats://127.0.0.1:13\"]"));
        assert!(config.contains("no_fast_producer_stall: true"), "as the node's own");
    }
}
