//! What a process uses, as Linux tells it: processor time and memory.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

/// Processor time of a process from a moment on, to the nanosecond, over all threads that are there at the end.
pub struct Meter {
    pid: u32,
    began: Instant,
    before: HashMap<String, u64>,
}

impl Meter {
    /// From now on.
    ///
    /// # Errors
    /// If there is no such process, or this is not Linux.
    pub fn start(pid: u32) -> anyhow::Result<Meter> {
        Ok(Meter { pid, began: Instant::now(), before: threads(pid)? })
    }

    /// So far, in nanoseconds.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn used_ns(&self) -> anyhow::Result<f64> {
        Ok(used(&self.before, &threads(self.pid)?) as f64)
    }

    /// So far, as a share of one core in percent.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn percent_of_core(&self) -> anyhow::Result<f64> {
        Ok(self.used_ns()? / self.began.elapsed().as_nanos() as f64 * 100.0)
    }
}

/// Memory that a process has now, in units of 1,048,576 bytes: what Linux calls the resident set.
///
/// # Errors
/// If there is no such process, or this is not Linux.
pub fn resident_mebibytes(pid: u32) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    resident(&status).with_context(|| format!("{file} has no VmRSS in kB"))
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Nanoseconds of each thread, by its number.
fn threads(pid: u32) -> anyhow::Result<HashMap<String, u64>> {
    let directory = format!("/proc/{pid}/task");
    let mut all = HashMap::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
        let entry = entry?;
        // A thread may end in between.
        if let Some(ns) = on_processor(&entry.path()) {
            all.insert(entry.file_name().to_string_lossy().into_owned(), ns);
        }
    }
    Ok(all)
}

fn on_processor(thread: &Path) -> Option<u64> {
    fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

fn used(before: &HashMap<String, u64>, after: &HashMap<String, u64>) -> u64 {
    after.iter().map(|(thread, ns)| ns.saturating_sub(before.get(thread).copied().unwrap_or(0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_came_count_from_their_beginning() {
        let of = |threads: &[(&str, u64)]| threads.iter().map(|(name, ns)| ((*name).to_owned(), *ns)).collect();
        // 7 went on, 8 ended, 9 came.
        assert_eq!(used(&of(&[("7", 100), ("8", 50)]), &of(&[("7", 130), ("9", 5)])), 35);
    }

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   2048 kB\nThreads:\t1\n"), Some(2.0));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_both() {
        let meter = Meter::start(std::process::id()).expect("started");
        while meter.used_ns().expect("read") == 0.0 {
            std::hint::black_box((0..1_000_000_u64).fold(0, |sum, n| sum ^ n));
        }
        assert!(resident_mebibytes(std::process::id()).expect("read") > 0.1);
        assert!(Meter::start(u32::MAX).is_err());
    }
}
