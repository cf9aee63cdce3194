//! Restarts: of the node, of the broker, at good and at bad moments.

use protocol::{Direction, GatewayState, Offset, Order, OrderRequest, OrderStatus, Position, Trade};

use crate::support::script::instrument;
use crate::support::{TestBroker, TestNode, eventually, list, send_order, sim, until_ready};

fn resting() -> OrderRequest {
    // Far below a market around 3600, and inside its limits: it rests.
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3300.0, 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_goes_on_from_its_journal() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let first = until_ready(&client, "sim1").await;
    let (bought, rests) = (OrderRequest::market(instrument(), Direction::Long, Offset::Open, 2.0), resting());
    eventually("a tick", || async {
        let tick = crate::support::call(&client, "sim1", "get_tick", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await;
        tick.ok().filter(|t| !t.is_null())
    })
    .await;
    send_order(&client, "sim1", &bought).await.expect("taken");
    send_order(&client, "sim1", &rests).await.expect("taken");
    let trades: Vec<Trade> = eventually("fills", || async {
        let trades: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
        let active: Vec<Order> = list(&client, "sim1", "get_all_active_orders").await;
        let volume: f64 = trades.iter().map(|t| t.volume).sum();
        (volume == 2.0 && active.len() == 1).then_some(trades)
    })
    .await;
    node.stop().await;

    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let second = until_ready(&client, "sim1").await;
    assert!(second.epoch > first.epoch, "{} is not above {}", second.epoch, first.epoch);
    let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
    let lost = orders.iter().find(|o| o.orderid == rests.orderid).expect("kept");
    assert_eq!(lost.status, OrderStatus::Cancelled);
    assert!(lost.reason.as_deref().is_some_and(|r| !r.is_empty()), "and says why");
    let filled = orders.iter().find(|o| o.orderid == bought.orderid).expect("kept");
    assert_eq!(filled.status, OrderStatus::AllTraded);
    let kept: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
    assert_eq!(kept, trades);
    let positions: Vec<Position> = list(&client, "sim1", "get_all_positions").await;
    assert_eq!(positions.iter().map(|p| p.volume).sum::<f64>(), 2.0, "paper positions outlive the node");

    let again = send_order(&client, "sim1", &rests).await.expect("its state");
    assert_eq!(again.status, OrderStatus::Cancelled, "an old id is never a new order");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_no_order() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&client, "sim1").await;
    let before = resting();
    send_order(&client, "sim1", &before).await.expect("taken");
    let broker = broker.restart().await;
    let client = broker.client().await;
    let status = until_ready(&client, "sim1").await;
    assert_eq!((status.epoch, status.state), (1, GatewayState::Ready), "the same leadership goes on");
    let after = resting();
    eventually("an order to be taken", || async { send_order(&client, "sim1", &after).await.ok() }).await;
    let active: Vec<Order> = list(&client, "sim1", "get_all_active_orders").await;
    let ids: Vec<_> = active.iter().map(|o| &o.orderid).collect();
    assert!(ids.contains(&&before.orderid) && ids.contains(&&after.orderid), "{ids:?}");
    assert_eq!(ids.len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_orders_and_lets_cancels_and_successors_in() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut config = crate::support::config(&broker.url(), &sim("sim1"));
    config.journal.max_bytes = 400_000;
    let start = || {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let node = tokio::spawn(gateway_node::run(config.clone(), async {
            let _ = stopped.await;
        }));
        (stop, node)
    };
    let (stop, node) = start();
    let first = until_ready(&client, "sim1").await;
    let rests = resting();
    send_order(&client, "sim1", &rests).await.expect("taken");
    let order = async |request: &OrderRequest| {
        let params = serde_json::json!({ "orderid": request.orderid }).to_string();
        let order = crate::support::call(&client, "sim1", "get_order", &params).await.expect("answered");
        serde_json::from_value::<Order>(order).expect("an order")
    };
    let cancel = async |request: &OrderRequest| {
        let params = serde_json::json!({ "orderid": request.orderid }).to_string();
        let headers = crate::support::in_ms(10_000);
        crate::support::call_with(&client, "sim1", "cancel_order", params.as_bytes(), headers).await.expect("taken");
        eventually("the cancel to be journalled", async || {
            (order(request).await.status == OrderStatus::Cancelled).then_some(())
        })
        .await;
    };
    let mut last = None;
    let mut sent = 0;
    let refused = loop {
        let request = resting();
        if let Err(error) = send_order(&client, "sim1", &request).await {
            break error;
        }
        if let Some(last) = last.replace(request) {
            cancel(&last).await;
        }
        sent += 1;
        assert!(sent < 2_000, "400 kB hold no two thousand orders");
    };
    assert_eq!(refused.code, protocol::ErrorCode::StorageFull, "{refused}");
    cancel(&last.expect("some were taken")).await;
    let _ = stop.send(());
    tokio::time::timeout(crate::support::PATIENCE, node).await.expect("stops").expect("no panic").expect("no error");

    // There is room for the next leader, and for what it finds out.
    let (stop, node) = start();
    let second = until_ready(&client, "sim1").await;
    assert!(second.epoch > first.epoch, "{} is not above {}", second.epoch, first.epoch);
    assert_eq!(order(&rests).await.status, OrderStatus::Cancelled, "its venue died with the node");
    eventually("what little room is left to be used up", async || {
        let refused = send_order(&client, "sim1", &resting()).await.err()?;
        assert_eq!(refused.code, protocol::ErrorCode::StorageFull, "{refused}");
        Some(())
    })
    .await;
    let _ = stop.send(());
    tokio::time::timeout(crate::support::PATIENCE, node).await.expect("stops").expect("no panic").expect("no error");
}
