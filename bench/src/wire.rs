//! What encoding and decoding a tick costs, and where it goes.

use std::hint::black_box;

use bytes::BytesMut;
use protocol::codec::{decode, encode, encode_into};
use protocol::{Event, Tick};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::flat::FlatTick;
use crate::measure::Case;
use crate::recorded::{decimal_tick_event, order_event, tick_event, walk};

const ENCODE: &str = "encode tick";
const DECODE: &str = "decode tick";
const NETWORK_BUFFER: usize = 256 * 1024;

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "A tick is a recorded one of five levels in its envelope (31 floats, 3 instants, 2 dates); buffers are reused.",
    "`flat, serde_json`: the same numbers and texts as one flat struct of plain types, by serde_json alone.",
    "`a walk`: 512 different ticks in turn, which no processor learns by heart.",
    "`its floats` are the same 31 numbers as one JSON array: their share of the whole.",
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let whole = tick_event();
    let decimal = decimal_tick_event();
    let order = order_event();
    let times = [whole.time, whole.data.datetime, whole.time];
    let mut cases = Vec::new();
    for (names, ticks) in [
        ([ENCODE, "encode tick, flat, serde_json", DECODE, "decode tick, flat, serde_json"], vec![whole.clone()]),
        (
            [
                "encode tick, decimal prices",
                "encode tick, decimal prices, flat, serde_json",
                "decode tick, decimal prices",
                "decode tick, decimal prices, flat, serde_json",
            ],
            vec![decimal],
        ),
        (
            [
                "encode a walk of ticks",
                "encode a walk of ticks, flat, serde_json",
                "decode a walk of ticks",
                "decode a walk of ticks, flat, serde_json",
            ],
            walk(512),
        ),
    ] {
        let [encode, encode_flat, decode, decode_flat] = names;
        let flat: Vec<FlatTick> = ticks.iter().map(FlatTick::of).collect();
        cases.push(encoding(encode, ticks.clone()).ratio_to(encode_flat));
        cases.push(plain_encoding(encode_flat, flat.clone()));
        cases.push(decoding(decode, &ticks).ratio_to(decode_flat));
        cases.push(plain_decoding(decode_flat, &flat));
    }
    cases.extend([
        encoding("encode order", vec![order.clone()]).ratio_to("encode order, serde_json"),
        plain_encoding("encode order, serde_json", vec![order.clone()]),
        decoding("decode order", std::slice::from_ref(&order)).ratio_to("decode order, serde_json"),
        plain_decoding("decode order, serde_json", &[order]),
        publishing("encode tick, as the publisher does", whole.clone()).ratio_to(ENCODE),
        encoding("encode its floats", vec![floats(&whole)]).ratio_to(ENCODE),
        decoding("decode its floats", &[floats(&whole)]).ratio_to(DECODE),
        encoding("encode its instants, by chrono", vec![times]).ratio_to(ENCODE),
        decoding("decode its instants, by chrono", &[times]).ratio_to(DECODE),
    ]);
    cases
}

fn floats(event: &Event<Tick>) -> Vec<f64> {
    let tick = &event.data;
    let levels = tick.bids.iter().chain(&tick.asks).flat_map(|level| [level.0, level.1]);
    let fields = [
        tick.volume,
        tick.turnover,
        tick.open_interest,
        tick.last_price,
        tick.limit_up,
        tick.limit_down,
        tick.open_price,
        tick.high_price,
        tick.low_price,
        tick.pre_close,
        tick.pre_settlement,
    ];
    levels.chain(fields.into_iter().flatten()).collect()
}

/// One of the values after the other, time and again.
fn in_turn<T: 'static>(name: &'static str, values: Vec<T>, mut use_one: impl FnMut(&T) + 'static) -> Case {
    let mut next = 0;
    Case::new(name, move || {
        use_one(black_box(&values[next]));
        next += 1;
        if next == values.len() {
            next = 0;
        }
    })
}

fn encoding<T: Serialize + 'static>(name: &'static str, values: Vec<T>) -> Case {
    let mut buffer = Vec::with_capacity(4096);
    in_turn(name, values, move |value| {
        buffer.clear();
        encode_into(&mut buffer, value).expect("encodes");
        black_box(&buffer);
    })
}

fn plain_encoding<T: Serialize + 'static>(name: &'static str, values: Vec<T>) -> Case {
    let mut buffer = Vec::with_capacity(4096);
    in_turn(name, values, move |value| {
        buffer.clear();
        serde_json::to_writer(&mut buffer, value).expect("encodes");
        black_box(&buffer);
    })
}

/// By way of a reused buffer into one that NATS takes without a copy; a new one is taken when it is used up.
fn publishing<T: Serialize + 'static>(name: &'static str, value: T) -> Case {
    let mut buffer = BytesMut::with_capacity(NETWORK_BUFFER);
    let mut scratch = Vec::with_capacity(4096);
    Case::new(name, move || {
        if buffer.capacity() < 4096 {
            buffer = BytesMut::with_capacity(NETWORK_BUFFER);
        }
        scratch.clear();
        encode_into(&mut scratch, black_box(&value)).expect("encodes");
        buffer.extend_from_slice(&scratch);
        black_box(buffer.split().freeze());
    })
}

fn decoding<T: Serialize + DeserializeOwned + 'static>(name: &'static str, values: &[T]) -> Case {
    let messages = values.iter().map(|value| encode(value).expect("encodes")).collect();
    in_turn(name, messages, |bytes: &Vec<u8>| {
        black_box(decode::<T>(bytes).expect("decodes"));
    })
}

fn plain_decoding<T: Serialize + DeserializeOwned + 'static>(name: &'static str, values: &[T]) -> Case {
    let messages = values.iter().map(|value| serde_json::to_vec(value).expect("encodes")).collect();
    in_turn(name, messages, |bytes: &Vec<u8>| {
        black_box(serde_json::from_slice::<T>(bytes).expect("decodes"));
    })
}
