//! The venue's desk: the one task that owns the counter, the ledger and the market. It takes what the connections bring,
//! plays the feed, and does what the counter decides in this order: into the ledger, then to the sessions.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use protocol::{InstrumentId, LogLevel, Name, Tick, Timestamp};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::connection::Outlet;
use crate::gateway::sim::Parts;
use crate::gateway::sim::bars::Bars;
use crate::gateway::sim::config::{FaultConfig, StartOn};
use crate::gateway::sim::control::VenueCounts;
use crate::gateway::sim::counter::{Counter, CounterSetup, Outcome, Rebuild, Session};
use crate::gateway::sim::faults::{Delivery, Fault, Faults};
use crate::gateway::sim::ledger::LedgerWriter;
use crate::gateway::sim::link::{self, Ask, Say};
use crate::gateway::sim::playback::Playback;
use crate::gateway::{Answer, GatewayError, VenueEvent};

/// Ticks, or messages, in a row before the others have their turn.
const BATCH: usize = 256;
/// Positions and accounts that only prices move are told this often.
const MARKS_EVERY: Duration = Duration::from_secs(1);
/// A tick of an unpaced feed that finds no room is tried again after this.
const HELD: Duration = Duration::from_millis(1);
/// The connection of a session that a newer login ended is still listened to for so long, so that what comes late is
/// refused on the record.
const LINGER: Duration = Duration::from_secs(60);

/// Characters of a node's name that are kept.
const LONGEST_NODE: usize = 128;
/// How long connections may take to write what waits, when the venue stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What connections bring.
pub(super) enum Input {
    Opened { id: u64, outlet: Outlet },
    Asked { id: u64, ask: Ask },
    Closed { id: u64, reason: String },
}

pub(super) struct Desk {
    setup: CounterSetup,
    directory: PathBuf,
    counter: Counter,
    ledger: LedgerWriter,
    faults: Faults,
    allow_faults: bool,
    logins: FaultConfig,
    bars: Bars,
    playback: Playback,
    start_on: StartOn,
    connections: HashMap<u64, Connection>,
    subscribed: HashSet<InstrumentId>,
    /// A tick of an unpaced feed that found no room.
    held: Option<Tick>,
    marks_due: Option<Instant>,
    marks_told: Option<Instant>,
    beat_due: Instant,
    began: Instant,
}

struct Connection {
    /// `None` once it is to close.
    outlet: Option<Outlet>,
    session: Option<Session>,
    /// The number of the last message.
    n: u64,
    /// When a newer login ended its session.
    ended: Option<Instant>,
}

impl Desk {
    /// Rebuilds the counter from the ledger in this directory.
    ///
    /// # Errors
    /// If the ledger cannot be used.
    pub(super) fn open(
        parts: Parts,
        orders_per_second: u32,
        directory: PathBuf,
        allow_faults: bool,
    ) -> anyhow::Result<Desk> {
        let setup =
            CounterSetup { gateway: parts.gateway, contracts: parts.contracts, terms: parts.terms, orders_per_second };
        let (counter, ledger) = open_books(&setup, &directory)?;
        let now = Instant::now();
        Ok(Desk {
            setup,
            directory,
            counter,
            ledger,
            faults: Faults::default(),
            allow_faults,
            logins: parts.faults,
            bars: Bars::default(),
            playback: Playback::new(parts.feed, parts.speed),
            start_on: parts.start_on,
            connections: HashMap::new(),
            subscribed: HashSet::new(),
            held: None,
            marks_due: None,
            marks_told: None,
            beat_due: now,
            began: now,
        })
    }

    /// Serves until `shutdown` completes.
    ///
    /// # Errors
    /// If the ledger cannot be written: what is in memory is ahead of it then, and nothing may be answered.
    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        tokio::pin!(shutdown);
        loop {
            let due = tokio::time::Instant::from_std(self.next_due(Instant::now()));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                input = inputs.recv() => {
                    let Some(input) = input else { break };
                    self.take(input)?;
                    for _ in 1..BATCH {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.take(input)?;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let now = Instant::now();
            self.release(now);
            self.play(now)?;
            self.tell_marks(now)?;
            self.beat(now);
        }
        if let Some(session) = self.counter.session() {
            self.end_session(session, "the venue stops")?;
        }
        for connection in self.connections.values_mut() {
            connection.outlet = None;
        }
        let farewell = async {
            while !self.connections.is_empty() {
                let Some(input) = inputs.recv().await else { break };
                self.take(input)?;
            }
            anyhow::Ok(())
        };
        // Whoever does not take the last word by then sees the connection end.
        tokio::time::timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))?;
        info!("stopped");
        Ok(())
    }

    /// When something happens without any input; may be past.
    fn next_due(&self, now: Instant) -> Instant {
        let market = match &self.held {
            Some(_) => Some(now + HELD),
            None if self.is_paused() => None,
            None => self.playback.next_due(),
        };
        let faults = self.faults.next_due().map(|due| self.began + due);
        [market, faults, self.marks_due].into_iter().flatten().fold(self.beat_due, Instant::min)
    }

    /// A feed that runs as fast as its ticks are taken stands still while there is nobody to take them.
    fn is_paused(&self) -> bool {
        self.playback.is_unpaced() && self.counter.session().is_none()
    }

    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        match input {
            Input::Opened { id, outlet } => {
                let connection = Connection { outlet: Some(outlet), session: None, n: 0, ended: None };
                self.connections.insert(id, connection);
                Ok(())
            }
            Input::Closed { id, reason } => {
                let Some(connection) = self.connections.remove(&id) else { return Ok(()) };
                match connection.session {
                    Some(session) => self.log_out(session, &reason),
                    None => Ok(()),
                }
            }
            Input::Asked { id, ask } => self.answer(id, ask),
        }
    }

    fn answer(&mut self, id: u64, ask: Ask) -> anyhow::Result<()> {
        match ask {
            Ask::LogIn { version, node, epoch } => return self.log_in(id, version, &node, epoch),
            Ask::Inject(fault) => return self.inject(id, fault),
            Ask::Counts => {
                let counts = self.counts();
                self.say(id, &Say::Counts(Box::new(counts)));
                return Ok(());
            }
            Ask::Heartbeat => return Ok(()),
            _ => {}
        }
        let Some(session) = self.connections.get(&id).and_then(|connection| connection.session) else {
            self.say(id, &Say::LoginRefused { reason: "log in first".to_owned(), is_final: false });
            self.close(id);
            return Ok(());
        };
        let now = self.began.elapsed();
        let mut out = Outcome::default();
        match ask {
            Ask::LogOut => self.counter.log_out(session, "logged out", &mut out),
            Ask::Subscribe(instruments) => self.subscribe(session, instruments, &mut out),
            Ask::Unsubscribe(instruments) => {
                if self.counter.session() == Some(session) {
                    self.subscribed.retain(|instrument| !instruments.contains(instrument));
                }
            }
            Ask::Submit { number, request } => self.counter.submit(session, number, &request, now, &mut out),
            Ask::SubmitQuote { number, request } => self.counter.submit_quote(session, number, &request, now, &mut out),
            Ask::Cancel(reference) => self.counter.cancel(session, &reference, &mut out),
            Ask::CancelQuote(reference) => self.counter.cancel_quote(session, &reference, &mut out),
            Ask::Snapshot => self.counter.snapshot(session, &mut out),
            Ask::History { token, request } => {
                let bars = self.bars.query(&request, &self.setup.gateway);
                let answer = bars.map(Answer::History).map_err(GatewayError::Refused);
                out.says.push((session, VenueEvent::Answer { token, answer }));
            }
            Ask::Account(token) => {
                let account = self.counter.account(&mut out);
                let answer = VenueEvent::Answer { token, answer: Ok(Answer::Sent) };
                out.says.extend([(session, VenueEvent::Account(account)), (session, answer)]);
            }
            Ask::Positions(token) => {
                let positions = self.counter.positions(&mut out);
                out.says.extend(positions.into_iter().map(|position| (session, VenueEvent::Position(position))));
                out.says.push((session, VenueEvent::Answer { token, answer: Ok(Answer::Sent) }));
            }
            Ask::LogIn { .. } | Ask::Inject(_) | Ask::Counts | Ask::Heartbeat => {}
        }
        self.carry_out(out)
    }

    fn log_in(&mut self, id: u64, version: u32, node: &Name, epoch: u64) -> anyhow::Result<()> {
        let is_new = self.connections.get(&id).is_some_and(|connection| connection.session.is_none());
        let refused = if version != link::VERSION {
            let own = link::VERSION;
            Some((format!("the node speaks version {version} of the venue's protocol, the venue version {own}"), true))
        } else if !is_new {
            Some(("the connection has a session already".to_owned(), false))
        } else if self.logins.refuse_login {
            Some(("the simulated venue refuses the login (faults.refuse_login)".to_owned(), true))
        } else if self.logins.login_failures > 0 {
            self.logins.login_failures -= 1;
            Some(("the simulated venue cannot be reached (faults.login_failures)".to_owned(), false))
        } else if self.faults.refuses_login(self.began.elapsed()) {
            Some(("the venue takes no logins for now (a fault)".to_owned(), false))
        } else {
            None
        };
        if let Some((reason, is_final)) = refused {
            self.refuse_login(id, reason, is_final);
            return Ok(());
        }
        let node = &node.chars().take(LONGEST_NODE).collect::<Name>();
        let mut out = Outcome::default();
        match self.counter.log_in(epoch, node, &mut out) {
            Ok(session) => {
                info!(%node, epoch, session = session.0, "logged in");
                let now = Instant::now();
                for other in self.connections.values_mut().filter(|other| other.session.is_some()) {
                    other.ended.get_or_insert(now);
                }
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.session = Some(session);
                }
                // Subscriptions belong to a session, and so does what was held back from it.
                self.subscribed.clear();
                self.held = None;
                self.faults.forget_held();
                if self.start_on == StartOn::Connect {
                    self.playback.start(now);
                }
                self.carry_out(out)
            }
            Err(reason) => {
                warn!(%node, epoch, reason, "login refused");
                self.carry_out(out)?;
                self.refuse_login(id, reason, false);
                Ok(())
            }
        }
    }

    fn refuse_login(&mut self, id: u64, reason: String, is_final: bool) {
        self.say(id, &Say::LoginRefused { reason, is_final });
        self.close(id);
    }

    fn subscribe(&mut self, session: Session, instruments: Vec<InstrumentId>, out: &mut Outcome) {
        if self.counter.session() != Some(session) {
            return;
        }
        for instrument in instruments {
            if self.counter.exchange().trades(&instrument) {
                self.subscribed.insert(instrument);
            } else {
                let message = format!("subscribed to {instrument}, which the simulated venue does not trade");
                out.says.push((session, VenueEvent::Log { level: LogLevel::Warning, message }));
            }
        }
        if self.start_on == StartOn::Subscribe && !self.subscribed.is_empty() {
            self.playback.start(Instant::now());
        }
    }

    fn inject(&mut self, id: u64, fault: Fault) -> anyhow::Result<()> {
        if !self.allow_faults {
            let reason = "faults are not allowed: start the venue with --allow-faults".to_owned();
            self.say(id, &Say::NotDone { reason });
            return Ok(());
        }
        info!(?fault, "fault injected");
        if !self.faults.inject(fault, self.began.elapsed()) {
            match fault {
                Fault::RejectOrders { next } => self.counter.reject_next(next),
                Fault::DropConnection => {
                    if let Some(session) = self.counter.session() {
                        self.faults.counts().connections_dropped += 1;
                        self.close_session(session);
                        self.log_out(session, "the connection was dropped (a fault)")?;
                    }
                }
                Fault::Restart => return self.restart(id),
                // Taken by `Faults::inject`.
                _ => {}
            }
        }
        self.say(id, &Say::Done);
        Ok(())
    }

    /// Begins again from the ledger, as a process does that was killed and started.
    fn restart(&mut self, id: u64) -> anyhow::Result<()> {
        self.faults.counts().restarts += 1;
        self.faults.forget_held();
        self.subscribed.clear();
        (self.held, self.marks_due) = (None, None);
        for (_, connection) in self.connections.iter_mut().filter(|(other, _)| **other != id) {
            connection.outlet = None;
        }
        self.ledger.release().context("letting go of the ledger")?;
        (self.counter, self.ledger) = open_books(&self.setup, &self.directory)?;
        self.say(id, &Say::Done);
        self.close(id);
        Ok(())
    }

    fn counts(&mut self) -> VenueCounts {
        VenueCounts {
            counter: self.counter.counts(),
            faults: *self.faults.counts(),
            connections: self.connections.len() as u64,
            records: self.ledger.count(),
            working: self.counter.exchange().working() as u64,
            session: self.counter.session().map_or(0, |session| session.0),
        }
    }

    fn play(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Some(tick) = self.held.take() {
            self.publish(tick);
        }
        for _ in 0..BATCH {
            if self.held.is_some() || self.is_paused() {
                return Ok(());
            }
            let mut lines = Vec::new();
            let tick = self.playback.take_due(now, &mut lines);
            let mut out = Outcome::default();
            if let Some(session) = self.counter.session() {
                out.says.extend(lines.into_iter().map(|line| (session, line)));
            }
            if let Some(tick) = &tick {
                let moved = self.counter.tick(tick, &mut out);
                if moved && self.marks_due.is_none() {
                    self.marks_due = Some(self.marks_told.map_or(now, |told| told + MARKS_EVERY));
                }
                self.bars.on_tick(tick);
            }
            self.carry_out(out)?;
            match tick {
                Some(tick) => self.publish(tick),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Hands a tick to the session in force, if it asked for it. A paced feed never waits: what finds no room conflates.
    fn publish(&mut self, tick: Tick) {
        if !self.subscribed.contains(&tick.instrument()) {
            return;
        }
        let Some(outlet) = self.counter.session().and_then(|session| self.outlet(session)) else { return };
        if self.playback.is_unpaced() {
            self.held = outlet.ticks.push_wait(tick, Duration::ZERO).err().map(|tick| *tick);
        } else {
            outlet.ticks.push(tick);
        }
    }

    fn tell_marks(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.marks_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        (self.marks_due, self.marks_told) = (None, Some(now));
        let mut out = Outcome::default();
        self.counter.report_marks(&mut out);
        self.carry_out(out)
    }

    /// Heartbeats to whom has a session, and an end to those that linger.
    fn beat(&mut self, now: Instant) {
        if now < self.beat_due {
            return;
        }
        self.beat_due = now + link::HEARTBEAT;
        let in_force = self.counter.session();
        let mut full = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.ended.is_some_and(|ended| now.duration_since(ended) > LINGER) {
                connection.outlet = None;
            }
            if connection.session.is_none() || connection.session != in_force {
                continue;
            }
            let heartbeat = link::encode(&Say::Heartbeat { last: connection.n });
            if let Some(Err(reason)) = connection.outlet.as_ref().map(|outlet| outlet.send(heartbeat)) {
                full.push((*id, reason));
            }
        }
        for (id, reason) in full {
            self.drop_connection(id, reason);
        }
    }

    fn log_out(&mut self, session: Session, reason: &str) -> anyhow::Result<()> {
        let mut out = Outcome::default();
        self.counter.log_out(session, reason, &mut out);
        if !out.entries.is_empty() {
            info!(session = session.0, reason, "session ended");
        }
        self.carry_out(out)
    }

    /// Ends a session of the venue's own accord.
    fn end_session(&mut self, session: Session, reason: &str) -> anyhow::Result<()> {
        self.log_out(session, reason)?;
        let event = VenueEvent::Disconnected { reason: reason.to_owned() };
        self.send_events(session, [Delivery::Say(event)]);
        self.close_session(session);
        Ok(())
    }

    /// Into the ledger, then to the sessions.
    fn carry_out(&mut self, out: Outcome) -> anyhow::Result<()> {
        self.ledger.append(&out.entries, clock()).context("nothing can be answered that is not in the ledger")?;
        let in_force = self.counter.session();
        let (current, others): (Vec<_>, Vec<_>) =
            out.says.into_iter().partition(|(session, _)| Some(*session) == in_force);
        for (session, event) in others {
            self.send_events(session, [Delivery::Say(event)]);
        }
        if let Some(session) = in_force.filter(|_| !current.is_empty()) {
            let events = current.into_iter().map(|(_, event)| event).collect();
            let deliveries = self.faults.pass(events, self.began.elapsed());
            self.send_events(session, deliveries);
        }
        Ok(())
    }

    /// What faults have held back and is due.
    fn release(&mut self, now: Instant) {
        let due = self.faults.take_due(now.duration_since(self.began));
        if let Some(session) = self.counter.session().filter(|_| !due.is_empty()) {
            self.send_events(session, due);
        }
    }

    fn send_events(&mut self, session: Session, deliveries: impl IntoIterator<Item = Delivery>) {
        let found = self.connections.iter_mut().find(|(_, connection)| connection.session == Some(session));
        let Some((id, connection)) = found else { return };
        for delivery in deliveries {
            connection.n += 1;
            let n = connection.n;
            let sent = match delivery {
                Delivery::Lose => Ok(()),
                Delivery::Say(event) => connection.send(&Say::Event { n, event }),
                Delivery::Repeat(event) => {
                    let say = Say::Event { n, event };
                    connection.send(&say).and_then(|()| connection.send(&say))
                }
            };
            if let Err(reason) = sent {
                let id = *id;
                self.drop_connection(id, reason);
                return;
            }
        }
    }

    fn say(&mut self, id: u64, say: &Say) {
        let sent = self.connections.get(&id).map(|connection| connection.send(say));
        if let Some(Err(reason)) = sent {
            self.drop_connection(id, reason);
        }
    }

    /// Closes a connection whose peer does not read. Its session ends when the connection says that it is closed.
    fn drop_connection(&mut self, id: u64, reason: &str) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.outlet.take().is_some() {
            warn!(session = connection.session.map(|session| session.0), reason, "connection dropped");
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outlet = None;
        }
    }

    fn close_session(&mut self, session: Session) {
        for connection in self.connections.values_mut().filter(|other| other.session == Some(session)) {
            connection.outlet = None;
        }
    }

    fn outlet(&self, session: Session) -> Option<&Outlet> {
        self.connections.values().find(|connection| connection.session == Some(session))?.outlet.as_ref()
    }
}

impl Connection {
    fn send(&self, say: &Say) -> Result<(), &'static str> {
        match &self.outlet {
            Some(outlet) => outlet.send(link::encode(say)),
            None => Ok(()),
        }
    }
}

/// The counter as its ledger tells it, and the ledger.
fn open_books(setup: &CounterSetup, directory: &std::path::Path) -> anyhow::Result<(Counter, LedgerWriter)> {
    let mut rebuild = Rebuild::new(setup.clone());
    let (mut ledger, cut) = LedgerWriter::open(directory, |record| rebuild.take(&record.entries))?;
    if cut > 0 {
        warn!(bytes = cut, "the ledger's last line was torn, as a killed venue leaves it: it is cut off");
    }
    let mut out = Outcome::default();
    let now = clock();
    let counter = rebuild.sessions_from(u64::try_from(now.timestamp()).unwrap_or(1)).start(&mut out);
    ledger.append(&out.entries, now)?;
    info!(directory = %directory.display(), records = ledger.count(), run = counter.counts().runs, "ledger open");
    Ok((counter, ledger))
}

/// The venue's clock: for the ledger's reader, and for the number of a new ledger's first session.
#[allow(clippy::disallowed_methods)] // this is the edge that reads it
fn clock() -> Timestamp {
    chrono::Utc::now().fixed_offset()
}
