//! Two nodes, one gateway, and a venue that outlives both: one leads, the other takes over, and nothing is lost or done
//! twice.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::Client;
use client_sdk::Filter;
use futures::StreamExt;
use gateway_node::gateway::sim::ledger::LedgerEntry;
use nix::sys::signal::Signal;
use protocol::journal::{Entry, Private};
use protocol::{Direction, GatewayState, Offset, Order, OrderId, OrderRequest, OrderStatus, Status, codec};

use crate::support::node_process::Home;
use crate::support::program::{Program, built};
use crate::support::script::instrument;
use crate::support::{TestBroker, call, eventually, in_ms, read, send_order};
use crate::venue::{VenueProcess, entries};

/// Short, so that a test waits for little; long enough for a busy machine.
const LEASE: &str = "[lease]\nduration = \"2 s\"\n";

fn resting() -> OrderRequest {
    // Far below a market around 3600, and inside its limits: it rests.
    OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3300.0, 1.0)
}

/// A broker, a venue, and what nodes of the gateway `sim1` are started from.
struct Site {
    broker: TestBroker,
    venue: VenueProcess,
    home: Home,
    client: Client,
}

impl Site {
    async fn start() -> Site {
        let broker = TestBroker::start().await;
        let home = Home::new();
        let venue = VenueProcess::start(&home, "127.0.0.1:0", &[]).await;
        let client = broker.client().await;
        Site { broker, venue, home, client }
    }

    fn config(&self, node: &str) -> PathBuf {
        let url = self.broker.url();
        let gateway = self.venue.gateway();
        let text = format!("[node]\nname = \"{node}\"\n[broker]\naddress = \"{url}\"\n{LEASE}{gateway}");
        self.home.file(&format!("{node}.toml"), &text)
    }

    fn node(&self, name: &str) -> Program {
        self.config(name);
        Program::start_in("gateway-node", &["--config", &format!("{name}.toml")], self.home.path(), &[])
    }

    /// Waits until this node leads and takes orders.
    async fn until_led_by(&self, node: &str) -> Status {
        eventually(&format!("{node} to lead"), || async {
            let request = self.client.request("rpc.sim1.get_status", "".into());
            let reply = tokio::time::timeout(Duration::from_millis(500), request).await.ok()?.ok()?;
            let status: Status = codec::decode(&reply.payload).ok()?;
            (status.node == node && status.state == GatewayState::Ready).then_some(status)
        })
        .await
    }

    /// How often the venue took this order, and how often it refused it at the door.
    fn received(&self, id: &OrderId) -> (usize, usize) {
        let entries = entries(&self.home);
        let accepted = entries.iter().filter(|e| matches!(e, LedgerEntry::OrderAccepted { memo, .. } if memo == id));
        let refused = entries.iter().filter(|e| matches!(e, LedgerEntry::Refused { memo, .. } if memo == id));
        (accepted.count(), refused.count())
    }

    async fn order(&self, id: &OrderId) -> Option<Order> {
        let params = serde_json::json!({ "orderid": id }).to_string();
        serde_json::from_value(call(&self.client, "sim1", "get_order", &params).await.ok()?).ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_with_every_order_id_and_subscription() {
    if !built(&["gateway-node"]) {
        return;
    }
    let site = Site::start().await;
    let first = site.node("a");
    let led = site.until_led_by("a").await;
    let mut second = site.node("b");
    second.until("it to stand by", |p| p.err().contains("sim1 trading").then_some(())).await;

    let sdk = client_sdk::Client::connect(site.broker.url().as_str()).await.expect("connects");
    let mut ticks = sdk.ticks(Filter::all()).await.expect("a stream");
    sdk.gateway("sim1").subscribe(&instrument()).await.expect("subscribed");
    let mirror = sdk.mirror("sim1").await.expect("a mirror");
    let rests = resting();
    send_order(&site.client, "sim1", &rests).await.expect("taken");
    mirror.wait_for(|state| state.active_orders().any(|o| o.status == OrderStatus::NotTraded)).await;
    assert_eq!(first.end_by(Signal::SIGKILL).await.code, 137);

    let taken_over = site.until_led_by("b").await;
    assert!(taken_over.epoch > led.epoch);
    // The venue has kept the order, so it works on; sent again under its id it is not a second one.
    assert_eq!(site.order(&rests.orderid).await.expect("known").status, OrderStatus::NotTraded);
    let again = send_order(&site.client, "sim1", &rests).await.expect("its state");
    assert_eq!(again.status, OrderStatus::NotTraded);
    assert_eq!(site.received(&rests.orderid), (1, 0));
    // Nobody subscribed again, and the ticks go on under the new epoch.
    let epoch = tokio::time::timeout(crate::support::PATIENCE, async {
        while let Some(update) = ticks.next().await {
            if let client_sdk::Update::Event(tick) = update
                && tick.epoch == taken_over.epoch
            {
                return Some(tick.epoch);
            }
        }
        None
    });
    assert_eq!(epoch.await.expect("in time"), Some(taken_over.epoch));
    // The mirror follows without being told.
    let cancel = serde_json::json!({ "orderid": rests.orderid }).to_string();
    eventually("the cancel to go out", || async {
        let bytes = cancel.clone().into_bytes().into();
        let reply = site.client.request_with_headers("rpc.sim1.cancel_order", in_ms(5_000), bytes).await.ok()?;
        read(&reply).ok()
    })
    .await;
    mirror.wait_for(|state| state.orders().values().any(|o| o.status == OrderStatus::Cancelled)).await;
    assert_eq!(second.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_for_longer_than_its_lease_does_nothing_any_more() {
    if !built(&["gateway-node"]) {
        return;
    }
    let site = Site::start().await;
    let first = site.node("a");
    let old = site.until_led_by("a").await;
    let second = site.node("b");
    // Requests that reach it while it is stopped: it finds them when it goes on, its deadline not over yet.
    first.signal(Signal::SIGSTOP);
    let late = resting();
    let inbox = site.client.new_inbox();
    let mut answers = site.client.subscribe(inbox.clone()).await.expect("subscribed");
    let bytes = codec::encode(&late).expect("encodes");
    site.client
        .publish_with_reply_and_headers("rpc.sim1.send_order", inbox, in_ms(60_000), bytes.into())
        .await
        .expect("published");
    let new = site.until_led_by("b").await;
    assert!(new.epoch > old.epoch);
    let fresh = resting();
    send_order(&site.client, "sim1", &fresh).await.expect("the successor takes orders");
    first.signal(Signal::SIGCONT);
    eventually("it to stand by", || async { first.err().contains("standing by").then_some(()) }).await;

    // It stays silent, and what it was sent reaches the venue neither now nor later.
    let other = resting();
    send_order(&site.client, "sim1", &other).await.expect("the successor still leads");
    let silence = tokio::time::timeout(Duration::from_millis(500), answers.next()).await;
    assert!(silence.is_err(), "a former leader answered: {silence:?}");
    assert_eq!(site.received(&late.orderid), (0, 0));
    assert_eq!(site.received(&fresh.orderid), (1, 0));
    assert_eq!(site.order(&late.orderid).await, None);
    // Nothing came from it after the newer login: neither an order nor a login of its own.
    let logins: Vec<u64> = entries(&site.home)
        .into_iter()
        .filter_map(|entry| if let LedgerEntry::LoggedIn { epoch, .. } = entry { Some(epoch) } else { None })
        .collect();
    assert_eq!(logins, [old.epoch, new.epoch]);
    // Sent to whoever leads, it is an order like any other.
    send_order(&site.client, "sim1", &late).await.expect("taken");
    eventually("the venue to have it", || async { (site.received(&late.orderid) == (1, 0)).then_some(()) }).await;
    for node in [first, second] {
        assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_hands_over_at_once() {
    if !built(&["gateway-node", "gatectl"]) {
        return;
    }
    let site = Site::start().await;
    let first = site.node("a");
    site.until_led_by("a").await;
    let mut second = site.node("b");
    second.until("it to stand by", |p| p.err().contains("sim1 trading").then_some(())).await;
    let rests = resting();
    send_order(&site.client, "sim1", &rests).await.expect("taken");
    assert_eq!(first.end_by(Signal::SIGTERM).await.code, 0);
    site.until_led_by("b").await;
    assert!(!second.err().contains("lease is lost"), "{}", second.err());
    assert_eq!(site.order(&rests.orderid).await.expect("known").status, OrderStatus::NotTraded);

    // The audit trail tells of both, and is sound.
    let url = site.broker.url();
    let verified = Program::start("gatectl", &["--server", &url, "journal", "verify"]).ended().await;
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    assert!(
        verified.out.contains("2 leaderships") && verified.out.contains("the journal is sound"),
        "{}",
        verified.out
    );
    let shown = ["--server", &url, "journal", "show", "--order", rests.orderid.as_str()];
    let shown = Program::start("gatectl", &shown).ended().await;
    assert!(shown.out.contains("SUBMITTING") && shown.out.contains("NOTTRADED"), "{}", shown.out);
    let exported = Program::start("gatectl", &["--server", &url, "journal", "export"]).ended().await;
    let first: serde_json::Value = serde_json::from_str(exported.out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((first["sequence"].as_u64(), first["subject"].as_str()), (Some(1), Some("journal.sim1.fence")));
    assert_eq!(second.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_leases_that_is_made_anew_counts_on_from_the_journals() {
    if !built(&["gateway-node"]) {
        return;
    }
    let site = Site::start().await;
    let node = site.node("a");
    let before = site.until_led_by("a").await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
    let jetstream = async_nats::jetstream::new(site.client.clone());
    jetstream.delete_key_value("leases").await.expect("deleted");
    let node = site.node("a");
    let after = site.until_led_by("a").await;
    assert!(after.epoch > before.epoch, "{} is not above {}", after.epoch, before.epoch);

    // While a node leads, it is not to be trusted: what the bucket then says is below what the journal has seen.
    jetstream.delete_key_value("leases").await.expect("deleted");
    jetstream
        .create_key_value(async_nats::jetstream::kv::Config {
            bucket: "leases".to_owned(),
            max_age: Duration::from_secs(2),
            ..Default::default()
        })
        .await
        .expect("made by somebody else");
    eventually("it to refuse such an epoch", || async { node.err().contains("is not above").then_some(()) }).await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_never_sent_is_explained_by_the_successor() {
    if !built(&["gateway-node"]) {
        return;
    }
    let site = Site::start().await;
    let first = site.node("a");
    let led = site.until_led_by("a").await;
    assert_eq!(first.end_by(Signal::SIGKILL).await.code, 137);
    // As if it had been killed between the journal and the venue: the intent is stored, and nobody sent it.
    let request = resting();
    let mut intent = request.to_order(&"sim1".into(), &"default".into());
    intent.venue_reference = Some("1/1".into());
    intent.deadline = Some(gateway_node::clock::wall_clock());
    let event = protocol::Event {
        gateway: "sim1".into(),
        epoch: led.epoch,
        seq: 1,
        time: gateway_node::clock::wall_clock(),
        data: protocol::OmsEvent::Order(intent),
    };
    let (subject, payload) = protocol::journal::encode_entry("sim1", &Entry::Event(Box::new(event))).expect("encodes");
    let jetstream = async_nats::jetstream::new(site.client.clone());
    let mut stream = jetstream.get_stream("JOURNAL_sim1").await.expect("a journal");
    let last = stream.info().await.expect("its state").state.last_sequence;
    let number = last - 1;
    let message = async_nats::jetstream::message::PublishMessage::build().payload(payload.into()).message_id(format!(
        "{}-{}",
        led.epoch,
        number + 1
    ));
    jetstream.send_publish(subject, message).await.expect("sent").await.expect("stored");

    let second = site.node("b");
    site.until_led_by("b").await;
    let explained = eventually("an explanation", || async {
        site.order(&request.orderid).await.filter(|order| order.status == OrderStatus::Rejected)
    })
    .await;
    assert!(explained.reason.as_deref().is_some_and(|reason| !reason.is_empty()), "{explained:?}");
    assert_eq!(site.received(&request.orderid), (0, 0));
    let again = send_order(&site.client, "sim1", &request).await.expect("its state");
    assert_eq!(again.status, OrderStatus::Rejected, "an id is used once, whatever came of it");
    assert_eq!(second.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_leaders_entries_are_not_stored() {
    let site = Site::start().await;
    let first = site.node("a");
    let led = site.until_led_by("a").await;
    assert_eq!(first.end_by(Signal::SIGKILL).await.code, 137);
    let jetstream = async_nats::jetstream::new(site.client.clone());
    let stream = jetstream.get_stream("JOURNAL_sim1").await.expect("a journal");
    let last = stream.get_info().await.expect("its state").state.last_sequence;
    let second = site.node("b");
    site.until_led_by("b").await;
    let private = Private::Halts { halts: Default::default(), entries: None };
    let (subject, payload) = protocol::journal::encode_entry("sim1", &Entry::Private(private)).expect("encodes");
    // Everything that it may have had on its way, whatever of it had arrived.
    for number in 0..protocol::journal::WINDOW as u64 {
        let message = async_nats::jetstream::message::PublishMessage::build()
            .payload(payload.clone().into())
            .message_id(format!("{}-{}", led.epoch, 1_000 + number))
            .expected_last_sequence(last + number);
        let stored = jetstream.send_publish(subject.clone(), message).await.expect("sent").await;
        let refused = stored.expect_err("behind another leader").to_string();
        assert!(refused.contains("wrong last"), "{refused}");
    }
    assert_eq!(second.end_by(Signal::SIGTERM).await.code, 0);
}
