//! The desk against a counter that says what a test wants, when it wants.

use std::collections::BTreeMap;

use ctp::records::{AccountRecord, Instrument, PositionRecord};
use proptest::prelude::*;
use protocol::{Direction, Exchange, InstrumentId, Offset, OrderStatus};

use super::super::samples::{record, trade};
use super::*;
use crate::gateway::{VenueOrder, VenueSnapshot, VenueTrade};

/// A desk with its time, its contracts' instrument, and what it has said and sent.
struct Rig {
    desk: Desk,
    now: Duration,
    sent: Vec<(i32, Request)>,
    told: Vec<VenueEvent>,
    lost: usize,
    renewed: usize,
    released: usize,
    next_fronts: usize,
    /// What CTP returns for queries.
    code: i32,
}

impl Rig {
    fn new() -> Rig {
        let settings = Settings {
            gateway: "ctp1".into(),
            has_auth_code: true,
            fronts: 1,
            query_interval: Duration::from_secs(1),
            venue: "fake".into(),
            first_number: 0,
        };
        let desk = Desk::new(settings);
        Rig {
            desk,
            now: Duration::from_secs(100),
            sent: vec![],
            told: vec![],
            lost: 0,
            renewed: 0,
            released: 0,
            next_fronts: 0,
            code: 0,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Desk, Duration, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        act(&mut self.desk, self.now, &mut effects);
        self.desk.on_time(self.now, &mut effects);
        let mut effects: VecDeque<Effect> = effects.into();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Renew => self.renewed += 1,
                Effect::Release => self.released += 1,
                Effect::NextFront => self.next_fronts += 1,
                Effect::Send { number, request } => {
                    let mut more = Vec::new();
                    self.desk.on_sent(self.now, number, &request, self.code, &mut more);
                    effects.extend(more);
                    if self.code == 0 {
                        self.sent.push((number, request));
                    }
                }
                Effect::Tell(event) => self.told.push(*event),
                Effect::Lost => self.lost += 1,
                Effect::Contracts(_) => {}
            }
        }
    }

    fn event(&mut self, event: TraderEvent) {
        let wall = chrono::DateTime::parse_from_rfc3339("2026-11-23T09:31:00+08:00").expect("a time");
        self.act(|desk, now, out| desk.on_event(now, wall, event, out));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.act(|_, _, _| {});
    }

    /// The number of the last request of this kind, which must have been sent.
    fn asked(&self, request: &Request) -> i32 {
        self.sent.iter().rev().find(|(_, sent)| sent == request).map(|(number, _)| *number).expect("it was sent")
    }

    fn row<T>(request: i32, record: T, is_last: bool) -> Row<T> {
        Row { request, record: Some(Box::new(record)), failure: None, is_last }
    }

    fn empty<T>(request: i32) -> Row<T> {
        Row { request, record: None, failure: None, is_last: true }
    }

    fn log_in(&mut self, session_id: i32) {
        self.begin_login("20261123", session_id);
        self.end_login();
    }

    /// Until the counter is to list its instruments.
    fn begin_login(&mut self, trading_day: &str, session_id: i32) {
        self.act(|desk, now, out| desk.connect(now, out));
        self.event(TraderEvent::FrontConnected);
        self.event(TraderEvent::Authenticated { request: 1, failure: None });
        let login = Login {
            trading_day: trading_day.into(),
            front_id: 1,
            session_id,
            max_order_ref: "           4".into(),
            ..Login::default()
        };
        self.event(TraderEvent::LoggedIn { request: 2, outcome: Ok(login) });
        self.event(TraderEvent::SettlementConfirmed { request: 3, failure: None });
    }

    fn end_login(&mut self) {
        self.pass(Duration::from_secs(1));
        let number = self.asked(&Request::QueryInstruments);
        self.event(TraderEvent::Instrument(Rig::row(number, instrument(), true)));
        assert!(self.desk.is_logged_in());
    }

    /// Answers the four queries of a snapshot, the counter holding these.
    fn answer_round(&mut self, orders: &[OrderRecord], trades: &[TradeRecord]) {
        for request in [Request::QueryOrders, Request::QueryTrades, Request::QueryPositions, Request::QueryAccount] {
            self.pass(Duration::from_secs(1));
            let number = self.asked(&request);
            match request {
                Request::QueryOrders => {
                    for record in orders {
                        self.event(TraderEvent::QueriedOrder(Rig::row(number, record.clone(), false)));
                    }
                    self.event(TraderEvent::QueriedOrder(Rig::empty(number)));
                }
                Request::QueryTrades => {
                    for record in trades {
                        self.event(TraderEvent::QueriedTrade(Rig::row(number, record.clone(), false)));
                    }
                    self.event(TraderEvent::QueriedTrade(Rig::empty(number)));
                }
                Request::QueryPositions => self.event(TraderEvent::Position(Rig::row(number, long(3), true))),
                _ => self.event(TraderEvent::Account(Rig::row(number, funds(), true))),
            }
        }
    }

    fn snapshots(&self) -> Vec<VenueSnapshot> {
        let snapshots = self.told.iter().filter_map(|event| match event {
            VenueEvent::Snapshot(snapshot) => Some((**snapshot).clone()),
            _ => None,
        });
        snapshots.collect()
    }

    fn orders(&self) -> Vec<VenueOrder> {
        let orders = self.told.iter().filter_map(|event| match event {
            VenueEvent::Order(order) => Some(order.clone()),
            _ => None,
        });
        orders.collect()
    }
}

fn instrument() -> Instrument {
    Instrument {
        symbol: "rb2610".into(),
        exchange: "SHFE".into(),
        name: "螺纹钢2610".into(),
        product: "rb".into(),
        product_class: b'1',
        max_limit_volume: 500,
        min_limit_volume: 1,
        multiplier: 10,
        price_tick: Some(1.0),
        is_trading: true,
        position_type: b'2',
        position_date_type: b'1',
        ..Instrument::default()
    }
}

fn long(volume: i32) -> PositionRecord {
    PositionRecord {
        symbol: "rb2610".into(),
        exchange: "SHFE".into(),
        direction: b'2',
        position_date: b'1',
        hedge: b'1',
        position: volume,
        today_position: volume,
        position_cost: Some(f64::from(volume) * 35_000.0),
        ..PositionRecord::default()
    }
}

fn funds() -> AccountRecord {
    AccountRecord { account: "u1".into(), balance: Some(1e6), available: Some(9e5), ..AccountRecord::default() }
}

fn request() -> OrderRequest {
    OrderRequest::limit(InstrumentId::new("rb2610", Exchange::SHFE), Direction::Long, Offset::Open, 3_500.0, 3.0)
}

fn reference(number: u64) -> VenueReference {
    VenueReference { session: "20261123.1.-7".into(), number }
}

#[test]
fn a_login_tells_the_session_its_contracts_and_what_came_early() {
    let mut rig = Rig::new();
    rig.event(TraderEvent::Trade(Box::new(trade(3, 1, 3))));
    rig.log_in(-7);
    rig.event(TraderEvent::Order(Box::new(record(3, b'0', 3))));
    let names: Vec<&str> = rig
        .told
        .iter()
        .map(|event| match event {
            VenueEvent::Connected { session, max_reference: 4, .. } => session.as_str(),
            VenueEvent::Contract(contract) => contract.symbol.as_str(),
            VenueEvent::Ready => "ready",
            VenueEvent::Order(_) => "order",
            VenueEvent::Trade(_) => "trade",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["20261123.1.-7", "rb2610", "ready", "order", "trade"]);
}

#[test]
fn a_login_that_brings_too_much_leaves_it_to_the_first_snapshot() {
    let mut rig = Rig::new();
    rig.begin_login("20261123", -7);
    for number in 0..=MAX_EARLY as u64 {
        rig.event(TraderEvent::Order(Box::new(record(number, b'0', 3))));
    }
    rig.end_login();
    assert_eq!((rig.lost, rig.orders().len()), (0, 0), "nothing is lost, and nothing is told by halves");
    let said = |event: &VenueEvent| matches!(event, VenueEvent::Log { message, .. } if message.contains("snapshot"));
    assert!(rig.told.iter().any(said));
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.answer_round(&[record(7, b'0', 3)], &[]);
    assert_eq!(rig.snapshots()[0].orders.len(), 1);
}

#[test]
fn a_login_without_a_trading_day_is_none() {
    for day in ["", "2026112", "20261399"] {
        let mut rig = Rig::new();
        rig.begin_login(day, -7);
        let Some(VenueEvent::Disconnected { reason }) = rig.told.last() else { panic!("{:?}", rig.told) };
        assert!(reason.contains(&format!("names no trading day: `{day}`")), "{reason}");
        assert!(!rig.sent.iter().any(|(_, sent)| *sent == Request::ConfirmSettlement));
    }
}

#[test]
fn a_trading_day_that_begins_within_a_session_ends_it() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let (_, sent) = rig.desk.submit(&reference(5), &request()).expect("taken");
    assert!(matches!(sent, Request::InsertOrder(_)));
    let overnight = OrderRecord { trading_day: "20261124".into(), ..record(5, b'3', 0) };
    rig.event(TraderEvent::Order(Box::new(overnight.clone())));
    let Some(VenueEvent::Disconnected { reason }) = rig.told.last() else { panic!("{:?}", rig.told) };
    assert!(reason.contains("the trading day is 20261124"), "{reason}");
    assert!(!rig.desk.is_logged_in());
    // The library's object is a new one, and the order is the one that was sent.
    rig.begin_login("20261124", -8);
    rig.end_login();
    rig.told.clear();
    rig.event(TraderEvent::Order(Box::new(OrderRecord { traded: 1, ..overnight })));
    assert_eq!(rig.orders()[0].reference, reference(5));
    assert!(rig.desk.is_logged_in(), "its day is this session's");
}

#[test]
fn a_counter_that_names_two_days_is_asked_once() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let account = |rig: &mut Rig, day: &str| {
        rig.pass(Duration::from_secs(10));
        let number = rig.asked(&Request::QueryAccount);
        let record = AccountRecord { trading_day: day.into(), ..funds() };
        rig.event(TraderEvent::Account(Rig::row(number, record, true)));
        rig.pass(Duration::from_secs(10));
        let number = rig.asked(&Request::QueryPositions);
        rig.event(TraderEvent::Position(Rig::empty(number)));
    };
    account(&mut rig, "20261120");
    assert!(rig.desk.is_logged_in(), "an earlier day is old news");
    rig.pass(Duration::from_secs(10));
    let number = rig.asked(&Request::QueryAccount);
    let record = AccountRecord { trading_day: "20261124".into(), ..funds() };
    rig.event(TraderEvent::Account(Rig::row(number, record, true)));
    assert!(!rig.desk.is_logged_in());
    rig.log_in(-8);
    for _ in 0..3 {
        account(&mut rig, "20261124");
        assert!(rig.desk.is_logged_in(), "the login says which day it is");
    }
}

#[test]
fn an_order_is_sent_once_and_only_in_its_session() {
    let mut rig = Rig::new();
    assert_eq!(rig.desk.submit(&reference(5), &request()), Err(GatewayError::NotConnected));
    rig.log_in(-7);
    let (_, sent) = rig.desk.submit(&reference(5), &request()).expect("taken");
    let Request::InsertOrder(insert) = sent else { panic!("{sent:?}") };
    assert_eq!((insert.order_ref, insert.price, insert.volume, insert.price_type), (5, 3_500.0, 3, b'2'));
    rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
    assert_eq!(rig.desk.submit(&reference(6), &request()), Err(GatewayError::NotConnected));
    rig.log_in(-8);
    assert_eq!(rig.desk.submit(&reference(6), &request()), Err(GatewayError::SessionChanged));
    let half = OrderRequest { volume: 0.5, ..request() };
    let reference = VenueReference { session: "20261123.1.-8".into(), number: 6 };
    assert!(matches!(rig.desk.submit(&reference, &half), Err(GatewayError::Refused(_))));
}

#[test]
fn a_snapshot_is_never_older_than_what_was_told() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.pass(Duration::from_secs(1));
    let number = rig.asked(&Request::QueryOrders);
    // The counter answers with what it held when it was asked; then it is filled, and that is told at once.
    rig.event(TraderEvent::QueriedOrder(Rig::row(number, record(5, b'3', 0), false)));
    rig.event(TraderEvent::Order(Box::new(record(5, b'0', 3))));
    rig.event(TraderEvent::Trade(Box::new(trade(5, 1, 3))));
    rig.event(TraderEvent::Order(Box::new(record(6, b'3', 0))));
    rig.event(TraderEvent::QueriedOrder(Rig::empty(number)));
    rig.pass(Duration::from_secs(1));
    rig.event(TraderEvent::QueriedTrade(Rig::row(rig.asked(&Request::QueryTrades), trade(5, 1, 3), true)));
    rig.pass(Duration::from_secs(1));
    rig.event(TraderEvent::Position(Rig::row(rig.asked(&Request::QueryPositions), long(3), true)));
    rig.pass(Duration::from_secs(1));
    rig.event(TraderEvent::Account(Rig::row(rig.asked(&Request::QueryAccount), funds(), true)));
    let snapshots = rig.snapshots();
    let orders: Vec<_> = snapshots[0].orders.iter().map(|o| (o.reference.number, o.status, o.traded)).collect();
    assert_eq!(orders, [(5, OrderStatus::AllTraded, 3.0), (6, OrderStatus::NotTraded, 0.0)]);
    assert_eq!(snapshots[0].trades.len(), 1, "told live and listed: one trade");
    let lives = |session| snapshots[0].living.includes(&snapshots[0].session, Some(session));
    assert!(snapshots[0].session == "20261123.1.-7" && lives("20261123.1.-8") && !lives("20261120.1.-7"));
    assert_eq!((snapshots[0].positions[0].volume, snapshots[0].accounts[0].balance), (3.0, 1e6));
}

#[test]
fn positions_that_may_lack_a_fill_are_asked_for_again() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    rig.desk.ask_for_snapshot().expect("logged in");
    for request in [Request::QueryOrders, Request::QueryTrades, Request::QueryPositions] {
        rig.pass(Duration::from_secs(1));
        let number = rig.asked(&request);
        match request {
            Request::QueryOrders => rig.event(TraderEvent::QueriedOrder(Rig::empty(number))),
            Request::QueryTrades => rig.event(TraderEvent::QueriedTrade(Rig::empty(number))),
            _ => rig.event(TraderEvent::Position(Rig::empty(number))),
        }
    }
    // Filled behind the answer that nothing is held.
    rig.event(TraderEvent::Order(Box::new(record(5, b'0', 3))));
    rig.event(TraderEvent::Trade(Box::new(trade(5, 1, 3))));
    rig.pass(Duration::from_secs(1));
    rig.event(TraderEvent::Account(Rig::row(rig.asked(&Request::QueryAccount), funds(), true)));
    assert_eq!(rig.snapshots().len(), 0, "it would say flat beside a trade of 3 lots");
    rig.sent.clear();
    rig.pass(Duration::from_secs(1));
    rig.event(TraderEvent::Position(Rig::row(rig.asked(&Request::QueryPositions), long(3), true)));
    assert_eq!(rig.snapshots()[0].positions[0].volume, 3.0);
}

#[test]
fn what_a_query_lists_is_told_at_once() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.pass(Duration::from_secs(1));
    let number = rig.asked(&Request::QueryOrders);
    rig.event(TraderEvent::QueriedOrder(Rig::row(number, record(5, b'0', 3), true)));
    rig.event(TraderEvent::Order(Box::new(record(5, b'0', 3))));
    // Whatever becomes of the rest of the round.
    assert_eq!(rig.orders().last().map(|order| order.status), Some(OrderStatus::AllTraded));
}

#[test]
fn each_question_is_answered_by_what_was_asked_behind_it() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.pass(Duration::from_secs(1));
    // The first round is under way: these two wait for the next.
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.answer_round(&[], &[]);
    assert_eq!(rig.snapshots().len(), 1);
    rig.answer_round(&[record(5, b'3', 0)], &[]);
    assert_eq!(rig.snapshots().iter().map(|s| s.orders.len()).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn account_and_positions_are_asked_for_in_turn_and_a_flat_position_is_told() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.told.clear();
    let mut volumes = Vec::new();
    for held in [3, 0] {
        rig.pass(REFRESH);
        rig.event(TraderEvent::Account(Rig::row(rig.asked(&Request::QueryAccount), funds(), true)));
        rig.pass(REFRESH);
        let number = rig.asked(&Request::QueryPositions);
        let row = if held > 0 { Rig::row(number, long(held), true) } else { Rig::empty(number) };
        rig.event(TraderEvent::Position(row));
        volumes.extend(rig.told.drain(..).filter_map(|event| match event {
            VenueEvent::Position(position) => Some(position.volume),
            _ => None,
        }));
    }
    assert_eq!(volumes, [3.0, 0.0]);
}

#[test]
fn positions_that_may_lack_what_an_order_tells_are_asked_for_again() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask(Query::Positions, QueryToken(1)).expect("logged in");
    rig.pass(Duration::from_secs(1));
    let number = rig.asked(&Request::QueryPositions);
    rig.event(TraderEvent::Order(Box::new(record(5, b'0', 3))));
    rig.told.clear();
    rig.event(TraderEvent::Position(Rig::empty(number)));
    assert!(rig.told.is_empty(), "it may be from before: {:?}", rig.told);
    rig.pass(Duration::from_secs(1));
    assert_ne!(rig.asked(&Request::QueryPositions), number);
}

#[test]
fn a_holding_that_cannot_be_read_stays_as_it_was_told() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let snapshot = |rig: &mut Rig, row: PositionRecord| {
        rig.told.clear();
        rig.desk.ask_for_snapshot().expect("logged in");
        for request in [Request::QueryOrders, Request::QueryTrades, Request::QueryPositions, Request::QueryAccount] {
            rig.pass(Duration::from_secs(1));
            let number = rig.asked(&request);
            rig.event(match request {
                Request::QueryOrders => TraderEvent::QueriedOrder(Rig::empty(number)),
                Request::QueryTrades => TraderEvent::QueriedTrade(Rig::empty(number)),
                Request::QueryPositions => TraderEvent::Position(Rig::row(number, row.clone(), true)),
                _ => TraderEvent::Account(Rig::row(number, funds(), true)),
            });
        }
        rig.snapshots().pop().expect("a snapshot").positions
    };
    let before = snapshot(&mut rig, long(3));
    assert_eq!(before[0].volume, 3.0);
    let after = snapshot(&mut rig, PositionRecord { direction: b'?', ..long(4) });
    assert_eq!(after, before);
    assert!(snapshot(&mut rig, PositionRecord { symbol: "ag2612".into(), ..long(1) }).is_empty(), "that one is gone");
}

#[test]
fn an_order_that_cannot_be_read_any_more_is_listed_as_it_was() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.answer_round(&[OrderRecord { status: b'?', ..record(5, b'3', 0) }], &[]);
    let listed: Vec<_> =
        rig.snapshots()[0].orders.iter().map(|order| (order.reference.clone(), order.status)).collect();
    assert_eq!(listed, [(reference(5), OrderStatus::NotTraded)]);
}

#[test]
fn whoever_is_logged_in_no_more_begins_anew_however_it_is_said() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask(Query::Account, QueryToken(1)).expect("logged in");
    rig.pass(Duration::from_secs(1));
    let request = rig.asked(&Request::QueryAccount);
    let failure = Failure { code: NOT_LOGGED_IN, message: "no".into() };
    rig.event(TraderEvent::RequestFailed { request, failure });
    assert!(!rig.desk.is_logged_in());
}

#[test]
fn trades_whose_orders_the_counter_does_not_list_are_said() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let said = |rig: &Rig| {
        let lines = rig.told.iter().filter(
            |event| matches!(event, VenueEvent::Log { message, .. } if message.contains("1 trades are of orders")),
        );
        lines.count()
    };
    for _ in 0..2 {
        rig.desk.ask_for_snapshot().expect("logged in");
        rig.answer_round(&[], &[trade(9, 1, 2)]);
    }
    assert_eq!(said(&rig), 1, "once");
}

#[test]
fn a_query_that_fails_is_said_to_and_the_next_one_goes_on() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask(Query::Account, QueryToken(1)).expect("logged in");
    rig.pass(Duration::from_secs(1));
    let request = rig.asked(&Request::QueryAccount);
    let failure = Failure { code: 90, message: "later".to_owned() };
    rig.event(TraderEvent::RequestFailed { request, failure });
    let answered = |rig: &Rig, token| {
        rig.told.iter().find_map(|event| match event {
            VenueEvent::Answer { token: of, answer } if *of == token => Some(answer.clone()),
            _ => None,
        })
    };
    assert!(matches!(answered(&rig, QueryToken(1)), Some(Err(GatewayError::Refused(_)))));
    // One without any answer gives way in the end.
    rig.desk.ask(Query::Account, QueryToken(2)).expect("logged in");
    rig.pass(Duration::from_secs(1));
    rig.pass(Duration::from_secs(20));
    assert!(matches!(answered(&rig, QueryToken(2)), Some(Err(GatewayError::Refused(_)))));
    rig.desk.ask(Query::Account, QueryToken(3)).expect("logged in");
    rig.answer_all(&[], &[]);
    assert_eq!(answered(&rig, QueryToken(3)), Some(Ok(Answer::Sent)));
}

#[test]
fn flow_control_delays_queries_and_a_dead_connection_ends_the_session() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask(Query::Account, QueryToken(1)).expect("logged in");
    rig.sent.clear();
    rig.code = -3;
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.sent, []);
    assert!(rig.desk.submit(&reference(5), &request()).is_ok(), "orders do not wait for queries");
    rig.code = 0;
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.sent.len(), 1);
    rig.event(TraderEvent::Account(Rig::row(rig.asked(&Request::QueryAccount), funds(), true)));
    rig.code = -1;
    rig.pass(Duration::from_secs(4));
    assert!(!rig.desk.is_logged_in() && matches!(rig.told.last(), Some(VenueEvent::Disconnected { .. })));
}

#[test]
fn a_disconnect_in_the_middle_of_a_query_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.pass(Duration::from_secs(1));
    let stale = rig.asked(&Request::QueryOrders);
    rig.event(TraderEvent::QueriedOrder(Rig::row(stale, record(5, b'3', 0), false)));
    rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
    rig.log_in(-8);
    rig.event(TraderEvent::QueriedOrder(Rig::empty(stale)));
    assert_eq!(rig.snapshots().len(), 0);
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.answer_round(&[record(5, b'3', 0)], &[]);
    assert_eq!(rig.snapshots()[0].orders[0].reference, reference(5), "the older session's order, under its own name");
}

#[test]
fn a_refusal_reaches_the_order_that_it_is_of() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let (number, _) = rig.desk.submit(&reference(5), &request()).expect("taken");
    let order = ctp::records::RefusedOrder {
        order_ref: "5".into(),
        symbol: "rb2610".into(),
        exchange: "SHFE".into(),
        request: number,
    };
    let failure = Failure { code: 31, message: "资金不足".to_owned() };
    rig.event(TraderEvent::InsertRefused { order: order.clone(), failure: failure.clone() });
    rig.event(TraderEvent::InsertFailed { order, failure });
    let orders = rig.orders();
    assert_eq!((orders.len(), orders[0].status), (1, OrderStatus::Rejected));
    assert_eq!(orders[0].reason.as_deref(), Some("CTP error 31: 资金不足"));
}

#[test]
fn a_counter_that_says_nothing_at_all_is_left_for_another_front() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let began = rig.now;
    // The last thing that is heard comes behind the first query that is not answered.
    rig.pass(Duration::from_secs(3));
    rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    while rig.desk.is_logged_in() && rig.now < began + Duration::from_secs(120) {
        rig.pass(Duration::from_secs(1));
    }
    let took = rig.now - began;
    assert!((40..90).contains(&took.as_secs()), "after some queries without an answer, not {took:?}");
    let reasons = |told: &[VenueEvent]| {
        told.iter().filter(|event| matches!(event, VenueEvent::Disconnected { .. })).cloned().collect::<Vec<_>>()
    };
    let ended = reasons(&rig.told);
    assert!(
        matches!(&ended[..], [VenueEvent::Disconnected { reason }] if reason.contains("answered no query")),
        "{ended:?}"
    );
    assert_eq!((rig.next_fronts, rig.renewed), (1, 0));
    rig.act(|desk, now, out| desk.connect(now, out));
    assert_eq!(rig.renewed, 1, "with a new object of the library");
}

#[test]
fn a_counter_that_falls_silent_before_it_has_listed_its_instruments_is_left_for_another_front() {
    let mut rig = Rig::new();
    rig.begin_login("20261123", -7);
    rig.asked(&Request::QueryInstruments);
    rig.pass(Duration::from_secs(59));
    assert_eq!(rig.next_fronts, 0);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.next_fronts, 1);
    let said = "has not ended its answer to ReqQryInstrument, and said nothing for 60 s";
    assert!(
        matches!(rig.told.last(), Some(VenueEvent::Disconnected { reason }) if reason.contains(said)),
        "{:?}",
        rig.told
    );
    // One that says other things stays; the day's orders, which it says first, are not enough.
    for (heard, left) in [(30, 0), (2, 1)] {
        let mut rig = Rig::new();
        rig.begin_login("20261123", -7);
        rig.pass(Duration::from_secs(heard));
        rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
        rig.pass(Duration::from_secs(60 - heard));
        assert_eq!(rig.next_fronts, left);
        assert!(matches!(rig.told.last(), Some(VenueEvent::Disconnected { .. })), "{:?}", rig.told);
        assert_eq!(rig.desk.unanswered.0, 0, "nothing of it is counted in the next session");
    }
}

#[test]
fn a_counter_that_refuses_a_query_is_not_mute() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    let unanswered = |rig: &mut Rig| {
        let asked = rig.sent.len();
        while rig.sent.len() == asked {
            rig.pass(Duration::from_secs(1));
        }
        asked
    };
    unanswered(&mut rig);
    unanswered(&mut rig);
    assert_eq!(rig.desk.unanswered.0, 1);
    let (number, _) = *rig.sent.last().expect("it asks");
    let failure = Failure { code: 90, message: "CTP:查询未就绪".to_owned() };
    rig.event(TraderEvent::RequestFailed { request: number, failure });
    assert_eq!(rig.desk.unanswered.0, 0);
    unanswered(&mut rig);
    unanswered(&mut rig);
    assert_eq!(rig.desk.unanswered.0, 1);
    let errors = rig.told.iter().filter(|event| matches!(event, VenueEvent::Log { level: LogLevel::Error, .. }));
    assert_eq!(errors.count(), 0, "{:?}", rig.told);
}

#[test]
fn a_cancel_that_is_refused_to_a_working_order_has_it_looked_up() {
    let failure = || Failure { code: 25, message: "撤单找不到相应报单".to_owned() };
    let action = |order_ref: &str, order_sys_id: &str| ctp::records::RefusedAction {
        order_ref: order_ref.into(),
        front_id: 1,
        session_id: -7,
        exchange: "SHFE".into(),
        order_sys_id: order_sys_id.into(),
    };
    let refused = |rig: &mut Rig| {
        let told = std::mem::take(&mut rig.told);
        let references = told.into_iter().filter_map(|event| match event {
            VenueEvent::CancelRefused { reference, reason } => {
                assert!(reason.contains("CTP error 25"), "{reason}");
                Some(reference)
            }
            VenueEvent::Log { level: LogLevel::Warning, .. } => None,
            other => panic!("{other:?}"),
        });
        references.collect::<Vec<_>>()
    };
    let mut rig = Rig::new();
    rig.log_in(-7);
    let working = record(5, b'3', 0);
    rig.event(TraderEvent::Order(Box::new(working.clone())));
    rig.told.clear();
    rig.event(TraderEvent::CancelRefused { action: action("5", ""), failure: failure() });
    rig.event(TraderEvent::CancelFailed { action: action("", &working.order_sys_id), failure: failure() });
    assert_eq!(refused(&mut rig), [reference(5), reference(5)], "by either key");
    rig.event(TraderEvent::CancelRefused { action: action("6", ""), failure: failure() });
    assert_eq!(refused(&mut rig), [], "nobody knows of it");
    // The next session cancels it by the exchange's number, which is all that the exchange says then.
    rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
    rig.log_in(-8);
    rig.told.clear();
    let of_another = RefusedAction { front_id: 0, session_id: 0, ..action("", &working.order_sys_id) };
    rig.event(TraderEvent::CancelFailed { action: of_another, failure: failure() });
    assert_eq!(refused(&mut rig), [reference(5)]);
    rig.event(TraderEvent::Order(Box::new(record(5, b'5', 0))));
    rig.told.clear();
    rig.event(TraderEvent::CancelRefused { action: action("5", ""), failure: failure() });
    assert_eq!(refused(&mut rig), [], "it has ended, as everybody knows");
}

#[test]
fn a_counter_that_only_answers_no_queries_is_kept_and_somebody_hears_of_it() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    for _ in 0..120 {
        rig.pass(Duration::from_secs(1));
        rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    }
    assert!(rig.desk.is_logged_in(), "orders go on");
    let errors = rig.told.iter().filter(|event| matches!(event, VenueEvent::Log { level: LogLevel::Error, .. }));
    assert_eq!(errors.count(), 1);
}

#[test]
fn a_library_that_hammers_its_front_is_stopped() {
    let mut rig = Rig::new();
    rig.act(|desk, now, out| desk.connect(now, out));
    for _ in 0..HAMMERING {
        rig.pass(Duration::from_secs(1));
        rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
    }
    assert_eq!(rig.released, 0, "once a second is what later versions do");
    rig.pass(Duration::from_secs(10));
    for _ in 0..HAMMERING {
        rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
    }
    assert_eq!(rig.released, 1);
}

#[test]
fn both_legs_of_a_combinations_fill_are_told_and_listed_though_they_share_an_id() {
    let mut rig = Rig::new();
    rig.log_in(-7);
    rig.event(TraderEvent::Order(Box::new(record(5, b'3', 0))));
    let (one, mut other) = (trade(5, 1, 1), trade(5, 1, 1));
    other.symbol = "rb2701".into();
    rig.event(TraderEvent::Trade(Box::new(one.clone())));
    rig.event(TraderEvent::Trade(Box::new(other.clone())));
    let symbols = |trades: Vec<VenueTrade>| trades.into_iter().map(|trade| trade.instrument.symbol).collect::<Vec<_>>();
    let told = rig.told.iter().filter_map(|event| match event {
        VenueEvent::Trade(trade) => Some(trade.clone()),
        _ => None,
    });
    let told = symbols(told.collect());
    assert_eq!(told.len(), 2, "{told:?}");
    rig.desk.ask_for_snapshot().expect("logged in");
    rig.answer_round(&[record(5, b'0', 1)], &[one, other]);
    assert_eq!(symbols(rig.snapshots()[0].trades.clone()), told);
}

proptest! {
    /// The counter's orders and trades go on while snapshots are taken, its callbacks come late, twice and out of order,
    /// and the connection is lost now and then: in the end, everything that was told and a last snapshot agree with the
    /// counter, and nothing that had ended was told to work again.
    #[test]
    fn whatever_comes_in_whatever_order_the_books_agree(
        steps in proptest::collection::vec((0..8_u8, 0..4_u64, 0..10_u8), 1..120),
    ) {
        let mut rig = Rig::new();
        rig.log_in(-7);
        // The counter's truth, and callbacks that are not delivered yet.
        let mut truth: BTreeMap<u64, OrderRecord> = BTreeMap::new();
        let mut trades: Vec<TradeRecord> = Vec::new();
        let mut late: Vec<TraderEvent> = Vec::new();
        let mut session_id = -7;
        for (step, order, pick) in steps {
            match step {
                0 | 1 => {
                    let number = order + 10;
                    let known = truth.entry(number).or_insert_with(|| record(number, b'3', 0));
                    if known.traded < 3 && known.status != b'5' {
                        if pick == 0 {
                            known.status = b'5';
                        } else {
                            known.traded += 1;
                            known.status = if known.traded == 3 { b'0' } else { b'1' };
                            let id = trades.len() as u64 + 1;
                            trades.push(trade(number, id, 1));
                            late.push(TraderEvent::Trade(Box::new(trade(number, id, 1))));
                        }
                    }
                    late.push(TraderEvent::Order(Box::new(known.clone())));
                }
                2..=4 if !late.is_empty() => {
                    let at = usize::from(pick) % late.len();
                    let event = if pick == 9 { late[at].clone() } else { late.remove(at) };
                    rig.event(event);
                }
                2..=4 => {}
                5 => {
                    let _ = rig.desk.ask_for_snapshot();
                }
                6 => {
                    rig.pass(Duration::from_millis(u64::from(pick) * 300));
                    // Whatever query was sent last is answered from the truth of now.
                    match rig.sent.last().cloned() {
                        Some((number, Request::QueryOrders)) => {
                            for known in truth.values() {
                                rig.event(TraderEvent::QueriedOrder(Rig::row(number, known.clone(), false)));
                            }
                            rig.event(TraderEvent::QueriedOrder(Rig::empty(number)));
                        }
                        Some((number, Request::QueryTrades)) => {
                            for trade in &trades {
                                rig.event(TraderEvent::QueriedTrade(Rig::row(number, trade.clone(), false)));
                            }
                            rig.event(TraderEvent::QueriedTrade(Rig::empty(number)));
                        }
                        Some((number, Request::QueryPositions)) => rig.event(TraderEvent::Position(Rig::empty(number))),
                        Some((number, Request::QueryAccount)) => {
                            rig.event(TraderEvent::Account(Rig::row(number, funds(), true)));
                        }
                        _ => {}
                    }
                }
                _ if pick == 0 => {
                    rig.event(TraderEvent::FrontDisconnected { reason: 0x1001 });
                    // What was on its way is lost with the connection; the counter says everything again.
                    late.clear();
                    session_id -= 1;
                    rig.pass(Duration::from_secs(2));
                    rig.log_in(session_id);
                    late.extend(truth.values().cloned().map(|known| TraderEvent::Order(Box::new(known))));
                    late.extend(trades.iter().cloned().map(|trade| TraderEvent::Trade(Box::new(trade))));
                }
                _ => {}
            }
        }
        for event in late {
            rig.event(event);
        }
        let mut told: BTreeMap<u64, VenueOrder> = BTreeMap::new();
        for order in rig.orders() {
            let number = order.reference.number;
            if let Some(before) = told.get(&number) {
                prop_assert!(before.traded <= order.traded, "fills were taken back");
                prop_assert!(before.status.is_active() || !order.status.is_active(), "it came back to life");
            }
            told.insert(number, order);
        }
        rig.desk.ask_for_snapshot().expect("logged in");
        rig.told.clear();
        let mut rounds = 0;
        while rig.snapshots().is_empty() {
            rounds += 1;
            prop_assert!(rounds < 20, "no snapshot comes");
            let trades = trades.clone();
            let orders: Vec<OrderRecord> = truth.values().cloned().collect();
            rig.pass(Duration::from_secs(21));
            for _ in 0..3 {
                rig.answer_all(&orders, &trades);
            }
            let _ = rig.desk.ask_for_snapshot();
        }
        let snapshot = rig.snapshots().pop().expect("one came");
        let listed: BTreeMap<u64, (OrderStatus, f64)> =
            snapshot.orders.iter().map(|order| (order.reference.number, (order.status, order.traded))).collect();
        for (number, known) in &truth {
            let status = match known.status {
                b'0' => OrderStatus::AllTraded,
                b'1' => OrderStatus::PartTraded,
                b'5' => OrderStatus::Cancelled,
                _ => OrderStatus::NotTraded,
            };
            prop_assert_eq!(listed.get(number), Some(&(status, f64::from(known.traded))));
        }
        prop_assert_eq!(listed.len(), truth.len());
        prop_assert_eq!(snapshot.trades.len(), trades.len());
    }
}

impl Rig {
    /// Answers whatever is asked next, the counter holding these.
    fn answer_all(&mut self, orders: &[OrderRecord], trades: &[TradeRecord]) {
        for _ in 0..6 {
            self.pass(Duration::from_secs(1));
            match self.sent.last().cloned() {
                Some((number, Request::QueryOrders)) => {
                    for record in orders {
                        self.event(TraderEvent::QueriedOrder(Rig::row(number, record.clone(), false)));
                    }
                    self.event(TraderEvent::QueriedOrder(Rig::empty(number)));
                }
                Some((number, Request::QueryTrades)) => {
                    for record in trades {
                        self.event(TraderEvent::QueriedTrade(Rig::row(number, record.clone(), false)));
                    }
                    self.event(TraderEvent::QueriedTrade(Rig::empty(number)));
                }
                Some((number, Request::QueryPositions)) => self.event(TraderEvent::Position(Rig::empty(number))),
                Some((number, Request::QueryAccount)) => {
                    self.event(TraderEvent::Account(Rig::row(number, funds(), true)));
                }
                _ => {}
            }
        }
    }
}
