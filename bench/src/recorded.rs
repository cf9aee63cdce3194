//! What is encoded and decoded: a tick as recorded (SHFE cu1909, five levels, 2019-09-16 14:01:33, with the fields that CTP
//! would add), ticks made from it, and an order.

use protocol::{Direction, Event, Exchange, InstrumentId, Level, Offset, Order, OrderRequest, Tick, Timestamp};

fn time(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).expect("a time")
}

/// The tick in the envelope that it is published in.
pub fn tick_event() -> Event<Tick> {
    let id = InstrumentId::new("cu1909", Exchange::SHFE);
    let mut tick = Tick::new("ctp1", id, time("2019-09-16T14:01:33.500+08:00"));
    tick.volume = Some(7_360.0);
    tick.turnover = Some(1_756_292_000.0);
    tick.open_interest = Some(8_240.0);
    tick.last_price = Some(47_800.0);
    tick.limit_up = Some(51_430.0);
    tick.limit_down = Some(43_810.0);
    tick.open_price = Some(47_720.0);
    tick.high_price = Some(47_860.0);
    tick.low_price = Some(47_660.0);
    tick.pre_close = Some(47_690.0);
    tick.pre_settlement = Some(47_620.0);
    tick.bids = [(47_780.0, 10.0), (47_770.0, 10.0), (47_760.0, 85.0), (47_750.0, 20.0), (47_740.0, 20.0)]
        .into_iter()
        .map(|(price, volume)| Level(price, volume))
        .collect();
    tick.asks = [(47_820.0, 10.0), (47_830.0, 10.0), (47_850.0, 5.0), (47_860.0, 5.0), (47_950.0, 20.0)]
        .into_iter()
        .map(|(price, volume)| Level(price, volume))
        .collect();
    tick.trading_day = chrono::NaiveDate::from_ymd_opt(2019, 9, 16);
    tick.action_day = chrono::NaiveDate::from_ymd_opt(2019, 9, 16);
    tick.localtime = Some(time("2019-09-16T14:01:33.512345+08:00"));
    Event { gateway: "ctp1".into(), epoch: 7, seq: 104_233, time: time("2019-09-16T14:01:33.512401+08:00"), data: tick }
}

/// The same tick with prices of one decimal (IF2101: `5230.2`), which are dearer to write and to read.
pub fn decimal_tick_event() -> Event<Tick> {
    let mut event = tick_event();
    let tenth = |price: &mut f64| *price = (*price + 2.0) / 10.0;
    for level in event.data.bids.iter_mut().chain(&mut event.data.asks) {
        tenth(&mut level.0);
    }
    let tick = &mut event.data;
    for price in [
        &mut tick.last_price,
        &mut tick.limit_up,
        &mut tick.limit_down,
        &mut tick.open_price,
        &mut tick.high_price,
        &mut tick.low_price,
        &mut tick.pre_close,
        &mut tick.pre_settlement,
    ] {
        price.iter_mut().for_each(tenth);
    }
    event
}

/// So many ticks of one instrument, each a little different from the one before, and the same in every run.
pub fn walk(count: u64) -> Vec<Event<Tick>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // xorshift64: https://www.jstatsoft.org/article/view/v008i14
    let mut below = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let mut event = decimal_tick_event();
    // In steps of 0.2.
    let mut mid = 26_150;
    let price = |steps: u64| (2 * steps) as f64 / 10.0;
    (0..count)
        .map(|_| {
            let past = chrono::TimeDelta::microseconds(500_000 + below(9_000) as i64);
            event.seq += 1;
            event.time += past;
            let tick = &mut event.data;
            tick.datetime += chrono::TimeDelta::milliseconds(500);
            tick.localtime = tick.localtime.map(|time| time + past);
            let traded = below(40);
            mid = mid + below(7) - 3;
            tick.volume = tick.volume.map(|volume| volume + traded as f64);
            tick.turnover = tick.turnover.map(|turnover| turnover + (traded * mid * 60) as f64);
            tick.open_interest = Some((8_000 + below(300)) as f64);
            tick.last_price = Some(price(mid + below(2)));
            for (depth, (bid, ask)) in (0..).zip(tick.bids.iter_mut().zip(&mut tick.asks)) {
                let mut lots = || if below(3) == 0 { 1 + below(9) } else { 1 + below(150) };
                *bid = Level(price(mid - depth), lots() as f64);
                *ask = Level(price(mid + 1 + depth), lots() as f64);
            }
            event.clone()
        })
        .collect()
}

/// An order at work, partly filled.
pub fn order_event() -> Event<Order> {
    let id = InstrumentId::new("cu1909", Exchange::SHFE);
    let request = OrderRequest::limit(id, Direction::Long, Offset::Open, 47_800.0, 3.0);
    let order = Order {
        traded: 1.0,
        datetime: Some(time("2019-09-16T14:01:33.500+08:00")),
        venue_reference: Some("1-22-000000000017".into()),
        traceid: Some("0af7651916cd43dd8448eb211c80319c".into()),
        ..request.to_order(&"ctp1".into(), &"STRAT_A".into())
    };
    Event { gateway: "ctp1".into(), epoch: 7, seq: 1_233, time: time("2019-09-16T14:01:33.512401+08:00"), data: order }
}
