//! Whether the front is connected, as the library's thread says it. It is no event in a queue, so that it cannot be lost.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What one object of the library said of its connections.
#[derive(Debug, Default)]
pub(super) struct Link(Mutex<Standing>);

/// How it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The number of the connection that there is or was last; 0 before the first.
    pub connection: u64,
    pub is_up: bool,
    /// How often the library said that there is none any more. It says so, too, when it tried in vain.
    pub losses: u64,
    /// Why, the last time.
    pub reason: i32,
}

impl Link {
    pub(super) fn connected(&self) {
        let mut standing = self.lock();
        standing.connection += 1;
        standing.is_up = true;
    }

    pub(super) fn disconnected(&self, reason: i32) {
        let mut standing = self.lock();
        standing.is_up = false;
        standing.losses += 1;
        standing.reason = reason;
    }

    pub(super) fn standing(&self) -> Standing {
        *self.lock()
    }

    /// Nobody holds it for longer than a copy takes.
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
