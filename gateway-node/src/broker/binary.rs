//! Finds a nats-server program that is new enough.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

/// The environment variable that names a nats-server.
pub const SERVER_VARIABLE: &str = "GATEMESH_NATS_SERVER";

/// The oldest nats-server that is taken.
pub const OLDEST: Version = Version(2, 12, 0);

/// A nats-server's version. Pre-releases count as their release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Where to look, so that tests can look elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `broker.server` of the configuration.
    pub configured: Option<PathBuf>,
    /// The value of [`SERVER_VARIABLE`].
    pub variable: Option<OsString>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Directories that, or above which, a tool cache `.tools` may be.
    pub cache_roots: Vec<PathBuf>,
}

impl Places {
    /// As this process sees them.
    #[must_use]
    pub fn of_this_process(configured: Option<PathBuf>) -> Self {
        let beside_program = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        Places {
            configured,
            variable: std::env::var_os(SERVER_VARIABLE).filter(|value| !value.is_empty()),
            path: std::env::var_os("PATH"),
            cache_roots: std::env::current_dir().ok().into_iter().chain(beside_program).collect(),
        }
    }
}

/// The program to start. One that the configuration or the environment names is taken or refused, never passed over;
/// of the others, the first that is new enough.
///
/// # Errors
/// If there is none, in a sentence that names what was passed over and says how to get one.
pub async fn find(places: &Places) -> anyhow::Result<(PathBuf, Version)> {
    let named =
        [(places.configured.clone(), "broker.server"), (places.variable.clone().map(PathBuf::from), SERVER_VARIABLE)];
    for (path, origin) in named {
        let Some(path) = path else { continue };
        let version = version_of(&path).await.with_context(|| format!("{origin} names {}", path.display()))?;
        if version < OLDEST {
            bail!("{origin} names {}, which is version {version}; at least {OLDEST} is needed", path.display());
        }
        return Ok((std::path::absolute(&path)?, version));
    }
    let mut passed_over = Vec::new();
    for path in on_path(places).into_iter().chain(in_caches(places)) {
        match version_of(&path).await {
            Ok(version) if version >= OLDEST => return Ok((std::path::absolute(&path)?, version)),
            Ok(version) => passed_over.push(format!("{} is version {version}", path.display())),
            Err(error) => passed_over.push(format!("{error:#}")),
        }
    }
    let passed_over =
        if passed_over.is_empty() { String::new() } else { format!(" Passed over: {}.", passed_over.join("; ")) };
    bail!(
        "no nats-server of version {OLDEST} or newer was found.{passed_over} Run `cargo xtask fetch-nats`, or install \
         one and name it with broker.server or {SERVER_VARIABLE}; or join servers that run already with broker.address"
    )
}

fn on_path(places: &Places) -> Vec<PathBuf> {
    places
        .path
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("nats-server"))
        .filter(|path| path.is_file())
        .collect()
}

/// `.tools/nats-server-*/nats-server`, the nearest directory first, the newest version of each first.
fn in_caches(places: &Places) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in places.cache_roots.iter().flat_map(|root| root.ancestors()) {
        let Ok(entries) = std::fs::read_dir(directory.join(".tools")) else { continue };
        let mut here: Vec<(Version, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = parse_version(name.to_str()?.strip_prefix("nats-server-")?)?;
                let program = entry.path().join("nats-server");
                program.is_file().then_some((version, program))
            })
            .collect();
        here.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        found.extend(here.into_iter().map(|(_, program)| program));
    }
    found.dedup();
    found
}

async fn version_of(program: &Path) -> anyhow::Result<Version> {
    let asked = Command::new(program).arg("--version").stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), asked)
        .await
        .with_context(|| format!("{} --version did not answer within 10 s", program.display()))?
        .with_context(|| format!("{} cannot be run", program.display()))?;
    // nats-server: v2.15.1
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .strip_prefix("nats-server: v")
        .and_then(parse_version)
        .with_context(|| format!("{} does not say that it is a nats-server", program.display()))
}

fn parse_version(text: &str) -> Option<Version> {
    let release = text.split(['-', '+']).next()?;
    let mut numbers = release.split('.').map(|part| part.parse().ok());
    let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that answers `--version` as a nats-server of that version does. A shell writes it: if this process did,
    /// a child that another test forks meanwhile could hold it open, and it could not be run ("text file busy").
    fn fake(directory: &Path, says: &str) -> PathBuf {
        let program = directory.join("nats-server");
        let script =
            r#"mkdir -p "$1" && printf '#!/bin/sh\necho "%s"\n' "$2" > "$1/nats-server" && chmod +x "$1/nats-server""#;
        let made = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(directory).arg(says).status();
        assert!(made.expect("sh").success());
        program
    }

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(parse_version("2.15.1"), Some(Version(2, 15, 1)));
        assert_eq!(parse_version("2.14.0-RC.1"), Some(Version(2, 14, 0)));
        assert_eq!(parse_version("2.15"), None);
        assert_eq!(parse_version("2.15.1.4"), None);
        assert!(Version(2, 9, 10) < OLDEST && Version(2, 12, 0) >= OLDEST);
    }

    #[tokio::test]
    async fn an_old_one_on_the_path_is_passed_over_for_the_tool_cache() {
        let dir = tempfile::tempdir().expect("directory");
        let old = fake(&dir.path().join("bin"), "nats-server: v2.9.10");
        let mut places = Places { path: Some(dir.path().join("bin").into_os_string()), ..Places::default() };
        let error = find(&places).await.expect_err("too old").to_string();
        assert!(error.contains(&format!("{} is version 2.9.10", old.display())), "{error}");
        assert!(error.contains("cargo xtask fetch-nats"), "{error}");

        fake(&dir.path().join("w/.tools/nats-server-2.12.3"), "nats-server: v2.12.3");
        let newest = fake(&dir.path().join("w/.tools/nats-server-2.15.1"), "nats-server: v2.15.1");
        places.cache_roots = vec![dir.path().join("w/target/debug")];
        assert_eq!(find(&places).await.expect("found"), (newest, Version(2, 15, 1)));
    }

    #[tokio::test]
    async fn one_that_is_named_is_taken_or_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let good = fake(&dir.path().join("good"), "nats-server: v2.15.1");
        let old = fake(&dir.path().join("old"), "nats-server: v2.11.0");
        let stranger = fake(&dir.path().join("stranger"), "hello");
        let places = |configured: Option<&Path>, variable: Option<&Path>| Places {
            configured: configured.map(Path::to_owned),
            variable: variable.map(|p| p.as_os_str().to_owned()),
            ..Places::default()
        };
        assert_eq!(find(&places(None, Some(&good))).await.expect("found").0, good);
        assert_eq!(find(&places(Some(&good), Some(&old))).await.expect("found").0, good);
        let error = find(&places(None, Some(&old))).await.expect_err("too old").to_string();
        assert!(
            error.starts_with("GATEMESH_NATS_SERVER names") && error.contains("2.11.0; at least 2.12.0"),
            "{error}"
        );
        let error = format!("{:#}", find(&places(Some(&stranger), None)).await.expect_err("stranger"));
        assert!(error.starts_with("broker.server names") && error.contains("does not say"), "{error}");
        let missing = dir.path().join("missing");
        let error = format!("{:#}", find(&places(Some(&missing), None)).await.expect_err("missing"));
        assert!(error.contains("cannot be run"), "{error}");
    }
}
