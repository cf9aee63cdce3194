//! Writes instants as JSON: the same RFC 3339 text as chrono's own writer, without its formatting machinery, which would
//! be a third of what encoding a tick costs. For the fields of `serialize_with`; reading is chrono's.

use chrono::{Datelike, Timelike};
use serde::{Serialize, Serializer};

use crate::value::Timestamp;

/// `2018-10-12T21:00:00.512345678+08:00`
const LONGEST: usize = 35;

pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let mut buffer = [0; LONGEST];
    match text(time, &mut buffer) {
        Some(text) => serializer.serialize_str(text),
        None => time.serialize(serializer),
    }
}

pub(crate) fn serialize_option<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// The instant's text, or `None` for what markets do not have: leap seconds, offsets with seconds, years of other than
/// four digits.
fn text<'a>(time: &Timestamp, buffer: &'a mut [u8; LONGEST]) -> Option<&'a str> {
    // Looked at in UTC first: at the ends of chrono's range there is no local time.
    if !(1..=9998).contains(&time.naive_utc().year()) {
        return None;
    }
    let offset_seconds = time.offset().local_minus_utc();
    let local = time.naive_local();
    let nanos = local.nanosecond();
    if offset_seconds % 60 != 0 || nanos >= 1_000_000_000 {
        return None;
    }
    let mut end = 0;
    let mut put = |bytes: &[u8]| {
        buffer[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    put(&digits::<4>(local.year().unsigned_abs()));
    put(b"-");
    put(&digits::<2>(local.month()));
    put(b"-");
    put(&digits::<2>(local.day()));
    put(b"T");
    put(&digits::<2>(local.hour()));
    put(b":");
    put(&digits::<2>(local.minute()));
    put(b":");
    put(&digits::<2>(local.second()));
    // As many digits as are needed, in threes.
    if nanos != 0 {
        put(b".");
        if nanos.is_multiple_of(1_000_000) {
            put(&digits::<3>(nanos / 1_000_000));
        } else if nanos.is_multiple_of(1_000) {
            put(&digits::<6>(nanos / 1_000));
        } else {
            put(&digits::<9>(nanos));
        }
    }
    if offset_seconds == 0 {
        put(b"Z");
    } else {
        let minutes = offset_seconds.unsigned_abs() / 60;
        put(if offset_seconds < 0 { b"-" } else { b"+" });
        put(&digits::<2>(minutes / 60));
        put(b":");
        put(&digits::<2>(minutes % 60));
    }
    std::str::from_utf8(&buffer[..end]).ok()
}

/// The last `N` decimal digits of the number.
fn digits<const N: usize>(mut number: u32) -> [u8; N] {
    let mut out = [b'0'; N];
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out
}
