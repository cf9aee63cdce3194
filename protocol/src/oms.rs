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

/// Trades are known by these together: the venue's ids repeat across days, exchanges and the two sides of a self-trade.
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
        TradeKey {
            trading_day: trade.trading_day,
            exchange: trade.exchange,
            tradeid: trade.tradeid.clone(),
            direction: trade.direction,
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
    /// Takes in one event. Applying the same event again, or an older one late, changes nothing:
    /// an order never moves backwards, a trade counts once.
    pub fn apply(&mut self, event: &OmsEvent) -> Applied {
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
        let merged = match self.orders.get(&key) {
            None => new.clone(),
            Some(old) => match merge_order(old, new) {
                None => return Applied::Unchanged,
                Some(merged) => merged,
            },
        };
        set_member(&mut self.active_orders, &key, merged.is_active());
        self.orders.insert(key, merged);
        Applied::Changed
    }

    fn apply_quote(&mut self, new: &Quote) -> Applied {
        let key = OrderKey::from(new);
        let merged = match self.quotes.get(&key) {
            None => new.clone(),
            Some(old) => match merge_quote(old, new) {
                None => return Applied::Unchanged,
                Some(merged) => merged,
            },
        };
        set_member(&mut self.active_quotes, &key, merged.is_active());
        self.quotes.insert(key, merged);
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

fn set_member(set: &mut BTreeSet<OrderKey>, key: &OrderKey, member: bool) {
    if !member {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
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

/// The status after `new` arrives behind `old`, or `None` if `new` is stale.
///
/// Filled volume only grows. A fill that arrives behind CANCELLED raises `traded` and leaves the order cancelled
/// (it happened before the cancel); one behind REJECTED reopens the order, since the venue plainly had taken it.
fn next_status(old: (OrderStatus, f64), new: (OrderStatus, f64)) -> Option<OrderStatus> {
    let ((old_status, old_traded), (new_status, new_traded)) = (old, new);
    // A malformed `traded` (NaN) is never an advance.
    if new_traded > old_traded {
        return Some(match (old_status, new_status) {
            (OrderStatus::Cancelled, status) if status.is_active() => OrderStatus::Cancelled,
            (_, status) => status,
        });
    }
    if new_traded == old_traded && (rank(new_status) > rank(old_status) || new_status == old_status) {
        return Some(new_status);
    }
    // A cancel whose report counts fewer fills than are known still ends the order.
    if new_traded < old_traded && new_status == OrderStatus::Cancelled && old_status.is_active() {
        return Some(OrderStatus::Cancelled);
    }
    None
}

fn merge_order(old: &Order, new: &Order) -> Option<Order> {
    let status = next_status((old.status, old.traded), (new.status, new.traded))?;
    let mut merged = new.clone();
    merged.status = status;
    merged.traded = old.traded.max(new.traded);
    keep(&mut merged.reference, &old.reference);
    keep_option(&mut merged.datetime, old.datetime.as_ref());
    keep_option(&mut merged.venue_reference, old.venue_reference.as_ref());
    keep_option(&mut merged.reason, old.reason.as_ref());
    keep_option(&mut merged.extra, old.extra.as_ref());
    (merged != *old).then_some(merged)
}

fn merge_quote(old: &Quote, new: &Quote) -> Option<Quote> {
    let status = next_status((old.status, old.traded()), (new.status, new.traded()))?;
    let mut merged = new.clone();
    merged.status = status;
    merged.bid_traded = old.bid_traded.max(new.bid_traded);
    merged.ask_traded = old.ask_traded.max(new.ask_traded);
    keep(&mut merged.reference, &old.reference);
    keep_option(&mut merged.datetime, old.datetime.as_ref());
    keep_option(&mut merged.venue_reference, old.venue_reference.as_ref());
    keep_option(&mut merged.reason, old.reason.as_ref());
    keep_option(&mut merged.extra, old.extra.as_ref());
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
