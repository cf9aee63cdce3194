//! The journal on JetStream: one stream per gateway, appended to in a chain that only one leader can continue.
//!
//! Appends are pipelined. Each names its predecessor's sequence (`Nats-Expected-Last-Sequence`), so a lost one stops all
//! that follow; the last stored entry then says where to go on. An entry is stored once however often it is sent. The
//! server republishes what is stored under `journal.<gateway>.pub.` as `evt.`.

pub mod chain;
mod cursor;
mod follower;
mod reader;
mod room;
mod takeover;
mod writer;

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, StorageType};
use protocol::journal::WINDOW;
use protocol::subject;

pub use follower::{Follower, Led, highest_epoch};
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
    /// Trading days whose snapshots are kept, with what follows the oldest of them.
    pub keep_days: usize,
    /// Day rolls for which the ids of orders that left the state are kept.
    pub keep_ids_days: usize,
}

/// JetStream on a connection, with the bounds that the writer relies on.
#[must_use]
pub fn context(client: async_nats::Client) -> Context {
    async_nats::jetstream::context::ContextBuilder::new()
        .timeout(ACK_PATIENCE)
        // Appends that are given up hold their places among those in flight for no longer than that.
        .ack_timeout(ACK_PATIENCE)
        .max_ack_inflight(WINDOW * 2)
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
        // Storage refuses new entries when full; it never drops old ones. See `room`.
        discard: DiscardPolicy::New,
        // An audit trail: what is before the oldest kept snapshot may be purged, and nothing else goes.
        deny_delete: true,
        max_bytes: options.max_bytes,
        num_replicas: options.replicas,
        storage: StorageType::File,
        allow_direct: true,
        // Each append names its place, so nothing rests on this; the default keeps every id of two minutes in memory.
        duplicate_window: Duration::from_secs(1),
        // For `takeover`.
        allow_atomic_publish: true,
        ..Default::default()
    };
    let made = context.create_or_update_stream(config).await.with_context(|| {
        format!(
            "making the stream {name}: is JetStream enabled, and does its storage have {} bytes?",
            options.max_bytes
        )
    })?;
    anyhow::ensure!(
        made.config.allow_atomic_publish,
        "the server cannot store several entries as one: nats-server 2.12 or newer is needed"
    );
    context.get_stream(&name).await.with_context(|| format!("opening the stream {name}"))
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
