//! Stores a leader's first entry behind a fence, in one atomic batch: what a replaced leader still has on its way fits
//! nowhere any more.

use anyhow::{Context as _, ensure};
use async_nats::header::{NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, header};
use protocol::journal::{Entry, Private, WINDOW, encode_entry, fence, message_id};
use uuid::Uuid;

/// A leader's beginning, ready to be stored as often as it takes.
pub(super) struct Beginning {
    epoch: u64,
    fence: Encoded,
    started: Encoded,
}

struct Encoded {
    subject: String,
    payload: bytes::Bytes,
}

fn encoded(gateway: &str, private: Private) -> anyhow::Result<Encoded> {
    let (subject, payload) = encode_entry(gateway, &Entry::Private(private))?;
    Ok(Encoded { subject, payload: payload.into() })
}

impl Beginning {
    /// `started` is a [`Private::LeaderStarted`] of this epoch.
    pub fn new(gateway: &str, epoch: u64, started: Private) -> anyhow::Result<Beginning> {
        let fence = encoded(gateway, Private::Fence { epoch })?;
        Ok(Beginning { epoch, fence, started: encoded(gateway, started)? })
    }

    /// Whether a stored entry is its `LeaderStarted`: this node's, of this attempt to lead.
    pub fn is(&self, subject: &str, payload: &[u8]) -> bool {
        subject == self.started.subject && payload == self.started.payload
    }

    /// Stores it behind entry `last`, and nowhere else; says at which sequence `LeaderStarted` is. After an error nobody
    /// knows whether it is stored.
    pub async fn store(&self, context: &Context, last: u64) -> anyhow::Result<u64> {
        let batch = Uuid::now_v7().to_string();
        let client = context.client();
        let length = fence(WINDOW);
        for number in 1..=length {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_BATCH_ID, batch.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, number.to_string());
            if number == 1 {
                // The server allows no other of a batch to ask.
                headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
            }
            client.publish_with_headers(self.fence.subject.clone(), headers, self.fence.payload.clone()).await?;
        }
        let started = PublishMessage::build()
            .payload(self.started.payload.clone())
            .message_id(message_id(self.epoch, 0))
            .header(NATS_BATCH_ID, batch.as_str())
            .header(NATS_BATCH_SEQUENCE, (length + 1).to_string())
            .header(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        let ack = context.send_publish(self.started.subject.clone(), started).await?.await?;
        ensure!(ack.batch_size == Some(length as u64 + 1), "the server did not store it as one batch");
        let base = last.checked_add(length as u64 + 1).context("the journal is full")?;
        ensure!(ack.sequence == base, "it was stored at {} instead of {base}", ack.sequence);
        Ok(base)
    }
}
