//! The directory that an object of CTP's keeps its flow files in. Two objects in one directory would overwrite each
//! other's: it is lent to one at a time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::library::LoadError;

static LENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A flow directory, lent for as long as this value lives.
#[derive(Debug)]
pub(crate) struct FlowDirectory {
    path: PathBuf,
}

impl FlowDirectory {
    /// Makes the directory where it is missing and borrows it.
    pub fn borrow(path: &Path) -> Result<FlowDirectory, LoadError> {
        let fault = |fault: String| LoadError::Flow { path: path.to_owned(), fault };
        std::fs::create_dir_all(path).map_err(|error| fault(error.to_string()))?;
        // By its real name, or a link would pass for another directory.
        let real = path.canonicalize().map_err(|error| fault(error.to_string()))?;
        if !LENT.lock().unwrap_or_else(PoisonError::into_inner).insert(real.clone()) {
            return Err(fault(
                "another CTP connection of this program keeps its files there; give each a directory of its own"
                    .to_owned(),
            ));
        }
        Ok(FlowDirectory { path: real })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What CTP puts before the names of its files: the directory with a slash at its end.
    pub fn prefix(&self) -> PathBuf {
        self.path.join("")
    }
}

/// Does something with a flow directory of its own, which is gone afterwards.
pub(crate) fn with_scratch<T>(act: impl FnOnce(&FlowDirectory) -> Result<T, LoadError>) -> Result<T, LoadError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("gatemesh-ctp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let flow = FlowDirectory::borrow(&std::env::temp_dir().join(name))?;
    let done = act(&flow);
    // What cannot be removed is a few empty files in the temporary directory.
    let _ = std::fs::remove_dir_all(flow.path());
    done
}

impl Drop for FlowDirectory {
    fn drop(&mut self) {
        LENT.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_directory_is_lent_to_one_at_a_time() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a/b");
        let first = FlowDirectory::borrow(&path).expect("free");
        assert!(first.prefix().to_string_lossy().ends_with("/a/b/"), "{}", first.prefix().display());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        for taken in [&path, &link] {
            let error = FlowDirectory::borrow(taken).expect_err("lent").to_string();
            assert!(error.contains("another CTP connection of this program keeps its files there"), "{error}");
        }
        drop(first);
        FlowDirectory::borrow(&path).expect("free again");
    }

    #[test]
    fn a_flow_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("file");
        let error = FlowDirectory::borrow(&file).expect_err("a file").to_string();
        assert!(error.starts_with(&format!("cannot use the flow directory {}: ", file.display())), "{error}");
    }
}
