//! The receiving processes, seen from the one that measures: they take what a sending process is told to send, which is
//! told in turn how far the slowest of them is.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use crate::feed::{Feed, Side, Tell};
use crate::peer::Peer;
use crate::subscriber::{self, Outcome, Report, Take};

/// The slowest process is told to the sender so many times a window.
const TELLS: u64 = 16;
/// Reports that wait; a process's reader waits for room.
const REPORTS: usize = 1_024;
/// Longer than a process waits for what is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many receive, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Processes.
    pub processes: usize,
    /// Connections of each process.
    pub connections: usize,
    /// Subscriptions of each connection.
    pub streams: usize,
}

impl Shape {
    /// One subscription in one process.
    pub const ONE: Shape = Shape { processes: 1, connections: 1, streams: 1 };

    /// Subscriptions over all.
    pub fn receivers(self) -> usize {
        self.processes * self.connections * self.streams
    }
}

/// See the module.
pub struct Subscribers {
    processes: Vec<Peer>,
    reports: Receiver<(usize, anyhow::Result<Report>)>,
}

impl Subscribers {
    /// Starts processes of this program, and waits until all have subscribed.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start(url: &str, side: Side, shape: Shape) -> anyhow::Result<Subscribers> {
        Subscribers::start_at(&[url], side, shape)
    }

    /// The same, one process after the other at each of these servers.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start_at(urls: &[&str], side: Side, shape: Shape) -> anyhow::Result<Subscribers> {
        let name = side.to_possible_value().context("every side has a name")?;
        let (connections, streams) = (shape.connections.to_string(), shape.streams.to_string());
        let at = urls.iter().cycle().take(shape.processes);
        let processes =
            at.map(|url| Peer::of_this_program(&["subscriber", url, name.get_name(), &connections, &streams]));
        Subscribers::of(processes.collect::<Result<_, _>>()?)
    }

    /// Of processes that speak as this program's do, and are ready.
    ///
    /// # Errors
    /// If one cannot be listened to.
    pub fn of(mut processes: Vec<Peer>) -> anyhow::Result<Subscribers> {
        let (reports_in, reports) = sync_channel(REPORTS);
        for (number, process) in processes.iter_mut().enumerate() {
            let output = process.output()?;
            let reports: SyncSender<_> = reports_in.clone();
            std::thread::Builder::new().name("reports".to_owned()).spawn(move || {
                for line in output.lines() {
                    let read = line.context("reading a subscriber's report");
                    let report = read.and_then(|line| {
                        serde_json::from_str(&line).with_context(|| format!("a subscriber said `{line}`"))
                    });
                    if reports.send((number, report)).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Subscribers { processes, reports })
    }

    /// The processes' numbers.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Peer::pid)
    }

    /// Stops all of them (SIGSTOP).
    ///
    /// # Errors
    /// If one is gone.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.processes.iter().try_for_each(Peer::freeze)
    }

    /// Has a feed sent, and all of them take it. Blocks.
    ///
    /// # Errors
    /// If a process ends.
    pub fn take(&mut self, sender: &mut Peer, feed: Feed) -> anyhow::Result<Outcome> {
        self.take_from(std::slice::from_mut(sender), feed)
    }

    /// The same, of several senders, each of which sends its share.
    ///
    /// # Errors
    /// If a process ends, or the feed cannot be shared evenly.
    pub fn take_from(&mut self, senders: &mut [Peer], feed: Feed) -> anyhow::Result<Outcome> {
        let share = feed.shared_by(senders.len() as u64)?;
        let tell_every = (feed.window / TELLS).max(1);
        let take = Take { count: feed.count, tell_every, is_stamped: feed.per_second.is_some() };
        for process in &mut self.processes {
            process.tell(&take)?;
        }
        senders.iter_mut().try_for_each(|sender| sender.tell(&Tell::Send(share)))?;
        let mut taken = vec![0; self.processes.len()];
        let (mut told, mut total, mut running) = (0, Outcome::default(), self.processes.len());
        while running > 0 {
            let Ok((number, report)) = self.reports.recv_timeout(PATIENCE) else {
                bail!("a subscriber said nothing for {} s: it has ended, or hangs", PATIENCE.as_secs());
            };
            match report? {
                Report::Taken(count) => taken[number] = count,
                Report::Done(outcome) => {
                    taken[number] = feed.count;
                    running -= 1;
                    total = subscriber::add(total, &outcome);
                }
            }
            let least: u64 = taken.iter().copied().min().unwrap_or_default();
            if least > told && feed.per_second.is_none() {
                told = least;
                // Whoever they were of: together the senders are no further ahead than the window.
                let each = Tell::Taken(told / senders.len() as u64);
                senders.iter_mut().try_for_each(|sender| sender.tell(&each))?;
            }
        }
        Ok(total)
    }
}

/// How many ticks a second that was, to each of so many receivers, between the first arrival and the last.
pub fn per_second(outcome: &Outcome, receivers: usize) -> f64 {
    let took = Duration::from_nanos(outcome.last_ns.saturating_sub(outcome.first_ns));
    let each = outcome.arrived as f64 / receivers.max(1) as f64;
    (each - 1.0).max(0.0) / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_each_receiver() {
        let outcome = Outcome { arrived: 44, first_ns: 0, last_ns: 1_000_000_000, ..Outcome::default() };
        assert_eq!(per_second(&outcome, 4), 10.0);
        assert_eq!(Shape { processes: 4, connections: 16, streams: 2 }.receivers(), 128);
    }
}
