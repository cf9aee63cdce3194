//! gatectl, as a person types it and as a script reads it: tables, lines of JSON, exit codes.

use nix::sys::signal::Signal;
use protocol::event::Log;
use protocol::{Contract, Event, LogLevel, Order, OrderStatus, Position, Status, Tick, Trade};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::program::{AT_ONCE, Ended, Program, built, code, command, run};
use crate::support::{PATIENCE, TestBroker, TestNode, eventually, sim, until_ready};

/// A running gateway, and gatectl beside it.
struct Desk {
    broker: TestBroker,
    node: TestNode,
    url: String,
}

impl Desk {
    /// A gateway `sim1` on a market that moves ten times a second and plays a minute in six.
    async fn open() -> Option<Desk> {
        if !built(&["gatectl"]) {
            return None;
        }
        let broker = TestBroker::start().await;
        let url = broker.url();
        let node = TestNode::start(&url, &sim("sim1").replace("interval_ms = 100\nspeed = 1", "speed = 10")).await;
        until_ready(&broker.client().await, "sim1").await;
        Some(Desk { broker, node, url })
    }

    fn start(&self, line: &str) -> Program {
        Program::start("gatectl", &self.arguments(line))
    }

    async fn ctl(&self, line: &str) -> Ended {
        run("gatectl", &self.arguments(line)).await
    }

    fn arguments(&self, line: &str) -> Vec<String> {
        let server = ["--server".to_owned(), self.url.clone()];
        server.into_iter().chain(line.split_whitespace().map(str::to_owned)).collect()
    }

    /// What a command prints with `--json`: an object a line.
    async fn json<T: DeserializeOwned>(&self, line: &str) -> Vec<T> {
        objects(&self.ctl(&format!("{line} --json")).await.ok())
    }

    async fn close(self) {
        self.node.stop().await;
        drop(self.broker);
    }
}

fn objects<T: DeserializeOwned>(out: &str) -> Vec<T> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    out.lines().map(read).collect()
}

/// Whether a table has these headings, and below them a row that holds these words, in this order.
#[track_caller]
fn assert_table(table: &str, headings: &[&str], row: &[&str]) {
    let holds = |line: &str, words: &[&str]| {
        let mut rest = line;
        words.iter().all(|word| rest.split_once(word).map(|(_, behind)| rest = behind).is_some())
    };
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|line| holds(line, headings)), "no {headings:?} above:\n{table}");
    assert!(lines.any(|line| holds(line, row)), "no {row:?} in:\n{table}");
    assert!(!table.contains('\u{1b}'), "no colours in a file:\n{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_listed_for_people_and_for_programs() {
    let Some(desk) = Desk::open().await else { return };

    assert_table(&desk.ctl("status").await.ok(), &["GATEWAY", "STATE", "EPOCH"], &["sim1", "READY", "1"]);
    let status: Vec<Status> = desk.json("status").await;
    assert_eq!((status.len(), status[0].gateway_name.as_str()), (1, "sim1"));

    let contracts: Vec<Contract> = desk.json("contracts").await;
    assert_eq!(contracts.len(), 5);
    let shanghai = desk.ctl("contracts *.SHFE").await.ok();
    assert_table(&shanghai, &["INSTRUMENT", "SIZE", "TICK"], &["rb2410.SHFE", "10", "1", "sim1"]);
    assert_eq!(shanghai.matches("sim1").count(), 1, "{shanghai}");

    let ticks: Vec<Event<Tick>> = desk.json("ticks rb2410.SHFE -n 3").await;
    let seqs: Vec<u64> = ticks.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2], "without a gap");
    assert!(ticks.iter().all(|event| event.data.symbol == "rb2410"));
    let shown = desk.ctl("ticks rb2410.SHFE -n 3").await.ok();
    assert_table(&shown, &["INSTRUMENT", "LAST", "BID", "ASK"], &["rb2410.SHFE", "sim1"]);
    assert_eq!(shown.lines().count(), 4, "a heading and three ticks:\n{shown}");

    for (list, none) in
        [("orders", "no orders"), ("trades", "no trades"), ("quotes", "no quotes"), ("positions", "no positions")]
    {
        let empty = desk.ctl(list).await;
        assert_eq!((empty.code, empty.out.as_str(), empty.err.trim_end()), (0, "", none));
        assert!(desk.json::<Value>(list).await.is_empty(), "{list}");
    }
    assert_table(&desk.ctl("accounts").await.ok(), &["ACCOUNT", "BALANCE"], &["paper", "10,000,000.00", "CNY"]);
    assert_eq!(desk.json::<protocol::Account>("accounts --refresh").await[0].balance, 10_000_000.0);

    let days = "--start 2024-01-01 --end 2024-01-31";
    let bars: Vec<protocol::Bar> = eventually("a finished bar", || async {
        Some(desk.json(&format!("history rb2410.SHFE {days}")).await).filter(|bars: &Vec<_>| !bars.is_empty())
    })
    .await;
    assert!(bars.iter().all(|bar| bar.low_price <= bar.close_price && bar.close_price <= bar.high_price));
    let table = desk.ctl(&format!("history rb2410.SHFE {days}")).await.ok();
    assert_table(&table, &["TIME", "OPEN", "HIGH", "LOW", "CLOSE"], &["2024-01-02 09:0"]);

    let called: Vec<Value> = objects(&desk.ctl("call sim1 get_status").await.ok());
    assert_eq!(called[0]["state"], "READY");
    let contract: Vec<Contract> =
        objects(&desk.ctl(r#"call sim1 get_contract {"symbol":"rb2410","exchange":"SHFE"}"#).await.ok());
    assert_eq!(contract[0].size, 10.0);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_sent_seen_and_cancelled() {
    let Some(desk) = Desk::open().await else { return };
    let columns = ["ORDER", "INSTRUMENT", "SIDE", "PRICE", "STATUS"];

    let sent = desk.ctl("send rb2410.SHFE buy 2 --price 3300 --id mine-1 --reference note").await.ok();
    assert_table(&sent, &columns, &["mine-1", "rb2410.SHFE", "BUY", "OPEN", "LIMIT", "3300", "2", "default", "note"]);
    let sent: Vec<Order> = desk.json("send rb2410.SHFE buy 1 --price 3310 --id mine-2").await;
    assert_eq!(sent[0].orderid.as_str(), "mine-2");
    let again: Vec<Order> = desk.json("send rb2410.SHFE buy 1 --price 3310 --id mine-2").await;
    assert_eq!(again.len(), 1, "the same again is the same order");

    let active = desk.ctl("orders --active").await.ok();
    assert_table(&active, &columns, &["mine-1", "3300"]);
    assert_table(&active, &columns, &["mine-2", "3310"]);
    assert_eq!(active.lines().count(), 3, "two orders, not three:\n{active}");
    let one: Vec<Order> = desk.json("orders mine-1").await;
    assert_eq!((one.len(), one[0].volume), (1, 2.0));

    let cancelled = desk.ctl("cancel mine-1").await.ok();
    assert!(cancelled.contains("mine-1"), "{cancelled}");
    eventually("the cancel", || async {
        (desk.json::<Order>("orders mine-1").await[0].status == OrderStatus::Cancelled).then_some(())
    })
    .await;
    assert_eq!(desk.ctl("cancel-all").await.ok(), "mine-2\n", "what is cancelled is named");
    eventually("nothing to work", || async {
        let active = desk.ctl("orders --active").await;
        (active.code == 0 && active.out.is_empty() && active.err.contains("no working orders")).then_some(())
    })
    .await;
    let nothing = desk.ctl("cancel-all").await;
    assert_eq!((nothing.code, nothing.err.as_str()), (0, "nothing is working\n"));

    let bought = desk.ctl("send rb2410.SHFE buy 3 --type market --id mine-3 --wait").await.ok();
    assert_table(&bought, &columns, &["mine-3", "MARKET", "3", "3", "ALLTRADED"]);
    let trades: Vec<Trade> = desk.json("trades").await;
    assert!(trades.iter().all(|trade| trade.orderid.as_str() == "mine-3"));
    assert_eq!(trades.iter().map(|trade| trade.volume).sum::<f64>(), 3.0);
    assert_table(&desk.ctl("trades").await.ok(), &["TRADE", "PRICE", "VOLUME"], &["rb2410.SHFE", "BUY", "mine-3"]);
    let positions: Vec<Position> = eventually("the position", || async {
        Some(desk.json("positions").await).filter(|positions: &Vec<_>| !positions.is_empty())
    })
    .await;
    assert_eq!((positions.len(), positions[0].volume), (1, 3.0));
    assert_table(&desk.ctl("positions").await.ok(), &["INSTRUMENT", "VOLUME"], &["rb2410.SHFE", "LONG", "3", "sim1"]);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_a_script_what_went_wrong() {
    let Some(desk) = Desk::open().await else { return };

    // 1: refused, with the error's code.
    for (line, code) in [
        ("send rb2410.SHFE buy 1 --price 3300.5", "INVALID_ORDER"),
        ("send zz9999.SHFE buy 1 --price 3300 -g sim1", "UNKNOWN_CONTRACT"),
        ("cancel no-such-order", "NOT_FOUND"),
        ("call sim1 get_tick {}", "BAD_REQUEST"),
        ("call sim1 get_statu", "UNKNOWN_METHOD"),
    ] {
        let said = desk.ctl(line).await.failed(1);
        assert!(said.starts_with(&format!("gatectl: {code}: ")), "{line}: {said}");
        let said = desk.ctl(&format!("{line} --json")).await.failed(1);
        assert_eq!(objects::<Value>(&said)[0]["code"], code, "{line}: {said}");
    }
    // 2: the command line.
    for (line, says) in [
        ("send rb2410.SHFE buy", "<VOLUME>"),
        ("send rb2410.SHFE buy 0 --price 3300", "above 0"),
        ("send rb2410 buy 1 --price 3300", "SYMBOL.EXCHANGE"),
        ("send rb2410.SHEF buy 1 --price 3300", "did you mean rb2410.SHFE?"),
        ("send rb2410.SHFE buy 1", "--price"),
        ("send RB2410.SHFE buy 1 --price 3300", "rb2410.SHFE"),
        ("send rb2410.SHFE buy 1 --price 3300 --id x-1", "x-"),
        ("call sim1 get_status {", "JSON"),
        ("statsu", "status"),
        ("watch", "terminal"),
    ] {
        let said = desk.ctl(line).await.failed(2);
        assert!(said.contains(says), "{line}: no `{says}` in: {said}");
    }
    // 3: not there.
    let said = desk.ctl("-g sim2 status").await.failed(3);
    assert!(said.contains("gateway `sim2` is not running; did you mean -g sim1?"), "{said}");
    // A port that no free one is ever taken from.
    let nowhere = "nats://127.0.0.1:1";
    let said = run("gatectl", &["--server", nowhere, "status"]).await.failed(3);
    assert!(said.contains(nowhere), "{said}");
    let Desk { broker, node, url } = desk;
    node.stop().await;
    let said = run("gatectl", &["--server", &url, "status"]).await.failed(3);
    assert!(said.contains("no gateway is running") && said.contains("start a gateway-node"), "{said}");
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_stops_new_orders_and_the_log_says_so() {
    let Some(desk) = Desk::open().await else { return };
    desk.ctl("send rb2410.SHFE buy 1 --price 3300 --id before").await.ok();
    let mut logs = desk.start("logs -n 1 --level warning --json");
    // Logs are not kept: what is said before the command listens is not for it.
    let deadline = Instant::now() + PATIENCE;
    while logs.runs() {
        assert!(Instant::now() < deadline, "no line came");
        let halted = desk.ctl("-g sim1 halt --reason drill").await.ok();
        assert!(halted.contains("takes new orders from nobody; cancels still flow"), "{halted}");
        let resumed = desk.ctl("-g sim1 resume").await.ok();
        assert!(resumed.contains("takes new orders from everybody"), "{resumed}");
    }
    let line: Vec<Log> = objects(&logs.ended().await.ok());
    assert_eq!((line.len(), line[0].level), (1, LogLevel::Warning));
    assert!(line[0].msg.contains("halted") || line[0].msg.contains("resumed"), "{}", line[0].msg);

    desk.ctl("halt --reason drill").await.ok();
    let said = desk.ctl("send rb2410.SHFE buy 1 --price 3300").await.failed(1);
    assert!(said.contains("HALTED") && said.contains("drill"), "{said}");
    assert_table(&desk.ctl("status").await.ok(), &["GATEWAY", "HALTED"], &["sim1", "all"]);
    desk.ctl("cancel before").await.ok();
    assert_eq!(desk.json::<Value>("resume").await[0]["halted"], serde_json::json!([]));
    desk.ctl("send rb2410.SHFE buy 1 --price 3300").await.ok();
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_on_ctrl_c_or_when_nobody_reads_them() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let Some(desk) = Desk::open().await else { return };
    // What has been printed was waited for, and so was Ctrl-C.
    for line in ["ticks >", "status --follow"] {
        let mut program = desk.start(line);
        program.until("lines", |p| (p.out().lines().count() > 2).then_some(())).await;
        assert_eq!(program.end_by(Signal::SIGINT).await.code, 0, "{line}");
    }
    let mut orders = desk.start("orders --follow");
    orders.until("it to listen", |p| p.err().contains("no orders").then_some(())).await;
    desk.ctl("send rb2410.SHFE buy 1 --price 3300 --id followed").await.ok();
    orders.until("the order", |p| p.out().contains("followed").then_some(())).await;
    assert_eq!(orders.end_by(Signal::SIGINT).await.code, 0);

    let mut command = tokio::process::Command::from(command("gatectl"));
    command.args(desk.arguments("ticks >")).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut reader = command.spawn().expect("starts");
    let mut lines = BufReader::new(reader.stdout.take().expect("piped")).lines();
    for _ in 0..3 {
        timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("reads").expect("a line");
    }
    drop(lines);
    let closed = Instant::now();
    let status = timeout(PATIENCE, reader.wait()).await.expect("ends").expect("waited for");
    assert_eq!(code(status), 0, "as `gatectl ticks | head` does");
    assert!(closed.elapsed() < AT_ONCE);
    desk.close().await;
}
