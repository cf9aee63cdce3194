//! What can go wrong in a history, and how often: drawn anew for each, so that some histories suffer much of one thing
//! and others a little of everything.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// What is done to the world at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The leader's process dies with everything that is not stored.
    CrashLeader,
    /// Some node's process dies.
    CrashAny,
    /// The leader's process is stopped and goes on later with everything that it had in hand.
    FreezeLeader,
    /// The leader is told to stop, gives its lease back, and comes back as a standby.
    StepDown,
    /// The journal's server takes nothing for a while.
    StallJournal,
    /// The journal's server starts again.
    RestartJournal,
    /// The journal's storage is full for a while.
    FillJournal,
    /// The lease's server answers nothing for a while.
    StallLease,
    /// The venue says and hears nothing for a while.
    SilenceVenue,
    /// The connection to the venue breaks.
    CutVenue,
    /// The venue's process starts again from its ledger.
    RestartVenue,
    /// The venue rejects the next orders for no good reason.
    RejectOrders,
    /// A node's wall clock steps.
    StepClock,
    /// A new trading day begins.
    NextDay,
}

impl Fault {
    const ALL: [Fault; 14] = [
        Fault::CrashLeader,
        Fault::CrashAny,
        Fault::FreezeLeader,
        Fault::StepDown,
        Fault::StallJournal,
        Fault::RestartJournal,
        Fault::FillJournal,
        Fault::StallLease,
        Fault::SilenceVenue,
        Fault::CutVenue,
        Fault::RestartVenue,
        Fault::RejectOrders,
        Fault::StepClock,
        Fault::NextDay,
    ];
}

/// One history's share of bad luck. Chances are per message, or per step of a node.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// Nodes that may lead.
    pub nodes: usize,
    /// Clients that trade.
    pub clients: usize,
    /// For how long clients act and faults happen; after it everything heals.
    pub active: Duration,
    /// Mean time between two actions of a client.
    pub between_actions: Duration,
    /// Mean time between two faults.
    pub between_faults: Duration,
    /// The faults that happen in this history; each as often as it is in the list.
    pub faults: Vec<Fault>,
    /// A node dies between any two effects.
    pub crash: f64,
    /// A node is stopped between its last look at the lease and the write to the venue.
    pub freeze_in_window: f64,
    /// A message takes seconds instead of milliseconds.
    pub slow: f64,
    /// A call or an answer is lost.
    pub call_lost: f64,
    /// A call or an answer is delivered long after.
    pub call_late: f64,
    /// An append is lost on its way.
    pub append_lost: f64,
    /// An append is stored, and its ack is lost.
    pub ack_lost: f64,
    /// A question to the lease's server, or its answer, is lost.
    pub lease_lost: f64,
    /// What the venue said is lost, visibly.
    pub event_lost: f64,
    /// What the venue said of an order comes twice.
    pub event_repeated: f64,
    /// What the venue said of an order comes behind what it said later.
    pub event_overtaken: f64,
    /// A command vanishes at the venue without a trace.
    pub command_lost: f64,
    /// A republished event never reaches a mirror.
    pub publish_lost: f64,
    /// Whether the machines' clocks step.
    pub clocks_step: bool,
}

impl Swarm {
    /// Draws one.
    pub fn draw(rng: &mut ChaCha8Rng) -> Swarm {
        let mut chance = |most: f64| if rng.random_bool(0.5) { rng.random_range(0.0..most) } else { 0.0 };
        let (crash, freeze_in_window) = (chance(0.01), chance(0.1));
        let (slow, call_lost, call_late) = (chance(0.15), chance(0.2), chance(0.1));
        let (append_lost, ack_lost, lease_lost) = (chance(0.1), chance(0.1), chance(0.2));
        let (event_lost, event_repeated, event_overtaken) = (chance(0.05), chance(0.1), chance(0.1));
        let (command_lost, publish_lost) = (chance(0.02), chance(0.2));
        let clocks_step = rng.random_bool(0.25);
        let mut faults = vec![Fault::CrashLeader];
        for fault in Fault::ALL {
            let may_happen = fault != Fault::StepClock || clocks_step;
            if may_happen && rng.random_bool(0.5) {
                faults.extend(std::iter::repeat_n(fault, rng.random_range(1..4)));
            }
        }
        Swarm {
            nodes: if rng.random_bool(0.3) { 3 } else { 2 },
            clients: rng.random_range(1..3),
            active: Duration::from_secs(rng.random_range(6..25)),
            between_actions: Duration::from_millis(rng.random_range(150..1_500)),
            between_faults: Duration::from_millis(rng.random_range(1_500..12_000)),
            faults,
            crash,
            freeze_in_window,
            slow,
            call_lost,
            call_late,
            append_lost,
            ack_lost,
            lease_lost,
            event_lost,
            event_repeated,
            event_overtaken,
            command_lost,
            publish_lost,
            clocks_step,
        }
    }
}
