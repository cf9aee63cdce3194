//! Measures cases against each other: all of them once, then all of them again, so that whatever else the machine does
//! falls on each alike. The median of the rounds counts.

use std::time::{Duration, Instant};

/// Rounds over all cases; odd, so that the median is one of them.
const ROUNDS: usize = 501;
/// How long one case runs in one round: shorter than a scheduler's slice, so that most rounds are not interrupted and
/// the median is of those, also on a busy machine.
const ROUND: Duration = Duration::from_millis(1);

/// Something to measure.
pub struct Case {
    /// What the table calls it.
    pub name: &'static str,
    /// The case that it is compared with, by name.
    pub ratio_to: Option<&'static str>,
    /// Does it so many times.
    pub run: Box<dyn FnMut(u64)>,
}

impl Case {
    /// A case that stands for itself; `once` is called again and again.
    pub fn new(name: &'static str, mut once: impl FnMut() + 'static) -> Self {
        let run = Box::new(move |times| {
            for _ in 0..times {
                once();
            }
        });
        Case { name, ratio_to: None, run }
    }

    /// The same, compared with another case.
    pub fn ratio_to(mut self, other: &'static str) -> Self {
        self.ratio_to = Some(other);
        self
    }
}

/// What a case came to.
pub struct Row {
    /// What the table calls it.
    pub name: &'static str,
    /// Median time of doing it once.
    pub ns: f64,
    /// The other row's name, and this one's median divided by the other's.
    pub ratio_to: Option<(&'static str, f64)>,
}

impl Row {
    /// How often it could be done in a second, one after the other.
    pub fn per_second(&self) -> f64 {
        1e9 / self.ns
    }
}

/// Measures all cases together.
pub fn rows(mut cases: Vec<Case>) -> Vec<Row> {
    let times: Vec<u64> = cases.iter_mut().map(calibrate).collect();
    let mut rounds = vec![vec![0.0; ROUNDS]; cases.len()];
    for round in 0..ROUNDS {
        for ((case, &times), ns) in cases.iter_mut().zip(&times).zip(&mut rounds) {
            ns[round] = nanoseconds(case, times);
        }
    }
    let index = |name: &str| cases.iter().position(|case| case.name == name).expect("it is compared with a case");
    cases
        .iter()
        .zip(&rounds)
        .map(|(case, mine)| {
            let ratio_to = case.ratio_to.map(|name| (name, median(mine) / median(&rounds[index(name)])));
            Row { name: case.name, ns: median(mine), ratio_to }
        })
        .collect()
}

/// How many times fill a round. Warms caches and branch predictors on the way.
fn calibrate(case: &mut Case) -> u64 {
    let mut times = 1;
    // The quickest of a few, since any of them may be interrupted.
    while (0..5).map(|_| nanoseconds(case, times) * times as f64).fold(f64::MAX, f64::min) < ROUND.as_nanos() as f64 {
        times *= 2;
    }
    times
}

fn nanoseconds(case: &mut Case, times: u64) -> f64 {
    let start = Instant::now();
    (case.run)(times);
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn twice_the_work_is_a_ratio_of_about_two() {
        let work = |rounds: u64| {
            move || {
                black_box((0..rounds).fold(0_u64, |sum, n| black_box(sum ^ n)));
            }
        };
        let cases = vec![Case::new("one", work(2000)), Case::new("two", work(4000)).ratio_to("one")];
        let rows = rows(cases);
        let (name, ratio) = rows[1].ratio_to.expect("compared");
        assert_eq!(name, "one");
        assert!((1.2..4.0).contains(&ratio), "{ratio}");
    }
}
