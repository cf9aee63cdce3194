//! When a record happened: CTP's dates are the exchanges' habits, and at night most of them are not the calendar's.
//!
//! Recordings of SHFE and INE have the calendar day in `ActionDay`. DCE puts the trading day there (VeighNa's gateway
//! passes it over, too), which at night is a later day: a night session belongs to the next trading day, Friday's to
//! Monday. Recordings of CZCE have the calendar day in `ActionDay` and in `TradingDay`, and on Monday morning Friday
//! night's last snapshot once more, dated Monday 23:29:59. The dates of orders and trades are read by the same rules:
//! which of the two days an exchange puts there makes no difference.
//!
//! There is never a night session before a holiday, so the night of a trading day is the calendar day before it, or
//! Friday's for a Monday. After midnight it is the day after that.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate};
use compact_str::CompactString;
use protocol::{Exchange, Timestamp};

/// The offset of all times of these exchanges.
pub const CHINA: FixedOffset = FixedOffset::east_opt(8 * 3600).expect("less than a day");

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const CHINA_MS: i64 = 8 * HOUR_MS;

/// How far a record's time may lie from the gateway's clock and still be of this moment; also how far ahead of the
/// clock a time is believed.
const NEAR_MS: i64 = HOUR_MS / 2;

/// From here on a time belongs to a night session. Day sessions have ended, with their settlement, hours before.
const EVENING_MS: i64 = 18 * HOUR_MS;
/// Before this a time belongs to the night session of the evening before; the longest one ends at 02:30.
const MORNING_MS: i64 = 6 * HOUR_MS;

/// Why a record has no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The venue states none.
    #[error("the record has no time of day")]
    Missing,
    /// Not a time of day.
    #[error("`{0}` is no time of day, expected HH:MM:SS")]
    Malformed(CompactString),
    /// Not within a second.
    #[error("{0} milliseconds are not within a second, expected 0 to 999")]
    Millis(i32),
    /// The gateway's clock is beyond any market's time.
    #[error("the gateway's clock says {0} seconds since 1970; set it right")]
    Clock(i64),
}

/// The instant of a record, in China's offset: `time` is `HH:MM:SS`, both dates are `YYYYMMDD` as the venue states them
/// (absent or broken ones are passed over), `now` is the gateway's clock when the record arrived.
///
/// The first of these days that does not lie more than half an hour ahead of `now`:
///
/// - SHFE, INE and CFFEX: `action_day`; the live day; the calendar day of the time in `trading_day`.
/// - CZCE: the live day; `action_day`, or else `trading_day`, as it stands.
/// - DCE and GFEX: the live day; the calendar day of the time in `trading_day`, or else in `action_day`.
/// - At last, everywhere: the latest day that has a session at such a time.
///
/// The live day is the one that puts the time within half an hour of `now`. So a live tick is right about midnight even
/// where the clocks differ, on CZCE, DCE and GFEX whatever dates come with it, and CZCE's snapshot of 23:29:59 dated
/// Monday is Friday night's. What cannot be told: an old snapshot of CZCE, DCE or GFEX whose time of day is within half
/// an hour of the clock's counts as a live one.
///
/// # Errors
/// The time of day is missing or is none, or `now` is no date of this era.
pub fn venue_time(
    exchange: Exchange,
    trading_day: &[u8],
    action_day: &[u8],
    time: &[u8],
    millis: i32,
    now: Timestamp,
) -> Result<Timestamp, TimeError> {
    let time_ms = time_of_day_ms(time, millis)?;
    let now_ms = now.timestamp_millis() + CHINA_MS;
    let at = |day: i64| day * DAY_MS + time_ms;

    let nearest = (now_ms - time_ms + DAY_MS / 2).div_euclid(DAY_MS);
    let live = Some(nearest).filter(|&day| (at(day) - now_ms).abs() <= NEAR_MS);
    let action = date(action_day).map(day_number);
    let trading = date(trading_day).map(day_number);
    let in_trading_day = |day: Option<i64>| day.map(|day| night_or_day(day, time_ms));
    let candidates = match exchange {
        Exchange::SHFE | Exchange::INE | Exchange::CFFEX => [action, live, in_trading_day(trading)],
        Exchange::CZCE => [live, action.or(trading), None],
        _ => [live, in_trading_day(trading.or(action)), None],
    };
    let stated = candidates.into_iter().flatten().find(|&day| at(day) <= now_ms + NEAR_MS);
    let day = stated.unwrap_or_else(|| {
        let latest = (now_ms + NEAR_MS - time_ms).div_euclid(DAY_MS);
        latest_session(latest, time_ms)
    });
    DateTime::from_timestamp_millis(at(day) - CHINA_MS)
        .filter(|time| (1..=9998).contains(&time.year()))
        .map(|time| time.with_timezone(&CHINA))
        .ok_or(TimeError::Clock(now.timestamp()))
}

/// `YYYYMMDD`; absent where it is no date.
#[must_use]
pub fn date(text: &[u8]) -> Option<NaiveDate> {
    let text: &[u8; 8] = text.try_into().ok()?;
    let mut number = 0;
    for byte in text {
        number = number * 10 + u32::from(digit(*byte)?);
    }
    let year = i32::try_from(number / 10_000).ok().filter(|&year| year >= 1900)?;
    NaiveDate::from_ymd_opt(year, number / 100 % 100, number % 100)
}

/// The first instant of a day in China; absent beyond any market's time.
#[must_use]
pub fn midnight(day: NaiveDate) -> Option<Timestamp> {
    let time = DateTime::from_timestamp_millis(day_number(day) * DAY_MS - CHINA_MS)?;
    Some(time.with_timezone(&CHINA))
}

/// The trading day that an instant belongs to, as a count of days: an evening's is the next day's, a weekend's is
/// Monday's. Right in every session of all exchanges, for there is no night before a holiday.
pub(crate) fn trading_day_of(time: Timestamp) -> i64 {
    let day = (time.timestamp_millis() + CHINA_MS + DAY_MS - EVENING_MS).div_euclid(DAY_MS);
    match weekday(day) {
        SATURDAY => day + 2,
        SUNDAY => day + 1,
        _ => day,
    }
}

const MONDAY: i64 = 0;
const SATURDAY: i64 = 5;
const SUNDAY: i64 = 6;

/// Monday is 0.
fn weekday(day: i64) -> i64 {
    // Day 0 was a Thursday.
    (day + 3).rem_euclid(7)
}

/// Days since 1970-01-01.
fn day_number(date: NaiveDate) -> i64 {
    const EPOCH: i64 = 719_163;
    i64::from(date.num_days_from_ce()) - EPOCH
}

/// The calendar day of a time in this trading day.
fn night_or_day(trading_day: i64, time_ms: i64) -> i64 {
    let evening = match weekday(trading_day) {
        MONDAY => trading_day - 3,
        SUNDAY => trading_day - 2,
        _ => trading_day - 1,
    };
    match time_ms {
        EVENING_MS.. => evening,
        ..MORNING_MS => evening + 1,
        _ => trading_day,
    }
}

/// This day, or the latest before it that has a session at such a time: evenings and days are Monday's to Friday's,
/// small hours Tuesday's to Saturday's.
fn latest_session(day: i64, time_ms: i64) -> i64 {
    // The day on whose evening or in whose daylight the session began.
    let shift = i64::from(time_ms < MORNING_MS);
    let began = day - shift;
    shift
        + match weekday(began) {
            SATURDAY => began - 1,
            SUNDAY => began - 2,
            _ => began,
        }
}

/// `HH:MM:SS` and milliseconds, since midnight.
fn time_of_day_ms(text: &[u8], millis: i32) -> Result<i64, TimeError> {
    if text.is_empty() {
        return Err(TimeError::Missing);
    }
    let seconds = seconds_of_day(text)
        .ok_or_else(|| TimeError::Malformed(CompactString::from_utf8_lossy(&text[..text.len().min(16)])))?;
    if !(0..1000).contains(&millis) {
        return Err(TimeError::Millis(millis));
    }
    Ok(seconds * 1000 + i64::from(millis))
}

fn seconds_of_day(text: &[u8]) -> Option<i64> {
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = text else { return None };
    let number = |tens, ones| Some(i64::from(digit(tens)? * 10 + digit(ones)?));
    let (hour, minute, second) = (number(h1, h2)?, number(m1, m2)?, number(s1, s2)?);
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 60 + minute) * 60 + second)
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

#[cfg(test)]
mod tests;
