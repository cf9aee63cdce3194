//! Reads a stream in order from a position, over every failure of a connection, a consumer or a server in between.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream;
use futures::TryStreamExt;
use tracing::debug;

/// Messages asked for at a time.
const BATCH: usize = 500;
/// A batch whose next message takes longer is asked for anew: its consumer may have died with its server.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often in a row a reading that brings nothing is begun anew.
const ATTEMPTS: u32 = 10;

/// A stored message.
pub(super) struct Stored<'a> {
    pub sequence: u64,
    pub subject: &'a str,
    pub payload: &'a [u8],
    pub headers: Option<&'a HeaderMap>,
}

/// See the module. Consumers that deliver by themselves stay silent for long after a server's restart; this one asks.
pub(super) struct Cursor {
    stream: stream::Stream,
    /// The next sequence to read.
    next: u64,
    consumer: Option<Consumer<pull::Config>>,
}

impl Cursor {
    pub fn new(stream: stream::Stream, next: u64) -> Self {
        Cursor { stream, next, consumer: None }
    }

    /// Reads everything up to and with `last`, which the stream holds or has held.
    ///
    /// # Errors
    /// If the stream cannot be read. What was taken is taken: the next call goes on behind it.
    pub async fn advance(&mut self, last: u64, mut take: impl FnMut(Stored<'_>)) -> anyhow::Result<()> {
        let mut failures = 0;
        while self.next <= last {
            let before = self.next;
            if let Err(error) = self.batch(last, &mut take).await {
                debug!(%error, next = self.next, "reading the journal is begun anew");
                self.consumer = None;
                failures = if self.next > before { 0 } else { failures + 1 };
                if failures >= ATTEMPTS {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn batch(&mut self, last: u64, take: &mut impl FnMut(Stored<'_>)) -> anyhow::Result<()> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => tokio::time::timeout(PATIENCE, self.stream.create_consumer(config(self.next)))
                .await
                .context("the server made no reader in time")??,
        };
        let mut batch = tokio::time::timeout(PATIENCE, consumer.fetch().max_messages(BATCH).messages())
            .await
            .context("the server took no question in time")??;
        let mut taken = 0;
        loop {
            let message = tokio::time::timeout(PATIENCE, batch.try_next()).await.context("the server fell silent")?;
            let Some(message) = message.map_err(|e| anyhow::anyhow!(e))? else { break };
            let info = message.info().map_err(|e| anyhow::anyhow!("a message without its sequence: {e}"))?;
            let sequence = info.stream_sequence;
            if sequence < self.next {
                continue;
            }
            taken += 1;
            self.next = sequence + 1;
            take(Stored {
                sequence,
                subject: &message.subject,
                payload: &message.payload,
                headers: message.headers.as_ref(),
            });
        }
        if taken == 0 && self.next <= last {
            self.skip_what_is_gone(last).await?;
            anyhow::ensure!(self.next > last, "the server sent nothing of the entries from {}", self.next);
        }
        self.consumer = Some(consumer);
        Ok(())
    }
}

impl Cursor {
    /// Nothing was sent although the stream ends later: it was purged, or the copy that was read lags behind. Only whoever
    /// decides what is stored can tell.
    async fn skip_what_is_gone(&mut self, last: u64) -> anyhow::Result<()> {
        use async_nats::jetstream::stream::RawMessageErrorKind;
        let state = self.stream.get_info().await?.state;
        self.next = self.next.max(state.first_sequence);
        while self.next <= last {
            match self.stream.get_raw_message(self.next).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => self.next += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn config(start_sequence: u64) -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
        ack_policy: AckPolicy::None,
        inactive_threshold: Duration::from_secs(30),
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    }
}
