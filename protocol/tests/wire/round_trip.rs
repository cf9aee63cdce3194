//! Whatever a node can say comes out as it went in: floats bit for bit, times with their offset to the nanosecond.

use std::fmt::Debug;

use proptest::prelude::*;
use protocol::codec::{decode, encode};
use protocol::rpc::QueryHistory;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strategies as any_;

/// Equal values are not enough: `-0.0 == 0.0`, and two offsets can name one instant. So the bytes must agree too.
fn round_trips<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    let bytes = encode(value).expect("encodes");
    prop_assert_eq!(&bytes, &serde_json::to_vec(value).expect("encodes"));
    let back: T = decode(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&back, value);
    prop_assert_eq!(encode(&back).expect("encodes"), bytes);
    prop_assert_eq!(format!("{back:?}"), format!("{value:?}"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ticks(value in any_::event(any_::tick())) { round_trips(&value)?; }

    #[test]
    fn bars(value in any_::page(any_::bar())) { round_trips(&value)?; }

    #[test]
    fn contracts(value in any_::page(any_::contract())) { round_trips(&value)?; }

    #[test]
    fn trading_events(value in any_::event(any_::oms_event())) { round_trips(&value)?; }

    #[test]
    fn pages_of_events(value in any_::events_page()) {
        round_trips(&value)?;
        let read = protocol::pages::read_events(&encode(&value).expect("encodes")).expect("reads");
        prop_assert_eq!((read.page, read.skipped.len()), (value, 0));
    }

    #[test]
    fn pages_of_orders(value in any_::page(any_::order())) {
        round_trips(&value)?;
        let read = protocol::pages::read_page(&encode(&value).expect("encodes")).expect("reads");
        prop_assert_eq!((read.page, read.skipped.len()), (value, 0));
    }

    #[test]
    fn requests(order in any_::order_request(), quote in any_::quote_request(), cancel in any_::cancel()) {
        round_trips(&order)?;
        round_trips(&quote)?;
        round_trips(&cancel)?;
    }

    #[test]
    fn history(request in any_::history(), cursor in prop::option::of(any_::text()), limit in any::<Option<usize>>()) {
        round_trips(&request)?;
        round_trips(&QueryHistory { request, cursor, limit })?;
    }

    #[test]
    fn what_a_gateway_says_of_itself(
        status in any_::status(), head in any_::head(), log in any_::log(), error in any_::error(),
    ) {
        round_trips(&status)?;
        round_trips(&head)?;
        round_trips(&log)?;
        round_trips(&error)?;
    }

    #[test]
    fn ids(instrument in any_::instrument(), order in any_::order_id()) {
        round_trips(&instrument)?;
        round_trips(&order)?;
        if !instrument.symbol.is_empty() {
            prop_assert_eq!(instrument.to_string().parse(), Ok(instrument));
        }
    }

    #[test]
    fn timestamps_keep_nanoseconds_and_offset(time in any_::timestamp()) {
        let back: protocol::Timestamp = decode(&encode(&time).expect("encodes")).expect("decodes");
        prop_assert_eq!((back.naive_local(), back.offset()), (time.naive_local(), time.offset()));
    }

    /// The codec's writer of instants and chrono's own write the same.
    #[test]
    fn instants_are_written_as_chrono_writes_them(time in any_::timestamp(), leap in any::<bool>(), odd in -59..60) {
        let leap_second = chrono::Timelike::with_second(&time, 59)
            .and_then(|time| chrono::Timelike::with_nanosecond(&time, 1_500_000_000));
        let time = leap_second.filter(|_| leap).unwrap_or(time);
        let offset = chrono::FixedOffset::east_opt(odd).expect("below a day");
        for time in [time, time.with_timezone(&offset)] {
            let tick = protocol::Tick { localtime: Some(time), ..protocol::Tick::new("g", crate::specimens::rubber(), time) };
            let chronos = serde_json::to_string(&time).expect("encodes");
            let ours = String::from_utf8(encode(&tick).expect("encodes")).expect("UTF-8");
            let written = format!("\"datetime\":{chronos},\"localtime\":{chronos}}}");
            prop_assert!(ours.ends_with(&written), "{} {}", ours, written);
        }
    }

    /// The codec's reader of instants and days and chrono's own read the same.
    #[test]
    fn instants_and_days_are_read_as_chrono_reads_them(
        year in prop_oneof![Just("2018"), Just("0000"), Just("9999"), Just("-001"), Just("+2018"), Just("218")],
        parts in prop::array::uniform5(prop_oneof![4 => 0..29_u32, 1 => 0..100_u32]),
        separator in prop::sample::select(vec!["T", "t", " "]),
        fraction in prop_oneof![Just(String::new()), "\\.[0-9]{0,12}"],
        offset in prop_oneof![Just("Z".to_owned()), "[+-][0-2][0-9]:[0-6][0-9]", "[+-]0[0-9][0-5]0", Just("z".to_owned())],
    ) {
        let [month, day, hour, minute, second] = parts;
        let date = format!("{year}-{month:02}-{day:02}");
        let time = format!("{date}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
        let json = format!(
            r#"{{"gateway_name":"g","symbol":"s","exchange":"DCE","datetime":"{time}","trading_day":"{date}"}}"#
        );
        let tick = decode::<protocol::Tick>(json.as_bytes()).ok().map(|tick| (tick.datetime, tick.trading_day));
        let chronos = time.parse::<protocol::Timestamp>().ok().zip(date.parse::<chrono::NaiveDate>().ok());
        let chronos = chronos.map(|(time, day)| (time, Some(day)));
        prop_assert_eq!(format!("{:?}", tick), format!("{:?}", chronos));
    }

    /// The wire has no NaN: absent where that is allowed, refused where it is not, never another number.
    #[test]
    fn floats_that_are_not_finite_never_become_numbers(
        mut order in any_::order(), bad in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ) {
        order.price = Some(bad);
        let back: protocol::Order = decode(&encode(&order).expect("encodes")).expect("decodes");
        prop_assert_eq!(back.price, None);
        order.traded = bad;
        let error = decode::<protocol::Order>(&encode(&order).expect("encodes")).expect_err("traded must be given");
        prop_assert!(error.to_string().starts_with("field `traded`"), "{}", error);
    }
}
