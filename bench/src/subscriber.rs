//! A receiving process: one or many subscriptions on one or many connections, SDK or bare. It takes what it is told to
//! take, says how far it is on the way, and what it came to at the end.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use client_sdk::{Client, Filter, TickStream, Update};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bare::BARE_TICKS;
use crate::clock::now_ns;
use crate::feed::Side;
use crate::series::quantile;

/// So many are taken within this time, or what is missing of them is lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Steps of receivers that wait to be told; a receiver waits for room.
const STEPS: usize = 256;

/// What a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Take {
    /// How many messages, each receiver.
    pub count: u64,
    /// After how many of them it is told how far the process is.
    pub tell_every: u64,
    /// Whether they carry the time at which they were sent.
    pub is_stamped: bool,
}

/// What a process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Every receiver has taken so many.
    Taken(u64),
    /// All of it is taken, or given up.
    Done(Outcome),
}

/// What taking came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many arrived, over all receivers.
    pub arrived: u64,
    /// How many did not.
    pub lost: u64,
    /// When the first one arrived, on the machine's clock, in nanoseconds; 0 if none has.
    pub first_ns: u64,
    /// When the last one did.
    pub last_ns: u64,
    /// How long they were under way, in nanoseconds.
    pub latency: Option<Latency>,
}

/// Quantiles of latencies, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them are below.
    pub p50: u64,
    /// 99 % of them are below.
    pub p99: u64,
    /// 99.9 % of them are below.
    pub p999: u64,
}

/// The process itself.
///
/// # Errors
/// If the server cannot be reached, or a stream ends.
pub async fn run(url: &str, side: Side, connections: usize, streams: usize) -> anyhow::Result<()> {
    let mut receivers = Vec::new();
    for _ in 0..connections {
        match side {
            Side::Node => {
                let client = Client::connect(url).await?;
                for _ in 0..streams {
                    receivers.push(Receiver::Sdk(client.ticks(Filter::all()).await?));
                }
            }
            Side::Bare => {
                let client = async_nats::connect(url).await?;
                for _ in 0..streams {
                    receivers.push(Receiver::Bare(client.subscribe(BARE_TICKS).await?, client.clone()));
                }
                client.flush().await?;
            }
            Side::Vnpy => bail!("VeighNa's subscribers are not this program's"),
        }
    }
    println!("ready");
    let (orders_in, mut orders) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            orders_in.blocking_send(serde_json::from_str::<Take>(&line?)?)?;
        }
        anyhow::Ok(())
    });
    while let Some(take) = orders.recv().await {
        let (outcome, back) = take_all(receivers, take).await?;
        receivers = back;
        say(&Report::Done(outcome))?;
    }
    reading.await?
}

/// Has every receiver take so many, each in a task of its own.
async fn take_all(receivers: Vec<Receiver>, take: Take) -> anyhow::Result<(Outcome, Vec<Receiver>)> {
    let (steps_in, mut steps) = mpsc::channel(STEPS);
    let mut taken = vec![0; receivers.len()];
    let mut tasks = JoinSet::new();
    for (number, mut receiver) in receivers.into_iter().enumerate() {
        let steps = steps_in.clone();
        tasks.spawn(async move {
            let outcome = receiver.take(take, number, &steps).await?;
            anyhow::Ok((outcome, receiver))
        });
    }
    drop(steps_in);
    let mut told = 0;
    while let Some((number, count)) = steps.recv().await {
        taken[number] = count;
        let least: u64 = taken.iter().copied().min().unwrap_or_default();
        if least > told {
            told = least;
            say(&Report::Taken(told))?;
        }
    }
    let (mut total, mut latencies, mut back) = (Outcome::default(), Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (received, receiver) = ended??;
        total = add(total, &received.outcome);
        latencies.extend(received.latencies);
        back.push(receiver);
    }
    latencies.sort_unstable();
    total.latency = quantiles(&latencies);
    Ok((total, back))
}

/// Two outcomes as one, but for latencies: their quantiles do not add up.
pub fn add(a: Outcome, b: &Outcome) -> Outcome {
    let first_ns = match (a.first_ns, b.first_ns) {
        (0, first) | (first, 0) => first,
        (a, b) => a.min(b),
    };
    Outcome {
        arrived: a.arrived + b.arrived,
        lost: a.lost + b.lost,
        first_ns,
        last_ns: a.last_ns.max(b.last_ns),
        latency: a.latency.or(b.latency),
    }
}

fn quantiles(sorted: &[u64]) -> Option<Latency> {
    let at = |share| quantile(sorted, share);
    Some(Latency { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)? })
}

fn say(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    std::io::stdout().lock().write_all(line.as_bytes()).context("nobody listens")
}

/// One subscription.
enum Receiver {
    /// Ticks that the SDK decodes.
    Sdk(TickStream),
    /// Messages, and the connection that they come on.
    Bare(async_nats::Subscriber, #[allow(dead_code)] async_nats::Client),
}

#[derive(Default)]
struct Received {
    outcome: Outcome,
    latencies: Vec<u64>,
}

impl Receiver {
    async fn take(
        &mut self,
        take: Take,
        number: usize,
        steps: &mpsc::Sender<(usize, u64)>,
    ) -> anyhow::Result<Received> {
        let mut received = Received::default();
        loop {
            let done = received.outcome.arrived + received.outcome.lost;
            if done >= take.count {
                break;
            }
            let some = take.tell_every.min(take.count - done);
            // One timer for many: a message that comes early pays nothing for it.
            match tokio::time::timeout(SILENCE, self.take_some(some, take.is_stamped, &mut received)).await {
                Ok(taken) => taken?,
                Err(_) => {
                    received.outcome.lost = take.count - received.outcome.arrived;
                    break;
                }
            }
            steps.send((number, received.outcome.arrived + received.outcome.lost)).await?;
        }
        Ok(received)
    }

    async fn take_some(&mut self, count: u64, is_stamped: bool, received: &mut Received) -> anyhow::Result<()> {
        let outcome = &mut received.outcome;
        let until = outcome.arrived + outcome.lost + count;
        while outcome.arrived + outcome.lost < until {
            match self.next().await? {
                Arrival::Message { sent_ns } => {
                    outcome.arrived += 1;
                    if is_stamped {
                        received.latencies.push(now_ns().saturating_sub(sent_ns));
                    }
                    if outcome.first_ns == 0 {
                        outcome.first_ns = now_ns();
                    }
                }
                Arrival::Missed(count) => outcome.lost += count,
            }
        }
        outcome.last_ns = now_ns();
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Arrival> {
        match self {
            Receiver::Bare(messages, _) => {
                let message = messages.next().await.context("the bare subscription ended")?;
                let stamp = message.payload.first_chunk().context("a message of less than eight bytes")?;
                Ok(Arrival::Message { sent_ns: u64::from_be_bytes(*stamp) })
            }
            Receiver::Sdk(ticks) => match ticks.next().await.context("the tick stream ended")? {
                Update::Event(event) => {
                    Ok(Arrival::Message { sent_ns: event.data.turnover.unwrap_or_default() as u64 })
                }
                Update::Missed(missed) => Ok(Arrival::Missed(missed.count.unwrap_or_default())),
                other => bail!("the connection changed during a run: {other:?}"),
            },
        }
    }
}

enum Arrival {
    Message { sent_ns: u64 },
    Missed(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_add_up() {
        let latency = Some(Latency { p50: 1, p99: 2, p999: 3 });
        let one = Outcome { arrived: 10, lost: 0, first_ns: 50, last_ns: 90, latency };
        let two = Outcome { arrived: 8, lost: 2, first_ns: 40, last_ns: 80, latency: None };
        let sum = add(add(Outcome::default(), &one), &two);
        assert_eq!(sum, Outcome { arrived: 18, lost: 2, first_ns: 40, last_ns: 90, latency });
        // One that took nothing has no first.
        assert_eq!(add(one.clone(), &Outcome::default()), one);
    }

    #[test]
    fn quantiles_are_latencies_that_came() {
        let sorted: Vec<u64> = (0..=1_000).collect();
        assert_eq!(quantiles(&sorted), Some(Latency { p50: 500, p99: 990, p999: 999 }));
        assert_eq!(quantiles(&[]), None);
    }
}
