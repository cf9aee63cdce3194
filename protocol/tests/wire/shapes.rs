//! The codec reads and writes every shape that serde knows as serde_json does, also those that no object of the wire has
//! today.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use protocol::codec::{decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(i8, Option<bool>),
    Struct {
        a: String,
        b: (),
    },
    Empty {},
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { n: u64 },
    Two { x: f64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Text(String),
    Many(Vec<Untagged>),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct UnitStruct;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u64);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Inner {
    p: u64,
    q: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    unsigned: (u8, u16, u32, u64, u128, usize),
    signed: (i8, i16, i32, i64, i128, isize),
    floats: (f32, f64),
    character: char,
    yes: bool,
    unit: (),
    unit_struct: UnitStruct,
    newtype: Newtype,
    nested: Option<Option<Inner>>,
    shapes: Vec<Shape>,
    tagged: Vec<Tagged>,
    untagged: Vec<Untagged>,
    numbered: BTreeMap<i64, bool>,
    lettered: BTreeMap<char, Vec<u8>>,
    truths: BTreeMap<bool, [u8; 0]>,
    named: HashMap<String, Inner>,
    value: serde_json::Value,
    a_field_whose_name_is_longer_than_any_of_the_wire_has: u8,
    #[serde(flatten)]
    flat: Inner,
}

fn everything() -> Everything {
    Everything {
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX),
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN),
        floats: (0.1, f64::MIN_POSITIVE),
        character: '"',
        yes: true,
        unit: (),
        unit_struct: UnitStruct,
        newtype: Newtype(u64::MAX),
        nested: Some(Some(Inner { p: 0, q: Some(-0.0) })),
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(7),
            Shape::Tuple(-1, None),
            Shape::Struct { a: "\u{1f}\\".to_owned(), b: () },
            Shape::Empty {},
        ],
        tagged: vec![Tagged::One { n: 1 }, Tagged::Two { x: 2.5 }],
        untagged: vec![Untagged::Many(vec![Untagged::Number(1e300), Untagged::Text("橡胶\n".to_owned())])],
        numbered: [(-1, true), (i64::MAX, false)].into(),
        lettered: [('\'', vec![]), ('"', vec![1, 2])].into(),
        truths: [(true, [])].into(),
        named: [("\"".to_owned(), Inner::default())].into(),
        value: serde_json::json!({"a": [null, 1, -1, 1.5, {"b": "c"}], "": {}, "e": []}),
        a_field_whose_name_is_longer_than_any_of_the_wire_has: 1,
        flat: Inner { p: 9, q: None },
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = encode(value).expect("encodes");
    assert_eq!(String::from_utf8_lossy(&bytes), serde_json::to_string(value).expect("encodes"));
    assert_eq!(&decode::<T>(&bytes).expect("decodes"), value);
    let spaced = serde_json::to_vec_pretty(value).expect("encodes");
    assert_eq!(&decode::<T>(&spaced).expect("decodes"), value);
}

#[test]
fn every_shape_is_written_and_read_as_serde_json_does() {
    same(&everything());
    same(&vec![everything(), everything()]);
    same(&serde_json::to_value(everything().value).expect("a value"));
    same(&Shape::Unit);
    same(&UnitStruct);
    same(&Some(1_u8));
    same(&"text".to_owned());
    same(&vec![(); 3]);
    same(&Vec::<u8>::new());
    same(&BTreeMap::<String, u8>::new());
    assert_eq!(decode::<Shape>(b"\"New\""), Ok(Shape::Other));
    // A struct may be an array of its fields, for serde_json.
    assert_eq!(decode::<Inner>(b"[7,1.5]"), Ok(Inner { p: 7, q: Some(1.5) }));
}

#[test]
fn what_is_no_key_is_refused_as_serde_json_refuses_it() {
    let nested: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
    let nothing: BTreeMap<Option<u8>, u8> = [(None, 1)].into();
    let something: BTreeMap<Option<u8>, u8> = [(Some(1), 1)].into();
    let error = encode(&nested).expect_err("a list is no key").to_string();
    let plain = serde_json::to_string(&nested).expect_err("a list is no key");
    assert_eq!(error, format!("cannot be written as JSON: {plain}"));
    assert!(encode(&nothing).is_err());
    same(&something);
}

/// Raw JSON is kept as it came, and written as it is.
#[test]
fn raw_json_is_passed_through() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Around {
        before: u8,
        raw: Box<RawValue>,
        after: Option<Box<RawValue>>,
    }
    for raw in ["1.50", r#"{"a" : [1, "\u0041}" ], "b":{}}"#, "\"\\\"\"", "null", "[ ]"] {
        let json = format!(r#"{{"before":1,"raw":{raw},"after":{raw}}}"#);
        let around: Around = decode(json.as_bytes()).expect("decodes");
        assert_eq!(around.raw.get(), raw);
        assert_eq!(encode(&around).expect("encodes"), serde_json::to_vec(&around).expect("encodes"));
    }
    for broken in ["1.", "{\"a\":}", "[1,]", "\"\\x\"", "{]", ""] {
        let json = format!(r#"{{"before":1,"raw":{broken},"after":1}}"#);
        assert!(decode::<Around>(json.as_bytes()).is_err(), "{broken}");
    }
}

/// An object inside itself, as deep as anybody likes: read or refused as serde_json does, and no stack overflow.
#[test]
fn depth_has_serde_jsons_bound() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Nest {
        inner: Option<Box<Nest>>,
        other: Option<serde_json::Value>,
    }
    for depth in [1, 59, 60, 61, 100, 126, 127, 128, 129, 100_000] {
        for (open, close) in [("{\"inner\":", "}"), ("{\"other\":[", "]}")] {
            for core in ["null", "{\"other\":[[[[]]]]}"] {
                let json = format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
                let plain = serde_json::from_str::<Nest>(&json).ok();
                assert_eq!(decode::<Nest>(json.as_bytes()).ok(), plain, "{depth}");
            }
        }
    }
}
