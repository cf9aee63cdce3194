//! A trader that never rests, over all recorded days at once: nothing may break on what real venues send.

use std::time::Instant;

use protocol::{Exchange as Place, Offset};

use super::super::feed::{self, FeedConfig};
use super::super::instruments::Contracts;
use super::super::recorded::RecordedConfig;
use super::super::recorded::tests::real_data;
use super::tests::{reference, terms};
use super::*;

/// Opens at market, rests orders around the last price, closes what is held, by turns.
fn trade(exchange: &mut Exchange, tick: &Tick, number: u64, out: &mut Vec<VenueEvent>) {
    let Some(last) = tick.last_price else { return };
    let direction = if number.is_multiple_of(2) { Direction::Long } else { Direction::Short };
    let limit = |price, offset| OrderRequest::limit(tick.instrument(), direction, offset, price, 1.0);
    let request = match number % 7 {
        0 | 1 => OrderRequest::market(tick.instrument(), direction, Offset::Open, 1.0),
        2 | 3 => limit(last, Offset::Open),
        4 => OrderRequest { r#type: OrderType::Stop, ..limit(last, Offset::Open) },
        5 => limit(last, Offset::CloseToday),
        _ => limit(last, Offset::Close),
    };
    exchange.submit(&reference(number), &request, out);
    if number > 40 {
        exchange.cancel(&reference(number - 40), out);
    }
}

#[test]
fn recorded_days_trade_and_the_books_follow_from_the_trades() {
    let Some(data) = real_data() else { return };
    let name = Name::from("sim1");
    let products = [data.join("instruments/products_wondertrader.csv.gz")];
    let mut contracts = Contracts::load(&[], &products, &name).expect("the files load");
    let files = [
        "shfe_ru1901_20181008_20181012",
        "czce_AP010_20200803_20200814",
        "cffex_IF2101_20210104_20210106",
        "shfe_cu1909_20190916_5level",
    ];
    let files = files.map(|file| data.join(format!("ticks/{file}.ticks.csv.gz"))).to_vec();
    let config = FeedConfig::Recorded(RecordedConfig { files, ..Default::default() });
    let mut feed = feed::open(&config, &name, &mut contracts, 1).expect("the feed opens");
    let contracts: Vec<Contract> = contracts.iter().cloned().collect();
    let rich = Terms { balance: 1e9, ..terms() };
    let mut exchange = Exchange::new(name.clone(), contracts.iter(), rich.clone());
    exchange.begin_session("7-1".into());
    let mut books = Books::new(name, contracts.iter(), rich);

    let (mut ticks, mut orders, mut trades, mut ended) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut out = Vec::new();
    let began = Instant::now();
    while let Some(next) = feed.next() {
        let tick = next.expect("the recordings are sound").tick;
        ticks += 1;
        exchange.on_tick(&tick, &mut out);
        if ticks.is_multiple_of(50) {
            orders += 1;
            trade(&mut exchange, &tick, orders, &mut out);
        }
        let instrument = tick.instrument();
        if let Some(day) = tick.trading_day {
            books.begin_day(&instrument, day);
        }
        if let Some(last) = tick.last_price {
            books.mark(&instrument, last);
        }
        for event in out.drain(..) {
            match event {
                VenueEvent::Trade(trade) => {
                    trades += 1;
                    books.apply(&trade);
                }
                VenueEvent::Order(order) if order.reason.as_deref() == Some("end of trading day") => ended += 1,
                _ => {}
            }
        }
    }
    println!("{ticks} ticks, {orders} orders, {trades} trades, {:.2?}", began.elapsed());
    assert_eq!(ticks, 192_164 + 126_034 + 84_347 + 200);
    assert!(trades > 2000 && ended >= 5, "{trades} trades, {ended} orders ended with their day");
    for order in exchange.snapshot().orders {
        exchange.cancel(&order.reference, &mut out);
    }
    assert_eq!(exchange.account().frozen, 0.0);
    assert_eq!(exchange.account(), books.account());
    for position in exchange.positions() {
        assert_eq!(position, books.position(&position.instrument(), position.direction));
    }
    let held = exchange.positions();
    assert!(held.iter().any(|position| position.exchange == Place::SHFE && position.yd_volume > 0.0));
}
