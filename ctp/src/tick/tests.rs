use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate};

use super::*;
use crate::testing::DepthBytes;

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(&format!("{text}+08:00")).expect("an instant")
}

fn listing(exchange: Exchange) -> Listing {
    Listing { gateway_name: "ctp1".into(), exchange, name: Some("橡胶1901".into()) }
}

/// A record of a Tuesday's day session.
fn record() -> DepthBytes {
    let mut bytes = DepthBytes::new();
    bytes.text("InstrumentID", "rb2410").text("TradingDay", "20240604").text("ActionDay", "20240604");
    bytes.text("UpdateTime", "10:00:00").int("UpdateMillisec", 500);
    bytes
}

fn convert(bytes: &DepthBytes) -> Tick {
    let now = at("2024-06-04T10:00:00.600");
    tick(bytes.depth(), &listing(Exchange::SHFE), &mut LastSeen::default(), now).expect("a tick")
}

#[test]
fn what_the_record_does_not_say_is_absent() {
    let now = at("2024-06-04T10:00:00.600");
    let instrument = protocol::InstrumentId::new("rb2410", Exchange::SHFE);
    let mut expected = Tick::new("ctp1", instrument, at("2024-06-04T10:00:00.500"));
    expected.name = Some("橡胶1901".into());
    expected.volume = Some(0.0);
    expected.trading_day = NaiveDate::from_ymd_opt(2024, 6, 4);
    expected.action_day = NaiveDate::from_ymd_opt(2024, 6, 4);
    expected.localtime = Some(now);
    assert_eq!(convert(&record()), expected);
}

#[test]
fn every_field_comes_through() {
    let mut bytes = record();
    bytes.double("LastPrice", 3500.0).int("Volume", 1200).double("Turnover", 42e6).double("OpenInterest", 9e5);
    bytes.double("OpenPrice", 3490.0).double("HighestPrice", 3510.0).double("LowestPrice", 3480.0);
    bytes.double("PreClosePrice", 3488.0).double("PreSettlementPrice", 3487.0);
    bytes.double("UpperLimitPrice", 3700.0).double("LowerLimitPrice", 3300.0);
    let tick = convert(&bytes);
    assert_eq!((tick.last_price, tick.volume, tick.turnover), (Some(3500.0), Some(1200.0), Some(42e6)));
    assert_eq!((tick.open_price, tick.high_price, tick.low_price), (Some(3490.0), Some(3510.0), Some(3480.0)));
    assert_eq!((tick.pre_close, tick.pre_settlement, tick.open_interest), (Some(3488.0), Some(3487.0), Some(9e5)));
    assert_eq!((tick.limit_up, tick.limit_down), (Some(3700.0), Some(3300.0)));
}

#[test]
fn a_level_is_there_where_its_volume_and_its_price_are() {
    let mut bytes = record();
    bytes.double("BidPrice1", 0.0).int("BidVolume1", 0).double("BidPrice2", 3499.0).int("BidVolume2", 0);
    bytes.double("AskPrice1", 3501.0).int("AskVolume1", 3).int("AskVolume2", 9);
    let at_limit_down = convert(&bytes);
    assert!(at_limit_down.bids.is_empty());
    assert_eq!(at_limit_down.asks.as_slice(), [Level(3501.0, 3.0)], "a volume without a price is no level");

    bytes.double("BidPrice1", 0.0).int("BidVolume1", 4).double("BidPrice2", -1.5).int("BidVolume2", 5);
    assert_eq!(convert(&bytes).bids.as_slice(), [Level(0.0, 4.0), Level(-1.5, 5.0)], "a combination's prices");
    bytes.int("BidVolume1", -4);
    assert_eq!(convert(&bytes).bids.as_slice(), [Level(-1.5, 5.0)]);
}

#[test]
fn five_levels_keep_their_order_without_heap_memory() {
    let mut bytes = record();
    for level in 1..=5 {
        bytes.double(&format!("BidPrice{level}"), 3500.0 - f64::from(level)).int(&format!("BidVolume{level}"), level);
        bytes.double(&format!("AskPrice{level}"), 3500.0 + f64::from(level)).int(&format!("AskVolume{level}"), level);
    }
    let tick = convert(&bytes);
    let prices = |levels: &Levels| levels.iter().map(|level| level.0).collect::<Vec<_>>();
    assert_eq!(prices(&tick.bids), [3499.0, 3498.0, 3497.0, 3496.0, 3495.0]);
    assert_eq!(prices(&tick.asks), [3501.0, 3502.0, 3503.0, 3504.0, 3505.0]);
    assert!(!tick.bids.spilled() && !tick.asks.spilled());
}

#[test]
fn a_price_of_0_is_none_until_something_trades() {
    let mut bytes = record();
    for name in ["LastPrice", "OpenPrice", "HighestPrice", "LowestPrice"] {
        bytes.double(name, 0.0);
    }
    let prices = |tick: Tick| [tick.last_price, tick.open_price, tick.high_price, tick.low_price];
    assert_eq!(prices(convert(&bytes)), [None; 4]);
    assert_eq!(prices(convert(bytes.int("Volume", 1))), [Some(0.0); 4]);
    bytes.int("Volume", 0).double("OpenPrice", 3500.0);
    assert_eq!(convert(&bytes).open_price, Some(3500.0), "CZCE states it before the first trade");
}

#[test]
fn a_record_without_symbol_or_time_is_no_tick() {
    let now = at("2024-06-04T10:00:00.600");
    let refused = |bytes: &DepthBytes| {
        let mut last = LastSeen::default();
        let error = tick(bytes.depth(), &listing(Exchange::SHFE), &mut last, now).expect_err("no tick");
        assert_eq!(last, LastSeen::default());
        error.to_string()
    };
    assert_eq!(refused(record().text("InstrumentID", "")), "the record names no instrument");
    assert_eq!(refused(record().text("UpdateTime", "")), "rb2410: the record has no time of day");
    assert_eq!(
        refused(record().text("UpdateTime", "25:00:00")),
        "rb2410: `25:00:00` is no time of day, expected HH:MM:SS"
    );
}

#[test]
fn bytes_of_any_kind_do_not_panic() {
    for byte in 0..=255 {
        let bytes = [byte; Depth::LEN];
        for exchange in [Exchange::SHFE, Exchange::CZCE, Exchange::DCE] {
            let _ = tick(Depth::new(&bytes), &listing(exchange), &mut LastSeen::default(), at("2024-06-04T10:00:00"));
        }
    }
}

#[test]
fn last_volume_is_what_traded_since_the_tick_before() {
    let mut last = LastSeen::default();
    let mut next = |exchange, day: &str, time: &str, volume, now: &str| {
        let mut bytes = record();
        bytes.text("TradingDay", day).text("ActionDay", &now[..10].replace('-', "")).text("UpdateTime", time);
        bytes.int("Volume", volume);
        tick(bytes.depth(), &listing(exchange), &mut last, at(now)).expect("a tick").last_volume
    };
    let shfe = Exchange::SHFE;
    assert_eq!(next(shfe, "20181012", "14:59:58", 100, "2018-10-12T14:59:58"), None);
    assert_eq!(next(shfe, "20181012", "14:59:59", 130, "2018-10-12T14:59:59"), Some(30.0));
    assert_eq!(next(shfe, "20181012", "14:59:59", 130, "2018-10-12T14:59:59"), Some(0.0));
    assert_eq!(next(shfe, "20181012", "14:59:58", 110, "2018-10-12T14:59:59"), None, "overtaken on its way");
    assert_eq!(next(shfe, "20181012", "15:00:00", 131, "2018-10-12T15:00:00"), Some(1.0));
    assert_eq!(
        next(shfe, "20181015", "21:00:00", 300, "2018-10-12T21:00:00"),
        Some(300.0),
        "a new day, a higher count"
    );
    assert_eq!(next(shfe, "20181015", "21:00:01", 301, "2018-10-12T21:00:01"), Some(1.0));
    assert_eq!(next(shfe, "20181015", "21:00:02", 5, "2018-10-12T21:00:02"), None, "the counter began again");
    assert_eq!(next(shfe, "20181015", "21:00:03", 6, "2018-10-12T21:00:03"), Some(1.0));
    assert_eq!(next(shfe, "20181015", "21:00:04", -1, "2018-10-12T21:00:04"), None);
    assert_eq!(next(shfe, "20181015", "21:00:05", 8, "2018-10-12T21:00:05"), Some(2.0));
}

#[test]
fn every_recorded_row_of_shfe_is_its_tick() {
    let Some(path) = recorded("raw/shfe_ru1901_20181012.ctp.csv.gz") else { return };
    let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(path).expect("the file opens"));
    let mut reader = csv::Reader::from_reader(file);
    let columns = reader.headers().expect("a header").clone();
    assert_eq!(columns.len(), 44);
    let listing = listing(Exchange::SHFE);
    let (mut last, mut rows, mut before) = (LastSeen::default(), 0, None::<(String, f64)>);
    for row in reader.records() {
        let row = row.expect("a row");
        let cell = |name: &str| &row[columns.iter().position(|column| column == name).expect("a column")];
        let number = |name: &str| cell(name).parse::<f64>().ok();
        let day = |name: &str| NaiveDate::parse_from_str(cell(name), "%Y%m%d").ok();
        let bytes = depth_of(&columns, &row);
        let time = format!("{}T{}.{}", day("ActionDay").expect("a day"), cell("UpdateTime"), cell("UpdateMillisec"));
        let now = at(&time) + chrono::TimeDelta::milliseconds(137);
        let tick = tick(bytes.depth(), &listing, &mut last, now).expect("a tick");

        assert_eq!(tick.gateway_name, "ctp1");
        assert_eq!((tick.symbol.as_str(), tick.exchange), (cell("InstrumentID"), Exchange::SHFE));
        assert_eq!(tick.name.as_deref(), Some("橡胶1901"));
        assert_eq!((tick.datetime, tick.localtime), (at(&time), Some(now)));
        assert_eq!((tick.trading_day, tick.action_day), (day("TradingDay"), day("ActionDay")));
        assert_eq!(tick.volume, number("Volume"));
        assert_eq!((tick.turnover, tick.open_interest), (number("Turnover"), number("OpenInterest")));
        assert_eq!((tick.last_price, tick.open_price), (number("LastPrice"), number("OpenPrice")));
        assert_eq!((tick.high_price, tick.low_price), (number("HighestPrice"), number("LowestPrice")));
        assert_eq!((tick.limit_up, tick.limit_down), (number("UpperLimitPrice"), number("LowerLimitPrice")));
        assert_eq!((tick.pre_close, tick.pre_settlement), (number("PreClosePrice"), number("PreSettlementPrice")));
        for (side, levels) in [("Bid", &tick.bids), ("Ask", &tick.asks)] {
            let recorded: Vec<Level> = (1..=5)
                .filter_map(|level| {
                    let volume = number(&format!("{side}Volume{level}")).filter(|&volume| volume > 0.0)?;
                    Some(Level(number(&format!("{side}Price{level}"))?, volume))
                })
                .collect();
            assert_eq!(levels.as_slice(), recorded);
        }
        assert_eq!(tick.extra, None);
        let volume = number("Volume").expect("a volume");
        let traded = before.map(|(day, before)| if day == cell("TradingDay") { volume - before } else { volume });
        assert_eq!(tick.last_volume, traded);
        before = Some((cell("TradingDay").into(), volume));
        rows += 1;
    }
    assert_eq!(rows, 36_928);
}

#[test]
fn fridays_night_of_czce_comes_out_as_friday_whenever_it_is_sent() {
    let Some(path) = recorded("raw/czce.SR001.night-quirk.csv") else { return };
    let mut reader = csv::Reader::from_path(path).expect("the file opens");
    let columns = reader.headers().expect("a header").clone();
    let mut last = LastSeen::default();
    let clocks = ["2019-08-30T23:30:00", "2019-09-02T08:30:00", "2019-09-02T09:00:00.2"];
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), clocks.len());
    let ticks: Vec<Tick> = std::iter::zip(&rows, clocks)
        .map(|(row, now)| {
            tick(depth_of(&columns, row).depth(), &listing(Exchange::CZCE), &mut last, at(now)).expect("a tick")
        })
        .collect();

    let times: Vec<_> = ticks.iter().map(|tick| tick.datetime).collect();
    assert_eq!(times, [at("2019-08-30T23:29:59"), at("2019-08-30T23:29:59"), at("2019-09-02T09:00:00")]);
    let days: Vec<_> = ticks.iter().map(|tick| tick.trading_day.expect("a day").to_string()).collect();
    assert_eq!(days, ["2019-08-30", "2019-09-02", "2019-09-02"], "as the venue states them");
    assert!(ticks.iter().all(|tick| tick.trading_day == tick.action_day));
    let traded: Vec<_> = ticks.iter().map(|tick| tick.last_volume).collect();
    assert_eq!(traded, [None, Some(0.0), Some(6.0)], "Friday's volume is Monday's");
    let [first, again, monday] = &ticks[..] else { panic!("three ticks") };
    assert_eq!((first.bids.as_slice(), first.asks.as_slice()), (&[Level(5390.0, 3.0)][..], &[Level(5391.0, 36.0)][..]));
    assert_eq!((&again.bids, &again.asks, again.last_price), (&first.bids, &first.asks, first.last_price));
    assert_eq!(
        (monday.bids.as_slice(), monday.asks.as_slice()),
        (&[Level(5389.0, 17.0)][..], &[Level(5390.0, 5.0)][..])
    );
    assert_eq!((monday.volume, monday.turnover), (Some(297_794.0), Some(1_601_833_926.0)));
    assert_eq!((monday.pre_close, monday.pre_settlement), (Some(5368.0), Some(5364.0)));
}

fn depth_of(columns: &csv::StringRecord, row: &csv::StringRecord) -> DepthBytes {
    let mut bytes = DepthBytes::new();
    for (name, cell) in columns.iter().zip(row) {
        bytes.set(name, cell);
    }
    bytes
}

/// A file of the recorded data, if this machine has it.
fn recorded(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GATEMESH_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let file = root.join(path);
    if file.is_file() {
        return Some(file);
    }
    println!("skipped: no {}; set GATEMESH_DATA to the directory of the recorded data", file.display());
    None
}
