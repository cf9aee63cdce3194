//! `cargo xtask chaos`: builds what is broken and what breaks it, runs it, and judges the judge with planted defects.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};

use crate::{fetch_nats, workspace};

/// Options of `chaos`.
#[derive(clap::Args)]
pub struct ChaosArgs {
    /// How many faults; by default each kind once
    #[arg(long, conflicts_with = "minutes")]
    rounds: Option<usize>,
    /// For how long
    #[arg(long)]
    minutes: Option<u64>,
    /// Decides everything that chance decides; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes host the gateway, 2 or 3
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// How many clients trade
    #[arg(long, default_value_t = 3)]
    clients: u8,
    /// Only these faults: parts of their names, separated by commas
    #[arg(long)]
    faults: Option<String>,
    /// Plant this defect in the nodes: then the run must find something
    #[arg(long, value_parser = DEFECTS.map(|defect| defect.name))]
    defect: Option<String>,
    /// Judge the judge: plant every defect, one after the other; succeeds if each is caught
    #[arg(long, conflicts_with_all = ["defect", "faults", "minutes"])]
    judge: bool,
    /// Keep logs and ledgers though nothing was wrong
    #[arg(long)]
    keep: bool,
}

/// A defect that can be planted, the faults that bring it to light, and the words of the finding that it must lead to.
struct Provoked {
    name: &'static str,
    faults: &'static str,
    says: &'static [&'static str],
}

const DEFECTS: [Provoked; 6] = [
    Provoked {
        name: "gate",
        faults: "kill the leading,stall the leading node from the brokers,kill a broker",
        says: &["lost: ", ": the venue took it as ", ", the journal lacks it"],
    },
    Provoked {
        name: "fence",
        faults: "freeze the leading node past,stall the leading node from the brokers",
        says: &["mismatched: the journal: it holds ", " entries of leaders that had been replaced"],
    },
    Provoked {
        name: "ids",
        faults: "kill a client,a client from the brokers,kill the leading",
        says: &["duplicated: ", ": the venue took it as ", " and "],
    },
    Provoked {
        name: "reconcile",
        faults: "while the journal is slow",
        says: &["mismatched: ", ": REJECTED with ", " lots in entry "],
    },
    Provoked {
        name: "trades",
        faults: "kill a client,kill a standby",
        says: &["lost: ", ": its trades in the journal are ", " lots, the order says "],
    },
    Provoked { name: "submit", faults: "kill a client,kill a standby", says: &["lost: ", ": the node lost it"] },
];

/// Rounds in which a planted defect is to be caught, and how many runs of them it gets.
const ROUNDS_TO_CATCH: usize = 6;
const RUNS_TO_CATCH: u64 = 3;
/// The exit code of a run that found something wrong.
const FOUND: i32 = 1;

/// Builds and runs. The exit code is the run's: 0, or 1 if something was lost, duplicated or mismatched.
///
/// # Errors
/// If something could not be fetched, built or started; with `--judge`, if a defect was not caught.
pub fn run(args: &ChaosArgs) -> anyhow::Result<ExitCode> {
    let nats_server = fetch_nats::for_use()?;
    workspace::build_programs(false)?;
    if args.judge {
        return judge_the_judge(args, &nats_server);
    }
    let node = match args.defect {
        Some(_) => planted_node()?,
        None => workspace::programs(false)?.join("gateway-node"),
    };
    let mut chaos = chaos(args, &nats_server, &node)?;
    if let Some(faults) = &args.faults {
        chaos.args(["--faults", faults]);
    }
    if let Some(minutes) = args.minutes {
        chaos.args(["--minutes", &minutes.to_string()]);
    }
    if let Some(rounds) = args.rounds {
        chaos.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(seed) = args.seed {
        chaos.args(["--seed", &seed.to_string()]);
    }
    if let Some(defect) = &args.defect {
        chaos.args(["--defect", defect]);
    }
    workspace::run_for_code(&mut chaos)
}

/// Each kind of fault once, for `cargo xtask test`.
///
/// # Errors
/// If it cannot be started.
pub fn short(nats_server: &Path) -> anyhow::Result<ExitCode> {
    let mut chaos = Command::new(workspace::programs(false)?.join("chaos"));
    chaos.args(["run", "--seed", "1", "--node"]).arg(workspace::programs(false)?.join("gateway-node"));
    chaos.env("GATEMESH_NATS_SERVER", nats_server);
    workspace::run_for_code(&mut chaos)
}

fn judge_the_judge(args: &ChaosArgs, nats_server: &Path) -> anyhow::Result<ExitCode> {
    let node = planted_node()?;
    without_a_defect(args, nats_server, &node)?;
    let mut missed = Vec::new();
    for defect in DEFECTS {
        match caught(args, nats_server, &node, &defect)? {
            Some(finding) => println!("{}: caught: {finding}", defect.name),
            None => {
                println!("{}: NOT caught", defect.name);
                missed.push(defect.name);
            }
        }
    }
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("planted and not caught: {}", missed.join(", "));
}

/// The control: the same program under the same faults, and nothing is found while nothing is planted.
fn without_a_defect(args: &ChaosArgs, nats_server: &Path, node: &Path) -> anyhow::Result<()> {
    let mut chaos = chaos(args, nats_server, node)?;
    chaos.args(["--faults", &DEFECTS.map(|defect| defect.faults).join(",")]);
    chaos.args(["--seed", &args.seed.unwrap_or(1).to_string()]);
    let status = chaos.status().context("cannot run chaos")?;
    ensure!(status.success(), "the control run, without any defect, was to find nothing and ended with {status}");
    println!("no defect: nothing found");
    Ok(())
}

/// The finding that caught a defect, if one of the runs did: the one that the defect must lead to.
fn caught(args: &ChaosArgs, nats_server: &Path, node: &Path, defect: &Provoked) -> anyhow::Result<Option<String>> {
    for attempt in 0..RUNS_TO_CATCH {
        let mut chaos = chaos(args, nats_server, node)?;
        let rounds = args.rounds.unwrap_or(ROUNDS_TO_CATCH).to_string();
        let seed = (args.seed.unwrap_or(1) + attempt).to_string();
        chaos.args(["--defect", defect.name, "--faults", defect.faults, "--rounds", &rounds, "--seed", &seed]);
        let output = chaos.stdout(Stdio::piped()).spawn().and_then(|child| child.wait_with_output());
        let output = output.context("cannot run chaos")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(FOUND) {
            if let Some(finding) = text.lines().find(|line| says_all(line, defect.says)) {
                return Ok(Some(finding.chars().take(300).collect()));
            }
            eprintln!("{text}\nxtask: with seed {seed} none of these findings is of {}", defect.name);
            continue;
        }
        eprintln!("xtask: {} was not caught with seed {seed} ({})", defect.name, output.status);
    }
    Ok(None)
}

/// Whether a line holds all of these, in this order, the first at its beginning.
fn says_all(line: &str, words: &[&str]) -> bool {
    let Some((first, others)) = words.split_first() else { return false };
    let rest = line.strip_prefix(first);
    rest.is_some_and(|rest| {
        others.iter().try_fold(rest, |rest, word| rest.split_once(word).map(|(_, rest)| rest)).is_some()
    })
}

fn chaos(args: &ChaosArgs, nats_server: &Path, node: &Path) -> anyhow::Result<Command> {
    let mut chaos = Command::new(workspace::programs(false)?.join("chaos"));
    chaos.args(["run", "--nodes", &args.nodes.to_string(), "--clients", &args.clients.to_string(), "--node"]);
    chaos.arg(node);
    // The venue itself has no defect.
    chaos.arg("--venue").arg(workspace::programs(false)?.join("gateway-node"));
    chaos.env("GATEMESH_NATS_SERVER", nats_server);
    if args.keep {
        chaos.arg("--keep");
    }
    Ok(chaos)
}

/// A node in which defects can be planted, in a target directory of its own, so that no other build ever sees one.
fn planted_node() -> anyhow::Result<PathBuf> {
    let programs = workspace::programs(false)?;
    let target = programs.parent().context("cargo's target directory")?.join("planted");
    let mut build = workspace::cargo(&["build", "--locked", "-p", "gateway-node", "--bins"]);
    build.args(["--features", "planted-defects", "--target-dir"]).arg(&target);
    workspace::run(&mut build)?;
    Ok(target.join("debug").join("gateway-node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_known_by_all_its_words() {
        let finding = "duplicated: c1-1-7: the venue took it as 3/1 and 4/2";
        assert!(says_all(finding, DEFECTS[2].says));
        assert!(!says_all(finding, DEFECTS[0].says) && !says_all(finding, &[]));
        let trades = "lost: c1-1-152: its trades in the journal are 0 lots, the order says 1";
        assert!(says_all(trades, DEFECTS[4].says) && !says_all(trades, DEFECTS[5].says));
        assert!(!says_all("    c1 5 duplicated: x: the venue took it as 3/1 and 4/2", DEFECTS[2].says));
    }

    #[test]
    fn every_defect_is_provoked() {
        let planted = protocol::defect::Defect::ALL.map(protocol::defect::Defect::name);
        assert_eq!(DEFECTS.map(|defect| defect.name), planted);
    }
}
