//! `OmsState::apply` over arbitrary histories: what makes every copy of the trading state the same.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::oms::{Applied, OrderKey, TradeKey};
use protocol::{Direction, Exchange, OmsEvent, OmsState, Order, OrderId, OrderStatus, Quote, Trade};

use crate::specimens as a;
use crate::strategies as any_;

const OWNERS: [&str; 3] = ["STRAT_A", "STRAT_B", "external"];

/// Lots filled: mostly few values, so that histories meet; now and then what no venue should say.
fn traded() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (0_u8..6).prop_map(f64::from),
        1 => Just(0.5),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, f64::MAX]),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let key = (0..3_usize, 0_u8..3);
    let state = (any_::member(OrderStatus::ALL), traded(), any::<bool>(), any::<bool>(), any::<bool>());
    (key, state).prop_map(|((owner, id), (status, traded, datetime, reason, reference))| {
        let mut order = a::order();
        order.owner = OWNERS[owner].into();
        order.orderid = OrderId::new(format!("o{id}"));
        order.status = status;
        order.traded = traded;
        order.datetime = order.datetime.filter(|_| datetime);
        order.reason = order.reason.filter(|_| reason);
        if !reference {
            order.reference = Default::default();
        }
        order
    })
}

fn quote() -> impl Strategy<Value = Quote> {
    (0..3_usize, 0_u8..2, any_::member(OrderStatus::ALL), traded(), traded()).prop_map(
        |(owner, id, status, bid_traded, ask_traded)| Quote {
            owner: OWNERS[owner].into(),
            quoteid: OrderId::new(format!("q{id}")),
            status,
            bid_traded,
            ask_traded,
            ..a::quote()
        },
    )
}

/// A fill belongs to one order, so its key says whose it is.
fn trade() -> impl Strategy<Value = Trade> {
    (0..3_usize, 0_u8..3, any_::member(Direction::ALL), any::<bool>(), traded()).prop_map(
        |(owner, id, direction, today, price)| Trade {
            owner: OWNERS[owner].into(),
            tradeid: format!("{owner}-{id}").into(),
            direction,
            trading_day: a::trade().trading_day.filter(|_| today),
            price,
            ..a::trade()
        },
    )
}

fn event() -> impl Strategy<Value = OmsEvent> {
    prop_oneof![
        4 => order().prop_map(OmsEvent::Order),
        2 => trade().prop_map(OmsEvent::Trade),
        2 => quote().prop_map(OmsEvent::Quote),
        1 => (any_::member(Direction::ALL), traded()).prop_map(|(direction, volume)| {
            OmsEvent::Position(protocol::Position { direction, volume, ..a::position() })
        }),
        1 => traded().prop_map(|balance| OmsEvent::Account(protocol::Account { balance, ..a::account() })),
    ]
}

fn after(events: &[OmsEvent]) -> OmsState {
    let mut state = OmsState::default();
    for event in events {
        state.apply(event);
    }
    state
}

const fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Submitting => 0,
        OrderStatus::NotTraded => 1,
        OrderStatus::PartTraded => 2,
        OrderStatus::AllTraded | OrderStatus::Cancelled | OrderStatus::Rejected => 3,
    }
}

/// The life of one order as a venue may tell it, in order; each report once.
fn life() -> impl Strategy<Value = Vec<(OrderStatus, f64)>> {
    use OrderStatus::{AllTraded, Cancelled, NotTraded, PartTraded, Rejected, Submitting};
    let fills = prop::collection::btree_set(1_u8..9, 0..4);
    (fills, any::<bool>(), 0..5_u8, 0_u8..9).prop_map(|(fills, accepted, end, counted)| {
        if !accepted && fills.is_empty() && end < 2 {
            return vec![(Submitting, 0.0), (Rejected, 0.0)];
        }
        let mut life = vec![(Submitting, 0.0)];
        if accepted {
            life.push((NotTraded, 0.0));
        }
        life.extend(fills.iter().map(|&lots| (PartTraded, f64::from(lots))));
        match end {
            0 | 1 => life.push((AllTraded, 10.0)),
            // The cancel's own count may lag behind the fills, or be ahead of those reported.
            2 | 3 => life.push((Cancelled, f64::from(counted))),
            _ => {}
        }
        life
    })
}

fn one_order(status: OrderStatus, traded: f64) -> OmsEvent {
    // A venue gives the time of acceptance with whatever it has accepted.
    let accepted = !matches!(status, OrderStatus::Submitting | OrderStatus::Rejected);
    let datetime = a::order().datetime.filter(|_| accepted);
    OmsEvent::Order(Order { status, traded, datetime, ..a::order() })
}

fn outcome(state: &OmsState) -> Vec<(OrderStatus, f64)> {
    state.orders().values().map(|order| (order.status, order.traded)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Node, successor and mirror: the same events make the same state. What a node tells over the wire counts.
    #[test]
    fn a_replay_over_the_wire_equals_the_live_state(events in vec(event(), 0..40)) {
        let mut live = OmsState::default();
        let mut journal = Vec::new();
        for event in &events {
            if live.apply(event) == Applied::Changed {
                journal.push(protocol::codec::encode(event).expect("encodes"));
            }
        }
        let replayed: Vec<OmsEvent> =
            journal.iter().map(|bytes| protocol::codec::decode(bytes).expect("what was applied decodes")).collect();
        prop_assert_eq!(after(&replayed), live);
    }

    #[test]
    fn an_event_applied_twice_counts_once(events in vec(event(), 0..40)) {
        let mut state = OmsState::default();
        for event in &events {
            state.apply(event);
            let once = state.clone();
            prop_assert_eq!(state.apply(event), Applied::Unchanged, "{:?}", event);
            prop_assert_eq!(&state, &once);
        }
    }

    /// What `apply` answers is the truth: it is what decides whether an event is journalled.
    #[test]
    fn unchanged_means_unchanged(events in vec(event(), 0..40)) {
        let mut state = OmsState::default();
        for event in &events {
            let before = state.clone();
            let applied = state.apply(event);
            prop_assert_eq!(applied == Applied::Unchanged, state == before, "{:?}", event);
        }
    }

    #[test]
    fn an_order_never_moves_backwards(events in vec(event(), 0..60)) {
        let mut state = OmsState::default();
        for event in &events {
            let before = state.clone();
            state.apply(event);
            for (key, old) in before.orders() {
                let new = state.order(key).expect("orders do not vanish");
                prop_assert!(new.traded >= old.traded, "{:?} then {:?}", old, event);
                let reopened = old.status == OrderStatus::Rejected && new.status != OrderStatus::Rejected;
                prop_assert!(reopened || rank(new.status) >= rank(old.status), "{:?} then {:?}", old, event);
                if reopened {
                    prop_assert!(new.traded > old.traded || old.datetime.is_none(), "{:?} then {:?}", old, event);
                }
                prop_assert!(old.reference.is_empty() || new.reference == old.reference);
                prop_assert!(old.datetime.is_none() || new.datetime.is_some());
            }
            for (key, old) in before.quotes() {
                let new = state.quote(key).expect("quotes do not vanish");
                prop_assert!(new.bid_traded >= old.bid_traded && new.ask_traded >= old.ask_traded);
                prop_assert!(old.status == OrderStatus::Rejected || rank(new.status) >= rank(old.status));
            }
            prop_assert!(before.trades().iter().all(|(key, trade)| state.trades().get(key) == Some(trade)));
        }
    }

    #[test]
    fn no_number_in_the_state_is_malformed(events in vec(event(), 0..40)) {
        let state = after(&events);
        let orders = state.orders().values().cloned().map(OmsEvent::Order);
        let quotes = state.quotes().values().cloned().map(OmsEvent::Quote);
        let trades = state.trades().values().cloned().map(OmsEvent::Trade);
        for event in orders.chain(quotes).chain(trades) {
            prop_assert_eq!(event.malformed_field(), None, "{:?}", event);
        }
    }

    #[test]
    fn the_active_ones_are_those_that_are_active(events in vec(event(), 0..60)) {
        let state = after(&events);
        let orders: Vec<&Order> = state.orders().values().filter(|order| order.is_active()).collect();
        prop_assert_eq!(state.active_orders().collect::<Vec<_>>(), orders);
        let quotes: Vec<&Quote> = state.quotes().values().filter(|quote| quote.is_active()).collect();
        prop_assert_eq!(state.active_quotes().collect::<Vec<_>>(), quotes);
    }

    #[test]
    fn everything_is_kept_under_its_own_key(events in vec(event(), 0..40)) {
        let state = after(&events);
        prop_assert!(state.orders().iter().all(|(key, order)| *key == OrderKey::from(order)));
        prop_assert!(state.quotes().iter().all(|(key, quote)| *key == OrderKey::from(quote)));
        prop_assert!(state.trades().iter().all(|(key, trade)| *key == TradeKey::from(trade)));
    }

    /// A mirror that sees one owner's events equals the node's state filtered by that owner.
    #[test]
    fn applying_commutes_with_filtering_by_owner(events in vec(event(), 0..60), owner in prop::sample::select(&OWNERS)) {
        let seen: Vec<OmsEvent> =
            events.iter().filter(|event| event.owner().is_none_or(|name| name == owner)).cloned().collect();
        prop_assert_eq!(after(&events).filtered(owner), after(&seen));
        prop_assert_eq!(after(&seen).filtered(owner), after(&seen));
    }

    /// The reports of one life lead to the same end in any order, with any of them repeated.
    #[test]
    fn the_reports_of_a_life_may_come_in_any_order(
        (told, mixed) in life().prop_flat_map(|told| {
            let repeated: Vec<_> = told.iter().chain(&told).copied().collect();
            (Just(told), Just(repeated).prop_shuffle())
        }),
    ) {
        let events = |reports: &[(OrderStatus, f64)]| -> Vec<OmsEvent> {
            reports.iter().map(|&(status, traded)| one_order(status, traded)).collect()
        };
        prop_assert_eq!(outcome(&after(&events(&mixed))), outcome(&after(&events(&told))), "{:?}", mixed);
    }

    /// A fill of one side of a quote is never lost to a report that knows only the other.
    #[test]
    fn the_sides_of_a_quote_fill_independently(fills in vec((0_u8..6, 0_u8..6), 1..6)) {
        let mut state = OmsState::default();
        for &(bid, ask) in &fills {
            let (bid_traded, ask_traded) = (f64::from(bid), f64::from(ask));
            state.apply(&OmsEvent::Quote(Quote { status: OrderStatus::PartTraded, bid_traded, ask_traded, ..a::quote() }));
        }
        let quote = state.quotes().values().next().expect("one quote");
        let most = |side: fn(&(u8, u8)) -> u8| fills.iter().map(side).max().map(f64::from);
        prop_assert_eq!((Some(quote.bid_traded), Some(quote.ask_traded)), (most(|f| f.0), most(|f| f.1)));
    }
}

/// The one pair whose order matters: a rejection that was a guess, and the venue's word against it.
#[test]
fn the_venues_word_reopens_a_guessed_rejection() {
    use OrderStatus::{Cancelled, NotTraded, PartTraded, Rejected, Submitting};
    let told = |reports: &[(OrderStatus, f64)]| {
        let events: Vec<OmsEvent> = reports.iter().map(|&(status, traded)| one_order(status, traded)).collect();
        outcome(&after(&events))
    };
    assert_eq!(told(&[(Submitting, 0.0), (Rejected, 0.0), (NotTraded, 0.0)]), [(NotTraded, 0.0)]);
    assert_eq!(told(&[(Submitting, 0.0), (Rejected, 0.0), (PartTraded, 3.0)]), [(PartTraded, 3.0)]);
    assert_eq!(told(&[(Submitting, 0.0), (Rejected, 0.0), (Cancelled, 3.0)]), [(Cancelled, 3.0)]);
    assert_eq!(told(&[(Submitting, 0.0), (NotTraded, 0.0), (Rejected, 0.0)]), [(Rejected, 0.0)]);
    assert_eq!(told(&[(Submitting, 0.0), (Rejected, 0.0), (Submitting, 0.0)]), [(Rejected, 0.0)]);
}

/// The venue's trade ids repeat: across days, exchanges, and the two sides of a self-trade.
#[test]
fn trades_are_known_by_day_exchange_id_and_side() {
    let first = a::trade();
    let others = [
        Trade { trading_day: a::day(2018, 10, 16), ..a::trade() },
        Trade { exchange: Exchange::DCE, ..a::trade() },
        Trade { tradeid: "98232".into(), ..a::trade() },
        Trade { direction: Direction::Short, ..a::trade() },
    ];
    let mut state = after(&[OmsEvent::Trade(first.clone())]);
    for other in others {
        assert_eq!(state.apply(&OmsEvent::Trade(other)), Applied::Changed);
    }
    assert_eq!(state.trades().len(), 5);
    // The same fill told again, whatever else the second report says.
    let again = Trade { price: 1.0, orderid: OrderId::new("another"), ..first };
    assert_eq!(state.apply(&OmsEvent::Trade(again)), Applied::Unchanged);
}
