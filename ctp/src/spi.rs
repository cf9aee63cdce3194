//! The object that a library calls back: its table, the gate that closes when nobody listens any more, and the fence that
//! no panic crosses.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::slots::{SPI_SLOTS, Slot};
use crate::version::Family;

/// A callback object as C++ sees it: a pointer to a table of methods, then what is ours.
///
/// It is leaked, with its table: a few kilobytes for each connection ever made. A library may call back while it is being
/// released, and nothing that it has says when it no longer will; such a call finds the gate closed.
#[repr(C)]
pub(crate) struct Spi<H: ?Sized + 'static> {
    /// A thin pointer, read by the library alone.
    #[allow(dead_code)]
    table: &'static [usize; SPI_SLOTS],
    gate: Gate<H>,
}

impl<H: ?Sized + Send + Sync> Spi<H> {
    /// A callback object for a family, with these methods in their slots and one that does nothing in every other.
    pub fn leaked(handler: Arc<H>, family: Family, methods: &[(Slot, usize)]) -> &'static Spi<H> {
        let mut table = Box::new([ignored as *const () as usize; SPI_SLOTS]);
        for (slot, method) in methods {
            table[slot.of(family)] = *method;
        }
        Box::leak(Box::new(Spi { table: Box::leak(table), gate: Gate::new(handler) }))
    }

    /// As the library takes it.
    pub fn as_pointer(&'static self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Lets nothing more through, and waits for what is being handled just now.
    pub fn close(&self) {
        self.gate.close();
    }

    /// Runs what a callback does. A panic ends here, and is told with `panicked`; if telling it panics too, that is all.
    pub fn told(&self, work: impl FnOnce(&H), panicked: impl FnOnce(&H)) {
        let Some(inside) = self.gate.enter() else { return };
        for_a_moment_inside(|| {
            if contained(|| work(&inside.handler)).is_err() {
                let _ = contained(|| panicked(&inside.handler));
            }
            // Closed meanwhile, this is the last of the handler: whatever its end does is as little to get out.
            let _ = contained(|| drop(inside));
        });
    }
}

/// Every callback that is not handled. The C calling convention leaves a function free to ignore its arguments, and no
/// callback of CTP's returns anything.
extern "C" fn ignored() {}

/// Runs `work`; an error if it panicked.
fn contained(work: impl FnOnce()) -> Result<(), ()> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        // What was panicked with may panic again when it is dropped: it is not.
        std::mem::forget(payload);
    })
}

thread_local! {
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

fn for_a_moment_inside(work: impl FnOnce()) {
    INSIDE.set(INSIDE.get() + 1);
    work();
    INSIDE.set(INSIDE.get() - 1);
}

/// Whether this thread is in a callback just now: it must not wait for callbacks to end.
pub(crate) fn in_callback() -> bool {
    INSIDE.get() > 0
}

/// Does what waits for callbacks to end: at once, or on a thread of its own where this one is in a callback itself. That
/// thread ends by itself; nobody can wait for it, since whoever could is what it waits for.
pub(crate) fn outside_callbacks(name: &str, work: impl FnOnce() + Send + 'static) {
    if in_callback() {
        // Where there is no thread to be had, the connection stays up until the process ends, and is not listened to.
        let _ = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    } else {
        work();
    }
}

/// Who listens, until it is closed.
struct Gate<H: ?Sized> {
    state: Mutex<State<H>>,
    empty: Condvar,
}

struct State<H: ?Sized> {
    handler: Option<Arc<H>>,
    /// Callbacks under way.
    inside: usize,
}

/// A callback under way.
struct Inside<'a, H: ?Sized> {
    gate: &'a Gate<H>,
    handler: Arc<H>,
}

impl<H: ?Sized> Gate<H> {
    fn new(handler: Arc<H>) -> Gate<H> {
        Gate { state: Mutex::new(State { handler: Some(handler), inside: 0 }), empty: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Option<Inside<'_, H>> {
        let mut state = self.state();
        let handler = state.handler.clone()?;
        state.inside += 1;
        Some(Inside { gate: self, handler })
    }

    fn close(&self) {
        let handler = self.state().handler.take();
        let state = self.state();
        drop(self.empty.wait_while(state, |state| state.inside > 0).unwrap_or_else(PoisonError::into_inner));
        // Outside the lock: it may be the last, and whose `drop` is not known here.
        drop(handler);
    }
}

impl<H: ?Sized> Drop for Inside<'_, H> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.inside -= 1;
        if state.inside == 0 {
            self.gate.empty.notify_all();
        }
    }
}

/// What a library points at, for as long as its callback lasts; `None` if it points at nothing.
///
/// # Safety
/// `record` is null or points at `len` bytes.
pub(crate) unsafe fn bytes<'a>(record: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!record.is_null()).then(|| unsafe { std::slice::from_raw_parts(record, len) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    fn spi(handler: &Arc<AtomicUsize>) -> &'static Spi<AtomicUsize> {
        Spi::leaked(handler.clone(), Family::A, &[])
    }

    fn count(handler: &AtomicUsize) {
        handler.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn a_panic_is_told_once_and_the_next_callback_arrives() {
        let handler = Arc::new(AtomicUsize::new(0));
        let spi = spi(&handler);
        spi.told(|_| panic!("a test's own"), count);
        assert_eq!(handler.load(Ordering::SeqCst), 1);
        spi.told(|_| panic!("a test's own"), |_| panic!("another of the test's own"));
        spi.told(count, |_| unreachable!("nothing panicked"));
        assert_eq!(handler.load(Ordering::SeqCst), 2);
        spi.close();
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let handler = Arc::new(AtomicUsize::new(0));
        spi(&handler).told(|_| std::panic::panic_any(Bomb), count);
        assert_eq!(handler.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn closing_waits_for_a_callback_under_way_and_lets_none_in_after() {
        let handler = Arc::new(AtomicUsize::new(0));
        let spi = spi(&handler);
        let (entered, wait_for_entered) = sync_channel(1);
        let (go, wait_for_go) = sync_channel::<()>(1);
        let callback = std::thread::spawn(move || {
            spi.told(
                |handler| {
                    entered.send(()).expect("heard");
                    wait_for_go.recv().expect("told");
                    count(handler);
                },
                |_| (),
            );
        });
        wait_for_entered.recv().expect("entered");
        let closing = {
            let handler = handler.clone();
            std::thread::spawn(move || {
                spi.close();
                handler.load(Ordering::SeqCst)
            })
        };
        // The gate is closed before the callback ends, ...
        while spi.gate.state().handler.is_some() {
            std::thread::yield_now();
        }
        spi.told(count, |_| ());
        go.send(()).expect("heard");
        // ... and closing ends after it.
        assert_eq!(closing.join().expect("closed"), 1);
        callback.join().expect("called back");
        assert_eq!(handler.load(Ordering::SeqCst), 1);
        assert_eq!(Arc::strong_count(&handler), 1, "the handler is let go");
    }

    #[test]
    fn a_handler_that_panics_at_its_end_ends_nothing() {
        struct Bomb(Arc<AtomicUsize>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                count(&self.0);
                assert!(in_callback());
                panic!("dropped");
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let spi = Spi::leaked(Arc::new(Bomb(dropped.clone())), Family::A, &[]);
        // What closing does, but for the waiting: that would be for this thread.
        spi.told(|_| drop(spi.gate.state().handler.take()), |_| unreachable!("nothing panicked"));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert!(!in_callback());
    }

    #[test]
    fn a_callback_within_a_callback_arrives() {
        let handler = Arc::new(AtomicUsize::new(0));
        let spi = spi(&handler);
        spi.told(
            |handler| {
                assert!(in_callback());
                spi.told(count, |_| ());
                count(handler);
            },
            |_| (),
        );
        assert!(!in_callback());
        assert_eq!(handler.load(Ordering::SeqCst), 2);
    }
}
