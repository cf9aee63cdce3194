//! The venue as a process of its own: nodes come and go, it is killed and started, and nothing that it answered is lost.

use gateway_node::gateway::sim::control::{Control, Fault, VenueCounts};
use gateway_node::gateway::sim::ledger::{Ledger, LedgerEntry};
use nix::sys::signal::Signal;
use protocol::{Direction, ErrorCode, GatewayState, Offset, Order, OrderRequest, OrderStatus, Position, Status, Trade};

use crate::support::node_process::Home;
use crate::support::program::{Program, built};
use crate::support::script::instrument;
use crate::support::{TestBroker, TestNode, call, eventually, list, send_order, until_ready};

/// A venue process on a ledger that outlives it.
pub struct VenueProcess {
    pub program: Program,
    pub address: String,
}

impl VenueProcess {
    pub async fn start(home: &Home, listen: &str, more: &[&str]) -> VenueProcess {
        let arguments = [&["venue", "--listen", listen, "--ledger", "ledger"], more].concat();
        let mut program = Program::start_in("gateway-node", &arguments, home.path(), &[]);
        let address = program.until("the venue's address", |p| address(&p.err())).await;
        VenueProcess { program, address }
    }

    pub fn control(&self) -> Control {
        Control::new(self.address.clone())
    }

    pub async fn counts(&self) -> VenueCounts {
        let control = self.control();
        tokio::task::spawn_blocking(move || control.counts()).await.expect("no panic").expect("counts")
    }

    pub async fn inject(&self, fault: Fault) {
        let control = self.control();
        tokio::task::spawn_blocking(move || control.inject(fault)).await.expect("no panic").expect("injected");
    }

    /// Ends it as `kill -9` does, and starts it again on the same port.
    pub async fn kill_and_start(self, home: &Home, more: &[&str]) -> VenueProcess {
        assert_eq!(self.program.end_by(Signal::SIGKILL).await.code, 137);
        VenueProcess::start(home, &self.address, more).await
    }

    pub fn gateway(&self) -> String {
        let address = &self.address;
        format!(
            "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\nsubscribe = [\"*\"]\n[gateways.sim]\nvenue = \"{address}\"\n"
        )
    }
}

/// From `the venue takes logins address=127.0.0.1:40501 allow_faults=false`.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("the venue takes logins"))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("address=")).map(str::to_owned)
}

pub fn entries(home: &Home) -> Vec<LedgerEntry> {
    let records = Ledger::read(&home.path().join("ledger")).expect("a ledger");
    records.into_iter().flat_map(|record| record.entries).collect()
}

fn resting() -> OrderRequest {
    // Far below a market around 3600, and inside its limits: it rests.
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3300.0, 1.0)
}

fn at_market() -> OrderRequest {
    OrderRequest::market(instrument(), Direction::Long, Offset::Open, 1.0)
}

async fn until_a_tick(client: &async_nats::Client) {
    eventually("a tick", || async {
        let tick = call(client, "sim1", "get_tick", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await;
        tick.ok().filter(|tick| !tick.is_null())
    })
    .await;
}

async fn until_order(client: &async_nats::Client, request: &OrderRequest, status: OrderStatus) -> Order {
    eventually(&format!("{} to be {status}", request.orderid), || async {
        let orders: Vec<Order> = list(client, "sim1", "get_all_orders").await;
        orders.into_iter().find(|order| order.orderid == request.orderid && order.status == status)
    })
    .await
}

async fn status(client: &async_nats::Client) -> Option<Status> {
    let status = call(client, "sim1", "get_status", "{}").await.ok()?;
    serde_json::from_value(status).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_outlive_the_node_at_a_venue_of_their_own() {
    if !built(&["gateway-node"]) {
        return;
    }
    let (broker, home) = (TestBroker::start().await, Home::new());
    let venue = VenueProcess::start(&home, "127.0.0.1:0", &[]).await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &venue.gateway()).await;
    until_ready(&client, "sim1").await;
    until_a_tick(&client).await;
    let (bought, rests) = (at_market(), resting());
    send_order(&client, "sim1", &bought).await.expect("taken");
    send_order(&client, "sim1", &rests).await.expect("taken");
    until_order(&client, &bought, OrderStatus::AllTraded).await;
    until_order(&client, &rests, OrderStatus::NotTraded).await;
    node.stop().await;

    let node = TestNode::start(&broker.url(), &venue.gateway()).await;
    until_ready(&client, "sim1").await;
    let order = until_order(&client, &rests, OrderStatus::NotTraded).await;
    assert!(order.reason.is_none(), "it works on: {order:?}");
    let cancel = serde_json::json!({ "orderid": rests.orderid }).to_string();
    crate::support::call_with(&client, "sim1", "cancel_order", cancel.as_bytes(), crate::support::in_ms(10_000))
        .await
        .expect("sent");
    until_order(&client, &rests, OrderStatus::Cancelled).await;
    node.stop().await;

    let entries = entries(&home);
    for request in [&bought, &rests] {
        let is_its = |entry: &&LedgerEntry| {
            matches!(entry, LedgerEntry::OrderAccepted { memo, order, .. }
                if *memo == request.orderid && order.volume == request.volume && order.price == request.price)
        };
        assert_eq!(entries.iter().filter(is_its).count(), 1, "{request:?}");
    }
    let sessions = entries.iter().filter(|entry| matches!(entry, LedgerEntry::LoggedIn { .. })).count();
    assert_eq!(sessions, 2);
    assert_eq!(venue.program.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_venue_goes_on_from_its_ledger() {
    if !built(&["gateway-node"]) {
        return;
    }
    let (broker, home) = (TestBroker::start().await, Home::new());
    let mut venue = VenueProcess::start(&home, "127.0.0.1:0", &[]).await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &venue.gateway()).await;
    until_ready(&client, "sim1").await;
    until_a_tick(&client).await;
    let rests = resting();
    send_order(&client, "sim1", &rests).await.expect("taken");
    until_order(&client, &rests, OrderStatus::NotTraded).await;
    let mut filled = Vec::new();
    for run in 2..=4 {
        let bought = at_market();
        send_order(&client, "sim1", &bought).await.expect("taken");
        until_order(&client, &bought, OrderStatus::AllTraded).await;
        filled.push(bought);
        venue = venue.kill_and_start(&home, &[]).await;
        assert_eq!(venue.counts().await.counter.runs, run);
        eventually("a new session", || async { (venue.counts().await.session != 0).then_some(()) }).await;
        until_ready(&client, "sim1").await;
        let probe = eventually("an open market", || async {
            // The market of a venue that was just started has no price yet.
            let probe = at_market();
            send_order(&client, "sim1", &probe).await.ok()?;
            let order = until_finished(&client, &probe).await;
            (order.status == OrderStatus::AllTraded).then_some(probe)
        })
        .await;
        filled.push(probe);
    }
    until_order(&client, &rests, OrderStatus::NotTraded).await;
    let trades: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
    assert_eq!(trades.iter().map(|trade| trade.volume).sum::<f64>(), filled.len() as f64);
    let positions: Vec<Position> = list(&client, "sim1", "get_all_positions").await;
    assert_eq!(positions.iter().map(|position| position.volume).sum::<f64>(), filled.len() as f64);
    let counts = venue.counts().await;
    assert_eq!((counts.counter.trades as usize, counts.working), (trades.len(), 1));
    node.stop().await;
}

async fn until_finished(client: &async_nats::Client, request: &OrderRequest) -> Order {
    eventually(&format!("{} to end", request.orderid), || async {
        let orders: Vec<Order> = list(client, "sim1", "get_all_orders").await;
        orders.into_iter().find(|order| order.orderid == request.orderid && !order.status.is_active())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_return_makes_the_gateway_dirty_and_the_snapshot_mends_it() {
    if !built(&["gateway-node"]) {
        return;
    }
    let (broker, home) = (TestBroker::start().await, Home::new());
    let venue = VenueProcess::start(&home, "127.0.0.1:0", &["--allow-faults"]).await;
    let client = broker.client().await;
    let node = TestNode::start(&broker.url(), &venue.gateway()).await;
    until_ready(&client, "sim1").await;
    until_a_tick(&client).await;
    for fault in [
        Fault::Lose { next: 3 },
        Fault::Duplicate { next: 20 },
        Fault::Repeat { next: 20 },
        Fault::Reorder { next: 3 },
        Fault::LateFill { next: 1 },
        Fault::Delay { by_ms: 100, for_ms: 1_000 },
        Fault::DropConnection,
        Fault::Restart,
    ] {
        until_ready(&client, "sim1").await;
        venue.inject(fault).await;
        let order = eventually("an order to be filled", || async {
            let bought = at_market();
            match send_order(&client, "sim1", &bought).await {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error.code, ErrorCode::NotReady | ErrorCode::Dirty), "{fault:?}: {error}");
                    return None;
                }
            }
            // Orders of a market without a price are cancelled by the venue.
            let order = until_finished(&client, &bought).await;
            (order.status == OrderStatus::AllTraded).then_some(order)
        })
        .await;
        assert_eq!(order.traded, 1.0, "{fault:?}");
    }
    let agrees = || async {
        let counts = venue.counts().await;
        let trades: Vec<Trade> = list(&client, "sim1", "get_all_trades").await;
        let positions: Vec<Position> = list(&client, "sim1", "get_all_positions").await;
        let held: f64 = positions.iter().map(|position| position.volume).sum();
        let is_same = trades.len() as u64 == counts.counter.trades && held == trades.len() as f64;
        (is_same && status(&client).await?.state == GatewayState::Ready).then_some(counts)
    };
    let counts = eventually("node and venue to agree", agrees).await;
    let faults = counts.faults;
    assert_eq!((faults.lost, faults.connections_dropped, faults.restarts), (3, 1, 1));
    assert!(faults.duplicated > 0 && faults.repeated > 0 && faults.reordered > 0 && faults.held > 0, "{faults:?}");
    assert_eq!(faults.late_fills, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_command_line_are_explained() {
    if !built(&["gateway-node"]) {
        return;
    }
    let home = Home::new();
    home.file("venue.toml", "sead = 1\n");
    std::fs::create_dir(home.path().join("damaged")).expect("made");
    home.file("damaged/ledger.jsonl", "what is this\n");
    let busy = VenueProcess::start(&home, "127.0.0.1:0", &[]).await;
    for (arguments, says) in [
        (&["--listen", "127.0.0.1:0", "--ledger", "l", "--config", "venue.toml"][..], "sead"),
        (&["--listen", "127.0.0.1:0", "--ledger", "l", "--config", "none.toml"], "none.toml"),
        (&["--listen", "here", "--ledger", "l"], "--listen"),
        (&["--listen", &busy.address, "--ledger", "l"], "listening on"),
        (&["--listen", "127.0.0.1:0", "--ledger", "ledger"], "another venue is using this ledger"),
        (&["--listen", "127.0.0.1:0", "--ledger", "damaged"], "line 1"),
        (&["--listen", "127.0.0.1:0"], "--ledger"),
    ] {
        let arguments = [&["venue"], arguments].concat();
        let ended = Program::start_in("gateway-node", &arguments, home.path(), &[]).ended().await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(says) && !ended.err.contains("panicked"), "{arguments:?}: {}", ended.err);
    }
    assert_eq!(busy.program.end_by(Signal::SIGTERM).await.code, 0);
}
