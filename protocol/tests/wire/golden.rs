//! The golden files in `protocol/golden` are the wire's specification: one per type, every field set.
//! `UPDATE_GOLDEN=1 cargo test -p protocol` writes them anew; a changed golden file is a changed wire.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use protocol::codec::{decode, encode};
use protocol::halt::{HaltRecord, HaltScope, Resumed};
use protocol::rpc::{
    CancelAll, CancelFailure, CancelledAll, Done, EventsPage, GetAccount, GetEvents, GetInstrument, GetOrder,
    GetPosition, GetTrade, Halt, Halted, JournalEvent, List, Method, NoParams, Page, QueryHistory, Resume, Uncancelled,
};
use protocol::{
    Account, Bar, CancelRequest, Contract, Direction, ErrorCode, Event, Exchange, GatewayState, Head, Interval, Log,
    LogLevel, OmsEvent, Order, OrderId, OrderRequest, OrderStatus, PROTOCOL_VERSION, Position, Quote, QuoteRequest,
    RpcError, Status, SubscribeRequest, Tick, Trade,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json_text::{compact, pretty};
use crate::specimens as a;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Encodes `value`, compares the text with the file's without its white space, and reads the file back.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = golden_dir().join(format!("{name}.json"));
    let encoded = String::from_utf8(encode(value).expect("encodes")).expect("JSON is UTF-8");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, pretty(&encoded)).expect("the golden file is written");
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; write it with UPDATE_GOLDEN=1", path.display()));
    assert_eq!(encoded, compact(&golden), "{name} differs; if the wire is meant to change, run with UPDATE_GOLDEN=1");
    assert_eq!(&decode::<T>(golden.as_bytes()).expect("the golden file decodes"), value, "{name}");
}

fn page<T>(item: T) -> Page<T> {
    Page { items: vec![item], next: Some("ru1901.SHFE".to_owned()), journal_seq: Some(88_123) }
}

#[test]
fn objects() {
    check("tick", &a::tick());
    check("bar", &a::bar());
    check("contract.futures", &a::futures());
    check("contract.option", &a::option());
    check("order", &a::order());
    check("trade", &a::trade());
    check("quote", &a::quote());
    check("position", &a::position());
    check("account", &a::account());
    check("status", &a::status());
    check("head", &a::head());
    check("log", &a::log());
    check("error", &RpcError::new(ErrorCode::InvalidOrder, "price: 12337 is off the price tick 5 of ru1901.SHFE"));
}

#[test]
fn events() {
    check("event.tick", &a::event(a::tick()));
    check("event.order", &a::event(a::order()));
    check("event.status", &a::event(a::status()));
}

#[test]
fn requests() {
    check("request.subscribe", &SubscribeRequest { symbol: "ru1901".into(), exchange: Exchange::SHFE });
    check("request.order", &a::order_request());
    check("request.cancel", &a::order().cancel_request());
    check("request.history", &a::history_request());
    check("request.quote", &a::quote_request());
}

/// Every method's parameters, and results that are no object of their own.
#[test]
fn calls() {
    check("rpc.no_params", &NoParams {});
    check("rpc.done", &Done {});
    check("rpc.get_events", &GetEvents { after: 88_000, limit: Some(500), owner: Some("STRAT_A".into()) });
    check("rpc.get_events.result", &a::events_page());
    check("rpc.cancel_all", &CancelAll { symbol: Some("ru1901".into()), exchange: Some(Exchange::SHFE) });
    let failure = CancelFailure {
        orderid: OrderId::new("q-17"),
        error: RpcError::new(ErrorCode::NotReady, "not logged in at the venue"),
    };
    let orderids = vec![a::order().orderid];
    check("rpc.cancel_all.result", &CancelledAll { orderids, failed: vec![failure] });
    let request = a::history_request();
    check("rpc.query_history", &QueryHistory { request, cursor: Some("20210104".to_owned()), limit: Some(240) });
    check("rpc.get_instrument", &GetInstrument { symbol: "ru1901".into(), exchange: Exchange::SHFE });
    check("rpc.get_order", &GetOrder { orderid: OrderId::new("q-17"), owner: Some("STRAT_B".into()) });
    let get_trade = GetTrade {
        tradeid: a::trade().tradeid,
        trading_day: a::day(2018, 10, 15),
        symbol: Some("ru1901".into()),
        exchange: Some(Exchange::SHFE),
        direction: Some(Direction::Long),
    };
    check("rpc.get_trade", &get_trade);
    let get_position = GetPosition { symbol: "ru1901".into(), exchange: Exchange::SHFE, direction: Direction::Short };
    check("rpc.get_position", &get_position);
    check("rpc.get_account", &GetAccount { accountid: "104 233".into() });
    let list = List {
        cursor: Some("ru1901.SHFE".to_owned()),
        limit: Some(100),
        symbol: Some("ru1901".into()),
        exchange: Some(Exchange::SHFE),
        owner: Some("STRAT_A".into()),
    };
    check("rpc.list", &list);
    let (owner, account) = (Some("STRAT_A".into()), Some("104 233".into()));
    let halt = Halt {
        owner: owner.clone(),
        account: account.clone(),
        all: true,
        reason: "loss limit".to_owned(),
        cancel: true,
        external: true,
        reduce_only: true,
    };
    check("rpc.halt", &halt);
    check("rpc.resume", &Resume { owner, account, all: true, key: Some("desk.north".into()), reduce_only: true });
    let error = RpcError::new(ErrorCode::Overloaded, "the venue's queue is full");
    let uncancelled = Some(Uncancelled { count: 3, error });
    check("rpc.halted", &Halted { halted: vec!["STRAT_A".into(), "*".into()], halts: vec![a::halt()], uncancelled });
    check("halt_record.halted", &HaltRecord::Halted(a::halt()));
    let at = a::time("2018-10-12T21:10:00+08:00");
    let resumed = Resumed { target: a::halt().target, at, heard: a::halt().heard };
    check("halt_record.resumed", &HaltRecord::Resumed(resumed));
}

#[test]
fn pages() {
    check("page.bars", &page(a::bar()));
    check("page.ticks", &page(a::event(a::tick())));
    check("page.orders", &page(a::order()));
    check("page.trades", &page(a::trade()));
    check("page.quotes", &page(a::quote()));
    check("page.positions", &page(a::position()));
    check("page.accounts", &page(a::account()));
    check("page.contracts", &page(a::futures()));
}

/// The enums' members and the methods' names are the wire too.
#[test]
fn names() {
    check("names.exchange", &Exchange::ALL.to_vec());
    check("names.direction", &Direction::ALL.to_vec());
    check("names.offset", &protocol::Offset::ALL.to_vec());
    check("names.order_status", &OrderStatus::ALL.to_vec());
    check("names.order_type", &protocol::OrderType::ALL.to_vec());
    check("names.product", &protocol::Product::ALL.to_vec());
    check("names.option_type", &protocol::OptionType::ALL.to_vec());
    check("names.interval", &Interval::ALL.to_vec());
    check("names.currency", &protocol::Currency::ALL.to_vec());
    check("names.log_level", &LogLevel::ALL.to_vec());
    check("names.gateway_state", &a::STATES.to_vec());
    check("names.error_code", &ErrorCode::ALL.to_vec());
    let methods: Vec<String> = Method::ALL.iter().map(|method| method.as_str().to_owned()).collect();
    check("names.method", &methods);
    assert!(Method::ALL.iter().all(|&method| Method::from_name(method.as_str()) == Some(method)));
    assert!(a::STATES.iter().all(|state| encode(state).expect("encodes") == format!("\"{state}\"").into_bytes()));
}

/// Objects as short as they may be: what is not given is absent, and reads as absent or as its documented default.
#[test]
fn minimal_forms() {
    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
        assert_eq!(String::from_utf8(encode(value).expect("encodes")).expect("UTF-8"), json);
        assert_eq!(&decode::<T>(json.as_bytes()).expect("decodes"), value);
    }
    let tick = Tick::new("ctp1", a::rubber(), a::time("2018-10-12T21:00:00+08:00"));
    check(
        &tick,
        r#"{"gateway_name":"ctp1","symbol":"ru1901","exchange":"SHFE","datetime":"2018-10-12T21:00:00+08:00"}"#,
    );
    check(&List::default(), "{}");
    check(&CancelAll::default(), "{}");
    check(&Resume::default(), "{}");
    check(&Page::<Order> { items: Vec::new(), next: None, journal_seq: None }, r#"{"items":[]}"#);
    check(&CancelledAll::default(), r#"{"orderids":[]}"#);
    check(&CancelRequest::new(OrderId::new("o1")), r#"{"orderid":"o1"}"#);
    check(&None::<Order>, "null");
}

/// What a peer may leave out although this version writes it.
#[test]
fn defaults() {
    let order: Order = read(
        r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","orderid":"o","type":"MARKET","direction":"SHORT",
        "volume":1,"status":"SUBMITTING"}"#,
    );
    assert_eq!((order.traded, order.offset, order.owner.as_str()), (0.0, protocol::Offset::None, "default"));
    let request: OrderRequest =
        read(r#"{"orderid":"o","symbol":"s","exchange":"DCE","direction":"LONG","type":"MARKET","volume":1}"#);
    assert_eq!((request.price, request.offset, request.reference.as_str()), (None, protocol::Offset::None, ""));
    let trade: Trade = read(
        r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","orderid":"o","tradeid":"t","direction":"SHORT",
        "price":1,"volume":1}"#,
    );
    assert_eq!((trade.owner.as_str(), trade.datetime, trade.trading_day), ("default", None, None));
    let quote: Quote = read(
        r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","quoteid":"q","bid_price":1,"bid_volume":1,
        "ask_price":2,"ask_volume":1,"status":"NOTTRADED"}"#,
    );
    assert_eq!((quote.traded(), quote.owner.as_str()), (0.0, "default"));
    read::<QuoteRequest>(
        r#"{"quoteid":"q","symbol":"s","exchange":"DCE","bid_price":1,"bid_volume":1,"ask_price":2,"ask_volume":1}"#,
    );
    let position: Position =
        read(r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","direction":"NET","volume":-3}"#);
    assert_eq!((position.volume, position.frozen, position.yd_volume), (-3.0, 0.0, 0.0));
    let account: Account = read(r#"{"gateway_name":"g","accountid":"a","balance":5}"#);
    assert_eq!((account.available, account.margin, account.currency), (0.0, None, None));
    let contract: Contract = read(
        r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","name":"","product":"FUTURES","size":1,"pricetick":1}"#,
    );
    assert_eq!((contract.min_volume, contract.max_volume, contract.stop_supported), (1.0, None, false));
    let bar: Bar = read(
        r#"{"gateway_name":"g","symbol":"s","exchange":"DCE","datetime":"2021-01-04T09:30:00+08:00","open_price":1,
        "high_price":1,"low_price":1,"close_price":1}"#,
    );
    assert_eq!((bar.volume, bar.interval), (0.0, None));
    let status: Status = read(
        r#"{"gateway_name":"g","state":"READY","epoch":1,"journal_seq":2,"time":"2021-01-04T09:30:00Z",
        "protocol_version":1,"version":"0"}"#,
    );
    assert_eq!((status.state, status.halted.len(), status.ticks), (GatewayState::Ready, 0, 0));
    assert_eq!(read::<Halt>("{}"), Halt::default());
    assert_eq!(read::<Halted>(r#"{"halted":["*"]}"#).halts, []);
    let halt: HaltRecord = read(r#"{"halted":{"scope":"DESK","target":"north","since":"2021-01-04T09:30:00Z"}}"#);
    assert_eq!(halt.target().scope, HaltScope::Unknown);
    assert!(halt.heard().is_empty());
    let resumed: HaltRecord = read(r#"{"resumed":{"scope":"ALL","at":"2021-01-04T09:30:00Z"}}"#);
    assert!(resumed.heard().is_empty());
}

fn read<T: DeserializeOwned>(json: &str) -> T {
    decode(json.as_bytes()).expect("decodes")
}

fn refusal<T: DeserializeOwned + Debug>(json: &str) -> String {
    decode::<T>(json.as_bytes()).expect_err("refused").to_string()
}

/// Adds a field that no version knows to every object of every golden file: the files read as before.
#[test]
fn unknown_fields_are_ignored() {
    let spiced = |name: &str| {
        let golden = std::fs::read_to_string(golden_dir().join(format!("{name}.json"))).expect("the golden file");
        let json = compact(&golden);
        // An `extra` keeps what it is given, so it is left alone; a `{}` and the kind of an event take no field.
        let objects = json.replace("\"extra\":{", "\"extra\":\u{1}").replace("\"data\":{\"", "\"data\":\u{2}\"");
        let spiced = objects.replace("{\"", r#"{"new":{"a":[1,{"b":null}]},""#);
        (json, spiced.replace(['\u{1}', '\u{2}'], "{"))
    };
    fn same<T: DeserializeOwned + PartialEq + Debug>((plain, spiced): (String, String)) {
        assert_ne!(plain, spiced);
        assert_eq!(decode::<T>(spiced.as_bytes()), decode::<T>(plain.as_bytes()));
        assert!(decode::<T>(plain.as_bytes()).is_ok());
    }
    same::<Tick>(spiced("tick"));
    same::<Bar>(spiced("bar"));
    same::<Contract>(spiced("contract.option"));
    same::<Order>(spiced("order"));
    same::<Trade>(spiced("trade"));
    same::<Quote>(spiced("quote"));
    same::<Position>(spiced("position"));
    same::<Account>(spiced("account"));
    same::<Status>(spiced("status"));
    same::<Head>(spiced("head"));
    same::<Log>(spiced("log"));
    same::<RpcError>(spiced("error"));
    same::<Event<Tick>>(spiced("event.tick"));
    same::<EventsPage>(spiced("rpc.get_events.result"));
    same::<OrderRequest>(spiced("request.order"));
    same::<QuoteRequest>(spiced("request.quote"));
    same::<CancelRequest>(spiced("request.cancel"));
    same::<QueryHistory>(spiced("rpc.query_history"));
    same::<CancelledAll>(spiced("rpc.cancel_all.result"));
    same::<Page<Contract>>(spiced("page.contracts"));
}

#[test]
fn what_is_wrong_is_named() {
    let order = compact(&std::fs::read_to_string(golden_dir().join("order.json")).expect("the golden file"));
    let message = refusal::<Order>(&order.replace("\"PARTTRADED\"", "\"PARTLY\""));
    assert!(message.starts_with("field `status`: unknown order status `PARTLY`, expected one of SUBMITTING"));
    let message = refusal::<Order>(&order.replace("\"SHFE\"", "\"shfe\""));
    assert!(message.starts_with("field `exchange`: unknown exchange `shfe`"), "{message}");
    let message = refusal::<Order>(&order.replace("\"status\":", "\"state\":"));
    assert!(message.contains("missing field `status`"), "{message}");
    let message = refusal::<Event<Order>>(&format!(
        r#"{{"gateway":"g","epoch":1,"seq":1,"time":"2021-01-04T09:30:00Z","data":{}}}"#,
        order.replace("10.0", "\"ten\"")
    ));
    assert!(message.starts_with("field `data.volume`: ") && message.contains("ten"), "{message}");
    let message = refusal::<Order>(&order.replace("\"volume\":10.0", "\"volume\":null"));
    assert!(message.starts_with("field `volume`: "), "{message}");
    let message = refusal::<Order>(&order.replace("T21:00:01.250+08:00", " 21:00:01"));
    assert!(message.starts_with("field `datetime`: "), "{message}");
    let message = refusal::<OmsEvent>(r#"{"margin_call":{}}"#);
    assert!(message.contains("margin_call"), "{message}");
    assert_eq!(read::<GatewayState>("\"HIBERNATING\""), GatewayState::Unknown);
    assert_eq!(read::<ErrorCode>("\"MELTED\""), ErrorCode::Unknown);
}

/// What a newer peer may send must not be taken for something else by this version, and the version says so.
#[test]
fn the_version_is_in_the_status() {
    assert_eq!(a::status().protocol_version, PROTOCOL_VERSION);
}

#[test]
fn every_golden_file_is_checked() {
    let source = include_str!("golden.rs");
    for entry in std::fs::read_dir(golden_dir()).expect("the directory is there") {
        let file = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let name = file.strip_suffix(".json").expect("only JSON here");
        assert!(source.contains(&format!("check(\"{name}\"")), "nothing checks {file}");
    }
}

/// The events that a page can carry, one of each.
#[test]
fn an_events_page_holds_every_kind() {
    let kinds: Vec<_> = a::events_page().items.iter().map(|JournalEvent { event, .. }| kind(&event.data)).collect();
    assert_eq!(kinds, ["order", "trade", "quote", "position", "account"]);
}

const fn kind(event: &OmsEvent) -> &'static str {
    match event {
        OmsEvent::Order(_) => "order",
        OmsEvent::Trade(_) => "trade",
        OmsEvent::Quote(_) => "quote",
        OmsEvent::Position(_) => "position",
        OmsEvent::Account(_) => "account",
    }
}
