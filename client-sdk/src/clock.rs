//! What time it is at a gateway's node, for the deadlines that it checks.
//!
//! The node's time is counted on from one measurement by our monotonic clock, so nobody who sets this machine's wall
//! clock moves a deadline.

use std::time::Duration;

use protocol::rpc::Deadline;
use protocol::{ErrorCode, Timestamp};
use tokio::time::Instant;

use crate::error::Error;

/// A heartbeat may disagree this much (it travels, it queues) before the clock is measured again.
const TOLERANCE: Duration = Duration::from_millis(500);

/// A node's clock, as measured by one round trip; it belongs to one leadership epoch and one connection of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NodeClock {
    epoch: u64,
    /// Of the connection that it was measured on.
    generation: u64,
    node_ms: i64,
    at: Instant,
}

impl NodeClock {
    /// The node said its time somewhere between `sent` and `received`: most likely half way.
    pub(crate) fn measured(
        epoch: u64,
        generation: u64,
        node_time: Timestamp,
        sent: Instant,
        received: Instant,
    ) -> NodeClock {
        let at = sent + received.duration_since(sent) / 2;
        NodeClock { epoch, generation, node_ms: node_time.timestamp_millis(), at }
    }

    /// The epoch that it belongs to.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it was measured on this connection: behind a reconnect another node may lead.
    pub(crate) fn is_of_connection(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// The node's time at `now`, in milliseconds since 1970.
    pub(crate) fn now_ms(&self, now: Instant) -> i64 {
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match now.checked_duration_since(self.at) {
            Some(since) => self.node_ms.saturating_add(milliseconds(since)),
            None => self.node_ms.saturating_sub(milliseconds(self.at.duration_since(now))),
        }
    }

    /// This long after `began` on this clock, which no other epoch's leader can judge.
    pub(crate) fn deadline(&self, began: Instant, timeout: Duration) -> Deadline {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        Deadline { ms: self.now_ms(began).saturating_add(timeout_ms), epoch: Some(self.epoch) }
    }

    /// Whether a heartbeat of `epoch`, stamped `node_time` and received at `at`, fits this clock. Another epoch is
    /// another node; a heartbeat stamped too late or too early means that the node's clock was set.
    pub(crate) fn agrees_with(&self, epoch: u64, node_time: Timestamp, at: Instant) -> bool {
        let tolerance = TOLERANCE.as_millis();
        let apart = self.now_ms(at).abs_diff(node_time.timestamp_millis());
        self.epoch == epoch && u128::from(apart) <= tolerance
    }
}

/// Whether a refusal may mean that another leads, or that its clock was set: it is measured again before the next
/// deadline, whether or not a heartbeat has told of it.
#[must_use]
pub fn outdates_clock(error: &Error) -> bool {
    let codes = [ErrorCode::EpochChanged, ErrorCode::DeadlineExceeded, ErrorCode::ShuttingDown];
    error.code().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_time(ms: i64) -> Timestamp {
        chrono::DateTime::from_timestamp_millis(ms).expect("in range").fixed_offset()
    }

    #[tokio::test]
    async fn the_node_said_its_time_half_way() {
        let sent = Instant::now();
        let received = sent + Duration::from_millis(40);
        let clock = NodeClock::measured(3, 1, node_time(1_000_000), sent, received);
        assert_eq!(clock.now_ms(sent + Duration::from_millis(20)), 1_000_000);
        assert_eq!(clock.now_ms(received), 1_000_020);
        assert_eq!(clock.now_ms(sent), 999_980);
        assert_eq!(clock.now_ms(received + Duration::from_secs(60)), 1_060_020);
        let minute = Duration::from_secs(60);
        assert_eq!(clock.deadline(received, minute), Deadline { ms: 1_060_020, epoch: Some(3) });
        assert_eq!(clock.deadline(received, Duration::MAX).ms, i64::MAX);
    }

    #[tokio::test]
    async fn another_epoch_or_a_clock_that_was_set_needs_a_new_measurement() {
        let now = Instant::now();
        let clock = NodeClock::measured(3, 1, node_time(1_000_000), now, now);
        let later = now + Duration::from_secs(1);
        assert!(clock.agrees_with(3, node_time(1_001_000), later));
        assert!(clock.agrees_with(3, node_time(1_000_700), later), "it took 300 ms to arrive");
        assert!(!clock.agrees_with(4, node_time(1_001_000), later));
        assert!(!clock.agrees_with(3, node_time(1_005_000), later));
        assert!(!clock.agrees_with(3, node_time(997_000), later));
        assert!(clock.is_of_connection(1) && !clock.is_of_connection(2));
    }
}
