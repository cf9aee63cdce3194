//! Typed streams of what is published without a journal: ticks, heartbeats, log lines, contracts. Newest wins, and what
//! was missed is told.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use protocol::{Contract, Event, InstrumentId, Log, Name, Status, Subject, Tick, codec};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::board::Heartbeats;
use crate::client::Client;
use crate::connection::{Connection, Link};
use crate::error::Error;
use crate::queue::{Queue, Taken};
use crate::sequence::{Arrival, Sequence};
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

/// Subject and gateway: what events are counted by, and what conflates with what.
type Key = (Arc<str>, Name);

/// Stands in a key for the connection itself; no subject is empty.
const LINK_SUBJECT: &str = "";

/// Events of one kind. A task of its own takes them off the wire and never waits for the user: of what the user is too
/// slow for, beyond 65,536 waiting events, the newest of each instrument (subject) and gateway stays.
pub struct EventStream<T> {
    queue: Arc<Queue<Key, Update<T>>>,
    undecodable: Arc<AtomicU64>,
    _reader: Task,
    _companion: Option<Task>,
    _client: Client,
}

impl<T> std::fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("undecodable", &self.undecodable()).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + 'static> EventStream<T> {
    /// Subscribes, and returns when the server has the subscription for certain.
    pub(crate) async fn open(
        client: &Client,
        connection: &Connection,
        subject: String,
        gateway: Option<Name>,
    ) -> Result<EventStream<T>, Error> {
        let subscription = connection.subscribe(subject).await?;
        connection.sync().await?;
        let queue = Arc::new(Queue::new(CAPACITY));
        let undecodable = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            queue: Arc::clone(&queue),
            gateway,
            subjects: HashMap::new(),
            heartbeats: client.heartbeats(),
            undecodable: Arc::clone(&undecodable),
        };
        let reader = Task::spawn(reader.run(subscription, connection.link.clone()));
        Ok(EventStream { queue, undecodable, _reader: reader, _companion: None, _client: client.clone() })
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
        self.undecodable.load(Ordering::Relaxed)
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

/// What was seen of one key.
struct Seen {
    key: Key,
    sequence: Sequence,
}

impl Seen {
    /// That of this gateway, among those that publish on the subject: one, or a few.
    fn of<'a>(all: &'a mut Vec<Seen>, subject: &str, gateway: &Name) -> &'a mut Seen {
        let at = all.iter().position(|seen| seen.key.1 == *gateway).unwrap_or_else(|| {
            all.push(Seen { key: (subject.into(), gateway.clone()), sequence: Sequence::default() });
            all.len() - 1
        });
        &mut all[at]
    }
}

/// The task between the wire and the queue.
struct Reader<T> {
    queue: Arc<Queue<Key, Update<T>>>,
    gateway: Option<Name>,
    /// What was seen of each subject, which is looked up once for an event.
    subjects: HashMap<Box<str>, Vec<Seen>>,
    heartbeats: watch::Receiver<Heartbeats>,
    undecodable: Arc<AtomicU64>,
}

impl<T: DeserializeOwned> Reader<T> {
    async fn run(mut self, mut subscription: async_nats::Subscriber, mut link: watch::Receiver<Link>) {
        let mut before = *link.borrow_and_update();
        let mut linked = true;
        let link_key: Key = (LINK_SUBJECT.into(), Name::default());
        loop {
            tokio::select! {
                message = subscription.next() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                changed = link.changed(), if linked => match changed {
                    Ok(()) => {
                        let now = *link.borrow_and_update();
                        for update in link_updates(before, now) {
                            self.queue.push(link_key.clone(), update, 0);
                        }
                        before = now;
                    }
                    Err(_) => linked = false,
                },
            }
        }
        self.queue.close();
    }

    fn take(&mut self, message: async_nats::Message) {
        let event = match codec::decode::<Event<T>>(&message.payload) {
            Ok(event) => event,
            Err(error) => {
                if self.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!(subject = %message.subject, %error, "an event does not decode; such are counted and skipped");
                }
                return;
            }
        };
        if self.gateway.as_ref().is_some_and(|gateway| *gateway != event.gateway) {
            return;
        }
        let subject = message.subject.as_str();
        let of_subject = match self.subjects.get_mut(subject) {
            Some(seen) => seen,
            None => self.subjects.entry(subject.into()).or_default(),
        };
        let seen = Seen::of(of_subject, subject, &event.gateway);
        if let Some(higher) = seen.sequence.epoch().filter(|known| *known > event.epoch) {
            let heartbeats = self.heartbeats.borrow();
            if heartbeats.get(&event.gateway).is_some_and(|heard| heard.begins_anew(event.epoch, higher)) {
                seen.sequence = Sequence::default();
            }
        }
        match seen.sequence.arrive(event.epoch, event.seq) {
            Arrival::Stale => {}
            Arrival::New { missed } => self.queue.push(seen.key.clone(), Update::Event(event), missed),
        }
    }
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
