//! What the fake does on a request: as its script says, or else the ordinary. Nothing is told from here: what is to be
//! told is returned.

use ctp_fake::record::Record;
use ctp_fake::script::{Script, Tell};
use ctp_fake::spi::Spi;
use ctp_fake::worker::Queue;
use serde_json::{Value, json};

use crate::book::Book;
use crate::holdings::Holdings;
use crate::ledger::Ledger;

/// A request that was taken.
pub struct Asked {
    pub name: &'static str,
    pub record: Record,
    pub number: i32,
    /// What the script tells instead of the ordinary.
    pub rule: Option<Vec<Tell>>,
}

/// What is to be told, in order.
#[derive(Default)]
pub struct Telling(Vec<Item>);

enum Item {
    Scripted(Tell, Option<(Record, i32)>),
    Rtn(&'static str, Record),
    Rsp(&'static str, Option<Record>, Option<(i32, &'static str)>, i32, bool),
}

impl Telling {
    pub fn rtn(&mut self, callback: &'static str, record: Record) {
        self.0.push(Item::Rtn(callback, record));
    }

    pub fn rsp(
        &mut self,
        callback: &'static str,
        record: Option<Record>,
        error: Option<(i32, &'static str)>,
        number: i32,
    ) {
        self.0.push(Item::Rsp(callback, record, error, number, true));
    }

    fn scripted(&mut self, tell: Tell, asked: Option<&Asked>) {
        self.0.push(Item::Scripted(tell, asked.map(|asked| (asked.record.clone(), asked.number))));
    }

    /// Calls back, until the object is released.
    pub fn tell(self, spi: &Spi, queue: &Queue<Asked>) {
        for item in self.0 {
            if queue.is_stopped() {
                return;
            }
            match item {
                Item::Scripted(tell, asked) => {
                    spi.tell(&tell, asked.as_ref().map(|(record, number)| (record, *number)))
                }
                Item::Rtn(callback, record) => spi.rtn(callback, &record),
                Item::Rsp(callback, record, error, number, last) => {
                    spi.rsp(callback, record.as_ref(), error, number, last);
                }
            }
        }
    }
}

/// The counter behind one object.
pub struct Counter {
    script: Script,
    family: String,
    book: Book,
    has_front: bool,
    connected: bool,
    logged_in: bool,
}

impl Counter {
    pub fn new(script: Script, family: &str) -> Counter {
        let (family, book) = (family.to_owned(), Book::new(family));
        Counter { script, family, book, has_front: false, connected: false, logged_in: false }
    }

    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// The client names this front.
    pub fn register(&mut self, front: &str) {
        if !std::mem::replace(&mut self.has_front, true) && self.script.silent_front.as_deref() == Some(front) {
            self.script.never_connect = true;
        }
    }

    /// What `Init` brings about.
    pub fn connect(&mut self) -> Telling {
        if self.script.never_connect {
            return Telling::default();
        }
        self.told(Tell {
            call: "OnFrontConnected".to_owned(),
            record: None,
            info: None,
            number: 0,
            last: None,
            request: 0,
            after_ms: 0,
        })
    }

    /// Something that the test has told.
    pub fn told(&mut self, tell: Tell) -> Telling {
        self.notice(&tell);
        let mut telling = Telling::default();
        telling.scripted(tell, None);
        telling
    }

    fn notice(&mut self, tell: &Tell) {
        match tell.call.as_str() {
            "OnFrontConnected" => self.connected = true,
            "OnFrontDisconnected" => (self.connected, self.logged_in) = (false, false),
            "OnRspUserLogin" => self.logged_in = tell.info.is_none(),
            _ => {}
        }
    }

    /// What a call returns, and what the script says is told then.
    pub fn take(&mut self, name: &str, record: &Record) -> (i32, Option<Vec<Tell>>) {
        if let Some(rule) = self.script.rule(name, record) {
            return (rule.returns, Some(rule.tell.clone()));
        }
        // As the real ones: before there is a connection, requests are taken and go nowhere.
        (if self.connected || self.script.never_connect { 0 } else { -1 }, None)
    }

    /// What a request brings about.
    pub fn answer(&mut self, asked: Asked) -> Telling {
        let mut telling = Telling::default();
        if let Some(rule) = &asked.rule {
            for tell in rule {
                self.notice(tell);
                telling.scripted(tell.clone(), Some(&asked));
            }
            return telling;
        }
        if !self.connected {
            return telling;
        }
        match asked.name {
            "ReqAuthenticate" => {
                telling.rsp("OnRspAuthenticate", Some(self.answered(&asked, "RspAuthenticate")), OK, asked.number)
            }
            "ReqUserLogin" => self.log_in(&asked, &mut telling),
            "ReqSettlementInfoConfirm" => {
                telling.rsp("OnRspSettlementInfoConfirm", Some(asked.record.clone()), OK, asked.number);
            }
            "ReqQryInstrument" => self.rows(&asked, "OnRspQryInstrument", "Instrument", Vec::new(), &mut telling),
            "ReqQryOrder" => self.rows(&asked, "OnRspQryOrder", "Order", self.book.orders(), &mut telling),
            "ReqQryTrade" => self.rows(&asked, "OnRspQryTrade", "Trade", self.book.trades(), &mut telling),
            "ReqQryInvestorPosition" => {
                let rows = self.holdings().map(|holdings| holdings.positions(&self.family)).unwrap_or_default();
                self.rows(&asked, "OnRspQryInvestorPosition", "InvestorPosition", rows, &mut telling);
            }
            "ReqQryTradingAccount" => {
                let mut account =
                    self.holdings().map_or_else(|| self.ordinary_account(), |holdings| holdings.account(&self.family));
                account.set("AccountID", &asked.record.get("InvestorID"));
                self.rows(&asked, "OnRspQryTradingAccount", "TradingAccount", vec![account], &mut telling);
            }
            "ReqOrderInsert" => self.book.insert(&asked, &self.script, &mut telling),
            "ReqOrderAction" => self.book.cancel(&asked, &mut telling),
            other => panic!("{other} is not imitated"),
        }
        // Before any of it is told: what was told once is never forgotten.
        if let Some(path) = &self.script.counter
            && matches!(asked.name, "ReqUserLogin" | "ReqOrderInsert" | "ReqOrderAction")
        {
            self.book.ledger().write(path);
        }
        telling
    }

    fn holdings(&self) -> Option<Holdings> {
        self.script.market.map(|market| Holdings::of(&self.script, market, &self.book))
    }

    fn ordinary_account(&self) -> Record {
        let mut account = Record::zeroed("TradingAccount", &self.family);
        for (field, value) in [("Balance", 1_000_000.0), ("Available", 900_000.0), ("CurrMargin", 100_000.0)] {
            account.set(field, &Value::from(value));
        }
        account.set("CurrencyID", &Value::from("CNY"));
        account
    }

    fn answered(&self, asked: &Asked, name: &str) -> Record {
        let mut answer = Record::zeroed(name, &self.family);
        answer.copy_from(&asked.record);
        answer
    }

    fn log_in(&mut self, asked: &Asked, telling: &mut Telling) {
        if let Some(path) = &self.script.counter {
            self.book.take_over(Ledger::read(path));
        }
        let mut answer = self.answered(asked, "RspUserLogin");
        let ordinary = json!({
            "TradingDay": "20261123", "LoginTime": "20:55:00", "SystemName": "FakeTrader",
            "FrontID": 1, "SessionID": self.book.new_session(), "MaxOrderRef": "0",
        });
        if let Value::Object(fields) = ordinary {
            answer.set_all(&fields);
        }
        answer.set_all(&self.script.login);
        self.book.session(&answer);
        self.logged_in = true;
        telling.rsp("OnRspUserLogin", Some(answer), OK, asked.number);
        // Both topics' RESTART.
        for tell in &self.script.today {
            telling.scripted(tell.clone(), None);
        }
        self.book.replay(telling);
    }

    /// The rows that the script has for a query, or else these.
    fn rows(&self, asked: &Asked, callback: &'static str, name: &str, otherwise: Vec<Record>, telling: &mut Telling) {
        let rows = match self.script.rows.get(asked.name) {
            None => otherwise,
            Some(rows) => rows
                .iter()
                .map(|fields| {
                    let mut row = Record::zeroed(name, &self.family);
                    row.set_all(fields);
                    row
                })
                .collect(),
        };
        if rows.is_empty() {
            telling.rsp(callback, None, None, asked.number);
        }
        let count = rows.len();
        for (at, row) in rows.into_iter().enumerate() {
            telling.0.push(Item::Rsp(callback, Some(row), None, asked.number, at + 1 == count));
        }
    }
}

/// The answer to what succeeded: real libraries give number and text then, too.
const OK: Option<(i32, &str)> = Some((0, "CTP:正确"));
