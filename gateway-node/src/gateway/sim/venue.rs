//! The simulated venue's thread: it takes commands, plays the feed into the exchange, and tells the node what comes
//! of it. Decisions are the exchange's; this file paces, routes and waits.
//!
//! Nothing of it spins: it sleeps until the next command, tick or report of marks, and at speed `"max"` waits for
//! room in the queue of ticks, a few milliseconds at a time so that commands are served in between. At finite speeds
//! ticks never wait; the queue conflates them. Trading events wait for room up to [`PATIENCE`]; after that they are
//! dropped and the gateway is told to be DIRTY.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use protocol::{Contract, HistoryRequest, InstrumentId, LogLevel, Name, OrderRequest, QuoteRequest, Tick};

use super::Parts;
use super::bars::Bars;
use super::config::StartOn;
use super::matching::Exchange;
use super::playback::Playback;
use crate::gateway::{Answer, GatewayError, QueryToken, SessionStart, VenueEvent, VenueReference, VenueSink};

/// How long an event waits for room in the node's queue.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a tick of an unpaced feed waits for room before commands are looked at again.
const TICK_PATIENCE: Duration = Duration::from_millis(5);
/// Ticks, or commands, in a row before the others have their turn.
const BATCH: usize = 256;
/// Positions and accounts that only prices move are told this often.
const MARKS_EVERY: Duration = Duration::from_secs(1);
/// Longest sleep with nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// What the adapter wants.
pub(super) enum Command {
    Login { number: u64, login: Login },
    Subscribe(Vec<InstrumentId>),
    Unsubscribe(Vec<InstrumentId>),
    Submit(VenueReference, Box<OrderRequest>),
    Cancel(VenueReference),
    SubmitQuote(VenueReference, Box<QuoteRequest>),
    CancelQuote(VenueReference),
    History(QueryToken, Box<HistoryRequest>),
    Account(QueryToken),
    Positions(QueryToken),
    Snapshot,
}

/// What a login comes to.
pub(super) enum Login {
    Accepted { session: Name, start: SessionStart },
    Failed,
    Refused,
}

pub(super) struct Venue {
    gateway: Name,
    contracts: Vec<Contract>,
    exchange: Exchange,
    bars: Bars,
    playback: Playback,
    start_on: StartOn,
    line: Line,
    /// Whose books these are: a higher epoch brings its own from the journal.
    epoch: Option<u64>,
    subscribed: HashSet<InstrumentId>,
    /// A tick that found no room.
    held: Option<Tick>,
    /// When the moved marks are to be told.
    marks_due: Option<Instant>,
    marks_told: Option<Instant>,
    out: Vec<VenueEvent>,
}

/// The way to the node, for as long as a login is in force.
struct Line {
    sink: VenueSink,
    live: Arc<AtomicU64>,
    login: u64,
    /// Lost when the node took nothing for the whole patience: one stuck node is waited for once, not at each event.
    patient: bool,
}

impl Venue {
    pub(super) fn new(parts: Parts, sink: VenueSink, live: Arc<AtomicU64>) -> Self {
        Venue {
            exchange: Exchange::new(parts.gateway.clone(), parts.contracts.iter(), parts.terms),
            gateway: parts.gateway,
            contracts: parts.contracts,
            bars: Bars::default(),
            playback: Playback::new(parts.feed, parts.speed),
            start_on: parts.start_on,
            line: Line { sink, live, login: 0, patient: true },
            epoch: None,
            subscribed: HashSet::new(),
            held: None,
            marks_due: None,
            marks_told: None,
            out: Vec::new(),
        }
    }

    /// Runs until the adapter drops its end of `commands`.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            match commands.recv_timeout(self.wait(Instant::now())) {
                Ok(command) => {
                    self.perform(command);
                    for command in commands.try_iter().take(BATCH) {
                        self.perform(command);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.play(Instant::now());
            self.tell_marks(Instant::now());
        }
    }

    /// How long nothing but a command can happen.
    fn wait(&self, now: Instant) -> Duration {
        let marks = self.marks_due.map_or(IDLE, |due| due.saturating_duration_since(now));
        if self.is_paused() {
            return marks.min(IDLE);
        }
        if self.held.is_some() {
            return Duration::ZERO;
        }
        self.playback.wait(now, marks.min(IDLE))
    }

    /// A feed that runs as fast as its ticks are taken stands still while there is nobody to take them.
    fn is_paused(&self) -> bool {
        self.playback.is_unpaced() && !self.line.is_live()
    }

    fn play(&mut self, now: Instant) {
        if self.is_paused() {
            return;
        }
        if let Some(tick) = self.held.take() {
            self.publish(tick);
        }
        for _ in 0..BATCH {
            if self.held.is_some() {
                return;
            }
            let tick = self.playback.take_due(now, &mut self.out);
            let Some(tick) = tick else {
                self.flush();
                return;
            };
            let moved = self.exchange.on_tick(&tick, &mut self.out);
            if moved && self.marks_due.is_none() {
                self.marks_due = Some(self.marks_told.map_or(now, |told| told + MARKS_EVERY));
            }
            self.bars.on_tick(&tick);
            self.flush();
            self.publish(tick);
        }
    }

    fn publish(&mut self, tick: Tick) {
        if !self.line.is_live() || !self.subscribed.contains(&tick.instrument()) {
            return;
        }
        let ticks = self.line.sink.ticks();
        if self.playback.is_unpaced() {
            self.held = ticks.push_wait(tick, TICK_PATIENCE).err().map(|tick| *tick);
        } else {
            ticks.push(tick);
        }
    }

    fn tell_marks(&mut self, now: Instant) {
        if self.marks_due.is_some_and(|due| due <= now) {
            self.marks_due = None;
            self.marks_told = Some(now);
            self.exchange.report_marks(&mut self.out);
            self.flush();
        }
    }

    fn perform(&mut self, command: Command) {
        let out = &mut self.out;
        match command {
            Command::Login { number, login } => {
                self.line.login = number;
                let is_accepted = self.log_in(login);
                self.flush();
                if !is_accepted {
                    self.line.login = 0;
                }
                return;
            }
            Command::Subscribe(instruments) => self.subscribe(instruments),
            Command::Unsubscribe(instruments) => {
                for instrument in &instruments {
                    self.subscribed.remove(instrument);
                }
            }
            Command::Submit(reference, request) => self.exchange.submit(&reference, &request, out),
            Command::Cancel(reference) => self.exchange.cancel(&reference, out),
            Command::SubmitQuote(reference, request) => self.exchange.submit_quote(&reference, &request, out),
            Command::CancelQuote(reference) => self.exchange.cancel_quote(&reference, out),
            Command::History(token, request) => {
                let bars = self.bars.query(&request, &self.gateway);
                let answer = bars.map(Answer::History).map_err(GatewayError::Refused);
                out.push(VenueEvent::Answer { token, answer });
            }
            Command::Account(token) => {
                out.push(VenueEvent::Account(self.exchange.account()));
                out.push(VenueEvent::Answer { token, answer: Ok(Answer::Sent) });
            }
            Command::Positions(token) => {
                out.extend(self.exchange.positions().into_iter().map(VenueEvent::Position));
                out.push(VenueEvent::Answer { token, answer: Ok(Answer::Sent) });
            }
            Command::Snapshot => {
                // The books count as told what they have told last: without this, prices that come back to where they
                // were before the snapshot would leave the snapshot's marks standing.
                self.exchange.report_marks(out);
                out.push(VenueEvent::Snapshot(Box::new(self.exchange.snapshot())));
            }
        }
        self.flush();
    }

    /// Whether there is a session now.
    fn log_in(&mut self, login: Login) -> bool {
        // Subscriptions belong to a session.
        self.subscribed.clear();
        self.held = None;
        let (session, start) = match login {
            Login::Accepted { session, start } => (session, start),
            Login::Failed => {
                let reason = "the simulated venue cannot be reached (faults.login_failures)".to_owned();
                self.out.push(VenueEvent::Disconnected { reason });
                return false;
            }
            Login::Refused => {
                let reason = "the simulated venue refuses the login (faults.refuse_login)".to_owned();
                self.out.push(VenueEvent::Refused { reason });
                return false;
            }
        };
        // Within an epoch the exchange knows better than the journal; a new leader knows only the journal.
        if self.epoch.replace(start.epoch) != Some(start.epoch) {
            let dropped = self.exchange.restart(&start.positions, &start.accounts);
            let log = |message| VenueEvent::Log { level: LogLevel::Warning, message };
            self.out.extend(dropped.into_iter().map(log));
        }
        self.exchange.begin_session(session.clone());
        self.out.push(VenueEvent::Connected {
            session,
            max_reference: 0,
            trading_day: self.exchange.trading_day(),
            venue: concat!("sim ", env!("CARGO_PKG_VERSION")).into(),
        });
        self.out.extend(self.contracts.iter().cloned().map(VenueEvent::Contract));
        self.out.push(VenueEvent::Ready);
        if self.start_on == StartOn::Connect {
            self.playback.start(Instant::now());
        }
        true
    }

    fn subscribe(&mut self, instruments: Vec<InstrumentId>) {
        for instrument in instruments {
            if !self.exchange.trades(&instrument) {
                let message = format!("subscribed to {instrument}, which the simulated venue does not trade");
                self.out.push(VenueEvent::Log { level: LogLevel::Warning, message });
            }
            self.subscribed.insert(instrument);
        }
        if self.start_on == StartOn::Subscribe && !self.subscribed.is_empty() {
            self.playback.start(Instant::now());
        }
    }

    fn flush(&mut self) {
        for event in self.out.drain(..) {
            self.line.tell(event);
        }
    }
}

impl Line {
    /// Whether the login that this thread serves is the one in force.
    fn is_live(&self) -> bool {
        self.login != 0 && self.live.load(Ordering::Acquire) == self.login
    }

    /// Tells the node, if its session lasts; lines for people are told anyway.
    fn tell(&mut self, event: VenueEvent) {
        if self.is_live() || matches!(event, VenueEvent::Log { .. }) {
            let patience = if self.patient { PATIENCE } else { Duration::ZERO };
            self.patient = self.sink.send_wait(event, patience);
        }
    }
}
