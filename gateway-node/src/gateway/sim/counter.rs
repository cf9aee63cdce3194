//! A counter: the venue that outlives its nodes, as a pure struct without clock, thread or I/O. It owns the sessions
//! and decides what the ledger says; what becomes of orders is the exchange's.
//!
//! Each input adds to an [`Outcome`]: entries for the ledger, and what to say to which session. The entries must be
//! stored before anything is said; then a counter rebuilt from the ledger is the counter that said it.
//!
//! - One account, one session: a newer login ends the older session at once. What still comes under it is refused, and
//!   the refusal recorded.
//! - A login with a lower epoch than the highest seen is refused: it comes from a node that lost its leadership. The
//!   adapter tells its node `Disconnected`, not `Refused`, since the node may lead again, with a higher epoch, and must
//!   then get in without anybody's help.
//! - Sessions are numbered through all restarts of the venue; order references must rise within a session.
//! - Orders outlive their session. What happens while nobody is logged in is said to nobody; the next snapshot has it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use protocol::{
    Account, Contract, InstrumentId, LogLevel, Name, OrderId, OrderRequest, OrderStatus, Position, QuoteRequest, Tick,
};
use serde::{Deserialize, Serialize};

use super::books::Terms;
use super::ledger::{LedgerEntry, Refusal};
use super::matching::{self, Exchange};
use crate::gateway::{VenueEvent, VenueOrder, VenueQuote, VenueReference};

/// A session's number: it never comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session(pub u64);

impl Session {
    /// The session as references name it.
    #[must_use]
    pub fn name(self) -> Name {
        Name::from(self.0.to_string())
    }
}

/// What a counter is made of.
#[derive(Debug, Clone)]
pub struct CounterSetup {
    /// The gateway name that positions and accounts carry.
    pub gateway: Name,
    /// What can be traded.
    pub contracts: Vec<Contract>,
    /// The paper account.
    pub terms: Terms,
    /// Orders and quotes that a session may send within a second, at least 1; more are rejected.
    pub orders_per_second: u32,
}

/// What inputs came to. Store `entries` first, then say what is to be said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// For the ledger.
    pub entries: Vec<LedgerEntry>,
    /// Whom to tell what, in order.
    pub says: Vec<(Session, VenueEvent)>,
}

/// What a counter has counted since it was rebuilt or begun, through all restarts of the venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CounterCounts {
    /// Starts of the venue.
    pub runs: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Orders and quotes accepted.
    pub accepted: u64,
    /// Orders and quotes rejected.
    pub rejected: u64,
    /// Orders, quotes and cancels that came under a session that was over.
    pub stale: u64,
    /// Cancels carried out.
    pub cancelled: u64,
    /// Trades.
    pub trades: u64,
}

/// See the module.
pub struct Counter {
    setup: CounterSetup,
    exchange: Exchange,
    /// The session in force.
    current: Option<Current>,
    highest_epoch: u64,
    /// Number of the last session that was begun, or one below the first.
    last_session: u64,
    counts: CounterCounts,
    /// Last prices of what is held, as last recorded.
    marked: HashMap<InstrumentId, f64>,
    /// So many orders and quotes are still to be rejected for no good reason.
    to_reject: u32,
}

struct Current {
    session: Session,
    highest_reference: u64,
    /// When the last orders came, as many as are allowed within a second.
    sent: VecDeque<Duration>,
}

/// A counter that is being rebuilt from its ledger.
pub struct Rebuild(Counter);

impl Rebuild {
    /// A counter without a past.
    #[must_use]
    pub fn new(setup: CounterSetup) -> Rebuild {
        Rebuild(Counter {
            exchange: Exchange::new(setup.gateway.clone(), setup.contracts.iter(), setup.terms.clone()),
            setup,
            current: None,
            highest_epoch: 0,
            last_session: 0,
            counts: CounterCounts::default(),
            marked: HashMap::new(),
            to_reject: 0,
        })
    }

    /// Sessions are numbered from here, unless the ledger knows one: with a number that no ledger before can have come
    /// to, references and trade ids of a new account are never taken for an earlier account's.
    #[must_use]
    pub fn sessions_from(mut self, first: u64) -> Rebuild {
        if self.0.last_session == 0 {
            self.0.last_session = first.saturating_sub(1);
        }
        self
    }

    /// Takes in what one input came to: the entries of one record of the ledger.
    ///
    /// # Errors
    /// Says which entry cannot be, and why.
    pub fn take(&mut self, entries: &[LedgerEntry]) -> Result<(), String> {
        let counter = &mut self.0;
        for entry in entries {
            counter.counts.take(entry);
            counter.reload(entry)?;
        }
        counter.exchange.reload_told();
        Ok(())
    }

    /// The venue starts: working orders rest again, older sessions are over.
    #[must_use]
    pub fn start(self, out: &mut Outcome) -> Counter {
        let mut counter = self.0;
        counter.exchange.rest_working();
        counter.end_current("the venue restarted", out);
        let run = counter.counts.runs + 1;
        counter.record(LedgerEntry::Started { run, terms: counter.setup.terms.clone() }, out);
        counter
    }
}

impl Counter {
    /// The session in force.
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        self.current.as_ref().map(|current| current.session)
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> CounterCounts {
        self.counts
    }

    /// The exchange that it stands before.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// A node logs in. Says `Connected`, the contracts and `Ready` to the new session.
    ///
    /// # Errors
    /// Why the login is refused: the epoch is lower than the highest seen.
    pub fn log_in(&mut self, epoch: u64, node: &Name, out: &mut Outcome) -> Result<Session, String> {
        if epoch < self.highest_epoch {
            let reason = format!(
                "a node of epoch {} has logged in, so epoch {epoch} is no longer the leader's (if the node's journal was \
                 begun afresh, begin the venue's ledger afresh too)",
                self.highest_epoch
            );
            let node = node.clone();
            self.record(LedgerEntry::LoginRefused { epoch, node, reason: reason.clone() }, out);
            return Err(reason);
        }
        self.end_current(&format!("a newer login ended the session: {node}, epoch {epoch}"), out);
        let session = Session(self.last_session + 1);
        self.record(LedgerEntry::LoggedIn { session, epoch, node: node.clone() }, out);
        self.begin(session, epoch);
        let connected = VenueEvent::Connected {
            session: session.name(),
            max_reference: 0,
            trading_day: self.exchange.trading_day(),
            venue: concat!("sim ", env!("CARGO_PKG_VERSION")).into(),
        };
        let contracts = self.setup.contracts.iter().cloned().map(VenueEvent::Contract);
        let says = std::iter::once(connected).chain(contracts).chain([VenueEvent::Ready]);
        out.says.extend(says.map(|event| (session, event)));
        Ok(session)
    }

    /// A session logged out, or its connection is lost; nothing, if it is over already.
    pub fn log_out(&mut self, session: Session, reason: &str, out: &mut Outcome) {
        if self.session() == Some(session) {
            self.current = None;
            self.record(LedgerEntry::SessionEnded { session, reason: reason.to_owned() }, out);
        }
    }

    /// An order comes under a session, with its number there. `now` is the time since any fixed instant.
    pub fn submit(&mut self, session: Session, number: u64, request: &OrderRequest, now: Duration, out: &mut Outcome) {
        let reference = VenueReference { session: session.name(), number };
        let is_finite = request.volume.is_finite() && request.price.is_none_or(f64::is_finite);
        if let Err(why) = self.check_door(session, number, is_finite) {
            let rejected = VenueEvent::Order(matching::rejected_order(&reference, request, why.to_string()));
            self.refuse(session, &request.orderid, rejected, why, out);
            return;
        }
        let mut events = Vec::new();
        match self.check_flow(now) {
            Ok(()) => self.exchange.submit(&reference, request, &mut events),
            Err(reason) => self.exchange.reject(&reference, request, reason, &mut events),
        }
        if let Some(VenueEvent::Order(order)) = events.first() {
            let (memo, order) = (request.orderid.clone(), order.clone());
            let entry = if order.status.is_active() {
                let kept_at = self.exchange.kept_at(&order);
                LedgerEntry::OrderAccepted { memo, order, kept_at }
            } else {
                LedgerEntry::OrderRejected { memo, order }
            };
            self.record(entry, out);
        }
        self.settle(events, 1, out);
    }

    /// A quote comes under a session, as [`Counter::submit`].
    pub fn submit_quote(
        &mut self,
        session: Session,
        number: u64,
        request: &QuoteRequest,
        now: Duration,
        out: &mut Outcome,
    ) {
        let reference = VenueReference { session: session.name(), number };
        let numbers = [request.bid_price, request.bid_volume, request.ask_price, request.ask_volume];
        if let Err(why) = self.check_door(session, number, numbers.iter().all(|number| number.is_finite())) {
            let rejected = VenueEvent::Quote(matching::rejected_quote(&reference, request, why.to_string()));
            self.refuse(session, &request.quoteid, rejected, why, out);
            return;
        }
        let mut events = Vec::new();
        match self.check_flow(now) {
            Ok(()) => self.exchange.submit_quote(&reference, request, &mut events),
            Err(reason) => self.exchange.reject_quote(&reference, request, reason, &mut events),
        }
        if let Some(VenueEvent::Quote(quote)) = events.first() {
            let (memo, quote) = (request.quoteid.clone(), quote.clone());
            let is_accepted = quote.status.is_active();
            let entry = if is_accepted {
                LedgerEntry::QuoteAccepted { memo, quote }
            } else {
                LedgerEntry::QuoteRejected { memo, quote }
            };
            self.record(entry, out);
        }
        self.settle(events, 1, out);
    }

    /// A session asks to cancel an order, of whatever session.
    pub fn cancel(&mut self, session: Session, reference: &VenueReference, out: &mut Outcome) {
        self.cancel_with(session, reference, Exchange::cancel, out);
    }

    /// A session asks to cancel a quote, of whatever session.
    pub fn cancel_quote(&mut self, session: Session, reference: &VenueReference, out: &mut Outcome) {
        self.cancel_with(session, reference, Exchange::cancel_quote, out);
    }

    /// A session asks for everything that the venue knows of today. Nothing is answered to a session that is over.
    pub fn snapshot(&mut self, session: Session, out: &mut Outcome) {
        if self.session() != Some(session) {
            return;
        }
        // The books count as told what they have told last: without this, prices that come back to where they were
        // before the snapshot would leave the snapshot's marks standing.
        self.report_marks(out);
        let snapshot = self.exchange.snapshot();
        out.says.push((session, VenueEvent::Snapshot(Box::new(snapshot))));
    }

    /// The account, told with prices that the ledger holds.
    #[must_use]
    pub fn account(&mut self, out: &mut Outcome) -> Account {
        self.record_marks(out);
        self.exchange.account()
    }

    /// The positions, told with prices that the ledger holds.
    #[must_use]
    pub fn positions(&mut self, out: &mut Outcome) -> Vec<Position> {
        self.record_marks(out);
        self.exchange.positions()
    }

    /// A tick. Returns whether it moved the profit of something held, so that [`Counter::report_marks`] has news.
    pub fn tick(&mut self, tick: &Tick, out: &mut Outcome) -> bool {
        let instrument = tick.instrument();
        let days = |exchange: &Exchange| (exchange.day_of(&instrument), exchange.trading_day());
        let before = days(&self.exchange);
        let mut events = Vec::new();
        let moved = self.exchange.on_tick(tick, &mut events);
        let after = days(&self.exchange);
        // The venue's day can go back without any instrument's: replayed instruments may live years apart.
        if let Some(day) = after.0.filter(|_| after != before) {
            self.record(LedgerEntry::Day { instrument, day }, out);
        }
        self.settle(events, 0, out);
        moved
    }

    /// Positions and account as prices have moved them since they were last told.
    pub fn report_marks(&mut self, out: &mut Outcome) {
        let mut events = Vec::new();
        self.exchange.report_marks(&mut events);
        self.settle(events, 0, out);
        // Even with no news: prices that were recorded with something else may have come back.
        self.record_marks(out);
    }

    /// The next so many orders and quotes are rejected; for tests of what stands above the venue.
    pub fn reject_next(&mut self, count: u32) {
        self.to_reject = count;
    }

    /// Whether an order or a quote may come in at all; if so, its number is used.
    fn check_door(&mut self, session: Session, number: u64, is_finite: bool) -> Result<(), Refusal> {
        let current = self.current.as_mut().filter(|current| current.session == session);
        let Some(current) = current else { return Err(Refusal::StaleSession) };
        if number <= current.highest_reference {
            return Err(Refusal::ReferenceUsed);
        }
        current.highest_reference = number;
        if is_finite { Ok(()) } else { Err(Refusal::NotANumber) }
    }

    /// Whether the order is to be looked at: not one too many within a second.
    fn check_flow(&mut self, now: Duration) -> Result<(), String> {
        if self.to_reject > 0 {
            self.to_reject -= 1;
            return Err("the venue was told to reject this one (a fault)".to_owned());
        }
        let limit = self.setup.orders_per_second.max(1);
        let Some(current) = &mut self.current else { return Ok(()) };
        let is_recent = |sent: &Duration| now.saturating_sub(*sent) < Duration::from_secs(1);
        if current.sent.len() >= limit as usize {
            if current.sent.front().is_some_and(is_recent) {
                return Err(format!("flow control: more than {limit} orders within a second"));
            }
            current.sent.pop_front();
        }
        current.sent.push_back(now);
        Ok(())
    }

    /// Tells the session, which may be over, that something got no further than the door: `rejected` where the
    /// reference is nobody else's, or that would speak of another order.
    fn refuse(&mut self, session: Session, memo: &OrderId, rejected: VenueEvent, why: Refusal, out: &mut Outcome) {
        let (VenueEvent::Order(VenueOrder { reference, .. }) | VenueEvent::Quote(VenueQuote { reference, .. })) =
            &rejected
        else {
            return;
        };
        let reference = reference.clone();
        if why != Refusal::NotANumber && !self.exchange.knows(&reference) {
            out.says.push((session, rejected));
        }
        let message = format!("{reference} was refused: {why}");
        self.record(LedgerEntry::Refused { reference, memo: memo.clone(), why }, out);
        out.says.push((session, VenueEvent::Log { level: LogLevel::Error, message }));
    }

    fn cancel_with(
        &mut self,
        session: Session,
        reference: &VenueReference,
        cancel: impl FnOnce(&mut Exchange, &VenueReference, &mut Vec<VenueEvent>),
        out: &mut Outcome,
    ) {
        let reference_of = || reference.clone();
        if self.session() != Some(session) {
            let (reference, why) = (reference_of(), Refusal::StaleSession);
            let message = format!("the cancel of {reference} was refused: {why}");
            self.record(LedgerEntry::CancelRefused { session, reference, why }, out);
            out.says.push((session, VenueEvent::Log { level: LogLevel::Error, message }));
            return;
        }
        let was_known = self.exchange.knows(reference);
        let was_working = self.exchange.is_working(reference);
        let mut events = Vec::new();
        cancel(&mut self.exchange, reference, &mut events);
        let reference = reference_of();
        if was_working && !self.exchange.is_working(&reference) {
            self.record(LedgerEntry::Cancelled { session, reference }, out);
            self.settle(events, 0, out);
        } else {
            // An order's cancel that names a quote, or the other way round, finds nothing either.
            let why = if was_known && !was_working { Refusal::Finished } else { Refusal::Unknown };
            self.record(LedgerEntry::CancelRefused { session, reference, why }, out);
            out.says.extend(events.into_iter().map(|event| (session, event)));
        }
    }

    /// Records what the exchange said, but for the first `told` events, and says all of it to the session in force.
    fn settle(&mut self, events: Vec<VenueEvent>, told: usize, out: &mut Outcome) {
        let mut all_traded = None;
        for event in events.iter().skip(told) {
            match event {
                VenueEvent::Trade(trade) => {
                    self.record(LedgerEntry::Trade(trade.clone()), out);
                    if let Some(finished) = all_traded.take() {
                        self.record(finished, out);
                    }
                }
                event => match finished(event) {
                    // Its last trade is said right behind it, and recorded before it.
                    Some(entry @ LedgerEntry::Finished { status: OrderStatus::AllTraded, .. }) => {
                        all_traded = Some(entry);
                    }
                    Some(entry) => self.record(entry, out),
                    None => {}
                },
            }
        }
        if events.iter().any(|event| matches!(event, VenueEvent::Position(_) | VenueEvent::Account(_))) {
            self.record_marks(out);
        }
        if let Some(session) = self.session() {
            out.says.extend(events.into_iter().map(|event| (session, event)));
        }
    }

    /// Records the prices of what is held, where they changed since they were last recorded.
    fn record_marks(&mut self, out: &mut Outcome) {
        let is_news = |(instrument, last): &(&InstrumentId, f64)| self.marked.get(*instrument) != Some(last);
        let news: Vec<_> = self.exchange.marks().filter(is_news).map(|(i, last)| (i.clone(), last)).collect();
        if !news.is_empty() {
            self.marked.extend(news.iter().cloned());
            self.record(LedgerEntry::Marks(news), out);
        }
    }

    fn end_current(&mut self, reason: &str, out: &mut Outcome) {
        if let Some(session) = self.session() {
            self.log_out(session, reason, out);
            out.says.push((session, VenueEvent::Disconnected { reason: reason.to_owned() }));
        }
    }

    fn begin(&mut self, session: Session, epoch: u64) {
        self.highest_epoch = self.highest_epoch.max(epoch);
        self.last_session = session.0;
        self.exchange.begin_session(session.name());
        self.current = Some(Current { session, highest_reference: 0, sent: VecDeque::new() });
    }

    fn record(&mut self, entry: LedgerEntry, out: &mut Outcome) {
        self.counts.take(&entry);
        out.entries.push(entry);
    }

    fn reload(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        match entry {
            LedgerEntry::Started { terms, .. } => {
                if *terms != self.setup.terms {
                    return Err(format!(
                        "the ledger was begun with other terms of the account: write [account] as it was ({terms:?}), or \
                         begin another ledger"
                    ));
                }
                self.current = None;
            }
            LedgerEntry::LoggedIn { session, epoch, .. } => self.begin(*session, *epoch),
            LedgerEntry::SessionEnded { session, .. } => {
                if self.session() == Some(*session) {
                    self.current = None;
                }
            }
            LedgerEntry::Day { instrument, day } => self.exchange.reload_day(instrument, *day)?,
            LedgerEntry::OrderAccepted { order, kept_at, .. } => self.exchange.reload_order(order, *kept_at)?,
            LedgerEntry::OrderRejected { order, .. } => self.exchange.reload_order(order, None)?,
            LedgerEntry::QuoteAccepted { quote, .. } | LedgerEntry::QuoteRejected { quote, .. } => {
                self.exchange.reload_quote(quote)?;
            }
            LedgerEntry::Trade(trade) => self.exchange.reload_trade(trade)?,
            LedgerEntry::Finished { reference, status, reason, .. } => {
                self.exchange.reload_end(reference, *status, reason.as_deref())?;
            }
            LedgerEntry::Marks(marks) => {
                for (instrument, last) in marks {
                    self.exchange.reload_mark(instrument, *last);
                    self.marked.insert(instrument.clone(), *last);
                }
            }
            LedgerEntry::LoginRefused { .. }
            | LedgerEntry::Refused { .. }
            | LedgerEntry::Cancelled { .. }
            | LedgerEntry::CancelRefused { .. } => {}
        }
        Ok(())
    }
}

impl CounterCounts {
    fn take(&mut self, entry: &LedgerEntry) {
        match entry {
            LedgerEntry::Started { run, .. } => self.runs = *run,
            LedgerEntry::LoggedIn { .. } => self.sessions += 1,
            LedgerEntry::LoginRefused { .. } => self.logins_refused += 1,
            LedgerEntry::OrderAccepted { .. } | LedgerEntry::QuoteAccepted { .. } => self.accepted += 1,
            LedgerEntry::OrderRejected { .. } | LedgerEntry::QuoteRejected { .. } => self.rejected += 1,
            LedgerEntry::Refused { why: Refusal::StaleSession, .. }
            | LedgerEntry::CancelRefused { why: Refusal::StaleSession, .. } => self.stale += 1,
            LedgerEntry::Refused { .. } => self.rejected += 1,
            LedgerEntry::Cancelled { .. } => self.cancelled += 1,
            LedgerEntry::Trade(_) => self.trades += 1,
            LedgerEntry::SessionEnded { .. }
            | LedgerEntry::Day { .. }
            | LedgerEntry::Finished { .. }
            | LedgerEntry::CancelRefused { .. }
            | LedgerEntry::Marks(_) => {}
        }
    }
}

/// What the ledger says of an event that ends an order or a quote.
fn finished(event: &VenueEvent) -> Option<LedgerEntry> {
    let (reference, status, traded, reason) = match event {
        VenueEvent::Order(order) => (&order.reference, order.status, order.traded, &order.reason),
        VenueEvent::Quote(quote) => {
            (&quote.reference, quote.status, quote.bid_traded + quote.ask_traded, &quote.reason)
        }
        _ => return None,
    };
    let (reference, reason) = (reference.clone(), reason.clone());
    (!status.is_active()).then_some(LedgerEntry::Finished { reference, status, traded, reason })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
