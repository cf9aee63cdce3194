//! What is under way: the lines of a diary added up as they come, to know when orders are taken again.

use std::collections::{BTreeMap, VecDeque};

use protocol::OrderId;

use crate::diary::{Line, Note, Outcome};

/// How many answers are remembered: more than a client gets from a fault to the end of its round.
const ANSWERED: usize = 10_000;

/// One client's calls.
#[derive(Debug, Clone, Default)]
pub struct Flight {
    /// When each id was first sent, in microseconds since 1970.
    sent_at: BTreeMap<OrderId, i64>,
    /// What was sent and is not answered, and when it was sent last.
    open: BTreeMap<OrderId, i64>,
    /// Last sending and answer of what was answered last.
    answered: VecDeque<(i64, i64)>,
    /// First sending and answer of what was taken, in the order of the answers.
    taken: Vec<(i64, i64)>,
    /// Which incarnation runs.
    incarnation: u32,
    /// Whether it has resolved everything.
    resolved: bool,
}

impl Flight {
    /// Takes in the next line.
    pub fn take(&mut self, line: &Line) {
        match &line.note {
            Note::Started { incarnation } => {
                (self.incarnation, self.resolved) = (*incarnation, false);
                // They were under way until now at the most.
                for sent in std::mem::take(&mut self.open).into_values() {
                    self.over(sent, line.at_us);
                }
            }
            Note::Resolved => self.resolved = true,
            Note::Sending { item } => {
                self.sent_at.entry(item.id().clone()).or_insert(line.at_us);
                self.open.insert(item.id().clone(), line.at_us);
            }
            Note::Told { id, outcome } => {
                if let Some(sent) = self.open.remove(id) {
                    self.over(sent, line.at_us);
                }
                if let (Outcome::Taken { .. }, Some(sent)) = (outcome, self.sent_at.get(id)) {
                    self.taken.push((*sent, line.at_us));
                }
            }
            _ => {}
        }
    }

    /// Remembers a call that is under way no longer.
    fn over(&mut self, sent: i64, at_us: i64) {
        self.answered.push_back((sent, at_us));
        if self.answered.len() > ANSWERED {
            self.answered.pop_front();
        }
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.open.len()
    }

    /// Whether a call was under way at a time of the last round, in microseconds since 1970.
    #[must_use]
    pub fn was_under_way(&self, at_us: i64) -> bool {
        self.open.values().any(|sent| *sent <= at_us)
            || self.answered.iter().rev().any(|(sent, told)| *sent <= at_us && at_us < *told)
    }

    /// When the first order was taken that was sent after `since` (both in microseconds since 1970).
    #[must_use]
    pub fn taken_since(&self, since: i64) -> Option<i64> {
        // The newest are at the end, and that is where one looks.
        let recent = self.taken.iter().rev().take_while(|(_, told)| *told >= since);
        recent.filter(|(sent, _)| *sent > since).map(|(_, told)| *told).min()
    }

    /// Whether this incarnation, or a later one, has resolved everything that was open.
    #[must_use]
    pub fn is_resolved(&self, incarnation: u32) -> bool {
        self.resolved && self.incarnation >= incarnation
    }
}

/// How many calls were under way at a time: sent, and not answered yet.
#[must_use]
pub fn under_way(lines: &[Line], at_us: i64) -> usize {
    let mut open: BTreeMap<&OrderId, ()> = BTreeMap::new();
    for line in lines.iter().take_while(|line| line.at_us <= at_us) {
        match &line.note {
            Note::Started { .. } => open.clear(),
            Note::Sending { item } => drop(open.insert(item.id(), ())),
            Note::Told { id, .. } => drop(open.remove(id)),
            _ => {}
        }
    }
    open.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diary::Item;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderRequest, OrderStatus};

    fn sending(at_us: i64, id: &str) -> Line {
        let rb = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut request = OrderRequest::limit(rb, Direction::Long, Offset::Open, 3500.0, 1.0);
        request.orderid = OrderId::new(id);
        Line { at_us, note: Note::Sending { item: Item::Order(request) } }
    }

    fn taken(at_us: i64, id: &str) -> Line {
        let outcome = Outcome::Taken { status: OrderStatus::Submitting, traded: 0.0 };
        Line { at_us, note: Note::Told { id: OrderId::new(id), outcome } }
    }

    #[test]
    fn only_what_was_sent_after_a_fault_shows_that_orders_are_taken_again() {
        let mut flight = Flight::default();
        for line in
            [sending(10, "a"), sending(30, "b"), taken(40, "a"), taken(50, "b"), sending(60, "a"), taken(70, "a")]
        {
            flight.take(&line);
        }
        assert_eq!(flight.under_way(), 0);
        assert_eq!(flight.taken_since(20), Some(50));
        assert_eq!(flight.taken_since(5), Some(40));
        assert_eq!(flight.taken_since(35), None, "`a` was first sent before");
        flight.take(&sending(80, "c"));
        let were: Vec<bool> = [5, 10, 39, 45, 50, 65, 70, 80].map(|at| flight.was_under_way(at)).to_vec();
        assert_eq!(were, [false, true, true, true, false, true, false, true]);
        flight.take(&Line { at_us: 90, note: Note::Started { incarnation: 2 } });
        assert!(flight.was_under_way(85) && !flight.was_under_way(90), "the process was killed with a call under way");
    }

    #[test]
    fn calls_are_under_way_from_their_sending_to_their_answer() {
        let started = Line { at_us: 80, note: Note::Started { incarnation: 2 } };
        let lines = [sending(10, "a"), sending(30, "b"), taken(40, "a"), started];
        let counts: Vec<usize> = [5, 10, 35, 45, 90].iter().map(|at| under_way(&lines, *at)).collect();
        assert_eq!(counts, [0, 1, 2, 1, 0]);
    }
}
