//! The simulated venue: paper trading on recorded or synthetic market data, inside the node's process, or in a process
//! of its own that outlives the node (`server`, reached through `remote`).
//!
//! This file is the in-process venue's side of the [`Gateway`] trait: it checks the session and hands commands to the
//! thread that the venue runs on (`venue`). There is a bounded queue of commands between them; when it is full, commands
//! are refused as `Busy`.

mod admission;
pub mod bars;
pub mod books;
pub mod config;
pub mod control;
pub mod counter;
mod entry;
pub mod faults;
pub mod feed;
pub mod instruments;
pub mod ledger;
mod link;
pub mod market;
pub mod matching;
mod playback;
pub mod recorded;
pub mod remote;
pub mod server;
mod sheet;
pub mod synthetic;
mod venue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use protocol::{Contract, HistoryRequest, InstrumentId, Name, OrderRequest, QuoteRequest};

use self::books::Terms;
pub use self::config::SimConfig;
use self::config::{FaultConfig, StartOn};
use self::feed::{Feed, Speed};
use self::instruments::Contracts;
use self::remote::RemoteVenue;
use self::venue::{Command, Login, Venue};
use super::{Gateway, GatewayError, QueryToken, SessionStart, VenueReference, VenueSink};
use crate::risk::Approved;

/// Commands that may wait for the venue's thread.
const COMMANDS: usize = 4096;

/// The `sim` gateway: at the venue of another process if the configuration names one, or else with a venue of its own.
///
/// # Errors
/// A setting or a file that cannot be used: what is wrong, where, and what to write instead.
pub fn open(name: Name, config: SimConfig, sink: VenueSink) -> anyhow::Result<Box<dyn Gateway>> {
    match config.venue.clone() {
        Some(address) => Ok(Box::new(RemoteVenue::new(name, address, sink))),
        None => Ok(Box::new(SimGateway::new(name, config, sink)?)),
    }
}

/// A venue of one's own: see the module.
pub struct SimGateway {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
    /// The login that is in force, 0 for none: what the venue says of any other one is not sent.
    live: Arc<AtomicU64>,
    logins: u64,
    session: Option<Name>,
    faults: FaultConfig,
}

/// What a venue is made of.
struct Parts {
    gateway: Name,
    contracts: Vec<Contract>,
    feed: Box<dyn Feed>,
    speed: Speed,
    start_on: StartOn,
    terms: Terms,
    faults: FaultConfig,
}

impl Parts {
    /// Reads the files that the configuration names.
    fn open(gateway: Name, config: SimConfig) -> anyhow::Result<Parts> {
        let opened = || {
            config.check()?;
            let mut contracts = Contracts::load(&config.instruments, &config.products, &gateway)?;
            let feed = feed::open(&config.feed, &gateway, &mut contracts, config.seed)?;
            let contracts: Vec<Contract> = contracts.iter().cloned().collect();
            contracts.iter().try_for_each(config::check_contract)?;
            anyhow::Ok((contracts, feed))
        };
        let (contracts, feed) = opened().context("the simulated venue")?;
        Ok(Parts {
            gateway,
            contracts,
            feed,
            speed: config.feed.speed(),
            start_on: config.start_on,
            terms: config.account.into(),
            faults: config.faults,
        })
    }
}

impl SimGateway {
    /// Reads the files that the configuration names and starts the venue's thread, which waits for `connect`.
    ///
    /// # Errors
    /// A setting or a file that cannot be used: what is wrong, where, and what to write instead.
    pub fn new(name: Name, config: SimConfig, sink: VenueSink) -> anyhow::Result<SimGateway> {
        let context = format!("gateway {name}");
        let parts = Parts::open(name, config).context(context)?;
        SimGateway::start(parts, sink)
    }

    fn start(parts: Parts, sink: VenueSink) -> anyhow::Result<SimGateway> {
        let (commands, receiver) = sync_channel(COMMANDS);
        let live = Arc::new(AtomicU64::new(0));
        let faults = parts.faults.clone();
        let thread_name = format!("sim-{}", parts.gateway);
        let venue = Venue::new(parts, sink, live.clone());
        let thread = std::thread::Builder::new()
            .name(thread_name)
            .spawn(move || venue.run(&receiver))
            .context("starting the simulated venue's thread")?;
        Ok(SimGateway { commands: Some(commands), thread: Some(thread), live, logins: 0, session: None, faults })
    }

    fn send(&self, command: Command) -> Result<(), GatewayError> {
        let commands = self.commands.as_ref().ok_or(GatewayError::NotConnected)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => GatewayError::Busy,
            TrySendError::Disconnected(_) => GatewayError::NotConnected,
        })
    }

    fn send_logged_in(&self, command: Command) -> Result<(), GatewayError> {
        if self.session.is_none() {
            return Err(GatewayError::NotConnected);
        }
        self.send(command)
    }

    fn check_session(&self, reference: &VenueReference) -> Result<(), GatewayError> {
        match &self.session {
            None => Err(GatewayError::NotConnected),
            Some(session) if *session == reference.session => Ok(()),
            Some(_) => Err(GatewayError::SessionChanged),
        }
    }
}

impl Gateway for SimGateway {
    fn connect(&mut self, start: SessionStart) -> Result<(), GatewayError> {
        self.disconnect();
        self.logins += 1;
        let mut session = None;
        let login = if self.faults.refuse_login {
            Login::Refused
        } else if self.faults.login_failures > 0 {
            self.faults.login_failures -= 1;
            Login::Failed
        } else {
            // The epoch rises with every start of a node, so no session name ever comes again.
            let name = Name::from(format!("{}-{}", start.epoch, self.logins));
            session = Some(name.clone());
            Login::Accepted { session: name, start }
        };
        // Live before the command is sent, or the answer could come before and be dropped.
        self.live.store(self.logins, Ordering::Release);
        let sent = self.send(Command::Login { number: self.logins, login });
        match sent {
            Ok(()) => self.session = session,
            Err(_) => self.live.store(0, Ordering::Release),
        }
        sent
    }

    fn disconnect(&mut self) {
        self.live.store(0, Ordering::Release);
        self.session = None;
    }

    fn subscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Subscribe(instruments.to_vec()))
    }

    fn unsubscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Unsubscribe(instruments.to_vec()))
    }

    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        self.check_session(reference)?;
        self.send(Command::Submit(reference.clone(), Box::new(order.get().clone())))
    }

    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Cancel(reference.clone()))
    }

    fn submit_quote(&mut self, reference: &VenueReference, quote: &Approved<QuoteRequest>) -> Result<(), GatewayError> {
        self.check_session(reference)?;
        self.send(Command::SubmitQuote(reference.clone(), Box::new(quote.get().clone())))
    }

    fn cancel_quote(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        self.send_logged_in(Command::CancelQuote(reference.clone()))
    }

    fn query_history(&mut self, token: QueryToken, request: &HistoryRequest) -> Result<(), GatewayError> {
        self.send_logged_in(Command::History(token, Box::new(request.clone())))
    }

    fn query_account(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Account(token))
    }

    fn query_position(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Positions(token))
    }

    fn request_snapshot(&mut self) -> Result<(), GatewayError> {
        self.send_logged_in(Command::Snapshot)
    }

    fn close(&mut self) {
        self.disconnect();
        // The thread ends when its commands do.
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the simulated venue's thread panicked");
        }
    }
}

impl Drop for SimGateway {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
