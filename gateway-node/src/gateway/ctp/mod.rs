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

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// The thread waits this long for room in the node's queue, and less than who closes the gateway waits for it.
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
    has_market_data: bool,
    config: CtpConfig,
    thread: Option<JoinHandle<()>>,
}

/// What the gateway's thread and its callers have in common.
struct Shared {
    trading: Mutex<Trading>,
    /// What is wanted of market data; the thread takes it when it wakes.
    wishes: Mutex<Wishes>,
    sink: VenueSink,
    clock: Clock,
}

/// What is wanted of market data since the thread has looked last: the newest of each instrument.
#[derive(Default)]
struct Wishes {
    /// The session that there is has ended: nothing is wanted of it any more.
    end: bool,
    /// Whether ticks are wanted or not wanted any more.
    ticks: BTreeMap<InstrumentId, bool>,
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
    /// The object that speaks is being released.
    is_released: Arc<AtomicBool>,
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
            fronts: config.trader_fronts.len(),
            query_interval: config.query_interval(),
            venue: venue.into(),
            first_number: rand::random_range(1..1 << 30),
        };
        let (inbox, inputs) = inbox::inbox(sink.clone());
        let has_market_data = market_library.is_some();
        let market = Market::new(MarketParts {
            gateway: name.clone(),
            library: market_library,
            flow: flow.join("market"),
            fronts: config.market_fronts.clone(),
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
            is_released: Arc::default(),
            inbox: inbox.clone(),
        };
        let (trading, wishes) = (Mutex::new(trading), Mutex::default());
        let shared = Arc::new(Shared { trading, wishes, sink, clock: Clock::default() });
        let thread = std::thread::Builder::new().name(format!("ctp-{name}")).spawn({
            let shared = shared.clone();
            move || shared.serve(&inputs, market)
        });
        let thread = Some(thread.context("starting the CTP gateway's thread")?);
        Ok(CtpGateway { shared, inbox, has_market_data, config: config.clone(), thread })
    }

    /// # Errors
    /// If the thread has ended although nobody has told it to.
    fn check_thread(&self) -> Result<(), GatewayError> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        Err(GatewayError::Refused("the CTP gateway's thread has ended: restart the node".to_owned()))
    }

    /// Leaves to the thread whether these instruments' ticks are wanted.
    fn want(&self, instruments: &[InstrumentId], is_wanted: bool) -> Result<(), GatewayError> {
        if !self.has_market_data {
            return Err(GatewayError::NotSupported("ticks: ctp.market_library names no library"));
        }
        self.check_thread()?;
        if !self.shared.trading().desk.is_logged_in() {
            return Err(GatewayError::NotConnected);
        }
        self.shared.wishes().ticks.extend(instruments.iter().map(|instrument| (instrument.clone(), is_wanted)));
        self.inbox.wake();
        Ok(())
    }

    /// Carries out what follows from a command. What is to be told goes through the thread, behind what it is telling.
    fn perform(&self, trading: &mut Trading, now: Duration, effects: Vec<Effect>) {
        let told = trading.perform(now, effects);
        self.inbox.put(Input::Told(told));
    }
}

impl Gateway for CtpGateway {
    fn connect(&mut self, _: SessionStart) -> Result<(), GatewayError> {
        self.check_thread()?;
        // Read anew: a wrong password may have been mended.
        let identity = self.config.identity().map_err(|error| GatewayError::Refused(format!("{error:#}")))?;
        let now = self.shared.now();
        let mut trading = self.shared.trading();
        trading.identity = identity;
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
        {
            let mut trading = self.shared.trading();
            trading.desk.disconnect(now, &mut Vec::new());
            trading.release();
        }
        *self.shared.wishes() = Wishes { end: true, ..Wishes::default() };
        self.inbox.wake();
    }

    fn subscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.want(instruments, true)
    }

    fn unsubscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError> {
        self.want(instruments, false)
    }

    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        let mut trading = self.shared.trading();
        let (number, request) = trading.desk.submit(reference, order)?;
        trading.send_now(number, &request).inspect_err(|_| trading.desk.not_submitted(reference))
    }

    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        let mut trading = self.shared.trading();
        match trading.desk.cancel(reference)? {
            Cancel::Send(cancel) => {
                let number = trading.desk.number();
                trading.send_now(number, &Request::CancelOrder(cancel))
            }
            // It says again how it ended.
            Cancel::Ended(order) => {
                self.inbox.put(Input::Told(vec![Told::Event(Box::new(VenueEvent::Order(*order)))]));
                Ok(())
            }
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

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.mono()
    }

    /// Runs until it is told to stop. A panic of ours ends a session, never the process.
    fn serve(&self, inputs: &Inputs, mut market: Market) {
        loop {
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| self.run(inputs, &mut market)));
            // Neither may a panic in what cleans up behind one.
            let closed = std::panic::catch_unwind(AssertUnwindSafe(|| market.close()));
            if ran.is_ok() && closed.is_ok() {
                return;
            }
            let mut trading = self.trading();
            let released = std::panic::catch_unwind(AssertUnwindSafe(|| trading.release()));
            if released.is_err() {
                trading.api = None;
            }
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
            let wishes = std::mem::take(&mut *self.wishes());
            if wishes.end {
                market.close();
            }
            for input in taken {
                self.take(now, input, market, &mut told);
            }
            let (wanted, unwanted): (Vec<_>, Vec<_>) = wishes.ticks.into_iter().partition(|(_, is_wanted)| *is_wanted);
            market.unsubscribe(&unwanted.into_iter().map(|(instrument, _)| instrument).collect::<Vec<_>>());
            market.subscribe(now, &wanted.into_iter().map(|(instrument, _)| instrument).collect::<Vec<_>>(), &mut told);
            let more = self.trading().act(now, |desk, effects| desk.on_time(now, effects));
            self.note(now, more, market, &mut told);
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
                if generation == trading.generation {
                    let more = trading.act(now, |desk, effects| desk.on_event(now, china_time(), event, effects));
                    drop(trading);
                    self.note(now, more, market, told);
                }
            }
            Input::Market(heard, event) => market.on_event(now, heard, event, told),
            Input::Told(more) => self.note(now, more, market, told),
            Input::Wake => {}
        }
    }

    fn note(&self, now: Duration, more: Vec<Told>, market: &mut Market, told: &mut Vec<VenueEvent>) {
        for one in more {
            match one {
                Told::Event(event) => told.push(*event),
                Told::Lost => self.sink.lost(),
                Told::Contracts(contracts) => {
                    let identity = self.trading().identity.clone();
                    market.begin(now, identity, &contracts, told);
                }
            }
        }
    }
}

impl Trading {
    /// Makes an object of the library, which connects by itself.
    fn open(&mut self) -> anyhow::Result<()> {
        self.generation += 1;
        self.is_released = Arc::default();
        let handler = TraderInbox::new(self.inbox.clone(), self.generation, self.is_released.clone());
        let handler = Arc::new(handler);
        let api = self.library.start(&self.flow, &self.fronts, handler)?;
        self.api = Some(api);
        Ok(())
    }

    /// Nothing comes from the library's object any more.
    fn release(&mut self) {
        self.generation += 1;
        self.is_released.store(true, Ordering::Release);
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

    /// Lets the desk decide, and carries out what follows; what is left is to be told.
    fn act(&mut self, now: Duration, decide: impl FnOnce(&mut Desk, &mut Vec<Effect>)) -> Vec<Told> {
        let mut effects = Vec::new();
        decide(&mut self.desk, &mut effects);
        self.perform(now, effects)
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
                Effect::Release => self.release(),
                // The configuration names one at least.
                Effect::NextFront => self.fronts.rotate_left(1),
                Effect::Send { number, request } => {
                    let code = self.send(number, &request).unwrap_or_else(|error| {
                        let message = format!("{request:?} cannot be sent: {error}");
                        told.push(Told::Event(Box::new(line(LogLevel::Critical, message))));
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

/// A line for people.
fn line(level: LogLevel, message: String) -> VenueEvent {
    VenueEvent::Log { level, message }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
