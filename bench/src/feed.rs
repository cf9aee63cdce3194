//! The side that sends: at a rate, or as fast as the other side takes, with a window between them so that nothing has
//! to be lost.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Most messages under way when there is no rate: less than what any of the queues between the two sides holds.
pub const WINDOW: u64 = 16_384;

/// Who sends, and who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Side {
    /// The node, whose venue pushes ticks, and the SDK.
    Node,
    /// Bare NATS clients with the bytes of such a tick.
    Bare,
    /// VeighNa's RpcServer and RpcClient.
    Vnpy,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// By whom.
    pub side: Side,
    /// How many.
    pub count: u64,
    /// How many a second; as fast as they are taken if not said.
    pub per_second: Option<f64>,
    /// Most messages under way when there is no rate.
    pub window: u64,
}

/// What the sending process is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Tell {
    /// Send this.
    Send(Feed),
    /// So many of it have been taken.
    Taken(u64),
}

/// How many messages of a feed may have been sent.
#[derive(Debug)]
pub struct Window {
    size: u64,
    taken: Mutex<Option<u64>>,
    moved: Condvar,
}

impl Window {
    /// A window at the beginning of a feed.
    pub fn open(size: u64) -> Window {
        Window { size, taken: Mutex::new(Some(0)), moved: Condvar::new() }
    }

    /// The other side has taken so many.
    pub fn taken(&self, count: u64) {
        self.set(Some(count));
    }

    /// The other side is gone, or wants something else: whoever waits is sent home.
    pub fn close(&self) {
        self.set(None);
    }

    /// Waits until message number `sent` may be sent; gives the number of the first one that may not yet, `None` if the
    /// window is closed.
    pub fn wait(&self, sent: u64) -> Option<u64> {
        let full = |taken: &mut Option<u64>| taken.is_some_and(|taken| sent >= taken + self.size);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.moved.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        taken.map(|taken| taken + self.size)
    }

    fn set(&self, to: Option<u64>) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.moved.notify_all();
    }
}

impl Feed {
    /// As fast as it is taken.
    pub fn flood(side: Side, count: u64) -> Feed {
        Feed { side, count, per_second: None, window: WINDOW }
    }

    /// So many a second.
    pub fn paced(side: Side, count: u64, per_second: f64) -> Feed {
        Feed { side, count, per_second: Some(per_second), window: WINDOW }
    }

    /// What each of so many senders sends of it.
    ///
    /// # Errors
    /// If they cannot share it evenly.
    pub fn shared_by(&self, senders: u64) -> anyhow::Result<Feed> {
        anyhow::ensure!(
            senders > 0 && self.count.is_multiple_of(senders),
            "{} messages cannot be shared by {senders}",
            self.count
        );
        let per_second = self.per_second.map(|rate| rate / senders as f64);
        Ok(Feed { count: self.count / senders, per_second, window: (self.window / senders).max(1), ..*self })
    }

    /// Sends, on the calling thread. `send` gets the message's number and says whether to go on.
    pub fn run(&self, window: &Window, mut send: impl FnMut(u64) -> bool) {
        let start = Instant::now();
        let mut allowed = 0;
        for number in 0..self.count {
            match self.per_second {
                Some(rate) => {
                    let due = Duration::from_secs_f64(number as f64 / rate);
                    // What is late is sent at once, as a market's burst would be.
                    if let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
                        std::thread::sleep(early);
                    }
                }
                None if number >= allowed => match window.wait(number) {
                    Some(first_not) => allowed = first_not,
                    None => return,
                },
                None => {}
            }
            if !send(number) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_feed_without_a_rate_waits_for_the_other_side() {
        let window = Arc::new(Window::open(WINDOW));
        let feed = Feed::flood(Side::Bare, 3 * WINDOW);
        let (send, sent) = std::sync::mpsc::sync_channel(WINDOW as usize);
        let feeder = std::thread::spawn({
            let window = window.clone();
            move || feed.run(&window, |number| send.try_send(number).is_ok())
        });
        // More than a window under way would not fit in the channel, and end the feed early.
        for number in 0..feed.count {
            assert_eq!(sent.recv(), Ok(number));
            if (number + 1) % 1_024 == 0 {
                window.taken(number + 1);
            }
        }
        feeder.join().expect("it ends");
    }

    #[test]
    fn senders_share_a_feed_evenly() {
        let share = Feed::paced(Side::Node, 30, 300.0).shared_by(3).expect("even");
        assert_eq!((share.count, share.per_second, share.window), (10, Some(100.0), WINDOW / 3));
        assert!(Feed::flood(Side::Node, 31).shared_by(3).is_err());
        assert!(Feed::flood(Side::Node, 31).shared_by(0).is_err());
    }

    #[test]
    fn a_closed_window_ends_the_feed() {
        let window = Window::open(WINDOW);
        window.close();
        let feed = Feed::flood(Side::Bare, 2 * WINDOW);
        let mut sent = 0;
        feed.run(&window, |_| {
            sent += 1;
            true
        });
        assert_eq!(sent, 0);
    }

    #[test]
    fn a_rate_is_kept() {
        let start = Instant::now();
        Feed::paced(Side::Bare, 21, 1_000.0).run(&Window::open(WINDOW), |_| true);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
