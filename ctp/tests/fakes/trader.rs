//! The trader library.

use std::sync::Arc;

use ctp::records::{Failure, Row};
use ctp::requests::{CancelKey, CancelOrder, InsertOrder};
use ctp::{Family, Request, TraderApi, TraderEvent, TraderHandler, TraderLibrary};
use serde_json::json;

use crate::support::{Fake, Kept, PATIENCE, eventually, fronts, identity};

/// A version of each family; the fakes have their tables.
const VERSIONS: [(&str, Family); 5] = [
    ("v6.7.2_20230913 10:48:10.4926", Family::A),
    ("v6.7.9_20241224 10:22:26.8774", Family::B),
    ("v6.7.10_20250422 16:38:54.9994", Family::C),
    ("v6.7.11_20250617 16:22:00.10369", Family::D),
    ("v6.7.13_20260225 14:16:30.12079", Family::E),
];

type Handler = Arc<Kept<TraderEvent>>;

fn started(fake: &Fake, handler: &Handler) -> TraderApi {
    let library = TraderLibrary::open(&fake.library, None).expect("opened");
    library.start(&fake.flow(), &fronts(), handler.clone() as Arc<dyn TraderHandler>).expect("started")
}

/// Connected and logged in.
fn trading(fake: &Fake, handler: &Handler) -> TraderApi {
    let api = started(fake, handler);
    assert_eq!(handler.next(), TraderEvent::FrontConnected);
    assert_eq!(api.send(&identity(), &Request::Login, 1), Ok(0));
    assert!(matches!(handler.next(), TraderEvent::LoggedIn { outcome: Ok(_), .. }));
    api
}

fn order(order_ref: u64, symbol: &str, volume: i32) -> Request {
    Request::InsertOrder(InsertOrder {
        order_ref,
        symbol: symbol.into(),
        exchange: "SHFE".into(),
        direction: b'0',
        offset: b'0',
        price_type: b'2',
        price: 3210.5,
        volume,
        time_condition: b'3',
        volume_condition: b'1',
    })
}

fn cancel(order_ref: &str) -> Request {
    Request::CancelOrder(CancelOrder {
        symbol: "rb2701".into(),
        exchange: "SHFE".into(),
        key: CancelKey::Session { front_id: 1, session_id: 1001, order_ref: order_ref.into() },
    })
}

/// The one row of a query's answer.
fn only<T>(row: Row<T>) -> T {
    assert!(row.is_last && row.failure.is_none());
    *row.record.expect("a record")
}

#[test]
fn every_callback_arrives_decoded_in_every_family() {
    for (version, family) in VERSIONS {
        every_callback(version, family);
    }
}

fn every_callback(version: &str, family: Family) {
    let mut rules = vec![
        json!({"on": "ReqOrderInsert", "where": {"InstrumentID": "ag2702"}, "tell": [{"call": "OnRspError", "info": {"ErrorID": 90, "ErrorMsg": "查询未就绪"}}]}),
        // What nobody handles is told first: it must not be taken for what is.
        json!({"on": "ReqAuthenticate", "times": 1, "tell": [
            {"call": "OnHeartBeatWarning", "number": 30},
            {"call": "OnRspAuthenticate", "record": {"UserID": "$UserID"}, "info": {"ErrorID": 63, "ErrorMsg": "客户端认证失败"}},
        ]}),
        json!({"on": "ReqUserLogin", "times": 1, "tell": [{"call": "OnRspUserLogin", "info": {"ErrorID": 3, "ErrorMsg": "CTP:不合法的登录"}}]}),
    ];
    if family == Family::E {
        rules[1]["tell"].as_array_mut().expect("a list").push(json!({"call": "OnRtnPrivateSeqNo", "number": 12}));
    }
    let script = json!({
        "rules": rules,
        "login": {"FrontID": 3, "SessionID": -1001, "MaxOrderRef": "          41"},
        "rows": {
            "ReqQryInstrument": [
                {"InstrumentID": "rb2701", "ExchangeID": "SHFE", "InstrumentName": "螺纹钢2701", "PriceTick": 1.0, "VolumeMultiple": 10, "LongMarginRatio": "DBL_MAX", "ProductClass": "1"},
                {"InstrumentID": "SPD c2701&c2705", "ExchangeID": "DCE", "ProductClass": "3"},
            ],
            "ReqQryInvestorPosition": [{"InstrumentID": "rb2701", "PosiDirection": "2", "Position": 4, "YdPosition": 5, "PositionCost": 128_000.0}],
        },
        "orders": [
            {"where": {"VolumeTotalOriginal": 5}, "plan": "part", "volume": 2},
            {"where": {"VolumeTotalOriginal": 6}, "plan": "refuse", "error": 31},
            {"where": {"VolumeTotalOriginal": 7}, "plan": "refuse_err"},
            {"where": {"VolumeTotalOriginal": 8}, "plan": "accept", "cancel": "refuse_err"},
        ],
    });
    let fake = Fake::new("ctp_fake_trader", version, &family.to_string(), &script);
    let library = TraderLibrary::open(&fake.library, None).expect("opened");
    assert_eq!((library.version(), library.family()), (version, family));
    let handler: Handler = Kept::new();
    let api = library.start(&fake.flow(), &fronts(), handler.clone()).expect("started");
    let send = |request: &Request, number| assert_eq!(api.send(&identity(), request, number), Ok(0), "{request:?}");
    assert_eq!(handler.next(), TraderEvent::FrontConnected);

    let failure = |code, message: &str| Failure { code, message: message.to_owned() };
    send(&Request::Authenticate, 1);
    let failed = TraderEvent::Authenticated { request: 1, failure: Some(failure(63, "客户端认证失败")) };
    assert_eq!(handler.next(), failed);
    send(&Request::Authenticate, 2);
    assert_eq!(handler.next(), TraderEvent::Authenticated { request: 2, failure: None });

    send(&Request::Login, 3);
    let refused = TraderEvent::LoggedIn { request: 3, outcome: Err(failure(3, "CTP:不合法的登录")) };
    assert_eq!(handler.next(), refused);
    assert_eq!(api.trading_day(), "19800100");
    send(&Request::Login, 4);
    let TraderEvent::LoggedIn { request: 4, outcome: Ok(login) } = handler.next() else { panic!("no login") };
    assert_eq!((login.front_id, login.session_id, login.max_order_ref.as_str()), (3, -1001, "          41"));
    assert_eq!((login.trading_day.as_str(), login.system_name.as_str()), ("20261123", "FakeTrader"));
    assert_eq!(api.trading_day(), "20261123");

    send(&Request::ConfirmSettlement, 5);
    assert_eq!(handler.next(), TraderEvent::SettlementConfirmed { request: 5, failure: None });

    send(&Request::QueryInstruments, 6);
    let TraderEvent::Instrument(row) = handler.next() else { panic!("no instrument") };
    let first = row.record.expect("a record");
    assert_eq!((row.request, row.is_last, first.symbol.as_str()), (6, false, "rb2701"));
    assert_eq!((first.name.as_str(), first.price_tick, first.multiplier), ("螺纹钢2701", Some(1.0), 10));
    assert_eq!((first.long_margin_ratio, first.product_class), (None, b'1'));
    let TraderEvent::Instrument(row) = handler.next() else { panic!("no instrument") };
    assert!(row.is_last);
    assert_eq!(row.record.expect("a record").symbol, "SPD c2701&c2705");

    send(&Request::QueryAccount, 7);
    let TraderEvent::Account(row) = handler.next() else { panic!("no account") };
    let account = only(row);
    assert_eq!((account.account.as_str(), account.balance, account.margin), ("012345", Some(1e6), Some(1e5)));
    send(&Request::QueryPositions, 8);
    let TraderEvent::Position(row) = handler.next() else { panic!("no position") };
    let position = only(row);
    assert_eq!((position.direction, position.position, position.yd_position), (b'2', 4, 5));
    assert_eq!(position.position_cost, Some(128_000.0));
    // Nothing found is one row without a record.
    for (request, number) in [(Request::QueryOrders, 9), (Request::QueryTrades, 10)] {
        send(&request, number);
        match handler.next() {
            TraderEvent::QueriedOrder(row) => assert!(row.record.is_none() && row.is_last && row.request == 9),
            TraderEvent::QueriedTrade(row) => assert!(row.record.is_none() && row.is_last && row.request == 10),
            other => panic!("{other:?}"),
        }
    }

    send(&order(42, "rb2701", 5), 11);
    let told = handler.take(4);
    let orders: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            TraderEvent::Order(order) => Some((order.status, order.submit_status, order.traded)),
            _ => None,
        })
        .collect();
    assert_eq!(orders, [(b'a', b'0', 0), (b'3', b'3', 0), (b'1', b'3', 2)]);
    let TraderEvent::Order(last) = &told[2] else { panic!("no order") };
    assert_eq!((last.order_ref.as_str(), last.front_id, last.session_id), ("42", 3, -1001));
    assert_eq!((last.order_sys_id.as_str(), last.status_message.as_str()), ("        5001", "部分成交"));
    assert_eq!((last.volume, last.price, last.symbol.as_str()), (5, Some(3210.5), "rb2701"));
    let TraderEvent::Trade(trade) = &told[3] else { panic!("no trade") };
    assert_eq!((trade.volume, trade.price, trade.order_sys_id.as_str()), (2, Some(3210.5), "        5001"));
    assert_eq!((trade.trade_id.as_str(), trade.offset, trade.direction), ("        7001", b'0', b'0'));

    send(&order(43, "rb2701", 6), 12);
    let TraderEvent::InsertRefused { order: refused, failure: why } = handler.next() else { panic!("not refused") };
    assert_eq!((refused.order_ref.as_str(), refused.request, why.code), ("43", 12, 31));
    send(&order(44, "rb2701", 7), 13);
    let TraderEvent::InsertFailed { order: refused, .. } = handler.next() else { panic!("not refused") };
    assert_eq!((refused.order_ref.as_str(), refused.symbol.as_str(), refused.request), ("44", "rb2701", 13));

    // By the exchange's number; done, and a second time refused.
    let by_exchange = Request::CancelOrder(CancelOrder {
        symbol: "rb2701".into(),
        exchange: "SHFE".into(),
        key: CancelKey::Exchange { order_sys_id: "        5001".into() },
    });
    send(&by_exchange, 14);
    let TraderEvent::Order(cancelled) = handler.next() else { panic!("not cancelled") };
    assert_eq!((cancelled.status, cancelled.cancel_time.as_str()), (b'5', "21:00:05"));
    send(&by_exchange, 15);
    let TraderEvent::CancelRefused { action, failure: why } = handler.next() else { panic!("not refused") };
    assert_eq!((action.order_sys_id.as_str(), why.code), ("        5001", 26));

    // By its session; the exchange refuses.
    send(&order(45, "rb2701", 8), 16);
    handler.take(2);
    let key = CancelKey::Session { front_id: 3, session_id: -1001, order_ref: "45".into() };
    send(&Request::CancelOrder(CancelOrder { symbol: "rb2701".into(), exchange: "SHFE".into(), key }), 17);
    let TraderEvent::CancelFailed { action, .. } = handler.next() else { panic!("not refused") };
    assert_eq!((action.order_ref.as_str(), action.front_id, action.session_id), ("45", 3, -1001));

    send(&order(46, "ag2702", 1), 18);
    let failed = TraderEvent::RequestFailed { request: 18, failure: failure(90, "查询未就绪") };
    assert_eq!(handler.next(), failed);
    fake.tell(&json!({"call": "OnRspUserLogout", "record": {"UserID": "012345"}}));
    assert_eq!(handler.next(), TraderEvent::LoggedOut);
    fake.tell(&json!({"call": "OnFrontDisconnected", "number": 0x1001}));
    assert_eq!(handler.next(), TraderEvent::FrontDisconnected { reason: 0x1001 });
    eventually("requests refused while disconnected", || api.send(&identity(), &Request::QueryAccount, 19) == Ok(-1));

    api.release();
    assert!(handler.events().is_empty(), "nothing else was told");
    assert_eq!(Arc::strong_count(&handler), 1, "the handler is let go");
    let requests = fake.requests();
    let called: Vec<_> = requests.iter().take(5).map(|r| (r["request"].clone(), r["arguments"].clone())).collect();
    let private = if family == Family::E { json!([0, 0]) } else { json!([0]) };
    let expected = [
        (json!("SubscribePrivateTopic"), private),
        (json!("SubscribePublicTopic"), json!([0])),
        (json!("RegisterFront"), json!(["tcp://127.0.0.1:41205"])),
        (json!("RegisterFront"), json!(["tcp://127.0.0.1:41206"])),
        (json!("Init"), json!([])),
    ];
    assert_eq!(called, expected, "family {family}");
    assert_eq!(requests.last().expect("some")["request"], "Release");
    assert_eq!(fake.asked("ReqUserLogin")[0]["record"]["Password"], "secret");
}

#[test]
fn a_panic_in_the_handler_is_told_and_the_next_callback_arrives() {
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &json!({}));
    let handler: Handler = Kept::panicking(Some(|event| matches!(event, TraderEvent::Trade(_))));
    let api = trading(&fake, &handler);
    assert_eq!(api.send(&identity(), &order(1, "rb2701", 1), 2), Ok(0));
    let told = handler.take(4);
    assert!(told[..3].iter().all(|event| matches!(event, TraderEvent::Order(_))), "{told:?}");
    assert_eq!(told[3], TraderEvent::Panicked { callback: "OnRtnTrade" });
    assert_eq!(api.send(&identity(), &Request::QueryAccount, 3), Ok(0));
    assert!(matches!(handler.next(), TraderEvent::Account(_)));
    api.release();
}

#[test]
fn a_handler_that_panics_at_everything_ends_nothing() {
    let fake = Fake::new("ctp_fake_trader", VERSIONS[4].0, "E", &json!({}));
    let handler: Handler = Kept::panicking(Some(|event| !matches!(event, TraderEvent::Account(_))));
    let api = started(&fake, &handler);
    eventually("a connection", || api.send(&identity(), &Request::Login, 1) == Ok(0));
    assert_eq!(api.send(&identity(), &Request::QueryAccount, 2), Ok(0));
    assert!(matches!(handler.next(), TraderEvent::Account(_)));
    api.release();
}

#[test]
fn a_wrong_family_is_refused_by_the_slots_whatever_the_configuration_says() {
    let refused = |version: &str, table: Family, named: Option<Family>| {
        let fake = Fake::new("ctp_fake_trader", version, &table.to_string(), &json!({}));
        let library = TraderLibrary::open(&fake.library, named).expect("opened");
        let handler: Handler = Kept::new();
        let error = library.start(&fake.flow(), &fronts(), handler.clone()).expect_err("refused").to_string();
        assert!(fake.requests().is_empty(), "nothing was called: {:?}", fake.requests());
        let path = format!("{}", fake.library.display());
        assert!(error.starts_with(&path), "{error}");
        error[path.len()..].to_owned()
    };
    for table in Family::ALL {
        for named in Family::ALL.into_iter().filter(|named| *named != table) {
            let error = refused("v6.7.2", table, Some(named));
            assert!(error.starts_with(&format!(" is not of family {named}: slot ")), "{table} as {named}: {error}");
        }
    }
    assert_eq!(
        refused("v6.7.11_20250617", Family::D, Some(Family::A)),
        " is not of family A: slot 4 should hold RegisterFront, but holds \
         _ZN18CFtdcTraderApiImpl12GetFrontInfoEP24CThostFtdcFrontInfoField. It says that it is \"v6.7.11_20250617\"; \
         correct or remove `abi`, or ask the broker which version its library is compatible with"
    );
    // D and E differ in what they call back, which no slot of the library shows, and in this one's parameters.
    assert_eq!(
        refused("v6.7.11_20250617", Family::E, None),
        " is not of family D: slot 9 should hold SubscribePrivateTopic(THOST_TE_RESUME_TYPE), but holds \
         _ZN18CFtdcTraderApiImpl21SubscribePrivateTopicE20THOST_TE_RESUME_TYPEi. It says that it is \
         \"v6.7.11_20250617\"; correct or remove `abi`, or ask the broker which version its library is compatible with"
    );
}

#[test]
fn an_unknown_version_works_with_the_family_that_it_has() {
    let fake = Fake::new("ctp_fake_trader", "v6.8.0_20270101", "E", &json!({}));
    let error = TraderLibrary::open(&fake.library, None).expect_err("unknown").to_string();
    assert!(error.contains("is CTP 6.8.0 (it says \"v6.8.0_20270101\"), which is not known here"), "{error}");
    let library = TraderLibrary::open(&fake.library, Some(Family::E)).expect("named");
    let handler: Handler = Kept::new();
    let api = library.start(&fake.flow(), &fronts(), handler.clone()).expect("started");
    assert_eq!(handler.next(), TraderEvent::FrontConnected);
    api.release();
}

#[test]
fn what_the_library_refuses_is_returned_and_what_does_not_fit_is_not_sent() {
    let script = json!({"rules": [
        {"on": "ReqQryTradingAccount", "times": 1, "returns": -2},
        {"on": "ReqQryTradingAccount", "times": 1, "returns": -3},
    ]});
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &script);
    let handler: Handler = Kept::new();
    let api = trading(&fake, &handler);
    for returned in [-2, -3, 0] {
        assert_eq!(api.send(&identity(), &Request::QueryAccount, 5), Ok(returned));
    }
    let mut too_long = identity();
    too_long.broker = "99999999999".into();
    let error = api.send(&too_long, &Request::QueryOrders, 6).expect_err("too long").to_string();
    assert_eq!(error, "CTP's field BrokerID holds 10 bytes, and what is to be sent there has 11: correct it");
    assert!(fake.asked("ReqQryOrder").is_empty());
    api.release();
}

#[test]
fn a_connection_that_ends_in_a_query_comes_back_and_tells_the_day_again() {
    let script = json!({
        "rules": [{"on": "ReqQryInstrument", "times": 1, "tell": [
            {"call": "OnRspQryInstrument", "record": {"InstrumentID": "rb2701"}, "info": {"ErrorID": 0}, "last": false},
            {"call": "OnFrontDisconnected", "number": 0x2003},
            {"call": "OnFrontConnected", "after_ms": 20},
        ]}],
        "today": [{"call": "OnRtnOrder", "record": {"OrderRef": "7", "OrderStatus": "3", "SessionID": 9}}],
        "orders": [{"nth": 1, "plan": "fill", "twice": true, "trade_first": true}, {"nth": 2, "plan": "silent"}],
    });
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &script);
    let handler: Handler = Kept::new();
    let api = trading(&fake, &handler);
    assert!(matches!(handler.next(), TraderEvent::Order(order) if order.order_ref == "7" && order.session_id == 9));
    assert_eq!(api.send(&identity(), &order(1, "rb2701", 1), 2), Ok(0));
    let told = handler.take(8);
    let shape: String =
        told.iter().map(|event| if matches!(event, TraderEvent::Trade(_)) { 't' } else { 'o' }).collect();
    assert_eq!(shape, "ooootto".to_owned() + "o", "each twice, the trade before the order");
    assert_eq!(api.send(&identity(), &order(2, "rb2701", 1), 3), Ok(0));

    assert_eq!(api.send(&identity(), &Request::QueryInstruments, 4), Ok(0));
    assert!(matches!(handler.next(), TraderEvent::Instrument(row) if !row.is_last && row.failure.is_none()));
    assert_eq!(handler.take(2), [TraderEvent::FrontDisconnected { reason: 0x2003 }, TraderEvent::FrontConnected]);
    assert_eq!(api.send(&identity(), &Request::Login, 5), Ok(0));
    let told = handler.take(6);
    assert!(matches!(told[0], TraderEvent::LoggedIn { .. }), "{told:?}");
    assert!(matches!(&told[1], TraderEvent::Order(order) if order.order_ref == "7"), "{told:?}");
    assert!(told[2..].iter().all(|event| match event {
        TraderEvent::Order(order) => order.order_ref == "1",
        TraderEvent::Trade(trade) => trade.order_ref == "1",
        _ => false,
    }));
    api.release();
    assert!(handler.events().is_empty(), "nothing of the silent order: {:?}", handler.events());
}

#[test]
fn a_library_is_opened_again_and_its_connections_live_side_by_side() {
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &json!({}));
    let (first, second): (Handler, Handler) = (Kept::new(), Kept::new());
    let one = started(&fake, &first);
    let library = TraderLibrary::open(&fake.library, None).expect("opened again");
    let error = library.start(&fake.flow(), &fronts(), second.clone()).expect_err("the directory is taken").to_string();
    assert!(error.contains("another CTP connection of this program keeps its files there"), "{error}");
    let other = library.start(&fake.flow().join("other"), &fronts(), second.clone()).expect("started");
    assert_eq!((first.next(), second.next()), (TraderEvent::FrontConnected, TraderEvent::FrontConnected));
    one.release();
    assert_eq!(other.send(&identity(), &Request::Login, 1), Ok(0));
    assert!(matches!(second.next(), TraderEvent::LoggedIn { .. }));
    // Free again.
    let again = library.start(&fake.flow(), &fronts(), first.clone()).expect("started");
    assert_eq!(first.next(), TraderEvent::FrontConnected);
    drop((again, other));
}

#[test]
fn a_front_address_that_is_none_is_refused_before_anything_is_done() {
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &json!({}));
    let library = TraderLibrary::open(&fake.library, None).expect("opened");
    let handler: Handler = Kept::new();
    for fronts in [vec![], vec!["tcp://127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]] {
        library.start(&fake.flow(), &fronts, handler.clone()).expect_err("no address");
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn a_library_of_the_other_kind_or_of_none_is_refused() {
    let fake = Fake::new("ctp_fake_md", VERSIONS[0].0, "A", &json!({}));
    let error = TraderLibrary::open(&fake.library, None).expect_err("market data").to_string();
    assert_eq!(
        error,
        format!(
            "{} is no library for CTP's trading: it has no CThostFtdcTraderApi::CreateFtdcTraderApi, but is one for market \
             data; name the broker's libthosttraderapi_se.so",
            fake.library.display()
        )
    );
}

/// Releases its connection from within a callback, as an owner might by accident.
struct Releasing(std::sync::Mutex<Option<TraderApi>>, std::sync::atomic::AtomicU32);

impl TraderHandler for Releasing {
    fn on_event(&self, event: TraderEvent) {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if matches!(event, TraderEvent::Account(_)) {
            drop(self.0.lock().expect("no panic under the lock").take());
        }
    }
}

#[test]
fn a_release_within_a_callback_does_not_wait_for_itself() {
    let fake = Fake::new("ctp_fake_trader", VERSIONS[0].0, "A", &json!({}));
    let handler = Arc::new(Releasing(std::sync::Mutex::new(None), 0.into()));
    let library = TraderLibrary::open(&fake.library, None).expect("opened");
    let api = library.start(&fake.flow(), &fronts(), handler.clone()).expect("started");
    eventually("a connection", || api.send(&identity(), &Request::ConfirmSettlement, 1) == Ok(0));
    *handler.0.lock().expect("no panic under the lock") = Some(api);
    {
        let kept = handler.0.lock().expect("no panic under the lock");
        let api = kept.as_ref().expect("kept");
        assert_eq!(api.send(&identity(), &Request::QueryAccount, 2), Ok(0));
    }
    eventually("the release", || !fake.asked("Release").is_empty());
    eventually("the handler let go", || Arc::strong_count(&handler) == 1);
    let told = handler.1.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(told, 3, "connected, confirmed, the account; waited at most {PATIENCE:?}");
}

#[test]
fn nothing_is_heard_after_a_release_in_the_middle_of_a_flood() {
    let tell: Vec<_> =
        (0..30_000).map(|_| json!({"call": "OnRtnOrder", "record": {"OrderRef": "1"}, "after_ms": 1})).collect();
    let script = json!({"rules": [{"on": "ReqQryTrade", "tell": tell}]});
    let fake = Fake::new("ctp_fake_trader", VERSIONS[4].0, "E", &script);
    let handler: Handler = Kept::new();
    let api = trading(&fake, &handler);
    assert_eq!(api.send(&identity(), &Request::QueryTrades, 2), Ok(0));
    handler.take(10);
    api.release();
    let heard = handler.events().len();
    assert_eq!(Arc::strong_count(&handler), 1);
    assert!(heard < 29_000, "the flood ended by itself: this test shows nothing");
    std::thread::yield_now();
    assert_eq!(handler.events().len(), heard);
    // The next connection is an ordinary one.
    let next: Handler = Kept::new();
    let again = trading(&fake, &next);
    assert_eq!(again.send(&identity(), &cancel("1"), 3), Ok(0));
    assert!(matches!(next.next(), TraderEvent::CancelRefused { .. }));
    again.release();
    assert_eq!(handler.events().len(), heard);
}
