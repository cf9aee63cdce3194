//! Measures cases against each other: all of them once, then all of them again, so that whatever else the machine does
//! falls on each alike. The median of the rounds counts.

use std::time::{Duration, Instant};

use crate::series::{Series, Unit};

/// How long one case runs in one round: shorter than a scheduler's slice, so that most rounds are not interrupted and
/// the median is of those, also on a busy machine.
const ROUND: Duration = Duration::from_millis(1);
/// How many inputs a case prepares at a time: few enough to stay in the processor's cache.
const BATCH: u64 = 64;

/// Something to measure.
pub struct Case {
    /// What the table calls it.
    pub name: &'static str,
    /// The case that it is compared with, by name.
    pub ratio_to: Option<&'static str>,
    /// Does it so many times, and says how long that took.
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl Case {
    /// A case that stands for itself; `once` is called again and again.
    pub fn new(name: &'static str, mut once: impl FnMut() + 'static) -> Self {
        let run = Box::new(move |times| {
            let start = Instant::now();
            for _ in 0..times {
                once();
            }
            start.elapsed()
        });
        Case { name, ratio_to: None, run }
    }

    /// A case whose inputs are used up: `prepare` makes one from the subject and is not counted, `once` takes it.
    pub fn with_inputs<S: 'static, I: 'static>(
        name: &'static str,
        mut subject: S,
        mut prepare: impl FnMut(&mut S) -> I + 'static,
        mut once: impl FnMut(&mut S, I) + 'static,
    ) -> Self {
        let run = Box::new(move |times: u64| {
            let mut took = Duration::ZERO;
            let mut left = times;
            while left > 0 {
                let inputs: Vec<I> = (0..left.min(BATCH)).map(|_| prepare(&mut subject)).collect();
                left -= inputs.len() as u64;
                let start = Instant::now();
                for input in inputs {
                    once(&mut subject, input);
                }
                took += start.elapsed();
            }
            took
        });
        Case { name, ratio_to: None, run }
    }

    /// The same, compared with another case.
    pub fn ratio_to(mut self, other: &'static str) -> Self {
        self.ratio_to = Some(other);
        self
    }
}

/// Measures all cases together, in so many rounds.
pub fn series(mut cases: Vec<Case>, rounds: usize) -> Vec<Series> {
    let times: Vec<u64> = cases.iter_mut().map(calibrate).collect();
    let mut all: Vec<Series> = cases
        .iter()
        .map(|case| {
            let series = Series::new(case.name, Unit::Nanoseconds);
            match case.ratio_to {
                Some(other) => series.ratio_to(other),
                None => series,
            }
        })
        .collect();
    for _ in 0..rounds {
        for ((case, &times), series) in cases.iter_mut().zip(&times).zip(&mut all) {
            series.push(nanoseconds(case, times));
        }
    }
    all
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
    (case.run)(times).as_secs_f64() * 1e9 / times as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn each_input_is_prepared_and_used_once() {
        let counts = Rc::new([Cell::new(0_u64), Cell::new(0)]);
        let count = |at: usize| {
            let counts = counts.clone();
            move || counts[at].set(counts[at].get() + 1)
        };
        let (prepared, used) = (count(0), count(1));
        let case = Case::with_inputs("used up", (), move |()| prepared(), move |(), ()| used());
        let mut case = case.ratio_to("other");
        assert!(nanoseconds(&mut case, 3 * BATCH + 1) >= 0.0);
        assert_eq!([counts[0].get(), counts[1].get()], [3 * BATCH + 1; 2]);
    }

    #[test]
    fn every_case_has_a_value_of_every_round() {
        // Something that no compiler leaves out.
        let work = || {
            std::hint::black_box((0..100_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n)));
        };
        let cases = vec![Case::new("one", work), Case::new("two", work).ratio_to("one")];
        let all = series(cases, 3);
        assert!(all.iter().all(|series| series.ours().is_some()));
        assert_eq!(all[1].ratio(&all).and_then(|(name, _)| name), Some("one"));
    }
}
