//! How much the journal still takes. Its last part is kept for what must not fail when it is full: cancels, what the venue
//! reports, and a takeover. New orders are refused before.

use std::time::Duration;

/// How often it is looked how much is stored, once it may be too much.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// About what the server stores with an entry beside its bytes: subject, headers, checksums.
const OVERHEAD: u64 = 256;

/// How much of a journal is kept free of new orders, of so many bytes.
#[must_use]
pub const fn reserve(max_bytes: u64) -> u64 {
    const MOST: u64 = 16 << 20;
    if max_bytes / 8 < MOST { max_bytes / 8 } else { MOST }
}

/// See the module. Time is since any fixed instant.
#[derive(Debug)]
pub struct Room {
    /// Orders are refused from here on.
    limit: u64,
    /// The same, if only an estimate says it.
    estimated_limit: u64,
    /// What was stored at the last look.
    known: u64,
    /// What has been appended since, at most.
    since: u64,
    looked: Duration,
    is_full: bool,
}

impl Room {
    /// A journal of at most so many bytes, of which so many are taken.
    #[must_use]
    pub fn new(max_bytes: u64, stored: u64, now: Duration) -> Room {
        let limit = max_bytes - reserve(max_bytes);
        let estimated_limit = limit + reserve(max_bytes) / 2;
        Room { limit, estimated_limit, known: stored, since: 0, looked: now, is_full: stored >= limit }
    }

    /// Whether new orders are to be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full || self.estimate() >= self.estimated_limit
    }

    fn estimate(&self) -> u64 {
        self.known.saturating_add(self.since)
    }

    /// An entry of so many bytes is appended.
    pub fn take(&mut self, bytes: usize) {
        self.since += bytes as u64 + OVERHEAD;
    }

    /// When to look how much is really stored, if at all: far from the limit nobody needs to know.
    #[must_use]
    pub fn look_at(&self) -> Option<Duration> {
        (self.estimate() >= self.limit).then(|| self.looked + LOOK_EVERY)
    }

    /// So much is stored.
    pub fn looked(&mut self, stored: u64, now: Duration) {
        (self.known, self.since, self.looked) = (stored, 0, now);
        self.is_full = stored >= self.limit;
    }

    /// The look came to nothing: later again.
    pub fn look_later(&mut self, now: Duration) {
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_full_before_the_server_says_so_and_has_room_again_after_a_purge() {
        let mut room = Room::new(80_000, 0, Duration::ZERO);
        room.take(10_000);
        assert_eq!((room.look_at(), room.is_full()), (None, false));
        for _ in 0..6 {
            room.take(10_000);
        }
        assert_eq!(room.look_at(), Some(SECOND));
        assert!(!room.is_full(), "an estimate is not quite believed");
        room.take(4_000);
        assert!(room.is_full(), "but not forever either");
        room.looked(70_000, SECOND);
        assert!(room.is_full() && room.look_at() == Some(SECOND * 2));
        room.look_later(SECOND * 2);
        assert_eq!(room.look_at(), Some(SECOND * 3));
        room.looked(20_000, SECOND * 3);
        assert!(!room.is_full() && room.look_at().is_none());
    }

    #[test]
    fn the_reserve_holds_takeovers() {
        assert_eq!(reserve(4 << 30), 16 << 20);
        // The least that can be configured, and what a fence takes with all that the server stores beside it.
        let fence = (protocol::journal::fence(protocol::journal::WINDOW) as u64 + 1) * 512;
        assert!(reserve(16 << 20) > 20 * fence);
    }
}
