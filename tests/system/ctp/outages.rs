//! Fronts that are lost: while they are asked, in the middle of trading, and of market data alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use protocol::{CancelRequest, OrderRequest, OrderStatus};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::site::{Site, depth, instrument, lose_front, order, plan};
use crate::support::eventually;

/// The front is gone when it is asked for this, once, and back a moment later.
fn lost_at(request: &str) -> Value {
    let back = json!({"call": "OnFrontConnected", "after_ms": 50});
    json!({"on": request, "times": 1, "tell": [{"call": "OnFrontDisconnected", "number": 0x1001}, back]})
}

async fn until_logins(site: &Site, count: usize) {
    eventually("another login", || async { (site.asked("a", "trader", "ReqUserLogin").len() >= count).then_some(()) })
        .await;
    site.until_ready("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_that_is_lost_while_it_is_asked_is_asked_anew() {
    let requests = ["ReqSettlementInfoConfirm", "ReqQryInstrument", "ReqQryTrade"];
    let Some(site) = Site::start(json!({"rules": requests.map(lost_at)})).await else { return };
    let node = site.node("a");
    let status = site.until_ready("a").await;
    assert_eq!(status.contracts, 2);
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 4, "one of the first and one after each loss");
    let filled = order(1.0);
    site.gateway().send_order(&filled).await.expect("taken");
    let reference = site.until_order(&filled.orderid, OrderStatus::AllTraded).await.venue_reference;
    assert_eq!(reference.as_deref(), Some("20261123.1.1004/1"));
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_that_takes_the_connection_and_says_nothing_is_left_for_the_next() {
    let script = json!({"silent_front": "tcp://127.0.0.1:1"});
    let Some(site) = Site::start(script).await else { return };
    let site = site.with("trader_fronts = [\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:3\"]");
    let node = site.node("a");
    site.until_ready("a").await;
    let fronts: Vec<Value> = site.asked("a", "trader", "RegisterFront");
    let named = |at: usize| fronts.get(at).map(|front| front["arguments"][0].clone());
    assert_eq!(fronts.len(), 4, "two objects, and each knows both: {fronts:?}");
    assert_eq!((named(0), named(2)), (Some(json!("tcp://127.0.0.1:1")), Some(json!("tcp://127.0.0.1:3"))));
    let sent = order(1.0);
    site.gateway().send_order(&sent).await.expect("taken");
    site.until_order(&sent.orderid, OrderStatus::AllTraded).await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_day_is_replayed_and_nothing_is_doubled_or_lost() {
    let script = json!({"orders": [plan(2, "accept", json!({})), plan(5, "part", json!({"volume": 2}))]});
    let Some(site) = Site::start(script).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let gateway = site.gateway();
    let (filled, rests, part) = (order(1.0), order(2.0), order(5.0));
    for request in [&filled, &rests, &part] {
        gateway.send_order(request).await.expect("taken");
    }
    let expected =
        [(&filled, OrderStatus::AllTraded), (&rests, OrderStatus::NotTraded), (&part, OrderStatus::PartTraded)];
    for (request, status) in expected {
        site.until_order(&request.orderid, status).await;
    }
    let trades =
        eventually("both fills", || async { gateway.get_all_trades().await.ok().filter(|trades| trades.len() == 2) })
            .await;
    for round in 2..=4 {
        lose_front(&site, "a", "trader");
        until_logins(&site, round).await;
        for (request, status) in expected {
            assert_eq!(site.order(&request.orderid).await.map(|order| order.status), Some(status));
        }
        assert_eq!(gateway.get_all_trades().await.expect("a list"), trades);
    }
    assert_eq!(gateway.get_all_orders().await.expect("a list").len(), 3);
    assert_eq!(site.sent("a").len(), 3);
    // Orders of the first session are cancelled in the fourth; a new one has that session's own reference.
    for request in [&rests, &part] {
        gateway.cancel_order(&CancelRequest::new(request.orderid.clone())).await.expect("sent");
        site.until_order(&request.orderid, OrderStatus::Cancelled).await;
    }
    let new = order(1.0);
    gateway.send_order(&new).await.expect("taken");
    let reference = site.until_order(&new.orderid, OrderStatus::AllTraded).await.venue_reference;
    assert_eq!(reference.as_deref(), Some("20261123.1.1004/1"));
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

/// As many orders as the contract's largest has lots.
const MOST: u32 = 500;

/// Orders go out all the time while the front is lost again and again. Each has its number of lots for a name.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_slips_into_a_session_that_its_reference_does_not_belong_to() {
    // Its orders are many: it need not write each of them down.
    let Some(site) = Site::start(json!({"counter": null})).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let (next, taken_count) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..6 {
        let (gateway, next, taken_count) =
            (site.gateway().with_timeout(Duration::from_secs(2)), next.clone(), taken_count.clone());
        senders.spawn(async move {
            let mut sent: Vec<OrderRequest> = Vec::new();
            loop {
                let lots = next.fetch_add(1, Ordering::SeqCst);
                if lots > MOST {
                    return sent;
                }
                let request = order(f64::from(lots));
                // Refused while there is no session, or of unknown outcome: both belong to it.
                match gateway.send_order_once(&request).await {
                    Ok(_) => _ = taken_count.fetch_add(1, Ordering::SeqCst),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
                // Or they would all be taken before the counter loses its front.
                tokio::time::sleep(Duration::from_millis(10)).await;
                sent.push(request);
            }
        });
    }
    for round in 2..=4 {
        let enough = taken_count.load(Ordering::SeqCst) + 20;
        eventually("orders on their way", || async { (taken_count.load(Ordering::SeqCst) >= enough).then_some(()) })
            .await;
        lose_front(&site, "a", "trader");
        until_logins(&site, round).await;
    }
    let mut requests = Vec::new();
    while let Some(sent) = senders.join_next().await {
        requests.extend(sent.expect("no panic"));
    }
    let orders = eventually("every order to be settled", || async {
        let orders = site.gateway().get_all_orders().await.ok()?;
        orders.iter().all(|order| order.status != OrderStatus::Submitting).then_some(orders)
    })
    .await;
    let ours: HashSet<_> = requests.iter().map(|request| request.orderid.clone()).collect();
    assert!(orders.iter().all(|order| ours.contains(&order.orderid)), "an order of nobody's: {orders:?}");

    // What the library took, under the name that the session of that moment gives it.
    let mut session = 1000;
    let mut taken: HashMap<String, f64> = HashMap::new();
    for asked in site.everything_asked("a") {
        if asked["request"] == "ReqUserLogin" {
            session += 1;
        } else if asked["request"] == "ReqOrderInsert" && asked["returned"] == 0 {
            let record = &asked["record"];
            let name = format!("20261123.1.{session}/{}", record["OrderRef"].as_str().expect("a reference").trim());
            let lots = record["VolumeTotalOriginal"].as_f64().expect("lots");
            assert!(taken.insert(name.clone(), lots).is_none(), "{name} stands for two orders");
        }
    }
    let lots: BTreeSet<u64> = taken.values().map(|lots| *lots as u64).collect();
    assert_eq!(lots.len(), taken.len(), "an order was sent twice");
    let by_reference: HashMap<String, f64> =
        orders.iter().filter_map(|order| Some((order.venue_reference.as_deref()?.to_owned(), order.volume))).collect();
    for (name, lots) in &taken {
        assert_eq!(by_reference.get(name), Some(lots), "{name} was sent as another order, or in another session");
    }
    let filled: f64 = orders.iter().filter(|o| o.status == OrderStatus::AllTraded).map(|o| o.volume).sum();
    let trades = site.gateway().get_all_trades().await.expect("a list");
    assert_eq!(trades.iter().map(|trade| trade.volume).sum::<f64>(), filled);
    assert!(filled > 0.0 && taken.len() > 60, "{} were sent", taken.len());
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn market_data_is_subscribed_again_after_an_outage_of_its_own() {
    let Some(site) = Site::start(json!({})).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let subscribed = |times: usize| {
        let site = &site;
        async move {
            eventually("subscriptions", || async {
                let asked = site.asked("a", "market", "SubscribeMarketData");
                let symbols = asked.iter().flat_map(|asked| asked["arguments"].as_array().cloned().unwrap_or_default());
                (symbols.filter(|symbol| symbol == "rb2701").count() == times).then_some(())
            })
            .await;
        }
    };
    let price = |price: f64| {
        let site = &site;
        async move {
            eventually("a tick", || async {
                let tick = site.gateway().get_tick(&instrument()).await.ok()??;
                (tick.data.last_price == Some(price)).then_some(())
            })
            .await;
        }
    };
    subscribed(1).await;
    site.tell("a", "market", &depth(3001.0, 1));
    price(3001.0).await;
    for round in 2..=3 {
        lose_front(&site, "a", "market");
        subscribed(round).await;
        let next = 3000.0 + round as f64;
        site.tell("a", "market", &depth(next, 1 + round as i64));
        price(next).await;
    }
    assert_eq!(site.asked("a", "market", "ReqUserLogin").len(), 3);
    assert_eq!(site.asked("a", "trader", "ReqUserLogin").len(), 1, "trading has nothing to do with it");
    // Nor has market data with an outage of the trader front: ticks go on, and are not asked for anew.
    lose_front(&site, "a", "trader");
    until_logins(&site, 2).await;
    site.tell("a", "market", &depth(3_009.0, 9));
    price(3_009.0).await;
    subscribed(3).await;
    assert_eq!(site.asked("a", "market", "UnSubscribeMarketData").len(), 0);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
