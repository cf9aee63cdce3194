//! The one table that a run prints, and what it says of findings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::fault::Fault;
use crate::judge::{Finding, Wrong, lines_about};
use crate::run::Outcome;

/// Most findings that are shown with their lines; all are counted.
const SHOWN: usize = 20;

/// The table.
#[must_use]
pub fn table(outcome: &Outcome, kinds: &[Fault]) -> String {
    let mut text = String::new();
    let strikes = outcome.strikes();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<44} {value:>18}");
    };
    for kind in kinds {
        row(kind.name(), strikes.get(kind).copied().unwrap_or_default().to_string());
    }
    row("faults in all", outcome.rounds.len().to_string());
    let under_way: Vec<usize> = outcome.rounds.iter().map(|round| round.under_way).collect();
    let least = under_way.iter().min().copied().unwrap_or_default();
    row("orders under way at a fault (least / all)", format!("{least} / {}", under_way.iter().sum::<usize>()));
    row("orders and quotes sent", outcome.sent().to_string());
    row("outcomes unknown at first, then resolved", outcome.unknown().to_string());
    row("trades", outcome.evidence.venue.trades.len().to_string());
    row("leaderships", outcome.evidence.journal.leaders.len().to_string());
    row("sessions at the venue", outcome.evidence.venue.sessions.to_string());
    row("entries of replaced leaders, void", outcome.evidence.journal.void.to_string());
    row("refused by the venue as stale", outcome.evidence.venue.refused_as_stale.to_string());
    row("intents given up as never arrived", outcome.evidence.journal.never_arrived.len().to_string());
    let margins = outcome.evidence.arrivals().map(|(taken, deadline)| (deadline - taken.at_us) / 1_000);
    row("least time left at the venue, ms", margins.min().map_or("none".to_owned(), |least| least.to_string()));
    let takeovers = |of: fn(Fault) -> bool| {
        let sorted = outcome.takeovers(of);
        match (percentile(&sorted, 50), percentile(&sorted, 99), sorted.last()) {
            (Some(median), Some(p99), Some(max)) => format!("{median} / {p99} / {max}"),
            _ => "none".to_owned(),
        }
    };
    row("leader killed or frozen, takeovers", outcome.takeovers(Fault::fails_the_leader).len().to_string());
    row("  to the first order, ms (median / p99 / max)", takeovers(Fault::fails_the_leader));
    row("leader asked to stop, ms (the same)", takeovers(|fault| fault == Fault::StopLeader));
    for wrong in [Wrong::Lost, Wrong::Duplicated, Wrong::Mismatched] {
        row(name(wrong), count(&outcome.findings, wrong).to_string());
    }
    text
}

/// What is wrong, with every line that the ledgers hold about it.
#[must_use]
pub fn findings(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut by_id: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &outcome.findings {
        by_id.entry(&finding.id).or_default().push(finding);
    }
    for (id, findings) in by_id.iter().take(SHOWN) {
        for finding in findings {
            let _ = writeln!(text, "{}: {id}: {}", name(finding.wrong), finding.what);
        }
        for line in lines_about(&outcome.evidence, id) {
            let _ = writeln!(text, "    {line}");
        }
    }
    if by_id.len() > SHOWN {
        let _ = writeln!(text, "... and {} more ids", by_id.len() - SHOWN);
    }
    text
}

/// What the table calls it.
#[must_use]
pub const fn name(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Lost => "lost",
        Wrong::Duplicated => "duplicated",
        Wrong::Mismatched => "mismatched",
    }
}

/// How many ids have something of that kind wrong.
fn count(findings: &[Finding], wrong: Wrong) -> usize {
    findings.iter().filter(|finding| finding.wrong == wrong).map(|finding| &finding.id).collect::<BTreeSet<_>>().len()
}

/// The smallest value that so many percent do not exceed; the values are sorted.
#[must_use]
pub fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<i64> = (1..=200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (Some(100), Some(198)));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (Some(7), Some(7), None));
    }

    #[test]
    fn an_id_counts_once_for_each_kind_of_wrong() {
        let finding = |wrong, id: &str, what: &str| Finding { wrong, id: id.to_owned(), what: what.to_owned() };
        let outcome = Outcome {
            findings: vec![
                finding(Wrong::Lost, "a", "one"),
                finding(Wrong::Lost, "a", "two"),
                finding(Wrong::Mismatched, "a", "three"),
            ],
            ..Outcome::default()
        };
        let table = table(&outcome, Fault::ALL);
        let counts = |name: &str| table.lines().find(|line| line.starts_with(name)).map(|line| line.ends_with(" 1"));
        assert_eq!((counts("lost"), counts("duplicated"), counts("mismatched")), (Some(true), Some(false), Some(true)));
        assert_eq!(findings(&outcome).lines().count(), 3);
    }
}
