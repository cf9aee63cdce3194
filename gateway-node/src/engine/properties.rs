//! Engine, journal, venue and mirror together, in one thread, over arbitrary histories: the venue's events arrive
//! late or are lost, the journal stores late, the mirror misses what it misses, the node crashes with what is not
//! stored. At the end all copies must agree and nothing may have been sent twice.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;
use protocol::oms::OrderKey;
use protocol::rpc::Deadline;
use protocol::{CancelRequest, Direction, Exchange as Place, Level, Offset, OrderId, OrderStatus, OrderType, Product};

use super::*;
use crate::gateway::sim::books::Terms;
use crate::gateway::sim::matching::Exchange;
use crate::gateway::{LivingSessions, VenueEvent, VenueSnapshot};
use crate::risk::Rules;

#[derive(Debug, Clone)]
enum Step {
    /// A tick of the market at this price.
    Market(u32),
    /// A new order.
    Send { id: u8, kind: OrderType, direction: Direction, offset: Offset, price: u32, volume: u32 },
    /// A quote around this price.
    Quote { id: u8, price: u32 },
    /// A cancel of whichever was sent under this id.
    Cancel { id: u8 },
    /// Everything of the owner.
    CancelAll,
    /// The journal stores this many entries.
    Store(u8),
    /// The venue's next events arrive.
    Deliver(u8),
    /// A second passes.
    Second,
    /// The mirror misses the next so many published events.
    Miss(u8),
    /// The venue's queue overflows: what waits in it is lost.
    Overflow,
    /// One event is lost of those that wait in the venue's queue.
    Lose(u8),
    /// The venue's connection drops.
    Disconnect,
    /// The node dies with everything that is not stored, and its venue with it; another begins.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let direction = prop_oneof![Just(Direction::Long), Just(Direction::Short)];
    let offset = prop_oneof![4 => Just(Offset::Open), 2 => Just(Offset::CloseToday), 1 => Just(Offset::Close)];
    let kind = prop_oneof![
        5 => Just(OrderType::Limit),
        2 => Just(OrderType::Market),
        1 => Just(OrderType::Fak),
        1 => Just(OrderType::Fok),
        1 => Just(OrderType::Stop),
    ];
    let send = (0_u8..24, kind, direction, offset, 95_u32..106, 1_u32..6).prop_map(
        |(id, kind, direction, offset, price, volume)| Step::Send { id, kind, direction, offset, price, volume },
    );
    let step = prop_oneof![
        6 => (96_u32..105).prop_map(Step::Market),
        8 => send,
        1 => (0_u8..24, 97_u32..104).prop_map(|(id, price)| Step::Quote { id, price }),
        3 => (0_u8..24).prop_map(|id| Step::Cancel { id }),
        1 => Just(Step::CancelAll),
        6 => (1_u8..12).prop_map(Step::Store),
        8 => (1_u8..12).prop_map(Step::Deliver),
        2 => Just(Step::Second),
        1 => (1_u8..6).prop_map(Step::Miss),
        1 => Just(Step::Overflow),
        2 => (0_u8..12).prop_map(Step::Lose),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..120)
}

fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Place::SHFE)
}

fn contract() -> Contract {
    let mut contract = Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0);
    contract.stop_supported = true;
    contract
}

fn options(most: Option<f64>, epoch: u64) -> EngineOptions {
    let limits = Limits::new(&Rules { max_position: most, ..Rules::default() });
    EngineOptions { limits, ..EngineOptions::new("sim1", "node", epoch) }
}

fn venue() -> Exchange {
    let terms = Terms {
        accountid: "paper".into(),
        currency: protocol::Currency::CNY,
        balance: 1_000_000.0,
        commission_rate: 0.0001,
        commission_per_lot: 0.5,
        margin_ratio: 0.1,
    };
    Exchange::new("sim1".into(), [contract()].iter(), terms)
}

/// A client's copy: it applies what reaches it, and reads again what it missed.
#[derive(Default)]
struct Mirror {
    state: OmsState,
    applied: u64,
    misses: u8,
}

struct World {
    /// Most lots on one side, if that is limited.
    most: Option<f64>,
    now: Now,
    engine: Engine,
    venue: Exchange,
    epoch: u64,
    logins: u64,
    /// The venue's events on their way to the node.
    inbox: VecDeque<VenueEvent>,
    /// Entries on their way to storage, with their sequences.
    unstored: VecDeque<(u64, u64, Entry)>,
    journal: Vec<(u64, u64, Entry)>,
    gate: VecDeque<(u64, Effect)>,
    mirror: Mirror,
    calls: u64,
    volume: f64,
    /// How often the venue was sent each order or quote.
    sent: HashMap<OrderKey, u32>,
    asked: HashMap<ReplyTo, OrderKey>,
    accepted: HashSet<OrderKey>,
}

impl World {
    fn new(most: Option<f64>) -> World {
        let wall = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let now = Now { wall, mono: Duration::ZERO };
        let engine = Engine::new(options(most, 1), Replayed::default(), 1);
        let mut world = World {
            most,
            now,
            engine,
            venue: venue(),
            epoch: 1,
            logins: 0,
            inbox: VecDeque::new(),
            unstored: VecDeque::new(),
            journal: vec![(1, 1, leader_started(1, wall))],
            gate: VecDeque::new(),
            mirror: Mirror { applied: 1, ..Mirror::default() },
            calls: 0,
            volume: 0.0,
            sent: HashMap::new(),
            asked: HashMap::new(),
            accepted: HashSet::new(),
        };
        world.learn_halts();
        world.second();
        world
    }

    /// Nothing is halted.
    fn learn_halts(&mut self) {
        let mut out = Vec::new();
        self.engine.on_halt_news(self.now, halts::HaltNews::Read(Vec::new()), &mut out);
        assert!(matches!(out[..], [Effect::Log(_)]), "no halt is made up: {out:?}");
    }

    fn stored(&self) -> u64 {
        self.journal.last().map_or(0, |(seq, ..)| *seq)
    }

    fn second(&mut self) {
        self.now.mono += Duration::from_secs(1);
        self.now.wall += chrono::TimeDelta::seconds(1);
        let mut out = Vec::new();
        let mut marks = Vec::new();
        self.venue.report_marks(&mut marks);
        self.inbox.extend(marks);
        self.engine.on_timer(self.now, &mut out);
        self.perform(out);
    }

    /// What the node's loop does.
    fn perform(&mut self, effects: Effects) {
        let journalled = effects.iter().filter(|e| matches!(e, Effect::Journal(_))).count() as u64;
        let mut position = self.engine.journal_seq() - journalled;
        let mut further = Vec::new();
        for effect in effects {
            match effect {
                Effect::Journal(entry) => {
                    position += 1;
                    self.unstored.push_back((position, self.epoch, entry));
                }
                Effect::Submit(_)
                | Effect::Reply(..)
                | Effect::Heads(_)
                | Effect::ReadEvents(..)
                | Effect::Purge(_) => {
                    self.gate.push_back((position, effect));
                }
                Effect::Venue(command) => self.command(command, &mut further),
                Effect::ReplyNow(to, reply) => self.answered(to, &reply),
                Effect::Contract(_) | Effect::WriteHalt(_) | Effect::Log(_) => {}
            }
        }
        if !further.is_empty() {
            self.perform(further);
        }
        self.release();
    }

    fn release(&mut self) {
        while self.gate.front().is_some_and(|(position, _)| *position <= self.stored()) {
            let Some((_, effect)) = self.gate.pop_front() else { return };
            let mut out = Vec::new();
            match effect {
                Effect::Submit(submit) => match self.engine.before_submit(self.now, &submit) {
                    Ok(()) => {
                        // The intent is stored, or this order could be lost.
                        let stored = self.replay().state;
                        assert!(stored.order(&submit.key).is_some() || stored.quote(&submit.key).is_some());
                        *self.sent.entry(submit.key.clone()).or_default() += 1;
                        let mut said = Vec::new();
                        match &submit.approval {
                            Approval::Order(order) => self.venue.submit(&submit.reference, order, &mut said),
                            Approval::Quote(quote) => self.venue.submit_quote(&submit.reference, quote, &mut said),
                        }
                        self.inbox.extend(said);
                        self.engine.on_sent(self.now, &submit, &mut out);
                    }
                    Err(error) => self.engine.on_not_sent(self.now, &submit, error, &mut out),
                },
                Effect::Reply(to, reply) => self.answered(to, &reply),
                _ => {}
            }
            self.perform(out);
        }
    }

    fn answered(&mut self, to: ReplyTo, reply: &Reply) {
        if let (Some(key), Ok(_)) = (self.asked.get(&to), reply) {
            let stored = self.replay().state;
            assert!(stored.order(key).is_some() || stored.quote(key).is_some(), "an answer shows what could be lost");
            self.accepted.insert(key.clone());
        }
    }

    fn command(&mut self, command: VenueCommand, further: &mut Effects) {
        let mut said = Vec::new();
        match command {
            VenueCommand::Connect(start) => {
                self.logins += 1;
                if self.logins == 1 {
                    self.venue.restart(&start.positions, &start.accounts);
                }
                let session: Name = format!("{}-{}", self.epoch, self.logins).into();
                self.venue.begin_session(session.clone());
                said.push(VenueEvent::Connected { session, max_reference: 0, trading_day: None, venue: "sim".into() });
                said.push(VenueEvent::Contract(contract()));
                said.push(VenueEvent::Ready);
            }
            // Of a login that nobody wants any more, an adapter says nothing.
            VenueCommand::Disconnect => self.inbox.clear(),
            VenueCommand::CancelEach(cancels) => {
                let mut outcomes = Vec::new();
                for (target, reference) in cancels.each {
                    match target {
                        Target::Order(_) => self.venue.cancel(&reference, &mut said),
                        Target::Quote(_) => self.venue.cancel_quote(&reference, &mut said),
                    }
                    outcomes.push((target, Ok(())));
                }
                self.engine.on_cancels(self.now, cancels.reply, outcomes, further);
            }
            VenueCommand::Cancel(reference, _) => self.venue.cancel(&reference, &mut said),
            VenueCommand::CancelQuote(reference, _) => self.venue.cancel_quote(&reference, &mut said),
            VenueCommand::Snapshot => {
                self.venue.report_marks(&mut said);
                let snapshot = VenueSnapshot { living: LivingSessions::Own, ..self.venue.snapshot() };
                said.push(VenueEvent::Snapshot(Box::new(snapshot)));
            }
            _ => {}
        }
        self.inbox.extend(said);
    }

    fn call(&mut self, request: Request) -> ReplyTo {
        self.calls += 1;
        let reply = ReplyTo(self.calls);
        let asked = match &request {
            Request::SendOrder(order) => Some(order.orderid.clone()),
            Request::SendQuote(quote) => Some(quote.quoteid.clone()),
            _ => None,
        };
        if let Some(orderid) = asked {
            self.asked.insert(reply, OrderKey { owner: OWNER_DEFAULT.into(), orderid });
        }
        let deadline = Some(Deadline { ms: self.now.millis() + 3_000, epoch: None });
        let mut out = Vec::new();
        let call = Call { reply, caller: Caller::anonymous("test"), deadline, traceid: None, request };
        self.engine.on_call(self.now, call, &mut out);
        self.perform(out);
        reply
    }

    fn store(&mut self, count: usize) {
        for _ in 0..count {
            let Some((seq, epoch, entry)) = self.unstored.pop_front() else { break };
            assert_eq!(seq, self.stored() + 1, "the journal has no holes");
            self.publish(seq, &entry);
            self.journal.push((seq, epoch, entry));
            self.engine.on_stored(seq);
        }
        self.release();
    }

    /// The server republishes what is stored; the mirror may miss it.
    fn publish(&mut self, seq: u64, entry: &Entry) {
        if self.mirror.misses > 0 {
            self.mirror.misses -= 1;
        } else if let Entry::Event(event) = entry {
            self.mirror.state.apply(&event.data);
            // Only an unbroken run moves the position up; behind a gap it reads again from here.
            if self.mirror.applied + 1 == seq {
                self.mirror.applied = seq;
            }
        } else if self.mirror.applied + 1 == seq {
            self.mirror.applied = seq;
        }
    }

    fn refill_mirror(&mut self) {
        for (seq, _, entry) in &self.journal {
            if *seq > self.mirror.applied
                && let Entry::Event(event) = entry
            {
                self.mirror.state.apply(&event.data);
            }
        }
        self.mirror.applied = self.stored();
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.inbox.pop_front() else { return };
            let mut out = Vec::new();
            self.engine.on_venue_event(self.now, event, &mut out);
            self.perform(out);
        }
    }

    fn replay(&self) -> Replayed {
        let mut replayed = Replayed::default();
        for (seq, epoch, entry) in &self.journal {
            replayed.take(*seq, *epoch, entry);
        }
        replayed
    }

    fn crash(&mut self) {
        self.unstored.clear();
        self.gate.clear();
        self.inbox.clear();
        self.asked.clear();
        let replayed = self.replay();
        self.epoch = replayed.epoch + 1;
        self.logins = 0;
        let seq = self.stored() + 1;
        let entry = leader_started(self.epoch, self.now.wall);
        self.publish(seq, &entry);
        self.journal.push((seq, self.epoch, entry));
        self.engine = Engine::new(options(self.most, self.epoch), replayed, seq);
        self.venue = venue();
        self.learn_halts();
        let (now, mut out) = (self.now, Vec::new());
        self.engine.on_timer(now, &mut out);
        self.perform(out);
    }

    fn market(&mut self, price: u32) {
        let price = f64::from(price);
        self.volume += 7.0;
        let mut tick = Tick::new("sim1", instrument(), self.now.wall);
        tick.last_price = Some(price);
        tick.volume = Some(self.volume);
        (tick.limit_up, tick.limit_down) = (Some(200.0), Some(10.0));
        tick.bids = [Level(price - 1.0, 4.0), Level(price - 2.0, 9.0)].into_iter().collect();
        tick.asks = [Level(price + 1.0, 3.0), Level(price + 2.0, 9.0)].into_iter().collect();
        let mut said = Vec::new();
        self.venue.on_tick(&tick, &mut said);
        self.inbox.extend(said);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Market(price) => self.market(price),
            Step::Send { id, kind, direction, offset, price, volume } => {
                let (price, volume) = (f64::from(price), f64::from(volume));
                let mut order = OrderRequest::limit(instrument(), direction, offset, price, volume);
                order.r#type = kind;
                order.price = (kind != OrderType::Market).then_some(price);
                order.orderid = OrderId::new(format!("o{id}"));
                self.call(Request::SendOrder(order));
            }
            Step::Quote { id, price } => {
                let price = f64::from(price);
                self.call(Request::SendQuote(QuoteRequest {
                    quoteid: OrderId::new(format!("q{id}")),
                    symbol: instrument().symbol,
                    exchange: instrument().exchange,
                    bid_price: price - 1.0,
                    bid_volume: 2.0,
                    ask_price: price + 1.0,
                    ask_volume: 2.0,
                    bid_offset: Offset::Open,
                    ask_offset: Offset::Open,
                    reference: "q".into(),
                }));
            }
            Step::Cancel { id } => {
                self.call(Request::CancelOrder(CancelRequest::new(OrderId::new(format!("o{id}")))));
                self.call(Request::CancelQuote(CancelRequest::new(OrderId::new(format!("q{id}")))));
            }
            Step::CancelAll => {
                self.call(Request::CancelAll(Default::default()));
            }
            Step::Store(count) => self.store(count.into()),
            Step::Deliver(count) => self.deliver(count.into()),
            Step::Second => self.second(),
            Step::Miss(count) => self.mirror.misses += count,
            Step::Overflow => {
                if !self.inbox.is_empty() {
                    self.inbox.clear();
                    let mut out = Vec::new();
                    self.engine.on_overflow(self.now, &mut out);
                    self.perform(out);
                }
            }
            Step::Lose(which) => {
                let which = usize::from(which) % self.inbox.len().max(1);
                if self.inbox.remove(which).is_some() {
                    let mut out = Vec::new();
                    self.engine.on_overflow(self.now, &mut out);
                    self.perform(out);
                }
            }
            Step::Disconnect => {
                if self.engine.session.is_logged_in() {
                    // What was on its way from the session is lost with it.
                    self.inbox.clear();
                    self.inbox.push_back(VenueEvent::Disconnected { reason: "line cut".into() });
                    self.deliver(1);
                }
            }
            Step::Crash => self.crash(),
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.deliver(usize::MAX);
            self.store(usize::MAX);
            let quiet = self.inbox.is_empty() && self.unstored.is_empty() && self.gate.is_empty();
            if quiet && self.engine.gateway_state() == GatewayState::Ready {
                break;
            }
            self.second();
        }
        for _ in 0..3 {
            self.second();
            self.deliver(usize::MAX);
            self.store(usize::MAX);
        }
    }

    /// Whatever the node has heard of by now, no order passed that could take a position beyond its limit.
    fn check_limit(&self) {
        for position in self.venue.positions() {
            assert!(self.most.is_none_or(|most| position.volume <= most), "beyond the limit: {position:?}");
        }
    }

    /// The venue tells everything that it knows, and nothing is under way.
    fn reconcile(&mut self) {
        let mut out = Vec::new();
        self.engine.on_overflow(self.now, &mut out);
        self.perform(out);
        self.settle();
    }

    fn check(&mut self) {
        assert_eq!(self.engine.gateway_state(), GatewayState::Ready, "it comes back from everything");
        let untold: Vec<_> = self.engine.counters.untold_positions().collect();
        assert!(untold.is_empty(), "counted beside the venue's own word: {untold:?}");
        self.refill_mirror();
        let node = self.engine.state();
        assert_eq!(&self.mirror.state, node, "the mirror equals the node");
        assert_eq!(&self.replay().state, node, "the journal replays to the node");
        assert_eq!(self.replay().counters, self.engine.counters, "and counts as the node does");
        assert!(self.sent.values().all(|count| *count == 1), "sent twice: {:?}", self.sent);
        for key in &self.accepted {
            assert!(node.order(key).is_some() || node.quote(key).is_some(), "{key:?} was accepted and is gone");
        }
        // Node and venue agree on everything that the venue knows, and nothing else is working.
        let snapshot = self.venue.snapshot();
        let by_reference: HashMap<String, &protocol::Order> =
            node.orders().values().filter_map(|o| Some((o.venue_reference.as_ref()?.to_string(), o))).collect();
        for told in &snapshot.orders {
            let order = by_reference[&told.reference.to_string()];
            assert_eq!((order.status, order.traded), (told.status, told.traded), "{}", order.orderid);
        }
        let working = snapshot.orders.iter().filter(|o| o.status.is_active()).count();
        assert_eq!(node.active_orders().count(), working);
        assert_eq!(node.active_quotes().count(), snapshot.quotes.iter().filter(|q| q.status.is_active()).count());
        for told in &snapshot.trades {
            let found = node.trades().values().any(|t| t.tradeid == told.tradeid && t.direction == told.direction);
            assert!(found, "trade {} reached nobody", told.tradeid);
        }
        for position in self.venue.positions().iter().filter(|p| p.volume != 0.0) {
            assert_eq!(node.position(&position.instrument(), position.direction), Some(position));
        }
        for position in node.positions().values().filter(|p| p.volume != 0.0) {
            assert!(self.venue.positions().contains(position), "{position:?} is held by nobody");
        }
        assert_eq!(node.account("paper"), Some(&self.venue.account()));
        let lost = node.orders().values().filter(|o| o.status == OrderStatus::Submitting).count();
        assert_eq!(lost, 0, "an order is left unknown");
    }
}

fn leader_started(epoch: u64, time: Timestamp) -> Entry {
    Entry::Private(Private::LeaderStarted { epoch, node: "node".into(), time, limits: None })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn all_copies_agree_after_any_history(most in proptest::option::of(5_u32..12), steps in steps()) {
        let mut world = World::new(most.map(f64::from));
        world.settle();
        for step in steps {
            world.step(step);
            world.check_limit();
        }
        world.settle();
        // No mark and no fill waits for a snapshot that nobody would ask for.
        world.check();
        world.reconcile();
        world.check_limit();
        world.check();
    }
}
