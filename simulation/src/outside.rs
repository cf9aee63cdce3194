//! Everything outside the nodes: time, chance, the steps to come, the servers, the venue, and what is known of the truth.

use std::fmt::Display;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::journal_server::JournalServer;
use crate::lease_server::LeaseServer;
use crate::schedule::Schedule;
use crate::step::Step;
use crate::swarm::Swarm;
use crate::truth::Truth;
use crate::venue::Venue;

/// How long a lease lasts in the simulation.
pub const MAX_AGE: Duration = Duration::from_secs(3);
/// Lines that the log of steps keeps.
const LOGGED: usize = 400;

/// What happened in a history, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps taken.
    pub steps: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Nodes that were stopped for a while.
    pub freezes: u64,
    /// Leaderships that began, beyond the first.
    pub takeovers: u64,
    /// Orders and quotes that the venue accepted.
    pub accepted: u64,
    /// Trades.
    pub trades: u64,
    /// Orders and quotes that clients sent.
    pub sent: u64,
    /// Of these, how many are certain not to have been executed.
    pub not_executed: u64,
    /// What came under a session that the venue had ended.
    pub stale: u64,
    /// Intents that were found never to have arrived.
    pub never_arrived: u64,
    /// Entries of the journal.
    pub entries: u64,
    /// Of these, how many came from a leader that had been replaced.
    pub voided: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.steps += more.steps;
        self.crashes += more.crashes;
        self.freezes += more.freezes;
        self.takeovers += more.takeovers;
        self.accepted += more.accepted;
        self.trades += more.trades;
        self.sent += more.sent;
        self.not_executed += more.not_executed;
        self.stale += more.stale;
        self.never_arrived += more.never_arrived;
        self.entries += more.entries;
        self.voided += more.voided;
    }
}

/// The last steps, for people; costs nothing where nobody wants them.
#[derive(Default)]
pub struct StepLog {
    lines: Option<std::collections::VecDeque<String>>,
}

impl StepLog {
    /// One that keeps the last lines.
    #[must_use]
    pub fn kept() -> StepLog {
        StepLog { lines: Some(Default::default()) }
    }

    /// The lines.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}

/// See the module.
pub struct Outside {
    /// True time since the history began.
    pub now: Duration,
    /// Everything that is left to chance.
    pub rng: ChaCha8Rng,
    /// What can go wrong.
    pub swarm: Swarm,
    /// What is to come.
    pub steps: Schedule<Step>,
    /// The journal.
    pub journal: JournalServer,
    /// The lease.
    pub lease: LeaseServer,
    /// The venue.
    pub venue: Venue,
    /// What really happened.
    pub truth: Truth,
    /// Numbers.
    pub counts: Counts,
    /// Everything is well from now on.
    pub healed: bool,
    /// When the last of what was said to the venue or by it has arrived.
    pub venue_said_by: Duration,
    /// Calls that have not reached anybody yet.
    pub calls_under_way: u64,
    /// When the last republished event reaches each client: none overtakes it.
    published: Vec<Duration>,
    log: StepLog,
}

impl Outside {
    /// The beginning of a history.
    #[must_use]
    pub fn new(seed: u64, log: StepLog) -> Outside {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let swarm = Swarm::draw(&mut rng);
        let mut truth = Truth::default();
        let venue = Venue::new(&mut truth);
        Outside {
            now: Duration::ZERO,
            rng,
            swarm,
            steps: Schedule::new(),
            journal: JournalServer::default(),
            lease: LeaseServer::new(MAX_AGE),
            venue,
            truth,
            counts: Counts::default(),
            healed: false,
            venue_said_by: Duration::ZERO,
            calls_under_way: 0,
            published: Vec::new(),
            log,
        }
    }

    /// When an event that is republished now reaches a client.
    pub fn published_at(&mut self, client: usize) -> Duration {
        let arrival = self.arrival();
        if self.published.len() <= client {
            self.published.resize(client + 1, Duration::ZERO);
        }
        self.published[client] = self.published[client].max(arrival);
        self.published[client]
    }

    /// Whether something happens that has this chance; nothing does once everything is well.
    pub fn chance(&mut self, chance: f64) -> bool {
        !self.healed && chance > 0.0 && self.rng.random_bool(chance)
    }

    /// A time between two.
    pub fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from_ms * 1_000..to_ms * 1_000))
    }

    /// When a message that is sent now arrives.
    pub fn arrival(&mut self) -> Duration {
        let slow = self.swarm.slow;
        let delay = if self.chance(slow) { self.between(50, 2_500) } else { self.between(0, 8) };
        self.now + delay + Duration::from_micros(50)
    }

    /// Schedules a step.
    pub fn at(&mut self, at: Duration, step: Step) {
        self.steps.push(at.max(self.now), step);
    }

    /// Schedules what is said to the venue or by it.
    pub fn at_line(&mut self, at: Duration, step: Step) {
        self.venue_said_by = self.venue_said_by.max(at);
        self.at(at, step);
    }

    /// Schedules a step this much later.
    pub fn after(&mut self, delay: Duration, step: Step) {
        self.steps.push(self.now + delay, step);
    }

    /// A line of the log of steps.
    pub fn note<D: Display>(&mut self, line: impl FnOnce() -> D) {
        if let Some(lines) = &mut self.log.lines {
            if lines.len() >= LOGGED {
                lines.pop_front();
            }
            lines.push_back(format!("{:>10.6} {}", self.now.as_secs_f64(), line()));
        }
    }

    /// Something is not as it must be. The first finding ends the history.
    pub fn found(&mut self, finding: impl Into<String>) {
        self.truth.found(finding);
    }

    /// The log, at the end.
    #[must_use]
    pub fn into_log(self) -> Vec<String> {
        self.log.into_lines()
    }
}
