//! `cargo xtask simulate`: many histories, or one again, or the judges judged.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use clap::Parser;
use simulation::outside::{Counts, StepLog};
use simulation::world::{self, Ended};

/// Steps that are shown before a finding.
const LAST_STEPS: usize = 60;
/// In so many histories everything occurs that can.
const ENOUGH: u64 = 1_000;

/// Simulates nodes, journal, lease, venue and clients in one thread, with a seeded scheduler that crashes, stops, delays,
/// loses, repeats and reorders.
#[derive(Parser)]
#[command(name = "simulation", bin_name = "cargo xtask simulate", max_term_width = 110)]
struct Args {
    /// How many histories
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    histories: u64,
    /// The first history's seed; with nothing else, that one history with all its steps
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes, however many histories that were
    #[arg(long)]
    minutes: Option<f64>,
    /// Threads; each runs histories of its own
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
    /// Plant a defect: gate, fence, ids, reconcile, trades or submit
    #[arg(long, conflicts_with = "judge")]
    defect: Option<String>,
    /// Plant each defect in turn, and fail unless each is found within --within histories
    #[arg(long)]
    judge: bool,
    /// Histories within which --judge must find each defect
    #[arg(long, default_value_t = 2_000)]
    within: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let told = match (args.judge, args.defect.as_deref(), args.seed) {
        (true, ..) => judge(&args),
        (false, Some(name), _) => planted(name).and_then(|()| many(&args)),
        (false, None, _) => many(&args),
    };
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulation: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A finding, and after how many histories it was made.
#[cfg_attr(not(feature = "planted-defects"), allow(dead_code))] // the rest of it is for the judge
struct Found {
    seed: u64,
    histories: u64,
    finding: String,
}

/// What many histories came to.
struct Summary {
    histories: u64,
    without_crash: u64,
    counts: Counts,
    took: Duration,
    found: Option<Found>,
}

impl Summary {
    /// What did not occur and must, or nothing found means nothing.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.without_crash > 0 {
            missing.push(format!("{} histories had no crash", self.without_crash));
        }
        let Counts { freezes, takeovers, accepted, trades, never_arrived, stale, .. } = self.counts;
        for (count, what) in [
            (freezes, "no node was stopped"),
            (takeovers, "no leader was replaced"),
            (accepted, "the venue accepted nothing"),
            (trades, "nothing was traded"),
            (never_arrived, "no intent vanished"),
            (stale, "nothing came to the venue under a session that was over"),
        ] {
            if count == 0 && self.histories >= ENOUGH {
                missing.push(format!("{what} in {} histories", self.histories));
            }
        }
        missing
    }
}

/// Runs histories from this seed on until something is found, or enough were run.
fn histories(first: u64, count: u64, threads: usize, until: Option<Instant>) -> Summary {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // Each thread has at most one result in it; a full channel makes the others wait.
    let (results, taken) = sync_channel::<(u64, Ended)>(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (results, next, stop) = (results.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || until.is_some_and(|until| Instant::now() >= until) {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    let ended = world::run(seed, StepLog::default());
                    if results.send((seed, ended)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut summary =
            Summary { histories: 0, without_crash: 0, counts: Counts::default(), took: Duration::ZERO, found: None };
        let mut told = Instant::now();
        for (seed, ended) in taken {
            summary.histories += 1;
            summary.without_crash += u64::from(ended.counts.crashes == 0);
            summary.counts += ended.counts;
            if let Some(finding) = ended.finding {
                stop.store(true, Ordering::Relaxed);
                // Of several, the one that would have come first with one thread.
                if summary.found.as_ref().is_none_or(|found| seed < found.seed) {
                    summary.found = Some(Found { seed, histories: summary.histories, finding });
                }
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                eprintln!("{} histories, {} steps", summary.histories, summary.counts.steps);
            }
        }
        summary.took = began.elapsed();
        summary
    })
}

fn threads(args: &Args) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(available, std::num::NonZeroUsize::get)
}

fn many(args: &Args) -> anyhow::Result<bool> {
    let is_one = args.minutes.is_none() && std::env::args().all(|argument| !argument.starts_with("--histories"));
    if let Some(seed) = args.seed.filter(|_| is_one) {
        return Ok(again(seed, usize::MAX));
    }
    let until = match args.minutes {
        Some(minutes) if minutes.is_finite() && minutes > 0.0 => {
            Some(Instant::now() + Duration::from_secs_f64(minutes * 60.0))
        }
        Some(minutes) => anyhow::bail!("--minutes {minutes}: write a positive number, for example 5 or 0.5"),
        None => None,
    };
    let count = if until.is_some() && is_one { u64::MAX } else { args.histories };
    let summary = histories(args.seed.unwrap_or(0), count, threads(args), until);
    print(&summary);
    match &summary.found {
        None => {
            let missing = summary.missing();
            missing.iter().for_each(|what| println!("\nthis proves too little: {what}"));
            Ok(missing.is_empty())
        }
        Some(found) => {
            println!();
            again(found.seed, LAST_STEPS);
            println!("\nall its steps: cargo xtask simulate --seed {}", found.seed);
            Ok(false)
        }
    }
}

/// Runs one history with its steps shown; whether nothing was found.
fn again(seed: u64, last: usize) -> bool {
    let ended = world::run(seed, StepLog::kept());
    let mut out = std::io::stdout().lock();
    for line in &ended.lines[ended.lines.len().saturating_sub(last)..] {
        // Whoever reads may have seen enough.
        if writeln!(out, "{line}").is_err() {
            return ended.finding.is_none();
        }
    }
    drop(out);
    match &ended.finding {
        Some(finding) => println!("seed {seed}: {finding}"),
        None => println!("seed {seed}: nothing found in {} steps", ended.counts.steps),
    }
    ended.finding.is_none()
}

fn print(summary: &Summary) {
    let Summary { histories, without_crash, counts, took, found } = summary;
    let seconds = took.as_secs_f64();
    println!("histories      {histories:>12}   ({:.0} a second)", *histories as f64 / seconds);
    println!(
        "steps          {:>12}   ({:.2} million a minute)",
        counts.steps,
        counts.steps as f64 / seconds * 60.0 / 1e6
    );
    println!("crashes        {:>12}   ({without_crash} histories had none)", counts.crashes);
    println!("freezes        {:>12}", counts.freezes);
    println!("takeovers      {:>12}", counts.takeovers);
    println!("journal        {:>12}   entries, {} of them void", counts.entries, counts.voided);
    println!("orders sent    {:>12}   by clients", counts.sent);
    println!("accepted       {:>12}   by the venue, {} trades", counts.accepted, counts.trades);
    println!("not executed   {:>12}   for certain", counts.not_executed);
    println!("never arrived  {:>12}   intents, as found by reconciling", counts.never_arrived);
    println!("stale          {:>12}   refused by the venue, of sessions that were over", counts.stale);
    println!("findings       {:>12}", u64::from(found.is_some()));
    println!("took           {seconds:>12.1} s");
}

#[cfg(feature = "planted-defects")]
fn planted(name: &str) -> anyhow::Result<()> {
    use protocol::defect::{Defect, plant};
    let names = Defect::ALL.map(Defect::name).join(", ");
    let defect = Defect::ALL.into_iter().find(|defect| defect.name() == name);
    let defect =
        defect.ok_or_else(|| anyhow::anyhow!("--defect {name}: there is no such defect; write one of {names}"))?;
    plant(Some(defect));
    Ok(())
}

#[cfg(not(feature = "planted-defects"))]
fn planted(_: &str) -> anyhow::Result<()> {
    anyhow::bail!("this build holds no defects: run it as `cargo xtask simulate --defect NAME`")
}

#[cfg(feature = "planted-defects")]
fn judge(args: &Args) -> anyhow::Result<bool> {
    use protocol::defect::{Defect, plant};
    let mut are_good = true;
    println!("{:<10} {:>9}  found", "defect", "histories");
    for defect in Defect::ALL {
        plant(Some(defect));
        // One thread, so that the count of histories is the same every time.
        let summary = histories(args.seed.unwrap_or(0), args.within, 1, None);
        match &summary.found {
            Some(found) => {
                println!("{:<10} {:>9}  seed {}: {}", defect.name(), found.histories, found.seed, found.finding)
            }
            None => {
                are_good = false;
                println!("{:<10} {:>9}  NOT FOUND", defect.name(), summary.histories);
            }
        }
    }
    plant(None);
    Ok(are_good)
}

#[cfg(not(feature = "planted-defects"))]
fn judge(_: &Args) -> anyhow::Result<bool> {
    anyhow::bail!("this build holds no defects: run it as `cargo xtask simulate --judge`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_without_a_crash_prove_too_little() {
        let counts = Counts {
            freezes: 1,
            takeovers: 1,
            accepted: 1,
            trades: 1,
            never_arrived: 1,
            stale: 1,
            ..Counts::default()
        };
        let summary = |histories, without_crash, counts| Summary {
            histories,
            without_crash,
            counts,
            took: Duration::ZERO,
            found: None,
        };
        assert_eq!(summary(ENOUGH, 0, counts).missing(), Vec::<String>::new());
        assert_eq!(summary(3, 1, counts).missing(), ["1 histories had no crash"]);
        assert_eq!(summary(3, 0, Counts::default()).missing(), Vec::<String>::new());
        assert_eq!(summary(ENOUGH, 0, Counts { stale: 0, ..counts }).missing().len(), 1);
    }
}
