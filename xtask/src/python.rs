//! The Python that downloads wheels, and those that the interoperability test and the bench run.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::workspace;

const NATS_CLIENT: Environment =
    Environment { directory: "venv", requirements: include_str!("../python-requirements.txt"), import: "import nats" };
const VNPY: Environment = Environment {
    directory: "vnpy",
    requirements: include_str!("../../bench/vnpy-requirements.txt"),
    import: "import vnpy.rpc, vnpy.trader.object",
};

/// A virtual environment in .tools.
struct Environment {
    directory: &'static str,
    /// For pip, with hashes.
    requirements: &'static str,
    /// Runs if the environment is whole.
    import: &'static str,
}

/// A command that starts this machine's Python.
///
/// # Errors
/// If there is none with pip.
pub fn command() -> anyhow::Result<Command> {
    for name in ["python3", "python"] {
        if quiet(name, &["-m", "pip", "--version"]) {
            let mut command = Command::new(name);
            // In containers everybody is root; what pip writes goes into .tools only.
            command.env("PIP_ROOT_USER_ACTION", "ignore");
            return Ok(command);
        }
    }
    bail!("no python3 with pip was found: install them (Debian and Ubuntu: apt install python3-pip)")
}

/// A Python that has the NATS client of python-requirements.txt: the one that `GATEMESH_PYTHON` names, or a virtual
/// environment in .tools, made if it is not here yet.
///
/// # Errors
/// If it cannot be made.
pub fn with_nats_client() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("GATEMESH_PYTHON").filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    NATS_CLIENT.make().context(
        "pip could not install the NATS client for the Python test; name a Python that has it with GATEMESH_PYTHON",
    )
}

/// A Python that has VeighNa's RPC: the one that `GATEMESH_BENCH_PYTHON` names, or a virtual environment in .tools, made
/// if it is not here yet.
///
/// # Errors
/// If it cannot be made.
pub fn with_vnpy() -> anyhow::Result<PathBuf> {
    match std::env::var_os("GATEMESH_BENCH_PYTHON").filter(|named| !named.is_empty()) {
        Some(named) => Ok(named.into()),
        None => VNPY.make(),
    }
}

impl Environment {
    /// Its Python; the environment is made if it is not here yet, or is of other requirements.
    fn make(&self) -> anyhow::Result<PathBuf> {
        let tools = workspace::tools();
        let home = tools.join(self.directory);
        let python = home.join("bin/python");
        // A change of the requirements makes the environment anew.
        let stamp = home.join("requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == self.requirements)
            && quiet(&python, &["-c", self.import])
        {
            return Ok(python);
        }
        eprintln!("xtask: making a Python environment in {}", home.display());
        fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
        let work = tempfile::Builder::new().prefix(".venv-").tempdir_in(&tools).context("cannot write into .tools")?;
        let new = work.path().join("venv");
        // Without pip of its own: Debian packs what would install it separately, and the machine's pip can do the same.
        workspace::run(command()?.args(["-m", "venv", "--without-pip"]).arg(&new))?;
        let where_to = Command::new(new.join("bin/python"))
            .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')"])
            .output()
            .context("the new Python environment does not run")?;
        let packages =
            String::from_utf8(where_to.stdout).context("the new Python environment does not say where it is")?;
        let requirements = new.join("requirements.txt");
        fs::write(&requirements, self.requirements)?;
        let mut pip = command()?;
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
            .args(["--only-binary=:all:", "--target", &packages, "--requirement"])
            .arg(&requirements);
        workspace::run(&mut pip)?;
        // Two at once: the later one takes the place of the earlier one, or keeps out of its way.
        let _ = fs::rename(&home, work.path().join("old"));
        if let Err(error) = fs::rename(&new, &home)
            && !python.exists()
        {
            return Err(error).with_context(|| format!("cannot make {}", home.display()));
        }
        Ok(python)
    }
}

fn quiet(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
