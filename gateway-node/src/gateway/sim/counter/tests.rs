//! The counter's rules, one by one.

use protocol::{Direction, Exchange as Place, Offset};

use super::super::matching::tests::{contracts, instrument, terms, tick};
use super::*;
use crate::gateway::LivingSessions;

const NOW: Duration = Duration::ZERO;

fn setup() -> CounterSetup {
    CounterSetup { gateway: "sim1".into(), contracts: contracts(), terms: terms(), orders_per_second: 3 }
}

fn counter() -> Counter {
    let mut counter = Rebuild::new(setup()).start(&mut Outcome::default());
    let quiet = tick(Place::SHFE, 100.0, 1000.0, &[(99.0, 10.0)], &[(101.0, 10.0)]);
    counter.tick(&quiet, &mut Outcome::default());
    counter
}

fn buy(price: f64) -> OrderRequest {
    OrderRequest::limit(instrument(Place::SHFE), Direction::Long, Offset::Open, price, 2.0)
}

fn log_in(counter: &mut Counter, epoch: u64) -> Session {
    counter.log_in(epoch, &"node-1".into(), &mut Outcome::default()).expect("accepted")
}

fn submit(counter: &mut Counter, session: Session, number: u64, request: &OrderRequest, now: Duration) -> Outcome {
    let mut out = Outcome::default();
    counter.submit(session, number, request, now, &mut out);
    out
}

fn statuses(out: &Outcome) -> Vec<OrderStatus> {
    let status = |(_, event): &(Session, VenueEvent)| match event {
        VenueEvent::Order(order) => Some(order.status),
        _ => None,
    };
    out.says.iter().filter_map(status).collect()
}

#[test]
fn a_fill_is_recorded_in_the_order_that_it_happened() {
    let mut counter = counter();
    let session = log_in(&mut counter, 7);
    let request = buy(101.0);
    let out = submit(&mut counter, session, 1, &request, NOW);
    let [
        LedgerEntry::OrderAccepted { memo, order, kept_at: None },
        LedgerEntry::Trade(trade),
        LedgerEntry::Finished { reference, status: OrderStatus::AllTraded, traded: 2.0, reason: None },
        LedgerEntry::Marks(marks),
    ] = &out.entries[..]
    else {
        panic!("{:?}", out.entries)
    };
    assert_eq!((memo, &order.reference, &trade.reference), (&request.orderid, reference, reference));
    assert_eq!((reference.to_string(), trade.tradeid.as_str()), ("1/1".to_owned(), "1-1"));
    assert_eq!(marks[..], [(instrument(Place::SHFE), 100.0)]);
    assert_eq!(statuses(&out), [OrderStatus::NotTraded, OrderStatus::AllTraded]);
    assert!(out.says.iter().all(|(to, _)| *to == session));
}

#[test]
fn a_newer_login_ends_the_older_session_and_what_still_comes_is_refused() {
    let mut counter = counter();
    let old = log_in(&mut counter, 7);
    let resting = submit(&mut counter, old, 1, &buy(90.0), NOW);
    assert_eq!(statuses(&resting), [OrderStatus::NotTraded]);
    let mut out = Outcome::default();
    let new = counter.log_in(8, &"node-2".into(), &mut out).expect("a higher epoch");
    assert_eq!((old, new), (Session(1), Session(2)));
    assert!(matches!(&out.entries[..], [
        LedgerEntry::SessionEnded { session, .. },
        LedgerEntry::LoggedIn { session: Session(2), epoch: 8, .. },
    ] if *session == old));
    assert!(matches!(&out.says[0], (to, VenueEvent::Disconnected { .. }) if *to == old));
    assert!(matches!(&out.says[1], (to, VenueEvent::Connected { session, .. }) if *to == new && session == "2"));
    assert!(matches!(out.says.last(), Some((_, VenueEvent::Ready))));

    let request = buy(101.0);
    let late = submit(&mut counter, old, 2, &request, NOW);
    let reference = VenueReference { session: "1".into(), number: 2 };
    let why = Refusal::StaleSession;
    let refused = LedgerEntry::Refused { reference: reference.clone(), memo: request.orderid, why };
    assert_eq!(late.entries, [refused]);
    assert_eq!(statuses(&late), [OrderStatus::Rejected]);
    let again = submit(&mut counter, old, 1, &buy(90.0), NOW);
    assert_eq!(statuses(&again), [], "the order under this reference works");
    let mut out = Outcome::default();
    let resting = VenueReference { session: "1".into(), number: 1 };
    counter.cancel(old, &resting, &mut out);
    assert_eq!(out.entries, [LedgerEntry::CancelRefused { session: old, reference: resting.clone(), why }]);
    assert_eq!(counter.counts().stale, 3);

    let mut out = Outcome::default();
    counter.snapshot(old, &mut out);
    assert_eq!(out, Outcome::default());
    counter.snapshot(new, &mut out);
    let Some((_, VenueEvent::Snapshot(snapshot))) = out.says.last() else { panic!("{out:?}") };
    assert!(snapshot.living == LivingSessions::Own && snapshot.session == "2");
    assert_eq!(snapshot.orders.iter().map(|order| &order.reference).collect::<Vec<_>>(), [&resting]);
    let mut out = Outcome::default();
    counter.cancel(new, &resting, &mut out);
    assert!(matches!(out.entries[..], [LedgerEntry::Cancelled { .. }, LedgerEntry::Finished { .. }]));
}

#[test]
fn a_login_of_a_lower_epoch_is_refused_and_changes_nothing() {
    let mut counter = counter();
    let session = log_in(&mut counter, 8);
    let mut out = Outcome::default();
    let reason = counter.log_in(7, &"stale".into(), &mut out).expect_err("lower");
    assert!(reason.contains("epoch 8") && reason.contains("epoch 7"), "{reason}");
    assert!(matches!(&out.entries[..], [LedgerEntry::LoginRefused { epoch: 7, .. }]) && out.says.is_empty());
    assert_eq!(counter.session(), Some(session));
    assert_eq!(log_in(&mut counter, 8), Session(2), "the same leader after a lost connection");
}

#[test]
fn references_rise_within_a_session() {
    let mut counter = counter();
    let session = log_in(&mut counter, 1);
    submit(&mut counter, session, 5, &buy(90.0), NOW);
    let twice = submit(&mut counter, session, 5, &buy(101.0), NOW);
    assert!(matches!(&twice.entries[..], [LedgerEntry::Refused { why: Refusal::ReferenceUsed, .. }]));
    assert_eq!(statuses(&twice), []);
    let lower = submit(&mut counter, session, 4, &buy(101.0), NOW);
    assert!(matches!(&lower.entries[..], [LedgerEntry::Refused { why: Refusal::ReferenceUsed, .. }]));
    assert_eq!(statuses(&lower), [OrderStatus::Rejected]);
    assert_eq!(counter.counts().accepted, 1);
}

#[test]
fn more_orders_than_allowed_within_any_second_are_rejected() {
    let mut counter = counter();
    let session = log_in(&mut counter, 1);
    let at = |ms| Duration::from_millis(ms);
    let mut send = |number, ms| statuses(&submit(&mut counter, session, number, &buy(90.0), at(ms)));
    let (accepted, rejected) = (vec![OrderStatus::NotTraded], vec![OrderStatus::Rejected]);
    for (number, ms) in [(1, 0), (2, 900), (3, 950)] {
        assert_eq!(send(number, ms), accepted);
    }
    assert_eq!(send(4, 999), rejected);
    assert_eq!(send(5, 1000), accepted);
    assert_eq!(send(6, 1001), rejected, "900, 950 and 1000 are within a second");
    assert_eq!(send(7, 1900), accepted);
}

#[test]
fn what_is_told_to_be_rejected_is() {
    let mut counter = counter();
    let session = log_in(&mut counter, 1);
    counter.reject_next(1);
    let out = submit(&mut counter, session, 1, &buy(101.0), NOW);
    assert!(matches!(&out.entries[..], [LedgerEntry::OrderRejected { .. }]));
    assert_eq!(statuses(&out), [OrderStatus::Rejected]);
    assert_eq!(statuses(&submit(&mut counter, session, 2, &buy(90.0), NOW)), [OrderStatus::NotTraded]);
}

#[test]
fn a_number_that_is_none_never_reaches_the_ledger() {
    let mut counter = counter();
    let session = log_in(&mut counter, 1);
    let out = submit(&mut counter, session, 1, &OrderRequest { volume: f64::NAN, ..buy(90.0) }, NOW);
    assert!(matches!(&out.entries[..], [LedgerEntry::Refused { why: Refusal::NotANumber, .. }]));
}

#[test]
fn orders_of_a_lost_session_work_on_unheard() {
    let mut counter = counter();
    let session = log_in(&mut counter, 1);
    submit(&mut counter, session, 1, &buy(99.0), NOW);
    counter.log_out(session, "the connection is lost", &mut Outcome::default());
    let mut out = Outcome::default();
    counter.tick(&tick(Place::SHFE, 98.0, 1100.0, &[(97.0, 1.0)], &[(98.0, 5.0)]), &mut out);
    assert!(matches!(&out.entries[..], [LedgerEntry::Trade(_), LedgerEntry::Finished { .. }, LedgerEntry::Marks(_)]));
    assert_eq!(out.says, []);
}

#[test]
fn a_ledger_of_another_account_or_of_other_contracts_is_refused() {
    let mut out = Outcome::default();
    let setup = setup();
    let mut counter = Rebuild::new(setup.clone()).start(&mut out);
    counter.tick(&tick(Place::SHFE, 100.0, 0.0, &[], &[]), &mut out);
    let mut other = setup.clone();
    other.terms.balance += 1.0;
    let error = Rebuild::new(other).take(&out.entries).expect_err("another balance");
    assert!(error.contains("other terms of the account"), "{error}");
    let other = CounterSetup { contracts: Vec::new(), ..setup };
    let error = Rebuild::new(other).take(&out.entries).expect_err("no contracts");
    assert!(error.contains("x2410.SHFE is not among the contracts"), "{error}");
}

#[test]
fn a_new_ledger_names_sessions_as_no_earlier_one_did() {
    let mut first = Rebuild::new(setup()).sessions_from(1_700_000_000).start(&mut Outcome::default());
    let mut out = Outcome::default();
    let session = first.log_in(1, &"n".into(), &mut out).expect("logged in");
    assert_eq!(session, Session(1_700_000_000));
    // The same ledger goes on counting, whatever the clock says by then.
    let mut rebuild = Rebuild::new(setup());
    rebuild.take(&out.entries).expect("its own record");
    let mut again = rebuild.sessions_from(1_600_000_000).start(&mut Outcome::default());
    assert_eq!(again.log_in(1, &"n".into(), &mut Outcome::default()), Ok(Session(1_700_000_001)));
    assert_eq!(again.counts().sessions, 2);
}
