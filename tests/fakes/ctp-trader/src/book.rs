//! The counter's orders: what the script, or the market, makes of each.

use ctp_fake::record::Record;
use ctp_fake::script::{CancelFate, Fate, Market, Plan, Script};
use serde_json::{Value, json};

use crate::counter::{Asked, Telling};
use crate::holdings::Holdings;
use crate::ledger::Ledger;

/// All orders and trades of the day.
pub struct Book {
    family: String,
    front_id: i64,
    session_id: i64,
    orders: Vec<Order>,
    trades: Vec<Record>,
    /// Everything that was told, for the next login: the callback and its record.
    told: Vec<(&'static str, Record)>,
    sessions: i64,
}

pub struct Order {
    pub record: Record,
    pub plan: Plan,
}

impl Book {
    pub fn new(family: &str) -> Book {
        Book {
            family: family.to_owned(),
            front_id: 0,
            session_id: 0,
            orders: Vec::new(),
            trades: Vec::new(),
            told: Vec::new(),
            sessions: 0,
        }
    }

    /// As another object of this counter has left it.
    pub fn take_over(&mut self, ledger: Ledger) {
        self.sessions = ledger.sessions;
        self.orders = ledger.orders(&self.family);
        self.trades = ledger.trades(&self.family);
        self.told = ledger.told(&self.family);
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.sessions, &self.orders, &self.trades, &self.told)
    }

    /// The number of a new session.
    pub fn new_session(&mut self) -> i64 {
        self.sessions += 1;
        1000 + self.sessions
    }

    /// The session that orders are of from now on.
    pub fn session(&mut self, login: &Record) {
        (self.front_id, self.session_id) = (login.int("FrontID"), login.int("SessionID"));
    }

    /// Every order that the counter knows, as it is now.
    pub fn orders(&self) -> Vec<Record> {
        let arrived = self.orders.iter().filter(|order| order.plan.plan != Fate::Silent);
        arrived.map(|order| order.record.clone()).collect()
    }

    pub fn trades(&self) -> Vec<Record> {
        self.trades.clone()
    }

    /// Tells all of it again.
    pub fn replay(&self, telling: &mut Telling) {
        for (callback, record) in &self.told {
            telling.rtn(callback, record.clone());
        }
    }

    /// A new order.
    pub fn insert(&mut self, asked: &Asked, script: &Script, telling: &mut Telling) {
        let nth = self.orders.len() as u64 + 1;
        let scripted = script.plan(&asked.record, nth);
        let market = script.market.filter(|_| scripted.is_none());
        let plan = scripted.unwrap_or_default();
        let mut order = Record::zeroed("Order", &self.family);
        order.copy_from(&asked.record);
        let ordinary = json!({
            "FrontID": self.front_id, "SessionID": self.session_id, "TradingDay": "20261123",
            "InsertDate": "20261122", "InsertTime": "21:00:00", "OrderLocalID": format!("{nth:>12}"),
            "VolumeTotal": asked.record.int("VolumeTotalOriginal"),
        });
        if let Value::Object(fields) = ordinary {
            order.set_all(&fields);
        }
        let price = order.get("LimitPrice").as_f64().unwrap_or_default();
        let can_be_paid = market.is_none_or(|market| Holdings::of(script, market, self).can_pay(&order));
        self.orders.push(Order { record: order, plan: plan.clone() });
        let at = self.orders.len() - 1;
        let error = (if plan.error == 0 { 31 } else { plan.error }, "CTP:资金不足");
        match plan.plan {
            Fate::Silent => {}
            Fate::Unheard => {
                self.orders[at].record.set("OrderSysID", &Value::from(format!("{:>12}", 5000 + nth)));
                self.set(at, "3", "3", "未成交");
                self.told.push(("OnRtnOrder", self.orders[at].record.clone()));
            }
            _ if !can_be_paid => {
                self.set(at, "5", "4", "");
                telling.rsp("OnRspOrderInsert", Some(asked.record.clone()), Some(error), asked.number);
            }
            Fate::Refuse => {
                self.set(at, "5", "4", "");
                telling.rsp("OnRspOrderInsert", Some(asked.record.clone()), Some(error), asked.number);
            }
            Fate::RefuseErr => {
                self.set(at, "5", "4", "");
                telling.rsp("OnErrRtnOrderInsert", Some(asked.record.clone()), Some(error), asked.number);
            }
            Fate::RefuseByExchange => {
                self.change(at, "a", "0", "报单已提交", telling);
                self.change(at, "5", "4", "已撤单报单被拒绝", telling);
            }
            Fate::Accept | Fate::Fill | Fate::Part => {
                self.change(at, "a", "0", "报单已提交", telling);
                self.orders[at].record.set("OrderSysID", &Value::from(format!("{:>12}", 5000 + nth)));
                self.change(at, "3", "3", "未成交", telling);
                let whole = self.orders[at].record.int("VolumeTotalOriginal");
                match (plan.plan, market) {
                    (_, Some(market)) => self.meet(at, market, telling),
                    (Fate::Fill, None) => self.fill(at, whole, price, telling),
                    (Fate::Part, None) => self.fill(at, plan.volume.min(whole), price, telling),
                    _ => {}
                }
            }
        }
    }

    /// Fills what the market's volume is enough for; what may not wait is cancelled then.
    fn meet(&mut self, at: usize, market: Market, telling: &mut Telling) {
        let order = &self.orders[at].record;
        let limit = order.get("LimitPrice").as_f64().filter(|_| order.text("OrderPriceType") != "1");
        let (price, crosses) = match order.text("Direction").as_str() {
            "0" => (market.ask, limit.is_none_or(|limit| limit >= market.ask)),
            _ => (market.bid, limit.is_none_or(|limit| limit <= market.bid)),
        };
        let whole = order.int("VolumeTotalOriginal");
        let is_all_or_none = order.text("VolumeCondition") == "3";
        let may_wait = order.text("TimeCondition") == "3" && limit.is_some();
        let volume = if crosses { market.volume.min(whole) } else { 0 };
        let volume = if is_all_or_none && volume < whole { 0 } else { volume };
        if volume > 0 {
            self.fill(at, volume, price, telling);
        }
        if volume < whole && !may_wait {
            self.change(at, "5", "3", "已撤单", telling);
        }
    }

    /// A cancel.
    pub fn cancel(&mut self, asked: &Asked, telling: &mut Telling) {
        let record = &asked.record;
        let found = self.orders.iter().position(|order| {
            let same = |name: &str| order.record.get(name) == record.get(name);
            if record.text("OrderSysID").is_empty() {
                same("FrontID") && same("SessionID") && same("OrderRef")
            } else {
                same("ExchangeID") && same("OrderSysID")
            }
        });
        let fate = found.map_or(CancelFate::Done, |at| self.orders[at].plan.cancel);
        let live = found.filter(|at| matches!(self.orders[*at].record.text("OrderStatus").as_str(), "1" | "3"));
        if let (CancelFate::Late, Some(at)) = (fate, live) {
            self.set(at, "5", "3", "已撤单");
        }
        let refusal = Some((26, "CTP:报单已全成交或已撤销，不能再撤"));
        match (fate, live) {
            (CancelFate::Silent, _) => {}
            (CancelFate::RefuseErr, _) => {
                let mut action = Record::zeroed("OrderAction", &self.family);
                action.copy_from(record);
                telling.rsp("OnErrRtnOrderAction", Some(action), refusal, asked.number);
            }
            (CancelFate::Done, Some(at)) => {
                self.orders[at].record.set("CancelTime", &Value::from("21:00:05"));
                self.change(at, "5", "3", "已撤单", telling);
            }
            (CancelFate::Refuse | CancelFate::Late | CancelFate::Done, _) => {
                telling.rsp("OnRspOrderAction", Some(record.clone()), refusal, asked.number);
            }
        }
    }

    /// Fills so many lots at this price.
    fn fill(&mut self, at: usize, volume: i64, price: f64, telling: &mut Telling) {
        let order = &mut self.orders[at].record;
        let mut trade = Record::zeroed("Trade", &self.family);
        trade.copy_from(order);
        let ordinary = json!({
            "OffsetFlag": order.text("CombOffsetFlag").get(..1).unwrap_or_default(), "HedgeFlag": "1",
            "TradeID": format!("{:>12}", 7001 + self.trades.len()), "Price": price,
            "Volume": volume, "TradeDate": "20261122", "TradeTime": "21:00:01",
        });
        if let Value::Object(fields) = ordinary {
            trade.set_all(&fields);
        }
        let whole = order.int("VolumeTotalOriginal");
        order.set("VolumeTraded", &Value::from(volume));
        order.set("VolumeTotal", &Value::from(whole - volume));
        self.trades.push(trade.clone());
        let status = if volume == whole { ("0", "全部成交") } else { ("1", "部分成交") };
        if self.orders[at].plan.trade_first {
            self.tell(at, "OnRtnTrade", trade, telling);
            self.change(at, status.0, "3", status.1, telling);
        } else {
            self.change(at, status.0, "3", status.1, telling);
            self.tell(at, "OnRtnTrade", trade, telling);
        }
    }

    fn set(&mut self, at: usize, status: &str, submit: &str, message: &str) {
        let sequence = self.told.len() + 1;
        let order = &mut self.orders[at].record;
        order.set("OrderStatus", &Value::from(status));
        order.set("OrderSubmitStatus", &Value::from(submit));
        order.set("StatusMsg", &Value::from(message));
        order.set("SequenceNo", &Value::from(sequence));
    }

    fn change(&mut self, at: usize, status: &str, submit: &str, message: &str, telling: &mut Telling) {
        self.set(at, status, submit, message);
        self.tell(at, "OnRtnOrder", self.orders[at].record.clone(), telling);
    }

    fn tell(&mut self, at: usize, callback: &'static str, record: Record, telling: &mut Telling) {
        for _ in 0..=u8::from(self.orders[at].plan.twice) {
            telling.rtn(callback, record.clone());
        }
        self.told.push((callback, record));
    }
}
