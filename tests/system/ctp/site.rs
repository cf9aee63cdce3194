//! A broker, the two fake libraries, and the nodes of the gateway `ctp1` that work with them.

use std::io::Write;
use std::path::{Path, PathBuf};

use client_sdk::{Client, GatewayHandle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::{
    Direction, Exchange, GatewayState, InstrumentId, Offset, Order, OrderId, OrderRequest, OrderStatus, Status,
};
use serde_json::{Map, Value, json};

use crate::support::node_process::Home;
use crate::support::program::{Program, built, path};
use crate::support::{TestBroker, eventually};

/// Neither may ever be seen in a log.
pub const PASSWORD: &str = "pa55-of-the-desk";
pub const AUTH_CODE: &str = "auth-0123456789A";

/// The counter's ledger.
const COUNTER: &str = "counter.json";

/// What the newest and the oldest table of methods are of.
pub const FAMILIES: [(&str, &str); 2] = [("v6.7.2_20230913 10:48:10.4926", "A"), ("v6.7.13_20260226 9:00:00.1", "E")];

/// See the module.
pub struct Site {
    pub home: Home,
    pub broker: TestBroker,
    pub sdk: Client,
    script: Value,
    market_script: Value,
    more: String,
    lease: &'static str,
    subscribe: &'static str,
}

impl Site {
    /// `None`, with a word on what to do, where the libraries or the node are not built. `script` is the counter's,
    /// added to one that lists two instruments and outlives its objects.
    pub async fn start(script: Value) -> Option<Site> {
        Site::of_family(script, FAMILIES[0]).await
    }

    pub async fn of_family(script: Value, (version, family): (&str, &str)) -> Option<Site> {
        if !built(&["gateway-node", "libctp_fake_trader.so", "libctp_fake_md.so"]) {
            return None;
        }
        let (home, broker) = (Home::new(), TestBroker::start().await);
        for name in ["trader", "md"] {
            let library = home.path().join(format!("lib{name}.so"));
            std::fs::copy(path(&format!("libctp_fake_{name}.so")), &library).expect("copied");
            home.file(&format!("lib{name}.so.version"), &format!("{version}\n{family}\n"));
        }
        let sdk = Client::connect(broker.url().as_str()).await.expect("connects");
        let script = with_counter(script, &home.path().join(COUNTER));
        Some(Site {
            home,
            broker,
            sdk,
            script,
            market_script: json!({}),
            more: String::new(),
            lease: "2 s",
            subscribe: "*",
        })
    }

    /// The market data library's script.
    pub fn with_market(mut self, script: Value) -> Site {
        self.market_script = script;
        self
    }

    /// How long a node leads that cannot reach the broker; 2 s otherwise.
    pub fn with_lease(mut self, lease: &'static str) -> Site {
        self.lease = lease;
        self
    }

    /// The instruments that nodes subscribe to by themselves; all of them otherwise.
    pub fn subscribing(mut self, filter: &'static str) -> Site {
        self.subscribe = filter;
        self
    }

    /// The broker stands still, or goes on.
    pub fn signal_broker(&self, signal: Signal) {
        let path = self.broker.directory.path().join("broker/nats-server.pid");
        let pid = std::fs::read_to_string(path).expect("its pid").trim().parse().expect("a number");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// More lines of `[gateways.ctp]`; what they name is left out of the ordinary ones.
    pub fn with(mut self, more: &str) -> Site {
        self.more = more.to_owned();
        self
    }

    /// The counter, which nobody is logged in at, drops its orders without a word.
    pub fn forget_orders(&self) {
        let path = self.home.path().join(COUNTER);
        let text = std::fs::read_to_string(&path).expect("its ledger");
        let mut ledger: Value = serde_json::from_str(&text).expect("JSON");
        for told in ["orders", "trades", "told"] {
            ledger[told] = json!([]);
        }
        std::fs::write(path, ledger.to_string()).expect("written");
    }

    /// Logins of nodes that are started from now on are of this trading day, `YYYYMMDD`.
    pub fn begin_day(&mut self, day: &str) {
        self.script["login"]["TradingDay"] = json!(day);
    }

    /// Writes what a node of this name is started from.
    pub fn write(&self, node: &str) -> PathBuf {
        for (part, script) in [("trader", &self.script), ("market", &self.market_script)] {
            std::fs::create_dir_all(self.flow(node).join(part)).expect("made");
            std::fs::write(self.flow(node).join(part).join("script.json"), script.to_string()).expect("written");
        }
        let url = self.broker.url();
        let named: Vec<&str> = self.more.lines().filter_map(|line| line.split(' ').next()).collect();
        let ordinary = format!(
            "trader_library = {:?}\nmarket_library = {:?}\ntrader_fronts = [\"tcp://127.0.0.1:1\"]\n\
             market_fronts = [\"tcp://127.0.0.1:2\"]\nbroker = \"9999\"\nuser = \"012345\"\npassword = \"{PASSWORD}\"\n\
             app_id = \"client_gatemesh_1.0\"\nauth_code = \"{AUTH_CODE}\"\nflow_dir = {:?}\nquery_interval_ms = 20",
            self.home.path().join("libtrader.so"),
            self.home.path().join("libmd.so"),
            self.flow(node),
        );
        let ordinary = ordinary.lines().filter(|line| !named.contains(&line.split(' ').next().unwrap_or_default()));
        let section: Vec<&str> = ordinary.chain(self.more.lines()).collect();
        let text = format!(
            "[node]\nname = \"{node}\"\nlog = \"debug\"\n[broker]\naddress = \"{url}\"\n[journal]\nmax_bytes = 67108864\n\
             [lease]\nduration = \"{}\"\n[[gateways]]\nname = \"ctp1\"\nkind = \"ctp\"\nsubscribe = [\"{}\"]\n\
             [gateways.ctp]\n{}\n",
            self.lease,
            self.subscribe,
            section.join("\n")
        );
        self.home.file(&format!("{node}.toml"), &text)
    }

    /// Starts a node of this name, with a flow directory of its own.
    pub fn node(&self, name: &str) -> Program {
        self.node_with(name, &[])
    }

    pub fn node_with(&self, name: &str, variables: &[(&str, &str)]) -> Program {
        self.write(name);
        Program::start_in("gateway-node", &["--config", &format!("{name}.toml")], self.home.path(), variables)
    }

    pub fn gateway(&self) -> GatewayHandle {
        self.sdk.gateway("ctp1")
    }

    /// Waits until this node leads and takes orders.
    pub async fn until_ready(&self, node: &str) -> Status {
        self.until(node, GatewayState::Ready).await
    }

    pub async fn until(&self, node: &str, state: GatewayState) -> Status {
        eventually(&format!("{node} to be {state}"), || async {
            let status = self.gateway().get_status().await.ok()?;
            (status.node == node && status.state == state).then_some(status)
        })
        .await
    }

    pub async fn order(&self, id: &OrderId) -> Option<Order> {
        self.gateway().get_order(id).await.ok()?
    }

    pub async fn until_order(&self, id: &OrderId, status: OrderStatus) -> Order {
        eventually(&format!("{id} to be {status}"), || async {
            self.order(id).await.filter(|order| order.status == status)
        })
        .await
    }

    fn flow(&self, node: &str) -> PathBuf {
        self.home.path().join(format!("flow-{node}"))
    }

    /// Has a library of a node's call back at once; `part` is `trader` or `market`.
    pub fn tell(&self, node: &str, part: &str, tell: &Value) {
        let path = self.flow(node).join(part).join("tell.jsonl");
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("opened");
        file.write_all(format!("{tell}\n").as_bytes()).expect("written");
    }

    /// What a library of a node's was asked of this kind.
    pub fn asked(&self, node: &str, part: &str, request: &str) -> Vec<Value> {
        self.all_asked(node, part).into_iter().filter(|asked| asked["request"] == request).collect()
    }

    /// Everything that the trader library of a node's was asked, in its order.
    pub fn everything_asked(&self, node: &str) -> Vec<Value> {
        self.all_asked(node, "trader")
    }

    fn all_asked(&self, node: &str, part: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.flow(node).join(part).join("requests.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect()
    }

    /// The orders that the counter was sent by a node.
    pub fn sent(&self, node: &str) -> Vec<Value> {
        self.asked(node, "trader", "ReqOrderInsert")
    }
}

/// A script over the ordinary one.
fn with_counter(script: Value, counter: &Path) -> Value {
    let instruments = json!([instrument_row("rb2701"), instrument_row("ag2702")]);
    let mut whole = Map::from_iter([("counter".to_owned(), json!(counter)), ("rows".to_owned(), json!({}))]);
    if let Value::Object(fields) = script {
        whole.extend(fields);
    }
    let rows = whole["rows"].as_object_mut().expect("rows by request");
    rows.entry("ReqQryInstrument").or_insert(instruments);
    Value::Object(whole)
}

pub fn instrument_row(symbol: &str) -> Value {
    json!({
        "InstrumentID": symbol, "ExchangeID": "SHFE", "InstrumentName": format!("合约{symbol}"), "ProductClass": "1",
        "VolumeMultiple": 10, "PriceTick": 1.0, "MinLimitOrderVolume": 1, "MaxLimitOrderVolume": 500, "IsTrading": 1,
        "LongMarginRatio": 0.1, "ShortMarginRatio": 0.1, "PositionDateType": "1",
    })
}

pub fn instrument() -> InstrumentId {
    InstrumentId::new("rb2701", Exchange::SHFE)
}

/// An order of so many lots: scripts tell orders apart by that.
pub fn order(lots: f64) -> OrderRequest {
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3000.0, lots)
}

/// What becomes of orders of so many lots.
pub fn plan(lots: i64, plan: &str, more: Value) -> Value {
    let mut fields = json!({"where": {"VolumeTotalOriginal": lots}, "plan": plan});
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

/// A depth record of the instrument, as the market data library tells it.
pub fn depth(last: f64, volume: i64) -> Value {
    json!({"call": "OnRtnDepthMarketData", "record": {
        "InstrumentID": "rb2701", "TradingDay": "20261123", "ActionDay": "20261122", "UpdateTime": "21:00:00",
        "LastPrice": last, "Volume": volume, "BidPrice1": last - 1.0, "BidVolume1": 5, "AskPrice1": last + 1.0,
        "AskVolume1": 6,
    }})
}

/// The front is gone, and back a moment later.
pub fn lose_front(site: &Site, node: &str, part: &str) {
    site.tell(node, part, &json!({"call": "OnFrontDisconnected", "number": 0x1001}));
    site.tell(node, part, &json!({"call": "OnFrontConnected", "after_ms": 50}));
}
