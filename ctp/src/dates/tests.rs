use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(&format!("{text}+08:00")).expect("an instant")
}

/// Trading day, action day, time, and the gateway's clock; what comes out, with the same offset.
fn time(exchange: Exchange, trading_day: &str, action_day: &str, time: &str, now: &str) -> String {
    let (time, millis) = time.split_once('.').unwrap_or((time, "0"));
    let millis = millis.parse().expect("milliseconds");
    let found = venue_time(exchange, trading_day.as_bytes(), action_day.as_bytes(), time.as_bytes(), millis, at(now));
    let found = found.expect("a time");
    assert_eq!(*found.offset(), CHINA);
    found.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

// 2018-10-12 and 2019-08-30 are Fridays, 2024-06-04 is a Tuesday.

#[test]
fn shfe_and_ine_state_the_calendar_day() {
    for exchange in [Exchange::SHFE, Exchange::INE] {
        let friday_night = time(exchange, "20181015", "20181012", "21:00:00.500", "2018-10-12T21:00:00.700");
        assert_eq!(friday_night, "2018-10-12T21:00:00.500");
        let after_midnight = time(exchange, "20181015", "20181013", "02:29:59.500", "2018-10-13T02:30:00");
        assert_eq!(after_midnight, "2018-10-13T02:29:59.500");
        let monday_morning = time(exchange, "20181015", "20181013", "02:29:59.500", "2018-10-15T08:50:00");
        assert_eq!(monday_morning, "2018-10-13T02:29:59.500", "a snapshot sent again keeps its day");
        let a_day_later = time(exchange, "20240605", "20240604", "21:05:00", "2024-06-05T21:10:00");
        assert_eq!(a_day_later, "2024-06-04T21:05:00.000", "an instrument that did not trade since");
    }
}

#[test]
fn shfe_without_a_day_or_with_one_ahead_goes_by_the_clock() {
    for action_day in ["", "20240605", "20990101", "x", "20240631"] {
        let live = time(Exchange::SHFE, "20240605", action_day, "21:00:01", "2024-06-04T21:00:00");
        assert_eq!(live, "2024-06-04T21:00:01.000", "{action_day}");
        let old = time(Exchange::SHFE, "20240605", action_day, "00:59:59", "2024-06-05T08:50:00");
        assert_eq!(old, "2024-06-05T00:59:59.000", "{action_day}");
    }
}

#[test]
fn dce_states_the_trading_day_at_night() {
    let live = time(Exchange::DCE, "20181015", "20181015", "21:00:00.123", "2018-10-12T21:00:00.300");
    assert_eq!(live, "2018-10-12T21:00:00.123");
    let weekday = time(Exchange::DCE, "20240605", "20240605", "22:59:59", "2024-06-04T23:00:00");
    assert_eq!(weekday, "2024-06-04T22:59:59.000");
    let sent_again = time(Exchange::DCE, "20181015", "20181015", "22:59:59", "2018-10-15T08:50:00");
    assert_eq!(sent_again, "2018-10-12T22:59:59.000", "Friday night is Monday's");
    let sunday = time(Exchange::DCE, "20181015", "20181015", "22:59:59", "2018-10-14T12:00:00");
    assert_eq!(sunday, "2018-10-12T22:59:59.000");
    let after_midnight = time(Exchange::DCE, "20181015", "20181015", "00:30:00", "2018-10-15T08:50:00");
    assert_eq!(after_midnight, "2018-10-13T00:30:00.000");
    let day = time(Exchange::DCE, "20181012", "20181012", "14:59:59", "2018-10-14T12:00:00");
    assert_eq!(day, "2018-10-12T14:59:59.000");
    for (trading_day, action_day) in [("20181015", ""), ("", "20181015"), ("x", "20181015")] {
        let old = time(Exchange::DCE, trading_day, action_day, "22:59:59", "2018-10-20T12:00:00");
        assert_eq!(old, "2018-10-12T22:59:59.000", "either date will do");
    }
    let evening = time(Exchange::DCE, "20240605", "20240605", "21:01:00", "2024-06-05T20:00:00");
    assert_eq!(evening, "2024-06-04T21:01:00.000", "last night's, an hour before tonight's");
}

#[test]
fn gfex_goes_by_the_clock_and_the_trading_day() {
    let live = time(Exchange::GFEX, "20240604", "20240604", "09:00:00.5", "2024-06-04T09:00:00");
    assert_eq!(live, "2024-06-04T09:00:00.005");
    let sent_again = time(Exchange::GFEX, "20240604", "20240604", "14:59:59", "2024-06-05T08:50:00");
    assert_eq!(sent_again, "2024-06-04T14:59:59.000");
}

#[test]
fn cffex_states_its_day() {
    let closing = time(Exchange::CFFEX, "20240604", "20240604", "15:00:00", "2024-06-05T08:50:00");
    assert_eq!(closing, "2024-06-04T15:00:00.000");
}

#[test]
fn czce_states_the_calendar_day_twice() {
    let live = time(Exchange::CZCE, "20190830", "20190830", "23:29:59", "2019-08-30T23:30:00");
    assert_eq!(live, "2019-08-30T23:29:59.000");
    let late = time(Exchange::CZCE, "20190830", "20190830", "21:00:00", "2019-09-02T08:50:00");
    assert_eq!(late, "2019-08-30T21:00:00.000");
    let log_in_snapshot = time(Exchange::CZCE, "20200803", "20200731", "19:29:00", "2020-08-03T08:30:00");
    assert_eq!(log_in_snapshot, "2020-07-31T19:29:00.000");
}

#[test]
fn fridays_snapshot_that_czce_dates_monday_is_fridays() {
    for now in ["2019-09-02T00:30:00", "2019-09-02T08:30:00", "2019-09-02T08:59:59.900", "2019-09-02T15:00:00"] {
        let sent_again = time(Exchange::CZCE, "20190902", "20190902", "23:29:59", now);
        assert_eq!(sent_again, "2019-08-30T23:29:59.000", "{now}");
    }
    let monday_night = time(Exchange::CZCE, "20190902", "20190902", "23:29:59", "2019-09-02T23:29:58");
    assert_eq!(monday_night, "2019-09-02T23:29:59.000", "the very same dates, live");
    let wednesday = time(Exchange::CZCE, "20190904", "20190904", "23:29:59", "2019-09-04T08:30:00");
    assert_eq!(wednesday, "2019-09-03T23:29:59.000");
    let without_action_day = time(Exchange::CZCE, "20190902", "", "23:29:59", "2019-09-02T08:30:00");
    assert_eq!(without_action_day, "2019-08-30T23:29:59.000");
}

#[test]
fn midnight_between_the_venue_and_the_clock_changes_no_day() {
    for exchange in [Exchange::DCE, Exchange::CZCE, Exchange::GFEX] {
        for dates in ["20240605", "20240604", ""] {
            let late = time(exchange, dates, dates, "23:59:59", "2024-06-05T00:00:00.200");
            assert_eq!(late, "2024-06-04T23:59:59.000", "{exchange} {dates}");
            let early = time(exchange, dates, dates, "00:00:00.100", "2024-06-04T23:59:58");
            assert_eq!(early, "2024-06-05T00:00:00.100", "{exchange} {dates}");
        }
    }
    let late = time(Exchange::SHFE, "20240605", "20240604", "23:59:59", "2024-06-05T00:00:00.200");
    assert_eq!(late, "2024-06-04T23:59:59.000");
    let early = time(Exchange::SHFE, "20240605", "20240605", "00:00:00", "2024-06-04T23:59:58");
    assert_eq!(early, "2024-06-05T00:00:00.000");
}

#[test]
fn without_dates_the_latest_session_counts() {
    let time = |text, now| time(Exchange::DCE, "", "", text, now);
    assert_eq!(time("15:00:00", "2024-06-04T08:50:00"), "2024-06-03T15:00:00.000");
    assert_eq!(time("23:29:59", "2019-09-02T08:50:00"), "2019-08-30T23:29:59.000", "no session on Sunday night");
    assert_eq!(time("02:29:59", "2019-09-02T08:50:00"), "2019-08-31T02:29:59.000", "nor in its small hours");
    assert_eq!(time("02:29:59", "2019-09-03T08:50:00"), "2019-09-03T02:29:59.000");
    assert_eq!(time("15:00:00", "2019-09-01T18:00:00"), "2019-08-30T15:00:00.000");
}

#[test]
fn the_clocks_offset_does_not_matter() {
    let now = DateTime::parse_from_rfc3339("2018-10-12T13:00:00.700Z").expect("an instant");
    let found = venue_time(Exchange::DCE, b"20181015", b"20181015", b"21:00:00", 500, now).expect("a time");
    assert_eq!(found.to_rfc3339(), "2018-10-12T21:00:00.500+08:00");
}

#[test]
fn a_time_that_is_none_says_so() {
    let time = |text: &[u8], millis| {
        venue_time(Exchange::SHFE, b"20181015", b"20181012", text, millis, at("2018-10-12T21:00:00"))
            .expect_err("no time")
            .to_string()
    };
    assert_eq!(time(b"", 0), "the record has no time of day");
    for text in ["24:00:00", "21:60:00", "21:00:60", "9:00:00", "21-00-00", "21:00:0x"] {
        assert_eq!(time(text.as_bytes(), 0), format!("`{text}` is no time of day, expected HH:MM:SS"));
    }
    assert_eq!(time(b"21:00:00", 1000), "1000 milliseconds are not within a second, expected 0 to 999");
    assert_eq!(time(b"21:00:00", -1), "-1 milliseconds are not within a second, expected 0 to 999");
    let never = DateTime::<chrono::Utc>::MAX_UTC.with_timezone(&CHINA);
    let error = venue_time(Exchange::DCE, b"", b"", b"21:00:00", 0, never).expect_err("no time").to_string();
    assert_eq!(error, "the gateway's clock says 8210266876799 seconds since 1970; set it right");
}

#[test]
fn dates_are_eight_digits_of_a_real_day() {
    assert_eq!(date(b"20240229"), NaiveDate::from_ymd_opt(2024, 2, 29));
    for text in ["", "20230229", "2024-2-9", "00000000", "202402290", "18991231", "2024022\u{0}"] {
        assert_eq!(date(text.as_bytes()), None, "{text:?}");
    }
    let day = NaiveDate::from_ymd_opt(2024, 2, 29).expect("a day");
    assert_eq!(midnight(day).expect("an instant"), at("2024-02-29T00:00:00"));
}

#[test]
fn an_instant_belongs_to_the_trading_day_of_its_session() {
    let day = |text: &str| {
        let number = trading_day_of(at(text));
        NaiveDate::from_num_days_from_ce_opt(number as i32 + 719_163).expect("a day").to_string()
    };
    assert_eq!(day("2018-10-12T15:00:00.500"), "2018-10-12");
    for time in ["2018-10-12T20:59:00", "2018-10-13T02:29:59", "2018-10-15T09:00:00", "2018-10-15T15:44:00"] {
        assert_eq!(day(time), "2018-10-15", "{time}");
    }
    assert_eq!(day("2018-10-15T21:00:00"), "2018-10-16");
}

const VENUES: [Exchange; 6] =
    [Exchange::SHFE, Exchange::INE, Exchange::CFFEX, Exchange::DCE, Exchange::CZCE, Exchange::GFEX];

fn text(date: NaiveDate) -> String {
    date.format("%Y%m%d").to_string()
}

proptest! {
    /// SHFE and those like it state the venue's own calendar day; of the others the dates are anything.
    #[test]
    fn a_live_record_is_dated_exactly(
        seconds in 1_500_000_000i64..2_000_000_000,
        micros in 0u32..1_000_000,
        off_ms in -30 * 60_000i64..=30 * 60_000,
        days in (-3i64..=3, -3i64..=3),
        venue in 0usize..6,
    ) {
        let now = DateTime::from_timestamp(seconds, micros * 1000).expect("an instant").with_timezone(&CHINA);
        let true_ms = now.timestamp_millis() + off_ms;
        let truth = DateTime::from_timestamp_millis(true_ms).expect("an instant").with_timezone(&CHINA);
        let day = |days| text(truth.date_naive() + chrono::TimeDelta::days(days));
        let states_calendar = venue < 3;
        let action_day = if states_calendar { text(truth.date_naive()) } else { day(days.1) };
        let time = truth.format("%H:%M:%S").to_string();
        let millis = truth.timestamp_subsec_millis() as i32;
        let found = venue_time(VENUES[venue], day(days.0).as_bytes(), action_day.as_bytes(), time.as_bytes(), millis, now)
            .expect("a time");
        prop_assert!((found - now).num_hours().abs() < 12);
        prop_assert_eq!(found, truth);
    }

    /// A record of whatever age, of a session, is never dated ahead of the clock, and never loses its time of day.
    #[test]
    fn nothing_is_dated_ahead_of_the_clock(
        seconds in 1_500_000_000i64..2_000_000_000,
        time in 0u32..86_400,
        days in (-10i64..=10, -10i64..=10),
        venue in 0usize..6,
    ) {
        let now = DateTime::from_timestamp(seconds, 0).expect("an instant").with_timezone(&CHINA);
        let day = |days| text(now.date_naive() + chrono::TimeDelta::days(days));
        let clock = format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
        let found = venue_time(VENUES[venue], day(days.0).as_bytes(), day(days.1).as_bytes(), clock.as_bytes(), 0, now)
            .expect("a time");
        prop_assert!(found <= now + chrono::TimeDelta::minutes(30));
        prop_assert!(found >= now - chrono::TimeDelta::days(15));
        prop_assert_eq!(found.format("%H:%M:%S").to_string(), clock);
    }

    #[test]
    fn no_bytes_and_no_clock_panic(
        trading_day in prop::collection::vec(any::<u8>(), 0..10),
        action_day in prop::collection::vec(any::<u8>(), 0..10),
        time in prop_oneof![prop::collection::vec(any::<u8>(), 0..10), Just(b"23:59:59".to_vec()), Just(b"00:00:00".to_vec())],
        millis in any::<i32>(),
        seconds in prop_oneof![
            any::<i32>().prop_map(i64::from),
            Just(DateTime::<chrono::Utc>::MIN_UTC.timestamp()),
            Just(DateTime::<chrono::Utc>::MAX_UTC.timestamp()),
        ],
        venue in 0usize..6,
    ) {
        let now = DateTime::from_timestamp(seconds, 0).expect("an instant").with_timezone(&CHINA);
        for millis in [millis, 999] {
            if let Ok(found) = venue_time(VENUES[venue], &trading_day, &action_day, &time, millis, now) {
                prop_assert!(!found.to_rfc3339().is_empty());
            }
        }
    }
}
