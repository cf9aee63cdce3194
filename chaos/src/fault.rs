//! What can be broken, and in which order: a seeded shuffle of all kinds, dealt out and shuffled again.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

macro_rules! faults {
    ($($(#[$meta:meta])* $kind:ident = $name:literal,)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $($(#[$meta])* $kind,)+ }

        impl Fault {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Fault] = &[$(Fault::$kind,)+];

            /// Its name, for people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$kind => $name,)+ }
            }
        }
    };
}

faults! {
    /// SIGKILL of the leading node, which is started again.
    KillLeader = "kill the leading node",
    /// SIGKILL of a node that stands by, which is started again.
    KillStandby = "kill a standby node",
    /// SIGSTOP of the leading node for longer than its lease, then SIGCONT.
    FreezeLeader = "freeze the leading node past its lease",
    /// SIGSTOP of the leading node for a part of its lease, then SIGCONT: it may go on leading.
    FreezeLeaderBriefly = "freeze the leading node briefly",
    /// SIGSTOP of a node that stands by, then SIGCONT.
    FreezeStandby = "freeze a standby node",
    /// SIGTERM of the leading node: it drains; it is started again.
    StopLeader = "stop the leading node",
    /// SIGKILL of one of the brokers, which is started again.
    KillBroker = "kill a broker",
    /// SIGSTOP of one of the brokers, then SIGCONT.
    FreezeBroker = "freeze a broker",
    /// The leading node loses its connections to all brokers.
    CutNodeBrokers = "cut the leading node from the brokers",
    /// Nothing passes between the leading node and the brokers, and all of it comes later.
    StallNodeBrokers = "stall the leading node from the brokers",
    /// Everything between the leading node and the brokers takes longer.
    SlowNodeBrokers = "slow the leading node's line to the brokers",
    /// The leading node loses its connection to the venue.
    CutNodeVenue = "cut the leading node from the venue",
    /// Nothing passes between the leading node and the venue, and all of it comes later.
    StallNodeVenue = "stall the leading node from the venue",
    /// A client loses its connections to all brokers.
    CutClient = "cut a client from the brokers",
    /// Nothing passes between a client and the brokers, and all of it comes later.
    StallClient = "stall a client from the brokers",
    /// SIGKILL of a client, which is started again.
    KillClient = "kill a client",
    /// SIGSTOP of a client, then SIGCONT.
    FreezeClient = "freeze a client",
    /// SIGKILL of the venue, which is started again.
    KillVenue = "kill the venue",
    /// The venue drops its connections.
    VenueDrops = "the venue drops its connections",
    /// The venue drops its connections and refuses logins for a while.
    VenueRefusesLogins = "the venue refuses logins",
    /// The venue drops its connections and begins again with its ledger.
    VenueRestarts = "the venue restarts",
    /// The venue answers later.
    VenueDelays = "the venue answers late",
    /// The venue says things twice.
    VenueDuplicates = "the venue says things twice",
    /// The venue sends messages twice, as they are.
    VenueRepeats = "the venue sends messages twice",
    /// The venue changes the order of what it says.
    VenueReorders = "the venue reorders its answers",
    /// The venue loses some of what it says.
    VenueLoses = "the venue loses answers",
    /// The venue loses some of what it says while intents wait long for the journal: what is reconciled then lacks what
    /// leaves the node a moment later.
    VenueLosesSlowJournal = "the venue loses answers while the journal is slow",
    /// The venue takes commands and says nothing for a while.
    VenueIsSilent = "the venue is silent",
    /// The venue reports an order rejected or cancelled, and then filled.
    VenueFillsLate = "the venue fills late",
}

impl Fault {
    /// Whether the leader fails without a word: somebody must notice before orders are taken again.
    #[must_use]
    pub const fn fails_the_leader(self) -> bool {
        matches!(self, Fault::KillLeader | Fault::FreezeLeader)
    }

    /// Whether an order that has had its last look may wait on its way to the venue until this is healed.
    #[must_use]
    pub const fn holds_up_orders(self) -> bool {
        matches!(self, Fault::FreezeLeader | Fault::FreezeLeaderBriefly | Fault::StallNodeVenue)
    }
}

/// One round's fault, with everything that chance decides about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strike {
    /// What is broken.
    pub fault: Fault,
    /// How long the orders of the round are under way before it strikes.
    pub lead: Duration,
    /// How long it lasts before it is healed.
    pub hold: Duration,
    /// Which of several (brokers, clients, standby nodes), counted around.
    pub which: usize,
}

/// Deals out strikes: within each pass over the kinds given, each occurs once.
#[derive(Debug)]
pub struct Schedule {
    rng: ChaCha8Rng,
    kinds: Vec<Fault>,
    left: Vec<Fault>,
    lease: Duration,
}

impl Schedule {
    /// A schedule over these kinds; the same seed gives the same one. `lease` is how long a node leads without renewing.
    #[must_use]
    pub fn new(seed: u64, kinds: &[Fault], lease: Duration) -> Schedule {
        Schedule { rng: ChaCha8Rng::seed_from_u64(seed), kinds: kinds.to_vec(), left: Vec::new(), lease }
    }
}

impl Iterator for Schedule {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(&mut self.rng);
        }
        let fault = self.left.pop()?;
        let hold = match fault {
            // Long enough that another node leads when it wakes up, and sometimes only just.
            Fault::FreezeLeader => self.lease + Duration::from_millis(self.rng.random_range(300..2_500)),
            // Some go on leading, of some the lease has run out by then.
            Fault::FreezeLeaderBriefly => self.lease.mul_f64(self.rng.random_range(0.2..0.9)),
            Fault::FreezeStandby => self.lease.mul_f64(self.rng.random_range(0.2..2.0)),
            // Some outlast the deadlines of its orders.
            Fault::FreezeClient => Duration::from_millis(self.rng.random_range(500..5_000)),
            Fault::FreezeBroker => Duration::from_millis(self.rng.random_range(500..3_000)),
            Fault::StallNodeBrokers | Fault::CutNodeBrokers => {
                // Some outlast the lease, some do not.
                self.lease.mul_f64(self.rng.random_range(0.3..1.8))
            }
            _ => Duration::from_millis(self.rng.random_range(200..1_500)),
        };
        let lead = Duration::from_micros(self.rng.random_range(0..4_000));
        Some(Strike { fault, lead, hold, which: self.rng.random_range(0..1_000) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    #[test]
    fn each_kind_occurs_in_each_pass_and_the_seed_decides_the_order() {
        let strikes = |seed| Schedule::new(seed, Fault::ALL, LEASE).take(Fault::ALL.len() * 3).collect::<Vec<_>>();
        for pass in strikes(1).chunks(Fault::ALL.len()) {
            let mut kinds: Vec<Fault> = pass.iter().map(|strike| strike.fault).collect();
            kinds.sort();
            assert_eq!(kinds, Fault::ALL);
        }
        assert_eq!(strikes(1), strikes(1));
        assert_ne!(strikes(1), strikes(2));
    }

    #[test]
    fn a_frozen_leader_sleeps_past_its_lease_or_wakes_before() {
        let frozen = Schedule::new(3, &[Fault::FreezeLeader], LEASE).take(100);
        assert!(frozen.into_iter().all(|strike| strike.hold > LEASE));
        let briefly = Schedule::new(3, &[Fault::FreezeLeaderBriefly], LEASE).take(100);
        assert!(briefly.into_iter().all(|strike| strike.hold < LEASE));
    }
}
