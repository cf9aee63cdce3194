//! The gate: effects that wait, in order, until the journal holds everything that was emitted ahead of them.

use std::collections::VecDeque;

use protocol::defect::{Defect, is_planted};

use crate::engine::{Effect, ReplyTo};

/// Effects that wait, each for the journal position emitted ahead of it. The engine refuses new orders while many entries
/// wait to be stored, venue events stay in their queue, and answers end with their calls: it holds no more than a few
/// effects for each entry and one for each call under way.
#[derive(Default)]
pub struct Gate {
    waiting: VecDeque<(u64, Effect)>,
}

impl Gate {
    /// Holds an effect until everything up to `position` is stored.
    pub fn hold(&mut self, position: u64, effect: Effect) {
        self.waiting.push_back((position, effect));
    }

    /// The next effect that waited for nothing later than `stored`.
    pub fn pass(&mut self, stored: u64) -> Option<Effect> {
        let (position, _) = self.waiting.front()?;
        let may_pass = *position <= stored || is_planted(Defect::Gate);
        if may_pass { self.waiting.pop_front().map(|(_, effect)| effect) } else { None }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many effects wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up the answers that are too late, and says whose they were.
    pub fn expire(&mut self, is_late: impl Fn(ReplyTo) -> bool) -> Vec<ReplyTo> {
        let mut late = Vec::new();
        self.waiting.retain(|(_, effect)| match effect {
            Effect::Reply(to, _) | Effect::ReadEvents(to, _) if is_late(*to) => {
                late.push(*to);
                false
            }
            _ => true,
        });
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_what_it_was_emitted_behind() {
        let mut gate = Gate::default();
        gate.hold(3, Effect::Reply(ReplyTo(1), Ok(Vec::new())));
        gate.hold(5, Effect::Reply(ReplyTo(2), Ok(Vec::new())));
        assert!(gate.pass(2).is_none());
        assert!(matches!(gate.pass(4), Some(Effect::Reply(ReplyTo(1), _))));
        assert!(gate.pass(4).is_none());
        assert!(gate.pass(5).is_some() && gate.is_empty());
    }

    #[test]
    fn answers_that_nobody_waits_for_take_no_room() {
        let mut gate = Gate::default();
        gate.hold(3, Effect::Reply(ReplyTo(1), Ok(Vec::new())));
        gate.hold(3, Effect::Purge(7));
        gate.hold(4, Effect::Reply(ReplyTo(2), Ok(Vec::new())));
        assert_eq!(gate.expire(|to| to == ReplyTo(1)), [ReplyTo(1)]);
        assert_eq!(gate.len(), 2);
        assert!(matches!(gate.pass(4), Some(Effect::Purge(7))));
        assert!(matches!(gate.pass(4), Some(Effect::Reply(ReplyTo(2), _))));
    }
}
