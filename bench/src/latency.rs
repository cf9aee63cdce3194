//! A tick's way from the venue's thread to the subscriber's hand at a rate, against the same bytes on bare NATS; and what
//! it costs the processes on the way.

use anyhow::{Context as _, ensure};

use crate::feed::{Feed, Side};
use crate::plan::Plan;
use crate::series::{Series, Unit};
use crate::site::Site;
use crate::subscriber::Latency;
use crate::subscribers::{Shape, Subscribers};
use crate::usage::Meter;

/// Ticks a second: not a tick may be lost up to the second of these.
const RATES: [(f64, &str); 3] = [(1_000.0, "1,000"), (ORDINARY, "10,000"), (100_000.0, "100,000")];
/// Where processor time is measured, and VeighNa's latencies.
pub const ORDINARY: f64 = 10_000.0;
const QUANTILES: [&str; 3] = ["p50", "p99", "p99.9"];
const PROCESSES: [&str; 3] = ["node (bare: publisher)", "nats-server", "client (bare: subscriber)"];

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Latencies are one way, from pushing the tick in the venue's thread (from publishing, on the bare side) to having it \
     in hand in another process; ticks of sixteen instruments. A rate above what the processors can do shows as latency: \
     nobody slows the sender down. CPU per tick is that of the same runs: processor time of the whole process, its \
     pacing thread included, by ticks.",
];

/// The rows of a rate, as they are called.
pub fn row_names(rate: f64) -> [String; 3] {
    let text =
        RATES.iter().find(|(known, _)| *known == rate).map_or_else(|| rate.to_string(), |(_, t)| (*t).to_owned());
    QUANTILES.map(|quantile| format!("tick latency at {text}/s, {quantile}"))
}

/// A latency's quantiles in microseconds, in the order of the rows.
pub fn microseconds(latency: Latency) -> [f64; 3] {
    [latency.p50, latency.p99, latency.p999].map(|ns| ns as f64 / 1e3)
}

/// Latencies and processor time, node and bare in turn, with notes on what was lost. Blocks.
///
/// # Errors
/// If a process fails, or a tick is lost at a rate that everybody must manage.
pub fn series(site: &mut Site, plan: &Plan) -> anyhow::Result<(Vec<Series>, Vec<String>)> {
    let url = site.server.url().to_owned();
    let mut sides = [Side::Node, Side::Bare]
        .map(|side| Ok::<_, anyhow::Error>((side, Subscribers::start(&url, side, Shape::ONE)?)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for (side, subscribers) in &mut sides {
        subscribers.take(&mut site.far, Feed::flood(*side, plan.ticks / 10))?;
    }
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for (rate, text) in RATES {
        let mut latencies = row_names(rate).map(|name| Series::new(name, Unit::Microseconds));
        let mut used =
            PROCESSES.map(|process| Series::new(format!("CPU per tick at {text}/s, {process}"), Unit::Microseconds));
        let count = (rate * plan.paced_seconds(rate)) as u64;
        let mut lost = [0, 0];
        for _ in 0..plan.latency_rounds {
            let mut round = Vec::new();
            for ((side, subscribers), lost) in sides.iter_mut().zip(&mut lost) {
                let pids = [site.far.pid(), site.server.pid()?, subscribers.pids().next().unwrap_or_default()];
                let meters = pids.map(Meter::start).into_iter().collect::<Result<Vec<_>, _>>()?;
                let outcome = subscribers.take(&mut site.far, Feed::paced(*side, count, rate))?;
                let cpu = meters.iter().map(|meter| Ok(meter.used_ns()? / 1e3 / count as f64));
                let cpu = cpu.collect::<anyhow::Result<Vec<f64>>>()?;
                ensure!(outcome.arrived + outcome.lost == count, "{} ticks of {count} arrived", outcome.arrived);
                *lost += outcome.lost;
                let latency = outcome.latency.with_context(|| format!("no tick of {count} arrived at {text}/s"))?;
                round.push((microseconds(latency), cpu));
            }
            let [(our_latency, our_cpu), (bare_latency, bare_cpu)] = round.as_slice() else { continue };
            let pairs = our_latency.iter().zip(bare_latency);
            latencies.iter_mut().zip(pairs).for_each(|(series, (ours, bare))| series.push_pair(*ours, *bare));
            let pairs = our_cpu.iter().zip(bare_cpu);
            used.iter_mut().zip(pairs).for_each(|(series, (ours, bare))| series.push_pair(*ours, *bare));
        }
        ensure!(
            rate > ORDINARY || lost == [0, 0],
            "lost at {text}/s: {} by the node's, {} by the bare side's",
            lost[0],
            lost[1]
        );
        if lost != [0, 0] {
            let sent = count * plan.latency_rounds as u64;
            notes.push(format!(
                "At {text}/s, of {sent} ticks the SDK lost {}, the bare subscriber {}.",
                lost[0], lost[1]
            ));
        }
        all.extend(latencies);
        if rate == ORDINARY {
            all.extend(used);
        }
    }
    Ok((all, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_rate_have_its_name() {
        assert_eq!(row_names(ORDINARY)[2], "tick latency at 10,000/s, p99.9");
        assert_eq!(microseconds(Latency { p50: 1_000, p99: 2_500, p999: 3_000 }), [1.0, 2.5, 3.0]);
    }
}
