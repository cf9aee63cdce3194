//! What was measured as a markdown table.

use std::fmt::Write;

use crate::series::{Series, Spread, Unit};

/// The table, aligned so that it reads well in a terminal too.
pub fn markdown(all: &[Series]) -> String {
    let header = ["what", "median", "quartiles", "ratio"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(header).chain(all.iter().map(|one| cells(one, all))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut out = String::new();
    for (at, [name, median, quartiles, ratio]) in rows.iter().enumerate() {
        let [w0, w1, w2, w3] = widths;
        writeln!(out, "| {name:w0$} | {median:>w1$} | {quartiles:>w2$} | {ratio:w3$} |")
            .expect("a String takes everything");
        if at == 0 {
            let [d0, d1, d2, d3] = widths.map(|width| "-".repeat(width));
            writeln!(out, "|-{d0}-|-{d1}:|-{d2}:|-{d3}-|").expect("a String takes everything");
        }
    }
    out
}

fn cells(series: &Series, all: &[Series]) -> [String; 4] {
    let unit = match series.unit {
        Unit::Nanoseconds => " ns",
        Unit::Microseconds => " µs",
        Unit::PerSecond => " /s",
    };
    let Spread { low, median, high } = series.spread();
    let ratio = series.ratio(all).map_or_else(String::new, |(other, ratio)| format!("{ratio:.2} of {other}"));
    let quartiles = format!("{} – {}", thousands(low), thousands(high));
    [series.name.clone(), thousands(median) + unit, quartiles, ratio]
}

/// `1234567.8` as `1,234,568`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    if !value.is_finite() {
        return digits;
    }
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut encode = Series::new("encode", Unit::Nanoseconds);
        let mut decode = Series::new("decode", Unit::PerSecond).ratio_to("encode");
        for value in [1000.0, 900.0, 1100.0] {
            encode.push(value);
            decode.push(value * 1.5);
        }
        let expected = "| what   |   median |     quartiles | ratio          |\n\
                        |--------|---------:|--------------:|----------------|\n\
                        | encode | 1,000 ns |   900 – 1,100 |                |\n\
                        | decode | 1,500 /s | 1,350 – 1,650 | 1.50 of encode |\n";
        assert_eq!(markdown(&[encode, decode]), expected);
    }
}
