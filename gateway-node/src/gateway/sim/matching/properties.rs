//! What must hold whatever comes: arbitrary orders over arbitrary ticks, broken ones included.

use std::collections::HashMap;

use proptest::prelude::*;
use protocol::{Exchange as Place, Level, Offset};

use super::super::market::sign;
use super::tests::{contracts, day, exchange, instrument, reference, terms, tick};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Tick(Box<Tick>),
    Submit(OrderRequest),
    Quote(QuoteRequest),
    Cancel(u64),
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::SHFE), Just(Place::DCE)]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Long), Just(Direction::Short)]
}

fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![
        4 => Just(Offset::Open),
        2 => Just(Offset::Close),
        2 => Just(Offset::CloseToday),
        1 => Just(Offset::CloseYesterday),
    ]
}

fn price() -> impl Strategy<Value = f64> {
    (92_u32..=108).prop_map(f64::from)
}

/// Mostly plausible, sometimes what no venue should send.
fn hostile(plausible: impl Strategy<Value = f64> + 'static) -> impl Strategy<Value = f64> {
    let broken = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -3.0, f64::MAX, f64::MIN_POSITIVE, 0.5];
    prop_oneof![12 => plausible, 1 => proptest::sample::select(broken.to_vec())]
}

fn depth() -> impl Strategy<Value = Vec<Level>> {
    proptest::collection::vec((hostile(price()), hostile((1_u32..30).prop_map(f64::from))), 0..4)
        .prop_map(|levels| levels.into_iter().map(|(price, volume)| Level(price, volume)).collect())
}

pub(in crate::gateway::sim) fn ticks() -> impl Strategy<Value = Tick> {
    let prices =
        (proptest::option::of(hostile(price())), proptest::option::of(hostile((0_u32..200).prop_map(f64::from))));
    (place(), prices, depth(), depth(), proptest::option::weighted(0.9, prop_oneof![9 => Just(2_u32), 1 => 3_u32..5]))
        .prop_map(|(place, (last, volume), bids, asks, date)| {
            let mut tick = tick(place, 0.0, 0.0, &[], &[]);
            (tick.last_price, tick.volume, tick.trading_day) = (last, volume, date.map(day));
            (tick.bids, tick.asks) = (bids.into_iter().collect(), asks.into_iter().collect());
            tick
        })
}

pub(in crate::gateway::sim) fn requests() -> impl Strategy<Value = OrderRequest> {
    let types = prop_oneof![
        6 => Just(OrderType::Limit),
        1 => Just(OrderType::Market),
        1 => Just(OrderType::Fak),
        1 => Just(OrderType::Fok),
        1 => Just(OrderType::Stop),
    ];
    (place(), types, direction(), offset(), price(), 1_u32..40).prop_map(
        |(place, r#type, direction, offset, price, volume)| {
            let request = OrderRequest::limit(instrument(place), direction, offset, price, f64::from(volume));
            OrderRequest { r#type, orderid: protocol::OrderId::new("o"), ..request }
        },
    )
}

pub(in crate::gateway::sim) fn quotes() -> impl Strategy<Value = QuoteRequest> {
    (place(), price(), 1_u32..4, (1_u32..9, 1_u32..9), (offset(), offset())).prop_map(
        |(exchange, bid_price, spread, (bid_volume, ask_volume), (bid_offset, ask_offset))| QuoteRequest {
            quoteid: protocol::OrderId::new("q"),
            symbol: instrument(exchange).symbol,
            exchange,
            bid_price,
            bid_volume: f64::from(bid_volume),
            ask_price: bid_price + f64::from(spread),
            ask_volume: f64::from(ask_volume),
            bid_offset,
            ask_offset,
            reference: Name::default(),
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => ticks().prop_map(|tick| Step::Tick(Box::new(tick))),
        5 => requests().prop_map(Step::Submit),
        1 => quotes().prop_map(Step::Quote),
        2 => (1_u64..60).prop_map(Step::Cancel),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Runs the steps and returns what each of them caused.
fn run(exchange: &mut Exchange, steps: &[Step]) -> Vec<Vec<VenueEvent>> {
    let mut number = 0;
    let mut perform = |step: &Step| {
        let mut out = Vec::new();
        match step {
            Step::Tick(tick) => {
                exchange.on_tick(tick, &mut out);
            }
            Step::Submit(request) => {
                number += 1;
                exchange.submit(&reference(number), request, &mut out);
            }
            Step::Quote(request) => {
                number += 1;
                exchange.submit_quote(&reference(number), request, &mut out);
            }
            Step::Cancel(which) => {
                exchange.cancel(&reference(*which), &mut out);
                exchange.cancel_quote(&reference(*which), &mut out);
            }
        }
        out
    };
    steps.iter().map(&mut perform).collect()
}

/// Cancels everything that could still work.
fn cancel_all(exchange: &mut Exchange) -> Vec<VenueEvent> {
    let mut out = Vec::new();
    let snapshot = exchange.snapshot();
    for order in &snapshot.orders {
        exchange.cancel(&order.reference, &mut out);
    }
    for quote in &snapshot.quotes {
        exchange.cancel_quote(&quote.reference, &mut out);
    }
    out
}

/// Books fed with nothing but the trades, the last prices and the days, in their order.
fn books_from_trades(steps: &[Step], events: &[Vec<VenueEvent>]) -> Books {
    let mut books = Books::new("sim1".into(), contracts().iter(), terms());
    for (step, events) in steps.iter().zip(events) {
        if let Step::Tick(tick) = step {
            if let Some(day) = tick.trading_day {
                books.begin_day(&tick.instrument(), day);
            }
            if let Some(last) = tick.last_price.filter(|last| (0.0..1e12).contains(last) && *last > 0.0) {
                books.mark(&tick.instrument(), last);
            }
        }
        for event in events {
            if let VenueEvent::Trade(trade) = event {
                books.apply(trade);
            }
        }
    }
    books
}

fn trades(events: &[VenueEvent]) -> impl Iterator<Item = &VenueTrade> {
    events.iter().filter_map(|event| match event {
        VenueEvent::Trade(trade) => Some(trade),
        _ => None,
    })
}

fn size(levels: &[Level]) -> f64 {
    let is_level = |level: &&Level| level.0.is_finite() && level.0 > 0.0 && level.1.is_finite() && level.1 > 0.0;
    levels.iter().filter(is_level).fold(0.0, |sum, level| sum + level.1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn books_follow_from_the_trades_alone_and_frozen_returns_to_zero(steps in steps()) {
        let mut exchange = exchange();
        let mut events = run(&mut exchange, &steps);
        events.push(cancel_all(&mut exchange));
        let mut reported: HashMap<(InstrumentId, Direction), Position> = HashMap::new();
        let mut account = None;
        exchange.report_marks(events.last_mut().expect("one was pushed"));
        for event in events.iter().flatten() {
            match event {
                VenueEvent::Position(position) => {
                    reported.insert((position.instrument(), position.direction), position.clone());
                }
                VenueEvent::Account(new) => account = Some(new.clone()),
                _ => {}
            }
        }
        let books = books_from_trades(&steps, &events);
        prop_assert_eq!(account.map(|account| account.frozen), Some(0.0));
        prop_assert_eq!(exchange.account(), books.account());
        for ((instrument, direction), position) in &reported {
            prop_assert_eq!(position, &books.position(instrument, *direction));
            prop_assert_eq!(position.frozen, 0.0);
            prop_assert!(position.volume >= 0.0 && (0.0..=position.volume).contains(&position.yd_volume));
        }
        for position in books.positions() {
            prop_assert!(reported.contains_key(&(position.instrument(), position.direction)));
        }
    }

    #[test]
    fn every_order_keeps_its_word(steps in steps()) {
        let mut exchange = exchange();
        let events = run(&mut exchange, &steps);
        let requests = steps.iter().filter_map(|step| match step {
            Step::Submit(request) => Some(Some(request)),
            Step::Quote(_) => Some(None),
            _ => None,
        });
        let mut filled: HashMap<u64, f64> = HashMap::new();
        let mut final_states: HashMap<u64, VenueOrder> = HashMap::new();
        let mut ids = std::collections::HashSet::new();
        let by_number: HashMap<u64, Option<&OrderRequest>> = (1..).zip(requests).collect();
        for events in &events {
            for trade in trades(events) {
                let id = (trade.instrument.exchange, trade.direction, trade.tradeid.clone());
                prop_assert!(ids.insert(id), "a trade id came twice");
                *filled.entry(trade.reference.number).or_default() += trade.volume;
                prop_assert!(trade.volume > 0.0 && trade.volume.fract() == 0.0);
                let Some(Some(request)) = by_number.get(&trade.reference.number) else { continue };
                prop_assert_eq!((trade.direction, trade.offset), (request.direction, request.offset));
                let limit = request.price.expect("all have one");
                match request.r#type {
                    OrderType::Market | OrderType::Stop => prop_assert!((50.0..=150.0).contains(&trade.price)),
                    _ => prop_assert!(sign(request.direction) * (limit - trade.price) >= 0.0),
                }
            }
            for event in events {
                if let VenueEvent::Order(order) = event
                    && let Some(before) = final_states.insert(order.reference.number, order.clone())
                {
                    prop_assert!(order.traded >= before.traded, "an order moved backwards");
                    prop_assert!(before.status.is_active() || before.status == order.status);
                }
            }
        }
        for (number, order) in &final_states {
            let filled = filled.get(number).copied().unwrap_or_default();
            prop_assert_eq!(order.traded, filled);
            prop_assert!(filled <= order.volume);
            prop_assert_eq!(order.status == OrderStatus::AllTraded, filled == order.volume);
            match order.order_type {
                OrderType::Fok => prop_assert!(filled == 0.0 || filled == order.volume),
                OrderType::Limit | OrderType::Stop => {}
                _ => prop_assert!(!order.status.is_active()),
            }
        }
    }

    #[test]
    fn no_more_is_filled_than_was_shown_or_traded(steps in steps()) {
        let mut exchange = exchange();
        let events = run(&mut exchange, &steps);
        // Per instrument, between one tick and the next: what could be had, and what was.
        let mut volume: HashMap<InstrumentId, (Option<f64>, Option<chrono::NaiveDate>)> = HashMap::new();
        let mut supply: HashMap<(InstrumentId, Direction), f64> = HashMap::new();
        let mut traded: HashMap<InstrumentId, f64> = HashMap::new();
        let mut taken: HashMap<(InstrumentId, Direction), f64> = HashMap::new();
        for (step, events) in steps.iter().zip(&events) {
            if let Step::Tick(tick) = step {
                let instrument = tick.instrument();
                let (before, date) = volume.entry(instrument.clone()).or_default();
                if tick.trading_day.is_some() && date.is_some() && tick.trading_day != *date {
                    *before = None;
                }
                *date = tick.trading_day.or(*date);
                let now = tick.volume.filter(|volume| volume.is_finite() && *volume >= 0.0);
                let delta = now.zip(*before).map_or(0.0, |(now, before)| (now - before).max(0.0));
                *before = now.or(*before);
                traded.insert(instrument.clone(), delta);
                for (direction, levels) in [(Direction::Long, &tick.asks), (Direction::Short, &tick.bids)] {
                    supply.insert((instrument.clone(), direction), size(levels));
                    taken.insert((instrument.clone(), direction), 0.0);
                }
            }
            for trade in trades(events) {
                *taken.entry((trade.instrument.clone(), trade.direction)).or_default() += trade.volume;
            }
            for (instrument, delta) in &traded {
                let of = |map: &HashMap<(InstrumentId, Direction), f64>, direction| {
                    map.get(&(instrument.clone(), direction)).copied().unwrap_or_default()
                };
                let both = [Direction::Long, Direction::Short];
                let all: f64 = both.iter().map(|&side| (of(&taken, side) - of(&supply, side)).max(0.0)).sum();
                prop_assert!(all <= *delta, "{all} beyond the book, {delta} traded");
            }
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in steps()) {
        prop_assert_eq!(
            format!("{:?}", run(&mut exchange(), &steps)),
            format!("{:?}", run(&mut exchange(), &steps))
        );
    }
}
