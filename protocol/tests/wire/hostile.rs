//! Nothing that arrives can make a reader panic, whatever is accepted can be said again, and the codec and serde_json read
//! and write the same.

use std::fmt::Debug;

use proptest::prelude::*;
use protocol::codec::{decode, encode};
use protocol::rpc::{self, CancelAll, CancelledAll, EventsPage, GetEvents, Halt, List, NoParams, Page, QueryHistory};
use protocol::subject::{Filter, token, untoken};
use protocol::{
    Account, Bar, CancelRequest, Contract, Event, Exchange, GatewayState, Head, InstrumentId, Log, OmsEvent, OmsState,
    Order, OrderId, OrderRequest, Position, Quote, QuoteRequest, RpcError, Status, Subject, SubscribeRequest, Tick,
    Timestamp, Trade,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::specimens as a;

/// Reads the bytes as a `T`; what is accepted must encode, read back the same, and be printable.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let ours = decode::<T>(bytes);
    // As text, which tells -0.0 from 0.0 and two offsets of one instant apart.
    let plain = serde_json::from_slice::<T>(bytes).ok();
    assert_eq!(format!("{:?}", ours.as_ref().ok()), format!("{plain:?}"), "{}", String::from_utf8_lossy(bytes));
    match ours {
        Ok(value) => {
            let again = encode(&value).expect("what was read can be written");
            assert_eq!(again, serde_json::to_vec(&value).expect("encodes"));
            let back: T = decode(&again).unwrap_or_else(|error| panic!("{error} in {value:?}"));
            assert_eq!(back, value);
            assert!(!format!("{value:?}").is_empty());
            Some(value)
        }
        Err(error) => {
            // An error may quote what it found; it must stay fit for a log line.
            assert!(error.to_string().chars().count() < 1000, "{error}");
            None
        }
    }
}

/// Hands the bytes to every reader.
fn read_as_everything(bytes: &[u8]) {
    read::<Event<Tick>>(bytes);
    read::<Tick>(bytes);
    read::<Bar>(bytes);
    read::<Contract>(bytes);
    read::<Order>(bytes);
    read::<Trade>(bytes);
    read::<Quote>(bytes);
    read::<Position>(bytes);
    read::<Account>(bytes);
    read::<Status>(bytes);
    read::<Head>(bytes);
    read::<Log>(bytes);
    read::<GatewayState>(bytes);
    read::<RpcError>(bytes);
    read::<OrderRequest>(bytes);
    read::<QuoteRequest>(bytes);
    read::<CancelRequest>(bytes);
    read::<SubscribeRequest>(bytes);
    read::<QueryHistory>(bytes);
    read::<EventsPage>(bytes);
    read::<Page<Contract>>(bytes);
    read::<Page<Event<Tick>>>(bytes);
    read::<List>(bytes);
    read::<GetEvents>(bytes);
    read::<CancelAll>(bytes);
    read::<CancelledAll>(bytes);
    read::<Halt>(bytes);
    read::<Timestamp>(bytes);
    read::<InstrumentId>(bytes);
    read::<OrderId>(bytes);
    read::<serde_json::Value>(bytes);
    let mut state = OmsState::default();
    for event in [
        read::<OmsEvent>(bytes),
        read::<Event<Order>>(bytes).map(|event| OmsEvent::Order(event.data)),
        read::<Event<OmsEvent>>(bytes).map(|event| event.data),
    ]
    .into_iter()
    .flatten()
    {
        state.apply(&event);
        let _ = Subject::of(&event).to_string();
    }
    let _ = protocol::pages::read_page::<Order>(bytes);
    let _ = protocol::pages::read_events(bytes);
    let _ = rpc::read_params::<NoParams>(bytes);
    let _ = rpc::read_params::<OrderRequest>(bytes);
    let _ = rpc::read_error("", "503", bytes);
    read_as_text(&String::from_utf8_lossy(bytes));
}

fn read_as_text(text: &str) {
    if let Ok(subject) = text.parse::<Subject>() {
        assert_eq!(subject.to_string(), text);
    }
    if let Ok(instrument) = text.parse::<InstrumentId>() {
        assert_eq!(instrument.to_string(), text);
    }
    if let Ok(filter) = text.parse::<Filter>() {
        assert!(filter.subject(protocol::subject::Kind::Order).split('.').all(|token| !token.is_empty()));
    }
    let _ = text.parse::<Exchange>();
    let _ = OrderId::new(text).check_client_allocated();
    assert_eq!(untoken(&token(text)).as_deref(), Ok(text));
    let _ = rpc::read_error(text, text, text.as_bytes());
    let _ = rpc::Method::from_name(text);
}

fn valid() -> Vec<String> {
    let json = |value: serde_json::Result<String>| value.expect("encodes");
    vec![
        json(serde_json::to_string(&a::event(a::tick()))),
        json(serde_json::to_string(&a::tick())),
        json(serde_json::to_string(&a::bar())),
        json(serde_json::to_string(&a::option())),
        json(serde_json::to_string(&a::event(a::order()))),
        json(serde_json::to_string(&a::order())),
        json(serde_json::to_string(&a::trade())),
        json(serde_json::to_string(&a::quote())),
        json(serde_json::to_string(&a::position())),
        json(serde_json::to_string(&a::account())),
        json(serde_json::to_string(&a::status())),
        json(serde_json::to_string(&a::order_request())),
        json(serde_json::to_string(&a::quote_request())),
        json(serde_json::to_string(&a::history_request())),
        json(serde_json::to_string(&a::events_page())),
        Subject::of(&OmsEvent::Order(a::order())).to_string(),
        "SPC c1905&cs1905.DCE".to_owned(),
    ]
}

/// What stands in for a value.
const STRANGE: [&str; 36] = [
    "null",
    "1e999",
    "-1e999",
    "1e-999",
    "-0",
    "-0.0",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "0.1e1",
    "true",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[[[[]]]]",
    "\"9999-12-31T23:59:60.999999999-23:59\"",
    "\"+262142-12-31T23:59:59+00:00\"",
    "\"2018-10-12 21:00:00.1234567891+08:00\"",
    " \t\r\n7 ",
    "-",
    "7.",
    ".7",
    "-7",
    "07",
    "7.10",
    "9007199254740993",
    "9007199254740993.0",
    "900719925474099.35",
    "0.30000000000000004",
    "0.00000000000000000000001",
    "123456789012345678.25",
    "\"\\u0041\\\"\\\\\"",
    "\"\u{1}\"",
    "{\"a\":[1,{\"}\":\"]\"}]}",
    "{\"a\":[1,{\"b\":2]}",
];

/// One way to spoil a text.
#[derive(Debug, Clone)]
enum Spoil {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Drop(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    Replace(prop::sample::Index, usize),
    DuplicateKey(prop::sample::Index),
    Swap(prop::sample::Index),
    Space(prop::sample::Index),
    Unknown(prop::sample::Index, usize),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Spoil::Flip(at, byte)),
        1 => at().prop_map(Spoil::Cut),
        1 => at().prop_map(Spoil::Drop),
        1 => (at(), at()).prop_map(|(from, to)| Spoil::Repeat(from, to)),
        3 => (at(), 0..STRANGE.len()).prop_map(|(at, which)| Spoil::Replace(at, which)),
        1 => at().prop_map(Spoil::DuplicateKey),
        1 => at().prop_map(Spoil::Swap),
        1 => at().prop_map(Spoil::Space),
        1 => (at(), 0..STRANGE.len()).prop_map(|(at, which)| Spoil::Unknown(at, which)),
    ]
}

fn spoilt(bytes: &mut Vec<u8>, how: &Spoil) {
    if bytes.is_empty() {
        return;
    }
    match how {
        Spoil::Flip(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        Spoil::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Spoil::Drop(at) => drop(bytes.remove(at.index(bytes.len()))),
        Spoil::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(from..from, piece);
        }
        Spoil::Replace(at, which) => {
            // From behind a colon to the next comma or bracket: mostly a whole value.
            let colons: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b':').collect();
            if colons.is_empty() {
                return;
            }
            let start = colons[at.index(colons.len())] + 1;
            let end = (start..bytes.len()).find(|&at| b",}]".contains(&bytes[at])).unwrap_or(bytes.len());
            bytes.splice(start..end, STRANGE[*which].bytes());
        }
        Spoil::DuplicateKey(at) => {
            let Some([start, middle, _]) = two_fields(bytes, at) else { return };
            let field = bytes[start..middle].to_vec();
            bytes.splice(middle..middle, field);
        }
        Spoil::Swap(at) => {
            let Some([start, middle, end]) = two_fields(bytes, at) else { return };
            bytes[start..end].rotate_left(middle - start);
        }
        Spoil::Space(at) => {
            let tokens: Vec<usize> = (0..bytes.len()).filter(|&at| b"{}[],:".contains(&bytes[at])).collect();
            if !tokens.is_empty() {
                let at = tokens[at.index(tokens.len())];
                bytes.splice(at..at + 1, [b'\n', b' ', bytes[at], b'\t', b'\r']);
            }
        }
        Spoil::Unknown(at, which) => {
            let Some([start, ..]) = two_fields(bytes, at) else { return };
            bytes.splice(start..start, format!(",\"new\":{}", STRANGE[*which]).bytes());
        }
    }
}

/// Three commas that follow each other: mostly what is between them are two fields.
fn two_fields(bytes: &[u8], at: &prop::sample::Index) -> Option<[usize; 3]> {
    let commas: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b',').collect();
    let count = commas.len().checked_sub(2).filter(|count| *count > 0)?;
    let at = at.index(count);
    Some([commas[at], commas[at + 1], commas[at + 2]])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        read_as_text(&text);
        read_as_everything(format!("{text:?}").as_bytes());
    }

    #[test]
    fn spoilt_messages(
        which in any::<prop::sample::Index>(), spoils in prop::collection::vec(spoil(), 1..5),
    ) {
        let messages = valid();
        let mut bytes = messages[which.index(messages.len())].clone().into_bytes();
        for how in &spoils {
            spoilt(&mut bytes, how);
        }
        read_as_everything(&bytes);
    }

    #[test]
    fn times_at_the_end_of_time(
        year in prop::sample::select(vec!["-262143", "-262144", "+262142", "+262143", "0000", "9999", "+10000", "1970"]),
        month in 1..=12, day in 1..=31, hour in 0..=24, second in 0..=61, offset in -24_i32..=24,
    ) {
        let sign = if offset < 0 { '-' } else { '+' };
        let time = format!("\"{year}-{month:02}-{day:02}T{hour:02}:59:{second:02}.999999999{sign}{:02}:59\"", offset.abs());
        if let Some(time) = read::<Timestamp>(time.as_bytes()) {
            let _ = (time.to_string(), time.timestamp_millis(), time.to_rfc3339());
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    for depth in [100, 127, 128, 129, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            read_as_everything(nest.as_bytes());
            // As a field that no version knows, and inside `extra`, which keeps what it is given.
            for field in ["unknown", "extra"] {
                let tick = serde_json::to_string(&Tick::new("g", a::rubber(), a::time("2018-10-12T21:00:00Z")));
                let tick = tick.expect("encodes").replacen('{', &format!("{{\"{field}\":{{\"a\":{nest}}},"), 1);
                read_as_everything(tick.as_bytes());
            }
        }
    }
}

#[test]
fn a_field_given_twice_is_refused() {
    let order = serde_json::to_string(&a::order()).expect("encodes");
    let twice = order.replacen("\"traded\":4.0", "\"traded\":4.0,\"traded\":9.0", 1);
    let error = decode::<Order>(twice.as_bytes()).expect_err("which of them?").to_string();
    assert!(error.contains("duplicate field `traded`"), "{error}");
}

#[test]
fn a_number_beyond_floats_is_refused() {
    let order = serde_json::to_string(&a::order()).expect("encodes");
    for number in ["1e999", "-1e999"] {
        assert!(decode::<Order>(order.replacen("4.0", number, 1).as_bytes()).is_err(), "{number}");
    }
}
