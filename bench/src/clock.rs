//! A clock that two processes on one machine share, for latencies one way.

use nix::time::{ClockId, clock_gettime};

/// The machine's monotonic clock, in nanoseconds since it started.
pub fn now_ns() -> u64 {
    // The kernel's own clock cannot fail to be read; every Unix has it.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the machine has a monotonic clock");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or_default()
}
