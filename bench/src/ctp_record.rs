//! What it costs to make a tick of what CTP's market data library hands over.

use std::hint::black_box;

use ctp::testing::DepthBytes;
use ctp::tick::{LastSeen, Listing, tick};
use protocol::Exchange;

use crate::measure::Case;

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "`CTP record to tick`: five levels, on the library's thread, with the dates that each exchange means by what it writes.",
];

/// One for each way in which exchanges write their dates.
pub fn cases() -> Vec<Case> {
    let exchanges = [
        ("CTP record to tick, SHFE", Exchange::SHFE),
        ("CTP record to tick, DCE", Exchange::DCE),
        ("CTP record to tick, CZCE", Exchange::CZCE),
    ];
    exchanges.map(|(name, exchange)| case(name, exchange)).into()
}

fn case(name: &'static str, exchange: Exchange) -> Case {
    let mut record = record();
    let listing = Listing { gateway_name: "ctp1".into(), exchange, name: Some("螺纹钢2410".into()) };
    let now = chrono::DateTime::parse_from_rfc3339("2024-06-04T10:00:00.600+08:00").expect("a time");
    let (mut last, mut volume) = (LastSeen::default(), 0);
    Case::new(name, move || {
        volume += 1;
        record.int("Volume", volume);
        black_box(tick(black_box(record.depth()), &listing, &mut last, now).expect("a tick"));
    })
}

fn record() -> DepthBytes {
    let mut record = DepthBytes::new();
    record.text("InstrumentID", "rb2410").text("TradingDay", "20240604").text("ActionDay", "20240604");
    record.text("UpdateTime", "10:00:00").int("UpdateMillisec", 500);
    record.double("LastPrice", 3500.0).double("Turnover", 42e6).double("OpenInterest", 9e5);
    record.double("UpperLimitPrice", 3780.0).double("LowerLimitPrice", 3220.0).double("OpenPrice", 3492.0);
    record.double("HighestPrice", 3510.0).double("LowestPrice", 3484.0).double("PreClosePrice", 3489.0);
    record.double("PreSettlementPrice", 3491.0);
    for level in 1..=5 {
        record.double(&format!("BidPrice{level}"), 3500.0 - f64::from(level)).int(&format!("BidVolume{level}"), level);
        record.double(&format!("AskPrice{level}"), 3500.0 + f64::from(level)).int(&format!("AskVolume{level}"), level);
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_a_tick_of_five_levels() {
        let listing = Listing { gateway_name: "ctp1".into(), exchange: Exchange::SHFE, name: None };
        let now = chrono::DateTime::parse_from_rfc3339("2024-06-04T10:00:00.600+08:00").expect("a time");
        let tick = tick(record().depth(), &listing, &mut LastSeen::default(), now).expect("a tick");
        assert_eq!((tick.bids.len(), tick.asks.len(), tick.last_price), (5, 5, Some(3500.0)));
    }
}
