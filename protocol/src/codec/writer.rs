//! Writes any object as compact JSON, the bytes that serde_json would write, straight into the caller's buffer.
//!
//! What markets are made of (fields, short texts, floats of few decimals) has a short way here; what is rare goes to
//! serde_json, value by value.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Error, Value};

use super::{RAW_VALUE, float, plain};

/// Appends values to a buffer.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl<'a> Writer<'a> {
    fn rare<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(self.0, value)
    }

    #[inline]
    fn members(self, brackets: [u8; 2]) -> Members<'a> {
        Members { start: self.0.len(), out: self.0, brackets, tail: "", raw: false }
    }

    /// The members of the one member of `{"variant":...}`.
    fn variant_members(self, variant: &'static str, brackets: [u8; 2]) -> Result<Members<'a>, Error> {
        self.0.push(b'{');
        Writer(self.0).serialize_str(variant)?;
        self.0.push(b':');
        Ok(Members { tail: "}", ..self.members(brackets) })
    }
}

/// The members of an array or an object, each with a comma ahead of it: the first one's becomes the opening bracket.
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    brackets: [u8; 2],
    /// What follows the closing bracket.
    tail: &'static str,
    /// Whether this is no object but what [`serde_json::value::RawValue`] passes for one: text that is JSON already.
    raw: bool,
}

impl Members<'_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(b',');
        value.serialize(Writer(self.out))
    }

    /// In one piece as far as the value, where the compiler knows the name.
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        const BLOCK: usize = 32;
        let end = 2 + name.len();
        if self.raw || end + 2 > BLOCK {
            return self.rare_field(name, value);
        }
        debug_assert!(plain::is_all(name.as_bytes()), "{name} would need an escape");
        let mut block = [0; BLOCK];
        block[..2].copy_from_slice(b",\"");
        block[2..end].copy_from_slice(name.as_bytes());
        block[end..end + 2].copy_from_slice(b"\":");
        self.out.extend_from_slice(&block[..end + 2]);
        value.serialize(Writer(self.out))
    }

    #[cold]
    fn rare_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if self.raw {
            let Value::String(json) = serde_json::to_value(value)? else { return Err(Error::custom("no raw JSON")) };
            self.out.extend_from_slice(json.as_bytes());
            return Ok(());
        }
        self.item(name)?;
        self.out.push(b':');
        value.serialize(Writer(self.out))
    }

    #[inline]
    fn close(self) -> Result<(), Error> {
        if self.raw {
            return Ok(());
        }
        match self.out.get_mut(self.start) {
            Some(first) => *first = self.brackets[0],
            None => self.out.push(self.brackets[0]),
        }
        self.out.push(self.brackets[1]);
        self.out.extend_from_slice(self.tail.as_bytes());
        Ok(())
    }
}

/// Whole numbers.
macro_rules! integers {
    ($($method:ident: $type:ty,)+) => { $(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Error> {
            self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            Ok(())
        }
    )+ };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Members<'a>;
    type SerializeTuple = Members<'a>;
    type SerializeTupleStruct = Members<'a>;
    type SerializeTupleVariant = Members<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        if float::write(self.0, value) { Ok(()) } else { self.rare(&value) }
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if !plain::is_all(text.as_bytes()) {
            return self.rare(text);
        }
        self.0.reserve(text.len() + 2);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
        Ok(())
    }

    integers! {
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.rare(&value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.rare(&value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.rare(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut members = self.members(*b"{}");
        members.item(variant)?;
        members.out.push(b':');
        value.serialize(Writer(members.out))?;
        members.close()
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(self.members(*b"[]"))
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.members(*b"[]"))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.members(*b"[]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'a>, Error> {
        self.variant_members(variant, *b"[]")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(self.members(*b"{}"))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(Members { raw: name == RAW_VALUE, ..self.members(*b"{}") })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'a>, Error> {
        self.variant_members(variant, *b"{}")
    }
}

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Error;

    /// A key is a text; serde_json makes texts of whole numbers and the like too, so whatever else comes is left to it.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let start = self.out.len();
        self.item(key)?;
        if self.out.get(start + 1) != Some(&b'"') {
            self.out.truncate(start + 1);
            // `{"key":null}` without what is around the key.
            let pair = serde_json::to_vec(&OnePair(key))?;
            self.out.extend_from_slice(&pair[1..pair.len() - b":null}".len()]);
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(b':');
        value.serialize(Writer(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

/// A map of this key and nothing to say of it.
struct OnePair<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for OnePair<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &())?;
        map.end()
    }
}

/// Arrays, whatever serde calls them.
macro_rules! arrays {
    ($($of:ident: $method:ident,)+) => { $(
        impl $of for Members<'_> {
            type Ok = ();
            type Error = Error;
            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }
            #[inline]
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )+ };
}
arrays! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

/// Objects whose fields have names that the compiler knows.
macro_rules! structs {
    ($($of:ident,)+) => { $(
        impl $of for Members<'_> {
            type Ok = ();
            type Error = Error;
            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.field(name, value)
            }
            #[inline]
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )+ };
}
structs! { SerializeStruct, SerializeStructVariant, }
