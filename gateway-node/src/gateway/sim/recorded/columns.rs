//! A row of recorded ticks and what it says, column by column. Reading files is left to the module above.

use anyhow::{anyhow, bail};
use chrono::{DateTime, NaiveDate};
use csv::ByteRecord;
use protocol::{InstrumentId, Level, Name, Tick, Timestamp};

/// What is wrong with a row.
pub struct Problem {
    /// The column.
    pub field: Option<&'static str>,
    /// For people.
    pub text: String,
}

const BID_PRICES: [&str; 5] = ["bid_price_1", "bid_price_2", "bid_price_3", "bid_price_4", "bid_price_5"];
const BID_VOLUMES: [&str; 5] = ["bid_volume_1", "bid_volume_2", "bid_volume_3", "bid_volume_4", "bid_volume_5"];
const ASK_PRICES: [&str; 5] = ["ask_price_1", "ask_price_2", "ask_price_3", "ask_price_4", "ask_price_5"];
const ASK_VOLUMES: [&str; 5] = ["ask_volume_1", "ask_volume_2", "ask_volume_3", "ask_volume_4", "ask_volume_5"];

/// A column: where, and under which name.
#[derive(Clone, Copy)]
pub struct Column {
    /// From 0.
    pub index: usize,
    /// What the header calls it.
    pub name: &'static str,
}

/// Where each value of a tick stands in a row.
pub struct Columns {
    count: usize,
    datetime: Column,
    symbol: Column,
    exchange: Column,
    last_price: Column,
    volume: Column,
    turnover: Column,
    open_interest: Column,
    limit_up: Column,
    limit_down: Column,
    open_price: Column,
    high_price: Column,
    low_price: Column,
    pre_close: Column,
    /// Price and volume of each level, best first; the second level and beyond may be missing.
    bids: Vec<(Column, Column)>,
    asks: Vec<(Column, Column)>,
    pre_settlement: Option<Column>,
    trading_day: Option<Column>,
    action_day: Option<Column>,
}

impl Columns {
    /// Finds the columns by their names; others are ignored.
    ///
    /// # Errors
    /// Which one is missing.
    pub fn find(header: &ByteRecord) -> anyhow::Result<Columns> {
        if header.is_empty() {
            bail!("the file is empty: its first line must name the columns");
        }
        let optional = |name: &'static str| {
            let index = header.iter().position(|column| column.trim_ascii() == name.as_bytes())?;
            Some(Column { index, name })
        };
        let required = |name: &'static str| {
            optional(name)
                .ok_or_else(|| anyhow!("there is no column `{name}`: name it in the first line, and leave its cells empty if there are no values"))
        };
        let levels = |prices: [&'static str; 5], volumes: [&'static str; 5]| {
            let mut levels = vec![(required(prices[0])?, required(volumes[0])?)];
            for (price, volume) in prices.into_iter().zip(volumes).skip(1) {
                if optional(price).is_some() || optional(volume).is_some() {
                    levels.push((required(price)?, required(volume)?));
                }
            }
            anyhow::Ok(levels)
        };
        Ok(Columns {
            count: header.len(),
            datetime: required("datetime")?,
            symbol: required("symbol")?,
            exchange: required("exchange")?,
            last_price: required("last_price")?,
            volume: required("volume")?,
            turnover: required("turnover")?,
            open_interest: required("open_interest")?,
            limit_up: required("limit_up")?,
            limit_down: required("limit_down")?,
            open_price: required("open_price")?,
            high_price: required("high_price")?,
            low_price: required("low_price")?,
            pre_close: required("pre_close")?,
            bids: levels(BID_PRICES, BID_VOLUMES)?,
            asks: levels(ASK_PRICES, ASK_VOLUMES)?,
            pre_settlement: optional("pre_settlement"),
            trading_day: optional("trading_day"),
            action_day: optional("action_day"),
        })
    }

    /// The row's tick. `of` is the file's instrument once it is known.
    ///
    /// # Errors
    /// The first thing that is wrong with the row.
    pub fn tick(&self, row: &ByteRecord, of: Option<&InstrumentId>, gateway: &Name) -> Result<Tick, Problem> {
        if row.len() != self.count {
            let text = format!("{} columns where the first line names {}", row.len(), self.count);
            return Err(Problem { field: None, text });
        }
        let mut tick = Tick::new(gateway.clone(), self.instrument(row, of)?, self.datetime(row)?);
        tick.last_price = number(row, self.last_price)?;
        tick.volume = number(row, self.volume)?;
        tick.turnover = number(row, self.turnover)?;
        tick.open_interest = number(row, self.open_interest)?;
        tick.limit_up = number(row, self.limit_up)?;
        tick.limit_down = number(row, self.limit_down)?;
        tick.open_price = number(row, self.open_price)?;
        tick.high_price = number(row, self.high_price)?;
        tick.low_price = number(row, self.low_price)?;
        tick.pre_close = number(row, self.pre_close)?;
        for (levels, depth) in [(&self.bids, &mut tick.bids), (&self.asks, &mut tick.asks)] {
            for &(price, volume) in levels {
                // Both are looked at, so that a wrong volume is told even where there is no price.
                if let (Some(price), Some(volume)) = (number(row, price)?, number(row, volume)?) {
                    depth.push(Level(price, volume));
                }
            }
        }
        tick.pre_settlement = self.pre_settlement.map_or(Ok(None), |column| number(row, column))?;
        tick.trading_day = self.trading_day.map_or(Ok(None), |column| day(row, column))?;
        tick.action_day = self.action_day.map_or(Ok(None), |column| day(row, column))?;
        Ok(tick)
    }

    fn instrument(&self, row: &ByteRecord, of: Option<&InstrumentId>) -> Result<InstrumentId, Problem> {
        let (symbol, exchange) = (cell(row, self.symbol), cell(row, self.exchange));
        if let Some(of) = of {
            if symbol == of.symbol.as_bytes() && exchange == of.exchange.as_str().as_bytes() {
                return Ok(of.clone());
            }
            let (symbol, exchange) = (shown(symbol), shown(exchange));
            return Err(wrong(
                self.symbol,
                format!("a row of {symbol}.{exchange} in a file of {of}; a file holds one instrument"),
            ));
        }
        let Some(symbol) = std::str::from_utf8(symbol).ok().filter(|symbol| !symbol.is_empty()) else {
            return Err(wrong(self.symbol, format!("`{}` is no symbol", shown(symbol))));
        };
        match shown(exchange).parse() {
            Ok(exchange) => Ok(InstrumentId::new(symbol, exchange)),
            Err(unknown) => Err(wrong(self.exchange, unknown.to_string())),
        }
    }

    fn datetime(&self, row: &ByteRecord) -> Result<Timestamp, Problem> {
        let bytes = cell(row, self.datetime);
        std::str::from_utf8(bytes).ok().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).ok_or_else(|| {
            wrong(self.datetime, format!("`{}` is no time like 2024-01-02T09:00:00.500+08:00", shown(bytes)))
        })
    }
}

fn wrong(column: Column, text: String) -> Problem {
    Problem { field: Some(column.name), text }
}

fn cell(row: &ByteRecord, column: Column) -> &[u8] {
    row.get(column.index).unwrap_or_default()
}

/// A number, bit for bit; an empty cell is no value.
fn number(row: &ByteRecord, column: Column) -> Result<Option<f64>, Problem> {
    let bytes = cell(row, column);
    if bytes.is_empty() {
        return Ok(None);
    }
    match std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok()) {
        // `inf`, `nan` and 1e999 parse, but no JSON can hold them.
        Some(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(wrong(column, format!("`{}` is no number; leave the cell empty if there is no value", shown(bytes)))),
    }
}

fn day(row: &ByteRecord, column: Column) -> Result<Option<NaiveDate>, Problem> {
    let bytes = cell(row, column);
    if bytes.is_empty() {
        return Ok(None);
    }
    match parse_day(bytes) {
        Some(day) => Ok(Some(day)),
        None => Err(wrong(column, format!("`{}` is no day like 20240102", shown(bytes)))),
    }
}

/// A day written as `20240102`.
pub fn parse_day(digits: &[u8]) -> Option<NaiveDate> {
    if digits.len() != 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    NaiveDate::from_ymd_opt(i32::try_from(number(&digits[..4])).ok()?, number(&digits[4..6]), number(&digits[6..]))
}

/// What a cell holds, for an error message: cut, and with marks where it is no UTF-8.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).chars().take(40).collect()
}
