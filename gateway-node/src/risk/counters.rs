//! How much was sent and cancelled, by whom and when. Everything here is taken from journal entries, so that a successor
//! which replays the journal counts as its predecessor did.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::event::OmsEvent;
use protocol::journal::{Entry, Private};
use protocol::oms::PositionKey;
use protocol::{Direction, InstrumentId, Name, Offset, OrderStatus, Timestamp, Trade};

use super::Leg;
use super::limits::{LONGEST_WINDOW, MOST_PER_SECOND};

/// Orders, and cancels, that are remembered one by one, of each owner and of the gateway; the oldest go first. More
/// than any rate that can be configured.
const REMEMBERED: usize = 16_384;
const _: () = assert!(REMEMBERED > MOST_PER_SECOND as usize);

const SECOND: i64 = 1_000_000;

/// See the module. All of it begins anew with the trading day's snapshot: the counts of the day because they are the
/// day's, and the last minute because a replay begins there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    gateway: Activity,
    owners: BTreeMap<Name, Activity>,
    /// What was traded since the venue last told of a position.
    untold: BTreeMap<PositionKey, Untold>,
    /// Of the newest event, in microseconds.
    latest: i64,
}

/// Lots by which a position differs from what the venue last told of it; what was closed is negative.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Untold {
    /// All of it.
    pub volume: f64,
    /// Lots of earlier days among it, where the exchange closes those separately.
    pub yd_volume: f64,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Activity {
    orders_today: u64,
    cancels_today: u64,
    /// When, and what each order was, see [`fingerprint`]. Oldest first.
    orders: VecDeque<(i64, u64)>,
    cancels: VecDeque<(i64, u64)>,
}

impl Counters {
    /// Takes in an entry, as it is emitted or replayed.
    ///
    /// An order counts once: when it is journalled as an intent, which is what carries a deadline. One that risk
    /// refused never was one.
    pub fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Event(event) => {
                let at = event.time.timestamp_micros();
                self.move_to(at);
                match &event.data {
                    OmsEvent::Order(order) if is_intent(order.status, order.deadline) => {
                        self.count_orders(
                            at,
                            &order.owner,
                            &Leg::of_working(order).map(|leg| fingerprint(&order.instrument(), &leg)),
                        );
                    }
                    OmsEvent::Quote(quote) if is_intent(quote.status, quote.deadline) => {
                        let legs = Leg::of_working_quote(quote).map(|leg| fingerprint(&quote.instrument(), &leg));
                        self.count_orders(at, &quote.owner, &legs);
                    }
                    OmsEvent::Trade(trade) => {
                        let (key, lots) = effect_of(trade);
                        let untold = self.untold.entry(key).or_default();
                        untold.volume += lots;
                        if trade.exchange.closes_today_separately()
                            && matches!(trade.offset, Offset::Close | Offset::CloseYesterday)
                        {
                            untold.yd_volume += lots;
                        }
                    }
                    OmsEvent::Position(position) => drop(self.untold.remove(&position.into())),
                    OmsEvent::Order(_) | OmsEvent::Quote(_) | OmsEvent::Account(_) => {}
                }
            }
            Entry::Private(Private::CancelRequested { owner, time, .. }) => {
                let at = time.timestamp_micros();
                self.move_to(at);
                for activity in [&mut self.gateway, self.owners.entry(owner.clone()).or_default()] {
                    activity.cancels_today += 1;
                    remember(&mut activity.cancels, at, 0);
                }
            }
            Entry::Private(Private::SnapshotEnd(_)) => *self = Counters::default(),
            Entry::Private(_) => {}
        }
    }

    fn count_orders(&mut self, at: i64, owner: &Name, fingerprints: &[u64]) {
        for activity in [&mut self.gateway, self.owners.entry(owner.clone()).or_default()] {
            for fingerprint in fingerprints {
                activity.orders_today += 1;
                remember(&mut activity.orders, at, *fingerprint);
            }
        }
    }

    /// Time goes on. If the node's clock was set back, what lies in its future happened just now: or it would count
    /// until the clock has caught up.
    fn move_to(&mut self, at: i64) {
        if at < self.latest {
            for activity in self.owners.values_mut().chain([&mut self.gateway]) {
                for list in [&mut activity.orders, &mut activity.cancels] {
                    list.iter_mut().rev().take_while(|(time, _)| *time > at).for_each(|(time, _)| *time = at);
                }
            }
        }
        self.latest = at;
    }

    fn activity(&self, owner: Option<&Name>) -> Option<&Activity> {
        owner.map_or(Some(&self.gateway), |owner| self.owners.get(owner))
    }

    /// Orders within the last second; of all owners without one.
    #[must_use]
    pub fn orders_in_a_second(&self, owner: Option<&Name>, now: Timestamp) -> usize {
        self.activity(owner).map_or(0, |a| within(&a.orders, SECOND, now).count())
    }

    /// Cancels within the last second; of all owners without one.
    #[must_use]
    pub fn cancels_in_a_second(&self, owner: Option<&Name>, now: Timestamp) -> usize {
        self.activity(owner).map_or(0, |a| within(&a.cancels, SECOND, now).count())
    }

    /// Orders of this trading day; of all owners without one.
    #[must_use]
    pub fn orders_today(&self, owner: Option<&Name>) -> u64 {
        self.activity(owner).map_or(0, |a| a.orders_today)
    }

    /// Cancels of this trading day; of all owners without one.
    #[must_use]
    pub fn cancels_today(&self, owner: Option<&Name>) -> u64 {
        self.activity(owner).map_or(0, |a| a.cancels_today)
    }

    /// How many orders of this owner were like this one within so many seconds; `None` if there were more orders than
    /// are remembered.
    #[must_use]
    pub fn alike(&self, owner: &Name, what: &InstrumentId, leg: &Leg, seconds: u32, now: Timestamp) -> Option<usize> {
        let Some(activity) = self.owners.get(owner) else { return Some(0) };
        let wanted = fingerprint(what, leg);
        let window = i64::from(seconds.min(LONGEST_WINDOW)) * SECOND;
        let (mut seen, mut alike) = (0, 0);
        for (_, fingerprint) in within(&activity.orders, window, now) {
            seen += 1;
            alike += usize::from(*fingerprint == wanted);
        }
        (seen < REMEMBERED).then_some(alike)
    }

    /// What was traded since the venue last told of this position.
    #[must_use]
    pub fn untold(&self, position: &PositionKey) -> Untold {
        self.untold.get(position).copied().unwrap_or_default()
    }
}

fn remember(list: &mut VecDeque<(i64, u64)>, at: i64, what: u64) {
    let oldest = at - i64::from(LONGEST_WINDOW) * SECOND;
    while list.len() >= REMEMBERED || list.front().is_some_and(|(time, _)| *time < oldest) {
        list.pop_front();
    }
    list.push_back((at, what));
}

fn within(list: &VecDeque<(i64, u64)>, window: i64, now: Timestamp) -> impl Iterator<Item = &(i64, u64)> {
    let after = now.timestamp_micros() - window;
    list.iter().rev().take_while(move |(time, _)| *time > after)
}

fn is_intent(status: OrderStatus, deadline: Option<Timestamp>) -> bool {
    status == OrderStatus::Submitting && deadline.is_some()
}

/// Stands for what an order is, but for its id.
fn fingerprint(instrument: &InstrumentId, leg: &Leg) -> u64 {
    let mut hasher = DefaultHasher::new();
    // To the millionth: what differs by less than any price step is the same.
    let rounded = |value: f64| (value * 1e6).round() as i64;
    (instrument, leg.direction, leg.offset, rounded(leg.volume), leg.price.map(rounded)).hash(&mut hasher);
    hasher.finish()
}

/// Which position a trade changes, and by how many lots. A trade without an offset is one of a venue that nets.
fn effect_of(trade: &Trade) -> (PositionKey, f64) {
    let buys = trade.direction == Direction::Long;
    let (direction, lots) = match trade.offset {
        Offset::None => (Direction::Net, if buys { trade.volume } else { -trade.volume }),
        Offset::Open => (trade.direction, trade.volume),
        Offset::Close | Offset::CloseToday | Offset::CloseYesterday => (trade.direction.opposite(), -trade.volume),
    };
    (PositionKey { symbol: trade.symbol.clone(), exchange: trade.exchange, direction }, lots)
}
