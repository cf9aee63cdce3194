//! The one place where clocks are read.

use std::time::{Duration, Instant};

use protocol::Timestamp;

use crate::engine::Now;

/// The time, read here and passed in everywhere else.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall_at_start: Timestamp,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now(), wall_at_start: wall_clock() }
    }
}

impl Clock {
    /// The time. A machine's clock that is set back does not take it back: a deadline that has passed stays passed.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = self.mono();
        Now { wall: never_back(wall_clock(), self.wall_at_start, mono), mono }
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

/// What the clock shows, or what it would show had nobody set it back since the start.
fn never_back(wall: Timestamp, wall_at_start: Timestamp, since: Duration) -> Timestamp {
    let since = chrono::TimeDelta::from_std(since).unwrap_or_default();
    let steady = wall_at_start.checked_add_signed(since).unwrap_or(wall_at_start);
    wall.max(chrono::SubsecRound::trunc_subsecs(steady, 6))
}

/// The node's clock, in UTC to the microsecond.
#[allow(clippy::disallowed_methods)] // the one place where the clock is read
#[must_use]
pub fn wall_clock() -> Timestamp {
    let now = chrono::Utc::now().fixed_offset();
    chrono::SubsecRound::trunc_subsecs(now, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_take_time_back() {
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).expect("a time").fixed_offset();
        let since = Duration::from_secs(10);
        assert_eq!(never_back(at(1_010), at(1_000), since), at(1_010), "nothing happened");
        assert_eq!(never_back(at(1_005), at(1_000), since), at(1_010), "set back by five seconds");
        assert_eq!(never_back(at(9_000), at(1_000), since), at(9_000), "set forward, or the machine slept");
    }
}
