//! Rows as a markdown table.

use std::fmt::Write;

use crate::measure::Row;

/// The table, aligned so that it reads well in a terminal too.
pub fn markdown(rows: &[Row]) -> String {
    let header = ["what", "ns", "a second", "ratio"].map(str::to_owned);
    let cells: Vec<[String; 4]> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut out = String::new();
    for (at, [name, ns, rate, ratio]) in cells.iter().enumerate() {
        let [w0, w1, w2, w3] = widths;
        writeln!(out, "| {name:w0$} | {ns:>w1$} | {rate:>w2$} | {ratio:w3$} |").expect("a String takes everything");
        if at == 0 {
            let [d0, d1, d2, d3] = widths.map(|width| "-".repeat(width));
            writeln!(out, "|-{d0}-|-{d1}:|-{d2}:|-{d3}-|").expect("a String takes everything");
        }
    }
    out
}

fn cells(row: &Row) -> [String; 4] {
    let ratio = row.ratio_to.map_or_else(String::new, |(other, ratio)| format!("{ratio:.2} of {other}"));
    [row.name.to_owned(), format!("{:.0}", row.ns), thousands(row.per_second()), ratio]
}

/// `1234567.8` as `1,234,568`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
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
        let rows = [
            Row { name: "encode", ns: 1000.0, ratio_to: None },
            Row { name: "decode", ns: 1500.0, ratio_to: Some(("encode", 1.5)) },
        ];
        let expected = "| what   |   ns |  a second | ratio          |\n\
                        |--------|-----:|----------:|----------------|\n\
                        | encode | 1000 | 1,000,000 |                |\n\
                        | decode | 1500 |   666,667 | 1.50 of encode |\n";
        assert_eq!(markdown(&rows), expected);
    }
}
