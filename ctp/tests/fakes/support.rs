//! A fake library of a test's own, its flow directory, and a handler that keeps what it is told.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use compact_str::CompactString;
use ctp::depth::Depth;
use ctp::requests::Identity;
use ctp::testing::built;
use ctp::{MdEvent, MdHandler, TraderEvent, TraderHandler};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything that must happen: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a copy of a fake library and a flow directory.
pub struct Fake {
    directory: TempDir,
    pub library: PathBuf,
}

impl Fake {
    /// A copy of `ctp_fake_trader` or `ctp_fake_md` that says that it is this version and has this family's table.
    pub fn new(name: &str, version: &str, family: &str, script: &Value) -> Fake {
        let directory = TempDir::new().expect("a directory");
        let library = directory.path().join("lib.so");
        std::fs::copy(built(name), &library).expect("copied");
        std::fs::write(directory.path().join("lib.so.version"), format!("{version}\n{family}\n")).expect("written");
        std::fs::create_dir(directory.path().join("flow")).expect("made");
        std::fs::write(directory.path().join("flow/script.json"), script.to_string()).expect("written");
        Fake { directory, library }
    }

    pub fn flow(&self) -> PathBuf {
        self.directory.path().join("flow")
    }

    /// Has the fake call back at once.
    pub fn tell(&self, tell: &Value) {
        use std::io::Write;
        let path = self.flow().join("tell.jsonl");
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("opened");
        file.write_all(format!("{tell}\n").as_bytes()).expect("written");
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.flow().join("requests.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// What was asked so far of one kind.
    pub fn asked(&self, name: &str) -> Vec<Value> {
        self.requests().into_iter().filter(|request| request["request"] == name).collect()
    }
}

pub fn identity() -> Identity {
    Identity {
        broker: "9999".into(),
        user: "012345".into(),
        password: "secret".into(),
        product_info: "gate".into(),
        app_id: "client_gate_1.0".into(),
        auth_code: "0000000000000000".into(),
    }
}

pub fn fronts() -> Vec<String> {
    vec!["tcp://127.0.0.1:41205".to_owned(), "tcp://127.0.0.1:41206".to_owned()]
}

/// Of a depth: symbol, volume, last price, second bid.
pub type Seen = (CompactString, i32, Option<f64>, Option<f64>);

/// Keeps what it is told; panics at what a test says.
pub struct Kept<E> {
    events: Mutex<Vec<E>>,
    more: Condvar,
    panic_at: Option<fn(&E) -> bool>,
    /// The first few.
    pub depths: Mutex<Vec<Seen>>,
    pub depth_count: AtomicU64,
}

impl<E: Clone + std::fmt::Debug> Kept<E> {
    pub fn new() -> Arc<Kept<E>> {
        Kept::panicking(None)
    }

    pub fn panicking(panic_at: Option<fn(&E) -> bool>) -> Arc<Kept<E>> {
        Arc::new(Kept {
            events: Mutex::default(),
            more: Condvar::new(),
            panic_at,
            depths: Mutex::default(),
            depth_count: AtomicU64::new(0),
        })
    }

    fn keep(&self, event: E) {
        if self.panic_at.is_some_and(|at| at(&event)) {
            // Without the panic hook's words: this one is meant.
            std::panic::resume_unwind(Box::new("the test's own panic"));
        }
        self.events.lock().expect("no panic under the lock").push(event);
        self.more.notify_all();
    }

    pub fn events(&self) -> Vec<E> {
        self.events.lock().expect("no panic under the lock").clone()
    }

    /// Waits for so many events, and takes them out.
    pub fn take(&self, count: usize) -> Vec<E> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.events.lock().expect("no panic under the lock");
        while events.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {count} events, have {events:#?}");
            events = self.more.wait_timeout(events, left).expect("no panic under the lock").0;
        }
        events.drain(..count).collect()
    }

    /// The next event.
    pub fn next(&self) -> E {
        self.take(1).remove(0)
    }
}

impl TraderHandler for Kept<TraderEvent> {
    fn on_event(&self, event: TraderEvent) {
        self.keep(event);
    }
}

impl MdHandler for Kept<MdEvent> {
    fn on_event(&self, event: MdEvent) {
        self.keep(event);
    }

    fn on_depth(&self, depth: Depth<'_>) {
        self.depth_count.fetch_add(1, Ordering::SeqCst);
        let mut depths = self.depths.lock().expect("no panic under the lock");
        if depths.len() < 4 {
            depths.push((
                depth.symbol().unwrap_or_default().into(),
                depth.volume(),
                depth.last_price(),
                depth.bid(1).0,
            ));
        }
        drop(depths);
        self.more.notify_all();
    }
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn symbols(names: &[&str]) -> Vec<CompactString> {
    names.iter().map(|name| CompactString::from(*name)).collect()
}
