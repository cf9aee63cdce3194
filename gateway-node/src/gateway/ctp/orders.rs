//! The counter's orders of this trading day, under both of their keys: (front, session, reference) and (exchange,
//! exchange's number). Records may come in any order, twice, or late. No I/O and no clock.
//!
//! A Gatemesh reference is made from the counter's own key: its session is `DAY.FRONT.SESSION`, its number the order
//! reference, so that every node finds the same one. The trading day is part of it since sessions may be counted anew.

use std::collections::HashMap;

use compact_str::CompactString;
use ctp::records::{OrderRecord, RefusedAction, RefusedOrder, TradeRecord};
use ctp::requests::{CancelKey, CancelOrder};
use ctp::trading::Terms;
use ctp::{contract, dates, trading};
use protocol::{InstrumentId, Name, OrderRequest, OrderStatus, OrderType, Timestamp};

use crate::gateway::{VenueOrder, VenueReference, VenueTrade};

/// `THOST_FTDC_OPT_LimitPrice`.
const LIMIT: u8 = b'2';
/// Most trades that wait for their orders.
const MAX_WAITING: usize = 10_000;

/// A session of the counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// `YYYYMMDD`.
    pub trading_day: CompactString,
    /// The front.
    pub front_id: i32,
    /// The session.
    pub session_id: i32,
}

impl SessionKey {
    /// Its name on our side.
    #[must_use]
    pub fn name(&self) -> Name {
        format!("{}.{}.{}", self.trading_day, self.front_id, self.session_id).into()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Orders {
    trading_day: CompactString,
    known: HashMap<VenueReference, Known>,
    by_exchange: HashMap<ExchangeKey, VenueReference>,
    waiting: HashMap<ExchangeKey, Vec<TradeRecord>>,
    waiting_count: usize,
    /// The session of an earlier day that went on into this one.
    outlived: Option<SessionKey>,
}

/// The exchange, and its number without the spaces before it.
type ExchangeKey = (CompactString, CompactString);

#[derive(Debug)]
struct Known {
    order: VenueOrder,
    exchange: CompactString,
    front_id: i32,
    session_id: i32,
    /// As the session wrote it.
    order_ref: CompactString,
    /// As the exchange wrote it; empty until it has it.
    order_sys_id: CompactString,
    /// The number of the request that it was sent with, until the counter tells of it.
    unconfirmed: Option<i32>,
    /// It was refused, and no record has said so: the next record knows better.
    is_presumed: bool,
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taken {
    /// The order as it is now; absent where the record says nothing new.
    pub order: Option<VenueOrder>,
    /// Trades that had waited for it.
    pub trades: Vec<VenueTrade>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The exchange is none that Gatemesh knows, or the record lacks what an order must have.
    #[error("{what} {id} of {symbol}: {why}")]
    Record {
        /// `order` or `trade`.
        what: &'static str,
        /// The exchange's number, or the order's reference.
        id: String,
        /// The instrument.
        symbol: String,
        /// What is wrong.
        why: String,
    },
    /// Too many trades wait for orders that the counter never told of.
    #[error("more than {MAX_WAITING} trades wait for orders that the counter has not told of")]
    TooManyTrades,
}

/// How an order can be cancelled.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancel {
    /// With this request.
    Send(CancelOrder),
    /// It has ended already, like this.
    Ended(Box<VenueOrder>),
}

impl Orders {
    /// A session of this trading day begins; what earlier days left is forgotten. Orders of a session that outlived its
    /// day keep its name.
    pub fn begin(&mut self, session: &SessionKey, outlived: &mut Option<SessionKey>) {
        if self.trading_day == session.trading_day {
            return;
        }
        // One that is counted anew under the same numbers is another one.
        let is_another = |key: &SessionKey| (key.front_id, key.session_id) != (session.front_id, session.session_id);
        let outlived = outlived.take().filter(is_another);
        *self = Orders { trading_day: session.trading_day.clone(), outlived, ..Orders::default() };
    }

    /// An order is about to be sent in this session, by the request of this number; false: there is an order of this
    /// reference already.
    #[must_use]
    pub fn sending(
        &mut self,
        session: &SessionKey,
        reference: &VenueReference,
        order: &OrderRequest,
        request: i32,
    ) -> bool {
        if self.known.contains_key(reference) {
            return false;
        }
        let known = Known {
            order: VenueOrder {
                reference: reference.clone(),
                instrument: order.instrument(),
                order_type: order.r#type,
                direction: order.direction,
                offset: order.offset,
                price: order.price,
                volume: order.volume,
                traded: 0.0,
                status: OrderStatus::Submitting,
                datetime: None,
                reason: None,
            },
            exchange: order.exchange.as_str().into(),
            front_id: session.front_id,
            session_id: session.session_id,
            order_ref: reference.number.to_string().into(),
            order_sys_id: CompactString::default(),
            unconfirmed: Some(request),
            is_presumed: false,
        };
        self.known.insert(reference.clone(), known);
        true
    }

    /// It was not taken, and is nobody's.
    pub fn not_sent(&mut self, reference: &VenueReference) {
        self.known.remove(reference);
    }

    /// The counter tells of an order; `now` is the time of day.
    ///
    /// # Errors
    /// If the record cannot be what it should be; nothing is changed then.
    pub fn take_order(&mut self, record: &OrderRecord, now: Timestamp) -> Result<Taken, Unusable> {
        let told = self.read_order(record, now)?;
        let reference = told.reference.clone();
        let order = match self.known.get_mut(&reference) {
            None => {
                self.known.insert(
                    reference.clone(),
                    Known {
                        order: told.clone(),
                        exchange: record.exchange.clone(),
                        front_id: record.front_id,
                        session_id: record.session_id,
                        order_ref: record.order_ref.clone(),
                        order_sys_id: CompactString::default(),
                        unconfirmed: None,
                        is_presumed: false,
                    },
                );
                Some(told)
            }
            Some(known) => {
                // As the session wrote it: other terminals pad theirs.
                known.order_ref.clone_from(&record.order_ref);
                let was_unconfirmed = known.unconfirmed.take().is_some();
                let is_presumed = std::mem::take(&mut known.is_presumed);
                let merged = if is_presumed { told } else { merged(&known.order, &told) };
                let is_news = merged != known.order || was_unconfirmed;
                known.order = merged;
                is_news.then(|| known.order.clone())
            }
        };
        let mut taken = Taken { order, trades: Vec::new() };
        if let Some(key) = exchange_key(&record.exchange, &record.order_sys_id)
            && let Some(known) = self.known.get_mut(&reference)
        {
            known.order_sys_id.clone_from(&record.order_sys_id);
            let waited = self.waiting.remove(&key).unwrap_or_default();
            self.waiting_count -= waited.len();
            // What could not be read was refused before it waited.
            let read = |trade| read_trade(trade, &reference, &self.trading_day, now).ok();
            taken.trades = waited.iter().filter_map(read).collect();
            self.by_exchange.insert(key, reference);
        }
        Ok(taken)
    }

    /// The counter tells of a trade; `None`: it waits until its order is told of.
    ///
    /// # Errors
    /// If the record cannot be what it should be, or too many wait.
    pub fn take_trade(&mut self, record: &TradeRecord, now: Timestamp) -> Result<Option<VenueTrade>, Unusable> {
        let Some(key) = exchange_key(&record.exchange, &record.order_sys_id) else {
            return Err(unusable_trade(record, "it names no order of the exchange".to_owned()));
        };
        if let Some(reference) = self.by_exchange.get(&key) {
            return read_trade(record, reference, &self.trading_day, now).map(Some);
        }
        let nobody = VenueReference { session: Name::default(), number: 0 };
        read_trade(record, &nobody, &self.trading_day, now)?;
        if self.waiting_count >= MAX_WAITING {
            return Err(Unusable::TooManyTrades);
        }
        let waiting = self.waiting.entry(key).or_default();
        if !waiting.contains(record) {
            self.waiting_count += 1;
            waiting.push(record.clone());
        }
        Ok(None)
    }

    /// An order of this session was refused. `OnErrRtnOrderInsert` goes to every session of the investor and names none:
    /// the reference alone could be another session's order, so instrument and request must be ours too (requests count
    /// from anywhere, so that two processes' differ), and the counter must not have told of the order before. A refusal
    /// of what it has told of comes as that order's record.
    pub fn refused(&mut self, session: &SessionKey, refused: &RefusedOrder, reason: &str) -> Option<VenueOrder> {
        let number = refused.order_ref.trim().parse().ok()?;
        let known = self.known.get_mut(&VenueReference { session: session.name(), number })?;
        let is_ours = known.unconfirmed == Some(refused.request) && known.order.instrument.symbol == refused.symbol;
        if !is_ours {
            return None;
        }
        known.order.status = OrderStatus::Rejected;
        known.order.reason = Some(reason.to_owned());
        known.unconfirmed = None;
        known.is_presumed = true;
        Some(known.order.clone())
    }

    /// Whether a refused cancel is of an order of this session.
    #[must_use]
    pub fn is_of(&self, session: &SessionKey, action: &RefusedAction) -> bool {
        let by_session = (action.front_id, action.session_id) == (session.front_id, session.session_id);
        let reference = exchange_key(&action.exchange, &action.order_sys_id).and_then(|key| self.by_exchange.get(&key));
        by_session || reference.is_some_and(|reference| reference.session == session.name())
    }

    /// The order whose cancel was refused, if it works as far as is known: it may have ended unheard.
    #[must_use]
    pub fn uncancelled(&self, action: &RefusedAction) -> Option<VenueReference> {
        let key = exchange_key(&action.exchange, &action.order_sys_id);
        let by_exchange = key.and_then(|key| self.by_exchange.get(&key)).cloned();
        let reference =
            by_exchange.or_else(|| self.reference_of(&action.order_ref, action.front_id, action.session_id))?;
        self.known.get(&reference).is_some_and(|known| known.order.status.is_active()).then_some(reference)
    }

    /// How to cancel it, if it is known. By the exchange's number where there is one: that works from every session.
    #[must_use]
    pub fn cancel(&self, reference: &VenueReference) -> Option<Cancel> {
        let known = self.known.get(reference)?;
        if !known.order.status.is_active() {
            return Some(Cancel::Ended(Box::new(known.order.clone())));
        }
        let key = if known.order_sys_id.trim().is_empty() {
            let (front_id, session_id) = (known.front_id, known.session_id);
            CancelKey::Session { front_id, session_id, order_ref: known.order_ref.clone() }
        } else {
            CancelKey::Exchange { order_sys_id: known.order_sys_id.clone() }
        };
        let symbol = known.order.instrument.symbol.as_str().into();
        Some(Cancel::Send(CancelOrder { symbol, exchange: known.exchange.clone(), key }))
    }

    /// The order of this reference, as far as it is known.
    #[must_use]
    pub fn get(&self, reference: &VenueReference) -> Option<&VenueOrder> {
        self.known.get(reference).map(|known| &known.order)
    }

    /// What Gatemesh calls the order of a record.
    ///
    /// # Errors
    /// If it has neither a reference of its session nor a number of the exchange.
    pub fn reference(&self, record: &OrderRecord) -> Result<VenueReference, Unusable> {
        let key = exchange_key(&record.exchange, &record.order_sys_id);
        // The exchange's number may have been told with a reference before, and without one now.
        if let Some(known) = key.as_ref().and_then(|key| self.by_exchange.get(key)) {
            return Ok(known.clone());
        }
        let named = self.by_session(record).filter(|reference| {
            // Whoever counts badly, or not at all, may use a reference twice: the exchange does not.
            let number = self.known.get(reference).map_or("", |known| known.order_sys_id.trim());
            key.is_none() || number.is_empty()
        });
        if let Some(reference) = named {
            return Ok(reference);
        }
        // A terminal may write anything, and what the exchange or the broker does by itself has none.
        match key {
            Some((exchange, number)) => {
                let session = format!("{}.{exchange}.{number}", self.trading_day).replace('/', "_");
                Ok(VenueReference { session: session.into(), number: 0 })
            }
            None => Err(unusable_order(record, "it has neither a reference nor a number of the exchange".to_owned())),
        }
    }

    /// The reference that the order's own session gave it.
    fn by_session(&self, record: &OrderRecord) -> Option<VenueReference> {
        self.reference_of(&record.order_ref, record.front_id, record.session_id)
    }

    /// What the session of this number gave the name `order_ref`.
    fn reference_of(&self, order_ref: &str, front_id: i32, session_id: i32) -> Option<VenueReference> {
        let number = order_ref.trim().parse().ok()?;
        let is_of = |key: &&SessionKey| (key.front_id, key.session_id) == (front_id, session_id);
        let session = self.outlived.as_ref().filter(is_of).map_or_else(
            || SessionKey { trading_day: self.trading_day.clone(), front_id, session_id }.name(),
            SessionKey::name,
        );
        Some(VenueReference { session, number })
    }

    /// Whether the counter has not told of an order yet that was sent.
    #[must_use]
    pub fn has_unconfirmed(&self) -> bool {
        self.known.values().any(|known| known.unconfirmed.is_some())
    }

    /// How many trades wait for orders that the counter has not told of.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_count
    }

    fn read_order(&self, record: &OrderRecord, now: Timestamp) -> Result<VenueOrder, Unusable> {
        let bad = |why: String| unusable_order(record, why);
        let reference = self.reference(record)?;
        let exchange = contract::exchange(&record.exchange).map_err(|error| bad(error.to_string()))?;
        let status = trading::order_status(record.status, record.submit_status).map_err(|e| bad(e.to_string()))?;
        // Other terminals send what Gatemesh has no word for; it must not hide their orders.
        let by_price = if record.price_type == LIMIT { OrderType::Limit } else { OrderType::Market };
        let order_type = trading::order_type(Terms::of(record)).unwrap_or(by_price);
        Ok(VenueOrder {
            reference,
            instrument: InstrumentId { symbol: record.symbol.as_str().into(), exchange },
            order_type,
            direction: trading::direction(record.direction).map_err(|error| bad(error.to_string()))?,
            offset: trading::offset(record.offset).map_err(|error| bad(error.to_string()))?,
            price: record.price,
            volume: f64::from(record.volume),
            traded: f64::from(record.traded),
            status,
            // An order without a readable time is an order.
            datetime: trading::order_time(exchange, record, now).ok(),
            reason: trading::reason(record),
        })
    }
}

/// An order as it is when one more record has told of it, which may be older than what is known: what is filled stays
/// filled, and what has ended has ended.
fn merged(known: &VenueOrder, told: &VenueOrder) -> VenueOrder {
    let is_older = told.traded < known.traded || rank(told.status) < rank(known.status);
    let has_ended = !known.status.is_active();
    let takes = !told.status.is_active() || !is_older;
    let takes = takes && (!has_ended || (told.traded > known.traded && !told.status.is_active()));
    let (status, reason) =
        if takes { (told.status, told.reason.clone()) } else { (known.status, known.reason.clone()) };
    VenueOrder {
        traded: known.traded.max(told.traded),
        status,
        reason,
        datetime: told.datetime.or(known.datetime),
        ..known.clone()
    }
}

fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Submitting => 0,
        OrderStatus::NotTraded => 1,
        OrderStatus::PartTraded => 2,
        OrderStatus::AllTraded | OrderStatus::Cancelled | OrderStatus::Rejected => 3,
    }
}

fn exchange_key(exchange: &str, order_sys_id: &str) -> Option<ExchangeKey> {
    let number = order_sys_id.trim();
    (!number.is_empty()).then(|| (exchange.into(), number.into()))
}

/// A fill. Its trading day is part of what it is told apart by: one that names none is of the login's, `today`.
fn read_trade(
    record: &TradeRecord,
    reference: &VenueReference,
    today: &str,
    now: Timestamp,
) -> Result<VenueTrade, Unusable> {
    let bad = |why: String| unusable_trade(record, why);
    let exchange = contract::exchange(&record.exchange).map_err(|error| bad(error.to_string()))?;
    let price = record.price.ok_or_else(|| bad("it has no price".to_owned()))?;
    if record.volume <= 0 || record.trade_id.trim().is_empty() {
        return Err(bad(format!("{} lots under the id `{}`", record.volume, record.trade_id)));
    }
    Ok(VenueTrade {
        reference: reference.clone(),
        tradeid: record.trade_id.trim().into(),
        instrument: InstrumentId { symbol: record.symbol.as_str().into(), exchange },
        direction: trading::direction(record.direction).map_err(|error| bad(error.to_string()))?,
        offset: trading::offset(record.offset).map_err(|error| bad(error.to_string()))?,
        price,
        volume: f64::from(record.volume),
        datetime: trading::trade_time(exchange, record, now).ok(),
        trading_day: dates::date(record.trading_day.as_bytes()).or_else(|| dates::date(today.as_bytes())),
    })
}

fn unusable_order(record: &OrderRecord, why: String) -> Unusable {
    let id = if record.order_sys_id.trim().is_empty() { &record.order_ref } else { &record.order_sys_id };
    Unusable::Record { what: "order", id: id.trim().to_owned(), symbol: record.symbol.to_string(), why }
}

fn unusable_trade(record: &TradeRecord, why: String) -> Unusable {
    Unusable::Record { what: "trade", id: record.trade_id.trim().to_owned(), symbol: record.symbol.to_string(), why }
}

#[cfg(test)]
mod tests;
