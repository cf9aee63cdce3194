//! What a measurement came to: one value per round, in its unit, and how it compares with another one.

/// What values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time of doing it once.
    Nanoseconds,
    /// The same, where it takes longer.
    Microseconds,
    /// How many in a second.
    PerSecond,
}

/// Values of one thing, round by round.
#[derive(Debug, Clone)]
pub struct Series {
    /// What the table calls it.
    pub name: String,
    /// What its values are counted in.
    pub unit: Unit,
    ratio_to: Option<String>,
    values: Vec<f64>,
}

/// The median, and the quartiles around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A quarter of the values is below.
    pub low: f64,
    /// Half of the values is below.
    pub median: f64,
    /// Three quarters of the values are below.
    pub high: f64,
}

impl Series {
    /// Without values as yet.
    pub fn new(name: impl Into<String>, unit: Unit) -> Series {
        Series { name: name.into(), unit, ratio_to: None, values: Vec::new() }
    }

    /// The same, compared with another series, by name.
    pub fn ratio_to(mut self, other: impl Into<String>) -> Series {
        self.ratio_to = Some(other.into());
        self
    }

    /// The value of the next round.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Where the values lie.
    pub fn spread(&self) -> Spread {
        spread(&self.values)
    }

    /// The other series' name, and the median of what each round's ratio to the other's same round was: the rounds
    /// alternate, so both had the same machine.
    pub fn ratio<'a>(&'a self, all: &[Series]) -> Option<(&'a str, f64)> {
        let name = self.ratio_to.as_deref()?;
        let other = all.iter().find(|series| series.name == name)?;
        let ratios: Vec<f64> = self.values.iter().zip(&other.values).map(|(mine, theirs)| mine / theirs).collect();
        Some((name, spread(&ratios).median))
    }
}

/// Where values lie; of none at all, nowhere (NaN).
pub fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = quantile(&sorted, 0.5).unwrap_or(f64::NAN);
    // Outwards, so that of three values all are shown.
    let aside = sorted.len().saturating_sub(1) / 4;
    let low = sorted.get(aside).copied().unwrap_or(f64::NAN);
    let high = sorted.iter().nth_back(aside).copied().unwrap_or(f64::NAN);
    Spread { low, median, high }
}

/// The value below which this share of the sorted values is; always one of them.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, values: &[f64]) -> Series {
        let mut series = Series::new(name, Unit::Nanoseconds);
        values.iter().for_each(|value| series.push(*value));
        series
    }

    #[test]
    fn quartiles_are_values_that_came() {
        let spread = of("a", &[5.0, 1.0, 4.0, 2.0, 3.0]).spread();
        assert_eq!(spread, Spread { low: 2.0, median: 3.0, high: 4.0 });
        let few = of("few", &[3.0, 1.0, 2.0]).spread();
        assert_eq!(few, Spread { low: 1.0, median: 2.0, high: 3.0 });
        assert!(of("none", &[]).spread().median.is_nan());
    }

    #[test]
    fn a_ratio_compares_round_with_round() {
        // The machine was three times as slow from the second round on: the medians alone would say 3.
        let a = of("a", &[1.0, 3.0, 3.0]).ratio_to("b");
        let all = [a.clone(), of("b", &[1.0, 1.0, 3.0])];
        assert_eq!(a.ratio(&all), Some(("b", 1.0)));
        assert_eq!(all[1].ratio(&all), None);
    }
}
