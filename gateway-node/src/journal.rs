//! The journal on JetStream: one stream per gateway, appended to in a chain that only one leader can continue.
//!
//! Appends are pipelined. Each names its predecessor (`Nats-Expected-Last-Msg-Id`), so a lost one stops all that
//! follow; the last stored entry then says where to go on. An entry is stored once however often it is sent. The
//! server republishes what is stored under `journal.<gateway>.pub.` as `evt.`.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, StorageType};
use bytes::Bytes;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use protocol::event::{Event, OmsEvent};
use protocol::rpc::{EventsPage, GetEvents, JournalEvent};
use protocol::{ErrorCode, Name, RpcError, Subject, codec, subject};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::engine::{Entry, Private, Replayed};

/// Entries that may wait for the writer. The engine refuses new orders long before (see `max_journal_backlog`) and
/// the node stops taking venue events; should it fill all the same, the gateway stops rather than lose an entry.
const QUEUE: usize = 32_768;
/// Most appends without an ack.
const IN_FLIGHT: usize = 1_024;
/// An append without an ack for this long is looked up.
const ACK_PATIENCE: Duration = Duration::from_secs(3);
/// While the journal cannot be read, it is told this often.
const COMPLAINT: Duration = Duration::from_secs(30);
/// A page that takes longer is given up: what it waits for may have died with a server.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Most entries that are looked at for one page: an owner's may be thinly spread.
const PAGE_SCANNED: usize = 20_000;
/// Most events of one `get_events` page; with a byte bound as the lists have.
const PAGE_EVENTS: usize = 1_000;
const PAGE_BYTES: usize = 512 * 1024;

const MSG_ID: &str = "Nats-Msg-Id";

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Most bytes stored; when full, new entries are refused and old ones stay.
    pub max_bytes: i64,
    /// Copies in a cluster.
    pub replicas: usize,
}

/// How far the writer has come. Only the newest matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is stored.
    pub stored: u64,
    /// The storage takes no more.
    pub storage_full: bool,
    /// Somebody else continued the journal, or it is gone: this leadership is over.
    pub fenced: Option<String>,
}

/// The node's end of the writer.
pub struct JournalWriter {
    entries: mpsc::Sender<Queued>,
    /// How far it has come.
    pub progress: watch::Receiver<Progress>,
    task: tokio::task::JoinHandle<()>,
    gateway: Name,
}

struct Queued {
    subject: String,
    payload: Bytes,
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
        .max_ack_inflight(IN_FLIGHT * 2)
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
    let (entries, queue) = mpsc::channel(QUEUE);
    let (progress_in, progress) = watch::channel(Progress { stored: ack.sequence, ..Progress::default() });
    let writer = Writer {
        context,
        stream: stream.clone(),
        gateway: gateway.clone(),
        epoch,
        base: ack.sequence,
        sent: 0,
        acked: 0,
        unacked: VecDeque::new(),
        in_flight: FuturesOrdered::new(),
        progress: progress_in,
    };
    let task = tokio::spawn(writer.run(queue));
    let reader = JournalReader { stream, gateway: gateway.clone() };
    let writer = JournalWriter { entries, progress, task, gateway: gateway.clone() };
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

fn message_id(epoch: u64, number: u64) -> String {
    format!("{epoch}-{number}")
}

fn parse_message_id(text: &str) -> Option<(u64, u64)> {
    let (epoch, number) = text.split_once('-')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}

fn entry_epoch(headers: Option<&async_nats::HeaderMap>) -> u64 {
    headers.and_then(|h| h.get(MSG_ID)).and_then(|v| parse_message_id(v.as_str())).map_or(0, |(epoch, _)| epoch)
}

/// The entry in a stored message.
fn decode_entry(subject: &str, payload: &[u8]) -> Result<Entry, String> {
    let mut tokens = subject.split('.').skip(2);
    if tokens.next() != Some("pub") {
        return codec::decode::<Private>(payload).map(Entry::Private).map_err(|e| e.to_string());
    }
    let event = match tokens.next() {
        Some("order") => decode_event(payload, OmsEvent::Order),
        Some("trade") => decode_event(payload, OmsEvent::Trade),
        Some("quote") => decode_event(payload, OmsEvent::Quote),
        Some("position") => decode_event(payload, OmsEvent::Position),
        Some("account") => decode_event(payload, OmsEvent::Account),
        other => return Err(format!("unknown kind {other:?}")),
    };
    event.map(|event| Entry::Event(Box::new(event))).map_err(|e| e.to_string())
}

fn decode_event<T: serde::de::DeserializeOwned>(
    payload: &[u8],
    wrap: impl FnOnce(T) -> OmsEvent,
) -> Result<Event<OmsEvent>, codec::DecodeError> {
    codec::decode::<Event<T>>(payload).map(|event| event.map(wrap))
}

/// The bytes of an event: the object itself in its envelope, without the tag that only memory needs.
fn encode_event(event: &Event<OmsEvent>) -> Result<Vec<u8>, codec::EncodeError> {
    fn around<T: serde::Serialize>(event: &Event<OmsEvent>, data: &T) -> Result<Vec<u8>, codec::EncodeError> {
        codec::encode(&Event {
            gateway: event.gateway.clone(),
            epoch: event.epoch,
            seq: event.seq,
            time: event.time,
            data,
        })
    }
    match &event.data {
        OmsEvent::Order(data) => around(event, data),
        OmsEvent::Trade(data) => around(event, data),
        OmsEvent::Quote(data) => around(event, data),
        OmsEvent::Position(data) => around(event, data),
        OmsEvent::Account(data) => around(event, data),
    }
}

impl JournalWriter {
    /// Hands an entry to the writer; never waits.
    ///
    /// # Errors
    /// If the queue is full or the writer is gone: the leadership cannot go on.
    pub fn append(&self, entry: &Entry) -> anyhow::Result<()> {
        let (subject, payload) = match entry {
            Entry::Event(event) => (Subject::of(&event.data).journal(&self.gateway), encode_event(event)?),
            Entry::Private(private) => {
                (subject::journal_private(&self.gateway, private.kind()), codec::encode(private)?)
            }
        };
        let entry = Queued { subject, payload: payload.into() };
        self.entries.try_send(entry).map_err(|_| anyhow::anyhow!("the journal's queue is full or its writer is gone"))
    }

    /// No more entries come: waits until everything is stored, at most `patience`.
    pub async fn finish(self, patience: Duration) -> Progress {
        drop(self.entries);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            warn!(gateway = %self.gateway, "the journal was not flushed in time");
            abort.abort();
        }
        self.progress.borrow().clone()
    }
}

struct Unacked {
    number: u64,
    subject: String,
    payload: Bytes,
}

/// The task that appends. It is the only writer of the stream while it leads, so sequences are known in advance:
/// entry `n` of this epoch has sequence `base + n`.
struct Writer {
    context: Context,
    stream: stream::Stream,
    gateway: Name,
    epoch: u64,
    base: u64,
    sent: u64,
    acked: u64,
    unacked: VecDeque<Unacked>,
    in_flight: FuturesOrdered<futures::future::BoxFuture<'static, Result<u64, PublishError>>>,
    progress: watch::Sender<Progress>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut open = true;
        while open || !self.unacked.is_empty() {
            let outcome = tokio::select! {
                biased;
                Some(ack) = self.in_flight.next(), if !self.in_flight.is_empty() => self.on_ack(ack),
                entry = queue.recv(), if open && self.in_flight.len() < IN_FLIGHT => match entry {
                    Some(entry) => {
                        self.sent += 1;
                        let entry = Unacked { number: self.sent, subject: entry.subject, payload: entry.payload };
                        let outcome = self.publish(&entry).await;
                        self.unacked.push_back(entry);
                        outcome
                    }
                    None => {
                        open = false;
                        Ok(())
                    }
                },
            };
            if let Err(error) = outcome
                && let Err(fenced) = self.recover(error).await
            {
                warn!(gateway = %self.gateway, fenced, "the journal is lost to this leader");
                self.progress.send_modify(|p| p.fenced = Some(fenced));
                return;
            }
        }
    }

    async fn publish(&mut self, entry: &Unacked) -> Result<(), PublishError> {
        let message = PublishMessage::build()
            .payload(entry.payload.clone())
            .message_id(message_id(self.epoch, entry.number))
            .expected_last_message_id(message_id(self.epoch, entry.number - 1));
        let ack: PublishAckFuture = self.context.send_publish(entry.subject.clone(), message).await?;
        self.in_flight.push_back(async move { ack.await.map(|ack| ack.sequence) }.boxed());
        Ok(())
    }

    fn on_ack(&mut self, ack: Result<u64, PublishError>) -> Result<(), PublishError> {
        let sequence = ack?;
        let Some(entry) = self.unacked.pop_front() else { return Ok(()) };
        self.acked = entry.number;
        if sequence != self.base + entry.number {
            return Err(PublishError::with_source(
                PublishErrorKind::WrongLastSequence,
                format!("entry {} was stored at {sequence}, not {}", entry.number, self.base + entry.number),
            ));
        }
        self.progress.send_modify(|p| {
            p.stored = sequence;
            p.storage_full = false;
        });
        Ok(())
    }

    /// After a failed append nobody knows what of the pipeline is stored. The last entry of the stream says it:
    /// ours → go on behind it; anybody else's → this leadership is over.
    async fn recover(&mut self, error: PublishError) -> Result<(), String> {
        self.in_flight = FuturesOrdered::new();
        let text = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
        let full = is_storage_full(&text);
        self.progress.send_if_modified(|p| {
            let changed = p.storage_full != full;
            p.storage_full = full;
            changed
        });
        debug!(gateway = %self.gateway, error = text, "an append failed: looking up what is stored");
        let mut wait = Duration::from_millis(if full { 1_000 } else { 50 });
        let began = tokio::time::Instant::now();
        let mut complaints = 0;
        loop {
            tokio::time::sleep(wait).await;
            if began.elapsed() > COMPLAINT * (complaints + 1) {
                complaints += 1;
                let seconds = began.elapsed().as_secs();
                warn!(gateway = %self.gateway, seconds, unstored = self.unacked.len(), "the journal takes nothing");
            }
            wait = (wait * 2).min(Duration::from_secs(1));
            let last = last_entry(self.stream.clone());
            let (sequence, id) = match tokio::time::timeout(ACK_PATIENCE, last).await {
                Ok(Ok(last)) => last,
                Ok(Err(error)) => {
                    if is_stream_gone(&error.to_string()) {
                        return Err("the journal's stream is gone".to_owned());
                    }
                    debug!(gateway = %self.gateway, %error, "the journal cannot be read; trying again");
                    continue;
                }
                Err(_) => continue,
            };
            match parse_message_id(&id) {
                Some((epoch, number)) if epoch == self.epoch && number < self.acked => {
                    return Err(format!(
                        "the journal ends at entry {sequence}; later ones that it acknowledged are gone"
                    ));
                }
                Some((epoch, number))
                    if epoch == self.epoch && number <= self.sent && sequence == self.base + number =>
                {
                    while self.unacked.front().is_some_and(|entry| entry.number <= number) {
                        self.unacked.pop_front();
                    }
                    self.acked = self.acked.max(number);
                    self.progress.send_modify(|p| p.stored = p.stored.max(sequence));
                }
                _ => return Err(format!("entry {sequence} of the journal is `{id}`, not this leader's")),
            }
            match self.resend().await {
                Ok(()) => return Ok(()),
                Err(error) => debug!(gateway = %self.gateway, %error, "resending failed; looking again"),
            }
        }
    }

    async fn resend(&mut self) -> Result<(), PublishError> {
        self.in_flight = FuturesOrdered::new();
        let waiting = std::mem::take(&mut self.unacked);
        let mut outcome = Ok(());
        for entry in &waiting {
            outcome = self.publish(entry).await;
            if outcome.is_err() {
                break;
            }
        }
        self.unacked = waiting;
        outcome
    }
}

async fn last_entry(stream: stream::Stream) -> anyhow::Result<(u64, String)> {
    let sequence = stream.get_info().await?.state.last_sequence;
    // Not a direct get: a follower's copy may lag behind what is stored.
    let message = stream.get_raw_message(sequence).await?;
    let id = message.headers.get(MSG_ID).map(|v| v.as_str().to_owned()).unwrap_or_default();
    Ok((sequence, id))
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

fn is_storage_full(error: &str) -> bool {
    ["maximum bytes exceeded", "maximum messages exceeded", "insufficient", "no space left"]
        .iter()
        .any(|text| error.contains(text))
}

/// Reads what is stored, for clients that missed something.
#[derive(Clone)]
pub struct JournalReader {
    stream: stream::Stream,
    gateway: Name,
}

impl JournalReader {
    /// A page of events behind a position. `last` is the journal's end as the caller knows it.
    ///
    /// # Errors
    /// `TOO_OLD` if the position is not kept any more (or never was); `INTERNAL` if the journal cannot be read.
    pub async fn read(&self, params: &GetEvents, last: u64) -> Result<EventsPage, RpcError> {
        let failed = |error: anyhow::Error| {
            warn!(gateway = %self.gateway, %error, "the journal cannot be read");
            RpcError::new(ErrorCode::NotReady, format!("the journal cannot be read now: {error}"))
        };
        let state = self.stream.get_info().await.map_err(|e| failed(e.into()))?.state;
        if params.after.saturating_add(1) < state.first_sequence || params.after > state.last_sequence {
            return Err(RpcError::new(
                ErrorCode::TooOld,
                format!(
                    "after: {} is not kept; the journal holds {} to {}: take a snapshot",
                    params.after, state.first_sequence, state.last_sequence
                ),
            ));
        }
        let last = last.max(params.after);
        let limit = params.limit.unwrap_or(PAGE_EVENTS).clamp(1, PAGE_EVENTS);
        match tokio::time::timeout(READ_PATIENCE, self.page(params, last, limit)).await {
            Ok(page) => page.map_err(failed),
            Err(_) => Err(failed(anyhow::anyhow!("the server sent nothing for {} s", READ_PATIENCE.as_secs()))),
        }
    }

    async fn page(&self, params: &GetEvents, last: u64, limit: usize) -> anyhow::Result<EventsPage> {
        let mut page = EventsPage { items: Vec::new(), scanned: params.after, last };
        if params.after >= last {
            return Ok(page);
        }
        let consumer = self
            .stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: params.after + 1 },
                ack_policy: AckPolicy::None,
                filter_subject: format!("{}>", subject::journal_published_prefix(&self.gateway)),
                inactive_threshold: Duration::from_secs(10),
                memory_storage: true,
                num_replicas: 1,
                ..Default::default()
            })
            .await?;
        // Several rounds, since an owner's events may be thinly spread. Only the server's own count of what is left says
        // that there is no more: a round may end early for other reasons.
        let (mut bytes, mut looked_at) = (0, 0);
        let mut left = consumer.cached_info().num_pending;
        'rounds: while left > 0 {
            let mut batch = consumer.fetch().max_messages(limit).messages().await?;
            let mut received = 0;
            while let Some(message) = batch.try_next().await.map_err(|e| anyhow::anyhow!(e))? {
                received += 1;
                let info = message.info().map_err(|e| anyhow::anyhow!(e))?;
                let seq = info.stream_sequence;
                left = info.pending;
                if seq > last {
                    page.scanned = last;
                    break 'rounds;
                }
                page.scanned = seq;
                looked_at += 1;
                if !is_of_owner(&message.subject, params.owner.as_deref()) {
                    continue;
                }
                let Ok(Entry::Event(event)) = decode_entry(&message.subject, &message.payload) else { continue };
                bytes += message.payload.len() + 64;
                page.items.push(JournalEvent { journal_seq: seq, event: *event });
                if page.items.len() >= limit || bytes > PAGE_BYTES {
                    break 'rounds;
                }
            }
            anyhow::ensure!(received > 0, "the server sent nothing of the {left} entries that are left");
            if looked_at >= PAGE_SCANNED {
                break;
            }
        }
        if left == 0 && page.items.len() < limit && bytes <= PAGE_BYTES {
            page.scanned = last;
        }
        let name = consumer.cached_info().name.clone();
        if let Err(error) = self.stream.delete_consumer(&name).await {
            debug!(%error, "a reader is left to its timeout");
        }
        Ok(page)
    }
}

/// Whether a journalled event is of this owner, or of nobody: positions and accounts.
fn is_of_owner(subject: &str, owner: Option<&str>) -> bool {
    let Some(owner) = owner else { return true };
    match subject.split('.').nth(3) {
        Some("order" | "trade" | "quote") => subject.rsplit('.').next() == Some(subject::token(owner).as_str()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderRequest};

    fn order_event() -> Event<OmsEvent> {
        let instrument = InstrumentId::new("SPC c1905&cs1905", Exchange::DCE);
        let order = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3500.0, 1.0)
            .to_order(&"sim1".into(), &"default".into());
        let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        Event { gateway: "sim1".into(), epoch: 3, seq: 1, time, data: OmsEvent::Order(order) }
    }

    #[test]
    fn entries_read_back_from_their_subject_and_bytes() {
        let event = order_event();
        let bytes = encode_event(&event).expect("encodes");
        let subject = Subject::of(&event.data).journal("sim1");
        assert!(subject.starts_with("journal.sim1.pub.order.SPC%20c1905%26cs1905.DCE.sim1.default"));
        assert_eq!(decode_entry(&subject, &bytes), Ok(Entry::Event(Box::new(event))));

        let private = Private::CancelRequested {
            owner: "default".into(),
            orderid: protocol::OrderId::new("a"),
            time: order_event().time,
        };
        let bytes = codec::encode(&private).expect("encodes");
        assert_eq!(decode_entry("journal.sim1.cancel", &bytes), Ok(Entry::Private(private)));
        assert!(decode_entry("journal.sim1.pub.moon", b"{}").is_err());
        assert!(decode_entry("journal.sim1.pub.order.x", b"\xff").is_err());
    }

    #[test]
    fn owners_are_told_apart_by_subject() {
        assert!(is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.default", Some("default")));
        assert!(!is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.other", Some("default")));
        assert!(is_of_owner("journal.sim1.pub.position.a.SHFE.sim1", Some("default")));
        assert!(is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.other", None));
    }

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

    #[test]
    fn message_ids_read_back() {
        assert_eq!(parse_message_id(&message_id(7, 42)), Some((7, 42)));
        assert_eq!(parse_message_id("nonsense"), None);
    }
}
