//! What somebody says a gateway's trading state is, and where two such states differ.

use std::collections::BTreeMap;

use protocol::oms::{OrderKey, PositionKey, TradeKey};
use protocol::{OmsState, Order, Position, Quote, Trade};
use serde::{Deserialize, Serialize};

/// Orders, trades, quotes and positions, as lists.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// Orders.
    pub orders: Vec<Order>,
    /// Trades.
    pub trades: Vec<Trade>,
    /// Quotes.
    pub quotes: Vec<Quote>,
    /// Positions.
    pub positions: Vec<Position>,
}

impl From<&OmsState> for Listing {
    fn from(state: &OmsState) -> Self {
        Listing {
            orders: state.orders().values().cloned().collect(),
            trades: state.trades().values().cloned().collect(),
            quotes: state.quotes().values().cloned().collect(),
            positions: state.positions().values().cloned().collect(),
        }
    }
}

impl Listing {
    /// Where another listing differs: an id and a sentence for each. Profit and loss of positions is left out: it moves
    /// with the market, between any two looks at it.
    #[must_use]
    pub fn differences(&self, other: &Listing) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let by_order = |orders: &[Order]| keyed(orders, |order| OrderKey::from(order));
        compare(by_order(&self.orders), by_order(&other.orders), |key| key.orderid.to_string(), &mut found);
        let by_quote = |quotes: &[Quote]| keyed(quotes, |quote| OrderKey::from(quote));
        compare(by_quote(&self.quotes), by_quote(&other.quotes), |key| key.orderid.to_string(), &mut found);
        let by_trade = |trades: &[Trade]| keyed(trades, |trade| TradeKey::from(trade));
        compare(by_trade(&self.trades), by_trade(&other.trades), trade_id, &mut found);
        let by_position = |positions: &[Position]| {
            let held = |position: &Position| (position.volume, position.frozen, position.yd_volume);
            positions.iter().map(|position| (PositionKey::from(position), held(position))).collect()
        };
        compare(by_position(&self.positions), by_position(&other.positions), position_id, &mut found);
        found
    }
}

/// A trade's key, for people.
#[must_use]
pub fn trade_id(key: &TradeKey) -> String {
    let day = key.trading_day.map(|day| day.to_string()).unwrap_or_default();
    format!("trade {day} {}.{} {} {}", key.symbol, key.exchange, key.tradeid, key.direction)
}

/// A position's key, for people.
#[must_use]
pub fn position_id(key: &PositionKey) -> String {
    format!("position {}.{} {}", key.symbol, key.exchange, key.direction)
}

fn keyed<K: Ord, T: Clone>(items: &[T], key: impl Fn(&T) -> K) -> BTreeMap<K, T> {
    items.iter().map(|item| (key(item), item.clone())).collect()
}

fn compare<K: Ord, T: PartialEq + std::fmt::Debug>(
    one: BTreeMap<K, T>,
    other: BTreeMap<K, T>,
    name: impl Fn(&K) -> String,
    found: &mut Vec<(String, String)>,
) {
    for (key, ours) in &one {
        match other.get(key) {
            None => found.push((name(key), format!("is missing there; here it is {ours:?}"))),
            Some(theirs) if theirs != ours => {
                found.push((name(key), format!("differs: here {ours:?}, there {theirs:?}")));
            }
            Some(_) => {}
        }
    }
    for (key, theirs) in other.iter().filter(|(key, _)| !one.contains_key(key)) {
        found.push((name(key), format!("is missing here; there it is {theirs:?}")));
    }
}
