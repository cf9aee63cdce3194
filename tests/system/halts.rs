//! The kill switch, with real processes: what it reaches, how fast, and what it outlives.

use std::time::Instant;

use async_nats::Client;
use nix::sys::signal::Signal;
use protocol::{GatewayState, Order, OrderStatus, Status};

use crate::support::node_process::Home;
use crate::support::program::{Ended, Program, built, run};
use crate::support::{TestBroker, call, eventually, list, sim, until_ready, until_state};
use crate::venue::VenueProcess;

/// Short, so that a node that was killed is soon followed.
const LEASE: &str = "[lease]\nduration = \"2 s\"\n";

struct Site {
    broker: TestBroker,
    home: Home,
    client: Client,
}

impl Site {
    async fn start() -> Option<Site> {
        if !built(&["gateway-node", "gatectl"]) {
            return None;
        }
        let broker = TestBroker::start().await;
        let (home, client) = (Home::new(), broker.client().await);
        Some(Site { broker, home, client })
    }

    fn node(&self, name: &str, gateways: &str) -> Program {
        let url = self.broker.url();
        let text = format!(
            "[node]\nname = \"{name}\"\n[broker]\naddress = \"{url}\"\n[journal]\nmax_bytes = 67108864\n{LEASE}{gateways}"
        );
        self.home.file(&format!("{name}.toml"), &text);
        Program::start_in("gateway-node", &["--config", &format!("{name}.toml")], self.home.path(), &[])
    }

    async fn ctl(&self, line: &str) -> Ended {
        let url = self.broker.url();
        let words = ["--server", &url].into_iter().chain(line.split_whitespace());
        run("gatectl", &words.collect::<Vec<_>>()).await
    }

    async fn status(&self, gateway: &str) -> Option<Status> {
        // Nothing, while nobody answers.
        let reply = self.client.request(format!("rpc.{gateway}.get_status"), "".into()).await.ok()?;
        protocol::codec::decode(&reply.payload).ok()
    }

    async fn until_halts(&self, gateway: &str, count: usize) -> Status {
        eventually(&format!("{count} halts on {gateway}"), || async {
            self.status(gateway).await.filter(|status| status.halts.len() == count)
        })
        .await
    }

    async fn until_price(&self, gateway: &str) {
        eventually("a tick", || async {
            let tick = call(&self.client, gateway, "get_tick", r#"{"symbol":"rb2410","exchange":"SHFE"}"#).await;
            tick.ok().filter(|tick| !tick.is_null())
        })
        .await;
    }

    async fn until_order(&self, gateway: &str, id: &str, status: OrderStatus) -> Order {
        eventually(&format!("{id} to be {status}"), || async {
            let orders: Vec<Order> = list(&self.client, gateway, "get_all_orders").await;
            orders.into_iter().find(|order| order.orderid.as_str() == id && order.status == status)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_of_everything_reaches_every_node_and_outlives_them() {
    let Some(site) = Site::start().await else { return };
    let (first, second) = (site.node("a", &sim("sim1")), site.node("b", &sim("sim2")));
    for gateway in ["sim1", "sim2"] {
        until_ready(&site.client, gateway).await;
    }
    site.ctl("-g sim2 send rb2410.SHFE buy 1 --price 3300 --id rests").await.ok();
    site.ctl("-g sim2 send rb2410.SHFE buy 1 --price 3300 --id rests-too").await.ok();

    // Told to one gateway only, so that the other hears of it through the bucket.
    let asked = Instant::now();
    call(&site.client, "sim1", "halt", r#"{"all":true,"reason":"drill","cancel":false}"#).await.expect("halted");
    let answered = asked.elapsed();
    site.until_halts("sim2", 1).await;
    eprintln!("a halt was answered after {answered:?} and held on the other node after {:?}", asked.elapsed());
    for gateway in ["sim1", "sim2"] {
        let said = site.ctl(&format!("-g {gateway} send rb2410.SHFE buy 1 --price 3300")).await.failed(1);
        assert!(said.contains("HALTED: new orders are halted for everything: drill"), "{said}");
    }
    let told = site.ctl("status").await.ok();
    assert!(told.contains("sim2: everything halted since") && told.contains(": drill"), "{told}");
    site.ctl("-g sim2 cancel rests").await.ok();
    site.until_order("sim2", "rests", OrderStatus::Cancelled).await;

    assert_eq!(second.end_by(Signal::SIGKILL).await.code, 137);
    let second = site.node("b", &sim("sim2"));
    until_ready(&site.client, "sim2").await;
    assert_eq!(site.until_halts("sim2", 1).await.halted, ["*"]);
    let said = site.ctl("-g sim2 send rb2410.SHFE buy 1 --price 3300").await.failed(1);
    assert!(said.contains("HALTED"), "{said}");

    // The bucket is lost with all that it held: nobody takes that for a resume.
    let jetstream = async_nats::jetstream::new(site.client.clone());
    jetstream.delete_key_value("halts").await.expect("deleted");
    eventually("the bucket to hold the halt again", || async {
        let bucket = jetstream.get_key_value("halts").await.ok()?;
        bucket.get("all").await.ok().flatten()
    })
    .await;
    assert_eq!(site.until_halts("sim2", 1).await.halted, ["*"]);

    let resumed = site.ctl("resume --all").await.ok();
    assert!(resumed.contains("takes new orders from everybody"), "{resumed}");
    for gateway in ["sim1", "sim2"] {
        site.until_halts(gateway, 0).await;
        site.ctl(&format!("-g {gateway} send rb2410.SHFE buy 1 --price 3300")).await.ok();
    }
    assert_eq!((first.end_by(Signal::SIGTERM).await.code, second.end_by(Signal::SIGTERM).await.code), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_takes_what_works_and_external_orders_only_if_told_to() {
    let Some(mut site) = Site::start().await else { return };
    let venue = VenueProcess::start(&site.home, "127.0.0.1:0", &[]).await;
    let node = site.node("a", &venue.gateway());
    until_ready(&site.client, "sim1").await;
    site.until_price("sim1").await;
    site.ctl("send rb2410.SHFE buy 1 --price 3300 --id before").await.ok();
    site.until_order("sim1", "before", OrderStatus::NotTraded).await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);

    // Another world, the same venue: there the order is one that nobody sent.
    site.broker = TestBroker::start().await;
    site.client = site.broker.client().await;
    let node = site.node("a", &venue.gateway());
    until_ready(&site.client, "sim1").await;
    site.until_price("sim1").await;
    site.ctl("send rb2410.SHFE buy 1 --price 3310 --id mine").await.ok();
    site.until_order("sim1", "mine", OrderStatus::NotTraded).await;
    let working: Vec<Order> = list(&site.client, "sim1", "get_all_active_orders").await;
    let external = working.iter().find(|order| order.owner == "external").expect("found at the venue");
    let external = external.orderid.as_str().to_owned();

    site.ctl("halt --cancel --reason drill").await.ok();
    site.until_order("sim1", "mine", OrderStatus::Cancelled).await;
    site.until_order("sim1", &external, OrderStatus::NotTraded).await;
    let said = site.ctl("halt --external").await.failed(2);
    assert!(said.contains("--cancel"), "{said}");
    site.ctl("halt --cancel --external --reason drill").await.ok();
    site.until_order("sim1", &external, OrderStatus::Cancelled).await;
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_cancels_what_works_at_a_venue_that_was_away_when_it_was_told() {
    let Some(site) = Site::start().await else { return };
    let venue = VenueProcess::start(&site.home, "127.0.0.1:0", &[]).await;
    let gateway = venue.gateway().replace("\"sim1\"", "\"sim2\"");
    let (first, second) = (site.node("a", &sim("sim1")), site.node("b", &gateway));
    for gateway in ["sim1", "sim2"] {
        until_ready(&site.client, gateway).await;
    }
    site.until_price("sim2").await;
    site.ctl("-g sim2 send rb2410.SHFE buy 1 --price 3300 --id rests").await.ok();
    site.until_order("sim2", "rests", OrderStatus::NotTraded).await;
    let address = venue.address;
    assert_eq!(venue.program.end_by(Signal::SIGKILL).await.code, 137);
    eventually("sim2 to miss its venue", || async {
        site.status("sim2").await.filter(|status| status.state != GatewayState::Ready)
    })
    .await;

    // Told to the other gateway only; and then again, by somebody who does not say cancel.
    for request in [r#"{"all":true,"cancel":true,"reason":"drill"}"#, r#"{"all":true,"reason":"why"}"#] {
        call(&site.client, "sim1", "halt", request).await.expect("halted");
        let reason = if request.contains("why") { "why" } else { "drill" };
        eventually("sim2 to have heard of it", || async {
            site.status("sim2").await.filter(|status| status.halts.iter().any(|halt| halt.reason == reason))
        })
        .await;
    }
    assert_eq!(second.end_by(Signal::SIGKILL).await.code, 137);
    let second = site.node("b", &gateway);
    let held = site.until_halts("sim2", 1).await;
    assert!(held.halts[0].cancel && held.halts[0].reason == "why", "{:?}", held.halts);

    let _venue = VenueProcess::start(&site.home, &address, &[]).await;
    site.until_order("sim2", "rests", OrderStatus::Cancelled).await;
    assert_eq!((first.end_by(Signal::SIGTERM).await.code, second.end_by(Signal::SIGTERM).await.code), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_understands_is_ended_by_its_name() {
    let Some(site) = Site::start().await else { return };
    let node = site.node("a", &sim("sim1"));
    until_ready(&site.client, "sim1").await;
    let jetstream = async_nats::jetstream::new(site.client.clone());
    let bucket = jetstream.get_key_value("halts").await.expect("made by the node");
    bucket.put("test", "x".into()).await.expect("put");
    // A name that the bucket's own interface would not take is one all the same.
    site.client.publish("$KV.halts.a:b", "{}".into()).await.expect("published");
    site.until_halts("sim1", 2).await;
    let said = site.ctl("-g sim1 send rb2410.SHFE buy 1 --price 3300").await.failed(1);
    assert!(said.contains("HALTED") && said.contains("gatectl resume --key 'a:b'"), "{said}");
    // Taking the key away ends nothing.
    bucket.delete("test").await.expect("deleted");
    for key in ["test", "a:b"] {
        site.ctl(&format!("resume --key {key}")).await.ok();
    }
    site.until_halts("sim1", 0).await;
    site.ctl("-g sim1 send rb2410.SHFE buy 1 --price 3300").await.ok();
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reduce_only_lets_out_and_nobody_in() {
    let Some(site) = Site::start().await else { return };
    let node = site.node("a", &sim("sim1"));
    until_ready(&site.client, "sim1").await;
    site.until_price("sim1").await;
    site.ctl("send rb2410.SHFE buy 2 --type market --id in --wait").await.ok();
    let said = site.ctl("halt --owner default --reduce-only --reason drill").await.ok();
    assert!(said.contains("takes only what lessens a position, for owner default"), "{said}");
    let said = site.ctl("send rb2410.SHFE buy 1 --type market").await.failed(1);
    assert!(said.contains("HALTED") && said.contains("LONG OPEN opens a position"), "{said}");
    site.ctl("send rb2410.SHFE sell 1 --type market --offset closetoday --id out --wait").await.ok();
    site.until_order("sim1", "out", OrderStatus::AllTraded).await;
    site.ctl("halt --owner default").await.ok();
    let said = site.ctl("send rb2410.SHFE sell 1 --type market --offset closetoday").await.failed(1);
    assert!(said.contains("HALTED"), "{said}");
    site.ctl("resume --owner default").await.ok();
    site.ctl("send rb2410.SHFE buy 1 --type market").await.ok();
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_the_halts_is_halted_until_it_can() {
    let Some(site) = Site::start().await else { return };
    // Whoever has taken the bucket's subjects keeps it from being made.
    let jetstream = async_nats::jetstream::new(site.client.clone());
    let squatter = async_nats::jetstream::stream::Config {
        name: "SQUATTER".to_owned(),
        subjects: vec!["$KV.halts.>".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(squatter).await.expect("made");
    let node = site.node("a", &sim("sim1"));
    until_state(&site.client, "sim1", GatewayState::Ready).await;
    let said = eventually("the reason", || async {
        let said = site.ctl("-g sim1 send rb2410.SHFE buy 1 --price 3300").await.failed(1);
        said.contains("cannot be opened").then_some(said)
    })
    .await;
    assert!(said.contains("HALTED") && said.contains("NATS bucket `halts`"), "{said}");
    let status = site.status("sim1").await.expect("a status");
    assert_eq!(status.halted, ["*"]);
    assert!(site.ctl("status").await.ok().contains("the halts in the NATS bucket `halts` are not known"));
    // Halts hold here all the same, and say that nobody else hears of them.
    let said = site.ctl("-g sim1 halt --reason drill").await.failed(1);
    assert!(said.contains("PARTLY_DONE: halted on this gateway only"), "{said}");

    jetstream.delete_stream("SQUATTER").await.expect("deleted");
    eventually("the halt to be in the bucket", || async {
        let status = site.status("sim1").await?;
        (status.halts.len() == 1 && !status.halts[0].local).then_some(())
    })
    .await;
    site.ctl("-g sim1 resume").await.ok();
    site.ctl("-g sim1 send rb2410.SHFE buy 1 --price 3300").await.ok();
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
