//! Wheels of the Python package index, by pip, so that proxies, mirrors and certificates are whatever pip is configured
//! for. Whoever asks pins the hash.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use crate::{python, workspace};

/// Downloads one wheel into a directory and checks it. `choice` is which of a version's wheels, as pip's options.
///
/// # Errors
/// If it cannot be downloaded, or it is not what was pinned.
pub fn download(package: &str, version: &str, choice: &[&str], sha256: &str, to: &Path) -> anyhow::Result<PathBuf> {
    let mut pip = python::command()?;
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .args(choice)
        .arg("--dest")
        .arg(to)
        .arg(format!("{package}=={version}"));
    workspace::run(&mut pip)?;
    let mut files = fs::read_dir(to)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(files.len() == 1, "pip downloaded {} files instead of one", files.len());
    let file = files.remove(0).path();
    check(&file, sha256)?;
    Ok(file)
}

/// Refuses a file that has another hash than was pinned.
///
/// # Errors
/// If it has, or cannot be read.
pub fn check(file: &Path, pinned: &str) -> anyhow::Result<()> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file).context("what was downloaded is gone")?, &mut hasher)?;
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        found == pinned,
        "{} has sha256 {found}, but {pinned} is pinned: it is not the file that this project was tested with",
        file.file_name().unwrap_or_default().display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("a.whl");
        fs::write(&file, "abc").expect("file");
        // FIPS 180-2, appendix B.1.
        check(&file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").expect("the same");
        let error = check(&file, &"0".repeat(64)).expect_err("another").to_string();
        assert!(error.starts_with("a.whl has sha256 ba7816bf"), "{error}");
    }
}
