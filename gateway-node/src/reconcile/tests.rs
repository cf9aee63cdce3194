//! Single rules first, then arbitrary states and snapshots.

use std::collections::HashMap;

use proptest::prelude::*;
use protocol::oms::Applied;
use protocol::{Account, Currency, Direction, Exchange, InstrumentId, Name, Offset, OmsState, OrderId, OrderRequest};

use super::*;
use crate::gateway::LivingSessions::{Any, Own};
use crate::gateway::{VenueOrder, VenueTrade};

const LEASE: Duration = Duration::from_secs(6);
const NEW: &str = "20261124.1.2";
const OLD: &str = "20261123.1.2";

fn wall() -> Timestamp {
    chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time")
}

/// So many seconds on both clocks.
fn at(seconds: u64) -> Now {
    Now { wall: wall() + chrono::TimeDelta::seconds(seconds as i64), mono: Duration::from_secs(1_000 + seconds) }
}

fn asked_at(seconds: u64) -> Circumstances {
    Circumstances { asked: at(seconds), session_since: at(0).mono, lease: LEASE }
}

fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

fn key(id: &str) -> OrderKey {
    OrderKey { owner: "default".into(), orderid: OrderId::new(id) }
}

/// State and references of what was sent.
#[derive(Default)]
struct Held {
    state: OmsState,
    references: HashMap<VenueReference, Target>,
}

static GATEWAY: Name = Name::const_new("sim1");

impl Held {
    fn books(&self) -> Books<'_> {
        Books { gateway: &GATEWAY, state: &self.state, references: &self.references }
    }

    /// An order of this id and number, with a deadline ten seconds after nine.
    fn holds(mut self, number: u64, session: &str, status: OrderStatus, traded: f64) -> Held {
        let mut request = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3500.0, 10.0);
        request.orderid = OrderId::new(format!("o{number}"));
        let mut order = request.to_order(&GATEWAY, &"default".into());
        let reference = VenueReference { session: session.into(), number };
        order.venue_reference = Some(reference.to_string().into());
        order.status = status;
        order.traded = traded;
        if status == OrderStatus::Submitting {
            order.deadline = Some(at(10).wall);
        } else {
            order.datetime = Some(wall());
        }
        self.references.insert(reference, Target::Order((&order).into()));
        self.state.apply(&OmsEvent::Order(order));
        self
    }

    /// The venue has told of this order, though it is SUBMITTING still.
    fn told_of(mut self, number: u64) -> Held {
        let order = self.state.order(&key(&format!("o{number}"))).expect("the order").clone();
        self.state.apply(&OmsEvent::Order(Order { deadline: None, ..order }));
        self
    }

    /// Its reference was never kept.
    fn without_reference(mut self) -> Held {
        let order = self.state.order(&key("o1")).expect("the order").clone();
        self.state = OmsState::default();
        self.state.apply(&OmsEvent::Order(Order { venue_reference: None, ..order }));
        self
    }

    fn intent(self, session: &str) -> Held {
        self.holds(1, session, OrderStatus::Submitting, 0.0)
    }

    fn compare(&self, snapshot: &VenueSnapshot, circumstances: &Circumstances, way: Way) -> Vec<Difference> {
        compare(self.books(), snapshot, circumstances, |_| way)
    }

    fn apply(&mut self, differences: &[Difference]) -> Vec<Applied> {
        let events = differences.iter().filter_map(|difference| match difference {
            Difference::Event(event) => Some(event),
            _ => None,
        });
        events.map(|event| self.state.apply(event)).collect()
    }

    fn status(&self, id: &str) -> OrderStatus {
        self.state.order(&key(id)).expect("the order").status
    }
}

fn told(number: u64, session: &str, status: OrderStatus, traded: f64) -> VenueOrder {
    VenueOrder {
        reference: VenueReference { session: session.into(), number },
        instrument: instrument(),
        order_type: protocol::OrderType::Limit,
        direction: Direction::Long,
        offset: Offset::Open,
        price: Some(3500.0),
        volume: 10.0,
        traded,
        status,
        datetime: Some(wall()),
        reason: None,
    }
}

/// One trade of everything that an order has filled.
fn trade_of(order: &VenueOrder, tradeid: &str) -> VenueTrade {
    VenueTrade {
        reference: order.reference.clone(),
        tradeid: tradeid.into(),
        instrument: instrument(),
        direction: order.direction,
        offset: order.offset,
        price: 3500.0,
        volume: order.traded,
        datetime: None,
        trading_day: None,
    }
}

fn position() -> Position {
    Position {
        gateway_name: GATEWAY.clone(),
        symbol: instrument().symbol,
        exchange: instrument().exchange,
        direction: Direction::Long,
        volume: 3.0,
        frozen: 1.0,
        price: 3500.0,
        pnl: 20.0,
        yd_volume: 2.0,
        extra: None,
    }
}

fn account() -> Account {
    Account {
        gateway_name: GATEWAY.clone(),
        accountid: "paper".into(),
        balance: 1_000.0,
        frozen: 0.0,
        available: 1_000.0,
        currency: Some(Currency::CNY),
        margin: None,
        commission: None,
        close_profit: None,
        position_profit: None,
        extra: None,
    }
}

/// A complete snapshot of a venue whose sessions live so long.
fn snapshot(orders: Vec<VenueOrder>, living: LivingSessions) -> VenueSnapshot {
    VenueSnapshot { session: NEW.into(), orders, living, ..VenueSnapshot::default() }
}

fn outcome(held: &mut Held, snapshot: &VenueSnapshot, circumstances: &Circumstances, way: Way) -> OrderStatus {
    let differences = held.compare(snapshot, circumstances, way);
    held.apply(&differences);
    held.status("o1")
}

#[test]
fn an_intent_of_an_ended_session_never_arrived() {
    let mut held = Held::default().intent(OLD);
    assert_eq!(outcome(&mut held, &snapshot(vec![], Own), &asked_at(1), Way::Inherited), OrderStatus::Rejected);
    let order = held.state.order(&key("o1")).expect("the order");
    assert_eq!((order.reason.as_deref(), order.deadline), (Some(NEVER_ARRIVED), None));
}

#[test]
fn where_sessions_do_not_end_an_inherited_intent_waits_for_its_deadline_and_one_lease() {
    let held = Held::default().intent(OLD);
    let empty = snapshot(vec![], Any);
    let certain = at(16).mono;
    for seconds in [1, 10, 15] {
        let differences = held.compare(&empty, &asked_at(seconds), Way::Inherited);
        assert_eq!(differences, [Difference::UnderWay(key("o1"), certain)], "asked after {seconds} s");
    }
    let mut held = held;
    assert_eq!(outcome(&mut held, &empty, &asked_at(16), Way::Inherited), OrderStatus::Rejected);
}

#[test]
fn an_intent_of_the_same_session_waits_too_even_if_older_sessions_have_ended() {
    let empty = snapshot(vec![], Own);
    let sent = Way::Sent(at(2).mono);
    let mut held = Held::default().intent(NEW);
    assert_eq!(outcome(&mut held, &empty, &asked_at(15), sent), OrderStatus::Submitting);
    assert_eq!(outcome(&mut held, &empty, &asked_at(16), sent), OrderStatus::Rejected);
}

#[test]
fn what_waits_behind_the_gate_is_left_alone() {
    for (session, seconds) in [(OLD, 1), (NEW, 1_000_000)] {
        let held = Held::default().intent(session);
        assert_eq!(held.compare(&snapshot(vec![], Own), &asked_at(seconds), Way::Unsent), []);
    }
}

#[test]
fn a_wall_clock_that_jumps_hurries_nobody_and_delays_nobody_for_long() {
    let empty = snapshot(vec![], Any);
    let ahead = Circumstances { asked: Now { wall: at(3_600).wall, ..at(1) }, ..asked_at(1) };
    let held = Held::default().intent(OLD);
    let until_session_and_lease = Difference::UnderWay(key("o1"), at(6).mono);
    assert_eq!(held.compare(&empty, &ahead, Way::Inherited), [until_session_and_lease]);

    let behind = |mono| Circumstances { asked: Now { wall: wall() - chrono::TimeDelta::days(1), mono }, ..asked_at(1) };
    let longest = at(0).mono + LONGEST_DEADLINE + LEASE;
    assert_eq!(held.compare(&empty, &behind(at(1).mono), Way::Inherited), [Difference::UnderWay(key("o1"), longest)]);
    let mut held = held;
    assert_eq!(outcome(&mut held, &empty, &behind(longest), Way::Inherited), OrderStatus::Rejected);
}

#[test]
fn a_working_order_ends_with_its_session_and_otherwise_stays() {
    let mut held = Held::default().holds(1, OLD, OrderStatus::PartTraded, 4.0);
    let later = asked_at(1_000_000);
    assert_eq!(held.compare(&snapshot(vec![], Any), &later, Way::Inherited), [Difference::Missing(key("o1"))]);
    assert_eq!(outcome(&mut held, &snapshot(vec![], Own), &asked_at(1), Way::Inherited), OrderStatus::Cancelled);
    let order = held.state.order(&key("o1")).expect("the order");
    assert_eq!((order.traded, order.reason.as_deref()), (4.0, Some(ENDED_WITH_SESSION)));

    let same = Held::default().holds(1, NEW, OrderStatus::NotTraded, 0.0);
    let differences = same.compare(&snapshot(vec![], Own), &later, Way::Sent(at(1).mono));
    assert_eq!(differences, [Difference::Missing(key("o1"))]);
}

#[test]
fn what_an_earlier_trading_day_sent_is_over() {
    let today = snapshot(vec![], LivingSessions::since_day_of(NEW));
    let soon = asked_at(1);
    for (session, is_over) in [
        (OLD, true),
        ("20261123.SHFE.77", true),
        (NEW, false),
        ("20261124.1.3", false),
        ("20261125.1.2", false),
        ("202611230.1.2", false),
        ("1", false),
    ] {
        let mut working = Held::default().holds(1, session, OrderStatus::PartTraded, 4.0);
        let mut intent = Held::default().intent(session);
        if !is_over {
            let missing = [Difference::Missing(key("o1"))];
            assert_eq!(working.compare(&today, &asked_at(1_000_000), Way::Inherited), missing, "{session}");
            assert_eq!(outcome(&mut intent, &today, &soon, Way::Inherited), OrderStatus::Submitting, "{session}");
            continue;
        }
        assert_eq!(outcome(&mut working, &today, &soon, Way::Inherited), OrderStatus::Cancelled, "{session}");
        let order = working.state.order(&key("o1")).expect("the order");
        assert_eq!((order.traded, order.reason.as_deref()), (4.0, Some(ENDED_WITH_DAY)));

        // Handed over by this very engine or not: it may have arrived, and the list does not say.
        let mut sent = intent;
        assert_eq!(outcome(&mut sent, &today, &soon, Way::Sent(at(0).mono)), OrderStatus::Rejected, "{session}");
        assert_eq!(sent.state.order(&key("o1")).and_then(|o| o.reason.as_deref()), Some(ENDED_WITH_DAY));
        let late = snapshot(vec![told(1, session, OrderStatus::NotTraded, 0.0)], LivingSessions::since_day_of(NEW));
        assert_eq!(outcome(&mut sent, &late, &asked_at(2), Way::Inherited), OrderStatus::NotTraded, "{session}");
    }
    let waiting = Held::default().intent(OLD);
    assert_eq!(waiting.compare(&today, &soon, Way::Unsent), []);
}

#[test]
fn what_is_listed_under_another_day_is_not_over() {
    // A session that outlived its day, which nobody knows who was not there.
    let (sent_in, listed_in) = ("20261123.1.9", "20261124.1.9");
    let living = LivingSessions::since_day_of(NEW);
    let listed = told(1, listed_in, OrderStatus::NotTraded, 0.0);
    let today = snapshot(vec![listed.clone()], living);
    let other = snapshot(vec![VenueOrder { volume: listed.volume + 1.0, ..listed }], living);
    let is_missing = |held: &Held, today: &VenueSnapshot| {
        held.compare(today, &asked_at(1_000), Way::Inherited).contains(&Difference::Missing(key("o1")))
    };
    for held in [Held::default().holds(1, sent_in, OrderStatus::NotTraded, 0.0), Held::default().intent(sent_in)] {
        assert!(is_missing(&held, &today), "it may be this one");
        assert!(!is_missing(&held, &other), "that one is another");
    }
}

#[test]
fn what_has_no_reference_is_not_over_merely_for_that() {
    let today = LivingSessions::since_day_of(NEW);
    let intent = || Held::default().intent(NEW).without_reference();
    let working = || Held::default().holds(1, NEW, OrderStatus::NotTraded, 0.0).without_reference();
    for living in [Any, today] {
        let empty = snapshot(vec![], living);
        assert_eq!(working().compare(&empty, &asked_at(1_000), Way::Inherited), [Difference::Missing(key("o1"))]);
        let under_way = Difference::UnderWay(key("o1"), at(16).mono);
        assert_eq!(intent().compare(&empty, &asked_at(1), Way::Inherited), [under_way]);
        assert_eq!(outcome(&mut intent(), &empty, &asked_at(16), Way::Inherited), OrderStatus::Rejected);
    }
    // Where nothing but the own session lives, it would have that session's name.
    let own = snapshot(vec![], Own);
    assert_eq!(outcome(&mut intent(), &own, &asked_at(1), Way::Inherited), OrderStatus::Rejected);
    assert_eq!(outcome(&mut working(), &own, &asked_at(1), Way::Inherited), OrderStatus::Cancelled);
}

#[test]
fn what_the_venue_has_told_of_did_arrive() {
    let parked = || Held::default().intent(NEW).told_of(1);
    for living in [Any, Own, LivingSessions::since_day_of(NEW)] {
        for way in [Way::Inherited, Way::Sent(at(1).mono)] {
            let differences = parked().compare(&snapshot(vec![], living), &asked_at(1_000_000), way);
            assert_eq!(differences, [Difference::Missing(key("o1"))], "{living:?} {way:?}");
        }
    }
    let of_old = || Held::default().intent(OLD).told_of(1);
    for (living, reason) in [(Own, ENDED_WITH_SESSION), (LivingSessions::since_day_of(NEW), ENDED_WITH_DAY)] {
        let mut held = of_old();
        assert_eq!(outcome(&mut held, &snapshot(vec![], living), &asked_at(1), Way::Inherited), OrderStatus::Cancelled);
        assert_eq!(held.state.order(&key("o1")).and_then(|o| o.reason.as_deref()), Some(reason));
    }
}

#[test]
fn an_order_that_is_forgotten_before_its_trades_was_there() {
    for (listed, living, expected) in [
        (10.0, Own, Some((OrderStatus::AllTraded, 10.0))),
        (10.0, Any, Some((OrderStatus::AllTraded, 10.0))),
        (3.0, Own, Some((OrderStatus::Cancelled, 3.0))),
        (3.0, Any, None),
    ] {
        let mut held = Held::default().intent(OLD);
        let order = told(1, OLD, OrderStatus::PartTraded, listed);
        let trades = vec![trade_of(&order, "t1")];
        let snapshot = VenueSnapshot { trades, ..snapshot(vec![], living) };
        let differences = held.compare(&snapshot, &asked_at(1_000_000), Way::Inherited);
        held.apply(&differences);
        let order = held.state.order(&key("o1")).expect("the order");
        match expected {
            Some(expected) => assert_eq!((order.status, order.traded), expected),
            None => assert!(differences.contains(&Difference::Missing(key("o1"))), "it arrived: {differences:?}"),
        }
    }
}

#[test]
fn a_combinations_trades_are_of_its_legs_and_fill_nothing_twice() {
    let order = told(1, NEW, OrderStatus::PartTraded, 5.0);
    let legs = ["rb2411", "rb2412"]
        .map(|symbol| VenueTrade { instrument: InstrumentId::new(symbol, Exchange::SHFE), ..trade_of(&order, symbol) });
    let today = VenueSnapshot { trades: legs.to_vec(), ..snapshot(vec![], Any) };
    for held in [Held::default().intent(NEW), Held::default().holds(1, NEW, OrderStatus::PartTraded, 5.0)] {
        let differences = held.compare(&today, &asked_at(1_000_000), Way::Inherited);
        assert!(
            differences.contains(&Difference::Missing(key("o1"))),
            "it arrived, and is not filled: {differences:?}"
        );
    }
}

#[test]
fn the_venues_word_overrides_a_guess() {
    let mut held = Held::default().intent(OLD);
    assert_eq!(outcome(&mut held, &snapshot(vec![], Own), &asked_at(1), Way::Inherited), OrderStatus::Rejected);
    let late = snapshot(vec![told(1, OLD, OrderStatus::NotTraded, 0.0)], Own);
    assert_eq!(outcome(&mut held, &late, &asked_at(2), Way::Inherited), OrderStatus::NotTraded);
}

#[test]
fn what_nobody_here_sent_is_external() {
    let mut held = Held::default();
    let found = snapshot(vec![told(7, OLD, OrderStatus::NotTraded, 0.0)], Own);
    let differences = held.compare(&found, &asked_at(1), Way::Inherited);
    held.apply(&differences);
    let order = held.state.orders().values().next().expect("the order");
    assert_eq!((order.owner.as_str(), order.orderid.as_str()), ("external", "x-20261123_1_2_7"));
}

#[test]
fn an_order_under_a_quotes_reference_is_a_contradiction() {
    let mut held = Held::default();
    let reference = VenueReference { session: OLD.into(), number: 1 };
    held.references.insert(reference, Target::Quote(key("q1")));
    let differences =
        held.compare(&snapshot(vec![told(1, OLD, OrderStatus::NotTraded, 0.0)], Own), &asked_at(1), Way::Inherited);
    assert!(
        matches!(&differences[..], [Difference::Contradiction(line)] if line.contains("20261123.1.2/1")),
        "{differences:?}"
    );
}

/// What is held of an order, what the venue lists of it (if anything), and how far it had come.
#[derive(Debug, Clone)]
struct Pair {
    is_old: bool,
    /// The venue has told of it, whatever it holds of it now.
    is_told: bool,
    held: Option<(u8, u8)>,
    listed: Option<(u8, u8)>,
    way: Way,
}

fn standing(rank: u8, traded: u8) -> (OrderStatus, f64) {
    let traded = f64::from(traded);
    match rank {
        0 => (OrderStatus::Submitting, 0.0),
        1 => (OrderStatus::NotTraded, 0.0),
        2 => (OrderStatus::PartTraded, 1.0 + traded),
        3 => (OrderStatus::Cancelled, 1.0 + traded),
        _ => (OrderStatus::AllTraded, 10.0),
    }
}

/// The venue lists what it has at least as far as it was held: a snapshot is newer than what was told before it.
fn pair() -> impl Strategy<Value = Pair> {
    let way = prop_oneof![Just(Way::Unsent), (0_u64..30).prop_map(|s| Way::Sent(at(s).mono)), Just(Way::Inherited)];
    let held = proptest::option::of((0_u8..3, 0_u8..4));
    (any::<bool>(), any::<bool>(), held, proptest::option::of((0_u8..4, 0_u8..4)), way).prop_map(
        |(is_old, is_told, held, listed, way)| {
            let listed = listed.map(|(ahead, more)| {
                let (rank, traded) = held.unwrap_or((0, 0));
                ((rank + ahead).max(1), traded + more)
            });
            // Only what has not been told of by the venue can be behind the gate, and then the venue has nothing.
            let is_told = is_told || listed.is_some() || held.is_some_and(|(rank, _)| rank > 0);
            let way = if is_told { Way::Inherited } else { way };
            Pair { is_old, is_told, held, listed, way }
        },
    )
}

proptest! {
    #[test]
    fn applied_once_state_and_snapshot_agree(
        pairs in proptest::collection::vec(pair(), 0..12),
        living in proptest::sample::select(vec![Any, Own, LivingSessions::since_day_of(NEW)]),
        seconds in 0_u64..60,
        flat: bool,
    ) {
        let mut held = Held::default();
        let mut listed = Vec::new();
        let mut trades = Vec::new();
        let mut ways = HashMap::new();
        for (number, pair) in (1..).zip(&pairs) {
            let session = if pair.is_old { OLD } else { NEW };
            if let Some((rank, traded)) = pair.held {
                let (status, traded) = standing(rank, traded);
                held = held.holds(number, session, status, traded);
                // The list may be its first word.
                if pair.is_told && pair.listed.is_none() {
                    held = held.told_of(number);
                }
            }
            if let Some((rank, traded)) = pair.listed {
                let (status, traded) = standing(rank, traded);
                let order = told(number, session, status, traded);
                trades.extend((traded > 0.0).then(|| trade_of(&order, &number.to_string())));
                listed.push(order);
            }
            ways.insert(key(&format!("o{number}")), pair.way);
        }
        let position = position();
        held.state.apply(&OmsEvent::Position(position.clone()));
        let snapshot = VenueSnapshot {
            trades,
            positions: if flat { vec![] } else { vec![position] },
            accounts: vec![account()],
            ..snapshot(listed, living)
        };
        let circumstances = asked_at(seconds);
        let way = |key: &OrderKey| ways.get(key).copied().unwrap_or(Way::Inherited);

        let before = held.state.clone();
        let differences = compare(held.books(), &snapshot, &circumstances, way);
        held.apply(&differences);
        for order in &snapshot.orders {
            let reference = Name::from(order.reference.to_string());
            let ours = held.state.orders().values().find(|o| o.venue_reference.as_ref() == Some(&reference));
            let ours = ours.expect("everything listed is held");
            prop_assert_eq!((ours.status, ours.traded), (order.status, order.traded));
        }
        prop_assert_eq!(held.state.trades().len(), snapshot.trades.len());
        let lots: f64 = held.state.positions().values().map(|p| p.volume).sum();
        prop_assert_eq!(lots, if flat { 0.0 } else { 3.0 });
        prop_assert!(held.state.account("paper").is_some());
        // What works beyond what is listed is known to be uncertain, or was not sent yet, and was not touched.
        let open: Vec<&OrderKey> = differences.iter().filter_map(|difference| match difference {
            Difference::UnderWay(key, _) | Difference::Missing(key) => Some(key),
            _ => None,
        }).collect();
        for order in before.active_orders() {
            let key = OrderKey::from(order);
            let is_listed = snapshot.orders.iter().any(|o| Some(o.reference.to_string().as_str()) == order.venue_reference.as_deref());
            if open.contains(&&key) || way(&key) == Way::Unsent {
                prop_assert_eq!(held.state.order(&key), Some(order));
            } else if !is_listed {
                prop_assert!(!held.state.order(&key).expect("it stays").is_active());
            }
        }
        for (number, _) in (1..).zip(&pairs).filter(|(_, pair)| pair.is_told && pair.held.is_some()) {
            prop_assert_ne!(held.status(&format!("o{number}")), OrderStatus::Rejected, "it had arrived");
        }
        // Once more: nothing changes, and the same is uncertain.
        let references: HashMap<VenueReference, Target> = held.state.orders().values().filter_map(|order| {
            Some((order.venue_reference.as_ref()?.parse().ok()?, Target::Order(order.into())))
        }).collect();
        held.references = references;
        let again = compare(held.books(), &snapshot, &circumstances, way);
        prop_assert!(held.apply(&again).iter().all(|applied| *applied == Applied::Unchanged));
        let still: Vec<&Difference> = again.iter().filter(|d| !matches!(d, Difference::Event(_))).collect();
        let then: Vec<&Difference> = differences.iter().filter(|d| !matches!(d, Difference::Event(_))).collect();
        prop_assert_eq!(still, then);
    }
}
