//! What happens when: steps in the order of their virtual time, those of one instant in the order in which they were
//! scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Steps that are due later.
pub struct Schedule<T> {
    heap: BinaryHeap<Item<T>>,
    count: u64,
}

struct Item<T> {
    at: Duration,
    number: u64,
    step: T,
}

impl<T> Schedule<T> {
    /// Nothing is due.
    #[must_use]
    pub fn new() -> Self {
        Schedule { heap: BinaryHeap::new(), count: 0 }
    }

    /// Something is due at this time.
    pub fn push(&mut self, at: Duration, step: T) {
        self.count += 1;
        self.heap.push(Item { at, number: self.count, step });
    }

    /// What is due next, and when.
    pub fn pop(&mut self) -> Option<(Duration, T)> {
        self.heap.pop().map(|item| (item.at, item.step))
    }
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Schedule::new()
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Item<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut schedule = Schedule::new();
        for (at, step) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            schedule.push(Duration::from_secs(at), step);
        }
        let order: String = std::iter::from_fn(|| schedule.pop()).map(|(_, step)| step).collect();
        assert_eq!(order, "abcd");
    }
}
