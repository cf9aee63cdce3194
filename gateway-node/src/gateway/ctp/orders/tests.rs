//! The two keys in any order of arrival, what is told late or twice, and whose refusal it is.

use super::super::samples;
use super::*;
use proptest::prelude::*;
use protocol::{Direction, Exchange, Offset};

fn session() -> SessionKey {
    SessionKey { trading_day: "20261123".into(), front_id: 1, session_id: -7 }
}

fn next_day(session_id: i32) -> SessionKey {
    SessionKey { trading_day: "20261124".into(), session_id, ..session() }
}

fn orders() -> Orders {
    let mut orders = Orders::default();
    orders.begin(&session(), &mut None);
    orders
}

fn reference(number: u64) -> VenueReference {
    VenueReference { session: "20261123.1.-7".into(), number }
}

/// A record of our order 5, as the exchange has it.
fn record(status: u8, traded: i32) -> OrderRecord {
    OrderRecord {
        order_ref: "           5".into(),
        order_sys_id: "      000123".into(),
        status_message: "words".to_owned(),
        ..samples::record(5, status, traded)
    }
}

/// What the counter says before the exchange has it.
fn unknown() -> OrderRecord {
    OrderRecord { order_sys_id: "".into(), status: b'a', submit_status: b'0', ..record(b'a', 0) }
}

fn trade(id: &str, volume: i32) -> TradeRecord {
    let order_sys_id = "      000123".into();
    TradeRecord { order_sys_id, trade_id: id.into(), price: Some(3_499.0), ..samples::trade(5, 1, volume) }
}

fn request() -> OrderRequest {
    OrderRequest::limit(InstrumentId::new("rb2610", Exchange::SHFE), Direction::Long, Offset::Open, 3_500.0, 3.0)
}

fn refused(number: u64, request: i32) -> RefusedOrder {
    let order_ref = number.to_string().into();
    RefusedOrder { order_ref, symbol: "rb2610".into(), exchange: "SHFE".into(), request }
}

fn now() -> Timestamp {
    chrono::DateTime::parse_from_rfc3339("2026-11-23T09:31:00+08:00").expect("a time")
}

fn take(orders: &mut Orders, record: &OrderRecord) -> Result<Taken, Unusable> {
    orders.take_order(record, now())
}

fn take_trade(orders: &mut Orders, record: &TradeRecord) -> Result<Option<VenueTrade>, Unusable> {
    orders.take_trade(record, now())
}

#[test]
fn an_order_is_found_under_the_name_that_it_was_sent_under() {
    let mut orders = orders();
    assert!(orders.sending(&session(), &reference(5), &request(), 9));
    let told = take(&mut orders, &unknown()).expect("readable").order.expect("news");
    assert_eq!((&told.reference, told.status), (&reference(5), OrderStatus::Submitting));
    let told = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    assert_eq!((&told.reference, told.status, told.traded), (&reference(5), OrderStatus::NotTraded, 0.0));
    assert_eq!(take(&mut orders, &record(b'3', 0)), Ok(Taken::default()), "twice is no news");
    let told = take(&mut orders, &record(b'0', 3)).expect("readable").order.expect("news");
    assert_eq!((told.status, told.traded), (OrderStatus::AllTraded, 3.0));
    assert_eq!(take(&mut orders, &record(b'1', 2)), Ok(Taken::default()), "an older record changes nothing");
}

#[test]
fn a_trade_waits_for_its_order() {
    let mut orders = orders();
    assert_eq!(take_trade(&mut orders, &trade("1", 2)), Ok(None));
    assert_eq!(take_trade(&mut orders, &trade("1", 2)), Ok(None), "it waits once");
    let taken = take(&mut orders, &unknown()).expect("readable");
    assert_eq!(taken.trades, [], "the exchange's number is not known yet");
    let taken = take(&mut orders, &record(b'1', 2)).expect("readable");
    assert_eq!(taken.trades.iter().map(|t| (&t.reference, t.volume)).collect::<Vec<_>>(), [(&reference(5), 2.0)]);
    let next = take_trade(&mut orders, &trade("2", 1)).expect("readable").expect("its order is known");
    assert_eq!((next.reference, next.tradeid.as_str(), next.price), (reference(5), "2", 3_499.0));
}

#[test]
fn trades_without_orders_are_bounded() {
    let mut orders = orders();
    for number in 0..MAX_WAITING {
        assert_eq!(take_trade(&mut orders, &trade(&number.to_string(), 1)), Ok(None));
    }
    assert_eq!(take_trade(&mut orders, &trade("more", 1)), Err(Unusable::TooManyTrades));
    assert_eq!(take(&mut orders, &record(b'0', 3)).expect("readable").trades.len(), MAX_WAITING);
    assert_eq!(orders.waiting_count, 0);
}

#[test]
fn a_refusal_is_ours_only_if_all_of_it_is() {
    let mut orders = orders();
    assert!(orders.sending(&session(), &reference(5), &request(), 9));
    assert_eq!(orders.refused(&session(), &refused(5, 8), "no"), None, "another session's, with the same reference");
    assert_eq!(orders.refused(&session(), &refused(6, 9), "no"), None);
    let other = RefusedOrder { symbol: "rb2611".into(), ..refused(5, 9) };
    assert_eq!(orders.refused(&session(), &other, "no"), None);
    let told = orders.refused(&session(), &refused(5, 9), "no").expect("ours");
    assert_eq!((told.status, told.reason.as_deref()), (OrderStatus::Rejected, Some("no")));
    assert_eq!(orders.refused(&session(), &refused(5, 9), "no"), None, "once");
    // The counter's own record knows better.
    let told = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    assert_eq!(told.status, OrderStatus::NotTraded);
    assert_eq!(orders.refused(&session(), &refused(5, 9), "no"), None, "the counter has told of it");
}

#[test]
fn each_key_cancels() {
    let mut orders = orders();
    assert_eq!(orders.cancel(&reference(5)), None, "nobody knows it");
    assert!(orders.sending(&session(), &reference(5), &request(), 9));
    let sent = |orders: &Orders| match orders.cancel(&reference(5)) {
        Some(Cancel::Send(cancel)) => cancel,
        other => panic!("{other:?}"),
    };
    let key = CancelKey::Session { front_id: 1, session_id: -7, order_ref: "5".into() };
    assert_eq!(sent(&orders), CancelOrder { symbol: "rb2610".into(), exchange: "SHFE".into(), key });
    take(&mut orders, &unknown()).expect("readable");
    let key = CancelKey::Session { front_id: 1, session_id: -7, order_ref: "           5".into() };
    assert_eq!(sent(&orders).key, key, "as the counter writes it");
    take(&mut orders, &record(b'3', 0)).expect("readable");
    assert_eq!(sent(&orders).key, CancelKey::Exchange { order_sys_id: "      000123".into() });
    take(&mut orders, &record(b'5', 0)).expect("readable");
    let Some(Cancel::Ended(order)) = orders.cancel(&reference(5)) else { panic!("it has ended") };
    assert_eq!((order.status, order.reason.as_deref()), (OrderStatus::Cancelled, Some("words")));
}

#[test]
fn a_reference_is_used_once_and_strange_terms_hide_no_order() {
    let mut orders = orders();
    let strange = OrderRecord { price_type: b'G', ..record(b'3', 0) };
    let told = take(&mut orders, &strange).expect("readable").order.expect("news");
    assert_eq!(told.order_type, OrderType::Market);
    assert!(!orders.sending(&session(), &reference(5), &request(), 9));
    assert_eq!(orders.get(&reference(5)), Some(&told), "what is known stays");
}

#[test]
fn what_no_session_sent_is_named_by_the_exchange() {
    let mut orders = orders();
    let forced = OrderRecord { order_ref: " ".into(), front_id: 0, session_id: 0, ..record(b'3', 0) };
    let told = take(&mut orders, &forced).expect("readable").order.expect("news");
    assert_eq!(told.reference.to_string(), "20261123.SHFE.000123/0");
    let traded = take_trade(&mut orders, &trade("1", 1)).expect("readable").expect("known");
    assert_eq!(traded.reference, told.reference);
    let nameless = OrderRecord { order_sys_id: "".into(), ..forced };
    assert!(take(&mut orders, &nameless).is_err());
}

#[test]
fn a_session_that_outlives_its_day_is_remembered_until_there_is_another_day() {
    let (mut orders, mut outlived) = (orders(), Some(session()));
    orders.begin(&SessionKey { session_id: -8, ..session() }, &mut outlived);
    assert_eq!(outlived, Some(session()), "the login says that it is the same day");
    orders.begin(&next_day(-7), &mut outlived);
    let told = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    assert_eq!((told.reference.session.as_str(), outlived), ("20261124.1.-7", None), "one that is counted anew");
}

#[test]
fn two_orders_of_one_reference_are_two() {
    let mut orders = orders();
    let first = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    let second = OrderRecord { order_sys_id: "      000124".into(), ..record(b'5', 0) };
    let told = take(&mut orders, &second).expect("readable").order.expect("news");
    assert_eq!((told.reference.to_string().as_str(), told.status), ("20261123.SHFE.000124/0", OrderStatus::Cancelled));
    assert_eq!(orders.get(&first.reference), Some(&first), "the first one works on");
    let Some(Cancel::Send(cancel)) = orders.cancel(&first.reference) else { panic!("it works") };
    assert_eq!(cancel.key, CancelKey::Exchange { order_sys_id: "      000123".into() });
    // And each stays what it is, in whatever order they are told again.
    take(&mut orders, &second).expect("readable");
    take(&mut orders, &record(b'1', 1)).expect("readable");
    assert_eq!(orders.get(&first.reference).map(|order| order.traded), Some(1.0));
    assert_eq!(orders.get(&told.reference), Some(&told));
}

#[test]
fn a_fill_that_names_no_day_is_of_the_logins() {
    let mut orders = orders();
    take(&mut orders, &record(b'1', 1)).expect("readable");
    let told = take_trade(&mut orders, &trade("1", 1)).expect("readable").expect("known");
    let dayless = TradeRecord { trading_day: "".into(), ..trade("1", 1) };
    assert_eq!(take_trade(&mut orders, &dayless).expect("readable"), Some(told), "it is one fill");
}

#[test]
fn a_new_trading_day_forgets_the_one_before() {
    let mut orders = orders();
    take(&mut orders, &record(b'3', 0)).expect("readable");
    orders.begin(&session(), &mut None);
    assert!(orders.get(&reference(5)).is_some(), "another session of the same day");
    orders.begin(&next_day(-7), &mut None);
    assert!(orders.get(&reference(5)).is_none());
    let told = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    assert_eq!(told.reference.session, "20261124.1.-7", "it is another session's by now");
}

#[test]
fn a_session_that_outlives_its_day_keeps_its_orders_names() {
    let mut orders = orders();
    orders.begin(&next_day(-9), &mut Some(session()));
    let told = take(&mut orders, &record(b'3', 0)).expect("readable").order.expect("news");
    assert_eq!(told.reference, reference(5));
    let other = OrderRecord { session_id: -8, order_sys_id: "000124".into(), ..record(b'3', 0) };
    let told = take(&mut orders, &other).expect("readable").order.expect("news");
    assert_eq!(told.reference.session, "20261124.1.-8");
}

proptest! {
    /// One order's records and trades in any order, any of them twice: it ends as the counter's last record says, and
    /// each trade comes out under it.
    #[test]
    fn any_order_of_arrival_ends_the_same(
        steps in Just((0..6_usize).chain(0..6).collect::<Vec<_>>()).prop_shuffle(),
        sent in proptest::bool::ANY,
    ) {
        let mut orders = orders();
        if sent {
            assert!(orders.sending(&session(), &reference(5), &request(), 9));
        }
        let (mut last, mut trades) = (None, std::collections::BTreeMap::new());
        for step in steps {
            let (order, told) = match step {
                0 => (take(&mut orders, &unknown()).expect("readable"), None),
                1 => (take(&mut orders, &record(b'3', 0)).expect("readable"), None),
                2 => (take(&mut orders, &record(b'1', 1)).expect("readable"), None),
                3 => (take(&mut orders, &record(b'5', 2)).expect("readable"), None),
                4 => (Taken::default(), take_trade(&mut orders, &trade("1", 1)).expect("readable")),
                _ => (Taken::default(), take_trade(&mut orders, &trade("2", 1)).expect("readable")),
            };
            last = order.order.or(last);
            for trade in order.trades.into_iter().chain(told) {
                prop_assert_eq!(&trade.reference, &reference(5));
                trades.insert(trade.tradeid.clone(), trade.volume);
            }
        }
        let last = last.expect("told of");
        prop_assert_eq!((last.status, last.traded), (OrderStatus::Cancelled, 2.0));
        prop_assert_eq!(trades.len(), 2);
        prop_assert_eq!(orders.waiting_count, 0);
        prop_assert_eq!(orders.get(&reference(5)), Some(&last));
    }
}
