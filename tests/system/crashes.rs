//! kill -9: of a node with orders in flight, with and without its broker. What was answered as accepted is there
//! afterwards, and no order is ever made twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::TryStreamExt;
use nix::sys::signal::Signal;
use protocol::{Direction, Event, GatewayState, Offset, Order, OrderId, OrderRequest, OrderStatus, Trade, codec};
use tokio::task::JoinSet;

use crate::support::node_process::{Home, NodeProcess};
use crate::support::program::built;
use crate::support::script::instrument;
use crate::support::{eventually, in_ms, list, read, send_order, sim, until_ready};

fn resting() -> OrderRequest {
    // Far below a market around 3600, and inside its limits: it rests.
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3300.0, 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_goes_on_from_its_journal_and_stops_the_broker_it_left_behind() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    home.config(&sim("sim1"));
    let node = NodeProcess::start(&home).await;
    let client = node.client().await;
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
        (trades.iter().map(|t| t.volume).sum::<f64>() == 2.0).then_some(trades)
    })
    .await;
    // What the venue has told of it is in the journal before anybody reads it.
    eventually("the second order to rest", || async {
        let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
        orders.iter().any(|o| o.orderid == rests.orderid && o.status == OrderStatus::NotTraded).then_some(())
    })
    .await;
    let left = home.server().expect("a broker runs");
    node.kill().await;
    assert_eq!(home.server(), Some(left), "the broker outlives a killed node");

    let node = NodeProcess::start(&home).await;
    let client = node.client().await;
    let second = until_ready(&client, "sim1").await;
    assert_eq!((second.epoch, second.state), (first.epoch + 1, GatewayState::Ready));
    assert!(node.program.err().contains("left-over nats-server stopped"), "{}", node.program.err());
    assert_ne!(home.server().expect("a broker runs"), left);

    let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
    let order = |id: &OrderId| orders.iter().find(|o| o.orderid == *id).expect("kept");
    assert_eq!(order(&bought.orderid).status, OrderStatus::AllTraded);
    let lost = order(&rests.orderid);
    assert_eq!(lost.status, OrderStatus::Cancelled);
    assert!(lost.reason.as_deref().is_some_and(|reason| reason.contains("ended its session")), "{lost:?}");
    let kept: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
    assert_eq!(kept, trades);
    assert_eq!(send_order(&client, "sim1", &rests).await.expect("its state").status, OrderStatus::Cancelled);
    let reused = send_order(&client, "sim1", &OrderRequest { volume: 3.0, ..rests }).await;
    assert_eq!(reused.expect_err("other content").code, protocol::ErrorCode::OrderIdReused);
    node.stop().await;
}

/// What the clients of all rounds know of their orders.
#[derive(Default)]
struct Desk {
    sent: Vec<OrderRequest>,
    accepted: HashSet<OrderId>,
}

/// Sends one order after the other until there is no answer any more.
async fn trade(client: Client, desk: Arc<Mutex<Desk>>) {
    loop {
        let request = resting();
        desk.lock().expect("no panic").sent.push(request.clone());
        let bytes = codec::encode(&request).expect("encodes");
        let answer = client.request_with_headers("rpc.sim1.send_order", in_ms(30_000), bytes.into()).await;
        let Ok(message) = answer else { return };
        if read(&message).is_ok() {
            desk.lock().expect("no panic").accepted.insert(request.orderid);
        }
    }
}

/// How often each order was given a venue reference: once, or it was made twice.
async fn references(client: &Client) -> HashMap<OrderId, HashSet<String>> {
    let stream = async_nats::jetstream::new(client.clone()).get_stream("JOURNAL_sim1").await.expect("the journal");
    let consumer = stream
        .create_consumer(pull::Config {
            filter_subject: "journal.sim1.pub.order.>".to_owned(),
            ack_policy: AckPolicy::None,
            ..Default::default()
        })
        .await
        .expect("a consumer");
    let messages = consumer.fetch().max_messages(1_000_000).messages().await.expect("messages");
    let mut references: HashMap<OrderId, HashSet<String>> = HashMap::new();
    let mut intents: HashMap<OrderId, u32> = HashMap::new();
    let entries: Vec<_> = messages.try_collect().await.expect("entries");
    for entry in entries {
        let order = codec::decode::<Event<Order>>(&entry.payload).expect("an order").data;
        if order.status == OrderStatus::Submitting {
            *intents.entry(order.orderid.clone()).or_default() += 1;
        }
        let reference = order.venue_reference.expect("every order went towards the venue").to_string();
        references.entry(order.orderid).or_default().insert(reference);
    }
    for (id, count) in intents {
        assert_eq!(count, 1, "{id} was meant to be sent {count} times");
    }
    references
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_in_flight_survive_kills_exactly_once() {
    if !built(&["gateway-node"]) {
        return;
    }
    const ROUNDS: usize = 4;
    let home = Home::new();
    home.config(&sim("sim1"));
    let desk = Arc::new(Mutex::new(Desk::default()));
    for round in 0..ROUNDS {
        let node = NodeProcess::start(&home).await;
        let client = node.ready("sim1").await;
        let before = desk.lock().expect("no panic").accepted.len();
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            senders.spawn(trade(client.clone(), desk.clone()));
        }
        // Another moment of the pipeline in every round.
        let enough = before + 20 + 13 * round;
        eventually("orders in flight", || async {
            (desk.lock().expect("no panic").accepted.len() >= enough).then_some(())
        })
        .await;
        if round % 2 == 1 {
            home.signal_server(Signal::SIGKILL);
        }
        node.kill().await;
        senders.shutdown().await;
    }

    let node = NodeProcess::start(&home).await;
    let client = node.ready("sim1").await;
    let Desk { sent, accepted } = std::mem::take(&mut *desk.lock().expect("no panic"));
    assert!(sent.len() > accepted.len(), "some were in flight");
    let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
    let known: HashMap<OrderId, Order> = orders.into_iter().map(|order| (order.orderid.clone(), order)).collect();
    for id in &accepted {
        let order = known.get(id).unwrap_or_else(|| panic!("{id} was accepted and is lost"));
        assert!(!order.is_active() && order.reason.is_some(), "its venue is gone: {order:?}");
    }
    // Whose outcome was unknown asks with the same id: it gets the state of what was recorded, or a first order.
    for request in sent.iter().filter(|request| !accepted.contains(&request.orderid)) {
        let order = send_order(&client, "sim1", request).await.expect("an answer");
        let recorded = known.get(&request.orderid);
        assert_eq!(order.status, recorded.map_or(OrderStatus::Submitting, |order| order.status));
    }
    let references = references(&client).await;
    for request in &sent {
        let references = &references[&request.orderid];
        assert_eq!(references.len(), 1, "{} has several venue references: {references:?}", request.orderid);
    }
    assert_eq!(references.len(), sent.len(), "and there are no others");
    let distinct: HashSet<_> = references.values().flatten().collect();
    assert_eq!(distinct.len(), sent.len(), "no reference stands for two orders");
    tokio::time::timeout(Duration::from_secs(30), node.stop()).await.expect("stops");
}
