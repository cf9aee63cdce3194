//! Reads what is stored, for clients that missed something.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{self, LastRawMessageErrorKind};
use futures::TryStreamExt;
use protocol::journal::{Entry, decode_entry};
use protocol::rpc::{EventsPage, GetEvents, JournalEvent};
use protocol::{ErrorCode, Name, RpcError, subject};
use tracing::{debug, info, warn};

/// A page that takes longer is given up: what it waits for may have died with a server.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Most entries that are looked at for one page: an owner's may be thinly spread.
const PAGE_SCANNED: usize = 20_000;
/// Most events of one `get_events` page; with a byte bound as the lists have.
const PAGE_EVENTS: usize = 1_000;
const PAGE_BYTES: usize = 512 * 1024;

/// Reads what is stored, for clients that missed something.
#[derive(Clone)]
pub struct JournalReader {
    pub(super) stream: stream::Stream,
    pub(super) gateway: Name,
    /// Whose journal it is now, and from which sequence on: what an earlier leader has there is void.
    pub(super) epoch: u64,
    pub(super) base: u64,
}

impl JournalReader {
    /// Gives up what lies before this sequence: days older than the oldest snapshot that is kept.
    pub async fn purge_before(&self, sequence: u64) {
        let first = match self.stream.get_info().await {
            Ok(info) => info.state.first_sequence,
            Err(error) => return debug!(gateway = %self.gateway, %error, "old days are kept for now"),
        };
        if first >= sequence {
            return;
        }
        match self.stream.purge().sequence(sequence).await {
            Ok(purged) => {
                info!(gateway = %self.gateway, entries = purged.purged, before = sequence, "old days left the journal")
            }
            Err(error) => warn!(gateway = %self.gateway, %error, "old days could not leave the journal"),
        }
    }

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

    /// The next published entry behind a sequence, as the stream's leader has it.
    async fn first_behind(&self, sequence: u64) -> anyhow::Result<Option<u64>> {
        let published = format!("{}>", subject::journal_published_prefix(&self.gateway));
        match self.stream.get_first_raw_message_by_subject(&published, sequence + 1).await {
            Ok(message) => Ok(Some(message.sequence)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
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
                if seq > self.base && event.epoch < self.epoch {
                    continue;
                }
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
            // Says the copy that was read; it may lag behind.
            match self.first_behind(page.scanned).await? {
                Some(next) if next <= last => {
                    anyhow::ensure!(page.scanned > params.after, "the copy that was read lags behind entry {next}");
                }
                _ => page.scanned = last,
            }
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

    #[test]
    fn owners_are_told_apart_by_subject() {
        assert!(is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.default", Some("default")));
        assert!(!is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.other", Some("default")));
        assert!(is_of_owner("journal.sim1.pub.position.a.SHFE.sim1", Some("default")));
        assert!(is_of_owner("journal.sim1.pub.order.a.SHFE.sim1.other", None));
    }

    proptest::proptest! {
        #[test]
        fn no_subject_is_a_panic(subject in "(journal\\.[a-z0-9]{1,4}\\.)?(pub\\.)?[a-z.*>%]{0,24}") {
            let _ = is_of_owner(&subject, Some("default"));
        }
    }
}
