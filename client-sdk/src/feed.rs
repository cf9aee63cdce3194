//! One subscription and what it brings, decoded once for however many streams read it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use protocol::{Event, Name, codec};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::board::Heartbeats;
use crate::client::Client;
use crate::connection::{Connection, Link};
use crate::error::Error;
use crate::queue::Queue;
use crate::sequence::{Arrival, Sequence};
use crate::stream::{Update, link_updates};
use crate::task::Task;

/// Subject and gateway: what events are counted by, and what conflates with what.
pub(crate) type Key = (Arc<str>, Name);

/// Stands in a key for the connection itself; no subject is empty.
pub(crate) const LINK_SUBJECT: &str = "";

/// Most messages that are handed on at a time.
const BATCH: usize = 64;

/// See the module. The subscription ends when the last owner drops this.
pub(crate) struct Feed<T> {
    shared: Arc<Shared<T>>,
    _decoder: Task,
}

/// What the decoder and the streams have in common.
struct Shared<T> {
    readers: Mutex<Readers<T>>,
    undecodable: AtomicU64,
}

struct Readers<T> {
    all: Vec<Reader<T>>,
    /// Events that have been handed to them since the subscription began.
    arrived: u64,
    /// The connection has been closed for good.
    is_over: bool,
}

struct Reader<T> {
    queue: Arc<Queue<Key, Update<T>>>,
    /// Of this gateway alone.
    gateway: Option<Name>,
    /// How many events had arrived when it joined.
    joined: u64,
}

/// An event, for whoever reads.
#[derive(Clone)]
struct Arrived<T> {
    key: Key,
    event: Event<T>,
    /// Where it stands among all that arrived, from 1.
    place: u64,
    /// Where the one before it of its key stands; 0 if there was none.
    before: u64,
    /// How many between the two did not arrive.
    missed: u64,
}

impl<T: Clone + DeserializeOwned + Send + 'static> Feed<T> {
    /// Subscribes, and returns when the server has the subscription for certain.
    pub(crate) async fn open(client: &Client, connection: &Connection, subject: String) -> Result<Self, Error> {
        let subscription = connection.subscribe(subject).await?;
        connection.sync().await?;
        let decoder = Decoder::new(client.heartbeats());
        let shared = Arc::clone(&decoder.shared);
        let decoder = Task::spawn(decoder.run(subscription, connection.link.clone()));
        Ok(Feed { shared, _decoder: decoder })
    }
}

impl<T> Feed<T> {
    /// This queue gets what arrives from now on, of this gateway or of all.
    pub(crate) fn join(&self, queue: Arc<Queue<Key, Update<T>>>, gateway: Option<Name>) {
        self.shared.join(queue, gateway);
    }

    /// This queue gets nothing more.
    pub(crate) fn leave(&self, queue: &Arc<Queue<Key, Update<T>>>) {
        self.shared.readers().all.retain(|reader| !Arc::ptr_eq(&reader.queue, queue));
    }

    /// How many events could not be decoded.
    pub(crate) fn undecodable(&self) -> u64 {
        self.shared.undecodable.load(Ordering::Relaxed)
    }
}

impl<T> Shared<T> {
    fn join(&self, queue: Arc<Queue<Key, Update<T>>>, gateway: Option<Name>) {
        let mut readers = self.readers();
        if readers.is_over {
            queue.close();
            return;
        }
        let joined = readers.arrived;
        readers.all.push(Reader { queue, gateway, joined });
    }

    fn readers(&self) -> MutexGuard<'_, Readers<T>> {
        // Nothing that runs under the lock leaves it half changed.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Reader<T> {
    fn wants(&self, arrived: &Arrived<T>) -> bool {
        self.gateway.as_ref().is_none_or(|gateway| *gateway == arrived.event.gateway)
    }

    /// Hands it what is its.
    fn take(&self, arrived: impl Iterator<Item = Arrived<T>>) {
        self.queue.extend(arrived.map(|arrived| {
            // What was missed before it joined, or around that, is nothing to it.
            let missed = if arrived.before > self.joined { arrived.missed } else { 0 };
            (arrived.key, Update::Event(arrived.event), missed)
        }));
    }
}

/// The task between the wire and the queues. It never waits for whoever reads them.
struct Decoder<T> {
    shared: Arc<Shared<T>>,
    /// What arrived of each subject.
    subjects: HashMap<Arc<str>, Seen>,
    decoded: u64,
    heartbeats: watch::Receiver<Heartbeats>,
}

/// What arrived of a subject.
struct Seen {
    /// One copy of its text, shared by all of its events' keys.
    subject: Arc<str>,
    /// By gateway: nearly always one.
    gateways: Vec<(Name, Sequence, u64)>,
}

impl<T: Clone + DeserializeOwned> Decoder<T> {
    fn new(heartbeats: watch::Receiver<Heartbeats>) -> Self {
        let readers = Readers { all: Vec::new(), arrived: 0, is_over: false };
        let shared = Arc::new(Shared { readers: Mutex::new(readers), undecodable: AtomicU64::new(0) });
        Decoder { shared, subjects: HashMap::new(), decoded: 0, heartbeats }
    }

    async fn run(mut self, subscription: async_nats::Subscriber, mut link: watch::Receiver<Link>) {
        let mut before = *link.borrow_and_update();
        let mut linked = true;
        let mut subscription = subscription.ready_chunks(BATCH);
        loop {
            tokio::select! {
                messages = subscription.next() => match messages {
                    Some(messages) => self.take(messages),
                    None => break,
                },
                changed = link.changed(), if linked => match changed {
                    Ok(()) => {
                        let now = *link.borrow_and_update();
                        self.tell(&link_updates(before, now));
                        before = now;
                    }
                    Err(_) => linked = false,
                },
            }
        }
        let mut readers = self.shared.readers();
        readers.is_over = true;
        readers.all.drain(..).for_each(|reader| reader.queue.close());
    }

    fn take(&mut self, messages: Vec<async_nats::Message>) {
        let arrived: Vec<Arrived<T>> = messages.iter().filter_map(|message| self.decode(message)).collect();
        let mut readers = self.shared.readers();
        if let Some(last) = arrived.last() {
            readers.arrived = last.place;
        }
        if let Some((last, others)) = readers.all.split_last() {
            for reader in others {
                reader.take(arrived.iter().filter(|arrived| reader.wants(arrived)).cloned());
            }
            last.take(arrived.into_iter().filter(|arrived| last.wants(arrived)));
        }
    }

    fn tell(&self, updates: &[Update<T>]) {
        let key: Key = (LINK_SUBJECT.into(), Name::default());
        for reader in &self.shared.readers().all {
            reader.queue.extend(updates.iter().map(|update| (key.clone(), update.clone(), 0)));
        }
    }

    /// The event of a message, unless it, or a later one, came before, or it is of a leader that leads no more.
    fn decode(&mut self, message: &async_nats::Message) -> Option<Arrived<T>> {
        let event = match codec::decode::<Event<T>>(&message.payload) {
            Ok(event) => event,
            Err(error) => {
                if self.shared.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                    let subject = &message.subject;
                    warn!(%subject, %error, "an event does not decode; such are counted and skipped");
                }
                return None;
            }
        };
        let seen = match self.subjects.get_mut(message.subject.as_str()) {
            Some(seen) => seen,
            None => {
                let subject: Arc<str> = message.subject.as_str().into();
                let seen = Seen { subject: Arc::clone(&subject), gateways: Vec::with_capacity(1) };
                self.subjects.entry(subject).or_insert(seen)
            }
        };
        let index = seen.gateways.iter().position(|(gateway, ..)| *gateway == event.gateway).unwrap_or_else(|| {
            seen.gateways.push((event.gateway.clone(), Sequence::default(), 0));
            seen.gateways.len() - 1
        });
        let (_, sequence, last) = &mut seen.gateways[index];
        if let Some(higher) = sequence.epoch().filter(|known| *known > event.epoch) {
            let heartbeats = self.heartbeats.borrow();
            if heartbeats.get(&event.gateway).is_some_and(|heard| heard.begins_anew(event.epoch, higher)) {
                *sequence = Sequence::default();
            }
        }
        let Arrival::New { missed } = sequence.arrive(event.epoch, event.seq) else { return None };
        self.decoded += 1;
        let before = std::mem::replace(last, self.decoded);
        let key = (Arc::clone(&seen.subject), event.gateway.clone());
        Some(Arrived { key, event, place: self.decoded, before, missed })
    }
}

/// Subscriptions that streams of one client share, by their subjects.
pub(crate) struct Feeds<T>(Mutex<HashMap<String, Arc<Opening<T>>>>);

/// Held while a subscription is made, so that whoever wants the same one waits for it.
type Opening<T> = tokio::sync::Mutex<Weak<Feed<T>>>;

impl<T> std::fmt::Debug for Feeds<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}

impl<T> Default for Feeds<T> {
    fn default() -> Self {
        Feeds(Mutex::default())
    }
}

impl<T: Clone + DeserializeOwned + Send + 'static> Feeds<T> {
    /// The subscription that there is, or a new one; the server has it for certain.
    pub(crate) async fn open(
        &self,
        client: &Client,
        connection: &Connection,
        subject: String,
    ) -> Result<Arc<Feed<T>>, Error> {
        let opening = {
            let mut openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Not those that nobody reads or is about to read.
            openings.retain(|_, opening| {
                Arc::strong_count(opening) > 1 || opening.try_lock().is_ok_and(|feed| feed.strong_count() > 0)
            });
            let new = || Arc::new(tokio::sync::Mutex::new(Weak::new()));
            Arc::clone(openings.entry(subject.clone()).or_insert_with(new))
        };
        let mut feed = opening.lock().await;
        if let Some(feed) = feed.upgrade() {
            // Whoever joins must not take silence for a market without ticks.
            connection.sync().await?;
            return Ok(feed);
        }
        let new = Arc::new(Feed::open(client, connection, subject).await?);
        *feed = Arc::downgrade(&new);
        Ok(new)
    }
}

#[cfg(test)]
mod tests;
