//! A fixed set of seeds, and the same seed twice.

use simulation::outside::StepLog;
use simulation::world;

/// Seeds that once found something, and what it was.
const ONCE_FOUND: [(u64, &str); 6] = [
    (53, "an order that was filled on a day that ended while nobody was logged in was taken for cancelled"),
    (125, "a trade of the day that ended was told twice, because the day's snapshot came late"),
    (1963, "a replaced leader's snapshot was replayed, since a later leader had begun behind it"),
    (2940, "a leader believed that entries were stored whose places a replaced leader's had taken"),
    (4291, "an id was forgotten a day early, because two leaders' clocks differed"),
    (18_679, "a replay began with a snapshot whose page was missing, and knew nothing"),
];

fn assert_good(seed: u64) {
    let ended = world::run(seed, StepLog::default());
    assert_eq!(ended.finding, None, "seed {seed}: cargo xtask simulate --seed {seed} shows its steps");
    assert!(ended.counts.crashes > 0, "seed {seed} had no crash");
}

#[test]
#[cfg_attr(feature = "planted-defects", ignore = "the judge plants defects in the same process")]
fn nothing_is_lost_doubled_or_left_unknown() {
    (0..600).for_each(assert_good);
}

#[test]
#[cfg_attr(feature = "planted-defects", ignore = "the judge plants defects in the same process")]
fn what_was_found_once_stays_mended() {
    ONCE_FOUND.iter().for_each(|(seed, _)| assert_good(*seed));
}

#[test]
#[cfg_attr(feature = "planted-defects", ignore = "the judge plants defects in the same process")]
fn a_seed_is_a_history() {
    for seed in 0..20 {
        let (once, again) = (world::run(seed, StepLog::kept()), world::run(seed, StepLog::kept()));
        assert!(once.lines.len() > 20, "seed {seed}");
        assert_eq!(once, again, "seed {seed}");
    }
}

/// Each planted defect is found, or the simulation finds nothing that matters.
#[cfg(feature = "planted-defects")]
#[test]
fn every_planted_defect_is_found() {
    use protocol::defect::{Defect, plant};
    for defect in Defect::ALL {
        plant(Some(defect));
        let found = (0..2_000).any(|seed| world::run(seed, StepLog::default()).finding.is_some());
        assert!(found, "{} was planted and is not found", defect.name());
    }
    plant(None);
}
