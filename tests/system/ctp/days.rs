//! What a counter's next trading day leaves of the orders of the day before, which it lists no more.

use nix::sys::signal::Signal;
use protocol::OrderStatus;
use serde_json::json;

use super::site::{Site, order, plan};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_day_order_that_the_exchange_dropped_ends_on_the_next_day_and_not_before() {
    let script = json!({"orders": [plan(2, "accept", json!({})), plan(3, "accept", json!({}))]});
    let Some(mut site) = Site::start(script).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let gateway = site.gateway();
    let rests = order(2.0);
    gateway.send_order(&rests).await.expect("taken");
    let reference = site.until_order(&rests.orderid, OrderStatus::NotTraded).await.venue_reference;
    assert!(reference.as_deref().is_some_and(|reference| reference.starts_with("20261123.")), "{reference:?}");

    // The counter forgets it within the day: another session of that day might be heard of yet.
    node.end_by(Signal::SIGKILL).await;
    site.forget_orders();
    let node = site.node("b");
    site.until_ready("b").await;
    eventually("a word on what is missing", || async { node.err().contains("are not in the venue").then_some(()) })
        .await;
    assert_eq!(site.order(&rests.orderid).await.map(|order| order.status), Some(OrderStatus::NotTraded));

    node.end_by(Signal::SIGKILL).await;
    site.forget_orders();
    site.begin_day("20261124");
    let node = site.node("c");
    let status = site.until_ready("c").await;
    assert_eq!(status.trading_day.map(|day| day.to_string()).as_deref(), Some("2026-11-24"));
    let ended = site.until_order(&rests.orderid, OrderStatus::Cancelled).await;
    assert!(ended.reason.as_deref().is_some_and(|reason| reason.contains("trading day is over")), "{ended:?}");
    let today = order(3.0);
    gateway.send_order(&today).await.expect("taken");
    let reference = site.until_order(&today.orderid, OrderStatus::NotTraded).await.venue_reference;
    assert!(reference.as_deref().is_some_and(|reference| reference.starts_with("20261124.")), "{reference:?}");
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
