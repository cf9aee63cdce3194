//! The engine against a scripted venue: what it journals, sends and answers, and in which order.

use super::halts::HaltNews;
use super::*;
use crate::gateway::{LivingSessions, VenueEvent, VenueOrder, VenueSnapshot, VenueTrade};
use crate::risk::Rules;
use protocol::oms::OrderKey;
use protocol::rpc::{CancelAll, Deadline, GetOrder, Halt, List, Page, Resume};
use protocol::{
    Account, CancelRequest, Direction, Exchange, Offset, Order, OrderId, OrderStatus, OrderType, Position, Product,
    SubscribeRequest,
};

fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

/// An engine, the time, and everything it wanted done.
struct Bench {
    engine: Engine,
    now: Now,
    calls: u64,
    effects: Effects,
}

impl Bench {
    fn new() -> Bench {
        Bench::from(Replayed::default(), 1)
    }

    fn from(replayed: Replayed, epoch: u64) -> Bench {
        let mut options = EngineOptions::new("sim1", "node", epoch);
        options.max_journal_backlog = 8;
        let seq = replayed.journal_seq + 1;
        let wall = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let now = Now { wall, mono: Duration::from_secs(1) };
        let mut bench = Bench { engine: Engine::new(options, replayed, seq), now, calls: 0, effects: Vec::new() };
        bench.engine.on_halt_news(now, HaltNews::Read(Vec::new()), &mut bench.effects);
        bench.take();
        bench
    }

    fn ready() -> Bench {
        let mut bench = Bench::new();
        bench.log_in("1-1");
        bench.take();
        bench
    }

    fn log_in(&mut self, session: &str) {
        self.tick(1);
        self.venue(VenueEvent::Connected {
            session: session.into(),
            max_reference: 0,
            trading_day: None,
            venue: "script".into(),
        });
        let mut contract = Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0);
        contract.stop_supported = true;
        self.venue(VenueEvent::Contract(contract));
        self.venue(VenueEvent::Ready);
        self.snapshot(session, vec![]);
        assert_eq!(self.engine.gateway_state(), GatewayState::Ready);
    }

    fn snapshot(&mut self, session: &str, orders: Vec<VenueOrder>) {
        self.snapshot_of(VenueSnapshot { session: session.into(), orders, ..VenueSnapshot::default() });
    }

    fn snapshot_of(&mut self, snapshot: VenueSnapshot) {
        let snapshot = VenueSnapshot { living: LivingSessions::Own, ..snapshot };
        self.venue(VenueEvent::Snapshot(Box::new(snapshot)));
    }

    fn tick(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.wall += chrono::TimeDelta::seconds(seconds.try_into().expect("small"));
        self.engine.on_timer(self.now, &mut self.effects);
    }

    fn venue(&mut self, event: VenueEvent) {
        self.engine.on_venue_event(self.now, event, &mut self.effects);
    }

    fn call(&mut self, request: Request) -> ReplyTo {
        let deadline = self.now.millis() + 1_000;
        self.call_by(Caller::anonymous("test"), Some(deadline), request)
    }

    fn call_by(&mut self, caller: Caller, deadline_ms: Option<i64>, request: Request) -> ReplyTo {
        self.call_until(caller, deadline_ms.map(|ms| Deadline { ms, epoch: None }), request)
    }

    fn call_until(&mut self, caller: Caller, deadline: Option<Deadline>, request: Request) -> ReplyTo {
        self.calls += 1;
        let reply = ReplyTo(self.calls);
        self.engine.on_call(self.now, Call { reply, caller, deadline, traceid: None, request }, &mut self.effects);
        reply
    }

    /// Takes the effects and stores what was journalled.
    fn take(&mut self) -> Effects {
        self.engine.on_stored(self.engine.journal_seq());
        std::mem::take(&mut self.effects)
    }

    /// Makes the changes of halts that are wanted, in a bucket that has no records.
    fn write_halts(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            let Effect::WriteHalt(write) = effect else {
                self.effects.push(effect);
                continue;
            };
            let outcome = match halts::decide(&write.change, None) {
                halts::Decision::Write(record) => Ok(Some(record)),
                halts::Decision::Keep(record) => Ok(record),
                halts::Decision::Conflict(entry) => Err(halts::WriteError::Conflict(Box::new(entry))),
            };
            self.engine.on_halt_news(self.now, HaltNews::Written(write, outcome), &mut self.effects);
        }
    }

    /// Performs the last submit as the node would, the adapter agreeing.
    fn submit(&mut self) -> Box<Submit> {
        let effects = self.take();
        let submit = effects
            .into_iter()
            .find_map(|e| match e {
                Effect::Submit(submit) => Some(submit),
                _ => None,
            })
            .expect("a submit");
        self.engine.before_submit(self.now, &submit).expect("may be sent");
        self.engine.on_sent(self.now, &submit, &mut self.effects);
        submit
    }

    fn told(&self, submit: &Submit, status: OrderStatus, traded: f64) -> VenueOrder {
        let Approval::Order(request) = &submit.approval else { panic!("an order") };
        VenueOrder {
            reference: submit.reference.clone(),
            instrument: request.instrument(),
            order_type: request.r#type,
            direction: request.direction,
            offset: request.offset,
            price: request.price,
            volume: request.volume,
            traded,
            status,
            datetime: Some(self.now.wall),
            reason: None,
        }
    }

    fn trade(&self, submit: &Submit, tradeid: &str, volume: f64) -> VenueTrade {
        VenueTrade {
            reference: submit.reference.clone(),
            tradeid: tradeid.into(),
            instrument: instrument(),
            direction: Direction::Long,
            offset: Offset::Open,
            price: 3500.0,
            volume,
            datetime: Some(self.now.wall),
            trading_day: None,
        }
    }
}

fn request(id: &str) -> OrderRequest {
    let mut request = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3500.0, 2.0);
    request.orderid = OrderId::new(id);
    request.reference = "dma".into();
    request
}

fn position(volume: f64, pnl: f64) -> Position {
    Position {
        gateway_name: "sim1".into(),
        symbol: "rb2410".into(),
        exchange: Exchange::SHFE,
        direction: Direction::Long,
        volume,
        frozen: 0.0,
        price: 3500.0,
        pnl,
        yd_volume: 0.0,
        extra: None,
    }
}

fn account(balance: f64, commission: f64) -> Account {
    Account {
        gateway_name: "sim1".into(),
        accountid: "paper".into(),
        balance,
        frozen: 0.0,
        available: balance,
        margin: None,
        commission: Some(commission),
        close_profit: None,
        position_profit: None,
        currency: None,
        extra: None,
    }
}

fn answer<T: serde::de::DeserializeOwned>(effects: &Effects, to: ReplyTo) -> Result<T, RpcError> {
    let reply = effects
        .iter()
        .find_map(|e| match e {
            Effect::Reply(reply, answer) | Effect::ReplyNow(reply, answer) if *reply == to => Some(answer.clone()),
            _ => None,
        })
        .expect("an answer");
    reply.map(|bytes| protocol::codec::decode(&bytes).expect("decodes"))
}

fn refusal_of(effects: &Effects, to: ReplyTo) -> ErrorCode {
    answer::<serde_json::Value>(effects, to).expect_err("refused").code
}

fn quote(id: &str) -> QuoteRequest {
    QuoteRequest {
        quoteid: OrderId::new(id),
        symbol: "rb2410".into(),
        exchange: Exchange::SHFE,
        bid_price: 3499.0,
        bid_volume: 1.0,
        ask_price: 3501.0,
        ask_volume: 1.0,
        bid_offset: Offset::Open,
        ask_offset: Offset::Open,
        reference: "".into(),
    }
}

fn kinds(effects: &Effects) -> Vec<&'static str> {
    let kind = |effect: &Effect| match effect {
        Effect::Journal(_) => "journal",
        Effect::Submit(_) => "submit",
        Effect::Reply(..) => "reply",
        Effect::ReplyNow(..) => "reply now",
        Effect::Venue(_) => "venue",
        Effect::Heads(_) => "heads",
        Effect::ReadEvents(..) => "read",
        Effect::Contract(_) => "contract",
        Effect::WriteHalt(_) => "write halt",
        Effect::Log(_) => "log",
        Effect::Purge(_) => "purge",
    };
    effects.iter().map(kind).collect()
}

#[test]
fn an_intent_is_journalled_before_it_is_sent_and_answered() {
    let mut bench = Bench::ready();
    let to = bench.call(Request::SendOrder(request("a")));
    assert_eq!(kinds(&bench.effects), ["journal", "submit"]);
    let submit = bench.submit();
    let effects = bench.take();
    let order: Order = answer(&effects, to).expect("accepted");
    assert_eq!((order.status, order.orderid.as_str()), (OrderStatus::Submitting, "a"));
    assert_eq!(order.venue_reference.as_deref(), Some("1-1/1"));
    assert_eq!(submit.reference.number, 1);
}

#[test]
fn the_same_id_is_never_sent_twice() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::PartTraded, 1.0)));
    bench.take();
    let again = bench.call(Request::SendOrder(request("a")));
    let effects = bench.take();
    assert_eq!(kinds(&effects), ["reply"], "nothing but an answer");
    assert_eq!(answer::<Order>(&effects, again).expect("its state").status, OrderStatus::PartTraded);

    let other = bench.call(Request::SendOrder(OrderRequest { volume: 3.0, ..request("a") }));
    assert_eq!(refusal_of(&bench.take(), other), ErrorCode::OrderIdReused);
}

#[test]
fn ids_outlive_the_node() {
    let mut bench = Bench::ready();
    let mut replayed = Replayed::default();
    bench.call(Request::SendOrder(request("a")));
    for effect in bench.take() {
        if let Effect::Journal(entry) = effect {
            let seq = replayed.journal_seq + 1;
            replayed.take(seq, 1, &entry);
        }
    }
    let mut next = Bench::from(replayed, 2);
    next.log_in("2-1");
    let lost = next.engine.state().orders().values().next().expect("the order").clone();
    assert_eq!(lost.status, OrderStatus::Rejected);
    assert_eq!(lost.reason.as_deref(), Some(crate::reconcile::NEVER_ARRIVED));
    next.take();
    let again = next.call(Request::SendOrder(request("a")));
    let effects = next.take();
    assert_eq!(kinds(&effects), ["reply"]);
    assert_eq!(answer::<Order>(&effects, again).expect("its state").status, OrderStatus::Rejected);
}

#[test]
fn what_trades_needs_a_deadline_that_has_not_passed() {
    let mut bench = Bench::ready();
    let caller = || Caller::anonymous("test");
    let none = bench.call_by(caller(), None, Request::SendOrder(request("a")));
    let late = bench.call_by(caller(), Some(bench.now.millis() - 1), Request::SendOrder(request("a")));
    let cancel = bench.call_by(caller(), None, Request::CancelAll(CancelAll::default()));
    let read = bench.call_by(caller(), None, Request::GetAllOrders(List::default()));
    let effects = bench.take();
    assert_eq!(refusal_of(&effects, none), ErrorCode::DeadlineRequired);
    assert_eq!(refusal_of(&effects, late), ErrorCode::DeadlineExceeded);
    assert_eq!(refusal_of(&effects, cancel), ErrorCode::DeadlineRequired);
    assert!(answer::<Page<Order>>(&effects, read).expect("a page").items.is_empty());
    assert!(bench.engine.state().orders().is_empty(), "none of them left a trace");
}

#[test]
fn a_deadline_on_another_leaders_clock_is_refused_and_the_id_is_free() {
    let mut bench = Bench::from(Replayed::default(), 7);
    bench.log_in("7-1");
    bench.take();
    let ms = bench.now.millis() + 1_000;
    let mut send = |ms, epoch, id| {
        let deadline = Some(Deadline { ms, epoch });
        let to = bench.call_until(Caller::anonymous("test"), deadline, Request::SendOrder(request(id)));
        (bench.take(), to)
    };
    let (effects, to) = send(ms, Some(6), "a");
    assert_eq!(kinds(&effects), ["reply now"], "nothing is journalled");
    let error = answer::<Order>(&effects, to).expect_err("refused");
    assert_eq!(error.code, ErrorCode::EpochChanged);
    assert!(error.message.contains("epoch 6") && error.message.contains("epoch 7 leads"), "{error}");
    assert!(error.message.contains("get_status"), "{error}");
    let (effects, to) = send(i64::MIN, Some(6), "a");
    assert_eq!(refusal_of(&effects, to), ErrorCode::EpochChanged, "nothing can be said of its time");
    let (effects, to) = send(ms, Some(8), "a");
    assert_eq!(kinds(&effects), ["reply now"]);
    let error = answer::<Order>(&effects, to).expect_err("refused");
    assert!(!error.code.has_no_side_effects(), "whoever leads under epoch 8 may execute it: {error}");
    let (effects, to) = send(ms - 1_001, Some(7), "a");
    assert_eq!(refusal_of(&effects, to), ErrorCode::DeadlineExceeded);
    assert_eq!(kinds(&send(ms, Some(7), "a").0), ["journal", "submit"]);
    assert_eq!(kinds(&send(ms, None, "b").0), ["journal", "submit"], "a plain client names none");
    assert_eq!(kinds(&send(ms, Some(6), "a").0), ["reply"], "a known id is answered from state, whoever led");
}

#[test]
fn a_quote_of_another_leaders_deadline_is_refused_too() {
    let mut bench = Bench::ready();
    let deadline = Some(Deadline { ms: bench.now.millis() + 1_000, epoch: Some(0) });
    let to = bench.call_until(Caller::anonymous("test"), deadline, Request::SendQuote(quote("q")));
    let effects = bench.take();
    assert_eq!(kinds(&effects), ["reply now"]);
    assert_eq!(refusal_of(&effects, to), ErrorCode::EpochChanged);
}

#[test]
fn whatever_epoch_a_cancel_a_halt_or_a_read_names_it_is_judged_by_its_time() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    bench.take();
    for epoch in [Some(0), Some(9), None] {
        for (request, does) in [
            (Request::CancelOrder(CancelRequest::new(OrderId::new("a"))), "venue"),
            (Request::CancelAll(CancelAll::default()), "venue"),
            (Request::Halt(Halt::default()), "write halt"),
            (Request::GetAllOrders(List::default()), "reply"),
        ] {
            let what = format!("{epoch:?} {request:?}");
            let mut call = |ms| {
                bench.call_until(Caller::anonymous("test"), Some(Deadline { ms, epoch }), request.clone());
                kinds(&bench.take()).join(" ")
            };
            assert!(call(i64::MAX).contains(does), "{what}");
            assert_eq!(call(0), "reply now", "{what}");
        }
    }
}

#[test]
fn an_order_that_waited_too_long_for_the_journal_is_refused() {
    let mut bench = Bench::ready();
    let to = bench.call(Request::SendOrder(request("a")));
    let effects = bench.take();
    let submit = effects.into_iter().find_map(|e| if let Effect::Submit(s) = e { Some(s) } else { None });
    let submit = submit.expect("a submit");
    bench.now.wall += chrono::TimeDelta::seconds(5);
    let error = bench.engine.before_submit(bench.now, &submit).expect_err("too late");
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    bench.engine.on_not_sent(bench.now, &submit, error, &mut bench.effects);
    let effects = bench.take();
    assert_eq!(kinds(&effects), ["journal", "reply"]);
    assert_eq!(refusal_of(&effects, to), ErrorCode::DeadlineExceeded);
    assert_eq!(bench.engine.state().orders().values().next().expect("kept").status, OrderStatus::Rejected);
}

#[test]
fn a_cancel_overtakes_an_order_that_is_still_behind_the_gate() {
    let mut bench = Bench::ready();
    let sent = bench.call(Request::SendOrder(request("a")));
    let cancel = bench.call(Request::CancelOrder(CancelRequest::new(OrderId::new("a"))));
    let effects = bench.take();
    assert_eq!(kinds(&effects), ["journal", "submit", "reply now", "journal"], "no cancel goes to the venue");
    assert_eq!(answer::<serde_json::Value>(&effects, cancel), Ok(serde_json::json!({})));
    let submit = effects.into_iter().find_map(|e| if let Effect::Submit(s) = e { Some(s) } else { None });
    let submit = submit.expect("a submit");
    let error = bench.engine.before_submit(bench.now, &submit).expect_err("cancelled first");
    bench.engine.on_not_sent(bench.now, &submit, error, &mut bench.effects);
    let effects = bench.take();
    assert_eq!(answer::<Order>(&effects, sent).expect("its state").status, OrderStatus::Cancelled);
}

#[test]
fn cancels_pass_the_gate_and_go_by_the_orders_own_reference() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    bench.take();
    bench.call(Request::CancelOrder(CancelRequest::new(OrderId::new("a"))));
    let effects = bench.take();
    let Effect::Venue(VenueCommand::Cancel(reference, Some((_, Ok(answer))))) = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(*reference, submit.reference);
    assert_eq!(answer, b"{}", "no trading state: that would have to wait for the journal");
    for (wrong, code) in [
        (CancelRequest::new(OrderId::new("b")), ErrorCode::NotFound),
        (
            CancelRequest { symbol: Some("au2412".into()), ..CancelRequest::new(OrderId::new("a")) },
            ErrorCode::BadRequest,
        ),
    ] {
        let to = bench.call(Request::CancelOrder(wrong));
        assert_eq!(refusal_of(&bench.take(), to), code);
    }
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::Cancelled, 0.0)));
    let to = bench.call(Request::CancelOrder(CancelRequest::new(OrderId::new("a"))));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::OrderNotActive);
}

#[test]
fn a_refusal_that_shows_how_an_order_stands_waits_for_the_journal() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::AllTraded, 2.0)));
    bench.call(Request::SendOrder(OrderRequest { volume: -1.0, ..request("b") }));
    bench.take();
    let other_content = quote("a");
    let cancel = |id| CancelRequest::new(OrderId::new(id));
    for (refused, code) in [
        (Request::CancelOrder(cancel("a")), ErrorCode::OrderNotActive),
        (Request::CancelOrder(cancel("b")), ErrorCode::OrderNotActive),
        (Request::CancelOrder(CancelRequest { symbol: Some("x".into()), ..cancel("a") }), ErrorCode::BadRequest),
        (Request::SendOrder(OrderRequest { volume: 3.0, ..request("a") }), ErrorCode::OrderIdReused),
        (Request::SendQuote(other_content), ErrorCode::OrderIdReused),
    ] {
        let what = format!("{refused:?}");
        let to = bench.call(refused);
        let effects = bench.take();
        assert_eq!(kinds(&effects), ["reply"], "{what}");
        assert_eq!(refusal_of(&effects, to), code, "{what}");
    }
    bench.call(Request::Halt(Halt { reduce_only: true, ..Halt::default() }));
    bench.write_halts();
    bench.take();
    let opens = bench.call(Request::SendOrder(request("c")));
    let effects = bench.take();
    assert_eq!((kinds(&effects), refusal_of(&effects, opens)), (vec!["reply"], ErrorCode::Halted), "what is held");
    let unknown = bench.call(Request::CancelOrder(cancel("nobody's")));
    let effects = bench.take();
    assert_eq!((kinds(&effects), refusal_of(&effects, unknown)), (vec!["reply now"], ErrorCode::NotFound));
}

#[test]
fn the_reference_and_owner_reach_the_trade() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Trade(bench.trade(&submit, "t1", 2.0)));
    bench.venue(VenueEvent::Trade(bench.trade(&submit, "t1", 2.0)));
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::AllTraded, 2.0)));
    let trades: Vec<_> = bench.engine.state().trades().values().collect();
    assert_eq!(trades.len(), 1, "a repeated trade counts once");
    assert_eq!((trades[0].reference.as_str(), trades[0].owner.as_str()), ("dma", "default"));
    assert_eq!(bench.engine.state().orders().values().next().expect("kept").reference, "dma");
}

#[test]
fn orders_found_at_the_venue_are_external_and_get_the_same_id_everywhere() {
    let mut bench = Bench::ready();
    let foreign = VenueOrder {
        reference: "9-9/4".parse().expect("a reference"),
        instrument: instrument(),
        order_type: OrderType::Limit,
        direction: Direction::Short,
        offset: Offset::Open,
        price: Some(3600.0),
        volume: 1.0,
        traded: 0.0,
        status: OrderStatus::NotTraded,
        datetime: None,
        reason: None,
    };
    bench.venue(VenueEvent::Order(foreign));
    let key = OrderKey { owner: OWNER_EXTERNAL.into(), orderid: OrderId::new("x-9-9_4") };
    assert!(bench.engine.state().order(&key).is_some(), "{:?}", bench.engine.state().orders().keys());
    bench.take();
    bench.call(Request::CancelAll(CancelAll::default()));
    assert!(!kinds(&bench.take()).contains(&"venue"), "cancel_all leaves external orders alone");
}

#[test]
fn halts_stop_new_orders_and_outlive_the_node() {
    let mut bench = Bench::ready();
    bench.call(Request::Halt(Halt { reason: "fat finger".into(), ..Halt::default() }));
    let to = bench.call(Request::SendOrder(request("a")));
    let mut replayed = Replayed::default();
    let effects = bench.take();
    assert_eq!(refusal_of(&effects, to), ErrorCode::Halted);
    for effect in effects {
        if let Effect::Journal(entry) = effect {
            replayed.take(replayed.journal_seq + 1, 1, &entry);
        }
    }
    let mut next = Bench::from(replayed, 2);
    next.log_in("2-1");
    let to = next.call(Request::SendOrder(request("a")));
    assert_eq!(refusal_of(&next.take(), to), ErrorCode::Halted);
    next.call(Request::Resume(Resume::default()));
    next.write_halts();
    next.call(Request::SendOrder(request("a")));
    assert!(kinds(&next.take()).contains(&"submit"));
}

#[test]
fn a_journal_that_falls_behind_stops_orders_but_not_cancels() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("first")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    for n in 0..20 {
        bench.call(Request::SendOrder(request(&format!("o{n}"))));
    }
    assert_eq!(bench.engine.journal_backlog(), 8);
    assert_eq!(refusal_of(&bench.effects, ReplyTo(bench.calls)), ErrorCode::Overloaded);
    let before = bench.effects.len();
    bench.call(Request::CancelOrder(CancelRequest::new(OrderId::new("first"))));
    assert!(matches!(bench.effects[before], Effect::Venue(VenueCommand::Cancel(..))));
}

#[test]
fn full_storage_stops_orders_but_not_cancels() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("first")));
    bench.submit();
    bench.engine.on_storage_full(bench.now, true, &mut bench.effects);
    let to = bench.call(Request::SendOrder(request("a")));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::StorageFull);
    bench.call(Request::CancelOrder(CancelRequest::new(OrderId::new("first"))));
    assert!(kinds(&bench.take()).contains(&"venue"));
    bench.engine.on_storage_full(bench.now, false, &mut bench.effects);
    bench.call(Request::SendOrder(request("a")));
    assert!(kinds(&bench.take()).contains(&"submit"));
}

#[test]
fn lost_venue_events_make_the_gateway_dirty_until_a_snapshot() {
    let mut bench = Bench::ready();
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    assert!(matches!(bench.take().last(), Some(Effect::Venue(VenueCommand::Snapshot))));
    let to = bench.call(Request::SendOrder(request("a")));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::Dirty);
    bench.snapshot("1-1", vec![]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
}

#[test]
fn logins_are_retried_unless_refused() {
    let mut bench = Bench::new();
    bench.tick(1);
    let connects =
        |effects: &Effects| effects.iter().filter(|e| matches!(e, Effect::Venue(VenueCommand::Connect(_)))).count();
    assert_eq!(connects(&bench.take()), 1);
    bench.venue(VenueEvent::Disconnected { reason: "no route".into() });
    assert_eq!(bench.engine.gateway_state(), GatewayState::Disconnected);
    bench.tick(1);
    assert_eq!(connects(&bench.take()), 1, "after a second");
    bench.venue(VenueEvent::Disconnected { reason: "no route".into() });
    bench.tick(1);
    assert_eq!(connects(&bench.take()), 0, "two seconds the second time");
    bench.tick(1);
    assert_eq!(connects(&bench.take()), 1);
    bench.venue(VenueEvent::Refused { reason: "wrong password".into() });
    for _ in 0..100 {
        bench.tick(1);
    }
    assert_eq!(connects(&bench.take()), 0, "a refused login is not hammered");
    assert_eq!(bench.engine.gateway_state(), GatewayState::Refused);
    bench.call(Request::Connect);
    assert_eq!(connects(&bench.take()), 1, "an operator may");
}

#[test]
fn sessions_that_end_before_they_are_ready_are_begun_ever_more_rarely() {
    let mut bench = Bench::new();
    let mut waits = Vec::new();
    for session in 0..6 {
        if session == 4 {
            bench.log_in("1-4");
        } else {
            bench.tick(1);
            let (session, venue) = (format!("1-{session}").into(), "script".into());
            bench.venue(VenueEvent::Connected { session, max_reference: 0, trading_day: None, venue });
        }
        bench.take();
        bench.venue(VenueEvent::Disconnected { reason: "gone".into() });
        let mut wait = 0;
        while !bench.take().iter().any(|e| matches!(e, Effect::Venue(VenueCommand::Connect(_)))) {
            bench.tick(1);
            wait += 1;
        }
        waits.push(wait);
    }
    assert_eq!(waits, [1, 2, 4, 8, 1, 2], "one that was ready is begun again at once");
}

#[test]
fn a_refused_cancel_has_the_order_looked_up_unless_its_end_comes() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    let reference = submit.reference.clone();
    let refuse = |bench: &mut Bench| {
        let reason = "the counter refused to cancel it".to_owned();
        bench.venue(VenueEvent::CancelRefused { reference: reference.clone(), reason });
    };
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    bench.take();
    refuse(&mut bench);
    assert_eq!(snapshots_asked(&bench.take()), 0, "its end may be on the way");
    bench.tick(1);
    assert_eq!(snapshots_asked(&bench.take()), 1);
    // One that was asked for before a refusal may be older than it.
    refuse(&mut bench);
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::NotTraded, 0.0)]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready, "orders flow meanwhile");
    bench.tick(9);
    assert_eq!(snapshots_asked(&bench.take()), 0, "not too often");
    bench.tick(1);
    assert_eq!(snapshots_asked(&bench.take()), 1);
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::Cancelled, 0.0)]);
    let statuses: Vec<OrderStatus> = bench.engine.state.orders().values().map(|order| order.status).collect();
    assert_eq!(statuses, [OrderStatus::Cancelled]);
    refuse(&mut bench);
    bench.tick(60);
    assert_eq!(snapshots_asked(&bench.take()), 0, "it has ended");
}

#[test]
fn a_login_that_is_never_answered_is_tried_again() {
    let mut bench = Bench::new();
    bench.tick(1);
    bench.take();
    bench.tick(31);
    assert!(bench.take().iter().any(|e| matches!(e, Effect::Venue(VenueCommand::Connect(_)))));
}

#[test]
fn a_submit_of_an_earlier_session_is_not_sent() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let effects = bench.take();
    bench.venue(VenueEvent::Disconnected { reason: "line cut".into() });
    bench.tick(1);
    bench.venue(VenueEvent::Connected {
        session: "1-2".into(),
        max_reference: 0,
        trading_day: None,
        venue: "script".into(),
    });
    let submit = effects.into_iter().find_map(|e| if let Effect::Submit(s) = e { Some(s) } else { None });
    let refused = bench.engine.before_submit(bench.now, &submit.expect("a submit")).expect_err("session changed");
    assert!(refused.message.contains("session"));
}

#[test]
fn one_callers_unsubscribe_never_stops_anothers_ticks() {
    let mut bench = Bench::ready();
    let subscribe = || SubscribeRequest { symbol: "rb2410".into(), exchange: Exchange::SHFE };
    bench.call_by(Caller::anonymous("a"), None, Request::Subscribe(subscribe()));
    assert_eq!(kinds(&bench.take()), ["journal", "venue"]);
    bench.call_by(Caller::anonymous("b"), None, Request::Subscribe(subscribe()));
    assert_eq!(kinds(&bench.take()), ["journal", "reply now"]);
    bench.call_by(Caller::anonymous("a"), None, Request::Unsubscribe(subscribe()));
    assert_eq!(kinds(&bench.take()), ["journal", "reply now"]);
    bench.call_by(Caller::anonymous("b"), None, Request::Unsubscribe(subscribe()));
    assert_eq!(kinds(&bench.take()), ["venue", "journal", "reply now"]);
}

#[test]
fn a_misspelt_symbol_is_answered_with_the_nearest_one() {
    let mut bench = Bench::ready();
    let to = bench.call(Request::Subscribe(SubscribeRequest { symbol: "RB2410".into(), exchange: Exchange::SHFE }));
    let error = answer::<serde_json::Value>(&bench.take(), to).expect_err("unknown");
    assert_eq!(error.code, ErrorCode::UnknownContract);
    assert!(error.message.contains("did you mean rb2410.SHFE?"), "{}", error.message);
}

#[test]
fn marks_to_market_are_coalesced_and_changes_are_not() {
    let mut bench = Bench::ready();
    bench.venue(VenueEvent::Position(position(1.0, 0.0)));
    assert_eq!(kinds(&bench.take()), ["journal"]);
    for pnl in [10.0, 20.0, 30.0] {
        bench.venue(VenueEvent::Position(position(1.0, pnl)));
    }
    assert!(bench.take().is_empty());
    bench.tick(1);
    assert_eq!(kinds(&bench.take()).iter().filter(|k| **k == "journal").count(), 1);
    let held = bench.engine.state().position(&instrument(), Direction::Long).expect("held");
    assert_eq!(held.pnl, 30.0);
    bench.venue(VenueEvent::Account(account(1.0, 0.0)));
    bench.venue(VenueEvent::Account(account(2.0, 0.0)));
    bench.venue(VenueEvent::Account(account(1.5, 0.5)));
    assert_eq!(kinds(&bench.take()), ["journal", "journal"], "the commission's change does not wait");
    bench.tick(1);
    assert_eq!(bench.engine.state().account("paper").expect("held").balance, 1.5, "an overtaken mark is forgotten");
}

#[test]
fn every_request_decodes_and_says_what_is_wrong_with_it() {
    use protocol::rpc::Method;
    for &method in Method::ALL {
        for bad in [&b"["[..], b"[]", b"7", b"\"x\"", b"{", b"\xff\xfe"] {
            let error = Request::decode(method, bad).expect_err("refused");
            assert_eq!(error.code, ErrorCode::BadRequest, "{} {bad:?}", method.as_str());
        }
    }
    assert_eq!(Request::decode(Method::GetStatus, b""), Ok(Request::GetStatus));
    assert_eq!(Request::decode(Method::GetStatus, b"null"), Ok(Request::GetStatus));
    let error = Request::decode(Method::GetOrder, br#"{"orderid": 7}"#).expect_err("a number");
    assert!(error.message.contains("orderid"), "{}", error.message);
    let large = vec![b' '; 20_000];
    assert!(Request::decode(Method::GetOrder, &large).expect_err("too large").message.contains("20000 bytes"));
}

#[test]
fn owners_see_only_their_own_unless_they_may_see_all() {
    let mut bench = Bench::ready();
    let a = || Caller { owner: "a".into(), client: "x".into(), sees_all: false };
    let b = || Caller { owner: "b".into(), client: "x".into(), sees_all: false };
    let deadline = Some(bench.now.millis() + 1000);
    bench.call_by(a(), deadline, Request::SendOrder(request("same-id")));
    bench.call_by(b(), deadline, Request::SendOrder(request("same-id")));
    bench.take();
    let list = bench.call_by(a(), None, Request::GetAllOrders(List::default()));
    let other = bench.call_by(
        a(),
        None,
        Request::GetOrder(GetOrder { orderid: OrderId::new("same-id"), owner: Some("b".into()) }),
    );
    let everything = bench.call(Request::GetAllOrders(List::default()));
    let effects = bench.take();
    let mine: Page<Order> = answer(&effects, list).expect("a page");
    assert_eq!(mine.items.iter().map(|o| o.owner.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(refusal_of(&effects, other), ErrorCode::NotPermitted);
    assert_eq!(answer::<Page<Order>>(&effects, everything).expect("a page").items.len(), 2);
}

#[test]
fn unconfirmed_orders_are_looked_up_never_sent_again() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    bench.submit();
    bench.take();
    bench.tick(6);
    let effects = bench.take();
    assert!(effects.iter().any(|e| matches!(e, Effect::Venue(VenueCommand::Snapshot))));
    assert!(!kinds(&effects).contains(&"submit"));
}

/// Performs what is asked of the venue's snapshots: how many were asked for.
fn snapshots_asked(effects: &Effects) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Venue(VenueCommand::Snapshot))).count()
}

#[test]
fn an_intent_that_the_venue_lost_is_not_left_unknown_for_ever() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    bench.submit();
    // Its deadline is a second away, a lease lasts six.
    for second in 1..=6 {
        bench.tick(1);
        if snapshots_asked(&bench.take()) > 0 {
            bench.snapshot("1-1", vec![]);
        }
        let order = bench.engine.state().orders().values().next().expect("the order");
        assert_eq!(order.status, OrderStatus::Submitting, "after {second} s it may still be under way");
    }
    let mut asked = 0;
    for _ in 0..4 {
        bench.tick(1);
        let effects = bench.take();
        asked += snapshots_asked(&effects);
        if snapshots_asked(&effects) > 0 {
            bench.snapshot("1-1", vec![]);
        }
    }
    let order = bench.engine.state().orders().values().next().expect("the order");
    assert_eq!((order.status, order.reason.as_deref()), (OrderStatus::Rejected, Some(crate::reconcile::NEVER_ARRIVED)));
    assert!((1..=2).contains(&asked), "{asked}");
    bench.take();
    for _ in 0..60 {
        bench.tick(1);
        assert_eq!(snapshots_asked(&bench.take()), 0, "nothing is uncertain any more");
    }
}

#[test]
fn an_order_that_the_counter_parks_is_neither_asked_about_nor_called_lost() {
    let mut bench = Bench::ready();
    let mut journal = Vec::new();
    bench.call(Request::SendOrder(request("a")));
    let effects = bench.take();
    let submit = effects.iter().find_map(|e| if let Effect::Submit(s) = e { Some(s.clone()) } else { None });
    let submit = submit.expect("sent");
    bench.engine.on_sent(bench.now, &submit, &mut bench.effects);
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::Submitting, 0.0)));
    journal.extend(effects);
    for _ in 0..60 {
        bench.tick(1);
        let effects = bench.take();
        assert_eq!(snapshots_asked(&effects), 0, "the counter has told of it");
        journal.extend(effects);
    }
    // A list that lags says nothing of it, whoever looks at it: this node, or the next one.
    let mut replayed = Replayed::default();
    for effect in &journal {
        if let Effect::Journal(entry) = effect {
            replayed.take(replayed.journal_seq + 1, 1, entry);
        }
    }
    let mut next = Bench::from(replayed, 2);
    next.tick(1);
    let connected =
        VenueEvent::Connected { session: "2-1".into(), max_reference: 0, trading_day: None, venue: "script".into() };
    next.venue(connected);
    next.venue(VenueEvent::Contract(Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0)));
    next.venue(VenueEvent::Ready);
    for (mut bench, session) in [(bench, "1-1"), (next, "2-1")] {
        for _ in 0..3 {
            bench.tick(600);
            let lagging = VenueSnapshot { session: session.into(), ..VenueSnapshot::default() };
            bench.venue(VenueEvent::Snapshot(Box::new(lagging)));
            let order = bench.engine.state().orders().values().next().expect("the order");
            assert_eq!((order.status, order.deadline), (OrderStatus::Submitting, None), "{session}");
        }
        let missing =
            |effect: &Effect| matches!(effect, Effect::Log(log) if log.msg.contains("are not in the venue's"));
        assert!(bench.take().iter().any(missing), "{session}: people are told");
    }
}

#[test]
fn a_snapshot_counts_as_of_when_it_was_asked_for() {
    let mut bench = Bench::ready();
    bench.venue(VenueEvent::Order(VenueOrder { traded: f64::NAN, ..stray() }));
    assert_eq!(snapshots_asked(&bench.take()), 1, "an impossible number: what does the venue hold?");
    bench.snapshot("1-1", vec![]);
    bench.call(Request::SendOrder(request("a")));
    bench.submit();
    bench.tick(6);
    assert_eq!(snapshots_asked(&bench.take()), 1);
    bench.tick(20);
    bench.take();
    // The venue was silent for half a minute: this is what it knew six seconds after the order was sent.
    bench.snapshot("1-1", vec![]);
    let order = bench.engine.state().orders().values().next().expect("the order");
    assert_eq!(order.status, OrderStatus::Submitting);
}

#[test]
fn a_snapshot_never_counts_as_of_later_however_many_are_awaited() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    bench.submit();
    let status = |bench: &Bench| bench.engine.state().orders().values().next().expect("the order").status;
    for _ in 0..17 {
        bench.engine.ask_for_snapshot(bench.now, &mut bench.effects);
    }
    bench.snapshot("1-1", vec![]);
    bench.now.mono += Duration::from_secs(60);
    bench.now.wall += chrono::TimeDelta::seconds(60);
    bench.engine.ask_for_snapshot(bench.now, &mut bench.effects);
    for n in 2..=17 {
        bench.snapshot("1-1", vec![]);
        assert_eq!(status(&bench), OrderStatus::Submitting, "answer {n} is of when the order was sent");
    }
    bench.snapshot("1-1", vec![]);
    assert_eq!(status(&bench), OrderStatus::Rejected, "the last one was asked for a minute later");
}

#[test]
fn a_snapshot_that_never_left_is_not_waited_for() {
    let mut bench = Bench::ready();
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    bench.engine.on_command_failed(bench.now, session::SNAPSHOT, &GatewayError::Busy, &mut bench.effects);
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    bench.take();
    bench.tick(1);
    assert_eq!(snapshots_asked(&bench.take()), 1);
    bench.snapshot("1-1", vec![]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready, "the first answer is to the second question");
}

fn stray() -> VenueOrder {
    VenueOrder {
        reference: VenueReference { session: "0".into(), number: 1 },
        instrument: instrument(),
        order_type: OrderType::Limit,
        direction: Direction::Long,
        offset: Offset::Open,
        price: Some(3500.0),
        volume: 5.0,
        traded: 0.0,
        status: OrderStatus::NotTraded,
        datetime: None,
        reason: None,
    }
}

/// What people are told that cannot wait.
fn critical(effects: &Effects) -> Vec<String> {
    let lines = effects.iter().filter_map(|e| match e {
        Effect::Log(line) if line.level == LogLevel::Critical => Some(line.msg.clone()),
        _ => None,
    });
    lines.collect()
}

#[test]
fn what_contradicts_an_end_is_told_to_people() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    let rejected = bench.told(&submit, OrderStatus::Rejected, 0.0);
    bench.venue(VenueEvent::Order(rejected));
    assert_eq!(critical(&bench.take()), Vec::<String>::new());
    let trade = bench.trade(&submit, "t1", 2.0);
    let filled = bench.told(&submit, OrderStatus::PartTraded, 2.0);
    bench.venue(VenueEvent::Trade(trade));
    bench.venue(VenueEvent::Order(filled.clone()));
    let lines = critical(&bench.take());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("tells of a trade") && lines[1].contains("open again"), "{lines:?}");
    bench.venue(VenueEvent::Order(filled));
    assert_eq!(critical(&bench.take()), Vec::<String>::new(), "once is enough");

    let cancelled = bench.told(&submit, OrderStatus::Cancelled, 2.0);
    bench.venue(VenueEvent::Order(cancelled));
    let late = bench.told(&submit, OrderStatus::Cancelled, 3.0);
    bench.venue(VenueEvent::Order(late));
    let lines = critical(&bench.take());
    assert!(matches!(&lines[..], [line] if line.contains("1 lots more are filled")), "{lines:?}");
}

#[test]
fn a_working_order_that_the_venue_does_not_list_stays_and_is_asked_about() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    let working = bench.told(&submit, OrderStatus::NotTraded, 0.0);
    bench.venue(VenueEvent::Order(working));
    bench.take();
    bench.snapshot("1-1", vec![]);
    let effects = bench.take();
    assert!(effects.iter().any(|e| matches!(e, Effect::Log(line) if line.level == LogLevel::Critical)));
    assert_eq!(bench.engine.state().active_orders().count(), 1);
    bench.tick(29);
    assert_eq!(snapshots_asked(&bench.take()), 0);
    bench.tick(1);
    assert_eq!(snapshots_asked(&bench.take()), 1);
}

#[test]
fn heads_count_each_owners_events_and_the_shared_ones() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    bench.take();
    bench.tick(1);
    let effects = bench.take();
    let heads = effects.iter().find_map(|e| if let Effect::Heads(heads) = e { Some(heads) } else { None });
    let head = &heads.expect("heads")[0];
    assert_eq!((head.owner.as_str(), head.count), ("default", 1));
    assert_eq!(head.journal_seq, bench.engine.journal_seq());
}

#[test]
fn what_a_client_sent_too_long_ago_changes_nothing() {
    let mut bench = Bench::ready();
    bench.call(Request::Halt(Halt::default()));
    bench.take();
    let past = Some(bench.now.millis() - 1);
    let instrument = || SubscribeRequest { symbol: "rb2410".into(), exchange: Exchange::SHFE };
    for request in [
        Request::Resume(Resume::default()),
        Request::Disconnect,
        Request::Connect,
        Request::Subscribe(instrument()),
        Request::Unsubscribe(instrument()),
        Request::Halt(Halt { owner: Some("a".into()), ..Halt::default() }),
    ] {
        let what = format!("{request:?}");
        let to = bench.call_by(Caller::anonymous("test"), past, request);
        let effects = bench.take();
        assert_eq!(kinds(&effects), ["reply now"], "{what}");
        assert_eq!(refusal_of(&effects, to), ErrorCode::DeadlineExceeded, "{what}");
    }
    let to = bench.call_by(Caller::anonymous("test"), past, Request::GetStatus);
    answer::<serde_json::Value>(&bench.take(), to).expect("a client with a wrong clock finds out");
}

#[test]
fn a_clock_that_is_set_back_revives_no_order() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let effects = bench.take();
    let submit = effects.into_iter().find_map(|e| if let Effect::Submit(s) = e { Some(s) } else { None });
    let submit = submit.expect("a submit");
    bench.now.mono += Duration::from_secs(5);
    bench.now.wall -= chrono::TimeDelta::hours(1);
    let error = bench.engine.before_submit(bench.now, &submit).expect_err("too late");
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    let endless = bench.now.mono_at(i64::MAX);
    assert!(endless > bench.now.mono && bench.now.mono_at(i64::MIN) == bench.now.mono);
}

#[test]
fn halts_have_an_end_and_repeated_ones_are_not_journalled() {
    let mut bench = Bench::ready();
    let halt = |n: usize| Request::Halt(Halt { owner: Some(format!("owner{n}").into()), ..Halt::default() });
    for n in 0..256 {
        bench.call(halt(n));
        bench.write_halts();
        assert_eq!(kinds(&bench.take()), ["log", "journal", "journal", "reply"]);
    }
    bench.call(halt(7));
    assert_eq!(kinds(&bench.take()), ["write halt"]);
    let to = bench.call(halt(256));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::Overloaded);
}

#[test]
fn a_journal_that_falls_behind_takes_no_subscriptions_but_a_halt() {
    let mut bench = Bench::ready();
    let subscribe = || SubscribeRequest { symbol: "rb2410".into(), exchange: Exchange::SHFE };
    for n in 0..50 {
        let caller = || Caller::anonymous(format!("caller{n}"));
        bench.call_by(caller(), None, Request::Subscribe(subscribe()));
        bench.call_by(caller(), None, Request::Unsubscribe(subscribe()));
        bench.call(Request::Resume(Resume::default()));
    }
    assert_eq!(bench.engine.journal_backlog(), 8);
    let before = bench.effects.len();
    for n in 0..50 {
        bench.call(Request::Halt(Halt { reason: format!("reason {n}"), ..Halt::default() }));
    }
    let halts = kinds(&bench.effects.split_off(before));
    assert_eq!(halts.iter().filter(|kind| **kind == "journal").count(), 1, "the first one, and no more");
    let to = bench.call(Request::SendOrder(request("a")));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::Halted);
}

#[test]
fn a_subscription_that_the_venue_did_not_take_is_asked_for_again() {
    let mut bench = Bench::ready();
    let subscribe = || Request::Subscribe(SubscribeRequest { symbol: "rb2410".into(), exchange: Exchange::SHFE });
    bench.call(subscribe());
    bench.take();
    bench.engine.on_not_subscribed(&[instrument()]);
    bench.call(subscribe());
    assert_eq!(kinds(&bench.take()), ["venue"]);
    bench.call(subscribe());
    assert_eq!(kinds(&bench.take()), ["reply now"]);
}

#[test]
fn a_mark_that_waits_never_brings_back_a_position_that_is_gone() {
    let mut bench = Bench::ready();
    bench.venue(VenueEvent::Position(position(1.0, 0.0)));
    bench.venue(VenueEvent::Position(position(1.0, 10.0)));
    bench.snapshot("1-1", vec![]);
    bench.tick(1);
    let held = bench.engine.state().position(&instrument(), Direction::Long).expect("known");
    assert_eq!(held.volume, 0.0);
}

fn held(volume: f64, pnl: f64) -> Position {
    Position {
        gateway_name: "sim1".into(),
        symbol: "rb2410".into(),
        exchange: Exchange::SHFE,
        direction: Direction::Long,
        volume,
        frozen: 0.0,
        price: 3500.0,
        pnl,
        yd_volume: 0.0,
        extra: None,
    }
}

/// A bench whose positions go so far.
fn limited_to(lots: f64) -> Bench {
    let mut bench = Bench::ready();
    let rules = Rules { max_position: Some(lots), ..Rules::default() };
    bench.engine.options.limits = Limits::new(&rules);
    bench
}

/// Whether an order to open so many lots would be taken; it never reaches the venue.
fn takes(bench: &mut Bench, id: &str, lots: f64) -> bool {
    bench.call(Request::SendOrder(OrderRequest { volume: lots, ..request(id) }));
    let effects = bench.take();
    let Some(submit) = effects.iter().find_map(|e| if let Effect::Submit(submit) = e { Some(submit) } else { None })
    else {
        return false;
    };
    let error = RpcError::new(ErrorCode::VenueRejected, "not in this test");
    bench.engine.on_not_sent(bench.now, submit, error, &mut bench.effects);
    bench.take();
    true
}

#[test]
fn a_fill_that_comes_behind_its_position_counts_no_more_after_a_snapshot() {
    // A venue may list what is flat, or not; and so it may what is flat and was never told of.
    for (told, listed) in [(true, vec![held(0.0, 0.0)]), (true, vec![]), (false, vec![held(0.0, 0.0)]), (false, vec![])]
    {
        let mut bench = limited_to(10.0);
        let mut replayed = Replayed::default();
        let mut journal = |effects: Effects| {
            for effect in effects {
                if let Effect::Journal(entry) = effect {
                    replayed.take(replayed.journal_seq + 1, 1, &entry);
                }
            }
            replayed.counters.clone()
        };
        if told {
            bench.venue(VenueEvent::Position(held(5.0, 0.0)));
            journal(bench.take());
        }
        // What is closed is seen by its events alone: they are lost, and the position is not.
        let order = VenueOrder {
            reference: "elsewhere/1".parse().expect("a reference"),
            instrument: instrument(),
            order_type: OrderType::Limit,
            direction: Direction::Short,
            offset: Offset::CloseToday,
            price: Some(3500.0),
            volume: 5.0,
            traded: 5.0,
            status: OrderStatus::AllTraded,
            datetime: Some(bench.now.wall),
            reason: None,
        };
        let trade = VenueTrade {
            reference: order.reference.clone(),
            tradeid: "t1".into(),
            instrument: instrument(),
            direction: Direction::Short,
            offset: Offset::CloseToday,
            price: 3500.0,
            volume: 5.0,
            datetime: Some(bench.now.wall),
            trading_day: None,
        };
        bench.venue(VenueEvent::Position(held(0.0, 0.0)));
        bench.engine.on_overflow(bench.now, &mut bench.effects);
        let snapshot = VenueSnapshot {
            session: "1-1".into(),
            orders: vec![order],
            trades: vec![trade],
            positions: listed,
            living: LivingSessions::Own,
            ..VenueSnapshot::default()
        };
        bench.venue(VenueEvent::Snapshot(Box::new(snapshot)));
        assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
        let counters = journal(bench.take());
        assert_eq!(counters, bench.engine.counters, "a successor counts as this node does");
        assert_eq!(bench.engine.counters.untold_positions().next(), None);
        assert!(!takes(&mut bench, "a", 11.0));
        assert!(takes(&mut bench, "b", 10.0));
    }
}

#[test]
fn a_mark_that_waits_does_not_hide_what_was_filled_since() {
    let mut bench = limited_to(10.0);
    bench.venue(VenueEvent::Position(held(5.0, 0.0)));
    bench.venue(VenueEvent::Position(held(5.0, 10.0)));
    bench.call(Request::SendOrder(OrderRequest { volume: 4.0, ..request("a") }));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::AllTraded, 4.0)));
    bench.tick(1);
    bench.take();
    assert!(!takes(&mut bench, "b", 2.0));
    bench.venue(VenueEvent::Trade(bench.trade(&submit, "t1", 4.0)));
    bench.tick(1);
    bench.take();
    assert!(!takes(&mut bench, "c", 2.0));
    bench.venue(VenueEvent::Position(held(9.0, 10.0)));
    bench.take();
    assert!(!takes(&mut bench, "d", 2.0));
    assert!(takes(&mut bench, "e", 1.0));
}

#[test]
fn a_login_that_is_answered_after_a_disconnect_stays_disconnected() {
    let mut bench = Bench::new();
    bench.tick(1);
    bench.call(Request::Disconnect);
    let connected =
        || VenueEvent::Connected { session: "1-1".into(), max_reference: 0, trading_day: None, venue: "script".into() };
    bench.venue(connected());
    bench.venue(VenueEvent::Ready);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Stopped);
    bench.call(Request::Connect);
    bench.venue(connected());
    assert_eq!(bench.engine.gateway_state(), GatewayState::Reconciling, "once somebody asks again");
}

#[test]
fn losses_during_a_login_begin_it_again() {
    let mut bench = Bench::new();
    bench.tick(1);
    bench.venue(VenueEvent::Connected {
        session: "1-1".into(),
        max_reference: 0,
        trading_day: None,
        venue: "script".into(),
    });
    bench.take();
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    assert!(bench.take().iter().any(|e| matches!(e, Effect::Venue(VenueCommand::Disconnect))));
    assert_eq!(bench.engine.gateway_state(), GatewayState::Disconnected);
    bench.log_in("1-2");
}

#[test]
fn a_lost_disconnection_is_found_out_by_the_snapshot() {
    let mut bench = Bench::ready();
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    bench.engine.on_command_failed(bench.now, session::SNAPSHOT, &GatewayError::NotConnected, &mut bench.effects);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Disconnected);
    bench.log_in("1-2");
}

#[test]
fn losses_that_go_on_are_told_once_and_need_a_snapshot_behind_the_last() {
    let mut bench = Bench::ready();
    for _ in 0..1000 {
        bench.engine.on_overflow(bench.now, &mut bench.effects);
    }
    assert_eq!(kinds(&bench.take()), ["log", "venue"]);
    bench.snapshot("1-1", vec![]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Dirty, "asked for before the last loss");
    bench.take();
    bench.tick(1);
    assert!(bench.take().iter().any(|e| matches!(e, Effect::Venue(VenueCommand::Snapshot))));
    bench.snapshot("1-1", vec![]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
}

#[test]
fn a_snapshot_that_was_asked_for_before_a_loss_does_not_make_up_for_it() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.tick(6);
    assert_eq!(snapshots_asked(&bench.take()), 1, "what became of the order?");
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    assert_eq!(snapshots_asked(&bench.take()), 1, "what was lost?");
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::NotTraded, 0.0)]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Dirty);
    let to = bench.call(Request::SendOrder(request("b")));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::Dirty);
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::AllTraded, 2.0)]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
}

#[test]
fn snapshots_that_are_lost_with_the_events_put_the_end_off_and_no_more() {
    let mut bench = Bench::ready();
    let mut under_way = 0;
    for _ in 0..60 {
        bench.engine.on_overflow(bench.now, &mut bench.effects);
        bench.tick(1);
        under_way += snapshots_asked(&bench.take());
    }
    assert!((5..=12).contains(&under_way), "{under_way}: they are asked for less and less often");
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    let mut answered = 0;
    for _ in 0..2 * under_way + 10 {
        bench.tick(1);
        for _ in 0..snapshots_asked(&bench.take()) {
            bench.snapshot("1-1", vec![]);
            answered += 1;
        }
        if bench.engine.gateway_state() == GatewayState::Ready {
            break;
        }
    }
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
    assert_eq!(answered, under_way + 1, "any of those before may be of before the last loss");
}

#[test]
fn contracts_that_a_new_session_does_not_tell_are_gone() {
    let mut bench = Bench::ready();
    let expiring = Contract::new("sim1", InstrumentId::new("rb2405", Exchange::SHFE), Product::Futures, 10.0, 1.0);
    bench.venue(VenueEvent::Contract(expiring));
    assert_eq!(bench.engine.status(bench.now).contracts, 2);
    bench.venue(VenueEvent::Disconnected { reason: "the night".into() });
    bench.log_in("1-2");
    assert_eq!(bench.engine.status(bench.now).contracts, 1);
}

#[test]
fn an_impossible_number_of_the_venue_makes_the_gateway_dirty_once() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.take();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::PartTraded, f64::NAN)));
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::PartTraded, f64::NAN)));
    let effects = bench.take();
    assert_eq!(bench.engine.gateway_state(), GatewayState::Dirty);
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Venue(VenueCommand::Snapshot))).count(), 1);
    assert!(!kinds(&effects).contains(&"journal"));
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::PartTraded, 1.0)]);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
}

#[test]
fn an_impossible_number_in_a_snapshot_is_asked_about_only_when_patience_runs_out() {
    let nonsense = [
        VenueSnapshot { orders: vec![VenueOrder { traded: -1.0, ..stray() }], ..VenueSnapshot::default() },
        VenueSnapshot { accounts: vec![account(f64::INFINITY, 0.0)], ..VenueSnapshot::default() },
        VenueSnapshot { positions: vec![position(1.0, f64::NAN)], ..VenueSnapshot::default() },
    ];
    for nonsense in nonsense {
        let mut bench = Bench::ready();
        bench.venue(VenueEvent::Position(position(1.0, 0.0)));
        bench.venue(VenueEvent::Account(account(1.0, 0.0)));
        bench.engine.on_overflow(bench.now, &mut bench.effects);
        bench.take();
        let nonsense = VenueSnapshot { session: "1-1".into(), ..nonsense };
        let mut asked = 0;
        bench.snapshot_of(nonsense.clone());
        for _ in 0..30 {
            assert_eq!(bench.engine.gateway_state(), GatewayState::Dirty, "{nonsense:?}");
            bench.tick(1);
            let effects = bench.take();
            assert_eq!(critical(&effects), Vec::<String>::new(), "once is enough");
            for _ in 0..snapshots_asked(&effects) {
                asked += 1;
                bench.snapshot_of(nonsense.clone());
            }
        }
        assert_eq!(asked, 3, "{nonsense:?}");
        bench.tick(10);
        bench.snapshot("1-1", vec![]);
        assert_eq!(bench.engine.gateway_state(), GatewayState::Ready, "once it makes sense");
    }
}

#[test]
fn an_impossible_number_in_the_snapshot_of_a_look_up_stops_orders() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.tick(6);
    assert_eq!(snapshots_asked(&bench.take()), 1);
    bench.snapshot("1-1", vec![bench.told(&submit, OrderStatus::PartTraded, f64::NAN)]);
    let effects = bench.take();
    assert_eq!((snapshots_asked(&effects), critical(&effects).len()), (0, 1));
    let to = bench.call(Request::SendOrder(request("b")));
    assert_eq!(refusal_of(&bench.take(), to), ErrorCode::Dirty);
}

#[test]
fn an_impossible_number_at_a_login_stops_orders_and_neither_halts_nor_ticks() {
    let mut bench = Bench::ready();
    bench.call(Request::Subscribe(SubscribeRequest { symbol: "rb2410".into(), exchange: Exchange::SHFE }));
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    let working = bench.told(&submit, OrderStatus::NotTraded, 0.0);
    bench.venue(VenueEvent::Order(working.clone()));
    bench.venue(VenueEvent::Disconnected { reason: "line cut".into() });
    bench.call(Request::Halt(Halt { cancel: true, ..Halt::default() }));
    bench.tick(1);
    bench.venue(VenueEvent::Connected {
        session: "1-2".into(),
        max_reference: 0,
        trading_day: None,
        venue: "script".into(),
    });
    bench.venue(VenueEvent::Contract(Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0)));
    bench.venue(VenueEvent::Ready);
    bench.take();
    let nonsense = VenueSnapshot {
        session: "1-2".into(),
        orders: vec![working],
        accounts: vec![account(f64::NAN, 0.0)],
        ..VenueSnapshot::default()
    };
    for due in [1, 0] {
        bench.snapshot_of(nonsense.clone());
        let effects = bench.take();
        let count = |wanted: fn(&VenueCommand) -> bool| {
            effects.iter().filter(|e| matches!(e, Effect::Venue(command) if wanted(command))).count()
        };
        assert_eq!(bench.engine.gateway_state(), GatewayState::Dirty);
        assert_eq!(count(|command| matches!(command, VenueCommand::CancelEach(..))), due);
        assert_eq!(count(|command| matches!(command, VenueCommand::Subscribe(..))), due);
    }
}

#[test]
fn a_venue_that_goes_on_sending_impossible_numbers_is_asked_now_and_then() {
    let mut bench = Bench::ready();
    bench.venue(VenueEvent::Position(position(1.0, 0.0)));
    let mut asked = 0;
    for _ in 0..60 {
        bench.venue(VenueEvent::Position(position(1.0, f64::NAN)));
        bench.tick(1);
        let effects = bench.take();
        for _ in 0..snapshots_asked(&effects) {
            asked += 1;
            bench.snapshot_of(VenueSnapshot {
                session: "1-1".into(),
                positions: vec![position(1.0, 0.0)],
                ..VenueSnapshot::default()
            });
        }
    }
    assert!((6..=12).contains(&asked), "{asked}");
}

proptest::proptest! {
    #[test]
    fn no_request_is_a_panic(method in proptest::sample::select(protocol::rpc::Method::ALL), payload: Vec<u8>) {
        let _ = Request::decode(method, &payload);
    }

    #[test]
    fn whatever_decodes_is_answered_or_waits_for_the_venue(
        method in proptest::sample::select(protocol::rpc::Method::ALL),
        volume: f64,
        price: f64,
        text in "\\PC{0,40}",
        deadline in proptest::option::of(proptest::num::i64::ANY),
    ) {
        let order = serde_json::json!({
            "orderid": text, "quoteid": text, "symbol": text, "exchange": "SHFE", "direction": "LONG", "type": "STOP",
            "volume": volume, "price": price, "bid_price": price, "ask_price": volume, "bid_volume": 1, "ask_volume": 1,
            "reference": text, "owner": text, "tradeid": text, "accountid": text, "cursor": text, "after": 7,
            "start": "2024-01-02T09:00:00+08:00", "limit": 3, "reason": text,
        });
        for symbol in [text.as_str(), "rb2410"] {
            let mut order = order.clone();
            order["symbol"] = symbol.into();
            if let Ok(request) = Request::decode(method, order.to_string().as_bytes()) {
                let mut bench = Bench::ready();
                let to = bench.call_by(Caller::anonymous("test"), deadline, request);
                let effects = bench.take();
                let handled = effects.iter().any(|effect| match effect {
                    Effect::Reply(reply, _) | Effect::ReplyNow(reply, _) | Effect::ReadEvents(reply, _) => *reply == to,
                    Effect::Submit(submit) => submit.reply == to,
                    Effect::WriteHalt(write) => write.reply == Some(to),
                    Effect::Venue(_) => true,
                    _ => false,
                });
                proptest::prop_assert!(handled, "{:?}", kinds(&effects));
            }
        }
    }
}

#[test]
fn while_the_node_goes_down_cancels_flow_and_nothing_else_starts() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    bench.take();
    bench.engine.begin_close();
    bench.call(Request::CancelAll(CancelAll::default()));
    assert!(matches!(&bench.take()[0], Effect::Venue(VenueCommand::CancelEach(_))));
    let order = bench.call(Request::SendOrder(request("b")));
    let connect = bench.call(Request::Connect);
    let effects = bench.take();
    assert_eq!(kinds(&effects), ["reply now", "reply now"]);
    assert_eq!(refusal_of(&effects, order), ErrorCode::NotReady);
    assert_eq!(refusal_of(&effects, connect), ErrorCode::NotReady);
    assert_eq!(bench.engine.gateway_state(), GatewayState::Closing);
}

#[test]
fn hints_for_misspelt_instruments_are_rationed() {
    let mut bench = Bench::ready();
    let misspelt = || Request::Subscribe(SubscribeRequest { symbol: "RB2410".into(), exchange: Exchange::SHFE });
    let hinted = |bench: &mut Bench| {
        let to = bench.call(misspelt());
        let error = answer::<serde_json::Value>(&bench.take(), to).expect_err("unknown");
        assert_eq!(error.code, ErrorCode::UnknownContract);
        error.message.contains("did you mean")
    };
    assert_eq!((0..100).filter(|_| hinted(&mut bench)).count(), 10);
    bench.tick(1);
    assert!(hinted(&mut bench));
}

mod cancels;
mod days;
