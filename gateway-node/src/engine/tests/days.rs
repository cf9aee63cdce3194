//! The roll from one trading day to the next, through the engine and through a replay of what it journalled.

use super::*;

/// Everything that a bench journalled, replayed.
fn replay(journal: &[Entry]) -> Replayed {
    let mut replayed = Replayed::default();
    for (sequence, entry) in journal.iter().enumerate() {
        replayed.take(sequence as u64 + 2, 1, entry);
    }
    replayed
}

fn day(day: u32) -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(2024, 1, day).expect("a day")
}

/// Lets a day begin, and gives what was journalled for it.
fn begin(bench: &mut Bench, of: u32, journal: &mut Vec<Entry>) -> Effects {
    bench.venue(VenueEvent::TradingDay(day(of)));
    bench.tick(1);
    keep(bench, journal)
}

fn keep(bench: &mut Bench, journal: &mut Vec<Entry>) -> Effects {
    let effects = bench.take();
    journal.extend(effects.iter().filter_map(|effect| match effect {
        Effect::Journal(entry) => Some(entry.clone()),
        _ => None,
    }));
    effects
}

fn filled(bench: &mut Bench, id: &str, journal: &mut Vec<Entry>) {
    bench.call(Request::SendOrder(request(id)));
    let effects = keep(bench, journal);
    let submit =
        effects.into_iter().find_map(|e| if let Effect::Submit(s) = e { Some(s) } else { None }).expect("sent");
    bench.engine.on_sent(bench.now, &submit, &mut bench.effects);
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::AllTraded, 2.0)));
    bench.venue(VenueEvent::Trade(bench.trade(&submit, id, 2.0)));
    keep(bench, journal);
}

#[test]
fn an_order_sent_again_across_day_rolls_is_not_a_second_one() {
    let mut bench = Bench::ready();
    let mut journal = Vec::new();
    begin(&mut bench, 2, &mut journal);
    filled(&mut bench, "a", &mut journal);
    // Ten days of holiday make nothing older: days are counted by rolls.
    bench.tick(10 * 86_400);
    for (of, in_state) in [(12, true), (15, false), (16, false)] {
        begin(&mut bench, of, &mut journal);
        let key = OrderKey { owner: "default".into(), orderid: OrderId::new("a") };
        assert_eq!(bench.engine.state().order(&key).is_some(), in_state, "{of}");
        let again = bench.call(Request::SendOrder(request("a")));
        let effects = keep(&mut bench, &mut journal);
        let order: Order = answer(&effects, again).expect("its state");
        assert_eq!((order.status, order.traded), (OrderStatus::AllTraded, 2.0));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Submit(_))));
        let mut other = request("a");
        other.volume = 1.0;
        let to = bench.call(Request::SendOrder(other));
        assert_eq!(refusal_of(&bench.take(), to), ErrorCode::OrderIdReused);
    }
    let asked = bench.call(Request::GetOrder(GetOrder { orderid: OrderId::new("a"), owner: None }));
    assert_eq!(refusal_of(&bench.take(), asked), ErrorCode::TooOld, "not `null`: it was executed");
}

#[test]
fn a_replay_over_day_rolls_equals_the_live_state() {
    let mut bench = Bench::ready();
    let mut journal = Vec::new();
    for of in 2..9 {
        begin(&mut bench, of, &mut journal);
        filled(&mut bench, &format!("o{of}"), &mut journal);
        let whole = replay(&journal);
        assert_eq!(&whole.state, bench.engine.state(), "day {of}");
        assert_eq!(whole.days, bench.engine.days, "day {of}");
        // From the last snapshot alone it is the same.
        let begins = journal.iter().rposition(|e| matches!(e, Entry::Private(Private::SnapshotEnd(_)))).expect("one");
        let pages = journal[..begins].iter().rev().take_while(|e| matches!(e, Entry::Private(Private::Snapshot(_))));
        let short = replay(&journal[begins - pages.count()..]);
        assert_eq!((short.state, short.days), (whole.state, whole.days));
    }
    assert!(bench.engine.state().orders().len() <= 2, "of the day, and of the one before");
}

#[test]
fn only_what_lies_before_the_oldest_kept_day_is_purged() {
    let mut bench = Bench::ready();
    bench.engine.options.keep_days = 2;
    let mut journal = Vec::new();
    let purged = |effects: &Effects| {
        effects.iter().find_map(|effect| if let Effect::Purge(before) = effect { Some(*before) } else { None })
    };
    assert_eq!(purged(&begin(&mut bench, 2, &mut journal)), None);
    let second = bench.engine.journal_seq() + 1;
    assert_eq!(purged(&begin(&mut bench, 3, &mut journal)), None);
    assert_eq!(purged(&begin(&mut bench, 4, &mut journal)), Some(second), "with the second day it begins now");
}

#[test]
fn a_day_does_not_begin_in_the_midst_of_trouble() {
    let mut bench = Bench::ready();
    bench.venue(VenueEvent::TradingDay(day(2)));
    bench.engine.on_overflow(bench.now, &mut bench.effects);
    bench.tick(1);
    let is_snapshot = |effect: &Effect| matches!(effect, Effect::Journal(Entry::Private(Private::Snapshot(_))));
    assert!(!bench.take().iter().any(is_snapshot));
    bench.snapshot("1-1", vec![]);
    bench.tick(1);
    assert!(bench.take().iter().any(is_snapshot));
}

/// A login of a counter that ends no session within a trading day, and this list of its orders.
fn log_in_on(bench: &mut Bench, of: u32, session: &str, orders: Vec<VenueOrder>) {
    bench.venue(VenueEvent::Disconnected { reason: "the front closed".into() });
    bench.tick(2);
    bench.venue(VenueEvent::Connected {
        session: session.into(),
        max_reference: 0,
        trading_day: Some(day(of)),
        venue: "script".into(),
    });
    bench.venue(VenueEvent::Contract(Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0)));
    bench.venue(VenueEvent::Ready);
    let living = LivingSessions::since_day_of(session);
    let snapshot = VenueSnapshot { session: session.into(), orders, living, ..VenueSnapshot::default() };
    bench.venue(VenueEvent::Snapshot(Box::new(snapshot)));
    assert_eq!(bench.engine.gateway_state(), GatewayState::Ready);
}

#[test]
fn a_day_order_that_the_close_dropped_ends_at_the_next_days_login_and_leaves_the_state() {
    let mut bench = Bench::new();
    let mut journal = Vec::new();
    log_in_on(&mut bench, 2, "20240102.1.1", vec![]);
    bench.tick(1);
    keep(&mut bench, &mut journal);
    bench.call(Request::SendOrder(request("rests")));
    let submit = bench.submit();
    let resting = bench.told(&submit, OrderStatus::NotTraded, 0.0);
    bench.venue(VenueEvent::Order(resting));
    keep(&mut bench, &mut journal);
    let rests = OrderKey { owner: "default".into(), orderid: OrderId::new("rests") };
    let status = |bench: &Bench| bench.engine.state().order(&rests).map(|order| order.status);

    // Another session of the same day: the counter may list it yet.
    log_in_on(&mut bench, 2, "20240102.1.2", vec![]);
    assert_eq!(status(&bench), Some(OrderStatus::NotTraded));
    let warned =
        |effects: Effects| effects.iter().any(|e| matches!(e, Effect::Log(log) if log.level == LogLevel::Critical));
    assert!(warned(keep(&mut bench, &mut journal)), "people are told that it is missing");

    log_in_on(&mut bench, 3, "20240103.1.1", vec![]);
    assert_eq!(status(&bench), Some(OrderStatus::Cancelled));
    let order = bench.engine.state().order(&rests).expect("the order");
    assert_eq!(order.reason.as_deref(), Some(crate::reconcile::ENDED_WITH_DAY));
    assert!(!warned(keep(&mut bench, &mut journal)));
    // The day begins behind it: it stays for that day, and only its id for the next.
    for (of, in_state) in [(3, true), (4, false)] {
        if of > 3 {
            log_in_on(&mut bench, of, "20240104.1.1", vec![]);
        }
        bench.tick(1);
        keep(&mut bench, &mut journal);
        assert_eq!(bench.engine.days.day, Some(day(of)));
        assert_eq!(status(&bench).is_some(), in_state, "{of}");
    }
    let past = bench.engine.days.past(&rests).expect("its id is kept");
    assert_eq!(past.status, OrderStatus::Cancelled);
}
