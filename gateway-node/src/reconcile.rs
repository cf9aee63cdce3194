//! The comparison of our state with everything the venue knows: a pure function that says which events close the
//! difference, and what is uncertain still.

mod told;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use protocol::defect::{Defect, is_planted};
use protocol::event::OmsEvent;
use protocol::oms::{OrderKey, PositionKey, TradeKey};
use protocol::{Direction, InstrumentId, Name, Order, OrderStatus, Position, Quote, Timestamp};

use crate::engine::Now;
use crate::gateway::{LivingSessions, VenueReference, VenueSnapshot, differ_in_day_alone};
use crate::risk::is_intent;

pub use told::{Books, Target};

/// The reason that an intent gets which the venue certainly never took.
pub const NEVER_ARRIVED: &str = "it never reached the venue";
/// The reason that a working order gets whose session is over and which the venue does not list.
pub const ENDED_WITH_SESSION: &str = "the venue ended its session and lists it no more";
/// The reason that an order of an earlier trading day gets, of which the venue's list tells no more: how it ended, and
/// whether it was filled since it was last heard of, nobody says.
pub const ENDED_WITH_DAY: &str = "its trading day is over, and the venue lists it no more; how it ended was not told";

/// A client's deadline further away than this does not keep its intent open: what was not handed to the venue by then
/// was given up long before.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// How far an intent had come on its way when the snapshot was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It waits behind this node's own gate: the venue cannot know it.
    Unsent,
    /// This engine handed it to the venue's adapter at this time of its own clock, which never jumps.
    Sent(Duration),
    /// It was journalled by an earlier leader, or in an earlier life of this node.
    Inherited,
}

/// Under what circumstances a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circumstances {
    /// When it was asked for: it may lack whatever reached the venue later.
    pub asked: Now,
    /// When its session began, on the clock that never jumps.
    pub session_since: Duration,
    /// How long a lease lasts: what was handed over before its deadline has arrived one lease later, or never will.
    pub lease: Duration,
}

/// What a complete snapshot of the venue says against our state.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // few at a time, and most are the large one
pub enum Difference {
    /// Apply and journal this. One that the state knows already changes nothing.
    Event(OmsEvent),
    /// The venue contradicts itself: a sentence for people, and nothing is changed.
    Contradiction(String),
    /// An intent that the venue does not list, and that may still be under way. A snapshot that is asked for at this
    /// time, on the clock that never jumps, will be certain.
    UnderWay(OrderKey, Duration),
    /// An order or quote that the venue had told of, of a session that may live, and that is not listed. Nothing certain
    /// follows: it stays as it is, people are told, and the venue is asked again.
    Missing(OrderKey),
}

/// Compares. The venue's own words come first, in its order, then what follows from its silence.
///
/// Only a complete snapshot may be passed. What it lists is true, whatever was thought before: a late acceptance reopens
/// an order that was taken for refused. What it lacks is decided only where nothing can be under way any more:
///
/// - What is not listed and whose trades are listed was there: a venue may forget a finished order before its trades.
/// - Of a session that the venue has ended, intents were never accepted, and orders do not work. Nor do those of an earlier
///   trading day; but the list tells of the day alone, so what became of them remains unsaid.
/// - Otherwise an intent of which the venue has told nothing is certain to have been lost one lease after its deadline, by
///   the clock that the deadline was set on and by the one that never jumps. What it had told of is missing.
/// - Positions that are not listed are flat.
pub fn compare(
    books: Books<'_>,
    snapshot: &VenueSnapshot,
    circumstances: &Circumstances,
    way: impl Fn(&OrderKey) -> Way,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    listed(books, snapshot, &mut differences);
    let references = snapshot.orders.iter().map(|o| &o.reference).chain(snapshot.quotes.iter().map(|q| &q.reference));
    let silence = Silence { listed: references.collect(), fills: fills(snapshot), snapshot, circumstances };
    for order in books.state.active_orders() {
        let key = OrderKey::from(order);
        let reference = order.venue_reference.as_ref();
        let Some(unlisted) = silence.unlisted(reference, &order.instrument(), || way(&key)) else { continue };
        if unlisted.is_over && silence.is_listed_under_another_day(order) {
            differences.push(Difference::Missing(key));
            continue;
        }
        let [bought, sold] = unlisted.fills;
        let traded = order.traded.max(bought + sold);
        let fate = silence.fate(&unlisted, order.status, order.deadline, traded >= order.volume);
        differences.push(fate.difference(&key, |status, reason| {
            OmsEvent::Order(Order { status, reason, traded, deadline: None, ..order.clone() })
        }));
    }
    for quote in books.state.active_quotes() {
        let key = OrderKey::from(quote);
        let reference = quote.venue_reference.as_ref();
        let Some(unlisted) = silence.unlisted(reference, &quote.instrument(), || way(&key)) else { continue };
        let [bought, sold] = unlisted.fills;
        let (bid_traded, ask_traded) = (quote.bid_traded.max(bought), quote.ask_traded.max(sold));
        let is_filled = bid_traded >= quote.bid_volume && ask_traded >= quote.ask_volume;
        let fate = silence.fate(&unlisted, quote.status, quote.deadline, is_filled);
        differences.push(fate.difference(&key, |status, reason| {
            OmsEvent::Quote(Quote { status, reason, bid_traded, ask_traded, deadline: None, ..quote.clone() })
        }));
    }
    let held: HashSet<PositionKey> = snapshot.positions.iter().map(PositionKey::from).collect();
    let gone = books
        .state
        .positions()
        .iter()
        .filter(|(key, position)| !held.contains(key) && (position.volume != 0.0 || position.frozen != 0.0));
    differences.extend(gone.map(|(_, position)| {
        let flat = Position { volume: 0.0, frozen: 0.0, yd_volume: 0.0, pnl: 0.0, ..position.clone() };
        Difference::Event(OmsEvent::Position(flat))
    }));
    differences
}

/// What the venue itself says that the state does not know. Positions and accounts are passed on even where the state
/// agrees: a mark to market of theirs may be waiting, and would bring back what is over.
fn listed(books: Books<'_>, snapshot: &VenueSnapshot, differences: &mut Vec<Difference>) {
    let mut take = |event: Result<Option<OmsEvent>, String>| match event {
        Ok(Some(event)) if is_known(books, &event) => {}
        Ok(Some(event)) => differences.push(Difference::Event(event)),
        Ok(None) => {}
        Err(line) => differences.push(Difference::Contradiction(line)),
    };
    snapshot.orders.iter().for_each(|order| take(books.order(order)));
    snapshot.quotes.iter().for_each(|quote| take(books.quote(quote)));
    snapshot.trades.iter().for_each(|trade| take(Ok(Some(books.trade(trade)))));
    let positions = snapshot.positions.iter().cloned().map(OmsEvent::Position);
    let accounts = snapshot.accounts.iter().cloned().map(OmsEvent::Account);
    differences.extend(positions.chain(accounts).map(Difference::Event));
}

fn is_known(books: Books<'_>, event: &OmsEvent) -> bool {
    match event {
        OmsEvent::Order(order) => books.state.order(&order.into()) == Some(order),
        OmsEvent::Quote(quote) => books.state.quote(&quote.into()) == Some(quote),
        OmsEvent::Trade(trade) => books.state.trades().contains_key(&TradeKey::from(trade)),
        OmsEvent::Position(_) | OmsEvent::Account(_) => false,
    }
}

/// Lots bought and sold by the trades that are listed, by the reference of their order or quote and by what was traded:
/// a combination's trades are of its legs.
type Fills<'a> = HashMap<(&'a VenueReference, &'a InstrumentId), [f64; 2]>;

fn fills(snapshot: &VenueSnapshot) -> Fills<'_> {
    let mut fills = Fills::new();
    for trade in &snapshot.trades {
        let [bought, sold] = fills.entry((&trade.reference, &trade.instrument)).or_default();
        *(if trade.direction == Direction::Short { sold } else { bought }) += trade.volume;
    }
    fills
}

/// What follows for an order or a quote that is not listed.
enum Fate {
    Filled,
    /// It does not work and never will: how it is told, and why.
    Ended(OrderStatus, &'static str),
    UnderWay(Duration),
    Missing,
}

impl Fate {
    fn difference(self, key: &OrderKey, end: impl FnOnce(OrderStatus, Option<String>) -> OmsEvent) -> Difference {
        match self {
            Fate::Filled => Difference::Event(end(OrderStatus::AllTraded, None)),
            Fate::Ended(status, reason) => Difference::Event(end(status, Some(reason.to_owned()))),
            Fate::UnderWay(until) => Difference::UnderWay(key.clone(), until),
            Fate::Missing => Difference::Missing(key.clone()),
        }
    }
}

/// What the snapshot does not say.
struct Silence<'a> {
    listed: HashSet<&'a VenueReference>,
    fills: Fills<'a>,
    snapshot: &'a VenueSnapshot,
    circumstances: &'a Circumstances,
}

/// An order or a quote that the venue could list, and does not.
struct Unlisted {
    way: Way,
    /// Its session cannot live any more.
    is_over: bool,
    /// Lots bought and sold by trades of its instrument that are listed.
    fills: [f64; 2],
    /// Trades of it are listed, if only of its legs.
    has_trades: bool,
}

impl Silence<'_> {
    /// `None`: it is listed, or the venue cannot know it yet.
    fn unlisted(
        &self,
        reference: Option<&Name>,
        instrument: &InstrumentId,
        way: impl FnOnce() -> Way,
    ) -> Option<Unlisted> {
        let reference = reference.and_then(|text| text.parse::<VenueReference>().ok());
        if reference.as_ref().is_some_and(|reference| self.listed.contains(reference)) {
            return None;
        }
        let way = way();
        if way == Way::Unsent {
            return None;
        }
        let fills = reference.as_ref().and_then(|reference| self.fills.get(&(reference, instrument)));
        let fills = fills.copied().unwrap_or_default();
        let session = reference.as_ref().map(|reference| reference.session.as_str());
        let is_over = !self.snapshot.living.includes(&self.snapshot.session, session);
        let has_trades =
            reference.is_some_and(|reference| self.snapshot.trades.iter().any(|t| t.reference == reference));
        Some(Unlisted { way, is_over, fills, has_trades })
    }

    /// Whether an order is listed that differs from this one in its session's trading day alone: the day has turned within
    /// the session, and whoever sent it knew it under the old one. It may be this one, and work.
    fn is_listed_under_another_day(&self, order: &Order) -> bool {
        let reference = order.venue_reference.as_ref().and_then(|text| text.parse::<VenueReference>().ok());
        reference.is_some_and(|reference| {
            self.snapshot.orders.iter().any(|listed| {
                listed.reference.number == reference.number
                    && differ_in_day_alone(&listed.reference.session, &reference.session)
                    && listed.instrument == order.instrument()
                    && (listed.direction, listed.volume) == (order.direction, order.volume)
            })
        })
    }

    fn fate(&self, unlisted: &Unlisted, status: OrderStatus, deadline: Option<Timestamp>, is_filled: bool) -> Fate {
        if is_filled {
            return Fate::Filled;
        }
        let has_arrived = unlisted.has_trades || !is_intent(status, deadline);
        if unlisted.is_over {
            return self.ended(has_arrived);
        }
        if has_arrived {
            return Fate::Missing;
        }
        let certain_from = self.certain_from(deadline, unlisted.way);
        if self.circumstances.asked.mono >= certain_from || is_planted(Defect::Reconcile) {
            Fate::Ended(OrderStatus::Rejected, NEVER_ARRIVED)
        } else {
            Fate::UnderWay(certain_from)
        }
    }

    /// The end with the session. An intent is taken for refused: should the venue have it after all, its word reopens it.
    fn ended(&self, has_arrived: bool) -> Fate {
        let is_of_past_day = matches!(self.snapshot.living, LivingSessions::SinceDay(_));
        match (has_arrived, is_of_past_day) {
            (true, false) => Fate::Ended(OrderStatus::Cancelled, ENDED_WITH_SESSION),
            (true, true) => Fate::Ended(OrderStatus::Cancelled, ENDED_WITH_DAY),
            (false, false) => Fate::Ended(OrderStatus::Rejected, NEVER_ARRIVED),
            (false, true) => Fate::Ended(OrderStatus::Rejected, ENDED_WITH_DAY),
        }
    }

    /// From when on, on the clock that never jumps, a snapshot that is asked for would list the intent if it had arrived.
    fn certain_from(&self, deadline: Option<Timestamp>, way: Way) -> Duration {
        let Circumstances { asked, session_since, lease } = self.circumstances;
        let last_seen = match way {
            Way::Sent(at) => at,
            Way::Unsent | Way::Inherited => *session_since,
        };
        let deadline = deadline.map_or(Duration::ZERO, |deadline| {
            let left = deadline.timestamp_millis().saturating_sub(asked.millis());
            let distance = Duration::from_millis(left.unsigned_abs());
            if left < 0 { asked.mono.saturating_sub(distance) } else { asked.mono.saturating_add(distance) }
        });
        deadline.clamp(last_seen, last_seen + LONGEST_DEADLINE) + *lease
    }
}

#[cfg(test)]
mod tests;
