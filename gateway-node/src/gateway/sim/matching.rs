//! The simulated exchange: a pure core without clock, thread or I/O. Ticks and commands go in, what the venue says
//! comes out, and the same inputs always give the same outputs.
//!
//! Markets know what can be filled, the books know what can be afforded; this file decides what becomes of orders
//! and quotes. Within one input, orders and trades come first, then the positions and the account that they changed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use protocol::{
    Account, Contract, Direction, InstrumentId, LogLevel, Name, OrderRequest, OrderStatus, OrderType, Position,
    QuoteRequest, Tick,
};

use super::admission::{check_order, check_quote, estimate, quote_sides, worst_for_margin};
use super::books::{Books, Terms};
use super::entry::Entry;
use super::market::{Fill, Leg, Market, Stop};
use crate::gateway::{LivingSessions, VenueEvent, VenueOrder, VenueQuote, VenueReference, VenueSnapshot, VenueTrade};

/// Finished orders and quotes, and trades, that a snapshot still shows; older ones are forgotten. Ends of days bound
/// them too, but a replay may not have any.
const REMEMBERED: usize = 100_000;

/// See the module.
pub struct Exchange {
    markets: HashMap<InstrumentId, Market>,
    desk: Desk,
    day: Option<chrono::NaiveDate>,
}

/// Orders, quotes and trades, and the money behind them.
struct Desk {
    session: Name,
    books: Books,
    /// By arrival, finished ones included.
    entries: BTreeMap<u64, Entry>,
    by_reference: HashMap<VenueReference, u64>,
    finished: VecDeque<u64>,
    /// What had arrived when each instrument's present day began.
    day_began: HashMap<InstrumentId, u64>,
    trades: VecDeque<VenueTrade>,
    arrivals: u64,
    /// Trades of each exchange and side: they count by themselves, as at real exchanges, and so trade ids repeat.
    trade_counts: HashMap<(protocol::Exchange, Direction), u64>,
}

impl Exchange {
    /// An exchange for these contracts, with one account.
    pub fn new<'a>(gateway: Name, contracts: impl Iterator<Item = &'a Contract> + Clone, terms: Terms) -> Self {
        let markets = contracts.clone().map(|contract| (contract.instrument(), Market::new(contract))).collect();
        let desk = Desk {
            session: Name::default(),
            books: Books::new(gateway, contracts, terms),
            entries: BTreeMap::new(),
            by_reference: HashMap::new(),
            finished: VecDeque::new(),
            day_began: HashMap::new(),
            trades: VecDeque::new(),
            arrivals: 0,
            trade_counts: HashMap::new(),
        };
        Exchange { markets, desk, day: None }
    }

    /// Forgets all orders and trades and takes over the books of an earlier process. Prices stay.
    /// Returns what could not be taken over, for people.
    pub fn restart(&mut self, positions: &[Position], accounts: &[Account]) -> Vec<String> {
        for market in self.markets.values_mut() {
            market.clear();
        }
        self.desk.entries.clear();
        self.desk.by_reference.clear();
        self.desk.finished.clear();
        self.desk.day_began.clear();
        self.desk.trades.clear();
        self.desk.books.restore(positions, accounts)
    }

    /// Trades from now on are numbered under this session; orders of earlier ones work on.
    pub fn begin_session(&mut self, session: Name) {
        self.desk.session = session;
    }

    /// Whether the instrument can be traded here.
    #[must_use]
    pub fn trades(&self, instrument: &InstrumentId) -> bool {
        self.markets.contains_key(instrument)
    }

    /// Whether an order or a quote came under this reference and is not yet forgotten.
    #[must_use]
    pub fn knows(&self, reference: &VenueReference) -> bool {
        self.desk.by_reference.contains_key(reference)
    }

    /// Whether the order or the quote of this reference works.
    #[must_use]
    pub fn is_working(&self, reference: &VenueReference) -> bool {
        self.desk.find(reference).is_some_and(|(_, entry)| entry.is_active())
    }

    /// How many orders and quotes work.
    #[must_use]
    pub fn working(&self) -> usize {
        self.desk.entries.len().saturating_sub(self.desk.finished.len())
    }

    /// The instrument's trading day, by its last tick that named one.
    #[must_use]
    pub fn day_of(&self, instrument: &InstrumentId) -> Option<chrono::NaiveDate> {
        self.markets.get(instrument).and_then(Market::trading_day)
    }

    /// The latest trading day that has begun.
    #[must_use]
    pub fn trading_day(&self) -> Option<chrono::NaiveDate> {
        self.day
    }

    /// Takes in a tick: fills what rests, sets off stops, and ends the instrument's trading day when it names a new
    /// one (ticks that name none never do). Returns whether it moved the profit of something held. Ticks of unknown
    /// instruments change nothing.
    pub fn on_tick(&mut self, tick: &Tick, out: &mut Vec<VenueEvent>) -> bool {
        let instrument = tick.instrument();
        let Some(market) = self.markets.get_mut(&instrument) else { return false };
        if let Some(day) = tick.trading_day {
            if market.trading_day().is_some_and(|before| before != day) {
                self.desk.end_day(&instrument, market, out);
            }
            if begins_day(self.day, market.trading_day(), day) {
                self.day = Some(day);
                out.push(VenueEvent::TradingDay(day));
            }
            self.desk.books.begin_day(&instrument, day);
        }
        let traded = market.absorb(tick);
        let moved = market.last().is_some_and(|last| self.desk.books.mark(&instrument, last));
        let mut fills = Vec::new();
        market.match_resting(traded, tick.last_price, &mut fills);
        for fill in fills {
            self.desk.fill(market, fill, out);
        }
        for stop in market.take_triggered() {
            self.desk.set_off(market, &instrument, stop, out);
        }
        if self.desk.books.has_news() {
            self.desk.report(out);
        }
        moved
    }

    /// Takes an order.
    pub fn submit(&mut self, reference: &VenueReference, request: &OrderRequest, out: &mut Vec<VenueEvent>) {
        self.take_order(reference, request, None, out);
    }

    /// Rejects an order for a reason of the caller's.
    pub fn reject(
        &mut self,
        reference: &VenueReference,
        request: &OrderRequest,
        reason: String,
        out: &mut Vec<VenueEvent>,
    ) {
        self.take_order(reference, request, Some(reason), out);
    }

    fn take_order(
        &mut self,
        reference: &VenueReference,
        request: &OrderRequest,
        refusal: Option<String>,
        out: &mut Vec<VenueEvent>,
    ) {
        if self.is_known(reference, out) {
            return;
        }
        let instrument = request.instrument();
        let mut order = new_order(reference, request);
        let leg = Leg { entry: self.desk.arrive(), direction: request.direction };
        let checked = match self.markets.get_mut(&instrument) {
            None => Err(format!("the venue has no instrument {instrument}")),
            Some(market) => {
                order.datetime = market.time();
                let books = &mut self.desk.books;
                refusal
                    .map_or(Ok(()), Err)
                    .and_then(|()| check_order(market, request))
                    .and_then(|()| {
                        books.reserve(&instrument, leg, request.offset, estimate(market, request), request.volume)
                    })
                    .map(|()| market)
            }
        };
        match checked {
            Err(reason) => {
                (order.status, order.reason) = (OrderStatus::Rejected, Some(reason));
                self.desk.enter(leg.entry, Entry::Order(order), out);
                self.desk.remember_finished(leg.entry);
            }
            Ok(market) => {
                self.desk.enter(leg.entry, Entry::Order(order), out);
                self.desk.execute(market, leg, request, out);
            }
        }
        self.desk.report(out);
    }

    /// Takes a two-sided quote: two limit orders that live and die together.
    pub fn submit_quote(&mut self, reference: &VenueReference, request: &QuoteRequest, out: &mut Vec<VenueEvent>) {
        self.take_quote(reference, request, None, out);
    }

    /// Rejects a quote for a reason of the caller's.
    pub fn reject_quote(
        &mut self,
        reference: &VenueReference,
        request: &QuoteRequest,
        reason: String,
        out: &mut Vec<VenueEvent>,
    ) {
        self.take_quote(reference, request, Some(reason), out);
    }

    fn take_quote(
        &mut self,
        reference: &VenueReference,
        request: &QuoteRequest,
        refusal: Option<String>,
        out: &mut Vec<VenueEvent>,
    ) {
        if self.is_known(reference, out) {
            return;
        }
        let instrument = request.instrument();
        let mut quote = new_quote(reference, request);
        let entry = self.desk.arrive();
        let checked = match self.markets.get_mut(&instrument) {
            None => Err(format!("the venue has no instrument {instrument}")),
            Some(market) => {
                quote.datetime = market.time();
                refusal
                    .map_or(Ok(()), Err)
                    .and_then(|()| check_quote(market, request))
                    .and_then(|()| self.desk.reserve_quote(market, &instrument, entry, request))
                    .map(|()| market)
            }
        };
        match checked {
            Err(reason) => {
                (quote.status, quote.reason) = (OrderStatus::Rejected, Some(reason));
                self.desk.enter(entry, Entry::Quote(quote), out);
                self.desk.remember_finished(entry);
            }
            Ok(market) => {
                self.desk.enter(entry, Entry::Quote(quote), out);
                for (direction, price, volume) in quote_sides(request) {
                    self.desk.execute_limit(market, &instrument, Leg { entry, direction }, price, volume, out);
                }
            }
        }
        self.desk.report(out);
    }

    /// Cancels an order. One that is finished says again how it ended; one that nobody knows is a line in the log.
    pub fn cancel(&mut self, reference: &VenueReference, out: &mut Vec<VenueEvent>) {
        self.cancel_entry(reference, "order", out);
    }

    /// Cancels both sides of a quote, as [`Exchange::cancel`].
    pub fn cancel_quote(&mut self, reference: &VenueReference, out: &mut Vec<VenueEvent>) {
        self.cancel_entry(reference, "quote", out);
    }

    fn cancel_entry(&mut self, reference: &VenueReference, kind: &str, out: &mut Vec<VenueEvent>) {
        let found = self.desk.find(reference).filter(|(_, entry)| entry.kind() == kind);
        let Some((number, entry)) = found else {
            let message = format!("cancel refused: the venue knows no {kind} {reference}");
            out.push(VenueEvent::Log { level: LogLevel::Warning, message });
            return;
        };
        if !entry.is_active() {
            out.push(entry.event());
            return;
        }
        if let Some(market) = self.markets.get_mut(entry.instrument()) {
            for direction in entry.directions() {
                market.remove(Leg { entry: number, direction: *direction });
            }
        }
        self.desk.finish(number, "cancelled on request", out);
        self.desk.report(out);
    }

    /// Positions and account as prices have moved them since they were last told.
    pub fn report_marks(&mut self, out: &mut Vec<VenueEvent>) {
        let (positions, account) = self.desk.books.report_all();
        out.extend(positions.into_iter().map(VenueEvent::Position));
        out.extend(account.map(VenueEvent::Account));
    }

    /// All positions that were ever held here.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        self.desk.books.positions()
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Account {
        self.desk.books.account()
    }

    /// Everything that is known: of each instrument, this trading day's and the one's before.
    #[must_use]
    pub fn snapshot(&self) -> VenueSnapshot {
        let mut snapshot = VenueSnapshot {
            session: self.desk.session.clone(),
            trades: self.desk.trades.iter().cloned().collect(),
            positions: self.positions(),
            accounts: vec![self.account()],
            living: LivingSessions::Own,
            ..VenueSnapshot::default()
        };
        for entry in self.desk.entries.values() {
            match entry {
                Entry::Order(order) => snapshot.orders.push(order.clone()),
                Entry::Quote(quote) => snapshot.quotes.push(quote.clone()),
            }
        }
        snapshot
    }

    /// A reference that comes again makes no second order.
    fn is_known(&self, reference: &VenueReference, out: &mut Vec<VenueEvent>) -> bool {
        let known = self.knows(reference);
        if known {
            let message = format!("the reference {reference} came twice; the second is ignored");
            out.push(VenueEvent::Log { level: LogLevel::Error, message });
        }
        known
    }
}

impl Desk {
    fn find(&self, reference: &VenueReference) -> Option<(u64, &Entry)> {
        let number = *self.by_reference.get(reference)?;
        Some((number, self.entries.get(&number)?))
    }

    fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn enter(&mut self, number: u64, entry: Entry, out: &mut Vec<VenueEvent>) {
        out.push(entry.event());
        self.by_reference.insert(entry.reference().clone(), number);
        self.entries.insert(number, entry);
    }

    fn reserve_quote(
        &mut self,
        market: &Market,
        instrument: &InstrumentId,
        entry: u64,
        request: &QuoteRequest,
    ) -> Result<(), String> {
        let offsets = [request.bid_offset, request.ask_offset];
        for ((direction, price, volume), offset) in quote_sides(request).into_iter().zip(offsets) {
            let price = worst_for_margin(market, direction, Some(price));
            let reserved = self.books.reserve(instrument, Leg { entry, direction }, offset, price, volume);
            if let Err(reason) = reserved {
                self.books.release(instrument, Leg { entry, direction: Direction::Long });
                return Err(reason);
            }
        }
        Ok(())
    }

    fn execute(&mut self, market: &mut Market, leg: Leg, request: &OrderRequest, out: &mut Vec<VenueEvent>) {
        let (instrument, volume) = (request.instrument(), request.volume);
        match (request.r#type, request.price) {
            (OrderType::Limit, Some(price)) => self.execute_limit(market, &instrument, leg, price, volume, out),
            (OrderType::Fok, Some(price)) => {
                let (reach, _) = market.reach(leg.direction, Some(price), volume);
                if reach < volume {
                    let reason = format!("fill or kill: {reach} of {volume} lots were there at {price} or better");
                    self.finish(leg.entry, &reason, out);
                } else {
                    self.take(market, leg, Some(price), volume, out);
                }
            }
            (OrderType::Fak, Some(price)) => {
                let left = self.take(market, leg, Some(price), volume, out);
                if left > 0.0 {
                    let reason = format!("fill and kill: {left} of {volume} lots were not there at {price} or better");
                    self.finish(leg.entry, &reason, out);
                }
            }
            (OrderType::Stop, Some(trigger)) => {
                let stop = Stop { leg, trigger, volume };
                if market.is_triggered(leg.direction, trigger) {
                    self.set_off(market, &instrument, stop, out);
                } else {
                    market.wait(stop);
                }
            }
            // `check_order` lets no other type through.
            _ => self.execute_at_market(market, leg, volume, out),
        }
    }

    fn execute_limit(
        &mut self,
        market: &mut Market,
        instrument: &InstrumentId,
        leg: Leg,
        price: f64,
        volume: f64,
        out: &mut Vec<VenueEvent>,
    ) {
        let left = self.take(market, leg, Some(price), volume, out);
        if left > 0.0 {
            market.rest(leg, price, left);
            self.books.reprice(instrument, leg, price);
        }
    }

    fn execute_at_market(&mut self, market: &mut Market, leg: Leg, volume: f64, out: &mut Vec<VenueEvent>) {
        if market.best_opposite(leg.direction).is_none() {
            self.finish(leg.entry, "nobody is on the other side of the book", out);
            return;
        }
        let left = self.take(market, leg, None, volume, out);
        if left > 0.0 {
            let reason = format!("{left} of {volume} lots were not in the book within the day's price limits");
            self.finish(leg.entry, &reason, out);
        }
    }

    /// A stop order becomes a market order, if the price that it would get can be paid for.
    fn set_off(&mut self, market: &mut Market, instrument: &InstrumentId, stop: Stop, out: &mut Vec<VenueEvent>) {
        let direction = stop.leg.direction;
        let (_, worst) = market.reach(direction, None, stop.volume);
        let price = worst_for_margin(market, direction, worst);
        match self.books.check_reprice(instrument, stop.leg, price) {
            Ok(()) => self.execute_at_market(market, stop.leg, stop.volume, out),
            Err(reason) => self.finish(stop.leg.entry, &reason, out),
        }
    }

    fn take(
        &mut self,
        market: &mut Market,
        leg: Leg,
        limit: Option<f64>,
        volume: f64,
        out: &mut Vec<VenueEvent>,
    ) -> f64 {
        let mut fills = Vec::new();
        let left = market.take(leg, limit, volume, &mut fills);
        for fill in fills {
            self.fill(market, fill, out);
        }
        left
    }

    fn fill(&mut self, market: &Market, fill: Fill, out: &mut Vec<VenueEvent>) {
        let Some(entry) = self.entries.get_mut(&fill.leg.entry) else { return };
        let offset = entry.add_traded(fill.leg.direction, fill.volume);
        let counted = (entry.instrument().exchange, fill.leg.direction);
        let count = self.trade_counts.get(&counted).copied().unwrap_or_default();
        let trade = VenueTrade {
            reference: entry.reference().clone(),
            tradeid: format!("{}-{}", self.session, count + 1).into(),
            instrument: entry.instrument().clone(),
            direction: fill.leg.direction,
            offset,
            price: fill.price,
            volume: fill.volume,
            datetime: market.time(),
            trading_day: market.trading_day(),
        };
        out.push(entry.event());
        out.push(VenueEvent::Trade(trade.clone()));
        self.book(fill.leg, trade);
    }

    /// Counts a trade that its order or quote has counted already.
    fn book(&mut self, leg: Leg, trade: VenueTrade) {
        *self.trade_counts.entry((trade.instrument.exchange, trade.direction)).or_default() += 1;
        self.books.settle(&trade.instrument, leg, trade.volume);
        self.books.apply(&trade);
        if self.entries.get(&leg.entry).is_some_and(|entry| !entry.is_active()) {
            self.release(leg.entry);
            self.remember_finished(leg.entry);
        }
        self.trades.push_back(trade);
        if self.trades.len() > REMEMBERED {
            self.trades.pop_front();
        }
    }

    /// Ends what is left of an order or a quote.
    fn finish(&mut self, number: u64, reason: &str, out: &mut Vec<VenueEvent>) {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.is_active()) else { return };
        entry.cancel(reason);
        out.push(entry.event());
        self.release(number);
        self.remember_finished(number);
    }

    fn release(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else { return };
        for direction in entry.directions() {
            self.books.release(entry.instrument(), Leg { entry: number, direction: *direction });
        }
    }

    fn remember_finished(&mut self, number: u64) {
        self.finished.push_back(number);
        if self.finished.len() > REMEMBERED
            && let Some(oldest) = self.finished.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.by_reference.remove(entry.reference());
        }
    }

    /// The instrument's day is over: what works is cancelled. What ended with the day before is forgotten, so that a
    /// snapshot still shows, for one day, all of the day that ended just now.
    fn end_day(&mut self, instrument: &InstrumentId, market: &mut Market, out: &mut Vec<VenueEvent>) {
        self.forget_day(instrument, market.trading_day());
        for number in market.clear() {
            self.finish(number, "end of trading day", out);
        }
        market.begin_day();
    }

    /// Forgets the instrument's orders and quotes of days before the one that ends, and its trades of other days than
    /// this: whoever was away when it ended still finds all of it.
    fn forget_day(&mut self, instrument: &InstrumentId, ended: Option<chrono::NaiveDate>) {
        let began = self.day_began.insert(instrument.clone(), self.arrivals).unwrap_or(0);
        let is_old = |number: &u64| {
            *number <= began && self.entries.get(number).is_some_and(|entry| entry.instrument() == instrument)
        };
        let (old, kept): (Vec<u64>, VecDeque<u64>) = {
            let finished = std::mem::take(&mut self.finished);
            (finished.iter().copied().filter(is_old).collect(), finished.into_iter().filter(|n| !is_old(n)).collect())
        };
        self.finished = kept;
        for number in old {
            self.forget(number);
        }
        self.trades.retain(|trade| trade.instrument != *instrument || trade.trading_day == ended);
    }

    fn report(&mut self, out: &mut Vec<VenueEvent>) {
        let (positions, account) = self.books.report();
        out.extend(positions.into_iter().map(VenueEvent::Position));
        out.extend(account.map(VenueEvent::Account));
    }
}

/// An order that got no further than the venue's door.
pub(super) fn rejected_order(reference: &VenueReference, request: &OrderRequest, reason: String) -> VenueOrder {
    VenueOrder { status: OrderStatus::Rejected, reason: Some(reason), ..new_order(reference, request) }
}

/// A quote that got no further than the venue's door.
pub(super) fn rejected_quote(reference: &VenueReference, request: &QuoteRequest, reason: String) -> VenueQuote {
    VenueQuote { status: OrderStatus::Rejected, reason: Some(reason), ..new_quote(reference, request) }
}

fn new_order(reference: &VenueReference, request: &OrderRequest) -> VenueOrder {
    VenueOrder {
        reference: reference.clone(),
        instrument: request.instrument(),
        order_type: request.r#type,
        direction: request.direction,
        offset: request.offset,
        price: request.price,
        volume: request.volume,
        traded: 0.0,
        status: OrderStatus::NotTraded,
        datetime: None,
        reason: None,
    }
}

fn new_quote(reference: &VenueReference, request: &QuoteRequest) -> VenueQuote {
    VenueQuote {
        reference: reference.clone(),
        instrument: request.instrument(),
        bid_price: request.bid_price,
        bid_volume: request.bid_volume,
        ask_price: request.ask_price,
        ask_volume: request.ask_volume,
        bid_offset: request.bid_offset,
        ask_offset: request.ask_offset,
        bid_traded: 0.0,
        ask_traded: 0.0,
        status: OrderStatus::NotTraded,
        datetime: None,
        reason: None,
    }
}

/// Whether an instrument's step from one trading day to another begins a day of the whole venue. Replayed instruments
/// may live years apart: the venue's day is the latest of theirs, until a replay begins again.
fn begins_day(venue: Option<chrono::NaiveDate>, before: Option<chrono::NaiveDate>, day: chrono::NaiveDate) -> bool {
    let is_later = venue.is_none_or(|venue| day > venue);
    let begins_again = before.is_some_and(|before| day < before) && venue != Some(day);
    is_later || begins_again
}

mod reload;

#[cfg(test)]
pub(super) mod properties;
#[cfg(test)]
mod recordings;
#[cfg(test)]
pub(super) mod tests;
