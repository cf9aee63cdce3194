//! The control client of a venue process: injects faults and asks for counts, for tests of what stands above the venue.

use std::io::{BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::counter::CounterCounts;
pub use super::faults::{Fault, FaultCounts};
use super::link::{self, Ask, Say};

/// How long connecting, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a venue process has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VenueCounts {
    /// By the ledger, through all restarts.
    pub counter: CounterCounts,
    /// Since the process started.
    pub faults: FaultCounts,
    /// Connections open now, this one included.
    pub connections: u64,
    /// Records in the ledger.
    pub records: u64,
    /// Orders and quotes that work now.
    pub working: u64,
    /// The session in force, 0 if there is none.
    pub session: u64,
}

/// A way to a venue process. Every call connects anew and blocks for at most some seconds.
#[derive(Debug, Clone)]
pub struct Control {
    address: String,
}

impl Control {
    /// The venue at `HOST:PORT`; nothing is sent yet.
    pub fn new(address: impl Into<String>) -> Control {
        Control { address: address.into() }
    }

    /// Makes something go wrong. The fault is in force when this returns; a restart is done.
    ///
    /// # Errors
    /// If the venue cannot be reached, or was started without `--allow-faults`.
    pub fn inject(&self, fault: Fault) -> anyhow::Result<()> {
        match self.ask(&Ask::Inject(fault))? {
            Say::Done => Ok(()),
            Say::NotDone { reason } => bail!("the venue at {}: {reason}", self.address),
            other => bail!("the venue at {} answers a fault with {other:?}", self.address),
        }
    }

    /// What the venue has counted.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub fn counts(&self) -> anyhow::Result<VenueCounts> {
        match self.ask(&Ask::Counts)? {
            Say::Counts(counts) => Ok(*counts),
            other => bail!("the venue at {} answers a question for counts with {other:?}", self.address),
        }
    }

    fn ask(&self, ask: &Ask) -> anyhow::Result<Say> {
        let context = || format!("the venue at {}", self.address);
        let address = self.address.to_socket_addrs().with_context(context)?.next();
        let address = address.ok_or_else(|| anyhow!("{}: the name has no address", self.address))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(context)?;
        stream.set_read_timeout(Some(PATIENCE)).with_context(context)?;
        stream.set_write_timeout(Some(PATIENCE)).with_context(context)?;
        stream.write_all(&link::encode(ask)).with_context(context)?;
        let (mut reader, mut line) = (BufReader::new(stream), Vec::new());
        if !link::read_line(&mut reader, &mut line, link::LONGEST_SAY).with_context(context)? {
            bail!("the venue at {} closed the connection without an answer", self.address);
        }
        link::decode(&line).map_err(|problem| anyhow!("the venue at {}: {problem}", self.address))
    }
}
