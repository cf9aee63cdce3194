//! Ticks as fast as the slowest of many subscribers takes them, node to SDK, against the same bytes from a bare publisher
//! to bare subscribers.

use anyhow::ensure;

use crate::feed::{Feed, Side, WINDOW};
use crate::plan::Plan;
use crate::series::{Series, Unit};
use crate::site::Site;
use crate::subscribers::{Shape, Subscribers, per_second};

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Ticks to N subscribers: one process publishes, each subscriber is a process of its own (64: sixteen connections in \
     each of four processes); ticks a second to each of them. As fast as the slowest takes them, none lost: no more than \
     16,384 are under way, to more than four subscribers 4,096, to 16 in one process 1,024. The bare side publishes the encoded tick's bytes and \
     looks at none of them; the SDK decodes every tick. The node is in a process with a venue that costs next to nothing.",
    "16 consumers in one process: sixteen tick streams of one SDK client, against sixteen subscriptions of one bare \
     client; deliveries a second, all sixteen together. The client subscribes once and decodes each tick once for all of \
     its streams; the bare client's server sends each tick sixteen times.",
];

/// The rows, by what they are called: subscribers, where they are, and how many ticks of the plan's they are sent.
fn cases() -> [(String, Shape, u64); 5] {
    let shape = |processes, connections, streams| Shape { processes, connections, streams };
    [
        (row_name(1), Shape::ONE, 1),
        (row_name(4), shape(4, 1, 1), 3),
        (row_name(16), shape(16, 1, 1), 10),
        (row_name(64), shape(4, 16, 1), 40),
        (IN_ONE_PROCESS.to_owned(), shape(1, 1, 16), 10),
    ]
}

const IN_ONE_PROCESS: &str = "deliveries to 16 consumers in one process";

/// The row of so many subscribers, each a process.
pub fn row_name(subscribers: usize) -> String {
    match subscribers {
        1 => "ticks to 1 subscriber".to_owned(),
        _ => format!("ticks to {subscribers} subscribers, each"),
    }
}

/// Rates, node and bare in turn. Blocks.
///
/// # Errors
/// If a process fails, or a tick is lost.
pub fn series(site: &mut Site, plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let mut all = Vec::new();
    for (name, shape, share) in cases() {
        let mut series = Series::new(&name, Unit::PerSecond);
        let mut node = Subscribers::start(site.server.url(), Side::Node, shape)?;
        let mut bare = Subscribers::start(site.server.url(), Side::Bare, shape)?;
        let together = if shape.streams > 1 { shape.streams as f64 } else { 1.0 };
        let mut rate = |subscribers: &mut Subscribers, side| {
            let window = window(shape);
            let feed = Feed { window, ..Feed::flood(side, plan.ticks / share) };
            let outcome = subscribers.take(&mut site.far, feed)?;
            let due = feed.count * shape.receivers() as u64;
            ensure!(
                (outcome.arrived, outcome.lost) == (due, 0),
                "{name} ({side:?}): {} of {due} arrived, {} were lost",
                outcome.arrived,
                outcome.lost
            );
            anyhow::Ok(per_second(&outcome, shape.receivers()) * together)
        };
        for round in 0..=plan.rounds {
            let (ours, theirs) = (rate(&mut node, Side::Node)?, rate(&mut bare, Side::Bare)?);
            // The first round only warms up.
            if round > 0 {
                series.push_pair(ours, theirs);
            }
        }
        all.push(series);
    }
    Ok(all)
}

/// Most ticks under way. The server keeps a copy for each connection that is behind; of what waits for one connection,
/// more than 48 MB are dropped.
fn window(shape: Shape) -> u64 {
    match shape {
        Shape { streams: 2.., .. } => 1_024,
        _ if shape.receivers() > 4 => 4_096,
        _ => WINDOW,
    }
}
