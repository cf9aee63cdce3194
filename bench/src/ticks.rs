//! Ticks from a node to a client, against the same bytes from a bare publisher to a bare subscriber.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use client_sdk::{Filter, TickStream, Update};
use futures::StreamExt;

use crate::clock::now_ns;
use crate::far_side::{BARE_TICKS, FarSide};
use crate::feed::{Feed, Sender, Tell};
use crate::plan::Plan;
use crate::series::{Series, Unit, quantile};
use crate::site::Site;

/// Ticks a second where latencies are measured.
const RATE: f64 = 10_000.0;
/// How often the sending side is told how far this one is.
const TELL_EVERY: u64 = 1_024;
/// So many are taken within this time, or what is missing of them is lost.
const SILENCE: Duration = Duration::from_secs(10);

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Ticks: one process publishes, another receives; no more than 16,384 are under way, so that neither side has to lose \
     any. The bare side publishes the encoded tick's bytes and looks at none of them; the SDK decodes every tick.",
    "Latencies are from pushing the tick in the venue's thread (from publishing, on the bare side) to having it in \
     hand, 10,000 a second of sixteen instruments.",
];

/// Rate and latencies, node and bare in turn.
pub async fn series(site: &mut Site, plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let mut node = Arrivals::Node(site.client.ticks(Filter::all()).await?);
    let mut bare = Arrivals::Bare(site.bare.subscribe(BARE_TICKS).await?);
    site.bare.flush().await?;

    let mut rates = [Vec::new(), Vec::new()];
    let mut latencies = [Vec::new(), Vec::new()];
    let mut lost = [0, 0];
    for round in 0..=plan.rounds {
        for (at, arrivals) in [&mut node, &mut bare].into_iter().enumerate() {
            let flood = arrivals.take(&mut site.far, plan.ticks, None).await?;
            let paced = arrivals.take(&mut site.far, plan.paced_ticks, Some(RATE)).await?;
            lost[at] += flood.lost + paced.lost;
            // The first round only warms up.
            if round > 0 {
                rates[at].push(flood.per_second());
                latencies[at].push(paced.latencies);
            }
        }
    }
    let sent = (plan.ticks + plan.paced_ticks) * (plan.rounds as u64 + 1);
    let remark = |lost: u64| if lost == 0 { ", none lost".to_owned() } else { format!(", {lost} of {sent} LOST") };
    let bare_rate = format!("ticks, bare publisher to bare subscriber{}", remark(lost[1]));
    let mut all = vec![
        Series::new(format!("ticks, node to SDK{}", remark(lost[0])), Unit::PerSecond).ratio_to(&bare_rate),
        Series::new(&bare_rate, Unit::PerSecond),
    ];
    for (series, rates) in all.iter_mut().zip(&rates) {
        rates.iter().for_each(|rate| series.push(*rate));
    }
    for (name, share) in [("median", 0.5), ("p99", 0.99)] {
        let bare_name = format!("tick's {name} latency, bare");
        let mut node =
            Series::new(format!("tick's {name} latency, node to SDK"), Unit::Microseconds).ratio_to(&bare_name);
        let mut bare = Series::new(bare_name, Unit::Microseconds);
        for (series, rounds) in [&mut node, &mut bare].into_iter().zip(&latencies) {
            for sorted in rounds {
                series.push(quantile(sorted, share).context("a round without a tick")? as f64 / 1e3);
            }
        }
        all.extend([node, bare]);
    }
    Ok(all)
}

/// The receiving end of a feed.
pub enum Arrivals {
    /// Ticks that the SDK decodes.
    Node(TickStream),
    /// Messages.
    Bare(async_nats::Subscriber),
}

/// What a feed came to.
#[derive(Debug, Default)]
pub struct Received {
    /// How long each was under way, in nanoseconds, sorted; of a feed at a rate only.
    pub latencies: Vec<u64>,
    /// How many did not arrive.
    pub lost: u64,
    arrived: u64,
    first: Option<Instant>,
    /// From the first to the last.
    took: Duration,
}

impl Received {
    /// How many arrived in a second, between the first and the last.
    pub fn per_second(&self) -> f64 {
        self.arrived.saturating_sub(1) as f64 / self.took.as_secs_f64()
    }
}

impl Arrivals {
    /// Has a feed sent, and takes it.
    ///
    /// # Errors
    /// If the other process or the connection is gone.
    pub async fn take(&mut self, far: &mut FarSide, count: u64, per_second: Option<f64>) -> anyhow::Result<Received> {
        let sender = match self {
            Arrivals::Node(_) => Sender::Node,
            Arrivals::Bare(_) => Sender::Bare,
        };
        far.tell(Tell::Send(Feed { sender, count, per_second }))?;
        let mut received = Received::default();
        while received.arrived < count {
            let some = TELL_EVERY.min(count - received.arrived);
            // One timer for many: a message that comes early pays nothing for it.
            match tokio::time::timeout(SILENCE, self.take_some(some, per_second.is_some(), &mut received)).await {
                Ok(taken) => taken?,
                Err(_) => break,
            }
            if per_second.is_none() {
                far.tell(Tell::Taken(received.arrived))?;
            }
        }
        received.lost = count - received.arrived;
        received.latencies.sort_unstable();
        Ok(received)
    }

    async fn take_some(&mut self, count: u64, stamped: bool, received: &mut Received) -> anyhow::Result<()> {
        for _ in 0..count {
            let sent_ns = self.next().await?;
            received.arrived += 1;
            if stamped {
                received.latencies.push(now_ns().saturating_sub(sent_ns));
            }
            if received.first.is_none() {
                received.first = Some(Instant::now());
            }
        }
        received.took = received.first.map(|first| first.elapsed()).unwrap_or_default();
        Ok(())
    }

    /// When the next one that arrived was sent, if it says so.
    async fn next(&mut self) -> anyhow::Result<u64> {
        match self {
            Arrivals::Bare(messages) => {
                let message = messages.next().await.context("the bare subscription ended")?;
                let stamp = message.payload.first_chunk().context("a message of less than eight bytes")?;
                Ok(u64::from_be_bytes(*stamp))
            }
            Arrivals::Node(ticks) => loop {
                match ticks.next().await {
                    Some(Update::Event(event)) => return Ok(event.data.turnover.unwrap_or_default() as u64),
                    Some(Update::Missed(_)) => {}
                    Some(other) => bail!("the connection changed during a run: {other:?}"),
                    None => bail!("the tick stream ended"),
                }
            },
        }
    }
}
