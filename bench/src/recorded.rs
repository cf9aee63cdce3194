//! A tick as recorded: SHFE cu1909, five levels, 2019-09-16 14:01:33, with the fields that CTP would add.

use protocol::{Event, Exchange, InstrumentId, Level, Tick, Timestamp};

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
