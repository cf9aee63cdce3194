//! Decisions of one gateway: a plain struct with no clock, no NATS and no async, whose methods take one input and
//! append what is to be done, in order.
//!
//! Nothing here waits. What must not happen before the journal has it follows its `Effect::Journal` in the list, and
//! the node's gate holds it back.

mod calls;
mod day;
pub mod halts;
mod lists;
mod marks;
mod orders;
mod session;
mod subscriptions;
mod venue;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use protocol::event::{Event, Head, Log, OmsEvent, Status};
use protocol::journal::{Entry, Private};
use protocol::oms::{Applied, OrderKey};
use protocol::rpc::{CancelledAll, GetEvents};
use protocol::subject::Filter;
use protocol::value::{OWNER_DEFAULT, OWNER_EXTERNAL};
use protocol::{
    Contract, ErrorCode, GatewayState, InstrumentId, LogLevel, Name, OmsState, OrderRequest, PROTOCOL_VERSION,
    QuoteRequest, RpcError, Subject, Tick, Timestamp,
};
use serde::Serialize;

use crate::gateway::tick_queue::TickCounts;
use crate::gateway::{GatewayError, QueryToken, SequencedTick, SessionStart, VenueReference};
use crate::reconcile::Target;
use crate::risk::{Approved, Counters, Limits, NewFills};

pub use calls::{Call, Caller, Request};
pub use day::{Days, Replayed};
use halts::{HaltWrite, Halts};
use marks::Marks;
pub use session::SNAPSHOT;
use session::Session;
use subscriptions::Subscriptions;

/// Most misspelt instruments a second that are told the nearest one.
const HINTS: u32 = 10;

/// The owner that stands for everybody in halts.
pub const EVERYBODY: &str = "*";

/// The time, as an input: `wall` is the node's clock, `mono` never jumps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// For people, and for deadlines that clients set.
    pub wall: Timestamp,
    /// For intervals; counts from the node's start.
    pub mono: Duration,
}

impl Now {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> i64 {
        self.wall.timestamp_millis()
    }

    /// An instant of the wall clock, on the clock that never jumps.
    #[must_use]
    pub fn mono_at(&self, wall_ms: i64) -> Duration {
        let left = u64::try_from(wall_ms.saturating_sub(self.millis())).unwrap_or(0);
        self.mono.saturating_add(Duration::from_millis(left))
    }
}

/// Names a call, so that its answer finds who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyTo(pub u64);

/// An answer: JSON, or an error.
pub type Reply = Result<Vec<u8>, RpcError>;

/// A command to the venue's adapter.
#[derive(Debug, Clone)]
pub enum VenueCommand {
    /// Log in.
    Connect(SessionStart),
    /// Log out.
    Disconnect,
    /// Ticks wanted; the call, if any, is answered with what the adapter says.
    Subscribe(Vec<InstrumentId>, Option<ReplyTo>),
    /// Ticks no longer wanted.
    Unsubscribe(Vec<InstrumentId>),
    /// Cancel an order; the call, if any, is answered with this if the adapter takes it, or with its refusal.
    Cancel(VenueReference, Option<(ReplyTo, Reply)>),
    /// Cancel a quote; the call, if any, is answered with this if the adapter takes it, or with its refusal.
    CancelQuote(VenueReference, Option<(ReplyTo, Reply)>),
    /// Cancel these, one after the other; [`Engine::on_cancels`] wants to hear what the adapter said to each.
    CancelEach(Box<Cancels>),
    /// Ask for bars.
    QueryHistory(QueryToken, Box<protocol::HistoryRequest>),
    /// Ask for the account.
    QueryAccount(QueryToken),
    /// Ask for positions.
    QueryPosition(QueryToken),
    /// Ask for everything.
    Snapshot,
}

/// Cancels that were asked for together.
#[derive(Debug, Clone)]
pub struct Cancels {
    /// Which, and by what the venue knows them.
    pub each: Vec<(Target, VenueReference)>,
    /// The call, if one waits for what came of them, and what is known of it already.
    pub reply: Option<(ReplyTo, CancelledAll)>,
}

/// An approved order or quote on its way to the venue.
#[derive(Debug, Clone, PartialEq)]
pub enum Approval {
    /// An order.
    Order(Approved<OrderRequest>),
    /// A quote.
    Quote(Approved<QuoteRequest>),
}

/// The last step before the venue: performed once everything ahead of it is stored, and only if
/// [`Engine::before_submit`] still agrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Submit {
    /// Which order or quote.
    pub key: OrderKey,
    /// Its reference at the venue.
    pub reference: VenueReference,
    /// What was approved.
    pub approval: Approval,
    /// Not later than this, in milliseconds since 1970.
    pub deadline_ms: i64,
    /// The same on the clock that never jumps: one that is set back while the journal is slow revives no order.
    pub leave_by: Duration,
    /// The trace that it belongs to.
    pub traceid: Option<Name>,
    /// Who waits for the answer.
    pub reply: ReplyTo,
}

/// What the engine wants done, in order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Store; the gated effects behind it wait until it is stored.
    Journal(Entry),
    /// Gated: send to the venue, then answer.
    Submit(Box<Submit>),
    /// Gated: answer with trading state, so that no answer shows what could be lost.
    Reply(ReplyTo, Reply),
    /// Gated: tell owners how far their events have come.
    Heads(Vec<Head>),
    /// Gated: read the journal and answer with what it holds; by owner, if the caller sees only its own.
    ReadEvents(ReplyTo, GetEvents),
    /// Gated: what lies before this sequence is not kept any more.
    Purge(u64),
    /// Passes the gate.
    Venue(VenueCommand),
    /// Passes the gate: an answer that shows no trading state.
    ReplyNow(ReplyTo, Reply),
    /// Passes the gate: an instrument that can be traded.
    Contract(Box<Event<Contract>>),
    /// Passes the gate: write a halt or a resume to the bucket; [`Engine::on_halt_news`] wants to hear what came of it.
    WriteHalt(Box<HaltWrite>),
    /// Passes the gate: a line for people.
    Log(Log),
}

/// Where effects are appended.
pub type Effects = Vec<Effect>;

/// What an engine is made from.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The gateway's name.
    pub gateway: Name,
    /// The node's name.
    pub node: Name,
    /// This leadership's epoch.
    pub epoch: u64,
    /// Instruments to subscribe at each login.
    pub subscribe: Vec<Filter>,
    /// An order that the venue has not confirmed for this long is looked up by a snapshot.
    pub unconfirmed_after: Duration,
    /// How long a lease lasts: what was handed to the venue before its deadline has arrived one lease later, or never will.
    pub lease: Duration,
    /// New orders are refused while this many journal entries wait to be stored.
    pub max_journal_backlog: u64,
    /// What orders and cancels are held to, besides their contracts' own rules.
    pub limits: Limits,
    /// What people are told as soon as it leads.
    pub notice: Option<String>,
    /// For how many day rolls the ids of orders that left the state are kept.
    pub keep_ids_days: usize,
    /// How many trading days' snapshots the journal keeps, and what follows the oldest of them.
    pub keep_days: usize,
}

impl EngineOptions {
    /// The defaults for a gateway.
    #[must_use]
    pub fn new(gateway: impl Into<Name>, node: impl Into<Name>, epoch: u64) -> Self {
        EngineOptions {
            gateway: gateway.into(),
            node: node.into(),
            epoch,
            subscribe: Vec::new(),
            unconfirmed_after: Duration::from_secs(5),
            lease: Duration::from_secs(6),
            max_journal_backlog: 4096,
            limits: Limits::default(),
            notice: None,
            keep_ids_days: 5,
            keep_days: 30,
        }
    }
}

/// How far an owner's events have come.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    journal_seq: u64,
    count: u64,
}

/// See the module.
pub struct Engine {
    options: EngineOptions,
    state: OmsState,
    session: Session,
    /// Boxed: they come in order, and the map then leaves half of each of its nodes empty.
    contracts: BTreeMap<InstrumentId, Box<Contract>>,
    ticks: BTreeMap<InstrumentId, Event<Tick>>,
    subscriptions: Subscriptions,
    halts: Halts,
    counters: Counters,
    /// The venue's references of everything that was ever sent, or found there.
    references: HashMap<VenueReference, Target>,
    /// Approved and journalled, but not yet handed to the venue; `true` once a cancel came first.
    unsent: HashMap<OrderKey, bool>,
    /// Sent, and the venue is silent about it.
    unconfirmed: BTreeMap<OrderKey, orders::Unconfirmed>,
    queries: BTreeMap<QueryToken, calls::PendingQuery>,
    next_query: u64,
    marks: Marks,
    subject_seqs: HashMap<Subject, u64>,
    /// The same of contracts, of which there are many.
    contract_seqs: HashMap<InstrumentId, u64>,
    days: Days,
    /// Sequence of the last snapshot's end, and of the last one that is stored.
    snapshot_seq: u64,
    stored_snapshot_seq: u64,
    /// The sequence that the last emitted journal entry has, or will have: this node is the only writer.
    journal_seq: u64,
    stored_seq: u64,
    heads: BTreeMap<Name, Mark>,
    shared_head: Mark,
    storage_full: bool,
    tick_counts: TickCounts,
    /// How many misspelt instruments are still told the nearest one before the next second.
    hints_left: Cell<u32>,
}

impl Engine {
    /// An engine that goes on from what its journal says. `journal_seq` is the journal's last sequence,
    /// this leader's `LeaderStarted` included.
    #[must_use]
    pub fn new(options: EngineOptions, replayed: Replayed, journal_seq: u64) -> Self {
        let references = orders::references_of(&replayed.state, &replayed.days);
        let mut heads = BTreeMap::new();
        heads.insert(Name::const_new(OWNER_DEFAULT), Mark::default());
        Engine {
            session: Session::new(&replayed.state, &replayed.days),
            subscriptions: Subscriptions::new(replayed.subscriptions),
            marks: Marks::default(),
            state: replayed.state,
            contracts: BTreeMap::new(),
            ticks: BTreeMap::new(),
            halts: Halts::new(&options.gateway, replayed.halts, replayed.halt_entries),
            counters: replayed.counters,
            references,
            unsent: HashMap::new(),
            unconfirmed: BTreeMap::new(),
            queries: BTreeMap::new(),
            next_query: 0,
            subject_seqs: HashMap::new(),
            contract_seqs: HashMap::new(),
            days: replayed.days,
            snapshot_seq: replayed.snapshot_seq,
            stored_snapshot_seq: replayed.snapshot_seq,
            journal_seq,
            stored_seq: journal_seq,
            heads,
            shared_head: Mark::default(),
            storage_full: false,
            tick_counts: TickCounts::default(),
            hints_left: Cell::new(HINTS),
            options,
        }
    }

    /// The trading state, as decided; the last of it may not be stored yet.
    #[must_use]
    pub fn state(&self) -> &OmsState {
        &self.state
    }

    /// How the gateway is doing.
    #[must_use]
    pub fn gateway_state(&self) -> GatewayState {
        self.session.state()
    }

    /// Sequence of the last journal entry that was emitted.
    #[must_use]
    pub fn journal_seq(&self) -> u64 {
        self.journal_seq
    }

    /// Entries emitted and not yet stored.
    #[must_use]
    pub fn journal_backlog(&self) -> u64 {
        self.journal_seq.saturating_sub(self.stored_seq)
    }

    /// The last tick of each instrument is kept for `get_tick`; returns it in its envelope, to be published.
    pub fn on_tick(&mut self, now: Now, tick: SequencedTick) -> &Event<Tick> {
        let event = Event {
            gateway: self.options.gateway.clone(),
            epoch: self.options.epoch,
            seq: tick.seq,
            time: now.wall,
            data: tick.tick,
        };
        match self.ticks.entry(event.data.instrument()) {
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                slot.insert(event);
                slot.into_mut()
            }
            std::collections::btree_map::Entry::Vacant(slot) => slot.insert(event),
        }
    }

    /// The journal holds everything up to `seq`.
    pub fn on_stored(&mut self, seq: u64) {
        self.stored_seq = self.stored_seq.max(seq);
        if self.snapshot_seq <= self.stored_seq {
            self.stored_snapshot_seq = self.snapshot_seq;
        }
    }

    /// The journal's storage is full, or has room again.
    pub fn on_storage_full(&mut self, now: Now, full: bool, out: &mut Effects) {
        if self.storage_full != full {
            self.storage_full = full;
            let (level, line) = if full {
                (LogLevel::Critical, "the journal's storage is full: new orders are refused, cancels flow")
            } else {
                (LogLevel::Info, "the journal's storage has room again")
            };
            self.log(now, level, line, out);
        }
    }

    /// Once a second: login retries, marks to market, orders without an answer, cancels that could not be sent, queries
    /// without an answer, heads.
    pub fn on_timer(&mut self, now: Now, out: &mut Effects) {
        self.hints_left.set(HINTS);
        if let Some(notice) = self.options.notice.take() {
            self.log(now, LogLevel::Critical, notice, out);
        }
        self.drive_session(now, out);
        self.begin_day(now, out);
        self.flush_marks(now, out);
        self.look_for_unconfirmed(now, out);
        self.cancel_again(now, out);
        self.expire_queries(now, out);
        out.push(Effect::Heads(self.heads()));
    }

    fn heads(&self) -> Vec<Head> {
        self.heads
            .iter()
            .map(|(owner, own)| Head {
                gateway_name: self.options.gateway.clone(),
                owner: owner.clone(),
                epoch: self.options.epoch,
                journal_seq: own.journal_seq.max(self.shared_head.journal_seq),
                count: own.count + self.shared_head.count,
            })
            .collect()
    }

    /// How many ticks came and how many of them were conflated, for the status.
    pub fn note_ticks(&mut self, counts: TickCounts) {
        self.tick_counts = counts;
    }

    /// Whether so many entries wait to be stored that nothing which can wait may add to them.
    #[must_use]
    pub fn journal_is_behind(&self) -> bool {
        self.journal_backlog() >= self.options.max_journal_backlog
    }

    /// For what is journalled because somebody asked for it.
    fn check_journal_keeps_up(&self) -> Result<(), RpcError> {
        if self.journal_is_behind() {
            let backlog = self.journal_backlog();
            return Err(RpcError::new(
                ErrorCode::Overloaded,
                format!("{backlog} journal entries wait to be stored; nothing was done"),
            ));
        }
        Ok(())
    }

    /// The heartbeat, and what `get_status` answers.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        Status {
            gateway_name: self.options.gateway.clone(),
            state: self.session.state(),
            reason: self.session.reason().map(str::to_owned),
            epoch: self.options.epoch,
            journal_seq: self.stored_seq,
            time: now.wall,
            protocol_version: PROTOCOL_VERSION,
            version: Name::const_new(env!("CARGO_PKG_VERSION")),
            node: self.options.node.clone(),
            venue: self.session.venue().clone(),
            trading_day: self.session.trading_day(),
            halted: self.halted_owners(),
            halts: self.shown_halts(now.wall),
            subscriptions: self.subscriptions.len() as u64,
            contracts: self.contracts.len() as u64,
            ticks: self.tick_counts.received,
            ticks_conflated: self.tick_counts.conflated,
            journal_pending: self.journal_backlog(),
            snapshot_seq: self.stored_snapshot_seq,
        }
    }

    /// Applies an event and journals it, unless it changes nothing. A position that is no other than before can be news:
    /// it says that fills told of since are in it, and whoever replays the journal must know.
    ///
    /// An event with a number that no venue can mean changes nothing either: what the venue meant is uncertain, so the
    /// gateway is DIRTY until a snapshot says.
    fn record(&mut self, now: Now, event: OmsEvent, out: &mut Effects) -> Applied {
        if let Some(field) = event.malformed_field() {
            self.on_malformed(now, field, &event, out);
            return Applied::Unchanged;
        }
        self.forget_mark(&event);
        let fills = NewFills::of(&event, &self.state);
        if self.state.apply(&event) == Applied::Unchanged && !self.is_news(&event) {
            return Applied::Unchanged;
        }
        // What is published is the merged state, so that a reader of this event alone is told the truth.
        let event = self.merged(event);
        let seq = {
            let counter = self.subject_seqs.entry(Subject::of(&event)).or_insert(0);
            *counter += 1;
            *counter
        };
        self.journal_seq += 1;
        let head = match event.owner() {
            Some(owner) => self.heads.entry(owner.clone()).or_default(),
            None => &mut self.shared_head,
        };
        head.journal_seq = self.journal_seq;
        head.count += 1;
        let entry = Entry::Event(Box::new(Event {
            gateway: self.options.gateway.clone(),
            epoch: self.options.epoch,
            seq,
            time: now.wall,
            data: event,
        }));
        self.counters.note(&entry, fills);
        out.push(Effect::Journal(entry));
        Applied::Changed
    }

    fn on_malformed(&mut self, now: Now, field: &str, event: &OmsEvent, out: &mut Effects) {
        let line = format!("the venue sent `{field}` as no number can be; ignored: {event:?}");
        self.log(now, LogLevel::Error, line.chars().take(500).collect::<String>(), out);
        self.on_uncertain(now, "the venue sent an impossible number", out);
    }

    fn merged(&self, event: OmsEvent) -> OmsEvent {
        match event {
            OmsEvent::Order(order) => {
                OmsEvent::Order(self.state.order(&OrderKey::from(&order)).cloned().unwrap_or(order))
            }
            OmsEvent::Quote(quote) => {
                OmsEvent::Quote(self.state.quote(&OrderKey::from(&quote)).cloned().unwrap_or(quote))
            }
            other => other,
        }
    }

    fn record_private(&mut self, entry: Private, out: &mut Effects) {
        self.journal_seq += 1;
        let entry = Entry::Private(entry);
        self.counters.note(&entry, NewFills::default());
        out.push(Effect::Journal(entry));
    }

    fn log(&self, now: Now, level: LogLevel, msg: impl Into<String>, out: &mut Effects) {
        out.push(Effect::Log(Log {
            gateway_name: self.options.gateway.clone(),
            msg: msg.into(),
            level,
            time: now.wall,
        }));
    }

    fn contract(&self, instrument: &InstrumentId) -> Result<&Contract, RpcError> {
        if let Some(contract) = self.contracts.get(instrument) {
            return Ok(contract);
        }
        if self.contracts.is_empty() {
            return Err(RpcError::new(
                ErrorCode::NotReady,
                format!("{} has not told its contracts yet ({})", self.options.gateway, self.session.state()),
            ));
        }
        // Looking through tens of thousands of contracts takes milliseconds: whoever misspells in a loop stops nobody.
        let left = self.hints_left.get();
        self.hints_left.set(left.saturating_sub(1));
        let nearest = (left > 0).then(|| nearest(instrument, self.contracts.keys())).flatten();
        let hint = nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        Err(RpcError::new(
            ErrorCode::UnknownContract,
            format!("{} knows no contract {}{hint}", self.options.gateway, shown(instrument)),
        ))
    }
}

/// An instrument cut to a length that fits a message.
fn shown(instrument: &InstrumentId) -> String {
    let symbol: String = instrument.symbol.chars().take(64).collect();
    format!("{symbol}.{}", instrument.exchange)
}

/// The known instrument that a misspelt one was most likely meant to be.
pub fn nearest<'a>(wanted: &InstrumentId, known: impl Iterator<Item = &'a InstrumentId>) -> Option<&'a InstrumentId> {
    let symbol: String = wanted.symbol.chars().take(64).collect::<String>().to_lowercase();
    known
        .map(|candidate| {
            let mut score = strsim::normalized_damerau_levenshtein(&symbol, &candidate.symbol.to_lowercase());
            if candidate.exchange == wanted.exchange {
                score += 0.1;
            }
            (score, candidate)
        })
        .filter(|(score, _)| *score > 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Turns an adapter's refusal into what the caller is told.
#[must_use]
pub fn refusal(error: &GatewayError) -> RpcError {
    let code = match error {
        GatewayError::NotConnected | GatewayError::SessionChanged => ErrorCode::NotReady,
        GatewayError::Busy => ErrorCode::Overloaded,
        GatewayError::NotSupported(_) => ErrorCode::NotSupported,
        GatewayError::Refused(_) => ErrorCode::VenueRejected,
    };
    RpcError::new(code, error.to_string())
}

/// Whether a client may carry this owner's name: reserved ones stand for nobody.
#[must_use]
pub fn is_reserved_owner(owner: &str) -> bool {
    owner == OWNER_EXTERNAL || owner == EVERYBODY
}

fn encode<T: Serialize>(value: &T) -> Reply {
    protocol::codec::encode(value).map_err(|error| RpcError::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
