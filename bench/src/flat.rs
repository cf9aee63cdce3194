//! The same tick as a plain struct of plain fields under serde's own derive: what codecs are compared with.

use protocol::{Event, Tick, Timestamp};
use serde::{Deserialize, Serialize};

/// A tick in its envelope, with a field for everything and nothing left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlatTick {
    gateway: String,
    epoch: u64,
    seq: u64,
    time: Timestamp,
    gateway_name: String,
    symbol: String,
    exchange: String,
    datetime: Timestamp,
    volume: f64,
    turnover: f64,
    open_interest: f64,
    last_price: f64,
    limit_up: f64,
    limit_down: f64,
    open_price: f64,
    high_price: f64,
    low_price: f64,
    pre_close: f64,
    pre_settlement: f64,
    bid_price_1: f64,
    bid_price_2: f64,
    bid_price_3: f64,
    bid_price_4: f64,
    bid_price_5: f64,
    ask_price_1: f64,
    ask_price_2: f64,
    ask_price_3: f64,
    ask_price_4: f64,
    ask_price_5: f64,
    bid_volume_1: f64,
    bid_volume_2: f64,
    bid_volume_3: f64,
    bid_volume_4: f64,
    bid_volume_5: f64,
    ask_volume_1: f64,
    ask_volume_2: f64,
    ask_volume_3: f64,
    ask_volume_4: f64,
    ask_volume_5: f64,
    trading_day: chrono::NaiveDate,
    action_day: chrono::NaiveDate,
    localtime: Timestamp,
}

impl FlatTick {
    /// The same numbers and texts.
    pub fn of(event: &Event<Tick>) -> FlatTick {
        let tick = &event.data;
        let given = |value: Option<f64>| value.expect("the recorded tick has it");
        let [b1, b2, b3, b4, b5] = tick.bids[..] else { panic!("five levels") };
        let [a1, a2, a3, a4, a5] = tick.asks[..] else { panic!("five levels") };
        FlatTick {
            gateway: event.gateway.to_string(),
            epoch: event.epoch,
            seq: event.seq,
            time: event.time,
            gateway_name: tick.gateway_name.to_string(),
            symbol: tick.symbol.to_string(),
            exchange: tick.exchange.to_string(),
            datetime: tick.datetime,
            volume: given(tick.volume),
            turnover: given(tick.turnover),
            open_interest: given(tick.open_interest),
            last_price: given(tick.last_price),
            limit_up: given(tick.limit_up),
            limit_down: given(tick.limit_down),
            open_price: given(tick.open_price),
            high_price: given(tick.high_price),
            low_price: given(tick.low_price),
            pre_close: given(tick.pre_close),
            pre_settlement: given(tick.pre_settlement),
            bid_price_1: b1.0,
            bid_price_2: b2.0,
            bid_price_3: b3.0,
            bid_price_4: b4.0,
            bid_price_5: b5.0,
            ask_price_1: a1.0,
            ask_price_2: a2.0,
            ask_price_3: a3.0,
            ask_price_4: a4.0,
            ask_price_5: a5.0,
            bid_volume_1: b1.1,
            bid_volume_2: b2.1,
            bid_volume_3: b3.1,
            bid_volume_4: b4.1,
            bid_volume_5: b5.1,
            ask_volume_1: a1.1,
            ask_volume_2: a2.1,
            ask_volume_3: a3.1,
            ask_volume_4: a4.1,
            ask_volume_5: a5.1,
            trading_day: tick.trading_day.expect("a day"),
            action_day: tick.action_day.expect("a day"),
            localtime: tick.localtime.expect("a time"),
        }
    }
}
