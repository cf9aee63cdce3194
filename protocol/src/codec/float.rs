//! Floats as JSON, both ways: the text that serde_json would write and the float that it would read, sooner for the
//! numbers that markets are made of.

use super::digits::{ZEROS, eight, four, no_digits, number};

/// Appends the shortest text that reads back to `value`, if that is a whole number below 10^15, or has up to four decimals
/// and is below 10^11; writes nothing otherwise.
///
/// Why it is exact: `n / 10_000.0` is the float nearest to the decimal number n/10^4, since both are whole floats and
/// division rounds correctly; so if it equals `value`, the decimal reads back to `value`. And why it is the shortest:
/// it has at most 15 digits, and no two decimals of so few digits share a float.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, value: f64) -> bool {
    let magnitude = value.abs();
    if magnitude >= 1e15 || magnitude.is_nan() {
        return false;
    }
    let mut whole = nearest_whole(magnitude);
    let mut tail = u64::from(u16::from_le_bytes(*b".0"));
    let mut tail_length = 2;
    if whole.0 != magnitude {
        // Ten-thousandths.
        let scaled = nearest_whole(magnitude * 10_000.0);
        if magnitude >= 1e11 || scaled.0 / 10_000.0 != magnitude {
            return false;
        }
        whole.1 = scaled.1 / 10_000;
        let digits = four((scaled.1 % 10_000) as u32);
        tail = (digits | ZEROS) << 8 | u64::from(b'.');
        tail_length = 5 - (digits as u32).leading_zeros() / 8;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let digits = match whole.1 {
        few @ 0..10_000 => four(few as u32) << 32,
        more @ 0..100_000_000 => eight(more as u32),
        many => {
            out.extend_from_slice(itoa::Buffer::new().format(many).as_bytes());
            append(out, tail, tail_length);
            return true;
        }
    };
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let text = (digits | ZEROS) >> (8 * zeros);
    let length = 8 - zeros;
    if length + tail_length <= 8 {
        append(out, text | tail << (8 * length), length + tail_length);
    } else {
        append(out, text, length);
        append(out, tail, tail_length);
    }
    true
}

/// The whole number nearest to one of 0 to 2^52, as both types: so large a float has no bits behind the point, and its
/// lowest bits are the number.
#[inline]
fn nearest_whole(magnitude: f64) -> (f64, u64) {
    const LARGE: f64 = (1_u64 << 52) as f64;
    let sum = magnitude + LARGE;
    (sum - LARGE, sum.to_bits() - LARGE.to_bits())
}

/// Appends the lowest bytes of `text`.
#[inline]
fn append(out: &mut Vec<u8>, text: u64, length: u32) {
    // All of it first: a store of constant size costs less than one of just as many bytes.
    out.extend_from_slice(&text.to_le_bytes());
    out.truncate(out.len() + length as usize - 8);
}

/// Powers of ten that are whole floats.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The float that `text` begins with, and how many bytes it takes: none, if it is in another form than the usual one, with
/// an exponent or with too many digits.
///
/// Why it is exact: the digits without their point are a whole float of up to 2^53, the power of ten is one too, and
/// division rounds correctly. (W. D. Clinger, "How to read floating point numbers accurately", 1990.)
///
/// No `Option`: two plain numbers are returned in registers.
pub(super) fn read(text: &[u8]) -> (f64, usize) {
    text.first_chunk().and_then(read_short).or_else(|| read_long(text)).unwrap_or((0.0, 0))
}

/// A number of up to seven bytes, all at once: digits, a point, digits, and something else, but no exponent. Whether that
/// may follow a number is for whoever reads on.
#[inline]
fn read_short(text: &[u8; 8]) -> Option<(f64, usize)> {
    let bytes = u64::from_le_bytes(*text) ^ ZEROS;
    // The point is the first byte that is no digit, and what ends the number is the second; in bits, 8 for every byte.
    let others = no_digits(bytes);
    let point = others.trailing_zeros() & !7;
    let end = (others & others.wrapping_sub(1)).trailing_zeros() & !7;
    let at = |bits: u32| (bytes >> (bits % 64)) as u8 ^ b'0';
    let has_digits = point > 0 && end > point + 8 && end < 64;
    if !has_digits || at(point) != b'.' || at(end) | 0x20 == b'e' || point > 8 && at(0) == b'0' {
        return None;
    }
    // Without the point, and moved up as if there were zeros ahead.
    let whole = (1 << point) - 1;
    let digits = ((bytes & whole) | ((bytes >> 8) & !whole)) << (72 - end);
    let decimals = (end - point) / 8 - 1;
    Some((number(digits) as i64 as f64 / POWERS[decimals as usize & 7], end as usize / 8))
}

/// Any other, digit by digit.
#[inline(never)]
fn read_long(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut digits = 0_u64;
    let mut at = start;
    let mut run = |at: &mut usize| {
        while let Some(digit) = text.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            // Wraps only where there are too many digits, which is seen below.
            digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
            *at += 1;
        }
    };
    run(&mut at);
    let whole_digits = at - start;
    // JSON wants a digit ahead of the point, and no 0 ahead of a digit.
    if whole_digits == 0 || whole_digits > 1 && text[start] == b'0' {
        return None;
    }
    let mut decimals = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let point = at;
        run(&mut at);
        decimals = at - point;
        if decimals == 0 {
            return None;
        }
    }
    if matches!(text.get(at), Some(b'e' | b'E')) || whole_digits + decimals > 19 || digits > 1 << 53 {
        return None;
    }
    let magnitude = digits as f64 / POWERS[decimals];
    Some((if negative { -magnitude } else { magnitude }, at))
}
