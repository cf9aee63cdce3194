//! The gateway against fake libraries, through the trait and the two queues.

use std::sync::atomic::{AtomicBool, Ordering};

use ::ctp::testing::built;
use protocol::{OrderStatus, OrderType};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::config::CtpConfig;
use super::*;
use crate::gateway::conformance::{Rig, Traits, conformance, instrument};
use crate::gateway::venue_channel;

const CTP: Traits =
    Traits { no_funds: "资金不足", ends_older_sessions: false, has_quotes: false, has_history: false };

/// A tick with this last price; when is the library's own affair.
fn tick(_seconds: u64, last: f64) -> f64 {
    last
}

/// A counter with a small honest book, 5 lots at 1 below and above the last price, and these ticks for who subscribes.
fn rig(ticks: &[f64]) -> Rig {
    rig_named("sim1", ticks, &json!([]))
}

fn rig_named(name: &str, ticks: &[f64], market_rules: &Value) -> Rig {
    let last = ticks[0];

    let directory = TempDir::new().expect("a directory");
    let instrument = json!({
        "InstrumentID": "rb2410", "ExchangeID": "SHFE", "InstrumentName": "螺纹2410", "ProductClass": "1",
        "VolumeMultiple": 10, "PriceTick": 1.0, "IsTrading": 1, "PositionDateType": "1",
    });
    let trader = json!({
        "login": {"MaxOrderRef": "41"},
        "rows": {"ReqQryInstrument": [instrument]},
        "market": {"bid": last - 1.0, "ask": last + 1.0, "volume": 5, "funds": 1_000_000.0},
        "counter": directory.path().join("counter.json"),
    });
    let market = json!({"rules": market_rules, "burst": {"records": ticks.len(), "symbols": 1, "record": {
        "LastPrice": last, "BidPrice1": last - 1.0, "BidVolume1": 5, "AskPrice1": last + 1.0, "AskVolume1": 5,
    }}});
    let write = |part: &str, script: &Value| {
        let flow = directory.path().join("flow").join(part);
        std::fs::create_dir_all(&flow).expect("made");
        std::fs::write(flow.join("script.json"), script.to_string()).expect("written");
    };
    write("trader", &trader);
    write("market", &market);
    let config: CtpConfig = serde_json::from_value(json!({
        "trader_library": built("ctp_fake_trader"), "market_library": built("ctp_fake_md"),
        "trader_fronts": ["tcp://127.0.0.1:1"], "market_fronts": ["tcp://127.0.0.1:2"],
        "broker": "9999", "user": "paper", "password": "secret", "auth_code": "code",
        "flow_dir": directory.path().join("flow"), "query_interval_ms": 10,
    }))
    .expect("a configuration");
    let (sink, source) = venue_channel(1024, 1024);
    let gateway = CtpGateway::new(name.into(), &config, sink).expect("opens");
    Rig::new(Box::new(gateway), source, Box::new(directory)).of(CTP)
}

conformance!(ctp, |ticks: Vec<f64>| async move { rig(&ticks) });

/// Panics where a thread of this name writes its first line in this module: code of others that runs on it.
struct Mine {
    thread: &'static str,
    has_gone_off: AtomicBool,
}

impl tracing::Subscriber for Mine {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        // Asked anew by each thread.
        tracing::subscriber::Interest::sometimes()
    }
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let is_here = metadata.target().starts_with("gateway_node::gateway::ctp");
        is_here && std::thread::current().name() == Some(self.thread)
    }
    fn event(&self, _: &tracing::Event<'_>) {
        assert!(self.has_gone_off.swap(true, Ordering::SeqCst), "a planted panic");
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_gateways_thread_ends_the_session_and_loses_nothing() {
    tracing::subscriber::set_global_default(Mine { thread: "ctp-mine", has_gone_off: AtomicBool::new(false) })
        .expect("the only one");
    // An unsubscription that is not taken is worth a line.
    let mut rig =
        rig_named("mine", &[100.0, 100.0], &json!([{"on": "UnSubscribeMarketData", "times": 1, "returns": -3}]));
    rig.log_in_as("mine", 1).await;
    rig.gateway.subscribe(&[instrument()]).expect("sent");
    rig.ticks(2).await;
    let resting = rig.submit(OrderType::Limit, 90.0, 1.0);
    assert_eq!(rig.order(OrderStatus::NotTraded).await.reference, resting);
    let before = rig.session.clone();
    rig.gateway.unsubscribe(&[instrument()]).expect("sent");
    let reason = rig
        .expect("an end of the session", |event| match event {
            VenueEvent::Disconnected { reason } => Some(reason),
            VenueEvent::Connected { .. } | VenueEvent::Refused { .. } => panic!("{event:?}"),
            _ => None,
        })
        .await;
    assert!(reason.contains("panicked"), "{reason}");
    assert_eq!(rig.gateway.cancel(&resting), Err(GatewayError::NotConnected));
    assert_eq!(rig.gateway.request_snapshot(), Err(GatewayError::NotConnected));

    rig.log_in_as("mine", 1).await;
    assert_ne!(rig.session, before);
    assert_eq!(rig.order(OrderStatus::NotTraded).await.reference, resting, "the day is told again");
    rig.gateway.subscribe(&[instrument()]).expect("sent");
    rig.ticks(2).await;
    let filled = rig.submit(OrderType::Limit, 101.0, 2.0);
    assert_eq!(rig.order(OrderStatus::AllTraded).await.reference, filled);
    assert_eq!(rig.snapshot().await.orders.len(), 2);
    rig.gateway.cancel(&resting).expect("sent");
    assert_eq!(rig.order(OrderStatus::Cancelled).await.reference, resting);
    assert!(!rig.source.overflowed.load(Ordering::SeqCst));
    rig.gateway.close();
}

#[tokio::test]
async fn a_subscription_that_ctp_does_not_take_is_asked_for_again() {
    let not_taken = json!([{"on": "SubscribeMarketData", "times": 2, "returns": -3}]);
    let mut rig = rig_named("patient", &[100.0, 100.0], &not_taken);
    rig.log_in_as("patient", 1).await;
    rig.gateway.subscribe(&[instrument()]).expect("sent");
    rig.ticks(2).await;
}
