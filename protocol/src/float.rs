//! Writes floats as JSON: the same text as serde_json's own writer, sooner for the numbers that markets are made of.

use std::io;

use serde_json::ser::{CompactFormatter, Formatter};

/// Compact JSON with a short way for whole numbers and for numbers of up to four decimals.
pub(crate) struct ShortFloats;

impl Formatter for ShortFloats {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut buffer = [0; LONGEST];
        match short_text(value, &mut buffer) {
            Some(text) => writer.write_all(text),
            None => CompactFormatter.write_f64(writer, value),
        }
    }
}

/// A sign, eleven digits before the point, the point, four digits behind it.
const LONGEST: usize = 1 + 11 + 1 + 4;

/// The shortest text that reads back to `value`, if that is a whole number below 10^11, or has up to four decimals.
///
/// Why it is exact: `n / 10_000.0` is the float nearest to the decimal number n/10^4, since both are whole floats and
/// division rounds correctly; so if it equals `value`, the decimal reads back to `value`. And why it is the shortest:
/// it has at most 15 digits, and no two decimals of so few digits share a float.
fn short_text(value: f64, buffer: &mut [u8; LONGEST]) -> Option<&[u8]> {
    let magnitude = value.abs();
    if magnitude >= 1e11 || magnitude.is_nan() {
        return None;
    }
    let whole = magnitude as u64;
    // Ten-thousandths behind the point.
    let mut fraction = 0;
    let mut whole_part = whole;
    if whole as f64 != magnitude {
        let scaled = (magnitude * 10_000.0 + 0.5) as u64;
        if scaled as f64 / 10_000.0 != magnitude {
            return None;
        }
        whole_part = scaled / 10_000;
        fraction = (scaled % 10_000) as u32;
    }
    let mut end = 0;
    if value.is_sign_negative() {
        buffer[0] = b'-';
        end = 1;
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(whole_part).as_bytes();
    buffer[end..end + digits.len()].copy_from_slice(digits);
    end += digits.len();
    buffer[end] = b'.';
    end += 1;
    let mut unit = 1_000;
    loop {
        buffer[end] = b'0' + (fraction / unit) as u8;
        end += 1;
        fraction %= unit;
        if fraction == 0 {
            return Some(&buffer[..end]);
        }
        unit /= 10;
    }
}
