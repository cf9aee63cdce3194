//! Gateways and the bucket they share: what is halted where, whatever is written, lost, wiped or forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use protocol::journal::Entry;
use protocol::{Direction, Exchange, GatewayState, Offset, OrderRequest, OrderStatus, Product};

use super::super::{Call, Effects, EngineOptions, Replayed, Request};
use super::*;
use crate::gateway::{VenueEvent, VenueSnapshot};

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
}

impl Desk {
    fn new(name: &str) -> Desk {
        let wall = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let now = Now { wall, mono: Duration::from_secs(1) };
        let engine = Engine::new(EngineOptions::new(name, "node", 1), Replayed::default(), 1);
        let (journal, wanted, effects) = (Vec::new(), VecDeque::new(), Vec::new());
        Desk { name: name.into(), engine, now, calls: 0, journal, wanted, effects }
    }

    /// Logged in, and the bucket is read.
    fn ready(name: &str) -> Desk {
        let mut desk = Desk::new(name);
        desk.log_in();
        desk.read(&Bucket::default());
        desk
    }

    fn log_in(&mut self) {
        self.engine.on_timer(self.now, &mut self.effects);
        self.venue(VenueEvent::Connected {
            session: "1-1".into(),
            max_reference: 0,
            trading_day: None,
            venue: "script".into(),
        });
        self.venue(VenueEvent::Contract(Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0)));
        self.venue(VenueEvent::Ready);
        self.venue(VenueEvent::Snapshot(Box::new(VenueSnapshot { session: "1-1".into(), ..VenueSnapshot::default() })));
        assert_eq!(self.engine.gateway_state(), GatewayState::Ready);
        self.keep();
    }

    fn venue(&mut self, event: VenueEvent) {
        self.engine.on_venue_event(self.now, event, &mut self.effects);
        self.keep();
    }

    /// Stores what was journalled, queues what is to be written, and keeps the rest.
    fn keep(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Journal(entry) => self.journal.push(entry),
                Effect::WriteHalt(write) => self.wanted.push_back(*write),
                other => self.effects.push(other),
            }
        }
        self.engine.on_stored(self.engine.journal_seq());
    }

    fn call_by(&mut self, caller: Caller, request: Request) -> ReplyTo {
        self.now.wall += chrono::TimeDelta::milliseconds(1);
        self.calls += 1;
        let (reply, deadline_ms) = (ReplyTo(self.calls), Some(self.now.millis() + 1_000));
        self.engine.on_call(self.now, Call { reply, caller, deadline_ms, traceid: None, request }, &mut self.effects);
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
        self.engine = Engine::new(EngineOptions::new(self.name.clone(), "node", 2), replayed, seq);
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
}

impl Bucket {
    fn take(&mut self, write: &HaltWrite) -> Result<Option<HaltRecord>, WriteError> {
        match decide(&write.change, self.records.get(write.change.target())) {
            Decision::Keep(record) => Ok(record),
            Decision::Conflict(entry) => Err(WriteError::Conflict(entry)),
            Decision::Write(record) => {
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
}

fn sample() -> HaltEntry {
    HaltEntry {
        target: HaltTarget::new(HaltScope::All, ""),
        reason: String::new(),
        reduce_only: false,
        since: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
        cancel: false,
        external: false,
        by: None,
        local: false,
    }
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

#[derive(Debug, Clone)]
enum Step {
    Halt {
        at: usize,
        owner: Option<&'static str>,
        reduce_only: bool,
        reason: u8,
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
        4 => (0_usize..3, owner(), any::<bool>(), 0_u8..3)
            .prop_map(|(at, owner, reduce_only, reason)| Step::Halt { at, owner, reduce_only, reason }),
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

    /// A target that was halted anywhere stays halted there until a resume was answered as done; in the end all agree,
    /// with each other, with the bucket, and with their own journals.
    #[test]
    fn no_halt_is_lost(steps in steps()) {
        let mut bucket = Bucket::default();
        let mut desks: Vec<Desk> = ["sim1", "sim2", "sim3"].into_iter().map(Desk::ready).collect();
        for step in steps {
            let before: Vec<BTreeMap<HaltTarget, HaltEntry>> = desks.iter().map(Desk::shared).collect();
            let resumed_before = bucket.records.clone();
            match step {
                Step::Halt { at, owner, reduce_only, reason } => {
                    let halt = Halt {
                        owner: owner.map(Name::from), all: owner.is_none(), reduce_only,
                        reason: format!("r{reason}"), ..Halt::default()
                    };
                    desks[at].call(Request::Halt(halt));
                    let target = owner.map_or(HaltTarget::new(HaltScope::All, ""), |o| HaltTarget::new(HaltScope::Owner, o));
                    let held = desks[at].shared();
                    prop_assert!(held.get(&target).is_some_and(|h| reduce_only || !h.reduce_only), "it holds at once");
                }
                Step::Resume { at, owner, reduce_only } => {
                    let resume = Resume { owner: owner.map(Name::from), all: owner.is_none(), reduce_only, ..Resume::default() };
                    desks[at].call(Request::Resume(resume));
                }
                Step::Write { at, reachable } => desks[at].write(&mut bucket, reachable),
                Step::Read { at } => desks[at].read(&bucket),
                Step::Restart { at } => desks[at].restart(),
                Step::Wipe => bucket.records.clear(),
                Step::Jump { at, seconds } => desks[at].now.wall += chrono::TimeDelta::seconds(seconds),
            }
            // What one gateway lets go, the bucket says is over.
            for (desk, before) in desks.iter().zip(before) {
                let after = desk.shared();
                for (target, entry) in before.iter().filter(|(target, _)| !after.contains_key(*target)) {
                    let record = bucket.records.get(target).or(resumed_before.get(target));
                    prop_assert!(
                        matches!(record, Some(HaltRecord::Resumed(r)) if r.at > entry.since),
                        "{} let go of {target}: {entry:?}, and the bucket has {record:?}", desk.name
                    );
                }
                let replayed = desk.replay();
                let kept = Halts::new(&desk.name, replayed.halts, replayed.halt_entries).held;
                prop_assert_eq!(&kept, &desk.engine.halts.held, "the journal says the same");
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
            prop_assert_eq!(desk.shared(), desks[0].shared(), "{}", &desk.name);
            for (target, entry) in desk.shared() {
                prop_assert_eq!(bucket.records.get(&target), Some(&HaltRecord::Halted(entry)));
            }
            prop_assert!(desk.engine.halts.unknown.is_none());
        }
        for (target, record) in &bucket.records {
            prop_assert!(matches!(record, HaltRecord::Resumed(_)) || desks[0].shared().contains_key(target));
        }
    }
}
