//! A nats-server that outlived its node: recognised beyond doubt, then stopped. A process that is not ours is never
//! touched, whatever an old pid file says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::{info, warn};

/// Stops the server that the pid file names, if it still runs and is ours.
///
/// # Errors
/// If it is ours and cannot be stopped.
pub(super) async fn stop(pid_file: &Path, patience: Duration) -> anyhow::Result<()> {
    let Some(pid) = read_pid(pid_file) else { return Ok(()) };
    if !is_ours(pid, pid_file) {
        return Ok(());
    }
    warn!(%pid, "stopping the nats-server that a killed node left behind");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match kill(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("nats-server (pid {pid}) of a killed node still uses this data directory; stop it by hand")
                });
            }
        }
        if gone(pid, pid_file, patience).await {
            info!(%pid, ?signal, "left-over nats-server stopped");
            return Ok(());
        }
    }
    bail!("nats-server (pid {pid}) of a killed node does not die; stop it by hand")
}

async fn gone(pid: Pid, pid_file: &Path, patience: Duration) -> bool {
    let waited = tokio::time::timeout(patience, async {
        while is_ours(pid, pid_file) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.is_ok()
}

fn read_pid(pid_file: &Path) -> Option<Pid> {
    let number: i32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    // 0 and below would signal whole groups of processes.
    (number > 1).then(|| Pid::from_raw(number))
}

/// Whether that process is a nats-server that was told to write this very pid file: numbers of processes come again.
fn is_ours(pid: Pid, pid_file: &Path) -> bool {
    arguments(pid).is_some_and(|arguments| names_our_server(&arguments, pid_file))
}

fn names_our_server(arguments: &[String], pid_file: &Path) -> bool {
    let Some((program, rest)) = arguments.split_first() else { return false };
    Path::new(program).file_name().is_some_and(|name| name == "nats-server")
        && rest.windows(2).any(|pair| pair[0] == "-P" && Path::new(&pair[1]) == pid_file)
}

/// A process's command line; `None` when there is none of that number, or it has ended and waits for its parent.
#[cfg(target_os = "linux")]
fn arguments(pid: Pid) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    Some(line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

/// A process's command line; `None` when there is none of that number. `ps` joins the words with blanks, so a path that
/// holds blanks is not recognised, and its server left alone.
#[cfg(not(target_os = "linux"))]
fn arguments(pid: Pid) -> Option<Vec<String>> {
    let output = std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    let line = String::from_utf8(output.ok()?.stdout).ok()?;
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_a_nats_server_with_our_pid_file_is_ours() {
        let ours = Path::new("/d/broker/nats-server.pid");
        assert!(names_our_server(&line("/x/nats-server -c c -P /d/broker/nats-server.pid"), ours));
        assert!(!names_our_server(&line("/x/nats-server -c c -P /e/broker/nats-server.pid"), ours));
        assert!(!names_our_server(&line("/x/nats-server -c c"), ours));
        assert!(!names_our_server(&line("/bin/vi -P /d/broker/nats-server.pid"), ours));
        assert!(!names_our_server(&[], ours));
    }

    #[tokio::test]
    async fn a_stranger_with_the_number_of_an_old_pid_file_lives() {
        let dir = tempfile::tempdir().expect("directory");
        let pid_file = dir.path().join("nats-server.pid");
        let mut stranger = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().expect("sleep");
        std::fs::write(&pid_file, stranger.id().expect("runs").to_string()).expect("pid file");
        stop(&pid_file, Duration::from_secs(5)).await.expect("nothing to do");
        assert!(stranger.try_wait().expect("state").is_none(), "the stranger was killed");
    }

    #[tokio::test]
    async fn pid_files_of_nobody_are_ignored() {
        let dir = tempfile::tempdir().expect("directory");
        let pid_file = dir.path().join("nats-server.pid");
        for text in ["", "0", "-1", "1", "99999999999", "pid", "\u{0}"] {
            std::fs::write(&pid_file, text).expect("pid file");
            stop(&pid_file, Duration::from_secs(5)).await.expect("nothing to do");
        }
        std::fs::remove_file(&pid_file).expect("removed");
        stop(&pid_file, Duration::from_secs(5)).await.expect("nothing to do");
    }
}
