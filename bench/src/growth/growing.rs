//! Rows of a table of growth: how a cost goes from size to size.

use crate::series::spread;
use crate::table::{aligned, short};

/// One row: a column for each size, and in it a value for each round.
#[derive(Debug, Clone)]
pub struct Growing {
    name: String,
    unit: &'static str,
    columns: Vec<Vec<f64>>,
}

impl Growing {
    /// Without values as yet.
    pub fn new(name: impl Into<String>, unit: &'static str, columns: usize) -> Growing {
        Growing { name: name.into(), unit, columns: vec![Vec::new(); columns] }
    }

    /// The next round's value of a column.
    pub fn push(&mut self, column: usize, value: f64) {
        if let Some(values) = self.columns.get_mut(column) {
            values.push(value);
        }
    }

    /// The same of each delivery: each column has so many receivers of each tick.
    pub fn per_delivery(&self, receivers: &[usize]) -> Growing {
        let divided = |(values, receivers): (&Vec<f64>, &usize)| values.iter().map(|v| v / *receivers as f64).collect();
        Growing {
            name: self.name.replace("per tick", "per delivery"),
            unit: self.unit,
            columns: self.columns.iter().zip(receivers).map(divided).collect(),
        }
    }

    /// A rate to each of so many receivers as that of all deliveries.
    pub fn together(&self, receivers: &[usize]) -> Growing {
        let times = |(values, receivers): (&Vec<f64>, &usize)| values.iter().map(|v| v * *receivers as f64).collect();
        Growing {
            name: format!("{}, all deliveries", self.name),
            unit: self.unit,
            columns: self.columns.iter().zip(receivers).map(times).collect(),
        }
    }

    /// The median of a column, and that of its rounds' ratios to the first column.
    fn at(&self, column: usize) -> Option<(f64, f64)> {
        let (values, first) = (self.columns.get(column)?, self.columns.first()?);
        let ratios: Vec<f64> = values.iter().zip(first).map(|(value, first)| value / first).collect();
        Some((spread(values)?.median, spread(&ratios)?.median))
    }

    fn cells(&self, sizes: &[usize]) -> Vec<String> {
        let mut cells = vec![self.name.clone()];
        for column in 0..sizes.len() {
            cells.push(match self.at(column) {
                None => String::new(),
                Some((median, _)) if column == 0 => format!("{} {}", short(median), self.unit),
                Some((median, ratio)) => format!("{} {} (× {})", short(median), self.unit, short(ratio)),
            });
        }
        let last = self.at(sizes.len().saturating_sub(1));
        let factor = last.zip(sizes.first().zip(sizes.last()));
        cells.push(factor.map_or_else(String::new, |((_, ratio), (first, last))| {
            format!("× {:.3}", per_doubling(ratio, *first as f64, *last as f64))
        }));
        cells
    }
}

/// The rows as a table, under a head with the sizes.
pub fn markdown(sizes: &[usize], rows: &[Growing]) -> String {
    let sizes_head = sizes.iter().map(|size| short(*size as f64).replace(".00", "").replace(".0", ""));
    let head: Vec<String> =
        ["what".to_owned()].into_iter().chain(sizes_head).chain(["per doubling".to_owned()]).collect();
    let rows: Vec<Vec<String>> = [head].into_iter().chain(rows.iter().map(|row| row.cells(sizes))).collect();
    aligned(&rows)
}

/// The factor of each doubling that together make this one.
fn per_doubling(factor: f64, first: f64, last: f64) -> f64 {
    factor.powf(1.0 / (last / first).log2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Growing {
        let mut row = Growing::new("CPU per tick, clients", "µs", 3);
        // The machine was twice as slow in the second round.
        for (column, values) in [[10.0, 20.0], [40.0, 80.0], [160.0, 320.0]].into_iter().enumerate() {
            values.into_iter().for_each(|value| row.push(column, value));
        }
        row
    }

    #[test]
    fn growth_is_a_ratio_to_the_first_and_a_factor_of_each_doubling() {
        assert_eq!(row().at(2).map(|(_, ratio)| ratio), Some(16.0));
        let cells = row().cells(&[1, 4, 16]);
        assert!(cells[2].ends_with("µs (× 4.00)"), "{cells:?}");
        assert_eq!(cells[4], "× 2.000", "sixteen times in four doublings");
        assert_eq!(per_doubling(1.0, 10.0, 20_000.0), 1.0);
    }

    #[test]
    fn a_cost_of_each_delivery_may_stay_while_that_of_a_tick_grows() {
        let cells = row().per_delivery(&[1, 4, 16]).cells(&[1, 4, 16]);
        assert_eq!((cells[0].as_str(), cells[4].as_str()), ("CPU per delivery, clients", "× 1.000"));
        // Back again.
        let each = row().per_delivery(&[1, 4, 16]).together(&[1, 4, 16]);
        assert_eq!(each.cells(&[1, 4, 16])[1..], row().cells(&[1, 4, 16])[1..]);
    }

    #[test]
    fn the_table_has_a_column_for_each_size() {
        let table = markdown(&[1, 4, 20_000], &[row(), Growing::new("nothing measured", "µs", 3)]);
        assert!(
            table.lines().next().is_some_and(|head| head.contains(" 1 |") && head.contains(" 20,000 |")),
            "{table}"
        );
        assert!(table.lines().all(|line| line.matches('|').count() == 6), "{table}");
    }
}
