//! The thread that calls back, as a library's own does, and the files in the flow directory that it works with.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::record::Record;
use crate::script::Tell;

/// How often `tell.jsonl` is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the thread is to do.
pub enum Job<T> {
    /// A request of the client's.
    Request(T),
    /// A line of `tell.jsonl`.
    Tell(Tell),
}

/// Jobs for the thread. Bounded by what tests ask for.
pub struct Queue<T> {
    jobs: Mutex<(VecDeque<Job<T>>, bool)>,
    more: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { jobs: Mutex::new((VecDeque::new(), false)), more: Condvar::new() }
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Job<T>>, bool)> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request.
    pub fn push(&self, request: T) {
        self.lock().0.push_back(Job::Request(request));
        self.more.notify_one();
    }

    /// Whether the thread is to end.
    pub fn is_stopped(&self) -> bool {
        self.lock().1
    }

    fn stop(&self) {
        self.lock().1 = true;
        self.more.notify_one();
    }

    fn next(&self, told: &mut Told) -> Option<Job<T>> {
        let mut jobs = self.lock();
        loop {
            if jobs.1 {
                return None;
            }
            if let Some(job) = jobs.0.pop_front() {
                return Some(job);
            }
            for tell in told.more() {
                jobs.0.push_back(Job::Tell(tell));
            }
            if jobs.0.is_empty() {
                jobs = self.more.wait_timeout(jobs, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// The thread.
pub struct Worker<T> {
    queue: Arc<Queue<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it: `begin` first, then `work` on every job.
    pub fn start(
        flow: &Path,
        queue: Arc<Queue<T>>,
        begin: impl FnOnce() + Send + 'static,
        mut work: impl FnMut(Job<T>) + Send + 'static,
    ) -> Worker<T> {
        let mut told = Told::from_now_on(flow);
        let thread = {
            let queue = queue.clone();
            std::thread::spawn(move || {
                begin();
                while let Some(job) = queue.next(&mut told) {
                    work(job);
                }
            })
        };
        Worker { queue, thread: Some(thread) }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `tell.jsonl`, as far as it was read.
struct Told {
    path: PathBuf,
    read: u64,
}

impl Told {
    /// What is there already was for an earlier object.
    fn from_now_on(flow: &Path) -> Told {
        let path = flow.join("tell.jsonl");
        let read = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Told { path, read }
    }

    fn more(&mut self) -> Vec<Tell> {
        let mut text = String::new();
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        if file.seek(SeekFrom::Start(self.read)).is_err() || file.read_to_string(&mut text).is_err() {
            return Vec::new();
        }
        // Whole lines: the test may be writing another just now.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        text[..whole]
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("tell.jsonl: {error}: {line}")))
            .collect()
    }
}

/// `requests.jsonl`.
pub struct Log(Mutex<Option<File>>);

impl Log {
    /// In a flow directory.
    pub fn open(flow: &Path) -> Log {
        Log(Mutex::new(File::options().create(true).append(true).open(flow.join("requests.jsonl")).ok()))
    }

    /// A request with its record.
    pub fn request(&self, name: &str, record: &Record, number: i32, returned: i32) {
        self.write(&json!({"request": name, "number": number, "returned": returned, "record": record.filled()}));
    }

    /// Anything else that is called.
    pub fn call(&self, name: &str, arguments: Value) {
        self.write(&json!({"request": name, "arguments": arguments}));
    }

    fn write(&self, line: &Value) {
        if let Some(file) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // One write: whoever reads sees whole lines.
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
