//! What the venue's ledger adds up to: every order that it took, under the client's id, with its fills and its end.

use std::collections::BTreeMap;

use gateway_node::gateway::sim::counter::Session;
use gateway_node::gateway::sim::ledger::{LedgerEntry, Record, Refusal};
use gateway_node::gateway::{VenueOrder, VenueQuote, VenueReference, VenueTrade};
use protocol::{OrderId, OrderStatus};

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
}

impl VenueBooks {
    /// Adds a ledger up.
    #[must_use]
    pub fn of(records: &[Record]) -> VenueBooks {
        let mut books = VenueBooks::default();
        let mut index: BTreeMap<VenueReference, usize> = BTreeMap::new();
        let mut in_force: Option<Session> = None;
        for entry in records.iter().flat_map(|record| &record.entries) {
            match entry {
                LedgerEntry::Started { .. } => in_force = None,
                LedgerEntry::LoggedIn { session, .. } => {
                    in_force = Some(*session);
                    books.sessions += 1;
                }
                LedgerEntry::SessionEnded { session, .. } => in_force = in_force.filter(|current| current != session),
                LedgerEntry::OrderAccepted { memo, order, .. } | LedgerEntry::OrderRejected { memo, order } => {
                    books.take(memo, Content::Order(order.clone()), in_force, &mut index);
                }
                LedgerEntry::QuoteAccepted { memo, quote } | LedgerEntry::QuoteRejected { memo, quote } => {
                    books.take(memo, Content::Quote(quote.clone()), in_force, &mut index);
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
        }
        books
    }

    fn take(
        &mut self,
        memo: &OrderId,
        content: Content,
        in_force: Option<Session>,
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
        self.taken.push(Taken { memo: memo.clone(), reference, content, status, traded: 0.0 });
    }
}
