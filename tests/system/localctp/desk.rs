//! A node with an account at LocalCTP, and a client of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};
use client_sdk::{Client, Filter, GatewayHandle, TickStream};
use nix::sys::signal::Signal;
use protocol::{
    Account, Event, Exchange, GatewayState, InstrumentId, Order, OrderId, OrderRequest, OrderStatus, Tick, Trade,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::node_process::Home;
use crate::support::program::{Program, built, path};
use crate::support::{PATIENCE, TestBroker, eventually, until_ready, until_state};

/// Columns of LocalCTP's list of instruments, which are those of `CThostFtdcInstrumentField`.
const COLUMNS: &str = "InstrumentID,ExchangeID,InstrumentName,ExchangeInstID,ProductID,ProductClass,DeliveryYear,\
    DeliveryMonth,MaxMarketOrderVolume,MinMarketOrderVolume,MaxLimitOrderVolume,MinLimitOrderVolume,VolumeMultiple,\
    PriceTick,CreateDate,OpenDate,ExpireDate,StartDelivDate,EndDelivDate,InstLifePhase,IsTrading,PositionType,\
    PositionDateType,LongMarginRatio,ShortMarginRatio,MaxMarginSideAlgorithm,UnderlyingInstrID,StrikePrice,OptionsType,\
    UnderlyingMultiple,CombinationType";

/// GB18030 for 螺纹钢.
const REBAR: &[u8] = b"\xc2\xdd\xce\xc6\xb8\xd6";

/// Tries until LocalCTP comes up with all of its tables.
const TRIES: usize = 20;

/// A node, its counter's books, its market and a client. The books are in the directory: they outlive the node.
pub struct Desk {
    pub gateway: GatewayHandle,
    ticks: TickStream,
    plain: async_nats::Client,
    node: Program,
    home: Home,
    localctp: PathBuf,
    /// Lots traded in the market so far.
    volume: i64,
    _client: Client,
    _broker: TestBroker,
}

impl Desk {
    /// A node that is READY; nothing where there is no LocalCTP.
    pub async fn open() -> Option<Desk> {
        let Some(localctp) = std::env::var_os("GATEMESH_LOCALCTP").map(PathBuf::from) else {
            eprintln!("SKIPPED: GATEMESH_LOCALCTP is not set; `cargo xtask test` sets it where LocalCTP can be had");
            return None;
        };
        if !built(&["gateway-node", "libctp_fake_md.so"]) {
            return None;
        }
        for _ in 0..TRIES {
            let broker = TestBroker::start().await;
            let home = prepared(&broker.url(), &localctp);
            let node = launch(&home, &localctp);
            let plain = broker.client().await;
            until_ready(&plain, "ctp1").await;
            if lacks_tables(&node) {
                continue;
            }
            let client = Client::connect(broker.url().as_str()).await.expect("connects");
            let gateway = client.gateway("ctp1");
            let ticks = client.ticks(Filter::all().gateway("ctp1")).await.expect("a stream");
            return Some(Desk {
                gateway,
                ticks,
                plain,
                node,
                home,
                localctp,
                volume: 0,
                _client: client,
                _broker: broker,
            });
        }
        panic!("LocalCTP made no complete books in {TRIES} tries");
    }

    /// Asks for ticks, and waits until the market data library has been asked too.
    pub async fn subscribe(&self) {
        self.gateway.subscribe(&rebar()).await.expect("subscribed");
        eventually("the library to be asked", || async {
            let asked = std::fs::read_to_string(self.home.path().join("flow/market/requests.jsonl")).ok()?;
            let of_this_one = |line: &str| {
                let call: Value = serde_json::from_str(line).ok()?;
                (call["request"] == "SubscribeMarketData").then_some(())?;
                call["arguments"].as_array()?.contains(&json!(rebar().symbol)).then_some(())
            };
            asked.lines().find_map(of_this_one)
        })
        .await;
    }

    /// The market has these best prices from now on: the counter knows them, and the tick has come to the client.
    pub async fn market(&mut self, bid: f64, ask: f64) -> Arc<Event<Tick>> {
        self.volume += 1;
        let now = china_now();
        let today = now.format("%Y%m%d").to_string();
        let record = json!({
            "TradingDay": today, "ActionDay": today, "InstrumentID": rebar().symbol,
            "UpdateTime": now.format("%H:%M:%S").to_string(), "UpdateMillisec": 500,
            // No settlement price: LocalCTP cannot read back the DBL_MAX that it would write.
            "LastPrice": bid, "PreSettlementPrice": 3000.0, "UpperLimitPrice": 3300.0, "LowerLimitPrice": 2700.0,
            "BidPrice1": bid, "BidVolume1": 5, "AskPrice1": ask, "AskVolume1": 6, "Volume": self.volume,
            "BidPrice2": "DBL_MAX", "AskPrice2": "DBL_MAX",
        });
        let tell = self.home.path().join("flow/market/tell.jsonl");
        let mut file = std::fs::File::options().create(true).append(true).open(tell).expect("opened");
        let line = json!({ "call": "OnRtnDepthMarketData", "record": record });
        file.write_all(format!("{line}\n").as_bytes()).expect("written");
        let tick = async {
            loop {
                let update = self.ticks.next().await.expect("the stream lasts");
                if let Some(event) = update.event() {
                    return event;
                }
            }
        };
        timeout(PATIENCE, tick).await.unwrap_or_else(|_| panic!("no tick came\n{}", self.node.err()))
    }

    /// Sends an order, and waits until it has this status.
    pub async fn send(&self, order: &OrderRequest, status: OrderStatus) -> Order {
        self.gateway.send_order(order).await.expect("taken");
        self.until(&order.orderid, status).await
    }

    /// Waits until an order has this status.
    pub async fn until(&self, orderid: &OrderId, status: OrderStatus) -> Order {
        eventually(&format!("{orderid} to be {status}"), || async {
            let order = self.gateway.get_order(orderid).await.ok()??;
            (order.status == status).then_some(order)
        })
        .await
    }

    /// The node's lists.
    pub async fn orders_and_trades(&self) -> (Vec<Order>, Vec<Trade>) {
        let orders = self.gateway.get_all_orders().await.expect("a list");
        (orders, self.gateway.get_all_trades().await.expect("a list"))
    }

    /// The one account, asked for at the counter.
    pub async fn account(&self) -> Account {
        let mut accounts = self.gateway.query_account().await.expect("accounts");
        assert_eq!(accounts.len(), 1);
        accounts.remove(0)
    }

    /// Waits until LocalCTP has written its books down, which it does every few seconds; `orders` of SHFE are in them, and
    /// at least one trade.
    pub async fn until_written(&self, orders: u64) {
        // Orders and trades of an exchange are numbered from the same beginning.
        let (_, trades) = self.orders_and_trades().await;
        let first = trades.iter().filter_map(|trade| trade.tradeid.parse::<u64>().ok()).min();
        let newest = (first.expect("a trade with a number") + orders - 1).to_string();
        let books = self.home.path().join("LocalCTP.db");
        eventually("LocalCTP to write its books", || async {
            let holds = std::fs::read(&books).ok()?.windows(newest.len()).any(|text| text == newest.as_bytes());
            // Table by table: the last one follows the first at once.
            let is_done = std::fs::metadata(&books).ok()?.modified().ok()?.elapsed().ok()? > Duration::from_millis(500);
            (holds && is_done).then_some(())
        })
        .await;
    }

    /// Ends the node as `kill -9` does.
    pub async fn kill(&mut self) {
        self.node.signal(Signal::SIGKILL);
        while self.node.runs() {
            tokio::task::yield_now().await;
        }
    }

    /// Starts the node again in the same directory, after it was killed.
    pub async fn start(&mut self) {
        let books = self.home.path().join("LocalCTP.db");
        let kept = std::fs::read(&books).expect("books");
        for _ in 0..TRIES {
            for file in ["tell.jsonl", "requests.jsonl"] {
                let _ = std::fs::remove_file(self.home.path().join("flow/market").join(file));
            }
            let _ = std::fs::remove_file(self.home.path().join("LocalCTP.db-journal"));
            std::fs::write(&books, &kept).expect("written");
            self.node = launch(&self.home, &self.localctp);
            until_ready(&self.plain, "ctp1").await;
            if !lacks_tables(&self.node) {
                return;
            }
            self.kill().await;
        }
        panic!("LocalCTP did not read its books in {TRIES} tries");
    }

    /// Logs in again, after the gateway was told to disconnect.
    pub async fn connect(&mut self) {
        until_state(&self.plain, "ctp1", GatewayState::Stopped).await;
        // What the market data library was asked by the session that is over.
        let _ = std::fs::remove_file(self.home.path().join("flow/market/requests.jsonl"));
        let _ = std::fs::remove_file(self.home.path().join("flow/market/tell.jsonl"));
        self.gateway.connect().await.expect("connects");
        until_ready(&self.plain, "ctp1").await;
    }

    /// Drains and stops the node: no destructor of LocalCTP's may spoil that.
    pub async fn stop(self) {
        let ended = self.node.end_by(Signal::SIGTERM).await;
        assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
    }
}

/// LocalCTP's own race, about one time in three with a new file and one in sixty otherwise: tables are missing from its
/// books, and it goes on without them.
fn lacks_tables(node: &Program) -> bool {
    node.err().contains("no such table")
}

/// A directory with everything that the node and LocalCTP read.
fn prepared(url: &str, localctp: &Path) -> Home {
    let home = Home::new();
    let library = localctp.join("libthosttraderapi_se_local.so");
    home.file("node.toml", &config(url, &library));
    std::fs::write(home.path().join("instrument.csv"), instruments()).expect("written");
    std::fs::create_dir_all(home.path().join("flow/market")).expect("made");
    home.file("flow/market/script.json", &json!({ "mirror": library }).to_string());
    home
}

/// A futures contract of SHFE, in the year to come.
pub fn rebar() -> InstrumentId {
    InstrumentId::new(format!("rb{}", delivery()), Exchange::SHFE)
}

fn launch(home: &Home, localctp: &Path) -> Program {
    let locales = localctp.join("locale");
    let variables = [("LOCPATH", locales.to_str().expect("UTF-8")), ("TZ", zone()), ("CTP_PASSWORD", "anything goes")];
    Program::start_in("gateway-node", &["--config", "node.toml"], home.path(), &variables)
}

fn config(url: &str, trader_library: &Path) -> String {
    let market_library = path("libctp_fake_md.so");
    format!(
        "[node]\nname = \"test\"\n[broker]\naddress = \"{url}\"\n[journal]\nmax_bytes = 67108864\n\
         [[gateways]]\nname = \"ctp1\"\nkind = \"ctp\"\n[gateways.ctp]\ntrader_library = {trader_library:?}\n\
         market_library = {market_library:?}\ntrader_fronts = [\"tcp://127.0.0.1:1\"]\n\
         market_fronts = [\"tcp://127.0.0.1:1\"]\nbroker = \"9999\"\nuser = \"000001\"\n\
         password = {{ env = \"CTP_PASSWORD\" }}\napp_id = \"client_gate_1.0\"\nauth_code = \"0000000000000000\"\n\
         flow_dir = \"flow\"\nquery_interval_ms = 20\n"
    )
}

/// Rebar, a call on it, and soybean meal, which has no positions of today.
fn instruments() -> Vec<u8> {
    let month = delivery();
    let year = china_now().year() + 1;
    let dates = format!("{}0515,{}0518,{year}0517,{year}0518,{year}0520", year - 1, year - 1);
    let rest = |position_dates: u8| format!("1,1,2,{position_dates},0.13,0.13,1");
    let none = "1.79769e+308, ,1,0";
    let mut rows = format!("{COLUMNS}\nrb{month},SHFE,").into_bytes();
    rows.extend(REBAR);
    let more = format!(
        "{month},rb{month},rb,1,{year},5,30,1,500,1,10,1,{dates},{},rb,{none}\n\
         rb{month}C3000,SHFE,rb{month}C3000,rb{month}C3000,rb_o,2,{year},5,0,0,100,1,10,0.5,{dates},{},rb{month},3000,1,1,0\n\
         m{month},DCE,m{month},m{month},m,1,{year},5,1000,1,1000,1,10,1,{dates},{},m,{none}\n",
        rest(1),
        rest(1),
        rest(2),
    );
    rows.extend(more.into_bytes());
    rows
}

/// Of delivery: May of the year to come, as SHFE and DCE write it.
pub fn delivery() -> String {
    format!("{:02}05", (china_now().year() + 1) % 100)
}

#[allow(clippy::disallowed_methods)] // a test is an edge
fn china_now() -> DateTime<FixedOffset> {
    chrono::Utc::now().with_timezone(&FixedOffset::east_opt(8 * 3600).expect("a zone"))
}

/// LocalCTP's trading day ends at 20:00 of its own time zone, and orders of an earlier day are gone when it starts
/// again; and when it starts in the hours before, behind the market's close, positions have lost what they cost. From the
/// afternoon until then it lives six hours to the west.
fn zone() -> &'static str {
    if (14..21).contains(&china_now().hour()) { "CST-2" } else { "CST-8" }
}
