//! What a gateway's journal holds, read from the stream itself: no node is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::TryStreamExt as _;
use gateway_node::gateway::VenueReference;
use gateway_node::reconcile::NEVER_ARRIVED;
use protocol::journal::{Entry, HEADER_MESSAGE_ID, Private, decode_entry, parse_message_id};
use protocol::{Event, OmsEvent, OmsState, OrderId, subject};

use crate::wait::until;

/// Longest wait for the next entry.
const PATIENCE: Duration = Duration::from_secs(30);

/// A journal, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// What its entries add up to, void ones left out.
    pub state: OmsState,
    /// The events among them, with their sequences.
    pub events: Vec<(u64, OmsEvent)>,
    /// Entries of a leader that had been replaced: they count for nothing.
    pub void: u64,
    /// Entries that do not read, and why.
    pub unreadable: Vec<String>,
    /// Every leader: its epoch, and when it started by its own clock, in microseconds since 1970.
    pub leaders: Vec<(u64, i64)>,
    /// What became an intent, by the client's id.
    pub intents: BTreeMap<OrderId, Intent>,
    /// Every number at the venue that anything was journalled with, by the client's id.
    pub references: BTreeSet<(OrderId, VenueReference)>,
    /// What was said never to have reached the venue, in the journal's order.
    pub never_arrived: Vec<NeverArrived>,
    /// The highest of their epochs.
    epoch: u64,
}

/// An order or a quote as it was first journalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Under which epoch.
    pub epoch: u64,
    /// Its number in its session at the venue; none, if it was refused before it got one.
    pub reference: Option<VenueReference>,
    /// Not to be sent later than this, in microseconds since 1970.
    pub deadline_us: Option<i64>,
}

/// An intent that a node gave up, because the venue does not list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverArrived {
    /// The client's id.
    pub id: OrderId,
    /// When the node said so, by its clock, in microseconds since 1970.
    pub at_us: i64,
}

impl Journal {
    /// Takes in the next entry.
    pub fn take(&mut self, sequence: u64, epoch: u64, entry: Entry) {
        if epoch < self.epoch {
            self.void += 1;
            return;
        }
        match entry {
            Entry::Event(event) => {
                self.note(epoch, &event);
                self.apply(sequence, event.data);
            }
            Entry::Private(Private::LeaderStarted { epoch, time, .. }) => {
                self.epoch = epoch;
                self.leaders.push((epoch, time.timestamp_micros()));
            }
            Entry::Private(Private::Snapshot(page)) => {
                for event in page.events {
                    self.state.apply(&event);
                }
            }
            Entry::Private(_) => {}
        }
    }

    fn note(&mut self, epoch: u64, event: &Event<OmsEvent>) {
        let (id, reference, deadline, reason) = match &event.data {
            OmsEvent::Order(o) => (&o.orderid, &o.venue_reference, o.deadline, &o.reason),
            OmsEvent::Quote(q) => (&q.quoteid, &q.venue_reference, q.deadline, &q.reason),
            OmsEvent::Trade(_) | OmsEvent::Position(_) | OmsEvent::Account(_) => return,
        };
        let reference: Option<VenueReference> = reference.as_ref().and_then(|text| text.parse().ok());
        self.references.extend(reference.clone().map(|reference| (id.clone(), reference)));
        self.intents.entry(id.clone()).or_insert_with(|| Intent {
            epoch,
            reference,
            deadline_us: deadline.map(|deadline| deadline.timestamp_micros()),
        });
        if reason.as_deref() == Some(NEVER_ARRIVED) {
            self.never_arrived.push(NeverArrived { id: id.clone(), at_us: event.time.timestamp_micros() });
        }
    }

    fn apply(&mut self, sequence: u64, event: OmsEvent) {
        self.state.apply(&event);
        self.events.push((sequence, event));
    }
}

/// Reads a gateway's journal from its first entry that is kept to its last.
///
/// # Errors
/// If the stream is not there or cannot be read.
pub async fn read(client: async_nats::Client, gateway: &str) -> anyhow::Result<Journal> {
    let context = jetstream::new(client);
    let name = subject::journal_stream(gateway);
    // Brokers that were killed a moment ago may be electing who answers.
    let (state, mut messages) = until(&format!("the stream {name} to be opened"), PATIENCE, async || {
        let opened = open(&context, &name).await;
        Ok(opened.inspect_err(|error| tracing::warn!("{error:#}")).ok())
    })
    .await?;
    let mut journal = Journal::default();
    let (first, last) = (state.first_sequence, state.last_sequence);
    if last == 0 {
        return Ok(journal);
    }
    let mut expected = first;
    while expected <= last {
        let message = tokio::time::timeout(PATIENCE, messages.try_next())
            .await
            .with_context(|| format!("the journal's entry {expected} of {last} did not come within {PATIENCE:?}"))??
            .context("the journal ended early")?;
        let sequence =
            message.info().map_err(|error| anyhow::anyhow!("an entry without its place: {error}"))?.stream_sequence;
        ensure!(sequence == expected, "the journal's entry {expected} is missing: {sequence} came");
        expected += 1;
        let id = message.headers.as_ref().and_then(|headers| headers.get(HEADER_MESSAGE_ID)).map(|id| id.as_str());
        let epoch = id.and_then(parse_message_id).map(|(epoch, _)| epoch);
        let decoded = decode_entry(&message.subject, &message.payload);
        let is_snapshot = matches!(&decoded, Ok(Entry::Private(Private::Snapshot(_) | Private::SnapshotEnd(_))));
        // What lies before the first snapshot may be purged, and nothing else.
        if sequence == first && first > 1 && !is_snapshot {
            journal.unreadable.push(format!("the journal begins with entry {first}, which is no snapshot"));
        }
        match (epoch, decoded) {
            (_, Ok(Entry::Private(Private::Fence { .. }))) => {}
            (Some(epoch), Ok(entry)) => journal.take(sequence, epoch, entry),
            (None, _) => journal.unreadable.push(format!("entry {sequence}: its id {id:?} names no epoch")),
            (_, Err(error)) => journal.unreadable.push(format!("entry {sequence} ({}): {error}", message.subject)),
        }
    }
    Ok(journal)
}

/// The stream as it is, and everything in it from its first entry on.
async fn open(context: &jetstream::Context, name: &str) -> anyhow::Result<(stream::State, pull::Ordered)> {
    let stream = context.get_stream(name).await.with_context(|| format!("opening the stream {name}"))?;
    let state = stream.get_info().await.with_context(|| format!("looking at the stream {name}"))?.state;
    let config = pull::OrderedConfig { deliver_policy: DeliverPolicy::All, ..Default::default() };
    let consumer = stream.create_consumer(config).await.context("reading the journal")?;
    Ok((state, consumer.messages().await.context("reading the journal")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderRequest};

    #[test]
    fn what_a_replaced_leader_still_wrote_is_void() {
        let time = chrono::DateTime::UNIX_EPOCH.fixed_offset();
        let leader = |epoch| Entry::Private(Private::LeaderStarted { epoch, node: "n".into(), time, limits: None });
        let order = |epoch| {
            let rb = InstrumentId::new("rb2410", Exchange::SHFE);
            let order = OrderRequest::limit(rb, Direction::Long, Offset::Open, 1.0, 1.0)
                .to_order(&"sim1".into(), &"default".into());
            let data = OmsEvent::Order(order);
            Entry::Event(Box::new(Event { gateway: "sim1".into(), epoch, seq: 1, time, data }))
        };
        let mut journal = Journal::default();
        for (sequence, epoch, entry) in
            [(1, 1, leader(1)), (2, 1, order(1)), (3, 2, leader(2)), (4, 1, order(1)), (5, 2, order(2))]
        {
            journal.take(sequence, epoch, entry);
        }
        assert_eq!((journal.void, journal.leaders.len(), journal.state.orders().len()), (1, 2, 2));
        assert_eq!(journal.events.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 5]);
    }
}
