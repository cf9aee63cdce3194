//! A fixed set of seeds, and the same seed twice.

use simulation::outside::StepLog;
use simulation::world;

fn assert_good(seed: u64) {
    let ended = world::run(seed, StepLog::default());
    assert_eq!(ended.finding, None, "seed {seed}: cargo xtask simulate --seed {seed} shows its steps");
    assert!(ended.counts.crashes > 0, "seed {seed} had no crash");
}

#[test]
#[cfg_attr(feature = "planted-defects", ignore = "the judge plants defects in the same process")]
fn nothing_is_lost_doubled_or_left_unknown() {
    (0..3_000).for_each(assert_good);
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
