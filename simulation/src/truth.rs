//! What really happened, as the servers and the venue saw it, and the rules that may not be broken at any time. Nodes
//! and clients know nothing of this.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::NaiveDate;
use gateway_node::gateway::sim::counter::Session;
use gateway_node::gateway::sim::ledger::{LedgerEntry, Refusal};
use gateway_node::gateway::{VenueReference, VenueTrade};
use gateway_node::reconcile::NEVER_ARRIVED;
use protocol::defect::{Defect, is_planted};
use protocol::event::OmsEvent;
use protocol::journal::{Entry, Private};
use protocol::{Name, OrderId, OrderStatus};

/// How an order or a quote really stands at the venue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Its status.
    pub status: OrderStatus,
    /// Filled, in lots, both sides of a quote together.
    pub traded: f64,
}

/// See the module.
#[derive(Default)]
pub struct Truth {
    finding: Option<String>,
    epoch: u64,
    is_broken: bool,
    /// The venue's references of all intents that the journal holds.
    intents: HashSet<Name>,
    /// Clients' ids of orders that the journal has told as rejected, at some time.
    rejected: HashSet<OrderId>,
    session: Option<Session>,
    /// By the client's id: under which reference the venue accepted it.
    accepted: BTreeMap<OrderId, VenueReference>,
    standings: HashMap<VenueReference, Standing>,
    /// Every trade at the venue.
    pub trades: Vec<VenueTrade>,
    /// How many trades, and of how many lots, the journal has told.
    pub trades_told: (usize, f64),
    /// The trading day that has begun last at the venue.
    day: NaiveDate,
    /// By reference, what came to the venue and has not been told to have ended, with the day on which it came.
    not_ended: HashMap<Name, NaiveDate>,
    /// By trading day, how many trades more there were than have been told.
    untold_trades: BTreeMap<NaiveDate, i64>,
    /// What came under a session that was over.
    pub stale: u64,
    /// Entries of leaders that had been replaced.
    pub voided: u64,
    /// References of what was written to the venue and did not get there, or was refused there unseen.
    vanished: HashSet<Name>,
    /// References of what a leader had in hand when it ended, or would not send any more: with its epoch. Its successors
    /// may say that it never arrived, and only they.
    not_written: HashMap<Name, u64>,
    /// What the journal says never arrived: id, reference, and the epoch that says so.
    never_arrived: Vec<(OrderId, Name, u64)>,
}

impl Truth {
    /// What was found first, if anything was.
    #[must_use]
    pub fn finding(&self) -> Option<&str> {
        self.finding.as_deref()
    }

    /// Something is not as it must be. The first finding counts.
    pub fn found(&mut self, finding: impl Into<String>) {
        self.finding.get_or_insert(finding.into());
    }

    /// Clients' ids of everything that the venue accepted, with the venue's references.
    #[must_use]
    pub fn accepted(&self) -> &BTreeMap<OrderId, VenueReference> {
        &self.accepted
    }

    /// How the order or quote really stands that has this reference.
    #[must_use]
    pub fn standing(&self, reference: &VenueReference) -> Option<Standing> {
        self.standings.get(reference).copied()
    }

    /// The journal stored an entry under this epoch.
    pub fn on_stored(&mut self, epoch: u64, entry: &Entry) {
        // Readers void it, and what follows it of the leader itself: whoever relies on either is wrong. But it has been
        // published, so it may not be there at all.
        if epoch < self.epoch && !is_planted(Defect::Fence) {
            self.found(format!("an entry of epoch {epoch} is stored, although epoch {} has begun", self.epoch));
        }
        if epoch > self.epoch {
            self.is_broken = false;
        }
        self.is_broken |= epoch < self.epoch;
        if self.is_broken {
            self.voided += 1;
            return;
        }
        match entry {
            Entry::Private(Private::LeaderStarted { epoch, .. }) => self.epoch = *epoch,
            Entry::Private(_) => {}
            Entry::Event(event) => {
                let (id, status, reference, reason) = match &event.data {
                    OmsEvent::Order(o) => (&o.orderid, o.status, &o.venue_reference, &o.reason),
                    OmsEvent::Quote(q) => (&q.quoteid, q.status, &q.venue_reference, &q.reason),
                    OmsEvent::Trade(trade) => {
                        self.trades_told.0 += 1;
                        self.trades_told.1 += trade.volume;
                        *self.untold_trades.entry(trade.trading_day.unwrap_or_default()).or_default() -= 1;
                        return;
                    }
                    OmsEvent::Position(_) | OmsEvent::Account(_) => return,
                };
                self.intents.extend(reference.clone());
                if let Some(reference) = reference.as_ref().filter(|_| !status.is_active()) {
                    self.not_ended.remove(reference);
                }
                if reason.as_deref() == Some(NEVER_ARRIVED) {
                    self.never_arrived.push((id.clone(), reference.clone().unwrap_or_default(), epoch));
                }
                if status == OrderStatus::Rejected {
                    self.rejected.insert(id.clone());
                    if self.accepted.contains_key(id) {
                        self.found(format!("{id} is told as rejected, although the venue has accepted it"));
                    }
                }
            }
        }
    }

    /// A node sends an order to the venue: its intent must be stored.
    pub fn on_sent(&mut self, reference: &VenueReference) {
        if !self.intents.contains(reference.to_string().as_str()) {
            self.found(format!("{reference} is sent to the venue before the journal has stored it"));
        }
    }

    /// What was written to the venue did not get there.
    pub fn on_vanished(&mut self, reference: &VenueReference) {
        self.vanished.insert(reference.to_string().into());
    }

    /// The leader of this epoch ends with it in hand, or would not send it.
    pub fn on_not_written(&mut self, epoch: u64, reference: &VenueReference) {
        self.not_written.insert(reference.to_string().into(), epoch);
    }

    /// How many intents are said never to have arrived.
    #[must_use]
    pub fn never_arrived(&self) -> usize {
        self.never_arrived.len()
    }

    /// In the end: whatever is said never to have arrived really vanished, or its leader ended before it was written.
    /// Otherwise a node answered for an order, and lost it itself.
    pub fn check_never_arrived(&mut self) {
        let is_explained = |reference: &Name, epoch: u64| {
            self.vanished.contains(reference) || self.not_written.get(reference).is_some_and(|ended| *ended < epoch)
        };
        let lost = self.never_arrived.iter().find(|(_, reference, epoch)| !is_explained(reference, *epoch));
        if let Some((id, reference, _)) = lost.cloned() {
            self.found(format!(
                "{id} is told never to have arrived as {reference}, and nothing kept it from the venue"
            ));
        }
    }

    /// The venue wrote into its ledger.
    pub fn on_ledger(&mut self, entry: &LedgerEntry) {
        match entry {
            LedgerEntry::LoggedIn { session, .. } => self.session = Some(*session),
            LedgerEntry::Day { day, .. } => self.day = self.day.max(*day),
            LedgerEntry::OrderRejected { order, .. } => self.on_came(&order.reference),
            LedgerEntry::QuoteRejected { quote, .. } => self.on_came(&quote.reference),
            LedgerEntry::OrderAccepted { memo, order, .. } => self.on_accepted(memo, &order.reference),
            LedgerEntry::QuoteAccepted { memo, quote } => self.on_accepted(memo, &quote.reference),
            LedgerEntry::Trade(trade) => {
                if let Some(standing) = self.standings.get_mut(&trade.reference) {
                    standing.traded += trade.volume;
                    standing.status = OrderStatus::PartTraded;
                }
                *self.untold_trades.entry(trade.trading_day.unwrap_or_default()).or_default() += 1;
                self.trades.push(trade.clone());
            }
            LedgerEntry::Finished { reference, status, .. } => {
                if let Some(standing) = self.standings.get_mut(reference) {
                    standing.status = *status;
                }
            }
            LedgerEntry::Refused { why: Refusal::StaleSession, reference, .. } => {
                self.stale += 1;
                self.on_vanished(reference);
            }
            LedgerEntry::CancelRefused { why: Refusal::StaleSession, .. } => self.stale += 1,
            LedgerEntry::Refused { reference, why, .. } => {
                self.found(format!("the venue refused {reference} at the door: {why}"));
            }
            _ => {}
        }
    }

    /// Whether the journal has told all that came of what the venue took before its present day.
    #[must_use]
    pub fn is_told_before_today(&self) -> bool {
        self.not_ended.values().all(|day| *day >= self.day)
            && self.untold_trades.range(..self.day).all(|(_, untold)| *untold == 0)
    }

    fn on_came(&mut self, reference: &VenueReference) {
        self.not_ended.insert(reference.to_string().into(), self.day);
    }

    fn on_accepted(&mut self, memo: &OrderId, reference: &VenueReference) {
        self.on_came(reference);
        if let Some(first) = self.accepted.insert(memo.clone(), reference.clone()) {
            self.found(format!("{memo} is at the venue twice: as {first} and as {reference}"));
        }
        if self.session.is_none_or(|session| session.name() != reference.session) {
            self.found(format!("the venue accepted {reference} under a session that is over"));
        }
        if self.rejected.contains(memo) {
            self.found(format!("{memo} had been told as rejected when the venue accepted it"));
        }
        self.standings.insert(reference.clone(), Standing { status: OrderStatus::NotTraded, traded: 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Event, Exchange, InstrumentId, Offset, OrderRequest};

    fn never_arrived(truth: &mut Truth, epoch: u64) {
        let rb = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut order =
            OrderRequest::limit(rb, Direction::Long, Offset::Open, 1.0, 1.0).to_order(&"sim1".into(), &"o".into());
        (order.orderid, order.venue_reference) = (OrderId::new("a"), Some("1/1".into()));
        (order.status, order.reason) = (OrderStatus::Rejected, Some(NEVER_ARRIVED.to_owned()));
        let time = chrono::DateTime::UNIX_EPOCH.fixed_offset();
        let event = Event { gateway: "sim1".into(), epoch, seq: 1, time, data: OmsEvent::Order(order) };
        truth.on_stored(epoch, &Entry::Event(Box::new(event)));
    }

    /// Whether it is found that an intent is said, under epoch 2, never to have arrived.
    fn is_found(before: impl FnOnce(&mut Truth, &VenueReference)) -> bool {
        let mut truth = Truth::default();
        before(&mut truth, &VenueReference { session: "1".into(), number: 1 });
        never_arrived(&mut truth, 2);
        truth.check_never_arrived();
        truth.finding().is_some()
    }

    #[test]
    fn an_intent_never_arrives_only_if_something_kept_it_from_the_venue() {
        assert!(is_found(|_, _| {}));
        assert!(is_found(|truth, reference| truth.on_sent(reference)), "sent, and not vanished");
        assert!(!is_found(Truth::on_vanished));
        assert!(!is_found(|truth, reference| truth.on_not_written(1, reference)), "its leader ended");
        assert!(is_found(|truth, reference| truth.on_not_written(2, reference)), "its leader itself says so");
    }

    #[test]
    fn a_day_ends_only_once_what_came_before_it_is_told() {
        let rb = || InstrumentId::new("rb2410", Exchange::SHFE);
        let first = NaiveDate::default();
        let day = |truth: &mut Truth, days| {
            let day = first + chrono::TimeDelta::days(days);
            truth.on_ledger(&LedgerEntry::Day { instrument: rb(), day });
        };
        let reference = VenueReference { session: "1".into(), number: 1 };
        let venues = VenueTrade {
            reference: reference.clone(),
            tradeid: "t1".into(),
            instrument: rb(),
            direction: Direction::Long,
            offset: Offset::Open,
            price: 1.0,
            volume: 1.0,
            datetime: None,
            trading_day: Some(first + chrono::TimeDelta::days(1)),
        };
        let mut truth = Truth::default();
        day(&mut truth, 1);
        truth.on_came(&reference);
        truth.on_ledger(&LedgerEntry::Trade(venues.clone()));
        assert!(truth.is_told_before_today(), "the venue lists it tomorrow too");
        day(&mut truth, 2);
        assert!(!truth.is_told_before_today());
        let request = OrderRequest::limit(rb(), Direction::Long, Offset::Open, 1.0, 1.0);
        let mut order = request.to_order(&"sim1".into(), &"o".into());
        (order.status, order.venue_reference) = (OrderStatus::AllTraded, Some(reference.to_string().into()));
        let trade = protocol::Trade {
            gateway_name: "sim1".into(),
            symbol: order.symbol.clone(),
            exchange: order.exchange,
            tradeid: "t1".into(),
            orderid: order.orderid.clone(),
            owner: order.owner.clone(),
            direction: order.direction,
            offset: order.offset,
            price: 1.0,
            volume: 1.0,
            datetime: None,
            trading_day: venues.trading_day,
            reference: order.reference.clone(),
            traceid: None,
            extra: None,
        };
        let mut tell = |data| {
            let time = chrono::DateTime::UNIX_EPOCH.fixed_offset();
            truth.on_stored(1, &Entry::Event(Box::new(Event { gateway: "sim1".into(), epoch: 1, seq: 1, time, data })));
            truth.is_told_before_today()
        };
        assert!(!tell(OmsEvent::Order(order)), "its trade is missing");
        assert!(tell(OmsEvent::Trade(trade)));
    }
}
