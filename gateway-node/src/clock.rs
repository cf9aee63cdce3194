//! The one place where clocks are read.

use std::time::{Duration, Instant};

use protocol::Timestamp;

use crate::engine::Now;

/// The time, read here and passed in everywhere else.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now() }
    }
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { wall: wall_clock(), mono: self.mono() }
    }

    /// Time since this clock was made. It never jumps; it stands still while the machine is suspended.
    #[must_use]
    pub fn mono(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long until the clock shows this.
    #[must_use]
    pub fn until(&self, mono: Duration) -> Duration {
        mono.saturating_sub(self.mono())
    }
}

/// The node's clock, in UTC to the microsecond.
#[allow(clippy::disallowed_methods)] // the one place where the clock is read
#[must_use]
pub fn wall_clock() -> Timestamp {
    let now = chrono::Utc::now().fixed_offset();
    chrono::SubsecRound::trunc_subsecs(now, 6)
}
