//! Records of a counter, for tests.

use ctp::records::{OrderRecord, TradeRecord};

/// The counter's record of our order of this number, 3 lots to buy, as the exchange has it.
pub(super) fn record(number: u64, status: u8, traded: i32) -> OrderRecord {
    OrderRecord {
        symbol: "rb2610".into(),
        exchange: "SHFE".into(),
        order_ref: number.to_string().into(),
        front_id: 1,
        session_id: -7,
        order_sys_id: format!("{:>12}", 100 + number).into(),
        price_type: b'2',
        direction: b'0',
        offset: b'0',
        price: Some(3_500.0),
        volume: 3,
        traded,
        time_condition: b'3',
        volume_condition: b'1',
        status,
        submit_status: b'3',
        trading_day: "20261123".into(),
        insert_date: "20261123".into(),
        insert_time: "09:30:00".into(),
        ..OrderRecord::default()
    }
}

/// A fill of that order.
pub(super) fn trade(number: u64, id: u64, volume: i32) -> TradeRecord {
    TradeRecord {
        symbol: "rb2610".into(),
        exchange: "SHFE".into(),
        order_ref: number.to_string().into(),
        order_sys_id: format!("{:>12}", 100 + number).into(),
        trade_id: id.to_string().into(),
        direction: b'0',
        offset: b'0',
        price: Some(3_500.0),
        volume,
        trade_date: "20261123".into(),
        trade_time: "09:30:01".into(),
        trading_day: "20261123".into(),
        ..TradeRecord::default()
    }
}
