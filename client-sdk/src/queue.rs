//! The queue between a reader task, which never waits, and a user, who may: bounded, and exact about what it dropped.
//!
//! Up to its capacity it keeps everything in order. Beyond that it conflates: of each key (an instrument at a gateway)
//! only the newest stays, with the number of those that it replaced, until the user has caught up.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken<K, T> {
    /// An item.
    Item(T),
    /// So many items of this key never reached the queue, before the one that follows.
    Lost(K, u64),
    /// So many items of this key were replaced by the one that follows.
    Skipped(K, u64),
}

#[derive(Debug)]
struct Entry<K, T> {
    key: K,
    item: T,
    lost: u64,
    skipped: u64,
}

impl<K: Clone, T> Entry<K, T> {
    /// What has to be told before the item.
    fn warning(&mut self) -> Option<Taken<K, T>> {
        match (std::mem::take(&mut self.lost), self.skipped) {
            (0, 0) => None,
            (0, _) => Some(Taken::Skipped(self.key.clone(), std::mem::take(&mut self.skipped))),
            (lost, _) => Some(Taken::Lost(self.key.clone(), lost)),
        }
    }
}

/// The buffer itself, without any waiting.
#[derive(Debug)]
struct Buffer<K, T> {
    capacity: usize,
    queued: VecDeque<Entry<K, T>>,
    /// Keys of `newest`, in the order of their first arrival.
    order: VecDeque<K>,
    newest: HashMap<K, Entry<K, T>>,
    closed: bool,
}

impl<K: Hash + Eq + Clone, T> Buffer<K, T> {
    fn push(&mut self, key: K, item: T, lost: u64) {
        let entry = Entry { key, item, lost, skipped: 0 };
        // While anything is conflated, what comes later must not overtake it.
        if self.newest.is_empty() && self.queued.len() < self.capacity {
            self.queued.push_back(entry);
            return;
        }
        match self.newest.get_mut(&entry.key) {
            Some(newest) => {
                newest.item = entry.item;
                newest.lost += lost;
                newest.skipped += 1;
            }
            None => {
                self.order.push_back(entry.key.clone());
                self.newest.insert(entry.key.clone(), entry);
            }
        }
    }

    fn pop(&mut self) -> Option<Taken<K, T>> {
        if let Some(first) = self.queued.front_mut() {
            if let Some(warning) = first.warning() {
                return Some(warning);
            }
            return self.queued.pop_front().map(|entry| Taken::Item(entry.item));
        }
        let key = self.order.front()?;
        if let Some(warning) = self.newest.get_mut(key).and_then(Entry::warning) {
            return Some(warning);
        }
        let key = self.order.pop_front()?;
        self.newest.remove(&key).map(|entry| Taken::Item(entry.item))
    }
}

/// The queue as its two ends share it. The lock is held for one push or one pop, never across an await.
#[derive(Debug)]
pub(crate) struct Queue<K, T> {
    buffer: Mutex<Buffer<K, T>>,
    taker: AtomicWaker,
}

impl<K: Hash + Eq + Clone, T> Queue<K, T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let buffer =
            Buffer { capacity, queued: VecDeque::new(), order: VecDeque::new(), newest: HashMap::new(), closed: false };
        Queue { buffer: Mutex::new(buffer), taker: AtomicWaker::new() }
    }

    /// From how many waiting items on only the newest of each key is kept.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.lock().capacity = capacity;
    }

    /// Adds items, before each of which so many others of its key failed to arrive. Never waits.
    pub(crate) fn extend(&self, items: impl Iterator<Item = (K, T, u64)>) {
        let mut has_some = false;
        {
            let mut buffer = self.lock();
            for (key, item, lost) in items {
                buffer.push(key, item, lost);
                has_some = true;
            }
        }
        if has_some {
            self.taker.wake();
        }
    }

    /// No more items come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.taker.wake();
    }

    /// The next item; `None` after the last. There is one taker.
    pub(crate) fn poll_pop(&self, context: &mut Context<'_>) -> Poll<Option<Taken<K, T>>> {
        // Registered first: what is pushed behind this line wakes the taker.
        self.taker.register(context.waker());
        let mut buffer = self.lock();
        match buffer.pop() {
            None if !buffer.closed => Poll::Pending,
            taken => Poll::Ready(taken),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer<K, T>> {
        // Nothing that runs under the lock leaves the buffer half changed.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(queue: &Queue<u8, (u8, u64)>) -> Vec<Taken<u8, (u8, u64)>> {
        let mut buffer = queue.lock();
        std::iter::from_fn(|| buffer.pop()).collect()
    }

    #[test]
    fn within_its_capacity_nothing_is_dropped() {
        let queue = Queue::new(3);
        for n in 0..3 {
            queue.extend([(7, (7, n), 0)].into_iter());
        }
        assert_eq!(drain(&queue), [Taken::Item((7, 0)), Taken::Item((7, 1)), Taken::Item((7, 2))]);
    }

    #[test]
    fn beyond_it_the_newest_of_each_key_stays_and_the_rest_is_counted() {
        let queue = Queue::new(1);
        for n in 0..4 {
            queue.extend([(7, (7, n), 0)].into_iter());
            queue.extend([(8, (8, n), 0)].into_iter());
        }
        assert_eq!(
            drain(&queue),
            [Taken::Item((7, 0)), Taken::Skipped(8, 3), Taken::Item((8, 3)), Taken::Skipped(7, 2), Taken::Item((7, 3)),]
        );
    }

    proptest! {
        #[test]
        fn every_item_is_taken_or_counted_and_each_key_stays_in_order(
            capacity in 0_usize..5,
            steps in prop::collection::vec((0_u8..4, any::<bool>(), 0_u64..3), 0..200),
        ) {
            let queue = Queue::new(capacity);
            let mut taken = Vec::new();
            for (n, &(key, take, lost)) in (0_u64..).zip(&steps) {
                queue.extend([(key, (key, n), lost)].into_iter());
                if take {
                    taken.extend(queue.lock().pop());
                }
            }
            taken.extend(drain(&queue));
            let items = taken.iter().filter(|t| matches!(t, Taken::Item(_))).count() as u64;
            let skipped: u64 = taken.iter().map(|t| if let Taken::Skipped(_, n) = t { *n } else { 0 }).sum();
            prop_assert_eq!(items + skipped, steps.len() as u64);
            let lost: u64 = taken.iter().map(|t| if let Taken::Lost(_, n) = t { *n } else { 0 }).sum();
            prop_assert_eq!(lost, steps.iter().map(|step| step.2).sum::<u64>());
            for key in 0..4 {
                let numbers: Vec<u64> = taken.iter().filter_map(|t| match t {
                    Taken::Item((k, n)) if *k == key => Some(*n),
                    _ => None,
                }).collect();
                prop_assert!(numbers.is_sorted());
                // The newest of all is never the one that is dropped.
                let newest = (0_u64..).zip(&steps).filter(|(_, step)| step.0 == key).map(|(n, _)| n).last();
                prop_assert_eq!(numbers.last().copied(), newest);
            }
        }
    }
}
