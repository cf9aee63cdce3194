//! Trading: requests, and the orders, trades, quotes, positions and accounts that come of them.

use serde::{Deserialize, Serialize};

use crate::market::Extra;
use crate::value::{
    Currency, Direction, Exchange, InstrumentId, Interval, Name, Offset, OrderId, OrderStatus, OrderType, Symbol,
    Timestamp,
};

fn none_offset() -> Offset {
    Offset::None
}

fn owner_default() -> Name {
    Name::const_new(crate::value::OWNER_DEFAULT)
}

/// Asks for an instrument's ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeRequest {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
}

/// A new order, as its client wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// The client's id for it: sending the same again never makes a second order.
    pub orderid: OrderId,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// Buy (`LONG`) or sell (`SHORT`).
    pub direction: Direction,
    /// How to execute it.
    pub r#type: OrderType,
    /// Volume, in lots.
    pub volume: f64,
    /// Limit price, or the trigger of a stop order; market orders have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Opens or closes.
    #[serde(default = "none_offset")]
    pub offset: Offset,
    /// The client's own note; it stays on the order and its trades.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub reference: Name,
}

impl OrderRequest {
    /// An order at a price or better, with a new id.
    #[must_use]
    pub fn limit(instrument: InstrumentId, direction: Direction, offset: Offset, price: f64, volume: f64) -> Self {
        OrderRequest {
            orderid: OrderId::generate(),
            symbol: instrument.symbol,
            exchange: instrument.exchange,
            direction,
            r#type: OrderType::Limit,
            volume,
            price: Some(price),
            offset,
            reference: Name::default(),
        }
    }

    /// An order at whatever price there is, with a new id.
    #[must_use]
    pub fn market(instrument: InstrumentId, direction: Direction, offset: Offset, volume: f64) -> Self {
        OrderRequest {
            r#type: OrderType::Market,
            price: None,
            ..OrderRequest::limit(instrument, direction, offset, 0.0, volume)
        }
    }

    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }

    /// The order that this request becomes before the venue has said anything.
    #[must_use]
    pub fn to_order(&self, gateway_name: &Name, owner: &Name) -> Order {
        Order {
            gateway_name: gateway_name.clone(),
            symbol: self.symbol.clone(),
            exchange: self.exchange,
            orderid: self.orderid.clone(),
            r#type: self.r#type,
            direction: self.direction,
            offset: self.offset,
            price: self.price,
            volume: self.volume,
            traded: 0.0,
            status: OrderStatus::Submitting,
            datetime: None,
            reference: self.reference.clone(),
            owner: owner.clone(),
            venue_reference: None,
            traceid: None,
            deadline: None,
            reason: None,
            extra: None,
        }
    }
}

/// Asks to cancel an order or a quote, by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The order's (or quote's) id.
    pub orderid: OrderId,
    /// The venue's spelling; refused if the order is of another instrument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Where it trades; refused if the order is of another exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Whose order, where the caller may cancel another's; the caller's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
}

impl CancelRequest {
    /// Cancels the caller's own order.
    #[must_use]
    pub fn new(orderid: OrderId) -> Self {
        CancelRequest { orderid, symbol: None, exchange: None, owner: None }
    }
}

/// Asks for bars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// First instant wanted.
    #[serde(with = "crate::codec::instant")]
    pub start: Timestamp,
    /// Last instant wanted; now, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub end: Option<Timestamp>,
    /// Length of a bar; one minute if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

impl HistoryRequest {
    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }
}

/// A new two-sided quote, as its client wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// The client's id for it: sending the same again never makes a second quote.
    pub quoteid: OrderId,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// Price to buy at.
    pub bid_price: f64,
    /// Volume to buy, in lots.
    pub bid_volume: f64,
    /// Price to sell at.
    pub ask_price: f64,
    /// Volume to sell, in lots.
    pub ask_volume: f64,
    /// Whether buying opens or closes.
    #[serde(default = "none_offset")]
    pub bid_offset: Offset,
    /// Whether selling opens or closes.
    #[serde(default = "none_offset")]
    pub ask_offset: Offset,
    /// The client's own note.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub reference: Name,
}

impl QuoteRequest {
    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }

    /// The quote that this request becomes before the venue has said anything.
    #[must_use]
    pub fn to_quote(&self, gateway_name: &Name, owner: &Name) -> Quote {
        Quote {
            gateway_name: gateway_name.clone(),
            symbol: self.symbol.clone(),
            exchange: self.exchange,
            quoteid: self.quoteid.clone(),
            bid_price: self.bid_price,
            bid_volume: self.bid_volume,
            ask_price: self.ask_price,
            ask_volume: self.ask_volume,
            bid_offset: self.bid_offset,
            ask_offset: self.ask_offset,
            bid_traded: 0.0,
            ask_traded: 0.0,
            status: OrderStatus::Submitting,
            datetime: None,
            reference: self.reference.clone(),
            owner: owner.clone(),
            venue_reference: None,
            traceid: None,
            deadline: None,
            reason: None,
            extra: None,
        }
    }
}

/// An order's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Gateway that it went through; with `orderid` what VeighNa calls `vt_orderid`.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// The client's id; `x-...` for orders found at the venue.
    pub orderid: OrderId,
    /// How it executes.
    pub r#type: OrderType,
    /// Buy or sell.
    pub direction: Direction,
    /// Opens or closes.
    #[serde(default = "none_offset")]
    pub offset: Offset,
    /// Limit price, or a stop's trigger; market orders have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Volume, in lots.
    pub volume: f64,
    /// Filled so far, in lots.
    #[serde(default)]
    pub traded: f64,
    /// State.
    pub status: OrderStatus,
    /// The venue's time of acceptance.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub datetime: Option<Timestamp>,
    /// The client's own note.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub reference: Name,
    /// Whose order it is, as the server says.
    #[serde(default = "owner_default")]
    pub owner: Name,
    /// What the venue calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venue_reference: Option<Name>,
    /// The trace that the request belonged to (W3C `trace-id`, 32 hexadecimal digits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceid: Option<Name>,
    /// Until when it may be sent to the venue, on the node's clock; gone once the venue has answered.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub deadline: Option<Timestamp>,
    /// Why it was rejected or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

impl Order {
    /// Whether it can still be filled or cancelled.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }

    /// The request that cancels it.
    #[must_use]
    pub fn cancel_request(&self) -> CancelRequest {
        CancelRequest {
            orderid: self.orderid.clone(),
            symbol: Some(self.symbol.clone()),
            exchange: Some(self.exchange),
            owner: Some(self.owner.clone()),
        }
    }
}

/// A fill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Gateway that it came through.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it traded.
    pub exchange: Exchange,
    /// The order that it filled (for a fill of a quote, the quote's id).
    pub orderid: OrderId,
    /// The venue's id; unique only within trading day, exchange and direction.
    pub tradeid: Name,
    /// Bought or sold.
    pub direction: Direction,
    /// Opened or closed.
    #[serde(default = "none_offset")]
    pub offset: Offset,
    /// Price.
    pub price: f64,
    /// Volume, in lots.
    pub volume: f64,
    /// The venue's time.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub datetime: Option<Timestamp>,
    /// Trading day that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub trading_day: Option<chrono::NaiveDate>,
    /// The order's note.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub reference: Name,
    /// The order's owner.
    #[serde(default = "owner_default")]
    pub owner: Name,
    /// The trace that the order's request belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceid: Option<Name>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

impl Trade {
    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }
}

/// A two-sided quote's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    /// Gateway that it went through.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// The client's id.
    pub quoteid: OrderId,
    /// Price to buy at.
    pub bid_price: f64,
    /// Volume to buy, in lots.
    pub bid_volume: f64,
    /// Price to sell at.
    pub ask_price: f64,
    /// Volume to sell, in lots.
    pub ask_volume: f64,
    /// Whether buying opens or closes.
    #[serde(default = "none_offset")]
    pub bid_offset: Offset,
    /// Whether selling opens or closes.
    #[serde(default = "none_offset")]
    pub ask_offset: Offset,
    /// Bought so far, in lots.
    #[serde(default)]
    pub bid_traded: f64,
    /// Sold so far, in lots.
    #[serde(default)]
    pub ask_traded: f64,
    /// State; `ALLTRADED` once both sides are filled.
    pub status: OrderStatus,
    /// The venue's time of acceptance.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub datetime: Option<Timestamp>,
    /// The client's own note.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub reference: Name,
    /// Whose quote it is.
    #[serde(default = "owner_default")]
    pub owner: Name,
    /// What the venue calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venue_reference: Option<Name>,
    /// The trace that the request belonged to (W3C `trace-id`, 32 hexadecimal digits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceid: Option<Name>,
    /// Until when it may be sent to the venue, on the node's clock; gone once the venue has answered.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub deadline: Option<Timestamp>,
    /// Why it was rejected or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

impl Quote {
    /// Whether it can still be filled or cancelled.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }

    /// Filled so far on both sides together, in lots: it only grows.
    #[must_use]
    pub fn traded(&self) -> f64 {
        self.bid_traded + self.ask_traded
    }
}

/// What is held of one instrument in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Gateway that holds it.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// Long, short, or net.
    pub direction: Direction,
    /// Lots held, today's and earlier days' together.
    pub volume: f64,
    /// Lots that working orders will close.
    #[serde(default)]
    pub frozen: f64,
    /// Average price per lot.
    #[serde(default)]
    pub price: f64,
    /// Profit or loss against the last price, in money, as the gateway computes it.
    #[serde(default)]
    pub pnl: f64,
    /// Lots of earlier days among `volume`.
    #[serde(default)]
    pub yd_volume: f64,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

impl Position {
    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }
}

/// Money of one account. `available` is the venue's own figure and is never derived from the others by a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Gateway that it belongs to.
    pub gateway_name: Name,
    /// The venue's name of the account.
    pub accountid: Name,
    /// Equity: cash and profit or loss, less commission.
    pub balance: f64,
    /// Reserved for working orders.
    #[serde(default)]
    pub frozen: f64,
    /// Free for new orders.
    #[serde(default)]
    pub available: f64,
    /// Margin of the positions held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Commission paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commission: Option<f64>,
    /// Profit or loss of what was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_profit: Option<f64>,
    /// Profit or loss of what is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_profit: Option<f64>,
    /// Currency of all figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}
