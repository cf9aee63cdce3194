//! Reads a gateway's journal as an auditor does: every stored entry, straight from the stream. Other clients need none of
//! this, nor the JetStream rights that it takes.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self};
use bytes::Bytes;
use chrono::NaiveDate;
use futures::TryStreamExt;
use protocol::journal::{Entry, HEADER_MESSAGE_ID, Private, SNAPSHOT_END, decode_entry};
use protocol::{Name, Timestamp, subject};

use crate::client::Client;
use crate::error::Error;

/// A reading whose next entry takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const BATCH: usize = 1_000;

/// A stored entry.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    /// Its sequence in the journal.
    pub sequence: u64,
    /// When the server stored it.
    pub stored: Timestamp,
    /// Its id: `<epoch>-<number>`.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Bytes,
    /// What they say, or why that is not understood.
    pub entry: Result<Entry, String>,
}

/// A trading day in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalDay {
    /// Which.
    pub trading_day: NaiveDate,
    /// Sequence of its first entry: its snapshot's first page.
    pub begins: u64,
    /// Sequence of its last entry so far.
    pub ends: u64,
    /// When it began, on the node's clock.
    pub time: Timestamp,
}

/// A gateway's journal, to be read whole.
#[derive(Debug, Clone)]
pub struct Journal {
    stream: Stream,
    gateway: Name,
    /// Sequence of the first entry that is kept.
    pub first: u64,
    /// Sequence of the last entry.
    pub last: u64,
    /// What it takes in storage, in bytes.
    pub bytes: u64,
}

impl Client {
    /// Opens a gateway's journal for reading, whether the gateway runs or not. The user needs the right to read its
    /// stream.
    ///
    /// # Errors
    /// [`Error::Nats`] if there is none, or it may not be read.
    pub async fn journal(&self, gateway: impl Into<Name>) -> Result<Journal, Error> {
        let gateway = gateway.into();
        let context = jetstream::new(self.calls().nats.clone());
        let name = subject::journal_stream(&gateway);
        let mut stream = match context.get_stream(&name).await {
            Ok(stream) => stream,
            Err(error) => {
                return Err(Error::Nats(match error.kind() {
                    GetStreamErrorKind::JetStream(ref e) if e.code() == 404 => {
                        format!("there is no journal of gateway `{gateway}` (stream {name})")
                    }
                    _ => format!("the journal of gateway `{gateway}` cannot be opened: {error}"),
                }));
            }
        };
        let state = stream.info().await.map_err(nats)?.state.clone();
        let (first, last, bytes) = (state.first_sequence, state.last_sequence, state.bytes);
        Ok(Journal { stream, gateway, first, last, bytes })
    }

    /// Names of the gateways that have a journal, whether they run or not.
    ///
    /// # Errors
    /// [`Error::Nats`] if the streams cannot be listed.
    pub async fn journals(&self) -> Result<Vec<Name>, Error> {
        let context = jetstream::new(self.calls().nats.clone());
        let names: Vec<String> = context.stream_names().try_collect().await.map_err(nats)?;
        let prefix = subject::journal_stream("");
        let mut gateways: Vec<Name> =
            names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(Name::from).collect();
        gateways.sort_unstable();
        Ok(gateways)
    }
}

impl Journal {
    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Name {
        &self.gateway
    }

    /// The trading days that are kept, oldest first.
    ///
    /// # Errors
    /// [`Error::Nats`] if the journal cannot be read.
    pub async fn days(&self) -> Result<Vec<JournalDay>, Error> {
        let mut days: Vec<JournalDay> = Vec::new();
        let filter = subject::journal_private(&self.gateway, SNAPSHOT_END);
        self.read_filtered(self.first, self.last, filter, |stored| {
            if let Ok(Entry::Private(Private::SnapshotEnd(end))) = stored.entry {
                if let Some(before) = days.last_mut() {
                    before.ends = end.begins - 1;
                }
                days.push(JournalDay {
                    trading_day: end.trading_day,
                    begins: end.begins,
                    ends: self.last,
                    time: end.time,
                });
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(days)
    }

    /// Reads the entries from one sequence to another, in order, until `take` has seen enough.
    ///
    /// # Errors
    /// [`Error::Nats`] if the journal cannot be read.
    pub async fn read(
        &self,
        from: u64,
        to: u64,
        take: impl FnMut(StoredEntry) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.read_filtered(from, to, String::new(), take).await
    }

    async fn read_filtered(
        &self,
        from: u64,
        to: u64,
        filter_subject: String,
        mut take: impl FnMut(StoredEntry) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (from, to) = (from.max(self.first).max(1), to.min(self.last));
        if from > to {
            return Ok(());
        }
        let consumer = self
            .stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
                ack_policy: AckPolicy::None,
                filter_subject,
                inactive_threshold: Duration::from_secs(30),
                memory_storage: true,
                num_replicas: 1,
                ..Default::default()
            })
            .await
            .map_err(nats)?;
        let mut left = consumer.cached_info().num_pending;
        while left > 0 {
            let mut batch = consumer.fetch().max_messages(BATCH).messages().await.map_err(nats)?;
            let before = left;
            loop {
                let next = tokio::time::timeout(PATIENCE, batch.try_next()).await;
                let next =
                    next.map_err(|_| Error::Nats("the server sent nothing of the journal for 10 s".to_owned()))?;
                let Some(message) = next.map_err(nats)? else { break };
                let info = message.info().map_err(nats)?;
                left = info.pending;
                let sequence = info.stream_sequence;
                if sequence > to {
                    return Ok(());
                }
                let stored =
                    chrono::DateTime::from_timestamp(info.published.unix_timestamp(), info.published.nanosecond());
                let id = message.headers.as_ref().and_then(|headers| headers.get(HEADER_MESSAGE_ID));
                let stored = StoredEntry {
                    sequence,
                    stored: stored.unwrap_or_default().fixed_offset(),
                    message_id: id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
                    subject: message.subject.to_string(),
                    entry: decode_entry(&message.subject, &message.payload),
                    payload: message.payload.clone(),
                };
                if take(stored).is_break() || sequence == to {
                    return Ok(());
                }
            }
            if left == before {
                return Err(Error::Nats(format!("the server sent nothing of the {left} entries that are left")));
            }
        }
        Ok(())
    }
}

fn nats(error: impl std::fmt::Display) -> Error {
    Error::Nats(error.to_string())
}
