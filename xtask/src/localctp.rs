//! LocalCTP for the tests: a stand-in for CTP's counter, inside the process that loads it. Its library comes with the
//! crate `localctp-sys` (MIT), fetched by cargo and never compiled, so that proxies and mirrors are whatever cargo is
//! configured for; the library's hash is pinned here. It cannot do without the locale `zh_CN.gb18030`, which is made
//! from Debian's `locales`: the machine's, or its package, unpacked into .tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::{wheel, workspace};

const VERSION: &str = "0.2.0";
const LIBRARY: &str = "libthosttraderapi_se_local.so";
const SHA256: &str = "c4dd98ddc51498f43fbc5fb86e26f9692fbb478d2ac672dcfd330aca9d44b958";

/// What was asked for cannot be had here: no platform, no network, no package manager. Whatever else goes wrong is an
/// error.
#[derive(Debug)]
struct Unavailable(String);

/// The directory with LocalCTP's library and, in `locale`, the locale: the one that `GATEMESH_LOCALCTP` names, or one in
/// .tools, made if it is not here yet. `None`, having said why, where it cannot be had.
///
/// # Errors
/// If it can be had and is not what it should be.
pub fn for_use() -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("GATEMESH_LOCALCTP").filter(|named| !named.is_empty()) {
        return std::path::absolute(&named).context("GATEMESH_LOCALCTP names no path").map(Some);
    }
    match fetch()? {
        Ok(home) => Ok(Some(home)),
        Err(Unavailable(why)) => {
            eprintln!("xtask: SKIPPED: no tests with LocalCTP: {why}");
            Ok(None)
        }
    }
}

fn fetch() -> anyhow::Result<Result<PathBuf, Unavailable>> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if (os, arch) != ("linux", "x86_64") {
        return Ok(Err(Unavailable(format!("there is none for {os} on {arch}"))));
    }
    let tools = workspace::tools();
    let home = tools.join(format!("localctp-{VERSION}"));
    if home.is_dir() {
        return Ok(Ok(home));
    }
    eprintln!("xtask: downloading LocalCTP {VERSION}");
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    let work = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&tools).context("cannot write into .tools")?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    let package = match package(&work.path().join("crate"))? {
        Ok(package) => package,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let library = ready.join(LIBRARY);
    let packed = package.join("thirdparty/LocalCTP/v_current").join(LIBRARY);
    fs::copy(&packed, &library).with_context(|| format!("localctp-sys {VERSION} has no {}", packed.display()))?;
    wheel::check(&library, SHA256)?;
    if let Err(unavailable) = make_locale(&ready.join("locale"), work.path())? {
        return Ok(Err(unavailable));
    }
    // Two at once: each works in a directory of its own, and the first to finish gives it its name.
    if let Err(error) = fs::rename(&ready, &home)
        && !home.is_dir()
    {
        return Err(error).with_context(|| format!("cannot make {}", home.display()));
    }
    Ok(Ok(home))
}

/// Where cargo puts the crate: a package that is never built depends on it.
fn package(work: &Path) -> anyhow::Result<Result<PathBuf, Unavailable>> {
    fs::create_dir(work)?;
    let manifest = format!(
        "[package]\nname = \"fetching\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"none.rs\"\n\
         [workspace]\n[dependencies]\nlocalctp-sys = \"={VERSION}\"\n"
    );
    fs::write(work.join("Cargo.toml"), manifest)?;
    fs::write(work.join("none.rs"), "")?;
    let platform = "x86_64-unknown-linux-gnu";
    let fetched = workspace::cargo(&["fetch", "--quiet", "--target", platform]).current_dir(work).output()?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
        ensure!(!registry_answered(&said), "cargo cannot fetch localctp-sys {VERSION}: {said}");
        let line = said.lines().next_back().unwrap_or_default().trim();
        return Ok(Err(Unavailable(format!("cargo could not fetch localctp-sys {VERSION}: {line}"))));
    }
    let told = workspace::cargo(&["metadata", "--format-version=1", "--offline", "--filter-platform", platform])
        .current_dir(work)
        .output()?;
    let told: Value = serde_json::from_slice(&told.stdout).context("cargo metadata does not say where a crate is")?;
    let packages = told["packages"].as_array().context("cargo metadata lists no packages")?;
    let found = packages.iter().find(|package| package["name"] == "localctp-sys");
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.context("cargo metadata does not list localctp-sys")?);
    Ok(Ok(manifest.parent().context("a manifest is in a directory")?.to_owned()))
}

/// Whether cargo failed although it reached its registry.
fn registry_answered(said: &str) -> bool {
    ["no matching package", "failed to select a version", "failed to verify the checksum"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// Makes `zh_CN.gb18030` in a directory, out of what the machine has, or of Debian's package.
fn make_locale(to: &Path, work: &Path) -> anyhow::Result<Result<(), Unavailable>> {
    fs::create_dir(to)?;
    match localedef(to, None) {
        Ok(Ok(())) => return Ok(Ok(())),
        Ok(Err(_)) => {}
        Err(unavailable) => return Ok(Err(unavailable)),
    }
    let sources = match debian_locales(&work.join("debian"))? {
        Ok(sources) => sources,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    match localedef(to, Some(&sources)) {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(said)) => bail!("localedef made no zh_CN.gb18030 from Debian's locales: {said}"),
        Err(unavailable) => Ok(Err(unavailable)),
    }
}

/// Runs localedef; what it said if it made nothing.
fn localedef(to: &Path, sources: Option<&Path>) -> Result<Result<(), String>, Unavailable> {
    let locale = to.join("zh_CN.gb18030");
    let mut command = Command::new("localedef");
    // -c: warnings are no reason to make nothing.
    command.args(["-c", "-f", "GB18030", "-i", "zh_CN"]).arg(&locale).stdin(Stdio::null());
    if let Some(sources) = sources {
        command.env("I18NPATH", sources);
    }
    let output = command.output().map_err(|error| Unavailable(format!("localedef does not run: {error}")))?;
    // Its exit code tells of warnings too.
    if locale.join("LC_CTYPE").is_file() {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Debian's package `locales`, unpacked: apt-get looks at its signature. No root is needed: lists and cache are kept here.
fn debian_locales(work: &Path) -> anyhow::Result<Result<PathBuf, Unavailable>> {
    for directory in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(work.join(directory))?;
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        let here = |option: &str, directory: &str| format!("{option}={}", work.join(directory).display());
        command.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"]);
        command.args(["-o", &here("Dir::State::Lists", "lists"), "-o", &here("Dir::Cache", "cache")]);
        command.args(["-o", "APT::Update::Error-Mode=any"]).args(arguments).current_dir(work).stdin(Stdio::null());
        command.output()
    };
    let last_line =
        |said: &[u8]| String::from_utf8_lossy(said).trim().lines().next_back().unwrap_or_default().to_owned();
    let updated = match apt_get(&["update"]) {
        Ok(updated) => updated,
        Err(error) => {
            let why = format!("the machine has no sources of zh_CN.gb18030, and apt-get does not run: {error}");
            return Ok(Err(Unavailable(why)));
        }
    };
    if !updated.status.success() {
        let why = format!("apt-get update, for the package locales: {}", last_line(&updated.stderr));
        return Ok(Err(Unavailable(why)));
    }
    let downloaded = apt_get(&["download", "locales"]).context("cannot run apt-get")?;
    ensure!(downloaded.status.success(), "apt-get download locales: {}", last_line(&downloaded.stderr));
    let packages = fs::read_dir(work)?.collect::<Result<Vec<_>, _>>()?;
    let package = packages.iter().map(fs::DirEntry::path).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt-get download locales left no package")?;
    let unpacked = work.join("unpacked");
    workspace::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
    Ok(Ok(unpacked.join("usr/share/i18n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_answered_is_no_reason_to_skip() {
        for said in [
            "error: no matching package named `localctp-sys` found",
            "error: failed to select a version for the requirement `localctp-sys = \"=0.2.0\"`",
            "error: failed to verify the checksum of `localctp-sys v0.2.0`",
        ] {
            assert!(registry_answered(said), "{said}");
        }
        for said in ["error: download of config.json failed\n\nCaused by:\n  [6] Couldn't resolve host name", ""] {
            assert!(!registry_answered(said), "{said}");
        }
    }

    #[test]
    fn localedef_says_what_it_lacks() {
        let directory = tempfile::tempdir().expect("directory");
        let sources = directory.path().join("nothing");
        match localedef(&directory.path().join("absent/locale"), Some(&sources)) {
            Ok(made) => assert!(!made.expect_err("nothing can be made there").is_empty()),
            Err(Unavailable(why)) => assert!(why.starts_with("localedef does not run"), "{why}"),
        }
    }
}
