//! The fields of CTP's records, and what is read from their bytes.

use compact_str::CompactString;

/// A field of fixed length that holds text: GB18030, ended by a NUL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    pub name: &'static str,
    pub at: usize,
    /// With the NUL.
    pub len: usize,
}

/// A field of one character.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Char {
    /// Of the first, where each character is about one leg of a combination.
    pub at: usize,
}

/// A field of 32 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int {
    pub at: usize,
}

/// A field of 64 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Double {
    pub name: &'static str,
    pub at: usize,
}

/// A record as the library handed it over. What lies beyond its end reads as zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a>(pub &'a [u8]);

impl Record<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    pub fn int(&self, field: Int) -> i32 {
        i32::from_ne_bytes(self.array(field.at))
    }

    /// `None` where CTP says nothing: it writes `DBL_MAX`.
    pub fn double(&self, field: Double) -> Option<f64> {
        let value = f64::from_ne_bytes(self.array(field.at));
        (value.is_finite() && value.abs() != f64::MAX).then_some(value)
    }

    pub fn char(&self, field: Char) -> u8 {
        self.0.get(field.at).copied().unwrap_or(0)
    }

    pub fn text(&self, field: Text) -> CompactString {
        self.decoded(field).into()
    }

    pub fn string(&self, field: Text) -> String {
        self.decoded(field).into_owned()
    }

    fn decoded(&self, field: Text) -> std::borrow::Cow<'_, str> {
        let end = (field.at + field.len).min(self.0.len());
        let bytes = self.0.get(field.at..end).unwrap_or_default();
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        encoding_rs::GB18030.decode_without_bom_handling(bytes).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_that_say_nothing_are_absent() {
        let field = Double { name: "Price", at: 0 };
        for nothing in [f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Record(&nothing.to_ne_bytes()).double(field), None, "{nothing}");
        }
        assert_eq!(Record(&(-37.63f64).to_ne_bytes()).double(field), Some(-37.63));
    }

    #[test]
    fn text_ends_at_its_first_nul_or_with_its_field() {
        let field = Text { name: "InstrumentName", at: 1, len: 5 };
        // GB18030's bytes of 铜, then what an earlier use of the buffer left.
        assert_eq!(Record(b"_\xcd\xad\0xyz").text(field), "\u{94dc}");
        assert_eq!(Record(b"_abcdefg").text(field), "abcde");
        assert_eq!(Record(b"_  12").text(field), "  12", "what is right-aligned stays so");
        assert_eq!(Record(b"_\xff\xff").text(field), "\u{fffd}\u{fffd}");
        // A character that the field's end cuts in two.
        assert_eq!(Record(b"_abcd\xcd\xad").text(field), "abcd\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_wherever_a_field_is(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..80, len in 0usize..80) {
            let record = Record(&bytes);
            let _ = record.int(Int { at });
            let _ = record.char(Char { at });
            let _ = record.text(Text { name: "", at, len });
            let double = record.double(Double { name: "", at });
            prop_assert!(double.is_none_or(f64::is_finite));
        }
    }
}
