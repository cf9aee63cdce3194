//! What turning one of CTP's depth records into a tick costs.

use std::hint::black_box;

use ctp::testing::DepthBytes;
use ctp::tick::{LastSeen, Listing, tick};
use protocol::Exchange;

use crate::measure::Case;
use crate::recorded::tick_event;

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "CTP: a depth record of five levels, as the library hands it on, to a tick; not encoded. SHFE's dates are the plain \
       ones, CZCE's are repaired.",
];

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        conversion("CTP depth record to tick, SHFE", Exchange::SHFE),
        conversion("CTP depth record to tick, CZCE", Exchange::CZCE),
    ]
}

fn conversion(name: &'static str, exchange: Exchange) -> Case {
    let mut bytes = record();
    let listing = Listing { gateway_name: "ctp1".into(), exchange, name: Some("橡胶1901".into()) };
    let now = tick_event().time;
    let mut last = LastSeen::default();
    let mut volume = 0;
    Case::new(name, move || {
        volume += 1;
        bytes.int("Volume", volume);
        black_box(tick(black_box(bytes.depth()), &listing, &mut last, now).expect("a tick"));
    })
}

/// A record of a Monday's day session.
fn record() -> DepthBytes {
    let mut bytes = DepthBytes::new();
    bytes.text("InstrumentID", "cu1909").text("TradingDay", "20190916").text("ActionDay", "20190916");
    bytes.text("UpdateTime", "14:01:33").int("UpdateMillisec", 500);
    for (name, value) in [
        ("LastPrice", 47_800.0),
        ("Turnover", 1_756_292_000.0),
        ("OpenInterest", 8_240.0),
        ("UpperLimitPrice", 51_430.0),
        ("LowerLimitPrice", 43_810.0),
        ("OpenPrice", 47_720.0),
        ("HighestPrice", 47_860.0),
        ("LowestPrice", 47_660.0),
        ("PreClosePrice", 47_690.0),
        ("PreSettlementPrice", 47_620.0),
    ] {
        bytes.double(name, value);
    }
    for level in 1..=5 {
        let away = f64::from(level) * 10.0;
        bytes.double(&format!("BidPrice{level}"), 47_790.0 - away).int(&format!("BidVolume{level}"), level);
        bytes.double(&format!("AskPrice{level}"), 47_810.0 + away).int(&format!("AskVolume{level}"), level);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_a_whole_tick() {
        let listing = Listing { gateway_name: "ctp1".into(), exchange: Exchange::SHFE, name: None };
        let converted = tick(record().depth(), &listing, &mut LastSeen::default(), tick_event().time).expect("a tick");
        assert_eq!((converted.bids.len(), converted.asks.len()), (5, 5));
        assert_eq!(converted.datetime, tick_event().data.datetime);
    }
}
