//! gateway-node as an operator meets it: started, mistaken in its configuration, signalled, started twice.

use std::path::Path;

use futures::{FutureExt, StreamExt};
use nix::sys::signal::Signal;
use protocol::event::Log;
use protocol::{Event, GatewayState, Status, Tick, codec};
use tokio::time::{Instant, timeout};

use crate::support::node_process::{Home, NodeProcess, until_server_is_gone};
use crate::support::program::{AT_ONCE, Ended, Program, built};
use crate::support::{PATIENCE, call, sim, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_the_node_and_stops_its_broker() {
    if !built(&["gateway-node"]) {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new();
        home.config(&sim("sim1"));
        let node = NodeProcess::start(&home).await;
        let client = node.ready("sim1").await;
        let mut heartbeats = client.subscribe("evt.status.sim1").await.expect("subscribes");
        // The first one proves that the server knows of the subscription.
        timeout(PATIENCE, heartbeats.next()).await.expect("in time").expect("a heartbeat");
        node.program.signal(signal);
        let state = |message: async_nats::Message| {
            let event: Event<Status> = codec::decode(&message.payload).expect("decodes");
            event.data.state
        };
        let closing = async { while state(heartbeats.next().await.expect("a heartbeat")) != GatewayState::Closing {} };
        timeout(PATIENCE, closing).await.unwrap_or_else(|_| panic!("{signal}: no last word\n{}", node.program.err()));
        let ended = node.program.ended().await;
        assert_eq!(ended.code, 0, "{signal}: {}", ended.err);
        assert!(ended.err.contains("stopped"), "{signal}: {}", ended.err);
        assert_eq!(home.server(), None, "{signal}: its broker is gone too");
        while let Some(Some(message)) = heartbeats.next().now_or_never() {
            assert_eq!(state(message), GatewayState::Closing, "{signal}: nothing comes after it");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_drain_that_hangs() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    home.config(&sim("sim1"));
    let mut node = NodeProcess::start(&home).await;
    node.ready("sim1").await;
    // A broker that takes nothing any more: the drain waits for it.
    home.signal_server(Signal::SIGSTOP);
    node.program.signal(Signal::SIGINT);
    node.program.until("the drain to begin", |p| p.err().contains("asked to stop").then_some(())).await;
    assert!(node.program.runs(), "one signal waits for the drain");
    let second = Instant::now();
    let ended = node.program.end_by(Signal::SIGTERM).await;
    assert_eq!(ended.code, 130, "{}", ended.err);
    assert!(second.elapsed() < AT_ONCE, "took {:?}", second.elapsed());

    // Whatever it left behind is no hindrance to the next one.
    let node = NodeProcess::start(&home).await;
    node.ready("sim1").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_ends_the_node_with_a_reason_and_nothing_is_lost() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    home.config(&sim("sim1"));
    let node = NodeProcess::start(&home).await;
    let first = until_ready(&node.client().await, "sim1").await;
    home.signal_server(Signal::SIGKILL);
    let said = node.program.ended().await.failed(1);
    assert!(said.contains("nats-server was killed by signal 9 although nobody stopped it"), "{said}");

    let node = NodeProcess::start(&home).await;
    let second = until_ready(&node.client().await, "sim1").await;
    assert_eq!(second.epoch, first.epoch + 1);
    node.stop().await;
}

async fn check(home: &Home, text: &str) -> Ended {
    home.file("node.toml", text);
    Program::start_in("gateway-node", &["--check", "--config", "node.toml"], home.path(), &[]).ended().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistaken_configuration_is_told_with_file_line_and_key() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    let gateway = "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\n";
    let header = header().replace(",last_price", "");
    let ticks = home.file("ticks.csv", &format!("{header}\n2024-01-02T09:00:00+08:00,rb2410,SHFE\n"));
    let recorded = format!("{gateway}[gateways.sim.feed]\nkind = \"recorded\"\nfiles = [\"ticks.csv\"]\n");
    let cases: [(&str, String, &[&str]); 9] = [
        ("a misspelt key", format!("[broker]\nprot = 4222\n{gateway}"), &["line 2", "prot", "did you mean `port`?"]),
        ("an unknown section", format!("{gateway}[venue]\n"), &["line 4", "venue"]),
        (
            "an unknown kind",
            "[[gateways]]\nname = \"sim1\"\nkind = \"simm\"\n".into(),
            &["line 3", "gateways[0].kind", "did you mean `sim`?"],
        ),
        ("two of a name", format!("{gateway}{gateway}"), &["line 5", "gateways[1].name", "sim1"]),
        ("no gateway", "[node]\nname = \"a\"\n".into(), &["gateways", "[[gateways]]"]),
        ("a wrong type", format!("[broker]\nport = \"4222\"\n{gateway}"), &["line 2", "broker.port", "a whole number"]),
        ("no TOML", "[[gateways]\n".into(), &["line 1"]),
        (
            "no such instrument file",
            format!("{gateway}[gateways.sim]\ninstruments = [\"absent.csv\"]\n"),
            &["gateway sim1", "absent.csv", "No such file"],
        ),
        ("a tick file without a column", recorded, &["gateway sim1", "ticks.csv", "`last_price`"]),
    ];
    for (name, text, says) in cases {
        let said = check(&home, &text).await.failed(2);
        assert!(said.starts_with("gateway-node: node.toml"), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: one sentence: {said}");
        for part in says {
            assert!(said.contains(part), "{name}: no `{part}` in: {said}");
        }
    }
    std::fs::remove_file(ticks).expect("removed");

    let fine = check(&home, gateway).await;
    assert_eq!(fine.out, "node.toml: fine; gateways: sim1\n");
    fine.ok();
    assert!(!home.path().join("data").exists(), "a check starts nothing and leaves nothing behind");

    let absent = Program::start_in("gateway-node", &["--config", "absent.toml"], home.path(), &[]).ended().await;
    let said = absent.failed(2);
    assert!(said.contains("absent.toml: there is no such file"), "{said}");
    let nothing = Program::start_in::<&str>("gateway-node", &[], home.path(), &[]).ended().await;
    assert!(nothing.failed(2).contains("--config"));
    let named = [("GATEMESH_CONFIG", "node.toml")];
    Program::start_in("gateway-node", &["--check"], home.path(), &named).ended().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_data_or_port_says_so_and_ends() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    home.config(&sim("sim1"));
    let node = NodeProcess::start(&home).await;
    let client = node.ready("sim1").await;
    let said = NodeProcess::launch(&home).ended().await.failed(1);
    assert!(said.contains("is in use by another node (pid "), "{said}");
    assert!(said.contains("broker.data_dir"), "{said}");

    let elsewhere = Home::new();
    let port = node.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    elsewhere.config_on_port(port, &sim("sim2"));
    let said = NodeProcess::launch(&elsewhere).ended().await.failed(1);
    assert!(said.contains(&format!("port {port} is taken")) && said.contains("broker.port = 0"), "{said}");
    until_server_is_gone(&elsewhere).await;

    assert_eq!(until_ready(&client, "sim1").await.epoch, 1, "the first one goes on");
    node.stop().await;
}

fn header() -> String {
    "datetime,symbol,exchange,last_price,volume,turnover,open_interest,limit_up,limit_down,open_price,high_price,\
     low_price,pre_close,bid_price_1,bid_volume_1,ask_price_1,ask_volume_1"
        .to_owned()
}

/// Twenty ticks, 100 ms apart; the tenth, in line 11, has no number where its price belongs.
fn recording(file: &Path) {
    let rows = (1..=20).map(|number| {
        let price = if number == 10 { "3six00".to_owned() } else { (3600 + number).to_string() };
        let (seconds, tenths) = (number / 10, number % 10);
        format!(
            "2024-01-02T09:00:{seconds:02}.{tenths}00+08:00,rb2410,SHFE,{price},{number},,,3960,3240,,,,3600,{},5,{},5\n",
            3599 + number,
            3601 + number
        )
    });
    std::fs::write(file, format!("{}\n{}", header(), rows.collect::<String>())).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_row_of_a_tick_file_is_named_and_passed_over() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    recording(&home.path().join("ticks.csv"));
    home.file("products.csv", "product,exchange,name,size,pricetick\nrb,SHFE,rebar,10,1\n");
    home.config(
        "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\n[gateways.sim]\nproducts = [\"products.csv\"]\n\
         [gateways.sim.feed]\nkind = \"recorded\"\nfiles = [\"ticks.csv\"]\n",
    );
    let node = NodeProcess::start(&home).await;
    let client = node.client().await;
    let mut logs = client.subscribe("evt.log.*.sim1").await.expect("subscribes");
    let mut ticks = client.subscribe("evt.tick.rb2410.SHFE").await.expect("subscribes");
    until_ready(&client, "sim1").await;
    // The recording begins with the first subscription.
    call(&client, "sim1", "subscribe", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await.expect("subscribed");

    let mut prices = Vec::new();
    let all = async {
        while prices.len() < 19 {
            let event: Event<Tick> = codec::decode(&ticks.next().await.expect("a tick").payload).expect("decodes");
            prices.push(event.data.last_price.expect("a price"));
            assert_eq!(event.seq, prices.len() as u64, "nothing is missing");
        }
    };
    timeout(PATIENCE, all).await.expect("all ticks come");
    let good: Vec<f64> = (1..=20).filter(|number| *number != 10).map(|number| f64::from(3600 + number)).collect();
    assert_eq!(prices, good);

    let complaint = async {
        loop {
            let event: Event<Log> = codec::decode(&logs.next().await.expect("a line").payload).expect("decodes");
            if event.data.msg.contains("ticks.csv") {
                return event.data.msg;
            }
        }
    };
    let line = timeout(PATIENCE, complaint).await.expect("the row is told");
    for part in ["line 11", "last_price", "3six00"] {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
    until_ready(&client, "sim1").await;
    node.stop().await;
}
