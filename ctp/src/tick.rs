//! What a depth record means as a tick. What CTP does not say is absent, never 0.

use protocol::market::Depth as Levels;
use protocol::{Exchange, Level, Name, Tick, Timestamp};

use crate::dates::{self, TimeError};
use crate::depth::Depth;

/// What market data lacks: `ExchangeID` is empty there, and a name never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The gateway that the ticks come through.
    pub gateway_name: Name,
    /// Where the instrument trades, from its contract.
    pub exchange: Exchange,
    /// In words, from its contract.
    pub name: Option<Name>,
}

/// What an instrument's next tick is compared with; one per instrument, empty before its first tick.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LastSeen(Option<Seen>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    trading_day: i64,
    time: Timestamp,
    volume: i32,
}

/// Why a record is no tick. It says nothing about a market: count it and go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    /// Of no instrument.
    #[error("the record names no instrument")]
    NoSymbol,
    /// At no time.
    #[error("{symbol}: {source}")]
    Time {
        /// The instrument.
        symbol: protocol::Symbol,
        /// What is wrong with its time.
        source: TimeError,
    },
}

/// The tick that a record means.
///
/// - A level is there where both its volume and its price are: exchanges fill empty ones with `DBL_MAX` or with 0.
/// - A last, open, high or low price of 0 is absent while nothing has traded in the day; afterwards, and everywhere
///   else, 0 is a price, for combinations have such.
/// - `turnover` is as the venue sends it: CZCE leaves out the contract size.
/// - `trading_day` and `action_day` are as the venue states them, `datetime` is [`dates::venue_time`]'s.
/// - `last_volume` is what traded since the tick before; absent on an instrument's first tick and on one that comes
///   late, whose volume is lower than what was seen.
///
/// The record's average, closing and settlement prices and its open interest of the day before stay behind: `extra`
/// would take heap memory for every tick.
///
/// # Errors
/// A record without an instrument or without a time; `last` stays as it was.
pub fn tick(depth: Depth<'_>, listing: &Listing, last: &mut LastSeen, now: Timestamp) -> Result<Tick, TickError> {
    let symbol = depth.symbol().ok_or(TickError::NoSymbol)?;
    let (trading_day, action_day) = (depth.trading_day(), depth.action_day());
    let datetime =
        dates::venue_time(listing.exchange, trading_day, action_day, depth.update_time(), depth.update_millis(), now)
            .map_err(|source| TickError::Time { symbol: symbol.into(), source })?;

    let volume = Some(depth.volume()).filter(|&volume| volume >= 0);
    let traded = |price: Option<f64>| price.filter(|&price| price != 0.0 || volume != Some(0));
    Ok(Tick {
        gateway_name: listing.gateway_name.clone(),
        symbol: symbol.into(),
        exchange: listing.exchange,
        datetime,
        name: listing.name.clone(),
        volume: volume.map(f64::from),
        turnover: depth.turnover(),
        open_interest: depth.open_interest(),
        last_price: traded(depth.last_price()),
        last_volume: volume.and_then(|volume| last.traded_since(datetime, volume)),
        limit_up: depth.limit_up(),
        limit_down: depth.limit_down(),
        open_price: traded(depth.open_price()),
        high_price: traded(depth.high_price()),
        low_price: traded(depth.low_price()),
        pre_close: depth.pre_close(),
        pre_settlement: depth.pre_settlement(),
        bids: levels(|level| depth.bid(level)),
        asks: levels(|level| depth.ask(level)),
        trading_day: dates::date(trading_day),
        action_day: dates::date(action_day),
        localtime: Some(now),
        extra: None,
    })
}

impl LastSeen {
    /// Lots traded since the tick before, and remembers this one.
    fn traded_since(&mut self, time: Timestamp, volume: i32) -> Option<f64> {
        // By the calendar, not as stated: CZCE's trading day changes on Monday, its volume on Friday night.
        let trading_day = dates::trading_day_of(time);
        let before = self.0;
        if before.is_some_and(|seen| seen.volume > volume && time <= seen.time) {
            return None;
        }
        self.0 = Some(Seen { trading_day, time, volume });
        let seen = before?;
        let since = if seen.trading_day == trading_day { volume.checked_sub(seen.volume)? } else { volume };
        (since >= 0).then(|| f64::from(since))
    }
}

fn levels(at: impl Fn(usize) -> (Option<f64>, i32)) -> Levels {
    let mut levels = Levels::new();
    for level in 0..Depth::LEVELS {
        if let (Some(price), volume @ 1..) = at(level) {
            levels.push(Level(price, f64::from(volume)));
        }
    }
    levels
}

#[cfg(test)]
mod tests;
