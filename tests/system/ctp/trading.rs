//! A day at the counter: what it accepts, fills, refuses, cancels, repeats, and never answers.

use std::time::{Duration, Instant};

use client_sdk::Error;
use nix::sys::signal::Signal;
use protocol::{CancelRequest, ErrorCode, OrderStatus, Trade};
use serde_json::json;

use super::site::{FAMILIES, Site, depth, instrument, order, plan};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn orders_ticks_refusals_and_cancels_of_both_binary_interfaces() {
    for family in FAMILIES {
        let script = json!({"orders": [
            plan(1, "fill", json!({})),
            plan(2, "accept", json!({})),
            plan(3, "refuse", json!({})),
            plan(4, "refuse_err", json!({})),
            plan(5, "part", json!({"volume": 2})),
            plan(6, "refuse_by_exchange", json!({})),
            plan(7, "accept", json!({"cancel": "refuse_err"})),
        ]});
        let Some(site) = Site::of_family(script, family).await else { return };
        let node = site.node("a");
        let status = site.until_ready("a").await;
        assert_eq!(status.venue.matches(family.0).count(), 2, "both libraries' versions: {}", status.venue);
        assert_eq!(status.contracts, 2);
        let gateway = site.gateway();

        eventually("a subscription", || async {
            (!site.asked("a", "market", "SubscribeMarketData").is_empty()).then_some(())
        })
        .await;
        site.tell("a", "market", &depth(3001.0, 7));
        let tick = eventually("a tick", || async { gateway.get_tick(&instrument()).await.ok()? }).await.data;
        assert_eq!((tick.last_price, tick.volume), (Some(3001.0), Some(7.0)));
        assert_eq!((tick.bids[0].0, tick.bids[0].1), (3000.0, 5.0));

        let filled = order(1.0);
        gateway.send_order(&filled).await.expect("taken");
        let order_filled = site.until_order(&filled.orderid, OrderStatus::AllTraded).await;
        assert_eq!(order_filled.venue_reference.as_deref(), Some("20261123.1.1001/1"));
        let trades =
            eventually("a trade", || async { gateway.get_all_trades().await.ok().filter(|trades| !trades.is_empty()) })
                .await;
        assert_eq!(
            trades.iter().map(|trade| (&trade.orderid, trade.volume)).collect::<Vec<_>>(),
            [(&filled.orderid, 1.0)]
        );

        for (lots, words) in [(3.0, "资金不足"), (4.0, "资金不足"), (6.0, "已撤单报单被拒绝")] {
            let refused = order(lots);
            gateway.send_order(&refused).await.expect("taken");
            let rejected = site.until_order(&refused.orderid, OrderStatus::Rejected).await;
            assert!(rejected.reason.as_deref().is_some_and(|reason| reason.contains(words)), "{rejected:?}");
        }

        let rests = order(2.0);
        gateway.send_order(&rests).await.expect("taken");
        site.until_order(&rests.orderid, OrderStatus::NotTraded).await;
        gateway.cancel_order(&CancelRequest::new(rests.orderid.clone())).await.expect("sent");
        let cancelled = site.until_order(&rests.orderid, OrderStatus::Cancelled).await;
        assert_eq!(cancelled.reason.as_deref(), Some("已撤单"));
        let again = gateway.cancel_order(&CancelRequest::new(rests.orderid.clone())).await;
        assert!(matches!(again, Err(Error::Rpc(error)) if error.code == ErrorCode::OrderNotActive));

        let partly = order(5.0);
        gateway.send_order(&partly).await.expect("taken");
        assert_eq!(site.until_order(&partly.orderid, OrderStatus::PartTraded).await.traded, 2.0);
        gateway.cancel_order(&CancelRequest::new(partly.orderid.clone())).await.expect("sent");
        assert_eq!(site.until_order(&partly.orderid, OrderStatus::Cancelled).await.traded, 2.0);

        // A cancel that the counter refuses changes nothing.
        let stays = order(7.0);
        gateway.send_order(&stays).await.expect("taken");
        site.until_order(&stays.orderid, OrderStatus::NotTraded).await;
        gateway.cancel_order(&CancelRequest::new(stays.orderid.clone())).await.expect("sent");
        eventually("the cancel to arrive", || async {
            (site.asked("a", "trader", "ReqOrderAction").len() == 3).then_some(())
        })
        .await;
        gateway.query_account().await.expect("answered, behind the refusal");
        assert_eq!(site.order(&stays.orderid).await.expect("known").status, OrderStatus::NotTraded);
        assert_eq!(site.sent("a").len(), 7);
        assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_twice_or_before_its_order_changes_nothing() {
    let script = json!({"orders": [
        plan(1, "fill", json!({"twice": true, "trade_first": true})),
        plan(2, "part", json!({"volume": 1, "twice": true, "trade_first": true})),
    ]});
    let Some(site) = Site::start(script).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let gateway = site.gateway();
    let (whole, part) = (order(1.0), order(2.0));
    gateway.send_order(&whole).await.expect("taken");
    gateway.send_order(&part).await.expect("taken");
    site.until_order(&whole.orderid, OrderStatus::AllTraded).await;
    site.until_order(&part.orderid, OrderStatus::PartTraded).await;
    // A trade of an order that nobody has told of yet, as the exchange's word may overtake the counter's.
    site.tell(
        "a",
        "trader",
        &json!({"call": "OnRtnTrade", "record": {
            "InstrumentID": "rb2701", "ExchangeID": "SHFE", "OrderSysID": "        9001", "TradeID": "        8001",
            "Direction": "0", "OffsetFlag": "0", "Price": 3000.0, "Volume": 3, "TradeDate": "20261122",
            "TradeTime": "21:00:02", "TradingDay": "20261123", "OrderRef": "77",
        }}),
    );
    let its_order = json!({"call": "OnRtnOrder", "record": {
        "InstrumentID": "rb2701", "ExchangeID": "SHFE", "OrderSysID": "        9001", "OrderRef": "77", "FrontID": 3,
        "SessionID": 9, "OrderPriceType": "2", "Direction": "0", "CombOffsetFlag": "0", "CombHedgeFlag": "1",
        "LimitPrice": 3000.0, "VolumeTotalOriginal": 3, "VolumeTraded": 3, "TimeCondition": "3",
        "VolumeCondition": "1", "OrderStatus": "0", "OrderSubmitStatus": "3", "TradingDay": "20261123",
        "InsertDate": "20261122", "InsertTime": "21:00:02",
    }});
    site.tell("a", "trader", &its_order);
    site.tell("a", "trader", &its_order);
    let trades: Vec<Trade> =
        eventually("three trades", || async { gateway.get_all_trades().await.ok().filter(|trades| trades.len() >= 3) })
            .await;
    let mut volumes: Vec<f64> = trades.iter().map(|trade| trade.volume).collect();
    volumes.sort_by(f64::total_cmp);
    assert_eq!(volumes, [1.0, 1.0, 3.0], "{trades:?}");
    let orders = gateway.get_all_orders().await.expect("a list");
    assert_eq!(orders.len(), 3, "ours, and one of another terminal: {orders:?}");
    assert!(orders.iter().any(|order| order.owner == "external" && order.traded == 3.0), "{orders:?}");
    assert_eq!(site.order(&part.orderid).await.expect("known").traded, 1.0);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_order_is_looked_up_and_never_sent_twice() {
    let script = json!({"orders": [plan(1, "unheard", json!({})), plan(2, "silent", json!({}))]});
    let Some(site) = Site::start(script).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let gateway = site.gateway().with_timeout(Duration::from_secs(8));
    let lookups = site.asked("a", "trader", "ReqQryOrder").len();
    let (listed, lost) = (order(1.0), order(2.0));
    let began = Instant::now();
    gateway.send_order(&listed).await.expect("taken");
    gateway.send_order(&lost).await.expect("taken");
    // The same requests again, as a client does who is in doubt.
    for request in [&listed, &lost] {
        assert_eq!(gateway.send_order(request).await.expect("its state").status, OrderStatus::Submitting);
    }
    site.until_order(&listed.orderid, OrderStatus::NotTraded).await;
    let rejected = eventually("the lost order to be given up", || async {
        let order = site.order(&lost.orderid).await?;
        if began.elapsed() < Duration::from_secs(8) {
            assert_eq!(order.status, OrderStatus::Submitting, "it could still arrive");
        }
        (order.status == OrderStatus::Rejected).then_some(order)
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(9), "given up before its deadline and the lease were over");
    assert!(rejected.reason.as_deref().is_some_and(|reason| reason.contains("never reached")), "{rejected:?}");
    assert!(site.asked("a", "trader", "ReqQryOrder").len() >= lookups + 2, "looked up, and once more at the end");
    assert_eq!(site.sent("a").len(), 2, "neither was sent again");
    gateway.cancel_order(&CancelRequest::new(listed.orderid.clone())).await.expect("it can be cancelled");
    site.until_order(&listed.orderid, OrderStatus::Cancelled).await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_end_was_lost_is_found_out_by_the_refusal_of_its_cancel() {
    let script = json!({"orders": [plan(1, "accept", json!({"cancel": "late"}))]});
    let Some(site) = Site::start(script).await else { return };
    let node = site.node("a");
    site.until_ready("a").await;
    let gateway = site.gateway();
    let order = order(1.0);
    gateway.send_order(&order).await.expect("taken");
    site.until_order(&order.orderid, OrderStatus::NotTraded).await;
    let lookups = site.asked("a", "trader", "ReqQryOrder").len();
    gateway.cancel_order(&CancelRequest::new(order.orderid.clone())).await.expect("sent");
    let ended = site.until_order(&order.orderid, OrderStatus::Cancelled).await;
    assert_eq!(ended.reason.as_deref(), Some("已撤单"));
    assert_eq!(site.asked("a", "trader", "ReqQryOrder").len(), lookups + 1);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
