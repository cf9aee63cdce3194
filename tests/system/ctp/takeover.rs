//! Nodes that are killed with orders at the counter, and what the next one finds.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use protocol::{CancelRequest, OrderRequest, OrderStatus};
use serde_json::json;
use tokio::task::JoinSet;

use super::site::{Site, order, plan};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_there_under_their_ids_after_a_kill() {
    let script = json!({"orders": [plan(2, "accept", json!({})), plan(5, "part", json!({"volume": 2}))]});
    let Some(site) = Site::start(script).await else { return };
    let node = site.node("a");
    let first = site.until_ready("a").await;
    let gateway = site.gateway();
    let (filled, rests, part) = (order(1.0), order(2.0), order(5.0));
    let expected =
        [(&filled, OrderStatus::AllTraded), (&rests, OrderStatus::NotTraded), (&part, OrderStatus::PartTraded)];
    for (request, status) in expected {
        gateway.send_order(request).await.expect("taken");
        site.until_order(&request.orderid, status).await;
    }
    let trades =
        eventually("both fills", || async { gateway.get_all_trades().await.ok().filter(|trades| trades.len() == 2) })
            .await;
    assert_eq!(node.end_by(Signal::SIGKILL).await.code, 137);

    let node = site.node("a");
    eventually("the next epoch to be ready", || async {
        let status = gateway.get_status().await.ok()?;
        (status.epoch > first.epoch && status.state == protocol::GatewayState::Ready).then_some(())
    })
    .await;
    for (request, status) in expected {
        assert_eq!(site.order(&request.orderid).await.map(|order| order.status), Some(status));
        // Sent again under its id it is not a second one.
        assert_eq!(gateway.send_order(request).await.expect("its state").status, status);
    }
    assert_eq!(gateway.get_all_trades().await.expect("a list"), trades);
    assert_eq!(site.sent("a").len(), 3);
    let new = order(2.0);
    gateway.send_order(&new).await.expect("taken");
    let reference = site.until_order(&new.orderid, OrderStatus::NotTraded).await.venue_reference;
    assert_eq!(reference.as_deref(), Some("20261123.1.1002/1"));
    for request in [&rests, &part, &new] {
        gateway.cancel_order(&CancelRequest::new(request.orderid.clone())).await.expect("sent");
        site.until_order(&request.orderid, OrderStatus::Cancelled).await;
    }
    assert_eq!(gateway.get_all_orders().await.expect("a list").len(), 4);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

/// Two nodes with the same gateway; the leader is killed with orders on their way. Each order has its number of lots
/// for a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_and_nothing_is_sent_twice_or_forgotten() {
    let Some(site) = Site::start(json!({"orders": [plan(500, "accept", json!({}))]})).await else { return };
    let leader = site.node("a");
    let led = site.until_ready("a").await;
    let mut standby = site.node("b");
    standby.until("it to stand by", |p| p.err().contains("ctp1 trading").then_some(())).await;
    let rests = order(500.0);
    site.gateway().send_order(&rests).await.expect("taken");
    site.until_order(&rests.orderid, OrderStatus::NotTraded).await;
    assert_eq!(site.asked("b", "trader", "Init").len(), 0, "only who leads logs in");

    let next = Arc::new(AtomicU32::new(1));
    let requests: Arc<Mutex<Vec<OrderRequest>>> = Arc::default();
    let mut senders = JoinSet::new();
    for _ in 0..6 {
        let (gateway, next, requests) =
            (site.gateway().with_timeout(Duration::from_secs(3)), next.clone(), requests.clone());
        senders.spawn(async move {
            while let lots @ ..=300 = next.fetch_add(1, Ordering::SeqCst) {
                let request = order(f64::from(lots));
                requests.lock().expect("no panic").push(request.clone());
                if gateway.send_order(&request).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
    }
    eventually("orders on their way", || async { (next.load(Ordering::SeqCst) >= 60).then_some(()) }).await;
    assert_eq!(leader.end_by(Signal::SIGKILL).await.code, 137);
    let taken_over = site.until_ready("b").await;
    assert!(taken_over.epoch > led.epoch);
    while let Some(ended) = senders.join_next().await {
        ended.expect("no panic");
    }
    assert_eq!(site.order(&rests.orderid).await.expect("known").status, OrderStatus::NotTraded);
    let orders = eventually("every order to be settled", || async {
        let orders = site.gateway().get_all_orders().await.ok()?;
        orders.iter().all(|order| order.status != OrderStatus::Submitting).then_some(orders)
    })
    .await;
    let requests = requests.lock().expect("no panic").clone();
    let ours: HashSet<_> = requests.iter().chain([&rests]).map(|request| request.orderid.clone()).collect();
    assert!(orders.iter().all(|order| ours.contains(&order.orderid)), "an order of nobody's: {orders:?}");
    let references: HashSet<_> = orders.iter().filter_map(|order| order.venue_reference.clone()).collect();
    let referring = orders.iter().filter(|order| order.venue_reference.is_some()).count();
    assert_eq!(references.len(), referring, "no reference stands for two orders");

    let sent: Vec<u64> = ["a", "b"]
        .iter()
        .flat_map(|node| site.sent(node))
        .filter(|asked| asked["returned"] == 0)
        .map(|asked| asked["record"]["VolumeTotalOriginal"].as_u64().expect("lots"))
        .collect();
    let distinct: HashSet<u64> = sent.iter().copied().collect();
    assert_eq!(distinct.len(), sent.len(), "an order was sent twice");
    for lots in distinct {
        assert!(orders.iter().any(|order| order.volume == lots as f64), "{lots} lots were sent and are forgotten");
    }
    let filled: f64 = orders.iter().filter(|o| o.status == OrderStatus::AllTraded).map(|o| o.volume).sum();
    let trades = site.gateway().get_all_trades().await.expect("a list");
    assert_eq!(trades.iter().map(|trade| trade.volume).sum::<f64>(), filled);
    site.gateway().cancel_order(&CancelRequest::new(rests.orderid.clone())).await.expect("sent");
    site.until_order(&rests.orderid, OrderStatus::Cancelled).await;
    assert_eq!(standby.end_by(Signal::SIGTERM).await.code, 0);
}
