//! A standby's copy of the journal's state: it reads the stream from its last snapshot, follows it, and when its node
//! has the lease, begins to lead behind the last entry.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::{self, LastRawMessageErrorKind};
use protocol::journal::{Entry, HEADER_MESSAGE_ID, Private, SNAPSHOT_END, decode_entry, message_id, parse_message_id};
use protocol::{Name, Timestamp, subject};
use tracing::{debug, error, info, warn};

use super::cursor::{Cursor, Stored};
use super::takeover::Beginning;
use super::writer::{COMPLAINT, foreign, is_storage_full};
use super::{JournalOptions, JournalReader, JournalWriter, Known, check_not_shorter, ensure_stream, is_stream_gone};
use crate::engine::Replayed;

/// How often a standby looks for new entries.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// Between attempts to begin to lead.
const AGAIN: Duration = Duration::from_millis(50);
/// The same, where the storage takes nothing.
const AGAIN_WHEN_FULL: Duration = Duration::from_secs(1);

/// What a journal that is led gives: the state it holds, and a writer behind this leader's `LeaderStarted`.
pub struct Led {
    /// What was replayed.
    pub replayed: Replayed,
    /// Sequence of this leader's `LeaderStarted`.
    pub base: u64,
    /// Appends.
    pub writer: JournalWriter,
    /// Reads, for refills.
    pub reader: JournalReader,
    /// What people should know of the change of leaders.
    pub notice: Option<String>,
}

/// See the module.
pub struct Follower {
    context: Context,
    stream: stream::Stream,
    gateway: Name,
    cursor: Cursor,
    replayed: Replayed,
    /// How many bytes are stored.
    bytes: u64,
    undecodable: u64,
    /// An entry of a snapshot that was not understood.
    strange: Option<u64>,
    /// The sequence that must come next; none before the first entry.
    expected: Option<u64>,
    gap: Option<String>,
}

impl Follower {
    /// Opens the journal, and makes it if there is none; a reading begins with its last snapshot.
    ///
    /// # Errors
    /// If JetStream is not there, the stream cannot be made or read, or it holds less than is `known` of it.
    pub async fn open(
        context: Context,
        gateway: &Name,
        options: &JournalOptions,
        known: Known,
    ) -> anyhow::Result<Follower> {
        if known.stored > 0 {
            // Not made anew in its place: with a journal its order ids are gone, and a repeated order would be a second.
            let held = match context.get_stream(subject::journal_stream(gateway)).await {
                Ok(stream) => stream.cached_info().state.last_sequence,
                Err(error) if is_stream_gone(&error.to_string()) => 0,
                Err(error) => return Err(error).context("looking for the journal"),
            };
            check_not_shorter(gateway, known, held)?;
        }
        let stream = ensure_stream(&context, gateway, options).await?;
        let state = stream.get_info().await.context("reading the journal")?.state;
        anyhow::ensure!(
            state.messages > 0 || state.last_sequence == 0,
            "somebody purged the journal: its orders, ids and epochs are gone. Restore the stream, or delete it to begin anew"
        );
        let begins = snapshot_begins(&stream, gateway).await.context("looking for the journal's last snapshot")?;
        let first = begins.unwrap_or(1).max(state.first_sequence);
        Ok(Follower {
            context,
            cursor: Cursor::new(stream.clone(), first),
            stream,
            gateway: gateway.clone(),
            replayed: Replayed::default(),
            bytes: state.bytes,
            undecodable: 0,
            strange: None,
            expected: None,
            gap: None,
        })
    }

    /// Reads everything that is stored now, and says up to where.
    ///
    /// # Errors
    /// If the stream cannot be read, or entries are missing in it.
    pub async fn catch_up(&mut self) -> anyhow::Result<u64> {
        let state = self.stream.get_info().await.context("reading the journal")?.state;
        self.bytes = state.bytes;
        self.read_to(state.last_sequence).await?;
        Ok(state.last_sequence)
    }

    async fn read_to(&mut self, last: u64) -> anyhow::Result<()> {
        let Follower { cursor, replayed, undecodable, strange, expected, gap, gateway, .. } = self;
        let read = cursor.advance(last, |stored| {
            // The server lets nobody delete single entries: what is missing was purged in front of a slow reader.
            if expected.is_some_and(|expected| stored.sequence != expected) {
                gap.get_or_insert_with(|| format!("{expected:?} to {}", stored.sequence));
            }
            *expected = Some(stored.sequence + 1);
            if !take(gateway, replayed, &stored) {
                *undecodable += 1;
                if is_snapshot(gateway, stored.subject) && entry_epoch(stored.headers) == replayed.epoch {
                    strange.get_or_insert(stored.sequence);
                }
            }
        });
        read.await.context("reading the journal")?;
        if let Some(sequence) = strange {
            // It stands for everything before it: without it orders are unknown, and would be sent twice.
            anyhow::bail!(
                "entry {sequence} of the journal, part of a day's snapshot, is not understood by version {}: start nodes \
                 of the version that wrote it, or of a newer one",
                env!("CARGO_PKG_VERSION")
            );
        }
        match gap {
            Some(gap) => anyhow::bail!("entries of the journal are gone: {gap}; it is read again from its snapshot"),
            None => Ok(()),
        }
    }

    /// Follows the journal for as long as it is polled.
    ///
    /// # Errors
    /// If entries are missing in it. A stream that cannot be read just now is tried again.
    pub async fn follow(&mut self) -> anyhow::Result<std::convert::Infallible> {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            match tokio::time::timeout(Duration::from_secs(20), self.catch_up()).await {
                Ok(Err(error)) if self.gap.is_some() || self.strange.is_some() => return Err(error),
                Ok(Err(error)) => debug!(gateway = %self.gateway, %error, "the journal cannot be followed just now"),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }

    /// Begins to lead: a fence and `LeaderStarted` behind the last entry, whatever a predecessor still appends meanwhile.
    /// `may_act` says whether the lease still holds.
    ///
    /// # Errors
    /// If the lease ends, the journal has seen a higher epoch, or it cannot be read.
    pub async fn lead(
        mut self,
        node: &Name,
        epoch: u64,
        limits: u64,
        now: Timestamp,
        may_act: impl Fn() -> bool,
    ) -> anyhow::Result<Led> {
        let started = Private::LeaderStarted { epoch, node: node.clone(), time: now, limits: Some(limits) };
        let before = last_of(&self.stream, &self.gateway, "leader").await.context("looking for the last leader")?;
        let notice = before.and_then(|(_, _, payload)| other_limits(&payload, node, limits));
        let beginning = Beginning::new(&self.gateway, epoch, started.clone())?;
        let mut complaint = Complaint::default();
        let base = loop {
            anyhow::ensure!(may_act(), "the lease ended before the journal was taken over");
            let last = self.catch_up().await?;
            if self.replayed.epoch == epoch && is_stored(&self.stream, last, &beginning).await? {
                // An earlier attempt, whose ack was lost: it is read already.
                break last;
            }
            anyhow::ensure!(
                epoch > self.replayed.epoch,
                "epoch {epoch} is not above {}, which the journal has seen: the bucket of leases was made anew. Stop all \
                 nodes of this gateway and delete the bucket `{}`; the next start makes it count on from there",
                self.replayed.epoch,
                crate::lease::BUCKET
            );
            match beginning.store(&self.context, last).await {
                Ok(base) => break base,
                // A predecessor's last words came in between, or the ack was lost: the next look tells.
                Err(error) => {
                    let error = format!("{error:#}");
                    if is_storage_full(&error) {
                        complaint.of_full_storage(&self.gateway, &error);
                        tokio::time::sleep(AGAIN_WHEN_FULL).await;
                    } else {
                        debug!(gateway = %self.gateway, error, "not leading yet");
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        };
        // Everything in front of it was read before it was sent; what is read twice says the same.
        self.replayed.take(base, epoch, &Entry::Private(started));
        if self.undecodable > 0 || self.replayed.voided > 0 {
            warn!(gateway = %self.gateway, undecodable = self.undecodable, voided = self.replayed.voided, "entries were passed over");
        }
        info!(gateway = %self.gateway, epoch, entries = base, "the journal is led");
        let writer = JournalWriter::start(self.context, self.stream.clone(), &self.gateway, epoch, base, self.bytes);
        let reader = JournalReader { stream: self.stream, gateway: self.gateway, epoch, base };
        Ok(Led { replayed: self.replayed, base, writer, reader, notice })
    }
}

/// Says so if the leader before, another node, held orders to other limits.
fn other_limits(leader_started: &[u8], node: &Name, limits: u64) -> Option<String> {
    match protocol::codec::decode(leader_started) {
        Ok(Private::LeaderStarted { node: other, limits: Some(others), .. }) if others != limits && other != *node => {
            Some(format!(
                "node {other} led with other limits than node {node}, whose limits hold now: write the same [gateways.risk] \
                 for every node of the gateway"
            ))
        }
        _ => None,
    }
}

/// Whether the stream's last entry, at this sequence, is this beginning's.
async fn is_stored(stream: &stream::Stream, last: u64, beginning: &Beginning) -> anyhow::Result<bool> {
    let stored = stream.get_raw_message(last).await.context("reading the journal's end")?;
    Ok(beginning.is(&stored.subject, &stored.payload))
}

/// Says now and then that nobody can lead.
#[derive(Default)]
struct Complaint(Option<tokio::time::Instant>);

impl Complaint {
    fn of_full_storage(&mut self, gateway: &Name, error: &str) {
        if self.0.is_none_or(|last| last.elapsed() > COMPLAINT) {
            self.0 = Some(tokio::time::Instant::now());
            error!(
                %gateway,
                error,
                "the journal is full, so that nobody can lead: raise journal.max_bytes, or give the server more storage"
            );
        }
    }
}

/// Takes in a stored entry; whether it was understood.
fn take(gateway: &str, replayed: &mut Replayed, stored: &Stored<'_>) -> bool {
    match decode_entry(stored.subject, stored.payload) {
        Ok(entry) => {
            replayed.take(stored.sequence, entry_epoch(stored.headers), &entry);
            true
        }
        Err(error) => {
            replayed.journal_seq = stored.sequence;
            warn!(
                gateway,
                sequence = stored.sequence,
                subject = stored.subject,
                error,
                "a journal entry is not understood and passed over"
            );
            false
        }
    }
}

fn is_snapshot(gateway: &str, subject: &str) -> bool {
    [Private::Snapshot(Default::default()).kind(), SNAPSHOT_END]
        .iter()
        .any(|kind| subject == subject::journal_private(gateway, kind))
}

pub(super) fn entry_epoch(headers: Option<&async_nats::HeaderMap>) -> u64 {
    headers
        .and_then(|h| h.get(HEADER_MESSAGE_ID))
        .and_then(|v| parse_message_id(v.as_str()))
        .map_or(0, |(epoch, _)| epoch)
}

/// Where the last snapshot begins, unless it is void or lacks a page: then everything is read.
async fn snapshot_begins(stream: &stream::Stream, gateway: &str) -> anyhow::Result<Option<u64>> {
    let subject = subject::journal_private(gateway, SNAPSHOT_END);
    let message = match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Ok(Private::SnapshotEnd(end)) = protocol::codec::decode(&message.payload) else { return Ok(None) };
    let id = message.headers.get(HEADER_MESSAGE_ID).and_then(|id| parse_message_id(id.as_str()));
    // A leader's entries follow its LeaderStarted one by one: that is where it began to lead.
    let Some((epoch, number)) = id else { return Ok(None) };
    let Some(began) = message.sequence.checked_sub(number) else { return Ok(None) };
    // Another leader's beginning in between makes the snapshot void, wherever later leaders have begun.
    let leader = subject::journal_private(gateway, "leader");
    let is_void = match stream.get_first_raw_message_by_subject(&leader, began + 1).await {
        Ok(next) => next.sequence < message.sequence,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => false,
        Err(error) => return Err(error.into()),
    };
    if is_void {
        return Ok(None);
    }
    // A replaced leader's append may have taken a page's place by chance, with the end fitting behind it.
    let pages = (end.begins.max(began)..message.sequence).map(|place| (place, message_id(epoch, place - began)));
    let foreign = foreign(stream, pages.collect()).await?;
    Ok(foreign.is_none().then_some(end.begins))
}

/// The last entry of a kind: sequence, epoch, payload.
pub(super) async fn last_of(
    stream: &stream::Stream,
    gateway: &str,
    kind: &str,
) -> anyhow::Result<Option<(u64, u64, Vec<u8>)>> {
    let subject = subject::journal_private(gateway, kind);
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok(Some((message.sequence, entry_epoch(Some(&message.headers)), message.payload.to_vec()))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The highest epoch that any gateway's journal has seen; 0 if there is none.
///
/// # Errors
/// If the journals cannot be read.
pub async fn highest_epoch(context: &Context) -> anyhow::Result<u64> {
    use futures::TryStreamExt;
    let prefix = subject::journal_stream("");
    let names: Vec<String> = context.stream_names().try_collect().await.context("listing the journals")?;
    let mut highest = 0;
    for name in names.iter().filter(|name| name.starts_with(&prefix)) {
        let stream = context.get_stream(name).await.with_context(|| format!("opening {name}"))?;
        if let Some((_, epoch, _)) = last_of(&stream, &name[prefix.len()..], "leader").await? {
            highest = highest.max(epoch);
        }
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nodes_other_limits_are_told() {
        let started = |node: &str, limits| {
            let time = chrono::DateTime::UNIX_EPOCH.fixed_offset();
            protocol::codec::encode(&Private::LeaderStarted { epoch: 1, node: node.into(), time, limits })
                .expect("encodes")
        };
        let told = |before: &[u8]| other_limits(before, &"b".into(), 7);
        assert!(told(&started("a", Some(8))).is_some_and(|text| text.contains("node a led with other limits")));
        assert_eq!(told(&started("a", Some(7))), None, "the same");
        assert_eq!(told(&started("b", Some(8))), None, "its own configuration was changed");
        assert_eq!(told(&started("a", None)), None, "nobody knows");
    }
}
