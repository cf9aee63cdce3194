//! The venue as a process of its own: listens, serves each connection in a task, and runs the desk that owns the
//! counter, the ledger and the market.
//!
//! There is no login by password: whoever reaches the port can trade and, where faults are allowed, break things.
//! Listen on the loopback interface or on a network of one's own.

mod connection;
mod desk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use protocol::Name;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use self::desk::Desk;
use super::Parts;
use super::config::VenueConfig;

/// Messages of all connections that may wait for the desk; when it is full, connections are not read.
const INPUTS: usize = 4096;
/// Connections open at once; more are closed as they come.
const CONNECTIONS: usize = 256;

/// What a venue process is made of.
#[derive(Debug, Clone)]
pub struct VenueOptions {
    /// `HOST:PORT`; port 0 takes any free one.
    pub listen: String,
    /// The venue's own settings.
    pub config: VenueConfig,
    /// The directory of the ledger, made if need be.
    pub ledger: PathBuf,
    /// Whether faults can be injected over the port.
    pub allow_faults: bool,
}

/// A venue that listens and does not serve yet.
pub struct VenueServer {
    listener: TcpListener,
    desk: Desk,
}

impl VenueServer {
    /// Opens the feed, listens, and rebuilds the counter from its ledger.
    ///
    /// # Errors
    /// A setting, a file or an address that cannot be used: what is wrong and what to do instead.
    pub async fn bind(options: VenueOptions) -> anyhow::Result<VenueServer> {
        let orders_per_second = options.config.orders_per_second;
        let parts = Parts::open(Name::const_new("venue"), options.config.into())?;
        VenueServer::bind_parts(parts, orders_per_second, &options.listen, options.ledger, options.allow_faults).await
    }

    pub(super) async fn bind_parts(
        parts: Parts,
        orders_per_second: u32,
        listen: &str,
        ledger: PathBuf,
        allow_faults: bool,
    ) -> anyhow::Result<VenueServer> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on `{listen}`: name a free HOST:PORT with --listen"))?;
        // Only now: opening the ledger writes that every older session is over.
        let desk = Desk::open(parts, orders_per_second, ledger, allow_faults)?;
        Ok(VenueServer { listener, desk })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("the venue's own address")
    }

    /// Serves until `shutdown` completes. Sessions are told; orders work on in the ledger.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (inputs, waiting) = mpsc::channel(INPUTS);
        let accepting = tokio::spawn(accept(self.listener, inputs));
        let outcome = self.desk.run(waiting, shutdown).await;
        // Connections that are still open end by themselves: the desk, which held their outlets, is gone.
        accepting.abort();
        outcome
    }
}

async fn accept(listener: TcpListener, inputs: mpsc::Sender<desk::Input>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut refused: u64 = 0;
    for id in 1.. {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely; the connection waits in the system's queue.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            refused += 1;
            if refused.is_power_of_two() {
                warn!(%peer, refused, open = CONNECTIONS, "too many connections: closed");
            }
            continue;
        };
        let inputs = inputs.clone();
        tokio::spawn(async move {
            connection::serve(id, stream, &inputs).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests;
