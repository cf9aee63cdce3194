//! The venue: the real counter and exchange, and the connections to it, on which what is said is late, lost, repeated or
//! overtaken.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gateway_node::engine::Approval;
use gateway_node::gateway::sim::books::Terms;
use gateway_node::gateway::sim::counter::{Counter, CounterSetup, Outcome, Rebuild, Session};
use gateway_node::gateway::sim::ledger::LedgerEntry;
use gateway_node::gateway::{VenueEvent, VenueReference, VenueTrade};
use protocol::{Contract, Currency, Direction, Exchange, InstrumentId, Level, Name, Product, Tick, Timestamp};
use rand::RngExt as _;

use crate::outside::Outside;
use crate::step::{NodeInput, Process, Step, millis};
use crate::truth::Truth;

/// Names a connection to the venue.
pub type ConnectionId = usize;

/// What reaches the venue over a connection.
#[derive(Debug)]
pub enum VenueInput {
    /// A login.
    Login {
        /// The leader's epoch.
        epoch: u64,
        /// The node.
        node: Name,
    },
    /// The connection is over, as the venue sees it.
    Ended,
    /// An order or a quote.
    Submit(VenueReference, Box<Approval>),
    /// A cancel of an order.
    Cancel(VenueReference),
    /// A cancel of a quote.
    CancelQuote(VenueReference),
    /// A question for everything.
    Snapshot,
    /// The connection's heartbeat: it shows that something was lost.
    Heartbeat,
}

struct Connection {
    process: Process,
    session: Option<Session>,
    /// What is sent arrives.
    open: bool,
    /// The session is over: commands arrive, and are refused; nothing is said any more.
    ended: bool,
    /// When the last message arrives that was sent in this direction: none overtakes it.
    to_venue: Duration,
    to_node: Duration,
    /// When the last order or trade arrives that was overtaken.
    overtaken_by: Duration,
    /// Something that was said is lost; the next message shows it.
    gap: bool,
}

/// Within this a trade's id is unique: trading day, exchange, and whether it was bought.
type Side = (Option<chrono::NaiveDate>, Exchange, bool);

/// See the module.
pub struct Venue {
    counter: Counter,
    ledger: Vec<Vec<LedgerEntry>>,
    connections: Vec<Connection>,
    /// Nothing is heard or said until then.
    pub silent_until: Duration,
    /// The venue's own ids of trades count within trading day, exchange and direction: a fill's id here, by the counter's.
    trade_ids: HashMap<(Side, Name), Name>,
    trade_counts: BTreeMap<Side, u64>,
    markets: Vec<(InstrumentId, i64, f64)>,
    day: chrono::NaiveDate,
}

/// What trades at the venue.
#[must_use]
pub fn instruments() -> Vec<InstrumentId> {
    vec![InstrumentId::new("rb2410", Exchange::SHFE), InstrumentId::new("m2409", Exchange::DCE)]
}

/// When a history begins, on a true wall clock.
#[must_use]
pub fn first_instant() -> Timestamp {
    chrono::DateTime::from_timestamp_millis(1_704_157_200_000).expect("a time of the calendar").fixed_offset()
}

fn setup() -> CounterSetup {
    let contract = |instrument| {
        let mut contract = Contract::new("sim1", instrument, Product::Futures, 10.0, 1.0);
        contract.stop_supported = true;
        contract
    };
    CounterSetup {
        gateway: "sim1".into(),
        contracts: instruments().into_iter().map(contract).collect(),
        terms: Terms {
            accountid: "paper".into(),
            currency: Currency::CNY,
            balance: 1_000_000.0,
            commission_rate: 0.0001,
            commission_per_lot: 0.5,
            margin_ratio: 0.1,
        },
        orders_per_second: 8,
    }
}

impl Venue {
    /// A venue whose ledger is empty.
    #[must_use]
    pub fn new(truth: &mut Truth) -> Venue {
        let mut outcome = Outcome::default();
        let counter = Rebuild::new(setup()).start(&mut outcome);
        outcome.entries.iter().for_each(|entry| truth.on_ledger(entry));
        Venue {
            counter,
            ledger: vec![outcome.entries],
            connections: Vec::new(),
            silent_until: Duration::ZERO,
            trade_ids: HashMap::new(),
            trade_counts: BTreeMap::new(),
            markets: instruments().into_iter().map(|instrument| (instrument, 100, 0.0)).collect(),
            day: first_instant().date_naive(),
        }
    }

    /// The counter.
    #[must_use]
    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// A new connection from a process.
    pub fn connect(&mut self, process: Process, now: Duration) -> ConnectionId {
        self.connections.push(Connection {
            process,
            session: None,
            open: true,
            ended: false,
            to_venue: now,
            to_node: now,
            overtaken_by: now,
            gap: false,
        });
        self.connections.len() - 1
    }

    /// Whether what is said over a connection arrives.
    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.get(connection).is_some_and(|c| c.open && !c.ended)
    }

    /// From now on nothing arrives in either direction. The venue need not know yet.
    pub fn break_connection(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.open = false;
        }
    }

    /// The connections that stand, and whose they are.
    #[must_use]
    pub fn open_connections(&self) -> Vec<(ConnectionId, Process)> {
        let open = self.connections.iter().enumerate().filter(|(_, c)| c.open && !c.ended);
        open.map(|(id, c)| (id, c.process)).collect()
    }

    /// The trading day, once ticks of it have come.
    #[must_use]
    pub fn day(&self) -> chrono::NaiveDate {
        self.day
    }

    /// A new trading day begins, for each instrument with its next tick.
    pub fn next_day(&mut self) {
        self.day = self.day.succ_opt().unwrap_or(self.day);
    }

    /// The next orders are rejected for no good reason.
    pub fn reject_next(&mut self, count: u32) {
        self.counter.reject_next(count);
    }

    /// The id that the venue's own trade id has here.
    fn rename(&mut self, trade: &mut VenueTrade) {
        let side = (trade.trading_day, trade.instrument.exchange, trade.direction == Direction::Long);
        let counts = &mut self.trade_counts;
        let name = self.trade_ids.entry((side, trade.tradeid.clone())).or_insert_with(|| {
            let count = counts.entry(side).or_default();
            *count += 1;
            Name::from(format!("t{count}"))
        });
        trade.tradeid.clone_from(name);
    }
}

impl Outside {
    /// Sends a command to the venue; it arrives behind those sent before, if the connection stands so long.
    pub fn to_venue(&mut self, connection: ConnectionId, input: VenueInput) {
        let arrival = self.arrival().max(self.venue.silent_until);
        let Some(line) = self.venue.connections.get_mut(connection) else { return };
        line.to_venue = line.to_venue.max(arrival);
        let at = line.to_venue;
        self.at_line(at, Step::Venue(connection, input));
    }

    /// A command reaches the venue.
    pub fn venue_hears(&mut self, connection: ConnectionId, input: VenueInput) {
        let (open, session, process) = match self.venue.connections.get(connection) {
            Some(line) => (line.open, line.session, line.process),
            None => return,
        };
        if let (VenueInput::Submit(reference, _), false) = (&input, open) {
            self.truth.on_vanished(reference);
        }
        let mut outcome = Outcome::default();
        let now = self.now;
        let counter = &mut self.venue.counter;
        match (input, session) {
            (VenueInput::Ended, Some(session)) => {
                self.venue.break_connection(connection);
                self.venue.counter.log_out(session, "the connection is lost", &mut outcome);
            }
            (VenueInput::Ended, None) => self.venue.break_connection(connection),
            (_, _) if !open => return,
            (VenueInput::Login { epoch, node }, None) => match counter.log_in(epoch, &node, &mut outcome) {
                Ok(session) => {
                    // The older session's last words find their connection before it ends.
                    if let Some(line) = self.venue.connections.get_mut(connection) {
                        line.session = Some(session);
                    }
                }
                Err(reason) => {
                    self.venue.break_connection(connection);
                    self.tell_ended(connection, process, reason);
                }
            },
            (VenueInput::Heartbeat, _) => {
                if self.venue.connections[connection].gap {
                    self.tell_node(connection, None);
                }
            }
            (VenueInput::Submit(reference, approval), Some(session)) => match &*approval {
                Approval::Order(order) => counter.submit(session, reference.number, order, now, &mut outcome),
                Approval::Quote(quote) => counter.submit_quote(session, reference.number, quote, now, &mut outcome),
            },
            (VenueInput::Cancel(reference), Some(session)) => counter.cancel(session, &reference, &mut outcome),
            (VenueInput::CancelQuote(reference), Some(session)) => {
                counter.cancel_quote(session, &reference, &mut outcome);
            }
            (VenueInput::Snapshot, Some(session)) => counter.snapshot(session, &mut outcome),
            (VenueInput::Login { .. }, Some(_)) | (_, None) => return,
        }
        self.venue_did(outcome);
    }

    /// Writes the ledger, then says what is to be said.
    fn venue_did(&mut self, outcome: Outcome) {
        if !outcome.entries.is_empty() {
            for entry in &outcome.entries {
                if !matches!(entry, LedgerEntry::Marks(_)) {
                    self.note(|| format!("venue: {}", ledger_line(entry)));
                }
                self.truth.on_ledger(entry);
            }
            self.venue.ledger.push(outcome.entries);
        }
        for (session, event) in outcome.says {
            let found = self.venue.connections.iter().rposition(|line| line.session == Some(session));
            let Some(connection) = found.filter(|id| self.venue.is_open(*id)) else { continue };
            if let VenueEvent::Disconnected { reason } = event {
                let process = self.venue.connections[connection].process;
                self.venue.connections[connection].ended = true;
                self.tell_ended(connection, process, reason);
            } else {
                self.say(connection, event);
            }
        }
    }

    /// Says something over a connection, as well as the connection lets it.
    fn say(&mut self, connection: ConnectionId, mut event: VenueEvent) {
        match &mut event {
            VenueEvent::Trade(trade) => self.venue.rename(trade),
            VenueEvent::Snapshot(snapshot) => snapshot.trades.iter_mut().for_each(|trade| self.venue.rename(trade)),
            _ => {}
        }
        let (lost, repeated, overtaken) =
            (self.swarm.event_lost, self.swarm.event_repeated, self.swarm.event_overtaken);
        if self.chance(lost) {
            self.note(|| format!("lost on the way from the venue: {event:?}"));
            self.venue.connections[connection].gap = true;
            self.at_line(self.now + millis(1_000), Step::Venue(connection, VenueInput::Heartbeat));
            return;
        }
        if matches!(event, VenueEvent::Order(_) | VenueEvent::Quote(_) | VenueEvent::Trade(_)) {
            if self.chance(repeated) {
                self.say_out_of_turn(connection, event.clone());
            }
            if self.chance(overtaken) {
                let at = self.say_out_of_turn(connection, event);
                let line = &mut self.venue.connections[connection];
                line.overtaken_by = line.overtaken_by.max(at);
                return;
            }
        }
        // An adapter tells a position behind the orders and trades that are in it, whatever overtakes what among those
        // (the venue's own faults keep to it too). A fill that came later would count as one that is not in the
        // position, and the node would drop the mark that waits for the timer, since a newer word on the position is
        // to follow. None would.
        if matches!(event, VenueEvent::Position(_)) {
            let line = &mut self.venue.connections[connection];
            line.to_node = line.to_node.max(line.overtaken_by);
        }
        self.tell_node(connection, Some(event));
    }

    /// Returns when it arrives.
    fn say_out_of_turn(&mut self, connection: ConnectionId, event: VenueEvent) -> Duration {
        let at = self.arrival().max(self.venue.silent_until) + self.between(1, 1_500);
        let process = self.venue.connections[connection].process;
        let input = NodeInput::Venue { connection, gap: false, event: Some(Box::new(event)) };
        self.at_line(at, Step::Node(process, input));
        at
    }

    /// A message in its turn; without an event it is a heartbeat.
    fn tell_node(&mut self, connection: ConnectionId, event: Option<VenueEvent>) {
        let arrival = self.arrival().max(self.venue.silent_until);
        let line = &mut self.venue.connections[connection];
        line.to_node = line.to_node.max(arrival);
        let (at, process, gap) = (line.to_node, line.process, std::mem::take(&mut line.gap));
        self.at_line(at, Step::Node(process, NodeInput::Venue { connection, gap, event: event.map(Box::new) }));
    }

    /// The process finds out that a connection is over.
    fn tell_ended(&mut self, connection: ConnectionId, process: Process, reason: String) {
        let at = self.arrival().max(self.venue.connections[connection].to_node);
        let event = Some(Box::new(VenueEvent::Disconnected { reason }));
        self.at_line(at, Step::Node(process, NodeInput::Venue { connection, gap: false, event }));
    }

    /// The line is cut: both ends find out, the venue perhaps only when a newer login ends the session.
    pub fn cut(&mut self, connection: ConnectionId, process: Process) {
        self.note(|| format!("the connection {connection} to the venue is cut"));
        self.venue.break_connection(connection);
        let event = Some(Box::new(VenueEvent::Disconnected { reason: "the line is cut".to_owned() }));
        let notices = self.between(10, 3_000);
        self.at_line(self.now + notices, Step::Node(process, NodeInput::Venue { connection, gap: false, event }));
        self.hang_up(connection);
    }

    /// A process left the connection, or died: what it wrote before may still arrive, and the venue notices, or not.
    pub fn hang_up(&mut self, connection: ConnectionId) {
        if self.rng.random_bool(0.3) {
            self.venue.break_connection(connection);
        }
        if self.rng.random_bool(0.7) {
            let last_words = self.venue.connections.get(connection).map_or(Duration::ZERO, |line| line.to_venue);
            let notices = (self.now + self.between(1, 4_000)).max(last_words);
            self.at_line(notices, Step::Venue(connection, VenueInput::Ended));
        }
    }

    /// The venue's process starts again, from its ledger.
    pub fn restart_venue(&mut self) {
        let mut rebuild = Rebuild::new(setup());
        for entries in &self.venue.ledger {
            if let Err(error) = rebuild.take(entries) {
                self.truth.found(format!("the venue cannot be rebuilt from its ledger: {error}"));
                return;
            }
        }
        for (connection, process) in self.venue.open_connections() {
            self.venue.break_connection(connection);
            self.tell_ended(connection, process, "the venue restarted".to_owned());
        }
        let mut outcome = Outcome::default();
        self.venue.counter = rebuild.start(&mut outcome);
        self.venue_did(outcome);
    }

    /// One instrument's price moves, and what rests may trade.
    pub fn market_moves(&mut self, which: usize) {
        let step = self.rng.random_range(-2..=2_i64);
        let time = first_instant() + chrono::TimeDelta::from_std(self.now).unwrap_or_default();
        let day = self.venue.day;
        let (instrument, price, volume) = &mut self.venue.markets[which];
        *price = (*price + step).clamp(96, 104);
        *volume += 7.0;
        let last = *price as f64;
        let mut tick = Tick::new("sim1", instrument.clone(), time);
        tick.trading_day = Some(day);
        tick.last_price = Some(last);
        tick.volume = Some(*volume);
        (tick.limit_up, tick.limit_down) = (Some(200.0), Some(10.0));
        tick.bids = [Level(last - 1.0, 4.0), Level(last - 2.0, 9.0)].into_iter().collect();
        tick.asks = [Level(last + 1.0, 3.0), Level(last + 2.0, 9.0)].into_iter().collect();
        let mut outcome = Outcome::default();
        if self.venue.counter.tick(&tick, &mut outcome) {
            self.venue.counter.report_marks(&mut outcome);
        }
        self.venue_did(outcome);
    }
}

fn ledger_line(entry: &LedgerEntry) -> String {
    match entry {
        LedgerEntry::OrderAccepted { memo, order, .. } => format!("accepted {memo} as {}", order.reference),
        LedgerEntry::OrderRejected { memo, order } => {
            format!("rejected {memo} as {}: {}", order.reference, order.reason.as_deref().unwrap_or_default())
        }
        LedgerEntry::QuoteAccepted { memo, quote } => format!("accepted quote {memo} as {}", quote.reference),
        LedgerEntry::Trade(trade) => format!("trade {} of {}: {} lots", trade.tradeid, trade.reference, trade.volume),
        LedgerEntry::Finished { reference, status, traded, .. } => format!("{reference} is {status}, {traded} traded"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::StepLog;
    use protocol::{Offset, Position};

    #[test]
    fn a_position_is_told_behind_the_trades_that_are_in_it() {
        for seed in 0..50 {
            let mut out = Outside::new(seed, StepLog::default());
            (out.swarm.event_lost, out.swarm.event_repeated, out.swarm.event_overtaken) = (0.0, 0.0, 1.0);
            let connection = out.venue.connect(Process { node: 0, life: 1 }, out.now);
            let instrument = instruments().remove(0);
            let trade = VenueTrade {
                reference: VenueReference { session: "1".into(), number: 1 },
                tradeid: "1-1".into(),
                instrument: instrument.clone(),
                direction: Direction::Long,
                offset: Offset::Open,
                price: 100.0,
                volume: 1.0,
                datetime: None,
                trading_day: None,
            };
            let position = Position {
                gateway_name: "sim1".into(),
                symbol: instrument.symbol,
                exchange: instrument.exchange,
                direction: Direction::Long,
                volume: 1.0,
                frozen: 0.0,
                price: 100.0,
                pnl: 0.0,
                yd_volume: 0.0,
                extra: None,
            };
            out.say(connection, VenueEvent::Trade(trade));
            out.say(connection, VenueEvent::Position(position));
            let told: Vec<bool> = std::iter::from_fn(|| out.steps.pop())
                .filter_map(|(_, step)| match step {
                    Step::Node(_, NodeInput::Venue { event, .. }) => {
                        Some(matches!(event.as_deref(), Some(VenueEvent::Position(_))))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(told, [false, true], "seed {seed}");
        }
    }
}
