//! What a test writes into `script.json`. Everything has a default, with which logins succeed, queries find nothing and
//! orders fill at their price.
//!
//! ```json
//! {
//!   "login": {"FrontID": 1, "SessionID": 7, "MaxOrderRef": "12", "TradingDay": "20261123"},
//!   "rows": {"ReqQryInstrument": [{"InstrumentID": "rb2701", "ExchangeID": "SHFE", "PriceTick": 1.0}]},
//!   "today": [{"call": "OnRtnOrder", "record": {"OrderRef": "1", "OrderStatus": "3"}}],
//!   "rules": [
//!     {"on": "ReqUserLogin", "times": 1, "tell": [{"call": "OnRspUserLogin", "info": {"ErrorID": 3, "ErrorMsg": "no"}}]},
//!     {"on": "ReqQryTradingAccount", "times": 2, "returns": -2},
//!     {"on": "ReqOrderInsert", "where": {"InstrumentID": "ag2702"}, "tell": []}
//!   ],
//!   "orders": [{"where": {"VolumeTotalOriginal": 5}, "plan": "part", "volume": 2}]
//! }
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::Record;

/// Fields of a record by CTP's names.
pub type Fields = Map<String, Value>;

/// The whole script.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Whether the front never answers: no connection, and requests return 0 all the same, as the real libraries' do.
    pub never_connect: bool,
    /// The same of one front, as far as it is the first that a client names.
    pub silent_front: Option<String>,
    /// The answer to a login (`CThostFtdcRspUserLoginField`).
    pub login: Fields,
    /// The answers to queries: rows by the request's name. Orders and trades are the day's where they are not given.
    pub rows: std::collections::BTreeMap<String, Vec<Fields>>,
    /// What is told after every login, before what happened since: the day's orders and trades of earlier sessions.
    pub today: Vec<Tell>,
    /// What is done instead of the ordinary, by request; the first that fits is taken.
    pub rules: Vec<Rule>,
    /// What becomes of orders; the first that fits is taken. An order that none fits meets the market, or is filled.
    pub orders: Vec<Plan>,
    /// What orders that no plan fits are matched against.
    pub market: Option<Market>,
    /// A file that keeps orders, trades and sessions when the object is gone: every object of the same counter names the
    /// same one, and one of them is logged in at a time.
    pub counter: Option<PathBuf>,
    /// Market data: depth by the thousand.
    pub burst: Option<Burst>,
    /// Market data: a LocalCTP library that is told of every depth record of `tell.jsonl` before the client is.
    pub mirror: Option<std::path::PathBuf>,
    /// Where the rules that are used up are noted: the next object of this flow directory goes on with the rest.
    #[serde(skip)]
    used: Option<PathBuf>,
}

/// What is done on a request instead of the ordinary.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `ReqUserLogin`.
    pub on: String,
    /// Only if the request's record has these fields.
    #[serde(default, rename = "where")]
    pub only: Fields,
    /// How often; always if it is left out.
    pub times: Option<u32>,
    /// What the call returns. What is not 0 is told nothing of.
    #[serde(default)]
    pub returns: i32,
    /// What is told then.
    #[serde(default)]
    pub tell: Vec<Tell>,
}

/// One callback.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Tell {
    /// `OnRtnOrder`.
    pub call: String,
    /// The record; without it, the callback gets null. A text `$OrderRef` is that field of the request.
    pub record: Option<Fields>,
    /// `ErrorID` and `ErrorMsg`; without it, null.
    pub info: Option<Fields>,
    /// Of a callback that takes a number: `OnFrontDisconnected`'s reason.
    #[serde(default)]
    pub number: i32,
    /// Whether it is the last; true if it is left out.
    pub last: Option<bool>,
    /// The request's number where there is none.
    #[serde(default)]
    pub request: i32,
    /// So long after what was told before.
    #[serde(default)]
    pub after_ms: u64,
}

/// Prices that never move, and an account that orders are paid from: 10 % of their value as margin.
#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// What is paid for any instrument.
    pub bid: f64,
    /// What is asked for it.
    pub ask: f64,
    /// Lots at either, for every order anew.
    pub volume: i64,
    /// The account's balance.
    pub funds: f64,
}

/// What becomes of an order.
#[derive(Deserialize, Serialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Only of an order with these fields.
    #[serde(default, rename = "where")]
    pub only: Fields,
    /// Only of the order with this number, from 1.
    pub nth: Option<u64>,
    /// What.
    pub plan: Fate,
    /// How many lots of `part`.
    #[serde(default)]
    pub volume: i64,
    /// Everything is told twice.
    #[serde(default)]
    pub twice: bool,
    /// The trade is told before the order.
    #[serde(default)]
    pub trade_first: bool,
    /// The error of a refusal.
    #[serde(default)]
    pub error: i32,
    /// What becomes of a cancel of it.
    #[serde(default)]
    pub cancel: CancelFate,
}

/// What becomes of an order.
#[derive(Deserialize, Serialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Accepted, and filled at its price.
    #[default]
    Fill,
    /// Accepted, and no more.
    Accept,
    /// Accepted, and some of it filled.
    Part,
    /// Refused by `OnRspOrderInsert`.
    Refuse,
    /// Refused by `OnErrRtnOrderInsert`.
    RefuseErr,
    /// Taken, then refused by the exchange: status 5, submit status 4.
    RefuseByExchange,
    /// It is lost on its way: the counter knows nothing of it.
    Silent,
    /// Accepted, and nothing is told of it before it is asked for, or the next login.
    Unheard,
}

/// What becomes of a cancel.
#[derive(Deserialize, Serialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum CancelFate {
    /// Done, if there is something to cancel.
    #[default]
    Done,
    /// Refused by `OnRspOrderAction`.
    Refuse,
    /// Refused by `OnErrRtnOrderAction`.
    RefuseErr,
    /// Refused by `OnRspOrderAction`: the order has ended, and nothing was ever told of that.
    Late,
    /// Nothing is ever heard of it.
    Silent,
}

/// Depth as fast as the callback returns.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// How many records in all, taking the subscribed symbols in turn. `Volume` counts each symbol's up from 1.
    pub records: u64,
    /// Begins when so many symbols are subscribed, or when the test tells `Burst`.
    pub symbols: Option<usize>,
    /// What each holds besides.
    #[serde(default)]
    pub record: Fields,
}

impl Script {
    /// The script in a flow directory, or the ordinary one.
    ///
    /// # Panics
    /// If it is there and is none: a test's mistake.
    pub fn read(flow: &std::path::Path) -> Script {
        let Ok(text) = std::fs::read_to_string(flow.join("script.json")) else { return Script::default() };
        let mut script: Script = serde_json::from_str(&text).unwrap_or_else(|error| panic!("script.json: {error}"));
        let used = flow.join("rules-left.json");
        if let Ok(text) = std::fs::read_to_string(&used) {
            let left: Vec<Option<u32>> = serde_json::from_str(&text).expect("written below");
            script.rules.iter_mut().zip(left).for_each(|(rule, left)| rule.times = left);
        }
        script.used = Some(used);
        script
    }

    /// The rule for a request, used once more by this.
    pub fn rule(&mut self, request: &str, record: &Record) -> Option<&Rule> {
        let fits = |rule: &Rule| rule.on == request && rule.times != Some(0) && fits(&rule.only, record);
        let at = self.rules.iter().position(fits)?;
        if let Some(times) = &mut self.rules[at].times {
            *times -= 1;
            let left: Vec<Option<u32>> = self.rules.iter().map(|rule| rule.times).collect();
            if let (Some(path), Ok(text)) = (&self.used, serde_json::to_string(&left)) {
                std::fs::write(path, text).expect("the flow directory can be written");
            }
        }
        self.rules.get(at)
    }

    /// What becomes of the nth order, if the script says so.
    pub fn plan(&self, order: &Record, nth: u64) -> Option<Plan> {
        let fit = |plan: &&Plan| plan.nth.is_none_or(|wanted| wanted == nth) && fits(&plan.only, order);
        self.orders.iter().find(fit).cloned()
    }
}

fn fits(only: &Fields, record: &Record) -> bool {
    only.iter().all(|(name, value)| record.get(name) == *value)
}
