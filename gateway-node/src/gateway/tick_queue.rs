//! The bounded queue of ticks between a venue's thread and the node.
//!
//! Each tick is numbered here, on arrival, before anything can be lost. While there is room the queue keeps every
//! tick in order. When it is full, ticks **conflate**: per instrument the newest one waits outside and goes in when
//! room appears; what it replaced shows as a gap in the numbers. A feed that may wait (a replay) uses
//! [`TickQueue::push_wait`] and loses nothing. One that may be held for a moment (a library's thread) uses
//! [`TickQueue::push_soon`]: a burst arrives whole at a node that keeps up, and one that stands still holds nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::{InstrumentId, Tick};
use tokio::sync::Notify;

/// A tick and its number: from 1 per instrument and epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct SequencedTick {
    /// Its number.
    pub seq: u64,
    /// The tick.
    pub tick: Tick,
}

/// See the module.
pub struct TickQueue {
    capacity: usize,
    inner: Mutex<Inner>,
    arrived: Notify,
    room: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<SequencedTick>,
    /// The newest tick per instrument of those that found the queue full.
    overflow: HashMap<InstrumentId, SequencedTick>,
    seqs: HashMap<InstrumentId, u64>,
    received: u64,
    conflated: u64,
    closed: bool,
    /// Ticks that were taken out.
    taken: u64,
    held: Held,
}

/// How long [`TickQueue::push_soon`] has waited since half of the room was free.
#[derive(Debug, Default)]
struct Held {
    /// How many ticks had been taken when `waited` began to count.
    since: u64,
    waited: Duration,
    in_all: Duration,
    /// That was too long: it waits no more before half of the room is free.
    is_stuck: bool,
}

/// While each half of the queue is taken in time, [`TickQueue::push_soon`] waits for so many times its patience in all:
/// whoever is behind for longer wants the newest.
const MOST_PATIENCE: u32 = 60;

impl Held {
    /// It has waited for so long once more; `taken` ticks were taken by now, and `half` is half of what fits in.
    fn add(&mut self, waited: Duration, taken: u64, half: u64, is_full: bool, patience: Duration) {
        self.waited += waited;
        self.in_all += waited;
        let has_moved = taken - self.since >= half;
        let is_too_long =
            (self.waited > patience && !has_moved) || self.in_all > patience.saturating_mul(MOST_PATIENCE);
        self.is_stuck = is_full || is_too_long;
        if has_moved {
            (self.since, self.waited) = (taken, Duration::ZERO);
        }
    }
}

/// Counts since the queue was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickCounts {
    /// Ticks pushed.
    pub received: u64,
    /// Ticks that a newer one of the same instrument replaced before they were taken.
    pub conflated: u64,
}

impl TickQueue {
    /// A queue for at most `capacity` ticks, and one more per instrument when it is full.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        TickQueue { capacity: capacity.max(1), inner: Mutex::default(), arrived: Notify::new(), room: Condvar::new() }
    }

    /// Numbers the tick and queues it; never waits.
    pub fn push(&self, tick: Tick) {
        self.put(self.lock(), tick);
    }

    /// Numbers the tick and queues it, and may wait for room first: in all for `patience` while half of what fits in is
    /// taken out, and for 60 times that before half of the room is free. Once that was in vain this is
    /// [`TickQueue::push`] until half of the room is free. So a node that keeps up gets every tick, and neither one that
    /// stands still nor a slow one holds the caller for longer.
    pub fn push_soon(&self, tick: Tick, patience: Duration) {
        let half = self.capacity / 2;
        let mut inner = self.lock();
        if inner.overflow.is_empty() && inner.queue.len() <= half {
            inner.held = Held { since: inner.taken, ..Held::default() };
        }
        if !inner.held.is_stuck && self.is_full(&inner) {
            let began = Instant::now();
            let patience_left = patience.saturating_sub(inner.held.waited);
            inner = self.wait_for_room(inner, patience_left);
            let (taken, is_full) = (inner.taken, self.is_full(&inner));
            inner.held.add(began.elapsed(), taken, half as u64, is_full, patience);
        }
        self.put(inner, tick);
    }

    /// Numbers the tick and queues it, waiting for room up to `patience`; for feeds that can wait.
    /// Gives the tick back, not numbered, if there was no room (or the queue is closed).
    pub fn push_wait(&self, tick: Tick, patience: Duration) -> Result<(), Box<Tick>> {
        let inner = self.wait_for_room(self.lock(), patience);
        if inner.closed || self.is_full(&inner) {
            return Err(Box::new(tick));
        }
        self.put(inner, tick);
        Ok(())
    }

    fn is_full(&self, inner: &Inner) -> bool {
        inner.queue.len() >= self.capacity || !inner.overflow.is_empty()
    }

    fn wait_for_room<'a>(&'a self, inner: MutexGuard<'a, Inner>, patience: Duration) -> MutexGuard<'a, Inner> {
        let waits = |inner: &mut Inner| !inner.closed && self.is_full(inner);
        self.room.wait_timeout_while(inner, patience, waits).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Numbers the tick and queues it, or has it wait outside.
    fn put(&self, mut inner: MutexGuard<'_, Inner>, tick: Tick) {
        let instrument = tick.instrument();
        let seq = inner.number(&instrument);
        let tick = SequencedTick { seq, tick };
        if !self.is_full(&inner) {
            inner.queue.push_back(tick);
        } else if inner.overflow.insert(instrument, tick).is_some() {
            inner.conflated += 1;
        }
        drop(inner);
        self.arrived.notify_one();
    }

    /// Moves up to `max` ticks to `batch`, waiting until there is one. Safe to cancel: nothing is lost.
    pub async fn pop_batch(&self, batch: &mut Vec<SequencedTick>, max: usize) {
        loop {
            if self.try_pop_batch(batch, max) > 0 {
                return;
            }
            self.arrived.notified().await;
        }
    }

    /// Moves up to `max` ticks to `batch` and says how many; does not wait.
    pub fn try_pop_batch(&self, batch: &mut Vec<SequencedTick>, max: usize) -> usize {
        let mut inner = self.lock();
        let mut count = inner.queue.len().min(max);
        batch.extend(inner.queue.drain(..count));
        if inner.queue.is_empty() && !inner.overflow.is_empty() && count < max {
            let waiting: Vec<_> = inner.overflow.drain().map(|(_, tick)| tick).collect();
            inner.queue.extend(waiting);
            let more = inner.queue.len().min(max - count);
            batch.extend(inner.queue.drain(..more));
            count += more;
        }
        inner.taken += count as u64;
        drop(inner);
        if count > 0 {
            self.room.notify_all();
        }
        count
    }

    /// How many came, and how many were replaced.
    #[must_use]
    pub fn counts(&self) -> TickCounts {
        let inner = self.lock();
        TickCounts { received: inner.received, conflated: inner.conflated }
    }

    /// No more room for anybody: whoever waits in `push_wait` is sent home.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self, instrument: &InstrumentId) -> u64 {
        self.received += 1;
        if let Some(seq) = self.seqs.get_mut(instrument) {
            *seq += 1;
            return *seq;
        }
        self.seqs.insert(instrument.clone(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Exchange;

    fn tick(symbol: &str, price: f64) -> Tick {
        let time = chrono::DateTime::parse_from_rfc3339("2018-10-12T21:00:00.500+08:00").expect("a time");
        let mut tick = Tick::new("sim1", InstrumentId::new(symbol, Exchange::SHFE), time);
        tick.last_price = Some(price);
        tick
    }

    fn drain(queue: &TickQueue) -> Vec<(String, u64, f64)> {
        let mut batch = Vec::new();
        while queue.try_pop_batch(&mut batch, 2) > 0 {}
        batch.into_iter().map(|t| (t.tick.symbol.to_string(), t.seq, t.tick.last_price.expect("a price"))).collect()
    }

    #[test]
    fn a_full_queue_keeps_the_newest_of_each_instrument_and_numbers_all() {
        let queue = TickQueue::new(2);
        for price in [1.0, 2.0, 3.0, 4.0, 5.0] {
            queue.push(tick("a", price));
        }
        queue.push(tick("b", 1.0));
        let mut got = drain(&queue);
        got.sort_by(|x, y| x.0.cmp(&y.0).then(x.1.cmp(&y.1)));
        let expected = [("a", 1, 1.0), ("a", 2, 2.0), ("a", 5, 5.0), ("b", 1, 1.0)];
        assert_eq!(got, expected.map(|(s, n, p)| (s.to_owned(), n, p)));
        assert_eq!(queue.counts(), TickCounts { received: 6, conflated: 2 });
    }

    #[test]
    fn an_instruments_ticks_never_change_order() {
        let queue = TickQueue::new(2);
        let mut taken = Vec::new();
        for round in 0..50 {
            queue.push(tick("a", f64::from(round)));
            if round % 7 == 0 {
                queue.try_pop_batch(&mut taken, 1);
            }
        }
        while queue.try_pop_batch(&mut taken, 8) > 0 {}
        assert!(taken.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        assert_eq!(taken.last().map(|t| t.seq), Some(50), "the newest arrives");
        assert_eq!(taken.len() as u64 + queue.counts().conflated, 50);
    }

    #[test]
    fn a_patient_feed_loses_nothing() {
        let queue = std::sync::Arc::new(TickQueue::new(2));
        let feeder = std::thread::spawn({
            let queue = queue.clone();
            move || (0..1000).all(|n| queue.push_wait(tick("a", f64::from(n)), Duration::from_secs(10)).is_ok())
        });
        let mut taken = Vec::new();
        while taken.len() < 1000 {
            if queue.try_pop_batch(&mut taken, 16) == 0 {
                std::thread::yield_now();
            }
        }
        assert!(feeder.join().expect("the feeder ends"));
        assert!(taken.iter().zip(1..).all(|(tick, seq)| tick.seq == seq));
        assert_eq!(queue.counts().conflated, 0);
    }

    #[test]
    fn an_impatient_feed_gets_its_tick_back() {
        let queue = TickQueue::new(1);
        assert!(queue.push_wait(tick("a", 1.0), Duration::ZERO).is_ok());
        assert!(queue.push_wait(tick("a", 2.0), Duration::ZERO).is_err());
        assert_eq!(queue.counts().received, 1, "what was given back is not numbered");
    }

    /// Longer than any test may take: whoever waits for so long never ends.
    const FOR_EVER: Duration = Duration::from_secs(100_000);

    #[test]
    fn a_feed_that_may_be_held_for_a_moment_loses_nothing_to_a_node_that_keeps_up() {
        let queue = std::sync::Arc::new(TickQueue::new(2));
        let feeder = std::thread::spawn({
            let queue = queue.clone();
            move || (0..1000).for_each(|n| queue.push_soon(tick("a", f64::from(n)), FOR_EVER))
        });
        let mut taken = Vec::new();
        while taken.len() < 1000 {
            if queue.try_pop_batch(&mut taken, 16) == 0 {
                std::thread::yield_now();
            }
        }
        feeder.join().expect("the feeder ends");
        assert!(taken.iter().zip(1..).all(|(tick, seq)| tick.seq == seq));
        assert_eq!(queue.counts(), TickCounts { received: 1000, conflated: 0 });
    }

    #[test]
    fn a_node_that_is_behind_for_long_gets_the_newest() {
        const PATIENCE: Duration = Duration::from_millis(500);
        let ms = Duration::from_millis;
        let mut held = Held::default();
        // Half of the room each time, and for as long as each may take.
        for round in 1..=60 {
            held.add(ms(500), round * 8, 8, false, PATIENCE);
            assert!(!held.is_stuck, "round {round}");
        }
        held.add(ms(1), 500, 8, false, PATIENCE);
        assert!(held.is_stuck, "in all for more than 60 times its patience");
        let mut held = Held::default();
        held.add(ms(400), 7, 8, false, PATIENCE);
        assert!(!held.is_stuck);
        held.add(ms(101), 7, 8, false, PATIENCE);
        assert!(held.is_stuck, "less than half of the room was taken meanwhile");
        let mut held = Held::default();
        held.add(ms(1), 100, 8, true, PATIENCE);
        assert!(held.is_stuck, "there is no room");
    }

    #[test]
    fn a_node_that_stands_still_holds_a_feed_once_and_every_tick_is_counted() {
        let queue = TickQueue::new(4);
        let push = |symbol: &str, price: f64, patience| queue.push_soon(tick(symbol, price), patience);
        (1..=4).for_each(|n| push("a", f64::from(n), FOR_EVER));
        push("a", 5.0, Duration::from_millis(1));
        // Nobody takes any, and yet none of these waits.
        push("a", 6.0, FOR_EVER);
        push("b", 1.0, FOR_EVER);
        push("b", 2.0, FOR_EVER);
        let mut taken = Vec::new();
        // There is room, but less than half of it, and older ones wait for it.
        assert_eq!(queue.try_pop_batch(&mut taken, 1), 1);
        push("b", 3.0, FOR_EVER);
        while queue.try_pop_batch(&mut taken, 2) > 0 {}
        let mut got: Vec<(String, u64)> = taken.iter().map(|t| (t.tick.symbol.to_string(), t.seq)).collect();
        got.sort();
        let expected = [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 6), ("b", 3)];
        assert_eq!(got, expected.map(|(symbol, seq)| (symbol.to_owned(), seq)));
        assert_eq!(queue.counts(), TickCounts { received: 9, conflated: 3 });
    }

    #[test]
    fn a_feed_is_held_again_only_when_half_of_the_room_is_free() {
        let queue = TickQueue::new(4);
        let push = |price: f64, patience| queue.push_soon(tick("a", price), patience);
        let stuck = || queue.lock().held.is_stuck;
        (1..=5).for_each(|n| push(f64::from(n), Duration::ZERO));
        assert!(stuck());
        // The one that waited outside goes in when the queue is empty: one is in it.
        assert_eq!(queue.try_pop_batch(&mut Vec::new(), 4), 4);
        push(6.0, FOR_EVER);
        assert!(stuck(), "an older one waits outside");
        assert_eq!(queue.try_pop_batch(&mut Vec::new(), 4), 1);
        push(7.0, FOR_EVER);
        assert!(!stuck());
        assert_eq!(queue.counts().conflated, 1);
    }

    #[test]
    fn a_node_that_takes_too_slowly_does_not_hold_a_feed_for_ever() {
        const ALL: u64 = 20_000;
        let queue = std::sync::Arc::new(TickQueue::new(100));
        let feeder = std::thread::spawn({
            let queue = queue.clone();
            move || (0..ALL).for_each(|n| queue.push_soon(tick("a", n as f64), Duration::from_millis(50)))
        });
        let mut taken = Vec::new();
        // Each of its waits would find room in time: 20,000 of them.
        while !feeder.is_finished() {
            queue.try_pop_batch(&mut taken, 1);
            std::thread::sleep(Duration::from_millis(5));
        }
        while queue.try_pop_batch(&mut taken, 100) > 0 {}
        feeder.join().expect("the feeder ends");
        let counts = queue.counts();
        assert_eq!(counts.received, ALL);
        assert!(counts.conflated > ALL / 2, "{counts:?}");
        assert_eq!(taken.len() as u64 + counts.conflated, ALL);
        assert!(taken.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    }

    #[test]
    fn a_closed_queue_holds_nobody() {
        let queue = TickQueue::new(1);
        queue.close();
        (0..3).for_each(|n| queue.push_soon(tick("a", f64::from(n)), FOR_EVER));
        assert_eq!(queue.counts().received, 3);
    }
}
