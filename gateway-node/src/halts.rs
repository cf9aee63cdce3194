//! The KV bucket of halts: reads all of it whenever it changed, and writes what one gateway halts and resumes. What any
//! of it means is decided in `engine::halts`.
//!
//! The server tells of every record that it has stored; and once a second the bucket's position is looked at all the
//! same, so that a broken connection, a server that restarts or a bucket made anew costs a second and no halt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::kv::{self, Store};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Republish, Stream};
use async_nats::{HeaderMap, Subscriber};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use protocol::halt::{BUCKET, HaltEntry, HaltRecord, HaltScope, HaltTarget, Heard};
use protocol::{codec, subject};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::debug;

use crate::engine::halts::{Decision, HaltNews, HaltWrite, WriteError, decide};

/// Changes that wait to be written; one more is not written, and its caller told so.
const MAX_WRITES: usize = 64;
/// News that wait for the gateway's loop; when full the edge waits, and reads the bucket's latest when it goes on.
const MAX_NEWS: usize = 64;
/// How often the bucket is looked at without being told of a change.
const LOOK: Duration = Duration::from_millis(500);
/// After a change could not be written, the bucket is read again (and the gateway tries again) this much later.
const RETRY: Duration = Duration::from_secs(5);
/// How long a gateway waits for the first of it before it serves. Whoever wants to cancel waits with it.
const FIRST: Duration = Duration::from_millis(500);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is read at a time before what lags has a while to catch up.
const READS: usize = 3;
/// People are told of a copy that lags for longer than this.
const LAG_PATIENCE: Duration = Duration::from_secs(5);
/// How long a change may take, however often somebody else's comes first.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of the bucket: some ten thousand targets that were ever halted. A full one takes no new target; it is
/// then halted on its own gateway only, and whoever asked is told.
const MAX_BYTES: i64 = 8 << 20;
/// Most bytes of a record.
const MAX_RECORD: i32 = 8 << 10;

/// A gateway's end of the bucket.
pub struct HaltsLink {
    /// What is heard of it.
    pub news: mpsc::Receiver<HaltNews>,
    writes: mpsc::Sender<HaltWrite>,
}

impl HaltsLink {
    /// Begins to read, and waits a moment for the first of it: a gateway shall not begin by refusing orders if it need
    /// not. It ends when the link is dropped. `replicas` are the copies in a cluster, where the bucket is yet to be made.
    pub async fn start(context: Context, replicas: usize) -> HaltsLink {
        let (tell, news) = mpsc::channel(MAX_NEWS);
        let (writes, wanted) = mpsc::channel(MAX_WRITES);
        let (first, heard) = oneshot::channel();
        let edge = Edge { context, replicas, tell, store: None, seen: None, is_told: false, lags: None, again: None };
        tokio::spawn(edge.run(wanted, first));
        let _ = timeout(FIRST, heard).await;
        HaltsLink { news, writes }
    }

    /// Hands over a change; what came of it arrives with the news.
    ///
    /// # Errors
    /// The change, if too many wait already.
    #[allow(clippy::boxed_local)] // it comes in a box, and goes back in it when it is refused
    pub fn write(&self, write: Box<HaltWrite>) -> Result<(), (Box<HaltWrite>, WriteError)> {
        self.writes.try_send(*write).map_err(|refused| {
            let why = format!("{MAX_WRITES} changes wait for the NATS bucket `{BUCKET}` already");
            (Box::new(refused.into_inner()), WriteError::Unwritable(why))
        })
    }
}

/// How far the bucket has come, in the words of the stream's leader: made when, at which sequence, with how many
/// messages and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Position {
    created: i128,
    last: u64,
    first: u64,
    messages: u64,
    keys: u64,
}

impl Position {
    /// Whether what some copy sent is all that the leader had: its newest sequence, and how many keys were read, those
    /// that hold a deletion included. A message that somebody took out by its sequence counts no more.
    fn is_whole(&self, newest: u64, newest_kept: u64, keys: u64) -> bool {
        keys == self.keys && (self.messages == 0 || (newest == newest_kept && newest_kept <= self.last))
    }
}

/// What a look at the bucket came to.
enum Look {
    Unchanged,
    Read(Position, Vec<HaltRecord>),
    /// A copy has not yet what its leader has: nothing of it is believed.
    Lags(String),
}

struct Edge {
    context: Context,
    replicas: usize,
    tell: mpsc::Sender<HaltNews>,
    /// The bucket, once it was found.
    store: Option<Store>,
    /// What was read last; nothing if it must be read in any case.
    seen: Option<Position>,
    /// Whether the gateway was told that the bucket cannot be read.
    is_told: bool,
    /// Since when what was read lags.
    lags: Option<Instant>,
    /// When to read it again although nothing changed.
    again: Option<Instant>,
}

impl Edge {
    async fn run(mut self, mut wanted: mpsc::Receiver<HaltWrite>, first: oneshot::Sender<()>) {
        let mut changes = self.context.client().subscribe(subject::HALTS_CHANGED).await.ok();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look().await;
        let _ = first.send(());
        loop {
            tokio::select! {
                biased;
                write = wanted.recv() => {
                    let Some(write) = write else { return };
                    let outcome = self.write(&write).await;
                    if matches!(outcome, Err(WriteError::Unwritable(_) | WriteError::InDoubt(_))) {
                        self.again = Some(Instant::now() + RETRY);
                    }
                    if self.tell.send(HaltNews::Written(Box::new(write), outcome)).await.is_err() {
                        return;
                    }
                }
                () = told(&mut changes) => self.look().await,
                _ = look.tick() => self.look().await,
            }
        }
    }

    /// Reads the bucket if it is not as it was.
    async fn look(&mut self) {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            (self.again, self.seen) = (None, None);
        }
        match self.read_changes().await {
            Ok(Look::Unchanged) => self.lags = None,
            Ok(Look::Read(position, records)) => {
                (self.seen, self.lags) = (Some(position), None);
                self.is_told = false;
                let _ = self.tell.send(HaltNews::Read(records)).await;
            }
            Ok(Look::Lags(why)) => {
                self.seen = None;
                if self.lags.get_or_insert_with(Instant::now).elapsed() > LAG_PATIENCE {
                    self.tell_unreadable(why).await;
                }
            }
            Err(error) => {
                (self.seen, self.store) = (None, None);
                self.tell_unreadable(format!("{error:#}")).await;
            }
        }
    }

    /// Once, until it could be read again.
    async fn tell_unreadable(&mut self, why: String) {
        if !std::mem::replace(&mut self.is_told, true) {
            let _ = self.tell.send(HaltNews::Unreadable(why)).await;
        }
    }

    async fn read_changes(&mut self) -> anyhow::Result<Look> {
        let mut lags = String::new();
        for _ in 0..READS {
            let store = self.open().await?;
            let info = store.stream.cached_info();
            let position = Position {
                created: info.created.unix_timestamp_nanos(),
                last: info.state.last_sequence,
                first: info.state.first_sequence,
                messages: info.state.messages,
                keys: info.state.subjects_count,
            };
            if self.seen == Some(position) {
                return Ok(Look::Unchanged);
            }
            let (newest, read) = read_all(&store).await?;
            let newest_kept =
                if newest == position.last { newest } else { newest_kept(&store.stream, &store.prefix).await? };
            let keys = read.len() as u64;
            if position.is_whole(newest, newest_kept, keys) {
                return Ok(Look::Read(position, read.into_values().flatten().collect()));
            }
            lags = format!(
                "a copy of the NATS bucket `{BUCKET}` lags behind its leader: {keys} of {} keys up to sequence {newest} \
                 of {newest_kept}",
                position.keys
            );
        }
        debug!(lags, "the halts are read again");
        Ok(Look::Lags(lags))
    }

    /// The bucket as its leader has it now; it is made if there is none.
    async fn open(&mut self) -> anyhow::Result<Store> {
        let opening = async {
            if let Some(mut store) = self.store.take() {
                store.stream.info().await.context("looking at it")?;
                return Ok(store);
            }
            match self.context.get_stream(format!("KV_{BUCKET}")).await {
                Ok(_) => {}
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(known) if known.code() == 404 => self.make().await?,
                    _ => return Err(error).context("looking at it"),
                },
            }
            self.context.get_key_value(BUCKET).await.context("looking at it")
        };
        let store = timeout(PATIENCE, opening)
            .await
            .with_context(|| format!("the NATS bucket `{BUCKET}` does not answer"))?
            .with_context(|| format!("the NATS bucket `{BUCKET}` cannot be opened"))?;
        self.store = Some(store.clone());
        Ok(store)
    }

    async fn make(&self) -> anyhow::Result<()> {
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "Gatemesh: what is halted".to_owned(),
            max_value_size: MAX_RECORD,
            history: 1,
            max_bytes: MAX_BYTES,
            num_replicas: self.replicas,
            republish: Some(Republish {
                source: format!("$KV.{BUCKET}.>"),
                destination: subject::HALTS_CHANGED.to_owned(),
                headers_only: true,
            }),
            ..Default::default()
        };
        self.context.create_key_value(config).await.map(drop).context("making it")
    }

    /// Makes a change on top of whatever is there, and on nothing else.
    async fn write(&mut self, write: &HaltWrite) -> Result<Option<HaltRecord>, WriteError> {
        let unwritable = |why: String| WriteError::Unwritable(why);
        let key = write.change.target().key();
        let in_doubt = AtomicBool::new(false);
        let changing = async {
            let store = self.open().await.map_err(|error| unwritable(format!("{error:#}")))?;
            loop {
                let (revision, current) = last_of(&store.stream, &store.prefix, &key).await?;
                let record = match decide(&write.change, current.as_ref()) {
                    Decision::Keep(record) => return Ok(record),
                    Decision::Conflict(entry) => return Err(WriteError::Conflict(Box::new(entry))),
                    Decision::Write(record) => record,
                };
                let bytes = codec::encode(&record).map_err(|error| unwritable(error.to_string()))?;
                let subject = format!("{}{key}", store.put_prefix.as_ref().unwrap_or(&store.prefix));
                let message = PublishMessage::build().payload(bytes.into()).expected_last_subject_sequence(revision);
                // Until the answer says otherwise it may be stored, though nobody waits for that any more.
                let was_in_doubt = in_doubt.swap(true, Ordering::Relaxed);
                let stored = async { self.context.send_publish(subject, message).await?.await }.await;
                match stored.map_err(|error| (error.kind(), error)) {
                    Ok(_) => return Ok(Some(record)),
                    // The answer is lost: look whether ours was stored.
                    Err((PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, _)) => {}
                    Err((kind, error)) => {
                        in_doubt.store(was_in_doubt, Ordering::Relaxed);
                        // Otherwise somebody else's came first.
                        if kind != PublishErrorKind::WrongLastSequence {
                            return Err(unwritable(format!("the NATS bucket `{BUCKET}` cannot be written: {error}")));
                        }
                    }
                }
            }
        };
        let outcome = timeout(WRITE_PATIENCE, changing).await.unwrap_or_else(|_| {
            let seconds = WRITE_PATIENCE.as_secs();
            Err(unwritable(format!("the NATS bucket `{BUCKET}` did not take it in {seconds} s")))
        });
        let outcome = match outcome {
            Err(WriteError::Unwritable(why)) if in_doubt.into_inner() => Err(WriteError::InDoubt(why)),
            outcome => outcome,
        };
        if let Err(error) = &outcome {
            debug!(key, ?error, "a halt or a resume was not written");
        }
        outcome
    }
}

/// Waits until the server tells of changes. Those that have come together are one.
async fn told(changes: &mut Option<Subscriber>) {
    let Some(subscriber) = changes else { return std::future::pending().await };
    if subscriber.next().await.is_none() {
        *changes = None;
        return;
    }
    while subscriber.next().now_or_never().flatten().is_some() {}
}

/// Revision and record of a key, from the stream's leader: a copy may not have heard of the latest.
async fn last_of(stream: &Stream, prefix: &str, key: &str) -> Result<(u64, Option<HaltRecord>), WriteError> {
    match stream.get_last_raw_message_by_subject(&format!("{prefix}{key}")).await {
        Ok(message) => Ok((
            message.sequence,
            record_of(key, Some(&message.headers), &message.payload, message.time.unix_timestamp_nanos()),
        )),
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((0, None)),
        Err(error) => Err(WriteError::Unwritable(format!("the NATS bucket `{BUCKET}` cannot be read: {error}"))),
    }
}

/// The sequence of the newest message that the stream's leader has; its last one may have been taken out.
async fn newest_kept(stream: &Stream, prefix: &str) -> anyhow::Result<u64> {
    match timeout(PATIENCE, stream.get_last_raw_message_by_subject(&format!("{prefix}>"))).await? {
        Ok(message) => Ok(message.sequence),
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(0),
        Err(error) => Err(error).with_context(|| format!("the NATS bucket `{BUCKET}` cannot be read")),
    }
}

/// The newest sequence, and what each key holds, as some copy of the bucket has it.
async fn read_all(store: &Store) -> anyhow::Result<(u64, BTreeMap<String, Option<HaltRecord>>)> {
    let reading = async {
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: format!("{}>", store.prefix),
            ..Default::default()
        };
        let consumer = store.stream.create_consumer(config).await?;
        let (mut newest, mut records) = (0, BTreeMap::new());
        if consumer.cached_info().num_pending == 0 {
            return anyhow::Ok((newest, records));
        }
        let mut messages = consumer.messages().await?;
        while let Some(message) = messages.try_next().await? {
            let (sequence, pending, time) = message
                .info()
                .map(|info| (info.stream_sequence, info.pending, info.published.unix_timestamp_nanos()))
                .map_err(|error| anyhow::anyhow!("a record without its revision: {error}"))?;
            newest = newest.max(sequence);
            let key = message.subject.strip_prefix(store.prefix.as_str()).unwrap_or_default();
            records.insert(key.to_owned(), record_of(key, message.headers.as_ref(), &message.payload, time));
            if pending == 0 {
                break;
            }
        }
        Ok((newest, records))
    };
    timeout(PATIENCE, reading)
        .await
        .with_context(|| format!("the NATS bucket `{BUCKET}` did not send its records"))?
        .with_context(|| format!("reading the NATS bucket `{BUCKET}`"))
}

/// What a key holds. A key that somebody deleted by other means than `resume` holds nothing, which ends no halt. What is
/// not understood is a halt: of what its key says, or of everything.
fn record_of(key: &str, headers: Option<&HeaderMap>, payload: &[u8], stored_nanos: i128) -> Option<HaltRecord> {
    if headers.is_some_and(|headers| headers.get("KV-Operation").is_some()) {
        return None;
    }
    let target = HaltTarget::of_key(key);
    match codec::decode::<HaltRecord>(payload) {
        Ok(record) if *record.target() == target => Some(record),
        // A newer version's: its scope is unknown here, its key is not.
        Ok(HaltRecord::Halted(entry)) if entry.target.scope == HaltScope::Unknown => {
            Some(HaltRecord::Halted(HaltEntry { target, ..entry }))
        }
        Ok(HaltRecord::Resumed(resumed)) if resumed.target.scope == HaltScope::Unknown => {
            Some(HaltRecord::Resumed(protocol::halt::Resumed { target, ..resumed }))
        }
        Ok(_) | Err(_) => {
            let since = chrono::DateTime::from_timestamp_nanos(i64::try_from(stored_nanos).unwrap_or_default());
            Some(HaltRecord::Halted(HaltEntry {
                target,
                reason: format!("the record `{key}` in the NATS bucket `{BUCKET}` is not understood"),
                reduce_only: false,
                since: since.fixed_offset(),
                cancel: false,
                external: false,
                spares_closing: false,
                by: None,
                local: false,
                heard: Heard::default(),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_leader_has_is_the_whole() {
        let position = |last, messages, keys| Position { created: 0, last, first: 1, messages, keys };
        assert!(position(0, 0, 0).is_whole(0, 0, 0), "there was never a halt");
        assert!(!position(5, 2, 2).is_whole(0, 5, 0), "a copy that has heard of nothing");
        assert!(!position(5, 2, 2).is_whole(4, 5, 2), "as many keys, and one of them as it was before");
        assert!(!position(5, 2, 2).is_whole(5, 5, 1), "one was written anew while it was read");
        assert!(!position(5, 2, 2).is_whole(6, 6, 3), "further than what is compared with");
        assert!(position(5, 2, 2).is_whole(5, 5, 2));
        assert!(position(5, 3, 2).is_whole(5, 5, 2), "a bucket that keeps a history");
        assert!(position(5, 2, 2).is_whole(3, 3, 2), "the last was taken out by its sequence");
        assert!(position(9, 0, 0).is_whole(0, 0, 0), "everything was");
    }
}
