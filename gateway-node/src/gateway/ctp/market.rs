//! The market data side: its own login (`login`), which the adapter keeps up by itself, and the ticks, which go straight
//! from the library's thread to the node.

mod link;
mod login;
mod rest;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compact_str::CompactString;
use ctp::depth::Depth;
use ctp::records::Failure;
use ctp::requests::Identity;
use ctp::tick::{self, LastSeen, Listing};
use ctp::trading::disconnect_in_words;
use ctp::{MdApi, MdEvent, MdHandler, MdLibrary, dates};
use protocol::{Contract, InstrumentId, LogLevel, Name, Timestamp};

use self::link::{Link, Standing};
use self::login::{Answer, Login};
use self::rest::Rest;
use super::inbox::{Heard, Inbox, Input};
use super::line;
use crate::clock::wall_clock;
use crate::gateway::{VenueEvent, VenueSink};

/// Instruments asked for in one request.
const BATCH: usize = 500;
/// The library's thread waits this long for room in the node's queue of ticks, as [`TickQueue::push_soon`] counts it: more
/// than a busy machine keeps the node from its turn, and less than the seconds for which a front bears not to be read.
///
/// [`TickQueue::push_soon`]: crate::gateway::TickQueue::push_soon
const TICK_PATIENCE: Duration = Duration::from_millis(500);
/// A front that is not there for so long is left for the next one; once none of them was, each is given twice as long, up to
/// [`LONGEST_FRONT_PATIENCE`], so that one that is slow is reached.
const FRONT_PATIENCE: Duration = Duration::from_secs(15);
/// See [`FRONT_PATIENCE`].
const LONGEST_FRONT_PATIENCE: Duration = Duration::from_secs(120);
/// A front that is there when its time is up has a login under way, or hangs up again and again: it is looked at again
/// after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A front that has answered none of so many logins is left for the next one.
const MOST_LOGINS: u32 = 2;
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
    /// What the object says of its connections.
    link: Arc<Link>,
    login: Login,
    rest: Rest,
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
    /// Losses of the front that were looked at.
    losses: u64,
    /// When people were last told that the front is away.
    away_told: Option<Duration>,
    /// Fronts that were left since the last login.
    left: usize,
    /// The next front is tried then, if this one is still away.
    silent_until: Option<Duration>,
    /// Records that no tick could be made of, as last told.
    bad_told: u64,
    bad_told_at: Option<Duration>,
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
    link: Arc<Link>,
    inbox: Inbox,
    generation: u64,
}

impl MdHandler for MarketInbox {
    fn on_event(&self, event: MdEvent) {
        match event {
            MdEvent::FrontConnected => self.link.connected(),
            MdEvent::FrontDisconnected { reason } => self.link.disconnected(reason),
            event => {
                let connection = self.link.standing().connection;
                let heard = Heard { generation: self.generation, connection };
                return self.inbox.put(Input::Market(heard, event));
            }
        }
        self.inbox.wake();
    }

    fn on_depth(&self, depth: Depth<'_>) {
        let made = {
            let mut listed = self.ticks.listed();
            let listed = depth.symbol().and_then(|symbol| listed.get_mut(symbol));
            listed.and_then(|Listed { listing, last }| tick::tick(depth, listing, last, china_time()).ok())
        };
        match made {
            Some(tick) => self.ticks.sink.ticks().push_soon(tick, TICK_PATIENCE),
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
            link: Arc::default(),
            login: Login::new(),
            rest: Rest::default(),
            wanted: BTreeSet::new(),
            left_over: BTreeSet::new(),
            left_over_until: None,
            again: None,
            not_taken: BTreeSet::new(),
            next_number: 0,
            losses: 0,
            away_told: None,
            left: 0,
            silent_until: None,
            bad_told: 0,
            bad_told_at: None,
        }
    }

    /// When [`Market::on_time`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        let login = self.api.as_ref().and_then(|_| self.login.due(self.link.standing()));
        let again = self.again.filter(|_| self.login.is_in());
        [login, again, self.rest.until(), self.silent_until, self.left_over_until].into_iter().flatten().min()
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
        if self.login.is_refused() {
            self.close();
        }
        if self.api.is_none() && self.rest.until().is_none() {
            self.open(now, told);
        }
    }

    /// Makes an object of the library, which connects by itself.
    fn open(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        let Some(library) = &self.parts.library else { return };
        self.generation += 1;
        self.link = Arc::default();
        let handler = Arc::new(MarketInbox {
            ticks: self.ticks.clone(),
            link: self.link.clone(),
            inbox: self.parts.inbox.clone(),
            generation: self.generation,
        });
        self.login = self.login.anew();
        self.losses = 0;
        self.rest.begun(now);
        match library.start(&self.parts.flow, &self.parts.fronts, handler) {
            Ok(api) => {
                self.api = Some(api);
                self.silent_until = Some(now + self.front_patience());
            }
            Err(error) => {
                let rest = self.rest.begin(now).as_secs();
                told.push(line(LogLevel::Critical, format!("there are no ticks: {error}; trying again in {rest} s")));
            }
        }
    }

    /// Lets go of the library's object: nothing comes from it any more.
    fn release(&mut self) {
        self.generation += 1;
        self.login = self.login.anew();
        self.silent_until = None;
        if let Some(api) = self.api.take() {
            api.release();
        }
    }

    fn listing(&self, contract: &Contract) -> Listing {
        let gateway_name = self.parts.gateway.clone();
        Listing { gateway_name, exchange: contract.exchange, name: Some(contract.name.clone()) }
    }

    /// Nobody wants ticks any more.
    pub(super) fn close(&mut self) {
        self.wanted.clear();
        self.left_over.clear();
        self.left_over_until = None;
        self.rest.ended();
        self.release();
        self.login = Login::new();
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

    pub(super) fn on_event(&mut self, now: Duration, heard: Heard, event: MdEvent, told: &mut Vec<VenueEvent>) {
        if heard.generation != self.generation {
            return;
        }
        self.look(now, told);
        match event {
            MdEvent::LoggedIn { outcome, .. } => {
                let failure = outcome.err();
                match self.login.answered(now, heard.connection, failure.as_ref()) {
                    Answer::In => self.logged_in(now, told),
                    Answer::Nothing => {}
                    Answer::Refused => {
                        let failure = failure.map(|failure| failure.to_string()).unwrap_or_default();
                        let message = format!("there are no ticks: market data login refused: {failure}");
                        told.push(line(LogLevel::Critical, message));
                    }
                }
            }
            MdEvent::Subscribed { symbol, failure: Some(failure) } => {
                told.push(line(LogLevel::Error, format!("no ticks of {symbol}: {failure}")));
                self.failed(now, heard, &failure, told);
            }
            MdEvent::Unsubscribed { symbol, failure: Some(failure) } => {
                told.push(line(LogLevel::Warning, format!("ticks of {symbol} could not be stopped: {failure}")));
            }
            MdEvent::Subscribed { .. } | MdEvent::Unsubscribed { .. } => {}
            // They are no inputs: see `Link`.
            MdEvent::FrontConnected | MdEvent::FrontDisconnected { .. } => {}
            MdEvent::RequestFailed { request, failure } => {
                told.push(line(LogLevel::Warning, format!("market data request {request} failed: {failure}")));
                self.failed(now, heard, &failure, told);
            }
            MdEvent::Panicked { callback } => {
                let message = format!("what {callback} said is lost: the code behind it panicked");
                // An answer to a login that is lost so is sent for again like one that never came.
                told.push(line(LogLevel::Critical, message));
            }
        }
    }

    fn logged_in(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        self.rest.logged_in();
        self.left = 0;
        self.silent_until = None;
        // What is left over has stopped by itself.
        self.left_over.clear();
        self.left_over_until = None;
        let message = format!("logged in for market data; {} instruments wanted", self.wanted.len());
        told.push(line(LogLevel::Info, message));
        let all: Vec<CompactString> = self.wanted.iter().cloned().collect();
        self.not_taken.clear();
        self.send_subscribe(now, &all);
    }

    /// Something failed: it may be for want of a login.
    fn failed(&mut self, now: Duration, heard: Heard, failure: &Failure, told: &mut Vec<VenueEvent>) {
        if self.login.failed(now, heard.connection, failure) {
            let message = "there are no ticks: the market data front says that nobody is logged in; logging in again";
            told.push(line(LogLevel::Critical, message.to_owned()));
        }
    }

    /// Looks at the connection.
    fn look(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        if self.api.is_none() {
            return;
        }
        let standing = self.link.standing();
        let was_in = self.login.is_in();
        self.login.look(standing);
        if standing.losses != self.losses {
            self.losses = standing.losses;
            // Each try in vain is a loss, and none of them is a reason to wait for longer.
            let patience = self.front_patience();
            self.silent_until.get_or_insert(now + patience);
            self.tell_loss(now, standing, was_in, told);
        }
        if let Some(rest) = self.rest.counted(now, standing.losses) {
            self.release();
            let message =
                format!("the market data front hangs up again and again; trying again in {} s", rest.as_secs());
            told.push(line(LogLevel::Warning, message));
        }
    }

    fn tell_loss(&mut self, now: Duration, standing: Standing, was_in: bool, told: &mut Vec<VenueEvent>) {
        let is_old = !was_in && self.away_told.is_some_and(|told| now < told + TOLD_AGAIN);
        if is_old || self.login.is_refused() {
            return;
        }
        self.away_told = Some(now);
        let message = format!(
            "the market data front disconnected: {} (0x{:04x}); the library connects again by itself",
            disconnect_in_words(standing.reason),
            standing.reason
        );
        told.push(line(LogLevel::Warning, message));
    }

    pub(super) fn on_time(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        self.look(now, told);
        if self.rest.until().is_some_and(|until| until <= now) {
            self.open(now, told);
        }
        self.log_in(now, told);
        // Whoever is refused is refused by every front.
        if self.silent_until.take_if(|until| *until <= now).is_some() && !self.login.is_refused() {
            if self.link.standing().is_up {
                self.silent_until = (!self.login.is_in()).then_some(now + LOOK_AGAIN);
            } else {
                let waited = self.front_patience().as_secs();
                self.next_front(now, &format!("has not answered for {waited} s"), told);
            }
        }
        if self.login.is_in() && self.again.is_some_and(|due| due <= now) {
            let not_taken = std::mem::take(&mut self.not_taken);
            let still: Vec<CompactString> = not_taken.intersection(&self.wanted).cloned().collect();
            self.again = None;
            self.send_subscribe(now, &still);
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

    /// Logs in, if it is time to.
    fn log_in(&mut self, now: Duration, told: &mut Vec<VenueEvent>) {
        let (Some(api), Some(identity)) = (&self.api, &self.identity) else { return };
        let standing = self.link.standing();
        self.login.look(standing);
        if self.login.due(standing).is_none_or(|due| due > now) {
            return;
        }
        if self.login.in_vain() >= MOST_LOGINS {
            return self.next_front(now, "answers no login", told);
        }
        if self.login.is_asked() {
            told.push(line(LogLevel::Warning, "the market data login was not answered; sending it again".to_owned()));
        }
        self.next_number += 1;
        let code = api.login(identity, self.next_number).unwrap_or_else(|error| {
            let message = format!("there are no ticks: the market data login cannot be sent: {error}");
            told.push(line(LogLevel::Critical, message));
            -1
        });
        if code != 0 {
            let message = format!("the library did not take the market data login ({code})");
            told.push(line(LogLevel::Warning, message));
        }
        self.login.sent(now, code == 0);
    }

    /// How long a front may take to answer at all.
    fn front_patience(&self) -> Duration {
        let rounds = self.left / self.parts.fronts.len().max(1);
        FRONT_PATIENCE.saturating_mul(1 << rounds.min(10)).min(LONGEST_FRONT_PATIENCE)
    }

    /// Lets go of a front, which did this, and tries the next one a little later. A library that a front has taken and
    /// tells nothing stays with it for ever.
    fn next_front(&mut self, now: Duration, did: &str, told: &mut Vec<VenueEvent>) {
        self.release();
        // The configuration names one at least.
        self.parts.fronts.rotate_left(1);
        self.left += 1;
        let rest = self.rest.briefly(now).as_secs();
        let next = if self.parts.fronts.len() > 1 { "the next one" } else { "it anew" };
        let message = format!(
            "there are no ticks: the market data front {did}; trying {next} in {rest} s; if it should by now, look at \
             ctp.market_fronts and at the firewall"
        );
        told.push(line(LogLevel::Warning, message));
    }

    /// What cannot be asked for now is asked for at the next login; what CTP does not take is asked for a little later.
    fn send_subscribe(&mut self, now: Duration, symbols: &[CompactString]) {
        let Some(api) = self.api.as_ref().filter(|_| self.login.is_in()) else { return };
        for batch in symbols.chunks(BATCH) {
            if api.subscribe(batch) != 0 {
                self.not_taken.extend(batch.iter().cloned());
                self.again = Some(now + AGAIN);
            }
        }
    }

    /// Ticks that come all the same are the worst that can happen where CTP does not take this.
    fn send_unsubscribe(&self, symbols: &[CompactString]) {
        if let Some(api) = self.api.as_ref().filter(|_| self.login.is_in()) {
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

#[cfg(test)]
mod tests;
