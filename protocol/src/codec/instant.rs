//! Instants and days as JSON, both ways: the text that chrono would write (RFC 3339, ISO 8601), and what it would read,
//! without its formatting machinery, which costs more than all else in a tick. For fields of
//! `#[serde(with = "crate::codec::instant")]`; whatever markets do not have is chrono's.

use std::fmt;

use chrono::{Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digits::{ZEROS, eight, four_text};
use crate::value::Timestamp;

pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut buffer = Buffer { bytes: [0; ROOM], end: 0 };
    match value.write(&mut buffer) {
        Some(()) => serializer.serialize_str(buffer.text()),
        None => value.serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Reader<T>(std::marker::PhantomData<T>);
    impl<T: Text> Visitor<'_> for Reader<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }
        #[inline]
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            match T::read(text.as_bytes()) {
                Some(value) => Ok(value),
                None => text.parse().map_err(E::custom),
            }
        }
    }
    deserializer.deserialize_str(Reader(std::marker::PhantomData))
}

/// The same for fields that may be absent: `#[serde(default, with = "crate::codec::instant::option")]`.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        struct Given<T>(T);
        impl<'de, T: Text> Deserialize<'de> for Given<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::deserialize(deserializer).map(Given)
            }
        }
        Ok(Option::<Given<T>>::deserialize(deserializer)?.map(|given| given.0))
    }
}

/// What has a short way as text.
pub(crate) trait Text: Serialize + std::str::FromStr<Err = chrono::ParseError> {
    /// What chrono says that it expects.
    const EXPECTED: &'static str;
    /// chrono's text of it, or `None` for what markets do not have.
    fn write(&self, buffer: &mut Buffer) -> Option<()>;
    /// What chrono would read, or `None` for whatever is not exactly as it is written here.
    fn read(text: &[u8]) -> Option<Self>;
}

impl Text for NaiveDate {
    const EXPECTED: &'static str = "a formatted date string";

    #[inline(always)]
    fn write(&self, buffer: &mut Buffer) -> Option<()> {
        let year = u32::try_from(self.year()).ok().filter(|year| *year <= 9999)?;
        buffer.put(four_text(year));
        buffer.put_two(b'-', self.month());
        buffer.put_two(b'-', self.day());
        Some(())
    }

    #[inline]
    fn read(text: &[u8]) -> Option<Self> {
        let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
        let year = 100 * pair(y0, y1)? + pair(y2, y3)?;
        NaiveDate::from_ymd_opt(year as i32, pair(m0, m1)?, pair(d0, d1)?)
    }
}

/// `2018-10-12T21:00:00.512345678+08:00`; no leap seconds, no offsets with seconds, years of four digits.
impl Text for Timestamp {
    const EXPECTED: &'static str = "an RFC 3339 formatted date and time string";

    #[inline(always)]
    fn write(&self, buffer: &mut Buffer) -> Option<()> {
        // Looked at in UTC first: at the ends of chrono's range there is no local time.
        if !(1..=9998).contains(&self.naive_utc().year()) {
            return None;
        }
        let offset_seconds = self.offset().local_minus_utc();
        let local = self.naive_local();
        let nanos = local.nanosecond();
        if offset_seconds % 60 != 0 || nanos >= 1_000_000_000 {
            return None;
        }
        local.date().write(buffer)?;
        buffer.put_two(b'T', local.hour());
        buffer.put_two(b':', local.minute());
        buffer.put_two(b':', local.second());
        // As many digits as are needed, in threes.
        if nanos != 0 {
            let micros = (eight(nanos / 1_000) | ZEROS).to_le_bytes();
            buffer.put([b'.', micros[2], micros[3], micros[4]]);
            if !nanos.is_multiple_of(1_000_000) {
                buffer.put([micros[5], micros[6], micros[7]]);
            }
            if !nanos.is_multiple_of(1_000) {
                let [_, rest @ ..] = four_text(nanos % 1_000);
                buffer.put(rest);
            }
        }
        if offset_seconds == 0 {
            buffer.put([b'Z']);
        } else {
            let minutes = offset_seconds.unsigned_abs() / 60;
            buffer.put_two(if offset_seconds < 0 { b'-' } else { b'+' }, minutes / 60);
            buffer.put_two(b':', minutes % 60);
        }
        Some(())
    }

    #[inline]
    fn read(text: &[u8]) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let &[b'T', h0, h1, b':', m0, m1, b':', s0, s1, ref rest @ ..] = rest else { return None };
        let (nanos, offset) = match rest {
            [b'.', fraction @ ..] => {
                let (mut nanos, mut unit, mut digits) = (0, 1_000_000_000, 0);
                while let Some(digit) = fraction.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|it| *it < 10) {
                    unit /= 10;
                    nanos += u32::from(digit) * unit;
                    digits += 1;
                }
                // A tenth digit is worth nothing, and left to chrono.
                if !(1..=9).contains(&digits) {
                    return None;
                }
                (nanos, &fraction[digits..])
            }
            rest => (0, rest),
        };
        let offset_seconds = match *offset {
            [b'Z'] => 0,
            [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
                let (hours, minutes) = (pair(h0, h1)?, pair(m0, m1)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = (60 * (60 * hours + minutes)) as i32;
                if sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        let time = NaiveTime::from_hms_nano_opt(pair(h0, h1)?, pair(m0, m1)?, pair(s0, s1)?, nanos)?;
        let local = NaiveDateTime::new(NaiveDate::read(date)?, time);
        local.and_local_timezone(FixedOffset::east_opt(offset_seconds)?).single()
    }
}

/// The number that two digits say.
#[inline]
fn pair(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(10 * tens + ones))
}

/// Room for an instant to the nanosecond with its offset, 35 bytes, in whole blocks of what checks that a text is one.
const ROOM: usize = 48;

/// A text on its way.
#[repr(align(16))]
pub(crate) struct Buffer {
    bytes: [u8; ROOM],
    end: usize,
}

impl Buffer {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.end..self.end + N].copy_from_slice(&bytes);
        self.end += N;
    }

    #[inline(always)]
    fn put_two(&mut self, ahead: u8, number: u32) {
        self.put([ahead, b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    }

    #[inline]
    fn text(&self) -> &str {
        // Digits and punctuation, never anything else.
        std::str::from_utf8(&self.bytes).ok().and_then(|text| text.get(..self.end)).unwrap_or_default()
    }
}
