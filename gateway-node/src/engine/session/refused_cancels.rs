//! Orders whose cancels the venue refused: what ended them may have been lost, and a snapshot tells. Most of them are
//! filled, and their fills are on the way: the venue is asked only about those that still seem to work a little later.

use std::time::Duration;

use crate::gateway::VenueReference;

/// The word that a refusal crossed has so long to come.
const FIRST: Duration = Duration::from_secs(1);
/// Snapshots that refusals cause are so far apart: an exchange that takes no cancels for a while refuses many.
const BETWEEN: Duration = Duration::from_secs(10);
/// Of more than these the venue is asked in any case.
const MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct RefusedCancels {
    orders: Vec<VenueReference>,
    /// More than [`MAX`] orders.
    is_more: bool,
    /// When to look at them.
    due: Option<Duration>,
    /// When a snapshot was asked for because of them.
    asked: Option<Duration>,
}

/// Those that are to be looked at.
pub(in super::super) struct Refused {
    orders: Vec<VenueReference>,
    is_more: bool,
}

impl RefusedCancels {
    /// The venue refused to cancel this one.
    pub fn push(&mut self, now: Duration, order: VenueReference) {
        let soonest = self.asked.map_or(Duration::ZERO, |asked| asked + BETWEEN);
        self.due.get_or_insert(soonest.max(now + FIRST));
        if self.orders.contains(&order) {
            return;
        }
        if self.orders.len() < MAX {
            self.orders.push(order);
        } else {
            self.is_more = true;
        }
    }

    /// Those whose time has come, once.
    pub fn due(&mut self, now: Duration) -> Option<Refused> {
        self.due.take_if(|due| *due <= now)?;
        Some(Refused { orders: std::mem::take(&mut self.orders), is_more: std::mem::take(&mut self.is_more) })
    }

    /// A snapshot is asked for because of them.
    pub fn asked(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// Another snapshot settles them.
    pub fn clear(&mut self) {
        *self = RefusedCancels { asked: self.asked, ..RefusedCancels::default() };
    }
}

impl Refused {
    /// Whether one of them, or one that is not kept, may be so.
    pub fn is_any(&self, is_so: impl Fn(&VenueReference) -> bool) -> bool {
        self.is_more || self.orders.iter().any(is_so)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64) -> VenueReference {
        VenueReference { session: "20261123.1.1".into(), number }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn each_is_looked_at_once_a_second_later() {
        let mut refused = RefusedCancels::default();
        refused.push(secs(5), order(1));
        refused.push(secs(5), order(1));
        refused.push(secs(6) - Duration::from_millis(1), order(2));
        assert!(refused.due(secs(6) - Duration::from_millis(1)).is_none());
        let due = refused.due(secs(6)).expect("a second is over");
        assert_eq!(due.orders, [order(1), order(2)]);
        assert!(due.is_any(|one| *one == order(2)) && !due.is_any(|_| false));
        assert!(refused.due(secs(60)).is_none());
    }

    #[test]
    fn an_exchange_that_takes_no_cancels_brings_one_snapshot_in_ten_seconds_and_none_is_forgotten() {
        let mut refused = RefusedCancels::default();
        let mut asked = Vec::new();
        for second in 0..60 {
            (0..100).for_each(|number| refused.push(secs(second), order(number)));
            if refused.due(secs(second)).is_some_and(|due| due.is_any(|one| one.number == 99)) {
                refused.asked(secs(second));
                asked.push(second);
            }
        }
        assert_eq!(asked, [1, 11, 21, 31, 41, 51]);
        assert!(refused.orders.len() <= MAX);
    }
}
