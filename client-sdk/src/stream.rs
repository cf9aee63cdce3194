//! Typed streams of what is published without a journal: ticks, heartbeats, log lines, contracts. Newest wins, and what
//! was missed is told.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use protocol::{Contract, Event, InstrumentId, Log, Name, Status, Subject, Tick};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::connection::{Connection, Link};
use crate::error::Error;
use crate::feed::{Feed, Key, LINK_SUBJECT};
use crate::queue::{Queue, Taken};
use crate::task::Task;

/// Items that wait for a slow user before only the newest of each instrument is kept.
const CAPACITY: usize = 65_536;

/// What a stream tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Update<T> {
    /// Something happened.
    Event(Event<T>),
    /// Something was missed before the event that follows.
    Missed(Missed),
    /// The connection is lost; it is made again by itself.
    Disconnected,
    /// The connection is back. What was published meanwhile is missing from ticks, heartbeats and log lines, and is
    /// read again for orders, trades, quotes, positions and accounts.
    Reconnected,
}

impl<T> Update<T> {
    /// The event, if it is one.
    pub fn event(self) -> Option<Event<T>> {
        match self {
            Update::Event(event) => Some(event),
            _ => None,
        }
    }
}

/// What was missed, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Gateway whose events are missing.
    pub gateway: Name,
    /// Instrument that they are about, where they are about one.
    pub instrument: Option<InstrumentId>,
    /// How many; `None` if nobody can know.
    pub count: Option<u64>,
    /// Why.
    pub cause: MissedCause,
}

/// Why something was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedCause {
    /// It did not arrive: the node or the network was too slow, or the connection was down.
    Lost,
    /// This reader was too slow, and newer events took the place of older ones.
    Conflated,
    /// The journal does not go back so far any more, or is another one than before.
    TooOld,
}

/// Ticks: see [`Client::ticks`].
pub type TickStream = EventStream<Tick>;
/// Heartbeats: see [`Client::statuses`].
pub type StatusStream = EventStream<Status>;
/// Log lines: see [`Client::logs`].
pub type LogStream = EventStream<Log>;
/// Contracts: see [`Client::contracts`].
pub type ContractStream = EventStream<Contract>;

/// Events of one kind. A task takes them off the wire and never waits for the user: of what the user is too slow for,
/// beyond 65,536 waiting events, the newest of each instrument (subject) and gateway stays.
///
/// Streams of ticks with the same symbol and exchange, or the same lack of them, share one subscription of their client:
/// each event is taken off the wire and decoded once, however many streams there are.
pub struct EventStream<T> {
    queue: Arc<Queue<Key, Update<T>>>,
    feed: Arc<Feed<T>>,
    /// Of the feed's, those that are older than the stream.
    undecodable_before: u64,
    _companion: Option<Task>,
    _client: Client,
}

impl<T> std::fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("undecodable", &self.undecodable()).finish_non_exhaustive()
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        self.feed.leave(&self.queue);
    }
}

impl<T: Clone + DeserializeOwned + Send + 'static> EventStream<T> {
    /// Subscribes, and returns when the server has the subscription for certain.
    pub(crate) async fn open(client: &Client, connection: &Connection, subject: String) -> Result<Self, Error> {
        let feed = Feed::open(client, connection, subject).await?;
        Ok(EventStream::of(client, Arc::new(feed), None))
    }

    /// What comes from now on, of this gateway or of all.
    pub(crate) fn of(client: &Client, feed: Arc<Feed<T>>, gateway: Option<Name>) -> Self {
        let queue = Arc::new(Queue::new(CAPACITY));
        feed.join(Arc::clone(&queue), gateway);
        let undecodable_before = feed.undecodable();
        EventStream { queue, feed, undecodable_before, _companion: None, _client: client.clone() }
    }

    pub(crate) fn with_companion(mut self, companion: Task) -> Self {
        self._companion = Some(companion);
        self
    }

    /// Keeps only the newest event of each instrument and gateway whenever the user is behind at all: for those who
    /// want the latest picture, not every step to it.
    #[must_use]
    pub fn conflated(self) -> Self {
        self.queue.set_capacity(0);
        self
    }

    /// The next update; `None` when the client's connection has been closed for good.
    pub async fn next(&mut self) -> Option<Update<T>> {
        StreamExt::next(self).await
    }
}

impl<T> EventStream<T> {
    /// How many events this stream could not decode and skipped; the first is logged.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.feed.undecodable() - self.undecodable_before
    }
}

impl<T: Send + 'static> Stream for EventStream<T> {
    type Item = Update<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update<T>>> {
        loop {
            let taken = std::task::ready!(self.queue.poll_pop(context));
            let told = |(subject, gateway): Key, count, cause| Update::Missed(missed(&subject, gateway, count, cause));
            return Poll::Ready(Some(match taken {
                None => return Poll::Ready(None),
                Some(Taken::Item(item)) => item,
                // Of the connection's ups and downs only the newest counts.
                Some(Taken::Skipped((subject, _), _)) if *subject == *LINK_SUBJECT => continue,
                Some(Taken::Skipped(key, count)) => told(key, count, MissedCause::Conflated),
                Some(Taken::Lost(key, count)) => told(key, count, MissedCause::Lost),
            }));
        }
    }
}

fn missed(subject: &str, gateway: Name, count: u64, cause: MissedCause) -> Missed {
    let instrument = match subject.parse() {
        Ok(Subject::Tick { symbol, exchange } | Subject::Contract { symbol, exchange, .. }) => {
            Some(InstrumentId { symbol, exchange })
        }
        _ => None,
    };
    Missed { gateway, instrument, count: Some(count), cause }
}

/// What a user is told of a change of the connection.
pub(crate) fn link_updates<T>(before: Link, now: Link) -> Vec<Update<T>> {
    let mut updates = Vec::new();
    let again = now.generation != before.generation;
    if before.connected && (!now.connected || again) {
        updates.push(Update::Disconnected);
    }
    if now.connected && (again || !before.connected) {
        updates.push(Update::Reconnected);
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_too_quick_to_be_seen_is_still_told() {
        let link = |connected, generation| Link { connected, generation };
        let told = |before, now| link_updates::<Tick>(before, now);
        assert_eq!(told(link(true, 1), link(false, 1)), [Update::Disconnected]);
        assert_eq!(told(link(false, 1), link(true, 2)), [Update::Reconnected]);
        assert_eq!(told(link(true, 1), link(true, 2)), [Update::Disconnected, Update::Reconnected]);
        assert_eq!(told(link(true, 1), link(true, 1)), []);
    }

    #[test]
    fn what_was_missed_names_its_instrument() {
        let told = missed("evt.tick.rb2410.SHFE", "sim1".into(), 3, MissedCause::Lost);
        assert_eq!(told.instrument.map(|i| i.to_string()).as_deref(), Some("rb2410.SHFE"));
        assert_eq!(missed("evt.status.sim1", "sim1".into(), 1, MissedCause::Lost).instrument, None);
    }
}
