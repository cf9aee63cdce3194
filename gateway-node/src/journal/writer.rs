//! The task that appends: it sends the chain's entries, takes in acks, and after a failure looks up what is stored.

use std::time::Duration;

use async_nats::jetstream::context::{Context, PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use protocol::Name;
use protocol::defect::{Defect, is_planted};
use protocol::journal::{Entry, HEADER_MESSAGE_ID, WINDOW, encode_entry};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::chain::{Append, Chain, Said};
use super::follower::last_of;
use super::room::Room;
use super::{ACK_PATIENCE, is_stream_gone};

/// Entries that may wait for the writer. The engine refuses new orders long before (see `max_journal_backlog`) and
/// the node stops taking venue events; should it fill all the same, the gateway stops rather than lose an entry.
const QUEUE: usize = 32_768;
/// While the journal cannot be read, it is told this often.
pub(super) const COMPLAINT: Duration = Duration::from_secs(30);

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

#[derive(Debug, Clone)]
struct Queued {
    subject: String,
    payload: Bytes,
}

/// The task's own state. A leader is the only writer of its stream, so sequences are known in advance.
struct Writer {
    context: Context,
    stream: stream::Stream,
    gateway: Name,
    chain: Chain<Queued>,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<u64, PublishError>>>,
    progress: watch::Sender<Progress>,
    room: Room,
    /// The server has refused an append for want of room, and taken none since.
    is_refused: bool,
    began: tokio::time::Instant,
    /// How many bytes are stored, being asked.
    look: Option<BoxFuture<'static, Option<u64>>>,
}

impl JournalWriter {
    /// Starts the task, behind a `LeaderStarted` of this epoch that is stored at `base`, in a stream that takes so many
    /// bytes by now.
    pub(super) fn start(
        context: Context,
        stream: stream::Stream,
        gateway: &Name,
        epoch: u64,
        base: u64,
        bytes: u64,
    ) -> JournalWriter {
        let (entries, queue) = mpsc::channel(QUEUE);
        let max_bytes = u64::try_from(stream.cached_info().config.max_bytes).unwrap_or(u64::MAX);
        let room = Room::new(max_bytes, bytes, Duration::ZERO);
        let storage_full = room.is_full();
        let (progress_in, progress) = watch::channel(Progress { stored: base, storage_full, fenced: None });
        let writer = Writer {
            context,
            stream,
            gateway: gateway.clone(),
            chain: Chain::new(epoch, base, WINDOW),
            in_flight: FuturesOrdered::new(),
            progress: progress_in,
            room,
            is_refused: false,
            began: tokio::time::Instant::now(),
            look: None,
        };
        let task = tokio::spawn(writer.run(queue));
        JournalWriter { entries, progress, task, gateway: gateway.clone() }
    }

    /// Hands an entry to the writer; never waits.
    ///
    /// # Errors
    /// If the queue is full or the writer is gone: the leadership cannot go on.
    pub fn append(&self, entry: &Entry) -> anyhow::Result<()> {
        let (subject, payload) = encode_entry(&self.gateway, entry)?;
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

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut open = true;
        while open || self.chain.unacked() > 0 {
            let look_at = self.room.look_at().map(|at| self.began + at);
            let outcome = tokio::select! {
                biased;
                Some(ack) = self.in_flight.next(), if !self.in_flight.is_empty() => self.on_ack(ack),
                entry = queue.recv(), if open && self.chain.has_room() => match entry {
                    Some(entry) => {
                        let append = self.chain.push(entry);
                        self.publish(append).await.map_err(Failure::from)
                    }
                    None => {
                        open = false;
                        Ok(())
                    }
                },
                stored = async { self.look.as_mut().expect("it is asked").await }, if self.look.is_some() => {
                    self.look = None;
                    self.on_looked(stored);
                    Ok(())
                }
                () = tokio::time::sleep_until(look_at.unwrap_or(self.began)), if look_at.is_some() && self.look.is_none() => {
                    self.look = Some(bytes_stored(self.stream.clone()).boxed());
                    Ok(())
                }
            };
            if let Err(failure) = outcome
                && let Err(fenced) = self.recover(failure).await
            {
                warn!(gateway = %self.gateway, fenced, "the journal is lost to this leader");
                self.progress.send_modify(|p| p.fenced = Some(fenced));
                return;
            }
        }
    }

    fn on_looked(&mut self, stored: Option<u64>) {
        let now = self.began.elapsed();
        match stored {
            Some(stored) => self.room.looked(stored, now),
            None => self.room.look_later(now),
        }
        self.tell_room();
    }

    fn tell_room(&self) {
        self.progress.send_if_modified(|p| {
            let was_full = std::mem::replace(&mut p.storage_full, self.is_refused || self.room.is_full());
            was_full != p.storage_full
        });
    }

    async fn publish(&mut self, append: Append<Queued>) -> Result<(), PublishError> {
        self.room.take(append.entry.payload.len());
        self.tell_room();
        let mut message = PublishMessage::build().payload(append.entry.payload).message_id(append.id);
        if !is_planted(Defect::Fence) {
            // Not the predecessor's id: a cluster of 2.14 or newer checks that only when it applies what it has agreed
            // upon, takes a mismatch for a broken disk, and stops the stream on every server for good. The sequence is
            // checked before.
            message = message.expected_last_sequence(append.behind_sequence);
        }
        let ack: PublishAckFuture = self.context.send_publish(append.entry.subject, message).await?;
        self.in_flight.push_back(async move { ack.await.map(|ack| ack.sequence) }.boxed());
        Ok(())
    }

    fn on_ack(&mut self, ack: Result<u64, PublishError>) -> Result<(), Failure> {
        match self.chain.on_ack(ack?) {
            Said::Stored(sequence) => {
                self.is_refused = false;
                self.progress.send_modify(|p| {
                    p.stored = sequence;
                    p.storage_full = self.room.is_full();
                });
                Ok(())
            }
            Said::Unclear(why) | Said::Fenced(why) => Err(Failure(why)),
        }
    }

    /// After a failed append nobody knows what of the pipeline is stored. The last entry of the stream says it.
    async fn recover(&mut self, failure: Failure) -> Result<(), String> {
        self.in_flight = FuturesOrdered::new();
        let full = is_storage_full(&failure.0);
        self.is_refused = full;
        self.tell_room();
        debug!(gateway = %self.gateway, error = failure.0, "an append failed: looking up what is stored");
        let mut wait = Duration::from_millis(if full { 1_000 } else { 50 });
        let began = tokio::time::Instant::now();
        let mut complaints = 0;
        loop {
            tokio::time::sleep(wait).await;
            if began.elapsed() > COMPLAINT * (complaints + 1) {
                complaints += 1;
                let seconds = began.elapsed().as_secs();
                warn!(gateway = %self.gateway, seconds, unstored = self.chain.unacked(), "the journal takes nothing");
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
            match tokio::time::timeout(ACK_PATIENCE, last_of(&self.stream, &self.gateway, "leader")).await {
                Ok(Ok(Some((_, epoch, _)))) if epoch > self.chain.epoch() && !is_planted(Defect::Fence) => {
                    return Err(format!("epoch {epoch} leads"));
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    debug!(gateway = %self.gateway, %error, "who leads cannot be read; trying again");
                    continue;
                }
                Err(_) => continue,
            }
            match foreign(&self.stream, self.chain.unproven(sequence).collect()).await {
                Ok(None) => {}
                Ok(Some(fenced)) => return Err(fenced),
                Err(error) => {
                    debug!(gateway = %self.gateway, %error, "the journal cannot be read; trying again");
                    continue;
                }
            }
            match self.chain.on_last(sequence, &id) {
                Said::Stored(sequence) => self.progress.send_modify(|p| p.stored = p.stored.max(sequence)),
                Said::Unclear(why) | Said::Fenced(why) => return Err(why),
            }
            match self.send_again().await {
                Ok(()) => return Ok(()),
                Err(error) => debug!(gateway = %self.gateway, %error, "resending failed; looking again"),
            }
        }
    }

    async fn send_again(&mut self) -> Result<(), PublishError> {
        self.in_flight = FuturesOrdered::new();
        for append in self.chain.to_send_again() {
            self.publish(append).await?;
        }
        Ok(())
    }
}

async fn bytes_stored(stream: stream::Stream) -> Option<u64> {
    Some(tokio::time::timeout(ACK_PATIENCE, stream.get_info()).await.ok()?.ok()?.state.bytes)
}

/// Why an append is not known to be stored, in words.
struct Failure(String);

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Failure {
        Failure(format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
    }
}

/// Looks whether these ids are where they belong; if one is not, what is found in its place.
pub(super) async fn foreign(stream: &stream::Stream, ours: Vec<(u64, String)>) -> anyhow::Result<Option<String>> {
    for (place, id) in ours {
        // Not a direct get: a follower's copy may lag behind what is stored.
        let message = tokio::time::timeout(ACK_PATIENCE, stream.get_raw_message(place)).await??;
        let found = message.headers.get(HEADER_MESSAGE_ID).map(|id| id.as_str()).unwrap_or_default();
        if found != id {
            return Ok(Some(format!("entry {place} of the journal is `{found}`, where this leader's {id} belongs")));
        }
    }
    Ok(None)
}

pub(super) async fn last_entry(stream: stream::Stream) -> anyhow::Result<(u64, String)> {
    let sequence = stream.get_info().await?.state.last_sequence;
    // Not a direct get: a follower's copy may lag behind what is stored.
    let message = stream.get_raw_message(sequence).await?;
    let id = message.headers.get(HEADER_MESSAGE_ID).map(|v| v.as_str().to_owned()).unwrap_or_default();
    Ok((sequence, id))
}

pub(super) fn is_storage_full(error: &str) -> bool {
    ["maximum bytes exceeded", "maximum messages exceeded", "insufficient", "no space left"]
        .iter()
        .any(|text| error.contains(text))
}
