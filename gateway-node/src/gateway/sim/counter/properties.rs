//! What must hold whatever comes: arbitrary logins, commands and ticks.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::matching::properties::{quotes, requests, ticks};
use super::super::matching::tests::{contracts, terms};
use super::*;

#[derive(Debug, Clone)]
enum Act {
    LogIn { epoch: u64 },
    LogOut,
    Tick(Box<Tick>),
    Submit(Under, OrderRequest),
    Quote(Under, QuoteRequest),
    Cancel { back: u64, of: u64, number: u64 },
    Snapshot,
    Marks,
}

/// What a command comes under: a session so many before the latest, and a step from the last number used.
#[derive(Debug, Clone, Copy)]
struct Under {
    back: u64,
    step: u64,
}

fn back() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(0_u64), 1 => 1_u64..3]
}

fn under() -> impl Strategy<Value = Under> {
    (back(), prop_oneof![9 => Just(1_u64), 1 => Just(0_u64), 1 => 2_u64..4])
        .prop_map(|(back, step)| Under { back, step })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (1_u64..6).prop_map(|epoch| Act::LogIn { epoch }),
        1 => Just(Act::LogOut),
        10 => ticks().prop_map(|tick| Act::Tick(Box::new(tick))),
        10 => (under(), requests()).prop_map(|(under, request)| Act::Submit(under, request)),
        2 => (under(), quotes()).prop_map(|(under, request)| Act::Quote(under, request)),
        4 => (back(), 0_u64..3, 1_u64..40).prop_map(|(back, of, number)| Act::Cancel { back, of, number }),
        1 => Just(Act::Snapshot),
        1 => Just(Act::Marks),
    ];
    proptest::collection::vec(act, 1..120).prop_map(|acts| [Act::LogIn { epoch: 1 }].into_iter().chain(acts).collect())
}

fn setup() -> CounterSetup {
    CounterSetup { gateway: "sim1".into(), contracts: contracts(), terms: terms(), orders_per_second: 30 }
}

/// Performs the acts and returns what each of them came to, the start and a last report of marks included.
fn run(acts: &[Act]) -> (Counter, Vec<Outcome>) {
    let mut first = Outcome::default();
    let mut counter = Rebuild::new(setup()).start(&mut first);
    let mut outcomes = vec![first];
    let mut number = 0;
    for (at, act) in acts.iter().chain([&Act::Marks]).enumerate() {
        let mut out = Outcome::default();
        let now = Duration::from_millis(20 * at as u64);
        let latest = counter.counts().sessions;
        let session = |back: u64| Session(latest.saturating_sub(back));
        match act {
            Act::LogIn { epoch } => {
                if counter.log_in(*epoch, &"node".into(), &mut out).is_ok() {
                    number = 0;
                }
            }
            Act::LogOut => counter.log_out(session(0), "asked to", &mut out),
            Act::Tick(tick) => {
                counter.tick(tick, &mut out);
            }
            Act::Submit(under, request) => {
                number += under.step;
                counter.submit(session(under.back), number, request, now, &mut out);
            }
            Act::Quote(under, request) => {
                number += under.step;
                counter.submit_quote(session(under.back), number, request, now, &mut out);
            }
            Act::Cancel { back, of, number } => {
                let reference = VenueReference { session: session(*of).name(), number: *number };
                counter.cancel(session(*back), &reference, &mut out);
                counter.cancel_quote(session(*back), &reference, &mut out);
            }
            Act::Snapshot => counter.snapshot(session(0), &mut out),
            Act::Marks => counter.report_marks(&mut out),
        }
        outcomes.push(out);
    }
    (counter, outcomes)
}

/// A counter made of what the ledger's lines say, as text.
fn rebuild(outcomes: &[Outcome]) -> Counter {
    let mut rebuild = Rebuild::new(setup());
    for outcome in outcomes {
        let text = serde_json::to_string(&outcome.entries).expect("an entry has a text");
        let entries: Vec<LedgerEntry> = serde_json::from_str(&text).expect("the text reads back");
        assert_eq!(entries, outcome.entries);
        rebuild.take(&entries).expect("its own ledger");
    }
    rebuild.start(&mut Outcome::default())
}

/// Everything that a node could see, but for the session that it sees it in.
fn view(counter: &Counter) -> crate::gateway::VenueSnapshot {
    crate::gateway::VenueSnapshot { session: Name::default(), ..counter.exchange().snapshot() }
}

fn cancel_all(counter: &mut Counter) {
    let mut out = Outcome::default();
    let session = counter.log_in(u64::MAX, &"last".into(), &mut out).expect("the highest epoch");
    let snapshot = view(counter);
    for order in &snapshot.orders {
        counter.cancel(session, &order.reference, &mut out);
    }
    for quote in &snapshot.quotes {
        counter.cancel_quote(session, &quote.reference, &mut out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rebuilt_from_the_ledger_equals_live(acts in acts()) {
        let (mut live, outcomes) = run(&acts);
        let mut rebuilt = rebuild(&outcomes);
        prop_assert_eq!(view(&rebuilt), view(&live));
        prop_assert_eq!(rebuilt.exchange().trading_day(), live.exchange().trading_day());
        let counts = CounterCounts { runs: 1, ..rebuilt.counts() };
        prop_assert_eq!(counts, live.counts());
        let login = |counter: &mut Counter| {
            let refused: Vec<_> = (0..7).filter(|e| counter.log_in(*e, &"n".into(), &mut Outcome::default()).is_err()).collect();
            (refused, counter.session())
        };
        prop_assert_eq!(login(&mut rebuilt), login(&mut live));
        cancel_all(&mut live);
        cancel_all(&mut rebuilt);
        prop_assert_eq!(view(&rebuilt), view(&live));
        prop_assert_eq!(rebuilt.exchange().account().frozen, 0.0);
    }

    #[test]
    fn only_the_session_in_force_trades_and_everything_is_recorded_once(acts in acts()) {
        let (_, outcomes) = run(&acts);
        let mut current = None;
        let mut last = 0;
        let mut seen = HashSet::new();
        let mut ended = HashSet::new();
        for entry in outcomes.iter().flat_map(|outcome| &outcome.entries) {
            let reference = match entry {
                LedgerEntry::LoggedIn { session, .. } => {
                    prop_assert!(current.is_none() && session.0 == last + 1, "{entry:?}");
                    (current, last) = (Some(*session), session.0);
                    continue;
                }
                LedgerEntry::SessionEnded { session, .. } => {
                    prop_assert_eq!(current.take(), Some(*session));
                    continue;
                }
                LedgerEntry::OrderAccepted { order, .. } | LedgerEntry::OrderRejected { order, .. } => &order.reference,
                LedgerEntry::QuoteAccepted { quote, .. } | LedgerEntry::QuoteRejected { quote, .. } => &quote.reference,
                LedgerEntry::Finished { reference, .. } => {
                    prop_assert!(seen.contains(reference) && ended.insert(reference.clone()), "{entry:?}");
                    continue;
                }
                LedgerEntry::Trade(trade) => {
                    prop_assert!(seen.contains(&trade.reference) && !ended.contains(&trade.reference), "{entry:?}");
                    continue;
                }
                LedgerEntry::Cancelled { session, .. } => {
                    prop_assert_eq!(current, Some(*session));
                    continue;
                }
                _ => continue,
            };
            prop_assert_eq!(current.map(Session::name), Some(reference.session.clone()));
            prop_assert!(seen.insert(reference.clone()), "{reference} came twice");
        }
        // Nothing is said to a session but what belongs to it, and nothing happens that nobody recorded.
        for outcome in &outcomes {
            for (session, event) in &outcome.says {
                if let VenueEvent::Trade(trade) = event {
                    prop_assert!(outcome.entries.contains(&LedgerEntry::Trade(trade.clone())), "{session:?}");
                }
            }
        }
    }
}
