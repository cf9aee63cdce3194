//! Logins that are refused, for good or for a while, queries that the counter has too many of, and secrets.

use std::time::Duration;

use nix::sys::signal::Signal;
use protocol::{Exchange, GatewayState, InstrumentId, OrderStatus};
use serde_json::{Value, json};

use super::site::{AUTH_CODE, PASSWORD, Site, order};
use crate::support::eventually;

/// Refuses this request so often.
fn refusal(on: &str, callback: &str, times: u32, error: i32, words: &str) -> Value {
    json!({"on": on, "times": times, "tell": [{"call": callback, "info": {"ErrorID": error, "ErrorMsg": words}}]})
}

/// Longer than the first two retries of a login would take.
async fn after_two_retries() {
    tokio::time::sleep(Duration::from_millis(3_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_until_an_operator_says_connect() {
    let rule = refusal("ReqUserLogin", "OnRspUserLogin", 1, 3, "CTP:不合法的登录");
    let Some(site) = Site::start(json!({"rules": [rule]})).await else { return };
    let node = site.node("a");
    let status = site.until("a", GatewayState::Refused).await;
    let reason = status.reason.expect("a reason");
    assert!(reason.contains("CTP error 3") && reason.contains("不合法的登录"), "{reason}");
    after_two_retries().await;
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 1);
    // Whoever mended it says so.
    site.gateway().connect().await.expect("taken");
    site.until_ready("a").await;
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 2);
    assert_no_secret(&node.end_by(Signal::SIGTERM).await.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn market_data_that_is_logged_in_stays_so_whatever_another_login_is_answered() {
    let taken = json!({"call": "OnRspUserLogin", "record": {"TradingDay": "20261123"}});
    let twice = json!({"call": "OnRspUserLogin", "info": {"ErrorID": 5, "ErrorMsg": "CTP:重复的登录"}});
    let Some(site) = Site::start(json!({})).await else { return };
    let site = site
        .with_market(json!({"rules": [{"on": "ReqUserLogin", "times": 1, "tell": [taken, twice]}]}))
        .subscribing("rb2701.SHFE");
    let node = site.node("a");
    site.until_ready("a").await;
    let subscribed = |symbol: &'static str| {
        let site = &site;
        async move {
            eventually("a subscription", || async {
                let asked = site.asked("a", "market", "SubscribeMarketData");
                asked.iter().any(|asked| asked["arguments"] == json!([symbol])).then_some(())
            })
            .await;
        }
    };
    subscribed("rb2701").await;
    let later = InstrumentId::new("ag2702", Exchange::SHFE);
    site.gateway().subscribe(&later).await.expect("taken");
    subscribed("ag2702").await;
    assert_eq!(site.asked("a", "market", "ReqUserLogin").len(), 1);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_not_initialised_yet_is_tried_again() {
    let rule = refusal("ReqUserLogin", "OnRspUserLogin", 2, 7, "CTP:还没有初始化");
    let Some(site) = Site::start(json!({"rules": [rule]})).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 3);
    let ended = node.end_by(Signal::SIGTERM).await;
    assert!(ended.err.contains("CTP error 7: CTP:还没有初始化"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_authentication_is_no_login_and_not_tried_again() {
    let rule = refusal("ReqAuthenticate", "OnRspAuthenticate", 9, 63, "CTP:客户端认证失败");
    let Some(site) = Site::start(json!({"rules": [rule]})).await else { return };
    let node = site.node("a");
    let status = site.until("a", GatewayState::Refused).await;
    assert!(status.reason.is_some_and(|reason| reason.contains("authentication: CTP error 63")));
    after_two_retries().await;
    assert_eq!(site.asked("a", "trader", "ReqAuthenticate").len(), 1);
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 0);
    assert_no_secret(&node.end_by(Signal::SIGTERM).await.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_come_from_a_variable_and_a_file_and_are_never_shown() {
    let Some(site) = Site::start(json!({})).await else { return };
    let file = site.home.file("auth", &format!("{AUTH_CODE}\n"));
    let site = site.with(&format!("password = {{ env = \"A_TEST_PASSWORD\" }}\nauth_code = {{ file = {file:?} }}"));
    let node = site.node_with("a", &[("A_TEST_PASSWORD", PASSWORD), ("RUST_LOG", "trace,async_nats=warn")]);
    let status = site.until_ready("a").await;
    let record = |request: &str| site.asked("a", "trader", request)[0]["record"].clone();
    assert_eq!(record("ReqUserLogin")["Password"], PASSWORD);
    assert_eq!(record("ReqAuthenticate")["AuthCode"], AUTH_CODE);
    assert_no_secret(&serde_json::to_string(&status).expect("JSON"));
    assert_no_secret(&node.end_by(Signal::SIGTERM).await.err);
}

fn assert_no_secret(text: &str) {
    assert!(!text.is_empty());
    for secret in [PASSWORD, AUTH_CODE] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_the_counter_has_too_many_of_are_asked_again() {
    let too_many = |on: &str, times: u32, returns: i32| json!({"on": on, "times": times, "returns": returns});
    let Some(site) = Site::start(json!({"rules": [
        too_many("ReqQryInstrument", 3, -2),
        too_many("ReqQryOrder", 2, -3),
        too_many("ReqQryTrade", 1, -2),
        too_many("ReqQryInvestorPosition", 2, -2),
        too_many("ReqQryTradingAccount", 2, -3),
    ]}))
    .await
    else {
        return;
    };
    let node = site.node("a");
    let status = site.until_ready("a").await;
    assert_eq!(status.contracts, 2);
    let filled = order(1.0);
    site.gateway().send_order(&filled).await.expect("taken");
    site.until_order(&filled.orderid, OrderStatus::AllTraded).await;
    let accounts = site.gateway().query_account().await.expect("answered");
    assert_eq!(accounts.iter().map(|account| account.balance).collect::<Vec<_>>(), [1_000_000.0]);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_do_not_wait_for_a_query() {
    let account = json!({"AccountID": "012345", "Balance": 5.0, "Available": 5.0, "CurrencyID": "CNY"});
    let Some(site) = Site::start(json!({"rules": [
        {"on": "ReqQryTradingAccount", "times": 1, "tell": [{"call": "OnRspQryTradingAccount", "record": account}]},
        // From then on no answer comes.
        {"on": "ReqQryTradingAccount"},
    ]}))
    .await
    else {
        return;
    };
    let node = site.node("a");
    site.until_ready("a").await;
    eventually("a query under way", || async {
        (site.asked("a", "trader", "ReqQryTradingAccount").len() == 2).then_some(())
    })
    .await;
    let positions = || site.asked("a", "trader", "ReqQryInvestorPosition").len();
    let before = positions();
    for lots in 1..=5 {
        let filled = order(f64::from(lots));
        site.gateway().send_order(&filled).await.expect("taken");
        site.until_order(&filled.orderid, OrderStatus::AllTraded).await;
    }
    assert_eq!(positions(), before, "one query at a time");
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
