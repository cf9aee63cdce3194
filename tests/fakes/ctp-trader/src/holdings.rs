//! Positions and the account, as they follow from the fills and the working orders.

use std::collections::BTreeMap;

use ctp_fake::record::Record;
use ctp_fake::script::{Market, Script};
use serde_json::{Map, Value, json};

use crate::book::Book;

/// Margin by value.
const MARGIN: f64 = 0.1;

/// See the module.
pub struct Holdings {
    funds: f64,
    /// Lots, and their cost in money, by instrument and whether they are short.
    held: BTreeMap<(String, bool), (i64, f64)>,
    /// Money that working orders hold back.
    frozen: f64,
    /// Money per point and lot, by instrument.
    sizes: BTreeMap<String, f64>,
}

impl Holdings {
    pub fn of(script: &Script, market: Market, book: &Book) -> Holdings {
        let number = |fields: &Map<String, Value>, name: &str| fields.get(name).and_then(Value::as_f64);
        let name = |fields: &Map<String, Value>| fields.get("InstrumentID").and_then(Value::as_str).map(str::to_owned);
        let rows = script.rows.get("ReqQryInstrument").into_iter().flatten();
        let sizes = rows.filter_map(|row| Some((name(row)?, number(row, "VolumeMultiple")?))).collect();
        let mut holdings = Holdings { funds: market.funds, held: BTreeMap::new(), frozen: 0.0, sizes };
        for trade in book.trades() {
            holdings.fill(&trade);
        }
        for order in book.orders() {
            if matches!(order.text("OrderStatus").as_str(), "1" | "3") && is_opening(&order.text("CombOffsetFlag")) {
                holdings.frozen += holdings.margin(&order, order.int("VolumeTotal"));
            }
        }
        holdings
    }

    /// Whether there is enough for it.
    pub fn can_pay(&self, order: &Record) -> bool {
        let needed = self.margin(order, order.int("VolumeTotalOriginal"));
        !is_opening(&order.text("CombOffsetFlag")) || needed <= self.available()
    }

    pub fn positions(&self, family: &str) -> Vec<Record> {
        let row = |((symbol, is_short), (lots, cost)): (&(String, bool), &(i64, f64))| {
            row(
                "InvestorPosition",
                family,
                &json!({
                    "InstrumentID": symbol, "PosiDirection": if *is_short { "3" } else { "2" }, "PositionDate": "1",
                    "HedgeFlag": "1", "Position": lots, "TodayPosition": lots, "PositionCost": cost, "OpenCost": cost,
                    "UseMargin": cost * MARGIN,
                }),
            )
        };
        self.held.iter().map(row).collect()
    }

    pub fn account(&self, family: &str) -> Record {
        row(
            "TradingAccount",
            family,
            &json!({
                "Balance": self.funds, "Available": self.available(), "CurrMargin": self.used(),
                "FrozenMargin": self.frozen, "CurrencyID": "CNY",
            }),
        )
    }

    fn fill(&mut self, trade: &Record) {
        let (symbol, lots) = (trade.text("InstrumentID"), trade.int("Volume"));
        let is_opening = is_opening(&trade.text("OffsetFlag"));
        // A sale opens what is short, and closes what is long.
        let is_short = (trade.text("Direction") == "1") == is_opening;
        let value = self.value(&symbol, trade.get("Price").as_f64().unwrap_or_default(), lots);
        let (held, cost) = self.held.entry((symbol, is_short)).or_default();
        if is_opening {
            (*held, *cost) = (*held + lots, *cost + value);
        } else {
            let closed = lots.min(*held);
            *cost -= if *held == 0 { 0.0 } else { *cost * closed as f64 / *held as f64 };
            *held -= closed;
        }
    }

    fn margin(&self, order: &Record, lots: i64) -> f64 {
        let price = order.get("LimitPrice").as_f64().unwrap_or_default();
        self.value(&order.text("InstrumentID"), price, lots) * MARGIN
    }

    fn value(&self, symbol: &str, price: f64, lots: i64) -> f64 {
        price * lots as f64 * self.sizes.get(symbol).copied().unwrap_or(1.0)
    }

    fn used(&self) -> f64 {
        self.held.values().map(|(_, cost)| cost * MARGIN).sum()
    }

    fn available(&self) -> f64 {
        self.funds - self.used() - self.frozen
    }
}

fn is_opening(offset: &str) -> bool {
    offset.starts_with('0')
}

fn row(name: &str, family: &str, fields: &Value) -> Record {
    let mut record = Record::zeroed(name, family);
    if let Value::Object(fields) = fields {
        record.set_all(fields);
    }
    record
}
