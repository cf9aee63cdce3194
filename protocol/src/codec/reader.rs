//! Reads an object from JSON as serde_json would, sooner where the text is what a peer of this version writes: fields in
//! their order, texts without escapes, numbers of few digits.
//!
//! Whatever else is met is given to serde_json, value by value, so that any JSON is read. And whatever is wrong ends in
//! an error without words: the caller lets serde_json read it all again, and serde_json's verdict is what counts.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{RAW_VALUE, float, plain};

/// Arrays and objects inside each other: half of what serde_json allows, so that what it is given here, which may be as
/// deep again, would be read by it alone too.
const DEPTH: u8 = 60;

/// The object in the bytes, or an error where serde_json has to say what is wrong.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong)?;
    let mut reader = Reader { text, rest: bytes, depth: DEPTH };
    // Returned as it is: a tick is half a kilobyte, and each time that it is moved shows.
    let value = T::deserialize(&mut reader);
    if value.is_ok() && reader.space().is_some() {
        return Err(Wrong);
    }
    value
}

/// Something is wrong.
#[derive(Debug)]
pub(super) struct Wrong;

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such object")
    }
}

impl std::error::Error for Wrong {}

impl Error for Wrong {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Wrong
    }
}

struct Reader<'de> {
    /// All of it.
    text: &'de str,
    /// What is not read yet.
    rest: &'de [u8],
    depth: u8,
}

impl<'de> Reader<'de> {
    /// The next byte that is no space.
    #[inline]
    fn space(&mut self) -> Option<u8> {
        match self.rest.first() {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.pass_space(),
        }
    }

    #[cold]
    fn pass_space(&mut self) -> Option<u8> {
        while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Passes over `byte`, which must be next.
    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.rest.first() != Some(&byte) {
            self.space();
        }
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(Wrong),
        }
    }

    /// Whether another item or field follows; passes over the comma ahead of it. The closing bracket is left.
    #[inline]
    fn has_member(&mut self, close: u8, first: &mut bool) -> Result<bool, Wrong> {
        let first = std::mem::take(first);
        match self.space().ok_or(Wrong)? {
            next if next == close => Ok(false),
            b',' if !first => {
                self.rest = &self.rest[1..];
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(Wrong),
        }
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Result<(), Wrong> {
        self.rest = self.rest.strip_prefix(literal).ok_or(Wrong)?;
        Ok(())
    }

    /// The text of a string without escapes; or nothing, and it is not passed over.
    #[inline]
    fn plain_string(&mut self) -> Option<&'de str> {
        self.space();
        let [b'"', bytes @ ..] = self.rest else { return None };
        let length = plain::length(bytes);
        let [b'"', rest @ ..] = bytes.get(length..)? else { return None };
        self.rest = rest;
        let start = self.text.len() - bytes.len();
        self.text.get(start..start + length)
    }

    /// A whole number, if it is one and has few enough digits; or nothing, and it is not passed over.
    #[inline]
    fn whole_number(&mut self) -> Option<u64> {
        self.space();
        let mut number = 0_u64;
        let mut digits = 0;
        while let Some(digit) = self.rest.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            // Wraps only where there are too many, which is seen below.
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            digits += 1;
        }
        let strange = matches!(self.rest.get(digits), Some(b'.' | b'e' | b'E'));
        if strange || digits == 0 || digits > 19 || digits > 1 && self.rest[0] == b'0' {
            return None;
        }
        self.rest = &self.rest[digits..];
        Some(number)
    }

    /// Passes over the next value, whatever it is: from where it begins to where it ends if it is valid.
    #[cold]
    fn value(&mut self) -> Result<&'de [u8], Wrong> {
        let first = self.space().ok_or(Wrong)?;
        let length = if matches!(first, b'"' | b'{' | b'[') {
            let (mut depth, mut in_text, mut escaped) = (0, false, false);
            let ends = |byte: &u8| {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = in_text,
                    b'"' => in_text = !in_text,
                    b'{' | b'[' if !in_text => depth += 1,
                    b'}' | b']' if !in_text => depth -= 1,
                    _ => {}
                }
                depth > DEPTH || depth == 0 && !in_text
            };
            let last = self.rest.iter().position(ends).ok_or(Wrong)?;
            if depth > DEPTH {
                return Err(Wrong);
            }
            last + 1
        } else {
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r');
            self.rest.iter().position(ends).unwrap_or(self.rest.len())
        };
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(value)
    }

    /// Lets serde_json read the next value.
    fn rare<V>(
        &mut self,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>) -> serde_json::Result<V>,
    ) -> Result<V, Wrong> {
        let mut reader = serde_json::Deserializer::from_slice(self.value()?);
        let value = read(&mut reader).map_err(|_| Wrong)?;
        reader.end().map_err(|_| Wrong)?;
        Ok(value)
    }

    /// What is between brackets.
    #[inline]
    fn inside<V>(&mut self, open: u8, close: u8, read: impl FnOnce(&mut Self) -> Result<V, Wrong>) -> Result<V, Wrong> {
        self.expect(open)?;
        self.depth = self.depth.checked_sub(1).ok_or(Wrong)?;
        let value = read(self);
        self.depth += 1;
        if value.is_ok() {
            self.expect(close)?;
        }
        value
    }
}

/// Methods that leave everything to serde_json.
macro_rules! rare {
    ($($method:ident $(($argument:ident: $type:ty))*;)+) => { $(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Wrong> {
            self.rare(|reader| reader.$method($($argument,)* visitor))
        }
    )+ };
}

/// Whole numbers without a sign.
macro_rules! whole_numbers {
    ($($method:ident)+) => { $(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.whole_number() {
                Some(number) => visitor.visit_u64(number),
                None => self.rare(|reader| reader.$method(visitor)),
            }
        }
    )+ };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Wrong;

    rare! {
        deserialize_any;
        deserialize_ignored_any;
        deserialize_map;
        deserialize_i8;
        deserialize_i16;
        deserialize_i32;
        deserialize_i64;
        deserialize_i128;
        deserialize_u128;
        deserialize_f32;
        deserialize_char;
        deserialize_bytes;
        deserialize_byte_buf;
        deserialize_unit;
        deserialize_unit_struct(name: &'static str);
    }

    whole_numbers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.space();
        match float::read(self.rest) {
            (_, 0) => self.rare(|reader| reader.deserialize_f64(visitor)),
            (value, length) => {
                self.rest = &self.rest[length..];
                visitor.visit_f64(value)
            }
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.plain_string() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.rare(|reader| reader.deserialize_str(visitor)),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.space() {
            Some(b't') => self.literal(b"true").and_then(|()| visitor.visit_bool(true)),
            Some(b'f') => self.literal(b"false").and_then(|()| visitor.visit_bool(false)),
            _ => Err(Wrong),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.space() {
            Some(b'n') => self.literal(b"null").and_then(|()| visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name == RAW_VALUE {
            return self.rare(|reader| reader.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.inside(b'[', b']', |reader| visitor.visit_seq(Items { reader, first: true }))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.inside(b'{', b'}', |reader| visitor.visit_map(Fields { reader, ahead: fields, first: true }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.rare(|reader| reader.deserialize_enum(name, variants, visitor))
    }
}

/// The items of an array.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    first: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Wrong;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        if !self.reader.has_member(b']', &mut self.first)? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

/// The fields of an object.
struct Fields<'a, 'de> {
    reader: &'a mut Reader<'de>,
    /// The names that may follow, in the order in which they are written.
    ahead: &'static [&'static str],
    first: bool,
}

impl<'de> Fields<'_, 'de> {
    /// The name that comes next, if it is one of those ahead and as it is written by this codec; passes over it and its
    /// colon.
    #[inline]
    fn known_name(&mut self) -> Option<&'static str> {
        // A peer of another language may put a space ahead of it.
        self.reader.space();
        let [b'"', text @ ..] = self.reader.rest else { return None };
        for (at, name) in self.ahead.iter().enumerate() {
            if let Some([b'"', b':', rest @ ..]) = text.strip_prefix(name.as_bytes()) {
                self.ahead = &self.ahead[at + 1..];
                self.reader.rest = rest;
                return Some(name);
            }
        }
        None
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Wrong;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        if !self.reader.has_member(b'}', &mut self.first)? {
            return Ok(None);
        }
        if let Some(name) = self.known_name() {
            return seed.deserialize(StrDeserializer::new(name)).map(Some);
        }
        let key = seed.deserialize(&mut *self.reader)?;
        self.reader.expect(b':')?;
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        seed.deserialize(&mut *self.reader)
    }
}
