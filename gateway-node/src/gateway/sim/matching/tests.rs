//! The exchange's rules, one by one.

use protocol::{Currency, Exchange as Place, Level, Offset, Product};

use super::*;

pub(in crate::gateway::sim) fn instrument(place: Place) -> InstrumentId {
    InstrumentId::new("x2410", place)
}

pub(in crate::gateway::sim) fn terms() -> Terms {
    Terms {
        accountid: "paper".into(),
        currency: Currency::CNY,
        balance: 100_000.0,
        commission_rate: 0.0001,
        commission_per_lot: 1.0,
        margin_ratio: 0.1,
    }
}

pub(in crate::gateway::sim) fn contracts() -> Vec<Contract> {
    [Place::SHFE, Place::DCE]
        .map(|place| Contract::new("sim1", instrument(place), Product::Futures, 10.0, 1.0))
        .to_vec()
}

pub(in crate::gateway::sim) fn exchange() -> Exchange {
    let mut exchange = Exchange::new("sim1".into(), contracts().iter(), terms());
    exchange.begin_session("7-1".into());
    exchange
}

pub(in crate::gateway::sim) fn day(day: u32) -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(2024, 1, day).expect("a day")
}

pub(in crate::gateway::sim) fn tick(
    place: Place,
    last: f64,
    volume: f64,
    bids: &[(f64, f64)],
    asks: &[(f64, f64)],
) -> Tick {
    let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
    let mut tick = Tick::new("sim1", instrument(place), time);
    (tick.last_price, tick.volume, tick.trading_day) = (Some(last), Some(volume), Some(day(2)));
    (tick.limit_down, tick.limit_up) = (Some(50.0), Some(150.0));
    tick.bids = bids.iter().map(|&(price, volume)| Level(price, volume)).collect();
    tick.asks = asks.iter().map(|&(price, volume)| Level(price, volume)).collect();
    tick
}

fn quiet() -> Tick {
    tick(Place::SHFE, 100.0, 1000.0, &[(99.0, 10.0), (98.0, 10.0)], &[(101.0, 10.0), (102.0, 10.0)])
}

fn open() -> Exchange {
    let mut exchange = exchange();
    exchange.on_tick(&quiet(), &mut Vec::new());
    exchange
}

pub(in crate::gateway::sim) fn reference(number: u64) -> VenueReference {
    VenueReference { session: "7-1".into(), number }
}

fn order(order_type: OrderType, direction: Direction, price: f64, volume: f64) -> OrderRequest {
    let request = OrderRequest::limit(instrument(Place::SHFE), direction, Offset::Open, price, volume);
    let price = (order_type != OrderType::Market).then_some(price);
    OrderRequest { r#type: order_type, price, ..request }
}

fn submit(exchange: &mut Exchange, number: u64, request: &OrderRequest) -> Vec<VenueEvent> {
    let mut out = Vec::new();
    exchange.submit(&reference(number), request, &mut out);
    out
}

fn feed(exchange: &mut Exchange, tick: &Tick) -> Vec<VenueEvent> {
    let mut out = Vec::new();
    exchange.on_tick(tick, &mut out);
    out
}

/// (number, price, volume) of the trades.
fn trades(events: &[VenueEvent]) -> Vec<(u64, f64, f64)> {
    let trade = |event: &VenueEvent| match event {
        VenueEvent::Trade(trade) => Some((trade.reference.number, trade.price, trade.volume)),
        _ => None,
    };
    events.iter().filter_map(trade).collect()
}

/// The last state that the events tell of an order.
fn ended(events: &[VenueEvent]) -> (OrderStatus, f64, String) {
    let order = |event: &VenueEvent| match event {
        VenueEvent::Order(order) => Some((order.status, order.traded, order.reason.clone().unwrap_or_default())),
        _ => None,
    };
    events.iter().rev().find_map(order).expect("an order event")
}

fn names(events: &[VenueEvent]) -> Vec<&'static str> {
    let name = |event: &VenueEvent| match event {
        VenueEvent::Order(_) => "order",
        VenueEvent::Trade(_) => "trade",
        VenueEvent::Quote(_) => "quote",
        VenueEvent::Position(_) => "position",
        VenueEvent::Account(_) => "account",
        VenueEvent::TradingDay(_) => "day",
        _ => "other",
    };
    events.iter().map(name).collect()
}

use Direction::{Long, Short};
use OrderStatus::{AllTraded, Cancelled, NotTraded, PartTraded, Rejected};

#[test]
fn a_limit_order_takes_what_it_reaches_and_rests_with_the_rest() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Limit, Long, 101.0, 12.0));
    assert_eq!(names(&events), ["order", "order", "trade", "position", "account"]);
    assert_eq!(trades(&events), [(1, 101.0, 10.0)]);
    assert_eq!(ended(&events), (PartTraded, 10.0, String::new()));
    let events = feed(&mut exchange, &tick(Place::SHFE, 101.0, 1001.0, &[(100.0, 1.0)], &[(102.0, 1.0)]));
    assert_eq!(trades(&events), [(1, 101.0, 1.0)], "nobody was ahead at our new best price");
    assert_eq!(names(&events), ["order", "trade", "position", "account"]);
    let (VenueEvent::Trade(trade), VenueEvent::Order(order)) = (&events[1], &events[0]) else { panic!("{events:?}") };
    assert_eq!((trade.tradeid.as_str(), trade.trading_day), ("7-1-2", Some(day(2))));
    assert_eq!((order.traded, order.datetime), (11.0, trade.datetime));
}

#[test]
fn an_order_fills_level_by_level_and_nobody_takes_the_same_size_twice() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Limit, Long, 102.0, 15.0));
    assert_eq!(trades(&events), [(1, 101.0, 10.0), (1, 102.0, 5.0)]);
    assert_eq!(ended(&events).0, AllTraded);
    let events = submit(&mut exchange, 2, &order(OrderType::Fak, Long, 102.0, 15.0));
    assert_eq!(trades(&events), [(2, 102.0, 5.0)]);
    feed(&mut exchange, &quiet());
    assert_eq!(trades(&submit(&mut exchange, 3, &order(OrderType::Limit, Long, 101.0, 1.0))), [(3, 101.0, 1.0)]);
}

#[test]
fn fill_and_kill_cancels_what_is_not_there() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Fak, Short, 99.0, 12.0));
    assert_eq!(trades(&events), [(1, 99.0, 10.0)]);
    let reason = "fill and kill: 2 of 12 lots were not there at 99 or better";
    assert_eq!(ended(&events), (Cancelled, 10.0, reason.to_owned()));
    assert_eq!(exchange.account().frozen, 0.0);
}

#[test]
fn fill_or_kill_is_all_or_nothing() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Fok, Long, 101.0, 11.0));
    let reason = "fill or kill: 10 of 11 lots were there at 101 or better";
    assert_eq!((trades(&events), ended(&events)), (vec![], (Cancelled, 0.0, reason.to_owned())));
    let events = submit(&mut exchange, 2, &order(OrderType::Fok, Long, 102.0, 11.0));
    assert_eq!((trades(&events), ended(&events).0), (vec![(2, 101.0, 10.0), (2, 102.0, 1.0)], AllTraded));
}

#[test]
fn a_market_order_takes_the_book_and_no_more() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Market, Long, 0.0, 25.0));
    assert_eq!(trades(&events), [(1, 101.0, 10.0), (1, 102.0, 10.0)]);
    let reason = "5 of 25 lots were not in the book within the day's price limits";
    assert_eq!(ended(&events), (Cancelled, 20.0, reason.to_owned()));
}

#[test]
fn a_market_order_without_a_book_is_cancelled() {
    let mut exchange = exchange();
    let events = submit(&mut exchange, 1, &order(OrderType::Market, Long, 0.0, 1.0));
    assert_eq!(ended(&events), (Cancelled, 0.0, "nobody is on the other side of the book".to_owned()));
    assert_eq!(exchange.account().frozen, 0.0);
}

#[test]
fn a_stop_waits_for_its_trigger_and_then_trades_at_market() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Stop, Long, 103.0, 3.0));
    assert_eq!(ended(&events).0, NotTraded);
    assert_eq!(names(&events), ["order", "account"]);
    let book: &[(f64, f64)] = &[(104.0, 2.0), (105.0, 9.0)];
    let events = feed(&mut exchange, &tick(Place::SHFE, 103.0, 1000.0, &[(102.0, 9.0)], book));
    assert_eq!((trades(&events), ended(&events).0), (vec![(1, 104.0, 2.0), (1, 105.0, 1.0)], AllTraded));
}

#[test]
fn a_stop_whose_trigger_is_reached_already_goes_off_at_once() {
    let mut exchange = open();
    let events = submit(&mut exchange, 1, &order(OrderType::Stop, Short, 100.0, 1.0));
    assert_eq!((trades(&events), ended(&events).0), (vec![(1, 99.0, 1.0)], AllTraded));
}

#[test]
fn a_stop_that_slipped_beyond_the_money_is_cancelled() {
    let mut exchange = open();
    // 97,970 of margin and 1,068 of commission at 101; beyond 100,000 at 149.
    submit(&mut exchange, 1, &order(OrderType::Stop, Long, 101.0, 970.0));
    let events = feed(&mut exchange, &tick(Place::SHFE, 102.0, 1000.0, &[], &[(149.0, 1000.0)]));
    let (status, traded, reason) = ended(&events);
    assert_eq!((status, traded), (Cancelled, 0.0));
    assert!(reason.starts_with("insufficient funds: needs"), "{reason}");
    assert_eq!(exchange.account().frozen, 0.0);
}

#[test]
fn what_cannot_work_is_rejected_with_its_reason() {
    let mut exchange = open();
    let limit = |price, volume| order(OrderType::Limit, Long, price, volume);
    let cases = [
        (limit(151.0, 1.0), "price 151 is above the day's upper limit 150"),
        (limit(49.0, 1.0), "price 49 is below the day's lower limit 50"),
        (limit(100.0, 10_000.0), "insufficient funds: needs 1011000.00, available 100000.00"),
        (
            OrderRequest { offset: Offset::Close, ..limit(100.0, 1.0) },
            "insufficient position: CLOSE needs 1 lots SHORT, closable 0",
        ),
        (OrderRequest { symbol: "y".into(), ..limit(100.0, 1.0) }, "the venue has no instrument y.SHFE"),
        (limit(f64::NAN, 1.0), "price NaN is no price"),
        (limit(-100.0, 1.0), "price -100 is no price"),
        (limit(100.0, f64::NAN), "NaN is no volume"),
        (OrderRequest { price: None, ..limit(100.0, 1.0) }, "a LIMIT order needs a price"),
        (OrderRequest { r#type: OrderType::Rfq, ..limit(100.0, 1.0) }, "the venue takes no RFQ orders"),
    ];
    for ((request, expected), number) in cases.into_iter().zip(1..) {
        let events = submit(&mut exchange, number, &request);
        assert_eq!(ended(&events), (Rejected, 0.0, expected.to_owned()));
    }
    for (request, begins) in [
        (OrderRequest { offset: Offset::None, ..limit(100.0, 1.0) }, "offset NONE"),
        (OrderRequest { direction: Direction::Net, ..limit(100.0, 1.0) }, "direction NET"),
    ] {
        let events = submit(&mut exchange, 100 + begins.len() as u64, &request);
        assert!(ended(&events).0 == Rejected && ended(&events).2.starts_with(begins));
    }
    assert_eq!(exchange.account().frozen, 0.0);
}

#[test]
fn a_cancel_ends_an_order_once() {
    let mut exchange = open();
    submit(&mut exchange, 1, &order(OrderType::Limit, Long, 99.0, 1.0));
    assert!(exchange.account().frozen > 0.0);
    let mut events = Vec::new();
    exchange.cancel(&reference(1), &mut events);
    assert_eq!(names(&events), ["order", "account"]);
    assert_eq!(ended(&events), (Cancelled, 0.0, "cancelled on request".to_owned()));
    assert_eq!(exchange.account().frozen, 0.0);
    let mut again = Vec::new();
    exchange.cancel(&reference(1), &mut again);
    assert_eq!(ended(&again), ended(&events), "a finished order says again how it ended");
    let mut unknown = Vec::new();
    exchange.cancel(&reference(2), &mut unknown);
    exchange.cancel_quote(&reference(1), &mut unknown);
    assert_eq!(names(&unknown), ["other", "other"]);
    let events = feed(&mut exchange, &tick(Place::SHFE, 98.0, 2000.0, &[], &[(98.0, 10.0)]));
    assert_eq!(trades(&events), []);
}

#[test]
fn a_reference_that_comes_twice_makes_no_second_order() {
    let mut exchange = open();
    submit(&mut exchange, 1, &order(OrderType::Limit, Long, 101.0, 1.0));
    let events = submit(&mut exchange, 1, &order(OrderType::Limit, Long, 101.0, 1.0));
    assert_eq!(names(&events), ["other"]);
}

#[test]
fn our_own_orders_never_trade_with_each_other() {
    let mut exchange = open();
    assert_eq!(trades(&submit(&mut exchange, 1, &order(OrderType::Limit, Long, 100.0, 1.0))), []);
    assert_eq!(trades(&submit(&mut exchange, 2, &order(OrderType::Limit, Short, 100.0, 1.0))), []);
}

fn quote(bid: f64, ask: f64) -> QuoteRequest {
    QuoteRequest {
        quoteid: protocol::OrderId::new("q"),
        symbol: "x2410".into(),
        exchange: Place::SHFE,
        bid_price: bid,
        bid_volume: 2.0,
        ask_price: ask,
        ask_volume: 3.0,
        bid_offset: Offset::Open,
        ask_offset: Offset::Open,
        reference: Name::default(),
    }
}

fn last_quote(events: &[VenueEvent]) -> VenueQuote {
    let quote = |event: &VenueEvent| match event {
        VenueEvent::Quote(quote) => Some(quote.clone()),
        _ => None,
    };
    events.iter().rev().find_map(quote).expect("a quote event")
}

#[test]
fn a_quote_is_all_traded_once_both_sides_are() {
    let mut exchange = open();
    let mut events = Vec::new();
    exchange.submit_quote(&reference(1), &quote(99.5, 100.5), &mut events);
    assert_eq!(names(&events), ["quote", "account"]);
    let events = feed(&mut exchange, &tick(Place::SHFE, 99.0, 1010.0, &[(98.0, 1.0)], &[(101.0, 1.0)]));
    assert_eq!(trades(&events), [(1, 99.5, 2.0)]);
    let state = last_quote(&events);
    assert_eq!((state.status, state.bid_traded, state.ask_traded), (PartTraded, 2.0, 0.0));
    let events = feed(&mut exchange, &tick(Place::SHFE, 101.0, 1020.0, &[(98.0, 1.0)], &[(102.0, 1.0)]));
    assert_eq!(trades(&events), [(1, 100.5, 3.0)]);
    assert_eq!(last_quote(&events).status, AllTraded);
    assert_eq!(exchange.account().frozen, 0.0);
}

#[test]
fn a_cancelled_quote_works_on_neither_side() {
    let mut exchange = open();
    exchange.submit_quote(&reference(1), &quote(99.0, 101.0), &mut Vec::new());
    let mut events = Vec::new();
    exchange.cancel_quote(&reference(1), &mut events);
    assert_eq!(last_quote(&events).status, Cancelled);
    assert_eq!(exchange.account().frozen, 0.0);
    let events = feed(&mut exchange, &tick(Place::SHFE, 90.0, 9000.0, &[(120.0, 1.0)], &[(80.0, 1.0)]));
    assert_eq!(trades(&events), []);
}

#[test]
fn a_quote_that_half_fails_keeps_nothing() {
    let mut exchange = open();
    let mut events = Vec::new();
    let half = QuoteRequest { ask_offset: Offset::Close, ..quote(99.0, 101.0) };
    exchange.submit_quote(&reference(1), &half, &mut events);
    let state = last_quote(&events);
    assert_eq!(state.status, Rejected);
    assert!(state.reason.expect("a reason").starts_with("insufficient position"));
    assert_eq!(exchange.account().frozen, 0.0);
    exchange.submit_quote(&reference(2), &quote(101.0, 99.0), &mut events);
    assert_eq!(last_quote(&events).reason.as_deref(), Some("bid_price 101 must be below ask_price 99"));
}

#[test]
fn a_new_trading_day_cancels_and_turns_today_into_yesterday() {
    let mut exchange = open();
    submit(&mut exchange, 1, &order(OrderType::Limit, Long, 101.0, 2.0));
    submit(&mut exchange, 2, &order(OrderType::Limit, Long, 98.0, 2.0));
    submit(&mut exchange, 3, &order(OrderType::Stop, Long, 140.0, 2.0));
    let mut next = tick(Place::SHFE, 98.0, 5000.0, &[(98.0, 1.0)], &[(99.0, 1.0)]);
    next.trading_day = Some(day(3));
    let events = feed(&mut exchange, &next);
    assert_eq!(names(&events), ["order", "order", "day", "position", "account"]);
    assert_eq!(ended(&events), (Cancelled, 0.0, "end of trading day".to_owned()));
    assert_eq!(exchange.positions()[0].yd_volume, 2.0);
    assert_eq!(exchange.account().frozen, 0.0);
    assert_eq!(exchange.snapshot().orders.len(), 3, "all of the day that ended shows for one more");
    assert_eq!(exchange.snapshot().trades.len(), 1);
    let close = OrderRequest { offset: Offset::Close, ..order(OrderType::Limit, Short, 98.0, 1.0) };
    assert_eq!(trades(&submit(&mut exchange, 4, &close)), [(4, 98.0, 1.0)]);
    next.trading_day = Some(day(4));
    feed(&mut exchange, &next);
    let numbers = |exchange: &Exchange| -> Vec<u64> {
        exchange.snapshot().orders.iter().map(|order| order.reference.number).collect()
    };
    assert_eq!(numbers(&exchange), [4]);
    next.trading_day = Some(day(5));
    feed(&mut exchange, &next);
    assert_eq!(numbers(&exchange), Vec::<u64>::new());
}

#[test]
fn each_instrument_lives_in_its_own_calendar() {
    let mut exchange = open();
    submit(&mut exchange, 1, &order(OrderType::Limit, Long, 98.0, 2.0));
    let mut later = tick(Place::DCE, 98.0, 5000.0, &[], &[]);
    later.trading_day = Some(day(20));
    assert_eq!(names(&feed(&mut exchange, &later)), ["day"]);
    let mut next = quiet();
    next.trading_day = Some(day(3));
    assert_eq!(names(&feed(&mut exchange, &next)), ["order", "account"], "an earlier day than the venue's");
    assert_eq!(exchange.trading_day(), Some(day(20)));
    next.trading_day = Some(day(2));
    assert_eq!(names(&feed(&mut exchange, &next)), ["day"], "the replay began again");
}

#[test]
fn a_restart_keeps_books_and_prices_and_forgets_orders() {
    let mut old = open();
    submit(&mut old, 1, &order(OrderType::Limit, Long, 101.0, 2.0));
    submit(&mut old, 2, &order(OrderType::Limit, Long, 98.0, 2.0));
    let (positions, account) = (old.positions(), old.account());
    assert_eq!(old.restart(&positions, std::slice::from_ref(&account)), Vec::<String>::new());
    let snapshot = old.snapshot();
    assert!(snapshot.orders.is_empty() && snapshot.trades.is_empty() && snapshot.living == LivingSessions::Own);
    assert_eq!(old.account().balance, account.balance);
    assert_eq!((old.account().frozen, old.positions()[0].volume), (0.0, 2.0));
    let events = feed(&mut old, &tick(Place::SHFE, 90.0, 9000.0, &[], &[(90.0, 10.0)]));
    assert_eq!(trades(&events), []);
}
