//! Bytes to objects and back: JSON, one codec for every type.
//!
//! Floats are written with the shortest text that reads back to the same bits. The bytes are those that serde_json would
//! write, and what it would read is read; `writer` and `reader` have a short way for what is common and leave the rest, and
//! every error, to serde_json.

mod digits;
mod float;
pub(crate) mod instant;
mod plain;
mod reader;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::writer::Writer;

/// What [`serde_json::value::RawValue`] calls itself to a serializer and a deserializer.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Why bytes are no such object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON at all, or cut off.
    #[error("malformed JSON: {0}")]
    Syntax(String),
    /// JSON, but a field is missing or holds something else.
    #[error("{}{message}", if path == "." { String::new() } else { format!("field `{path}`: ") })]
    Field {
        /// Where in the object, `.` for the object itself.
        path: String,
        /// What is wrong there.
        message: String,
    },
}

/// A value that JSON cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("cannot be written as JSON: {0}")]
pub struct EncodeError(#[from] serde_json::Error);

/// Appends the object's bytes to `buffer`, which the caller reuses.
///
/// A float that is not finite becomes `null`: absent to a reader where the field may be absent, an error to him where it
/// may not. Whoever takes numbers from a venue turns such ones away first, see [`crate::OmsEvent::malformed_field`].
///
/// # Errors
/// Never for the types of this crate; a map with keys that are no strings would be one.
pub fn encode_into<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) -> Result<(), EncodeError> {
    value.serialize(Writer(buffer)).map_err(EncodeError)
}

/// The object's bytes.
///
/// # Errors
/// As [`encode_into`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    // A tick of five levels fits.
    let mut buffer = Vec::with_capacity(1024);
    encode_into(&mut buffer, value)?;
    Ok(buffer)
}

/// The object in the bytes.
///
/// # Errors
/// Says which field is wrong. The path costs a second pass, taken only on failure.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match reader::read(bytes) {
        Ok(value) => Ok(value),
        Err(_) => serde_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, &error)),
    }
}

#[cold]
fn explain<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> DecodeError {
    let cut = |text: String| text.chars().take(300).collect::<String>();
    if !error.is_data() {
        return DecodeError::Syntax(cut(error.to_string()));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => {
            DecodeError::Field { path: cut(error.path().to_string()), message: cut(error.inner().to_string()) }
        }
        Ok(_) => DecodeError::Syntax(cut(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::OrderRequest;

    #[test]
    fn an_error_names_the_field() {
        let bytes =
            br#"{"orderid":"a","symbol":"rb2410","exchange":"SHFE","direction":"LONG","type":"LIMIT","volume":"ten"}"#;
        let message = decode::<OrderRequest>(bytes).expect_err("volume is a text").to_string();
        assert!(message.contains("volume") && message.contains("ten"), "{message}");
        let message = decode::<OrderRequest>(br#"{"symbol":"rb2410"}"#).expect_err("incomplete").to_string();
        assert!(message.contains("missing field `orderid`"), "{message}");
        let message = decode::<OrderRequest>(br#"{"symbol":"#).expect_err("cut off").to_string();
        assert!(message.starts_with("malformed JSON"), "{message}");
    }
}
