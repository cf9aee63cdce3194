//! The roll from one trading day to the next: what stays, what is remembered of the rest, and the snapshot that says so.
//!
//! Orders, quotes and trades stay for the day on which they ended and the one after it, so that what the venue says late
//! still finds them. Of what leaves, the id is kept for some days more: sent again, it makes no second order. Days are
//! counted by rolls, so that a holiday makes nothing older.

use std::collections::{BTreeMap, BTreeSet};

use protocol::event::OmsEvent;
use protocol::halt::HaltEntry;
use protocol::journal::{Entry, PastOrder, Private, SnapshotEnd, SnapshotPage, fingerprint_order, fingerprint_quote};
use protocol::oms::{OrderKey, TradeKey};
use protocol::value::OWNER_EXTERNAL;
use protocol::{
    ErrorCode, GatewayState, InstrumentId, LogLevel, Name, OmsState, Order, OrderId, OrderRequest, Quote, QuoteRequest,
    RpcError, Timestamp, Trade,
};

use super::{Effect, Effects, Engine, Now};
use crate::risk::{Counters, NewFills};

/// Most bytes of a page, well below what a NATS message may have; a single larger event makes a page of its own.
const PAGE_BYTES: usize = 256 * 1024;

/// What is known of days, beside the state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Days {
    /// The trading day whose snapshot was taken last.
    pub day: Option<chrono::NaiveDate>,
    /// Orders and quotes that had ended by then: they leave at the next roll.
    ended: BTreeSet<OrderKey>,
    /// Trades of before.
    old_trades: BTreeSet<TradeKey>,
    /// What has left.
    past: BTreeMap<OrderKey, PastOrder>,
    /// The rolls whose ids are kept, oldest first.
    rolls: Vec<Timestamp>,
    /// Where the snapshots begin that are kept, oldest first.
    pub snapshots: Vec<u64>,
}

impl Days {
    /// What is known of an id that the state does not hold.
    #[must_use]
    pub fn past(&self, key: &OrderKey) -> Option<&PastOrder> {
        self.past.get(key)
    }

    /// The venue's references of what has left, and whether it was a quote.
    pub fn past_references(&self) -> impl Iterator<Item = (&Name, &OrderKey, bool)> {
        self.past.iter().filter_map(|(key, past)| Some((past.venue_reference.as_ref()?, key, past.quote)))
    }

    /// Whether an id may be one that was known and is not kept any more. Only ids that tell their time (UUIDs of
    /// version 7, as the SDK makes them) can be judged.
    ///
    /// # Errors
    /// `TOO_OLD`.
    pub fn check_age(&self, orderid: &OrderId, kept: usize) -> Result<(), RpcError> {
        match (self.rolls.first(), allocated(orderid)) {
            (Some(oldest), Some(allocated)) if self.rolls.len() >= kept && allocated < oldest.timestamp_millis() => {
                Err(RpcError::new(
                    ErrorCode::TooOld,
                    format!("{orderid} was allocated before {oldest}, and ids of that time are not known any more"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What is answered when an id that has left is asked for.
    ///
    /// # Errors
    /// `TOO_OLD`, saying how the order ended.
    pub fn check_present(&self, key: &OrderKey, kept: usize) -> Result<(), RpcError> {
        match self.past.get(key) {
            Some(past) => Err(RpcError::new(
                ErrorCode::TooOld,
                format!("{} ended {} on an earlier trading day; no more is kept of it", key.orderid, past.status),
            )),
            None => self.check_age(&key.orderid, kept),
        }
    }

    /// The state and the days that a complete snapshot stands for.
    #[must_use]
    pub fn restore(pages: &[SnapshotPage], end: &SnapshotEnd) -> (OmsState, Days) {
        let mut state = OmsState::default();
        for event in pages.iter().flat_map(|page| &page.events) {
            state.apply(event);
        }
        let orders = state.orders().iter().filter(|(_, order)| !order.is_active()).map(|(key, _)| key);
        let quotes = state.quotes().iter().filter(|(_, quote)| !quote.is_active()).map(|(key, _)| key);
        let past = pages.iter().flat_map(|page| &page.past);
        let days = Days {
            day: Some(end.trading_day),
            ended: orders.chain(quotes).cloned().collect(),
            old_trades: state.trades().keys().cloned().collect(),
            past: past.map(|p| (key_of(p), p.clone())).collect(),
            rolls: end.rolls.clone(),
            snapshots: end.earlier.iter().copied().chain([end.begins]).collect(),
        };
        (state, days)
    }
}

fn key_of(past: &PastOrder) -> OrderKey {
    OrderKey { owner: past.owner.clone(), orderid: past.orderid.clone() }
}

/// When an id was allocated, in milliseconds since 1970, if it tells: <https://www.rfc-editor.org/rfc/rfc9562#section-5.7>.
fn allocated(orderid: &OrderId) -> Option<i64> {
    let id: uuid::Uuid = orderid.as_str().parse().ok()?;
    let (seconds, nanos) = (id.get_version_num() == 7).then(|| id.get_timestamp())??.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
}

/// What stays of a state, and what is remembered of the rest.
fn roll(state: &OmsState, days: &Days, rolls: &[Timestamp], now: Timestamp) -> (Vec<OmsEvent>, Vec<PastOrder>) {
    let mut kept = Vec::new();
    // By which roll it was, not by when: clocks of successive leaders differ, and may step.
    let is_kept = |past: &&PastOrder| rolls.contains(&past.rolled);
    let mut past: Vec<PastOrder> = days.past.values().filter(is_kept).cloned().collect();
    for (key, order) in state.orders() {
        if order.is_active() || !days.ended.contains(key) {
            kept.push(OmsEvent::Order(order.clone()));
        } else if key.owner != OWNER_EXTERNAL {
            past.push(past_order(order, now));
        }
    }
    for (key, quote) in state.quotes() {
        if quote.is_active() || !days.ended.contains(key) {
            kept.push(OmsEvent::Quote(quote.clone()));
        } else if key.owner != OWNER_EXTERNAL {
            past.push(past_quote(quote, now));
        }
    }
    // A roll may be late: then trades of the day that ends now are in front of its snapshot too.
    let is_of_before = |trade: &Trade| trade.trading_day.is_none_or(|of| days.day.is_none_or(|day| of < day));
    let trades = state.trades().iter().filter(|(key, trade)| !days.old_trades.contains(key) || !is_of_before(trade));
    kept.extend(trades.map(|(_, trade)| OmsEvent::Trade(trade.clone())));
    kept.extend(state.positions().values().cloned().map(OmsEvent::Position));
    kept.extend(state.accounts().values().cloned().map(OmsEvent::Account));
    (kept, past)
}

fn past_order(order: &Order, now: Timestamp) -> PastOrder {
    let request = OrderRequest {
        orderid: order.orderid.clone(),
        symbol: order.symbol.clone(),
        exchange: order.exchange,
        direction: order.direction,
        r#type: order.r#type,
        volume: order.volume,
        price: order.price,
        offset: order.offset,
        reference: order.reference.clone(),
    };
    PastOrder {
        owner: order.owner.clone(),
        orderid: order.orderid.clone(),
        quote: false,
        fingerprint: fingerprint_order(&request),
        status: order.status,
        traded: [order.traded, 0.0],
        venue_reference: order.venue_reference.clone(),
        rolled: now,
    }
}

fn past_quote(quote: &Quote, now: Timestamp) -> PastOrder {
    let request = QuoteRequest {
        quoteid: quote.quoteid.clone(),
        symbol: quote.symbol.clone(),
        exchange: quote.exchange,
        bid_price: quote.bid_price,
        bid_volume: quote.bid_volume,
        ask_price: quote.ask_price,
        ask_volume: quote.ask_volume,
        bid_offset: quote.bid_offset,
        ask_offset: quote.ask_offset,
        reference: quote.reference.clone(),
    };
    PastOrder {
        owner: quote.owner.clone(),
        orderid: quote.quoteid.clone(),
        quote: true,
        fingerprint: fingerprint_quote(&request),
        status: quote.status,
        traded: [quote.bid_traded, quote.ask_traded],
        venue_reference: quote.venue_reference.clone(),
        rolled: now,
    }
}

/// The order that a past one was, as far as is kept; `None` if the request says something else than it did.
pub(super) fn past_answer(past: &PastOrder, request: &OrderRequest, gateway: &Name) -> Option<Order> {
    (!past.quote && past.fingerprint == fingerprint_order(request)).then(|| Order {
        status: past.status,
        traded: past.traded[0],
        venue_reference: past.venue_reference.clone(),
        ..request.to_order(gateway, &past.owner)
    })
}

/// As [`past_answer`], of a quote.
pub(super) fn past_quote_answer(past: &PastOrder, request: &QuoteRequest, gateway: &Name) -> Option<Quote> {
    (past.quote && past.fingerprint == fingerprint_quote(request)).then(|| Quote {
        status: past.status,
        bid_traded: past.traded[0],
        ask_traded: past.traded[1],
        venue_reference: past.venue_reference.clone(),
        ..request.to_quote(gateway, &past.owner)
    })
}

/// Splits what a snapshot holds into pages that fit a message.
fn pages(events: Vec<OmsEvent>, past: Vec<PastOrder>, subscriptions: Vec<(InstrumentId, Name)>) -> Vec<SnapshotPage> {
    /// About what a [`PastOrder`] or a subscription takes.
    const SMALL: usize = 256;
    let mut pages = vec![SnapshotPage::default()];
    let mut bytes = 0;
    let mut page_for = |pages: &mut Vec<SnapshotPage>, size: usize| {
        if bytes > 0 && bytes + size > PAGE_BYTES {
            pages.push(SnapshotPage::default());
            bytes = 0;
        }
        bytes += size;
        pages.len() - 1
    };
    for event in events {
        let size = protocol::codec::encode(&event).map_or(0, |bytes| bytes.len());
        let page = page_for(&mut pages, size);
        pages[page].events.push(event);
    }
    for order in past {
        let page = page_for(&mut pages, SMALL);
        pages[page].past.push(order);
    }
    for subscription in subscriptions {
        let page = page_for(&mut pages, SMALL);
        pages[page].subscriptions.push(subscription);
    }
    pages
}

impl Engine {
    /// A new trading day begins: not in the midst of a login, nor before everything is stored.
    pub(super) fn begin_day(&mut self, now: Now, out: &mut Effects) {
        let Some(day) = self.session.trading_day() else { return };
        // Everything before it is known to be stored: a reader that begins with a snapshot cannot see what is missing there.
        let is_calm = self.gateway_state() == GatewayState::Ready && self.journal_backlog() == 0 && !self.storage_full;
        if self.days.day == Some(day) || !is_calm {
            return;
        }
        let mut rolls = self.days.rolls.clone();
        rolls.push(now.wall);
        rolls.drain(..rolls.len().saturating_sub(self.options.keep_ids_days));
        let (events, past) = roll(&self.state, &self.days, &rolls, now.wall);
        let mut earlier = self.days.snapshots.clone();
        let too_many = (earlier.len() + 1).saturating_sub(self.options.keep_days);
        earlier.drain(..too_many);
        let pages = pages(events, past, self.subscriptions.all());
        let (halts, halt_entries) = self.journalled_halts();
        let end = SnapshotEnd {
            trading_day: day,
            begins: self.journal_seq + 1,
            pages: u32::try_from(pages.len()).unwrap_or(u32::MAX),
            time: now.wall,
            rolls,
            earlier,
            halts,
            halt_entries: Some(halt_entries),
        };
        let left = self.state.orders().len() + self.state.quotes().len();
        (self.state, self.days) = Days::restore(&pages, &end);
        let left = left - self.state.orders().len() - self.state.quotes().len();
        self.references = super::orders::references_of(&self.state, &self.days);
        for page in pages {
            self.record_private(Private::Snapshot(page), out);
        }
        self.record_private(Private::SnapshotEnd(end), out);
        self.snapshot_seq = self.journal_seq;
        // What came before the first snapshot ever counts as a day of its own.
        if too_many > 0
            && let Some(oldest) = self.days.snapshots.first()
        {
            out.push(Effect::Purge(*oldest));
        }
        self.log(now, LogLevel::Info, format!("trading day {day}: {left} orders of earlier days left the state"), out);
    }
}

/// What a journal rebuilds, entry by entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replayed {
    /// Trading state.
    pub state: OmsState,
    /// Days, and what is remembered of earlier ones.
    pub days: Days,
    /// Who wants which ticks.
    pub subscriptions: BTreeSet<(InstrumentId, Name)>,
    /// Who is halted, for earlier versions.
    pub halts: BTreeMap<Name, String>,
    /// The halts that concern the gateway; none where an earlier version wrote last.
    pub halt_entries: Option<Vec<HaltEntry>>,
    /// What was sent and cancelled.
    pub counters: Counters,
    /// Highest epoch seen.
    pub epoch: u64,
    /// Sequence of the last entry.
    pub journal_seq: u64,
    /// Sequence of the last snapshot's end.
    pub snapshot_seq: u64,
    /// Entries of a stale leader that were passed over.
    pub voided: u64,
    /// Pages whose end has not come yet.
    pages: Vec<SnapshotPage>,
    /// An entry of a stale leader has taken the place of one of the leader's.
    is_broken: bool,
}

impl Replayed {
    /// Takes in the next entry. Entries of a lower epoch behind a `LeaderStarted` are void. So is what follows them of the
    /// leader itself: one of them has taken the place of an entry of its, so it lacks its predecessor, and the leader has
    /// never relied on it.
    pub fn take(&mut self, journal_seq: u64, epoch: u64, entry: &Entry) {
        self.journal_seq = journal_seq;
        // It belongs to nobody; the `LeaderStarted` behind it says the rest.
        if matches!(entry, Entry::Private(Private::Fence { .. })) {
            return;
        }
        if epoch > self.epoch {
            self.is_broken = false;
        }
        self.is_broken |= epoch < self.epoch;
        if self.is_broken {
            self.voided += 1;
            self.pages.clear();
            return;
        }
        self.epoch = epoch;
        let pages = match entry {
            Entry::Private(Private::Snapshot(_) | Private::SnapshotEnd(_)) => std::mem::take(&mut self.pages),
            // Whatever comes between pages makes them none.
            _ => {
                self.pages.clear();
                Vec::new()
            }
        };
        let fills = match entry {
            Entry::Event(event) => NewFills::of(&event.data, &self.state),
            Entry::Private(_) => NewFills::default(),
        };
        match entry {
            Entry::Event(event) => {
                self.state.apply(&event.data);
            }
            Entry::Private(Private::LeaderStarted { epoch, .. }) => self.epoch = *epoch,
            Entry::Private(Private::Subscription { instrument, caller, wanted }) => {
                let subscription = (instrument.clone(), caller.clone());
                if *wanted {
                    self.subscriptions.insert(subscription);
                } else {
                    self.subscriptions.remove(&subscription);
                }
            }
            Entry::Private(Private::Halts { halts, entries }) => {
                self.halts.clone_from(halts);
                self.halt_entries.clone_from(entries);
            }
            Entry::Private(Private::CancelRequested { .. } | Private::Fence { .. }) => {}
            Entry::Private(Private::Snapshot(page)) => {
                self.pages = pages;
                self.pages.push(page.clone());
            }
            Entry::Private(Private::SnapshotEnd(end)) if pages.len() == end.pages as usize => {
                (self.state, self.days) = Days::restore(&pages, end);
                self.subscriptions = pages.into_iter().flat_map(|page| page.subscriptions).collect();
                self.halts.clone_from(&end.halts);
                self.halt_entries.clone_from(&end.halt_entries);
                self.snapshot_seq = journal_seq;
            }
            // It stands for nothing, not even for the end of a day's counts.
            Entry::Private(Private::SnapshotEnd(_)) => return,
        }
        self.counters.note(entry, fills);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, Offset, OrderStatus};

    fn time(day: u32) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(&format!("2024-01-{day:02}T21:00:00+08:00")).expect("a time")
    }

    fn request(id: &str) -> OrderRequest {
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut request = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3500.0, 1.0);
        request.orderid = OrderId::new(id);
        request
    }

    fn order(id: &str, status: OrderStatus) -> OmsEvent {
        OmsEvent::Order(Order { status, ..request(id).to_order(&"sim1".into(), &"default".into()) })
    }

    fn trade(id: &str) -> OmsEvent {
        let OmsEvent::Order(order) = order("o", OrderStatus::AllTraded) else { unreachable!() };
        OmsEvent::Trade(Trade {
            gateway_name: order.gateway_name,
            symbol: order.symbol,
            exchange: order.exchange,
            orderid: order.orderid,
            tradeid: id.into(),
            direction: order.direction,
            offset: order.offset,
            price: 3500.0,
            volume: 1.0,
            datetime: None,
            trading_day: None,
            reference: order.reference,
            owner: order.owner,
            traceid: None,
            extra: None,
        })
    }

    fn key(id: &str) -> OrderKey {
        OrderKey { owner: "default".into(), orderid: OrderId::new(id) }
    }

    /// Rolls as the engine does, over the wire.
    fn next_day(state: &OmsState, days: &Days, day: u32, kept: usize) -> (OmsState, Days) {
        let mut rolls = days.rolls.clone();
        rolls.push(time(day));
        rolls.drain(..rolls.len().saturating_sub(kept));
        let (events, past) = roll(state, days, &rolls, time(day));
        let pages = pages(events, past, Vec::new());
        let end = SnapshotEnd {
            trading_day: time(day).date_naive(),
            begins: u64::from(day),
            pages: u32::try_from(pages.len()).expect("few"),
            time: time(day),
            rolls,
            earlier: days.snapshots.clone(),
            halts: BTreeMap::new(),
            halt_entries: None,
        };
        Days::restore(&pages, &end)
    }

    #[test]
    fn what_ended_stays_for_one_day_more_and_its_id_for_some() {
        let mut state = OmsState::default();
        for event in [order("works", OrderStatus::NotTraded), order("done", OrderStatus::AllTraded), trade("t")] {
            state.apply(&event);
        }
        let (state, days) = next_day(&state, &Days::default(), 2, 2);
        assert!(state.order(&key("done")).is_some() && state.trades().len() == 1, "of the day that has just ended");
        let (state, days) = next_day(&state, &days, 12, 2);
        assert!(state.order(&key("works")).is_some(), "what works is never forgotten, however long a holiday is");
        assert!(state.order(&key("done")).is_none() && state.trades().is_empty());
        let past = days.past(&key("done")).expect("its id is kept");
        let again = past_answer(past, &request("done"), &"sim1".into()).expect("the same content");
        assert_eq!((again.status, again.orderid.as_str()), (OrderStatus::AllTraded, "done"));
        let other = OrderRequest { volume: 2.0, ..request("done") };
        assert!(past_answer(past, &other, &"sim1".into()).is_none());
        assert_eq!(days.check_present(&key("done"), 2).expect_err("told").code, ErrorCode::TooOld);
        let (state, days) = next_day(&state, &days, 13, 2);
        assert!(days.past(&key("done")).is_some());
        let (_, days) = next_day(&state, &days, 14, 2);
        assert!(days.past(&key("done")).is_none());
        assert_eq!(days.snapshots, [2, 12, 13, 14]);
    }

    #[test]
    fn an_id_of_a_forgotten_time_is_refused_and_a_new_one_is_not() {
        let old = |day| {
            let at = uuid::Timestamp::from_unix(uuid::NoContext, time(day).timestamp().unsigned_abs(), 0);
            OrderId::new(uuid::Uuid::new_v7(at).to_string())
        };
        let days = Days { rolls: vec![time(5), time(6)], ..Days::default() };
        assert_eq!(days.check_age(&old(4), 2).expect_err("refused").code, ErrorCode::TooOld);
        assert_eq!(days.check_age(&old(4), 3), Ok(()), "nothing was forgotten yet");
        assert_eq!(days.check_age(&old(5), 2), Ok(()));
        assert_eq!(days.check_age(&OrderId::generate(), 2), Ok(()));
        assert_eq!(days.check_age(&OrderId::new("my-own-1"), 2), Ok(()), "it does not tell its time");
    }

    #[test]
    fn a_snapshot_without_all_its_pages_changes_nothing() {
        let mut replayed = Replayed::default();
        replayed.take(
            1,
            1,
            &Entry::Event(Box::new(protocol::Event {
                gateway: "sim1".into(),
                epoch: 1,
                seq: 1,
                time: time(1),
                data: order("o", OrderStatus::NotTraded),
            })),
        );
        let end = |pages| {
            Entry::Private(Private::SnapshotEnd(SnapshotEnd {
                trading_day: time(1).date_naive(),
                begins: 2,
                pages,
                time: time(1),
                rolls: Vec::new(),
                earlier: Vec::new(),
                halts: BTreeMap::new(),
                halt_entries: None,
            }))
        };
        let page = Entry::Private(Private::Snapshot(SnapshotPage::default()));
        replayed.take(2, 1, &page);
        replayed.take(3, 1, &end(2));
        assert_eq!(replayed.state.orders().len(), 1, "a page is missing");
        replayed.take(4, 1, &page);
        let started = Private::LeaderStarted { epoch: 2, node: "n".into(), time: time(1), limits: None };
        replayed.take(5, 2, &Entry::Private(started));
        replayed.take(6, 2, &end(1));
        assert_eq!(replayed.state.orders().len(), 1, "the page was another leader's");
        replayed.take(7, 2, &page);
        replayed.take(8, 2, &end(1));
        assert_eq!((replayed.state.orders().len(), replayed.snapshot_seq), (0, 8));
    }

    #[test]
    fn a_late_roll_keeps_trades_of_the_day_that_goes_on() {
        let OmsEvent::Trade(of_today) = trade("t") else { unreachable!() };
        let mut state = OmsState::default();
        state.apply(&OmsEvent::Trade(Trade { trading_day: Some(time(2).date_naive()), ..of_today }));
        // The leader died at the roll; its successor takes the snapshot of the 2nd when there are trades of it already.
        let (state, days) = next_day(&state, &Days::default(), 2, 2);
        let (state, days) = next_day(&state, &days, 3, 2);
        assert_eq!(state.trades().len(), 1, "the venue still lists it: it would be told a second time");
        let (state, _) = next_day(&state, &days, 4, 2);
        assert_eq!(state.trades().len(), 0);
    }

    #[test]
    fn an_id_is_kept_by_the_roll_that_it_left_at_not_by_its_clock() {
        let mut state = OmsState::default();
        state.apply(&order("done", OrderStatus::AllTraded));
        // The first leader's clock is a week ahead of the others'.
        let (state, days) = next_day(&state, &Days::default(), 9, 3);
        let (state, days) = next_day(&state, &days, 2, 3);
        assert!(days.past(&key("done")).is_some());
        let (state, days) = next_day(&state, &days, 3, 3);
        assert!(days.past(&key("done")).is_some());
        let (state, days) = next_day(&state, &days, 4, 3);
        assert!(days.past(&key("done")).is_some());
        let (_, days) = next_day(&state, &days, 5, 3);
        assert!(days.past(&key("done")).is_none());
    }

    #[test]
    fn what_follows_a_stale_leaders_entry_is_void_until_somebody_else_leads() {
        let event = |epoch, id: &str| {
            Entry::Event(Box::new(protocol::Event {
                gateway: "sim1".into(),
                epoch,
                seq: 1,
                time: time(1),
                data: order(id, OrderStatus::NotTraded),
            }))
        };
        let started =
            |epoch| Entry::Private(Private::LeaderStarted { epoch, node: "n".into(), time: time(1), limits: None });
        let mut replayed = Replayed::default();
        let entries = [
            (1, started(1)),
            (1, event(1, "a")),
            (2, started(2)),
            (1, event(1, "stale")),
            (2, event(2, "lacks its predecessor")),
            (3, started(3)),
            (3, event(3, "b")),
        ];
        for (sequence, (epoch, entry)) in (1..).zip(&entries) {
            replayed.take(sequence, *epoch, entry);
        }
        let ids: Vec<&str> = replayed.state.orders().keys().map(|key| key.orderid.as_str()).collect();
        assert_eq!((ids, replayed.voided, replayed.journal_seq), (vec!["a", "b"], 2, 7));
    }

    #[test]
    fn large_snapshots_come_in_pages_that_fit() {
        let events: Vec<OmsEvent> = (0..3_000).map(|n| order(&format!("o{n}"), OrderStatus::NotTraded)).collect();
        let pages = pages(events, Vec::new(), Vec::new());
        assert!(pages.len() > 2);
        for page in &pages {
            assert!(protocol::codec::encode(page).expect("encodes").len() < PAGE_BYTES + 64 * 1024);
        }
        assert_eq!(pages.iter().map(|page| page.events.len()).sum::<usize>(), 3_000);
    }
}
