//! A library whose front hangs up at once connects again, some of them many hundred times a second, and writes a line for
//! each. Such an object is let go, and a new one is made a little later.

use std::time::Duration;

/// More losses of the front than this within a second are too many.
const MOST: u64 = 20;
/// The time that is counted.
const SECOND: Duration = Duration::from_secs(1);
/// The first rest; each is twice as long as the one before.
const FIRST: Duration = Duration::from_secs(2);
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// When counting began, and how many losses there were then.
    since: Duration,
    losses: u64,
    /// Rests since the last login.
    rests: u32,
    /// There is no object before this.
    until: Option<Duration>,
}

impl Rest {
    /// When the next object is to be made, if one was let go.
    pub(super) fn until(&self) -> Option<Duration> {
        self.until
    }

    /// A new object, of which nothing was lost yet.
    pub(super) fn begun(&mut self, now: Duration) {
        (self.since, self.losses, self.until) = (now, 0, None);
    }

    /// The front works: the next rest is a short one.
    pub(super) fn logged_in(&mut self) {
        self.rests = 0;
    }

    /// There is nothing to wait for.
    pub(super) fn ended(&mut self) {
        *self = Rest::default();
    }

    /// So many losses of this object's front by now. If they are too many: how long its rest is.
    pub(super) fn counted(&mut self, now: Duration, losses: u64) -> Option<Duration> {
        let since = now.saturating_sub(self.since);
        if losses.saturating_sub(self.losses) > MOST * since.as_secs().max(1) {
            return Some(self.begin(now));
        }
        if since >= SECOND {
            (self.since, self.losses) = (now, losses);
        }
        None
    }

    /// The shortest rest, and the next one is no longer for it: nobody was hammered.
    pub(super) fn briefly(&mut self, now: Duration) -> Duration {
        self.until = Some(now + FIRST);
        FIRST
    }

    /// Begins a rest and says how long it is.
    pub(super) fn begin(&mut self, now: Duration) -> Duration {
        let rest = FIRST.saturating_mul(1 << self.rests.min(10)).min(LONGEST);
        self.rests += 1;
        self.until = Some(now + rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_front_that_hangs_up_again_and_again_is_left_alone_for_ever_longer() {
        let mut rest = Rest::default();
        let mut now = ms(5_000);
        let mut rests = Vec::new();
        for _ in 0..7 {
            rest.begun(now);
            assert_eq!(rest.until(), None);
            for losses in 1..=20 {
                assert_eq!(rest.counted(now + ms(losses), losses), None);
            }
            let length = rest.counted(now + ms(30), 21).expect("too many");
            assert_eq!(rest.until(), Some(now + ms(30) + length));
            rests.push(length.as_secs());
            now += ms(30) + length;
        }
        assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60]);
        rest.logged_in();
        rest.begun(now);
        assert_eq!(rest.counted(now + ms(1), 700), Some(FIRST));
    }

    #[test]
    fn a_front_that_is_lost_now_and_then_is_left_to_the_library() {
        let mut rest = Rest::default();
        rest.begun(ms(0));
        // 15 a second for a minute, looked at four times a second, and then not for an hour.
        assert!((0..240).all(|n| rest.counted(ms(n * 250), n * 15 / 4).is_none()));
        assert_eq!(rest.counted(ms(3_660_000), 240 * 15 / 4 + 3_600 * 15), None);
        assert_eq!(rest.counted(ms(3_662_000), 240 * 15 / 4 + 3_600 * 15 + 41), Some(FIRST));
    }
}
