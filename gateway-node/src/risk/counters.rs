//! How much was sent and cancelled, by whom and when. Everything here is taken from journal entries, so that a successor
//! which replays the journal counts as its predecessor did.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::event::OmsEvent;
use protocol::journal::{Entry, Private};
use protocol::oms::{OrderKey, PositionKey};
use protocol::{Direction, InstrumentId, Name, Offset, OmsState, OrderStatus, Timestamp};

use super::Leg;
use super::limits::{LONGEST_WINDOW, MOST_PER_SECOND};

/// Orders, and cancels, that are remembered one by one, of each owner and of the gateway; the oldest go first. More
/// than any rate that can be configured.
const REMEMBERED: usize = 16_384;
const _: () = assert!(REMEMBERED > MOST_PER_SECOND as usize);

const SECOND: i64 = 1_000_000;

/// Fewer lots than any venue trades: what sums of fractions differ by.
const NO_LOTS: f64 = 1e-9;

/// See the module. All of it begins anew with the trading day's snapshot: the counts of the day because they are the
/// day's, and the last minute because a replay begins there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    gateway: Activity,
    owners: BTreeMap<Name, Activity>,
    /// What was filled since the venue last told of a position.
    untold: BTreeMap<PositionKey, Untold>,
    /// Orders, and sides of quotes, whose own events and whose trades do not tell of the same fills yet: by how many lots
    /// the former are ahead of the latter. What both have told of is not kept, so these are few. By instrument: a
    /// combination's trades are of its legs.
    ahead: BTreeMap<(OrderKey, InstrumentId, Direction), f64>,
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

/// Lots bought and sold that an order's or a quote's own event is the first of its kind to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NewFills {
    bought: f64,
    sold: f64,
}

impl NewFills {
    /// What is new in an event to a state that has not taken it in yet.
    #[must_use]
    pub fn of(event: &OmsEvent, before: &OmsState) -> NewFills {
        match event {
            OmsEvent::Order(order) => {
                let known = before.order(&order.into()).map_or(0.0, |known| known.traded);
                let new = (order.traded - known).max(0.0);
                match order.direction {
                    Direction::Short => NewFills { bought: 0.0, sold: new },
                    Direction::Long | Direction::Net => NewFills { bought: new, sold: 0.0 },
                }
            }
            OmsEvent::Quote(quote) => {
                let known = before.quote(&quote.into());
                let (bought, sold) = known.map_or((0.0, 0.0), |known| (known.bid_traded, known.ask_traded));
                NewFills { bought: (quote.bid_traded - bought).max(0.0), sold: (quote.ask_traded - sold).max(0.0) }
            }
            OmsEvent::Trade(_) | OmsEvent::Position(_) | OmsEvent::Account(_) => NewFills::default(),
        }
    }

    fn on(self, side: Direction) -> f64 {
        if side == Direction::Short { self.sold } else { self.bought }
    }
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
    /// Takes in an entry, as it is emitted or replayed, and what was new in it.
    ///
    /// An order counts once: when it is journalled as an intent, which is what carries a deadline. One that risk
    /// refused never was one.
    ///
    /// A fill counts once too, with whichever tells of it first: the order's event or the trade. Venues tell the order
    /// first, and it works no longer from then on: were only trades counted, its lots would be nowhere in between.
    pub fn note(&mut self, entry: &Entry, new: NewFills) {
        match entry {
            Entry::Event(event) => {
                let at = event.time.timestamp_micros();
                self.move_to(at);
                match &event.data {
                    OmsEvent::Order(order) => {
                        let legs = Leg::of_working(order);
                        if is_intent(order.status, order.deadline) {
                            self.count_orders(at, &order.owner, &order.instrument(), &legs);
                        }
                        self.count_told(&order.into(), &order.instrument(), &legs, new);
                    }
                    OmsEvent::Quote(quote) => {
                        let legs = Leg::of_working_quote(quote);
                        if is_intent(quote.status, quote.deadline) {
                            self.count_orders(at, &quote.owner, &quote.instrument(), &legs);
                        }
                        self.count_told(&quote.into(), &quote.instrument(), &legs, new);
                    }
                    OmsEvent::Trade(trade) => {
                        let key = OrderKey { owner: trade.owner.clone(), orderid: trade.orderid.clone() };
                        let first = self.run_ahead((key, trade.instrument(), trade.direction), -trade.volume);
                        self.count_filled(&trade.instrument(), trade.direction, trade.offset, first);
                    }
                    OmsEvent::Position(position) => {
                        let key = PositionKey::from(position);
                        self.untold.retain(|untold, _| !tells(&key, untold));
                    }
                    OmsEvent::Account(_) => {}
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

    fn count_orders(&mut self, at: i64, owner: &Name, instrument: &InstrumentId, legs: &[Leg]) {
        for activity in [&mut self.gateway, self.owners.entry(owner.clone()).or_default()] {
            for leg in legs {
                activity.orders_today += 1;
                remember(&mut activity.orders, at, fingerprint(instrument, leg));
            }
        }
    }

    /// What an order's or a quote's own event says is filled.
    fn count_told(&mut self, key: &OrderKey, instrument: &InstrumentId, legs: &[Leg], new: NewFills) {
        for leg in legs {
            let lots = new.on(leg.direction);
            if lots > 0.0 {
                let first = self.run_ahead((key.clone(), instrument.clone(), leg.direction), lots);
                self.count_filled(instrument, leg.direction, leg.offset, first);
            }
        }
    }

    /// An order's own events tell of so many lots more; if negative, its trades do. How many of them are told for the
    /// first time.
    fn run_ahead(&mut self, side: (OrderKey, InstrumentId, Direction), by: f64) -> f64 {
        let was = self.ahead.remove(&side).unwrap_or(0.0);
        if (was + by).abs() > NO_LOTS {
            self.ahead.insert(side, was + by);
        }
        let told = if by < 0.0 { was.clamp(0.0, -by) } else { (-was).clamp(0.0, by) };
        by.abs() - told
    }

    fn count_filled(&mut self, instrument: &InstrumentId, direction: Direction, offset: Offset, lots: f64) {
        if lots <= NO_LOTS {
            return;
        }
        let (key, lots) = effect_of(instrument, direction, offset, lots);
        let is_of_yesterday =
            key.exchange.closes_today_separately() && matches!(offset, Offset::Close | Offset::CloseYesterday);
        let untold = self.untold.entry(key).or_default();
        untold.volume += lots;
        if is_of_yesterday {
            untold.yd_volume += lots;
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

    /// What was filled since the venue last told of this position.
    #[must_use]
    pub fn untold(&self, position: &PositionKey) -> Untold {
        self.untold.get(position).copied().unwrap_or_default()
    }

    /// Whether there is something that the venue has not told of this position: it is news then, even if it is no other
    /// than before.
    #[must_use]
    pub fn is_news(&self, position: &PositionKey) -> bool {
        self.untold_positions().any(|untold| tells(position, untold))
    }

    /// Positions that differ from what the venue last told of them.
    pub fn untold_positions(&self) -> impl Iterator<Item = &PositionKey> {
        self.untold.iter().filter(|(_, untold)| **untold != Untold::default()).map(|(key, _)| key)
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

/// Whether the venue has told nothing of it yet: every intent carries a deadline, and the venue's first word drops it.
pub(crate) fn is_intent(status: OrderStatus, deadline: Option<Timestamp>) -> bool {
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

/// Which position a fill changes, and by how many lots. One without an offset is of a venue that nets.
fn effect_of(instrument: &InstrumentId, direction: Direction, offset: Offset, lots: f64) -> (PositionKey, f64) {
    let (side, lots) = match offset {
        Offset::None => (Direction::Net, if direction == Direction::Long { lots } else { -lots }),
        Offset::Open => (direction, lots),
        Offset::Close | Offset::CloseToday | Offset::CloseYesterday => (direction.opposite(), -lots),
    };
    (PositionKey { symbol: instrument.symbol.clone(), exchange: instrument.exchange, direction: side }, lots)
}

/// Whether what the venue tells of one position is the last word on another: a net position is that of both sides.
#[must_use]
pub fn tells(position: &PositionKey, of: &PositionKey) -> bool {
    position.symbol == of.symbol
        && position.exchange == of.exchange
        && (position.direction == of.direction || position.direction == Direction::Net)
}
