//! One node: a process that stands by, leads, is stopped, dies and comes back. It runs the real engine, gate, chain and
//! lease; what is here is what the node's tasks do around them.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use gateway_node::engine::halts::HaltNews;
use gateway_node::engine::{
    Call, Caller, Effect, Effects, Engine, EngineOptions, Now, Replayed, Reply, ReplyTo, Request, SNAPSHOT, Submit,
    VenueCommand, refusal,
};
use gateway_node::gate::Gate;
use gateway_node::gateway::{GatewayError, VenueEvent, VenueReference};
use gateway_node::lease::{Ask, Limit, Standing, Tenant, Terms};
use gateway_node::reconcile::Target;
use protocol::defect::{Defect, LOSES_EVERY, is_planted};
use protocol::journal::{Entry, Private, message_id};
use protocol::rpc::Deadline;
use protocol::{GatewayState, Name, Timestamp};
use rand::RngExt as _;

use crate::journal_server::{Expected, Last, Stored};
use crate::lease_server::LeaseAnswer;
use crate::outside::{MAX_AGE, Outside};
use crate::step::{Answered, CallId, Flight, JournalInput, NodeInput, Process, Step, millis};
use crate::venue::{ConnectionId, VenueInput, first_instant};
use crate::writer::{ACK_PATIENCE, Writer, WriterSaid};

const TERMS: Terms = Terms { max_age: MAX_AGE };

/// See the module.
pub struct Node {
    name: Name,
    process: Process,
    is_up: bool,
    /// Stopped; what reaches it waits.
    is_frozen: bool,
    inbox: VecDeque<NodeInput>,
    /// When its clock that never jumps began.
    started: Duration,
    /// What the machine's clock showed then.
    wall_at_start: Timestamp,
    /// How far its wall clock is from the true one, in milliseconds.
    pub wall_offset_ms: i64,
    tenant: Tenant,
    limit: Limit,
    question: u64,
    asked: Option<(u64, Ask, Duration)>,
    stage: Stage,
}

/// How far a process has come.
enum Stage {
    /// It seeks the lease.
    Seeking,
    /// It has the lease and begins to lead.
    Beginning(Box<Beginning>),
    /// It leads.
    Leading(Box<Leading>),
}

struct Beginning {
    epoch: u64,
    replayed: Replayed,
    attempt: u64,
}

/// A leadership.
struct Leading {
    epoch: u64,
    engine: Engine,
    gate: Gate,
    writer: Writer,
    /// What the engine wants that is not turned into steps yet.
    effects: Effects,
    todo: VecDeque<(u64, Effect)>,
    /// An order whose last look before the venue is done, and that is not written yet.
    in_hand: Option<Box<Submit>>,
    pending: HashMap<ReplyTo, CallId>,
    next_reply: u64,
    connection: Option<ConnectionId>,
    session: Option<Name>,
    /// Why it cannot go on.
    failed: Option<String>,
}

impl Node {
    /// A node whose process starts now.
    pub fn new(out: &mut Outside, node: usize, wall_offset_ms: i64) -> Node {
        let process = Process { node, life: 0 };
        let mut new = Node {
            name: format!("node{node}").into(),
            process,
            is_up: false,
            is_frozen: false,
            inbox: VecDeque::new(),
            started: Duration::ZERO,
            wall_at_start: first_instant(),
            wall_offset_ms,
            tenant: Tenant::new("", TERMS),
            limit: Limit::default(),
            question: 0,
            asked: None,
            stage: Stage::Seeking,
        };
        new.start(out);
        new
    }

    /// Whether its process runs, stopped or not.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether it serves calls, though perhaps nobody should listen.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.is_up && matches!(self.stage, Stage::Leading(_))
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// The leader's engine.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        match &self.stage {
            Stage::Leading(leading) if self.is_up => Some(&leading.engine),
            _ => None,
        }
    }

    /// Whether it leads, is logged in, and nothing waits for anything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match &self.stage {
            Stage::Leading(leading) => {
                leading.engine.gateway_state() == GatewayState::Ready
                    && leading.gate.is_empty()
                    && leading.writer.is_idle()
                    && leading.pending.is_empty()
            }
            _ => false,
        }
    }

    /// What the machine's clock shows, steps and all.
    fn machine_clock(&self, out: &Outside) -> Timestamp {
        let wall = first_instant() + chrono::TimeDelta::from_std(out.now).unwrap_or_default();
        wall + chrono::TimeDelta::milliseconds(self.wall_offset_ms)
    }

    /// The process's clock: never behind what has gone by since it started.
    fn now(&self, out: &Outside) -> Now {
        let mono = self.mono(out);
        let floor = self.wall_at_start + chrono::TimeDelta::from_std(mono).unwrap_or_default();
        Now { wall: self.machine_clock(out).max(floor), mono }
    }

    fn mono(&self, out: &Outside) -> Duration {
        out.now.saturating_sub(self.started)
    }

    /// On the simulation's clock.
    fn true_time(&self, mono: Duration) -> Duration {
        self.started + mono
    }

    /// The process starts: it knows nothing.
    pub fn start(&mut self, out: &mut Outside) {
        if self.is_up {
            return;
        }
        self.process.life += 1;
        self.is_up = true;
        self.is_frozen = false;
        self.started = out.now;
        self.wall_at_start = self.machine_clock(out);
        let clock = self.wall_at_start;
        out.note(|| format!("node {} starts, and its clock shows {clock}", self.process.node));
        self.inbox.clear();
        self.seek(out, Duration::ZERO);
        let first = out.between(0, 1_000);
        out.after(first, Step::Node(self.process, NodeInput::Timer));
    }

    /// A new life of the gateway in this process stands by.
    fn seek(&mut self, out: &mut Outside, after: Duration) {
        self.stage = Stage::Seeking;
        self.question += 1;
        self.asked = None;
        self.limit = Limit::default();
        let Process { node, life } = self.process;
        self.tenant = Tenant::new(format!("{node}.{life}.{}", self.question), TERMS);
        out.after(after, Step::Node(self.process, NodeInput::LeaseDue));
    }

    /// The process dies with everything that is not stored.
    pub fn crash(&mut self, out: &mut Outside) {
        if !self.is_up {
            return;
        }
        out.note(|| format!("node {} dies", self.process.node));
        out.counts.crashes += 1;
        self.drop_in_hand(out);
        self.leave_venue(out);
        self.is_up = false;
        self.is_frozen = false;
        self.inbox.clear();
        self.stage = Stage::Seeking;
        let down = out.between(50, 6_000);
        out.after(down, Step::Start(self.process.node));
    }

    /// The process is stopped, and goes on later.
    pub fn freeze(&mut self, out: &mut Outside) {
        if !self.is_up || self.is_frozen {
            return;
        }
        let wait = if out.rng.random_bool(0.5) { out.between(100, 2_000) } else { out.between(2_000, 9_000) };
        out.note(|| format!("node {} is stopped for {wait:?}", self.process.node));
        out.counts.freezes += 1;
        self.is_frozen = true;
        out.after(wait, Step::Thaw(self.process));
    }

    /// It goes on, with everything that it had in hand.
    pub fn thaw(&mut self, out: &mut Outside) {
        if !self.is_up || !self.is_frozen {
            return;
        }
        out.note(|| format!("node {} goes on", self.process.node));
        self.is_frozen = false;
        if let Stage::Leading(leading) = &mut self.stage
            && let Some(submit) = leading.in_hand.take()
        {
            self.write_to_venue(out, &submit);
            self.carry_on(out);
        }
        while !self.is_frozen
            && self.is_up
            && let Some(input) = self.inbox.pop_front()
        {
            self.take(out, input);
        }
    }

    /// It is told to stop leading: it gives its lease back and stands by again.
    pub fn step_down(&mut self, out: &mut Outside) {
        if !self.is_leading() || self.is_frozen {
            return;
        }
        out.note(|| format!("node {} steps down", self.process.node));
        self.limit.end();
        if let Some(revision) = self.tenant.held_revision() {
            let at = out.arrival();
            out.at(at, Step::GiveBack(revision));
        }
        self.end_leadership(out);
    }

    fn end_leadership(&mut self, out: &mut Outside) {
        self.drop_in_hand(out);
        self.leave_venue(out);
        self.limit.end();
        let pause = out.between(100, 2_000);
        self.seek(out, pause);
    }

    /// A leadership ends with orders that were not written to the venue yet.
    fn drop_in_hand(&mut self, out: &mut Outside) {
        let Stage::Leading(leading) = &mut self.stage else { return };
        let gated = std::iter::from_fn(|| leading.gate.pass(u64::MAX));
        let effects = leading.todo.drain(..).map(|(_, effect)| effect).chain(gated).chain(leading.effects.drain(..));
        let submits =
            effects.filter_map(|effect| if let Effect::Submit(submit) = effect { Some(submit) } else { None });
        for submit in submits.chain(leading.in_hand.take()) {
            out.truth.on_not_written(leading.epoch, &submit.reference);
        }
    }

    fn leave_venue(&mut self, out: &mut Outside) {
        if let Stage::Leading(leading) = &mut self.stage
            && let Some(connection) = leading.connection.take()
        {
            leading.session = None;
            out.hang_up(connection);
        }
    }

    /// Something reaches the process.
    pub fn take(&mut self, out: &mut Outside, input: NodeInput) {
        if !self.is_up {
            return;
        }
        if self.is_frozen {
            self.inbox.push_back(input);
            return;
        }
        match input {
            NodeInput::Timer => {
                out.after(millis(1_000), Step::Node(self.process, NodeInput::Timer));
                self.on_timer(out);
            }
            NodeInput::LeaseDue => self.ask_for_lease(out),
            NodeInput::Lease { question, answer } => self.on_lease(out, question, &answer),
            NodeInput::ReadJournal => self.read_journal(out),
            NodeInput::Began { attempt, stored } => self.on_began(out, attempt, stored),
            NodeInput::Ack { flight, stored } => {
                self.with_writer(out, |writer, out| writer.on_ack(out, flight, stored));
            }
            NodeInput::LookDue { look } => {
                self.with_writer(out, |writer, out| {
                    writer.on_look_due(out, look);
                    WriterSaid::Nothing
                });
            }
            NodeInput::Looked { look, last } => {
                self.with_writer(out, |writer, out| writer.on_looked(out, look, last));
            }
            NodeInput::Venue { connection, gap, event } => self.on_venue(out, connection, gap, event),
            NodeInput::Call { id, owner, deadline, request } => self.on_call(out, id, owner, deadline, *request),
        }
    }

    // The lease.

    fn ask_for_lease(&mut self, out: &mut Outside) {
        if self.asked.is_some() {
            return;
        }
        let mono = self.mono(out);
        let Some(ask) = self.tenant.ask(mono) else {
            self.note_standing(out);
            if !matches!(self.tenant.standing(), Standing::Lost(_)) {
                let next = self.tenant.limit().map_or(self.tenant.due(), |limit| limit.min(self.tenant.due()));
                let at = self.true_time(next).max(out.now + millis(1));
                out.at(at, Step::Node(self.process, NodeInput::LeaseDue));
            }
            return;
        };
        self.question += 1;
        let question = self.question;
        self.asked = Some((question, ask, mono));
        let silence = NodeInput::Lease { question, answer: LeaseAnswer::Silence };
        out.after(TERMS.every(), Step::Node(self.process, silence));
        let lost = out.swarm.lease_lost;
        if !out.chance(lost) {
            let (at, tenant) = (out.arrival(), self.tenant.id().to_owned());
            out.at(at, Step::Lease { from: self.process, tenant, question, ask });
        }
    }

    fn on_lease(&mut self, out: &mut Outside, question: u64, answer: &LeaseAnswer) {
        let Some((_, ask, sent)) = self.asked.take_if(|(asked, ..)| *asked == question) else { return };
        self.tenant.on_answer(self.mono(out), ask, sent, answer.as_answer());
        self.note_standing(out);
        self.ask_for_lease(out);
    }

    /// What the lease's keeper tells the rest of the node.
    fn note_standing(&mut self, out: &mut Outside) {
        match self.tenant.limit() {
            Some(limit) => self.limit.set(limit),
            None => self.limit.end(),
        }
        match (self.tenant.standing().clone(), &self.stage) {
            (Standing::Holding { epoch }, Stage::Seeking) => {
                out.note(|| format!("node {} holds the lease, epoch {epoch}", self.process.node));
                let beginning = Beginning { epoch, replayed: Replayed::default(), attempt: 0 };
                self.stage = Stage::Beginning(Box::new(beginning));
                self.read_journal(out);
            }
            (Standing::Lost(why), _) => {
                out.note(|| format!("node {} has lost the lease: {why}", self.process.node));
                self.end_leadership(out);
            }
            _ => {}
        }
    }

    // The beginning of a leadership.

    fn read_journal(&mut self, out: &mut Outside) {
        let Stage::Beginning(beginning) = &mut self.stage else { return };
        let read = beginning.replayed.journal_seq;
        let take = |replayed: &mut Replayed, (sequence, stored): (u64, &Stored)| {
            replayed.take(sequence, stored.epoch, &stored.entry);
        };
        match read {
            0 => out.journal.from_snapshot().for_each(|stored| take(&mut beginning.replayed, stored)),
            _ => out.journal.stored_behind(read).for_each(|stored| take(&mut beginning.replayed, stored)),
        }
        let epoch = beginning.epoch;
        let Last { sequence: last, id, .. } = out.journal.last();
        if id == message_id(epoch, 0) {
            // An earlier attempt was stored, and its ack lost.
            return self.lead(out, last);
        }
        if beginning.replayed.epoch >= epoch {
            out.note(|| format!("epoch {epoch} is not above the journal's"));
            return self.end_leadership(out);
        }
        // Of all attempts of this process: an ack of an earlier leadership's is none of this one's.
        self.question += 1;
        let attempt = self.question;
        beginning.attempt = attempt;
        let started = Private::LeaderStarted { epoch, node: self.name.clone(), time: first_instant(), limits: None };
        let late = NodeInput::Began { attempt, stored: Err("no ack in time".to_owned()) };
        out.after(ACK_PATIENCE, Step::Node(self.process, late));
        let lost = out.swarm.append_lost;
        if !out.chance(lost) {
            let input = JournalInput::Append {
                flight: Flight::Beginning(attempt),
                id: message_id(epoch, 0),
                expected: Expected::LastSequence(last),
                entry: Rc::new(Entry::Private(started)),
            };
            let at = out.arrival();
            out.at(at, Step::Journal(self.process, input));
        }
    }

    fn on_began(&mut self, out: &mut Outside, attempt: u64, stored: Result<u64, String>) {
        let Stage::Beginning(beginning) = &self.stage else { return };
        if beginning.attempt != attempt {
            return;
        }
        match stored {
            Ok(sequence) => self.lead(out, sequence),
            Err(_) => out.after(millis(100), Step::Node(self.process, NodeInput::ReadJournal)),
        }
    }

    fn lead(&mut self, out: &mut Outside, base: u64) {
        let stage = std::mem::replace(&mut self.stage, Stage::Seeking);
        let Stage::Beginning(beginning) = stage else { return };
        let Beginning { epoch, replayed, .. } = *beginning;
        out.note(|| format!("node {} leads under epoch {epoch} behind entry {base}", self.process.node));
        out.counts.takeovers += 1;
        let mut options = EngineOptions::new("sim1", self.name.clone(), epoch);
        options.lease = MAX_AGE;
        options.keep_days = 2;
        // Ids that do not tell their age are protected for as long as they are kept.
        options.keep_ids_days = 1_000;
        options.unconfirmed_after = Duration::from_secs(2);
        let mut engine = Engine::new(options, replayed, base);
        // Nothing is halted here: the bucket of halts is empty.
        engine.on_halt_news(self.now(out), HaltNews::Read(Vec::new()), &mut Vec::new());
        self.stage = Stage::Leading(Box::new(Leading {
            epoch,
            engine,
            gate: Gate::default(),
            writer: Writer::new(self.process, epoch, base),
            effects: Vec::new(),
            todo: VecDeque::new(),
            in_hand: None,
            pending: HashMap::new(),
            next_reply: 0,
            connection: None,
            session: None,
            failed: None,
        }));
        self.on_timer(out);
    }

    // The loop of a leader: inputs for the engine, then what it wants done.

    fn on_timer(&mut self, out: &mut Outside) {
        let now = self.now(out);
        let may_act = self.limit.may_act(now.mono);
        let Stage::Leading(leading) = &mut self.stage else { return };
        leading.engine.on_timer(now, &mut leading.effects);
        if may_act {
            out.heartbeat(leading.epoch, leading.writer.stored);
        }
        self.carry_on(out);
    }

    fn with_writer(&mut self, out: &mut Outside, act: impl FnOnce(&mut Writer, &mut Outside) -> WriterSaid) {
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        match act(&mut leading.writer, out) {
            WriterSaid::Nothing => {}
            WriterSaid::Progress => {
                leading.engine.on_stored(leading.writer.stored);
                leading.engine.on_storage_full(now, leading.writer.storage_full, &mut leading.effects);
            }
            WriterSaid::Fenced(why) => leading.failed = Some(why),
        }
        self.carry_on(out);
    }

    fn on_venue(&mut self, out: &mut Outside, connection: ConnectionId, gap: bool, event: Option<Box<VenueEvent>>) {
        let is_end = matches!(event.as_deref(), Some(VenueEvent::Disconnected { .. }));
        if !is_end && !out.venue.is_open(connection) {
            return;
        }
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        if leading.connection != Some(connection) {
            return;
        }
        if gap {
            leading.engine.on_overflow(now, &mut leading.effects);
        }
        match event.as_deref() {
            Some(VenueEvent::Connected { session, .. }) => leading.session = Some(session.clone()),
            Some(VenueEvent::Disconnected { .. }) => (leading.connection, leading.session) = (None, None),
            _ => {}
        }
        if let Some(event) = event {
            leading.engine.on_venue_event(now, *event, &mut leading.effects);
        }
        self.carry_on(out);
    }

    fn on_call(&mut self, out: &mut Outside, id: CallId, owner: Name, deadline: Option<Deadline>, request: Request) {
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        leading.next_reply += 1;
        let reply = ReplyTo(leading.next_reply);
        leading.pending.insert(reply, id);
        let caller = Caller { owner, client: "client".into(), sees_all: false };
        let call = Call { reply, caller, deadline, traceid: None, request };
        leading.engine.on_call(now, call, &mut leading.effects);
        self.carry_on(out);
    }

    /// Does what is wanted until nothing is left, or the process is stopped, dies or fails in the middle of it.
    fn carry_on(&mut self, out: &mut Outside) {
        loop {
            let Stage::Leading(leading) = &mut self.stage else { return };
            if let Some(why) = &leading.failed {
                out.note(|| format!("node {} no longer leads: {why}", self.process.node));
                return self.end_leadership(out);
            }
            if self.is_frozen {
                return;
            }
            if !leading.todo.is_empty() {
                let crash = out.swarm.crash;
                if out.chance(crash) {
                    return self.crash(out);
                }
                if let Some((position, effect)) = leading.todo.pop_front() {
                    self.perform(out, position, effect);
                }
            } else if let Some(effect) = leading.gate.pass(leading.writer.stored) {
                self.release(out, effect);
            } else if leading.effects.is_empty() {
                return;
            } else {
                // The engine counts positions as it emits; walking back finds each effect's own.
                let effects = std::mem::take(&mut leading.effects);
                let journalled = effects.iter().filter(|e| matches!(e, Effect::Journal(_))).count() as u64;
                let mut position = leading.engine.journal_seq() - journalled;
                for effect in effects {
                    if matches!(effect, Effect::Journal(_)) {
                        position += 1;
                    }
                    leading.todo.push_back((position, effect));
                }
            }
        }
    }

    fn perform(&mut self, out: &mut Outside, position: u64, effect: Effect) {
        let Stage::Leading(leading) = &mut self.stage else { return };
        match effect {
            Effect::Journal(entry) => leading.writer.append(out, Rc::new(entry)),
            Effect::Submit(_) | Effect::Reply(..) | Effect::Heads(_) | Effect::ReadEvents(..) | Effect::Purge(_) => {
                leading.gate.hold(position, effect);
            }
            Effect::Venue(command) => self.command(out, command),
            Effect::ReplyNow(to, reply) => self.answer(out, to, reply),
            Effect::Log(line) => out.note(|| format!("node {} says: {}", self.process.node, line.msg)),
            Effect::Contract(_) | Effect::WriteHalt(_) => {}
        }
    }

    fn release(&mut self, out: &mut Outside, effect: Effect) {
        match effect {
            Effect::Submit(submit) => self.submit(out, submit),
            Effect::Reply(to, reply) => self.answer(out, to, reply),
            Effect::Purge(before) => out.journal.purge_before(before),
            _ => {}
        }
    }

    /// A look at the lease, immediately before acting.
    fn may_act(&mut self, out: &mut Outside) -> bool {
        let may_act = self.limit.may_act(self.mono(out));
        if let Stage::Leading(leading) = &mut self.stage
            && !may_act
        {
            leading.failed = Some("its time is over".to_owned());
        }
        may_act
    }

    /// Only whoever really holds the lease may have got this far.
    fn check_holds_lease(&self, out: &mut Outside, what: &str) {
        let holder = out.lease.holder(out.now);
        if holder != Some(self.tenant.id()) {
            let line = format!(
                "node {} {what} without the lease, which {} holds",
                self.process.node,
                holder.unwrap_or("nobody")
            );
            out.found(line);
        }
    }

    fn submit(&mut self, out: &mut Outside, submit: Box<Submit>) {
        let may_act = self.may_act(out);
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        if !may_act {
            return out.truth.on_not_written(leading.epoch, &submit.reference);
        }
        let refused = leading
            .engine
            .before_submit(now, &submit)
            .and_then(|()| check_session(leading.session.as_ref(), &submit.reference).map_err(|error| refusal(&error)));
        if let Err(error) = refused {
            out.truth.on_not_written(leading.epoch, &submit.reference);
            leading.engine.on_not_sent(now, &submit, error, &mut leading.effects);
            return;
        }
        if now.millis() > submit.deadline_ms {
            let late = now.millis() - submit.deadline_ms;
            out.found(format!("{} leaves for the venue {late} ms behind its deadline", submit.key.orderid));
        }
        self.check_holds_lease(out, &format!("sends {} to the venue", submit.reference));
        let in_window = out.swarm.freeze_in_window;
        if out.chance(in_window) {
            out.note(|| format!("node {} has {} in hand", self.process.node, submit.reference));
            if let Stage::Leading(leading) = &mut self.stage {
                leading.in_hand = Some(submit);
            }
            self.freeze(out);
            return;
        }
        self.write_to_venue(out, &submit);
    }

    fn write_to_venue(&mut self, out: &mut Outside, submit: &Submit) {
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        out.note(|| format!("node {} sends {} as {}", self.process.node, submit.key.orderid, submit.reference));
        out.truth.on_sent(&submit.reference);
        if let Some(connection) = leading.connection {
            let lost = out.swarm.command_lost;
            if is_planted(Defect::Submit) && submit.reference.number.is_multiple_of(LOSES_EVERY) {
                out.note(|| format!("node {} loses {}", self.process.node, submit.reference));
            } else if out.chance(lost) {
                out.note(|| format!("{} vanishes on its way", submit.reference));
                out.truth.on_vanished(&submit.reference);
            } else {
                let input = VenueInput::Submit(submit.reference.clone(), Box::new(submit.approval.clone()));
                out.to_venue(connection, input);
            }
        }
        leading.engine.on_sent(now, submit, &mut leading.effects);
    }

    fn command(&mut self, out: &mut Outside, command: VenueCommand) {
        if !self.may_act(out) {
            return;
        }
        let now = self.now(out);
        let Stage::Leading(leading) = &mut self.stage else { return };
        let connection = leading.connection.filter(|_| leading.session.is_some());
        let (what, outcome, answer) = match command {
            VenueCommand::Connect(start) => {
                if let Some(old) = leading.connection.take() {
                    out.hang_up(old);
                }
                leading.session = None;
                let connection = out.venue.connect(self.process, out.now);
                leading.connection = Some(connection);
                let epoch = start.epoch;
                let node = self.name.clone();
                self.check_holds_lease(out, "logs in");
                return out.to_venue(connection, VenueInput::Login { epoch, node });
            }
            VenueCommand::Disconnect => {
                leading.session = None;
                if let Some(connection) = leading.connection.take() {
                    out.hang_up(connection);
                }
                return;
            }
            VenueCommand::Cancel(reference, answer) => {
                ("cancel", send(out, connection, VenueInput::Cancel(reference)), answer)
            }
            VenueCommand::CancelQuote(reference, answer) => {
                ("cancel", send(out, connection, VenueInput::CancelQuote(reference)), answer)
            }
            VenueCommand::CancelEach(cancels) => {
                let mut outcomes = Vec::new();
                for (target, reference) in cancels.each {
                    let input = match target {
                        Target::Order(_) => VenueInput::Cancel(reference),
                        Target::Quote(_) => VenueInput::CancelQuote(reference),
                    };
                    outcomes.push((target, send(out, connection, input)));
                }
                return leading.engine.on_cancels(now, cancels.reply, outcomes, &mut leading.effects);
            }
            VenueCommand::Snapshot => (SNAPSHOT, send(out, connection, VenueInput::Snapshot), None),
            // Nobody asks for ticks or queries here.
            VenueCommand::Subscribe(..)
            | VenueCommand::Unsubscribe(_)
            | VenueCommand::QueryHistory(..)
            | VenueCommand::QueryAccount(_)
            | VenueCommand::QueryPosition(_) => return,
        };
        if let Err(error) = &outcome {
            leading.engine.on_command_failed(now, what, error, &mut leading.effects);
        }
        if let Some((to, answer)) = answer {
            self.answer(out, to, outcome.map_err(|error| refusal(&error)).and(answer));
        }
    }

    fn answer(&mut self, out: &mut Outside, to: ReplyTo, reply: Reply) {
        let Stage::Leading(leading) = &mut self.stage else { return };
        let Some(id) = leading.pending.remove(&to) else { return };
        if self.may_act(out) {
            self.check_holds_lease(out, "answers a call");
            out.answer(id, Answered::Reply(reply));
        }
    }

    /// What the leader has in state is what the journal gives, read afresh from its last snapshot or from its beginning.
    /// Returns what was read.
    pub fn check_replay(&self, out: &mut Outside) -> Replayed {
        let read = |stored: &mut dyn Iterator<Item = (u64, &Stored)>| {
            let (mut replayed, mut last) = (Replayed::default(), 0);
            for (sequence, stored) in stored {
                let voided = replayed.voided;
                replayed.take(sequence, stored.epoch, &stored.entry);
                // What a replaced leader left at the end is nobody's count.
                last = if replayed.voided > voided { last } else { sequence };
            }
            (replayed, last)
        };
        let (short, short_last) = read(&mut out.journal.from_snapshot());
        let (long, long_last) = read(&mut out.journal.stored_behind(0));
        let Some(engine) = self.engine() else { return short };
        for (replayed, last, from) in [(&short, short_last, "its last snapshot"), (&long, long_last, "its beginning")] {
            if replayed.state != *engine.state() {
                let difference = difference(&replayed.state, engine.state());
                out.found(format!("the journal does not replay from {from} to the node's state: {difference}"));
            }
            if last != engine.journal_seq() {
                out.found(format!("the node counts {} entries, the journal {last}", engine.journal_seq()));
            }
        }
        if short.days != long.days || short.counters != long.counters {
            out.found("what is remembered and counted differs with where the journal is read from");
        }
        short
    }
}

/// The first few things that differ, for people.
#[must_use]
pub fn difference(one: &protocol::OmsState, other: &protocol::OmsState) -> String {
    let orders =
        one.orders().iter().filter(|(key, order)| other.order(key) != Some(order)).map(|(_, o)| format!("{o:?}"));
    let missing = other.orders().keys().filter(|key| one.order(key).is_none()).map(|key| format!("missing {key:?}"));
    let trades = one.trades().keys().filter(|key| !other.trades().contains_key(key)).map(|key| format!("{key:?}"));
    let no_trades =
        other.trades().keys().filter(|key| !one.trades().contains_key(key)).map(|k| format!("missing {k:?}"));
    let positions = one.positions().iter().filter(|(key, p)| other.positions().get(key) != Some(p));
    let positions = positions.map(|(key, p)| format!("{p:?} against {:?}", other.positions().get(key)));
    let lines = orders.chain(missing).chain(trades).chain(no_trades).chain(positions);
    let lines: Vec<String> = lines.take(3).collect();
    if lines.is_empty() { "in quotes or accounts".to_owned() } else { lines.join("; ") }
}

fn send(out: &mut Outside, connection: Option<ConnectionId>, input: VenueInput) -> Result<(), GatewayError> {
    let connection = connection.ok_or(GatewayError::NotConnected)?;
    out.to_venue(connection, input);
    Ok(())
}

fn check_session(session: Option<&Name>, reference: &VenueReference) -> Result<(), GatewayError> {
    match session {
        None => Err(GatewayError::NotConnected),
        Some(session) if *session == reference.session => Ok(()),
        Some(_) => Err(GatewayError::SessionChanged),
    }
}
