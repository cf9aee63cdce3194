//! One history: steps are taken one after another until everything has healed and come to rest, then everything that was
//! promised is checked.

use std::time::Duration;

use gateway_node::engine::Days;
use protocol::oms::OrderKey;
use protocol::{OmsState, OrderStatus};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::client::{Client, Outcome};
use crate::node::{Node, difference};
use crate::outside::{Counts, Outside, StepLog};
use crate::step::{Answered, NodeInput, Process, Step, millis};
use crate::swarm::Fault;

/// After everything has healed, it must come to rest within this time.
const REST: Duration = Duration::from_secs(180);
/// Everything must be at rest for this long: what waits for a timer has its turn.
const QUIET: u32 = 5;

/// How a history ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What happened.
    pub counts: Counts,
    /// What is not as it must be.
    pub finding: Option<String>,
    /// The last steps, if they were to be kept.
    pub lines: Vec<String>,
}

struct World {
    out: Outside,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    heals_at: Duration,
    quiet: u32,
}

/// Runs the history of a seed: the same seed, the same history.
#[must_use]
pub fn run(seed: u64, log: StepLog) -> Ended {
    let mut world = World::new(seed, log);
    while world.out.truth.finding().is_none()
        && world.quiet < QUIET
        && let Some((at, step)) = world.out.steps.pop()
    {
        world.out.now = at;
        world.out.counts.steps += 1;
        world.take(step);
    }
    if world.out.truth.finding().is_none() {
        world.check();
    }
    let World { mut out, .. } = world;
    out.counts.takeovers = out.counts.takeovers.saturating_sub(1);
    out.counts.trades = out.truth.trades.len() as u64;
    out.counts.accepted = out.truth.accepted().len() as u64;
    out.counts.stale = out.truth.stale;
    out.counts.voided = out.truth.voided;
    out.counts.entries = out.journal.last_sequence();
    let (counts, finding) = (out.counts, out.truth.finding().map(str::to_owned));
    Ended { counts, finding, lines: out.into_log() }
}

impl World {
    fn new(seed: u64, log: StepLog) -> World {
        let mut out = Outside::new(seed, log);
        let swarm = out.swarm.clone();
        out.note(|| format!("{swarm:?}"));
        // Without steps the clocks are as close as a time service keeps them.
        let skew = if swarm.clocks_step { 5_000 } else { 100 };
        let nodes = (0..swarm.nodes)
            .map(|node| {
                let offset = out.rng.random_range(-skew..=skew);
                Node::new(&mut out, node, offset)
            })
            .collect();
        let clients: Vec<Client> = (0..swarm.clients).map(Client::new).collect();
        for client in 0..clients.len() {
            let begins = out.between(1, 3_000);
            out.after(begins, Step::Client(client, crate::step::ClientInput::Act));
        }
        // A price for each instrument before anybody trades.
        (0..crate::venue::instruments().len()).for_each(|which| out.market_moves(which));
        out.after(millis(500), Step::Market);
        // At least the one crash, while somebody leads.
        let crash = out.between(3_000, swarm.active.as_millis() as u64);
        out.after(crash, Step::Fault(Some(Fault::CrashLeader)));
        out.after(swarm.between_faults, Step::Fault(None));
        out.after(swarm.active, Step::Heal);
        World { out, nodes, clients, heals_at: swarm.active, quiet: 0 }
    }

    fn take(&mut self, step: Step) {
        let World { out, nodes, clients, .. } = self;
        match step {
            Step::Node(Process { node, life }, input) => {
                if nodes[node].process().life == life {
                    nodes[node].take(out, input);
                }
            }
            Step::Thaw(Process { node, life }) => {
                if nodes[node].process().life == life {
                    nodes[node].thaw(out);
                }
            }
            Step::Start(node) => nodes[node].start(out),
            Step::Journal(from, input) => out.journal_hears(from, input),
            Step::Lease { from, tenant, question, ask } => {
                if out.now < out.lease.stalled_until {
                    let until = out.lease.stalled_until;
                    return out.at(until, Step::Lease { from, tenant, question, ask });
                }
                let others = out.rng.random_range(0..3);
                let answer = out.lease.ask(out.now, &tenant, ask, others);
                let lost = out.swarm.lease_lost;
                if !out.chance(lost) {
                    let at = out.arrival();
                    out.at(at, Step::Node(from, NodeInput::Lease { question, answer }));
                }
            }
            Step::GiveBack(revision) => out.lease.give_back(revision),
            Step::Venue(connection, input) => out.venue_hears(connection, input),
            Step::Call { id, owner, deadline, request } => {
                out.calls_under_way -= 1;
                let mut is_served = false;
                for node in nodes.iter_mut().filter(|node| node.is_leading()) {
                    is_served = true;
                    let (owner, request) = (owner.clone(), request.clone());
                    node.take(out, NodeInput::Call { id, owner, deadline, request });
                }
                if !is_served {
                    out.answer(id, Answered::NobodyThere);
                }
            }
            Step::Client(client, input) => clients[client].take(out, input),
            Step::Market => {
                if !out.healed {
                    let which = out.rng.random_range(0..crate::venue::instruments().len());
                    out.market_moves(which);
                    let next = out.between(50, 1_000);
                    out.after(next, Step::Market);
                }
            }
            Step::Fault(fault) => self.go_wrong(fault),
            Step::Heal => self.heal(),
            Step::Rest => self.look_for_rest(),
        }
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(Node::is_leading)
    }

    fn go_wrong(&mut self, fault: Option<Fault>) {
        let leader = self.leader();
        let World { out, nodes, .. } = self;
        if out.healed {
            return;
        }
        let is_planned = fault.is_some();
        let Some(fault) = fault.or_else(|| out.swarm.faults.choose(&mut out.rng).copied()) else { return };
        if !is_planned {
            let mean = out.swarm.between_faults.as_millis() as u64;
            let next = out.between(1, mean * 2);
            out.after(next, Step::Fault(None));
        }
        out.note(|| format!("{fault:?}"));
        let now = out.now;
        match fault {
            // If nobody leads, whoever seeks to.
            Fault::CrashLeader => {
                let up = leader.or_else(|| nodes.iter().position(Node::is_up));
                match up {
                    Some(node) => nodes[node].crash(out),
                    None if is_planned => out.after(millis(500), Step::Fault(Some(fault))),
                    None => {}
                }
            }
            Fault::CrashAny => {
                let node = out.rng.random_range(0..nodes.len());
                nodes[node].crash(out);
            }
            Fault::FreezeLeader => {
                if let Some(node) = leader {
                    nodes[node].freeze(out);
                }
            }
            Fault::StepDown => {
                if let Some(node) = leader {
                    nodes[node].step_down(out);
                }
            }
            Fault::StallJournal => out.journal.stalled_until = now + out.between(200, 12_000),
            Fault::RestartJournal => {
                out.journal.restart();
                out.journal.stalled_until = now + out.between(200, 3_000);
            }
            Fault::FillJournal => out.journal.full_until = now + out.between(200, 8_000),
            Fault::StallLease => out.lease.stalled_until = now + out.between(200, 6_000),
            Fault::SilenceVenue => out.venue.silent_until = now + out.between(200, 12_000),
            Fault::CutVenue => {
                let open = out.venue.open_connections();
                if let Some((connection, process)) = open.choose(&mut out.rng).copied() {
                    out.cut(connection, process);
                }
            }
            Fault::RestartVenue => out.restart_venue(),
            Fault::RejectOrders => {
                let count = out.rng.random_range(1..4);
                out.venue.reject_next(count);
            }
            Fault::StepClock => {
                let node = out.rng.random_range(0..nodes.len());
                let step_ms = out.rng.random_range(-20_000..20_000);
                out.note(|| format!("the clock of node {node} steps by {step_ms} ms"));
                nodes[node].wall_offset_ms += step_ms;
            }
            // A venue lists what ended with the last day only: somebody must have seen that before the next one begins. That
            // the journal has begun this day does not say it: what was on its way then may be lost with its connection.
            Fault::NextDay => {
                if out.journal.day() == Some(out.venue.day()) && out.truth.is_told_before_today() {
                    out.venue.next_day();
                    (0..crate::venue::instruments().len()).for_each(|which| out.market_moves(which));
                }
            }
        }
    }

    fn heal(&mut self) {
        let World { out, nodes, .. } = self;
        out.note(|| "everything heals");
        out.healed = true;
        let now = out.now;
        out.journal.stalled_until = now;
        out.journal.full_until = now;
        out.lease.stalled_until = now;
        out.venue.silent_until = now;
        for node in nodes {
            node.thaw(out);
            node.start(out);
        }
        out.after(millis(1_000), Step::Rest);
    }

    fn look_for_rest(&mut self) {
        let leaders: Vec<&Node> = self.nodes.iter().filter(|node| node.is_leading()).collect();
        let is_quiet = match &leaders[..] {
            [leader] => leader.is_quiet() && leader.engine().is_some_and(|e| submitting(e.state()).next().is_none()),
            _ => false,
        };
        let is_quiet = is_quiet && self.out.now > self.out.venue_said_by;
        let is_quiet = is_quiet && self.out.calls_under_way == 0 && self.clients.iter().all(Client::knows_all);
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.out.after(millis(500), Step::Rest);
        if self.out.now > self.heals_at + REST {
            let state = leaders.first().and_then(|node| node.engine());
            let unknown: Vec<&OrderKey> = state.iter().flat_map(|e| submitting(e.state())).collect();
            let open = self.clients.iter().flat_map(|c| &c.tickets).filter(|t| t.outcome().is_none());
            let open: Vec<&str> = open.map(|t| t.id().as_str()).collect();
            let line = format!(
                "it does not come to rest: {} lead, {:?}; left unknown: {unknown:?}; clients do not know: {open:?}",
                leaders.len(),
                state.map(|e| e.gateway_state())
            );
            self.out.found(line);
        }
    }

    // What was promised.

    fn check(&mut self) {
        let Some(leader) = self.leader() else {
            return self.out.found("nobody leads in the end");
        };
        let replayed = self.nodes[leader].check_replay(&mut self.out);
        self.check_entries();
        let Some(engine) = self.nodes[leader].engine() else { return };
        let state = engine.state();
        let out = &mut self.out;
        check_venue(out, state, &replayed.days);
        for client in &self.clients {
            let mine = state.filtered(&client.owner);
            if client.mirror.state != mine {
                out.found(format!("a mirror differs from the node: {}", difference(&client.mirror.state, &mine)));
            }
            check_client(out, client, state, &replayed.days);
        }
        out.truth.check_never_arrived();
        out.counts.never_arrived = out.truth.never_arrived() as u64;
    }

    /// What is stored reads back from its bytes.
    fn check_entries(&mut self) {
        use protocol::journal::{decode_entry, encode_entry};
        let difference = self.out.journal.stored_behind(0).find_map(|(sequence, stored)| {
            let read = encode_entry("sim1", &stored.entry)
                .map_err(|error| error.to_string())
                .and_then(|(subject, bytes)| decode_entry(&subject, &bytes));
            let is_same = read.as_ref() == Ok(&*stored.entry);
            (!is_same).then(|| format!("entry {sequence} reads back as {read:?}, not as {:?}", stored.entry))
        });
        if let Some(difference) = difference {
            self.out.found(difference);
        }
    }
}

fn submitting(state: &OmsState) -> impl Iterator<Item = &OrderKey> {
    let orders = state.orders().iter().filter(|(_, o)| o.status == OrderStatus::Submitting).map(|(key, _)| key);
    let quotes = state.quotes().iter().filter(|(_, q)| q.status == OrderStatus::Submitting).map(|(key, _)| key);
    orders.chain(quotes)
}

/// Node and venue agree on everything that either knows.
fn check_venue(out: &mut Outside, state: &OmsState, days: &Days) {
    let standing_of = |key: &OrderKey| {
        let order = state.order(key).map(|o| (o.status, o.traded, o.venue_reference.clone()));
        let quote = || state.quote(key).map(|q| (q.status, q.traded(), q.venue_reference.clone()));
        let past = || days.past(key).map(|p| (p.status, p.traded[0] + p.traded[1], p.venue_reference.clone()));
        order.or_else(quote).or_else(past)
    };
    for (id, reference) in out.truth.accepted().clone() {
        let keys = (0..2).map(|client| OrderKey { owner: format!("owner{client}").into(), orderid: id.clone() });
        let found = keys.filter_map(|key| standing_of(&key)).next();
        let Some(really) = out.truth.standing(&reference) else { continue };
        match found {
            None => out.found(format!("{id} is at the venue as {reference}, and the node knows nothing of it")),
            Some((status, traded, ours)) => {
                if (status, traded) != (really.status, really.traded)
                    || ours.as_deref() != Some(reference.to_string().as_str())
                {
                    let line = format!(
                        "{id} is {status} with {traded} traded under {ours:?}; at the venue {} with {} under {reference}",
                        really.status, really.traded
                    );
                    out.found(line);
                }
            }
        }
    }
    let external = state.orders().values().find(|o| o.owner == "external");
    if let Some(order) = external {
        out.found(format!("{} was found at the venue, and nobody had journalled it", order.orderid));
    }
    let active = state.active_orders().map(|o| &o.orderid).chain(state.active_quotes().map(|q| &q.quoteid));
    let ghosts: Vec<String> =
        active.filter(|id| !out.truth.accepted().contains_key(*id)).map(ToString::to_string).collect();
    if !ghosts.is_empty() {
        out.found(format!("{ghosts:?} work, and the venue knows nothing of them"));
    }
    let lots = |trades: &mut dyn Iterator<Item = f64>| trades.sum::<f64>();
    let here = out.truth.trades_told;
    let there = (out.truth.trades.len(), lots(&mut out.truth.trades.iter().map(|t| t.volume)));
    if here != there {
        out.found(format!("{} trades of {} lots were told, and there were {} of {}", here.0, here.1, there.0, there.1));
    }
    let positions = out.venue.counter().exchange().positions();
    let held: Vec<_> = state.positions().values().filter(|p| p.volume != 0.0 || p.frozen != 0.0).collect();
    for position in positions.iter().filter(|p| p.volume != 0.0 || p.frozen != 0.0) {
        if !held.contains(&position) {
            let ours = state.position(&position.instrument(), position.direction);
            return out.found(format!("the venue holds {position:?}, the node {ours:?}"));
        }
    }
    if held.len() != positions.iter().filter(|p| p.volume != 0.0 || p.frozen != 0.0).count() {
        out.found("the node holds positions that the venue does not");
    }
    let account = out.venue.counter().exchange().account();
    if state.account("paper") != Some(&account) {
        out.found(format!("the venue's account is {account:?}, the node's {:?}", state.account("paper")));
    }
}

/// What a client knows is true.
fn check_client(out: &mut Outside, client: &Client, state: &OmsState, days: &Days) {
    for ticket in &client.tickets {
        let is_at_venue = out.truth.accepted().contains_key(ticket.id());
        let key = client.key(ticket);
        let is_known = state.order(&key).is_some() || state.quote(&key).is_some() || days.past(&key).is_some();
        match ticket.outcome() {
            None => out.found(format!("a client does not know what became of {}", ticket.id())),
            Some(Outcome::Told(_)) if !is_known => {
                out.found(format!("a client was told that {} is taken, and it is gone", ticket.id()));
            }
            Some(Outcome::Told(OrderStatus::Rejected)) if is_at_venue => {
                out.found(format!("a client was told that {} is rejected, and the venue has it", ticket.id()));
            }
            Some(Outcome::NotExecuted(why)) => {
                out.counts.not_executed += 1;
                if is_at_venue {
                    out.found(format!("a client takes {} for not executed ({why}), and the venue has it", ticket.id()));
                }
            }
            Some(Outcome::Told(_)) => {}
        }
    }
}
