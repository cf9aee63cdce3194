//! What the counter remembers when its objects are gone, in a file.

use std::path::Path;

use ctp_fake::record::Record;
use ctp_fake::script::{Fields, Plan};
use serde::{Deserialize, Serialize};

use crate::book::Order;

/// See the module.
#[derive(Serialize, Deserialize, Default)]
pub struct Ledger {
    pub sessions: i64,
    orders: Vec<(Fields, Plan)>,
    trades: Vec<Fields>,
    told: Vec<(String, Fields)>,
}

impl Ledger {
    pub fn new(sessions: i64, orders: &[Order], trades: &[Record], told: &[(&'static str, Record)]) -> Ledger {
        Ledger {
            sessions,
            orders: orders.iter().map(|order| (order.record.filled(), order.plan.clone())).collect(),
            trades: trades.iter().map(Record::filled).collect(),
            told: told.iter().map(|(callback, record)| ((*callback).to_owned(), record.filled())).collect(),
        }
    }

    /// As it was written last; empty if it never was.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(path: &Path) -> Ledger {
        let Ok(text) = std::fs::read_to_string(path) else { return Ledger::default() };
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Whoever reads it meanwhile, or is killed while writing it, finds the whole of one.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &Path) {
        let next = path.with_added_extension("next");
        let written = serde_json::to_string(self)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&next, text))
            .and_then(|()| std::fs::rename(&next, path));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pub fn orders(&self, family: &str) -> Vec<Order> {
        let order =
            |(fields, plan): &(Fields, Plan)| Order { record: read("Order", fields, family), plan: plan.clone() };
        self.orders.iter().map(order).collect()
    }

    pub fn trades(&self, family: &str) -> Vec<Record> {
        self.trades.iter().map(|fields| read("Trade", fields, family)).collect()
    }

    pub fn told(&self, family: &str) -> Vec<(&'static str, Record)> {
        let told = |(callback, fields): &(String, Fields)| match callback.as_str() {
            "OnRtnTrade" => ("OnRtnTrade", read("Trade", fields, family)),
            _ => ("OnRtnOrder", read("Order", fields, family)),
        };
        self.told.iter().map(told).collect()
    }
}

fn read(name: &str, fields: &Fields, family: &str) -> Record {
    let mut record = Record::zeroed(name, family);
    record.set_all(fields);
    record
}
