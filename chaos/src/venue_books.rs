//! What the venue's ledger adds up to: every order that it took, under the client's id, with its fills and its end.

use std::collections::BTreeMap;

use gateway_node::gateway::sim::counter::Session;
use gateway_node::gateway::sim::ledger::{LedgerEntry, Record, Refusal};
use gateway_node::gateway::{VenueOrder, VenueQuote, VenueReference, VenueTrade};
use protocol::{Name, OrderId, OrderStatus};

/// What was taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An order.
    Order(VenueOrder),
    /// A quote.
    Quote(VenueQuote),
}

/// An order or a quote that got into the venue's books, rejected ones included.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The client's id.
    pub memo: OrderId,
    /// The venue's.
    pub reference: VenueReference,
    /// As it was taken.
    pub content: Content,
    /// Its state at the ledger's end.
    pub status: OrderStatus,
    /// Filled in all, in lots.
    pub traded: f64,
    /// When it came, by the venue's clock, in microseconds since 1970.
    pub at_us: i64,
}

/// The books at the ledger's end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VenueBooks {
    /// Every order and quote, in the venue's order.
    pub taken: Vec<Taken>,
    /// Every fill, with the client's id of its order (none, if the venue knows no such order).
    pub trades: Vec<(Option<OrderId>, VenueTrade)>,
    /// What was taken under a session that was not in force: the client's ids.
    pub stale: Vec<OrderId>,
    /// Orders, quotes and cancels refused because their session was over.
    pub refused_as_stale: u64,
    /// Logins.
    pub sessions: u64,
    /// From when on which session was in force, in microseconds since 1970, in order.
    in_force: Vec<(i64, Option<Name>)>,
    /// When each number of a session came to the venue, by session; refused ones included.
    seen: BTreeMap<Name, BTreeMap<u64, i64>>,
}

impl VenueBooks {
    /// Adds a ledger up.
    #[must_use]
    pub fn of(records: &[Record]) -> VenueBooks {
        let mut books = VenueBooks::default();
        let mut index: BTreeMap<VenueReference, usize> = BTreeMap::new();
        let mut in_force: Option<Session> = None;
        let entries = records.iter().flat_map(|record| record.entries.iter().map(|entry| (&record.time, entry)));
        for (time, entry) in entries {
            let at_us = time.timestamp_micros();
            if let Some(reference) = came_in(entry) {
                books.seen.entry(reference.session.clone()).or_default().insert(reference.number, at_us);
            }
            match entry {
                LedgerEntry::Started { .. } => in_force = None,
                LedgerEntry::LoggedIn { session, .. } => {
                    in_force = Some(*session);
                    books.sessions += 1;
                }
                LedgerEntry::SessionEnded { session, .. } => in_force = in_force.filter(|current| current != session),
                LedgerEntry::OrderAccepted { memo, order, .. } | LedgerEntry::OrderRejected { memo, order } => {
                    books.take(memo, Content::Order(order.clone()), in_force, at_us, &mut index);
                }
                LedgerEntry::QuoteAccepted { memo, quote } | LedgerEntry::QuoteRejected { memo, quote } => {
                    books.take(memo, Content::Quote(quote.clone()), in_force, at_us, &mut index);
                }
                LedgerEntry::Trade(trade) => {
                    let taken = index.get(&trade.reference).map(|at| &mut books.taken[*at]);
                    let memo = taken.map(|taken| {
                        taken.traded += trade.volume;
                        if taken.status.is_active() {
                            taken.status = OrderStatus::PartTraded;
                        }
                        taken.memo.clone()
                    });
                    books.trades.push((memo, trade.clone()));
                }
                LedgerEntry::Finished { reference, status, .. } => {
                    if let Some(at) = index.get(reference) {
                        books.taken[*at].status = *status;
                    }
                }
                LedgerEntry::Refused { why: Refusal::StaleSession, .. }
                | LedgerEntry::CancelRefused { why: Refusal::StaleSession, .. } => books.refused_as_stale += 1,
                _ => {}
            }
            let current = in_force.map(Session::name);
            if books.in_force.last().map(|(_, session)| session) != Some(&current) {
                books.in_force.push((at_us, current));
            }
        }
        books
    }

    /// Which session was in force at a time, in microseconds since 1970.
    #[must_use]
    pub fn in_force_at(&self, at_us: i64) -> Option<&Name> {
        let behind = self.in_force.partition_point(|(since, _)| *since <= at_us);
        self.in_force.get(behind.checked_sub(1)?)?.1.as_ref()
    }

    /// When something first came in the same session that was sent behind this, in microseconds since 1970; `None` if
    /// nothing did, or if this came too.
    #[must_use]
    pub fn overtaken_at(&self, reference: &VenueReference) -> Option<i64> {
        let seen = self.seen.get(&reference.session).filter(|seen| !seen.contains_key(&reference.number))?;
        seen.range(reference.number + 1..).map(|(_, at_us)| *at_us).min()
    }

    fn take(
        &mut self,
        memo: &OrderId,
        content: Content,
        in_force: Option<Session>,
        at_us: i64,
        index: &mut BTreeMap<VenueReference, usize>,
    ) {
        let (reference, status) = match &content {
            Content::Order(order) => (order.reference.clone(), order.status),
            Content::Quote(quote) => (quote.reference.clone(), quote.status),
        };
        if in_force.map(Session::name).as_ref() != Some(&reference.session) {
            self.stale.push(memo.clone());
        }
        index.insert(reference.clone(), self.taken.len());
        self.taken.push(Taken { memo: memo.clone(), reference, content, status, traded: 0.0, at_us });
    }
}

/// The number under which this order or quote came to the venue's door.
fn came_in(entry: &LedgerEntry) -> Option<&VenueReference> {
    match entry {
        LedgerEntry::OrderAccepted { order, .. } | LedgerEntry::OrderRejected { order, .. } => Some(&order.reference),
        LedgerEntry::QuoteAccepted { quote, .. } | LedgerEntry::QuoteRejected { quote, .. } => Some(&quote.reference),
        LedgerEntry::Refused { reference, .. } => Some(reference),
        _ => None,
    }
}
