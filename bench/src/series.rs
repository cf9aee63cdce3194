//! What a measurement came to: one value per round, in its unit, and how it compares with another one.

/// What values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time of doing it once.
    Nanoseconds,
    /// The same, where it takes longer.
    Microseconds,
    /// The same, where it takes longer still.
    Milliseconds,
    /// How many in a second.
    PerSecond,
    /// Memory, in units of 1,048,576 bytes.
    Mebibytes,
    /// A share of one processor core.
    PercentOfCore,
}

/// Values of one thing, round by round: a row of the table.
#[derive(Debug, Clone)]
pub struct Series {
    /// What the table calls it.
    pub name: String,
    /// What its values are counted in.
    pub unit: Unit,
    ratio_to: Option<String>,
    values: Vec<f64>,
    bare: Vec<f64>,
    vnpy: Vec<f64>,
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
        let (values, bare, vnpy) = (Vec::new(), Vec::new(), Vec::new());
        Series { name: name.into(), unit, ratio_to: None, values, bare, vnpy }
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

    /// The values of the next round, ours and bare NATS's.
    pub fn push_pair(&mut self, ours: f64, bare: f64) {
        self.values.push(ours);
        self.bare.push(bare);
    }

    /// VeighNa's value of a round of its own.
    pub fn push_vnpy(&mut self, value: f64) {
        self.vnpy.push(value);
    }

    /// Where our values lie.
    pub fn ours(&self) -> Option<Spread> {
        spread(&self.values)
    }

    /// Where bare NATS's values lie.
    pub fn bare(&self) -> Option<Spread> {
        spread(&self.bare)
    }

    /// Where VeighNa's values lie.
    pub fn vnpy(&self) -> Option<Spread> {
        spread(&self.vnpy)
    }

    /// Where each round's own ratio lies, to bare NATS in the same round, or to another series, which is named then: the
    /// rounds alternate, so both had the same machine.
    pub fn ratio<'a>(&'a self, all: &[Series]) -> Option<(Option<&'a str>, Spread)> {
        let (name, others) = match self.ratio_to.as_deref() {
            None => (None, &self.bare),
            Some(name) => (Some(name), &all.iter().find(|series| series.name == name)?.values),
        };
        let ratios: Vec<f64> = self.values.iter().zip(others).map(|(mine, theirs)| mine / theirs).collect();
        Some((name, spread(&ratios)?))
    }

    /// Our median to VeighNa's, which was measured apart from ours, in the same minutes.
    pub fn ratio_to_vnpy(&self) -> Option<f64> {
        Some(self.ours()?.median / self.vnpy()?.median)
    }
}

/// Brings what was measured of VeighNa into the rows of the same name; what has none stays a row of its own.
pub fn merge_vnpy(all: &mut Vec<Series>, vnpy: Vec<Series>) {
    for series in vnpy {
        match all.iter_mut().find(|ours| ours.name == series.name) {
            Some(ours) => ours.vnpy = series.vnpy,
            None => all.push(series),
        }
    }
}

/// Where values lie; of none at all, nowhere.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = quantile(&sorted, 0.5)?;
    // Outwards, so that of three values all are shown.
    let aside = sorted.len().saturating_sub(1) / 4;
    Some(Spread { low: *sorted.get(aside)?, median, high: *sorted.iter().nth_back(aside)? })
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
        let spread = of("a", &[5.0, 1.0, 4.0, 2.0, 3.0]).ours();
        assert_eq!(spread, Some(Spread { low: 2.0, median: 3.0, high: 4.0 }));
        let few = of("few", &[3.0, 1.0, 2.0]).ours();
        assert_eq!(few, Some(Spread { low: 1.0, median: 2.0, high: 3.0 }));
        assert_eq!(of("none", &[]).ours(), None);
    }

    #[test]
    fn a_ratio_compares_round_with_round() {
        // The machine was three times as slow from the second round on: the medians alone would say 3.
        let a = of("a", &[1.0, 3.0, 3.0]).ratio_to("b");
        let all = [a.clone(), of("b", &[1.0, 1.0, 3.0])];
        assert_eq!(a.ratio(&all), Some((Some("b"), Spread { low: 1.0, median: 1.0, high: 3.0 })));
        assert_eq!(all[1].ratio(&all), None);
        let mut paired = Series::new("paired", Unit::PerSecond);
        [(1.0, 2.0), (3.0, 6.0), (30.0, 60.0)].into_iter().for_each(|(ours, bare)| paired.push_pair(ours, bare));
        assert_eq!(paired.ratio(&[]), Some((None, Spread { low: 0.5, median: 0.5, high: 0.5 })));
        assert_eq!(paired.bare().map(|bare| bare.median), Some(6.0));
    }

    #[test]
    fn vnpy_comes_into_the_row_of_the_same_name() {
        let mut all = vec![of("a", &[8.0]), of("b", &[1.0])];
        let of_vnpy = |name, value| {
            let mut series = Series::new(name, Unit::Nanoseconds);
            series.push_vnpy(value);
            series
        };
        merge_vnpy(&mut all, vec![of_vnpy("a", 2.0), of_vnpy("c", 5.0)]);
        let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(all.iter().map(Series::ratio_to_vnpy).collect::<Vec<_>>(), [Some(4.0), None, None]);
    }
}
