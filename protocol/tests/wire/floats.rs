//! A price comes out bit for bit as it went in: over millions of values, and over every number of the recorded ticks.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use protocol::codec::{decode, encode_into};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Writes the float, reads it back, and compares bits; `buffer` is only reused. The text must be serde_json's own, the
/// shortest that reads back, also where the codec has a shorter way to it.
fn round_trips(buffer: &mut Vec<u8>, value: f64) {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, &value).expect("finite");
    let plain = buffer.len();
    encode_into(buffer, &value).expect("finite");
    assert_eq!(buffer[..plain], buffer[plain..], "{value:e}");
    buffer.truncate(plain);
    let back: f64 = decode(buffer).expect("reads back");
    assert_eq!(back.to_bits(), value.to_bits(), "{value:e} written as {}", String::from_utf8_lossy(buffer));
    // The text is the standard library's number too, so that other languages' readers agree.
    let text = std::str::from_utf8(buffer).expect("ASCII");
    assert_eq!(text.parse::<f64>().expect("a number").to_bits(), value.to_bits(), "{text}");
}

#[test]
fn millions_of_floats_come_back_bit_for_bit() {
    let mut random = ChaCha8Rng::seed_from_u64(20_181_012);
    let mut buffer = Vec::new();
    for _ in 0..1_000_000 {
        let any = f64::from_bits(random.random());
        if any.is_finite() {
            round_trips(&mut buffer, any);
        }
        // What prices and sums look like: whole ticks, with the noise of binary fractions, and their neighbours.
        let steps = f64::from(random.random_range(-1_000_000_i32..10_000_000));
        let tick = [0.0001, 0.002, 0.005, 0.01, 0.05, 0.2, 0.5, 1.0, 5.0][random.random_range(0..9)];
        for price in [steps * tick, steps / (1.0 / tick), (steps * tick).next_up(), (steps * tick).next_down()] {
            round_trips(&mut buffer, price);
        }
    }
}

/// Every binary exponent, with the mantissas at its edges; powers of ten and their neighbours.
#[test]
fn the_edges_of_floats_come_back_bit_for_bit() {
    let mut buffer = Vec::new();
    for exponent in 0..2047_u64 {
        for mantissa in [0, 1, 2, (1 << 51) - 1, 1 << 51, (1 << 52) - 2, (1 << 52) - 1] {
            for sign in [0, 1 << 63] {
                round_trips(&mut buffer, f64::from_bits(sign | exponent << 52 | mantissa));
            }
        }
    }
    for exponent in -323..=308 {
        let power: f64 = format!("1e{exponent}").parse().expect("a number");
        for value in [power, power.next_up(), power.next_down(), -power] {
            round_trips(&mut buffer, value);
        }
    }
    // Where the short way begins and ends: whole numbers of 2^53 and more, four decimals and five.
    for value in
        [0.0_f64, -0.0, 0.0001, 0.00005, 0.00015, 0.12345, 9.99995, 99_999_999_999.999_9, 1e11 - 1.0, 1e11, 9e15]
    {
        for value in [value, -value, value.next_up(), value.next_down()] {
            round_trips(&mut buffer, value);
        }
    }
}

/// Texts longer than any writer would make, as another language may send them: the nearest float, as IEEE 754 says.
#[test]
fn long_texts_are_read_to_the_nearest_float() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..200_000 {
        let digits: String =
            (0..random.random_range(1..30)).map(|_| char::from(random.random_range(b'0'..=b'9'))).collect();
        let text = format!("{}.{digits}e{}", random.random_range(0..100_000_u32), random.random_range(-330..300));
        let expected: f64 = text.parse().expect("a number");
        assert_eq!(decode::<f64>(text.as_bytes()).expect("reads").to_bits(), expected.to_bits(), "{text}");
    }
    // Halfway between two floats, and the float that an inexact parser gets wrong.
    for text in ["9007199254740993.0", "2.2250738585072011e-308", "1.7976931348623158e308", "5806.400000000001"] {
        let expected: f64 = text.parse().expect("a number");
        assert_eq!(decode::<f64>(text.as_bytes()).expect("reads").to_bits(), expected.to_bits(), "{text}");
    }
}

/// `GATEMESH_DATA`, or `../shared/data` beside the workspace.
fn recorded_ticks() -> Option<PathBuf> {
    let root = std::env::var_os("GATEMESH_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let ticks = root.join("ticks");
    ticks.is_dir().then_some(ticks)
}

#[test]
fn every_recorded_number_comes_back_bit_for_bit() {
    let Some(directory) = recorded_ticks() else {
        // Not by print: what passes is not heard.
        let _ = writeln!(
            std::io::stdout(),
            "skipped: no recorded ticks; set GATEMESH_DATA to the directory that holds ticks/"
        );
        return;
    };
    let mut seen: HashSet<Box<str>> = HashSet::new();
    let mut buffer = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the directory is read") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(&path).expect("the file opens"));
        for line in BufReader::new(file).lines().skip(1) {
            // The columns behind symbol and exchange are numbers, or empty.
            for cell in line.expect("UTF-8").split(',').skip(3).filter(|cell| !cell.is_empty()) {
                if seen.contains(cell) {
                    continue;
                }
                let value: f64 = cell.parse().unwrap_or_else(|_| panic!("{}: `{cell}`", path.display()));
                assert_eq!(decode::<f64>(cell.as_bytes()).expect("reads").to_bits(), value.to_bits(), "{cell}");
                round_trips(&mut buffer, value);
                seen.insert(cell.into());
            }
        }
    }
    println!("{} distinct numbers", seen.len());
    assert!(seen.len() > 1000, "the recorded ticks hold more numbers than that");
}
