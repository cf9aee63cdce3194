//! One process, several gateways: what one suffers the others do not feel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::{Direction, GatewayState, Offset, OrderRequest};

use crate::support::script::{Script, factory, instrument};
use crate::support::{TestBroker, TestNode, eventually, send_order, until_ready, until_state};

fn order() -> OrderRequest {
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3500.0, 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stuck_in_its_venue_touches_no_other() {
    let broker = TestBroker::start().await;
    let (stuck, fine) = (Arc::new(Script::default()), Arc::new(Script::default()));
    let node = TestNode::start_with(&broker.url(), &crate::support::sim("sim1"), |node| {
        node.add_gateway("stuck", vec![], factory(stuck.clone())).expect("added");
        node.add_gateway("fine", vec![], factory(fine.clone())).expect("added");
    })
    .await;
    let client = broker.client().await;
    until_ready(&client, "stuck").await;
    until_ready(&client, "fine").await;
    stuck.hang();
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { send_order(&client, "stuck", &order()).await }
    });
    let mut heartbeats = client.subscribe("evt.status.fine").await.expect("subscribes");
    for _ in 0..20 {
        send_order(&client, "fine", &order()).await.expect("the other gateway takes orders");
    }
    futures::StreamExt::next(&mut heartbeats).await.expect("and beats on");
    assert_eq!(fine.submitted.lock().expect("no panic").len(), 20);
    assert!(!hanging.is_finished());
    stuck.release();
    hanging.await.expect("no panic").expect("taken once released");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_panics_is_started_again_and_its_orders_are_kept() {
    let broker = TestBroker::start().await;
    let (broken, fine) = (Arc::new(Script::default()), Arc::new(Script::default()));
    let node = TestNode::start_with(&broker.url(), &crate::support::sim("sim1"), |node| {
        node.add_gateway("broken", vec![], factory(broken.clone())).expect("added");
        node.add_gateway("fine", vec![], factory(fine.clone())).expect("added");
    })
    .await;
    let client = broker.client().await;
    let first = until_ready(&client, "broken").await;
    until_ready(&client, "fine").await;
    broken.panic.store(true, Ordering::SeqCst);
    let lost = order();
    let asked = tokio::spawn({
        let (client, lost) = (client.clone(), lost.clone());
        async move {
            let bytes = protocol::codec::encode(&lost).expect("encodes");
            let headers = crate::support::in_ms(1_000);
            client.request_with_headers("rpc.broken.send_order", headers, bytes.into()).await.is_ok()
        }
    });
    let second = eventually("the gateway to come back in a new epoch", || async {
        let reply = client.request("rpc.broken.get_status", "".into()).await.ok()?;
        let status: protocol::Status = protocol::codec::decode(&reply.payload).ok()?;
        (status.epoch > first.epoch && status.state == GatewayState::Ready).then_some(status)
    })
    .await;
    assert!(second.epoch > first.epoch);
    asked.abort();
    // The intent was stored before the venue was asked: the order is known, and known not to be working.
    let kept = send_order(&client, "broken", &lost).await.expect("its state");
    assert_eq!(kept.status, protocol::OrderStatus::Rejected);
    assert!(broken.submitted.lock().expect("no panic").is_empty(), "it is not sent a second time");
    send_order(&client, "fine", &order()).await.expect("the other gateway never noticed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_retried_unless_the_venue_refuses() {
    let broker = TestBroker::start().await;
    let (slow, refused) = (Arc::new(Script::default()), Arc::new(Script::default()));
    slow.failing_logins.store(2, Ordering::SeqCst);
    refused.refuse.store(true, Ordering::SeqCst);
    let node = TestNode::start_with(&broker.url(), &crate::support::sim("sim1"), |node| {
        node.add_gateway("slow", vec![], factory(slow.clone())).expect("added");
        node.add_gateway("refused", vec![], factory(refused.clone())).expect("added");
    })
    .await;
    let client = broker.client().await;
    let status = until_state(&client, "refused", GatewayState::Refused).await;
    assert_eq!(status.reason.as_deref(), Some("wrong password"));
    until_ready(&client, "slow").await;
    assert_eq!(slow.logins.load(Ordering::SeqCst), 3);
    assert_eq!(refused.logins.load(Ordering::SeqCst), 1, "a refused login is not hammered");
    refused.refuse.store(false, Ordering::SeqCst);
    crate::support::call(&client, "refused", "connect", "{}").await.expect("an operator may");
    until_ready(&client, "refused").await;
    node.stop().await;
}
