//! The judge on made-up evidence: a good run is acquitted, and every single thing wrong with it is found.

use gateway_node::gateway::sim::books::Terms;
use gateway_node::gateway::sim::counter::Session;
use gateway_node::gateway::sim::ledger::{LedgerEntry, Record};
use gateway_node::gateway::{VenueOrder, VenueReference, VenueTrade};
use gateway_node::reconcile::NEVER_ARRIVED;
use protocol::journal::Entry;
use protocol::{Currency, Event, Exchange, InstrumentId, OrderType, Position, Timestamp};

use super::*;

const SESSION: Session = Session(4);

fn rb() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

fn request(id: &str, volume: f64) -> OrderRequest {
    let mut request = OrderRequest::limit(rb(), Direction::Long, Offset::Open, 3500.0, volume);
    request.orderid = OrderId::new(id);
    request.reference = "c1".into();
    request
}

fn order(id: &str, status: OrderStatus, traded: f64) -> Order {
    let mut order = request(id, 2.0).to_order(&"sim1".into(), &"default".into());
    order.status = status;
    order.traded = traded;
    let number = [("a", 1), ("b", 2), ("f", 10)].into_iter().find(|(known, _)| *known == id);
    order.venue_reference = number.map(|(_, number)| reference(number).to_string().into());
    order
}

fn trade(id: &str, tradeid: &str, volume: f64) -> Trade {
    Trade {
        gateway_name: "sim1".into(),
        symbol: rb().symbol,
        exchange: Exchange::SHFE,
        orderid: OrderId::new(id),
        tradeid: tradeid.into(),
        direction: Direction::Long,
        offset: Offset::Open,
        price: 3500.0,
        volume,
        datetime: None,
        trading_day: None,
        reference: "c1".into(),
        owner: "default".into(),
        traceid: None,
        extra: None,
    }
}

fn held(volume: f64) -> OmsEvent {
    OmsEvent::Position(Position {
        gateway_name: "sim1".into(),
        symbol: rb().symbol,
        exchange: Exchange::SHFE,
        direction: Direction::Long,
        volume,
        frozen: 0.0,
        price: 3500.0,
        pnl: 0.0,
        yd_volume: 0.0,
        extra: None,
    })
}

fn reference(number: u64) -> VenueReference {
    VenueReference { session: SESSION.name(), number }
}

fn accepted(id: &str, number: u64) -> LedgerEntry {
    let order = VenueOrder {
        reference: reference(number),
        instrument: rb(),
        order_type: OrderType::Limit,
        direction: Direction::Long,
        offset: Offset::Open,
        price: Some(3500.0),
        volume: 2.0,
        traded: 0.0,
        status: OrderStatus::NotTraded,
        datetime: None,
        reason: None,
    };
    LedgerEntry::OrderAccepted { memo: OrderId::new(id), order, kept_at: None }
}

fn filled(number: u64, tradeid: &str, volume: f64) -> LedgerEntry {
    LedgerEntry::Trade(VenueTrade {
        reference: reference(number),
        tradeid: tradeid.into(),
        instrument: rb(),
        direction: Direction::Long,
        offset: Offset::Open,
        price: 3500.0,
        volume,
        datetime: None,
        trading_day: None,
    })
}

fn finished(number: u64, status: OrderStatus, traded: f64) -> LedgerEntry {
    LedgerEntry::Finished { reference: reference(number), status, traded, reason: None }
}

/// What a test changes before it is judged.
struct Made {
    notes: Vec<Note>,
    journal: Vec<OmsEvent>,
    ledger: Vec<LedgerEntry>,
    /// Of the leading node and the mirror, where they differ from the journal.
    leader: Option<Listing>,
    mirror: Option<Listing>,
    /// When all of it was written, in milliseconds since 1970.
    journal_ms: i64,
    ledger_ms: i64,
    stalls: Vec<(i64, i64)>,
}

const DEADLINE_MS: i64 = 10_000;

fn at_ms(ms: i64) -> Timestamp {
    chrono::DateTime::from_timestamp_millis(ms).expect("a time").fixed_offset()
}

/// An intent.
fn sent(id: &str, reference: &str) -> Order {
    let mut order = order(id, OrderStatus::Submitting, 0.0);
    (order.venue_reference, order.deadline) = (Some(reference.into()), Some(at_ms(DEADLINE_MS)));
    order
}

/// An intent that the venue does not list.
fn given_up(id: &str, reference: &str) -> Order {
    let mut order = order(id, OrderStatus::Rejected, 0.0);
    (order.venue_reference, order.reason) = (Some(reference.into()), Some(NEVER_ARRIVED.to_owned()));
    order
}

fn sending(id: &str) -> Note {
    Note::Sending { item: Item::Order(request(id, 2.0)) }
}

fn taken(id: &str, status: OrderStatus, traded: f64) -> Note {
    Note::Told { id: OrderId::new(id), outcome: Outcome::Taken { status, traded } }
}

fn not_executed(id: &str, code: Option<ErrorCode>) -> Note {
    Note::Told { id: OrderId::new(id), outcome: Outcome::NotExecuted { code, error: "no".to_owned(), proven: true } }
}

/// `a` is filled by two trades, `b` rests and is cancelled, `c` is refused by a risk rule, of `d` nothing came, `e` was
/// lost on the way and rejected by reconciling.
fn good() -> Made {
    let terms = Terms {
        accountid: "paper".into(),
        currency: Currency::CNY,
        balance: 1e9,
        commission_rate: 0.0,
        commission_per_lot: 0.0,
        margin_ratio: 0.1,
    };
    Made {
        notes: vec![
            Note::Started { incarnation: 1 },
            sending("a"),
            taken("a", OrderStatus::Submitting, 0.0),
            Note::SawTrade { trade: trade("a", "7", 0.5) },
            Note::Saw { id: OrderId::new("a"), status: OrderStatus::PartTraded, traded: 0.5 },
            Note::SawTrade { trade: trade("a", "8", 1.5) },
            sending("b"),
            Note::Told { id: OrderId::new("b"), outcome: Outcome::Unknown { error: "lost".to_owned() } },
            Note::Started { incarnation: 2 },
            sending("b"),
            taken("b", OrderStatus::NotTraded, 0.0),
            sending("c"),
            not_executed("c", Some(ErrorCode::RiskRejected)),
            sending("d"),
            not_executed("d", None),
            sending("e"),
            taken("e", OrderStatus::Submitting, 0.0),
        ],
        journal: vec![
            OmsEvent::Order(order("a", OrderStatus::Submitting, 0.0)),
            OmsEvent::Order(order("b", OrderStatus::Submitting, 0.0)),
            OmsEvent::Trade(trade("a", "7", 0.5)),
            OmsEvent::Trade(trade("a", "8", 1.5)),
            OmsEvent::Order(order("a", OrderStatus::AllTraded, 2.0)),
            held(2.0),
            OmsEvent::Order(order("b", OrderStatus::NotTraded, 0.0)),
            OmsEvent::Order(order("b", OrderStatus::Cancelled, 0.0)),
            OmsEvent::Order(order("c", OrderStatus::Rejected, 0.0)),
            OmsEvent::Order(sent("e", "3/7")),
            OmsEvent::Order(given_up("e", "3/7")),
        ],
        ledger: vec![
            LedgerEntry::Started { run: 1, terms },
            LedgerEntry::LoggedIn { session: SESSION, epoch: 1, node: "n1".into() },
            accepted("a", 1),
            accepted("b", 2),
            filled(1, "7", 0.5),
            filled(1, "8", 1.5),
            finished(1, OrderStatus::AllTraded, 2.0),
            finished(2, OrderStatus::Cancelled, 0.0),
        ],
        leader: None,
        mirror: None,
        journal_ms: 9_000,
        ledger_ms: 8_000,
        stalls: Vec::new(),
    }
}

fn listing(journal: &Journal) -> Listing {
    Listing::from(&journal.state)
}

fn evidence(made: Made) -> Evidence {
    let mut journal = Journal::default();
    for (at, data) in made.journal.into_iter().enumerate() {
        let event = Event { gateway: "sim1".into(), epoch: 1, seq: 1, time: at_ms(made.journal_ms), data };
        journal.take(at as u64 + 1, 1, Entry::Event(Box::new(event)));
    }
    let lines = made.notes.into_iter().map(|note| Line { at_us: 0, note }).collect();
    Evidence {
        diaries: vec![("c1".to_owned(), lines)],
        venue: VenueBooks::of(&[Record { n: 1, time: at_ms(made.ledger_ms), entries: made.ledger }]),
        leader: made.leader.unwrap_or_else(|| listing(&journal)),
        mirrors: vec![("c1".to_owned(), made.mirror.unwrap_or_else(|| listing(&journal)))],
        journal,
        owner: "default".into(),
        stalls: made.stalls,
        is_at_rest: true,
    }
}

/// What is found in a good run with this one thing changed, as kind and id.
fn found(change: impl FnOnce(&mut Made)) -> Vec<(Wrong, String)> {
    let mut made = good();
    change(&mut made);
    let evidence = evidence(made);
    let mut found: Vec<_> = judge(&evidence).into_iter().map(|finding| (finding.wrong, finding.id)).collect();
    found.dedup();
    found
}

fn of(wrong: Wrong, id: &str) -> (Wrong, String) {
    (wrong, id.to_owned())
}

#[test]
fn a_good_run_is_acquitted() {
    assert_eq!(judge(&evidence(good())), []);
}

#[test]
fn an_order_that_the_journal_lacks_is_lost() {
    let lost =
        found(|made| made.journal.retain(|event| !matches!(event, OmsEvent::Order(o) if o.orderid.as_str() == "b")));
    assert_eq!(lost, [of(Wrong::Lost, "b")], "told, and taken by the venue");
    let unseen = found(|made| {
        made.ledger.extend([accepted("z", 9), finished(9, OrderStatus::Cancelled, 0.0)]);
    });
    assert_eq!(unseen, [of(Wrong::Lost, "z")], "taken by the venue alone");
    let told = found(|made| made.notes.extend([sending("y"), taken("y", OrderStatus::NotTraded, 0.0)]));
    assert_eq!(told, [of(Wrong::Lost, "y")], "told alone");
}

#[test]
fn a_working_order_that_the_venue_lacks_is_lost() {
    let lost = found(|made| {
        made.ledger.retain(|entry| !matches!(entry, LedgerEntry::OrderAccepted { memo, .. } if memo.as_str() == "b"));
        made.journal.retain(|event| !matches!(event, OmsEvent::Order(o) if o.status == OrderStatus::Cancelled));
    });
    assert_eq!(lost, [of(Wrong::Lost, "b")]);
}

#[test]
fn a_trade_that_somebody_lacks_is_lost() {
    let key = "trade  rb2410.SHFE 8 LONG";
    let journal = found(|made| {
        made.journal.retain(|event| !matches!(event, OmsEvent::Trade(trade) if trade.tradeid == "8"));
    });
    assert!(journal.contains(&of(Wrong::Lost, key)) && journal.contains(&of(Wrong::Lost, "a")), "{journal:?}");
    let mirror = found(|made| {
        let mut seen = listing(&evidence(good()).journal);
        seen.trades.retain(|trade| trade.tradeid != "8");
        made.mirror = Some(seen);
    });
    assert!(mirror.contains(&of(Wrong::Lost, key)), "{mirror:?}");
}

#[test]
fn an_order_that_the_venue_took_twice_is_a_duplicate() {
    let twice = found(|made| made.ledger.extend([accepted("b", 9), finished(9, OrderStatus::Cancelled, 0.0)]));
    assert_eq!(twice, [of(Wrong::Lost, "b"), of(Wrong::Duplicated, "b")], "and the journal has it once");
    let journalled = found(|made| {
        made.ledger.extend([accepted("b", 9), finished(9, OrderStatus::Cancelled, 0.0)]);
        let at = made.journal.iter().position(|event| matches!(event, OmsEvent::Order(o) if o.orderid.as_str() == "b"));
        made.journal.insert(at.expect("an intent"), OmsEvent::Order(sent("b", "4/9")));
    });
    assert_eq!(journalled, [of(Wrong::Duplicated, "b")]);
}

#[test]
fn a_trade_that_counts_twice_is_a_duplicate() {
    let key = "trade 2024-01-02 rb2410.SHFE 8 LONG";
    let twice = found(|made| {
        let mut again = trade("a", "8", 1.5);
        again.trading_day = chrono::NaiveDate::from_ymd_opt(2024, 1, 2);
        made.journal.push(OmsEvent::Trade(again));
    });
    assert!(twice.contains(&of(Wrong::Duplicated, key)) && twice.contains(&of(Wrong::Duplicated, "a")), "{twice:?}");
    let told = found(|made| {
        made.notes.insert(6, Note::SawTrade { trade: trade("a", "8", 1.5) });
    });
    assert_eq!(told, [of(Wrong::Duplicated, "trade  rb2410.SHFE 8 LONG")]);
    let venue = found(|made| made.ledger.insert(7, filled(1, "8", 1.5)));
    assert!(venue.contains(&of(Wrong::Duplicated, "trade  rb2410.SHFE 8 LONG")), "{venue:?}");
}

#[test]
fn states_and_fills_that_differ_are_found() {
    let status = found(|made| made.ledger.retain(|entry| *entry != finished(2, OrderStatus::Cancelled, 0.0)));
    assert_eq!(status, [of(Wrong::Mismatched, "b")]);
    let traded = found(|made| made.journal.retain(|e| !matches!(e, OmsEvent::Order(o) if o.traded == 2.0)));
    assert!(traded.contains(&of(Wrong::Mismatched, "a")) && traded.contains(&of(Wrong::Duplicated, "a")), "{traded:?}");
    let price = found(|made| {
        for entry in &mut made.ledger {
            if let LedgerEntry::Trade(trade) = entry {
                trade.price = 1.0;
            }
        }
    });
    assert!(price.contains(&of(Wrong::Mismatched, "trade  rb2410.SHFE 7 LONG")), "{price:?}");
    let held_otherwise = found(|made| made.journal.push(held(3.0)));
    assert_eq!(held_otherwise, [of(Wrong::Mismatched, "position rb2410.SHFE LONG")]);
}

#[test]
fn content_that_differs_is_found() {
    let venue = found(|made| {
        for entry in &mut made.ledger {
            if let LedgerEntry::OrderAccepted { memo, order, .. } = entry
                && memo.as_str() == "b"
            {
                order.price = Some(9.0);
            }
        }
    });
    assert_eq!(venue, [of(Wrong::Mismatched, "b")]);
    let client = found(|made| {
        made.notes[11] = Note::Sending { item: Item::Order(request("c", 7.0)) };
    });
    assert_eq!(client, [of(Wrong::Mismatched, "c")]);
}

#[test]
fn a_client_that_was_told_otherwise_is_heard() {
    let not = found(|made| made.notes[10] = not_executed("b", None));
    assert_eq!(not, [of(Wrong::Mismatched, "b")], "told not executed, and the venue has it");
    let filled = found(|made| made.notes[10] = taken("b", OrderStatus::AllTraded, 2.0));
    assert_eq!(filled, [of(Wrong::Mismatched, "b")]);
    let rejected = found(|made| made.notes[2] = taken("a", OrderStatus::Rejected, 0.0));
    assert_eq!(rejected, [of(Wrong::Mismatched, "a")]);
    let never = found(|made| drop(made.notes.remove(10)));
    assert_eq!(never, [of(Wrong::Mismatched, "b")]);
    let reused = found(|made| made.notes[14] = not_executed("d", Some(ErrorCode::OrderIdReused)));
    assert_eq!(reused, [of(Wrong::Mismatched, "d")]);
    let fewer = found(|made| {
        made.notes.insert(6, Note::Saw { id: OrderId::new("a"), status: OrderStatus::PartTraded, traded: 0.2 });
    });
    assert_eq!(fewer, [of(Wrong::Mismatched, "a")]);
}

#[test]
fn an_intent_left_for_ever_is_found() {
    let left = found(|made| drop(made.journal.pop()));
    assert_eq!(left, [of(Wrong::Lost, "e"), of(Wrong::Mismatched, "e")]);
}

#[test]
fn a_guess_that_was_wrong_is_found_and_a_lie_of_the_venues_is_not() {
    let ended = |reason: &str| {
        let mut early = order("a", OrderStatus::Rejected, 0.0);
        early.reason = Some(reason.to_owned());
        OmsEvent::Order(early)
    };
    assert_eq!(found(|made| made.journal.insert(1, ended("it never arrived"))), [of(Wrong::Mismatched, "a")]);
    let lied = found(|made| {
        made.journal.insert(1, ended(LIE));
        made.notes[2] = taken("a", OrderStatus::Rejected, 0.0);
    });
    assert_eq!(lied, []);
}

#[test]
fn what_a_stale_session_got_through_is_found() {
    let stale = found(|made| {
        made.ledger.insert(3, LedgerEntry::LoggedIn { session: Session(5), epoch: 2, node: "n2".into() });
    });
    assert_eq!(stale, [of(Wrong::Mismatched, "b")]);
}

#[test]
fn our_own_order_as_a_strangers_is_found() {
    let stranger = found(|made| {
        let mut order = order("x-1", OrderStatus::Cancelled, 0.0);
        order.owner = "external".into();
        made.journal.push(OmsEvent::Order(order));
    });
    assert_eq!(stranger, [of(Wrong::Mismatched, "x-1")]);
}

#[test]
fn copies_that_differ_are_found() {
    let without_b = || {
        let mut seen = listing(&evidence(good()).journal);
        seen.orders.retain(|order| order.orderid.as_str() != "b");
        Some(seen)
    };
    assert_eq!(found(|made| made.leader = without_b()), [of(Wrong::Mismatched, "b")]);
    assert_eq!(found(|made| made.mirror = without_b()), [of(Wrong::Mismatched, "b")]);
}

#[test]
fn before_everything_is_at_rest_only_what_can_never_be_right_is_wrong() {
    let mut made = good();
    made.notes.extend([sending("y"), sending("z"), not_executed("z", None)]);
    made.journal.truncate(2);
    made.journal.push(OmsEvent::Order(order("e", OrderStatus::Submitting, 0.0)));
    made.ledger.push(accepted("z", 9));
    let mut evidence = evidence(made);
    evidence.is_at_rest = false;
    let found: Vec<_> = judge(&evidence).into_iter().map(|finding| (finding.wrong, finding.id)).collect();
    assert_eq!(found, [of(Wrong::Lost, "z"), of(Wrong::Mismatched, "z")]);
}

#[test]
fn an_entry_that_does_not_read_is_found() {
    let mut evidence = evidence(good());
    evidence.journal.unreadable.push("entry 3: nonsense".to_owned());
    assert_eq!(judge(&evidence).len(), 1);
}

#[test]
fn what_a_replaced_leader_still_stored_is_found() {
    let mut evidence = evidence(good());
    evidence.journal.void = 2;
    assert_eq!(judge(&evidence).len(), 1);
}

#[test]
fn what_the_ledgers_say_of_an_id_is_shown() {
    let evidence = evidence(good());
    let lines = lines_about(&evidence, "b");
    assert!(
        ["c1 ", "journal ", "venue "].iter().all(|who| lines.iter().any(|line| line.starts_with(who))),
        "{lines:?}"
    );
    assert!(lines_about(&evidence, "trade  rb2410.SHFE 8 LONG").len() >= 3);
}

/// `e` is given up as never arrived under this reference, with this in the ledger besides.
fn given_up_as(reference: &str, change: impl FnOnce(&mut Made)) -> Vec<(Wrong, String)> {
    found(|made| {
        made.journal.retain(|event| !matches!(event, OmsEvent::Order(o) if o.orderid.as_str() == "e"));
        made.journal.extend([sent("e", reference), given_up("e", reference)].map(OmsEvent::Order));
        change(made);
    })
}

#[test]
fn an_intent_that_a_node_lost_itself_is_found() {
    assert_eq!(given_up_as("4/9", |_| {}), [of(Wrong::Lost, "e")], "its session stood: nothing is lost within one");
    let ended = LedgerEntry::SessionEnded { session: SESSION, reason: "dropped".to_owned() };
    assert_eq!(given_up_as("4/9", |made| made.ledger.push(ended.clone())), [], "lost with its connection");
    // The number behind it came.
    assert_eq!(given_up_as("4/1", |made| made.ledger.push(ended.clone())), [], "it came itself");
    let overtaken = |change: fn(&mut Made)| {
        given_up_as("4/9", |made| {
            made.journal.push(OmsEvent::Order(sent("f", "4/10")));
            let order = OmsEvent::Order(order("f", OrderStatus::Cancelled, 0.0));
            made.journal.push(order);
            made.ledger.extend([accepted("f", 10), finished(10, OrderStatus::Cancelled, 0.0), ended.clone()]);
            change(made);
        })
    };
    assert_eq!(overtaken(|_| {}), [of(Wrong::Lost, "e")]);
    let cancelled = |made: &mut Made| made.notes.push(Note::Cancelling { id: OrderId::new("e") });
    assert_eq!(overtaken(cancelled), [], "cancelled before it was written");
    let late = |made: &mut Made| {
        made.ledger_ms = DEADLINE_MS + 500;
        made.journal_ms = made.ledger_ms + 500;
    };
    assert_eq!(overtaken(late), [], "its time was over before it was written");
}

#[test]
fn an_order_that_comes_behind_its_deadline_is_found() {
    let late = |ledger_ms, stalls: &[(i64, i64)]| {
        found(|made| {
            let intent = |event: &&mut OmsEvent| matches!(event, OmsEvent::Order(o) if o.orderid.as_str() == "b");
            if let Some(OmsEvent::Order(order)) = made.journal.iter_mut().find(intent) {
                order.deadline = Some(at_ms(DEADLINE_MS));
            }
            (made.ledger_ms, made.stalls) = (ledger_ms, stalls.to_vec());
        })
    };
    assert_eq!(late(DEADLINE_MS + 1_000, &[]), []);
    assert_eq!(late(DEADLINE_MS + 1_001, &[]), [of(Wrong::Mismatched, "b")]);
    assert_eq!(late(DEADLINE_MS + 1_001, &[(9_000_000, 10_500_000)]), [], "its node was stopped");
    let earlier = [(1_000_000, 8_999_999), (11_002_000, 12_000_000)];
    assert_eq!(late(DEADLINE_MS + 1_001, &earlier), [of(Wrong::Mismatched, "b")], "but not then");
}
