//! The venue as the node meets it: through the trait and the two queues.

use std::time::Duration;

use protocol::{
    Account, Direction, Exchange, Level, LogLevel, Offset, OrderStatus, OrderType, Position, Product, Tick,
};

use super::feed::{FeedError, FeedTick};
use super::*;
use crate::gateway::conformance::{Rig, conformance};
use crate::gateway::{
    Answer, LivingSessions, SequencedTick, VenueEvent, VenueOrder, VenueSnapshot, VenueSource, venue_channel,
};
use crate::risk::check_order;

struct Script(std::vec::IntoIter<FeedTick>);

impl Feed for Script {
    fn next(&mut self) -> Option<Result<FeedTick, FeedError>> {
        self.0.next().map(Ok)
    }
    fn instruments(&self) -> Vec<InstrumentId> {
        vec![instrument()]
    }
}

pub(super) fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

pub(super) fn contract(symbol: &str) -> Contract {
    Contract::new("sim1", InstrumentId::new(symbol, Exchange::SHFE), Product::Futures, 10.0, 1.0)
}

/// A tick due after so many seconds, with 5 lots at 1 below and above the last price.
pub(super) fn tick(seconds: u64, last: f64) -> FeedTick {
    let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
    let mut tick = Tick::new("sim1", instrument(), time + Duration::from_secs(seconds));
    (tick.last_price, tick.volume) = (Some(last), Some(100.0));
    tick.trading_day = chrono::NaiveDate::from_ymd_opt(2024, 1, 2);
    tick.bids.push(Level(last - 1.0, 5.0));
    tick.asks.push(Level(last + 1.0, 5.0));
    FeedTick { at: Duration::from_secs(seconds), tick }
}

pub(super) fn parts(speed: Speed, ticks: Vec<FeedTick>) -> Parts {
    Parts {
        gateway: "sim1".into(),
        contracts: vec![contract("rb2410"), contract("rb2411")],
        feed: Box::new(Script(ticks.into_iter())),
        speed,
        start_on: StartOn::Subscribe,
        terms: config::AccountConfig::default().into(),
        faults: FaultConfig::default(),
    }
}

conformance!(in_process, |ticks| async {
    let (sink, source) = venue_channel(1024, 1024);
    let venue = SimGateway::start(parts(Speed::Max, ticks), sink).expect("a thread starts");
    Rig::new(Box::new(venue), source, Box::new(()))
});

/// The node's side of a venue.
struct Desk {
    venue: SimGateway,
    source: VenueSource,
    session: Name,
    orders: u64,
}

impl Desk {
    fn new(parts: Parts, events: usize, ticks: usize) -> Desk {
        let (sink, source) = venue_channel(events, ticks);
        let venue = SimGateway::start(parts, sink).expect("a thread starts");
        Desk { venue, source, session: Name::default(), orders: 0 }
    }

    /// The next event that `wanted` makes something of; what comes before is passed over.
    async fn expect<T>(&mut self, wanted: impl Fn(VenueEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.source.events.recv().await.expect("the venue lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.expect("the event comes")
    }

    async fn log_in(&mut self, start: SessionStart) {
        self.venue.connect(start).expect("sent");
        self.session = self
            .expect(|event| match event {
                VenueEvent::Connected { session, max_reference: 0, .. } => Some(session),
                _ => None,
            })
            .await;
        self.expect(|event| matches!(event, VenueEvent::Ready).then_some(())).await;
    }

    async fn ticks(&mut self, count: usize) -> Vec<SequencedTick> {
        let mut ticks = Vec::new();
        let take = async {
            while ticks.len() < count {
                self.source.ticks.pop_batch(&mut ticks, 7).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), take).await.expect("the ticks come");
        ticks
    }

    fn submit(&mut self, order_type: OrderType, price: f64, volume: f64) -> VenueReference {
        let request = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, price, volume);
        let approved = check_order(
            OrderRequest { r#type: order_type, ..request },
            &Contract { stop_supported: true, ..contract("rb2410") },
        );
        self.orders += 1;
        let reference = VenueReference { session: self.session.clone(), number: self.orders };
        self.venue.submit(&reference, &approved.expect("valid")).expect("sent");
        reference
    }

    async fn order(&mut self, status: OrderStatus) -> VenueOrder {
        self.expect(|event| match event {
            VenueEvent::Order(order) if order.status == status => Some(order),
            _ => None,
        })
        .await
    }

    async fn position(&mut self) -> Position {
        self.expect(|event| if let VenueEvent::Position(position) = event { Some(position) } else { None }).await
    }

    async fn account(&mut self) -> Account {
        self.expect(|event| if let VenueEvent::Account(account) = event { Some(account) } else { None }).await
    }

    async fn snapshot(&mut self) -> VenueSnapshot {
        self.venue.request_snapshot().expect("sent");
        self.expect(|event| if let VenueEvent::Snapshot(snapshot) = event { Some(*snapshot) } else { None }).await
    }
}

pub(super) fn epoch(epoch: u64) -> SessionStart {
    SessionStart { epoch, ..SessionStart::default() }
}

#[tokio::test]
async fn a_session_from_login_to_close() {
    let mut desk = Desk::new(parts(Speed::Max, vec![tick(0, 100.0), tick(1, 100.0)]), 64, 64);
    desk.log_in(epoch(7)).await;
    assert_eq!(desk.session, "7-1");
    desk.venue.subscribe(&[instrument()]).expect("sent");
    let seqs: Vec<_> = desk.ticks(2).await.iter().map(|tick| tick.seq).collect();
    assert_eq!(seqs, [1, 2]);
    let ended = |event| matches!(event, VenueEvent::Log { message, .. } if message == "feed ended").then_some(());
    desk.expect(ended).await;

    let filled = desk.submit(OrderType::Limit, 101.0, 2.0);
    assert_eq!(desk.order(OrderStatus::AllTraded).await.reference, filled);
    let trade = desk.expect(|event| if let VenueEvent::Trade(trade) = event { Some(trade) } else { None }).await;
    assert_eq!((trade.tradeid.as_str(), trade.price, trade.volume), ("7-1-1", 101.0, 2.0));
    assert_eq!(desk.position().await.volume, 2.0);
    assert_eq!(desk.account().await.frozen, 0.0);

    let resting = desk.submit(OrderType::Limit, 99.0, 1.0);
    assert!(desk.account().await.frozen > 0.0);
    desk.venue.cancel(&resting).expect("sent");
    assert_eq!(desk.order(OrderStatus::Cancelled).await.reference, resting);

    let snapshot = desk.snapshot().await;
    assert_eq!((snapshot.session.as_str(), snapshot.living), ("7-1", LivingSessions::Own));
    assert_eq!((snapshot.orders.len(), snapshot.trades.len(), snapshot.positions.len()), (2, 1, 1));

    desk.venue.query_position(QueryToken(1)).expect("sent");
    assert_eq!(desk.position().await.volume, 2.0);
    desk.venue.query_account(QueryToken(2)).expect("sent");
    let answered = VenueEvent::Answer { token: QueryToken(2), answer: Ok(Answer::Sent) };
    desk.expect(|event| (event == answered).then_some(())).await;
    let request = HistoryRequest {
        symbol: instrument().symbol,
        exchange: Exchange::SHFE,
        start: tick(0, 1.0).tick.datetime,
        end: None,
        interval: None,
    };
    desk.venue.query_history(QueryToken(3), &request).expect("sent");
    let bars = desk.expect(|event| match event {
        VenueEvent::Answer { token: QueryToken(3), answer: Ok(Answer::History(bars)) } => Some(bars),
        _ => None,
    });
    assert_eq!(bars.await.len(), 1);

    desk.venue.close();
    while desk.source.events.recv().await.is_some() {}
    assert_eq!(desk.venue.request_snapshot(), Err(GatewayError::NotConnected));
    assert!(!desk.source.overflowed.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_reference_belongs_to_its_session() {
    let mut desk = Desk::new(parts(Speed::Max, vec![]), 64, 64);
    let order = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 100.0, 1.0);
    let approved = check_order(order, &contract("rb2410")).expect("valid");
    let reference = VenueReference { session: "7-1".into(), number: 1 };
    assert_eq!(desk.venue.submit(&reference, &approved), Err(GatewayError::NotConnected));
    desk.log_in(epoch(7)).await;
    desk.log_in(epoch(7)).await;
    assert_eq!(desk.session, "7-2");
    assert_eq!(desk.venue.submit(&reference, &approved), Err(GatewayError::SessionChanged));
    desk.venue.disconnect();
    assert_eq!(desk.venue.cancel(&reference), Err(GatewayError::NotConnected));
}

#[tokio::test]
async fn orders_outlive_a_session_but_not_a_leader() {
    let mut desk = Desk::new(parts(Speed::Max, vec![tick(0, 100.0)]), 64, 64);
    desk.log_in(epoch(7)).await;
    desk.venue.subscribe(&[instrument()]).expect("sent");
    desk.ticks(1).await;
    desk.submit(OrderType::Limit, 101.0, 2.0);
    desk.order(OrderStatus::AllTraded).await;
    let resting = desk.submit(OrderType::Limit, 90.0, 1.0);
    desk.order(OrderStatus::NotTraded).await;

    desk.venue.disconnect();
    desk.log_in(epoch(7)).await;
    let snapshot = desk.snapshot().await;
    assert_eq!(
        snapshot.orders.last().map(|order| (&order.reference, order.status.is_active())),
        Some((&resting, true))
    );
    desk.venue.cancel(&resting).expect("an older session's order can be cancelled");
    desk.order(OrderStatus::Cancelled).await;

    let (positions, accounts) = (snapshot.positions, snapshot.accounts);
    desk.submit(OrderType::Limit, 90.0, 1.0);
    desk.log_in(SessionStart { epoch: 8, positions: positions.clone(), accounts: accounts.clone() }).await;
    let snapshot = desk.snapshot().await;
    assert!(snapshot.orders.is_empty() && snapshot.trades.is_empty());
    assert_eq!((snapshot.positions, snapshot.accounts[0].balance), (positions, accounts[0].balance));
    assert_eq!(snapshot.accounts[0].frozen, 0.0);
}

#[tokio::test]
async fn an_unpaced_feed_loses_nothing_and_still_serves() {
    let mut desk = Desk::new(parts(Speed::Max, (0..3000).map(|n| tick(n, 100.0)).collect()), 64, 4);
    desk.log_in(epoch(1)).await;
    desk.venue.subscribe(&[instrument()]).expect("sent");
    let first = desk.ticks(1).await;
    desk.submit(OrderType::Limit, 101.0, 1.0);
    desk.order(OrderStatus::AllTraded).await;
    let rest = desk.ticks(3000 - first.len()).await;
    assert!(first.iter().chain(&rest).zip(1..).all(|(tick, seq)| tick.seq == seq));
    assert_eq!(desk.source.ticks.counts().conflated, 0);
}

#[tokio::test]
async fn the_feed_waits_for_the_first_subscription_and_keeps_its_pace() {
    let mut desk = Desk::new(parts(Speed::Times(1.0), vec![tick(0, 100.0), tick(3600, 100.0)]), 64, 64);
    desk.log_in(epoch(1)).await;
    let order = desk.submit(OrderType::Market, 100.0, 1.0);
    assert_eq!(desk.order(OrderStatus::Cancelled).await.reference, order, "there is no market yet");
    desk.venue.subscribe(&[instrument()]).expect("sent");
    assert_eq!(desk.ticks(1).await.len(), 1);
    desk.submit(OrderType::Market, 100.0, 1.0);
    desk.order(OrderStatus::AllTraded).await;
    assert_eq!(desk.source.ticks.counts().received, 1);
    // An hour before the next tick: closing does not wait for it.
    desk.venue.close();
    while desk.source.events.recv().await.is_some() {}
}

#[tokio::test]
async fn only_subscribed_ticks_are_told_but_all_are_traded() {
    let mut desk = Desk::new(parts(Speed::Max, (0..50).map(|n| tick(n, 100.0)).collect()), 64, 64);
    desk.log_in(epoch(1)).await;
    desk.venue.subscribe(&[InstrumentId::new("rb2411", Exchange::SHFE)]).expect("sent");
    let ended = |event| matches!(event, VenueEvent::Log { message, .. } if message == "feed ended").then_some(());
    desk.expect(ended).await;
    assert_eq!(desk.source.ticks.counts().received, 0);
    desk.submit(OrderType::Market, 100.0, 1.0);
    desk.order(OrderStatus::AllTraded).await;
}

#[tokio::test]
async fn prices_move_positions_and_account_without_any_trade() {
    let mut desk = Desk::new(parts(Speed::Times(1.0), vec![tick(0, 100.0), tick(1, 105.0)]), 64, 64);
    desk.log_in(epoch(1)).await;
    desk.venue.subscribe(&[instrument()]).expect("sent");
    desk.ticks(1).await;
    desk.submit(OrderType::Market, 100.0, 1.0);
    assert_eq!(desk.position().await.pnl, -10.0);
    assert_eq!(desk.position().await.pnl, 40.0);
    assert_eq!(desk.account().await.position_profit, Some(40.0));
}

#[tokio::test]
async fn more_contracts_than_the_queue_holds_all_arrive() {
    let mut many = parts(Speed::Max, vec![]);
    many.contracts = (0..500).map(|n| contract(&format!("rb{n:04}"))).collect();
    let mut desk = Desk::new(many, 8, 8);
    desk.venue.connect(epoch(1)).expect("sent");
    let mut contracts = 0;
    while desk.expect(|event| Some(!matches!(event, VenueEvent::Ready))).await {
        contracts += 1;
    }
    assert_eq!(contracts, 501, "with the login");
    assert!(!desk.source.overflowed.load(Ordering::Acquire));
}

#[tokio::test]
async fn injected_faults_end_the_login() {
    let mut faulty = parts(Speed::Max, vec![]);
    faulty.faults = FaultConfig { login_failures: 1, refuse_login: false };
    let mut desk = Desk::new(faulty, 64, 8);
    desk.venue.connect(epoch(1)).expect("sent");
    desk.expect(|event| matches!(event, VenueEvent::Disconnected { .. }).then_some(())).await;
    assert_eq!(desk.venue.request_snapshot(), Err(GatewayError::NotConnected));
    desk.log_in(epoch(1)).await;

    let mut faulty = parts(Speed::Max, vec![]);
    faulty.faults.refuse_login = true;
    let mut desk = Desk::new(faulty, 64, 8);
    desk.venue.connect(epoch(1)).expect("sent");
    desk.expect(|event| matches!(event, VenueEvent::Refused { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_misspelt_subscription_is_told() {
    let mut desk = Desk::new(parts(Speed::Max, vec![]), 64, 8);
    desk.log_in(epoch(1)).await;
    desk.venue.subscribe(&[InstrumentId::new("RB2410", Exchange::SHFE)]).expect("sent");
    let warning = |event| match event {
        VenueEvent::Log { level: LogLevel::Warning, message } => Some(message),
        _ => None,
    };
    assert!(desk.expect(warning).await.contains("RB2410.SHFE"));
}

#[tokio::test]
async fn the_default_venue_trades_a_synthetic_market() {
    let (sink, source) = venue_channel(1024, 64);
    let venue = SimGateway::new("sim1".into(), SimConfig::default(), sink).expect("no file is needed");
    let mut desk = Desk { venue, source, session: Name::default(), orders: 0 };
    desk.log_in(epoch(1)).await;
    desk.venue.subscribe(&[instrument()]).expect("sent");
    let first = desk.ticks(1).await.remove(0).tick;
    desk.submit(OrderType::Limit, first.best_ask().expect("a book").0, 1.0);
    assert_eq!(desk.order(OrderStatus::AllTraded).await.traded, 1.0);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (sink, _source) = venue_channel(8, 8);
    let config = SimConfig { products: vec!["no/such/products.csv".into()], ..SimConfig::default() };
    let Err(error) = SimGateway::new("sim1".into(), config, sink) else { panic!("there is no such file") };
    let error = format!("{error:#}");
    assert!(error.contains("sim1") && error.contains("no/such/products.csv"), "{error}");
}
