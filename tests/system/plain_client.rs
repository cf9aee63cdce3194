//! A client that knows only README's table of subjects: in this language, and in Python.

use futures::StreamExt;
use protocol::{Event, Tick, codec};

use crate::support::{TestBroker, TestNode, eventually, sim, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn ticks_are_numbered_from_one_without_a_gap() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut ticks = client.subscribe("evt.tick.rb2410.SHFE").await.expect("subscribes");
    client.flush().await.expect("flushes");
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&client, "sim1").await;
    for seq in 1..=10 {
        let message = ticks.next().await.expect("a tick");
        let event: Event<Tick> = codec::decode(&message.payload).expect("decodes");
        assert_eq!((event.seq, event.epoch, event.gateway.as_str()), (seq, 1, "sim1"));
        assert_eq!(event.data.symbol, "rb2410");
    }
    node.stop().await;
}

/// Runs `tests/python/plain_client.py` with nats-py, which `cargo xtask test` installs into a place of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_reads_ticks_and_calls_methods() {
    let Some(python) = std::env::var_os("GATEMESH_PYTHON") else {
        eprintln!("SKIPPED: GATEMESH_PYTHON is not set; `cargo xtask test` sets it");
        return;
    };
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&broker.client().await, "sim1").await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/plain_client.py");
    let output = tokio::process::Command::new(python).arg(script).arg(broker.url()).output().await.expect("runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("everything as documented"), "{out}\n{err}");
    node.stop().await;
}

/// One subscriber that reads nothing must not hold up the others: `no_fast_producer_stall` in `nats.conf`.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_subscriber_does_not_starve_a_healthy_one() {
    use tokio::io::AsyncWriteExt;
    let broker = TestBroker::start().await;
    let mut frozen = tokio::net::TcpStream::connect(("127.0.0.1", broker.port())).await.expect("connects");
    frozen.write_all(b"CONNECT {\"verbose\":false}\r\nSUB evt.> 1\r\nPING\r\n").await.expect("writes");
    let client = broker.client().await;
    let mut healthy = client.subscribe("evt.tick.*.*").await.expect("subscribes");
    client.flush().await.expect("flushes");
    let gateways = sim("sim1").replace("speed = 1", "speed = \"max\"");
    let node = TestNode::start(&broker.url(), &gateways).await;
    let mut received = 0_u32;
    let all = async {
        while received < 100_000 {
            healthy.next().await.expect("a tick");
            received += 1;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, all).await.expect("the healthy one is served");
    drop(frozen);
    eventually("the node to answer", || async { client.request("rpc.sim1.get_status", "".into()).await.ok() }).await;
    node.stop().await;
}
