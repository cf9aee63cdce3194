//! The journal on JetStream: one stream per gateway, appended to in a chain that only one leader can continue.
//!
//! Appends are pipelined. Each names its predecessor (`Nats-Expected-Last-Msg-Id`), so a lost one stops all that
//! follow; the last stored entry then says where to go on. An entry is stored once however often it is sent. The
//! server republishes what is stored under `journal.<gateway>.pub.` as `evt.`.

pub mod chain;
mod reader;
mod writer;

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, StorageType};
use futures::TryStreamExt;
use protocol::journal::{HEADER_MESSAGE_ID, Private, decode_entry, message_id, parse_message_id};
use protocol::{Name, codec, subject};
use tracing::{info, warn};

use crate::engine::Replayed;
pub use reader::JournalReader;
pub use writer::{JournalWriter, Progress};

/// An append without an ack for this long is looked up.
const ACK_PATIENCE: Duration = Duration::from_secs(3);

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Most bytes stored; when full, new entries are refused and old ones stay.
    pub max_bytes: i64,
    /// Copies in a cluster.
    pub replicas: usize,
}

/// What an opened journal gives: the state it holds, and a writer that has begun a new leadership in it.
pub struct Opened {
    /// What was replayed.
    pub replayed: Replayed,
    /// The new epoch.
    pub epoch: u64,
    /// Appends.
    pub writer: JournalWriter,
    /// Reads, for refills.
    pub reader: JournalReader,
}

/// JetStream on a connection, with the bounds that the writer relies on.
#[must_use]
pub fn context(client: async_nats::Client) -> Context {
    async_nats::jetstream::context::ContextBuilder::new()
        .timeout(ACK_PATIENCE)
        // Appends that are given up hold their places among those in flight for no longer than that.
        .ack_timeout(ACK_PATIENCE)
        .max_ack_inflight(writer::IN_FLIGHT * 2)
        .backpressure_on_inflight(true)
        .build(client)
}

/// What this process knows a journal to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The epoch that it led under.
    pub epoch: u64,
    /// Everything up to here was acknowledged.
    pub stored: u64,
}

/// Creates the stream if there is none, replays it, and begins a new leadership in it.
///
/// # Errors
/// If JetStream is not there, the stream cannot be made or read, it holds less than is `known` of it, or somebody else
/// begins to lead at the same time.
pub async fn open(
    context: Context,
    gateway: &Name,
    node: &Name,
    options: &JournalOptions,
    known: Known,
    now: protocol::Timestamp,
) -> anyhow::Result<Opened> {
    if known.stored > 0 {
        // Not made anew in its place: with a journal its order ids are gone, and a repeated order would be a second one.
        let held = match context.get_stream(subject::journal_stream(gateway)).await {
            Ok(stream) => stream.cached_info().state.last_sequence,
            Err(error) if is_stream_gone(&error.to_string()) => 0,
            Err(error) => return Err(error).context("looking for the journal"),
        };
        check_not_shorter(gateway, known, held)?;
    }
    let stream = ensure_stream(&context, gateway, options).await?;
    let replayed = replay(&stream).await.context("replaying the journal")?;
    // One node, one leader: the epoch counts starts. A lease in KV will give it, and the fence is this append.
    let epoch = replayed.epoch.max(known.epoch) + 1;
    let entry = Private::LeaderStarted { epoch, node: node.clone(), time: now };
    let message = PublishMessage::build()
        .payload(codec::encode(&entry)?.into())
        .message_id(message_id(epoch, 0))
        .expected_last_sequence(replayed.journal_seq);
    let ack = context
        .send_publish(subject::journal_private(gateway, entry.kind()), message)
        .await
        .context("beginning to lead")?
        .await
        .context("beginning to lead: does another node write the same journal?")?;
    anyhow::ensure!(!ack.duplicate, "somebody else begins to lead {gateway} under epoch {epoch}");
    info!(%gateway, epoch, entries = ack.sequence, "journal replayed");
    let writer = JournalWriter::start(context, stream.clone(), gateway, epoch, ack.sequence);
    let reader = JournalReader { stream, gateway: gateway.clone() };
    Ok(Opened { replayed, epoch, writer, reader })
}

async fn ensure_stream(context: &Context, gateway: &str, options: &JournalOptions) -> anyhow::Result<stream::Stream> {
    let name = subject::journal_stream(gateway);
    let published = subject::journal_published_prefix(gateway);
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![subject::journal_all(gateway)],
        republish: Some(Republish {
            source: format!("{published}>"),
            destination: "evt.>".to_owned(),
            headers_only: false,
        }),
        // Storage refuses new entries when full; it never drops old ones.
        discard: DiscardPolicy::New,
        max_bytes: options.max_bytes,
        num_replicas: options.replicas,
        storage: StorageType::File,
        allow_direct: true,
        ..Default::default()
    };
    context.create_or_update_stream(config).await.with_context(|| {
        format!(
            "making the stream {name}: is JetStream enabled, and does its storage have {} bytes?",
            options.max_bytes
        )
    })?;
    context.get_stream(&name).await.with_context(|| format!("opening the stream {name}"))
}

async fn replay(stream: &stream::Stream) -> anyhow::Result<Replayed> {
    let mut replayed = Replayed::default();
    let state = stream.get_info().await?.state;
    let last = state.last_sequence;
    if last == 0 {
        return Ok(replayed);
    }
    anyhow::ensure!(
        state.messages > 0,
        "somebody purged it: its orders, ids and epochs are gone. Restore the stream, or delete it to begin anew"
    );
    let mut undecodable = 0_u64;
    let mut messages = read_from(stream, 1, String::new()).await?;
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), messages.try_next())
            .await
            .context("the server sent nothing for 30 s")??
            .context("the stream ended early")?;
        let (seq, pending) = message
            .info()
            .map(|info| (info.stream_sequence, info.pending))
            .map_err(|e| anyhow::anyhow!("a message without its sequence: {e}"))?;
        match decode_entry(&message.subject, &message.payload) {
            Ok(entry) => replayed.take(seq, entry_epoch(message.headers.as_ref()), &entry),
            Err(error) => {
                undecodable += 1;
                replayed.journal_seq = seq;
                warn!(seq, subject = %message.subject, error, "a journal entry is not understood and passed over");
            }
        }
        // Entries deleted at the end never come.
        if seq >= last || pending == 0 {
            break;
        }
    }
    if undecodable > 0 || replayed.voided > 0 {
        warn!(undecodable, voided = replayed.voided, "entries were passed over");
    }
    // Deleted entries at the end count all the same.
    replayed.journal_seq = replayed.journal_seq.max(last);
    Ok(replayed)
}

async fn read_from(stream: &stream::Stream, start: u64, filter: String) -> anyhow::Result<pull::Ordered> {
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
        filter_subject: filter,
        ..Default::default()
    };
    Ok(stream.create_consumer(config).await?.messages().await?)
}

fn entry_epoch(headers: Option<&async_nats::HeaderMap>) -> u64 {
    headers
        .and_then(|h| h.get(HEADER_MESSAGE_ID))
        .and_then(|v| parse_message_id(v.as_str()))
        .map_or(0, |(epoch, _)| epoch)
}

/// Refuses a journal that has lost entries which were acknowledged.
fn check_not_shorter(gateway: &str, known: Known, held: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        held >= known.stored,
        "the journal {} holds entries up to {held}, and up to {} were stored: it was deleted, replaced or rolled back. \
         Restore it; or, once the venue's orders are checked by hand, restart the node to go on with what is there",
        subject::journal_stream(gateway),
        known.stored
    );
    Ok(())
}

fn is_stream_gone(error: &str) -> bool {
    error.contains("stream not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_lost_entries_is_not_gone_on_with() {
        let known = Known { epoch: 3, stored: 40 };
        assert!(check_not_shorter("sim1", known, 40).is_ok());
        assert!(
            check_not_shorter("sim1", Known::default(), 0).is_ok(),
            "a process that knows nothing takes what is there"
        );
        let told = check_not_shorter("sim1", known, 39).expect_err("refused").to_string();
        assert!(told.contains("JOURNAL_sim1") && told.contains("39") && told.contains("40"), "{told}");
    }
}
