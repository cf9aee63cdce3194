//! The client library's examples, run as a reader of README runs them.

use futures::StreamExt;
use nix::sys::signal::Signal;
use protocol::{Event, Order, Trade, codec};
use tokio::time::timeout;

use crate::support::program::{Program, built};
use crate::support::{PATIENCE, TestBroker, TestNode, list, sim, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_trades_and_ends() {
    if !built(&["quickstart"]) {
        return;
    }
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let variables = [("GATEMESH_SERVER", broker.url())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let program = Program::start_in::<&str>("quickstart", &[], &std::env::temp_dir(), &variables);
    let out = program.ended().await.ok();
    assert!(out.contains("gateway sim1 Some(Ready)"), "{out}");
    let trades: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
    let fill = trades.first().expect("a fill");
    assert!(out.contains(&format!("filled {} at {}", fill.volume, fill.price)), "{out}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_says_what_is_missing() {
    if !built(&["quickstart"]) {
        return;
    }
    let broker = TestBroker::start().await;
    let url = broker.url();
    let variables = [("GATEMESH_SERVER", url.as_str())];
    let program = Program::start_in::<&str>("quickstart", &[], &std::env::temp_dir(), &variables);
    let said = program.ended().await.failed(1);
    assert!(said.contains("no gateway is running: start a gateway-node"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn double_ma_trades_and_takes_its_orders_back_when_interrupted() {
    if !built(&["double_ma"]) {
        return;
    }
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1").replace("speed = 1", "speed = 10")).await;
    let client = broker.client().await;
    until_ready(&client, "sim1").await;
    let mut trades = client.subscribe("evt.trade.>").await.expect("subscribes");
    client.flush().await.expect("flushes");
    let arguments = ["--server", &broker.url(), "--instrument", "rb2410.SHFE", "--fast", "2", "--slow", "5"];
    let mut program = Program::start("double_ma", &arguments);
    let message = timeout(PATIENCE, trades.next()).await.expect("a trade in time").expect("a trade");
    assert!(message.subject.starts_with("evt.trade.rb2410.SHFE.sim1."), "{}", message.subject);
    let trade: Event<Trade> = codec::decode(&message.payload).expect("decodes");
    assert_eq!(trade.data.reference, "double-ma", "a strategy's name stays on its trades");
    program.until("it to hear of its fill", |p| p.out().contains(" fill ").then_some(())).await;
    let out = program.end_by(Signal::SIGINT).await.ok();
    assert!(out.contains(" stopping") && out.contains(" done "), "{out}");
    let orders: Vec<Order> = list(&client, "sim1", "get_all_orders").await;
    let sent = out.lines().filter(|line| line.contains(" sent ")).count();
    assert!(orders.len() >= sent && sent > 0, "{sent} of {} orders: {out}", orders.len());
    // A cancel is answered before the venue has confirmed it.
    crate::support::eventually("no order of it to work", || async {
        let active: Vec<Order> = list(&client, "sim1", "get_all_active_orders").await;
        active.is_empty().then_some(())
    })
    .await;
    node.stop().await;
}
