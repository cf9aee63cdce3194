//! Where a text needs an escape in JSON, eight bytes at a time.

/// How many bytes `text` begins with that stand in a JSON string as they are: up to a quote, a backslash or a control
/// character.
#[inline]
pub(super) fn length(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let escapes = escapes(u64::from_le_bytes(*word));
        if escapes != 0 {
            return 8 * at + (escapes.trailing_zeros() / 8) as usize;
        }
    }
    let plain = rest.iter().take_while(|&&byte| byte >= b' ' && byte != b'"' && byte != b'\\').count();
    8 * words.len() + plain
}

/// Whether all of a text is such.
#[inline]
pub(super) fn is_all(text: &[u8]) -> bool {
    match text.last_chunk::<8>() {
        // The last word may look at bytes again that were looked at before.
        Some(last) => {
            let words = text.as_chunks::<8>().0.iter().chain([last]);
            words.fold(0, |all, word| all | escapes(u64::from_le_bytes(*word))) == 0
        }
        None => !text.iter().fold(false, |any, &byte| any | (byte < b' ') | (byte == b'"') | (byte == b'\\')),
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of the first byte that needs an escape; what is above it means nothing. 0 if there is none.
#[inline]
const fn escapes(word: u64) -> u64 {
    const fn below(word: u64, bound: u8) -> u64 {
        // A byte below the bound borrows from its highest bit, which was not set.
        word.wrapping_sub(ONES * bound as u64) & !word & (ONES << 7)
    }
    below(word, b' ') | below(word ^ (ONES * b'"' as u64), 1) | below(word ^ (ONES * b'\\' as u64), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_plain_or_not() {
        for byte in 0..=u8::MAX {
            let plain = byte >= b' ' && byte != b'"' && byte != b'\\';
            for at in 0..20 {
                for other in [b'a', 0xff, 0x80, b'!', b'#', b'[', b']'] {
                    let mut text = [other; 20];
                    text[at] = byte;
                    assert_eq!(length(&text), if plain { 20 } else { at }, "{byte} at {at}");
                    assert!(is_all(&text) == plain && is_all(&text[..at]), "{byte} at {at}");
                    assert_eq!(is_all(&text[at..][..1]), plain, "{byte}");
                }
            }
        }
    }
}
