//! What encoding and decoding a tick costs, and where it goes.

use std::hint::black_box;

use bytes::BytesMut;
use protocol::codec::{decode, encode, encode_into};
use protocol::{Event, Tick};

use crate::measure::Case;
use crate::recorded::{decimal_tick_event, tick_event};

const ENCODE: &str = "encode tick";
const NETWORK_BUFFER: usize = 256 * 1024;
const DECODE: &str = "decode tick";

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "A tick is a recorded one of five levels in its envelope (31 floats, 3 instants, 2 dates); buffers are reused.",
    "`its floats` are the same 31 numbers as one JSON array: their share of the whole.",
    "`plain serde_json` writes the same bytes with serde_json's own float writer; the difference is what that one costs.",
    "`by chrono`: what the instants would cost without the protocol's own writer, which the tick above uses.",
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let floats = |event: &Event<Tick>| -> Vec<f64> {
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
    };
    let whole = tick_event();
    let decimal = decimal_tick_event();
    let times = [whole.time, whole.data.datetime, whole.time];
    vec![
        encoding(ENCODE, whole.clone()),
        plain("encode tick, plain serde_json", whole.clone()).ratio_to(ENCODE),
        publishing("encode tick, as the publisher does", whole.clone()).ratio_to(ENCODE),
        encoding("encode tick, decimal prices", decimal.clone()).ratio_to(ENCODE),
        plain("encode tick, decimal prices, plain serde_json", decimal.clone()).ratio_to("encode tick, decimal prices"),
        encoding("encode its floats", floats(&whole)).ratio_to(ENCODE),
        encoding("encode its instants, by chrono", times).ratio_to(ENCODE),
        decoding::<Event<Tick>>(DECODE, &whole).ratio_to(ENCODE),
        decoding::<Event<Tick>>("decode tick, decimal prices", &decimal).ratio_to(DECODE),
        decoding::<Vec<f64>>("decode its floats", &floats(&whole)).ratio_to(DECODE),
        decoding::<[protocol::Timestamp; 3]>("decode its instants", &times).ratio_to(DECODE),
    ]
}

fn encoding<T: serde::Serialize + 'static>(name: &'static str, value: T) -> Case {
    let mut buffer = Vec::with_capacity(4096);
    Case::new(name, move || {
        buffer.clear();
        encode_into(&mut buffer, black_box(&value)).expect("encodes");
        black_box(&buffer);
    })
}

/// By way of a reused buffer into one that NATS takes without a copy; a new one is taken when it is used up.
fn publishing<T: serde::Serialize + 'static>(name: &'static str, value: T) -> Case {
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

fn plain<T: serde::Serialize + 'static>(name: &'static str, value: T) -> Case {
    let mut buffer = Vec::with_capacity(4096);
    Case::new(name, move || {
        buffer.clear();
        serde_json::to_writer(&mut buffer, black_box(&value)).expect("encodes");
        black_box(&buffer);
    })
}

fn decoding<T: serde::Serialize + serde::de::DeserializeOwned + 'static>(name: &'static str, value: &T) -> Case {
    let bytes = encode(value).expect("encodes");
    Case::new(name, move || {
        black_box(decode::<T>(black_box(&bytes)).expect("decodes"));
    })
}
