//! The market data library.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ctp::records::Failure;
use ctp::{Family, MdApi, MdEvent, MdHandler, MdLibrary};
use serde_json::json;

use crate::support::{Fake, Kept, eventually, fronts, identity, symbols};

type Handler = Arc<Kept<MdEvent>>;

fn started(fake: &Fake, handler: &Handler) -> MdApi {
    let library = MdLibrary::open(&fake.library, None).expect("opened");
    let api = library.start(&fake.flow(), &fronts(), handler.clone() as Arc<dyn MdHandler>).expect("started");
    assert_eq!(handler.next(), MdEvent::FrontConnected);
    api
}

#[test]
fn every_callback_arrives_decoded() {
    for (version, family) in [("v6.6.9_20220914  9:57:19.2466", Family::A), ("v6.7.13_20260225", Family::E)] {
        let script = json!({
            "rules": [
                {"on": "ReqUserLogin", "times": 1, "tell": [{"call": "OnRspUserLogin", "info": {"ErrorID": 3, "ErrorMsg": "CTP:不合法的登录"}}]},
                {"on": "SubscribeMarketData", "where": {"InstrumentID": "xx"}, "tell": [{"call": "OnRspSubMarketData", "record": {"InstrumentID": "$InstrumentID"}, "info": {"ErrorID": 16, "ErrorMsg": "没有"}}]},
            ],
            "login": {"TradingDay": ""},
            "burst": {"records": 4, "symbols": 2, "record": {"LastPrice": 3210.5}},
        });
        let fake = Fake::new("ctp_fake_md", version, "A", &script);
        let library = MdLibrary::open(&fake.library, None).expect("opened");
        assert_eq!((library.version(), library.family()), (version, family));
        let handler: Handler = Kept::new();
        let api = started(&fake, &handler);

        assert_eq!(api.login(&identity(), 1), Ok(0));
        let failure = Failure { code: 3, message: "CTP:不合法的登录".to_owned() };
        assert_eq!(handler.next(), MdEvent::LoggedIn { request: 1, outcome: Err(failure) });
        assert_eq!(api.login(&identity(), 2), Ok(0));
        let MdEvent::LoggedIn { request: 2, outcome: Ok(login) } = handler.next() else { panic!("no login") };
        assert_eq!(login.trading_day, "");
        assert_eq!(api.trading_day(), "20261123");

        assert_eq!(api.subscribe(&symbols(&["rb2701", "xx", "SPD c2701&c2705"])), 0);
        let subscribed = |symbol: &str, failure| MdEvent::Subscribed { symbol: symbol.into(), failure };
        let failure = Failure { code: 16, message: "没有".to_owned() };
        assert_eq!(
            handler.take(3),
            [subscribed("rb2701", None), subscribed("xx", Some(failure)), subscribed("SPD c2701&c2705", None)]
        );
        eventually("four depths", || handler.depth_count.load(Ordering::SeqCst) == 4);
        let told = handler.depths.lock().expect("no panic under the lock").clone();
        let expected = [("rb2701", 1), ("SPD c2701&c2705", 1), ("rb2701", 2), ("SPD c2701&c2705", 2)]
            .map(|(symbol, volume)| (symbol.into(), volume, Some(3210.5), None));
        assert_eq!(told, expected);

        assert_eq!(api.unsubscribe(&symbols(&["rb2701"])), 0);
        assert_eq!(handler.next(), MdEvent::Unsubscribed { symbol: "rb2701".into(), failure: None });
        fake.tell(&json!({"call": "OnRspError", "info": {"ErrorID": 7, "ErrorMsg": "x"}, "request": 5}));
        let failure = Failure { code: 7, message: "x".to_owned() };
        assert_eq!(handler.next(), MdEvent::RequestFailed { request: 5, failure });
        fake.tell(&json!({"call": "OnFrontDisconnected", "number": 0x2001}));
        assert_eq!(handler.next(), MdEvent::FrontDisconnected { reason: 0x2001 });
        eventually("refused while disconnected", || api.subscribe(&symbols(&["rb2701"])) == -1);
        assert_eq!(api.subscribe(&symbols(&[&"x".repeat(81)])), -4);
        api.release();
        assert!(handler.events().is_empty());
        assert_eq!(Arc::strong_count(&handler), 1, "the handler is let go");
    }
}

/// Panics at every third depth.
#[derive(Default)]
struct Shaky {
    told: std::sync::atomic::AtomicU64,
    panicked: std::sync::atomic::AtomicU64,
}

impl MdHandler for Shaky {
    fn on_event(&self, event: MdEvent) {
        if event == (MdEvent::Panicked { callback: "OnRtnDepthMarketData" }) {
            self.panicked.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn on_depth(&self, _: ctp::depth::Depth<'_>) {
        if self.told.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            // Without the panic hook's words: this one is meant.
            std::panic::resume_unwind(Box::new("the test's own panic"));
        }
    }
}

#[test]
fn a_panic_at_a_depth_is_told_and_the_next_depth_arrives() {
    let fake = Fake::new("ctp_fake_md", "v6.7.2", "A", &json!({"burst": {"records": 9, "symbols": 1}}));
    let handler = Arc::new(Shaky::default());
    let library = MdLibrary::open(&fake.library, None).expect("opened");
    let api = library.start(&fake.flow(), &fronts(), handler.clone()).expect("started");
    eventually("a connection", || api.subscribe(&symbols(&["rb2701"])) == 0);
    eventually("nine depths", || handler.told.load(Ordering::SeqCst) == 9);
    eventually("three panics", || handler.panicked.load(Ordering::SeqCst) == 3);
    api.release();
}

#[test]
fn a_release_ends_a_burst() {
    let fake = Fake::new("ctp_fake_md", "v6.7.2", "A", &json!({"burst": {"records": u64::MAX, "symbols": 1}}));
    let handler: Handler = Kept::new();
    let api = started(&fake, &handler);
    assert_eq!(api.subscribe(&symbols(&["rb2701"])), 0);
    eventually("a thousand depths", || handler.depth_count.load(Ordering::SeqCst) > 1000);
    api.release();
    let told = handler.depth_count.load(Ordering::SeqCst);
    std::thread::yield_now();
    assert_eq!(handler.depth_count.load(Ordering::SeqCst), told);
    assert_eq!(Arc::strong_count(&handler), 1);
}

#[test]
fn a_trader_library_is_no_market_data_library() {
    let fake = Fake::new("ctp_fake_trader", "v6.7.2", "A", &json!({}));
    let error = MdLibrary::open(&fake.library, None).expect_err("a trader's").to_string();
    assert!(error.contains("is no library for CTP's market data"), "{error}");
    assert!(error.ends_with("but is one for trading; name the broker's libthostmduserapi_se.so"), "{error}");
}
