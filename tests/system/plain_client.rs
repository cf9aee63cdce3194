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
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/plain_client.py");
    let Some(out) = run_python(|url| vec![script.to_owned(), url.to_owned()]).await else { return };
    assert!(out.contains("everything as documented"), "{out}");
}

/// What README shows is what works.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_of_the_readme_runs() {
    let readme = include_str!("../../README.md");
    let (_, example) = readme.split_once("```python\n").expect("README has an example");
    let (example, _) = example.split_once("```").expect("which ends");
    let address = "nats://127.0.0.1:4222";
    assert!(example.contains(address));
    let Some(out) = run_python(|url| vec!["-c".to_owned(), example.replace(address, url)]).await else { return };
    assert!(out.contains("SUBMITTING"), "{out}");
    assert!(out.contains("INVALID_ORDER: volume: -1 must be a positive number of lots"), "{out}");
}

/// Runs Python beside a node; gives what it printed, or nothing where there is no Python with nats-py.
async fn run_python(arguments: impl FnOnce(&str) -> Vec<String>) -> Option<String> {
    let Some(python) = std::env::var_os("GATEMESH_PYTHON") else {
        eprintln!("SKIPPED: GATEMESH_PYTHON is not set; `cargo xtask test` sets it");
        return None;
    };
    let broker = TestBroker::start().await;
    let node = TestNode::start(&broker.url(), &sim("sim1")).await;
    until_ready(&broker.client().await, "sim1").await;
    let output = tokio::process::Command::new(python).args(arguments(&broker.url())).output().await.expect("runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    node.stop().await;
    Some(out)
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
