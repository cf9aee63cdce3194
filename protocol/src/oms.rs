//! The state that trading events add up to. Every copy of it (the node, its successor, a client's mirror) is this
//! one `apply` run over the same journalled events, so that copies cannot drift.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::OmsEvent;
use crate::trading::{Account, Order, Position, Quote, Trade};
use crate::value::{Direction, Exchange, InstrumentId, Name, OrderId, OrderStatus, Symbol};

/// Orders and quotes are known by owner and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// Whose it is.
    pub owner: Name,
    /// The client's id.
    pub orderid: OrderId,
}

/// Trades are known by these together: the venue's ids repeat across days, exchanges, the two sides of a self-trade, and
/// the legs of a combination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TradeKey {
    /// Trading day.
    pub trading_day: Option<chrono::NaiveDate>,
    /// Exchange.
    pub exchange: Exchange,
    /// The venue's id.
    pub tradeid: Name,
    /// Side.
    pub direction: Direction,
    /// The venue's spelling of the instrument.
    pub symbol: Symbol,
}

/// Positions are known by instrument and direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PositionKey {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Exchange.
    pub exchange: Exchange,
    /// Side.
    pub direction: Direction,
}

impl From<&Order> for OrderKey {
    fn from(order: &Order) -> Self {
        OrderKey { owner: order.owner.clone(), orderid: order.orderid.clone() }
    }
}

impl From<&Quote> for OrderKey {
    fn from(quote: &Quote) -> Self {
        OrderKey { owner: quote.owner.clone(), orderid: quote.quoteid.clone() }
    }
}

impl From<&Trade> for TradeKey {
    fn from(trade: &Trade) -> Self {
        if crate::defect::is_planted(crate::defect::Defect::Trades) {
            let (tradeid, direction) = (trade.tradeid.clone(), Direction::Net);
            let symbol = trade.symbol.clone();
            return TradeKey { trading_day: None, exchange: Exchange::LOCAL, tradeid, direction, symbol };
        }
        TradeKey {
            trading_day: trade.trading_day,
            exchange: trade.exchange,
            tradeid: trade.tradeid.clone(),
            direction: trade.direction,
            symbol: trade.symbol.clone(),
        }
    }
}

impl From<&Position> for PositionKey {
    fn from(position: &Position) -> Self {
        PositionKey { symbol: position.symbol.clone(), exchange: position.exchange, direction: position.direction }
    }
}

/// Whether an event changed anything; a repeated or late one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The state is different now.
    Changed,
    /// The event was stale or already known.
    Unchanged,
}

/// Orders, trades, quotes, positions and accounts of **one gateway**.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OmsState {
    orders: BTreeMap<OrderKey, Order>,
    active_orders: BTreeSet<OrderKey>,
    trades: BTreeMap<TradeKey, Trade>,
    quotes: BTreeMap<OrderKey, Quote>,
    active_quotes: BTreeSet<OrderKey>,
    positions: BTreeMap<PositionKey, Position>,
    accounts: BTreeMap<Name, Account>,
}

impl OmsState {
    /// Takes in one event. Applying the same event again changes nothing. Nor does an older event of an order, a quote
    /// or a trade that comes late: an order never moves backwards, a trade counts once. Positions and accounts carry
    /// nothing that orders them, so of these the last one applied stands: apply them in the journal's order.
    ///
    /// An event with a [malformed number](OmsEvent::malformed_field) is not applied: the wire could not carry it, and a
    /// copy made by replay would differ.
    pub fn apply(&mut self, event: &OmsEvent) -> Applied {
        if event.malformed_field().is_some() {
            return Applied::Unchanged;
        }
        match event {
            OmsEvent::Order(order) => self.apply_order(order),
            OmsEvent::Trade(trade) => match self.trades.entry(trade.into()) {
                std::collections::btree_map::Entry::Occupied(_) => Applied::Unchanged,
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(trade.clone());
                    Applied::Changed
                }
            },
            OmsEvent::Quote(quote) => self.apply_quote(quote),
            OmsEvent::Position(position) => replace(&mut self.positions, position.into(), position),
            OmsEvent::Account(account) => replace(&mut self.accounts, account.accountid.clone(), account),
        }
    }

    fn apply_order(&mut self, new: &Order) -> Applied {
        let key = OrderKey::from(new);
        let Some(known) = self.orders.get_mut(&key) else {
            if new.is_active() {
                self.active_orders.insert(key.clone());
            }
            self.orders.insert(key, new.clone());
            return Applied::Changed;
        };
        let Some(merged) = merge_order(known, new) else { return Applied::Unchanged };
        match (known.is_active(), merged.is_active()) {
            (true, false) => drop(self.active_orders.remove(&key)),
            (false, true) => drop(self.active_orders.insert(key)),
            (true, true) | (false, false) => {}
        }
        *known = merged;
        Applied::Changed
    }

    fn apply_quote(&mut self, new: &Quote) -> Applied {
        let key = OrderKey::from(new);
        let Some(known) = self.quotes.get_mut(&key) else {
            if new.is_active() {
                self.active_quotes.insert(key.clone());
            }
            self.quotes.insert(key, new.clone());
            return Applied::Changed;
        };
        let Some(merged) = merge_quote(known, new) else { return Applied::Unchanged };
        match (known.is_active(), merged.is_active()) {
            (true, false) => drop(self.active_quotes.remove(&key)),
            (false, true) => drop(self.active_quotes.insert(key)),
            (true, true) | (false, false) => {}
        }
        *known = merged;
        Applied::Changed
    }

    /// What this state would be for somebody who sees only one owner's orders, trades and quotes.
    /// Positions and accounts belong to the gateway and stay.
    #[must_use]
    pub fn filtered(&self, owner: &str) -> OmsState {
        let mine = |key: &OrderKey| key.owner == owner;
        OmsState {
            orders: self.orders.iter().filter(|(k, _)| mine(k)).map(clone_pair).collect(),
            active_orders: self.active_orders.iter().filter(|k| mine(k)).cloned().collect(),
            trades: self.trades.iter().filter(|(_, t)| t.owner == owner).map(clone_pair).collect(),
            quotes: self.quotes.iter().filter(|(k, _)| mine(k)).map(clone_pair).collect(),
            active_quotes: self.active_quotes.iter().filter(|k| mine(k)).cloned().collect(),
            positions: self.positions.clone(),
            accounts: self.accounts.clone(),
        }
    }

    /// One order.
    #[must_use]
    pub fn order(&self, key: &OrderKey) -> Option<&Order> {
        self.orders.get(key)
    }

    /// One quote.
    #[must_use]
    pub fn quote(&self, key: &OrderKey) -> Option<&Quote> {
        self.quotes.get(key)
    }

    /// One position.
    #[must_use]
    pub fn position(&self, instrument: &InstrumentId, direction: Direction) -> Option<&Position> {
        let key = PositionKey { symbol: instrument.symbol.clone(), exchange: instrument.exchange, direction };
        self.positions.get(&key)
    }

    /// One account.
    #[must_use]
    pub fn account(&self, accountid: &str) -> Option<&Account> {
        self.accounts.get(accountid)
    }

    /// All orders, by owner and id.
    #[must_use]
    pub fn orders(&self) -> &BTreeMap<OrderKey, Order> {
        &self.orders
    }

    /// All trades.
    #[must_use]
    pub fn trades(&self) -> &BTreeMap<TradeKey, Trade> {
        &self.trades
    }

    /// All quotes.
    #[must_use]
    pub fn quotes(&self) -> &BTreeMap<OrderKey, Quote> {
        &self.quotes
    }

    /// All positions, flat ones included once they were held.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<PositionKey, Position> {
        &self.positions
    }

    /// All accounts.
    #[must_use]
    pub fn accounts(&self) -> &BTreeMap<Name, Account> {
        &self.accounts
    }

    /// Orders that can still be filled or cancelled.
    pub fn active_orders(&self) -> impl Iterator<Item = &Order> {
        self.active_orders.iter().filter_map(|key| self.orders.get(key))
    }

    /// Quotes that can still be filled or cancelled.
    pub fn active_quotes(&self) -> impl Iterator<Item = &Quote> {
        self.active_quotes.iter().filter_map(|key| self.quotes.get(key))
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

fn replace<K: Ord, V: PartialEq + Clone>(map: &mut BTreeMap<K, V>, key: K, value: &V) -> Applied {
    match map.get_mut(&key) {
        Some(old) if old == value => Applied::Unchanged,
        Some(old) => {
            old.clone_from(value);
            Applied::Changed
        }
        None => {
            map.insert(key, value.clone());
            Applied::Changed
        }
    }
}

/// How far a life has come; states of the same rank exclude each other and the first one told stays.
const fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Submitting => 0,
        OrderStatus::NotTraded => 1,
        OrderStatus::PartTraded => 2,
        OrderStatus::AllTraded | OrderStatus::Cancelled | OrderStatus::Rejected => 3,
    }
}

/// What an event counts as filled, compared with what is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    More,
    Same,
    Fewer,
}

/// Compares cumulative fills side by side: one for an order, two for a quote.
fn compare_filled<const N: usize>(old: [f64; N], new: [f64; N]) -> Filled {
    if old.iter().zip(&new).any(|(old, new)| new > old) {
        Filled::More
    } else if old == new {
        Filled::Same
    } else {
        Filled::Fewer
    }
}

/// The status after `new` arrives behind `old`, or `None` if `new` is stale. `accepted` says whether the venue is known
/// to have accepted the order at some time before.
///
/// Filled volume only grows, and the rank never falls, with one exception: REJECTED. It says that the order never worked
/// at the venue, and it may be a guess made while reconciling; a fill proves it wrong, and so does an acceptance if the
/// venue had accepted nothing before. Then the order is open again. So the order of a REJECTED and of what contradicts
/// it matters; all other events of one life lead to the same state in any order.
///
/// A fill that arrives behind CANCELLED raises `traded` and leaves the order cancelled: it happened before the cancel.
fn next_status(old: OrderStatus, new: OrderStatus, filled: Filled, accepted: bool) -> Option<OrderStatus> {
    use OrderStatus::{AllTraded, Cancelled, NotTraded, PartTraded, Rejected};
    match (filled, old, new) {
        (Filled::More, Cancelled, AllTraded) => Some(AllTraded),
        (Filled::More, AllTraded | Cancelled, _) => Some(old),
        (Filled::More, Rejected, _) => Some(new),
        (Filled::More, _, _) => Some(if rank(new) >= rank(old) { new } else { old }),
        (Filled::Same, Rejected, NotTraded | PartTraded) if !accepted => Some(new),
        (Filled::Same, _, _) => (rank(new) > rank(old) || new == old).then_some(new),
        // A cancel whose report counts fewer fills than are known still ends the order.
        (Filled::Fewer, _, Cancelled) if old.is_active() => Some(Cancelled),
        (Filled::Fewer, _, _) => None,
    }
}

/// Whether an order that was taken for refused turns out to work, or to have worked, at the venue.
fn reopens(old: OrderStatus, status: OrderStatus) -> bool {
    old == OrderStatus::Rejected && status != OrderStatus::Rejected
}

fn merge_order(old: &Order, new: &Order) -> Option<Order> {
    let filled = compare_filled([old.traded], [new.traded]);
    let status = next_status(old.status, new.status, filled, old.datetime.is_some())?;
    let mut merged = new.clone();
    merged.status = status;
    merged.traded = old.traded.max(new.traded);
    merged.price = new.price.or(old.price);
    keep(&mut merged.reference, &old.reference);
    keep_option(&mut merged.datetime, old.datetime.as_ref());
    keep_option(&mut merged.venue_reference, old.venue_reference.as_ref());
    // The reason of a rejection that was none would only mislead.
    if !reopens(old.status, status) {
        keep_option(&mut merged.reason, old.reason.as_ref());
    }
    keep_option(&mut merged.extra, old.extra.as_ref());
    keep_option(&mut merged.traceid, old.traceid.as_ref());
    (merged != *old).then_some(merged)
}

fn merge_quote(old: &Quote, new: &Quote) -> Option<Quote> {
    let filled = compare_filled([old.bid_traded, old.ask_traded], [new.bid_traded, new.ask_traded]);
    let status = next_status(old.status, new.status, filled, old.datetime.is_some())?;
    let mut merged = new.clone();
    merged.status = status;
    merged.bid_traded = old.bid_traded.max(new.bid_traded);
    merged.ask_traded = old.ask_traded.max(new.ask_traded);
    keep(&mut merged.reference, &old.reference);
    keep_option(&mut merged.datetime, old.datetime.as_ref());
    keep_option(&mut merged.venue_reference, old.venue_reference.as_ref());
    if !reopens(old.status, status) {
        keep_option(&mut merged.reason, old.reason.as_ref());
    }
    keep_option(&mut merged.extra, old.extra.as_ref());
    keep_option(&mut merged.traceid, old.traceid.as_ref());
    (merged != *old).then_some(merged)
}

fn keep(new: &mut Name, old: &Name) {
    if new.is_empty() {
        new.clone_from(old);
    }
}

fn keep_option<T: Clone>(new: &mut Option<T>, old: Option<&T>) {
    if new.is_none() {
        *new = old.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::OrderRequest;
    use crate::value::Offset;

    fn order(status: OrderStatus, traded: f64) -> OmsEvent {
        let mut request = OrderRequest::limit(
            InstrumentId::new("rb2410", Exchange::SHFE),
            Direction::Long,
            Offset::Open,
            3500.0,
            10.0,
        );
        request.orderid = OrderId::new("o1");
        let mut order = request.to_order(&"sim1".into(), &"default".into());
        order.status = status;
        order.traded = traded;
        OmsEvent::Order(order)
    }

    fn only(state: &OmsState) -> (OrderStatus, f64) {
        let order = state.orders().values().next().expect("one order");
        (order.status, order.traded)
    }

    #[test]
    fn an_order_never_moves_backwards() {
        let mut state = OmsState::default();
        state.apply(&order(OrderStatus::AllTraded, 10.0));
        assert_eq!(state.apply(&order(OrderStatus::NotTraded, 0.0)), Applied::Unchanged);
        assert_eq!(state.apply(&order(OrderStatus::PartTraded, 4.0)), Applied::Unchanged);
        assert_eq!(state.apply(&order(OrderStatus::Cancelled, 4.0)), Applied::Unchanged);
        assert_eq!(only(&state), (OrderStatus::AllTraded, 10.0));
        assert_eq!(state.active_orders().count(), 0);
    }

    #[test]
    fn a_fill_behind_a_cancel_counts() {
        let mut state = OmsState::default();
        state.apply(&order(OrderStatus::Cancelled, 0.0));
        assert_eq!(state.apply(&order(OrderStatus::PartTraded, 4.0)), Applied::Changed);
        assert_eq!(only(&state), (OrderStatus::Cancelled, 4.0));
    }

    #[test]
    fn a_cancel_that_counts_fewer_fills_still_ends_the_order() {
        let mut state = OmsState::default();
        state.apply(&order(OrderStatus::PartTraded, 4.0));
        assert_eq!(state.apply(&order(OrderStatus::Cancelled, 2.0)), Applied::Changed);
        assert_eq!(only(&state), (OrderStatus::Cancelled, 4.0));
        assert_eq!(state.active_orders().count(), 0);
    }

    #[test]
    fn a_fill_behind_a_rejection_reopens_the_order() {
        let mut state = OmsState::default();
        state.apply(&order(OrderStatus::Rejected, 0.0));
        state.apply(&order(OrderStatus::PartTraded, 4.0));
        assert_eq!(only(&state), (OrderStatus::PartTraded, 4.0));
        assert_eq!(state.active_orders().count(), 1);
    }

    #[test]
    fn a_late_acceptance_reopens_a_rejection_that_was_a_guess() {
        let mut state = OmsState::default();
        let OmsEvent::Order(mut guess) = order(OrderStatus::Rejected, 0.0) else { unreachable!() };
        guess.reason = Some("not found at the venue".to_owned());
        state.apply(&OmsEvent::Order(guess));
        assert_eq!(state.apply(&order(OrderStatus::Submitting, 0.0)), Applied::Unchanged);
        assert_eq!(state.apply(&order(OrderStatus::NotTraded, 0.0)), Applied::Changed);
        assert_eq!(only(&state), (OrderStatus::NotTraded, 0.0));
        assert_eq!(state.orders().values().next().and_then(|o| o.reason.clone()), None);
    }

    #[test]
    fn a_rejection_behind_an_acceptance_stands() {
        let mut state = OmsState::default();
        let OmsEvent::Order(mut accepted) = order(OrderStatus::NotTraded, 0.0) else { unreachable!() };
        accepted.datetime = chrono::DateTime::parse_from_rfc3339("2018-10-12T21:00:00.500+08:00").ok();
        let accepted = OmsEvent::Order(accepted);
        state.apply(&accepted);
        state.apply(&order(OrderStatus::Rejected, 0.0));
        assert_eq!(state.apply(&accepted), Applied::Unchanged, "it is only late");
        assert_eq!(only(&state), (OrderStatus::Rejected, 0.0));
    }

    #[test]
    fn more_fills_never_take_back_a_status() {
        for (old, new, kept) in [
            (OrderStatus::AllTraded, OrderStatus::PartTraded, OrderStatus::AllTraded),
            (OrderStatus::AllTraded, OrderStatus::Cancelled, OrderStatus::AllTraded),
            (OrderStatus::PartTraded, OrderStatus::NotTraded, OrderStatus::PartTraded),
            (OrderStatus::Cancelled, OrderStatus::AllTraded, OrderStatus::AllTraded),
        ] {
            let mut state = OmsState::default();
            state.apply(&order(old, 4.0));
            state.apply(&order(new, 5.0));
            assert_eq!(only(&state), (kept, 5.0), "{old} then {new}");
        }
    }

    #[test]
    fn malformed_numbers_change_nothing() {
        let mut state = OmsState::default();
        for traded in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(state.apply(&order(OrderStatus::PartTraded, traded)), Applied::Unchanged, "{traded}");
        }
        assert_eq!(state, OmsState::default());
    }

    #[test]
    fn the_reference_survives_updates_that_lack_it() {
        let mut state = OmsState::default();
        let OmsEvent::Order(mut first) = order(OrderStatus::Submitting, 0.0) else { unreachable!() };
        first.reference = "dma-7".into();
        first.venue_reference = Some("1-1".into());
        state.apply(&OmsEvent::Order(first));
        state.apply(&order(OrderStatus::NotTraded, 0.0));
        let kept = state.orders().values().next().expect("one order");
        assert_eq!((kept.reference.as_str(), kept.venue_reference.as_deref()), ("dma-7", Some("1-1")));
    }
}
