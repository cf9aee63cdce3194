//! What was measured as a markdown table.

use std::fmt::Write;

use crate::series::{Series, Spread, Unit};

const HEADER: [&str; 6] = ["what", "Gatemesh", "bare NATS", "ratio", "vnpy 4.5.0", "ratio"];

/// The table, aligned so that it reads well in a terminal too. Without VeighNa's columns if nothing of it was measured.
pub fn markdown(all: &[Series]) -> String {
    let has_vnpy = all.iter().any(|series| series.vnpy().is_some());
    let columns = if has_vnpy { HEADER.len() } else { HEADER.len() - 2 };
    let head = HEADER.map(str::to_owned);
    let rows = std::iter::once(head).chain(all.iter().map(|one| cells(one, all)));
    let rows: Vec<Vec<String>> = rows.map(|row| row.into_iter().take(columns).collect()).collect();
    aligned(&rows)
}

/// Rows of as many cells each, the first one the head, as a table whose first column is text.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let written = if column == 0 { write!(out, "| {cell:width$} ") } else { write!(out, "| {cell:>width$} ") };
            written.expect("a String takes everything");
        }
        out.push_str("|\n");
        if at == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { "-" } else { ":" };
                write!(out, "|-{}{end}", "-".repeat(*width)).expect("a String takes everything");
            }
            out.push_str("|\n");
        }
    }
    out
}

fn cells(series: &Series, all: &[Series]) -> [String; 6] {
    let measured = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| value(spread, series.unit));
    let ratio = series.ratio(all).map_or_else(String::new, |(other, Spread { low, median, high })| match other {
        Some(other) => format!("{median:.2} of {other}"),
        None => format!("{median:.2} ({low:.2} – {high:.2})"),
    });
    let vnpy_ratio = series.ratio_to_vnpy().map_or_else(String::new, short);
    [series.name.clone(), measured(series.ours()), measured(series.bare()), ratio, measured(series.vnpy()), vnpy_ratio]
}

/// The median and the quartiles around it, in their unit.
fn value(Spread { low, median, high }: Spread, unit: Unit) -> String {
    let unit = match unit {
        Unit::Nanoseconds => "ns",
        Unit::Microseconds => "µs",
        Unit::Milliseconds => "ms",
        Unit::PerSecond => "/s",
        Unit::Mebibytes => "MiB",
        Unit::PercentOfCore => "% of a core",
    };
    format!("{} {unit} ({} – {})", short(median), short(low), short(high))
}

/// Three digits of small numbers, whole large ones: `0.25`, `12.3`, `1,234,568`.
pub fn short(value: f64) -> String {
    match value.abs() {
        small if small < 9.995 => format!("{value:.2}"),
        medium if medium < 99.95 => format!("{value:.1}"),
        _ => thousands(value),
    }
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

    fn rows() -> [Series; 3] {
        let mut encode = Series::new("encode", Unit::Nanoseconds);
        let mut decode = Series::new("decode", Unit::Nanoseconds).ratio_to("encode");
        let mut ticks = Series::new("ticks", Unit::PerSecond);
        for value in [1000.0, 900.0, 1100.0] {
            encode.push(value);
            decode.push(value * 1.5);
            ticks.push_pair(value, value * 2.0);
        }
        [encode, decode, ticks]
    }

    #[test]
    fn a_table_is_markdown() {
        let expected = "\
| what   |                 Gatemesh |                bare NATS |              ratio |
|--------|-------------------------:|-------------------------:|-------------------:|
| encode |   1,000 ns (900 – 1,100) |                          |                    |
| decode | 1,500 ns (1,350 – 1,650) |                          |     1.50 of encode |
| ticks  |   1,000 /s (900 – 1,100) | 2,000 /s (1,800 – 2,200) | 0.50 (0.50 – 0.50) |
";
        assert_eq!(markdown(&rows()), expected);
    }

    #[test]
    fn vnpy_has_columns_once_it_was_measured() {
        let mut rows = rows();
        rows[2].push_vnpy(40.0);
        let table = markdown(&rows);
        let last = table.lines().last().expect("a row");
        assert!(last.ends_with("| 0.50 (0.50 – 0.50) | 40.0 /s (40.0 – 40.0) |  25.0 |"), "{last}");
        assert!(table.lines().all(|line| line.matches('|').count() == 7), "{table}");
    }

    #[test]
    fn numbers_are_as_long_as_they_need() {
        let written = [0.2511, 9.999, 12.34, 99.96, 1_234_567.8, f64::NAN].map(short);
        assert_eq!(written, ["0.25", "10.0", "12.3", "100", "1,234,568", "NaN"]);
    }
}
