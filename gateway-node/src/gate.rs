//! The gate: effects that wait, in order, until the journal holds everything that was emitted ahead of them.

use std::collections::VecDeque;

use protocol::defect::{Defect, is_planted};

use crate::engine::{Effect, ReplyTo};

/// Effects that wait, each for the journal position emitted ahead of it. The engine refuses new orders while many entries
/// wait to be stored, and venue events stay in their queue, so it holds no more than a few effects for each such entry.
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

    /// The calls whose answers wait.
    pub fn questions(&self) -> impl Iterator<Item = ReplyTo> {
        self.waiting.iter().filter_map(|(_, effect)| match effect {
            Effect::Reply(to, _) | Effect::ReadEvents(to, _) => Some(*to),
            _ => None,
        })
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
        assert_eq!(gate.questions().collect::<Vec<_>>(), [ReplyTo(2)]);
        assert!(gate.pass(5).is_some() && gate.is_empty());
    }
}
