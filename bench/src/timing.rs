//! Calls one at a time, and several at a time.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::series::{Series, Unit, quantile};

/// Calls under way at a time, where there are several.
pub const IN_FLIGHT: [u64; 2] = [16, 256];

/// What calls one after the other took, sorted.
pub struct Took(Vec<Duration>);

impl Took {
    /// The duration below which this share of them is, in microseconds.
    pub fn microseconds(&self, share: f64) -> f64 {
        quantile(&self.0, share).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e6)
    }

    /// How many that is in a second.
    pub fn per_second(&self) -> f64 {
        self.0.len() as f64 / self.0.iter().sum::<Duration>().as_secs_f64()
    }

    /// One of each, one after the other: quantile by quantile, since both are sorted.
    pub fn and(&self, other: &Took) -> Took {
        Took(self.0.iter().zip(&other.0).map(|(mine, theirs)| *mine + *theirs).collect())
    }
}

/// So many, one after the other.
pub async fn one_at_a_time<F: Future<Output = anyhow::Result<()>>>(
    times: u64,
    once: impl Fn() -> F,
) -> anyhow::Result<Took> {
    let mut took = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        once().await?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(Took(took))
}

/// How many were done in a second, of about so many, with so many under way.
pub async fn several_at_a_time<F: Future<Output = anyhow::Result<()>>>(
    times: u64,
    in_flight: u64,
    once: impl Fn() -> F,
) -> anyhow::Result<f64> {
    let each = rounded_up(times, in_flight);
    let start = Instant::now();
    try_join_all((0..in_flight).map(|_| async {
        for _ in 0..each {
            once().await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok((each * in_flight) as f64 / start.elapsed().as_secs_f64())
}

/// How many each of those under way does.
pub fn rounded_up(times: u64, in_flight: u64) -> u64 {
    times.div_ceil(in_flight)
}

/// Rows of calls one at a time: quantiles, and how many in a second.
pub struct OneAtATime(Vec<(Option<f64>, Series)>);

impl OneAtATime {
    /// Rows for these quantiles, and for the rate if that is wanted; `bare` says what the bare side does.
    pub fn new(name: &str, bare: &str, shares: &[(f64, &str)], with_rate: bool) -> OneAtATime {
        let quantiles = shares.iter().map(|(share, text)| {
            (Some(*share), Series::new(format!("{name}, 1 in flight, {text}{bare}"), Unit::Microseconds))
        });
        let rate = with_rate.then(|| (None, Series::new(format!("{name}, 1 in flight{bare}"), Unit::PerSecond)));
        OneAtATime(quantiles.chain(rate).collect())
    }

    /// The next round.
    pub fn push(&mut self, ours: &Took, bare: &Took) {
        for (share, series) in &mut self.0 {
            match share {
                Some(share) => series.push_pair(ours.microseconds(*share), bare.microseconds(*share)),
                None => series.push_pair(ours.per_second(), bare.per_second()),
            }
        }
    }

    /// The rows.
    pub fn into_series(self) -> impl Iterator<Item = Series> {
        self.0.into_iter().map(|(_, series)| series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn as_many_are_made_as_are_counted() {
        let made = Cell::new(0_u64);
        let count = || async {
            made.set(made.get() + 1);
            anyhow::Ok(())
        };
        one_at_a_time(7, count).await.expect("done");
        assert_eq!(made.take(), 7);
        several_at_a_time(100, 16, count).await.expect("done");
        assert_eq!(made.get(), 16 * rounded_up(100, 16));
        assert!(one_at_a_time(1, || async { anyhow::bail!("no") }).await.is_err());
    }

    #[test]
    fn sums_go_quantile_by_quantile() {
        let of = |ms: &[u64]| Took(ms.iter().map(|ms| Duration::from_millis(*ms)).collect());
        let both = of(&[1, 2, 3]).and(&of(&[10, 20, 30]));
        assert_eq!((both.microseconds(0.5), both.microseconds(1.0)), (22_000.0, 33_000.0));
        assert_eq!(of(&[10, 30]).per_second(), 50.0);
    }
}
