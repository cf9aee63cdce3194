//! The queue into the gateway's thread: what the libraries say, and what its callers leave to it. What finds it full is
//! lost, and the node is told to ask for everything; only the trader library's thread waits for room first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use ctp::{MdEvent, TraderEvent, TraderHandler};
use protocol::Contract;

use crate::gateway::{VenueEvent, VenueSink};

/// The list of instruments alone has tens of thousands of rows.
const PLACES: usize = 65_536;
/// How long the trader library's thread waits for room: a login with everything that the day has brought may fill the
/// queue faster than it is emptied, and CTP keeps the rest meanwhile. Far less than the heartbeats of its connections.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the thread is given.
#[derive(Debug)]
pub(super) enum Input {
    /// The trader library's object of this generation speaks.
    Trader(u64, TraderEvent),
    /// The market data library's object of this generation speaks.
    Market(u64, MdEvent),
    /// What followed from a command, to be told behind what is being told.
    Told(Vec<Told>),
    /// Something may be due.
    Wake,
}

/// Something for the node, or for the market data side.
#[derive(Debug)]
pub(super) enum Told {
    /// Tell the node.
    Event(Box<VenueEvent>),
    /// Something that the venue said is lost.
    Lost,
    /// A session begins with these contracts.
    Contracts(Vec<Contract>),
}

/// The end that puts in.
#[derive(Clone)]
pub(super) struct Inbox {
    queue: SyncSender<Input>,
    sink: VenueSink,
    is_over: Arc<AtomicBool>,
    /// Somebody has waited in vain: nobody waits again before there is room.
    is_stuck: Arc<AtomicBool>,
}

/// The end that takes out.
pub(super) struct Inputs {
    queue: Receiver<Input>,
    is_over: Arc<AtomicBool>,
}

/// An inbox and its other end.
pub(super) fn inbox(sink: VenueSink) -> (Inbox, Inputs) {
    let (sender, receiver) = sync_channel(PLACES);
    let is_over = Arc::new(AtomicBool::new(false));
    let is_stuck = Arc::new(AtomicBool::new(false));
    (Inbox { queue: sender, sink, is_over: is_over.clone(), is_stuck }, Inputs { queue: receiver, is_over })
}

impl Inbox {
    /// Puts something in, if there is room now: most callers hold what the thread waits for.
    pub(super) fn put(&self, input: Input) {
        if self.queue.try_send(input).is_err() {
            self.sink.lost();
        }
    }

    /// Puts something in, and waits for room as long as `goes_on` says and patience lasts; false: there was none.
    #[must_use]
    pub(super) fn put_patiently(&self, mut input: Input, goes_on: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        loop {
            match self.queue.try_send(input) {
                Ok(()) => {
                    self.is_stuck.store(false, Ordering::Relaxed);
                    return true;
                }
                Err(TrySendError::Full(back)) if goes_on() && !self.is_stuck.load(Ordering::Relaxed) => {
                    input = back;
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
            if began.elapsed() >= PATIENCE {
                self.is_stuck.store(true, Ordering::Relaxed);
            }
            // This queue has no send that ends.
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lets the thread look at the time. A full queue does that anyway.
    pub(super) fn wake(&self) {
        let _ = self.queue.try_send(Input::Wake);
    }

    /// Lets the thread end.
    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake();
    }
}

impl Inputs {
    /// Whether the thread is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits for something and takes it, with what is behind it, up to `most`.
    pub(super) fn take(&self, wait: Duration, most: usize) -> Vec<Input> {
        let first = match self.queue.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Vec::new(),
        };
        std::iter::once(first).chain(self.queue.try_iter().take(most - 1)).collect()
    }
}

/// Hears one object of the trader library.
pub(super) struct TraderInbox {
    inbox: Inbox,
    generation: u64,
    /// The object is being released: its thread must not wait, for whoever releases it waits for that.
    is_released: Arc<AtomicBool>,
}

impl TraderInbox {
    pub(super) fn new(inbox: Inbox, generation: u64, is_released: Arc<AtomicBool>) -> TraderInbox {
        TraderInbox { inbox, generation, is_released }
    }
}

impl TraderHandler for TraderInbox {
    fn on_event(&self, event: TraderEvent) {
        let goes_on = || !self.is_released.load(Ordering::Acquire);
        if goes_on() && !self.inbox.put_patiently(Input::Trader(self.generation, event), goes_on) && goes_on() {
            self.inbox.sink.lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::gateway::venue_channel;

    #[test]
    fn what_finds_it_full_is_lost_and_said_to_be() {
        let (sink, source) = venue_channel(1, 1);
        let (inbox, inputs) = inbox(sink);
        for _ in 0..PLACES {
            inbox.put(Input::Wake);
        }
        inbox.wake();
        assert!(!source.overflowed.load(Ordering::Acquire), "a wake-up is nothing to lose");
        inbox.put(Input::Told(Vec::new()));
        assert!(source.overflowed.load(Ordering::Acquire));
        assert_eq!(inputs.take(Duration::ZERO, 7).len(), 7);
        inbox.stop();
        assert!(inputs.is_over());
    }

    fn said() -> TraderEvent {
        TraderEvent::LoggedOut
    }

    #[test]
    fn the_traders_thread_waits_for_room_and_not_for_who_releases_it() {
        let (sink, source) = venue_channel(1, 1);
        let (inbox, inputs) = inbox(sink);
        let fill = || (0..PLACES).for_each(|_| inbox.wake());
        fill();
        let is_released = Arc::new(AtomicBool::new(false));
        let trader = TraderInbox::new(inbox.clone(), 1, is_released.clone());
        std::thread::scope(|scope| {
            let put = scope.spawn(|| trader.on_event(said()));
            // It has had the time to find the queue full.
            std::thread::sleep(Duration::from_millis(50));
            assert!(!put.is_finished(), "there is no room");
            assert_eq!(inputs.take(Duration::ZERO, 1).len(), 1);
            put.join().expect("no panic");
        });
        assert!(!source.overflowed.load(Ordering::Acquire), "nothing was lost");
        fill();
        std::thread::scope(|scope| {
            let put = scope.spawn(|| trader.on_event(said()));
            std::thread::sleep(Duration::from_millis(50));
            is_released.store(true, Ordering::Release);
            put.join().expect("no panic");
        });
        assert!(!source.overflowed.load(Ordering::Acquire), "what a released object says is nobody's");
    }
}
