//! The border to a venue: the `Gateway` trait, what a venue says, and the two queues it says it through.
//!
//! An adapter speaks in the venue's own references; owners, order ids and the journal are none of its business.

#[cfg(test)]
mod conformance;
pub mod ctp;
mod living;
pub mod sim;
pub mod tick_queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::{
    Account, Bar, Contract, Direction, HistoryRequest, InstrumentId, LogLevel, Name, Offset, OrderRequest, OrderStatus,
    OrderType, Position, QuoteRequest, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::risk::Approved;
pub use living::{LivingSessions, differ_in_day_alone};
pub use tick_queue::{SequencedTick, TickQueue};

/// One venue connection. Commands go in and return at once; everything the venue says comes out through the
/// [`VenueSink`] that the adapter was built with. An `Err` means that the command never left this process.
///
/// Connecting again after a loss is the engine's decision: an adapter says `Disconnected` and waits for `connect`.
pub trait Gateway: Send {
    /// Logs in. The outcome is [`VenueEvent::Connected`], [`VenueEvent::Disconnected`] or [`VenueEvent::Refused`].
    fn connect(&mut self, start: SessionStart) -> Result<(), GatewayError>;
    /// Logs out; nothing more comes from the session.
    fn disconnect(&mut self);
    /// Asks for these instruments' ticks.
    fn subscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError>;
    /// Stops these instruments' ticks.
    fn unsubscribe(&mut self, instruments: &[InstrumentId]) -> Result<(), GatewayError>;
    /// Sends an order under the reference. Fails if the session is not the one that the reference belongs to.
    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError>;
    /// Cancels the order of this reference, whatever session it was sent in.
    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError>;
    /// Sends a two-sided quote under the reference.
    fn submit_quote(&mut self, reference: &VenueReference, quote: &Approved<QuoteRequest>) -> Result<(), GatewayError>;
    /// Cancels the quote of this reference.
    fn cancel_quote(&mut self, reference: &VenueReference) -> Result<(), GatewayError>;
    /// Asks for bars; answered by [`VenueEvent::Answer`] with the same token.
    fn query_history(&mut self, token: QueryToken, request: &HistoryRequest) -> Result<(), GatewayError>;
    /// Asks for the account afresh; account events come first, then [`VenueEvent::Answer`].
    fn query_account(&mut self, token: QueryToken) -> Result<(), GatewayError>;
    /// Asks for the positions afresh; position events come first, then [`VenueEvent::Answer`].
    fn query_position(&mut self, token: QueryToken) -> Result<(), GatewayError>;
    /// Asks for everything at once: answered by [`VenueEvent::Snapshot`].
    fn request_snapshot(&mut self) -> Result<(), GatewayError>;
    /// Ends the session and frees what the adapter holds (threads are joined). Called once, last.
    fn close(&mut self);
}

/// Names a query, so that its answer finds who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueryToken(pub u64);

/// What a venue calls an order or a quote: a number that counts within a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VenueReference {
    /// The venue's name of the session; it never comes again. Holds no `/`.
    pub session: Name,
    /// Counts up within the session.
    pub number: u64,
}

impl std::fmt::Display for VenueReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.session, self.number)
    }
}

impl std::str::FromStr for VenueReference {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (session, number) = text.rsplit_once('/').unwrap_or(("", text));
        Ok(VenueReference { session: session.into(), number: number.parse()? })
    }
}

impl From<VenueReference> for String {
    fn from(reference: VenueReference) -> String {
        reference.to_string()
    }
}

impl TryFrom<String> for VenueReference {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What a new session begins with. A venue that lives inside this process has lost its books with the last process;
/// it resumes from what the journal remembers. A real venue knows better and ignores both.
#[derive(Debug, Clone, Default)]
pub struct SessionStart {
    /// The leadership epoch: higher at each start of the node.
    pub epoch: u64,
    /// Positions as last journalled.
    pub positions: Vec<Position>,
    /// Accounts as last journalled.
    pub accounts: Vec<Account>,
}

/// Why a command did not leave this process.
///
/// Between processes it travels as its text, and arrives as `Refused`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Not logged in.
    #[error("not logged in at the venue")]
    NotConnected,
    /// The reference belongs to an earlier session.
    #[error("the session changed since the reference was allocated")]
    SessionChanged,
    /// The adapter's own queue is full.
    #[error("the venue adapter's command queue is full")]
    Busy,
    /// The venue has no such function.
    #[error("the venue does not support {0}")]
    NotSupported(&'static str),
    /// Refused before sending, in the adapter's words.
    #[error("{0}")]
    Refused(String),
}

impl Serialize for GatewayError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GatewayError {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(GatewayError::Refused)
    }
}

/// An order as the venue sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VenueOrder {
    /// The venue's reference.
    pub reference: VenueReference,
    /// Instrument.
    pub instrument: InstrumentId,
    /// How it executes.
    pub order_type: OrderType,
    /// Buy or sell.
    pub direction: Direction,
    /// Opens or closes.
    pub offset: Offset,
    /// Limit price or trigger.
    pub price: Option<f64>,
    /// Volume, in lots.
    pub volume: f64,
    /// Filled so far, in lots.
    pub traded: f64,
    /// State.
    pub status: OrderStatus,
    /// The venue's time of acceptance.
    pub datetime: Option<Timestamp>,
    /// Why it was rejected or cancelled.
    pub reason: Option<String>,
}

/// A fill as the venue sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VenueTrade {
    /// Reference of the order, or of the quote.
    pub reference: VenueReference,
    /// The venue's id, unique within trading day, exchange and direction.
    pub tradeid: Name,
    /// Instrument.
    pub instrument: InstrumentId,
    /// Bought or sold.
    pub direction: Direction,
    /// Opened or closed.
    pub offset: Offset,
    /// Price.
    pub price: f64,
    /// Volume, in lots.
    pub volume: f64,
    /// The venue's time.
    pub datetime: Option<Timestamp>,
    /// Trading day.
    pub trading_day: Option<chrono::NaiveDate>,
}

/// A two-sided quote as the venue sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VenueQuote {
    /// The venue's reference.
    pub reference: VenueReference,
    /// Instrument.
    pub instrument: InstrumentId,
    /// Price to buy at.
    pub bid_price: f64,
    /// Volume to buy, in lots.
    pub bid_volume: f64,
    /// Price to sell at.
    pub ask_price: f64,
    /// Volume to sell, in lots.
    pub ask_volume: f64,
    /// Whether buying opens or closes.
    pub bid_offset: Offset,
    /// Whether selling opens or closes.
    pub ask_offset: Offset,
    /// Bought so far, in lots.
    pub bid_traded: f64,
    /// Sold so far, in lots.
    pub ask_traded: f64,
    /// State.
    pub status: OrderStatus,
    /// The venue's time of acceptance.
    pub datetime: Option<Timestamp>,
    /// Why it was rejected or cancelled.
    pub reason: Option<String>,
}

/// Everything the venue knows of this trading day, for reconciling.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VenueSnapshot {
    /// The session that it was taken in.
    pub session: Name,
    /// Orders of the day, finished ones included.
    pub orders: Vec<VenueOrder>,
    /// Trades of the day.
    pub trades: Vec<VenueTrade>,
    /// Quotes of the day.
    pub quotes: Vec<VenueQuote>,
    /// Positions.
    pub positions: Vec<Position>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Which sessions' orders may still work though they are not listed.
    pub living: LivingSessions,
}

/// What a query is answered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Bars, oldest first.
    History(Vec<Bar>),
    /// What was asked for has been sent as events before this.
    Sent,
}

/// What a venue says, in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum VenueEvent {
    /// Logged in; the contracts follow, then `Ready`.
    Connected {
        /// The new session.
        session: Name,
        /// References above this are free.
        max_reference: u64,
        /// The venue's trading day.
        trading_day: Option<chrono::NaiveDate>,
        /// The venue and its version, for people.
        venue: Name,
    },
    /// An instrument that can be traded.
    Contract(Contract),
    /// All contracts are told.
    Ready,
    /// The connection is lost, or could not be made.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// The venue refused the credentials: trying again would only lock the account.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// A new trading day has begun.
    TradingDay(chrono::NaiveDate),
    /// An order changed.
    Order(VenueOrder),
    /// A fill.
    Trade(VenueTrade),
    /// A quote changed.
    Quote(VenueQuote),
    /// The venue refused to cancel an order that it has told as working: it may have ended unheard.
    CancelRefused {
        /// The order.
        reference: VenueReference,
        /// Who refused to cancel what, and why, for people.
        reason: String,
    },
    /// A position changed.
    Position(Position),
    /// An account changed.
    Account(Account),
    /// Everything the venue knows.
    Snapshot(Box<VenueSnapshot>),
    /// The answer to a query.
    Answer {
        /// Which query.
        token: QueryToken,
        /// What it came to.
        answer: Result<Answer, GatewayError>,
    },
    /// A line for people.
    Log {
        /// Its weight.
        level: LogLevel,
        /// The line.
        message: String,
    },
}

/// Where an adapter puts what its venue says. Cheap to clone, usable from any thread, never waits.
#[derive(Clone)]
pub struct VenueSink {
    events: mpsc::Sender<VenueEvent>,
    overflowed: Arc<AtomicBool>,
    ticks: Arc<TickQueue>,
}

/// The node's ends of a [`VenueSink`].
pub struct VenueSource {
    /// Trading events, in the venue's order.
    pub events: mpsc::Receiver<VenueEvent>,
    /// Set once an event was dropped: the state is uncertain until a snapshot is reconciled.
    pub overflowed: Arc<AtomicBool>,
    /// Ticks.
    pub ticks: Arc<TickQueue>,
}

/// A sink and its source. `events` bounds the trading events, `ticks` the ticks in flight.
#[must_use]
pub fn venue_channel(events: usize, ticks: usize) -> (VenueSink, VenueSource) {
    let (sender, receiver) = mpsc::channel(events);
    let overflowed = Arc::new(AtomicBool::new(false));
    let ticks = Arc::new(TickQueue::new(ticks));
    let sink = VenueSink { events: sender, overflowed: overflowed.clone(), ticks: ticks.clone() };
    (sink, VenueSource { events: receiver, overflowed, ticks })
}

impl VenueSink {
    /// Tells the node something. When the queue is full the event is dropped and the gateway becomes DIRTY:
    /// a venue callback never waits, and the snapshot that follows makes up for what was dropped.
    pub fn send(&self, event: VenueEvent) {
        if self.events.try_send(event).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Tells the node something if there is room, and gives it back if there is none; for an adapter whose own thread
    /// may wait, and who must look at something else meanwhile. An adapter that gives up says [`VenueSink::lost`].
    ///
    /// # Errors
    /// The event, where the queue is full or its end is gone.
    pub fn try_send(&self, event: VenueEvent) -> Result<(), Box<VenueEvent>> {
        self.events.try_send(event).map_err(|error| Box::new(error.into_inner()))
    }

    /// Tells the node something, waiting for room up to `patience`; only for a venue inside this process, whose own
    /// thread may wait. After that it is [`VenueSink::send`]. Returns whether the event is in the queue.
    pub fn send_wait(&self, mut event: VenueEvent, patience: Duration) -> bool {
        let began = Instant::now();
        loop {
            match self.events.try_send(event) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if began.elapsed() < patience => event = back,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    self.overflowed.store(true, Ordering::Release);
                    return false;
                }
            }
            // A tokio channel has no blocking send that ends; the node empties the queue in far less than this.
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The venue said something that never came: the gateway becomes DIRTY, as when an event found the queue full.
    pub fn lost(&self) {
        self.overflowed.store(true, Ordering::Release);
    }

    /// Whether the node's end is gone, so that an adapter's thread can stop.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// The queue of ticks.
    #[must_use]
    pub fn ticks(&self) -> &TickQueue {
        &self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_event_queue_drops_and_says_so() {
        let (sink, mut source) = venue_channel(2, 8);
        for _ in 0..3 {
            sink.send(VenueEvent::Ready);
        }
        assert!(source.overflowed.load(Ordering::Acquire));
        assert_eq!(source.events.try_recv(), Ok(VenueEvent::Ready));
        assert_eq!(source.events.try_recv(), Ok(VenueEvent::Ready));
        assert!(source.events.try_recv().is_err());
    }

    #[test]
    fn a_patient_venue_waits_for_room_and_gives_up_in_the_end() {
        let (sink, mut source) = venue_channel(1, 8);
        assert!(sink.send_wait(VenueEvent::Ready, Duration::ZERO));
        let sender = std::thread::spawn(move || {
            let waited = sink.send_wait(VenueEvent::Ready, Duration::from_secs(10));
            (waited, sink.send_wait(VenueEvent::Ready, Duration::ZERO))
        });
        assert_eq!(source.events.blocking_recv(), Some(VenueEvent::Ready));
        assert_eq!(sender.join().expect("the sender ends"), (true, false));
        assert!(source.overflowed.load(Ordering::Acquire));
    }

    #[test]
    fn references_read_back() {
        let reference = VenueReference { session: "7-1".into(), number: 42 };
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
}
