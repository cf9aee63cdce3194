//! A nats-server of the test's own, and a gateway made of a script.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use client_sdk::protocol::oms::OrderKey;
use client_sdk::protocol::rpc::{self, Deadline, EventsPage, GetEvents, GetOrder, JournalEvent, Page};
use client_sdk::protocol::{
    Contract, Direction, ErrorCode, Event, Exchange, GatewayState, Head, InstrumentId, Name, Offset, OmsEvent,
    OmsState, Order, OrderRequest, OrderStatus, PROTOCOL_VERSION, Product, RpcError, Status, Subject, Tick, Timestamp,
    Trade, codec,
};
use futures::StreamExt;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Longest wait for anything that must happen: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The node's clock is an hour ahead of ours, so that nobody's own clock passes for it.
pub const AHEAD_MS: i64 = 3_600_000;

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for: {what}"),
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[allow(clippy::disallowed_methods)] // a test is an edge
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn time(ms: i64) -> Timestamp {
    chrono::DateTime::from_timestamp_millis(ms).expect("in range").fixed_offset()
}

/// A nats-server on a port of its own.
pub struct Server {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Server {
    /// `None`, and a line that says so, where there is no nats-server.
    pub async fn start() -> Option<Server> {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        Server::start_at(port).await
    }

    pub async fn start_at(port: u16) -> Option<Server> {
        let Some(binary) = binary() else {
            eprintln!("SKIPPED: no nats-server in GATEMESH_NATS_SERVER, PATH or .tools");
            return None;
        };
        let directory = TempDir::new().expect("a directory");
        let child = Command::new(binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        let server = Server { child, port, _directory: directory };
        eventually("the server", async || async_nats::connect(server.url()).await.is_ok()).await;
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it, and gives its port.
    pub fn kill(mut self) -> u16 {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("GATEMESH_NATS_SERVER") {
        return Some(path.into());
    }
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let cached = std::fs::read_dir(&tools).into_iter().flatten().flatten().flat_map(|entry| {
        let path = entry.path();
        [path.clone(), path.join("nats-server")]
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("nats-server")).collect::<Vec<_>>();
    on_path.into_iter().chain(cached).find(|path| path.is_file() && path.ends_with("nats-server"))
}

/// What the script answers to a call instead of what a good node would.
#[derive(Clone)]
pub enum Answer {
    Json(String),
    Error(ErrorCode, &'static str),
    Silence,
    /// What a good node answers, once this is notified.
    After(Arc<Notify>),
}

/// What the node knows and remembers.
#[derive(Default)]
pub struct Script {
    pub answers: HashMap<&'static str, Answer>,
    pub calls: Vec<(String, Option<Deadline>)>,
    pub epoch: u64,
    /// How far the node's clock is ahead of ours, in milliseconds.
    pub ahead_ms: i64,
    pub journal: BTreeMap<u64, Event<OmsEvent>>,
    pub end: u64,
    /// Entries up to here are no longer kept.
    pub purged: u64,
    pub state: OmsState,
    pub contracts: Vec<Contract>,
    /// The position of the trading day's snapshot.
    pub snapshot_seq: u64,
    sequences: HashMap<String, u64>,
    last: HashMap<String, u64>,
}

/// A gateway that does what the test says.
pub struct Gateway {
    pub name: &'static str,
    pub nats: async_nats::Client,
    pub script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Gateway {
    pub async fn start(server: &Server, name: &'static str) -> Gateway {
        let nats = async_nats::connect(server.url()).await.expect("connects");
        let script = Arc::new(Mutex::new(Script { epoch: 1, ahead_ms: AHEAD_MS, ..Script::default() }));
        let subscription = nats.subscribe(format!("rpc.{name}.*")).await.expect("subscribes");
        let task = tokio::spawn(serve(name, nats.clone(), subscription, Arc::clone(&script)));
        // A round trip: the subscription stands.
        let _ = nats.request("_nobody", "".into()).await;
        Gateway { name, nats, script, server: task }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().expect("no panic under the lock"))
    }

    pub fn answer(&self, method: &'static str, answer: Answer) {
        self.with(|script| script.answers.insert(method, answer));
    }

    /// The deadlines of the calls of a method, in milliseconds.
    pub fn calls_of(&self, method: &str) -> Vec<Option<i64>> {
        self.deadlines_of(method).into_iter().map(|deadline| deadline.map(|deadline| deadline.ms)).collect()
    }

    pub fn deadlines_of(&self, method: &str) -> Vec<Option<Deadline>> {
        self.with(|s| s.calls.iter().filter(|(name, _)| name == method).map(|(_, deadline)| *deadline).collect())
    }

    pub async fn publish(&self, subject: &Subject, headers: HeaderMap, payload: Vec<u8>) {
        self.nats.publish_with_headers(subject.to_string(), headers, payload.into()).await.expect("published");
        self.nats.flush().await.expect("flushed");
    }

    pub async fn beat(&self) {
        let event = self.with(|script| {
            let data = status(self.name, script);
            envelope(self.name, script.epoch, script.end + 1, data)
        });
        let subject = Subject::Status { gateway: self.name.into() };
        self.publish(&subject, HeaderMap::new(), codec::encode(&event).expect("encodes")).await;
    }

    pub async fn head(&self, owner: &str) {
        let head = self.with(|script| {
            let mine = |event: &&Event<OmsEvent>| event.data.owner().is_none_or(|o| o == owner);
            Head {
                gateway_name: self.name.into(),
                owner: owner.into(),
                epoch: script.epoch,
                journal_seq: script.journal.iter().rfind(|(_, event)| mine(event)).map_or(0, |(seq, _)| *seq),
                count: script.journal.values().filter(mine).filter(|e| e.epoch == script.epoch).count() as u64,
            }
        });
        let event = envelope(self.name, head.epoch, 1, head);
        let subject = Subject::Head { gateway: self.name.into(), owner: owner.into() };
        self.publish(&subject, HeaderMap::new(), codec::encode(&event).expect("encodes")).await;
    }

    /// Journals an event and publishes it, or loses it on the way.
    pub async fn append(&self, data: OmsEvent, lost: bool) {
        let subject = Subject::of(&data);
        let (headers, payload) = self.append_unheard(data);
        if !lost {
            self.publish(&subject, headers, payload).await;
        }
    }

    /// Journals an event, and gives what the server would republish.
    pub fn append_unheard(&self, data: OmsEvent) -> (HeaderMap, Vec<u8>) {
        let text = Subject::of(&data).to_string();
        let (seq, previous, payload) = self.with(|script| {
            script.end += 1;
            let seq = script.end;
            let number = script.sequences.entry(text.clone()).or_default();
            *number += 1;
            let event = envelope(self.name, script.epoch, *number, data);
            script.state.apply(&event.data);
            let payload = match event.data.clone() {
                OmsEvent::Order(x) => codec::encode(&event.clone().map(|_| x)),
                OmsEvent::Trade(x) => codec::encode(&event.clone().map(|_| x)),
                OmsEvent::Quote(x) => codec::encode(&event.clone().map(|_| x)),
                OmsEvent::Position(x) => codec::encode(&event.clone().map(|_| x)),
                OmsEvent::Account(x) => codec::encode(&event.clone().map(|_| x)),
            };
            script.journal.insert(seq, event);
            (seq, script.last.insert(text, seq).unwrap_or(0), payload.expect("encodes"))
        });
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Sequence", seq.to_string().as_str());
        headers.insert("Nats-Last-Sequence", previous.to_string().as_str());
        (headers, payload)
    }

    /// A new trading day begins: these orders leave the state, and an entry that nobody hears says so.
    pub fn roll(&self, leaving: &[&str]) {
        self.with(|script| {
            script.end += 1;
            script.snapshot_seq = script.end;
            let old = std::mem::take(&mut script.state);
            let stays = |order: &&Order| !leaving.contains(&order.orderid.as_str());
            let events = (old.orders().values().filter(stays).cloned().map(OmsEvent::Order))
                .chain(old.trades().values().cloned().map(OmsEvent::Trade))
                .chain(old.quotes().values().cloned().map(OmsEvent::Quote))
                .chain(old.positions().values().cloned().map(OmsEvent::Position))
                .chain(old.accounts().values().cloned().map(OmsEvent::Account));
            for event in events {
                script.state.apply(&event);
            }
        });
    }

    /// Journal and leases are wiped: everything begins from nothing, at epoch 1.
    pub fn make_anew(&self) {
        self.with(|script| {
            let Script { answers, calls, ahead_ms, .. } = std::mem::take(script);
            *script = Script { answers, calls, ahead_ms, epoch: 1, ..Script::default() };
        });
    }

    pub async fn tick(&self, epoch: u64, seq: u64, price: f64) {
        let mut tick = Tick::new(self.name, rb(), time(now_ms()));
        tick.last_price = Some(price);
        let event = envelope(self.name, epoch, seq, tick);
        self.publish(&Subject::tick(&rb()), HeaderMap::new(), codec::encode(&event).expect("encodes")).await;
    }
}

async fn serve(
    name: &'static str,
    nats: async_nats::Client,
    mut subscription: async_nats::Subscriber,
    script: Arc<Mutex<Script>>,
) {
    while let Some(message) = subscription.next().await {
        let method = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        let Some(reply) = message.reply else { continue };
        let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string);
        let answer = {
            let mut script = script.lock().expect("no panic under the lock");
            let epoch = header(rpc::HEADER_DEADLINE_EPOCH).and_then(|text| text.parse().ok());
            let deadline = header(rpc::HEADER_DEADLINE).and_then(|text| text.parse().ok());
            script.calls.push((method.clone(), deadline.map(|ms| Deadline { ms, epoch })));
            match script.answers.get(method.as_str()) {
                Some(_) if method.starts_with("send_") && epoch.is_some_and(|epoch| epoch < script.epoch) => {
                    Answer::Error(ErrorCode::EpochChanged, "another epoch leads")
                }
                Some(answer) => answer.clone(),
                None => good_answer(name, &method, &message.payload, &script),
            }
        };
        match answer {
            Answer::After(notify) => {
                let (nats, script, payload) = (nats.clone(), Arc::clone(&script), message.payload);
                tokio::spawn(async move {
                    notify.notified().await;
                    let answer = good_answer(name, &method, &payload, &script.lock().expect("no panic under the lock"));
                    say(&nats, reply, answer).await;
                });
            }
            answer => say(&nats, reply, answer).await,
        }
    }
}

async fn say(nats: &async_nats::Client, reply: async_nats::Subject, answer: Answer) {
    match answer {
        Answer::Silence | Answer::After(_) => {}
        Answer::Json(text) => nats.publish(reply, text.into()).await.expect("answered"),
        Answer::Error(code, message) => {
            let mut headers = HeaderMap::new();
            headers.insert(rpc::HEADER_ERROR, message);
            headers.insert(rpc::HEADER_ERROR_CODE, code.number().to_string().as_str());
            let body = codec::encode(&RpcError::new(code, message)).expect("encodes");
            nats.publish_with_headers(reply, headers, body.into()).await.expect("answered");
        }
    }
}

fn good_answer(name: &str, method: &str, params: &[u8], script: &Script) -> Answer {
    fn json(value: &impl serde::Serialize) -> Answer {
        Answer::Json(String::from_utf8(codec::encode(value).expect("encodes")).expect("text"))
    }
    fn page<T: serde::Serialize>(items: Vec<T>, journal_seq: u64) -> Answer {
        json(&Page { items, next: None, journal_seq: Some(journal_seq) })
    }
    let state = &script.state;
    match method {
        "get_status" => json(&status(name, script)),
        "get_order" | "get_quote" => {
            let params: GetOrder = codec::decode(params).expect("decodes");
            let key = OrderKey { owner: "default".into(), orderid: params.orderid };
            match method {
                "get_order" => json(&state.order(&key)),
                _ => json(&state.quote(&key)),
            }
        }
        "get_all_orders" => page(state.orders().values().collect(), script.end),
        "get_all_trades" => page(state.trades().values().collect(), script.end),
        "get_all_quotes" => page(state.quotes().values().collect(), script.end),
        "get_all_positions" => page(state.positions().values().collect(), script.end),
        "get_all_accounts" => page(state.accounts().values().collect(), script.end),
        "get_all_contracts" => page(script.contracts.iter().collect(), 0),
        "subscribe" | "unsubscribe" => Answer::Json("{}".to_owned()),
        "get_events" => {
            let params: GetEvents = codec::decode(params).expect("decodes");
            if params.after < script.purged {
                return Answer::Error(ErrorCode::TooOld, "purged");
            }
            let mut items: Vec<JournalEvent> = (script.journal.range(params.after + 1..))
                .map(|(&journal_seq, event)| JournalEvent { journal_seq, event: event.clone() })
                .collect();
            // Small pages, so that several are needed.
            items.truncate(2);
            let scanned = if items.len() < 2 { script.end } else { items[1].journal_seq };
            json(&EventsPage { items, scanned, last: script.end })
        }
        _ => Answer::Error(ErrorCode::UnknownMethod, "not in the script"),
    }
}

fn envelope<T>(gateway: &str, epoch: u64, seq: u64, data: T) -> Event<T> {
    Event { gateway: gateway.into(), epoch, seq, time: time(now_ms() + AHEAD_MS), data }
}

fn status(gateway: &str, script: &Script) -> Status {
    Status {
        gateway_name: gateway.into(),
        state: GatewayState::Ready,
        reason: None,
        epoch: script.epoch,
        journal_seq: script.end,
        time: time(now_ms() + script.ahead_ms),
        protocol_version: PROTOCOL_VERSION,
        version: "0".into(),
        node: Name::default(),
        venue: Name::default(),
        trading_day: None,
        halted: Vec::new(),
        halts: Vec::new(),
        subscriptions: 0,
        contracts: 0,
        ticks: 0,
        ticks_conflated: 0,
        journal_pending: 0,
        snapshot_seq: script.snapshot_seq,
    }
}

pub fn rb() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

pub fn contract(gateway: &str, symbol: &str) -> Contract {
    Contract::new(gateway, InstrumentId::new(symbol, Exchange::SHFE), Product::Futures, 10.0, 1.0)
}

pub fn request(id: &str) -> OrderRequest {
    let mut request = OrderRequest::limit(rb(), Direction::Long, Offset::Open, 3500.0, 2.0);
    request.orderid = client_sdk::protocol::OrderId::new(id);
    request
}

/// An order of `default`'s, this far filled.
pub fn order(id: &str, traded: f64) -> OmsEvent {
    OmsEvent::Order(order_of(&request(id), traded))
}

pub fn order_of(request: &OrderRequest, traded: f64) -> Order {
    let mut order = request.to_order(&"sim1".into(), &"default".into());
    order.traded = traded;
    order.status = match traded {
        0.0 => OrderStatus::NotTraded,
        traded if traded < request.volume => OrderStatus::PartTraded,
        _ => OrderStatus::AllTraded,
    };
    order
}

pub fn trade_of(order: &Order, tradeid: &str, volume: f64) -> OmsEvent {
    OmsEvent::Trade(Trade {
        gateway_name: order.gateway_name.clone(),
        symbol: order.symbol.clone(),
        exchange: order.exchange,
        orderid: order.orderid.clone(),
        tradeid: tradeid.into(),
        direction: order.direction,
        offset: order.offset,
        price: 3500.0,
        volume,
        datetime: None,
        trading_day: None,
        reference: order.reference.clone(),
        owner: order.owner.clone(),
        traceid: None,
        extra: None,
    })
}
