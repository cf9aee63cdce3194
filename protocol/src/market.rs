//! Market data and reference data: ticks, bars, contracts.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::value::Exchange;
use crate::value::{InstrumentId, Interval, Name, OptionType, Product, Symbol, Timestamp};

/// Fields of the venue that no Gatemesh type has; VeighNa's `extra`.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// One price level of the book: `[price, volume]` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level(
    /// Price.
    pub f64,
    /// Volume, in lots (contracts).
    pub f64,
);

/// Depth of one side, best price first; up to five levels take no heap memory.
pub type Depth = SmallVec<[Level; 5]>;

/// A snapshot of an instrument's market. A value that the venue does not give is absent, never 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Gateway that it came through.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// The venue's time of the snapshot.
    #[serde(with = "crate::codec::instant")]
    pub datetime: Timestamp,
    /// The instrument's name in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Volume traded in this trading day so far, in lots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f64>,
    /// Money traded in this trading day so far, as the venue sends it (CZCE leaves out the contract size).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turnover: Option<f64>,
    /// Open interest, in lots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_interest: Option<f64>,
    /// Price of the last trade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_price: Option<f64>,
    /// Volume of the last trade, in lots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_volume: Option<f64>,
    /// Highest price allowed today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_up: Option<f64>,
    /// Lowest price allowed today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_down: Option<f64>,
    /// First price of the trading day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_price: Option<f64>,
    /// Highest price of the trading day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_price: Option<f64>,
    /// Lowest price of the trading day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_price: Option<f64>,
    /// Last price of the trading day before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_close: Option<f64>,
    /// Settlement price of the trading day before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_settlement: Option<f64>,
    /// Buyers, highest price first.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub bids: Depth,
    /// Sellers, lowest price first.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub asks: Depth,
    /// Trading day that the tick belongs to; a night session belongs to the next day.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub trading_day: Option<chrono::NaiveDate>,
    /// Calendar day, as the venue states it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub action_day: Option<chrono::NaiveDate>,
    /// The gateway's clock when it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub localtime: Option<Timestamp>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

impl Tick {
    /// A tick that says nothing but when and of what.
    #[must_use]
    pub fn new(gateway_name: impl Into<Name>, instrument: InstrumentId, datetime: Timestamp) -> Self {
        Tick {
            gateway_name: gateway_name.into(),
            symbol: instrument.symbol,
            exchange: instrument.exchange,
            datetime,
            name: None,
            volume: None,
            turnover: None,
            open_interest: None,
            last_price: None,
            last_volume: None,
            limit_up: None,
            limit_down: None,
            open_price: None,
            high_price: None,
            low_price: None,
            pre_close: None,
            pre_settlement: None,
            bids: Depth::new(),
            asks: Depth::new(),
            trading_day: None,
            action_day: None,
            localtime: None,
            extra: None,
        }
    }

    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }

    /// Best buyer.
    #[must_use]
    pub fn best_bid(&self) -> Option<Level> {
        self.bids.first().copied()
    }

    /// Best seller.
    #[must_use]
    pub fn best_ask(&self) -> Option<Level> {
        self.asks.first().copied()
    }
}

/// Prices and volume of one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Gateway that it came through.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// Beginning of the interval; for a daily bar, midnight of the trading day.
    #[serde(with = "crate::codec::instant")]
    pub datetime: Timestamp,
    /// Length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Volume traded in the interval, in lots.
    #[serde(default)]
    pub volume: f64,
    /// Money traded in the interval, as the venue counts it.
    #[serde(default)]
    pub turnover: f64,
    /// Open interest at its end, in lots.
    #[serde(default)]
    pub open_interest: f64,
    /// First price.
    pub open_price: f64,
    /// Highest price.
    pub high_price: f64,
    /// Lowest price.
    pub low_price: f64,
    /// Last price.
    pub close_price: f64,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

/// What can be traded, and in what steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// Gateway that trades it.
    pub gateway_name: Name,
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// The instrument's name in words.
    pub name: Name,
    /// Class.
    pub product: Product,
    /// Money per point of price and lot (the contract multiplier).
    pub size: f64,
    /// Smallest step of a price.
    pub pricetick: f64,
    /// Smallest order, and the step of volumes, in lots.
    #[serde(default = "one")]
    pub min_volume: f64,
    /// Largest limit order, in lots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_volume: Option<f64>,
    /// Whether the venue takes stop orders.
    #[serde(default)]
    pub stop_supported: bool,
    /// Whether the venue nets longs against shorts.
    #[serde(default)]
    pub net_position: bool,
    /// Whether `query_history` answers for it.
    #[serde(default)]
    pub history_data: bool,
    /// Margin of a long position, as a share of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_margin_ratio: Option<f64>,
    /// Margin of a short position, as a share of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_margin_ratio: Option<f64>,
    /// First trading day.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub open_date: Option<chrono::NaiveDate>,
    /// Last trading day.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub expire_date: Option<chrono::NaiveDate>,
    /// Strike price of an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_strike: Option<f64>,
    /// Underlying instrument of an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_underlying: Option<Symbol>,
    /// Call or put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_type: Option<OptionType>,
    /// When an option was listed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub option_listed: Option<Timestamp>,
    /// When an option expires.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub option_expiry: Option<Timestamp>,
    /// Options of the same product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_portfolio: Option<Name>,
    /// Identifies the strike within the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_index: Option<Name>,
    /// Whatever else the venue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Extra>>,
}

const fn one() -> f64 {
    1.0
}

impl Contract {
    /// A contract with what every instrument has.
    #[must_use]
    pub fn new(
        gateway_name: impl Into<Name>,
        instrument: InstrumentId,
        product: Product,
        size: f64,
        pricetick: f64,
    ) -> Self {
        Contract {
            gateway_name: gateway_name.into(),
            name: instrument.symbol.clone(),
            symbol: instrument.symbol,
            exchange: instrument.exchange,
            product,
            size,
            pricetick,
            min_volume: 1.0,
            max_volume: None,
            stop_supported: false,
            net_position: false,
            history_data: false,
            long_margin_ratio: None,
            short_margin_ratio: None,
            open_date: None,
            expire_date: None,
            option_strike: None,
            option_underlying: None,
            option_type: None,
            option_listed: None,
            option_expiry: None,
            option_portfolio: None,
            option_index: None,
            extra: None,
        }
    }

    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }
}
