//! The decimal digits of small whole numbers, all at once.

/// The digit 0 in every byte.
pub(super) const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^4, one a byte as a number, the first in the lowest byte.
#[inline]
pub(super) const fn four(number: u32) -> u64 {
    // Two halves of two digits, then each of them. The products are exact divisions by 100 and by 10 in this range.
    let hundreds = (number * 10_486) >> 20;
    let pairs = hundreds | ((number - 100 * hundreds) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    (tens | ((pairs - 10 * tens) << 8)) as u64
}

/// The digits of a number below 10^8, one a byte as a number, the first in the lowest byte.
#[inline]
pub(super) const fn eight(number: u32) -> u64 {
    four(number / 10_000) | (four(number % 10_000) << 32)
}

/// The text of a number below 10^4, with zeros in front.
#[inline]
pub(super) const fn four_text(number: u32) -> [u8; 4] {
    let [a, b, c, d, ..] = (four(number) | ZEROS).to_le_bytes();
    [a, b, c, d]
}

/// The number that eight digits say, one a byte as a number, the first in the lowest byte.
#[inline]
pub(super) const fn number(digits: u64) -> u64 {
    // Neighbours are joined, then pairs, then fours: the one in front times a power of ten lands on the one behind it.
    let pairs = (digits.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

/// The highest bit of every byte that is no number of one digit, and no other bit.
#[inline]
pub(super) const fn no_digits(bytes: u64) -> u64 {
    (((bytes & !HIGHEST) + 0x7676_7676_7676_7676) | bytes) & HIGHEST
}

/// The highest bit of every byte.
const HIGHEST: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_four_digits_is_taken_apart() {
        for number in 0..10_000_u32 {
            assert_eq!(four_text(number), *format!("{number:04}").as_bytes());
            for number in [number, number * 10_000, number * 10_000 + 9_999 - number] {
                assert_eq!((eight(number) | ZEROS).to_le_bytes(), *format!("{number:08}").as_bytes());
                assert_eq!(super::number(eight(number)), u64::from(number));
            }
        }
    }

    #[test]
    fn digits_are_told_from_everything_else() {
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let mut text = *b"09182736";
                text[at] = byte;
                let expected = if byte.is_ascii_digit() { 0 } else { 0x80 << (8 * at) };
                assert_eq!(no_digits(u64::from_le_bytes(text) ^ ZEROS), expected, "{byte}");
            }
        }
    }
}
