//! One gateway's loop: it feeds the engine and carries its effects out; nobody else touches trading state.
//!
//! Each gateway has a thread of its own, so that one that is stuck in its venue's library stops nobody else.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::event::Log;
use protocol::journal::Entry;
use protocol::rpc::Method;
use protocol::{ErrorCode, GatewayState, LogLevel, Name, RpcError};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::engine::halts::{HaltNews, HaltWrite};
use crate::engine::{
    Approval, Call, Cancels, Effect, Effects, Engine, Now, Reply, ReplyTo, SNAPSHOT, Submit, VenueCommand, refusal,
};
use crate::gate::Gate;
use crate::gateway::{Gateway, SequencedTick, VenueSource};
use crate::halts::HaltsLink;
use crate::journal::{JournalReader, JournalWriter};
use crate::lease::{Limit, Pulse, Standing};
use crate::publisher::Publisher;
use crate::reconcile::Target;
use crate::rpc::{Answers, Incoming, Responder};

/// Ticks taken from the queue at a time; trading input is looked at in between.
const TICK_BATCH: usize = 64;
/// Venue events taken in a row before calls are looked at again.
const EVENT_BATCH: usize = 64;
/// Calls, or batches of venue events, taken in a row before everything behind them has a turn.
const TURNS: u32 = 8;
/// While this many journal entries wait to be stored, venue events stay in their queue (and overflow there: DIRTY).
/// Half of what the journal's own queue holds: what calls may still add to it fits beside them.
const MAX_UNSTORED: u64 = 16_384;
/// A question that has waited for the journal for this long is answered with an error, so that those who wait in vain
/// do not take up the places of those who want to get out.
const GATE_PATIENCE: Duration = Duration::from_secs(5);
/// Most refills read from the journal at a time; one more is answered OVERLOADED.
const MAX_REFILLS: usize = 16;
/// A node that stops ends the service first, and the word to stop follows at once. Without it the service broke.
const SERVICE_GRACE: Duration = Duration::from_secs(2);
/// How long a drain may take.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What a gateway's loop is made of.
pub struct GatewayLoop {
    /// The gateway's name.
    pub name: Name,
    /// Decisions.
    pub engine: Engine,
    /// The venue's adapter.
    pub gateway: Box<dyn Gateway>,
    /// What the venue says.
    pub venue: VenueSource,
    /// Appends.
    pub journal: JournalWriter,
    /// Reads.
    pub reader: JournalReader,
    /// Core events.
    pub publisher: Publisher,
    /// Calls.
    pub calls: mpsc::Receiver<Incoming>,
    /// Answers.
    pub answers: Answers,
    /// The bucket of halts.
    pub halts: HaltsLink,
    /// Where tasks that only wait for NATS run.
    pub runtime: tokio::runtime::Handle,
    /// The clock.
    pub clock: Clock,
    /// Until when this node leads: looked at immediately before anything that only a leader may do.
    pub lease: Limit,
    /// How it stands with the lease.
    pub standing: watch::Receiver<Standing>,
    /// Shows that the loop runs: a leader whose loop stands still gives up.
    pub pulse: Pulse,
    /// Turns true when the node is to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Why a loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, and drained.
    Drained,
    /// Somebody else leads, or will: it goes on as a standby.
    SteppedDown(String),
    /// It cannot go on.
    Failed(String),
}

/// A call that is not answered yet.
struct Pending {
    responder: Responder,
    /// On the clock that never jumps.
    since: Duration,
    method: Method,
}

/// The loop's own state beside its parts.
struct Running {
    parts: GatewayLoop,
    gate: Gate,
    pending: HashMap<ReplyTo, Pending>,
    next_reply: u64,
    effects: Effects,
    refills: std::sync::Arc<tokio::sync::Semaphore>,
    failed: Option<String>,
    /// The lease is lost: nothing may be said or done under this epoch any more.
    is_over: bool,
}

impl GatewayLoop {
    /// Runs until it is told to stop, then drains: finish the effects in hand, close the venue, flush.
    pub async fn run(self) -> Ended {
        let mut running = Running {
            parts: self,
            gate: Gate::default(),
            pending: HashMap::new(),
            next_reply: 0,
            effects: Vec::new(),
            refills: std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_REFILLS)),
            failed: None,
            is_over: false,
        };
        running.serve().await;
        running.drain().await
    }
}

impl Running {
    async fn serve(&mut self) {
        let mut timer = tokio::time::interval(Duration::from_secs(1));
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks: Vec<SequencedTick> = Vec::with_capacity(TICK_BATCH);
        let (mut calls_taken, mut events_taken, mut turns) = (0, 0, 0);
        let mut service_ended = None;
        while self.failed.is_none() {
            if *self.parts.shutdown.borrow() {
                return;
            }
            self.check_lease();
            self.check_overflow();
            let may_take_events = self.parts.engine.journal_backlog() < MAX_UNSTORED;
            let ticks_queue = self.parts.venue.ticks.clone();
            let has_room = self.parts.publisher.has_room();
            // Trading input first, then the timer, then market data; but nobody who never stops asking keeps the
            // venue's events, the heartbeat or the ticks waiting for more than a few turns.
            tokio::select! {
                biased;
                _ = self.parts.shutdown.changed() => {}
                _ = self.parts.standing.changed() => {}
                changed = self.parts.journal.progress.changed() => self.on_progress(changed.is_ok()),
                news = self.parts.halts.news.recv() => self.on_halt_news(news),
                call = self.parts.calls.recv(), if calls_taken < TURNS && service_ended.is_none() => match call {
                    Some(call) => {
                        self.on_call(call);
                        calls_taken += 1;
                        // More of the same, while they are there: to wait for everything once more costs as much as a call.
                        while calls_taken < TURNS && let Ok(call) = self.parts.calls.try_recv() {
                            self.on_call(call);
                            calls_taken += 1;
                        }
                    }
                    None => service_ended = Some(Instant::now()),
                },
                event = self.parts.venue.events.recv(), if may_take_events && events_taken < TURNS => match event {
                    Some(event) => {
                        events_taken += 1;
                        self.on_venue_event(event);
                    }
                    None => self.failed = Some("the venue's adapter ended".to_owned()),
                },
                _ = timer.tick() => {
                    self.on_timer();
                    if service_ended.is_some_and(|since: Instant| since.elapsed() > SERVICE_GRACE) {
                        self.failed = Some("the service ended".to_owned());
                    }
                }
                () = self.parts.publisher.room(), if !has_room => {}
                () = ticks_queue.pop_batch(&mut ticks, TICK_BATCH), if has_room && ticks.is_empty() => {
                    ticks.reverse();
                    (calls_taken, events_taken) = (0, 0);
                }
                // Nothing else is ready: the next turn begins.
                () = std::future::ready(()), if calls_taken > 0 || events_taken > 0 => {
                    (calls_taken, events_taken) = (0, 0);
                }
            }
            turns += 1;
            if !ticks.is_empty() || turns >= TURNS {
                turns = 0;
                self.publish_ticks(&mut ticks);
                // The journal's writer and the answers share this thread.
                tokio::task::yield_now().await;
            }
        }
    }

    fn status(&mut self, now: Now) -> protocol::Status {
        self.parts.engine.note_ticks(self.parts.venue.ticks.counts());
        self.parts.engine.status(now)
    }

    /// Whoever has lost the lease stops at once; so does one who was stopped itself for longer than it lasts.
    fn check_lease(&mut self) -> bool {
        let mono = self.parts.clock.mono();
        if self.parts.lease.may_act(mono) {
            return true;
        }
        if self.failed.is_none() {
            let why = match &*self.parts.standing.borrow() {
                Standing::Lost(why) => why.clone(),
                Standing::Seeking | Standing::Holding { .. } => "it was not renewed in time".to_owned(),
            };
            self.failed = Some(format!("the lease is lost: {why}"));
            self.is_over = true;
        }
        false
    }

    fn now(&self) -> Now {
        self.parts.clock.now()
    }

    /// Publishes a batch, which comes in reverse. What a full connection leaves of it stays at hand until there is room.
    fn publish_ticks(&mut self, ticks: &mut Vec<SequencedTick>) {
        if ticks.is_empty() || !self.parts.publisher.has_room() {
            return;
        }
        let now = self.now();
        while self.parts.publisher.has_room()
            && let Some(tick) = ticks.pop()
        {
            let event = self.parts.engine.on_tick(now, tick);
            self.parts.publisher.tick(event);
        }
    }

    fn on_call(&mut self, incoming: Incoming) {
        self.next_reply += 1;
        let reply = ReplyTo(self.next_reply);
        let Incoming { caller, deadline, traceid, request, responder } = incoming;
        let now = self.now();
        self.pending.insert(reply, Pending { responder, since: now.mono, method: request.method() });
        if request == crate::engine::Request::GetStatus {
            self.parts.engine.note_ticks(self.parts.venue.ticks.counts());
        }
        self.parts.engine.on_call(now, Call { reply, caller, deadline, traceid, request }, &mut self.effects);
        self.perform();
    }

    fn on_venue_event(&mut self, event: crate::gateway::VenueEvent) {
        let now = self.now();
        self.parts.engine.on_venue_event(now, event, &mut self.effects);
        // More of the same, while they are there: one look at the clock for all.
        for _ in 1..EVENT_BATCH {
            match self.parts.venue.events.try_recv() {
                Ok(event) => self.parts.engine.on_venue_event(now, event, &mut self.effects),
                Err(_) => break,
            }
        }
        self.perform();
    }

    fn on_halt_news(&mut self, news: Option<HaltNews>) {
        let Some(news) = news else {
            self.failed = Some("what reads the halts ended".to_owned());
            return;
        };
        self.parts.engine.on_halt_news(self.now(), news, &mut self.effects);
        self.perform();
    }

    /// What cannot even wait to be written is told to the engine as not written.
    fn write_halt(&mut self, write: Box<HaltWrite>) {
        if let Err((write, error)) = self.parts.halts.write(write) {
            self.parts.engine.on_halt_news(self.now(), HaltNews::Written(write, Err(error)), &mut self.effects);
        }
    }

    fn on_timer(&mut self) {
        let now = self.now();
        self.parts.pulse.beat(now.mono);
        self.parts.engine.on_timer(now, &mut self.effects);
        self.perform();
        self.expire_questions(now);
        let status = self.status(now);
        self.parts.publisher.status(status);
    }

    /// Answers questions that have waited too long behind the gate.
    fn expire_questions(&mut self, now: Now) {
        let late =
            |pending: &Pending| may_give_up(pending.method) && now.mono.saturating_sub(pending.since) > GATE_PATIENCE;
        // A call that was answered otherwise waits for nothing here either.
        let is_late = |to| self.pending.get(&to).is_none_or(late);
        for to in self.gate.expire(is_late) {
            let error = RpcError::new(
                ErrorCode::NotReady,
                format!("the journal has stored nothing for {} s; the answer waited for it", GATE_PATIENCE.as_secs()),
            );
            self.answer(to, Err(error));
        }
    }

    fn check_overflow(&mut self) {
        if self.parts.venue.overflowed.swap(false, Ordering::AcqRel) {
            let now = self.now();
            self.parts.engine.on_overflow(now, &mut self.effects);
            self.perform();
        }
    }

    fn on_progress(&mut self, writer_lives: bool) {
        let progress = self.parts.journal.progress.borrow_and_update().clone();
        if let Some(fenced) = progress.fenced {
            self.failed = Some(format!("no longer leads: {fenced}"));
            return;
        }
        if !writer_lives {
            self.failed = Some("the journal's writer ended".to_owned());
            return;
        }
        let now = self.now();
        self.parts.engine.on_stored(progress.stored);
        self.parts.engine.on_storage_full(now, progress.storage_full, &mut self.effects);
        self.perform();
        self.release(progress.stored);
    }

    /// Carries out what the engine wants done, in order; what is gated queues up behind the journal.
    fn perform(&mut self) {
        // An effect may make the engine want more (an adapter's answer): those go behind, in a further round.
        while !self.effects.is_empty() {
            // The engine counts positions as it emits; walking back finds each effect's own.
            let effects = std::mem::take(&mut self.effects);
            let journalled = effects.iter().filter(|e| matches!(e, Effect::Journal(_))).count() as u64;
            let mut position = self.parts.engine.journal_seq() - journalled;
            for effect in effects {
                match effect {
                    Effect::Journal(entry) => {
                        position += 1;
                        self.append(&entry);
                    }
                    Effect::Submit(_)
                    | Effect::Reply(..)
                    | Effect::Heads(_)
                    | Effect::ReadEvents(..)
                    | Effect::Purge(_) => {
                        self.gate.hold(position, effect);
                    }
                    Effect::Venue(command) => self.command(command),
                    Effect::ReplyNow(to, reply) => self.answer(to, reply),
                    Effect::Contract(event) => self.parts.publisher.contract(&event),
                    Effect::WriteHalt(write) => self.write_halt(write),
                    Effect::Log(line) => self.log(line),
                }
            }
            let stored = self.parts.journal.progress.borrow().stored;
            self.release(stored);
        }
    }

    /// Lets through what waited for nothing later than `stored`.
    fn release(&mut self, stored: u64) {
        while let Some(effect) = self.gate.pass(stored) {
            match effect {
                Effect::Submit(submit) => self.submit(&submit),
                Effect::Reply(to, reply) => self.answer(to, reply),
                Effect::Heads(heads) => {
                    let time = self.now().wall;
                    for head in heads {
                        self.parts.publisher.head(head, time);
                    }
                }
                Effect::ReadEvents(to, params) => self.read_events(to, params, stored),
                Effect::Purge(before) => {
                    let reader = self.parts.reader.clone();
                    self.parts.runtime.spawn(async move { reader.purge_before(before).await });
                }
                other => debug_assert!(false, "{other:?} is not gated"),
            }
        }
        if !self.effects.is_empty() {
            self.perform();
        }
    }

    fn append(&mut self, entry: &Entry) {
        // Behind one that is missing, none may take its place.
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.parts.journal.append(entry) {
            self.failed = Some(format!("{error:#}"));
        }
    }

    /// The last step before the venue: the lease, and once more deadline, session and cancels. What is not sent because
    /// the lease is over stays as an intent in the journal, and is the successor's to explain.
    fn submit(&mut self, submit: &Submit) {
        if self.failed.is_some() || !self.check_lease() {
            return;
        }
        let now = self.now();
        let sent = self.parts.engine.before_submit(now, submit).and_then(|()| {
            let gateway = &mut self.parts.gateway;
            match &submit.approval {
                Approval::Order(order) => gateway.submit(&submit.reference, order),
                Approval::Quote(quote) => gateway.submit_quote(&submit.reference, quote),
            }
            .map_err(|error| refusal(&error))
        });
        match sent {
            Ok(()) => self.parts.engine.on_sent(now, submit, &mut self.effects),
            Err(error) => self.parts.engine.on_not_sent(now, submit, error, &mut self.effects),
        }
    }

    fn command(&mut self, command: VenueCommand) {
        // Neither a login, which would end the successor's session, nor a cancel.
        if !self.check_lease() && !matches!(command, VenueCommand::Disconnect) {
            return;
        }
        let now = self.now();
        let gateway = &mut self.parts.gateway;
        let (what, outcome, answer) = match command {
            VenueCommand::Connect(start) => ("connect", gateway.connect(start), None),
            VenueCommand::Disconnect => {
                gateway.disconnect();
                return;
            }
            VenueCommand::Subscribe(instruments, reply) => {
                let outcome = gateway.subscribe(&instruments);
                if outcome.is_err() {
                    self.parts.engine.on_not_subscribed(&instruments);
                }
                ("subscribe", outcome, reply.map(|to| (to, Ok(b"{}".to_vec()))))
            }
            VenueCommand::Unsubscribe(instruments) => ("unsubscribe", gateway.unsubscribe(&instruments), None),
            VenueCommand::Cancel(reference, answer) => ("cancel", gateway.cancel(&reference), answer),
            VenueCommand::CancelQuote(reference, answer) => ("cancel_quote", gateway.cancel_quote(&reference), answer),
            VenueCommand::CancelEach(cancels) => return self.cancel_each(*cancels),
            VenueCommand::Snapshot => (SNAPSHOT, gateway.request_snapshot(), None),
            VenueCommand::QueryHistory(token, request) => {
                return self.queried(token, |gateway| gateway.query_history(token, &request));
            }
            VenueCommand::QueryAccount(token) => return self.queried(token, |gateway| gateway.query_account(token)),
            VenueCommand::QueryPosition(token) => return self.queried(token, |gateway| gateway.query_position(token)),
        };
        if let Some((to, answer)) = answer {
            let answer = outcome.as_ref().map_err(refusal).and(answer);
            self.answer(to, answer);
        }
        if let Err(error) = outcome {
            self.parts.engine.on_command_failed(now, what, &error, &mut self.effects);
        }
    }

    fn cancel_each(&mut self, cancels: Cancels) {
        let mut outcomes = Vec::with_capacity(cancels.each.len());
        for (target, reference) in cancels.each {
            if !self.check_lease() {
                return;
            }
            let outcome = match target {
                Target::Order(_) => self.parts.gateway.cancel(&reference),
                Target::Quote(_) => self.parts.gateway.cancel_quote(&reference),
            };
            outcomes.push((target, outcome));
        }
        self.parts.engine.on_cancels(self.parts.clock.now(), cancels.reply, outcomes, &mut self.effects);
    }

    fn queried(
        &mut self,
        token: crate::gateway::QueryToken,
        ask: impl FnOnce(&mut Box<dyn Gateway>) -> Result<(), crate::gateway::GatewayError>,
    ) {
        if let Err(error) = ask(&mut self.parts.gateway) {
            self.parts.engine.on_answer(token, Err(error), &mut self.effects);
        }
    }

    fn answer(&mut self, to: ReplyTo, reply: Reply) {
        let Some(Pending { responder, .. }) = self.pending.remove(&to) else { return };
        // As many places as there can be calls under way; it is full only if the writer is gone.
        if self.parts.answers.try_send((responder, reply)).is_err() {
            debug!(gateway = %self.parts.name, "an answer finds nobody to send it");
        }
    }

    /// Reading waits for the server, so it happens in a task of its own; `MAX_REFILLS` at a time.
    fn read_events(&mut self, to: ReplyTo, params: protocol::rpc::GetEvents, stored: u64) {
        let Ok(place) = self.refills.clone().try_acquire_owned() else {
            let error = RpcError::new(ErrorCode::Overloaded, format!("{MAX_REFILLS} refills are under way; try again"));
            return self.answer(to, Err(error));
        };
        let Some(Pending { responder, .. }) = self.pending.remove(&to) else { return };
        let (reader, answers) = (self.parts.reader.clone(), self.parts.answers.clone());
        self.parts.runtime.spawn(async move {
            let page = reader.read(&params, stored).await;
            drop(place);
            let reply = page.and_then(|page| {
                protocol::codec::encode(&page).map_err(|e| RpcError::new(ErrorCode::Internal, e.to_string()))
            });
            if answers.send((responder, reply)).await.is_err() {
                debug!("a refill came after the end");
            }
        });
    }

    fn log(&mut self, line: Log) {
        let gateway = &self.parts.name;
        match line.level {
            LogLevel::Debug => debug!(%gateway, "{}", line.msg),
            LogLevel::Info => info!(%gateway, "{}", line.msg),
            LogLevel::Warning => warn!(%gateway, "{}", line.msg),
            LogLevel::Error | LogLevel::Critical => error!(%gateway, "{}", line.msg),
        }
        self.parts.publisher.log(line);
    }

    /// Whoever still waits is told, rather than left to a timeout: what became of an order is not known here.
    fn answer_the_rest(&mut self) {
        let left: Vec<ReplyTo> = self.pending.keys().copied().collect();
        for to in left {
            let error = RpcError::new(
                ErrorCode::ShuttingDown,
                "the gateway ended before the journal had what this answer needs; ask again",
            );
            self.answer(to, Err(error));
        }
    }

    /// Finishes the effects in hand, closes the venue, says goodbye and flushes.
    async fn drain(mut self) -> Ended {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        self.parts.engine.begin_close();
        // Calls that were taken already are answered: reads as ever, new orders with a refusal.
        self.parts.calls.close();
        while let Ok(call) = self.parts.calls.try_recv() {
            self.on_call(call);
        }
        while self.failed.is_none() && !self.gate.is_empty() {
            let wait = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(wait, self.parts.journal.progress.changed()).await {
                Ok(changed) => self.on_progress(changed.is_ok()),
                Err(_) => {
                    warn!(gateway = %self.parts.name, waiting = self.gate.len(), "effects were left unfinished");
                    break;
                }
            }
        }
        self.parts.venue.ticks.close();
        self.parts.gateway.close();
        // What the venue said until it closed still belongs to the journal.
        while self.failed.is_none()
            && let Ok(event) = self.parts.venue.events.try_recv()
        {
            self.on_venue_event(event);
        }
        let now = self.now();
        let mut status = self.status(now);
        if let Some(reason) = &self.failed {
            // The last heartbeat of this epoch: clients know before they miss three.
            status.state = GatewayState::Failed;
            status.reason = Some(reason.clone());
        }
        if !self.is_over {
            self.parts.publisher.status(status);
        }
        // With NATS away there may never be room again.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.parts.publisher.room()).await;
        self.answer_the_rest();
        let name = self.parts.name.clone();
        let progress = self
            .parts
            .journal
            .finish(deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1)))
            .await;
        self.parts.engine.on_stored(progress.stored);
        let lost = self.parts.engine.journal_backlog();
        if lost > 0 {
            warn!(gateway = %name, lost, "journal entries could not be stored before the end");
        }
        match self.failed {
            Some(reason) if self.is_over => Ended::SteppedDown(reason),
            Some(reason) => Ended::Failed(reason),
            None => Ended::Drained,
        }
    }
}

/// Whether an answer of this method that waits behind the gate may be given up. That to what acts is kept, since it says
/// what came of it; a cancel that is sent is answered ahead of the gate, and what waits behind it is a refusal.
const fn may_give_up(method: Method) -> bool {
    match method {
        Method::CancelOrder | Method::CancelQuote => true,
        Method::Halt | Method::Resume => false,
        _ => !method.needs_deadline(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_of_an_order_or_a_halt_is_waited_for_however_long() {
        let kept: Vec<Method> = Method::ALL.iter().copied().filter(|method| !may_give_up(*method)).collect();
        assert_eq!(kept, [Method::SendOrder, Method::CancelAll, Method::SendQuote, Method::Halt, Method::Resume]);
    }
}
