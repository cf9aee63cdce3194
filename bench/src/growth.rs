//! How costs grow: one installation next to larger ones, along one axis at a time. What stays the same for each tick scales.

mod axis;
mod growing;
mod installation;

use std::time::Duration;

use anyhow::ensure;

use crate::feed::{Feed, Side, WINDOW};
use crate::plan::Plan;

use axis::{Axis, Step};
use growing::Growing;
use installation::{Installation, PROCESSES};

/// How long a feed at a rate is, in seconds.
const PACED_SECONDS: f64 = 2.0;
/// How long everybody is watched while nothing is sent.
const IDLE: Duration = Duration::from_secs(3);
/// At least so many ticks at full speed.
const LEAST_TICKS: u64 = 3_000;
/// What is shared by three senders has such a count.
const SHARED_BY: u64 = 3;
/// Copies of ticks that may wait in the server, over all subscribers: about 45 MB.
const COPIES: u64 = 65_536;

/// What to know when reading the tables.
pub const NOTES: &[&str] = &[
    "Growth: all columns of a table are up at the same time and take turns, round by round; a cell is the median of its \
     rounds, and behind it the median of the rounds' ratios to the first column. Per doubling: the factor that leads from the \
     first column to the last one, each time the size doubles; 1.00 is a cost that stays. Processor time is that of all \
     processes of a kind, user and system, at the named rate over all of a column's gateways; below what the \
     machine can do, wake-ups are most of it. The lossless rate is to each subscriber. The node's \
     process holds the venue's ready-made ticks and those of the bare publisher too, which is much of its memory at 20,000 symbols. All on one machine: a rate that \
     falls with more processes shows its processors, and no limit of the software.",
    "Growth in subscribers: up to 16 each is a process; 64 and 256 are connections, in four processes. Per delivery is per \
     tick and subscriber. Brokers: the node is at the first of a cluster of three, two subscribers at the \
     other two. Nodes: a process and a gateway each, each at its own broker of three, the subscribers as before. Gateways: \
     in one process; they have nothing to do with the bare side, which is left out.",
];

/// Tables, one for each axis.
///
/// # Errors
/// If something fails, or a tick is lost.
pub async fn tables(plan: &Plan, tell: impl Fn(&str)) -> anyhow::Result<Vec<String>> {
    let mut tables = Vec::new();
    for axis in axis::all() {
        tell(&format!("growth: {}", axis.name));
        let mut running = Vec::new();
        for step in &axis.steps {
            running.push(Installation::start(step.clone(), axis.sides).await?);
        }
        let rows = tokio::task::block_in_place(|| rows(&axis, &mut running, plan.growth_rounds))?;
        for installation in running {
            installation.stop().await?;
        }
        let sizes: Vec<usize> = axis.steps.iter().map(|step| step.size).collect();
        let table = growing::markdown(&sizes, &rows);
        tables.push(format!("## More {}\n\n{}\n\n{table}", axis.name, axis.constants()));
    }
    Ok(tables)
}

/// Every row of an axis. Blocks.
fn rows(axis: &Axis, running: &mut [Installation], rounds: usize) -> anyhow::Result<Vec<Growing>> {
    let mut all = Vec::new();
    let (mut costs, mut rates) = (Vec::new(), Vec::new());
    for side in axis.sides {
        costs.push(PROCESSES[side_index(*side)].map(|process| Growing::new(process, "µs", running.len())));
        rates.push(Growing::new(format!("lossless, {}", side_name(*side)), "/s", running.len()));
    }
    for round in 0..=rounds {
        for (at, installation) in running.iter_mut().enumerate() {
            for ((side, costs), rates) in axis.sides.iter().zip(&mut costs).zip(&mut rates) {
                let step = &installation.step;
                let feed = Feed { window: window(step), ..Feed::flood(*side, flood_ticks(step)) };
                let per_second = installation.flood(feed)?;
                // The first round only warms up.
                if round == 0 {
                    continue;
                }
                rates.push(at, per_second);
                let feed = Feed::paced(*side, (axis.rate * PACED_SECONDS) as u64 / SHARED_BY * SHARED_BY, axis.rate);
                let used = installation.paced(feed)?;
                costs.iter_mut().zip(used).for_each(|(row, used)| row.push(at, used));
            }
        }
    }
    let receivers: Vec<usize> = axis.steps.iter().map(|step| step.shape.receivers()).collect();
    for (costs, rates) in costs.into_iter().zip(rates) {
        let has_more = receivers.first() != receivers.last();
        let per_delivery: Vec<Growing> = costs.iter().skip(1).map(|row| row.per_delivery(&receivers)).collect();
        all.extend(costs);
        if has_more {
            all.extend(per_delivery);
        }
        let together = rates.together(&receivers);
        all.push(rates);
        if has_more {
            all.push(together);
        }
    }
    all.extend(unloaded(running)?);
    Ok(all)
}

/// Memory, and processor time while nothing is sent.
fn unloaded(running: &[Installation]) -> anyhow::Result<Vec<Growing>> {
    let mut memory = ["node", "nats-server", "clients"]
        .map(|process| Growing::new(format!("memory of the {process}"), "MiB", running.len()));
    let mut idle =
        ["node", "nats-server"].map(|process| Growing::new(format!("idle CPU of the {process}"), "%", running.len()));
    let meters = running.iter().map(Installation::meters).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(IDLE);
    for (at, (installation, meters)) in running.iter().zip(meters).enumerate() {
        for (row, meters) in idle.iter_mut().zip(meters) {
            let percent = meters.iter().map(crate::usage::Meter::percent_of_core);
            row.push(at, percent.sum::<anyhow::Result<f64>>()?);
        }
        let used = installation.memory(Side::Node)?;
        memory.iter_mut().zip(used).for_each(|(row, mebibytes)| row.push(at, mebibytes));
    }
    ensure!(!running.is_empty(), "an axis has steps");
    Ok(memory.into_iter().chain(idle).collect())
}

fn side_index(side: Side) -> usize {
    usize::from(side != Side::Node)
}

fn side_name(side: Side) -> &'static str {
    ["Gatemesh", "bare"][side_index(side)]
}

/// As many as a round takes about a second for, and each instrument's at least once.
fn flood_ticks(step: &Step) -> u64 {
    let symbols = (step.extent.instruments * step.extent.gateways) as u64;
    let ticks = (100_000 / step.shape.receivers() as u64).max(LEAST_TICKS).max(symbols);
    ticks.next_multiple_of(SHARED_BY)
}

/// Most ticks under way.
fn window(step: &Step) -> u64 {
    (COPIES / step.shape.receivers() as u64).clamp(1_024, WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_axis_is_one_that_can_be_measured() {
        for axis in axis::all() {
            assert!(axis.steps.windows(2).all(|pair| pair[0].size < pair[1].size), "{}", axis.name);
            for step in &axis.steps {
                let feed = Feed::flood(Side::Node, flood_ticks(step));
                assert!(feed.shared_by(step.nodes as u64).is_ok(), "{} {}", axis.name, step.size);
                assert!(step.nodes <= step.brokers || step.brokers == 1);
                assert!((1_024..=WINDOW).contains(&window(step)));
                let symbols = (step.extent.instruments * step.extent.gateways) as u64;
                assert!(feed.count >= symbols, "each instrument has a tick");
            }
        }
    }
}
