//! The wall clock, read here and nowhere else: runner, clients and venue share one machine, so their times compare.

/// Microseconds since 1970.
#[allow(clippy::disallowed_methods)] // the one place where the clock is read
#[must_use]
pub fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
