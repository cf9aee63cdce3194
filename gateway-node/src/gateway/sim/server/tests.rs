//! A venue process's insides on real sockets: the scenarios of every venue, sessions, restarts, faults, and hostile
//! peers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use protocol::{OrderStatus, OrderType};
use tokio::sync::oneshot;

use super::super::control::{Control, Fault};
use super::super::feed::{FeedTick, Speed};
use super::super::ledger::{Ledger, LedgerEntry, Refusal};
use super::super::link::{self, Ask};
use super::super::remote::RemoteVenue;
use super::super::tests::{parts, tick};
use super::*;
use crate::gateway::conformance::{Rig, conformance, instrument};
use crate::gateway::{Gateway, GatewayError, SessionStart, VenueEvent, venue_channel};

conformance!(over_tcp, |ticks| async {
    let site = Site::start(ticks).await;
    let mut rig = site.rig();
    rig.keep(site);
    rig
});

/// A venue on a port and a ledger of its own.
struct Site {
    directory: tempfile::TempDir,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Site {
    async fn start(ticks: Vec<FeedTick>) -> Site {
        let directory = tempfile::tempdir().expect("a directory");
        Site::start_in(directory, ticks, true).await
    }

    async fn start_in(directory: tempfile::TempDir, ticks: Vec<FeedTick>, allow_faults: bool) -> Site {
        let ledger = directory.path().join("ledger");
        let parts = parts(Speed::Times(1000.0), ticks);
        let server = VenueServer::bind_parts(parts, 1000, "127.0.0.1:0", ledger, allow_faults).await.expect("binds");
        let address = server.address().expect("bound").to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Site { directory, address, stop: Some(stop), task }
    }

    fn rig(&self) -> Rig {
        let (sink, source) = venue_channel(1024, 1024);
        Rig::new(Box::new(RemoteVenue::new("sim1".into(), self.address.clone(), sink)), source, Box::new(()))
    }

    /// Stops the venue and keeps its ledger.
    async fn stop(mut self) -> tempfile::TempDir {
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.task.await.expect("no panic").expect("no error");
        self.directory
    }

    async fn control<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Control) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let control = Control::new(self.address.clone());
        tokio::task::spawn_blocking(move || ask(&control)).await.expect("no panic")
    }

    async fn inject(&self, fault: Fault) {
        self.control(move |control| control.inject(fault)).await.expect("injected");
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        entries(self.directory.path())
    }

    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }
}

fn entries(directory: &Path) -> Vec<LedgerEntry> {
    let records = Ledger::read(&directory.join("ledger")).expect("a ledger");
    records.into_iter().flat_map(|record| record.entries).collect()
}

fn market() -> Vec<FeedTick> {
    vec![tick(0, 100.0), tick(1, 100.0)]
}

async fn disconnected(rig: &mut Rig) -> String {
    rig.expect("the end of the session", |event| match event {
        VenueEvent::Disconnected { reason } => Some(reason),
        VenueEvent::Refused { reason } => panic!("refused: {reason}"),
        _ => None,
    })
    .await
}

async fn overflow(rig: &Rig) {
    let lost = async {
        while !rig.source.overflowed.load(std::sync::atomic::Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("the loss is noticed");
}

/// Reads to the end of the connection.
async fn read_to_end(mut stream: TcpStream) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
    .await
    .expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_login_ends_the_older_session_and_late_orders_are_refused_on_record() {
    let site = Site::start(market()).await;
    let mut old = site.raw();
    let login = Ask::LogIn { version: link::VERSION, node: "old".into(), epoch: 1 };
    old.write_all(&link::encode(&login)).expect("sent");
    let mut rig = site.rig();
    let first = loop {
        let session = site.control(Control::counts).await.expect("counts").session;
        if session > 0 {
            break session;
        }
    };
    rig.log_in(2).await;
    assert_eq!(rig.session, (first + 1).to_string());
    let request =
        protocol::OrderRequest::limit(instrument(), protocol::Direction::Long, protocol::Offset::Open, 90.0, 1.0);
    let memo = request.orderid.clone();
    old.write_all(&link::encode(&Ask::Submit { number: 1, request: Box::new(request) })).expect("still open");
    old.shutdown(std::net::Shutdown::Write).expect("shut");
    let heard = read_to_end(old).await;
    assert!(heard.contains("a newer login ended the session"), "{heard}");
    let reference = format!("{first}/1").parse().expect("a reference");
    assert!(site.ledger().contains(&LedgerEntry::Refused { reference, memo, why: Refusal::StaleSession }));
    assert_eq!(rig.snapshot().await.orders, []);

    let mut stale = site.rig();
    stale.gateway.connect(SessionStart { epoch: 1, ..SessionStart::default() }).expect("sent");
    assert!(disconnected(&mut stale).await.contains("epoch 1 is no longer the leader's"));
    assert_eq!(rig.snapshot().await.session, rig.session, "the session in force goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_venue_that_stops_and_starts_has_lost_nothing() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    rig.submit(OrderType::Limit, 101.0, 2.0);
    rig.order(OrderStatus::AllTraded).await;
    let resting = rig.submit(OrderType::Limit, 98.0, 1.0);
    rig.order(OrderStatus::NotTraded).await;
    let before = rig.snapshot().await;
    let first: u64 = rig.session.parse().expect("a number");
    let directory = site.stop().await;
    assert_eq!(disconnected(&mut rig).await, "the venue stops");
    assert_eq!(rig.gateway.request_snapshot(), Err(GatewayError::NotConnected));

    let site = Site::start_in(directory, vec![tick(0, 100.0), tick(1, 97.0)], true).await;
    let mut rig = site.rig();
    rig.log_in(1).await;
    assert_eq!(rig.session, (first + 1).to_string());
    let after = rig.snapshot().await;
    assert_eq!((&after.orders, &after.trades, &after.quotes), (&before.orders, &before.trades, &before.quotes));
    assert_eq!((&after.positions, &after.accounts), (&before.positions, &before.accounts));
    rig.gateway.subscribe(&[instrument()]).expect("sent");
    let filled = rig.order(OrderStatus::AllTraded).await;
    assert_eq!(filled.reference, resting, "what rested trades on");
    assert_eq!(rig.trade().await.tradeid, format!("{}-2", rig.session));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_demand_drops_everybody_and_loses_nothing() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    let resting = rig.submit(OrderType::Limit, 98.0, 1.0);
    rig.order(OrderStatus::NotTraded).await;
    site.inject(Fault::Restart).await;
    disconnected(&mut rig).await;
    rig.log_in(1).await;
    assert_eq!(rig.snapshot().await.orders.iter().map(|o| &o.reference).collect::<Vec<_>>(), [&resting]);
    let counts = site.control(Control::counts).await.expect("counts");
    assert_eq!((counts.counter.runs, counts.counter.sessions, counts.faults.restarts, counts.working), (2, 2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_returns_are_noticed_even_at_the_end() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    site.inject(Fault::Lose { next: 1 }).await;
    rig.submit(OrderType::Limit, 90.0, 1.0);
    // The account follows the lost order.
    overflow(&rig).await;
    assert_eq!(rig.snapshot().await.orders.len(), 1);

    rig.source.overflowed.store(false, std::sync::atomic::Ordering::Release);
    site.inject(Fault::Lose { next: 100 }).await;
    rig.submit(OrderType::Limit, 90.0, 1.0);
    // Nothing follows but heartbeats.
    overflow(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_messages_are_dropped_and_said_twice_is_heard_twice() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    for (fault, heard) in [(Fault::Repeat { next: 100 }, 1), (Fault::Duplicate { next: 100 }, 2)] {
        site.inject(fault).await;
        let reference = rig.submit(OrderType::Limit, 90.0, 1.0);
        rig.gateway.request_snapshot().expect("sent");
        let mut count = 0;
        loop {
            let event = rig.expect("an event", Some).await;
            match event {
                VenueEvent::Order(order) if order.reference == reference => count += 1,
                VenueEvent::Snapshot(_) => break,
                _ => {}
            }
        }
        assert_eq!(count, heard, "{fault:?}");
        site.inject(Fault::Repeat { next: 0 }).await;
    }
    assert!(!rig.source.overflowed.load(std::sync::atomic::Ordering::Acquire));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_drop_logins_close_and_orders_are_rejected_on_demand() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    site.inject(Fault::RejectOrders { next: 1 }).await;
    rig.submit(OrderType::Limit, 101.0, 1.0);
    assert!(rig.order(OrderStatus::Rejected).await.reason.is_some_and(|reason| reason.contains("fault")));
    site.inject(Fault::RefuseLogins { for_ms: 60_000 }).await;
    site.inject(Fault::DropConnection).await;
    disconnected(&mut rig).await;
    rig.gateway.connect(SessionStart::default()).expect("sent");
    assert!(disconnected(&mut rig).await.contains("takes no logins"));
    site.inject(Fault::RefuseLogins { for_ms: 0 }).await;
    rig.log_in(1).await;
    let counts = site.control(Control::counts).await.expect("counts");
    assert_eq!((counts.faults.connections_dropped, counts.faults.logins_refused, counts.counter.rejected), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_venue_takes_orders_and_tells_later() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    site.inject(Fault::Silence { for_ms: 600_000 }).await;
    let reference = rig.submit(OrderType::Limit, 101.0, 1.0);
    while site.control(Control::counts).await.expect("counts").counter.accepted == 0 {}
    while let Ok(event) = rig.source.events.try_recv() {
        assert!(!matches!(event, VenueEvent::Order(_)), "{event:?} is told in the silence");
    }
    site.inject(Fault::Silence { for_ms: 0 }).await;
    assert_eq!(rig.order(OrderStatus::AllTraded).await.reference, reference);
    site.inject(Fault::Delay { by_ms: 50, for_ms: 60_000 }).await;
    rig.submit(OrderType::Limit, 101.0, 1.0);
    rig.order(OrderStatus::AllTraded).await;
    assert!(site.control(Control::counts).await.expect("counts").faults.held >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_need_to_be_allowed() {
    let site = Site::start_in(tempfile::tempdir().expect("a directory"), market(), false).await;
    let error = site.control(|control| control.inject(Fault::Restart)).await.expect_err("refused");
    assert!(error.to_string().contains("--allow-faults"), "{error}");
    assert_eq!(site.control(Control::counts).await.expect("counts").counter.runs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_connection_and_nothing_else() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    let deep = "[".repeat(50_000);
    let long = "x".repeat(link::LONGEST_ASK + 1);
    let no_login = String::from_utf8(link::encode(&Ask::Snapshot)).expect("text");
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "\n", "{}\n", "null\n", &deep, &long, "\u{0}\u{0}\n", &no_login] {
        let mut stream = site.raw();
        // The venue may close before all of it is sent.
        let _ = stream.write_all(garbage.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let heard = read_to_end(stream).await;
        assert!(heard.is_empty() || heard.contains("log in first"), "{heard}");
    }
    // Half a message, and then nothing: the venue waits for it, but not for ever.
    let mut half = site.raw();
    half.write_all(b"{\"log_in\":").expect("sent");
    assert_eq!(read_to_end(half).await, "");
    rig.submit(OrderType::Limit, 101.0, 1.0);
    rig.order(OrderStatus::AllTraded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_are_places_are_closed() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    rig.open().await;
    let crowd: Vec<TcpStream> = (0..CONNECTIONS + 50).map(|_| site.raw()).collect();
    let mut last = crowd.last().expect("many").try_clone().expect("cloned");
    let ended = tokio::task::spawn_blocking(move || last.read(&mut [0; 1]).is_ok_and(|n| n == 0)).await;
    assert!(ended.expect("no panic"), "closed as it came");
    rig.submit(OrderType::Limit, 101.0, 1.0);
    rig.order(OrderStatus::AllTraded).await;
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_venue_that_is_not_there_is_told_and_tried_again() {
    let site = Site::start(market()).await;
    let mut rig = site.rig();
    let address = site.address.clone();
    let directory = site.stop().await;
    rig.gateway.connect(SessionStart::default()).expect("sent");
    let reason = disconnected(&mut rig).await;
    assert!(reason.contains(&address) && reason.contains("cannot be reached"), "{reason}");
    let site = Site::start_in(directory, market(), true).await;
    let (sink, source) = venue_channel(64, 64);
    let remote: Box<dyn Gateway> = Box::new(RemoteVenue::new("sim1".into(), site.address.clone(), sink));
    let mut rig = Rig::new(remote, source, Box::new(()));
    rig.log_in(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_read_is_dropped_and_the_venue_goes_on() {
    let site = Site::start(market()).await;
    let mut deaf = site.raw();
    deaf.write_all(&link::encode(&Ask::LogIn { version: link::VERSION, node: "deaf".into(), epoch: 1 })).expect("sent");
    let history = link::encode(&Ask::Cancel("9/9".parse().expect("a reference")));
    // Each is answered by a line; nobody reads them. The venue must end this, by its own bounds.
    let flood = tokio::task::spawn_blocking(move || {
        deaf.set_write_timeout(Some(Duration::from_secs(60))).expect("set");
        while deaf.write_all(&history).is_ok() {}
    });
    tokio::time::timeout(Duration::from_secs(120), flood).await.expect("dropped").expect("no panic");
    let mut rig = site.rig();
    rig.open().await;
    rig.submit(OrderType::Limit, 101.0, 1.0);
    rig.order(OrderStatus::AllTraded).await;
}
