//! What the measurements with a server share: the server, the process that sends and answers, and this process's clients,
//! which ask. Who receives ticks is a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use client_sdk::Client;
use gateway_node::broker::Broker;
use gateway_node::config::EmbeddedBroker;
use protocol::GatewayState;

use crate::far_side::{self, Extent, Hosts};
use crate::peer::Peer;
use crate::venue;

/// Longest wait for anything that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port with a directory of its own.
pub struct Server {
    broker: Broker,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts it, with the node's own configuration or with another one.
    pub async fn start(config: Option<PathBuf>) -> anyhow::Result<Server> {
        let directory = tempfile::tempdir().context("making a directory")?;
        let data_dir = directory.path().to_owned();
        let broker = Broker::start(&EmbeddedBroker { data_dir, port: 0, server: None, config }).await?;
        Ok(Server { broker, directory })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.broker.url()
    }

    /// Its process's number.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let file = self.directory.path().join("broker/nats-server.pid");
        std::fs::read_to_string(&file)?.trim().parse().with_context(|| format!("{} holds no number", file.display()))
    }

    /// Stops it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.broker.stop().await
    }
}

/// See the module.
pub struct Site {
    /// Gatemesh's client.
    pub client: Client,
    /// A client of NATS.
    pub bare: async_nats::Client,
    /// The other process.
    pub far: Peer,
    /// The server.
    pub server: Server,
}

impl Site {
    /// Starts everything and waits until the gateway is ready.
    pub async fn start() -> anyhow::Result<Site> {
        let server = Server::start(None).await?;
        let far = far_side::start(server.url(), Hosts::Both, &Extent::default())?;
        let client = Client::connect(server.url()).await?;
        let bare = async_nats::connect(server.url()).await?;
        wait_until_ready(&client, venue::GATEWAY).await?;
        Ok(Site { client, bare, far, server })
    }

    /// Stops everything.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.far.stop()?;
        self.server.stop().await
    }
}

/// Waits until a gateway serves: how many contracts it has then.
///
/// # Errors
/// If it does not get ready.
pub async fn wait_until_ready(client: &Client, gateway: &str) -> anyhow::Result<u64> {
    let handle = client.gateway(gateway);
    let ready = async {
        loop {
            // A gateway that does not serve yet answers with an error: no responders.
            match handle.get_status().await {
                Ok(status) if status.state == GatewayState::Ready => return status.contracts,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.with_context(|| format!("gateway {gateway} did not get ready"))
}
