//! The snapshots that were asked for and have not come: when the one that comes was asked for.

use std::collections::VecDeque;

use super::super::Now;

/// Most times that are kept apart.
const MAX_TIMES: usize = 16;

/// Oldest first: the venue answers in order.
///
/// An answer that never comes is not noticed: those after it count as asked for earlier than they were. Nothing here may
/// ever make one count as asked for later: what follows from a snapshot may become certain late, and never too early.
#[derive(Default)]
pub(super) struct Asked(VecDeque<Several>);

/// Snapshots that count as asked for at the same time.
struct Several {
    ask: Ask,
    count: u64,
}

/// When a snapshot was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ask {
    pub at: Now,
    /// Events were lost since: the snapshot may lack them, or be lost itself.
    pub lost_since: bool,
}

impl Asked {
    /// One more is asked for.
    pub fn push(&mut self, at: Now) {
        let is_full = self.0.len() >= MAX_TIMES;
        match self.0.back_mut().filter(|_| is_full) {
            Some(last) => last.count += 1,
            None => self.0.push_back(Several { ask: Ask { at, lost_since: false }, count: 1 }),
        }
    }

    /// One of the last that were asked for never left this process.
    pub fn unpush(&mut self) {
        if let Some(last) = self.0.back_mut() {
            last.count -= 1;
            if last.count == 0 {
                self.0.pop_back();
            }
        }
    }

    /// One has come; `None`: nobody asked for it.
    pub fn pop(&mut self) -> Option<Ask> {
        let first = self.0.front_mut()?;
        let ask = first.ask;
        first.count -= 1;
        if first.count == 0 {
            self.0.pop_front();
        }
        Some(ask)
    }

    /// Events were lost: none of those under way tells of them for certain.
    pub fn lose(&mut self) {
        let count = self.len();
        if let Some(first) = self.0.front() {
            let ask = Ask { lost_since: true, ..first.ask };
            self.0 = VecDeque::from([Several { ask, count }]);
        }
    }

    /// How many are under way, as far as is known.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|several| several.count).sum()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> Now {
        let wall = chrono::DateTime::UNIX_EPOCH.fixed_offset();
        Now { wall, mono: Duration::from_secs(second) }
    }

    fn asked(seconds: impl Iterator<Item = u64>) -> Asked {
        let mut asked = Asked::default();
        seconds.for_each(|second| asked.push(at(second)));
        asked
    }

    fn came(asked: &mut Asked) -> Option<(u64, bool)> {
        asked.pop().map(|ask| (ask.at.mono.as_secs(), ask.lost_since))
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let mut asked = asked(1..=3);
        assert_eq!([(); 4].map(|()| came(&mut asked)), [Some((1, false)), Some((2, false)), Some((3, false)), None]);
    }

    #[test]
    fn what_did_not_leave_is_not_waited_for() {
        let mut asked = asked(1..=2);
        asked.unpush();
        assert_eq!([came(&mut asked), came(&mut asked)], [Some((1, false)), None]);
        asked.unpush();
        assert_eq!(asked.len(), 0);
    }

    #[test]
    fn a_loss_casts_doubt_on_what_was_asked_before_it() {
        let mut asked = asked(1..=3);
        asked.lose();
        asked.push(at(4));
        let (doubtful, certain) = (Some((1, true)), Some((4, false)));
        assert_eq!([(); 4].map(|()| came(&mut asked)), [doubtful, doubtful, doubtful, certain]);
    }

    proptest::proptest! {
        /// Each step asks, answers, loses events or fails to ask; the answers are those of a list without a bound.
        #[test]
        fn none_counts_as_asked_for_later_than_it_was(steps in proptest::collection::vec(0..8_u8, 0..200)) {
            let (mut asked, mut truth) = (Asked::default(), VecDeque::new());
            for (second, step) in (0..).zip(steps) {
                match step {
                    0..=4 => {
                        asked.push(at(second));
                        truth.push_back((second, false));
                    }
                    5 => {
                        let (counted, was) = (came(&mut asked), truth.pop_front());
                        proptest::prop_assert_eq!(counted.is_some(), was.is_some());
                        if let (Some((counted, lost_since)), Some((was, truly))) = (counted, was) {
                            proptest::prop_assert!(counted <= was && lost_since == truly, "{} {}", counted, was);
                        }
                    }
                    6 => {
                        asked.lose();
                        truth.iter_mut().for_each(|(_, lost_since)| *lost_since = true);
                    }
                    _ => {
                        asked.unpush();
                        truth.pop_back();
                    }
                }
                proptest::prop_assert!(asked.len() == truth.len() as u64 && asked.0.len() <= MAX_TIMES);
            }
        }
    }
}
