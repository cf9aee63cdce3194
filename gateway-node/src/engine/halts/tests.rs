//! Gateways and the bucket they share: what is halted where, whatever is written, lost, wiped or forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use protocol::journal::Entry;
use protocol::rpc::Deadline;
use protocol::{Direction, Exchange, GatewayState, Offset, OrderRequest, OrderStatus, Product};

use super::super::{Call, Cancels, Effects, EngineOptions, Replayed, Request, VenueCommand};
use super::*;
use crate::gateway::{GatewayError, VenueEvent, VenueOrder, VenueSnapshot};

fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

/// One gateway, its journal, and what it wants of the bucket.
struct Desk {
    name: Name,
    engine: Engine,
    now: Now,
    calls: u64,
    journal: Vec<Entry>,
    wanted: VecDeque<HaltWrite>,
    effects: Effects,
    epoch: u64,
    logins: u64,
    venue: Option<Venue>,
}

/// What works at a gateway's venue, and what its adapter says to cancels.
#[derive(Default)]
struct Venue {
    working: Vec<VenueOrder>,
    refuses: Option<GatewayError>,
}

impl Desk {
    fn new(name: &str) -> Desk {
        let wall = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let now = Now { wall, mono: Duration::from_secs(1) };
        let engine = Engine::new(EngineOptions::new(name, "node", 1), Replayed::default(), 1);
        let (journal, wanted, effects) = (Vec::new(), VecDeque::new(), Vec::new());
        let name = name.into();
        Desk { name, engine, now, calls: 0, journal, wanted, effects, epoch: 1, logins: 0, venue: None }
    }

    /// Ready, at a venue that takes orders.
    fn trading(name: &str) -> Desk {
        let mut desk = Desk::ready(name);
        desk.venue = Some(Venue::default());
        desk
    }

    /// Logged in, and the bucket is read.
    fn ready(name: &str) -> Desk {
        let mut desk = Desk::new(name);
        desk.log_in();
        desk.read(&Bucket::default());
        desk
    }

    fn log_in(&mut self) {
        self.logins += 1;
        let session: Name = format!("{}-{}", self.epoch, self.logins).into();
        self.engine.on_timer(self.now, &mut self.effects);
        self.venue(VenueEvent::Connected {
            session: session.clone(),
            max_reference: 0,
            trading_day: None,
            venue: "script".into(),
        });
        self.venue(VenueEvent::Contract(Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0)));
        self.venue(VenueEvent::Ready);
        let orders = self.venue.as_ref().map(|venue| venue.working.clone()).unwrap_or_default();
        let snapshot = VenueSnapshot { session, orders, ..VenueSnapshot::default() };
        self.venue(VenueEvent::Snapshot(Box::new(snapshot)));
        assert_eq!(self.engine.gateway_state(), GatewayState::Ready);
        self.keep();
    }

    fn venue(&mut self, event: VenueEvent) {
        self.engine.on_venue_event(self.now, event, &mut self.effects);
        self.keep();
    }

    /// Stores what was journalled, queues what is to be written, and keeps the rest.
    fn keep(&mut self) {
        let (mut further, mut kept) = (VecDeque::from(std::mem::take(&mut self.effects)), Vec::new());
        while let Some(effect) = further.pop_front() {
            let mut out = Vec::new();
            match effect {
                Effect::Journal(entry) => self.journal.push(entry),
                Effect::WriteHalt(write) => self.wanted.push_back(*write),
                Effect::Submit(submit) if self.venue.is_some() => self.submit(&submit, &mut out),
                Effect::Venue(VenueCommand::CancelEach(cancels)) if self.venue.is_some() => {
                    self.cancel(*cancels, &mut out);
                }
                other => kept.push(other),
            }
            further.extend(out);
        }
        self.effects = kept;
        self.engine.on_stored(self.engine.journal_seq());
    }

    fn submit(&mut self, submit: &Submit, out: &mut Effects) {
        if let Err(error) = self.engine.before_submit(self.now, submit) {
            return self.engine.on_not_sent(self.now, submit, error, out);
        }
        let Approval::Order(request) = &submit.approval else { return };
        let order = VenueOrder {
            reference: submit.reference.clone(),
            instrument: request.instrument(),
            order_type: request.r#type,
            direction: request.direction,
            offset: request.offset,
            price: request.price,
            volume: request.volume,
            traded: 0.0,
            status: OrderStatus::NotTraded,
            datetime: None,
            reason: None,
        };
        self.venue.get_or_insert_default().working.push(order.clone());
        self.engine.on_sent(self.now, submit, out);
        self.engine.on_venue_event(self.now, VenueEvent::Order(order), out);
    }

    fn cancel(&mut self, cancels: Cancels, out: &mut Effects) {
        let venue = self.venue.get_or_insert_default();
        let (mut outcomes, mut said) = (Vec::new(), Vec::new());
        for (target, reference) in cancels.each {
            if venue.refuses.is_none() {
                venue.working.retain(|order| {
                    if order.reference == reference {
                        said.push(VenueOrder { status: OrderStatus::Cancelled, ..order.clone() });
                    }
                    order.reference != reference
                });
            }
            outcomes.push((target, venue.refuses.clone().map_or(Ok(()), Err)));
        }
        self.engine.on_cancels(self.now, cancels.reply, outcomes, out);
        for order in said {
            self.engine.on_venue_event(self.now, VenueEvent::Order(order), out);
        }
    }

    fn refuse(&mut self, error: Option<GatewayError>) {
        self.venue.get_or_insert_default().refuses = error;
    }

    fn log_out(&mut self) {
        self.venue(VenueEvent::Disconnected { reason: "drill".into() });
    }

    fn tick(&mut self) {
        self.engine.on_timer(self.now, &mut self.effects);
        self.keep();
    }

    /// An owner's order that rests.
    fn order(&mut self, owner: &str, offset: Offset) {
        let caller = Caller { owner: owner.into(), client: "x".into(), sees_all: false };
        let request = OrderRequest::limit(instrument(), Direction::Long, offset, 3500.0, 1.0);
        self.call_by(caller, Request::SendOrder(request));
    }

    /// Whose orders work, and whether they open.
    fn working(&self) -> Vec<(&str, bool)> {
        self.engine.state.active_orders().map(|order| (order.owner.as_str(), order.offset == Offset::Open)).collect()
    }

    fn call_by(&mut self, caller: Caller, request: Request) -> ReplyTo {
        self.now.wall += chrono::TimeDelta::milliseconds(1);
        self.calls += 1;
        let (reply, ms) = (ReplyTo(self.calls), self.now.millis() + 1_000);
        let deadline = Some(Deadline { ms, epoch: None });
        self.engine.on_call(self.now, Call { reply, caller, deadline, traceid: None, request }, &mut self.effects);
        self.keep();
        reply
    }

    fn call(&mut self, request: Request) -> ReplyTo {
        self.call_by(Caller::anonymous("test"), request)
    }

    fn answer(&mut self, to: ReplyTo) -> Result<serde_json::Value, RpcError> {
        let answer = std::mem::take(&mut self.effects).into_iter().find_map(|effect| match effect {
            Effect::Reply(reply, answer) | Effect::ReplyNow(reply, answer) if reply == to => Some(answer),
            _ => None,
        });
        answer.expect("an answer").map(|bytes| protocol::codec::decode(&bytes).expect("JSON"))
    }

    /// The bucket takes the next change that is wanted, or cannot be reached.
    fn write(&mut self, bucket: &mut Bucket, reachable: bool) {
        let Some(write) = self.wanted.pop_front() else { return };
        let outcome = if reachable { bucket.take(&write) } else { Err(WriteError::Unwritable("no bucket".to_owned())) };
        self.engine.on_halt_news(self.now, HaltNews::Written(Box::new(write), outcome), &mut self.effects);
        self.keep();
    }

    fn write_all(&mut self, bucket: &mut Bucket) {
        while !self.wanted.is_empty() {
            self.write(bucket, true);
        }
    }

    fn read(&mut self, bucket: &Bucket) {
        let news = HaltNews::Read(bucket.records.values().cloned().collect());
        self.engine.on_halt_news(self.now, news, &mut self.effects);
        self.keep();
    }

    fn replay(&self) -> Replayed {
        let mut replayed = Replayed::default();
        for (seq, entry) in self.journal.iter().enumerate() {
            replayed.take(seq as u64 + 2, 1, entry);
        }
        replayed
    }

    /// Dies, and begins again from what it journalled.
    fn restart(&mut self) {
        let replayed = self.replay();
        let seq = replayed.journal_seq.max(1) + 1;
        self.epoch += 1;
        self.logins = 0;
        self.engine = Engine::new(EngineOptions::new(self.name.clone(), "node", self.epoch), replayed, seq);
        (self.wanted, self.effects) = (VecDeque::new(), Vec::new());
    }

    fn halted(&self) -> Vec<HaltEntry> {
        self.engine.shown_halts(self.now.wall)
    }

    /// What it holds of a target that concerns every gateway.
    fn shared(&self) -> BTreeMap<HaltTarget, HaltEntry> {
        let held = self.engine.halts.held.iter().filter(|(target, _)| target.scope != HaltScope::Gateway);
        held.map(|(target, entry)| (target.clone(), entry.clone())).collect()
    }

    /// The same, but for what went into it.
    fn agreed(&self) -> BTreeMap<HaltTarget, HaltEntry> {
        let plain = |entry: HaltEntry| HaltEntry { heard: Heard::default(), ..entry };
        self.shared().into_iter().map(|(target, entry)| (target, plain(entry))).collect()
    }

    fn send(&mut self, offset: Offset) -> Result<(), RpcError> {
        let to = self.call(Request::SendOrder(OrderRequest::limit(instrument(), Direction::Long, offset, 3500.0, 1.0)));
        let submits = self.effects.iter().any(|effect| matches!(effect, Effect::Submit(s) if s.reply == to));
        if submits { Ok(()) } else { self.answer(to).map(drop) }
    }
}

/// What all of them share.
#[derive(Default)]
struct Bucket {
    records: BTreeMap<HaltTarget, HaltRecord>,
    /// What was resumed.
    ended: Vec<(HaltTarget, Heard)>,
}

impl Bucket {
    fn take(&mut self, write: &HaltWrite) -> Result<Option<HaltRecord>, WriteError> {
        let current = self.records.get(write.change.target());
        match decide(&write.change, current) {
            Decision::Keep(record) => Ok(record),
            Decision::Conflict(entry) => Err(WriteError::Conflict(Box::new(entry))),
            Decision::Write(record) => {
                if matches!(write.change, Change::Resume(_)) {
                    self.ended.push((record.target().clone(), record.heard().clone()));
                }
                self.records.insert(record.target().clone(), record.clone());
                Ok(Some(record))
            }
        }
    }
}

fn halt(owner: Option<&str>, all: bool) -> Request {
    Request::Halt(Halt { owner: owner.map(Name::from), all, reason: "drill".into(), ..Halt::default() })
}

fn resume(owner: Option<&str>, all: bool) -> Request {
    Request::Resume(Resume { owner: owner.map(Name::from), all, ..Resume::default() })
}

#[test]
fn until_the_halts_are_known_everybody_is_halted() {
    let mut desk = Desk::new("sim1");
    desk.log_in();
    let error = desk.send(Offset::Open).expect_err("refused");
    assert_eq!(error.code, ErrorCode::Halted);
    assert!(error.message.contains("NATS bucket `halts`") && error.message.contains("not read yet"), "{error}");
    desk.engine.on_halt_news(desk.now, HaltNews::Unreadable("no such permission".into()), &mut desk.effects);
    let status = desk.engine.status(desk.now);
    assert_eq!(status.halted, ["*"]);
    assert!(status.halts[0].reason.contains("no such permission"), "{:?}", status.halts);
    assert!(desk.send(Offset::Close).expect_err("closes too").message.contains("no such permission"));
    desk.read(&Bucket::default());
    assert_eq!((desk.engine.status(desk.now).halts.len(), desk.send(Offset::Open)), (0, Ok(())));
    desk.engine.on_halt_news(desk.now, HaltNews::Unreadable("gone".into()), &mut desk.effects);
    assert_eq!(desk.send(Offset::Open), Ok(()), "what was known stays known");
}

#[test]
fn a_halt_holds_before_it_is_written_and_says_if_it_is_not() {
    let (mut desk, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    let to = desk.call(halt(None, true));
    assert_eq!(desk.send(Offset::Open).expect_err("refused").code, ErrorCode::Halted);
    assert!(desk.halted()[0].local);
    desk.write(&mut bucket, false);
    let error = desk.answer(to).expect_err("told");
    assert_eq!(error.code, ErrorCode::PartlyDone);
    assert!(error.message.starts_with("halted on this gateway only: no bucket"), "{error}");
    assert!(desk.send(Offset::Open).is_err());
    // The bucket is there again: the others hear of it after all.
    desk.read(&bucket);
    desk.write_all(&mut bucket);
    assert!(!desk.halted()[0].local && bucket.records.len() == 1);
    let mut other = Desk::ready("sim2");
    other.read(&bucket);
    assert!(other.send(Offset::Open).expect_err("refused").message.contains("for everything: drill"));
}

#[test]
fn a_resume_needs_the_bucket_and_ends_what_it_saw() {
    let (mut one, mut two, mut bucket) = (Desk::ready("sim1"), Desk::ready("sim2"), Bucket::default());
    one.call(halt(Some("A"), false));
    one.write_all(&mut bucket);
    two.read(&bucket);
    let to = one.call(resume(Some("A"), false));
    one.write(&mut bucket, false);
    assert_eq!(one.answer(to).expect_err("told").code, ErrorCode::NotReady);
    assert_eq!(one.halted().len(), 1, "still halted");
    // Somebody else halts it again, for another reason, before the resume arrives.
    let to = one.call(resume(Some("A"), false));
    two.call(Request::Halt(Halt { owner: Some("A".into()), reason: "worse".into(), ..Halt::default() }));
    two.write_all(&mut bucket);
    one.write_all(&mut bucket);
    let error = one.answer(to).expect_err("told");
    assert!(error.code == ErrorCode::Halted && error.message.contains("worse"), "{error}");
    one.read(&bucket);
    assert_eq!(one.halted()[0].reason, "worse");
    let to = one.call(resume(Some("A"), false));
    one.write_all(&mut bucket);
    assert_eq!(one.answer(to).expect("resumed")["halted"], serde_json::json!([]));
    two.read(&bucket);
    assert_eq!((one.shared(), two.shared()), (BTreeMap::new(), BTreeMap::new()));
}

#[test]
fn a_wiped_bucket_resumes_nobody_and_is_filled_again() {
    let (mut one, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    one.call(halt(Some("A"), false));
    one.write_all(&mut bucket);
    let since = one.halted()[0].since;
    one.restart();
    bucket.records.clear();
    one.read(&bucket);
    assert_eq!(one.halted().len(), 1);
    one.write_all(&mut bucket);
    let HaltRecord::Halted(entry) = bucket.records.values().next().expect("written back") else { panic!("halted") };
    assert_eq!((entry.since, entry.local), (since, false));
    // One that was resumed while this gateway was away is resumed, not written back.
    let mut two = Desk::ready("sim2");
    two.read(&bucket);
    two.call(resume(Some("A"), false));
    two.write_all(&mut bucket);
    one.restart();
    one.read(&bucket);
    one.write_all(&mut bucket);
    assert!(one.halted().is_empty() && matches!(bucket.records.values().next(), Some(HaltRecord::Resumed(_))));
}

#[test]
fn an_order_behind_the_gate_is_stopped() {
    let mut desk = Desk::ready("sim1");
    desk.send(Offset::Open).expect("taken");
    let submit = desk.effects.iter().find_map(|e| if let Effect::Submit(s) = e { Some(s.clone()) } else { None });
    let submit = submit.expect("a submit");
    assert_eq!(desk.engine.before_submit(desk.now, &submit), Ok(()));
    desk.call(halt(None, false));
    let error = desk.engine.before_submit(desk.now, &submit).expect_err("stopped");
    assert_eq!(error.code, ErrorCode::Halted);
    desk.engine.on_not_sent(desk.now, &submit, error, &mut desk.effects);
    let order = desk.engine.state().order(&submit.key).expect("kept");
    assert_eq!(order.status, OrderStatus::Rejected);
    assert!(order.reason.as_deref().is_some_and(|reason| reason.contains("halted for gateway sim1: drill")));
}

#[test]
fn reduce_only_lets_what_closes_through_and_never_loosens() {
    let (mut desk, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    let reduce_only = || Request::Halt(Halt { reduce_only: true, reason: "drill".into(), ..Halt::default() });
    desk.call(reduce_only());
    desk.write_all(&mut bucket);
    assert_eq!(desk.engine.status(desk.now).halted, [""; 0], "who may close is not halted altogether");
    let error = desk.send(Offset::Open).expect_err("opens");
    assert!(
        error.message.ends_with("drill; only what lessens a position is taken: LONG OPEN opens a position"),
        "{error}"
    );
    assert_eq!(desk.send(Offset::Close), Ok(()));
    desk.call(halt(None, false));
    desk.write_all(&mut bucket);
    desk.call(reduce_only());
    desk.write_all(&mut bucket);
    assert!(desk.send(Offset::Close).is_err(), "it is halted altogether");
    desk.call(Request::Resume(Resume { reduce_only: true, ..Resume::default() }));
    desk.write_all(&mut bucket);
    assert!(desk.send(Offset::Close).is_ok() && desk.send(Offset::Open).is_err());
    assert!(desk.halted()[0].reduce_only && !desk.halted()[0].local);
}

#[test]
fn accounts_halt_the_gateways_that_trade_for_them() {
    let (mut one, mut two, mut bucket) = (Desk::ready("sim1"), Desk::ready("sim2"), Bucket::default());
    let account = |id: &str| protocol::Account {
        gateway_name: "sim1".into(),
        accountid: id.into(),
        balance: 1.0,
        frozen: 0.0,
        available: 1.0,
        margin: None,
        commission: None,
        close_profit: None,
        position_profit: None,
        currency: None,
        extra: None,
    };
    one.venue(VenueEvent::Account(account("104")));
    let request = Halt { account: Some("104".into()), ..Halt::default() };
    two.call(Request::Halt(request));
    two.write_all(&mut bucket);
    one.read(&bucket);
    assert!(one.send(Offset::Open).is_err());
    assert!(two.send(Offset::Open).is_err(), "it does not know its accounts yet");
    two.venue(VenueEvent::Account(account("105")));
    assert!(two.send(Offset::Open).is_ok() && two.halted().is_empty());
}

#[test]
fn an_owner_halts_itself_and_resumes_only_what_it_halted() {
    let (mut desk, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    let a = || Caller { owner: "A".into(), client: "x".into(), sees_all: false };
    for (request, code) in [
        (halt(None, true), ErrorCode::NotPermitted),
        (halt(Some("B"), false), ErrorCode::NotPermitted),
        (Request::Halt(Halt { account: Some("1".into()), ..Halt::default() }), ErrorCode::NotPermitted),
        (Request::Halt(Halt { external: true, ..Halt::default() }), ErrorCode::BadRequest),
        (Request::Halt(Halt { all: true, owner: Some("A".into()), ..Halt::default() }), ErrorCode::BadRequest),
        (halt(Some("external"), false), ErrorCode::BadRequest),
    ] {
        let to = desk.call_by(a(), request);
        assert_eq!(desk.answer(to).expect_err("refused").code, code);
    }
    desk.call_by(a(), halt(None, false));
    desk.write_all(&mut bucket);
    assert_eq!(desk.halted()[0].by.as_deref(), Some("A"));
    desk.call_by(a(), resume(None, false));
    desk.write_all(&mut bucket);
    assert!(desk.halted().is_empty());
    desk.call(halt(Some("A"), false));
    desk.write_all(&mut bucket);
    desk.call_by(a(), halt(None, false));
    desk.write_all(&mut bucket);
    let to = desk.call_by(a(), resume(None, false));
    assert_eq!(desk.answer(to).expect_err("refused").code, ErrorCode::NotPermitted, "its own changes nothing");
}

#[test]
fn more_halts_than_can_be_kept_halt_everybody() {
    let (mut desk, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    for n in 0..=MAX_HALTS {
        let target = HaltTarget::new(HaltScope::Owner, format!("owner{n}"));
        let mut entry =
            HaltEntry { target: target.clone(), ..desk.engine.shown_halts(desk.now.wall).pop().unwrap_or(sample()) };
        entry.local = false;
        bucket.records.insert(target, HaltRecord::Halted(entry));
    }
    desk.read(&bucket);
    assert!(desk.send(Offset::Open).expect_err("refused").message.contains("more than 256"));
    bucket.records.pop_first();
    desk.read(&bucket);
    assert_eq!(desk.halted().len(), MAX_HALTS);
    assert_eq!(desk.send(Offset::Open), Ok(()));

    let halt = |owner: Option<&str>, all| {
        Request::Halt(protocol::rpc::Halt { owner: owner.map(Into::into), all, ..Default::default() })
    };
    let one_more = desk.call(halt(Some("one-more"), false));
    assert_eq!(desk.answer(one_more).expect_err("refused").code, ErrorCode::Overloaded);
    desk.call(halt(None, true));
    assert_eq!(desk.send(Offset::Open).expect_err("everything can be halted").code, ErrorCode::Halted);
}

fn sample() -> HaltEntry {
    let since = chrono::DateTime::UNIX_EPOCH.fixed_offset();
    HaltEntry { local: false, ..full_halt(HaltTarget::new(HaltScope::All, ""), String::new(), since) }
}

#[test]
fn what_an_earlier_version_journalled_is_halted_here() {
    let halts = BTreeMap::from([(Name::from("*"), "old".to_owned()), (Name::from("A"), "older".to_owned())]);
    let mut replayed = Replayed::default();
    replayed.halts = halts;
    let engine = Engine::new(EngineOptions::new("sim1", "node", 2), replayed, 2);
    let targets: Vec<String> = engine.halts.held.keys().map(ToString::to_string).collect();
    assert_eq!(targets, ["gateway sim1", "owner A"]);
    let (owners, entries) = engine.journalled_halts();
    assert_eq!(owners.keys().map(Name::as_str).collect::<Vec<_>>(), ["*", "A"]);
    assert_eq!(entries.len(), 2);
}

/// Where the venue listens, nothing works that a halt with cancel covers.
fn check_cancelled(desk: &mut Desk) -> Result<(), TestCaseError> {
    let listens = desk.venue.as_ref().is_some_and(|venue| venue.refuses.is_none());
    if desk.engine.gateway_state() != GatewayState::Ready || !listens {
        return Ok(());
    }
    if !desk.engine.halts.uncancelled.is_empty() {
        desk.tick();
    }
    for entry in desk.engine.halts.held.values().filter(|entry| entry.cancel) {
        for (owner, opens) in desk.working() {
            let covers = entry.target.scope == HaltScope::All || entry.target.target == owner;
            prop_assert!(!covers || (entry.leaves_closing() && !opens), "{} of {owner} works on: {entry:?}", desk.name);
        }
    }
    Ok(())
}

#[test]
fn a_later_halt_withdraws_no_cancel() {
    let (mut one, mut two, mut bucket) = (Desk::ready("sim1"), Desk::trading("sim2"), Bucket::default());
    two.order("A", Offset::Open);
    two.log_out();
    one.call(Request::Halt(Halt { all: true, cancel: true, external: true, ..Halt::default() }));
    one.write_all(&mut bucket);
    two.read(&bucket);
    one.call(Request::Halt(Halt { all: true, reason: "x".into(), ..Halt::default() }));
    one.write_all(&mut bucket);
    two.read(&bucket);
    let held = &two.halted()[0];
    assert!(held.cancel && held.external && held.reason == "x", "{held:?}");
    assert_eq!(two.working(), [("A", true)]);
    two.log_in();
    assert_eq!(two.working(), []);
}

#[test]
fn of_two_halts_at_once_the_one_with_cancel_is_carried_out_everywhere() {
    // Whichever is written first; and where the other's record is read before this gateway's own is written.
    for (cancel_first, read_before) in [(true, false), (true, true), (false, false), (false, true)] {
        let (mut one, mut two, mut bucket) = (Desk::trading("sim1"), Desk::trading("sim2"), Bucket::default());
        one.order("A", Offset::Open);
        two.order("A", Offset::Open);
        one.call(Request::Halt(Halt { all: true, cancel: true, ..Halt::default() }));
        two.call(Request::Halt(Halt { all: true, reason: "x".into(), ..Halt::default() }));
        assert_eq!((one.working().len(), two.working().len()), (0, 1));
        let (first, second) = if cancel_first { (&mut one, &mut two) } else { (&mut two, &mut one) };
        first.write_all(&mut bucket);
        if read_before {
            second.read(&bucket);
        }
        second.write_all(&mut bucket);
        first.read(&bucket);
        assert!(one.halted()[0].cancel && two.halted()[0].cancel);
        assert_eq!(two.working(), [], "cancel first: {cancel_first}, read before: {read_before}");
    }
}

#[test]
fn two_halts_together_cancel_nothing_that_neither_was_asked_to() {
    let full = || Request::Halt(Halt { all: true, ..Halt::default() });
    let opening = || Request::Halt(Halt { all: true, reduce_only: true, cancel: true, ..Halt::default() });
    for requests in [[full(), opening()], [opening(), full()]] {
        let (mut one, mut two, mut bucket) = (Desk::trading("sim1"), Desk::trading("sim2"), Bucket::default());
        for desk in [&mut one, &mut two] {
            desk.order("A", Offset::Open);
            desk.order("A", Offset::Close);
        }
        for request in requests {
            one.call(request);
            one.write_all(&mut bucket);
            two.read(&bucket);
        }
        two.log_out();
        two.log_in();
        assert_eq!((one.working(), two.working()), (vec![("A", false)], vec![("A", false)]));
        assert!(one.send(Offset::Close).is_err() && two.send(Offset::Close).is_err(), "nothing new is taken");
        one.call(Request::Halt(Halt { all: true, cancel: true, ..Halt::default() }));
        one.write_all(&mut bucket);
        two.read(&bucket);
        assert_eq!((one.working(), two.working()), (vec![], vec![]));
    }
}

#[test]
fn what_opens_is_cancelled_at_the_next_login_too() {
    let (mut one, mut two, mut bucket) = (Desk::ready("sim1"), Desk::trading("sim2"), Bucket::default());
    two.order("A", Offset::Open);
    two.order("A", Offset::Close);
    two.log_out();
    one.call(Request::Halt(Halt { all: true, reduce_only: true, cancel: true, ..Halt::default() }));
    one.write_all(&mut bucket);
    two.read(&bucket);
    assert_eq!(two.working().len(), 2);
    two.log_in();
    assert_eq!(two.working(), [("A", false)]);
    // Another dies between the journal and the venue.
    let mut three = Desk::trading("sim3");
    three.order("A", Offset::Open);
    three.refuse(Some(GatewayError::NotConnected));
    three.read(&bucket);
    three.restart();
    three.refuse(None);
    three.log_in();
    assert_eq!(three.working(), []);
}

#[test]
fn a_cancel_that_the_adapter_refuses_is_told_and_tried_again() {
    let (mut desk, mut bucket) = (Desk::trading("sim1"), Bucket::default());
    desk.order("A", Offset::Open);
    desk.order("A", Offset::Open);
    desk.refuse(Some(GatewayError::Busy));
    let all = Caller { owner: "A".into(), client: "x".into(), sees_all: false };
    let to = desk.call_by(all, Request::CancelAll(protocol::rpc::CancelAll::default()));
    let answer = desk.answer(to).expect("answered");
    assert_eq!(
        (answer["orderids"].as_array().map(Vec::len), answer["failed"].as_array().map(Vec::len)),
        (Some(0), Some(2))
    );
    assert_eq!(answer["failed"][0]["error"]["code"], "OVERLOADED");
    desk.refuse(None);
    desk.tick();
    assert_eq!(desk.working().len(), 2, "whoever asked was told, and asks again");

    desk.refuse(Some(GatewayError::Busy));
    let to = desk.call(Request::Halt(Halt { cancel: true, ..Halt::default() }));
    let journalled = desk.journal.len();
    desk.write_all(&mut bucket);
    let answer = desk.answer(to).expect("halted");
    assert_eq!(
        (&answer["uncancelled"]["count"], &answer["uncancelled"]["error"]["code"]),
        (&2.into(), &"OVERLOADED".into())
    );
    desk.tick();
    let more = desk.journal[journalled..]
        .iter()
        .filter(|entry| matches!(entry, Entry::Private(Private::CancelRequested { .. })));
    assert_eq!((desk.working().len(), more.count()), (2, 0), "what was not sent is not journalled as sent");
    desk.refuse(None);
    desk.tick();
    assert_eq!((desk.working().len(), desk.engine.halts.uncancelled.len()), (0, 0));
}

#[test]
fn what_is_resumed_meanwhile_is_not_cancelled_after_all() {
    let (mut desk, mut bucket) = (Desk::trading("sim1"), Bucket::default());
    desk.order("A", Offset::Open);
    desk.refuse(Some(GatewayError::Busy));
    desk.call(Request::Halt(Halt { cancel: true, ..Halt::default() }));
    desk.write_all(&mut bucket);
    desk.call(Request::Resume(Resume::default()));
    desk.write_all(&mut bucket);
    desk.refuse(None);
    desk.tick();
    assert_eq!((desk.working().len(), desk.engine.halts.uncancelled.len()), (1, 0));
}

#[test]
fn a_halt_that_was_resumed_before_it_was_written_stays_over() {
    let (mut desk, mut bucket) = (Desk::trading("sim1"), Bucket::default());
    desk.call(Request::Halt(Halt { all: true, cancel: true, ..Halt::default() }));
    desk.write(&mut bucket, false);
    // NATS is there again: the resume comes before what was read a moment earlier.
    desk.call(resume(None, true));
    desk.read(&bucket);
    assert_eq!(desk.wanted.len(), 2);
    desk.write_all(&mut bucket);
    assert!(desk.halted().is_empty() && matches!(bucket.records.values().next(), Some(HaltRecord::Resumed(_))));
    desk.order("A", Offset::Open);
    desk.read(&bucket);
    desk.write_all(&mut bucket);
    assert_eq!((desk.halted().len(), desk.working().len()), (0, 1));
}

#[test]
fn a_halt_that_was_resumed_while_its_gateway_was_down_stays_over() {
    for reduce_only in [false, true] {
        let (mut one, mut two, mut bucket) = (Desk::trading("sim1"), Desk::trading("sim2"), Bucket::default());
        one.call(Request::Halt(Halt { all: true, cancel: true, ..Halt::default() }));
        // Written, and dead before the journal has that.
        let write = one.wanted.pop_front().expect("a change");
        bucket.take(&write).expect("taken");
        one.restart();
        assert!(one.halted()[0].local);
        two.read(&bucket);
        two.call(Request::Resume(Resume { all: true, reduce_only, ..Resume::default() }));
        two.write_all(&mut bucket);
        two.order("A", if reduce_only { Offset::Close } else { Offset::Open });
        one.read(&bucket);
        one.write_all(&mut bucket);
        two.read(&bucket);
        assert_eq!((one.agreed(), two.working().len()), (two.agreed(), 1));
        assert_eq!(two.halted().len(), usize::from(reduce_only));
        // One that is asked for since is another.
        one.call(halt(None, true));
        one.write_all(&mut bucket);
        two.read(&bucket);
        assert!(!two.halted()[0].reduce_only && !two.halted()[0].cancel);
    }
}

#[test]
fn an_earlier_versions_records_are_taken_as_ever() {
    let (mut one, mut bucket) = (Desk::ready("sim1"), Bucket::default());
    let at = one.now.wall - chrono::TimeDelta::seconds(1);
    let old = HaltEntry { since: at, ..sample() };
    // It is not known whether this was in the bucket when it was resumed: rather one halt too many.
    let resumed =
        HaltRecord::Resumed(Resumed { target: old.target.clone(), at: one.now.wall, heard: Heard::default() });
    assert!(matches!(decide(&Change::Halt(old.clone(), None), Some(&resumed)), Decision::Write(HaltRecord::Halted(_))));
    bucket.records.insert(old.target.clone(), HaltRecord::Halted(old));
    one.read(&bucket);
    assert_eq!(one.halted().len(), 1);
    one.call(resume(None, true));
    one.write_all(&mut bucket);
    assert!(one.halted().is_empty());
}

#[test]
fn a_key_that_nobody_understands_is_ended_by_its_name() {
    let (mut one, mut two, mut bucket) = (Desk::ready("sim1"), Desk::ready("sim2"), Bucket::default());
    let target = HaltTarget::of_key("test");
    bucket.records.insert(target.clone(), HaltRecord::Halted(HaltEntry { target: target.clone(), ..sample() }));
    one.read(&bucket);
    two.read(&bucket);
    let said = one.send(Offset::Open).expect_err("refused").message;
    assert!(said.ends_with("ends it with: gatectl resume --key 'test'"), "{said}");
    let by_key = |key: &str| Request::Resume(Resume { key: Some(key.into()), ..Resume::default() });
    let owner = Caller { owner: "A".into(), client: "x".into(), sees_all: false };
    let to = one.call_by(owner, by_key("test"));
    assert_eq!(one.answer(to).expect_err("refused").code, ErrorCode::NotPermitted);
    for (request, code) in [
        (by_key(""), ErrorCode::BadRequest),
        (by_key("a b"), ErrorCode::BadRequest),
        (by_key("a.>"), ErrorCode::BadRequest),
        (Request::Resume(Resume { key: Some("test".into()), all: true, ..Resume::default() }), ErrorCode::BadRequest),
    ] {
        let to = one.call(request);
        assert_eq!(one.answer(to).expect_err("refused").code, code);
    }
    one.call(by_key("test"));
    one.write_all(&mut bucket);
    two.read(&bucket);
    assert_eq!((one.send(Offset::Open), two.send(Offset::Open)), (Ok(()), Ok(())));
    two.restart();
    two.read(&bucket);
    assert!(two.halted().is_empty(), "{:?}", two.halted());
    // A known target's key names the same as its own words.
    one.call(halt(Some("A"), false));
    one.call(by_key("owner.A"));
    one.write_all(&mut bucket);
    assert!(one.halted().is_empty());
}

#[test]
fn a_resume_that_may_have_been_written_is_not_called_still_halted() {
    let mut desk = Desk::ready("sim1");
    desk.call(halt(None, true));
    desk.write_all(&mut Bucket::default());
    for (error, code, start) in [
        (WriteError::Unwritable("no bucket".into()), ErrorCode::NotReady, "still halted: no bucket"),
        (
            WriteError::InDoubt("no answer".into()),
            ErrorCode::PartlyDone,
            "it may have been resumed: no answer; look at `gatectl status`",
        ),
    ] {
        let to = desk.call(resume(None, true));
        let write = Box::new(desk.wanted.pop_front().expect("a change"));
        desk.engine.on_halt_news(desk.now, HaltNews::Written(write, Err(error)), &mut desk.effects);
        let error = desk.answer(to).expect_err("told");
        assert!(error.code == code && error.message.starts_with(start), "{error}");
        assert_eq!(desk.halted().len(), 1);
    }
}

#[test]
fn the_most_halts_fit_into_one_entry_of_the_journal() {
    let mut desk = Desk::ready("sim1");
    let heard = (0..protocol::halt::MAX_HEARD + 9).fold(Heard::default(), |all, n| {
        all.and(&Heard::one(format!("{n:0>32}"), u64::from(u32::MAX) + n as u64, u64::from(u32::MAX)))
    });
    for n in 0..MAX_HALTS {
        let target = HaltTarget::new(HaltScope::Owner, format!("{n:0>MAX_NAME$}"));
        let entry = HaltEntry {
            target: target.clone(),
            reason: plain_reason(&"\u{1}\u{1F4A5}\"".repeat(MAX_REASON)),
            by: Some("b".repeat(MAX_NAME).into()),
            heard: heard.clone(),
            reduce_only: true,
            cancel: true,
            ..sample()
        };
        desk.engine.halts.held.insert(target, entry);
    }
    let (halts, entries) = desk.engine.halts.to_journal();
    let entry = Private::Halts { halts, entries: Some(entries) };
    let size = protocol::codec::encode(&entry).expect("encodes").len();
    assert!(size < 1 << 20, "{size} bytes");
}

#[derive(Debug, Clone)]
enum Step {
    Halt {
        at: usize,
        owner: Option<&'static str>,
        reduce_only: bool,
        reason: u8,
        cancel: bool,
        external: bool,
    },
    /// An order on its way, of A or of B.
    Order {
        at: usize,
        owner: &'static str,
        offset: Offset,
    },
    LogOut {
        at: usize,
    },
    LogIn {
        at: usize,
    },
    /// The adapter takes no cancels, or takes them again.
    Refuse {
        at: usize,
        refuses: bool,
    },
    Resume {
        at: usize,
        owner: Option<&'static str>,
        reduce_only: bool,
    },
    Write {
        at: usize,
        reachable: bool,
    },
    Read {
        at: usize,
    },
    Restart {
        at: usize,
    },
    Wipe,
    /// A gateway's clock jumps.
    Jump {
        at: usize,
        seconds: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = || proptest::sample::select(vec![None, Some("A"), Some("B")]);
    let step = prop_oneof![
        4 => (0_usize..3, owner(), any::<bool>(), 0_u8..3, any::<bool>(), any::<bool>()).prop_map(
            |(at, owner, reduce_only, reason, cancel, external)| {
                let external = external && cancel && owner.is_none();
                Step::Halt { at, owner, reduce_only, reason, cancel, external }
            }
        ),
        4 => (0_usize..3, any::<bool>(), any::<bool>()).prop_map(|(at, is_a, opens)| Step::Order {
            at,
            owner: if is_a { "A" } else { "B" },
            offset: if opens { Offset::Open } else { Offset::Close },
        }),
        1 => (0_usize..3).prop_map(|at| Step::LogOut { at }),
        2 => (0_usize..3).prop_map(|at| Step::LogIn { at }),
        1 => (0_usize..3, any::<bool>()).prop_map(|(at, refuses)| Step::Refuse { at, refuses }),
        3 => (0_usize..3, owner(), prop::bool::weighted(0.2))
            .prop_map(|(at, owner, reduce_only)| Step::Resume { at, owner, reduce_only }),
        8 => (0_usize..3, prop::bool::weighted(0.8)).prop_map(|(at, reachable)| Step::Write { at, reachable }),
        4 => (0_usize..3).prop_map(|at| Step::Read { at }),
        1 => (0_usize..3).prop_map(|at| Step::Restart { at }),
        1 => Just(Step::Wipe),
        1 => (0_usize..3, -5_i64..5).prop_map(|(at, seconds)| Step::Jump { at, seconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// While a halt says cancel and the venue listens, nothing works that it covers; and what was asked to be cancelled
    /// anywhere is cancelled everywhere. A target that was halted anywhere stays halted there until a resume was answered as done; in the end all agree,
    /// with each other, with the bucket, and with their own journals.
    #[test]
    fn no_halt_is_lost(steps in steps()) {
        let mut bucket = Bucket::default();
        let mut desks: Vec<Desk> = ["sim1", "sim2", "sim3"].into_iter().map(Desk::trading).collect();
        let mut asked = Vec::new();
        for step in steps {
            let before: Vec<BTreeMap<HaltTarget, HaltEntry>> = desks.iter().map(Desk::shared).collect();
            let resumed_before = bucket.records.clone();
            match step {
                Step::Halt { at, owner, reduce_only, reason, cancel, external } => {
                    let halt = Halt {
                        owner: owner.map(Name::from), all: owner.is_none(), reduce_only, cancel, external,
                        reason: format!("r{reason}"), ..Halt::default()
                    };
                    desks[at].call(Request::Halt(halt));
                    // One in the words of what is held already is the same halt.
                    let wanted = desks[at].wanted.back().map(|write| &write.change);
                    if let Some(Change::Halt(wanted, _)) = wanted && wanted.local {
                        asked.push(wanted.clone());
                    }
                    let target = owner.map_or(HaltTarget::new(HaltScope::All, ""), |o| HaltTarget::new(HaltScope::Owner, o));
                    let held = desks[at].shared();
                    prop_assert!(held.get(&target).is_some_and(|h| reduce_only || !h.reduce_only), "it holds at once");
                }
                Step::Resume { at, owner, reduce_only } => {
                    let resume = Resume { owner: owner.map(Name::from), all: owner.is_none(), reduce_only, ..Resume::default() };
                    desks[at].call(Request::Resume(resume));
                }
                Step::Order { at, owner, offset } => desks[at].order(owner, offset),
                Step::LogOut { at } => desks[at].log_out(),
                Step::LogIn { at } => {
                    desks[at].log_out();
                    desks[at].log_in();
                }
                Step::Refuse { at, refuses } => desks[at].refuse(refuses.then_some(GatewayError::Busy)),
                Step::Write { at, reachable } => desks[at].write(&mut bucket, reachable),
                Step::Read { at } => desks[at].read(&bucket),
                Step::Restart { at } => desks[at].restart(),
                Step::Wipe => {
                    bucket.records.clear();
                    // From now on nobody need have heard that this is among what is resumed.
                    asked.iter_mut().for_each(|asked: &mut HaltEntry| asked.local = false);
                }
                Step::Jump { at, seconds } => desks[at].now.wall += chrono::TimeDelta::seconds(seconds),
            }
            // What one gateway lets go, the bucket says is over.
            for (desk, before) in desks.iter().zip(before) {
                let after = desk.shared();
                for (target, entry) in before.iter().filter(|(target, _)| !after.contains_key(*target)) {
                    let record = bucket.records.get(target).or(resumed_before.get(target));
                    prop_assert!(
                        matches!(record, Some(HaltRecord::Resumed(r)) if is_ended(entry, r)),
                        "{} let go of {target}: {entry:?}, and the bucket has {record:?}", desk.name
                    );
                    bucket.ended.push((target.clone(), entry.heard.clone()));
                }
                let replayed = desk.replay();
                let kept = Halts::new(&desk.name, replayed.halts, replayed.halt_entries).held;
                prop_assert_eq!(&kept, &desk.engine.halts.held, "the journal says the same");
            }
            for desk in &mut desks {
                check_cancelled(desk)?;
            }
        }
        for _ in 0..6 {
            for desk in &mut desks {
                desk.write_all(&mut bucket);
                desk.read(&bucket);
            }
        }
        for desk in &desks {
            prop_assert!(desk.wanted.is_empty(), "it comes to rest");
            prop_assert_eq!(desk.agreed(), desks[0].agreed(), "{}", &desk.name);
            for (target, entry) in desk.agreed() {
                let Some(HaltRecord::Halted(record)) = bucket.records.get(&target) else { panic!("{target} is halted") };
                prop_assert_eq!(&HaltEntry { heard: Heard::default(), ..record.clone() }, &entry);
                let is_over = |asked: &HaltEntry| {
                    let mut ended = bucket.ended.iter().filter(|(of, _)| *of == target);
                    ended.any(|(_, ended)| !asked.local || ended.covers(&asked.heard))
                };
                for asked in asked.iter().filter(|asked| asked.target == target && record.heard.covers(&asked.heard)) {
                    let lacks = (asked.cancel && !entry.cancel) || (asked.external && !entry.external);
                    prop_assert!(!lacks || is_over(asked), "{asked:?} came to {entry:?}");
                }
            }
            prop_assert!(desk.engine.halts.unknown.is_none());
        }
        for desk in &mut desks {
            desk.refuse(None);
            desk.log_out();
            desk.log_in();
            check_cancelled(desk)?;
        }
        for (target, record) in &bucket.records {
            prop_assert!(matches!(record, HaltRecord::Resumed(_)) || desks[0].shared().contains_key(target));
        }
    }
}
