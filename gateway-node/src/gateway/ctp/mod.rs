//! The `ctp` gateway: an account at a counter of China's futures exchanges, through the libraries that its broker hands
//! out.
//!
//! The libraries' threads only put what they say into a bounded queue (`inbox`); ticks go straight to the node. One
//! thread takes it from there and lets the desk (`desk`) decide. Orders and cancels do not pass that queue: they are sent
//! from the caller's thread, under the lock that the login takes too, so that none can slip into a session that its
//! reference does not belong to.

pub mod config;
mod desk;
mod inbox;
mod market;
mod orders;
mod queries;
mod session;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use ctp::requests::Identity;
use ctp::{EncodeError, MdLibrary, Request, TraderApi, TraderLibrary};
use protocol::{HistoryRequest, InstrumentId, LogLevel, Name, OrderRequest, QuoteRequest};

use self::config::{CtpConfig, Environment};
use self::desk::{Desk, Effect, Settings};
use self::inbox::{Inbox, Input, Inputs, Told, TraderInbox};
use self::market::{Market, MarketParts, china_time};
use self::orders::Cancel;
use self::queries::Query;
use super::{Gateway, GatewayError, QueryToken, SessionStart, VenueEvent, VenueReference, VenueSink};
use crate::clock::Clock;
use crate::risk::Approved;

/// Inputs that the thread takes before it looks at the time again.
const BATCH: usize = 512;
/// The thread looks at the time at least this often.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The thread waits this long for room in the node's queue, and less than who closes the gateway waits for it. The
/// libraries' threads never wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens the libraries and checks them; nothing is connected yet.
///
/// # Errors
/// A library, secret or setting that cannot be used: what is wrong, where, and what to do.
pub fn open(name: Name, config: &CtpConfig, sink: VenueSink) -> anyhow::Result<Box<dyn Gateway>> {
    Ok(Box::new(CtpGateway::new(name, config, sink)?))
}

/// See the module.
pub struct CtpGateway {
    shared: Arc<Shared>,
    inbox: Inbox,
    thread: Option<JoinHandle<()>>,
}

/// What the gateway's thread and its callers have in common.
struct Shared {
    trading: Mutex<Trading>,
    sink: VenueSink,
    clock: Clock,
}

/// The trading side: whoever sends anything holds it.
struct Trading {
    desk: Desk,
    library: TraderLibrary,
    flow: PathBuf,
    fronts: Vec<String>,
    identity: Identity,
    api: Option<TraderApi>,
    /// Which object of the library speaks: what an earlier one said may still be on its way.
    generation: u64,
    inbox: Inbox,
}

impl CtpGateway {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn new(name: Name, config: &CtpConfig, sink: VenueSink) -> anyhow::Result<CtpGateway> {
        let library = TraderLibrary::open(&config.trader_library, config.abi.map(Into::into))
            .context("the trader library (ctp.trader_library)")?;
        let market_library = config
            .market_library
            .as_deref()
            .map(|path| {
                MdLibrary::open(path, config.abi.map(Into::into))
                    .context("the market data library (ctp.market_library)")
            })
            .transpose()?;
        let identity = config.identity()?;
        ctp::check_identity(&identity).context("[gateways.ctp]")?;
        let flow = config.flow_dir(&name);
        let is_evaluation = config.environment == Environment::Evaluation;
        let library = if is_evaluation { library.for_evaluation() } else { library };
        let market_library = market_library.map(|market| if is_evaluation { market.for_evaluation() } else { market });
        library.verify().context("the trader library (ctp.trader_library)")?;
        if let Some(market) = &market_library {
            market.verify().context("the market data library (ctp.market_library)")?;
        }
        let venue = match &market_library {
            Some(market) => format!("CTP {}, market data {}", library.version(), market.version()),
            None => format!("CTP {}, no market data", library.version()),
        };
        let settings = Settings {
            gateway: name.clone(),
            has_auth_code: !identity.auth_code.is_empty(),
            query_interval: config.query_interval(),
            venue: venue.into(),
            first_number: rand::random_range(1..1 << 30),
        };
        let (inbox, inputs) = inbox::inbox(sink.clone());
        let market = Market::new(MarketParts {
            gateway: name.clone(),
            library: market_library,
            flow: flow.join("market"),
            fronts: config.market_fronts.clone(),
            identity: identity.clone(),
            sink: sink.clone(),
            inbox: inbox.clone(),
        });
        let trading = Trading {
            desk: Desk::new(settings),
            library,
            flow: flow.join("trader"),
            fronts: config.trader_fronts.clone(),
            identity,
            api: None,
            generation: 0,
            inbox: inbox.clone(),
        };
        let shared = Arc::new(Shared { trading: Mutex::new(trading), sink, clock: Clock::default() });
        let thread = std::thread::Builder::new().name(format!("ctp-{name}")).spawn({
            let shared = shared.clone();
            move || shared.serve(&inputs, market)
        });
        let thread = Some(thread.context("starting the CTP gateway's thread")?);
        Ok(CtpGateway { shared, inbox, thread })
    }

    /// Carries out what follows from a command. What is to be told goes through the thread, behind what it is telling.
    fn perform(&self, trading: &mut Trading, now: Duration, effects: Vec<Effect>) {
        let told = trading.perform(now, effects);
        self.inbox.put(Input::Told(told));
    }
}

impl Gateway for CtpGateway {
    fn connect(&mut self, _: SessionStart) -> Result<(), GatewayError> {
        let now = self.shared.now();
        let mut trading = self.shared.trading();
        let mut effects = Vec::new();
        trading.desk.connect(now, &mut effects);
        if trading.api.is_none() && !effects.contains(&Effect::Renew) {
            trading.open().map_err(|error| GatewayError::Refused(format!("{error:#}")))?;
        }
        self.perform(&mut trading, now, effects);
        Ok(())
    }

    fn disconnect(&mut self) {
        let now = self.shared.now();
        let mut trading = self.shared.trading();
        trading.desk.disconnect(now, &mut Vec::new());
        trading.release();
        self.inbox.put(Input::Disconnect);
    }

    fn subscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.shared.check_login()?;
        self.inbox.put(Input::Subscribe(instruments.to_vec()));
        Ok(())
    }

    fn unsubscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.shared.check_login()?;
        self.inbox.put(Input::Unsubscribe(instruments.to_vec()));
        Ok(())
    }

    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        let mut trading = self.shared.trading();
        let (number, request) = trading.desk.submit(reference, order)?;
        trading.send_now(number, &request).inspect_err(|_| trading.desk.not_submitted(reference))
    }

    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        let mut trading = self.shared.trading();
        match trading.desk.cancel(reference)? {
            (number, Cancel::Send(cancel)) => trading.send_now(number, &Request::CancelOrder(cancel)),
            // It says again how it ended.
            (_, Cancel::Ended(order)) => {
                self.inbox.put(Input::Told(vec![Told::Event(Box::new(VenueEvent::Order(*order)))]));
                Ok(())
            }
            (_, Cancel::Unknown) => Err(GatewayError::Refused(format!("nobody knows the order {reference}"))),
        }
    }

    fn submit_quote(&mut self, _: &VenueReference, _: &Approved<QuoteRequest>) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("quotes"))
    }

    fn cancel_quote(&mut self, _: &VenueReference) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("quotes"))
    }

    fn query_history(&mut self, _: QueryToken, _: &HistoryRequest) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("history"))
    }

    fn query_account(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.shared.trading().desk.ask(Query::Account, token)?;
        self.inbox.wake();
        Ok(())
    }

    fn query_position(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.shared.trading().desk.ask(Query::Positions, token)?;
        self.inbox.wake();
        Ok(())
    }

    fn request_snapshot(&mut self) -> Result<(), GatewayError> {
        self.shared.trading().desk.ask_for_snapshot()?;
        self.inbox.wake();
        Ok(())
    }

    fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.disconnect();
        self.inbox.stop();
        if thread.join().is_err() {
            tracing::error!("the CTP gateway's thread panicked");
        }
    }
}

impl Drop for CtpGateway {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A panic behind the lock was told where it happened; what it left is still the best that there is.
    fn trading(&self) -> MutexGuard<'_, Trading> {
        self.trading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.mono()
    }

    fn check_login(&self) -> Result<(), GatewayError> {
        if self.trading().desk.is_logged_in() { Ok(()) } else { Err(GatewayError::NotConnected) }
    }

    /// Runs until it is told to stop. A panic of ours ends a session, never the process.
    fn serve(&self, inputs: &Inputs, mut market: Market) {
        loop {
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| self.run(inputs, &mut market)));
            market.close();
            if ran.is_ok() {
                return;
            }
            let mut trading = self.trading();
            trading.release();
            trading.desk.restart();
            // Under the lock, so that it is told before whatever the next login says; it never waits. What the thread had
            // taken and not told is told again at that login.
            let reason = "the CTP gateway's thread panicked; it begins anew".to_owned();
            self.sink.send(VenueEvent::Disconnected { reason });
        }
    }

    fn run(&self, inputs: &Inputs, market: &mut Market) {
        while !inputs.is_over() {
            let due = [self.trading().desk.due(), market.due()].into_iter().flatten().min();
            let wait = due.map_or(LONGEST_WAIT, |due| due.saturating_sub(self.now()).min(LONGEST_WAIT));
            let taken = inputs.take(wait, BATCH);
            let now = self.now();
            let mut told = Vec::new();
            for input in taken {
                self.take(now, input, market, &mut told);
            }
            let more = self.with_desk(now, |desk, effects| desk.on_time(now, effects));
            self.note(more, market, &mut told);
            market.on_time(now, &mut told);
            // Without the lock: whoever empties the node's queue may be waiting for it. One that stays full loses the rest
            // at once; and whoever closes the gateway may be the one who empties it.
            let mut patient = true;
            for event in told {
                let patience = if patient && !inputs.is_over() { PATIENCE } else { Duration::ZERO };
                patient = self.sink.send_wait(event, patience);
            }
        }
    }

    fn take(&self, now: Duration, input: Input, market: &mut Market, told: &mut Vec<VenueEvent>) {
        match input {
            Input::Trader(generation, event) => {
                let mut trading = self.trading();
                if generation != trading.generation {
                    return;
                }
                let mut effects = Vec::new();
                trading.desk.on_event(now, china_time(), event, &mut effects);
                let more = trading.perform(now, effects);
                drop(trading);
                self.note(more, market, told);
            }
            Input::Market(generation, event) => market.on_event(now, generation, event, told),
            Input::Subscribe(instruments) => market.subscribe(now, &instruments, told),
            Input::Unsubscribe(instruments) => market.unsubscribe(&instruments),
            Input::Disconnect => market.close(),
            Input::Told(more) => self.note(more, market, told),
            Input::Wake => {}
        }
    }

    fn with_desk(&self, now: Duration, act: impl FnOnce(&mut Desk, &mut Vec<Effect>)) -> Vec<Told> {
        let mut trading = self.trading();
        let mut effects = Vec::new();
        act(&mut trading.desk, &mut effects);
        trading.perform(now, effects)
    }

    fn note(&self, more: Vec<Told>, market: &mut Market, told: &mut Vec<VenueEvent>) {
        for one in more {
            match one {
                Told::Event(event) => told.push(*event),
                Told::Lost => self.sink.lost(),
                Told::Contracts(contracts) => market.begin(&contracts, told),
            }
        }
    }
}

impl Trading {
    /// Makes an object of the library, which connects by itself.
    fn open(&mut self) -> anyhow::Result<()> {
        self.generation += 1;
        let handler = Arc::new(TraderInbox::new(self.inbox.clone(), self.generation));
        let api = self.library.start(&self.flow, &self.fronts, handler)?;
        self.api = Some(api);
        Ok(())
    }

    /// Nothing comes from the library's object any more.
    fn release(&mut self) {
        self.generation += 1;
        if let Some(api) = self.api.take() {
            api.release();
        }
    }

    /// Sends an order or a cancel.
    fn send_now(&self, number: i32, request: &Request) -> Result<(), GatewayError> {
        match self.send(number, request) {
            Ok(0) => Ok(()),
            Ok(-1) => Err(GatewayError::NotConnected),
            Ok(-2) => Err(GatewayError::Refused("CTP has too many requests of this session under way".to_owned())),
            Ok(-3) => Err(GatewayError::Refused("CTP takes no more requests in this second".to_owned())),
            Ok(code) => Err(GatewayError::Refused(format!("CTP did not take the request and returned {code}"))),
            Err(error) => Err(GatewayError::Refused(error.to_string())),
        }
    }

    /// Carries out effects; what is left is to be told.
    fn perform(&mut self, now: Duration, effects: Vec<Effect>) -> Vec<Told> {
        let mut told = Vec::new();
        let mut effects: VecDeque<Effect> = effects.into();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Renew => {
                    self.release();
                    if let Err(error) = self.open() {
                        let reason = format!("{error:#}");
                        told.push(Told::Event(Box::new(VenueEvent::Disconnected { reason })));
                    }
                }
                Effect::Send { number, request } => {
                    let code = self.send(number, &request).unwrap_or_else(|error| {
                        let message = format!("{request:?} cannot be sent: {error}");
                        let event = VenueEvent::Log { level: LogLevel::Critical, message };
                        told.push(Told::Event(Box::new(event)));
                        -1
                    });
                    let mut more = Vec::new();
                    self.desk.on_sent(now, number, &request, code, &mut more);
                    effects.extend(more);
                }
                Effect::Tell(event) => told.push(Told::Event(event)),
                Effect::Lost => told.push(Told::Lost),
                Effect::Contracts(contracts) => told.push(Told::Contracts(contracts)),
            }
        }
        told
    }

    /// What CTP returned: 0 that it took the request.
    fn send(&self, number: i32, request: &Request) -> Result<i32, EncodeError> {
        self.api.as_ref().map_or(Ok(-1), |api| api.send(&self.identity, request, number))
    }
}

#[cfg(test)]
mod tests;
