//! Where things are in this workspace, and the commands that build them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    // Cargo says where the package is now; the compiler only where it was.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).unwrap_or(package)
}

/// Where downloads and built helpers are kept; ignored by git.
pub fn tools() -> PathBuf {
    root().join(".tools")
}

/// Where cargo puts the programs of a profile: beside this one, whatever CARGO_TARGET_DIR says.
pub fn programs(release: bool) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let target = this.ancestors().nth(2).context("this program is not in cargo's target directory")?;
    Ok(target.join(if release { "release" } else { "debug" }))
}

/// A cargo command in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Builds what runs beside the tests and in the demo: the node, the command line, the SDK's examples, and the fake CTP
/// libraries that tests load.
///
/// # Errors
/// If cargo fails, which then has said why.
pub fn build_programs(release: bool) -> anyhow::Result<()> {
    // The whole workspace, examples included, although a part would do: cargo unites the features of what it builds
    // together, and another selection than `cargo test --workspace` would compile most dependencies once more.
    let mut build = cargo(&["build", "--locked", "--workspace", "--lib", "--bins", "--examples"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    match code(command)? {
        0 => Ok(()),
        code => bail!("`{}` failed with exit code {code}", shown(command)),
    }
}

/// Runs a command to its end and says with which code a failure is to be passed on.
///
/// # Errors
/// If it cannot be started.
pub fn run_for_code(command: &mut Command) -> anyhow::Result<ExitCode> {
    let code = code(command)?;
    if code != 0 {
        eprintln!("xtask: `{}` failed with exit code {code}", shown(command));
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// What a shell would report: a process killed by a signal has no code of its own.
fn code(command: &mut Command) -> anyhow::Result<i32> {
    use std::os::unix::process::ExitStatusExt;
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(program, |line, argument| format!("{line} {}", argument.to_string_lossy()))
}
