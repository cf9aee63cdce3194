//! What a careless or hostile user does to a node and its broker: orders are neither lost nor doubled by it.

use std::sync::Arc;

use futures::StreamExt as _;
use protocol::{Direction, ErrorCode, GatewayState, Offset, OrderRequest, Status, codec};

use crate::support::script::{Script, factory, instrument};
use crate::support::{TestBroker, TestNode, call, call_with, eventually, in_ms, read, send_order, sim, until_ready};

fn resting() -> OrderRequest {
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3300.0, 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_everything_is_too_old() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&client, "sim1").await;
    for after in [u64::MAX, u64::MAX - 1, 1_000_000] {
        let error = call(&client, "sim1", "get_events", &format!("{{\"after\":{after}}}")).await.expect_err("refused");
        assert_eq!(error.code, ErrorCode::TooOld, "{error}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cannot_be_directed_into_the_journal() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let before = until_ready(&client, "sim1").await;
    for method in ["get_status", "get_all_orders", "send_order", "no_such_method"] {
        let forged = "journal.sim1.pub.order.a.SHFE.sim1.default";
        client.publish_with_reply(format!("rpc.sim1.{method}"), forged, "{}".into()).await.expect("sent");
    }
    send_order(&client, "sim1", &resting()).await.expect("taken");
    let after = until_ready(&client, "sim1").await;
    assert_eq!(after.epoch, before.epoch, "the same leadership goes on");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_journal_is_told_and_not_begun_anew() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let script = Arc::new(Script::default());
    let node = TestNode::start_with(&broker.url(), &sim("sim1"), |node| {
        node.add_gateway("venue", vec![], factory(script.clone())).expect("added");
    })
    .await;
    let epoch = until_ready(&client, "venue").await.epoch;
    let order = resting();
    send_order(&client, "venue", &order).await.expect("taken");
    let mut heartbeats = client.subscribe("evt.status.venue").await.expect("subscribes");
    let jetstream = async_nats::jetstream::new(client.clone());
    jetstream.delete_stream("JOURNAL_venue").await.expect("deleted");
    // Finds out with the next entry.
    let bytes = codec::encode(&resting()).expect("encodes");
    let unanswered = client.request_with_headers("rpc.venue.send_order", in_ms(30_000), bytes.into());
    let reply = tokio::time::timeout(crate::support::PATIENCE, unanswered).await.expect("in time").expect("answered");
    assert_eq!(read(&reply).expect_err("not stored, not sent").code, ErrorCode::ShuttingDown);
    let failed = loop {
        let heartbeat = heartbeats.next().await.expect("heartbeats");
        let status: protocol::Event<Status> = codec::decode(&heartbeat.payload).expect("a status");
        if status.data.state == GatewayState::Failed && status.data.reason.as_deref().unwrap_or("").contains("Restore")
        {
            break status;
        }
    };
    assert_eq!((failed.epoch, failed.data.epoch), (epoch, epoch), "under the epoch that clients know");
    assert!(jetstream.get_stream("JOURNAL_venue").await.is_err(), "nothing takes its place");
    assert_eq!(script.submitted.lock().expect("no panic").len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_in_vain_do_not_shut_out_those_who_want_out() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let config = crate::support::config(&broker.url(), &sim("sim1"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let node = tokio::spawn(gateway_node::run(config, async {
        let _ = stopped.await;
    }));
    until_ready(&client, "sim1").await;
    let working = resting();
    send_order(&client, "sim1", &working).await.expect("taken");
    // Somebody takes the rest of its room away.
    let jetstream = async_nats::jetstream::new(client.clone());
    let info = jetstream.get_stream("JOURNAL_sim1").await.expect("a stream").get_info().await.expect("its state");
    let max_bytes = i64::try_from(info.state.bytes).expect("few") + 1;
    let smaller = async_nats::jetstream::stream::Config { max_bytes, ..info.config };
    jetstream.update_stream(smaller).await.expect("updated");
    eventually("a full journal", || async {
        let bytes = codec::encode(&resting()).expect("encodes");
        let call = client.request_with_headers("rpc.sim1.send_order", in_ms(500), bytes.into());
        let reply = tokio::time::timeout(std::time::Duration::from_millis(500), call).await.ok()?.ok()?;
        read(&reply).err().filter(|error| error.code == ErrorCode::StorageFull)
    })
    .await;
    // More of them than there are places.
    let questions: Vec<_> = (0..1_100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { call(&client, "sim1", "get_all_orders", "{}").await })
        })
        .collect();
    eventually("those without a place to be told so", || async {
        (questions.iter().filter(|question| question.is_finished()).count() >= 70).then_some(())
    })
    .await;
    let cancel = serde_json::json!({ "orderid": working.orderid }).to_string();
    call_with(&client, "sim1", "cancel_order", cancel.as_bytes(), in_ms(10_000)).await.expect("cancels flow");
    for question in questions {
        let error = question.await.expect("no panic").expect_err("nothing is stored");
        assert!(matches!(error.code, ErrorCode::Overloaded | ErrorCode::NotReady), "{error}");
    }
    call(&client, "sim1", "get_status", "{}").await.expect("there are places again");
    let _ = stop.send(());
    tokio::time::timeout(crate::support::PATIENCE, node).await.expect("stops").expect("no panic").expect("no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_single_entry_of_a_journal_can_be_deleted() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&client, "sim1").await;
    send_order(&client, "sim1", &resting()).await.expect("taken");
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut stream = jetstream.get_stream("JOURNAL_sim1").await.expect("a stream");
    let last = stream.info().await.expect("its state").state.last_sequence;
    let refused = stream.delete_message(last).await.expect_err("an audit trail");
    assert!(refused.to_string().contains("not permitted"), "{refused}");
    node.stop().await;
}
