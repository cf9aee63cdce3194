//! The market data side: its own login, which the adapter keeps up by itself, and the ticks, which go from the library's
//! thread to the node without a stop.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compact_str::CompactString;
use ctp::depth::Depth;
use ctp::requests::Identity;
use ctp::tick::{self, LastSeen, Listing};
use ctp::trading::disconnect_in_words;
use ctp::{MdApi, MdEvent, MdHandler, MdLibrary, dates};
use protocol::{Contract, InstrumentId, LogLevel, Name, Timestamp};

use super::inbox::{Inbox, Input};
use super::line;
use super::session::is_passing;
use crate::clock::wall_clock;
use crate::gateway::{VenueEvent, VenueSink};

/// Instruments asked for in one request.
const BATCH: usize = 500;
/// A login without an answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A failed login is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// What goes on is told to people this often.
const TOLD_AGAIN: Duration = Duration::from_secs(30);
/// Subscriptions that CTP did not take are sent again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Ticks of the trading session before that nobody has asked for again in this one are stopped after this. Until then
/// they flow, so that whoever still wants them misses none.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// What the side is made of.
pub(super) struct MarketParts {
    pub gateway: Name,
    /// Without one there are no ticks.
    pub library: Option<MdLibrary>,
    pub flow: PathBuf,
    pub fronts: Vec<String>,
    pub sink: VenueSink,
    pub inbox: Inbox,
}

/// See the module.
pub(super) struct Market {
    parts: MarketParts,
    ticks: Arc<Ticks>,
    /// Who logs in; nobody before the first trading session.
    identity: Option<Identity>,
    api: Option<MdApi>,
    generation: u64,
    state: State,
    /// By symbol, as the counter spells it.
    wanted: BTreeSet<CompactString>,
    /// Wanted in the trading session before, and not asked for in this one yet.
    left_over: BTreeSet<CompactString>,
    /// When what is left over is stopped.
    left_over_until: Option<Duration>,
    /// What CTP did not take is asked for once more then.
    again: Option<Duration>,
    not_taken: BTreeSet<CompactString>,
    next_number: i32,
    /// When people were last told that the front is away.
    away_told: Option<Duration>,
    /// Records that no tick could be made of, as last told.
    bad_told: u64,
    bad_told_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not connected, as far as is known: what the library says of that may be lost, so a login is tried then.
    Away(Duration),
    /// The login is under way, until then.
    LoggingIn(Duration),
    /// The login failed; tried again then.
    Failed(Duration),
    /// Refused for good.
    Refused,
    /// Logged in.
    In,
}

/// What the library's thread needs to make ticks.
struct Ticks {
    /// By symbol. Nobody holds it for long: each tick takes it.
    listed: Mutex<HashMap<CompactString, Listed>>,
    sink: VenueSink,
    /// Records that no tick could be made of.
    bad: AtomicU64,
}

impl Ticks {
    fn listed(&self) -> MutexGuard<'_, HashMap<CompactString, Listed>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listed {
    listing: Listing,
    last: LastSeen,
}

/// Hears one object of the market data library.
struct MarketInbox {
    ticks: Arc<Ticks>,
    inbox: Inbox,
    generation: u64,
}

impl MdHandler for MarketInbox {
    fn on_event(&self, event: MdEvent) {
        self.inbox.put(Input::Market(self.generation, event));
    }

    fn on_depth(&self, depth: Depth<'_>) {
        let made = {
            let mut listed = self.ticks.listed();
            let listed = depth.symbol().and_then(|symbol| listed.get_mut(symbol));
            listed.and_then(|Listed { listing, last }| tick::tick(depth, listing, last, china_time()).ok())
        };
        match made {
            Some(tick) => self.ticks.sink.ticks().push(tick),
            // Of no known instrument, or at no time: nobody could use it. It is counted and told.
            None => {
                self.ticks.bad.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Market {
    pub(super) fn new(parts: MarketParts) -> Market {
        let ticks = Ticks { listed: Mutex::default(), sink: parts.sink.clone(), bad: AtomicU64::new(0) };
        Market {
            parts,
            ticks: Arc::new(ticks),
            identity: None,
            api: None,
            generation: 0,
            state: State::Away(Duration::ZERO),
            wanted: BTreeSet::new(),
            left_over: BTreeSet::new(),
            left_over_until: None,
            again: None,
            not_taken: BTreeSet::new(),
            next_number: 0,
            away_told: None,
            bad_told: 0,
            bad_told_at: None,
        }
    }

    /// When [`Market::on_time`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = match self.state {
            State::Away(due) if self.api.is_some() => Some(due),
            State::LoggingIn(due) | State::Failed(due) => Some(due),
            State::In => self.again,
            State::Away(_) | State::Refused => None,
        };
        [due, self.left_over_until].into_iter().flatten().min()
    }

    /// A trading session begins: these are its contracts, and nobody has asked it for ticks yet. Those of the session
    /// before go on for a while, each with what its next tick is compared with.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        identity: Identity,
        contracts: &[Contract],
        told: &mut Vec<VenueEvent>,
    ) {
        self.identity = Some(identity);
        let gone = {
            let mut listed = self.ticks.listed();
            let mut before = std::mem::take(&mut *listed);
            *listed = contracts
                .iter()
                .map(|contract| {
                    let symbol = CompactString::from(contract.symbol.as_str());
                    let listing = self.listing(contract);
                    let last = before.remove(&symbol).filter(|before| before.listing.exchange == listing.exchange);
                    (symbol, Listed { listing, last: last.map(|before| before.last).unwrap_or_default() })
                })
                .collect();
            self.left_over.append(&mut self.wanted);
            // What CTP did not take does not flow.
            std::mem::take(&mut self.not_taken).iter().for_each(|symbol| _ = self.left_over.remove(symbol));
            self.left_over.extract_if(.., |symbol| !listed.contains_key(symbol)).collect::<Vec<_>>()
        };
        self.left_over_until = (!self.left_over.is_empty()).then_some(now + LEFT_OVER);
        self.send_unsubscribe(&gone);
        if self.state == State::Refused {
            self.close();
        }
        if self.api.is_some() {
            return;
        }
        let Some(library) = &self.parts.library else { return };
        self.generation += 1;
        let handler = Arc::new(MarketInbox {
            ticks: self.ticks.clone(),
            inbox: self.parts.inbox.clone(),
            generation: self.generation,
        });
        match library.start(&self.parts.flow, &self.parts.fronts, handler) {
            Ok(api) => {
                self.api = Some(api);
                self.state = State::Away(now + RETRY);
            }
            Err(error) => told.push(line(LogLevel::Critical, format!("there are no ticks: {error}"))),
        }
    }

    fn listing(&self, contract: &Contract) -> Listing {
        let gateway_name = self.parts.gateway.clone();
        Listing { gateway_name, exchange: contract.exchange, name: Some(contract.name.clone()) }
    }

    /// Nobody wants ticks any more.
    pub(super) fn close(&mut self) {
        self.generation += 1;
        self.state = State::Away(Duration::ZERO);
        self.wanted.clear();
        self.left_over.clear();
        self.left_over_until = None;
        if let Some(api) = self.api.take() {
            api.release();
        }
    }

    pub(super) fn subscribe(&mut self, now: Duration, instruments: &[InstrumentId], told: &mut Vec<VenueEvent>) {
        let mut new = Vec::new();
        {
            let listed = self.ticks.listed();
            for instrument in instruments {
                let symbol = CompactString::from(instrument.symbol.as_str());
                if listed.get(&symbol).is_none_or(|listed| listed.listing.exchange != instrument.exchange) {
                    let message = format!("subscribed to {instrument}, which the counter does not list");
                    told.push(line(LogLevel::Warning, message));
                } else if self.wanted.insert(symbol.clone()) && !self.left_over.remove(&symbol) {
                    new.push(symbol);
                }
            }
        }
        self.send_subscribe(now, &new);
    }

    pub(super) fn unsubscribe(&mut self, instruments: &[InstrumentId]) {
        let gone: Vec<CompactString> = instruments
            .iter()
            .map(|instrument| CompactString::from(instrument.symbol.as_str()))
            .filter(|symbol| self.wanted.remove(symbol) | self.left_over.remove(symbol))
            .collect();
        self.send_unsubscribe(&gone);
    }

    pub(super) fn on_event(&mut self, now: Duration, generation: u64, event: MdEvent, told: &mut Vec<VenueEvent>) {
        if generation != self.generation {
            return;
        }
        match event {
            // One that was refused is not tried again until a trading session begins, or it would lock the account; one
            // that failed has its time.
            MdEvent::FrontConnected if matches!(self.state, State::Refused | State::Failed(_)) => {}
            MdEvent::FrontConnected => self.log_in(now),
            MdEvent::FrontDisconnected { reason } => {
                if matches!(self.state, State::Refused | State::Failed(_)) {
                    return;
                }
                let was_in = std::mem::replace(&mut self.state, State::Away(now + RETRY)) == State::In;
                // Some libraries try again a thousand times a second.
                if !was_in && self.away_told.is_some_and(|told| now < told + TOLD_AGAIN) {
                    return;
                }
                self.away_told = Some(now);
                let message = format!(
                    "the market data front disconnected: {} (0x{reason:04x}); the library connects again by itself",
                    disconnect_in_words(reason)
                );
                told.push(line(LogLevel::Warning, message));
            }
            MdEvent::LoggedIn { outcome: Ok(_), .. } => {
                self.state = State::In;
                // What is left over has stopped by itself.
                self.left_over.clear();
                self.left_over_until = None;
                let message = format!("logged in for market data; {} instruments wanted", self.wanted.len());
                told.push(line(LogLevel::Info, message));
                let all: Vec<CompactString> = self.wanted.iter().cloned().collect();
                self.not_taken.clear();
                self.send_subscribe(now, &all);
            }
            MdEvent::LoggedIn { outcome: Err(failure), .. } => {
                self.state = if is_passing(&failure) { State::Failed(now + RETRY) } else { State::Refused };
                told.push(line(
                    LogLevel::Critical,
                    format!("there are no ticks: market data login refused: {failure}"),
                ));
            }
            MdEvent::Subscribed { symbol, failure: Some(failure) } => {
                told.push(line(LogLevel::Error, format!("no ticks of {symbol}: {failure}")));
            }
            MdEvent::Unsubscribed { symbol, failure: Some(failure) } => {
                told.push(line(LogLevel::Warning, format!("ticks of {symbol} could not be stopped: {failure}")));
            }
            MdEvent::Subscribed { .. } | MdEvent::Unsubscribed { .. } => {}
            MdEvent::RequestFailed { request, failure } => {
                told.push(line(LogLevel::Warning, format!("market data request {request} failed: {failure}")));
            }
            MdEvent::Panicked { callback } => {
                let message = format!("what {callback} said is lost: the code behind it panicked");
                told.push(line(LogLevel::Critical, message));
            }
        }
    }

    pub(super) fn on_time(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        match self.state {
            State::LoggingIn(due) if due <= now => {
                told.push(line(LogLevel::Warning, "the market data login was not answered; trying again".to_owned()));
                self.log_in(now);
            }
            State::Away(due) | State::Failed(due) if due <= now => self.log_in(now),
            State::In if self.again.is_some_and(|due| due <= now) => {
                let not_taken = std::mem::take(&mut self.not_taken);
                let still: Vec<CompactString> = not_taken.intersection(&self.wanted).cloned().collect();
                self.again = None;
                self.send_subscribe(now, &still);
            }
            _ => {}
        }
        if self.left_over_until.is_some_and(|until| until <= now) {
            self.left_over_until = None;
            let unwanted: Vec<CompactString> = std::mem::take(&mut self.left_over).into_iter().collect();
            self.send_unsubscribe(&unwanted);
        }
        let bad = self.ticks.bad.load(Ordering::Relaxed);
        if bad != self.bad_told && self.bad_told_at.is_none_or(|told| now >= told + TOLD_AGAIN) {
            self.bad_told_at = Some(now);
            let message = format!(
                "{} market data records were of no known instrument, or had no time: no ticks of them",
                bad - self.bad_told
            );
            self.bad_told = bad;
            told.push(line(LogLevel::Warning, message));
        }
    }

    fn log_in(&mut self, now: Duration) {
        self.next_number += 1;
        let (Some(api), Some(identity)) = (&self.api, &self.identity) else { return };
        let is_taken = matches!(api.login(identity, self.next_number), Ok(0));
        self.state = if is_taken { State::LoggingIn(now + PATIENCE) } else { State::Away(now + RETRY) };
    }

    /// What cannot be asked for now is asked for at the next login; what CTP does not take is asked for a little later.
    fn send_subscribe(&mut self, now: Duration, symbols: &[CompactString]) {
        let Some(api) = self.api.as_ref().filter(|_| self.state == State::In) else { return };
        for batch in symbols.chunks(BATCH) {
            if api.subscribe(batch) != 0 {
                self.not_taken.extend(batch.iter().cloned());
                self.again = Some(now + AGAIN);
            }
        }
    }

    /// Ticks that come all the same are the worst that can happen where CTP does not take this.
    fn send_unsubscribe(&self, symbols: &[CompactString]) {
        if let Some(api) = self.api.as_ref().filter(|_| self.state == State::In) {
            for batch in symbols.chunks(BATCH) {
                let code = api.unsubscribe(batch);
                if code != 0 {
                    tracing::debug!(code, "CTP did not take an unsubscription");
                }
            }
        }
    }
}

/// The time of day, as the exchanges write it.
pub(super) fn china_time() -> Timestamp {
    wall_clock().with_timezone(&dates::CHINA)
}
